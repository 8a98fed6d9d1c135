//! What a clock shows, readable without a lock: guests read the time far more often than anybody
//! starts or stops it.

use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::time::Instant;

/// `since_ns` of a clock that stands still.
const STILL: u64 = u64::MAX;

/// A time and the host's time it was set at. Written under the clock's lock; readers retry when a
/// write comes between (a sequence lock).
pub(crate) struct Reading {
    /// Where the host's time is counted from.
    anchor: Instant,
    /// Odd while a write is under way.
    sequence: AtomicU64,
    base_ns: AtomicU64,
    since_ns: AtomicU64,
}

impl Reading {
    /// Zero, standing still.
    pub(crate) fn new() -> Self {
        Self {
            anchor: Instant::now(),
            sequence: AtomicU64::new(0),
            base_ns: AtomicU64::new(0),
            since_ns: AtomicU64::new(STILL),
        }
    }

    fn host_ns(&self) -> u64 {
        self.anchor.elapsed().as_nanos() as u64
    }

    /// Base and, unless the clock stands still, the host's time that belongs to it.
    fn pair(&self) -> (u64, Option<u64>) {
        loop {
            let before = self.sequence.load(Ordering::Acquire);
            let base = self.base_ns.load(Ordering::Relaxed);
            let since = self.since_ns.load(Ordering::Relaxed);
            fence(Ordering::Acquire);
            if before.is_multiple_of(2) && self.sequence.load(Ordering::Relaxed) == before {
                return (base, (since != STILL).then_some(since));
            }
            std::hint::spin_loop();
        }
    }

    /// Nanoseconds now.
    pub(crate) fn now_ns(&self) -> u64 {
        match self.pair() {
            (base, None) => base,
            (base, Some(since)) => base.saturating_add(self.host_ns().saturating_sub(since)),
        }
    }

    /// Whether the clock follows the host.
    pub(crate) fn runs(&self) -> bool {
        self.pair().1.is_some()
    }

    /// Shows `now_ns` from now on, following the host if it `runs`. The caller holds the clock's
    /// lock.
    pub(crate) fn set(&self, now_ns: u64, runs: bool) {
        self.sequence.fetch_add(1, Ordering::Relaxed);
        fence(Ordering::Release);
        self.base_ns.store(now_ns, Ordering::Relaxed);
        self.since_ns.store(if runs { self.host_ns() } else { STILL }, Ordering::Relaxed);
        self.sequence.fetch_add(1, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;

    #[test]
    fn readers_never_see_half_a_write() {
        let (reading, done) = (Reading::new(), AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for n in 0..100_000u64 {
                    // Standing still at an even time, running from an odd one far away.
                    if n % 2 == 0 { reading.set(n, false) } else { reading.set(n | 1 << 60, true) }
                }
                done.store(true, Ordering::Release);
            });
            while !done.load(Ordering::Acquire) {
                let (base, since) = reading.pair();
                assert_eq!(base >> 60 == 1, since.is_some());
            }
        });
    }
}
