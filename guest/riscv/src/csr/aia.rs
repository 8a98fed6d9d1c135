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
            let there = access_file(cpu, file, select, 0, 0).is_some();
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

/// A register of the MSI controller, which changes it in one step.
fn access_file(
    cpu: &Cpu<'_, Riscv>,
    file: File,
    select: u64,
    value: u64,
    mask: u64,
) -> Option<u64> {
    let imsic = cpu.guest.wiring.imsic.as_ref()?;
    imsic.access(file, select as u32, xlen(cpu), value, mask)
}

/// Registers that are read and changed in one step: how. `None` if there is none.
pub(super) fn in_one_step(number: u16) -> Option<Access> {
    match number {
        MIREG | SIREG => Some(indirect),
        STOPEI => Some(|cpu, used, _, _| Some(top_external(cpu, File::Supervisor, used))),
        MTOPEI => Some(|cpu, used, _, _| Some(top_external(cpu, File::Machine, used))),
        _ => None,
    }
}

/// Gives a register's old value and replaces the bits of a mask (last) by those of a value.
type Access = fn(C<'_, '_>, Use, u64, u64) -> Option<u64>;

fn indirect(cpu: C<'_, '_>, used: Use, value: u64, mask: u64) -> Option<u64> {
    let (file, select) = selected(cpu, used.number);
    if !(FIRST_PRIORITY..=LAST_PRIORITY).contains(&select) {
        return access_file(cpu, file, select, value, mask);
    }
    let range = priority_bytes(cpu, select);
    let (Priorities(array), external) = match file {
        File::Machine => (&mut cpu.state.miprio, 11),
        File::Supervisor => (&mut cpu.state.siprio, 9),
    };
    let mut old = [0; 8];
    let changes = old.iter_mut().zip(value.to_le_bytes().into_iter().zip(mask.to_le_bytes()));
    for (i, (old, (value, mask))) in range.zip(changes) {
        *old = array[i];
        // The external interrupt's priority is that of its file; others that exist count.
        let exists = trap::BY_URGENCY.iter().any(|(n, _)| *n as usize == i);
        array[i] = if exists && i != external { *old & !mask | value & mask } else { 0 };
    }
    Some(u64::from_le_bytes(old))
}

/// The top external interrupt; a write claims it.
fn top_external(cpu: &Cpu<'_, Riscv>, file: File, used: Use) -> u64 {
    let imsic = cpu.guest.wiring.imsic.as_ref();
    let top = imsic.map_or(0, |i| if used.writes { i.claim(file) } else { i.top(file) });
    u64::from(top)
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
