//! Layers on top of each other, of which each shows only what it holds itself.

use graph::{Extent, ExtentKind, Node, NodeInfo, WriteFlags, ZeroFlags};
use std::io;
use std::sync::Arc;

/// Images opened without their backing files, as one read-only node: what the first layer does not
/// have is looked for in the second. What none has is unallocated.
pub struct Stack {
    layers: Vec<Arc<dyn Node>>,
}

impl Stack {
    /// The layers from the top; at least one.
    pub fn new(layers: Vec<Arc<dyn Node>>) -> Self {
        Self { layers }
    }

    /// Who has the content at `offset`, and what is there.
    fn holder(&self, offset: u64, mut len: u64) -> io::Result<(Option<&Arc<dyn Node>>, Extent)> {
        for layer in &self.layers {
            if offset >= layer.size() {
                let zero = Extent { kind: ExtentKind::Zero, len, host_offset: None };
                return Ok((None, zero));
            }
            len = len.min(layer.size() - offset);
            let extent = layer.block_status(offset, len)?;
            len = len.min(extent.len);
            if extent.kind != ExtentKind::Unallocated {
                return Ok((Some(layer), Extent { len, ..extent }));
            }
        }
        Ok((None, Extent { kind: ExtentKind::Unallocated, len, host_offset: None }))
    }
}

fn refuse<T>() -> io::Result<T> {
    Err(io::Error::from(io::ErrorKind::ReadOnlyFilesystem))
}

impl Node for Stack {
    fn size(&self) -> u64 {
        self.layers.first().map_or(0, |top| top.size())
    }

    fn read_at(&self, mut offset: u64, mut buf: &mut [u8]) -> io::Result<()> {
        while !buf.is_empty() {
            let (layer, extent) = self.holder(offset, buf.len() as u64)?;
            // No longer than the buffer.
            let (now, rest) = buf.split_at_mut(extent.len as usize);
            match layer {
                Some(layer) => layer.read_at(offset, now)?,
                None => now.fill(0),
            }
            offset += extent.len;
            buf = rest;
        }
        Ok(())
    }

    fn write_at(&self, _: u64, _: &[u8], _: WriteFlags) -> io::Result<()> {
        refuse()
    }
    fn write_zeroes(&self, _: u64, _: u64, _: ZeroFlags) -> io::Result<()> {
        refuse()
    }
    fn discard(&self, _: u64, _: u64) -> io::Result<()> {
        refuse()
    }
    fn flush(&self) -> io::Result<()> {
        Ok(())
    }

    fn block_status(&self, offset: u64, len: u64) -> io::Result<Extent> {
        let (_, extent) = self.holder(offset, len)?;
        Ok(Extent { host_offset: None, ..extent })
    }

    fn read_only(&self) -> bool {
        true
    }

    fn info(&self) -> NodeInfo {
        NodeInfo::default()
    }
}
