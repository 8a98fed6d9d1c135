//! `compress`: everything that is written is stored compressed.
//!
//! What is compressed together changes together: a write of a part of a unit reads the rest first.

use std::io;
use std::sync::Arc;

use graph::{Compress, Image, Limits, Node, OpenError, RangeLocks, Sharing, WriteFlags};

use crate::passing::{Filter, Passing, pieces};

struct Compressing {
    below: Arc<dyn Node>,
    unit: u64,
    busy: RangeLocks,
}

/// A node that stores in `below`, which must be able to compress.
///
/// # Errors
/// `Option` with QEMU's text when it is not.
pub fn compress(below: Arc<dyn Node>) -> Result<Arc<dyn Node>, OpenError> {
    let unit = below.image().and_then(Image::compress).map(Compress::unit);
    let Some(unit) = unit else {
        let driver = below.info().driver;
        return Err(OpenError::Option(format!(
            "Compression is not supported for underlying format: {driver}"
        )));
    };
    Ok(Arc::new(Passing(Compressing { below, unit, busy: RangeLocks::default() })))
}

impl Compressing {
    fn store(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let gone = || io::Error::from(io::ErrorKind::Unsupported);
        let image = self.below.image().ok_or_else(gone)?;
        image.compress().ok_or_else(gone)?.write_compressed(offset, data)
    }
}

impl Filter for Compressing {
    fn driver(&self) -> &'static str {
        "compress"
    }

    fn below(&self) -> &Arc<dyn Node> {
        &self.below
    }

    fn write_at(&self, offset: u64, buf: &[u8], flags: WriteFlags) -> io::Result<()> {
        graph::check_range(offset, buf.len() as u64, self.below.size())?;
        for (at, len) in pieces(offset, buf.len() as u64, self.unit) {
            let start = at - at % self.unit;
            let whole = self.unit.min(self.below.size() - start);
            let _alone = self.busy.lock(start, start + whole, Sharing::Exclusive);
            let part = &buf[(at - offset) as usize..][..len as usize];
            if len == whole {
                self.store(start, part)?;
                continue;
            }
            let mut unit = vec![0; whole as usize];
            self.below.read_at(start, &mut unit)?;
            unit[(at - start) as usize..][..len as usize].copy_from_slice(part);
            self.store(start, &unit)?;
        }
        if flags.fua { self.below.flush() } else { Ok(()) }
    }

    fn limits(&self) -> Limits {
        Limits { physical_block: self.unit.min(1 << 15) as u32, ..self.below.limits() }
    }
}
