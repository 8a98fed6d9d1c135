//! Which units stand, for processors that jump to them without asking.
//!
//! Whoever drops a unit first counts a change, then withdraws the unit from every processor's jump
//! cache. A processor that publishes a unit there looked at the count before it looked for the unit,
//! and looks again afterwards: either it sees the change, or its entry is seen by who withdraws.
//! `tests/standing.rs` compiles this file with the primitives of a model checker.

use crate::primitives::{AtomicU64, Ordering, fence};

/// Counts what was dropped.
pub(crate) struct Changes(AtomicU64);

impl Changes {
    pub(crate) fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// So many so far: two equal answers mean that nothing was dropped between them.
    pub(crate) fn count(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    /// One more; comes before [`withdraw`].
    pub(crate) fn add(&self) {
        self.0.fetch_add(1, Ordering::AcqRel);
        fence(Ordering::SeqCst);
    }
}

/// An entry of a jump cache: a guest address, and where its code is.
pub(crate) struct Jump<'a> {
    pub(crate) pc: &'a AtomicU64,
    pub(crate) code: &'a AtomicU64,
    /// An address that never belongs into this entry.
    pub(crate) none: u64,
}

impl Jump<'_> {
    /// Lets jumps to `pc` lead to `code`, which was looked up after `seen` was counted. Called by
    /// the processor that jumps.
    pub(crate) fn publish(&self, pc: u64, code: u64, changes: &Changes, seen: u64) {
        self.code.store(code, Ordering::Relaxed);
        self.pc.store(pc, Ordering::Release);
        fence(Ordering::SeqCst);
        if changes.count() != seen {
            self.pc.store(self.none, Ordering::Release);
        }
    }

    /// Whether jumps to `pc` lead to `code` already. For the processor that jumps.
    pub(crate) fn leads_to(&self, pc: u64, code: u64) -> bool {
        self.pc.load(Ordering::Relaxed) == pc && self.code.load(Ordering::Relaxed) == code
    }

    /// Lets jumps to `pc` lead nowhere.
    pub(crate) fn withdraw(&self, pc: u64) {
        let _was_another =
            self.pc.compare_exchange(pc, self.none, Ordering::AcqRel, Ordering::Acquire);
    }
}
