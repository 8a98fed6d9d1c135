//! How other threads reach a processor's: interrupt lines, reasons for attention, and parking.
//!
//! The processor's thread takes the reasons, then looks at the lines, and parks only while there
//! is no reason; whoever changes something first changes it, then gives the reason. A reason that
//! was taken with others is not lost, for what it stands for is looked at after all of them were
//! taken. `tests/doorbell.rs` compiles this file with the primitives of a model checker.

use crate::primitives::{AtomicU32, AtomicU64, Condvar, Mutex, Ordering};
use std::sync::PoisonError;

/// Reasons for the run loop's attention.
pub(crate) mod attention {
    /// Somebody kicked: `run` returns.
    pub(crate) const KICK: u32 = 1 << 0;
    /// An interrupt line changed.
    pub(crate) const LINES: u32 = 1 << 1;
    /// The memory map changed: forget address translations.
    pub(crate) const MAP: u32 = 1 << 2;
    /// The mode changed in the middle of a unit, or the code cache wants everybody out.
    pub(crate) const LEAVE: u32 = 1 << 3;
}

/// Lines and parking place of a processor. The word of reasons lies where generated code polls
/// it, and is handed in.
pub(crate) struct Doorbell {
    lines: AtomicU64,
    parked: Mutex<()>,
    wake: Condvar,
}

impl Doorbell {
    pub(crate) fn new() -> Self {
        Self { lines: AtomicU64::new(0), parked: Mutex::new(()), wake: Condvar::new() }
    }

    /// Takes the reasons there are: the start of each round of the run loop, before it looks at
    /// anything that a reason stands for.
    pub(crate) fn take(word: &AtomicU32) -> u32 {
        word.swap(0, Ordering::SeqCst)
    }

    /// Levels of the interrupt lines.
    pub(crate) fn lines(&self) -> u64 {
        self.lines.load(Ordering::SeqCst)
    }

    /// Sets the level of a line, if there is one of this number.
    pub(crate) fn set_line(&self, word: &AtomicU32, line: u32, level: bool) {
        let bit = 1u64.checked_shl(line).unwrap_or(0);
        if level {
            self.lines.fetch_or(bit, Ordering::SeqCst);
        } else {
            self.lines.fetch_and(!bit, Ordering::SeqCst);
        }
        self.ring(word, attention::LINES);
    }

    /// Asks for the run loop's attention, wherever the thread is.
    pub(crate) fn ring(&self, word: &AtomicU32, why: u32) {
        word.fetch_or(why, Ordering::SeqCst);
        // A thread that saw no reason holds the lock until it can be woken.
        drop(self.parked.lock().unwrap_or_else(PoisonError::into_inner));
        self.wake.notify_all();
    }

    /// Parks the processor's thread until there is a reason.
    pub(crate) fn wait(&self, word: &AtomicU32) {
        let mut guard = self.parked.lock().unwrap_or_else(PoisonError::into_inner);
        while word.load(Ordering::SeqCst) == 0 {
            guard = self.wake.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
    }
}
