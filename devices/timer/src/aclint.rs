//! RISC-V ACLINT (Advanced Core Local Interruptor specification 1.0-rc4): the machine-level timer
//! and the machine- and supervisor-level software interrupts. A SiFive CLINT is an [`Mswi`] at its
//! base and an [`Mtimer`] with [`MtimerLayout::CLINT`] 0x4000 further on.
//!
//! A comparator that nobody has written reads zero and does not interrupt.

use device::{
    AccessRules, Bus, Category, Device, DeviceClass, MmioDevice, RestoreError, SavedState, Shared,
    Value, Wire,
};
use time::{Counter, Timer};

/// Bytes that the registers of [`Mswi`] or [`Sswi`] take.
pub const SWI_LEN: u64 = 0x4000;
/// Harts that one of these devices serves at most: the registers have no room for more.
pub const MAX_HARTS: usize = 4095;

#[derive(Default, SavedState)]
struct SwiState {
    #[n(1)]
    pending: Vec<bool>,
}

/// Software interrupts for the machine level: one `MSIP` register per hart, a level each.
pub struct Mswi {
    /// The machine software interrupt of each hart.
    lines: Vec<Wire>,
    state: SwiState,
}

impl Mswi {
    /// A device for as many harts as there are lines.
    pub fn new(lines: Vec<Wire>) -> Self {
        let state = SwiState { pending: vec![false; lines.len()] };
        Self { lines, state }
    }

    fn drive(&self) {
        self.lines.iter().zip(&self.state.pending).for_each(|(line, level)| line.set(*level));
    }
}

impl Device for Mswi {
    fn reset(&mut self) {
        self.state.pending.fill(false);
        self.drive();
    }

    fn save(&self) -> Value {
        self.state.save()
    }

    fn restore(&mut self, value: &Value) -> Result<(), RestoreError> {
        let mut new = SwiState::default();
        new.restore(value)?;
        same_harts(new.pending.len(), self.lines.len())?;
        self.state = new;
        self.drive();
        Ok(())
    }
}

impl MmioDevice for Mswi {
    fn read(&mut self, offset: u64, _size: u32) -> u64 {
        let hart = (offset / 4) as usize;
        self.state.pending.get(hart).copied().unwrap_or(false).into()
    }

    fn write(&mut self, offset: u64, size: u32, value: u64) {
        let hart = (offset / 4) as usize;
        let Some(pending) = self.state.pending.get_mut(hart).filter(|_| size == 4) else {
            return device::guest_error!("aclint: write of {size} bytes at {offset:#x} of mswi");
        };
        *pending = value & 1 != 0;
        self.lines[hart].set(*pending);
    }
}

/// Software interrupts for the supervisor level: writing 1 to `SETSSIP` of a hart makes an edge;
/// the hart keeps it in `mip.SSIP` and clears it there.
pub struct Sswi {
    /// Pulsed: the supervisor software interrupt of each hart.
    lines: Vec<Wire>,
}

impl Sswi {
    /// A device for as many harts as there are lines.
    pub fn new(lines: Vec<Wire>) -> Self {
        Self { lines }
    }
}

impl Device for Sswi {
    fn reset(&mut self) {}

    fn save(&self) -> Value {
        Value::Record(Vec::new())
    }

    fn restore(&mut self, value: &Value) -> Result<(), RestoreError> {
        value.record().map(drop)
    }
}

impl MmioDevice for Sswi {
    fn read(&mut self, _offset: u64, _size: u32) -> u64 {
        0
    }

    fn write(&mut self, offset: u64, size: u32, value: u64) {
        match self.lines.get((offset / 4) as usize).filter(|_| size == 4) {
            Some(line) if value & 1 != 0 => line.pulse(),
            Some(_) => {}
            None => device::guest_error!("aclint: write of {size} bytes at {offset:#x} of sswi"),
        }
    }
}

/// Where the registers of an [`Mtimer`] lie within it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MtimerLayout {
    /// Offset of the first `MTIMECMP`; the others follow.
    pub mtimecmp: u64,
    /// Offset of `MTIME`.
    pub mtime: u64,
    /// Bytes that the device takes.
    pub len: u64,
}

impl MtimerLayout {
    /// As in a CLINT: `MTIME` at the very end of the comparators' space.
    pub const CLINT: Self = Self { mtimecmp: 0, mtime: 0x7ff8, len: 0x8000 };
}

#[derive(Default, SavedState)]
struct TimerState {
    /// The comparators that software has written.
    #[n(1)]
    mtimecmp: Vec<Option<u64>>,
    /// What `MTIME` is ahead of the virtual clock by.
    #[n(2)]
    offset: u64,
}

struct Comparator {
    line: Wire,
    timer: Timer,
}

/// The machine-level timer: `MTIME` and one `MTIMECMP` per hart.
pub struct Mtimer {
    layout: MtimerLayout,
    mtime: Counter,
    comparators: Vec<Comparator>,
    state: TimerState,
}

impl Mtimer {
    /// A timer for as many harts as there are lines, each the hart's machine timer interrupt.
    /// `mtime` is the counter that the harts show as `time`.
    pub fn new(layout: MtimerLayout, mtime: Counter, lines: Vec<Wire>) -> Shared<Self> {
        Shared::new_cyclic(|weak: device::Weak<Self>| {
            let state = TimerState { mtimecmp: vec![None; lines.len()], offset: 0 };
            let comparator = |(hart, line)| {
                let weak = weak.clone();
                let timer = mtime.clock().timer(move || {
                    if let Some(timer) = weak.upgrade() {
                        timer.lock().drive(hart);
                    }
                });
                Comparator { line, timer }
            };
            let comparators = lines.into_iter().enumerate().map(comparator).collect();
            Self { layout, mtime, comparators, state }
        })
    }

    /// Bytes of address space that the registers take.
    pub fn layout(&self) -> MtimerLayout {
        self.layout
    }

    /// Drives one hart's line and timer to match the state.
    fn drive(&self, hart: usize) {
        let comparator = &self.comparators[hart];
        let Some(compare) = self.state.mtimecmp[hart] else {
            comparator.timer.cancel();
            return comparator.line.set(false);
        };
        let due = self.mtime.now() >= compare;
        comparator.line.set(due);
        match self.mtime.when(compare) {
            _ if due => comparator.timer.cancel(),
            u64::MAX => comparator.timer.cancel(),
            at => comparator.timer.arm(at),
        }
    }

    fn drive_all(&self) {
        (0..self.comparators.len()).for_each(|hart| self.drive(hart));
    }

    fn set_mtime(&mut self, value: u64) {
        self.mtime.set(value);
        self.state.offset = self.mtime.offset();
        self.drive_all();
    }

    /// The hart whose comparator holds `offset`.
    fn hart_at(&self, offset: u64) -> Option<usize> {
        let hart = offset.checked_sub(self.layout.mtimecmp)? / 8;
        (hart < self.comparators.len() as u64).then_some(hart as usize)
    }

    fn is_mtime(&self, offset: u64) -> bool {
        offset & !7 == self.layout.mtime
    }
}

impl Device for Mtimer {
    fn reset(&mut self) {
        self.state.mtimecmp.fill(None);
        self.set_mtime(0);
    }

    fn save(&self) -> Value {
        self.state.save()
    }

    fn restore(&mut self, value: &Value) -> Result<(), RestoreError> {
        let mut new = TimerState::default();
        new.restore(value)?;
        same_harts(new.mtimecmp.len(), self.comparators.len())?;
        self.state = new;
        self.mtime.set_offset(self.state.offset);
        self.drive_all();
        Ok(())
    }
}

impl MmioDevice for Mtimer {
    fn rules(&self) -> AccessRules {
        AccessRules { min: 4, max: 8 }
    }

    fn read(&mut self, offset: u64, _size: u32) -> u64 {
        let value = if self.is_mtime(offset) {
            self.mtime.now()
        } else if let Some(hart) = self.hart_at(offset) {
            self.state.mtimecmp[hart].unwrap_or(0)
        } else {
            return 0;
        };
        value >> (8 * (offset & 4))
    }

    fn write(&mut self, offset: u64, size: u32, value: u64) {
        if size < 4 || !offset.is_multiple_of(u64::from(size)) {
            return device::guest_error!("aclint: write of {size} bytes at {offset:#x} of mtimer");
        }
        let merge = |old: u64| match (size, offset & 4) {
            (8, _) => value,
            (_, 0) => old & !0xffff_ffff | value & 0xffff_ffff,
            _ => old & 0xffff_ffff | value << 32,
        };
        if self.is_mtime(offset) {
            self.set_mtime(merge(self.mtime.now()));
        } else if let Some(hart) = self.hart_at(offset) {
            let old = self.state.mtimecmp[hart].unwrap_or(0);
            self.state.mtimecmp[hart] = Some(merge(old));
            self.drive(hart);
        }
    }
}

fn same_harts(saved: usize, here: usize) -> Result<(), RestoreError> {
    if saved == here {
        return Ok(());
    }
    Err(RestoreError::new(format!("state of {saved} harts for a machine with {here}")))
}

/// The row of `riscv.aclint.swi`.
pub static SWI_CLASS: DeviceClass = DeviceClass {
    name: "riscv.aclint.swi",
    aliases: &[],
    bus: Bus::System,
    category: Category::Misc,
    description: "RISC-V ACLINT software interrupts",
    properties: &[],
    saved_version: 1,
};

/// The row of `riscv.aclint.mtimer`.
pub static MTIMER_CLASS: DeviceClass = DeviceClass {
    name: "riscv.aclint.mtimer",
    aliases: &[],
    bus: Bus::System,
    category: Category::Misc,
    description: "RISC-V ACLINT machine timer",
    properties: &[],
    saved_version: 1,
};

#[cfg(test)]
mod tests {
    use super::*;
    use device::{LineSink, RecordedLines, assert_saves_and_restores, hammer_registers};
    use std::sync::Arc;
    use time::Clock;

    fn lines(n: u32) -> (Arc<RecordedLines>, Vec<Wire>) {
        let lines = Arc::new(RecordedLines::default());
        let wire = |i| Wire::to(Arc::clone(&lines) as Arc<dyn LineSink>, i);
        (Arc::clone(&lines), (0..n).map(wire).collect())
    }

    fn mtimer() -> (Clock, Arc<RecordedLines>, Shared<Mtimer>) {
        let clock = Clock::manual();
        let (seen, wires) = lines(2);
        let mtime = Counter::new(clock.clone(), 10_000_000);
        (clock, seen, Mtimer::new(MtimerLayout::CLINT, mtime, wires))
    }

    #[test]
    fn msip_is_one_bit_and_a_level() {
        let (seen, wires) = lines(2);
        let mut mswi = Mswi::new(wires);
        mswi.write(4, 4, 0xffff_ffff);
        assert_eq!((mswi.read(0, 4), mswi.read(4, 4), mswi.read(8, 4)), (0, 1, 0));
        mswi.write(4, 4, 2);
        mswi.write(8, 4, 1);
        assert_eq!(seen.take(), [(1, true), (1, false)]);
    }

    #[test]
    fn setssip_makes_an_edge_and_reads_zero() {
        let (seen, wires) = lines(2);
        let mut sswi = Sswi::new(wires);
        sswi.write(4, 4, 1);
        sswi.write(0, 4, 0);
        assert_eq!(sswi.read(4, 4), 0);
        assert_eq!(seen.take(), [(1, true), (1, false)]);
    }

    #[test]
    fn the_line_follows_the_comparison() {
        let (clock, seen, timer) = mtimer();
        timer.lock().write(8, 8, 100);
        clock.advance(9_999);
        assert_eq!(seen.take(), []);
        clock.advance(1);
        assert_eq!(seen.take(), [(1, true)]);
        assert_eq!(timer.lock().read(0x7ff8, 8), 100);
        timer.lock().write(8, 4, 101);
        assert_eq!(seen.take(), [(1, false)]);
        timer.lock().write(12, 4, 1);
        clock.advance(1_000_000);
        assert_eq!(seen.take(), []);
        assert_eq!(timer.lock().read(8, 8), 1 << 32 | 101);
        assert_eq!(timer.lock().read(12, 4), 1);
    }

    #[test]
    fn an_unwritten_comparator_reads_zero_and_is_silent() {
        let (clock, seen, timer) = mtimer();
        assert_eq!(timer.lock().read(0, 8), 0);
        clock.advance(1_000);
        assert_eq!(seen.take(), []);
        timer.lock().write(0, 8, 0);
        assert_eq!(seen.take(), [(0, true)]);
        timer.lock().reset();
        assert_eq!(seen.take(), [(0, false)]);
    }

    #[test]
    fn setting_mtime_moves_the_deadlines() {
        let (clock, seen, timer) = mtimer();
        timer.lock().write(0, 8, 1_000);
        timer.lock().write(0x7ff8, 4, 990);
        clock.advance(1_000);
        assert_eq!(seen.take(), [(0, true)]);
        timer.lock().write(0x7ffc, 4, 7);
        assert_eq!(timer.lock().read(0x7ff8, 8), 7 << 32 | 1_000);
        timer.lock().write(0x7ff8, 8, 0);
        assert_eq!(seen.take(), [(0, false)]);
    }

    #[test]
    fn saves_and_restores() {
        let (clock, _, timer) = mtimer();
        timer.lock().write(0x7ff8, 8, 12_345);
        timer.lock().write(0, 8, 12_346);
        clock.advance(500);
        let (_, seen, other) = mtimer();
        assert_saves_and_restores(&*timer.lock(), &mut *other.lock());
        assert_eq!(other.lock().read(0x7ff8, 8), 12_345);
        assert_eq!(seen.take(), []);
        let mut mswi = Mswi::new(lines(2).1);
        mswi.write(0, 4, 1);
        let (seen, wires) = lines(2);
        assert_saves_and_restores(&mswi, &mut Mswi::new(wires));
        assert_eq!(seen.take(), [(0, true)]);
        assert!(Mswi::new(lines(3).1).restore(&mswi.save()).is_err());
        assert_saves_and_restores(&Sswi::new(vec![]), &mut Sswi::new(vec![]));
    }

    #[test]
    fn random_accesses_are_harmless() {
        let (clock, _, timer) = mtimer();
        for seed in 0..50 {
            hammer_registers(&mut *timer.lock(), 0x8000, seed, 500);
            clock.advance(1_000_000_007);
        }
        hammer_registers(&mut Mswi::new(lines(2).1), SWI_LEN, 1, 2_000);
        hammer_registers(&mut Sswi::new(lines(2).1), SWI_LEN, 1, 2_000);
    }
}
