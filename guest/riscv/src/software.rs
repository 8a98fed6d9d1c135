//! Supervisor software interrupts from outside (RISC-V ACLINT, “SSWI”): an edge that the hart
//! keeps as `mip.SSIP` until software clears it there.

use crate::status::SSIP;
use device::LineSink;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

/// Takes edges from other threads until the hart looks at its interrupts.
#[derive(Default)]
pub struct SoftwareEdge {
    seen: AtomicBool,
    hart: OnceLock<Arc<dyn LineSink>>,
}

impl SoftwareEdge {
    /// Ties the edge to its hart, which it wakes; once.
    pub fn connect(&self, hart: Arc<dyn LineSink>) {
        let _only_the_first_counts = self.hart.set(hart);
    }

    /// Whether there was an edge that the hart has not taken yet.
    pub fn seen(&self) -> bool {
        self.seen.load(Ordering::SeqCst)
    }

    /// Sets whether there was one.
    pub fn set_seen(&self, seen: bool) {
        self.seen.store(seen, Ordering::SeqCst);
        if let Some(hart) = self.hart.get().filter(|_| seen) {
            hart.set_line(SSIP.trailing_zeros(), false);
        }
    }

    /// Takes the edge: whether there was one.
    pub(crate) fn take(&self) -> bool {
        self.seen() && self.seen.swap(false, Ordering::SeqCst)
    }
}

impl LineSink for SoftwareEdge {
    fn set_line(&self, _line: u32, level: bool) {
        if level {
            self.set_seen(true);
        }
    }
}
