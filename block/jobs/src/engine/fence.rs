//! Keeps the pieces of a job and the changes of others apart where they overlap.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use graph::Change;

/// Byte ranges that a job has in hand, and that others are changing.
///
/// Changes may overlap each other; a piece overlaps nothing. Changes that come later wait for a piece
/// that waits, so that it gets its turn.
#[derive(Default)]
pub(crate) struct Fence {
    state: Mutex<State>,
    freed: Condvar,
}

#[derive(Default)]
struct State {
    pieces: Vec<Range>,
    waiting: Vec<Range>,
    changes: Vec<Range>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Range {
    start: u64,
    end: u64,
}

impl Range {
    fn new(offset: u64, len: u64) -> Self {
        Self { start: offset, end: offset.saturating_add(len) }
    }

    fn meets(&self, others: &[Self]) -> bool {
        others.iter().any(|other| self.start < other.end && other.start < self.end)
    }
}

/// A piece in hand, until dropped.
pub(crate) struct InHand<'a> {
    fence: &'a Fence,
    range: Range,
}

impl Fence {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.freed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a piece in hand once nobody else has any of it.
    pub fn take(&self, offset: u64, len: u64) -> InHand<'_> {
        let range = Range::new(offset, len);
        let mut state = self.lock();
        let busy = |state: &State| range.meets(&state.pieces) || range.meets(&state.changes);
        if busy(&state) {
            state.waiting.push(range);
            while busy(&state) {
                state = self.wait(state);
            }
            remove(&mut state.waiting, range);
        }
        state.pieces.push(range);
        InHand { fence: self, range }
    }

    /// Waits until no piece is in the way of a change, and keeps those away that come, until
    /// [`Fence::changed`].
    pub fn change(&self, change: &Change) {
        let range = Range::new(change.offset, change.len);
        let mut state = self.lock();
        while range.meets(&state.pieces) || range.meets(&state.waiting) {
            state = self.wait(state);
        }
        state.changes.push(range);
    }

    /// A change is done.
    pub fn changed(&self, change: &Change) {
        remove(&mut self.lock().changes, Range::new(change.offset, change.len));
        self.freed.notify_all();
    }
}

fn remove(ranges: &mut Vec<Range>, range: Range) {
    if let Some(at) = ranges.iter().position(|one| *one == range) {
        ranges.swap_remove(at);
    }
}

impl Drop for InHand<'_> {
    fn drop(&mut self) {
        remove(&mut self.fence.lock().pieces, self.range);
        self.fence.freed.notify_all();
    }
}
