//! Workers that read at the same time and write one after the other.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::Thread;

/// Lets numbered pieces of work pass in the order of their numbers, or, when order does not matter, at
/// once.
pub(crate) struct Turns {
    ordered: bool,
    line: Mutex<Line>,
}

#[derive(Default)]
struct Line {
    /// Whose turn it is.
    next: u64,
    /// Who waits, by number: only one of them is woken at a time.
    waiting: BTreeMap<u64, Thread>,
}

impl Turns {
    pub fn new(ordered: bool) -> Self {
        Self { ordered, line: Mutex::default() }
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the turn of piece `number` and does it; who fails passes the turn on all the same.
    pub fn take<T>(&self, number: u64, work: impl FnOnce() -> T) -> T {
        if !self.ordered {
            return work();
        }
        let mut line = self.line();
        if line.next != number {
            line.waiting.insert(number, std::thread::current());
        }
        while line.next != number {
            drop(line);
            std::thread::park();
            line = self.line();
        }
        drop(line);
        let result = work();
        let mut line = self.line();
        line.next = number + 1;
        if let Some(thread) = line.waiting.remove(&(number + 1)) {
            thread.unpark();
        }
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
