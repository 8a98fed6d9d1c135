//! A counter on a clock, such as the `mtime` of RISC-V.

use crate::{Clock, ticks_to_ns};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// What waits for a counter to reach a value, and is told when the counter is set.
pub trait Follower: Send + Sync {
    /// The counter was set: deadlines have moved.
    fn counter_set(&self);
}

/// Counts at a fixed rate with the virtual clock; software may set it. Clones are the same
/// counter: processors read it without a lock while a device owns it.
#[derive(Clone)]
pub struct Counter {
    clock: Clock,
    hertz: u64,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// Added to the clock's ticks, wrapping.
    offset: AtomicU64,
    followers: Mutex<Vec<Weak<dyn Follower>>>,
}

impl Shared {
    fn followers(&self) -> MutexGuard<'_, Vec<Weak<dyn Follower>>> {
        self.followers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counter {
    /// A counter that runs at `hertz` and shows the clock's own ticks until it is set.
    pub fn new(clock: Clock, hertz: u64) -> Self {
        Self { clock, hertz, shared: Arc::default() }
    }

    /// Tells `follower`, as long as it exists, whenever the counter is set from now on.
    pub fn follow(&self, follower: Weak<dyn Follower>) {
        let mut followers = self.shared.followers();
        followers.retain(|known| known.strong_count() > 0);
        followers.push(follower);
    }

    /// Present value.
    pub fn now(&self) -> u64 {
        self.clock.ticks(self.hertz).wrapping_add(self.offset())
    }

    /// Makes the present value `now`.
    pub fn set(&self, now: u64) {
        self.set_offset(now.wrapping_sub(self.clock.ticks(self.hertz)));
    }

    /// What is added to the clock's ticks: the part to save.
    pub fn offset(&self) -> u64 {
        self.shared.offset.load(Ordering::Acquire)
    }

    /// See [`Counter::offset`].
    pub fn set_offset(&self, offset: u64) {
        self.shared.offset.store(offset, Ordering::Release);
        let followers = self.shared.followers().clone();
        followers.iter().filter_map(Weak::upgrade).for_each(|follower| follower.counter_set());
    }

    /// When, in ns of the clock, the counter will have reached `value`; `u64::MAX` when not in this
    /// age. A value that has passed is due now.
    pub fn when(&self, value: u64) -> u64 {
        let ticks = self.clock.ticks(self.hertz);
        let left = value.saturating_sub(ticks.wrapping_add(self.offset()));
        match ticks.checked_add(left) {
            Some(at) => ticks_to_ns(at, self.hertz),
            None => u64::MAX,
        }
    }

    /// Ticks per second.
    pub fn hertz(&self) -> u64 {
        self.hertz
    }

    /// The clock below it.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Count(AtomicU64);

    impl Follower for Count {
        fn counter_set(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn followers_hear_of_every_setting_while_they_exist() {
        let counter = Counter::new(Clock::manual(), 10_000_000);
        let [first, second] = [(); 2].map(|()| Arc::new(Count::default()));
        for follower in [&first, &second] {
            counter.follow(Arc::downgrade(follower) as Weak<dyn Follower>);
        }
        counter.set(7);
        drop(second);
        counter.clone().set_offset(3);
        assert_eq!(first.0.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn a_set_counter_goes_on_from_there() {
        let clock = Clock::manual();
        let counter = Counter::new(clock.clone(), 10_000_000);
        clock.advance(1_000);
        assert_eq!(counter.now(), 10);
        counter.set(5);
        clock.advance(200);
        assert_eq!(counter.clone().now(), 7);
        assert_eq!(counter.when(10), 1_500);
        assert_eq!(counter.when(0), 1_200);
        assert_eq!(counter.when(u64::MAX), u64::MAX);
        counter.set(u64::MAX - 1);
        clock.advance(200);
        assert_eq!(counter.now(), 0);
    }
}
