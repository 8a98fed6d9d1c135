//! System V semaphores: the structure that tells of a set differs.

use super::int;
use crate::errno::{Done, Errno};
use crate::thread::Thread;

type Args = [u64; 6];

/// Bytes of `struct ipc64_perm`.
const PERMISSIONS: usize = 48;

/// Words of the host's `struct semid64_ds` (x86: each time has a reserved word behind it).
const HOST_WORDS: usize = 13;

pub fn semctl(thread: &mut Thread, args: &Args) -> Done {
    const IPC_64: i32 = 0x100;
    let [id, number, command, arg, ..] = *args;
    let command = int(command) & !IPC_64;
    let space = &thread.process.space;
    if !thread.process.abi.wide() {
        return match command {
            libc::IPC_RMID
            | libc::GETVAL
            | libc::SETVAL
            | libc::GETPID
            | libc::GETNCNT
            | libc::GETZCNT => {
                thread.host(libc::SYS_semctl, [id, number, command as u64, arg, 0, 0])
            }
            libc::GETALL | libc::SETALL => {
                let at = space.host(arg, 0)?;
                thread.host(libc::SYS_semctl, [id, number, command as u64, at, 0, 0])
            }
            _ => Err(Errno::EINVAL),
        };
    }
    match command {
        libc::IPC_STAT | libc::IPC_SET | libc::SEM_STAT | 20 => {
            let mut host = [0u64; HOST_WORDS];
            let words = PERMISSIONS / 8;
            if command == libc::IPC_SET {
                let permissions: [u64; PERMISSIONS / 8] = space.read(arg)?;
                host[..words].copy_from_slice(&permissions);
            }
            let at = host.as_mut_ptr() as u64;
            let done = thread.host(libc::SYS_semctl, [id, number, command as u64, at, 0, 0])?;
            if command != libc::IPC_SET {
                if thread.process.abi.padded_times {
                    space.write(arg, host)?;
                    return Ok(done);
                }
                let mut guest = [0u64; PERMISSIONS / 8 + 5];
                guest[..words].copy_from_slice(&host[..words]);
                guest[words] = host[words];
                guest[words + 1] = host[words + 2];
                guest[words + 2] = host[words + 4];
                space.write(arg, guest)?;
            }
            Ok(done)
        }
        libc::SETVAL => thread.host(libc::SYS_semctl, [id, number, command as u64, arg, 0, 0]),
        _ => {
            let at = space.pointer(arg, 0)?;
            thread.host(libc::SYS_semctl, [id, number, command as u64, at, 0, 0])
        }
    }
}
