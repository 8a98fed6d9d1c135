//! Throttle groups: disks and nodes that share a limit of bytes and requests per second.
//!
//! Each limit is a leaky bucket, as QEMU's documentation "The QEMU throttling infrastructure" has it: a
//! request pours its bytes (or one unit) in, the bucket leaks at the average rate, and a request waits as
//! long as the bucket is fuller than its size when it comes. The size is a tenth of a second of the
//! average, or what a burst at the maximum rate for its length pours in; then a second bucket that
//! leaks at the maximum rate keeps the burst itself even.
//!
//! Members of a group take turns: of those that have requests waiting in one direction, the one after the
//! last that was served is next; requests of one member go in the order in which they came.

mod limits;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::OpenError;

pub use limits::{Limits, Rate};

/// What time it is. The host's clock runs by itself; one of a test is moved by hand, and the group
/// is told by [`Group::clock_moved`].
pub trait Clock: Send + Sync {
    /// Time since some start.
    fn now(&self) -> Duration;

    /// How long to wait at most before looking again, if `left` is still to wait; `None` until the
    /// group is told.
    fn patience(&self, left: Duration) -> Option<Duration>;
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

    fn patience(&self, left: Duration) -> Option<Duration> {
        Some(left)
    }
}

/// Which way data goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the disk.
    Read,
    /// To the disk, or away from it.
    Write,
}

/// How full a bucket is.
#[derive(Clone, Copy, Debug, Default)]
struct Level {
    average: f64,
    burst: f64,
}

impl Level {
    fn leak(&mut self, rate: &Rate, seconds: f64) {
        self.average = (self.average - rate.average as f64 * seconds).max(0.0);
        if rate.length > 1 {
            self.burst = (self.burst - rate.max as f64 * seconds).max(0.0);
        }
    }

    /// Seconds until a request may go.
    fn wait(&self, rate: &Rate) -> f64 {
        if rate.average == 0 {
            return 0.0;
        }
        let average = rate.average as f64;
        if rate.max == 0 {
            return over(self.average, average / 10.0, average);
        }
        let max = rate.max as f64;
        let long = over(self.average, max * rate.length as f64, average);
        if rate.length > 1 { long.max(over(self.burst, max / 10.0, max)) } else { long }
    }
}

/// Seconds in which what is above `size` leaks.
fn over(level: f64, size: f64, rate: f64) -> f64 {
    if level > size { (level - size) / rate } else { 0.0 }
}

struct State {
    limits: Limits,
    levels: [Level; 6],
    leaked: Duration,
    next_ticket: u64,
    next_member: u64,
    /// Tickets that wait, by member, for each direction.
    waiting: [BTreeMap<u64, VecDeque<u64>>; 2],
    /// Who was served last, in each direction.
    served: [u64; 2],
    /// Members that are not to wait, and how many say so.
    hasty: BTreeMap<u64, u32>,
}

impl State {
    fn leak(&mut self, now: Duration) {
        let seconds = now.saturating_sub(self.leaked).as_secs_f64();
        self.leaked = now;
        for (level, rate) in self.levels.iter_mut().zip(&self.limits.rates) {
            level.leak(rate, seconds);
        }
    }

    /// The buckets that a request in this direction fills: bytes and requests, in all and this way.
    fn buckets(direction: Direction) -> [usize; 4] {
        match direction {
            Direction::Read => [0, 1, 3, 4],
            Direction::Write => [0, 2, 3, 5],
        }
    }

    fn wait(&self, direction: Direction) -> f64 {
        let of = |at: usize| self.levels[at].wait(&self.limits.rates[at]);
        Self::buckets(direction).into_iter().map(of).fold(0.0, f64::max)
    }

    fn account(&mut self, direction: Direction, bytes: u64) {
        let size = self.limits.iops_size;
        let units = if size > 0 && bytes > size { bytes as f64 / size as f64 } else { 1.0 };
        for at in Self::buckets(direction) {
            let amount = if at < 3 { bytes as f64 } else { units };
            self.levels[at].average += amount;
            if self.limits.rates[at].length > 1 {
                self.levels[at].burst += amount;
            }
        }
    }

    /// The member whose turn it is.
    fn turn(&self, direction: Direction) -> Option<u64> {
        let waiting = &self.waiting[direction as usize];
        let last = self.served[direction as usize];
        let after = waiting.range(last.saturating_add(1)..).next();
        after.or_else(|| waiting.iter().next()).map(|(member, _)| *member)
    }

    fn is_first(&self, direction: Direction, member: u64, ticket: u64) -> bool {
        let own = self.waiting[direction as usize].get(&member);
        self.turn(direction) == Some(member) && own.and_then(|q| q.front()) == Some(&ticket)
    }

    fn leave(&mut self, direction: Direction, member: u64, ticket: u64) {
        let waiting = &mut self.waiting[direction as usize];
        if let Some(queue) = waiting.get_mut(&member) {
            queue.retain(|t| *t != ticket);
            if queue.is_empty() {
                waiting.remove(&member);
            }
        }
    }
}

/// A throttle group.
pub struct Group {
    name: String,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    changed: Condvar,
}

impl std::fmt::Debug for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Group").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Group {
    /// A group on the host's clock.
    pub fn new(name: &str, limits: Limits) -> Arc<Self> {
        Self::with_clock(name, limits, Arc::new(HostClock::default()))
    }

    /// A group with the properties of a `throttle-group` object: limits by their names with `x-` or
    /// `limits.` in front.
    ///
    /// # Errors
    /// `Option` with QEMU's text.
    pub fn parse(
        name: &str,
        properties: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Arc<Self>, OpenError> {
        let mut limits = Limits::default();
        for (key, value) in properties {
            let short = key.strip_prefix("x-").or_else(|| key.strip_prefix("limits."));
            if !limits.set_text(&key, short.unwrap_or_default(), &value)? {
                return Err(OpenError::Option(format!("Parameter '{key}' is unexpected")));
            }
        }
        limits.check()?;
        Ok(Self::new(name, limits))
    }

    /// A group on any clock.
    pub fn with_clock(name: &str, limits: Limits, clock: Arc<dyn Clock>) -> Arc<Self> {
        let state = State {
            limits,
            levels: [Level::default(); 6],
            leaked: clock.now(),
            next_ticket: 0,
            next_member: 1,
            waiting: Default::default(),
            served: [0; 2],
            hasty: BTreeMap::new(),
        };
        let (state, changed) = (Mutex::new(state), Condvar::new());
        Arc::new(Self { name: name.to_owned(), clock, state, changed })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it allows.
    pub fn limits(&self) -> Limits {
        self.state().limits
    }

    /// Allows something else from now on; what was poured in is forgotten.
    pub fn set_limits(&self, limits: Limits) {
        let mut state = self.state();
        state.limits = limits;
        state.levels = [Level::default(); 6];
        state.leaked = self.clock.now();
        drop(state);
        self.changed.notify_all();
    }

    /// Looks at the clock again.
    pub fn clock_moved(&self) {
        // Under the lock, so that nobody who just looked begins to wait afterwards.
        let _state = self.state();
        self.changed.notify_all();
    }

    /// Requests that wait.
    pub fn waiting(&self) -> usize {
        let state = self.state();
        state.waiting.iter().flat_map(BTreeMap::values).map(VecDeque::len).sum()
    }

    /// A new member.
    pub fn join(self: &Arc<Self>) -> Member {
        let mut state = self.state();
        let number = state.next_member;
        state.next_member += 1;
        drop(state);
        Member { group: Arc::clone(self), number }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn admit(&self, member: u64, direction: Direction, bytes: u64) {
        let mut state = self.state();
        if !state.limits.any() {
            return;
        }
        let ticket = state.next_ticket;
        state.next_ticket += 1;
        state.waiting[direction as usize].entry(member).or_default().push_back(ticket);
        loop {
            let mut left = None;
            if state.hasty.contains_key(&member) {
                break;
            }
            if state.is_first(direction, member, ticket) {
                state.leak(self.clock.now());
                let wait = state.wait(direction);
                if wait <= 0.0 {
                    break;
                }
                // A nanosecond more, so that rounding does not make it two waits.
                let wait = Duration::from_secs_f64(wait) + Duration::from_nanos(1);
                left = self.clock.patience(wait);
            }
            state = match left {
                Some(left) => {
                    let waited = self.changed.wait_timeout(state, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
        state.account(direction, bytes);
        state.leave(direction, member, ticket);
        state.served[direction as usize] = member;
        drop(state);
        self.changed.notify_all();
    }
}

/// One of those who share a group.
pub struct Member {
    group: Arc<Group>,
    number: u64,
}

impl Member {
    /// Returns when a request may go.
    pub fn admit(&self, direction: Direction, bytes: u64) {
        self.group.admit(self.number, direction, bytes);
    }

    /// Begins or ends a time in which this member's requests go at once. They count all the same.
    pub fn hasten(&self, on: bool) {
        let mut state = self.group.state();
        let count = state.hasty.entry(self.number).or_default();
        *count = if on { *count + 1 } else { count.saturating_sub(1) };
        if *count == 0 {
            state.hasty.remove(&self.number);
        }
        drop(state);
        self.group.changed.notify_all();
    }

    /// The group.
    pub fn group(&self) -> &Arc<Group> {
        &self.group
    }
}

#[cfg(test)]
mod tests;
