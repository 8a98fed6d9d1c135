//! The supervisor timer (Sstc): `stimecmp` against the board's `time`.

use crate::status::STIP_LINE;
use device::{LineSink, Wire};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use time::{Counter, Timer};

/// Drives the hart's line 5 while `time` ≥ `stimecmp`.
pub struct SupervisorTimer {
    shared: Arc<Shared>,
    timer: OnceLock<Timer>,
}

struct Shared {
    counter: Counter,
    /// The compare value; the lock also orders changes of the line.
    compare: Mutex<u64>,
    wire: OnceLock<Wire>,
}

impl Shared {
    fn compare(&self) -> MutexGuard<'_, u64> {
        self.compare.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Drives the line for `compare`, whose lock is held; whether the line is high.
    fn drive(&self, compare: u64) -> bool {
        let due = self.counter.now() >= compare;
        if let Some(wire) = self.wire.get() {
            wire.set(due);
        }
        due
    }
}

impl SupervisorTimer {
    /// A timer on the board's `time`, tied to nothing yet.
    pub fn new(counter: Counter) -> Self {
        let shared = Shared { counter, compare: Mutex::new(u64::MAX), wire: OnceLock::new() };
        Self { shared: Arc::new(shared), timer: OnceLock::new() }
    }

    /// Ties the timer to its hart's input line 5; once.
    pub fn connect(&self, hart: Arc<dyn LineSink>) {
        let _only_the_first_counts = self.shared.wire.set(Wire::to(hart, STIP_LINE));
        self.retime();
    }

    /// `time`.
    pub fn now(&self) -> u64 {
        self.shared.counter.now()
    }

    /// The clock that `mcycle` and `minstret` count, in ns.
    pub fn clock_ns(&self) -> u64 {
        self.shared.counter.clock().now_ns()
    }

    /// Sets the compare value, the line and the next expiry.
    pub fn set(&self, value: u64) {
        let mut compare = self.shared.compare();
        *compare = value;
        self.arm(value);
    }

    /// Looks again after `time` was set.
    pub fn retime(&self) {
        let compare = self.shared.compare();
        self.arm(*compare);
    }

    fn arm(&self, compare: u64) {
        if self.shared.drive(compare) || compare == u64::MAX {
            if let Some(timer) = self.timer.get() {
                timer.cancel();
            }
            return;
        }
        let timer = self.timer.get_or_init(|| {
            let weak = Arc::downgrade(&self.shared);
            self.shared.counter.clock().timer(move || {
                if let Some(shared) = weak.upgrade() {
                    let compare = shared.compare();
                    shared.drive(*compare);
                }
            })
        });
        timer.arm(self.shared.counter.when(compare));
    }
}

impl fmt::Debug for SupervisorTimer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SupervisorTimer").field("compare", &*self.shared.compare()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use device::RecordedLines;
    use time::Clock;

    #[test]
    fn the_line_is_high_from_the_compare_value_on() {
        let clock = Clock::manual();
        let timer = SupervisorTimer::new(Counter::new(clock.clone(), 10_000_000));
        let lines = Arc::new(RecordedLines::default());
        timer.connect(lines.clone());
        timer.set(10);
        clock.advance(999);
        assert_eq!(lines.take(), []);
        clock.advance(1);
        assert_eq!(lines.take(), [(5, true)]);
        timer.set(20);
        assert_eq!(lines.take(), [(5, false)]);
        timer.set(0);
        assert_eq!(lines.take(), [(5, true)]);
        timer.set(u64::MAX);
        clock.advance(1 << 40);
        assert_eq!(lines.take(), [(5, false)]);
    }
}
