//! Calls that later ones replaced: architectures with a history have them still. Each is made of its
//! successor.

use super::time::{read_words, write_words};
use super::{events, files, host_args, int, memory, pass};
use crate::errno::{Done, Errno};
use crate::thread::Thread;
use libc as c;

type Args = [u64; 6];

/// The folder that relative paths begin in.
const HERE: u64 = c::AT_FDCWD as u64;

pub fn access(thread: &mut Thread, args: &Args) -> Done {
    pass(thread, c::SYS_faccessat, "DnM", &[HERE, args[0], args[1], 0, 0, 0])
}

pub fn stat(thread: &mut Thread, args: &Args) -> Done {
    files::newfstatat(thread, &[HERE, args[0], args[1], 0, 0, 0])
}

pub fn lstat(thread: &mut Thread, args: &Args) -> Done {
    let link = c::AT_SYMLINK_NOFOLLOW as u64;
    files::newfstatat(thread, &[HERE, args[0], args[1], link, 0, 0])
}

pub fn mkdir(thread: &mut Thread, args: &Args) -> Done {
    pass(thread, c::SYS_mkdirat, "Dso", &[HERE, args[0], args[1], 0, 0, 0])
}

pub fn mknod(thread: &mut Thread, args: &Args) -> Done {
    pass(thread, c::SYS_mknodat, "Dsox", &[HERE, args[0], args[1], args[2], 0, 0])
}

pub fn rmdir(thread: &mut Thread, args: &Args) -> Done {
    let folder = c::AT_REMOVEDIR as u64;
    pass(thread, c::SYS_unlinkat, "DsR", &[HERE, args[0], folder, 0, 0, 0])
}

pub fn unlink(thread: &mut Thread, args: &Args) -> Done {
    pass(thread, c::SYS_unlinkat, "DsR", &[HERE, args[0], 0, 0, 0, 0])
}

pub fn rename(thread: &mut Thread, args: &Args) -> Done {
    pass(thread, c::SYS_renameat2, "DsDsx", &[HERE, args[0], HERE, args[1], 0, 0])
}

pub fn link(thread: &mut Thread, args: &Args) -> Done {
    pass(thread, c::SYS_linkat, "DsDsR", &[HERE, args[0], HERE, args[1], 0, 0])
}

pub fn symlink(thread: &mut Thread, args: &Args) -> Done {
    pass(thread, c::SYS_symlinkat, "sDs", &[args[0], HERE, args[1], 0, 0, 0])
}

pub fn readlink(thread: &mut Thread, args: &Args) -> Done {
    files::readlinkat(thread, &[HERE, args[0], args[1], args[2], 0, 0])
}

pub fn chmod(thread: &mut Thread, args: &Args) -> Done {
    pass(thread, c::SYS_fchmodat, "Dso", &[HERE, args[0], args[1], 0, 0, 0])
}

pub fn chown(thread: &mut Thread, args: &Args) -> Done {
    pass(thread, c::SYS_fchownat, "DsddR", &[HERE, args[0], args[1], args[2], 0, 0])
}

pub fn lchown(thread: &mut Thread, args: &Args) -> Done {
    let link = c::AT_SYMLINK_NOFOLLOW as u64;
    pass(thread, c::SYS_fchownat, "DsddR", &[HERE, args[0], args[1], args[2], link, 0])
}

pub fn umount(thread: &mut Thread, args: &Args) -> Done {
    pass(thread, c::SYS_umount2, "sx", &[args[0], 0, 0, 0, 0, 0])
}

pub fn pipe(thread: &mut Thread, args: &Args) -> Done {
    pass(thread, c::SYS_pipe2, "wO", &[args[0], 0, 0, 0, 0, 0])
}

pub fn eventfd(thread: &mut Thread, args: &Args) -> Done {
    pass(thread, c::SYS_eventfd2, "ux", &[args[0], 0, 0, 0, 0, 0])
}

pub fn signalfd(thread: &mut Thread, args: &Args) -> Done {
    pass(thread, c::SYS_signalfd4, "fpzx", &[args[0], args[1], args[2], 0, 0, 0])
}

pub fn inotify_init(thread: &mut Thread, _: &Args) -> Done {
    thread.host(c::SYS_inotify_init1, [0; 6])
}

pub fn epoll_create(thread: &mut Thread, args: &Args) -> Done {
    if int(args[0]) <= 0 {
        return Err(Errno::EINVAL);
    }
    thread.host(c::SYS_epoll_create1, [0; 6])
}

pub fn epoll_wait(thread: &mut Thread, args: &Args) -> Done {
    events::epoll_pwait(thread, &[args[0], args[1], args[2], args[3], 0, 8])
}

pub fn getpgrp(thread: &mut Thread, _: &Args) -> Done {
    thread.host(c::SYS_getpgid, [0; 6])
}

/// `waitpid`.
pub fn waitpid(thread: &mut Thread, args: &Args) -> Done {
    super::process::wait4(thread, &[args[0], args[1], args[2], 0, 0, 0])
}

pub fn pause(thread: &mut Thread, _: &Args) -> Done {
    thread.host(c::SYS_ppoll, [0, 0, 0, 0, 8, 0])
}

pub fn alarm(thread: &mut Thread, args: &Args) -> Done {
    let (new, mut old) = ([0, 0, args[0] & 0xffff_ffff, 0], [0u64; 4]);
    let host = [c::ITIMER_REAL as u64, new.as_ptr() as u64, old.as_mut_ptr() as u64, 0, 0, 0];
    thread.host(c::SYS_setitimer, host)?;
    Ok(old[2] + u64::from(old[3] != 0))
}

pub fn time(thread: &mut Thread, args: &Args) -> Done {
    let mut now = [0u64; 2];
    thread.host(c::SYS_clock_gettime, [0, now.as_mut_ptr() as u64, 0, 0, 0, 0])?;
    if args[0] != 0 {
        let space = &thread.process.space;
        match thread.process.abi.wide() {
            true => space.write(args[0], now[0])?,
            false => space.write(args[0], now[0] as u32)?,
        }
    }
    Ok(now[0])
}

/// Seconds and microseconds; and the minutes that the zone is off, which are of the host.
pub fn gettimeofday(thread: &mut Thread, args: &Args) -> Done {
    let (mut now, mut zone) = ([0u64; 2], [0i32; 2]);
    let host = [now.as_mut_ptr() as u64, zone.as_mut_ptr() as u64, 0, 0, 0, 0];
    thread.host(c::SYS_gettimeofday, host)?;
    if args[0] != 0 {
        write_words(thread, args[0], now)?;
    }
    if args[1] != 0 {
        thread.process.space.write(args[1], zone)?;
    }
    Ok(0)
}

pub fn settimeofday(thread: &mut Thread, args: &Args) -> Done {
    let now = if args[0] == 0 { None } else { Some(read_words::<2>(thread, args[0])?) };
    let at = now.as_ref().map_or(0, |now| now.as_ptr() as u64);
    let zone = thread.process.space.pointer(args[1], 8)?;
    thread.host(c::SYS_settimeofday, [at, zone, 0, 0, 0, 0])
}

/// Ticks of this process and of its children.
pub fn times(thread: &mut Thread, args: &Args) -> Done {
    let mut used = [0u64; 4];
    let ticks = thread.host(c::SYS_times, [used.as_mut_ptr() as u64, 0, 0, 0, 0, 0])?;
    if args[0] != 0 {
        write_words(thread, args[0], used)?;
    }
    Ok(ticks)
}

/// `poll`: the timeout is in milliseconds.
pub fn poll(thread: &mut Thread, args: &Args) -> Done {
    let milliseconds = int(args[2]);
    let limit = [milliseconds as u64 / 1000, milliseconds as u64 % 1000 * 1_000_000];
    let mut host = host_args(thread, "wud", args)?;
    host[2] = if milliseconds < 0 { 0 } else { limit.as_ptr() as u64 };
    (host[3], host[4]) = (0, 8);
    thread.host(c::SYS_ppoll, host)
}

/// `select`: the time that is left is written back.
pub fn select(thread: &mut Thread, args: &Args) -> Done {
    let [count, read, write, other, timeout, _] = *args;
    let mut limit = [0; 2];
    if timeout != 0 {
        let [seconds, micros] = read_words(thread, timeout)?;
        if (seconds | micros) >> 63 != 0 {
            return Err(Errno::EINVAL);
        }
        limit = [seconds + micros / 1_000_000, micros % 1_000_000 * 1000];
    }
    let mut host = [count, 0, 0, 0, 0, 0];
    for (n, at) in [read, write, other].into_iter().enumerate() {
        host[n + 1] = thread.process.space.pointer(at, 0)?;
    }
    host[4] = if timeout == 0 { 0 } else { limit.as_mut_ptr() as u64 };
    let done = thread.host(c::SYS_pselect6, host);
    if timeout != 0 && done != Err(Errno::RESTART) {
        let left = [limit[0], limit[1] / 1000];
        let space = &thread.process.space;
        // A timeout that cannot be written does no harm.
        let _ = match thread.process.abi.wide() {
            true => space.write(timeout, left),
            false => space.write(timeout, left.map(|word| word as u32)),
        };
    }
    done
}

/// `select` with its arguments in memory.
pub fn old_select(thread: &mut Thread, args: &Args) -> Done {
    let [count, read, write, other, timeout] = read_words::<5>(thread, args[0])?.map(narrow);
    select(thread, &[count, read, write, other, timeout, 0])
}

fn narrow(word: u64) -> u64 {
    word & 0xffff_ffff
}

/// `mmap` with its arguments in memory.
pub fn old_mmap(thread: &mut Thread, args: &Args) -> Done {
    let list = read_words::<6>(thread, args[0])?.map(narrow);
    memory::mmap(thread, &list)
}

/// Access and modification times, given as seconds and a fraction, at a path.
fn set_times(thread: &mut Thread, path: [u64; 2], times: Option<[u64; 4]>, link: u64) -> Done {
    let times = times.as_ref().map_or(0, |times| times.as_ptr() as u64);
    let args = [path[0], path[1], 0, 0, 0, 0];
    let mut host = host_args(thread, "Ds", &args)?;
    (host[2], host[3]) = (times, link);
    thread.host(c::SYS_utimensat, host)
}

pub fn utime(thread: &mut Thread, args: &Args) -> Done {
    let times = match args[1] {
        0 => None,
        at => {
            let [access, change] = read_words(thread, at)?;
            Some([access, 0, change, 0])
        }
    };
    set_times(thread, [HERE, args[0]], times, 0)
}

pub fn futimesat(thread: &mut Thread, args: &Args) -> Done {
    let times = match args[2] {
        0 => None,
        at => {
            let [s0, m0, s1, m1] = read_words(thread, at)?;
            if m0 >= 1_000_000 || m1 >= 1_000_000 {
                return Err(Errno::EINVAL);
            }
            Some([s0, m0 * 1000, s1, m1 * 1000])
        }
    };
    set_times(thread, [args[0], args[1]], times, 0)
}

pub fn utimes(thread: &mut Thread, args: &Args) -> Done {
    futimesat(thread, &[HERE, args[0], args[1], 0, 0, 0])
}

/// `getdents`: entries without the kind of file between the length and the name.
pub fn getdents(thread: &mut Thread, args: &Args) -> Done {
    const MOST: u64 = 1 << 16;
    let [fd, to, len, ..] = *args;
    let word = thread.process.abi.word() as usize;
    let mut list = vec![0u8; len.min(MOST) as usize];
    let host = [fd, list.as_mut_ptr() as u64, list.len() as u64, 0, 0, 0];
    let found = thread.host(c::SYS_getdents64, host)? as usize;
    let mut out = Vec::with_capacity(found);
    let mut rest = &list[..found.min(list.len())];
    // inode 8, offset 8, length 2, kind 1, name.
    while let Some(head) = rest.first_chunk::<19>() {
        let entry_len = usize::from(u16::from_le_bytes([head[16], head[17]]));
        let Some((entry, more)) = rest.split_at_checked(entry_len) else { break };
        let name = entry[19..].split(|byte| *byte == 0).next().unwrap_or_default();
        let new_len = (2 * word + 2 + name.len() + 2).next_multiple_of(word);
        let begin = out.len();
        out.extend_from_slice(&entry[..word]);
        out.extend_from_slice(&entry[8..8 + word]);
        out.extend_from_slice(&(new_len as u16).to_le_bytes());
        out.extend_from_slice(name);
        out.resize(begin + new_len, 0);
        out[begin + new_len - 1] = entry[18];
        rest = more;
    }
    thread.process.space.write_bytes(to, &out)?;
    Ok(out.len() as u64)
}

/// `socketcall`: a socket call by number, its arguments in memory (Linux, `linux/net.h`).
pub fn socketcall(thread: &mut Thread, args: &Args) -> Done {
    const CALLS: [(&str, usize); 21] = [
        ("", 0),
        ("socket", 3),
        ("bind", 3),
        ("connect", 3),
        ("listen", 2),
        ("accept", 3),
        ("getsockname", 3),
        ("getpeername", 3),
        ("socketpair", 4),
        ("sendto", 4),
        ("recvfrom", 4),
        ("sendto", 6),
        ("recvfrom", 6),
        ("shutdown", 2),
        ("setsockopt", 5),
        ("getsockopt", 5),
        ("sendmsg", 3),
        ("recvmsg", 3),
        ("accept4", 4),
        ("recvmmsg", 5),
        ("sendmmsg", 4),
    ];
    let row = CALLS.get(args[0] as u32 as usize).filter(|(_, count)| *count > 0);
    let (name, count) = row.ok_or(Errno::EINVAL)?;
    let mut list = [0; 6];
    for (n, arg) in list.iter_mut().take(*count).enumerate() {
        *arg = thread.process.space.read::<u32>(args[1].wrapping_add(4 * n as u64))?.into();
    }
    super::by_name(thread, name, &list)
}

/// `ipc`: a call of System V IPC by number (Linux, `linux/ipc.h`; ipc(2)).
pub fn ipc(thread: &mut Thread, args: &Args) -> Done {
    let [call, first, second, third, at, fifth] = *args;
    let version = call >> 16;
    let space = &thread.process.space;
    let (name, list) = match call & 0xffff {
        1 => ("semop", [first, at, second, 0, 0, 0]),
        2 => ("semget", [first, second, third, 0, 0, 0]),
        3 => ("semctl", [first, second, third, space.read::<u32>(at)?.into(), 0, 0]),
        4 => ("semtimedop", [first, at, second, fifth, 0, 0]),
        11 => ("msgsnd", [first, at, second, third, 0, 0]),
        12 if version == 0 => {
            let [message, kind] = space.read::<[u32; 2]>(at)?.map(u64::from);
            ("msgrcv", [first, message, second, kind, third, 0])
        }
        12 => ("msgrcv", [first, at, second, fifth, third, 0]),
        13 => ("msgget", [first, second, 0, 0, 0, 0]),
        14 => ("msgctl", [first, second, at, 0, 0, 0]),
        21 if version == 1 => return Err(Errno::EINVAL),
        21 => {
            let place = super::by_name(thread, "shmat", &[first, at, second, 0, 0, 0])?;
            thread.process.space.write(third, place as u32)?;
            return Ok(0);
        }
        22 => ("shmdt", [at, 0, 0, 0, 0, 0]),
        23 => ("shmget", [first, second, third, 0, 0, 0]),
        24 => ("shmctl", [first, second, at, 0, 0, 0]),
        _ => return Err(Errno::ENOSYS),
    };
    super::by_name(thread, name, &list)
}
