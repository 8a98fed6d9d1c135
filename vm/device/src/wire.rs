//! Wires: one-bit levels from a device to whatever the board tied them to.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Listens to numbered input lines: an interrupt controller, a processor.
///
/// Called while the driving device is locked; an implementation locks only itself.
pub trait LineSink: Send + Sync {
    /// Input `line` now has this level. Called on changes only, and in their order.
    fn set_line(&self, line: u32, level: bool);
}

/// A one-bit output of a device. Clones are the same wire; the default is tied to nothing.
#[derive(Clone, Default)]
pub struct Wire(Option<Arc<Inner>>);

struct Inner {
    level: Mutex<bool>,
    rises: AtomicU32,
    sink: Arc<dyn LineSink>,
    line: u32,
}

impl Wire {
    /// A wire to input `line` of `sink`.
    pub fn to(sink: Arc<dyn LineSink>, line: u32) -> Self {
        Self(Some(Arc::new(Inner {
            level: Mutex::new(false),
            rises: AtomicU32::new(0),
            sink,
            line,
        })))
    }

    /// Drives the level; the listener hears of changes at once.
    pub fn set(&self, level: bool) {
        let Some(inner) = &self.0 else { return };
        let mut now = inner.level.lock().unwrap_or_else(PoisonError::into_inner);
        if *now != level {
            *now = level;
            inner.rises.fetch_add(u32::from(level), Ordering::Relaxed);
            inner.sink.set_line(inner.line, level);
        }
    }

    /// High, then low.
    pub fn pulse(&self) {
        self.set(true);
        self.set(false);
    }

    /// Present level.
    pub fn level(&self) -> bool {
        self.0.as_ref().is_some_and(|i| *i.level.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Number of low-to-high edges so far.
    pub fn rises(&self) -> u32 {
        self.0.as_ref().map_or(0, |i| i.rises.load(Ordering::Relaxed))
    }
}

/// Several inputs onto one wire: high while any is high (shared PCI interrupts).
pub struct OrGate {
    inputs: Vec<AtomicBool>,
    output: Mutex<Wire>,
}

impl OrGate {
    /// A gate with `inputs` inputs that drives `output`.
    pub fn new(inputs: u32, output: Wire) -> Arc<Self> {
        let inputs = (0..inputs).map(|_| AtomicBool::new(false)).collect();
        Arc::new(Self { inputs, output: Mutex::new(output) })
    }
}

impl LineSink for OrGate {
    fn set_line(&self, line: u32, level: bool) {
        let Some(input) = self.inputs.get(line as usize) else { return };
        let output = self.output.lock().unwrap_or_else(PoisonError::into_inner);
        input.store(level, Ordering::Relaxed);
        output.set(self.inputs.iter().any(|i| i.load(Ordering::Relaxed)));
    }
}

/// Hears of a line's change and says whether it goes no further. Called as a [`LineSink`] is.
pub type LineEar = Box<dyn Fn(u32, bool) -> bool + Send + Sync>;

/// Lines on their way to a sink, to which a test may listen.
pub struct Tap {
    sink: Arc<dyn LineSink>,
    ear: OnceLock<LineEar>,
}

impl Tap {
    /// Lines that lead to `sink`.
    pub fn new(sink: Arc<dyn LineSink>) -> Arc<Self> {
        Arc::new(Self { sink, ear: OnceLock::new() })
    }

    /// Lines that lead to wires of those numbers.
    pub fn fan(wires: Vec<Wire>) -> Arc<Self> {
        Self::new(Arc::new(Fan(wires)))
    }

    /// A wire to each of the first `count` lines of `tap`.
    pub fn wires(tap: &Arc<Self>, count: u32) -> Vec<Wire> {
        (0..count).map(|line| Wire::to(Arc::clone(tap) as Arc<dyn LineSink>, line)).collect()
    }

    /// Lets `ear` hear of every change from now on; false when somebody listens already.
    pub fn listen(&self, ear: LineEar) -> bool {
        self.ear.set(ear).is_ok()
    }
}

impl LineSink for Tap {
    fn set_line(&self, line: u32, level: bool) {
        if self.ear.get().is_none_or(|ear| !ear(line, level)) {
            self.sink.set_line(line, level);
        }
    }
}

/// Numbered lines that lead to wires of those numbers.
pub struct Fan(pub Vec<Wire>);

impl LineSink for Fan {
    fn set_line(&self, line: u32, level: bool) {
        if let Some(wire) = self.0.get(line as usize) {
            wire.set(level);
        }
    }
}

/// A sink for tests: remembers levels and every change.
#[derive(Default)]
pub struct RecordedLines(Mutex<Vec<(u32, bool)>>);

impl RecordedLines {
    /// A recorder and a wire to its line 0.
    pub fn wire() -> (Arc<Self>, Wire) {
        let lines = Arc::new(Self::default());
        (Arc::clone(&lines), Wire::to(lines, 0))
    }

    /// Changes since the last call.
    pub fn take(&self) -> Vec<(u32, bool)> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl LineSink for RecordedLines {
    fn set_line(&self, line: u32, level: bool) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((line, level));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_hear_changes_only() {
        let (lines, wire) = RecordedLines::wire();
        wire.set(false);
        wire.set(true);
        wire.set(true);
        wire.pulse();
        assert_eq!(lines.take(), [(0, true), (0, false)]);
        assert_eq!(wire.rises(), 1);
        Wire::default().set(true);
    }

    #[test]
    fn who_listens_may_keep_a_change_to_itself() {
        let lines = Arc::new(RecordedLines::default());
        let tap = Tap::new(lines.clone());
        let fan = Fan(vec![Wire::to(tap.clone(), 4), Wire::to(tap.clone(), 5)]);
        fan.set_line(0, true);
        assert!(tap.listen(Box::new(|line, _| line == 4)));
        assert!(!tap.listen(Box::new(|_, _| true)));
        for (line, level) in [(0, false), (1, true), (2, true)] {
            fan.set_line(line, level);
        }
        assert_eq!(lines.take(), [(4, true), (5, true)]);
    }

    #[test]
    fn an_or_gate_is_high_while_any_input_is() {
        let (lines, wire) = RecordedLines::wire();
        let gate = OrGate::new(2, wire);
        for (line, level) in [(0, true), (1, true), (0, false), (1, false), (9, true)] {
            gate.set_line(line, level);
        }
        assert_eq!(lines.take(), [(0, true), (0, false)]);
    }
}
