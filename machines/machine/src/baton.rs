//! Taking turns: processors that share one host thread's worth of time.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

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

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn turns_come_in_the_order_of_asking() {
        let baton = Arc::new(Baton::default());
        let order = Arc::new(Mutex::new(Vec::new()));
        baton.take(0);
        assert_eq!(baton.contended_holder(), None);
        let other = {
            let (baton, order) = (Arc::clone(&baton), Arc::clone(&order));
            std::thread::spawn(move || {
                baton.take(1);
                order.lock().unwrap().push(1);
                baton.pass();
            })
        };
        while baton.contended_holder() != Some(0) {
            std::thread::yield_now();
        }
        order.lock().unwrap().push(0);
        baton.pass();
        other.join().unwrap();
        assert_eq!(*order.lock().unwrap(), [0, 1]);
    }
}
