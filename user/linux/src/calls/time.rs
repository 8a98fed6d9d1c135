//! Timers.

use super::pass;
use crate::errno::Done;
use crate::space::Plain;
use crate::thread::Thread;

type Args = [u64; 6];

/// Reads `count` numbers as wide as the program's words.
fn read_words<const N: usize>(thread: &Thread, at: u64) -> Result<[u64; N], crate::errno::Errno>
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

fn write_words<const N: usize>(thread: &Thread, at: u64, words: [u64; N]) -> Done
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
