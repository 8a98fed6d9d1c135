//! What happens beside a change of a node: bits are set, copies are taken, limits are watched.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use crate::{DirtyBits, Edge, Node};

/// What a request does to a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// Data is written.
    Write,
    /// It is made to read as zeroes.
    Zero,
    /// Its content is forgotten.
    Discard,
}

/// A change of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// What is done.
    pub kind: ChangeKind,
    /// First byte.
    pub offset: u64,
    /// Number of bytes.
    pub len: u64,
}

/// Watches the changes of a node, whoever makes them.
///
/// Both calls come on the thread of the request, with the edges it came through in use: a hook must
/// not use an edge to the same node or to one above it. `node` is the node itself, to read from.
pub trait Hook: Send + Sync {
    /// Called before the change.
    ///
    /// # Errors
    /// Fails the request, which then changes nothing.
    fn before(&self, _change: &Change, _node: &dyn Node) -> io::Result<()> {
        Ok(())
    }

    /// Called after each [`Hook::before`] that succeeded, when the change was tried or another hook has
    /// refused it; some of it may be done if it failed.
    fn after(&self, _change: &Change) {}

    /// Called when the node has another length, in bytes.
    fn resized(&self, _size: u64) {}

    /// The edges that the hook itself uses.
    fn edges(&self) -> Vec<Arc<Edge>> {
        Vec::new()
    }
}

/// The hooks of one node.
#[derive(Default)]
pub(crate) struct Hooks {
    /// Whether there are any: requests look at this only.
    active: AtomicBool,
    list: RwLock<Arc<[Arc<dyn Hook>]>>,
}

impl Hooks {
    pub fn active(&self) -> bool {
        self.active.load(Ordering::Acquire)
    }

    /// Those there are now.
    pub fn now(&self) -> Arc<[Arc<dyn Hook>]> {
        Arc::clone(&self.list.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn add(&self, hook: Arc<dyn Hook>) {
        self.change(|list| list.push(hook));
    }

    pub fn remove(&self, hook: &Arc<dyn Hook>) {
        self.change(|list| list.retain(|one| !Arc::ptr_eq(one, hook)));
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Arc<dyn Hook>>)) {
        let mut list = self.list.write().unwrap_or_else(PoisonError::into_inner);
        let mut now = list.to_vec();
        change(&mut now);
        self.active.store(!now.is_empty(), Ordering::Release);
        *list = now.into();
    }

    /// Makes a change between the calls of all hooks.
    pub fn around(
        &self,
        change: Change,
        node: &dyn Node,
        act: impl FnOnce(&dyn Node) -> io::Result<()>,
    ) -> io::Result<()> {
        self.around_beside(None, change, node, act)
    }

    /// The same, but for the calls of one hook.
    pub fn around_beside(
        &self,
        own: Option<&dyn Hook>,
        change: Change,
        node: &dyn Node,
        act: impl FnOnce(&dyn Node) -> io::Result<()>,
    ) -> io::Result<()> {
        let now = self.now();
        let is_own = |hook: &dyn Hook| own.is_some_and(|own| std::ptr::addr_eq(own, hook));
        let hooks = || now.iter().filter(|hook| !is_own(&***hook));
        let refused = hooks()
            .enumerate()
            .find_map(|(row, hook)| hook.before(&change, node).err().map(|error| (row, error)));
        // Every hook that has let a change pass hears that it is over.
        let (passed, result) = match refused {
            None => (now.len(), act(node)),
            Some((row, error)) => (row, Err(error)),
        };
        hooks().take(passed).for_each(|hook| hook.after(&change));
        result
    }
}

/// A dirty bitmap that follows the changes of the node it is a hook of.
pub struct DirtyHook {
    bits: Mutex<DirtyBits>,
    enabled: AtomicBool,
}

impl DirtyHook {
    /// No bits set, each for `1 << granularity_bits` bytes.
    pub fn new(granularity_bits: u32) -> Arc<Self> {
        let bits = Mutex::new(DirtyBits::new(granularity_bits));
        Arc::new(Self { bits, enabled: AtomicBool::new(true) })
    }

    /// The bits. Requests that change the node wait for who holds them.
    pub fn bits(&self) -> MutexGuard<'_, DirtyBits> {
        self.bits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether changes set bits.
    pub fn enabled(&self) -> bool {
        self.enabled.load(Ordering::Acquire)
    }

    /// Starts or stops noting changes.
    pub fn enable(&self, on: bool) {
        self.enabled.store(on, Ordering::Release);
    }
}

impl Hook for DirtyHook {
    /// Afterwards, so that who clears a bit and then copies cannot miss what is on its way.
    fn after(&self, change: &Change) {
        if self.enabled() {
            self.bits().set(change.offset, change.len);
        }
    }

    fn resized(&self, size: u64) {
        self.bits().clear(size, u64::MAX - size);
    }
}

/// Tells once when a change goes beyond an offset (`block-set-write-threshold`).
pub struct WriteThreshold {
    /// The offset in bytes; 0 is none.
    offset: AtomicU64,
    tell: Box<dyn Fn(u64, u64) + Send + Sync>,
}

impl WriteThreshold {
    /// Calls `tell` with the number of bytes beyond the offset and with the offset.
    pub fn new(tell: impl Fn(u64, u64) + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self { offset: AtomicU64::new(0), tell: Box::new(tell) })
    }

    /// The offset in bytes; 0 when there is none or it was passed.
    pub fn get(&self) -> u64 {
        self.offset.load(Ordering::Acquire)
    }

    /// Sets the offset in bytes; 0 is none.
    pub fn set(&self, offset: u64) {
        self.offset.store(offset, Ordering::Release);
    }
}

impl Hook for WriteThreshold {
    fn before(&self, change: &Change, _node: &dyn Node) -> io::Result<()> {
        let (offset, end) = (self.get(), change.offset.saturating_add(change.len));
        let passed = offset != 0 && end > offset;
        // One of those that pass at the same time tells.
        let set = |from| self.offset.compare_exchange(from, 0, Ordering::AcqRel, Ordering::Relaxed);
        if passed && set(offset).is_ok() {
            (self.tell)(end - offset, offset);
        }
        Ok(())
    }
}
