//! Nodes that are inactive (`blockdev-set-active`): the image belongs to another process for a while, as
//! to the other side of a migration.
//!
//! An inactive node holds no locks that another writer would mind, and changes nothing. It can be read by
//! users who put up with that; what they see may be older than what the other process has written. An
//! image is closed when it becomes inactive, so that all of it is in its file, and read anew when it
//! becomes active.

use std::sync::Arc;

use crate::{Access, DiskOptions, Edge, Graph, Member, OpenError, Reopening};

impl Graph {
    /// Makes a node inactive, with all below it that no other active node uses.
    ///
    /// # Errors
    /// `Option` with QEMU's text when somebody above needs it; as [`Graph::reopen_all`].
    pub fn deactivate(self: &Arc<Self>, member: &Arc<Member>) -> Result<(), OpenError> {
        if active_parent(member).is_some() {
            return Err(OpenError::Option("Node has active parent node".to_owned()));
        }
        self.deactivate_with(vec![Arc::clone(member)], "Failed to inactivate node")
    }

    /// Makes all nodes inactive.
    ///
    /// # Errors
    /// As [`Graph::deactivate`].
    pub fn deactivate_all(self: &Arc<Self>) -> Result<(), OpenError> {
        self.deactivate_with(self.members(), "Failed to inactivate all nodes")
    }

    fn deactivate_with(
        self: &Arc<Self>,
        mut members: Vec<Arc<Member>>,
        failed: &str,
    ) -> Result<(), OpenError> {
        let has =
            |list: &[Arc<Member>], one: &Arc<Member>| list.iter().any(|m| Arc::ptr_eq(m, one));
        let mut at = 0;
        while let Some(member) = members.get(at).cloned() {
            for below in member.children().iter().filter_map(|edge| edge.target()) {
                let used = below
                    .parents()
                    .iter()
                    .filter_map(|edge| edge.parent())
                    .any(|parent| !parent.options().inactive && !has(&members, &parent));
                if !used && !has(&members, &below) {
                    members.push(below);
                }
            }
            at += 1;
        }
        members.retain(|member| !member.options().inactive);
        let writing = Access::WRITE.with(Access::WRITE_UNCHANGED);
        let in_use = |edge: &Arc<Edge>| {
            let writes = !edge.permissions().taken.and(writing).is_empty();
            edge.is_root() && writes && !edge.puts_up()
        };
        if members.iter().any(|member| member.parents().iter().any(in_use)) {
            return Err(OpenError::Option(format!("{failed}: Operation not permitted")));
        }
        self.set_inactive(members, true)
    }

    /// Makes a node active, with all below it.
    ///
    /// # Errors
    /// When another process still has the image; as [`Graph::reopen_all`].
    pub fn activate(self: &Arc<Self>, member: &Arc<Member>) -> Result<(), OpenError> {
        let all = self.members().into_iter().filter(|below| self.reaches(member, below));
        self.set_inactive(all.filter(|member| member.options().inactive).collect(), false)
    }

    /// Makes all nodes active.
    ///
    /// # Errors
    /// As [`Graph::activate`].
    pub fn activate_all(self: &Arc<Self>) -> Result<(), OpenError> {
        let inactive = self.members().into_iter().filter(|member| member.options().inactive);
        self.set_inactive(inactive.collect(), false)
    }

    fn set_inactive(
        self: &Arc<Self>,
        members: Vec<Arc<Member>>,
        inactive: bool,
    ) -> Result<(), OpenError> {
        let change = |member: Arc<Member>| {
            let before = member.options();
            let options = DiskOptions { inactive, ..before.clone() };
            let again = member.recipe().is_some_and(|recipe| !recipe.suits(&before, &options));
            Reopening { member, options, recipe: None, turns: Vec::new(), again }
        };
        // What has no recipe is a node of ours in memory, and nobody else's.
        let members = members.into_iter().filter(|member| member.recipe().is_some());
        self.reopen_all(members.map(change).collect())
    }

    /// Refuses that an active node gets an inactive child.
    ///
    /// # Errors
    /// `Option` with QEMU's text.
    pub fn check_active(target: &Member, role: &str, parent: &str) -> Result<(), OpenError> {
        match target.options().inactive {
            false => Ok(()),
            true => Err(OpenError::Option(format!(
                "Inactive '{}' can't be a {role} child of active '{parent}'",
                target.name()
            ))),
        }
    }
}

/// An active node that uses this one.
fn active_parent(member: &Member) -> Option<Arc<Member>> {
    let parents = member.parents();
    parents.iter().filter_map(|edge| edge.parent()).find(|parent| !parent.options().inactive)
}
