//! The node that a job puts between its source and the users of it while it runs (`filter-node-name`).
//!
//! It passes everything on: the job itself sees changes by a hook of the source (decision 14). It is
//! there for who looks at the graph, and to be named. The drivers' names are QEMU's.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use graph::{
    Aio, Blocker, Breakpoints, Child, DetectZeroes, DiskOptions, Edge, Event, Extent, Graph, Image,
    Limits, Member, NewMember, Node, NodeInfo, NodeKind, OpenError, Past, Permissions, Plain,
    Preallocation, Role, User, WriteFlags, ZeroFlags,
};

use crate::job::Kind;

/// A node above a job's source, until it is lifted or dropped.
pub(crate) struct Cover {
    graph: Arc<Graph>,
    parts: Mutex<Option<Parts>>,
}

struct Parts {
    member: Arc<Member>,
    below: Arc<Member>,
    /// What the job has of it, so that nobody removes it.
    held: Arc<Edge>,
    blocker: Blocker,
}

impl Cover {
    /// Puts a node called `name`, or by a name that is made, between `below` and its users, for the
    /// job `id` of a kind and as `driver`. Nobody else may do anything with it.
    ///
    /// # Errors
    /// `Option` for a name that is malformed or taken, or when a user of `below` does not allow it.
    pub fn put(
        graph: &Arc<Graph>,
        id: &str,
        driver: &'static str,
        name: Option<&str>,
        below: &Arc<Member>,
        kind: Kind,
    ) -> Result<Self, OpenError> {
        let name = graph.reserve(name)?;
        let options =
            DiskOptions { discard: true, detect_zeroes: DetectZeroes::Off, ..below.options() };
        let role = if driver.ends_with("_top") { "backing" } else { "file" };
        Graph::check_active(below, role, name.text())?;
        let (filter, writable) = (NodeKind::Filter, !options.read_only);
        let edge = graph.child(&name, filter, Role::File, Some(below), writable)?;
        let node = Arc::new(Passage { driver, below: Arc::clone(&edge) });
        let children = vec![edge];
        let member = graph.add(NewMember { name, node, kind: filter, options, children });
        let held = graph.attach(&member, User::Job(id.to_owned()), Permissions::UNUSED)?;
        graph.insert(&member, below)?;
        let reason = format!("block device is in use by block job: {}", kind.name());
        let blocker = graph.block(&member, &reason, &[]);
        let parts = Parts { member, below: Arc::clone(below), held, blocker };
        Ok(Self { graph: Arc::clone(graph), parts: Mutex::new(Some(parts)) })
    }

    /// Gives the users what is below again. The caller has no request in flight.
    pub fn lift(&self) {
        let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Parts { member, below, held, blocker }) = parts else { return };
        // They had it before, and the node passed on what they were allowed.
        let _ = self.graph.replace(&member, &below);
        drop((blocker, member));
        // The last one that leads there: what is needed of the node is computed anew.
        self.graph.detach(held);
    }
}

impl Drop for Cover {
    fn drop(&mut self) {
        self.lift();
    }
}

/// What is said of a node that cannot be put there, by those jobs that say more than the cause.
pub(crate) fn not_made(cause: OpenError) -> OpenError {
    OpenError::Option(format!("Could not create node: {cause}"))
}

/// A node that is the one below by another name.
struct Passage {
    driver: &'static str,
    below: Arc<Edge>,
}

impl Node for Passage {
    fn size(&self) -> u64 {
        self.below.size()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.below.read_at(offset, buf)
    }

    fn read_cached(&self, offset: u64, buf: &mut [u8]) -> bool {
        self.below.read_cached(offset, buf)
    }

    fn plain(&self, offset: u64, len: u64, write: bool, into: &mut Plain) -> bool {
        self.below.plain(offset, len, write, into)
    }

    fn aio(&self) -> Aio {
        self.below.aio()
    }

    fn write_at(&self, offset: u64, buf: &[u8], flags: WriteFlags) -> io::Result<()> {
        self.below.write_at(offset, buf, flags)
    }

    fn write_zeroes(&self, offset: u64, len: u64, flags: ZeroFlags) -> io::Result<()> {
        self.below.write_zeroes(offset, len, flags)
    }

    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        self.below.discard(offset, len)
    }

    fn flush(&self) -> io::Result<()> {
        self.below.flush()
    }

    fn block_status(&self, offset: u64, len: u64) -> io::Result<Extent> {
        self.below.block_status(offset, len)
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        self.below.truncate(size)
    }

    fn preallocate(&self, offset: u64, len: u64, how: Preallocation) -> io::Result<()> {
        self.below.preallocate(offset, len, how)
    }

    fn read_only(&self) -> bool {
        self.below.read_only()
    }

    fn limits(&self) -> Limits {
        self.below.limits()
    }

    fn children(&self) -> Vec<Child> {
        vec![Child { role: Role::File, node: Arc::clone(&self.below) as Arc<dyn Node> }]
    }

    fn info(&self) -> NodeInfo {
        let NodeInfo { filename, allocated, cluster_size, .. } = self.below.info();
        let driver = self.driver;
        NodeInfo { driver, filename, allocated, cluster_size, ..NodeInfo::default() }
    }

    fn image(&self) -> Option<&dyn Image> {
        self.below.image()
    }

    fn event(&self, event: Event) {
        self.below.event(event);
    }

    fn past(&self) -> Option<Arc<dyn Past>> {
        self.below.past()
    }

    fn breakpoints(&self) -> Option<Arc<dyn Breakpoints>> {
        self.below.breakpoints()
    }
}
