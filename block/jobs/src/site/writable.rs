//! Nodes that a job writes though they were opened read-only.

use std::sync::{Arc, Mutex, PoisonError};

use graph::{Graph, Member, OpenError};

/// Nodes that are writable until this is dropped or [`Writable::end`] is called.
pub(crate) struct Writable {
    graph: Arc<Graph>,
    members: Mutex<Vec<Arc<Member>>>,
}

impl Writable {
    /// None yet.
    pub fn new(graph: &Arc<Graph>) -> Self {
        Self { graph: Arc::clone(graph), members: Mutex::default() }
    }

    /// Opens a node again for writing if it is read-only.
    ///
    /// # Errors
    /// As [`Graph::set_read_only`]; `Option` for a node that is read-only for other reasons than its
    /// options.
    pub fn add(&self, member: &Arc<Member>) -> Result<(), OpenError> {
        if !member.node().read_only() {
            return Ok(());
        }
        self.graph.set_read_only(member, false)?;
        if member.node().read_only() {
            return Err(OpenError::Option(format!("Node '{}' is read only", member.name())));
        }
        self.members.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(member));
        Ok(())
    }

    /// Leaves them writable.
    pub fn keep(&self) {
        self.members.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Makes them read-only again, the last one first. One that cannot be stays writable: the job has
    /// done its work, and nobody is left to be told.
    pub fn end(&self) {
        let members =
            std::mem::take(&mut *self.members.lock().unwrap_or_else(PoisonError::into_inner));
        for member in members.iter().rev() {
            let _ = self.graph.set_read_only(member, true);
        }
    }
}

impl Drop for Writable {
    fn drop(&mut self) {
        self.end();
    }
}
