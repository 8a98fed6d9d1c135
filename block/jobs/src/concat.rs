//! Several nodes, one after the other.

use graph::{Child, Extent, Node, NodeInfo, WriteFlags, ZeroFlags};
use std::io;
use std::sync::Arc;

use graph::status_above;

/// A stretch of a node.
pub struct Part {
    /// The node; a backing chain counts as what it shows.
    pub node: Arc<dyn Node>,
    /// First byte.
    pub start: u64,
    /// Bytes; the stretch lies within the node.
    pub len: u64,
}

impl Part {
    /// All of a node.
    pub fn whole(node: Arc<dyn Node>) -> Self {
        Self { start: 0, len: node.size(), node }
    }
}

/// Stretches of nodes as one read-only node: the content of the second follows that of the first.
pub struct Concat {
    parts: Vec<Part>,
    /// Where each part ends.
    ends: Vec<u64>,
}

impl Concat {
    /// The parts in order.
    pub fn new(parts: Vec<Part>) -> Self {
        let ends = parts.iter().scan(0_u64, |end, part| {
            *end = end.saturating_add(part.len);
            Some(*end)
        });
        Self { ends: ends.collect(), parts }
    }

    /// The node that holds `offset`, the offset in it, and the bytes that follow there.
    fn part_at(&self, offset: u64) -> io::Result<(&Arc<dyn Node>, u64, u64)> {
        let row = self.ends.partition_point(|end| *end <= offset);
        let part = self.parts.get(row).ok_or(io::ErrorKind::UnexpectedEof)?;
        let left = self.ends[row] - offset;
        Ok((&part.node, part.start + part.len - left, left))
    }
}

fn refuse<T>() -> io::Result<T> {
    Err(io::Error::from(io::ErrorKind::ReadOnlyFilesystem))
}

impl Node for Concat {
    fn size(&self) -> u64 {
        self.ends.last().copied().unwrap_or(0)
    }

    fn read_at(&self, mut offset: u64, mut buf: &mut [u8]) -> io::Result<()> {
        while !buf.is_empty() {
            let (node, at, left) = self.part_at(offset)?;
            let len = buf.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let (now, rest) = buf.split_at_mut(len);
            node.read_at(at, now)?;
            offset += len as u64;
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
        let (node, at, left) = self.part_at(offset)?;
        let status = status_above(node, None, at, len.min(left))?;
        Ok(Extent { kind: status.kind, len: status.len, host_offset: None })
    }

    fn read_only(&self) -> bool {
        true
    }

    fn children(&self) -> Vec<Child> {
        Vec::new()
    }

    fn info(&self) -> NodeInfo {
        NodeInfo::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use graph::Memory;

    #[test]
    fn stretches_follow_one_another() {
        let node = |bytes: &[u8]| Arc::new(Memory::new(bytes.to_vec(), true)) as Arc<dyn Node>;
        let concat = Concat::new(vec![
            Part { node: node(b"abcdef"), start: 2, len: 3 },
            Part::whole(node(b"gh")),
        ]);
        assert_eq!(concat.size(), 5);
        let mut buf = [0; 4];
        concat.read_at(1, &mut buf).expect("it is inside");
        assert_eq!(&buf, b"degh");
        assert!(concat.read_at(2, &mut buf).is_err());
        assert_eq!(concat.block_status(1, 4).expect("it is inside").len, 2);
    }
}
