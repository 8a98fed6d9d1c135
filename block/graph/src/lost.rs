//! What a member is when its node is closed and cannot be opened again.

use std::io;

use crate::{Extent, Node, NodeInfo, WriteFlags, ZeroFlags};

/// A node that refuses every request, and looks like the one that was there: a disk does not become
/// empty because its file is gone for a while.
pub(crate) struct Lost {
    size: u64,
    info: NodeInfo,
}

impl Lost {
    /// In the place of `node`.
    pub fn of(node: &dyn Node) -> Self {
        Self { size: node.size(), info: node.info() }
    }
}

fn refused<T>() -> io::Result<T> {
    Err(io::Error::other("this node could not be opened again"))
}

impl Node for Lost {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, _offset: u64, _buf: &mut [u8]) -> io::Result<()> {
        refused()
    }

    fn write_at(&self, _offset: u64, _buf: &[u8], _flags: WriteFlags) -> io::Result<()> {
        refused()
    }

    fn write_zeroes(&self, _offset: u64, _len: u64, _flags: ZeroFlags) -> io::Result<()> {
        refused()
    }

    fn discard(&self, _offset: u64, _len: u64) -> io::Result<()> {
        refused()
    }

    fn flush(&self) -> io::Result<()> {
        refused()
    }

    fn block_status(&self, _offset: u64, _len: u64) -> io::Result<Extent> {
        refused()
    }

    fn truncate(&self, _size: u64) -> io::Result<()> {
        refused()
    }

    /// Nothing is there that would have to be flushed before another try.
    fn read_only(&self) -> bool {
        true
    }

    fn info(&self) -> NodeInfo {
        self.info.clone()
    }
}
