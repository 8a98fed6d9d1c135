//! Reading: where the bytes of a range come from, and fetching them.

use std::io;

use graph::{Event, Extent, ExtentKind, Node, NodeInfo, WriteFlags, ZeroFlags};

use super::Qcow2;
use super::codec::read_padded;
use super::layout::{Entry, Packed};
use super::meta::Meta;

/// Where the content of a range comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// Stored at this host offset.
    Data(u64),
    /// Stored compressed; the number is the offset inside the unpacked cluster.
    Packed(Packed, u64),
    /// Zeroes.
    Zero,
    /// The backing file, or zeroes without one.
    Backing,
}

impl Source {
    /// Whether `next` continues this source `len` bytes further on.
    fn continues(&self, next: &Self, len: u64) -> bool {
        match (self, next) {
            (Self::Data(a), Self::Data(b)) => a.checked_add(len) == Some(*b),
            (Self::Zero, Self::Zero) | (Self::Backing, Self::Backing) => true,
            _ => false,
        }
    }
}

impl Qcow2 {
    /// Resolves the bytes from `guest` on; the answer holds for the returned length (> 0).
    pub(super) fn resolve(
        &self,
        meta: &mut Meta,
        guest: u64,
        max: u64,
    ) -> io::Result<(Source, u64)> {
        self.resolve_with(&*self.file, meta, guest, max)
    }

    /// The same, reading table slices that are not in memory from `file`.
    pub(super) fn resolve_with(
        &self,
        file: &dyn Node,
        meta: &mut Meta,
        guest: u64,
        max: u64,
    ) -> io::Result<(Source, u64)> {
        let (first, mut len) = self.piece(file, meta, guest)?;
        while len < max {
            let (next, more) = self.piece(file, meta, guest + len)?;
            if !first.continues(&next, len) {
                break;
            }
            len += more;
        }
        Ok((first, len.min(max)))
    }

    /// The same for clusters whose entries say the same, or for the range of one missing L2 table.
    fn piece(&self, file: &dyn Node, meta: &mut Meta, guest: u64) -> io::Result<(Source, u64)> {
        let layout = &self.layout;
        if !meta.has_l2(guest) {
            let covered = layout.l2_entries * layout.cluster;
            // The check that an L1 entry exists at all.
            meta.entry(file, guest)?;
            return Ok((Source::Backing, covered - guest % covered));
        }
        let (entry, alike) = meta.entries_alike(file, guest)?;
        let within = guest % layout.cluster;
        if let Some(packed) = entry.packed {
            return Ok((Source::Packed(packed, within), layout.cluster - within));
        }
        let kind = |sub: u64| (entry.data >> sub & 1, entry.zero >> sub & 1);
        let first = within / layout.sub();
        let mut last = first + 1;
        while last < u64::from(layout.subs) && kind(last) == kind(first) {
            last += 1;
        }
        let source = match (kind(first), entry.host) {
            ((1, _), Some(host)) => Source::Data(host + within),
            ((_, 1), _) => Source::Zero,
            _ => Source::Backing,
        };
        let len = if layout.subs == 1 { alike * layout.cluster } else { last * layout.sub() };
        Ok((source, len - within))
    }

    /// Reads without taking the range: the caller has.
    pub(super) fn read_held(&self, guest: u64, buf: &mut [u8]) -> io::Result<()> {
        let mut done = 0;
        while done < buf.len() {
            let at = guest + done as u64;
            let left = (buf.len() - done) as u64;
            let (source, len) = self.resolve(&mut self.meta(), at, left)?;
            self.fetch(source, at, &mut buf[done..done + len as usize])?;
            done += len as usize;
        }
        Ok(())
    }

    /// Reads if tables and data are in memory and nobody changes the clusters.
    pub(super) fn read_now(&self, guest: u64, buf: &mut [u8]) -> io::Result<()> {
        let waiting = || io::Error::from(io::ErrorKind::WouldBlock);
        let end = guest + buf.len() as u64;
        let _range = self.try_hold(guest, end).ok_or_else(waiting)?;
        let file = Cached(&*self.file);
        let data = Cached(&*self.data);
        let mut done = 0;
        while done < buf.len() {
            let at = guest + done as u64;
            let left = (buf.len() - done) as u64;
            let (source, len) = {
                let mut meta = self.meta.try_lock().map_err(|_| waiting())?;
                self.resolve_with(&file, &mut meta, at, left)?
            };
            let part = &mut buf[done..done + len as usize];
            match (source, &self.backing) {
                (Source::Data(host), _) => self.read_data(&data, host, at, part)?,
                (Source::Backing, Some(backing)) => read_padded(&Cached(&**backing), at, part)?,
                (Source::Zero | Source::Backing, _) => part.fill(0),
                (Source::Packed(..), _) => return Err(waiting()),
            }
            done += len as usize;
        }
        Ok(())
    }

    pub(super) fn fetch(&self, source: Source, guest: u64, buf: &mut [u8]) -> io::Result<()> {
        match source {
            Source::Data(host) => {
                self.data.event(Event::ReadAio);
                self.read_data(&*self.data, host, guest, buf)
            }
            Source::Packed(place, within) => {
                self.file.event(Event::ReadCompressed);
                self.unpacker.read(&*self.file, place, within, buf)
            }
            Source::Zero => {
                buf.fill(0);
                Ok(())
            }
            Source::Backing => match &self.backing {
                Some(backing) => {
                    self.file.event(Event::ReadBackingAio);
                    read_padded(&**backing, guest, buf)
                }
                None => {
                    buf.fill(0);
                    Ok(())
                }
            },
        }
    }

    /// Whether the range reads as zeroes as far as tables tell.
    pub(super) fn reads_zero(&self, meta: &mut Meta, guest: u64, len: u64) -> io::Result<bool> {
        let mut done = 0;
        while done < len {
            let (source, n) = self.resolve(meta, guest + done, len - done)?;
            if !self.is_zero(&source, guest + done) {
                return Ok(false);
            }
            done += n;
        }
        Ok(true)
    }

    /// Whether what comes from `source` at `guest` is zeroes.
    pub(super) fn is_zero(&self, source: &Source, guest: u64) -> bool {
        match source {
            Source::Zero => true,
            Source::Backing => !self.has_backing_at(guest),
            _ => false,
        }
    }

    /// Whether a backing file has bytes from `guest` on.
    pub(super) fn has_backing_at(&self, guest: u64) -> bool {
        self.backing.as_ref().is_some_and(|b| guest < b.size())
    }

    /// Tells where the bytes from `guest` on come from.
    pub(super) fn status(&self, guest: u64, len: u64) -> io::Result<Extent> {
        let (source, len) = self.resolve(&mut self.meta(), guest, len)?;
        let (kind, host_offset) = match source {
            // What is encrypted is not there as it is.
            Source::Data(host) => (ExtentKind::Data, Some(host).filter(|_| self.crypt.is_none())),
            Source::Packed(..) => (ExtentKind::Compressed, None),
            Source::Zero => (ExtentKind::Zero, None),
            Source::Backing => (ExtentKind::Unallocated, None),
        };
        Ok(Extent { kind, len, host_offset })
    }

    /// The entry of a cluster with the facts a change needs.
    pub(super) fn entry_of(&self, meta: &mut Meta, guest: u64) -> io::Result<Entry> {
        meta.entry(&*self.file, guest)
    }
}

/// A node as far as its bytes are in memory: everything else would block.
pub(super) struct Cached<'a>(pub &'a dyn Node);

impl Node for Cached<'_> {
    fn size(&self) -> u64 {
        self.0.size()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        if self.0.read_cached(offset, buf) { Ok(()) } else { Err(io::ErrorKind::WouldBlock.into()) }
    }

    fn write_at(&self, _offset: u64, _buf: &[u8], _flags: WriteFlags) -> io::Result<()> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn write_zeroes(&self, _offset: u64, _len: u64, _flags: ZeroFlags) -> io::Result<()> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn discard(&self, _offset: u64, _len: u64) -> io::Result<()> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn flush(&self) -> io::Result<()> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn block_status(&self, _offset: u64, _len: u64) -> io::Result<Extent> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn read_only(&self) -> bool {
        true
    }

    fn info(&self) -> NodeInfo {
        self.0.info()
    }
}
