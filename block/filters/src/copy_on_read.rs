//! `copy-on-read`: what is read from a backing file is kept in the image above it.
//!
//! With a bottom, only what that layer or one above it has is kept.

use std::io;
use std::sync::Arc;

use graph::{
    Event, ExtentKind, Node, OpenError, RangeLocks, Sharing, WriteFlags, ZeroFlags, backing_of,
    is_zero, status_above,
};

use crate::passing::{Filter, Passing};

/// Most bytes that are fetched at a time.
const MOST: u64 = 1 << 20;
/// What is kept together if the image has no clusters.
const SECTOR: u64 = graph::SECTOR;

struct CopyOnRead {
    below: Arc<dyn Node>,
    /// The layer below the last one whose content is kept.
    base: Option<Arc<dyn Node>>,
    bottomed: bool,
    cluster: u64,
    busy: RangeLocks,
}

/// A node that keeps in `below` what is read through it; of the layers down to and with `bottom`, if
/// there is one.
///
/// # Errors
/// `Option` with QEMU's text: the image cannot be written, the bottom is no layer of it.
pub fn copy_on_read(
    below: Arc<dyn Node>,
    bottom: Option<(&str, Arc<dyn Node>)>,
) -> Result<Arc<dyn Node>, OpenError> {
    let refuse = |text: String| Err(OpenError::Option(text));
    if below.read_only() {
        return refuse("Block node is read-only".to_owned());
    }
    let cluster = below.info().cluster_size.map_or(SECTOR, u64::from).max(SECTOR);
    let (mut base, bottomed) = (None, bottom.is_some());
    if let Some((name, bottom)) = bottom {
        let mut layers = std::iter::successors(Some(Arc::clone(&below)), |n| backing_of(&**n));
        if !layers.any(|layer| same(&layer, &bottom)) {
            return refuse(format!("'{name}' is not in the backing chain of the node"));
        }
        base = backing_of(&*bottom);
    }
    Ok(Arc::new(Passing(CopyOnRead {
        below,
        base,
        bottomed,
        cluster,
        busy: RangeLocks::default(),
    })))
}

fn same(a: &Arc<dyn Node>, b: &Arc<dyn Node>) -> bool {
    Arc::ptr_eq(a, b)
}

impl CopyOnRead {
    /// What to do with the bytes from `at` on: whether they are to be kept, and how many.
    fn look(&self, at: u64, len: u64) -> io::Result<(bool, u64)> {
        let own = self.below.block_status(at, len)?;
        if own.kind != ExtentKind::Unallocated {
            return Ok((false, own.len));
        }
        if !self.bottomed {
            return Ok((true, own.len));
        }
        let status = status_above(&self.below, self.base.as_ref(), at, own.len)?;
        Ok((status.kind != ExtentKind::Unallocated, status.len))
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
