//! Moving the content of a range from one node to another.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use graph::{Compress, ExtentKind, Image, Member, Node, WriteFlags, ZeroFlags};

use super::Layers;
use crate::job::Operation;
use crate::zeroes::{Run, runs};

/// Most bytes of data that are read at a time.
pub(crate) const BUFFER: u64 = 1 << 20;
/// Most bytes of zeroes that are written at a time.
pub(crate) const ZEROES: u64 = 1 << 30;
/// Zeroes in data count from so many bytes on.
const SPARSE: usize = 4096;
/// Buffers kept for later.
const SPARE: usize = 16;

/// Copies ranges of what a node shows to another node.
pub(crate) struct Transfer {
    /// The node read from; its own methods are used, so the caller keeps drains away.
    pub source: Arc<Member>,
    /// Whatever the content is written to.
    pub target: Arc<dyn Node>,
    /// Zeroes give their space back.
    pub unmap: bool,
    /// Data goes through the target's compression.
    pub compress: bool,
    spare: Mutex<Vec<Vec<u8>>>,
}

/// An error with the side that it happened on.
pub(crate) type Sided<T> = Result<T, (Operation, io::Error)>;

impl Transfer {
    pub fn new(source: Arc<Member>, target: Arc<dyn Node>, unmap: bool, compress: bool) -> Self {
        Self { source, target, unmap, compress, spare: Mutex::default() }
    }

    /// Copies a range that lies within both nodes.
    pub fn copy(&self, offset: u64, len: u64) -> Sided<()> {
        self.copy_layers(&Layers::of(&self.source), offset, len)
    }

    /// Copies what `layers`, the uppermost ones of the source, say about a range.
    pub fn copy_layers(&self, layers: &Layers, offset: u64, len: u64) -> Sided<()> {
        let (mut at, end) = (offset, offset + len);
        while at < end {
            let status = layers.status(at, end - at);
            let (kind, len) = status.map_err(|error| (Operation::Read, error))?;
            match kind {
                ExtentKind::Data | ExtentKind::Compressed => self.copy_data(at, len)?,
                ExtentKind::Zero | ExtentKind::Unallocated => self.zero(at, len)?,
            }
            at += len;
        }
        Ok(())
    }

    fn zero(&self, offset: u64, len: u64) -> Sided<()> {
        let flags = ZeroFlags { unmap: self.unmap, ..ZeroFlags::default() };
        self.target.write_zeroes(offset, len, flags).map_err(|error| (Operation::Write, error))
    }

    /// Copies a range whatever its content is.
    pub fn copy_data(&self, offset: u64, len: u64) -> Sided<()> {
        let mut buf = self.spare.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let buf = buf.get_or_insert_default();
        let (mut at, end) = (offset, offset + len);
        let mut done = Ok(());
        while at < end && done.is_ok() {
            let len = BUFFER.min(end - at);
            buf.resize(len as usize, 0);
            let read = self.source.node().read_at(at, buf);
            done = read.map_err(|e| (Operation::Read, e)).and_then(|()| self.write(at, buf));
            at += len;
        }
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.len() < SPARE {
            spare.push(std::mem::take(buf));
        }
        done
    }

    fn write(&self, offset: u64, buf: &[u8]) -> Sided<()> {
        if let Some(compress) = self.compressor(offset, buf.len() as u64) {
            return self.write_compressed(compress, offset, buf);
        }
        for Run { start, len, zero } in runs(buf, SPARSE) {
            let at = offset + start as u64;
            if zero {
                self.zero(at, len as u64)?;
            } else {
                let data = &buf[start..start + len];
                let done = self.target.write_at(at, data, WriteFlags::default());
                done.map_err(|error| (Operation::Write, error))?;
            }
        }
        Ok(())
    }

    /// The target's compression, if the range is made of whole units.
    fn compressor(&self, offset: u64, len: u64) -> Option<&dyn Compress> {
        if !self.compress {
            return None;
        }
        let compress = self.target.image().and_then(Image::compress)?;
        let (unit, end) = (compress.unit(), offset + len);
        let whole =
            offset.is_multiple_of(unit) && (end.is_multiple_of(unit) || end == self.target.size());
        whole.then_some(compress)
    }

    fn write_compressed(&self, compress: &dyn Compress, offset: u64, buf: &[u8]) -> Sided<()> {
        let unit = compress.unit();
        for (i, part) in buf.chunks(unit as usize).enumerate() {
            let at = offset + i as u64 * unit;
            let done = match graph::is_zero(part) {
                true => {
                    self.zero(at, part.len() as u64)?;
                    continue;
                }
                false => compress.write_compressed(at, part),
            };
            done.map_err(|error| (Operation::Write, error))?;
        }
        Ok(())
    }
}
