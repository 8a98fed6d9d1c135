//! System calls: one table of what they do, by name; which number has which name is the
//! architecture's. Calls whose arguments mean the same to the host are rows without code.

mod aio;
mod events;
mod exec;
mod files;
mod ioctl;
mod legacy;
mod locks;
mod memory;
mod memory_file;
mod messages;
mod names;
mod process;
mod signals;
mod sockets;
mod system;
mod table;
mod threads;
mod time;
mod tracing;

pub use aio::Contexts;
pub use names::below;

use crate::abi::{Abi, Call};
use crate::errno::{Done, Errno};
use crate::thread::Thread;
use std::collections::HashMap;
use time::Seconds;

/// How a call is served.
#[derive(Clone, Copy)]
pub enum Run {
    /// By the host's call of this number: what is in memory has the same layout for every guest.
    Pass(i64),
    /// The same for 64-bit guests; others have layouts that are not converted yet.
    Wide(i64),
    /// By the host's call of this number, whose times programs of 32 bits have in their own way.
    Timed(Seconds, i64),
    /// By this function.
    Own(fn(&mut Thread, &[u64; 6]) -> Done),
    /// Not at all: programs find that the kernel does not have it.
    Absent,
}

/// A system call.
#[derive(Clone, Copy)]
pub struct Entry {
    /// Its name.
    pub name: &'static str,
    /// What each argument is: see [`table`].
    pub shape: &'static str,
    /// How it is served.
    pub run: Run,
}

/// The calls of an architecture by number.
pub struct Numbers(Vec<Option<&'static Entry>>);

impl Numbers {
    /// Those of `abi`.
    pub fn new(abi: &'static Abi) -> Self {
        let named: HashMap<&str, &'static Entry> =
            table::ENTRIES.iter().chain(abi.own).map(|entry| (entry.name, entry)).collect();
        let len = abi.numbers.iter().map(|(number, _)| *number as usize + 1).max().unwrap_or(0);
        let mut list = vec![None; len];
        for (number, name) in abi.numbers {
            list[*number as usize] = named.get(name).copied();
        }
        Self(list)
    }

    /// The call of this number.
    pub fn get(&self, number: u64) -> Option<&'static Entry> {
        *self.0.get(usize::try_from(number).ok()?)?
    }
}

/// Makes a system call for the program.
///
/// # Errors
/// Those of the call.
pub fn dispatch(thread: &mut Thread, call: &Call) -> Done {
    let mut call = *call;
    if let Some(done) = thread.filter(&mut call) {
        return done;
    }
    let call = &call;
    let entry = thread.process.calls.get(call.number);
    if !thread.process.options.strace {
        return serve(thread, entry, call);
    }
    let begun = thread.strace_call(entry, call);
    let done = serve(thread, entry, call);
    thread.strace_result(entry, call, begun, done);
    done
}

/// Makes the system call of this name, with these arguments.
///
/// # Errors
/// Those of the call; ENOSYS if there is none.
pub fn by_name(thread: &mut Thread, name: &str, args: &[u64; 6]) -> Done {
    let entry = table::ENTRIES.iter().find(|entry| entry.name == name);
    serve(thread, entry, &Call { number: 0, args: *args })
}

fn serve(thread: &mut Thread, entry: Option<&Entry>, call: &Call) -> Done {
    let Some(entry) = entry else {
        trace::log!(Unimp, "Unsupported syscall: {}", call.number);
        return Err(Errno::ENOSYS);
    };
    match entry.run {
        Run::Own(run) => run(thread, &call.args),
        Run::Pass(number) => pass(thread, number, entry.shape, &call.args),
        Run::Timed(seconds, number) => {
            time::timed(thread, seconds, (number, entry.shape), &call.args)
        }
        Run::Wide(number) if thread.process.abi.wide() => {
            pass(thread, number, entry.shape, &call.args)
        }
        Run::Wide(_) => {
            trace::log!(Unimp, "not supported yet for this guest: {}", entry.name);
            Err(Errno::ENOSYS)
        }
        Run::Absent => Err(Errno::ENOSYS),
    }
}

/// Whether an argument of this kind is an address.
fn is_pointer(kind: u8) -> bool {
    matches!(kind, b'p' | b'w' | b's' | b'n' | b't' | b'T' | b'i' | b'I')
}

/// Passes a call on. Its pointers lead into the program's memory; whether they are good is the
/// kernel's to find out.
pub fn pass(thread: &mut Thread, number: i64, shape: &str, args: &[u64; 6]) -> Done {
    if let Some(done) = names::redirected(thread, number, shape, args) {
        return done;
    }
    let mut host = host_args(thread, shape, args)?;
    loop {
        let done = thread.host(number, host);
        // The engine may have kept the kernel from writing to a page with translated code.
        if done != Err(Errno::EFAULT) || !open_pages(thread, shape, args) {
            return done;
        }
        host = host_args(thread, shape, args)?;
    }
}

/// The arguments as the host has them.
pub fn host_args(thread: &Thread, shape: &str, args: &[u64; 6]) -> Result<[u64; 6], Errno> {
    let mut host = *args;
    let space = &thread.process.space;
    for (n, kind) in shape.bytes().take(6).enumerate() {
        if is_pointer(kind) {
            let len = match shape.as_bytes().get(n + 1) {
                Some(b'z') if args[n] != 0 => {
                    args[n + 1].min(space.limit - args[n].min(space.limit))
                }
                _ => 0,
            };
            host[n] = space.pointer(args[n], len)?;
        } else if !thread.process.abi.wide() && matches!(kind, b'd' | b'f' | b'D') {
            host[n] = i64::from(args[n] as i32).cast_unsigned();
        }
    }
    Ok(host)
}

/// Before a call is made again: the engine's pages in what it may write.
fn open_pages(thread: &Thread, shape: &str, args: &[u64; 6]) -> bool {
    const UNKNOWN_LEN: u64 = 65536;
    let space = &thread.process.space;
    let mut opened = false;
    for (n, kind) in shape.bytes().take(6).enumerate() {
        if matches!(kind, b'w' | b'T' | b'I') && args[n] != 0 {
            let len = match shape.as_bytes().get(n + 1) {
                Some(b'z') => args[n + 1],
                _ => UNKNOWN_LEN,
            };
            opened |= space.open_for_kernel(args[n], len);
        }
    }
    opened
}

/// The argument as a C `int`.
pub fn int(arg: u64) -> i32 {
    arg as u32 as i32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::ABIS;

    #[test]
    fn every_number_leads_to_the_call_of_its_name_and_no_name_comes_twice() {
        for abi in ABIS {
            let entries: Vec<&Entry> = table::ENTRIES.iter().chain(abi.own).collect();
            for (n, entry) in entries.iter().enumerate() {
                let twice = entries[..n].iter().any(|before| before.name == entry.name);
                assert!(!twice, "{}: {}", abi.name, entry.name);
                assert!(entry.shape.len() <= 6, "{}", entry.name);
            }
            let numbers = Numbers::new(abi);
            for (number, name) in abi.numbers {
                let found = numbers.get(u64::from(*number)).map(|entry| entry.name);
                // Older architectures have numbers of calls that are gone.
                let gone = found.is_none() && !abi.name.starts_with("riscv");
                assert!(gone || found == Some(*name), "{} {number} {name}", abi.name);
            }
            assert!(numbers.get(u64::MAX).is_none() && numbers.get(4000).is_none());
        }
    }

    #[test]
    fn numbers_are_those_of_the_headers() {
        // Linux, `asm-generic/unistd.h`.
        let abi = &crate::abi::riscv::RISCV64;
        let numbers = Numbers::new(abi);
        let known =
            [(17, "getcwd"), (63, "read"), (79, "newfstatat"), (98, "futex"), (129, "kill")];
        for (number, name) in
            known.into_iter().chain([(221, "execve"), (291, "statx"), (435, "clone3")])
        {
            assert_eq!(numbers.get(number).map(|entry| entry.name), Some(name));
        }
    }
}
