//! Waiting for any of several things to happen.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Rings when something that a sleeper might wait for has happened. A sleeper remembers the number of
/// rings, looks at what it waits for, and sleeps until there is one more: no ring is lost in between.
#[derive(Default)]
pub struct Bell {
    rings: AtomicU64,
    sleepers: AtomicUsize,
    mutex: Mutex<()>,
    rung: Condvar,
}

impl Bell {
    /// Rings so far.
    pub fn rings(&self) -> u64 {
        self.rings.load(Ordering::SeqCst)
    }

    /// Wakes who sleeps. Costs next to nothing when nobody does.
    pub fn ring(&self) {
        self.rings.fetch_add(1, Ordering::SeqCst);
        if self.sleepers.load(Ordering::SeqCst) != 0 {
            drop(self.mutex.lock().unwrap_or_else(PoisonError::into_inner));
            self.rung.notify_all();
        }
    }

    /// Sleeps until the bell has rung more often than `seen` times, or `most` has passed.
    pub fn wait(&self, seen: u64, most: Option<Duration>) {
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        let guard = self.mutex.lock().unwrap_or_else(PoisonError::into_inner);
        let silent = |_: &mut ()| self.rings() == seen;
        match most {
            None => drop(self.rung.wait_while(guard, silent)),
            Some(most) => drop(self.rung.wait_timeout_while(guard, most, silent)),
        }
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
    }
}
