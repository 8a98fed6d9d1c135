//! `ptrace`: see [`crate::ptrace`].

use super::int;
use crate::errno::{Done, Errno};
use crate::ptrace::block::{Block, SET_BYTES, SETS, WRITTEN};
use crate::ptrace::block::{ask, kind, resume};
use crate::ptrace::tracer::{Standing, Tracee, host, host_options};
use crate::ptrace::{note, option, request};
use crate::signal::{INFO_LEN, Info, LAST};
use crate::thread::Thread;
use std::mem::offset_of;

type Args = [u64; 6];

pub fn ptrace(thread: &mut Thread, args: &Args) -> Done {
    let [number, pid, address, data, ..] = *args;
    let (number, pid) = (number as u32, int(pid));
    match number {
        request::TRACEME => {
            let done = host(number, 0, 0, 0)?;
            thread.become_traced(false);
            Ok(done)
        }
        request::ATTACH => attach(thread, pid, 0, false),
        request::SEIZE if address != 0 => Err(Errno::EIO),
        request::SEIZE => attach(thread, pid, data, true),
        request::POKETEXT | request::POKEDATA => {
            let list = thread.process.tracees.list();
            let len = thread.process.abi.word() as usize;
            let bytes = &data.to_le_bytes()[..len];
            poke_process(&list, |tracee| tracee.tid == pid, address, bytes).map(|()| 0)
        }
        _ => {
            let mut list = thread.process.tracees.list();
            let tracee = list.iter_mut().find(|tracee| tracee.tid == pid).ok_or(Errno::ESRCH)?;
            let place = Place { thread, address, data };
            match number {
                request::KILL => {
                    host(request::KILL, pid, 0, 0)?;
                    tracee.standing = None;
                    Ok(0)
                }
                request::INTERRUPT if !tracee.seized => Err(Errno::EIO),
                request::INTERRUPT => interrupt(tracee),
                _ if tracee.standing.is_none() => Err(Errno::ESRCH),
                _ => standing(tracee, number, &place),
            }
        }
    }
}

fn attach(thread: &Thread, pid: i32, options: u64, seized: bool) -> Done {
    if options & !option::ALL != 0 {
        return Err(Errno::EIO);
    }
    host(request::SEIZE, pid, 0, host_options(options))?;
    let tracees = &thread.process.tracees;
    tracees.add(pid, seized, options);
    let mut list = tracees.list();
    let tracee = list.iter_mut().find(|tracee| tracee.tid == pid).ok_or(Errno::ESRCH)?;
    tracee.ask(if seized { ask::HELLO } else { ask::HELLO | ask::SIGSTOP })
}

fn interrupt(tracee: &mut Tracee) -> Done {
    match tracee.listens() {
        true => host(request::INTERRUPT, tracee.tid, 0, 0),
        false => tracee.ask(ask::INTERRUPT),
    }
}

/// The arguments of a request, and whose they are.
struct Place<'a> {
    thread: &'a Thread,
    address: u64,
    data: u64,
}

impl Place<'_> {
    /// Writes a word where the request wants it.
    fn give(&self, value: u64) -> Done {
        let space = &self.thread.process.space;
        match self.thread.process.abi.wide() {
            true => space.write(self.data, value)?,
            false => space.write(self.data, value as u32)?,
        }
        Ok(0)
    }

    /// `struct iovec` that the request brings.
    fn vector(&self) -> Result<[u64; 2], Errno> {
        let space = &self.thread.process.space;
        match self.thread.process.abi.wide() {
            true => space.read(self.data),
            false => Ok(space.read::<[u32; 2]>(self.data)?.map(u64::from)),
        }
    }

    fn set_vector_len(&self, len: usize) -> Result<(), Errno> {
        let space = &self.thread.process.space;
        match self.thread.process.abi.wide() {
            true => space.write(self.data + 8, len as u64),
            false => space.write(self.data + 4, len as u32),
        }
    }
}

/// A request of a thread that stands.
fn standing(tracee: &mut Tracee, number: u32, place: &Place<'_>) -> Done {
    let Place { thread, address, data } = *place;
    let space = &thread.process.space;
    let x86 = thread.process.abi.machine != elf::EM_RISCV;
    match number {
        request::CONT | request::SYSCALL | request::DETACH | request::SINGLESTEP => {
            go_on(tracee, number, data, x86)
        }
        request::LISTEN => listen(tracee),
        request::SETOPTIONS if data & !option::ALL != 0 => Err(Errno::EINVAL),
        request::SETOPTIONS => tracee.set_options(data),
        request::GETEVENTMSG => place.give(message(tracee)),
        request::GETSIGINFO => {
            let info = info(tracee)?.for_guest(thread.process.abi.wide());
            space.write_bytes(data, &info).map(|()| 0)
        }
        request::SETSIGINFO => {
            info(tracee)?;
            let mut bytes = [0; INFO_LEN];
            space.read_bytes(data, &mut bytes)?;
            tracee.write(offset_of!(Block, info), &bytes).map(|()| 0)
        }
        request::PEEKTEXT | request::PEEKDATA => {
            let mut word = [0; 8];
            let len = thread.process.abi.word() as usize;
            peek(tracee, address, &mut word[..len])?;
            place.give(u64::from_le_bytes(word))
        }
        request::GETSIGMASK if address == 8 => {
            let mask = tracee.long(offset_of!(Block, mask))?;
            space.write(data, mask).map(|()| 0)
        }
        request::SETSIGMASK if address == 8 => {
            let mask: u64 = space.read(data)?;
            tracee.write(offset_of!(Block, mask), &mask.to_le_bytes())?;
            note_change(tracee, 1 << 31)
        }
        request::GETREGSET => {
            let [to, len] = place.vector()?;
            check_len(tracee, address as u32, len)?;
            let set = register_set(tracee, address as u32)?.1;
            let len = set.len().min(len as usize);
            space.write_bytes(to, &set[..len])?;
            place.set_vector_len(len)?;
            Ok(0)
        }
        request::SETREGSET => {
            let [from, len] = place.vector()?;
            check_len(tracee, address as u32, len)?;
            let mut bytes = vec![0; (len as usize).min(SET_BYTES)];
            space.read_bytes(from, &mut bytes)?;
            let len = set_registers(tracee, address as u32, 0, &bytes)?;
            place.set_vector_len(len)?;
            Ok(0)
        }
        request::GET_SYSCALL_INFO => syscall_info(tracee, place),
        _ if x86 => of_x86(tracee, number, place),
        _ => Err(Errno::EIO),
    }
}

fn go_on(tracee: &mut Tracee, number: u32, signal: u64, x86: bool) -> Done {
    if signal > LAST.into() {
        return Err(Errno::EIO);
    }
    let how = match number {
        request::CONT => resume::CONT,
        request::SYSCALL => resume::SYSCALL,
        request::DETACH => resume::DETACH,
        _ if x86 => resume::STEP,
        _ => return Err(Errno::EIO),
    };
    tracee.go_on(how, signal as u32)
}

fn listen(tracee: &mut Tracee) -> Done {
    if !tracee.seized || tracee.standing != Some(Standing::Group) {
        return Err(Errno::EIO);
    }
    let done = host(request::LISTEN, tracee.tid, 0, 0)?;
    tracee.listen();
    Ok(done)
}

/// What an event is about.
fn message(tracee: &Tracee) -> u64 {
    match tracee.standing {
        Some(Standing::Event(message)) => message,
        Some(Standing::Itself(kind::EVENT | kind::EXEC)) => {
            tracee.long(offset_of!(Block, message)).unwrap_or(0)
        }
        Some(Standing::Itself(kind::ENTRY)) => 1,
        Some(Standing::Itself(kind::EXIT)) => 2,
        _ => 0,
    }
}

/// The siginfo of a stop.
fn info(tracee: &Tracee) -> Result<Info, Errno> {
    let trap = libc::SIGTRAP as u32;
    match tracee.standing {
        Some(Standing::Itself(kind::SIGNAL | kind::CHILD)) => {
            let mut info = Info::default();
            tracee.read(offset_of!(Block, info), &mut info.0)?;
            if info.signal() == 0 {
                return Ok(Info::new(tracee.status & 0xff, libc::SI_USER));
            }
            Ok(info)
        }
        Some(Standing::Group) if tracee.status >> 8 == 0 => Err(Errno::EINVAL),
        _ => Ok(Info::new(trap, tracee.status.cast_signed())),
    }
}

// ---- memory ----

/// Where a guest address is in the other process.
fn host_address(tracee: &Tracee, address: u64, len: u64) -> Done {
    let (base, limit) = match tracee.block {
        0 => (0, u64::MAX),
        _ => (tracee.long(offset_of!(Block, base))?, tracee.long(offset_of!(Block, limit))?),
    };
    match address.checked_add(len) {
        Some(end) if end <= limit => Ok(base + address),
        _ => Err(Errno::EIO),
    }
}

/// Words of eight bytes of the other process that hold `len` bytes at `at`.
fn words(at: u64, len: usize) -> impl Iterator<Item = u64> {
    (at & !7..at + len as u64).step_by(8)
}

/// A word of its memory; of a 32-bit program only where it may read, for all of its addresses are there.
fn read_word(tracee: &Tracee, at: u64) -> Result<[u8; 8], Errno> {
    let mut word = [0; 8];
    if tracee.block != 0 && tracee.word(offset_of!(Block, bits))? == 32 {
        tracee.read_at(at, &mut word)?;
        return Ok(word);
    }
    host(request::PEEKDATA, tracee.tid, at, word.as_mut_ptr() as u64).map_err(|_| Errno::EIO)?;
    Ok(word)
}

fn peek(tracee: &Tracee, address: u64, bytes: &mut [u8]) -> Done {
    let at = host_address(tracee, address, bytes.len() as u64)?;
    for word in words(at, bytes.len()) {
        let contents = read_word(tracee, word)?;
        for (byte, address) in contents.into_iter().zip(word..) {
            let place = address.checked_sub(at).and_then(|n| bytes.get_mut(n as usize));
            if let Some(place) = place {
                *place = byte;
            }
        }
    }
    Ok(0)
}

fn poke(tracee: &Tracee, address: u64, bytes: &[u8]) -> Result<(), Errno> {
    let at = host_address(tracee, address, bytes.len() as u64)?;
    for word in words(at, bytes.len()) {
        let mut contents = read_word(tracee, word)?;
        for (place, address) in contents.iter_mut().zip(word..) {
            if let Some(byte) = address.checked_sub(at).and_then(|n| bytes.get(n as usize)) {
                *place = *byte;
            }
        }
        let value = u64::from_le_bytes(contents);
        host(request::POKEDATA, tracee.tid, word, value).map_err(|_| Errno::EIO)?;
    }
    Ok(())
}

/// What was translated from there is not what it says any more: the thread hears of it before it goes on.
fn note_written(tracee: &Tracee, address: u64, len: u64) -> Result<(), Errno> {
    let count = tracee.long(offset_of!(Block, written_count))?;
    if (count as usize) < WRITTEN {
        let range: Vec<u8> = [address, len].iter().flat_map(|word| word.to_le_bytes()).collect();
        tracee.write(offset_of!(Block, written) + 16 * count as usize, &range)?;
    }
    let count = (count + 1).min(WRITTEN as u64 + 1);
    tracee.write(offset_of!(Block, written_count), &count.to_le_bytes())
}

/// Writes memory of a process by one of its threads that stand; all of these hear of it.
fn poke_process(
    list: &[Tracee],
    by: impl Fn(&Tracee) -> bool,
    address: u64,
    bytes: &[u8],
) -> Result<(), Errno> {
    let stands = |tracee: &&Tracee| tracee.standing.is_some();
    let writer = list.iter().filter(stands).find(|tracee| by(tracee)).ok_or(Errno::ESRCH)?;
    poke(writer, address, bytes)?;
    let same = |tracee: &&Tracee| tracee.tgid == writer.tgid && tracee.block != 0;
    for tracee in list.iter().filter(stands).filter(same) {
        note_written(tracee, address, bytes.len() as u64)?;
    }
    Ok(())
}

/// Reads memory of a traced process.
pub fn peek_of(thread: &Thread, tgid: i32, address: u64, bytes: &mut [u8]) -> Result<(), Errno> {
    let list = thread.process.tracees.list();
    let known = |tracee: &&Tracee| tracee.tgid == tgid && tracee.block != 0;
    let tracee = list.iter().find(known).ok_or(Errno::EIO)?;
    let at = host_address(tracee, address, bytes.len() as u64)?;
    if tracee.read_at(at, bytes).is_ok() {
        return Ok(());
    }
    // What cannot be read itself, debuggers read all the same.
    let stands = |tracee: &&Tracee| known(tracee) && tracee.standing.is_some();
    let tracee = list.iter().find(stands).ok_or(Errno::EIO)?;
    peek(tracee, address, bytes).map(|_| ())
}

/// Writes memory of a traced process of which a thread stands.
pub fn poke_of(thread: &Thread, tgid: i32, address: u64, bytes: &[u8]) -> Result<(), Errno> {
    let list = thread.process.tracees.list();
    let known = |tracee: &Tracee| tracee.tgid == tgid && tracee.block != 0;
    poke_process(&list, known, address, bytes).map_err(|_| Errno::EIO)
}

// ---- registers ----

fn note_change(tracee: &Tracee, bit: u32) -> Done {
    let changed = tracee.word(offset_of!(Block, changed))? | bit;
    tracee.write(offset_of!(Block, changed), &changed.to_le_bytes()).map(|()| 0)
}

/// Where a set is in the block: its number, place and length.
fn find_set(tracee: &Tracee, kind: u32) -> Result<(usize, usize, usize), Errno> {
    let mut bytes = [0; 8 * SETS];
    tracee.read(offset_of!(Block, sets), &mut bytes)?;
    let mut at = 0;
    for (n, entry) in bytes.as_chunks::<4>().0.as_chunks::<2>().0.iter().enumerate() {
        let [note, len] = entry.map(u32::from_le_bytes);
        let len = len as usize;
        if at + len > SET_BYTES {
            break;
        }
        if note == kind && len != 0 {
            return Ok((n, at, len));
        }
        at += len;
    }
    Err(Errno::EINVAL)
}

fn register_set(tracee: &Tracee, kind: u32) -> Result<(usize, Vec<u8>), Errno> {
    let (n, at, len) = find_set(tracee, kind)?;
    let mut bytes = vec![0; len];
    tracee.read(offset_of!(Block, bytes) + at, &mut bytes)?;
    Ok((n, bytes))
}

/// Sets are read and written by whole registers: debuggers find out so which there are.
fn check_len(tracee: &Tracee, kind: u32, len: u64) -> Result<(), Errno> {
    let narrow = tracee.word(offset_of!(Block, bits))? == 32;
    let riscv = tracee.word(offset_of!(Block, machine))? == u32::from(elf::EM_RISCV);
    let wide_sets = kind == note::X86_XSTATE || riscv && kind == note::PRFPREG;
    let register = if narrow && !wide_sets { 4 } else { 8 };
    if len.is_multiple_of(register) { Ok(()) } else { Err(Errno::EINVAL) }
}

/// Writes to a set from `from` on: how many bytes.
fn set_registers(tracee: &Tracee, kind: u32, from: usize, bytes: &[u8]) -> Result<usize, Errno> {
    let (n, at, len) = find_set(tracee, kind)?;
    let len = bytes.len().min(len.saturating_sub(from));
    tracee.write(offset_of!(Block, bytes) + at + from, &bytes[..len])?;
    note_change(tracee, 1 << n)?;
    Ok(len)
}

/// Requests that only x86 has.
fn of_x86(tracee: &Tracee, number: u32, place: &Place<'_>) -> Done {
    let Place { thread, address, data } = *place;
    let space = &thread.process.space;
    let whole = |kind: u32, set: bool| {
        let mut bytes = register_set(tracee, kind)?.1;
        if set {
            space.read_bytes(data, &mut bytes)?;
            return set_registers(tracee, kind, 0, &bytes).map(|_| 0);
        }
        space.write_bytes(data, &bytes).map(|()| 0)
    };
    match number {
        request::GETREGS => whole(note::PRSTATUS, false),
        request::SETREGS => whole(note::PRSTATUS, true),
        request::GETFPREGS => whole(note::PRFPREG, false),
        request::SETFPREGS => whole(note::PRFPREG, true),
        request::GETFPXREGS => whole(note::PRXFPREG, false),
        request::SETFPXREGS => whole(note::PRXFPREG, true),
        request::PEEKUSER => place.give(peek_user(tracee, place)?),
        request::POKEUSER => poke_user(tracee, place),
        request::ARCH_PRCTL => {
            /// The registers behind `ARCH_GET_FS` and `ARCH_GET_GS`.
            const BASES: [(u64, usize); 2] = [(0x1003, 21), (0x1004, 22)];
            let base = BASES.iter().find(|(code, _)| *code == data).ok_or(Errno::EINVAL)?;
            let general = register_set(tracee, note::PRSTATUS)?.1;
            let bytes = general.get(8 * base.1..).and_then(|rest| rest.first_chunk::<8>());
            let value = u64::from_le_bytes(*bytes.ok_or(Errno::EIO)?);
            space.write(address, value).map(|()| 0)
        }
        _ => Err(Errno::EIO),
    }
}

/// Places in `struct user`: the debug registers, and its end.
fn user_layout(place: &Place<'_>) -> (u64, u64) {
    if place.thread.process.abi.wide() { (848, 928) } else { (252, 284) }
}

fn peek_user(tracee: &Tracee, place: &Place<'_>) -> Done {
    let word = place.thread.process.abi.word();
    let general = register_set(tracee, note::PRSTATUS)?.1;
    let (_, end) = user_layout(place);
    if !place.address.is_multiple_of(word) || place.address >= end {
        return Err(Errno::EIO);
    }
    let at = place.address as usize;
    let bytes = general.get(at..at + word as usize).unwrap_or_default();
    Ok(bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
}

/// The debug registers can be cleared: there are no breakpoints in them.
fn poke_user(tracee: &Tracee, place: &Place<'_>) -> Done {
    let word = place.thread.process.abi.word();
    let (debug, end) = user_layout(place);
    let len = find_set(tracee, note::PRSTATUS)?.2 as u64;
    match place.address {
        at if !at.is_multiple_of(word) || at >= end => Err(Errno::EIO),
        at if at < len => {
            let bytes = &place.data.to_le_bytes()[..word as usize];
            set_registers(tracee, note::PRSTATUS, at as usize, bytes).map(|_| 0)
        }
        at if at >= debug && place.data == 0 => Ok(0),
        _ => Err(Errno::EIO),
    }
}

// ---- system calls ----

/// `PTRACE_GET_SYSCALL_INFO`: `address` bytes of room; how many there are.
fn syscall_info(tracee: &Tracee, place: &Place<'_>) -> Done {
    /// Bytes before what depends on the kind, and of each kind.
    const HEAD: usize = 24;
    const ENTRY: usize = 56;
    const EXIT: usize = 9;
    const SECCOMP: usize = 64;
    let mut bytes = vec![0u8; HEAD];
    let mut call = [0u8; 56];
    tracee.read(offset_of!(Block, call), &mut call)?;
    let seccomp = crate::ptrace::event::SECCOMP << 8;
    match tracee.standing {
        Some(Standing::Itself(kind::ENTRY)) => {
            bytes[0] = 1;
            bytes.extend_from_slice(&call[..ENTRY]);
        }
        Some(Standing::Itself(kind::EXIT)) => {
            bytes[0] = 2;
            bytes.extend_from_slice(&call[..EXIT]);
        }
        Some(Standing::Itself(kind::EVENT)) if tracee.status & 0xff00 == seccomp => {
            bytes[0] = 3;
            bytes.extend_from_slice(&call[..ENTRY]);
            bytes.extend_from_slice(&(message(tracee) as u32).to_le_bytes());
            bytes.resize(HEAD + SECCOMP, 0);
        }
        _ => {}
    }
    bytes[4..8].copy_from_slice(&architecture(tracee)?.to_le_bytes());
    let mut at = [0u8; 16];
    tracee.read(offset_of!(Block, place), &mut at)?;
    bytes[8..HEAD].copy_from_slice(&at);
    let len = bytes.len().min(place.address as usize);
    place.thread.process.space.write_bytes(place.data, &bytes[..len])?;
    Ok(bytes.len() as u64)
}

/// `AUDIT_ARCH_*`.
fn architecture(tracee: &Tracee) -> Result<u32, Errno> {
    let machine = tracee.word(offset_of!(Block, machine))?;
    let bits = tracee.word(offset_of!(Block, bits))?;
    Ok(crate::abi::audit_architecture(machine, bits))
}
