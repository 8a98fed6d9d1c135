//! Clocks and timers. Everything that waits does it through this crate, so that a test or the
//! qtest protocol can drive it without sleeping.
//!
//! A [`Clock`] counts nanoseconds of virtual time. It follows the host's monotonic clock while
//! the machine runs, stands still while it is paused, or moves only when told (`manual`).

mod counter;
mod reading;

pub use counter::{Counter, Follower};

use reading::Reading;
use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime};

/// Work a timer does when it expires.
type Callback = Arc<dyn Fn() + Send + Sync>;

/// A machine's virtual clock; clones are the same clock.
#[derive(Clone)]
pub struct Clock(Arc<Inner>);

struct Inner {
    reading: Reading,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    /// Armed timers by deadline, then identity.
    armed: BTreeMap<(u64, u64), Callback>,
    next_id: u64,
}

impl State {
    /// Removes the first timer that is due.
    fn take_due(&mut self, now: u64) -> Option<Callback> {
        let entry = self.armed.first_entry()?;
        (entry.key().0 <= now).then(|| entry.remove())
    }
}

impl Clock {
    /// A clock that follows the host's once [`Clock::resume`]d, with a thread that runs its timers.
    ///
    /// # Errors
    /// The thread cannot be made.
    pub fn following_host() -> std::io::Result<Self> {
        let clock = Self::manual();
        let weak = Arc::downgrade(&clock.0);
        std::thread::Builder::new().name("timers".into()).spawn(move || run_timers(&weak))?;
        Ok(clock)
    }

    /// A clock that stands still except for [`Clock::advance`].
    pub fn manual() -> Self {
        let state = Mutex::new(State { armed: BTreeMap::new(), next_id: 0 });
        Self(Arc::new(Inner { reading: Reading::new(), state, changed: Condvar::new() }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Virtual time in nanoseconds since the machine was built.
    pub fn now_ns(&self) -> u64 {
        self.0.reading.now_ns()
    }

    /// Virtual time counted at `hertz`, rounded down.
    pub fn ticks(&self, hertz: u64) -> u64 {
        ns_to_ticks(self.now_ns(), hertz)
    }

    /// Starts following the host.
    pub fn resume(&self) {
        let _state = self.state();
        if !self.0.reading.runs() {
            self.0.reading.set(self.now_ns(), true);
        }
        self.0.changed.notify_all();
    }

    /// Stands still.
    pub fn pause(&self) {
        let _state = self.state();
        self.0.reading.set(self.now_ns(), false);
    }

    /// Moves a clock that stands still by `ns`, running in order the timers that come due.
    pub fn advance(&self, ns: u64) {
        let target = self.now_ns().saturating_add(ns);
        self.advance_to(target);
    }

    /// Moves a clock that stands still to `target` (ns), running in order the timers that come due.
    pub fn advance_to(&self, target: u64) {
        loop {
            let mut state = self.state();
            let due = state.armed.first_key_value().map(|(k, _)| k.0).filter(|d| *d <= target);
            let now = self.now_ns().max(due.unwrap_or(target));
            self.0.reading.set(now, false);
            let callback = state.take_due(now);
            drop(state);
            match callback {
                Some(callback) => callback(),
                None if due.is_none() => return,
                None => {}
            }
        }
    }

    /// Sets the time, as restoring a saved machine does. Armed timers keep their deadlines.
    pub fn set_ns(&self, ns: u64) {
        let _state = self.state();
        self.0.reading.set(ns, self.0.reading.runs());
        self.0.changed.notify_all();
    }

    /// Deadline of the next armed timer, in ns.
    pub fn next_deadline(&self) -> Option<u64> {
        self.state().armed.first_key_value().map(|(k, _)| k.0)
    }

    /// A timer that runs `callback` on the clock's thread. The callback locks what it needs; it
    /// may still run once after a concurrent [`Timer::cancel`], so it looks at the device's state.
    pub fn timer(&self, callback: impl Fn() + Send + Sync + 'static) -> Timer {
        let mut state = self.state();
        state.next_id += 1;
        let id = state.next_id;
        drop(state);
        Timer { clock: self.clone(), id, callback: Arc::new(callback), deadline: Mutex::new(None) }
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::manual()
    }
}

/// Runs timers as they come due until the last user of the clock is gone.
fn run_timers(weak: &Weak<Inner>) {
    /// How long the thread waits before it looks whether the clock still has users.
    const IDLE: Duration = Duration::from_millis(500);
    while let Some(inner) = weak.upgrade() {
        let mut state = inner.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (now, running) = (inner.reading.now_ns(), inner.reading.runs());
        if running && let Some(callback) = state.take_due(now) {
            drop(state);
            callback();
            continue;
        }
        let wait = match state.armed.first_key_value() {
            Some((key, _)) if running => Duration::from_nanos(key.0 - now).min(IDLE),
            _ => IDLE,
        };
        drop(inner.changed.wait_timeout(state, wait));
    }
}

/// A handle on one timer; dropping it cancels it.
pub struct Timer {
    clock: Clock,
    id: u64,
    callback: Callback,
    deadline: Mutex<Option<u64>>,
}

impl Timer {
    /// Runs the callback once at `deadline` (ns of the clock), at once if that has passed. A
    /// former deadline is forgotten.
    pub fn arm(&self, deadline: u64) {
        let mut own = self.own();
        let mut state = self.clock.state();
        if let Some(old) = own.replace(deadline) {
            state.armed.remove(&(old, self.id));
        }
        state.armed.insert((deadline, self.id), Arc::clone(&self.callback));
        let first = state.armed.first_key_value().is_some_and(|(k, _)| k.1 == self.id);
        if first {
            self.clock.0.changed.notify_all();
        }
    }

    /// Forgets the deadline.
    pub fn cancel(&self) {
        if let Some(old) = self.own().take() {
            self.clock.state().armed.remove(&(old, self.id));
        }
    }

    /// The deadline last armed and not cancelled, even when it has passed.
    pub fn deadline(&self) -> Option<u64> {
        *self.own()
    }

    fn own(&self) -> MutexGuard<'_, Option<u64>> {
        self.deadline.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.cancel();
    }
}

/// The guest's calendar: nanoseconds since 1970, as `-rtc base=` chose them.
#[derive(Clone)]
pub struct WallClock {
    clock: Clock,
    /// Nanoseconds since 1970 when the virtual clock read zero.
    base_ns: i64,
}

impl WallClock {
    /// A calendar that agrees with the host's (UTC) now.
    pub fn host_utc(clock: Clock) -> Self {
        let host = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let host = host.map_or(0, |d| d.as_nanos() as i64);
        let base_ns = host.saturating_sub(clock.now_ns() as i64);
        Self { clock, base_ns }
    }

    /// A calendar that shows `seconds` since 1970 at virtual time zero.
    pub fn starting_at(clock: Clock, seconds: i64) -> Self {
        Self { clock, base_ns: seconds.saturating_mul(1_000_000_000) }
    }

    /// Nanoseconds since 1970.
    pub fn now_ns(&self) -> i64 {
        self.base_ns.saturating_add(self.clock.now_ns() as i64)
    }

    /// The virtual clock below it.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }
}

/// Nanoseconds as ticks at `hertz`, rounded down.
pub fn ns_to_ticks(ns: u64, hertz: u64) -> u64 {
    (u128::from(ns) * u128::from(hertz) / 1_000_000_000) as u64
}

/// Ticks at `hertz` as nanoseconds, rounded up (a timer must not expire early), saturating.
pub fn ticks_to_ns(ticks: u64, hertz: u64) -> u64 {
    let ns = (u128::from(ticks) * 1_000_000_000).div_ceil(u128::from(hertz.max(1)));
    u64::try_from(ns).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn timers_run_in_order_of_their_deadlines() {
        let clock = Clock::manual();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let timers: Vec<_> = [30, 10, 20]
            .map(|at| {
                let (seen, now) = (Arc::clone(&seen), clock.clone());
                let timer = clock.timer(move || seen.lock().unwrap().push((at, now.now_ns())));
                timer.arm(at);
                timer
            })
            .into();
        timers[2].cancel();
        clock.advance(100);
        assert_eq!(*seen.lock().unwrap(), [(10, 10), (30, 30)]);
        assert_eq!(clock.now_ns(), 100);
    }

    #[test]
    fn a_timer_may_arm_itself_again() {
        let clock = Clock::manual();
        let count = Arc::new(Mutex::new(0));
        let slot: Arc<Mutex<Option<Timer>>> = Arc::default();
        let (inner, seen, now) = (Arc::clone(&slot), Arc::clone(&count), clock.clone());
        let timer = clock.timer(move || {
            *seen.lock().unwrap() += 1;
            inner.lock().unwrap().as_ref().unwrap().arm(now.now_ns() + 10);
        });
        timer.arm(10);
        *slot.lock().unwrap() = Some(timer);
        clock.advance(35);
        assert_eq!(*count.lock().unwrap(), 3);
        slot.lock().unwrap().take();
    }

    #[test]
    fn a_clock_that_follows_the_host_runs_its_timers() {
        let clock = Clock::following_host().unwrap();
        let (send, receive) = channel();
        let timer = clock.timer(move || send.send(()).unwrap());
        timer.arm(1_000_000);
        clock.resume();
        receive.recv().unwrap();
        assert!(clock.now_ns() >= 1_000_000);
        clock.pause();
        let now = clock.now_ns();
        assert_eq!(clock.now_ns(), now);
    }

    #[test]
    fn ticks_round_so_that_timers_are_never_early() {
        assert_eq!(ns_to_ticks(199, 10_000_000), 1);
        assert_eq!(ticks_to_ns(3, 10_000_000), 300);
        assert_eq!(ticks_to_ns(1, 3), 333_333_334);
        assert_eq!(ticks_to_ns(u64::MAX, 1), u64::MAX);
    }
}
