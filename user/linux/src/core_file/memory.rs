//! Which memory goes into a core file: the program's mappings, and how much of each (core(5), “Controlling which
//! mappings are written to the core dump”).

use crate::space::PAGE;
use crate::sys;
use crate::thread::Thread;
use std::ops::Range;

/// A mapping of the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Its addresses.
    pub range: Range<u64>,
    /// Rights of the program, as in `mmap`.
    pub rights: u32,
    /// Bytes that are written, from its beginning on.
    pub kept: u64,
    /// The file that it is of, and where in it.
    pub file: Option<(Vec<u8>, u64)>,
}

/// Most mappings that a core file's header can count.
const MOST: usize = 0xfffe - 1;

/// What `coredump_filter` says of a mapping.
mod filter {
    pub(super) const PRIVATE: u64 = 1;
    pub(super) const SHARED: u64 = 2;
    pub(super) const PRIVATE_FILES: u64 = 4;
    pub(super) const SHARED_FILES: u64 = 8;
    pub(super) const ELF_HEADERS: u64 = 16;
    pub(super) const DEFAULT: u64 = 0x33;
}

/// A mapping as the host tells of it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Told {
    range: Range<u64>,
    shared: bool,
    offset: u64,
    file: Option<Vec<u8>>,
    /// Whether pages of it belong to nobody but the process.
    owned: bool,
    /// The program wants it left out.
    left_out: bool,
}

/// `/proc/self/smaps`.
fn read(text: &[u8]) -> Vec<Told> {
    let mut all: Vec<Told> = Vec::new();
    for line in text.split(|byte| *byte == b'\n') {
        let text = String::from_utf8_lossy(line);
        let mut words = text.split_ascii_whitespace();
        let Some(first) = words.next() else { continue };
        match (first, all.last_mut()) {
            ("Anonymous:", Some(last)) => last.owned = words.next().is_some_and(|size| size != "0"),
            ("VmFlags:", Some(last)) => last.left_out = words.any(|word| word == "dd"),
            (range, _) if !range.ends_with(':') => all.extend(begin(line, range, words)),
            _ => {}
        }
    }
    all
}

fn begin<'a>(line: &[u8], range: &str, mut words: impl Iterator<Item = &'a str>) -> Option<Told> {
    let number = |text: &str| u64::from_str_radix(text, 16).ok();
    let (start, end) = range.split_once('-')?;
    let rights = words.next()?;
    let offset = number(words.next()?)?;
    let inode = words.nth(1)?;
    let name = line.iter().position(|byte| *byte == b'/').filter(|_| inode != "0");
    Some(Told {
        range: number(start)?..number(end)?,
        shared: rights.ends_with('s'),
        offset,
        file: name.map(|at| line[at..].to_vec()),
        ..Told::default()
    })
}

/// The program's mappings.
pub fn segments(thread: &Thread) -> Vec<Segment> {
    let space = &thread.process.space;
    let told = read(&std::fs::read("/proc/self/smaps").unwrap_or_default());
    let text = std::fs::read_to_string("/proc/self/coredump_filter").unwrap_or_default();
    let wanted = u64::from_str_radix(text.trim(), 16).unwrap_or(filter::DEFAULT);
    let map = space.map();
    let mut all: Vec<Segment> = Vec::new();
    for (region, about) in map.all() {
        let host = space.base + region.start..space.base + region.end;
        let first = told.partition_point(|part| part.range.end <= host.start);
        for part in told[first..].iter().take_while(|part| part.range.start < host.end) {
            let range = part.range.start.max(host.start)..part.range.end.min(host.end);
            let offset = part.offset + (range.start - part.range.start);
            let range = space.guest(range.start)..space.guest(range.end);
            let file = part.file.clone().map(|name| (name, offset));
            let kept = kept(part, wanted, &range, offset, |at| {
                let mut head = [0; 4];
                space.peek(at, &mut head).is_ok() && head == *b"\x7fELF"
            });
            add(&mut all, Segment { range, rights: about.rights, kept, file });
        }
    }
    all.truncate(MOST);
    all
}

/// How much of a mapping is written.
fn kept(
    part: &Told,
    wanted: u64,
    range: &Range<u64>,
    offset: u64,
    is_program: impl Fn(u64) -> bool,
) -> u64 {
    let len = range.end - range.start;
    let whole = match (part.shared, &part.file) {
        _ if part.left_out => return 0,
        (true, None) => wanted & filter::SHARED,
        (true, Some(_)) => wanted & filter::SHARED_FILES,
        (false, None) => wanted & filter::PRIVATE,
        (false, Some(_)) if part.owned => wanted & (filter::PRIVATE | filter::PRIVATE_FILES),
        (false, Some(_)) => wanted & filter::PRIVATE_FILES,
    };
    let head = wanted & filter::ELF_HEADERS != 0 && part.file.is_some() && offset == 0;
    match () {
        () if whole != 0 => len,
        () if head && is_program(range.start) => len.min(PAGE),
        () => 0,
    }
}

/// Adds a mapping; the engine splits those that are one to the program.
fn add(all: &mut Vec<Segment>, next: Segment) {
    let len = |segment: &Segment| segment.range.end - segment.range.start;
    if let Some(last) = all.last_mut() {
        let follows = match (&last.file, &next.file) {
            (None, None) => true,
            (Some((name, at)), Some((other, offset))) => name == other && at + len(last) == *offset,
            _ => false,
        };
        let full = last.kept == len(last) && next.kept == len(&next);
        let none = last.kept == 0 && next.kept == 0;
        if follows
            && last.range.end == next.range.start
            && last.rights == next.rights
            && (full || none)
        {
            last.range.end = next.range.end;
            last.kept += next.kept;
            return;
        }
    }
    all.push(next);
}

/// Names of this process and its parent, its group and its session.
pub fn relations() -> [u64; 4] {
    let call = |number, args| sys::call(number, args).unwrap_or(0);
    [
        sys::getpid().into(),
        call(libc::SYS_getppid, [0; 6]),
        call(libc::SYS_getpgid, [0; 6]),
        call(libc::SYS_getsid, [0; 6]),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMAPS: &str = "\
        400000-401000 r--p 00000000 08:01 77 /bin/a b\n\
        Anonymous:             0 kB\n\
        VmFlags: rd mr mw me\n\
        401000-403000 rw-p 00001000 08:01 77 /bin/a b\n\
        Anonymous:             4 kB\n\
        7000000-7002000 rw-s 00000000 00:01 5 /dev/zero (deleted)\n\
        VmFlags: rd dd\n\
        8000000-8001000 rw-p 00000000 00:00 0 [stack]\n";

    #[test]
    fn what_the_host_tells_is_understood() {
        let all = read(SMAPS.as_bytes());
        let shape: Vec<_> = all
            .iter()
            .map(|part| (part.range.start, part.offset, part.shared, part.owned, part.left_out))
            .collect();
        let expected = [
            (0x40_0000, 0, false, false, false),
            (0x40_1000, 0x1000, false, true, false),
            (0x700_0000, 0, true, false, true),
            (0x800_0000, 0, false, false, false),
        ];
        assert_eq!(shape, expected);
        assert_eq!(all[0].file.as_deref(), Some(&b"/bin/a b"[..]));
        assert_eq!(all[3].file, None);
        let sizes = |wanted| -> Vec<u64> {
            all.iter().map(|part| kept(part, wanted, &part.range, part.offset, |_| true)).collect()
        };
        assert_eq!(sizes(filter::DEFAULT), [0x1000, 0x2000, 0, 0x1000]);
        assert_eq!(sizes(0), [0; 4]);
        assert_eq!(sizes(filter::PRIVATE_FILES), [0x1000, 0x2000, 0, 0]);
    }
}
