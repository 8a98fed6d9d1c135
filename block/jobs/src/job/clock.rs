//! The time by which jobs keep to their speed.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Tells the time to jobs.
pub trait Clock: Send + Sync {
    /// Time since some moment in the past.
    fn now(&self) -> Duration;

    /// Whether the time passes by itself. Else whoever moves it tells [`crate::Jobs::clock_moved`].
    fn runs(&self) -> bool {
        true
    }
}

/// The host's monotonic clock.
pub struct HostClock(Instant);

impl Default for HostClock {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Clock for HostClock {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }
}

/// A clock that stands until it is moved.
#[derive(Default)]
pub struct HandClock(Mutex<Duration>);

impl HandClock {
    /// Moves the time on.
    pub fn advance(&self, by: Duration) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) += by;
    }
}

impl Clock for HandClock {
    fn now(&self) -> Duration {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn runs(&self) -> bool {
        false
    }
}

/// Spreads work over time.
#[derive(Debug, Default)]
pub(crate) struct Limiter {
    /// When the next piece may begin.
    due: Duration,
}

impl Limiter {
    /// How long the next piece has to wait.
    pub fn delay(&self, now: Duration) -> Option<Duration> {
        self.due.checked_sub(now).filter(|left| !left.is_zero())
    }

    /// Counts `bytes` that begin `now`, at `speed` bytes a second (not zero).
    pub fn account(&mut self, now: Duration, bytes: u64, speed: u64) {
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(speed);
        let takes = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        self.due = self.due.max(now).saturating_add(takes);
    }

    /// Forgets what was counted: there is another speed.
    pub fn restart(&mut self) {
        self.due = Duration::ZERO;
    }
}
