//! The log: metadata updates that are written twice, so that a crash leaves them whole.
//!
//! An entry holds 4 KiB pages and where they go. A commit flushes the data that new entries of the
//! block allocation table refer to, writes a log entry, flushes it, and writes the pages in place;
//! these are stable before the next entry is written. So each entry is a sequence of its own: its
//! tail is itself. Replaying follows "Log Replay" of the specification for any sequence.

use std::io;

use graph::{Node, SECTOR};

use super::crc::crc32c;
use crate::blocks::codec::{damaged, grow, le32, le64, put, read_padded, write};
use crate::blocks::{Change, Store};

const PAGE: usize = 4096;
const ENTRY_HEADER: usize = 64;
const DESCRIPTOR: usize = 32;

/// Descriptors beside the header of an entry; the most that ours have.
const FIRST_DESCRIPTORS: usize = (PAGE - ENTRY_HEADER) / DESCRIPTOR;

/// Longest log that is replayed.
const MOST: u32 = 256 << 20;

/// Where the log is and whose.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub offset: u64,
    pub len: u32,
    pub guid: [u8; 16],
}

/// Something that a log says about the file.
pub(super) enum Patch {
    Data(u64, Box<[u8; PAGE]>),
    Zero(u64, u64),
}

/// What has to be done to a file that was not closed.
#[derive(Default)]
pub(super) struct Replay {
    /// In order.
    pub patches: Vec<Patch>,
    /// Length that the file had.
    pub file_len: u64,
}

impl Replay {
    /// Does it.
    pub fn apply(&self, file: &dyn Node) -> io::Result<()> {
        grow(file, self.file_len)?;
        for patch in &self.patches {
            match patch {
                Patch::Data(at, page) => write(file, *at, &page[..])?,
                Patch::Zero(at, len) => file.write_zeroes(*at, *len, Default::default())?,
            }
        }
        file.flush()
    }
}

/// A valid entry.
struct Entry {
    sequence: u64,
    tail: u32,
    last_file_offset: u64,
    flushed_file_offset: u64,
    bytes: Vec<u8>,
}

/// The last entry of a sequence.
struct Head {
    sequence: u64,
    tail: u32,
    /// Where the next entry would be.
    end: u32,
}

/// Reads the log's active sequence.
pub(super) fn replay(file: &dyn Node, log: &Place) -> io::Result<Replay> {
    if log.len == 0 || log.len > MOST || !(log.len as usize).is_multiple_of(PAGE) {
        return Err(damaged(format!("vhdx: a log of {} bytes cannot be replayed", log.len)));
    }
    let mut reader = Reader { file, log, budget: u64::from(log.len) * 4 };
    let mut best: Option<(u64, u32)> = None;
    let mut at: u32 = 0;
    loop {
        let mut next = at + PAGE as u32;
        if let Some(Head { sequence, tail, end }) = reader.sequence(at)? {
            // The sequence is whole if it has the entry that its head calls the tail.
            let whole = distance(at, tail, log.len) < distance(at, end, log.len).max(1);
            if whole && best.is_none_or(|(known, _)| sequence > known) {
                best = Some((sequence, tail));
            }
            if whole {
                next = if end > at { end } else { log.len };
            }
        }
        if next >= log.len {
            break;
        }
        at = next;
    }
    let Some((sequence, tail)) = best else { return Ok(Replay::default()) };
    reader.budget = u64::from(log.len) * 2;
    let mut replay = Replay::default();
    let mut at = tail;
    while let Some(entry) = reader.entry(at)? {
        if entry.flushed_file_offset > file.size() {
            return Err(damaged("vhdx: the file is shorter than its log says"));
        }
        patches(&entry, &mut replay)?;
        replay.file_len = entry.last_file_offset;
        if entry.sequence == sequence {
            break;
        }
        at = ((u64::from(at) + entry.bytes.len() as u64) % u64::from(log.len)) as u32;
    }
    // A length beyond all reason would not be a crash of ours.
    if replay.file_len > file.size().saturating_add(1 << 32) {
        return Err(damaged("vhdx: the log names a file length that cannot be"));
    }
    Ok(replay)
}

/// How far `to` is behind `from` in a ring.
fn distance(from: u32, to: u32, len: u32) -> u32 {
    if to >= from { to - from } else { len - from + to }
}

struct Reader<'a> {
    file: &'a dyn Node,
    log: &'a Place,
    /// Bytes of entries that may be looked at: a log that is not ours must not keep us.
    budget: u64,
}

impl Reader<'_> {
    fn bytes(&self, at: u32, buf: &mut [u8]) -> io::Result<()> {
        for (i, page) in buf.chunks_mut(PAGE).enumerate() {
            let at = (u64::from(at) + (i * PAGE) as u64) % u64::from(self.log.len);
            read_padded(self.file, self.log.offset + at, page)?;
        }
        Ok(())
    }

    /// Follows entries from `at` on to the last one that continues their sequence.
    fn sequence(&mut self, mut at: u32) -> io::Result<Option<Head>> {
        let mut head: Option<Head> = None;
        let mut left = u64::from(self.log.len);
        while let Some(entry) = self.entry(at)? {
            let len = entry.bytes.len() as u64;
            let continues = head.as_ref().is_none_or(|last| entry.sequence == last.sequence + 1);
            if !continues || len > left {
                break;
            }
            left -= len;
            at = ((u64::from(at) + len) % u64::from(self.log.len)) as u32;
            head = Some(Head { sequence: entry.sequence, tail: entry.tail, end: at });
            if left == 0 {
                break;
            }
        }
        Ok(head)
    }

    /// The entry at `at`, if there is a valid one.
    fn entry(&mut self, at: u32) -> io::Result<Option<Entry>> {
        let mut header = [0; PAGE];
        self.bytes(at, &mut header)?;
        let len = le32(&header, 8);
        let sequence = le64(&header, 16);
        let descriptors = le32(&header, 24);
        let tail = le32(&header, 12);
        let plausible = header.starts_with(b"loge")
            && header[32..48] == self.log.guid
            && len <= self.log.len
            && len as usize >= PAGE
            && (len as usize).is_multiple_of(PAGE)
            && sequence > 0
            && sequence < u64::MAX
            && tail < self.log.len
            && (tail as usize).is_multiple_of(PAGE)
            && descriptor_pages(descriptors) * PAGE as u64 <= u64::from(len);
        if !plausible {
            return Ok(None);
        }
        self.budget = self
            .budget
            .checked_sub(len.into())
            .ok_or_else(|| damaged("vhdx: the log is damaged beyond repair"))?;
        let mut bytes = vec![0; len as usize];
        self.bytes(at, &mut bytes)?;
        let stored = le32(&bytes, 4);
        bytes[4..8].fill(0);
        if crc32c(&bytes) != stored {
            return Ok(None);
        }
        Ok(Some(Entry {
            sequence,
            tail,
            flushed_file_offset: le64(&bytes, 48),
            last_file_offset: le64(&bytes, 56),
            bytes,
        }))
    }
}

/// Pages of the header and the descriptors.
fn descriptor_pages(count: u32) -> u64 {
    (ENTRY_HEADER as u64 + u64::from(count) * DESCRIPTOR as u64).div_ceil(PAGE as u64)
}

/// Adds what an entry says.
fn patches(entry: &Entry, replay: &mut Replay) -> io::Result<()> {
    let b = &entry.bytes[..];
    let bad = || damaged("vhdx: a valid log entry has a bad descriptor");
    let count = le32(b, 24);
    let mut data = descriptor_pages(count) as usize * PAGE;
    for i in 0..count as usize {
        let d = &b[ENTRY_HEADER + i * DESCRIPTOR..][..DESCRIPTOR];
        let at = le64(d, 16);
        if le64(d, 24) != entry.sequence || !at.is_multiple_of(PAGE as u64) {
            return Err(bad());
        }
        match &d[..4] {
            b"zero" => {
                let len = le64(d, 8);
                let inside = at.checked_add(len).is_some_and(|end| end <= entry.last_file_offset);
                if !inside || !len.is_multiple_of(PAGE as u64) {
                    return Err(bad());
                }
                replay.patches.push(Patch::Zero(at, len));
            }
            b"desc" => {
                let sector = b.get(data..data + PAGE).ok_or_else(bad)?;
                let sequence = u64::from(le32(sector, 4)) << 32 | u64::from(le32(sector, 4092));
                let inside = at < entry.last_file_offset;
                if !sector.starts_with(b"data") || sequence != entry.sequence || !inside {
                    return Err(bad());
                }
                let mut page = Box::new([0; PAGE]);
                page[..8].copy_from_slice(&d[8..16]);
                page[8..4092].copy_from_slice(&sector[8..4092]);
                page[4092..].copy_from_slice(&d[4..8]);
                replay.patches.push(Patch::Data(at, page));
                data += PAGE;
            }
            _ => return Err(bad()),
        }
    }
    Ok(())
}

/// Writes commits through the log.
pub(super) struct Log {
    place: Place,
    /// Where the next entry goes.
    at: u32,
    sequence: u64,
}

impl Log {
    /// An empty log.
    pub fn new(place: Place) -> Self {
        Self { place, at: 0, sequence: 1 }
    }

    fn entry(&self, pages: &[(u64, [u8; PAGE])], file_len: u64) -> Vec<u8> {
        let mut entry = vec![0; PAGE * (1 + pages.len())];
        let (first, sectors) = entry.split_at_mut(PAGE);
        put(first, 0, b"loge");
        put(first, 8, &((PAGE * (1 + pages.len())) as u32).to_le_bytes());
        put(first, 12, &self.at.to_le_bytes());
        put(first, 16, &self.sequence.to_le_bytes());
        put(first, 24, &(pages.len() as u32).to_le_bytes());
        put(first, 32, &self.place.guid);
        put(first, 48, &file_len.to_le_bytes());
        put(first, 56, &file_len.to_le_bytes());
        for (i, ((at, page), sector)) in pages.iter().zip(sectors.chunks_mut(PAGE)).enumerate() {
            let d = &mut first[ENTRY_HEADER + i * DESCRIPTOR..][..DESCRIPTOR];
            put(d, 0, b"desc");
            put(d, 4, &page[4092..]);
            put(d, 8, &page[..8]);
            put(d, 16, &at.to_le_bytes());
            put(d, 24, &self.sequence.to_le_bytes());
            put(sector, 0, b"data");
            put(sector, 4, &((self.sequence >> 32) as u32).to_le_bytes());
            put(sector, 8, &page[8..4092]);
            put(sector, 4092, &(self.sequence as u32).to_le_bytes());
        }
        let sum = crc32c(&entry);
        put(&mut entry, 4, &sum.to_le_bytes());
        entry
    }
}

impl Store for Log {
    fn write(&mut self, file: &dyn Node, changes: &[Change]) -> io::Result<()> {
        let mut pages: Vec<(u64, [u8; PAGE])> = Vec::new();
        for change in changes {
            let start = change.at - change.at % PAGE as u64;
            if pages.last().is_none_or(|(at, _)| *at != start) {
                let mut page = [0; PAGE];
                read_padded(file, start, &mut page)?;
                pages.push((start, page));
            }
            let (_, page) = pages.last_mut().expect("it was just pushed");
            let within = (change.at - start) as usize;
            page[within..within + SECTOR as usize].copy_from_slice(&change.bytes);
        }
        for batch in pages.chunks(FIRST_DESCRIPTORS) {
            // Data, and the pages of the entry before, which is forgotten now.
            file.flush()?;
            let len = (PAGE * (1 + batch.len())) as u32;
            if self.at + len > self.place.len {
                self.at = 0;
            }
            let entry = self.entry(batch, file.size());
            write(file, self.place.offset + u64::from(self.at), &entry)?;
            file.flush()?;
            self.at += len;
            self.sequence += 1;
            for (at, page) in batch {
                write(file, *at, page)?;
            }
        }
        Ok(())
    }
}
