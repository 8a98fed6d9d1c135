//! Times in the memory of programs, and timers.

use super::{host_args, pass};
use crate::errno::{Done, Errno};
use crate::space::Plain;
use crate::thread::Thread;

type Args = [u64; 6];

/// How programs of 32 bits have seconds in a call; those of 64 bits have them as the host does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seconds {
    /// 32 bits: calls from before there were others.
    Narrow,
    /// 64 bits: calls named `…64`.
    Wide,
}

/// Seconds and nanoseconds.
pub type Timespec = [i64; 2];

/// Reads a `struct timespec` (Linux, `linux/time_types.h`).
pub fn read(thread: &Thread, at: u64, seconds: Seconds) -> Result<Timespec, Errno> {
    let space = &thread.process.space;
    Ok(match seconds {
        _ if thread.process.abi.wide() => space.read(at)?,
        Seconds::Narrow => space.read::<[i32; 2]>(at)?.map(i64::from),
        // Nanoseconds are a word, and padding that is not looked at.
        Seconds::Wide => {
            let [seconds, nanoseconds]: [u64; 2] = space.read(at)?;
            [seconds.cast_signed(), (nanoseconds & 0xffff_ffff).cast_signed()]
        }
    })
}

fn write(thread: &Thread, at: u64, seconds: Seconds, time: Timespec) -> Result<(), Errno> {
    let space = &thread.process.space;
    match seconds {
        Seconds::Narrow if !thread.process.abi.wide() => space.write(at, time.map(|n| n as i32)),
        _ => space.write(at, time),
    }
}

/// Bytes of a `struct timespec`.
fn len(thread: &Thread, seconds: Seconds) -> u64 {
    if seconds == Seconds::Narrow { 2 * thread.process.abi.word() } else { 16 }
}

/// How long a call waits at most.
#[derive(Default)]
pub struct Timeout {
    /// Where the program has it, and how.
    from: Option<(u64, Seconds)>,
    asked: Timespec,
    value: Timespec,
}

impl Timeout {
    /// The one at an address; none at 0.
    pub fn read(thread: &Thread, at: u64, seconds: Seconds) -> Result<Self, Errno> {
        if at == 0 {
            return Ok(Self::default());
        }
        let value = read(thread, at, seconds)?;
        Ok(Self { from: Some((at, seconds)), asked: value, value })
    }

    /// For the host.
    pub fn pointer(&mut self) -> u64 {
        if self.from.is_some() { self.value.as_mut_ptr() as u64 } else { 0 }
    }

    /// Writes back what the host left of it. That it cannot be written does no harm.
    pub fn tell_rest(&self, thread: &Thread) {
        if let Some((at, seconds)) = self.from
            && self.value != self.asked
        {
            let _ = write(thread, at, seconds, self.value);
        }
    }
}

/// A call with times among its arguments (`t`, `T`, `i`, `I` of its shape).
pub fn timed(
    thread: &mut Thread,
    seconds: Seconds,
    (number, shape): (i64, &str),
    args: &Args,
) -> Done {
    if thread.process.abi.wide() {
        return pass(thread, number, shape, args);
    }
    /// What no time is.
    const UNTOLD: Timespec = [i64::MIN; 2];
    let step = len(thread, seconds);
    let mut host = host_args(thread, shape, args)?;
    let mut times = [[UNTOLD; 2]; 6];
    let places = |wanted: [u8; 2]| {
        let kinds = shape.bytes().enumerate().filter(move |(n, _)| args[*n] != 0);
        kinds.filter_map(move |(n, kind)| Some((n, wanted.iter().position(|k| *k == kind)? + 1)))
    };
    for (n, count) in places(*b"ti") {
        for (k, time) in times[n].iter_mut().enumerate().take(count) {
            *time = read(thread, args[n].wrapping_add(k as u64 * step), seconds)?;
        }
        host[n] = times[n].as_ptr() as u64;
    }
    for (n, _) in places(*b"TI") {
        host[n] = times[n].as_mut_ptr() as u64;
    }
    let done = thread.host(number, host);
    for (n, count) in places(*b"TI") {
        for (k, time) in times[n].iter().enumerate().take(count) {
            if *time != UNTOLD {
                write(thread, args[n].wrapping_add(k as u64 * step), seconds, *time)?;
            }
        }
    }
    done
}

/// Reads signed numbers as wide as the program's words.
pub fn read_words<const N: usize>(thread: &Thread, at: u64) -> Result<[u64; N], Errno>
where
    [u64; N]: Plain,
    [i32; N]: Plain,
{
    let space = &thread.process.space;
    Ok(match thread.process.abi.wide() {
        true => space.read(at)?,
        false => space.read::<[i32; N]>(at)?.map(|word| i64::from(word).cast_unsigned()),
    })
}

/// Writes numbers as wide as the program's words.
pub fn write_words<const N: usize>(thread: &Thread, at: u64, words: [u64; N]) -> Done
where
    [u64; N]: Plain,
    [u32; N]: Plain,
{
    let space = &thread.process.space;
    match thread.process.abi.wide() {
        true => space.write(at, words)?,
        false => space.write(at, words.map(|word| word as u32))?,
    }
    Ok(0)
}

pub fn getitimer(thread: &mut Thread, args: &Args) -> Done {
    let mut value = [0u64; 4];
    let at = value.as_mut_ptr() as u64;
    thread.host(libc::SYS_getitimer, [args[0], at, 0, 0, 0, 0])?;
    write_words(thread, args[1], value)
}

pub fn setitimer(thread: &mut Thread, args: &Args) -> Done {
    let [which, new, old, ..] = *args;
    let value = if new == 0 { [0; 4] } else { read_words::<4>(thread, new)? };
    let mut before = [0u64; 4];
    let host = [which, value.as_ptr() as u64, before.as_mut_ptr() as u64, 0, 0, 0];
    thread.host(libc::SYS_setitimer, host)?;
    if old == 0 { Ok(0) } else { write_words(thread, old, before) }
}

/// `struct sigevent`: value, signal, how to notify, thread.
pub fn timer_create(thread: &mut Thread, args: &Args) -> Done {
    if thread.process.abi.wide() || args[1] == 0 {
        return pass(thread, libc::SYS_timer_create, "dpw", args);
    }
    let space = &thread.process.space;
    let [value, signal, notify, tid] = space.read::<[u32; 4]>(args[1])?;
    let mut event = [0u64; 8];
    event[0] = value.into();
    event[1] = u64::from(signal) | u64::from(notify) << 32;
    event[2] = tid.into();
    let host = [args[0], event.as_ptr() as u64, space.host(args[2], 4)?, 0, 0, 0];
    thread.host(libc::SYS_timer_create, host)
}
