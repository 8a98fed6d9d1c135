//! `blkverify`: whatever is done to a node is done to a raw copy, too, and what both read must be the same.

use std::io;
use std::sync::Arc;

use graph::{Child, Extent, Node, NodeInfo, Role, WriteFlags, ZeroFlags};

use crate::passing::{Filter, Passing, no_resize, passed_on};

struct Verify {
    raw: Arc<dyn Node>,
    test: Arc<dyn Node>,
}

/// A node that compares `test` with `raw`.
pub fn blkverify(raw: Arc<dyn Node>, test: Arc<dyn Node>) -> Arc<dyn Node> {
    Arc::new(Passing(Verify { raw, test }))
}

/// Two results that must be of one kind.
fn agree(
    what: &str,
    (offset, len): (u64, u64),
    raw: io::Result<()>,
    test: io::Result<()>,
) -> io::Result<()> {
    match (&raw, &test) {
        (Ok(()), Ok(())) => Ok(()),
        (Err(a), Err(b)) if a.kind() == b.kind() => test,
        _ => {
            let text =
                |r: io::Result<()>| r.map_or_else(|e| graph::host_text(&e), |()| "no error".into());
            Err(io::Error::other(format!(
                "blkverify: {what} offset={offset} bytes={len} return value mismatch: {} and {}",
                text(raw),
                text(test)
            )))
        }
    }
}

/// The first place where two buffers of one length differ.
pub(crate) fn difference(a: &[u8], b: &[u8]) -> Option<usize> {
    a.iter().zip(b).position(|(a, b)| a != b)
}

impl Filter for Verify {
    fn driver(&self) -> &'static str {
        "blkverify"
    }

    fn below(&self) -> &Arc<dyn Node> {
        &self.test
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let len = buf.len() as u64;
        let mut raw = vec![0; buf.len()];
        let (first, second) = (self.raw.read_at(offset, &mut raw), self.test.read_at(offset, buf));
        agree("read", (offset, len), first, second)?;
        match difference(&raw, buf) {
            None => Ok(()),
            Some(at) => Err(io::Error::other(format!(
                "blkverify: read offset={offset} bytes={len} contents mismatch at offset {}",
                offset + at as u64
            ))),
        }
    }

    fn write_at(&self, offset: u64, buf: &[u8], flags: WriteFlags) -> io::Result<()> {
        let raw = self.raw.write_at(offset, buf, flags);
        agree("write", (offset, buf.len() as u64), raw, self.test.write_at(offset, buf, flags))
    }

    fn write_zeroes(&self, offset: u64, len: u64, flags: ZeroFlags) -> io::Result<()> {
        let raw = self.raw.write_zeroes(offset, len, flags);
        agree("write", (offset, len), raw, self.test.write_zeroes(offset, len, flags))
    }

    /// Discarded content may differ: nobody can rely on it. So nothing is discarded.
    fn discard(&self, _offset: u64, _len: u64) -> io::Result<()> {
        Ok(())
    }

    /// The raw copy need not survive anything.
    fn flush(&self) -> io::Result<()> {
        self.test.flush()
    }

    fn block_status(&self, offset: u64, len: u64) -> io::Result<Extent> {
        let extent = self.raw.block_status(offset, len)?;
        Ok(passed_on(extent, offset))
    }

    fn truncate(&self, _size: u64) -> io::Result<()> {
        Err(no_resize())
    }

    fn children(&self) -> Vec<Child> {
        [("test", &self.test), ("raw", &self.raw)]
            .map(|(name, node)| Child { role: Role::Named(name), node: Arc::clone(node) })
            .into()
    }

    fn info(&self) -> NodeInfo {
        let (raw, test) = (self.raw.info().filename, self.test.info().filename);
        NodeInfo {
            driver: "blkverify",
            filename: format!("blkverify:{raw}:{test}"),
            ..NodeInfo::default()
        }
    }
}
