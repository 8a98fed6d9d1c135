//! The parent of an overlay, which is of use only as long as it is what it was.
//!
//! An image whose parent has changed opens, and what it holds itself can be read; what the parent
//! would have to answer is an error.

use std::io;
use std::sync::Arc;

use graph::{Extent, Node, NodeInfo, OpenError, Property, WriteFlags, ZeroFlags};

use crate::blocks::codec::Fields;

/// What an image reads where it holds nothing: `backing`, if that has the content identifier
/// `wanted`.
pub(super) fn of(
    backing: &Arc<dyn Node>,
    wanted: u32,
    fields: &Fields<'_>,
) -> Result<Arc<dyn Node>, OpenError> {
    let info = backing.info();
    let cid = info.specific.iter().find(|(name, _)| *name == "cid").map(|(_, cid)| cid);
    match cid {
        Some(Property::Number(cid)) if *cid == u64::from(wanted) => Ok(Arc::clone(backing)),
        Some(Property::Number(cid)) => Ok(Arc::new(Changed {
            parent: Arc::clone(backing),
            why: format!("the backing file has changed: its CID is {cid:08x}, not {wanted:08x}"),
        })),
        _ => Err(fields.refuse("the backing file of a vmdk image must be vmdk")),
    }
}

/// A parent that is not what it was.
struct Changed {
    parent: Arc<dyn Node>,
    why: String,
}

impl Changed {
    fn refuse<T>(&self) -> io::Result<T> {
        Err(io::Error::new(io::ErrorKind::InvalidInput, self.why.clone()))
    }
}

impl Node for Changed {
    fn size(&self) -> u64 {
        self.parent.size()
    }

    fn read_at(&self, _: u64, _: &mut [u8]) -> io::Result<()> {
        self.refuse()
    }

    fn write_at(&self, _: u64, _: &[u8], _: WriteFlags) -> io::Result<()> {
        self.refuse()
    }

    fn write_zeroes(&self, _: u64, _: u64, _: ZeroFlags) -> io::Result<()> {
        self.refuse()
    }

    fn discard(&self, _: u64, _: u64) -> io::Result<()> {
        self.refuse()
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }

    fn block_status(&self, _: u64, _: u64) -> io::Result<Extent> {
        self.refuse()
    }

    fn read_only(&self) -> bool {
        true
    }

    fn info(&self) -> NodeInfo {
        self.parent.info()
    }
}
