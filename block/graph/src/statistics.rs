//! What a disk was asked to do, for `info blockstats`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Requests of one kind that succeeded.
#[derive(Debug, Default)]
pub struct Counters {
    operations: AtomicU64,
    bytes: AtomicU64,
    ns: AtomicU64,
}

impl Counters {
    /// Counts what `act` does with `len` bytes, if it is true that it did.
    pub(crate) fn count<T>(&self, len: u64, act: impl FnOnce() -> T, done: fn(&T) -> bool) -> T {
        let start = Instant::now();
        let result = act();
        if done(&result) {
            self.add(len, start);
        }
        result
    }

    /// Counts what was done with `len` bytes since `start`.
    pub(crate) fn add(&self, len: u64, start: Instant) {
        self.operations.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(len, Ordering::Relaxed);
        let ns = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.ns.fetch_add(ns, Ordering::Relaxed);
    }

    /// How many there were.
    pub fn operations(&self) -> u64 {
        self.operations.load(Ordering::Relaxed)
    }

    /// Bytes that they moved.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Nanoseconds that they took in all.
    pub fn ns(&self) -> u64 {
        self.ns.load(Ordering::Relaxed)
    }
}

/// Counters of a disk.
#[derive(Debug, Default)]
pub struct Statistics {
    /// Reads.
    pub reads: Counters,
    /// Writes, of zeroes too.
    pub writes: Counters,
    /// Flushes; they move no bytes.
    pub flushes: Counters,
}
