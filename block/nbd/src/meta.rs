//! Metadata contexts: what is known about ranges of an export, beside their content.

use graph::{Bitmaps, ExtentKind, Image, Node};
use jobs::site::Loan;
use jobs::status_above;
use std::io;
use std::sync::Arc;

/// Flags of `base:allocation`.
pub(crate) const HOLE: u64 = 1;
/// The range reads as zeroes.
pub(crate) const ZERO: u64 = 2;
/// Flag of a dirty bitmap.
const DIRTY: u64 = 1;

/// A context that a server has.
#[derive(Clone)]
pub(crate) enum Context {
    /// `base:allocation`
    Allocation,
    /// `qemu:allocation-depth`
    Depth,
    /// `qemu:dirty-bitmap:NAME` of a bitmap that the image has.
    Bitmap(String),
    /// The same of one that was borrowed.
    Borrowed(Arc<Loan>),
}

/// Name of the context that every server has.
pub(crate) const ALLOCATION: &str = "base:allocation";
const DEPTH: &str = "qemu:allocation-depth";
const BITMAP: &str = "qemu:dirty-bitmap:";

impl Context {
    /// The name as clients ask for it.
    pub fn name(&self) -> String {
        match self {
            Self::Allocation => ALLOCATION.to_owned(),
            Self::Depth => DEPTH.to_owned(),
            Self::Bitmap(name) => format!("{BITMAP}{name}"),
            Self::Borrowed(loan) => format!("{BITMAP}{}", loan.name()),
        }
    }

    /// Whether a client that asks with these words means this context. `listing`: a name space, or
    /// the first part of a name, means all that is in it.
    pub fn answers(&self, query: &str, listing: bool) -> bool {
        let name = self.name();
        name == query || listing && query.ends_with(':') && name.starts_with(query)
    }

    /// What is known from `offset` on: a length of at most `len`, and flags.
    ///
    /// # Errors
    /// Whatever the node reports.
    pub fn extent(&self, node: &Arc<dyn Node>, offset: u64, len: u64) -> io::Result<(u64, u64)> {
        match self {
            Self::Bitmap(name) => {
                let bitmaps = bitmaps(&**node).ok_or(io::ErrorKind::Unsupported)?;
                Ok(dirty_extent(bitmaps.next_dirty(name, offset)?, offset, len))
            }
            Self::Borrowed(loan) => Ok(dirty_extent(loan.next_dirty(offset)?, offset, len)),
            Self::Allocation => {
                let status = status_above(node, None, offset, len)?;
                let flags = match status.kind {
                    ExtentKind::Data | ExtentKind::Compressed => 0,
                    ExtentKind::Zero if status.extent.host_offset.is_some() => ZERO,
                    ExtentKind::Zero | ExtentKind::Unallocated => ZERO | HOLE,
                };
                Ok((status.len, flags))
            }
            Self::Depth => {
                let status = status_above(node, None, offset, len)?;
                let depth = match status.extent.kind {
                    ExtentKind::Unallocated => 0,
                    _ => u64::from(status.depth) + 1,
                };
                Ok((status.len, depth))
            }
        }
    }
}

/// The facet of a node that keeps dirty bitmaps.
pub(crate) fn bitmaps(node: &dyn Node) -> Option<&dyn Bitmaps> {
    node.image().and_then(Image::bitmaps)
}

/// What the next run of set bits says about a range.
fn dirty_extent(next: Option<(u64, u64)>, offset: u64, len: u64) -> (u64, u64) {
    match next {
        Some((start, dirty)) if start <= offset => {
            ((start + dirty).saturating_sub(offset).min(len), DIRTY)
        }
        Some((start, _)) => ((start - offset).min(len), 0),
        None => (len, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_name_contexts() {
        let bitmap = Context::Bitmap("b0".to_owned());
        assert!(bitmap.answers("qemu:dirty-bitmap:b0", false));
        assert!(bitmap.answers("qemu:dirty-bitmap:", true));
        assert!(bitmap.answers("qemu:", true));
        assert!(!bitmap.answers("qemu:", false));
        assert!(!bitmap.answers("base:", true));
        assert!(Context::Allocation.answers("base:allocation", false));
    }
}
