//! Processes: waiting for them, limits, attributes.

use super::{int, pass};
use crate::errno::{Done, Errno};
use crate::host;
use crate::ptrace::wait::{Collected, USAGE, Who};
use crate::seccomp::action;
use crate::signal::Info;
use crate::thread::Thread;

type Args = [u64; 6];

fn write_usage(thread: &Thread, at: u64, usage: [u64; USAGE]) -> Result<(), Errno> {
    let space = &thread.process.space;
    match thread.process.abi.wide() {
        true => space.write(at, usage),
        false => space.write(at, usage.map(|word| word as u32)),
    }
}

pub fn wait4(thread: &mut Thread, args: &Args) -> Done {
    if thread.process.tracees.are_some() {
        return traced_wait4(thread, args);
    }
    let [pid, status, options, usage, ..] = *args;
    let mut found = 0u32;
    let mut used = [0u64; USAGE];
    let host = [pid, &raw mut found as u64, options, used.as_mut_ptr() as u64, 0, 0];
    let child = thread.host(libc::SYS_wait4, host)?;
    if child != 0 && found & 0xff == STOPPED && thread.traces(child as i32) {
        thread.found(child as i32, found, used);
        return traced_wait4(thread, args);
    }
    if child != 0 && status != 0 {
        thread.process.space.write(status, found)?;
    }
    if child != 0 && usage != 0 {
        write_usage(thread, usage, used)?;
    }
    Ok(child)
}

/// `WIFSTOPPED`.
const STOPPED: u32 = 0x7f;

/// Who `wait4` is for.
fn who(pid: i32) -> Who {
    match pid {
        -1 => Who::Any,
        0 => Who::Group(host!(SYS_getpgid, 0).map_or(0, |group| group as i32)),
        ..0 => Who::Group(pid.wrapping_neg()),
        _ => Who::One(pid),
    }
}

/// `wait4` of a process that traces.
fn traced_wait4(thread: &mut Thread, args: &Args) -> Done {
    let [pid, status, options, usage, ..] = *args;
    let given = int(options);
    // Stops of who is traced are always told.
    let options = given | libc::WEXITED | libc::WSTOPPED;
    let Some(found) = thread.wait(who(int(pid)), options)? else { return Ok(0) };
    if status != 0 {
        thread.process.space.write(status, found.status)?;
    }
    if usage != 0 {
        write_usage(thread, usage, found.usage)?;
    }
    Ok(found.pid as u64)
}

/// `waitid` of a process that traces.
fn traced_waitid(thread: &mut Thread, args: &Args) -> Done {
    let [kind, id, info, options, usage, _] = *args;
    let who = match kind as u32 {
        libc::P_ALL => Who::Any,
        libc::P_PID => Who::One(int(id)),
        libc::P_PGID if id == 0 => who(0),
        libc::P_PGID => Who::Group(int(id)),
        _ => return Err(Errno::EINVAL),
    };
    let found: Option<Collected> = thread.wait(who, int(options))?;
    if info != 0 {
        let told = found.as_ref().map(Collected::info).unwrap_or_default();
        let bytes = told.for_guest(thread.process.abi.wide());
        thread.process.space.write_bytes(info, &bytes)?;
    }
    if let (Some(found), true) = (found, usage != 0) {
        write_usage(thread, usage, found.usage)?;
    }
    Ok(0)
}

pub fn waitid(thread: &mut Thread, args: &Args) -> Done {
    if thread.process.tracees.are_some() {
        return traced_waitid(thread, args);
    }
    let [kind, id, info, options, usage, _] = *args;
    let mut found = Info::default();
    let mut used = [0u64; USAGE];
    let host = [kind, id, &raw mut found as u64, options, used.as_mut_ptr() as u64, 0];
    let done = thread.host(libc::SYS_waitid, host)?;
    if found.signal() == libc::SIGCHLD as u32 && found.code() == libc::CLD_TRAPPED {
        let status = (found.word_at(24) as u32) << 8 | STOPPED;
        if int(options) & libc::WNOWAIT == 0 {
            thread.found(found.sender(), status, used);
        } else {
            thread.process.tracees.activate();
        }
        return traced_waitid(thread, args);
    }
    if info != 0 {
        let bytes = found.for_guest(thread.process.abi.wide());
        thread.process.space.write_bytes(info, &bytes)?;
    }
    if usage != 0 {
        write_usage(thread, usage, used)?;
    }
    Ok(done)
}

pub fn getrusage(thread: &mut Thread, args: &Args) -> Done {
    let mut used = [0u64; USAGE];
    host!(SYS_getrusage, args[0], used.as_mut_ptr())?;
    write_usage(thread, args[1], used)?;
    Ok(0)
}

// ---- limits ----

/// Limits on memory bind ourselves as well: we keep the program's wishes apart from ours.
const OURS: [u64; 3] =
    [libc::RLIMIT_AS as u64, libc::RLIMIT_DATA as u64, libc::RLIMIT_STACK as u64];

/// `RLIM_INFINITY` of 32-bit programs that have 32-bit limits.
const NARROW_INFINITY: u64 = 0xffff_ffff;

pub fn prlimit64(thread: &mut Thread, args: &Args) -> Done {
    let [pid, which, new, old, ..] = *args;
    let space = &thread.process.space;
    let mut wanted = 0;
    if new != 0 {
        let limits: [u64; 2] = space.read(new)?;
        if limits[0] > limits[1] {
            return Err(Errno::EINVAL);
        }
        wanted = if OURS.contains(&which) { 0 } else { space.host(new, 16)? };
    }
    let mut before = [0u64; 2];
    host!(SYS_prlimit64, pid, which, wanted, before.as_mut_ptr())?;
    if old != 0 {
        space.write(old, before)?;
    }
    Ok(0)
}

pub fn getrlimit(thread: &mut Thread, args: &Args) -> Done {
    let mut limits = [0u64; 2];
    host!(SYS_getrlimit, args[0], limits.as_mut_ptr())?;
    let space = &thread.process.space;
    match thread.process.abi.wide() {
        true => space.write(args[1], limits)?,
        false => {
            space.write(args[1], limits.map(|limit| limit.min(NARROW_INFINITY) as u32))?;
        }
    }
    Ok(0)
}

pub fn setrlimit(thread: &mut Thread, args: &Args) -> Done {
    let space = &thread.process.space;
    let limits: [u64; 2] = match thread.process.abi.wide() {
        true => space.read(args[1])?,
        false => space.read::<[u32; 2]>(args[1])?.map(|limit| match u64::from(limit) {
            NARROW_INFINITY => u64::MAX,
            limit => limit,
        }),
    };
    if limits[0] > limits[1] {
        return Err(Errno::EINVAL);
    }
    match OURS.contains(&args[0]) {
        true => Ok(0),
        false => host!(SYS_setrlimit, args[0], limits.as_ptr()),
    }
}

// ---- attributes ----

/// `prctl` options whose second argument is an address, and the bytes there.
const WITH_ADDRESS: &[(i32, u64)] = &[
    (libc::PR_GET_PDEATHSIG, 4),
    (libc::PR_SET_NAME, 0),
    (libc::PR_GET_NAME, 16),
    (libc::PR_GET_CHILD_SUBREAPER, 4),
    (libc::PR_GET_TID_ADDRESS, 8),
];

const PR_SVE_SET_VL: i32 = 50;
const PR_SVE_GET_VL: i32 = 51;

/// Options that would change how we ourselves run, and what programs find instead.
const REFUSED: &[i32] = &[
    libc::PR_SET_MM,
    libc::PR_SET_TSC,
    libc::PR_GET_TSC,
    libc::PR_SET_UNALIGN,
    libc::PR_GET_UNALIGN,
    libc::PR_SET_FPEMU,
    libc::PR_GET_FPEMU,
    libc::PR_SET_FPEXC,
    libc::PR_GET_FPEXC,
    libc::PR_SET_ENDIAN,
    libc::PR_GET_ENDIAN,
    PR_SVE_SET_VL,
    PR_SVE_GET_VL,
];

/// The last option that is the kernel's own on every architecture and harmless here.
const PR_LAST: i32 = 68;

pub fn prctl(thread: &mut Thread, args: &Args) -> Done {
    const PR_SET_VMA: i32 = 0x5356_4d41;
    let [option, second, third, fourth, fifth, _] = *args;
    let option = int(option);
    let space = &thread.process.space;
    if option == PR_SET_VMA {
        // A name for memory: address, length, name.
        let (at, name) = (space.host(third, fourth)?, space.pointer(fifth, 0)?);
        return host!(SYS_prctl, option, second, at, fourth, name);
    }
    match (option, second) {
        (libc::PR_GET_SECCOMP, _) => return Ok(thread.filter_mode()),
        (libc::PR_SET_SECCOMP, 1) => return thread.filter_strictly(),
        (libc::PR_SET_SECCOMP, 2) => return thread.add_filter(0, third),
        (libc::PR_SET_SECCOMP, _) => return Err(Errno::EINVAL),
        _ => {}
    }
    if option == libc::PR_GET_TID_ADDRESS {
        let address = thread.clear_tid;
        return match thread.process.abi.wide() {
            true => space.write(second, address).map(|()| 0),
            false => space.write(second, address as u32).map(|()| 0),
        };
    }
    if REFUSED.contains(&option) || option > PR_LAST {
        return Err(Errno::EINVAL);
    }
    let address = WITH_ADDRESS.iter().find(|(known, _)| *known == option);
    let second = match address {
        Some((_, len)) => space.host(second, *len)?,
        None => second,
    };
    host!(SYS_prctl, option, second, third, fourth, fifth)
}

pub fn seccomp(thread: &mut Thread, args: &Args) -> Done {
    const STRICT: u64 = 0;
    const FILTER: u64 = 1;
    const ACTION_AVAILABLE: u64 = 2;
    let [what, flags, at, ..] = *args;
    match what & 0xffff_ffff {
        STRICT if flags == 0 && at == 0 => thread.filter_strictly(),
        FILTER => thread.add_filter(flags & 0xffff_ffff, at),
        ACTION_AVAILABLE if flags == 0 => {
            let action: u32 = thread.process.space.read(at)?;
            match action::SERVED.contains(&action) {
                true => Ok(0),
                false => Err(Errno::ENOTSUP),
            }
        }
        _ => Err(Errno::EINVAL),
    }
}

pub fn sched_getaffinity(thread: &mut Thread, args: &Args) -> Done {
    if !args[1].is_multiple_of(thread.process.abi.word()) {
        return Err(Errno::EINVAL);
    }
    pass(thread, libc::SYS_sched_getaffinity, "dzw", args)
}
