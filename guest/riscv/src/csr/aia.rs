//! Registers of the advanced interrupt architecture (RISC-V AIA, “Control and Status Registers
//! (CSRs) Added to Harts”). `mvien` is zero, hence no interrupts are virtualised; local
//! interrupts above 15 do not exist.

use super::table::enabled;
use super::{C, Use};
use crate::hart::Riscv;
use crate::imsic::File;
use crate::state::{Priorities, Privilege};
use crate::status::{STATEEN_AIA, STATEEN_CSRIND, STATEEN_IMSIC};
use crate::trap;
use isa::Cpu;

/// Bits of the selectors.
pub(super) const SELECT: u64 = 0x1ff;

const FIRST_PRIORITY: u64 = 0x30;
const LAST_PRIORITY: u64 = 0x3f;
const FIRST_IMSIC: u64 = 0x70;
const LAST_IMSIC: u64 = 0xff;

const SIREG: u16 = 0x151;
const MIREG: u16 = 0x351;
const STOPEI: u16 = 0x15c;
const MTOPEI: u16 = 0x35c;

pub(super) fn select_allowed(cpu: &Cpu<'_, Riscv>, _: Use) -> bool {
    enabled(cpu, STATEEN_CSRIND)
}

pub(super) fn file_allowed(cpu: &Cpu<'_, Riscv>, _: Use) -> bool {
    enabled(cpu, STATEEN_IMSIC)
}

pub(super) fn top_allowed(cpu: &Cpu<'_, Riscv>, _: Use) -> bool {
    enabled(cpu, STATEEN_AIA)
}

/// The indirect register's file and selector.
fn selected(cpu: &Cpu<'_, Riscv>, number: u16) -> (File, u64) {
    if number == SIREG {
        (File::Supervisor, cpu.state.siselect)
    } else {
        (File::Machine, cpu.state.miselect)
    }
}

fn xlen(cpu: &Cpu<'_, Riscv>) -> u32 {
    if cpu.guest.is_rv32() { 32 } else { 64 }
}

/// Whether the indirect register that is selected exists and may be accessed.
pub(super) fn indirect_allowed(cpu: &Cpu<'_, Riscv>, used: Use) -> bool {
    let (file, select) = selected(cpu, used.number);
    let shape_fits = cpu.guest.is_rv32() || select & 1 == 0;
    let supervisor = cpu.state.privilege != Privilege::Machine;
    if supervisor && !enabled(cpu, STATEEN_CSRIND) || !shape_fits {
        return false;
    }
    match select {
        FIRST_PRIORITY..=LAST_PRIORITY => !supervisor || enabled(cpu, STATEEN_AIA),
        FIRST_IMSIC..=LAST_IMSIC => {
            let imsic = cpu.guest.wiring.imsic.as_ref();
            let there = imsic.is_some_and(|i| i.read(file, select as u32, xlen(cpu)).is_some());
            there && (!supervisor || enabled(cpu, STATEEN_IMSIC))
        }
        _ => false,
    }
}

/// Bytes of the priority array that a selector shows.
fn priority_bytes(cpu: &Cpu<'_, Riscv>, select: u64) -> std::ops::Range<usize> {
    let first = (select - FIRST_PRIORITY) as usize * 4;
    first..first + xlen(cpu) as usize / 8
}

fn indirect(cpu: &Cpu<'_, Riscv>, number: u16) -> u64 {
    let (file, select) = selected(cpu, number);
    if (FIRST_PRIORITY..=LAST_PRIORITY).contains(&select) {
        let Priorities(array) =
            if file == File::Machine { &cpu.state.miprio } else { &cpu.state.siprio };
        let bytes = array[priority_bytes(cpu, select)].iter().rev();
        return bytes.fold(0, |value, byte| value << 8 | u64::from(*byte));
    }
    let imsic = cpu.guest.wiring.imsic.as_ref();
    imsic.and_then(|i| i.read(file, select as u32, xlen(cpu))).unwrap_or(0)
}

pub(super) fn sireg(cpu: C<'_, '_>, number: u16) -> u64 {
    indirect(cpu, number)
}

pub(super) fn mireg(cpu: C<'_, '_>, number: u16) -> u64 {
    indirect(cpu, number)
}

/// Writes an indirect register; false if it refuses. Other registers are not its business.
pub(super) fn write_checked(cpu: C<'_, '_>, number: u16, value: u64) -> bool {
    if number != SIREG && number != MIREG {
        return true;
    }
    let (file, select) = selected(cpu, number);
    if (FIRST_PRIORITY..=LAST_PRIORITY).contains(&select) {
        let range = priority_bytes(cpu, select);
        let (array, external) = if file == File::Machine {
            (&mut cpu.state.miprio.0, 11)
        } else {
            (&mut cpu.state.siprio.0, 9)
        };
        for (i, byte) in range.zip(value.to_le_bytes()) {
            // The external interrupt's priority is that of its file; others that exist count.
            let exists = trap::BY_URGENCY.iter().any(|(n, _)| *n as usize == i);
            array[i] = if exists && i != external { byte } else { 0 };
        }
        return true;
    }
    let width = xlen(cpu);
    let value = if width == 32 { value & 0xffff_ffff } else { value };
    let imsic = cpu.guest.wiring.imsic.as_ref();
    imsic.is_some_and(|i| i.write(file, select as u32, width, value))
}

fn top_external(cpu: &Cpu<'_, Riscv>, file: File) -> u64 {
    cpu.guest.wiring.imsic.as_ref().map_or(0, |i| u64::from(i.top(file)))
}

pub(super) fn stopei(cpu: C<'_, '_>, _: u16) -> u64 {
    top_external(cpu, File::Supervisor)
}

pub(super) fn mtopei(cpu: C<'_, '_>, _: u16) -> u64 {
    top_external(cpu, File::Machine)
}

/// For the registers whose write claims the interrupt that the same instruction reads: how.
pub(super) fn claims(number: u16) -> Option<fn(C<'_, '_>) -> u64> {
    match number {
        STOPEI => Some(|cpu| claim(cpu, File::Supervisor)),
        MTOPEI => Some(|cpu| claim(cpu, File::Machine)),
        _ => None,
    }
}

fn claim(cpu: &Cpu<'_, Riscv>, file: File) -> u64 {
    cpu.guest.wiring.imsic.as_ref().map_or(0, |i| u64::from(i.claim(file)))
}

fn top(cpu: C<'_, '_>, to_s: bool) -> u64 {
    trap::top(cpu, to_s).map_or(0, |(number, priority)| u64::from(number << 16 | priority))
}

pub(super) fn stopi(cpu: C<'_, '_>, _: u16) -> u64 {
    top(cpu, true)
}

pub(super) fn mtopi(cpu: C<'_, '_>, _: u16) -> u64 {
    top(cpu, false)
}
