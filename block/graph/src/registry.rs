//! The nodes of a machine by name.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::{Disk, DiskOptions, Node, OpenError};

/// Named nodes: `node-name=` of `-blockdev` and what refers to it. One per machine.
#[derive(Default)]
pub struct Registry {
    nodes: BTreeMap<String, Named>,
}

/// A node and the policy it was added with.
struct Named {
    node: Arc<dyn Node>,
    options: DiskOptions,
}

impl Registry {
    /// Adds a node under a name that must be well-formed and free.
    ///
    /// # Errors
    /// `Option` with QEMU's text.
    pub fn insert(
        &mut self,
        name: &str,
        node: Arc<dyn Node>,
        options: DiskOptions,
    ) -> Result<(), OpenError> {
        self.check_free(name)?;
        self.nodes.insert(name.to_owned(), Named { node, options });
        Ok(())
    }

    /// Refuses a name that is not well-formed or taken.
    ///
    /// # Errors
    /// `Option` with QEMU's text.
    pub fn check_free(&self, name: &str) -> Result<(), OpenError> {
        if !valid_node_name(name) {
            return Err(OpenError::Option(format!("Invalid node-name: '{name}'")));
        }
        if self.nodes.contains_key(name) {
            return Err(OpenError::Option(format!("Duplicate nodes with node-name='{name}'")));
        }
        Ok(())
    }

    /// The node called `name`.
    ///
    /// # Errors
    /// `Option` with QEMU's text.
    pub fn get(&self, name: &str) -> Result<Arc<dyn Node>, OpenError> {
        self.named(name).map(|n| Arc::clone(&n.node))
    }

    /// A disk for a device on top of the node called `name`, with the node's policy.
    ///
    /// # Errors
    /// As [`Registry::get`].
    pub fn disk(&self, name: &str) -> Result<Disk, OpenError> {
        self.named(name).map(|n| Disk::new(Arc::clone(&n.node), n.options.clone()))
    }

    fn named(&self, name: &str) -> Result<&Named, OpenError> {
        let missing =
            || OpenError::Option(format!("Cannot find device='{name}' nor node-name='{name}'"));
        self.nodes.get(name).ok_or_else(missing)
    }

    /// Removes a node from the list; users of it keep it alive.
    pub fn remove(&mut self, name: &str) -> Option<Arc<dyn Node>> {
        self.nodes.remove(name).map(|n| n.node)
    }

    /// Every name with its node, in alphabetical order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Arc<dyn Node>)> {
        self.nodes.iter().map(|(name, named)| (name.as_str(), &named.node))
    }
}

/// Whether `name` can name a node: a letter, then letters, digits, `-`, `.`, `_`; at most 31 bytes.
pub fn valid_node_name(name: &str) -> bool {
    let mut chars = name.chars();
    name.len() < 32
        && chars.next().is_some_and(|c| c.is_ascii_alphabetic())
        && chars.all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_'))
}
