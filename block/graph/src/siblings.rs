//! Children that come and go (`x-blockdev-change`), and what a node has to tell of them.

use std::sync::Arc;

use crate::reopen::cycle;
use crate::{Edge, Graph, Member, OpenError, Permissions, Role, User};

/// What somebody should hear of a node, whoever used it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// `QUORUM_FAILURE`: not enough children of a node agree on a range.
    Disagreement {
        /// The node.
        node: String,
        /// First byte.
        offset: u64,
        /// Bytes.
        len: u64,
    },
    /// `QUORUM_REPORT_BAD`: a child failed or was outvoted.
    BadChild {
        /// The child's node.
        child: String,
        /// `read`, `write` or `flush`.
        operation: &'static str,
        /// First byte.
        offset: u64,
        /// Bytes.
        len: u64,
        /// What the host said, if it failed.
        error: Option<String>,
    },
}

impl Graph {
    /// Has `tell` hear what nodes have to tell; the first who asks does.
    pub fn hear(&self, tell: impl Fn(Notice) + Send + Sync + 'static) {
        // Who came first stays.
        let _ = self.notices.set(Box::new(tell));
    }

    /// Tells whoever hears.
    pub fn tell(&self, notice: Notice) {
        if let Some(tell) = self.notices.get() {
            tell(notice);
        }
    }

    /// Gives a node another child.
    ///
    /// # Errors
    /// `Option` with QEMU's text when the node does not take one, the other one is used already or above
    /// it, or somebody does not allow it.
    pub fn add_child(
        self: &Arc<Self>,
        parent: &Arc<Member>,
        target: &Arc<Member>,
    ) -> Result<(), OpenError> {
        let refuse = |text: String| Err(OpenError::Option(text));
        let _change = self.change();
        let _drained = self.drains.begin(self, &[parent, target]);
        let node = parent.node();
        let Some(siblings) = node.siblings() else {
            return refuse(format!("The node {} does not support adding a child", parent.name()));
        };
        if !target.parents().is_empty() {
            return refuse(format!("The node {} already has a parent", target.name()));
        }
        let number = siblings.next()?;
        let role = Role::Member(number);
        let edge = Edge::new(User::Node(role), None, Permissions::UNUSED);
        if self.reaches(target, parent) {
            return Err(cycle(target, &edge, parent));
        }
        edge.set_parent(parent);
        parent.links().children.push(Arc::downgrade(&edge));
        edge.turn(Some(target));
        if let Err(refused) = self.check(parent, None, "") {
            edge.turn(None);
            parent.links().children.retain(|one| !std::ptr::eq(one.as_ptr(), Arc::as_ptr(&edge)));
            // This was allowed before.
            let _ = self.check(parent, None, "").and_then(|()| self.check(target, None, ""));
            return Err(refused);
        }
        siblings.adopt(number, edge);
        self.drains.extend();
        Ok(())
    }

    /// Takes a child away from a node, by the name of its role.
    ///
    /// # Errors
    /// `Option` with QEMU's text when there is none, or the node needs it.
    pub fn remove_child(
        self: &Arc<Self>,
        parent: &Arc<Member>,
        role: &str,
    ) -> Result<(), OpenError> {
        let refuse = |text: String| Err(OpenError::Option(text));
        let _change = self.change();
        let name = parent.name();
        let found = parent.children().into_iter().find(|edge| edge.role_text() == role);
        let Some(edge) = found else {
            return refuse(format!("Node '{name}' does not have child '{role}'"));
        };
        let _drained = self.drains.begin(self, &[parent]);
        let node = parent.node();
        let (Some(siblings), User::Node(Role::Member(number))) = (node.siblings(), edge.user())
        else {
            return refuse(format!("The node {name} does not support removing a child"));
        };
        siblings.release(*number)?;
        let target = edge.turn(None);
        if let Some(target) = target {
            // Less is needed than before: nobody can mind.
            let _ = self.check(&target, None, "");
        }
        Ok(())
    }
}
