//! Waiting for many files at a time.

use super::int;
use super::time::{Seconds, Timeout};
use crate::errno::{Done, Errno};
use crate::thread::Thread;

type Args = [u64; 6];

/// Most events of one call.
const MAX_EVENTS: usize = i32::MAX as usize / 16;

/// `struct epoll_event` of the host: x86-64 packs it.
#[repr(C)]
#[cfg_attr(target_arch = "x86_64", repr(packed))]
#[derive(Clone, Copy, Default)]
struct HostEvent {
    events: u32,
    data: u64,
}

pub fn epoll_ctl(thread: &mut Thread, args: &Args) -> Done {
    let [epoll, operation, fd, at, ..] = *args;
    let mut event = HostEvent::default();
    if int(operation) != libc::EPOLL_CTL_DEL {
        let [events, data] = read_event(thread, at)?;
        event = HostEvent { events: events as u32, data };
    }
    let at = &raw mut event as u64;
    thread.host(libc::SYS_epoll_ctl, [epoll, operation, fd, at, 0, 0])
}

/// Bytes of the program's `struct epoll_event`, and where its data is.
fn event_layout(thread: &Thread) -> (u64, u64) {
    if thread.process.abi.packed_events { (12, 4) } else { (16, 8) }
}

fn read_event(thread: &Thread, at: u64) -> Result<[u64; 2], Errno> {
    let space = &thread.process.space;
    let (_, data) = event_layout(thread);
    Ok([space.read::<u32>(at)?.into(), space.read::<u64>(at.wrapping_add(data))?])
}

/// Waits with a buffer of ours: `wait` gets its address and length.
fn wait(
    thread: &mut Thread,
    to: u64,
    count: u64,
    wait: impl FnOnce(&Thread, u64, u64) -> Done,
) -> Done {
    let count = int(count);
    if count <= 0 || count as usize > MAX_EVENTS {
        return Err(Errno::EINVAL);
    }
    // Programs ask for many more than there ever are.
    let count = (count as usize).min(4096);
    let mut list = vec![HostEvent::default(); count];
    let found = wait(thread, list.as_mut_ptr() as u64, count as u64)?;
    let (step, data) = event_layout(thread);
    let space = &thread.process.space;
    for (n, event) in list.iter().take(found as usize).enumerate() {
        let HostEvent { events, data: value } = *event;
        let at = to.wrapping_add(n as u64 * step);
        space.write(at, events)?;
        space.write(at.wrapping_add(data), value)?;
    }
    Ok(found)
}

pub fn epoll_pwait(thread: &mut Thread, args: &Args) -> Done {
    let [epoll, to, count, timeout, mask, len] = *args;
    let mask = thread.process.space.pointer(mask, 8)?;
    wait(thread, to, count, |thread, at, count| {
        thread.host(libc::SYS_epoll_pwait, [epoll, at, count, timeout, mask, len])
    })
}

pub fn epoll_pwait2(thread: &mut Thread, args: &Args) -> Done {
    let [epoll, to, count, timeout, mask, len] = *args;
    let space = &thread.process.space;
    let mask = space.pointer(mask, 8)?;
    let mut timeout = Timeout::read(thread, timeout, Seconds::Wide)?;
    let timeout = timeout.pointer();
    wait(thread, to, count, |thread, at, count| {
        thread.host(libc::SYS_epoll_pwait2, [epoll, at, count, timeout, mask, len])
    })
}

pub fn pselect6(thread: &mut Thread, args: &Args) -> Done {
    pselect(thread, args, Seconds::Narrow)
}

pub fn pselect6_time64(thread: &mut Thread, args: &Args) -> Done {
    pselect(thread, args, Seconds::Wide)
}

/// Whose sixth argument leads to an address and a length.
fn pselect(thread: &mut Thread, args: &Args, seconds: Seconds) -> Done {
    let [count, read, write, other, timeout, mask] = *args;
    let space = &thread.process.space;
    let mut packed = [0u64; 2];
    if mask != 0 {
        packed = match thread.process.abi.wide() {
            true => space.read(mask)?,
            false => space.read::<[u32; 2]>(mask)?.map(u64::from),
        };
        packed[0] = space.pointer(packed[0], 8)?;
    }
    let last = if mask == 0 { 0 } else { packed.as_ptr() as u64 };
    let mut host = [count, 0, 0, 0, 0, last];
    for (n, at) in [read, write, other].into_iter().enumerate() {
        host[n + 1] = space.pointer(at, 0)?;
    }
    let mut limit = Timeout::read(thread, timeout, seconds)?;
    host[4] = limit.pointer();
    let done = thread.host(libc::SYS_pselect6, host);
    limit.tell_rest(thread);
    done
}

pub fn ppoll(thread: &mut Thread, args: &Args) -> Done {
    poll(thread, args, Seconds::Narrow)
}

pub fn ppoll_time64(thread: &mut Thread, args: &Args) -> Done {
    poll(thread, args, Seconds::Wide)
}

fn poll(thread: &mut Thread, args: &Args, seconds: Seconds) -> Done {
    let [list, count, timeout, mask, len, _] = *args;
    let mut limit = Timeout::read(thread, timeout, seconds)?;
    let space = &thread.process.space;
    let list = space.pointer(list, count.saturating_mul(8))?;
    let host = [list, count, limit.pointer(), space.pointer(mask, 8)?, len, 0];
    let done = thread.host(libc::SYS_ppoll, host);
    limit.tell_rest(thread);
    done
}
