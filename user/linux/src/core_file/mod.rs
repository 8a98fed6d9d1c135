//! Core files: what a program was when a signal ended it, as Linux writes it for the program's architecture
//! (core(5), elf(5); the exported headers `linux/elfcore.h`, `asm/ptrace.h`, `asm/user.h`).

mod memory;
mod notes;

pub use notes::Sets;

use crate::signal::{Info, bit};
use crate::sys;
use crate::thread::Thread;
use memory::Segment;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Signals whose default action leaves a core file.
pub const DUMPING: u64 = bit(libc::SIGQUIT as u32)
    | bit(libc::SIGILL as u32)
    | bit(libc::SIGTRAP as u32)
    | bit(libc::SIGABRT as u32)
    | bit(libc::SIGFPE as u32)
    | bit(libc::SIGBUS as u32)
    | bit(libc::SIGSEGV as u32);

const PAGE: u64 = crate::space::PAGE;

/// Tells that a signal ends the program, and leaves a core file if the limits allow one.
pub fn leave(thread: &Thread, info: &Info) {
    let signal = info.signal();
    if signal == 0 || signal > crate::signal::LAST || DUMPING & bit(signal) == 0 {
        return;
    }
    let limit = limit();
    if limit >= PAGE
        && sys::call(libc::SYS_prctl, [libc::PR_GET_DUMPABLE as u64, 0, 0, 0, 0, 0]) == Ok(1)
    {
        // A disk that is full, a folder that nobody may write: there is nobody to tell.
        let _ = dump(thread, info, limit);
    }
    // The host's would be ours, not the program's.
    let none = [0u64; 2];
    let args = [0, libc::RLIMIT_CORE.into(), none.as_ptr() as u64, 0, 0, 0];
    let _ = sys::call(libc::SYS_prlimit64, args);
    eprintln!("qemu: uncaught target signal {signal} ({}) - core dumped", signal_text(signal));
}

/// Names as `strsignal` has them.
fn signal_text(signal: u32) -> &'static str {
    match signal.cast_signed() {
        libc::SIGQUIT => "Quit",
        libc::SIGILL => "Illegal instruction",
        libc::SIGTRAP => "Trace/breakpoint trap",
        libc::SIGABRT => "Aborted",
        libc::SIGFPE => "Floating point exception",
        libc::SIGBUS => "Bus error",
        _ => "Segmentation fault",
    }
}

/// Most bytes of a core file.
fn limit() -> u64 {
    let mut limits = [0u64; 2];
    let args = [0, libc::RLIMIT_CORE.into(), 0, limits.as_mut_ptr() as u64, 0, 0];
    match sys::call(libc::SYS_prlimit64, args) {
        Ok(_) => limits[0],
        Err(_) => 0,
    }
}

/// `qemu_PROGRAM_DATE-TIME_PROCESS.core`.
fn name(thread: &Thread) -> std::path::PathBuf {
    let path = Path::new(OsStr::from_bytes(&thread.process.started.executable));
    let program = path.file_name().map(OsStr::as_bytes).unwrap_or_default();
    let name = [b"qemu_", program, b"_", now().as_bytes(), b"_"].concat();
    let rest = format!("{}.core", sys::getpid());
    Path::new(OsStr::from_bytes(&[&name[..], rest.as_bytes()].concat())).to_owned()
}

/// The local time, as digits.
fn now() -> String {
    let libc::tm { tm_year, tm_mon, tm_mday, tm_hour, tm_min, tm_sec, .. } = sys::local_time();
    let (year, month) = (tm_year + 1900, tm_mon + 1);
    format!("{year:04}{month:02}{tm_mday:02}-{tm_hour:02}{tm_min:02}{tm_sec:02}")
}

/// Writes numbers of the program's width.
struct Out {
    bytes: Vec<u8>,
    wide: bool,
}

impl Out {
    fn put(&mut self, value: u64, len: usize) -> &mut Self {
        self.bytes.extend_from_slice(&value.to_le_bytes()[..len]);
        self
    }

    fn long(&mut self, value: u64) -> &mut Self {
        self.put(value, if self.wide { 8 } else { 4 })
    }
}

fn dump(thread: &Thread, info: &Info, limit: u64) -> io::Result<()> {
    let threads = thread.stand_for_core();
    let segments = memory::segments(thread);
    let notes = notes::all(thread, info, threads, &segments);
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(name(thread))?;
    let wide = thread.process.abi.wide();
    let (header, program) = if wide { (64, 56) } else { (52, 32) };
    let notes_at = header + program * (segments.len() as u64 + 1);
    let first = (notes_at + notes.len() as u64).next_multiple_of(PAGE);
    let mut out = headers(thread, &segments, (notes_at, notes.len() as u64), first);
    out.extend_from_slice(&notes);
    file.write_all(&out)?;
    let mut at = first;
    for segment in &segments {
        let len = segment.kept.min(limit.saturating_sub(at));
        write_memory(thread, &mut file, segment, at, len)?;
        at += segment.kept;
    }
    // What ends in zeros was skipped.
    file.set_len(at.min(limit))
}

/// Writes a segment's memory; pages of zeros are holes.
fn write_memory(
    thread: &Thread,
    file: &mut File,
    segment: &Segment,
    at: u64,
    len: u64,
) -> io::Result<()> {
    let mut page = [0; PAGE as usize];
    for offset in (0..len).step_by(PAGE as usize) {
        let read = thread.process.space.peek(segment.range.start + offset, &mut page);
        if read.is_ok() && page.iter().any(|byte| *byte != 0) {
            file.seek(SeekFrom::Start(at + offset))?;
            file.write_all(&page[..(len - offset).min(PAGE) as usize])?;
        }
    }
    Ok(())
}

fn headers(thread: &Thread, segments: &[Segment], notes: (u64, u64), first: u64) -> Vec<u8> {
    const CORE: u64 = 4;
    let abi = thread.process.abi;
    let wide = abi.wide();
    let (header, program) = if wide { (64, 56) } else { (52, 32) };
    let mut out = Out { bytes: Vec::new(), wide };
    out.bytes.extend_from_slice(b"\x7fELF");
    out.bytes.extend([if wide { 2 } else { 1 }, 1, 1]);
    out.bytes.resize(16, 0);
    out.put(CORE, 2).put(abi.machine.into(), 2).put(1, 4).long(0).long(header).long(0);
    let count = (segments.len() as u64 + 1).min(0xffff);
    let flags = (abi.vdso)().flags;
    out.put(flags.into(), 4).put(header, 2).put(program, 2).put(count, 2);
    out.put(0, 2).put(0, 2).put(0, 2);
    let mut segment = |kind: u64, flags: u64, at: u64, address: u64, lengths: (u64, u64), align| {
        out.put(kind, 4);
        if wide {
            out.put(flags, 4);
        }
        out.long(at).long(address).long(0).long(lengths.0).long(lengths.1);
        if !wide {
            out.put(flags, 4);
        }
        out.long(align);
    };
    segment(4, 0, notes.0, 0, (notes.1, 0), 4);
    let mut at = first;
    for part in segments {
        // Rights of memory are numbered the other way round.
        let flags = [(1, 4), (2, 2), (4, 1)];
        let flags = flags.iter().filter(|(right, _)| part.rights & right != 0);
        let flags = flags.fold(0, |all, (_, flag)| all | flag);
        let len = part.range.end - part.range.start;
        segment(1, flags, at, part.range.start, (part.kept, len), PAGE);
        at += part.kept;
    }
    out.bytes
}
