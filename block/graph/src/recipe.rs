//! How a node was opened, so that it can be opened again with other options.

use std::sync::Arc;

use crate::{DiskOptions, Graph, Member, Node, OpenError, Operation};

/// How to open a node again, with the children it has.
pub trait Recipe: Send + Sync {
    /// The driver's own options, as `key=value` with dotted keys.
    fn keys(&self) -> Vec<(String, String)>;

    /// Opens the node, whose old self is closed.
    ///
    /// # Errors
    /// As when it was opened first.
    fn open(
        &self,
        options: &DiskOptions,
        keys: &[(String, String)],
    ) -> Result<Arc<dyn Node>, OpenError>;
}

impl Graph {
    /// Opens a node again with other options (`blockdev-reopen`). If that fails, it is what it was.
    ///
    /// # Errors
    /// `Option` for a node that cannot be opened again or is in use by somebody who forbids it; the
    /// driver's and the host's.
    pub fn reopen(
        self: &Arc<Self>,
        member: &Arc<Member>,
        options: DiskOptions,
        keys: Option<Vec<(String, String)>>,
    ) -> Result<(), OpenError> {
        self.check_blocked(member, Operation::Reopen)?;
        let Some(recipe) = member.recipe() else {
            let path = format!("node '{}'", member.name());
            let what = "opening a node of this driver again".to_owned();
            return Err(OpenError::NotSupported { path, what });
        };
        let old = member.recipe_keys().unwrap_or_else(|| recipe.keys());
        let new = keys.unwrap_or_else(|| old.clone());
        let before = member.options();
        self.exchange(
            member,
            options.clone(),
            || recipe.open(&options, &new),
            || recipe.open(&before, &old),
        )?;
        member.set_recipe_keys(new);
        Ok(())
    }

    /// Makes a node writable or read-only; files below that may change follow.
    ///
    /// # Errors
    /// As [`Graph::reopen`].
    pub fn set_read_only(
        self: &Arc<Self>,
        member: &Arc<Member>,
        on: bool,
    ) -> Result<(), OpenError> {
        let options = member.options();
        if options.read_only == on {
            return Ok(());
        }
        self.reopen(member, DiskOptions { read_only: on, ..options }, None)
    }
}
