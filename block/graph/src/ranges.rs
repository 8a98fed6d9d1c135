//! Byte ranges in use: many readers or one changer per range.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// Whether others may use the range at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// Together with other shared users.
    Shared,
    /// Alone.
    Exclusive,
}

/// A set of ranges that are in use right now.
#[derive(Default)]
pub struct RangeLocks {
    state: Mutex<State>,
    released: Condvar,
}

#[derive(Default)]
struct State {
    next: u64,
    held: Vec<Entry>,
    /// Ticket numbers of waiters with their ranges, oldest first: nobody overtakes an overlapping one.
    waiting: Vec<Entry>,
}

#[derive(Clone, Copy)]
struct Entry {
    ticket: u64,
    start: u64,
    end: u64,
    sharing: Sharing,
}

impl Entry {
    fn conflicts(&self, other: &Self) -> bool {
        self.start < other.end
            && other.start < self.end
            && (self.sharing == Sharing::Exclusive || other.sharing == Sharing::Exclusive)
    }
}

/// Proof that a range is held; released when dropped.
pub struct RangeGuard<'a> {
    locks: &'a RangeLocks,
    ticket: u64,
}

/// The same as a [`RangeGuard`], for who cannot borrow.
pub struct RangeHold {
    locks: Arc<RangeLocks>,
    ticket: u64,
}

impl RangeLocks {
    /// Waits until `[start, end)` can be used as asked. Waiters on overlapping ranges are served in
    /// the order of their arrival, so a changer does not starve among readers.
    pub fn lock(&self, start: u64, end: u64, sharing: Sharing) -> RangeGuard<'_> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let ticket = state.next;
        state.next += 1;
        let entry = Entry { ticket, start, end, sharing };
        let blocked = |s: &State| {
            s.held.iter().any(|h| h.conflicts(&entry))
                || s.waiting.iter().any(|w| w.ticket < ticket && w.conflicts(&entry))
        };
        if blocked(&state) {
            state.waiting.push(entry);
            while blocked(&state) {
                state = self.released.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            state.waiting.retain(|w| w.ticket != ticket);
        }
        state.held.push(entry);
        RangeGuard { locks: self, ticket }
    }

    /// Takes the range if that is possible at once.
    pub fn try_lock(&self, start: u64, end: u64, sharing: Sharing) -> Option<RangeGuard<'_>> {
        Some(RangeGuard { locks: self, ticket: self.take(start, end, sharing)? })
    }

    /// The same for as long as the result lives, wherever that is.
    pub fn try_hold(self: &Arc<Self>, start: u64, end: u64, sharing: Sharing) -> Option<RangeHold> {
        Some(RangeHold { locks: Arc::clone(self), ticket: self.take(start, end, sharing)? })
    }

    /// Takes a range that is free; its ticket.
    fn take(&self, start: u64, end: u64, sharing: Sharing) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let ticket = state.next;
        let entry = Entry { ticket, start, end, sharing };
        if state.held.iter().chain(&state.waiting).any(|e| e.conflicts(&entry)) {
            return None;
        }
        state.next += 1;
        state.held.push(entry);
        Some(ticket)
    }

    fn release(&self, ticket: u64) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = state.held.iter().position(|h| h.ticket == ticket) {
            state.held.swap_remove(at);
        }
        if !state.waiting.is_empty() {
            self.released.notify_all();
        }
    }
}

impl Drop for RangeGuard<'_> {
    fn drop(&mut self) {
        self.locks.release(self.ticket);
    }
}

impl Drop for RangeHold {
    fn drop(&mut self) {
        self.locks.release(self.ticket);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn changers_of_one_range_never_overlap() {
        let locks = Arc::new(RangeLocks::default());
        let inside = Arc::new(AtomicU32::new(0));
        std::thread::scope(|s| {
            for _ in 0..4 {
                let (locks, inside) = (Arc::clone(&locks), Arc::clone(&inside));
                s.spawn(move || {
                    for i in 0..500 {
                        let _guard = locks.lock(i % 3, 4, Sharing::Exclusive);
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        inside.fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
        });
    }

    #[test]
    fn readers_share_and_disjoint_changers_do_not_wait() {
        let locks = RangeLocks::default();
        let _a = locks.lock(0, 10, Sharing::Shared);
        let _b = locks.lock(5, 15, Sharing::Shared);
        let _c = locks.lock(15, 20, Sharing::Exclusive);
        assert!(locks.try_lock(0, 15, Sharing::Shared).is_some());
        assert!(locks.try_lock(14, 16, Sharing::Shared).is_none());
    }
}
