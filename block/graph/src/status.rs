//! Where content comes from, looked for through a chain of backing files.

use crate::{Extent, ExtentKind, Node, Role};
use std::io;
use std::sync::Arc;

/// Where a range of a chain's content is.
#[derive(Clone)]
pub struct Status {
    /// What the range holds; `Unallocated` only if no layer of the chain has it.
    pub kind: ExtentKind,
    /// Bytes that share this answer; never zero.
    pub len: u64,
    /// The layer that has the range, counted from the top, which is 0. For what no layer has: the
    /// last one that was asked.
    pub depth: u32,
    /// That layer.
    pub node: Arc<dyn Node>,
    /// What the layer itself said.
    pub extent: Extent,
}

/// The backing file of a node.
pub fn backing_of(node: &dyn Node) -> Option<Arc<dyn Node>> {
    node.children().into_iter().find(|child| child.role == Role::Backing).map(|child| child.node)
}

/// Tells where the content at `offset` comes from, in the layers from `top` down to and without
/// `base` (all of them, without one). At most `len` bytes, which lie within `top`.
///
/// A layer shorter than the one above it ends the search with zeroes.
///
/// # Errors
/// Whatever a layer's `block_status` reports.
pub fn status_above(
    top: &Arc<dyn Node>,
    base: Option<&Arc<dyn Node>>,
    offset: u64,
    len: u64,
) -> io::Result<Status> {
    let (mut node, mut len, mut depth) = (Arc::clone(top), len, 0);
    loop {
        let extent = node.block_status(offset, len)?;
        len = len.min(extent.len);
        let found = |kind| Status { kind, len, depth, node: Arc::clone(&node), extent };
        if extent.kind != ExtentKind::Unallocated {
            return Ok(found(extent.kind));
        }
        let Some(next) = backing_of(&*node) else {
            return Ok(found(ExtentKind::Unallocated));
        };
        if base.is_some_and(|base| Arc::ptr_eq(base, &next)) {
            return Ok(found(ExtentKind::Unallocated));
        }
        if offset >= next.size() {
            return Ok(found(ExtentKind::Zero));
        }
        len = len.min(next.size() - offset);
        (node, depth) = (next, depth + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Child, NodeInfo, WriteFlags, ZeroFlags};

    /// A layer that has the ranges given, and nothing else.
    struct Layer {
        size: u64,
        has: Vec<(u64, u64)>,
        backing: Option<Arc<dyn Node>>,
    }

    impl Node for Layer {
        fn size(&self) -> u64 {
            self.size
        }
        fn read_at(&self, _: u64, _: &mut [u8]) -> io::Result<()> {
            Ok(())
        }
        fn write_at(&self, _: u64, _: &[u8], _: WriteFlags) -> io::Result<()> {
            Ok(())
        }
        fn write_zeroes(&self, _: u64, _: u64, _: ZeroFlags) -> io::Result<()> {
            Ok(())
        }
        fn discard(&self, _: u64, _: u64) -> io::Result<()> {
            Ok(())
        }
        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
        fn block_status(&self, offset: u64, len: u64) -> io::Result<Extent> {
            for (start, end) in &self.has {
                if offset < *start {
                    let len = len.min(start - offset);
                    return Ok(Extent { kind: ExtentKind::Unallocated, len, host_offset: None });
                }
                if offset < *end {
                    let len = len.min(end - offset);
                    return Ok(Extent { kind: ExtentKind::Data, len, host_offset: Some(offset) });
                }
            }
            Ok(Extent { kind: ExtentKind::Unallocated, len, host_offset: None })
        }
        fn read_only(&self) -> bool {
            true
        }
        fn children(&self) -> Vec<Child> {
            let backing = self.backing.iter();
            backing.map(|node| Child { role: Role::Backing, node: Arc::clone(node) }).collect()
        }
        fn info(&self) -> NodeInfo {
            NodeInfo::default()
        }
    }

    fn chain() -> (Arc<dyn Node>, Arc<dyn Node>) {
        let base: Arc<dyn Node> = Arc::new(Layer { size: 100, has: vec![(0, 50)], backing: None });
        let backing = Some(Arc::clone(&base));
        (Arc::new(Layer { size: 200, has: vec![(20, 30)], backing }), base)
    }

    #[test]
    fn the_first_layer_that_has_a_range_answers() {
        let (top, base) = chain();
        let at = |offset| {
            let s = status_above(&top, None, offset, top.size() - offset).expect("it answers");
            (s.kind, s.len, s.depth)
        };
        assert_eq!(at(0), (ExtentKind::Data, 20, 1));
        assert_eq!(at(20), (ExtentKind::Data, 10, 0));
        assert_eq!(at(30), (ExtentKind::Data, 20, 1));
        assert_eq!(at(50), (ExtentKind::Unallocated, 50, 1));
        assert_eq!(at(100), (ExtentKind::Zero, 100, 0), "beyond the end of the backing file");
        let above = status_above(&top, Some(&base), 0, 200).expect("it answers");
        assert_eq!((above.kind, above.len, above.depth), (ExtentKind::Unallocated, 20, 0));
    }
}
