//! The supervisor timer (Sstc): `stimecmp` against the board's `time`.

use crate::status::STIP_LINE;
use device::{LineSink, Wire};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use time::{Counter, Follower, Timer};

/// Drives the hart's line 5 while `time` ≥ `stimecmp`.
pub struct SupervisorTimer {
    shared: Arc<Shared>,
}

struct Shared {
    counter: Counter,
    /// The compare value; the lock also orders changes of the line.
    compare: Mutex<u64>,
    wire: OnceLock<Wire>,
    timer: OnceLock<Timer>,
    /// This structure, for the timer's callback.
    weak: Weak<Self>,
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

    /// Sets the line and the next expiry for `compare`, whose lock is held.
    fn arm(&self, compare: u64) {
        if self.drive(compare) || compare == u64::MAX {
            if let Some(timer) = self.timer.get() {
                timer.cancel();
            }
            return;
        }
        let timer = self.timer.get_or_init(|| {
            let weak = Weak::clone(&self.weak);
            self.counter.clock().timer(move || {
                if let Some(shared) = weak.upgrade() {
                    let compare = shared.compare();
                    shared.drive(*compare);
                }
            })
        });
        timer.arm(self.counter.when(compare));
    }

    /// Looks again after something beside the compare value changed.
    fn retime(&self) {
        let compare = self.compare();
        self.arm(*compare);
    }
}

impl Follower for Shared {
    fn counter_set(&self) {
        self.retime();
    }
}

impl SupervisorTimer {
    /// A timer on the board's `time`, tied to nothing yet.
    pub fn new(counter: Counter) -> Self {
        let shared = Arc::new_cyclic(|weak: &Weak<Shared>| Shared {
            counter,
            compare: Mutex::new(u64::MAX),
            wire: OnceLock::new(),
            timer: OnceLock::new(),
            weak: Weak::clone(weak),
        });
        shared.counter.follow(Arc::downgrade(&shared) as Weak<dyn Follower>);
        Self { shared }
    }

    /// Ties the timer to its hart's input line 5; once.
    pub fn connect(&self, hart: Arc<dyn LineSink>) {
        let _only_the_first_counts = self.shared.wire.set(Wire::to(hart, STIP_LINE));
        self.shared.retime();
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
        self.shared.arm(value);
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

    #[test]
    fn setting_the_time_moves_the_deadline() {
        let clock = Clock::manual();
        let counter = Counter::new(clock.clone(), 10_000_000);
        let timer = SupervisorTimer::new(counter.clone());
        let lines = Arc::new(RecordedLines::default());
        timer.connect(lines.clone());
        timer.set(1000);
        counter.set(990);
        clock.advance(999);
        assert_eq!(lines.take(), []);
        clock.advance(1);
        assert_eq!(lines.take(), [(5, true)]);
        counter.set(0);
        assert_eq!(lines.take(), [(5, false)]);
        clock.advance(99_999);
        assert_eq!(lines.take(), []);
        counter.set(5000);
        assert_eq!(lines.take(), [(5, true)]);
    }
}
