//! `/proc/PID/mem`: the memory of a program by a file. What is written through the host's would change
//! code without being noticed, and 32-bit programs have other addresses there; so reads and writes at an
//! offset, which debuggers use, are served here.

use super::tracing;
use crate::errno::{Done, Errno};
use crate::sys;
use crate::thread::Thread;
use std::sync::atomic::Ordering;

/// Bytes that one call moves at most.
const MOST: usize = 1 << 20;

/// Whose memory a file is.
enum Owner {
    /// Of the program itself.
    Itself,
    /// Of one that it traces.
    Other(i32),
}

/// Whether a name leads to the memory of a process; such files are remembered to be there.
pub fn is_opened(thread: &Thread, path: &[u8]) {
    if path.starts_with(b"/proc/") && path.ends_with(b"/mem") {
        thread.process.memory_opened.store(true, Ordering::Relaxed);
    }
}

fn owner(thread: &Thread, fd: u64) -> Option<Owner> {
    if !thread.process.memory_opened.load(Ordering::Relaxed) {
        return None;
    }
    let link = std::fs::read_link(format!("/proc/self/fd/{}", fd as i32)).ok()?;
    let rest = link.to_str()?.strip_prefix("/proc/")?.strip_suffix("/mem")?;
    let (process, _) = rest.split_once("/task/").unwrap_or((rest, rest));
    let process: i32 = process.parse().ok()?;
    if process.cast_unsigned() == sys::getpid() {
        return Some(Owner::Itself);
    }
    let list = thread.process.tracees.list();
    // The name may be a thread's.
    let known = list.iter().find(|tracee| tracee.tgid == process || tracee.tid == process);
    known.map(|tracee| Owner::Other(tracee.tgid))
}

/// `pread64` of such a file; `None` if it is none.
pub fn read(thread: &Thread, args: &[u64; 6]) -> Option<Done> {
    let [fd, to, len, at, ..] = *args;
    let owner = owner(thread, fd)?;
    let mut bytes = vec![0; (len as usize).min(MOST)];
    let space = &thread.process.space;
    let done = match owner {
        Owner::Itself => space.memory().peek(at, &mut bytes).map_err(|_| Errno::EIO),
        Owner::Other(process) => tracing::peek_of(thread, process, at, &mut bytes),
    };
    Some(done.and_then(|()| space.write_bytes(to, &bytes)).map(|()| bytes.len() as u64))
}

/// `pwrite64` of such a file; `None` if it is none.
pub fn write(thread: &Thread, args: &[u64; 6]) -> Option<Done> {
    let [fd, from, len, at, ..] = *args;
    let owner = owner(thread, fd)?;
    let mut bytes = vec![0; (len as usize).min(MOST)];
    let space = &thread.process.space;
    let done = space.read_bytes(from, &mut bytes).and_then(|()| match owner {
        Owner::Itself => space.memory().poke(at, &bytes).map_err(|_| Errno::EIO),
        Owner::Other(process) => tracing::poke_of(thread, process, at, &bytes),
    });
    Some(done.map(|()| bytes.len() as u64))
}
