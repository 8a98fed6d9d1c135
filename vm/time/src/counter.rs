//! A counter on a clock, such as the `mtime` of RISC-V.

use crate::{Clock, ticks_to_ns};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts at a fixed rate with the virtual clock; software may set it. Clones are the same
/// counter: processors read it without a lock while a device owns it.
#[derive(Clone)]
pub struct Counter {
    clock: Clock,
    hertz: u64,
    /// Added to the clock's ticks, wrapping.
    offset: Arc<AtomicU64>,
}

impl Counter {
    /// A counter that runs at `hertz` and shows the clock's own ticks until it is set.
    pub fn new(clock: Clock, hertz: u64) -> Self {
        Self { clock, hertz, offset: Arc::default() }
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
        self.offset.load(Ordering::Acquire)
    }

    /// See [`Counter::offset`].
    pub fn set_offset(&self, offset: u64) {
        self.offset.store(offset, Ordering::Release);
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
