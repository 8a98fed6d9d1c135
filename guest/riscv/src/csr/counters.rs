//! Counters: `mcycle` and `minstret` count nanoseconds of the machine's clock; programmable ones
//! are storage that no event moves.

use super::{C, Use};
use crate::hart::Riscv;
use crate::model::Feature;
use crate::state::{Privilege, State};
use isa::Cpu;

/// Whether the hart shows cycle, time and instret.
pub(super) fn timing(hart: &Riscv) -> bool {
    hart.has(Feature::Zicntr)
}

/// Whether the hart shows programmable counters.
pub(super) fn monitoring(hart: &Riscv) -> bool {
    hart.has(Feature::Zihpm)
}

/// Counters that exist: cycle, time, instret and those of the configuration.
fn mask(hart: &Riscv) -> u64 {
    u64::from(hart.config.hpm_counters) | 7
}

/// Whether the enables let this privilege read a counter.
pub(super) fn readable(cpu: &Cpu<'_, Riscv>, used: Use) -> bool {
    let bit = 1u64 << (used.number & 31);
    if mask(cpu.guest) & bit == 0 {
        return false;
    }
    match cpu.state.privilege {
        Privilege::Machine => true,
        Privilege::Supervisor => cpu.state.mcounteren & bit != 0,
        Privilege::User => {
            let supervisor = !cpu.guest.has(Feature::S) || cpu.state.scounteren & bit != 0;
            cpu.state.mcounteren & bit != 0 && supervisor
        }
    }
}

pub(super) fn set_mcounteren(cpu: C<'_, '_>, _: u16, value: u64) {
    cpu.state.mcounteren = value & mask(cpu.guest);
}

pub(super) fn set_scounteren(cpu: C<'_, '_>, _: u16, value: u64) {
    cpu.state.scounteren = value & mask(cpu.guest);
}

/// Place of `mcycle` (0) or `minstret` (1), by any of their numbers, and its inhibit bit.
fn place(number: u16) -> (usize, u64) {
    let i = usize::from(number >> 1 & 1);
    (i, 1 << (2 * i))
}

/// Makes `mcycle` and `minstret` begin at zero.
pub(crate) fn reset_counters(hart: &Riscv, state: &mut State) {
    state.counters = [hart.wiring.timer.clock_ns().wrapping_neg(); 2];
}

pub(super) fn fixed(cpu: C<'_, '_>, number: u16) -> u64 {
    let (i, bit) = place(number);
    let kept = cpu.state.counters[i];
    if cpu.state.mcountinhibit & bit != 0 {
        kept
    } else {
        kept.wrapping_add(cpu.guest.wiring.timer.clock_ns())
    }
}

pub(super) fn set_fixed(cpu: C<'_, '_>, number: u16, value: u64) {
    let (i, bit) = place(number);
    let running = cpu.state.mcountinhibit & bit == 0;
    let now = if running { cpu.guest.wiring.timer.clock_ns() } else { 0 };
    cpu.state.counters[i] = value.wrapping_sub(now);
}

pub(super) fn set_inhibit(cpu: C<'_, '_>, _: u16, value: u64) {
    let values = [fixed(cpu, 0xb00), fixed(cpu, 0xb02)];
    cpu.state.mcountinhibit = value & mask(cpu.guest) & !2;
    set_fixed(cpu, 0xb00, values[0]);
    set_fixed(cpu, 0xb02, values[1]);
}

/// Whether the hart has a programmable counter: others are illegal, as on QEMU.
pub(super) fn there(cpu: &Cpu<'_, Riscv>, used: Use) -> bool {
    cpu.guest.has(Feature::Zihpm) && mask(cpu.guest) >> (used.number & 31) & 1 != 0
}

/// Place of a programmable counter or its event, by any of their numbers.
fn programmable_place(number: u16) -> usize {
    usize::from(number & 31).saturating_sub(3)
}

pub(super) fn programmable(cpu: C<'_, '_>, number: u16) -> u64 {
    cpu.state.mhpmcounter[programmable_place(number)]
}

pub(super) fn set_programmable(cpu: C<'_, '_>, number: u16, value: u64) {
    cpu.state.mhpmcounter[programmable_place(number)] = value;
}

pub(super) fn event(cpu: C<'_, '_>, number: u16) -> u64 {
    cpu.state.mhpmevent[programmable_place(number)]
}

pub(super) fn set_event(cpu: C<'_, '_>, number: u16, value: u64) {
    if mask(cpu.guest) >> (number & 31) & 1 != 0 {
        // Filters of the modes of the hypervisor extension stay clear.
        cpu.state.mhpmevent[programmable_place(number)] = value & !(3 << 58);
    }
}

/// Overflow bits of the counters that this privilege may read.
pub(super) fn overflowed(cpu: C<'_, '_>, _: u16) -> u64 {
    let visible = match cpu.state.privilege {
        Privilege::Machine => u64::MAX,
        _ => cpu.state.mcounteren,
    };
    let events = cpu.state.mhpmevent.iter().enumerate();
    events.fold(0, |bits, (i, event)| bits | (event >> 63) << (i + 3)) & visible
}

pub(super) fn set_stimecmp(cpu: C<'_, '_>, _: u16, value: u64) {
    cpu.state.stimecmp = value;
    cpu.guest.wiring.timer.set(value);
}
