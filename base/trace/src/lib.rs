//! Log output chosen with `-d` and `-D`: what the guest did wrong, and what the translator did.
//!
//! The sink is the one process-wide thing in the product, as standard error is: two machines in
//! one process share a log as they share a terminal. Nothing else is global.

use std::fmt;
use std::io::Write;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError, RwLock};

/// What can be logged; each is one item of `-d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Item {
    /// Guest code of each translation unit.
    InAsm = 1 << 0,
    /// IR of each translation unit.
    Op = 1 << 1,
    /// Host code of each translation unit.
    OutAsm = 1 << 2,
    /// Interrupts and exceptions.
    Int = 1 << 3,
    /// Entry of every translation unit (with `NoChain`: of every one executed).
    Exec = 1 << 4,
    /// Do not link translation units to each other.
    NoChain = 1 << 5,
    /// Things that only a buggy or hostile guest does.
    GuestErrors = 1 << 6,
    /// Accesses to features that are not there yet.
    Unimp = 1 << 7,
    /// Processor state before each translation unit.
    Cpu = 1 << 8,
    /// Processor resets.
    CpuReset = 1 << 9,
    /// Page-table activity.
    Mmu = 1 << 10,
    /// IR of each translation unit as the optimiser leaves it.
    OpOpt = 1 << 11,
}

impl Item {
    /// Every item with its name on the command line and its help text.
    pub const TABLE: &[(Self, &str, &str)] = &[
        (Self::OutAsm, "out_asm", "show generated host code of each translation unit"),
        (Self::InAsm, "in_asm", "show guest code of each translation unit"),
        (Self::Op, "op", "show the IR of each translation unit"),
        (Self::OpOpt, "op_opt", "show the IR of each translation unit after optimization"),
        (Self::Int, "int", "show interrupts and exceptions"),
        (Self::Exec, "exec", "show each translation unit as it is entered"),
        (Self::Cpu, "cpu", "show processor registers before each translation unit"),
        (Self::Mmu, "mmu", "log page-table activity"),
        (Self::CpuReset, "cpu_reset", "show processor state at each reset"),
        (Self::Unimp, "unimp", "log accesses to functions that are not implemented"),
        (Self::GuestErrors, "guest_errors", "log what only a faulty guest does"),
        (Self::NoChain, "nochain", "do not link translation units to each other"),
    ];
}

static MASK: AtomicU32 = AtomicU32::new(0);
static BUDGET: AtomicU32 = AtomicU32::new(GUEST_ERROR_BUDGET);
static SINK: Mutex<Option<std::fs::File>> = Mutex::new(None);
static FILTER: RwLock<Vec<RangeInclusive<u64>>> = RwLock::new(Vec::new());

/// Guest errors written before the log goes quiet: a guest in a loop must not fill the disk.
const GUEST_ERROR_BUDGET: u32 = 10_000;

/// Whether `item` is logged. Cheap enough to ask anywhere but in generated code.
pub fn enabled(item: Item) -> bool {
    MASK.load(Ordering::Relaxed) & item as u32 != 0
}

/// Chooses the logged items and, with `file`, where the log goes instead of standard error.
pub fn configure(items: &[Item], file: Option<std::fs::File>) {
    set_file(file);
    set_items(items);
}

/// Chooses where the log goes from now on: `None` is standard error.
pub fn set_file(file: Option<std::fs::File>) {
    *SINK.lock().unwrap_or_else(PoisonError::into_inner) = file;
}

/// Chooses the items logged from now on.
pub fn set_items(items: &[Item]) {
    MASK.store(items.iter().fold(0, |m, i| m | *i as u32), Ordering::Relaxed);
}

/// Limits what is logged about translation units (`InAsm`, `Op`, `OutAsm`, `Exec`, `Cpu`) to those
/// that begin in one of the ranges of guest addresses; without ranges, all are logged.
pub fn set_filter(ranges: Vec<RangeInclusive<u64>>) {
    *FILTER.write().unwrap_or_else(PoisonError::into_inner) = ranges;
}

/// Whether the filter lets through what belongs to this guest address.
pub fn in_filter(pc: u64) -> bool {
    let ranges = FILTER.read().unwrap_or_else(PoisonError::into_inner);
    ranges.is_empty() || ranges.iter().any(|range| range.contains(&pc))
}

/// Whether `item` is logged for the translation unit that begins at `pc`.
pub fn enabled_at(item: Item, pc: u64) -> bool {
    enabled(item) && in_filter(pc)
}

/// Writes one piece of log text as it is. A log that cannot be written is dropped.
pub fn write(text: fmt::Arguments<'_>) {
    let mut sink = SINK.lock().unwrap_or_else(PoisonError::into_inner);
    let _ = match sink.as_mut() {
        Some(file) => file.write_fmt(text),
        None => std::io::stderr().write_fmt(text),
    };
}

#[doc(hidden)]
pub fn note_guest_error(text: fmt::Arguments<'_>) {
    let left = BUDGET.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |b| b.checked_sub(1));
    match left {
        Ok(1) => write(format_args!("{text}\nmore guest errors are not shown\n")),
        Ok(_) => write(format_args!("{text}\n")),
        Err(_) => {}
    }
}

/// Logs `format!`-style text when the item is enabled; the arguments are not evaluated otherwise.
#[macro_export]
macro_rules! log {
    ($item:ident, $($arg:tt)*) => {
        if $crate::enabled($crate::Item::$item) {
            $crate::write(format_args!("{}\n", format_args!($($arg)*)));
        }
    };
}

/// Reports something only a buggy or hostile guest does (`-d guest_errors`, rate-limited); never
/// stops the machine.
#[macro_export]
macro_rules! guest_error {
    ($($arg:tt)*) => {
        if $crate::enabled($crate::Item::GuestErrors) {
            $crate::note_guest_error(format_args!($($arg)*));
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_lets_through_what_begins_in_one_of_its_ranges() {
        assert!(in_filter(0) && in_filter(u64::MAX), "no filter lets all through");
        set_filter(vec![0x1000..=0x100f, u64::MAX..=u64::MAX]);
        let through = [0xfff, 0x1000, 0x100f, 0x1010, u64::MAX].map(in_filter);
        assert_eq!(through, [false, true, true, false, true]);
        assert!(!enabled_at(Item::Op, 0x1000), "nothing is logged yet");
        set_filter(Vec::new());
        assert!(in_filter(0x1010));
    }
}
