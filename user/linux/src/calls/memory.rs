//! Memory: see [`crate::space`] for what the calls do.

use super::{int, pass};
use crate::errno::{Done, Errno};
use crate::host;
use crate::map::Kind;
use crate::space::{PAGE, Request, prot};
use crate::thread::Thread;

type Args = [u64; 6];

pub fn brk(thread: &mut Thread, args: &Args) -> Done {
    Ok(thread.process.space.brk(args[0]))
}

pub fn mmap(thread: &mut Thread, args: &Args) -> Done {
    let [address, len, rights, flags, fd, offset] = *args;
    let rights = rights as u32 & prot::ALL;
    let (flags, fd, kind) = (int(flags), int(fd), Kind::Other);
    thread.process.space.mmap(Request { address, len, rights, flags, fd, offset, kind })
}

/// The same with an offset in pages.
pub fn mmap2(thread: &mut Thread, args: &Args) -> Done {
    let mut args = *args;
    args[5] *= PAGE;
    mmap(thread, &args)
}

pub fn munmap(thread: &mut Thread, args: &Args) -> Done {
    thread.process.space.munmap(args[0], args[1])
}

pub fn mremap(thread: &mut Thread, args: &Args) -> Done {
    thread.process.space.mremap(args)
}

pub fn mprotect(thread: &mut Thread, args: &Args) -> Done {
    thread.process.space.mprotect(args[0], args[1], args[2])
}

/// Without keys, as on processors that have none.
pub fn pkey_mprotect(thread: &mut Thread, args: &Args) -> Done {
    if int(args[3]) != -1 { Err(Errno::EINVAL) } else { mprotect(thread, args) }
}

pub fn madvise(thread: &mut Thread, args: &Args) -> Done {
    let [address, len, advice, ..] = *args;
    let space = &thread.process.space;
    if !address.is_multiple_of(PAGE) {
        return Err(Errno::EINVAL);
    }
    if len == 0 {
        return Ok(0);
    }
    let at = space.host(address, len).map_err(|_| Errno::ENOMEM)?;
    match int(advice) {
        // A child must have the translator's memory as it is, and gets all of the program's.
        libc::MADV_DONTFORK | libc::MADV_DOFORK => Ok(0),
        libc::MADV_DONTNEED | libc::MADV_FREE | libc::MADV_REMOVE => {
            space.memory().forget_code(address, len);
            host!(SYS_madvise, at, len, advice)
        }
        _ => host!(SYS_madvise, at, len, advice),
    }
}

pub fn msync(thread: &mut Thread, args: &Args) -> Done {
    let [address, len, flags, ..] = *args;
    let at = thread.process.space.host(address, len).map_err(|_| Errno::ENOMEM)?;
    thread.host(libc::SYS_msync, [at, len, flags, 0, 0, 0])
}

/// Only what the program has is to stay in memory, and not what we need beside: so nothing is locked,
/// which no program can tell.
pub fn mlockall(_: &mut Thread, args: &Args) -> Done {
    const KNOWN: i32 = libc::MCL_CURRENT | libc::MCL_FUTURE | libc::MCL_ONFAULT;
    if int(args[0]) & !KNOWN != 0 || int(args[0]) == 0 { Err(Errno::EINVAL) } else { Ok(0) }
}

pub fn munlockall(_: &mut Thread, _: &Args) -> Done {
    Ok(0)
}

pub fn membarrier(thread: &mut Thread, args: &Args) -> Done {
    // Restartable sequences are not there, so neither are their barriers.
    const RSEQ: i32 = 1 << 7 | 1 << 8;
    match int(args[0]) {
        0 => Ok(host!(SYS_membarrier, 0, 0, 0)? & !(RSEQ as u64)),
        command if command & RSEQ != 0 => Err(Errno::EINVAL),
        _ => pass(thread, libc::SYS_membarrier, "dxd", args),
    }
}

pub fn shmat(thread: &mut Thread, args: &Args) -> Done {
    thread.process.space.shmat(args[0], args[1], args[2])
}

/// Of 32-bit programs only what needs no structure.
pub fn shmctl(thread: &mut Thread, args: &Args) -> Done {
    const IPC_64: i32 = 0x100;
    let command = int(args[1]) & !IPC_64;
    if thread.process.abi.wide() {
        return pass(thread, libc::SYS_shmctl, "ddw", args);
    }
    match command {
        libc::IPC_RMID | libc::SHM_LOCK | libc::SHM_UNLOCK => {
            thread.host(libc::SYS_shmctl, [args[0], command as u64, 0, 0, 0, 0])
        }
        _ => {
            trace::log!(Unimp, "not supported yet for this guest: shmctl {command}");
            Err(Errno::ENOSYS)
        }
    }
}

pub fn shmdt(thread: &mut Thread, args: &Args) -> Done {
    thread.process.space.shmdt(args[0])
}
