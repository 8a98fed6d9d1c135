//! Who is in generated code, and how all of them are got out of it.
//!
//! Processors pass the gate to run units and to look at them. Whoever wants to reuse code memory
//! closes it: first it says so, then it asks every processor to leave, then it waits until none is
//! inside. A processor that was asked finds the gate closing, steps out, and comes back in only when
//! it is open again; so nobody who waits is overtaken. `tests/gate.rs` compiles this file with the
//! primitives of a model checker.

use crate::primitives::{AtomicU32, Condvar, Mutex, MutexGuard, Ordering};
use std::sync::PoisonError;

/// Who waits, waits with this; what it holds is whether somebody has the gate to themselves.
type Waiting<'a> = MutexGuard<'a, bool>;

/// The gate to generated code.
pub(crate) struct Gate {
    alone: Mutex<bool>,
    /// The number of those inside fell to none while somebody wanted to be alone, or whoever was alone
    /// has gone.
    changed: Condvar,
    /// Processors inside, or about to see that they may not be.
    inside: AtomicU32,
    /// Those who want to be alone, and who is.
    closing: AtomicU32,
}

/// A processor inside.
pub(crate) struct Inside<'a>(&'a Gate);

/// The gate while nobody changes who waits.
pub(crate) struct Held<'a>(Waiting<'a>);

impl Held<'_> {
    /// Forgets who was inside and who waited: they have stayed behind in another process.
    pub(crate) fn forget_all(mut self, gate: &Gate) {
        *self.0 = false;
        gate.inside.store(0, Ordering::SeqCst);
        gate.closing.store(0, Ordering::SeqCst);
    }
}

/// Whoever is alone.
pub(crate) struct Alone<'a>(&'a Gate);

impl Gate {
    pub(crate) fn new() -> Self {
        let (inside, closing) = (AtomicU32::new(0), AtomicU32::new(0));
        Self { alone: Mutex::new(false), changed: Condvar::new(), inside, closing }
    }

    fn lock(&self) -> Waiting<'_> {
        self.alone.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, waiting: Waiting<'a>) -> Waiting<'a> {
        self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether somebody waits for all processors to be outside. A processor that was asked to leave
    /// sees it.
    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst) != 0
    }

    /// Lets the calling processor in until it drops the result; waits while the gate is closed or
    /// closing.
    pub(crate) fn enter(&self) -> Inside<'_> {
        loop {
            // First it is inside, then it looks; whoever closes first says so, then looks who is.
            self.inside.fetch_add(1, Ordering::SeqCst);
            let inside = Inside(self);
            if !self.is_closing() {
                return inside;
            }
            drop(inside);
            let mut waiting = self.lock();
            while self.is_closing() {
                waiting = self.wait(waiting);
            }
        }
    }

    /// Keeps those who wait where they are: who holds the result across a fork finds the gate whole.
    pub(crate) fn hold(&self) -> Held<'_> {
        Held(self.lock())
    }

    /// Waits until nobody is inside, and keeps it so until the result is dropped. `ask` asks every
    /// processor to leave. The caller is outside.
    pub(crate) fn close(&self, ask: impl FnOnce()) -> Alone<'_> {
        self.closing.fetch_add(1, Ordering::SeqCst);
        ask();
        let mut alone = self.lock();
        while *alone || self.inside.load(Ordering::SeqCst) != 0 {
            alone = self.wait(alone);
        }
        *alone = true;
        Alone(self)
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        let last = self.0.inside.fetch_sub(1, Ordering::SeqCst) == 1;
        if last && self.0.is_closing() {
            // With the lock: who saw somebody inside waits by now.
            drop(self.0.lock());
            self.0.changed.notify_all();
        }
    }
}

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        let mut alone = self.0.lock();
        *alone = false;
        // With the lock held: who wants in looks at both together.
        self.0.closing.fetch_sub(1, Ordering::SeqCst);
        self.0.changed.notify_all();
    }
}
