//! Who is in generated code, and how all of them are got out of it.
//!
//! Processors pass the gate to run units and to look at them. Whoever wants to reuse code memory
//! closes it: first it says so, then it asks every processor to leave, then it waits until none is
//! inside. A processor that was asked finds the gate closing, steps out, and comes back in only when
//! it is open again; so nobody who waits is overtaken. `tests/gate.rs` compiles this file with the
//! primitives of a model checker.

use crate::primitives::{AtomicU32, Condvar, Mutex, MutexGuard, Ordering};
use std::sync::PoisonError;

#[derive(Default)]
pub(crate) struct Within {
    /// Processors inside.
    inside: u32,
    /// Somebody has it to themselves.
    alone: bool,
}

/// The gate to generated code.
pub(crate) struct Gate {
    within: Mutex<Within>,
    /// The number of those inside fell to none, or whoever was alone has gone.
    changed: Condvar,
    /// Those who want to be alone, and who is.
    closing: AtomicU32,
}

/// A processor inside.
pub(crate) struct Inside<'a>(&'a Gate);

/// The gate while nobody passes.
pub(crate) struct Held<'a>(MutexGuard<'a, Within>);

impl Held<'_> {
    /// Forgets who was inside and who waited: they have stayed behind in another process.
    pub(crate) fn forget_all(mut self, gate: &Gate) {
        *self.0 = Within::default();
        gate.closing.store(0, Ordering::SeqCst);
    }
}

/// Whoever is alone.
pub(crate) struct Alone<'a>(&'a Gate);

impl Gate {
    pub(crate) fn new() -> Self {
        let within = Mutex::new(Within::default());
        Self { within, changed: Condvar::new(), closing: AtomicU32::new(0) }
    }

    fn within(&self) -> MutexGuard<'_, Within> {
        self.within.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, within: MutexGuard<'a, Within>) -> MutexGuard<'a, Within> {
        self.changed.wait(within).unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether somebody waits for all processors to be outside. A processor that was asked to leave
    /// sees it.
    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst) != 0
    }

    /// Lets the calling processor in until it drops the result; waits while the gate is closed or
    /// closing.
    pub(crate) fn enter(&self) -> Inside<'_> {
        let mut within = self.within();
        while self.is_closing() {
            within = self.wait(within);
        }
        within.inside += 1;
        Inside(self)
    }

    /// Keeps everybody where they are: who holds the result across a fork finds the gate whole.
    pub(crate) fn hold(&self) -> Held<'_> {
        Held(self.within())
    }

    /// Waits until nobody is inside, and keeps it so until the result is dropped. `ask` asks every
    /// processor to leave. The caller is outside.
    pub(crate) fn close(&self, ask: impl FnOnce()) -> Alone<'_> {
        self.closing.fetch_add(1, Ordering::SeqCst);
        ask();
        let mut within = self.within();
        while within.alone || within.inside != 0 {
            within = self.wait(within);
        }
        within.alone = true;
        Alone(self)
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        let mut within = self.0.within();
        within.inside -= 1;
        if within.inside == 0 {
            self.0.changed.notify_all();
        }
    }
}

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        let mut within = self.0.within();
        within.alone = false;
        // With the lock held: who wants in looks at both together.
        self.0.closing.fetch_sub(1, Ordering::SeqCst);
        self.0.changed.notify_all();
    }
}
