//! Workers that read at the same time and write one after the other.

use std::sync::{Condvar, Mutex, PoisonError};

/// Lets numbered pieces of work pass in the order of their numbers, or, when order does not matter, at
/// once.
pub(crate) struct Turns {
    ordered: bool,
    next: Mutex<u64>,
    passed: Condvar,
}

impl Turns {
    pub fn new(ordered: bool) -> Self {
        Self { ordered, next: Mutex::new(0), passed: Condvar::new() }
    }

    /// Waits for the turn of piece `number` and does it; who fails passes the turn on all the same.
    pub fn take<T>(&self, number: u64, work: impl FnOnce() -> T) -> T {
        if !self.ordered {
            return work();
        }
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        while *next != number {
            next = self.passed.wait(next).unwrap_or_else(PoisonError::into_inner);
        }
        drop(next);
        let result = work();
        *self.next.lock().unwrap_or_else(PoisonError::into_inner) = number + 1;
        self.passed.notify_all();
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_pass_in_order() {
        let turns = Turns::new(true);
        let seen = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for number in (0..8).rev() {
                let (turns, seen) = (&turns, &seen);
                scope.spawn(move || {
                    turns.take(number, || seen.lock().expect("no one panics").push(number));
                });
            }
        });
        assert_eq!(seen.into_inner().expect("no one panics"), [0, 1, 2, 3, 4, 5, 6, 7]);
    }
}
