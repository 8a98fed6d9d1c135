//! Reading what a node held when somebody began to keep its old content.

use std::io;

use crate::Extent;

/// The facet of a filter that keeps what writes above it replace.
pub trait Past: Send + Sync {
    /// Fills `buf` with what was at `offset`.
    ///
    /// # Errors
    /// `PermissionDenied` for what is not kept; else as for a read.
    fn read_past(&self, offset: u64, buf: &mut [u8]) -> io::Result<()>;

    /// As [`crate::Node::block_status`], of the old content.
    ///
    /// # Errors
    /// As for [`Past::read_past`].
    fn past_status(&self, offset: u64, len: u64) -> io::Result<Extent>;

    /// Nobody will read the range any more: it need not be kept.
    ///
    /// # Errors
    /// As for a discard.
    fn forget_past(&self, offset: u64, len: u64) -> io::Result<()>;
}
