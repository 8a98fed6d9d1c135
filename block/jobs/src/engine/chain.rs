//! The layers of which a disk's content is made.

use std::io;
use std::sync::Arc;

use graph::{ExtentKind, Member, NodeKind, Role, User};

/// The child of that role.
fn child(member: &Member, role: Role) -> Option<Arc<Member>> {
    let is_it = |user: &User| *user == User::Node(role);
    member.children().into_iter().find(|edge| is_it(edge.user()))?.target()
}

/// What holds the content that a node shows: below filters.
fn unfiltered(mut member: Arc<Member>) -> Arc<Member> {
    while member.kind() == NodeKind::Filter {
        match child(&member, Role::File) {
            Some(below) => member = below,
            None => break,
        }
    }
    member
}

/// The backing file of a node, without filters on the way.
pub(crate) fn backing(member: &Arc<Member>) -> Option<Arc<Member>> {
    child(&unfiltered(Arc::clone(member)), Role::Backing).map(unfiltered)
}

/// Layers from the top, each of which shows what it has itself.
pub(crate) struct Layers(Vec<Arc<Member>>);

impl Layers {
    /// No layer at all: nothing is anywhere.
    pub fn none() -> Self {
        Self(Vec::new())
    }

    /// All layers of a disk.
    pub fn of(top: &Arc<Member>) -> Self {
        Self::above(top, None)
    }

    /// Those above `base`.
    pub fn above(top: &Arc<Member>, base: Option<&Arc<Member>>) -> Self {
        let mut layers = Vec::new();
        let mut next = Some(unfiltered(Arc::clone(top)));
        while let Some(layer) = next {
            if base.is_some_and(|base| Arc::ptr_eq(&unfiltered(Arc::clone(base)), &layer)) {
                break;
            }
            next = backing(&layer);
            layers.push(layer);
        }
        Self(layers)
    }

    /// The layers.
    pub fn members(&self) -> &[Arc<Member>] {
        &self.0
    }

    /// What the first layer that has something at `offset` says, for at most `len` bytes; zeroes
    /// behind the end of a layer that is asked.
    ///
    /// # Errors
    /// As for a layer's `block_status`.
    pub fn status(&self, offset: u64, mut len: u64) -> io::Result<(ExtentKind, u64)> {
        for layer in &self.0 {
            let node = layer.node();
            if offset >= node.size() {
                return Ok((ExtentKind::Zero, len));
            }
            len = len.min(node.size() - offset);
            let extent = node.block_status(offset, len)?;
            len = len.min(extent.len);
            if extent.kind != ExtentKind::Unallocated {
                return Ok((extent.kind, len));
            }
        }
        Ok((ExtentKind::Unallocated, len))
    }
}

/// Remembers what was last heard of layers, so that a long range is not looked through again for each of
/// its pieces. It may be old news: who copies looks again at what it copies.
pub(crate) struct Outlook {
    layers: Layers,
    from: u64,
    until: u64,
    kind: ExtentKind,
}

impl Outlook {
    pub fn new(layers: Layers) -> Self {
        Self { layers, from: 0, until: 0, kind: ExtentKind::Unallocated }
    }

    /// As [`Layers::status`].
    ///
    /// # Errors
    /// Likewise.
    pub fn status(&mut self, offset: u64, len: u64) -> io::Result<(ExtentKind, u64)> {
        if !(self.from..self.until).contains(&offset) {
            let (kind, len) = self.layers.status(offset, len)?;
            (self.from, self.until, self.kind) = (offset, offset + len, kind);
        }
        Ok((self.kind, len.min(self.until - offset)))
    }
}

/// Whether a node reads as zeroes from end to end, as far as it tells quickly.
pub(crate) fn reads_zero(member: &Arc<Member>) -> bool {
    const PATIENCE: usize = 64;
    let layers = Layers::of(member);
    let (mut at, size) = (0, member.node().size());
    for _ in 0..PATIENCE {
        if at >= size {
            return true;
        }
        match layers.status(at, size - at) {
            Ok((ExtentKind::Zero, len)) => at += len,
            // Below a format, what no layer has is zero; a file may hold anything.
            Ok((ExtentKind::Unallocated, len)) => at += len,
            _ => return false,
        }
    }
    false
}
