//! Reading, writing, zeroing and discarding through a block map.

use std::io;

use graph::{Event, Node, Sharing, ZeroFlags};

use super::codec::{grow, write};
use super::{Blocks, Piece, Place, Space, State};

/// Most bytes of a write that are planned at once.
const ROUND: u64 = 16 << 20;

/// Largest piece that is assembled in memory to save small writes.
const ASSEMBLE: u64 = 256 << 10;

/// Most bytes of an edge that are copied at once.
const COPY: u64 = 1 << 20;

/// Most entries that one answer looks at, so that others get their turn.
const MOST_LOOKUPS: usize = 4096;

/// Part of a write request inside one block.
struct Part {
    /// Guest offsets of the data.
    start: u64,
    end: u64,
    /// Offset of the block's first byte in the file.
    host: u64,
    /// The block has just got this place.
    new: Option<New>,
}

#[derive(Clone, Copy)]
struct New {
    space: Space,
    /// The file reads as zeroes there.
    fresh: bool,
}

impl Place {
    /// Whether `next` continues this place `len` bytes further on.
    fn continues(&self, next: &Self, len: u64) -> bool {
        match (self, next) {
            (Self::Data(a), Self::Data(b)) => a.checked_add(len) == Some(*b),
            (Self::Zero, Self::Zero) | (Self::Unallocated, Self::Unallocated) => true,
            _ => false,
        }
    }
}

impl Blocks {
    /// Where the bytes from `guest` on are; the answer holds for the returned length (0 only if
    /// `max` is).
    pub(super) fn resolve(&self, guest: u64, max: u64) -> io::Result<(Place, u64)> {
        let mut state = self.state();
        let State { map, tables, .. } = &mut *state;
        if max == 0 {
            return Ok((Place::Unallocated, 0));
        }
        let (first, mut len) = map.lookup(tables, &*self.file, guest)?;
        for _ in 0..MOST_LOOKUPS {
            if len >= max {
                break;
            }
            let (next, more) = map.lookup(tables, &*self.file, guest + len)?;
            if !first.continues(&next, len) {
                break;
            }
            len += more;
        }
        Ok((first, len.min(max)))
    }

    /// Reads without taking the range: the caller has.
    pub(super) fn read_held(&self, guest: u64, buf: &mut [u8]) -> io::Result<()> {
        let mut done = 0;
        while done < buf.len() {
            let at = guest + done as u64;
            let (place, len) = self.resolve(at, (buf.len() - done) as u64)?;
            self.fetch(place, at, &mut buf[done..done + len as usize])?;
            done += len as usize;
        }
        Ok(())
    }

    fn fetch(&self, place: Place, guest: u64, buf: &mut [u8]) -> io::Result<()> {
        match place {
            Place::Data(host) => {
                self.file.event(Event::ReadAio);
                super::codec::read_padded(&*self.file, host, buf)
            }
            Place::Packed(piece, within) => self.unpacked.read(&*self.file, piece, within, buf),
            Place::Zero => {
                buf.fill(0);
                Ok(())
            }
            Place::Unallocated => match &self.backing {
                Some(backing) => super::codec::read_padded(&**backing, guest, buf),
                None => {
                    buf.fill(0);
                    Ok(())
                }
            },
        }
    }

    /// Whether the backing file has something to say about a byte.
    fn has_backing_at(&self, guest: u64) -> bool {
        self.backing.as_ref().is_some_and(|b| guest < b.size())
    }

    /// Whether a range is zeroes without looking at data.
    fn reads_zero(&self, from: u64, to: u64) -> io::Result<bool> {
        let mut at = from;
        while at < to {
            let (place, len) = self.resolve(at, to - at)?;
            match place {
                Place::Zero => {}
                Place::Unallocated if !self.has_backing_at(at) => {}
                _ => return Ok(false),
            }
            at += len;
        }
        Ok(true)
    }

    /// Writes `buf` at `guest`, inside the disk.
    pub(super) fn write_data(&self, guest: u64, buf: &[u8]) -> io::Result<()> {
        let end = guest + buf.len() as u64;
        {
            let _range = self.hold(guest, end, Sharing::Shared);
            if self.write_in_place(guest, buf)? {
                return Ok(());
            }
        }
        let _range = self.hold(guest, end, Sharing::Exclusive);
        self.write_held(guest, buf)
    }

    /// Writes if every block has its place already; `false` without writing otherwise.
    fn write_in_place(&self, guest: u64, buf: &[u8]) -> io::Result<bool> {
        let end = guest + buf.len() as u64;
        let mut runs = Vec::new();
        let mut at = guest;
        while at < end {
            let (Place::Data(host), len) = self.resolve(at, end - at)? else { return Ok(false) };
            runs.push((host, at, len));
            at += len;
        }
        for (host, at, len) in runs {
            self.file.event(Event::WriteAio);
            write(&*self.file, host, &buf[(at - guest) as usize..][..len as usize])?;
        }
        Ok(true)
    }

    fn write_held(&self, guest: u64, buf: &[u8]) -> io::Result<()> {
        let end = guest + buf.len() as u64;
        let mut at = guest;
        if self.pack.as_ref().is_some_and(|pack| pack.always()) {
            for part in buf.chunks(self.block as usize) {
                self.write_packed(at, part)?;
                at += part.len() as u64;
            }
            return Ok(());
        }
        while at < end {
            self.commit_if_crowded()?;
            let stop = end.min((at - at % self.block).saturating_add(ROUND.max(self.block)));
            let parts = self.plan(at, stop)?;
            let stored = self.store_parts(&parts, &buf[(at - guest) as usize..]);
            self.link_parts(&parts, stored.is_ok())?;
            stored?;
            at = stop;
        }
        Ok(())
    }

    /// Stores one whole block, whose range is held, packed.
    pub(super) fn write_packed(&self, guest: u64, data: &[u8]) -> io::Result<()> {
        let pack = self.pack.as_ref().ok_or(io::ErrorKind::Unsupported)?;
        let stop = guest.saturating_add(self.block).min(self.size());
        if !guest.is_multiple_of(self.block) || guest + data.len() as u64 != stop {
            let text = "compressed blocks can only be written as a whole";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let (place, _) = self.resolve(guest, 1)?;
        if pack.always() && matches!(place, Place::Packed(..) | Place::Data(_)) {
            return Err(io::Error::other("a block of this image can be written only once"));
        }
        let mut block = std::borrow::Cow::Borrowed(data);
        if (data.len() as u64) < self.block {
            block.to_mut().resize(self.block as usize, 0);
        }
        let Some(packed) = pack.pack(guest, &block)? else { return self.write_held(guest, data) };
        let file = &*self.file;
        let len = packed.len() as u64;
        let at = {
            let mut state = self.state();
            let at = state.map.allocate_packed(file, len)?;
            grow(file, at + len)?;
            at
        };
        // A read of the place before it had this content may be kept.
        self.unpacked.forget(at);
        write(file, at, &packed)?;
        let mut state = self.state();
        let State { map, tables, .. } = &mut *state;
        map.link_packed(tables, file, guest, Piece { at, len })
    }

    /// Finds a place for each block of a range, and makes the file reach to it.
    fn plan(&self, start: u64, end: u64) -> io::Result<Vec<Part>> {
        let mut parts = Vec::new();
        let mut state = self.state();
        let planned = self.plan_into(&mut state, start, end, &mut parts);
        if planned.is_err() {
            state.spare.extend(parts.iter().filter_map(|p| p.new.map(|new| new.space)));
        }
        planned.map(|()| parts)
    }

    fn plan_into(
        &self,
        state: &mut State,
        start: u64,
        end: u64,
        parts: &mut Vec<Part>,
    ) -> io::Result<()> {
        let file = &*self.file;
        let mut at = start;
        while at < end {
            let first = at - at % self.block;
            let stop = end.min(first.saturating_add(self.block));
            let (place, _) = state.map.lookup(&mut state.tables, file, at)?;
            let part = match place {
                Place::Data(host) => {
                    Part { start: at, end: stop, host: host - (at - first), new: None }
                }
                _ => {
                    let new = match state.spare.pop() {
                        Some(space) => New { space, fresh: false },
                        None => {
                            let space = state.map.allocate(&mut state.tables, file, first)?;
                            New { space, fresh: space.host >= file.size() }
                        }
                    };
                    Part { start: at, end: stop, host: new.space.host, new: Some(new) }
                }
            };
            let reach = part.new.map_or(0, |new| new.space.end);
            parts.push(part);
            grow(file, reach)?;
            at = stop;
        }
        Ok(())
    }

    /// Writes the data of planned parts and the edges of new blocks.
    fn store_parts(&self, parts: &[Part], buf: &[u8]) -> io::Result<()> {
        let (Some(first), Some(last)) = (parts.first(), parts.last()) else { return Ok(()) };
        let start = first.start;
        let block_start = start - start % self.block;
        let block_end = last.start - last.start % self.block + self.block;
        let with_head = self.edge_needed(first, block_start, start)?;
        let with_tail = self.edge_needed(last, last.end, block_end)?;
        let contiguous =
            parts.windows(2).all(|p| p[0].host.checked_add(self.block) == Some(p[1].host));
        let from = if with_head { block_start } else { start };
        let to = if with_tail { block_end } else { last.end };
        if (with_head || with_tail) && contiguous && to - from <= ASSEMBLE {
            let mut whole = vec![0; (to - from) as usize];
            let (head, rest) = whole.split_at_mut((start - from) as usize);
            let (body, tail) = rest.split_at_mut((last.end - start) as usize);
            self.read_edge(from, head)?;
            body.copy_from_slice(&buf[..body.len()]);
            self.read_edge(last.end, tail)?;
            self.file.event(Event::WriteAio);
            return write(&*self.file, first.host + (from - block_start), &whole);
        }
        if with_head {
            self.copy_edge(first, block_start, start)?;
        }
        for run in parts.chunk_by(|a, b| a.host.checked_add(self.block) == Some(b.host)) {
            let (a, b) = (&run[0], &run[run.len() - 1]);
            let host = a.host + a.start % self.block;
            let bytes = &buf[(a.start - start) as usize..(b.end - start) as usize];
            self.file.event(Event::WriteAio);
            write(&*self.file, host, bytes)?;
        }
        if with_tail { self.copy_edge(last, last.end, block_end) } else { Ok(()) }
    }

    /// Whether the part of a new block that is not written by the guest must be written by us.
    fn edge_needed(&self, part: &Part, from: u64, to: u64) -> io::Result<bool> {
        let Some(new) = part.new else { return Ok(false) };
        if from == to {
            return Ok(false);
        }
        Ok(!new.fresh || !self.reads_zero(from, to.min(self.size()).max(from))?)
    }

    /// The content of an edge; what is behind the disk's end is zero.
    fn read_edge(&self, from: u64, buf: &mut [u8]) -> io::Result<()> {
        let inside = self.size().saturating_sub(from).min(buf.len() as u64) as usize;
        buf[inside..].fill(0);
        self.read_held(from, &mut buf[..inside])
    }

    fn copy_edge(&self, part: &Part, from: u64, to: u64) -> io::Result<()> {
        let mut buf = vec![0; COPY.min(to - from) as usize];
        let mut at = from;
        while at < to {
            let n = COPY.min(to - at) as usize;
            self.read_edge(at, &mut buf[..n])?;
            self.file.event(Event::WriteAio);
            write(&*self.file, part.host + at % self.block, &buf[..n])?;
            at += n as u64;
        }
        Ok(())
    }

    /// Makes the table refer to new blocks, or keeps their places for others.
    fn link_parts(&self, parts: &[Part], stored: bool) -> io::Result<()> {
        let mut state = self.state();
        let State { map, tables, spare } = &mut *state;
        let mut result = Ok(());
        for part in parts {
            let Some(new) = part.new else { continue };
            let first = part.start - part.start % self.block;
            if stored && result.is_ok() {
                result = map.link(tables, &*self.file, first, new.space.host);
            }
            if !stored || result.is_err() {
                spare.push(new.space);
            }
        }
        result
    }

    /// Makes a range read as zeroes: stored blocks in the file, others by their entries.
    pub(super) fn zero_range(&self, guest: u64, len: u64, flags: ZeroFlags) -> io::Result<()> {
        let end = guest + len;
        let mut at = guest;
        while at < end {
            self.commit_if_crowded()?;
            let stop = end.min((at - at % self.block).saturating_add(ROUND.max(self.block)));
            let _range = self.hold(at, stop, Sharing::Exclusive);
            while at < stop {
                at += self.zero_piece(at, stop, flags)?;
            }
        }
        Ok(())
    }

    /// Zeroes the start of a range whose blocks are held; returns how many bytes.
    fn zero_piece(&self, at: u64, end: u64, flags: ZeroFlags) -> io::Result<u64> {
        let (place, len) = self.resolve(at, end - at)?;
        match place {
            Place::Zero => return Ok(len),
            Place::Unallocated if !self.has_backing_at(at) => return Ok(len),
            Place::Data(host) => {
                let flags = ZeroFlags { fua: false, ..flags };
                self.file.write_zeroes(host, len, flags)?;
                return Ok(len);
            }
            Place::Unallocated | Place::Packed(..) => {}
        }
        let first = at - at % self.block;
        let block_end = first.saturating_add(self.block).min(self.size());
        let stop = block_end.min(end);
        if at == first && stop == block_end {
            let mut state = self.state();
            let State { map, tables, .. } = &mut *state;
            if map.set_zero(tables, &*self.file, first)? {
                return Ok(stop - at);
            }
        }
        let len = (stop - at).min(COPY);
        self.write_held(at, &vec![0; len as usize])?;
        Ok(len)
    }

    /// Gives the space of stored blocks back to the file's host; they read as zeroes then.
    pub(super) fn discard_range(&self, guest: u64, len: u64) -> io::Result<()> {
        let end = guest + len;
        let mut at = guest;
        let flags = ZeroFlags { unmap: true, fua: false };
        while at < end {
            let stop = end.min((at - at % self.block).saturating_add(ROUND.max(self.block)));
            let _range = self.hold(at, stop, Sharing::Shared);
            while at < stop {
                let (place, len) = self.resolve(at, stop - at)?;
                if let Place::Data(host) = place {
                    self.file.write_zeroes(host, len, flags)?;
                }
                at += len;
            }
        }
        Ok(())
    }
}
