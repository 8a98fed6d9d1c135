//! Asynchronous input and output (io_submit(2)), done at once: every operation is complete when its
//! submission returns. Waiting for a descriptor to become ready (`IOCB_CMD_POLL`) is not offered.

use super::files;
use super::time::{Seconds, Timeout};
use crate::errno::{Done, Errno};
use crate::host;
use crate::map::Kind;
use crate::space::{PAGE, prot};
use crate::thread::Thread;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

type Args = [u64; 6];

/// Most events of a context, as the kernel's default has it.
const MAX_EVENTS: u64 = 65536;

/// What was submitted and not fetched yet.
#[derive(Default)]
struct Context {
    /// `struct io_event`: the program's word, the request, two results.
    events: VecDeque<[u64; 4]>,
    /// Counts submissions, for those who wait.
    count: Arc<AtomicU32>,
    most: u64,
}

/// The contexts of a process, by the address that programs know them by.
#[derive(Default)]
pub struct Contexts(Mutex<HashMap<u64, Context>>);

impl Contexts {
    fn all(&self) -> MutexGuard<'_, HashMap<u64, Context>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read_word(thread: &Thread, at: u64) -> Done {
    let space = &thread.process.space;
    if thread.process.abi.wide() { space.read(at) } else { Ok(space.read::<u32>(at)?.into()) }
}

pub fn io_setup(thread: &mut Thread, args: &Args) -> Done {
    let [count, to, ..] = *args;
    if count == 0 || read_word(thread, to)? != 0 {
        return Err(Errno::EINVAL);
    }
    if count > MAX_EVENTS {
        return Err(Errno::EAGAIN);
    }
    let space = &thread.process.space;
    // A page without the kernel's mark: programs that look for a ring there make the call instead.
    let id = space.allocate(0, PAGE, prot::READ | prot::WRITE, Kind::Other)?;
    match thread.process.abi.wide() {
        true => space.write(to, id)?,
        false => space.write(to, id as u32)?,
    }
    let context = Context { most: count, ..Context::default() };
    thread.process.contexts.all().insert(id, context);
    Ok(0)
}

pub fn io_destroy(thread: &mut Thread, args: &Args) -> Done {
    let gone = thread.process.contexts.all().remove(&args[0]);
    let context = gone.ok_or(Errno::EINVAL)?;
    wake(&context.count);
    thread.process.space.munmap(args[0], PAGE)
}

fn wake(count: &AtomicU32) {
    count.fetch_add(1, Ordering::SeqCst);
    let _ = host!(SYS_futex, count.as_ptr(), libc::FUTEX_WAKE, i32::MAX, 0, 0, 0);
}

pub fn io_submit(thread: &mut Thread, args: &Args) -> Done {
    let [id, count, list, ..] = *args;
    let count = count.cast_signed();
    let (room, bell) = {
        let contexts = thread.process.contexts.all();
        let context = contexts.get(&id).ok_or(Errno::EINVAL)?;
        (context.most.saturating_sub(context.events.len() as u64), Arc::clone(&context.count))
    };
    if count < 0 {
        return Err(Errno::EINVAL);
    }
    let word = thread.process.abi.word();
    let mut done = 0;
    while done < count.cast_unsigned() {
        let one = if done < room {
            read_word(thread, list.wrapping_add(done * word)).and_then(|at| submit(thread, id, at))
        } else {
            Err(Errno::EAGAIN)
        };
        match one {
            Ok(_) => done += 1,
            Err(error) if done == 0 => return Err(error),
            Err(_) => break,
        }
    }
    wake(&bell);
    Ok(done)
}

/// Does what a `struct iocb` asks for.
fn submit(thread: &mut Thread, id: u64, at: u64) -> Done {
    /// The event is told to an eventfd, too.
    const RESFD: u64 = 1;
    let [data, _, kind, buffer, len, offset, _, last]: [u64; 8] = thread.process.space.read(at)?;
    let (opcode, fd) = (kind & 0xffff, kind >> 32);
    let (flags, told) = (last & 0xffff_ffff, last >> 32);
    let position = [fd, buffer, len, offset, 0, 0];
    let result = match opcode {
        0 => super::pass(thread, libc::SYS_pread64, "fwzu", &position),
        1 => super::pass(thread, libc::SYS_pwrite64, "fpzu", &position),
        2 => thread.host(libc::SYS_fsync, [fd, 0, 0, 0, 0, 0]),
        3 => thread.host(libc::SYS_fdatasync, [fd, 0, 0, 0, 0, 0]),
        6 => Ok(0),
        7 => files::vectored(thread, libc::SYS_preadv, &position),
        8 => files::vectored(thread, libc::SYS_pwritev, &position),
        _ => return Err(Errno::EINVAL),
    };
    let result = match result {
        // These belong to the submission, which did nothing yet.
        Err(error @ (Errno::RESTART | Errno::EBADF)) => return Err(error),
        Err(error) => i64::from(-error.0).cast_unsigned(),
        Ok(value) => value,
    };
    if let Some(context) = thread.process.contexts.all().get_mut(&id) {
        context.events.push_back([data, at, result, 0]);
    }
    if flags & RESFD != 0 {
        let one = 1u64;
        let _ = host!(SYS_write, told, &raw const one, 8);
    }
    Ok(0)
}

pub fn io_getevents(thread: &mut Thread, args: &Args) -> Done {
    let [id, least, most, to, timeout, _] = *args;
    if most.cast_signed() < 0 || least.cast_signed() > most.cast_signed() {
        return Err(Errno::EINVAL);
    }
    let mut timeout = Timeout::read(thread, timeout, Seconds::Narrow)?;
    let timeout = timeout.pointer();
    loop {
        let (found, bell, seen) = {
            let mut contexts = thread.process.contexts.all();
            let context = contexts.get_mut(&id).ok_or(Errno::EINVAL)?;
            let seen = context.count.load(Ordering::SeqCst);
            let enough = context.events.len() as u64 >= least;
            let take = if enough { context.events.len().min(most as usize) } else { 0 };
            let found: Option<Vec<_>> = enough.then(|| context.events.drain(..take).collect());
            (found, Arc::clone(&context.count), seen)
        };
        if let Some(found) = found {
            for (n, event) in found.iter().enumerate() {
                thread.process.space.write(to.wrapping_add(32 * n as u64), *event)?;
            }
            return Ok(found.len() as u64);
        }
        let wait = [bell.as_ptr() as u64, libc::FUTEX_WAIT as u64, seen.into(), timeout, 0, 0];
        match thread.host(libc::SYS_futex, wait) {
            // The time is over: what there is has to do.
            Err(Errno(libc::ETIMEDOUT)) => return fetch_rest(thread, id, most, to),
            Ok(_) | Err(Errno::EAGAIN) => {}
            Err(error) => return Err(error),
        }
    }
}

fn fetch_rest(thread: &mut Thread, id: u64, most: u64, to: u64) -> Done {
    io_getevents(thread, &[id, 0, most, to, 0, 0])
}

/// Nothing is left to cancel.
pub fn io_cancel(_: &mut Thread, _: &Args) -> Done {
    Err(Errno::EINVAL)
}
