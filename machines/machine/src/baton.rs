//! Taking turns: processors that share one host thread's worth of time.

use crate::primitives::{Condvar, Mutex, MutexGuard};
use std::sync::PoisonError;

#[derive(Default)]
struct Queue {
    next: u64,
    serving: u64,
    holder: Option<usize>,
}

/// Held by the processor that runs; served in the order of asking.
#[derive(Default)]
pub(crate) struct Baton {
    queue: Mutex<Queue>,
    moved: Condvar,
}

impl Baton {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the turn of processor `who`.
    pub(crate) fn take(&self, who: usize) {
        let mut queue = self.queue();
        let ticket = queue.next;
        queue.next += 1;
        while queue.serving != ticket {
            queue = self.moved.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        queue.holder = Some(who);
    }

    /// Ends a turn.
    pub(crate) fn pass(&self) {
        let mut queue = self.queue();
        queue.serving += 1;
        queue.holder = None;
        self.moved.notify_all();
    }

    /// Who runs while others wait.
    pub(crate) fn contended_holder(&self) -> Option<usize> {
        let queue = self.queue();
        queue.holder.filter(|_| queue.next > queue.serving + 1)
    }
}
