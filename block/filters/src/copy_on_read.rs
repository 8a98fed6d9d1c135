//! `copy-on-read`: what is read from a backing file is kept in the image above it.
//!
//! With a bottom, only what that layer or one above it has is kept.

use std::io;
use std::sync::Arc;

use graph::{
    Event, ExtentKind, Node, OpenError, RangeLocks, Sharing, WriteFlags, ZeroFlags, is_zero,
    status_above,
};

use crate::passing::{Filter, Passing};

/// Most bytes that are fetched at a time.
const MOST: u64 = 1 << 20;
/// What is kept together if the image has no clusters.
const SECTOR: u64 = graph::SECTOR;

struct CopyOnRead {
    below: Arc<dyn Node>,
    /// How many layers below the image the last one is whose content is kept.
    bottom: Option<u32>,
    cluster: u64,
    busy: RangeLocks,
}

/// A node that keeps in `below` what is read through it; with a bottom only what comes from at most so
/// many layers below the image.
///
/// # Errors
/// `Option` with QEMU's text when the image cannot be written.
pub fn copy_on_read(below: Arc<dyn Node>, bottom: Option<u32>) -> Result<Arc<dyn Node>, OpenError> {
    if below.read_only() {
        return Err(OpenError::Option("Block node is read-only".to_owned()));
    }
    let cluster = below.info().cluster_size.map_or(SECTOR, u64::from).max(SECTOR);
    Ok(Arc::new(Passing(CopyOnRead { below, bottom, cluster, busy: RangeLocks::default() })))
}

impl CopyOnRead {
    /// What to do with the bytes from `at` on: whether they are to be kept, and how many.
    fn look(&self, at: u64, len: u64) -> io::Result<(bool, u64)> {
        let own = self.below.block_status(at, len)?;
        if own.kind != ExtentKind::Unallocated {
            return Ok((false, own.len));
        }
        let Some(bottom) = self.bottom else { return Ok((true, own.len)) };
        let status = status_above(&self.below, None, at, own.len)?;
        let found = status.kind != ExtentKind::Unallocated && status.depth <= bottom;
        Ok((found, status.len))
    }

    /// Reads whole clusters, keeps them, and hands out the part that was asked for.
    fn fetch(&self, at: u64, buf: &mut [u8]) -> io::Result<()> {
        let end = at + buf.len() as u64;
        let from = at - at % self.cluster;
        let to = end.next_multiple_of(self.cluster).min(self.below.size());
        let _alone = self.busy.lock(from, to, Sharing::Exclusive);
        let mut bytes = vec![0; (to - from) as usize];
        self.below.read_at(from, &mut bytes)?;
        let mut done = from;
        while done < to {
            // Somebody may have written in between.
            let (keep, len) = self.look(done, to - done)?;
            let part = &bytes[(done - from) as usize..][..len as usize];
            if keep {
                self.below.event(Event::CorWrite);
                if is_zero(part) {
                    self.below.write_zeroes(done, len, ZeroFlags::default())?;
                } else {
                    self.below.write_at(done, part, WriteFlags::default())?;
                }
            }
            done += len;
        }
        buf.copy_from_slice(&bytes[(at - from) as usize..][..buf.len()]);
        Ok(())
    }
}

impl Filter for CopyOnRead {
    fn driver(&self) -> &'static str {
        "copy-on-read"
    }

    fn below(&self) -> &Arc<dyn Node> {
        &self.below
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        graph::check_range(offset, buf.len() as u64, self.size())?;
        let mut done = 0;
        while done < buf.len() {
            let at = offset + done as u64;
            let (keep, len) = self.look(at, (buf.len() - done) as u64)?;
            let len = if keep { len.min(MOST) } else { len };
            let part = &mut buf[done..done + len as usize];
            if keep {
                self.fetch(at, part)?
            } else {
                self.below.read_at(at, part)?
            }
            done += len as usize;
        }
        Ok(())
    }

    fn write_at(&self, offset: u64, buf: &[u8], flags: WriteFlags) -> io::Result<()> {
        let _shared = self.hold(offset, buf.len() as u64);
        self.below.write_at(offset, buf, flags)
    }

    fn write_zeroes(&self, offset: u64, len: u64, flags: ZeroFlags) -> io::Result<()> {
        let _shared = self.hold(offset, len);
        self.below.write_zeroes(offset, len, flags)
    }

    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        let _shared = self.hold(offset, len);
        self.below.discard(offset, len)
    }
}

impl CopyOnRead {
    /// Keeps those away who would write back what they read before.
    fn hold(&self, offset: u64, len: u64) -> graph::RangeGuard<'_> {
        let end = offset.saturating_add(len);
        let end = end.checked_next_multiple_of(self.cluster).unwrap_or(u64::MAX);
        self.busy.lock(offset - offset % self.cluster, end, Sharing::Shared)
    }
}
