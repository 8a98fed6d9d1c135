//! Copying what one node shows to another: what `convert`, `dd`, `commit` and `rebase` do.
//!
//! A cursor hands out pieces of the source, each with what is known about it; workers read them at
//! the same time and write them in order (or not, if the user prefers speed to a tidy target). Two workers
//! copy what is in the host's memory faster than many, whose buffers no cache of the processor holds: the others
//! begin when a piece is compressed or pieces take their time.

use crate::order::Turns;
use crate::zeroes::{Run, runs};
use crate::{Progress, Status, Stores};
use graph::{Compress, ExtentKind, Image, Node, WriteFlags, ZeroFlags};
use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Scope;
use std::time::{Duration, Instant};

/// Bytes that a worker reads at a time.
const BUFFER: u64 = 2 << 20;
/// Longest range of zeroes written at a time.
const ZEROES: u64 = 1 << 30;
/// A piece that takes longer to read comes from afar.
const PROMPT: Duration = Duration::from_millis(4);
/// So many such pieces are no accident.
const SLOW: usize = 4;
/// Workers for content that is in memory.
const FEW: usize = 2;
/// Most workers.
pub const MAX_WORKERS: usize = 16;

/// What to copy, and how.
pub struct CopyOptions {
    /// First byte to copy: what is before it was copied earlier.
    pub start: u64,
    /// Pieces in flight, 1 to [`MAX_WORKERS`].
    pub workers: usize,
    /// Writes happen in the order of their offsets.
    pub in_order: bool,
    /// Zeroes in data are not written as data from so many bytes on (a power of two); zero: never.
    pub min_sparse: usize,
    /// The target reads as zeroes wherever nothing has been written.
    pub target_is_zero: bool,
    /// Content of the source from this layer downwards stays out.
    pub base: Option<Arc<dyn Node>>,
    /// What no layer of the source has stays as it is in the target, instead of becoming zeroes.
    pub leave_unallocated: bool,
    /// Writes go through the target's compression; units compress in parallel and in any order.
    pub compress: bool,
    /// Unreadable parts become zeroes and are counted.
    pub salvage: bool,
    /// Bytes per second; zero for as fast as possible.
    pub rate: u64,
}

impl Default for CopyOptions {
    fn default() -> Self {
        Self {
            start: 0,
            workers: 8,
            in_order: true,
            min_sparse: 4096,
            target_is_zero: false,
            base: None,
            leave_unallocated: false,
            compress: false,
            salvage: false,
            rate: 0,
        }
    }
}

/// Which side failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Reading, at this offset.
    Source,
    /// Asking where the source's content is, at this offset.
    Status,
    /// Writing, at this offset.
    Target,
    /// Nobody: the job was cancelled here.
    Cancelled,
}

/// The first error of a copy.
#[derive(Debug)]
pub struct CopyError {
    /// Which side failed.
    pub side: Side,
    /// Where, in bytes.
    pub offset: u64,
    /// What the node said.
    pub error: io::Error,
}

/// A part of the source that could not be read and reads as zeroes in the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Salvaged {
    /// First byte.
    pub offset: u64,
    /// Bytes.
    pub len: u64,
    /// What the source said.
    pub why: String,
}

/// One copy of a whole node.
pub struct Copy<'a> {
    source: &'a Arc<dyn Node>,
    target: &'a dyn Node,
    compress: Option<&'a dyn Compress>,
    options: &'a CopyOptions,
    progress: &'a dyn Progress,
    size: u64,
    cursor: Mutex<Cursor>,
    turns: Turns,
    done: AtomicU64,
    floor: Mutex<Floor>,
    stop: AtomicBool,
    /// Workers that have not begun yet, and whether they are wanted.
    held_back: AtomicUsize,
    wanted: AtomicBool,
    /// Pieces that took long to read.
    slow: AtomicUsize,
    failed: Mutex<Option<CopyError>>,
    salvaged: Mutex<Vec<Salvaged>>,
    started: Instant,
}

/// Where the next piece begins, and what is known about what follows.
#[derive(Default)]
struct Cursor {
    number: u64,
    offset: u64,
    known_until: u64,
    kind: Option<ExtentKind>,
    stores: Stores,
}

/// What is done without a gap from the start on; workers finish in any order.
struct Floor {
    until: u64,
    /// Pieces behind the gap: start and end.
    ahead: BTreeMap<u64, u64>,
}

impl Floor {
    /// Adds a piece; where the gap begins now, if that is further on.
    fn add(&mut self, piece: &Piece) -> Option<u64> {
        let before = self.until;
        self.ahead.insert(piece.offset, piece.offset + piece.len);
        while let Some(end) = self.ahead.remove(&self.until) {
            self.until = end;
        }
        (self.until > before).then_some(self.until)
    }
}

/// One piece of work.
#[derive(Clone, Copy)]
struct Piece {
    number: u64,
    offset: u64,
    len: u64,
    /// `Data` is read; `Zero` becomes zeroes; `Unallocated` stays as it is.
    kind: ExtentKind,
}

impl<'a> Copy<'a> {
    /// Copies the first `size` bytes of `source`, which must not be longer than either node.
    ///
    /// # Errors
    /// The first that a worker met. The target then holds anything.
    pub fn run(
        source: &'a Arc<dyn Node>,
        target: &'a dyn Node,
        size: u64,
        options: &'a CopyOptions,
        progress: &'a dyn Progress,
    ) -> Result<Vec<Salvaged>, CopyError> {
        let compress =
            if options.compress { target.image().and_then(Image::compress) } else { None };
        if options.compress && compress.is_none() {
            let error = io::Error::new(io::ErrorKind::Unsupported, "the target cannot compress");
            return Err(CopyError { side: Side::Target, offset: 0, error });
        }
        let start = options.start.min(size);
        let workers = options.workers.clamp(1, MAX_WORKERS);
        let all = compress.is_some() || !options.in_order;
        let few = if all { workers } else { workers.min(FEW) };
        let copy = Self {
            source,
            target,
            compress,
            options,
            progress,
            size,
            cursor: Mutex::new(Cursor { offset: start, known_until: start, ..Cursor::default() }),
            turns: Turns::new(options.in_order && compress.is_none()),
            done: AtomicU64::new(start),
            floor: Mutex::new(Floor { until: start, ahead: BTreeMap::new() }),
            stop: AtomicBool::new(false),
            held_back: AtomicUsize::new(workers - few),
            wanted: AtomicBool::new(false),
            slow: AtomicUsize::new(0),
            failed: Mutex::default(),
            salvaged: Mutex::default(),
            started: Instant::now(),
        };
        progress.at(start, size);
        std::thread::scope(|scope| {
            copy.hire(scope, few - 1);
            copy.work(scope);
        });
        let failed = copy.failed.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut salvaged = copy.salvaged.into_inner().unwrap_or_else(PoisonError::into_inner);
        salvaged.sort_by_key(|part| part.offset);
        failed.map_or(Ok(salvaged), Err)
    }

    fn hire<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>, count: usize) {
        for _ in 0..count {
            scope.spawn(move || self.work(scope));
        }
    }

    /// Does pieces until none is left or one failed.
    fn work<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>) {
        let mut buf = Vec::new();
        while !self.stop.load(Ordering::Relaxed) {
            if self.wanted.load(Ordering::Relaxed) {
                self.hire(scope, self.held_back.swap(0, Ordering::Relaxed));
            }
            let piece = match self.next() {
                Ok(Some(piece)) => piece,
                Ok(None) => return,
                Err(failure) => return self.fail(failure),
            };
            let read = self.read(piece, &mut buf);
            let written = self.turns.take(piece.number, || {
                read?;
                // A failure before this piece must not be followed by writes behind it.
                if self.stop.load(Ordering::Relaxed) { Ok(()) } else { self.write(piece, &buf) }
            });
            match written {
                Ok(()) => self.advance(piece),
                Err(failure) => self.fail(failure),
            }
        }
    }

    fn fail(&self, failure: CopyError) {
        self.stop.store(true, Ordering::Relaxed);
        let mut first = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        if first.as_ref().is_none_or(|known| failure.offset < known.offset) {
            *first = Some(failure);
        }
    }

    fn advance(&self, piece: Piece) {
        let done = self.done.fetch_add(piece.len, Ordering::Relaxed) + piece.len;
        self.progress.at(done, self.size);
        let reached = self.floor.lock().unwrap_or_else(PoisonError::into_inner).add(&piece);
        if let Some(offset) = reached
            && let Err(error) = self.progress.written(offset)
        {
            self.fail(CopyError { side: Side::Target, offset, error });
        }
    }

    /// Takes the next piece from the cursor.
    fn next(&self) -> Result<Option<Piece>, CopyError> {
        let mut cursor = self.cursor.lock().unwrap_or_else(PoisonError::into_inner);
        if cursor.offset >= self.size {
            return Ok(None);
        }
        let offset = cursor.offset;
        if self.progress.cancelled() {
            let error = io::Error::from(io::ErrorKind::Interrupted);
            return Err(CopyError { side: Side::Cancelled, offset, error });
        }
        if offset >= cursor.known_until {
            self.look_ahead(&mut cursor)?;
        }
        let kind = cursor.kind.unwrap_or(ExtentKind::Data);
        let most = if kind == ExtentKind::Data { self.unit() } else { ZEROES };
        // Pieces end at multiples of the unit: the target sees aligned writes.
        let end = (offset / most + 1).saturating_mul(most).min(cursor.known_until);
        let piece = Piece { number: cursor.number, offset, len: end - offset, kind };
        cursor.number += 1;
        cursor.offset = end;
        if kind == ExtentKind::Data {
            self.hold_rate(offset);
        }
        Ok(Some(piece))
    }

    fn unit(&self) -> u64 {
        self.compress.map_or(BUFFER, Compress::unit)
    }

    /// Asks the source what follows.
    fn look_ahead(&self, cursor: &mut Cursor) -> Result<(), CopyError> {
        let offset = cursor.offset;
        let (left, base) = (self.size - offset, self.options.base.as_ref());
        let status = cursor.stores.status(self.source, base, offset, left);
        let (kind, len) = match status {
            Ok(status) => (status.kind, status.len),
            // Who cannot say where the content is may still be able to read it.
            Err(_) if self.options.salvage => {
                (ExtentKind::Data, self.unit().min(self.size - offset))
            }
            Err(error) => return Err(CopyError { side: Side::Status, offset, error }),
        };
        if kind == ExtentKind::Compressed {
            self.wanted.store(true, Ordering::Relaxed);
        }
        let kind = match kind {
            ExtentKind::Unallocated if !self.options.leave_unallocated => ExtentKind::Zero,
            ExtentKind::Compressed => ExtentKind::Data,
            kind => kind,
        };
        cursor.known_until = offset + len;
        cursor.kind = Some(kind);
        match self.compress {
            Some(compress) => self.widen_to_unit(cursor, compress.unit()),
            None if kind == ExtentKind::Data => self.join_data(cursor),
            None => {}
        }
        Ok(())
    }

    /// Content that lies in many places, as compressed clusters do, is one piece all the same.
    fn join_data(&self, cursor: &mut Cursor) {
        let end = (cursor.offset / BUFFER + 1).saturating_mul(BUFFER).min(self.size);
        while cursor.known_until < end {
            let (from, base) = (cursor.known_until, self.options.base.as_ref());
            match cursor.stores.status(self.source, base, from, end - from) {
                Ok(Status { kind: ExtentKind::Data | ExtentKind::Compressed, len, .. }) => {
                    cursor.known_until += len;
                }
                // Looked at again when its turn comes.
                _ => break,
            }
        }
    }

    /// Compression works on whole units: a unit is data if any of it is.
    fn widen_to_unit(&self, cursor: &mut Cursor, unit: u64) {
        let (offset, end) = (cursor.offset, cursor.known_until);
        if cursor.kind == Some(ExtentKind::Data) {
            cursor.known_until = end.next_multiple_of(unit).min(self.size);
        } else if end < self.size && end / unit * unit > offset {
            cursor.known_until = end / unit * unit;
        } else if end < self.size {
            cursor.known_until = (offset / unit + 1).saturating_mul(unit).min(self.size);
            cursor.kind = Some(ExtentKind::Data);
        }
    }

    /// Sleeps until copying the bytes before `offset` has taken as long as the rate demands.
    fn hold_rate(&self, offset: u64) {
        let copied = offset.saturating_sub(self.options.start);
        if let Some(due) = copied.saturating_mul(1000).checked_div(self.options.rate) {
            let due = self.started + Duration::from_millis(due);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
        }
    }

    fn read(&self, piece: Piece, buf: &mut Vec<u8>) -> Result<(), CopyError> {
        if piece.kind != ExtentKind::Data {
            return Ok(());
        }
        // Pieces of data are at most a unit long.
        buf.resize(piece.len as usize, 0);
        let began = Instant::now();
        let read = self.source.read_at(piece.offset, buf);
        if began.elapsed() > PROMPT && self.slow.fetch_add(1, Ordering::Relaxed) + 1 >= SLOW {
            self.wanted.store(true, Ordering::Relaxed);
        }
        match read {
            Ok(()) => Ok(()),
            Err(_) if self.options.salvage => {
                self.salvage(piece.offset, buf);
                Ok(())
            }
            Err(error) => Err(CopyError { side: Side::Source, offset: piece.offset, error }),
        }
    }

    /// Reads sector by sector; what cannot be read becomes zeroes.
    fn salvage(&self, offset: u64, buf: &mut [u8]) {
        for (row, sector) in buf.chunks_mut(graph::SECTOR as usize).enumerate() {
            let at = offset + row as u64 * graph::SECTOR;
            if let Err(error) = self.source.read_at(at, sector) {
                sector.fill(0);
                let mut parts = self.salvaged.lock().unwrap_or_else(PoisonError::into_inner);
                let (len, why) = (sector.len() as u64, graph::host_text(&error));
                match parts.last_mut() {
                    Some(last) if last.offset + last.len == at && last.why == why => {
                        last.len += len
                    }
                    _ => parts.push(Salvaged { offset: at, len, why }),
                }
            }
        }
    }

    fn write(&self, piece: Piece, buf: &[u8]) -> Result<(), CopyError> {
        let at = |offset| move |error| CopyError { side: Side::Target, offset, error };
        match piece.kind {
            ExtentKind::Unallocated => Ok(()),
            ExtentKind::Zero => self.zero(piece.offset, piece.len).map_err(at(piece.offset)),
            ExtentKind::Data | ExtentKind::Compressed => self.write_data(piece, buf),
        }
    }

    fn write_data(&self, piece: Piece, buf: &[u8]) -> Result<(), CopyError> {
        let at = |offset| move |error| CopyError { side: Side::Target, offset, error };
        match self.compress {
            Some(compress) => {
                self.compressed(compress, piece.offset, buf).map_err(at(piece.offset))
            }
            None => {
                for Run { start, len, zero } in runs(buf, self.options.min_sparse) {
                    let offset = piece.offset + start as u64;
                    let done = if zero {
                        self.zero(offset, len as u64)
                    } else {
                        let flags = WriteFlags::default();
                        self.target.write_at(offset, &buf[start..start + len], flags)
                    };
                    done.map_err(at(offset))?;
                }
                Ok(())
            }
        }
    }

    fn compressed(&self, compress: &dyn Compress, offset: u64, buf: &[u8]) -> io::Result<()> {
        if self.options.min_sparse != 0 && graph::is_zero(buf) {
            return self.zero(offset, buf.len() as u64);
        }
        compress.write_compressed(offset, buf)
    }

    fn zero(&self, offset: u64, len: u64) -> io::Result<()> {
        if self.options.target_is_zero {
            return Ok(());
        }
        // With no sparse target wanted, zeroes take space as data does.
        let unmap = self.options.min_sparse != 0;
        self.target.write_zeroes(offset, len, ZeroFlags { unmap, ..ZeroFlags::default() })
    }
}
