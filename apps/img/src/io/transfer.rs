//! Commands that move data.

use super::commands::{Done, Refusal, image, number};
use super::letters::Letters;
use super::report::{Moved, dump};
use super::session::Session;
use graph::{Image, Node, SECTOR, WriteFlags, ZeroFlags, check_range, host_text};
use std::io;
use std::sync::Arc;
use std::time::Instant;

/// Most bytes of one request.
const MOST: u64 = 2_147_483_136;
/// What is written where nobody says what.
const DEFAULT_PATTERN: u8 = 0xcd;

/// How the bytes get there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Plain,
    Zeroes { unmap: bool },
    Compressed,
    VmState,
}

/// One request, understood.
struct Request {
    offset: u64,
    len: u64,
    pattern: Option<u8>,
    /// The part of what is read that must be the pattern: start and length.
    verified: (u64, u64),
    source: Option<Vec<u8>>,
    way: Way,
    fua: bool,
    quiet: bool,
    machine: bool,
    shown: bool,
}

impl Request {
    fn parse(letters: &Letters<'_>) -> Result<Self, Refusal> {
        let offset = number(letters.arguments[0])?;
        let mut len = 0_u64;
        for word in &letters.arguments[1..] {
            len = len.saturating_add(number(word)?);
            if len > MOST {
                return Err(Refusal::new(format!("length cannot exceed {MOST}, given {word}")));
            }
        }
        let pattern = letters.value('P').map(pattern).transpose()?;
        Ok(Self {
            offset,
            len,
            pattern,
            verified: (0, len),
            source: None,
            way: if letters.has('b') { Way::VmState } else { Way::Plain },
            fua: letters.has('f'),
            quiet: letters.has('q'),
            machine: letters.has('C'),
            shown: letters.has('v'),
        })
    }

    /// The part to verify, of a read.
    fn verify(&mut self, letters: &Letters<'_>) -> Done {
        if self.pattern.is_none() && (letters.has('s') || letters.has('l')) {
            return Err(Refusal::Usage);
        }
        let start = letters.value('s').map_or(Ok(0), number)?;
        let len = letters.value('l').map_or(Ok(self.len.saturating_sub(start)), number)?;
        if check_range(start, len, self.len).is_err() {
            return Err(Refusal::new("pattern verification range exceeds end of read data"));
        }
        self.verified = (start, len);
        Ok(())
    }

    /// The way of a write.
    fn choose_way(&mut self, letters: &Letters<'_>) -> Done {
        let zeroes = letters.has('z');
        let exclusive =
            |found: bool, text: &str| if found { Err(Refusal::new(text)) } else { Ok(()) };
        let chosen = [zeroes, self.pattern.is_some(), letters.value('s').is_some()];
        let several = chosen.iter().filter(|c| **c).count() > 1;
        exclusive(several, "Only one of -z, -P, and -s can be specified at the same time")?;
        exclusive(
            letters.has('b') && letters.has('c'),
            "-b and -c cannot be specified at the same time",
        )?;
        exclusive(letters.has('b') && zeroes, "-b and -z cannot be specified at the same time")?;
        exclusive(letters.has('u') && !zeroes, "-u requires -z to be specified")?;
        exclusive(letters.has('n') && !zeroes, "-n requires -z to be specified")?;
        if zeroes {
            self.way = Way::Zeroes { unmap: letters.has('u') };
        } else if letters.has('c') {
            self.way = Way::Compressed;
        }
        Ok(())
    }

    /// The bytes to write: a file again and again, or a pattern.
    fn data(&self) -> Vec<u8> {
        // At most `MOST`.
        let len = self.len as usize;
        match &self.source {
            Some(source) => source.iter().copied().cycle().take(len).collect(),
            None => vec![self.pattern.unwrap_or(DEFAULT_PATTERN); len],
        }
    }

    fn report(&self, verb: &'static str, begun: Instant) {
        let moved = Moved {
            verb,
            offset: self.offset,
            wanted: self.len,
            done: self.len,
            requests: 1,
            took: begun.elapsed(),
        };
        if self.machine {
            print!("{}", moved.machine());
        } else if !self.quiet {
            print!("{}", moved.human());
        }
    }

    /// Reads, verifies, shows and reports.
    fn read(&self, node: &dyn Node, verb: &str) -> Done {
        let failed = |e: io::Error| Refusal::new(format!("{verb} failed: {}", said(&e)));
        let begun = Instant::now();
        let mut buf = Vec::new();
        if self.way == Way::VmState {
            let snapshots = node.image().and_then(Image::snapshots);
            let snapshots = snapshots.ok_or_else(|| failed(io::ErrorKind::Unsupported.into()))?;
            buf.resize(self.len as usize, 0);
            snapshots.read_vm_state(self.offset, &mut buf).map_err(failed)?;
        } else {
            check_range(self.offset, self.len, node.size()).map_err(|_| failed(no_such_place()))?;
            buf.resize(self.len as usize, 0);
            node.read_at(self.offset, &mut buf).map_err(failed)?;
        }
        if self.shown {
            print!("{}", dump(self.offset, &buf));
        }
        let good = self.verified_in(&buf);
        if !good {
            let (start, len) = self.verified;
            println!("Pattern verification failed at offset {}, {len} bytes", self.offset + start);
        }
        self.report("read", begun);
        if good { Ok(()) } else { Err(Refusal::Silent) }
    }

    fn verified_in(&self, buf: &[u8]) -> bool {
        let (start, len) = self.verified;
        // Checked to lie within what was read.
        let part = &buf[start as usize..(start + len) as usize];
        self.pattern.is_none_or(|pattern| part.iter().all(|byte| *byte == pattern))
    }

    /// Writes and reports.
    fn write(&self, node: &dyn Node, verb: &str) -> Done {
        let failed = |e: io::Error| Refusal::new(format!("{verb} failed: {}", said(&e)));
        let begun = Instant::now();
        if self.way == Way::Compressed {
            self.in_sectors()?;
        }
        if self.way != Way::VmState {
            check_range(self.offset, self.len, node.size()).map_err(|_| failed(no_such_place()))?;
        }
        self.store(node).map_err(failed)?;
        self.report("wrote", begun);
        Ok(())
    }

    fn store(&self, node: &dyn Node) -> io::Result<()> {
        let unsupported = || io::Error::from(io::ErrorKind::Unsupported);
        match self.way {
            Way::Plain => node.write_at(self.offset, &self.data(), WriteFlags { fua: self.fua }),
            Way::Zeroes { unmap } => {
                node.write_zeroes(self.offset, self.len, ZeroFlags { fua: self.fua, unmap })
            }
            Way::Compressed => {
                let compress = node.image().and_then(Image::compress).ok_or_else(unsupported)?;
                self.compress(compress)
            }
            Way::VmState => {
                let snapshots = node.image().and_then(Image::snapshots).ok_or_else(unsupported)?;
                snapshots.write_vm_state(self.offset, &self.data())
            }
        }
    }

    /// Compressed requests are whole sectors.
    fn in_sectors(&self) -> Done {
        let numbers = [(self.offset, "offset"), (self.len, "count")];
        match numbers.into_iter().find(|(number, _)| !number.is_multiple_of(SECTOR)) {
            Some((number, what)) => {
                Err(Refusal::new(format!("{number} is not a sector-aligned value for '{what}'")))
            }
            None => Ok(()),
        }
    }

    /// Unit by unit.
    fn compress(&self, compress: &dyn graph::Compress) -> io::Result<()> {
        let unit = compress.unit() as usize;
        for (row, piece) in self.data().chunks(unit).enumerate() {
            compress.write_compressed(self.offset + (row * unit) as u64, piece)?;
        }
        Ok(())
    }
}

fn no_such_place() -> io::Error {
    io::Error::other("Input/output error")
}

fn said(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::Unsupported => "Operation not supported".to_owned(),
        _ => host_text(error),
    }
}

fn pattern(word: &str) -> Result<u8, Refusal> {
    options::parse_number(word)
        .and_then(|n| u8::try_from(n).ok())
        .ok_or_else(|| Refusal::new(format!("{word} is not a valid pattern byte")))
}

pub(super) fn read(session: &mut Session, letters: &Letters<'_>) -> Done {
    let mut request = Request::parse(letters)?;
    request.verify(letters)?;
    request.read(&*image(session)?, "read")
}

pub(super) fn readv(session: &mut Session, letters: &Letters<'_>) -> Done {
    Request::parse(letters)?.read(&*image(session)?, "readv")
}

pub(super) fn write(session: &mut Session, letters: &Letters<'_>) -> Done {
    let mut request = Request::parse(letters)?;
    request.choose_way(letters)?;
    if let Some(path) = letters.value('s') {
        let source = std::fs::read(path)
            .map_err(|e| Refusal::Plain(format!("{path}: {}", host_text(&e))))?;
        if source.is_empty() {
            return Err(Refusal::new(format!("{path}: file is empty")));
        }
        request.source = Some(source);
    }
    request.write(&*image(session)?, "write")
}

pub(super) fn writev(session: &mut Session, letters: &Letters<'_>) -> Done {
    Request::parse(letters)?.write(&*image(session)?, "writev")
}

pub(super) fn discard(session: &mut Session, letters: &Letters<'_>) -> Done {
    let request = Request::parse(letters)?;
    let node = image(session)?;
    let failed = |e: io::Error| Refusal::new(format!("discard failed: {}", said(&e)));
    check_range(request.offset, request.len, node.size()).map_err(|_| failed(no_such_place()))?;
    let begun = Instant::now();
    node.discard(request.offset, request.len).map_err(failed)?;
    request.report("discard", begun);
    Ok(())
}

pub(super) fn aio_read(session: &mut Session, letters: &Letters<'_>) -> Done {
    let request = Request::parse(letters)?;
    begin(session, move |node| request.read(node, "readv"))
}

pub(super) fn aio_write(session: &mut Session, letters: &Letters<'_>) -> Done {
    let mut request = Request::parse(letters)?;
    if letters.has('z') {
        // Then a pattern does not matter.
        request.pattern = None;
    }
    request.choose_way(letters)?;
    begin(session, move |node| request.write(node, "aio_write"))
}

/// Does the work beside the following commands; what becomes of it is printed, and is no failure.
fn begin(session: &mut Session, work: impl FnOnce(&dyn Node) -> Done + Send + 'static) -> Done {
    let node: Arc<dyn Node> = image(session)?;
    session.begin(move || {
        if let Err(refusal) = work(&*node) {
            refusal.say();
        }
    });
    Ok(())
}
