//! A node as a member of a graph: its name, its users, what blocks it, and its hooks.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::hooks::{Change, ChangeKind, Hook, Hooks};
use crate::policy::{Discards, Governed, Policy};
use crate::{
    DirtyHook, DiskOptions, Edge, Node, NodeKind, OpenError, Permissions, Recipe, WriteThreshold,
};

/// A node with everything that all its users share.
pub struct Member {
    name: String,
    /// Under `policy`. Changes when the node is opened again with other options; edges have a copy.
    node: Mutex<Arc<dyn Node>>,
    kind: NodeKind,
    pub(crate) policy: Arc<Policy>,
    pub(crate) hooks: Hooks,
    links: Mutex<Links>,
}

/// What else is known of a member. Locked for moments only.
#[derive(Default)]
pub(crate) struct Links {
    /// Edges that lead here.
    pub parents: Vec<Weak<Edge>>,
    /// There was such an edge at some time.
    pub was_used: bool,
    /// Edges that the node uses.
    pub children: Vec<Weak<Edge>>,
    /// Why certain operations are refused now.
    pub blocks: Vec<Block>,
    /// Number of the next block.
    pub next_block: u64,
    /// What tells of writes beyond an offset.
    pub threshold: Option<Arc<WriteThreshold>>,
    /// How the node was opened.
    pub recipe: Option<Arc<dyn Recipe>>,
    /// Dirty bitmaps in memory that have names.
    pub bitmaps: Vec<(String, Weak<DirtyHook>)>,
    /// What the node was told that its users do and allow.
    pub granted: Option<Permissions>,
}

/// Why operations are refused.
pub(crate) struct Block {
    pub id: u64,
    pub reason: String,
    /// Operations that are possible all the same.
    pub except: &'static [Operation],
}

/// What a monitor or job may want to do with a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// To read it for a backup.
    BackupSource,
    /// To write a backup to it.
    BackupTarget,
    /// To change its medium.
    Change,
    /// To commit it down.
    CommitSource,
    /// To commit into it.
    CommitTarget,
    /// To remove it.
    Remove,
    /// To put an overlay on it.
    ExternalSnapshot,
    /// To take a snapshot in it.
    InternalSnapshot,
    /// To remove a snapshot from it.
    InternalSnapshotDelete,
    /// To mirror it.
    MirrorSource,
    /// To mirror to it.
    MirrorTarget,
    /// To change its length.
    Resize,
    /// To stream into it.
    Stream,
    /// To put another node into its place.
    Replace,
    /// To open it with other options.
    Reopen,
}

impl Member {
    pub(crate) fn new(
        name: String,
        node: Arc<dyn Node>,
        kind: NodeKind,
        options: DiskOptions,
    ) -> Arc<Self> {
        let (hooks, links) = (Hooks::default(), Mutex::default());
        let policy = Policy::new(options);
        let node = Mutex::new(Arc::new(Governed { node, policy: Arc::clone(&policy) }) as _);
        Arc::new(Self { name, node, kind, policy, hooks, links })
    }

    /// A node outside of any graph.
    pub fn anonymous(node: Arc<dyn Node>, options: DiskOptions) -> Arc<Self> {
        let kind = if node.children().is_empty() { NodeKind::Protocol } else { NodeKind::Format };
        Self::new(String::new(), node, kind, options)
    }

    /// The name; begins with `#` if the user gave none.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The node itself. Requests to it pass by its hooks and by drains. Not to be kept: it is another
    /// one when the member was opened again with other options.
    pub fn node(&self) -> Arc<dyn Node> {
        Arc::clone(&self.node.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts another node in the place of the one there is, which nothing uses now. The result is
    /// that one, for [`Member::put_back`].
    pub(crate) fn exchange(&self, node: Arc<dyn Node>) -> Arc<dyn Node> {
        self.put_back(Arc::new(Governed { node, policy: Arc::clone(&self.policy) }))
    }

    /// Undoes [`Member::exchange`].
    pub(crate) fn put_back(&self, node: Arc<dyn Node>) -> Arc<dyn Node> {
        let mut slot = self.node.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *slot, node);
        drop(slot);
        self.parents().iter().for_each(|edge| edge.refresh());
        before
    }

    /// What it is to its children.
    pub fn kind(&self) -> NodeKind {
        match self.kind {
            NodeKind::Filter | NodeKind::Part if self.node().is_part() => NodeKind::Part,
            NodeKind::Part => NodeKind::Filter,
            kind => kind,
        }
    }

    /// The policy it was opened with.
    pub fn options(&self) -> DiskOptions {
        self.policy.options()
    }

    /// End of the furthest write to the node, in bytes.
    pub fn highest_write(&self) -> u64 {
        self.policy.highest()
    }

    /// Whether the node is one that its users can write, as far as it is concerned.
    pub(crate) fn is_writable(&self) -> bool {
        let options = self.options();
        !options.read_only && !options.inactive
    }

    /// Discards that the node was asked for.
    pub fn discarded(&self) -> Discards {
        self.policy.discarded()
    }

    pub(crate) fn links(&self) -> MutexGuard<'_, Links> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How the node was opened, if it can be opened again.
    pub fn recipe(&self) -> Option<Arc<dyn Recipe>> {
        self.links().recipe.clone()
    }

    /// Says how the node was opened.
    pub fn set_recipe(&self, recipe: Arc<dyn Recipe>) {
        self.links().recipe = Some(recipe);
    }

    /// Forgets what the node was told of its users: it is another one, or has other options.
    pub(crate) fn forget_permissions(&self) {
        self.links().granted = None;
    }

    /// Tells the node what its users do and allow from now on, unless it knows.
    pub(crate) fn permit(&self, users: Permissions) -> Result<(), OpenError> {
        if self.links().granted == Some(users) {
            return Ok(());
        }
        self.node().permit(users)?;
        self.links().granted = Some(users);
        Ok(())
    }

    /// The edges that lead here.
    pub fn parents(&self) -> Vec<Arc<Edge>> {
        alive(&mut self.links().parents)
    }

    /// The edges that the node uses.
    pub fn children(&self) -> Vec<Arc<Edge>> {
        alive(&mut self.links().children)
    }

    /// What all its users do and allow together.
    pub fn users(&self) -> Permissions {
        let parents = self.parents();
        parents.iter().fold(Permissions::UNUSED, |all, edge| all.joined(edge.permissions()))
    }

    /// Gives a bitmap that follows the node a name, by which nodes find it when they are opened. It is
    /// there as long as somebody has it.
    pub fn name_bitmap(&self, name: &str, bitmap: &Arc<DirtyHook>) {
        let mut links = self.links();
        links.bitmaps.retain(|(_, bitmap)| bitmap.strong_count() > 0);
        links.bitmaps.push((name.to_owned(), Arc::downgrade(bitmap)));
    }

    /// The bitmap of that name, if there is one in memory.
    pub fn bitmap(&self, name: &str) -> Option<Arc<DirtyHook>> {
        let links = self.links();
        // The newest: an older one of that name may be about to go.
        let mut named = links.bitmaps.iter().rev().filter(|(known, _)| known == name);
        named.find_map(|(_, bitmap)| bitmap.upgrade())
    }

    /// Forgets the content of a range, as a change that every hook sees but for `own`, whose doing it is.
    ///
    /// # Errors
    /// As for [`Node::discard`], and those of the hooks.
    pub fn discard_beside(&self, own: &dyn Hook, offset: u64, len: u64) -> io::Result<()> {
        let change = Change { kind: ChangeKind::Discard, offset, len };
        let node = self.node();
        self.hooks.around_beside(Some(own), change, &*node, |node| node.discard(offset, len))
    }

    pub(crate) fn adopt(&self, edge: &Arc<Edge>) {
        let mut links = self.links();
        links.parents.push(Arc::downgrade(edge));
        links.was_used = true;
    }

    /// Whether its last user has gone. Who looks at the graph just now may still hold the node.
    pub(crate) fn is_left(&self) -> bool {
        let links = self.links();
        links.was_used && links.parents.iter().all(|edge| edge.strong_count() == 0)
    }

    pub(crate) fn abandon(&self, edge: &Edge) {
        self.links().parents.retain(|one| !std::ptr::eq(one.as_ptr(), edge));
    }
}

/// Those edges that are still there, and forgets the others.
fn alive(edges: &mut Vec<Weak<Edge>>) -> Vec<Arc<Edge>> {
    let there: Vec<_> = edges.iter().filter_map(Weak::upgrade).collect();
    if there.len() < edges.len() {
        edges.retain(|edge| edge.strong_count() > 0);
    }
    there
}
