//! What a user of a node holds instead of the node: a pointer that can be turned elsewhere.
//!
//! Decision 13 has the reasons and the order of locks.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{
    Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard, TryLockError,
    Weak,
};

use crate::hooks::{Change, ChangeKind};
use crate::{
    Aio, Breakpoints, Child, DiskOptions, Event, Extent, Image, Limits, Member, Node, NodeInfo,
    Past, Permissions, Plain, Preallocation, Role, WriteFlags, ZeroFlags, check_range,
};

/// Who uses a node through an edge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum User {
    /// Another node, in the role of its child.
    Node(Role),
    /// A device, an export or a tool, by its id or name, which may be empty.
    Device(String),
    /// A job, by its id.
    Job(String),
}

/// Where an edge leads. The node is the member's; it is here, too, to be at hand.
struct Place {
    member: Arc<Member>,
    node: Arc<dyn Node>,
}

impl Place {
    fn of(member: &Arc<Member>) -> Self {
        Self { member: Arc::clone(member), node: member.node() }
    }
}

/// A node that an edge leads to, by reference; an alias because functions are passed for it.
type Below = dyn Node + 'static;

/// An edge of the graph: leads to one node at a time, or to nothing, which is a node of length 0
/// that cannot be written.
///
/// All calls go to the node behind. Those that move data wait while the edge is drained; those that
/// only ask for a property do not.
pub struct Edge {
    target: RwLock<Option<Place>>,
    /// Number of drains that hold requests back; only edges of devices and jobs ever have any.
    closed: AtomicU32,
    /// Whether the node behind listens to events: few do, and every request has some.
    listens: AtomicBool,
    gate: Mutex<()>,
    opened: Condvar,
    flights: Arc<Flights>,
    user: User,
    /// The user puts up with a node that becomes inactive.
    puts_up: AtomicBool,
    /// The node whose child this is, once that is open.
    parent: OnceLock<Weak<Member>>,
    permissions: Mutex<Permissions>,
}

impl Edge {
    /// An edge for `user` to `target`. Outside of a graph it stays alone: nobody else drains or
    /// turns it.
    pub fn new(user: User, target: Option<&Arc<Member>>, permissions: Permissions) -> Arc<Self> {
        let edge = Arc::new(Self {
            target: RwLock::new(target.map(Place::of)),
            closed: AtomicU32::new(0),
            listens: AtomicBool::new(target.is_some_and(|member| listens(&*member.node()))),
            gate: Mutex::default(),
            opened: Condvar::new(),
            flights: Arc::default(),
            user,
            puts_up: AtomicBool::new(false),
            parent: OnceLock::new(),
            permissions: Mutex::new(permissions),
        });
        if let Some(target) = target {
            target.adopt(&edge);
        }
        edge
    }

    /// An edge of a nameless device to a node outside of any graph, which gets every discard.
    pub fn to(node: Arc<dyn Node>) -> Arc<Self> {
        let options = DiskOptions { discard: true, ..DiskOptions::default() };
        let member = Member::anonymous(node, options);
        Self::new(User::Device(String::new()), Some(&member), Permissions::UNUSED)
    }

    /// Who uses it.
    pub fn user(&self) -> &User {
        &self.user
    }

    /// Who uses it, as messages say it.
    pub fn user_text(&self) -> String {
        match (&self.user, self.parent()) {
            (User::Node(_), Some(parent)) => format!("node '{}'", parent.name()),
            (User::Node(_), None) => "a node that is being opened".to_owned(),
            (User::Device(id), _) if id.is_empty() => "an unnamed block device".to_owned(),
            (User::Device(id), _) => format!("block device '{id}'"),
            (User::Job(id), _) => format!("block job '{id}'"),
        }
    }

    /// What the node behind is to the user, as lists and messages say it.
    pub fn role_text(&self) -> String {
        match &self.user {
            User::Node(role) => role.name(),
            User::Device(_) => "root".to_owned(),
            User::Job(_) => "main node".to_owned(),
        }
    }

    /// The node whose child this is.
    pub fn parent(&self) -> Option<Arc<Member>> {
        self.parent.get().and_then(Weak::upgrade)
    }

    pub(crate) fn set_parent(&self, parent: &Arc<Member>) {
        // A child of one node never becomes that of another.
        let _ = self.parent.set(Arc::downgrade(parent));
    }

    /// The user goes on when the node becomes inactive, and has what it asks for when it is active.
    pub fn put_up(&self) {
        self.puts_up.store(true, Ordering::Relaxed);
    }

    pub(crate) fn puts_up(&self) -> bool {
        self.puts_up.load(Ordering::Relaxed)
    }

    /// Whether requests begin here: only those are ever held back.
    pub(crate) fn is_root(&self) -> bool {
        !matches!(self.user, User::Node(_))
    }

    /// The node it leads to now.
    pub fn target(&self) -> Option<Arc<Member>> {
        self.slot().as_ref().map(|place| Arc::clone(&place.member))
    }

    /// Whether discards have an effect on the node.
    pub fn discards(&self) -> bool {
        self.slot().as_ref().is_some_and(|place| place.member.policy.discards())
    }

    /// Takes note of a write that the node itself was not asked for as such.
    pub(crate) fn wrote(&self, offset: u64, len: u64) {
        if let Some(place) = &*self.slot() {
            place.member.policy.wrote(offset, len);
        }
    }

    /// What the user does with the node, and what it lets others do.
    pub fn permissions(&self) -> Permissions {
        *self.permissions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_permissions(&self, permissions: Permissions) {
        *self.permissions.lock().unwrap_or_else(PoisonError::into_inner) = permissions;
    }

    /// Turns the edge to another node once nothing is in flight through it; the result is the one it
    /// led to. In a graph, the graph does this (see [`crate::Graph`]).
    pub fn turn(self: &Arc<Self>, target: Option<&Arc<Member>>) -> Option<Arc<Member>> {
        let before = self.put(|_| target.map(Place::of)).map(|place| place.member);
        if let Some(before) = &before {
            before.abandon(self);
        }
        if let Some(target) = target {
            target.adopt(self);
        }
        before
    }

    /// Takes note that the member has another node.
    pub(crate) fn refresh(&self) {
        self.put(|place| place.map(|place| Place::of(&place.member)));
    }

    /// Leads elsewhere from now on; the result is where it led. Those who ask for a property need not
    /// wait for transfers in flight, and may be those who have to finish them.
    fn put(&self, change: impl FnOnce(Option<&Place>) -> Option<Place>) -> Option<Place> {
        self.close();
        self.settle();
        let mut slot = self.target.write().unwrap_or_else(PoisonError::into_inner);
        let place = change(slot.as_ref());
        let heard = place.as_ref().is_some_and(|place| listens(&*place.node));
        self.listens.store(heard, Ordering::Relaxed);
        let before = std::mem::replace(&mut *slot, place);
        drop(slot);
        self.open();
        before
    }

    /// Holds back requests that come from now on.
    pub(crate) fn close(&self) {
        self.closed.fetch_add(1, Ordering::SeqCst);
    }

    /// Waits until those that came before are finished.
    pub(crate) fn settle(&self) {
        drop(self.target.write().unwrap_or_else(PoisonError::into_inner));
        self.flights.wait();
    }

    /// Undoes one [`Edge::close`].
    pub(crate) fn open(&self) {
        let gate = self.gate();
        self.closed.fetch_sub(1, Ordering::SeqCst);
        drop(gate);
        self.opened.notify_all();
    }

    fn gate(&self) -> MutexGuard<'_, ()> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst) != 0
    }

    /// For questions that move no data.
    fn slot(&self) -> RwLockReadGuard<'_, Option<Place>> {
        self.target.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// For requests: the lock is what keeps the node in its place until they are done.
    fn enter(&self) -> RwLockReadGuard<'_, Option<Place>> {
        loop {
            let slot = self.slot();
            if !self.is_closed() {
                return slot;
            }
            drop(slot);
            let mut gate = self.gate();
            while self.is_closed() {
                gate = self.opened.wait(gate).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    /// Counts as a request until the result is dropped: for what takes several calls to the node itself
    /// and must not be torn by a drain. Nothing may go through this edge meanwhile.
    pub fn hold(&self) -> InUse<'_> {
        InUse { _slot: self.enter() }
    }

    /// A request that changes nothing.
    pub(crate) fn with<T>(&self, act: impl FnOnce(&dyn Node) -> io::Result<T>) -> io::Result<T> {
        match &*self.enter() {
            Some(place) => act(&*place.node),
            None => Err(nothing()),
        }
    }

    /// A request that changes a range.
    pub(crate) fn change(
        &self,
        kind: ChangeKind,
        offset: u64,
        len: u64,
        act: impl FnOnce(&dyn Node) -> io::Result<()>,
    ) -> io::Result<()> {
        match &*self.enter() {
            None => Err(nothing()),
            Some(place) if !place.member.hooks.active() => act(&*place.node),
            Some(place) => {
                place.member.hooks.around(Change { kind, offset, len }, &*place.node, act)
            }
        }
    }

    /// A request that may change the length.
    pub(crate) fn change_size(
        &self,
        act: impl FnOnce(&dyn Node) -> io::Result<()>,
    ) -> io::Result<()> {
        match &*self.enter() {
            None => Err(nothing()),
            Some(place) => {
                let done = act(&*place.node);
                let size = place.node.size();
                place.member.hooks.now().iter().for_each(|hook| hook.resized(size));
                done
            }
        }
    }

    /// A property of the node behind.
    fn ask<T>(&self, without: T, ask: impl FnOnce(&Below) -> T) -> T {
        match &*self.slot() {
            Some(place) => ask(&*place.node),
            None => without,
        }
    }

    /// Whether the node behind has a certain facet.
    pub(crate) fn has(&self, facet: impl FnOnce(&dyn Image) -> bool) -> bool {
        self.ask(false, |node| node.image().is_some_and(facet))
    }
}

/// The transfers through an edge that the kernel carries out: requests that are in flight without a
/// thread that holds the edge's lock. They begin under it, and who has it for writing waits for them.
#[derive(Default)]
struct Flights {
    count: AtomicUsize,
    awaited: AtomicBool,
    landing: Mutex<()>,
    landed: Condvar,
}

impl Flights {
    fn begin(self: &Arc<Self>) -> Flight {
        self.count.fetch_add(1, Ordering::SeqCst);
        Flight(Arc::clone(self))
    }

    /// Waits until there are none. No new ones begin meanwhile.
    fn wait(&self) {
        if self.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        let mut landing = self.landing.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            self.awaited.store(true, Ordering::SeqCst);
            if self.count.load(Ordering::SeqCst) == 0 {
                return;
            }
            landing = self.landed.wait(landing).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// One transfer through an edge, until dropped.
pub(crate) struct Flight(Arc<Flights>);

impl Drop for Flight {
    fn drop(&mut self) {
        let last = self.0.count.fetch_sub(1, Ordering::SeqCst) == 1;
        if last && self.0.awaited.load(Ordering::SeqCst) {
            let landing = self.0.landing.lock().unwrap_or_else(PoisonError::into_inner);
            self.0.awaited.store(false, Ordering::SeqCst);
            drop(landing);
            self.0.landed.notify_all();
        }
    }
}

fn listens(node: &dyn Node) -> bool {
    node.breakpoints().is_some()
}

/// Something is in flight through an edge, until dropped.
pub struct InUse<'a> {
    _slot: RwLockReadGuard<'a, Option<Place>>,
}

fn nothing() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "there is no node behind this edge")
}

impl Drop for Edge {
    fn drop(&mut self) {
        if let Some(target) = self.target() {
            target.abandon(self);
        }
    }
}

impl Node for Edge {
    fn size(&self) -> u64 {
        self.ask(0, Node::size)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        match &*self.enter() {
            Some(place) => place.node.read_at(offset, buf),
            None => check_range(offset, buf.len() as u64, 0),
        }
    }

    fn read_cached(&self, offset: u64, buf: &mut [u8]) -> bool {
        let slot = match self.target.try_read() {
            Ok(slot) => slot,
            Err(TryLockError::Poisoned(slot)) => slot.into_inner(),
            Err(TryLockError::WouldBlock) => return false,
        };
        !self.is_closed() && slot.as_ref().is_some_and(|p| p.node.read_cached(offset, buf))
    }

    fn plain(&self, offset: u64, len: u64, write: bool, into: &mut Plain) -> bool {
        let slot = match self.target.try_read() {
            Ok(slot) => slot,
            Err(TryLockError::Poisoned(slot)) => slot.into_inner(),
            Err(TryLockError::WouldBlock) => return false,
        };
        let Some(place) = slot.as_ref().filter(|_| !self.is_closed()) else { return false };
        if write && place.member.hooks.active() {
            return false;
        }
        into.count_in(self.flights.begin());
        place.node.plain(offset, len, write, into)
    }

    fn aio(&self) -> Aio {
        self.ask(Aio::Threads, Node::aio)
    }

    fn write_at(&self, offset: u64, buf: &[u8], flags: WriteFlags) -> io::Result<()> {
        let len = buf.len() as u64;
        self.change(ChangeKind::Write, offset, len, |node| node.write_at(offset, buf, flags))
    }

    fn write_zeroes(&self, offset: u64, len: u64, flags: ZeroFlags) -> io::Result<()> {
        self.change(ChangeKind::Zero, offset, len, |node| node.write_zeroes(offset, len, flags))
    }

    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        // What has no effect is no change that anybody has to see.
        if self.ask(false, |_| true) && !self.discards() {
            return Ok(());
        }
        self.change(ChangeKind::Discard, offset, len, |node| node.discard(offset, len))
    }

    fn flush(&self) -> io::Result<()> {
        match &*self.enter() {
            Some(place) => place.node.flush(),
            None => Ok(()),
        }
    }

    fn block_status(&self, offset: u64, len: u64) -> io::Result<Extent> {
        self.with(|node| node.block_status(offset, len))
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        self.change_size(|node| node.truncate(size))
    }

    fn preallocate(&self, offset: u64, len: u64, how: Preallocation) -> io::Result<()> {
        self.change_size(|node| node.preallocate(offset, len, how))
    }

    fn read_only(&self) -> bool {
        self.ask(true, Node::read_only)
    }

    fn limits(&self) -> Limits {
        self.ask(Limits::default(), Node::limits)
    }

    fn children(&self) -> Vec<Child> {
        let mut children = self.ask(Vec::new(), Node::children);
        children.retain(|child| child.node.present());
        children
    }

    fn info(&self) -> NodeInfo {
        self.ask(NodeInfo::default(), Node::info)
    }

    fn event(&self, event: Event) {
        if self.listens.load(Ordering::Relaxed) {
            self.ask((), |node| node.event(event));
        }
    }

    fn breakpoints(&self) -> Option<Arc<dyn Breakpoints>> {
        self.ask(None, Node::breakpoints)
    }

    fn present(&self) -> bool {
        self.slot().is_some()
    }

    fn past(&self) -> Option<Arc<dyn Past>> {
        self.ask(None, Node::past)
    }

    fn image(&self) -> Option<&dyn Image> {
        self.has(|_| true).then_some(self)
    }
}
