//! Notes of core files: registers of threads, what the process was, its files.

use super::memory::{self, Segment};
use super::{Out, PAGE};
use crate::ptrace::note;
use crate::signal::{Info, bit};
use crate::sys;
use crate::thread::Thread;

/// A note: whose it is, its kind, its bytes.
struct Note {
    owner: &'static str,
    kind: u32,
    bytes: Vec<u8>,
}

/// The registers of a thread: kinds and contents.
pub type Sets = Vec<(u32, Vec<u8>)>;

/// Kinds of notes.
mod kind {
    pub(super) const PRPSINFO: u32 = 3;
    pub(super) const AUXV: u32 = 6;
    pub(super) const SIGINFO: u32 = 0x5349_4749;
    pub(super) const FILE: u32 = 0x4649_4c45;
}

impl Note {
    fn core(kind: u32, bytes: Vec<u8>) -> Self {
        Self { owner: "CORE", kind, bytes }
    }

    /// A set of registers; those that are not of every architecture are Linux's.
    fn registers(kind: u32, bytes: Vec<u8>) -> Self {
        Self { owner: if kind == note::PRFPREG { "CORE" } else { "LINUX" }, kind, bytes }
    }

    fn write(&self, out: &mut Vec<u8>) {
        for number in [self.owner.len() as u32 + 1, self.bytes.len() as u32, self.kind] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        for part in [[self.owner.as_bytes(), &[0]].concat(), self.bytes.clone()] {
            out.extend_from_slice(&part);
            out.resize(out.len().next_multiple_of(4), 0);
        }
    }
}

/// All notes. Of threads there are their numbers and registers; the first is the one that got the signal.
pub fn all(
    thread: &Thread,
    info: &Info,
    threads: Vec<(u32, Sets)>,
    segments: &[Segment],
) -> Vec<u8> {
    let process = &thread.process;
    let mut notes = Vec::new();
    for (tid, sets) in threads {
        let (general, others): (Sets, Sets) =
            sets.into_iter().partition(|(kind, _)| *kind == note::PRSTATUS);
        let general = general.first().map_or(&[][..], |(_, bytes)| bytes);
        let first = notes.is_empty();
        notes.push(Note::core(note::PRSTATUS, status(thread, tid, info, general)));
        if first {
            notes.push(Note::core(kind::PRPSINFO, about(thread)));
            notes.push(Note::core(kind::SIGINFO, info.for_guest(process.abi.wide()).to_vec()));
            notes.push(Note::core(kind::AUXV, process.started.auxiliary.clone()));
            notes.push(Note::core(kind::FILE, files(process.abi.wide(), segments)));
        }
        notes.extend(others.into_iter().map(|(kind, bytes)| Note::registers(kind, bytes)));
    }
    let mut out = Vec::new();
    notes.iter().for_each(|each| each.write(&mut out));
    out
}

/// `struct elf_prstatus`.
fn status(thread: &Thread, tid: u32, info: &Info, general: &[u8]) -> Vec<u8> {
    let abi = thread.process.abi;
    let mut out = Out { bytes: Vec::new(), wide: abi.wide() };
    let own = tid == thread.tid;
    let signal = u64::from(info.signal());
    out.put(signal, 4).put(info.code().cast_unsigned().into(), 4).put(0, 4).put(signal, 4);
    out.long(0).long(if own { thread.mask & !bit(info.signal()) } else { 0 });
    let [_, parent, group, session] = memory::relations();
    for number in [tid.into(), parent, group, session] {
        out.put(number, 4);
    }
    // Times of the thread and its children.
    for _ in 0..8 {
        out.long(0);
    }
    let word = abi.word() as usize;
    out.bytes.extend_from_slice(general);
    // There are floating-point registers.
    out.put(1, 4);
    let len = out.bytes.len().next_multiple_of(word);
    out.bytes.resize(len, 0);
    out.bytes
}

/// `struct elf_prpsinfo`.
fn about(thread: &Thread) -> Vec<u8> {
    const NAME: usize = 16;
    const ARGUMENTS: usize = 80;
    let abi = thread.process.abi;
    let mut out = Out { bytes: Vec::new(), wide: abi.wide() };
    // It runs.
    out.bytes.extend([0, b'R', 0, 0]);
    let aligned = out.bytes.len().next_multiple_of(abi.word() as usize);
    out.bytes.resize(aligned, 0);
    out.long(0);
    for number in [libc::SYS_getuid, libc::SYS_getgid] {
        out.put(sys::call(number, [0; 6]).unwrap_or(0), abi.user_len);
    }
    for number in memory::relations() {
        out.put(number, 4);
    }
    let started = &thread.process.started;
    let name = started.executable.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let words = started.command_line.strip_suffix(&[0]).unwrap_or(&started.command_line);
    let words: Vec<u8> = words.iter().map(|byte| if *byte == 0 { b' ' } else { *byte }).collect();
    for (text, len) in [(name, NAME), (&words, ARGUMENTS)] {
        let mut text = text[..text.len().min(len - 1)].to_vec();
        text.resize(len, 0);
        out.bytes.extend(text);
    }
    let aligned = out.bytes.len().next_multiple_of(4);
    out.bytes.resize(aligned, 0);
    out.bytes
}

/// `NT_FILE`: which files lie where.
fn files(wide: bool, segments: &[Segment]) -> Vec<u8> {
    let mut out = Out { bytes: Vec::new(), wide };
    let mapped = || {
        segments.iter().filter_map(|segment| {
            let (name, offset) = segment.file.as_ref()?;
            Some((&segment.range, name, offset))
        })
    };
    out.long(mapped().count() as u64).long(PAGE);
    for (range, _, offset) in mapped() {
        out.long(range.start).long(range.end).long(offset / PAGE);
    }
    for (_, name, _) in mapped() {
        out.bytes.extend_from_slice(name);
        out.bytes.push(0);
    }
    out.bytes
}
