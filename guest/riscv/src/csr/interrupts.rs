//! Interrupt enables, pending bits and delegation.

use super::C;
use crate::hart::Riscv;
use crate::model::Feature;
use crate::status::{LCOFIP, MEIP, MSIP, MTIP, SEIP, SSIP, STCE, STIP};
use crate::trap::pending;

/// Interrupts of S-mode that the hart has.
fn supervisor_mask(hart: &Riscv) -> u64 {
    let overflow = if hart.has(Feature::Sscofpmf) { LCOFIP } else { 0 };
    if hart.has(Feature::S) { SSIP | STIP | SEIP | overflow } else { 0 }
}

/// Exceptions that can go to S-mode: all that are defined but M-mode's own call, double trap and
/// the reserved 14, 17 and 19.
const DELEGABLE: u64 = 0xf4_b7ff;

pub(super) fn set_medeleg(cpu: C<'_, '_>, _: u16, value: u64) {
    cpu.state.medeleg = value & DELEGABLE;
}

pub(super) fn set_mideleg(cpu: C<'_, '_>, _: u16, value: u64) {
    cpu.state.mideleg = value & supervisor_mask(cpu.guest);
}

pub(super) fn set_mie(cpu: C<'_, '_>, _: u16, value: u64) {
    cpu.state.mie = value & (supervisor_mask(cpu.guest) | MSIP | MTIP | MEIP);
}

pub(super) fn mip(cpu: C<'_, '_>, _: u16) -> u64 {
    pending(cpu)
}

/// What read-modify-write instructions start from: the software part of SEIP, without its line.
pub(super) fn for_modify(cpu: C<'_, '_>, number: u16, read: u64) -> u64 {
    match number {
        0x344 => read & !SEIP | cpu.state.mip & SEIP,
        _ => read,
    }
}

/// Sets the software bits among `mask`.
fn set_pending(cpu: C<'_, '_>, value: u64, mask: u64) {
    let mask = mask & supervisor_mask(cpu.guest);
    cpu.state.mip = cpu.state.mip & !mask | value & mask;
}

pub(super) fn set_mip(cpu: C<'_, '_>, _: u16, value: u64) {
    let timer = if cpu.state.menvcfg & STCE == 0 { STIP } else { 0 };
    set_pending(cpu, value, SSIP | SEIP | LCOFIP | timer);
}

pub(super) fn sip(cpu: C<'_, '_>, _: u16) -> u64 {
    pending(cpu) & cpu.state.mideleg
}

pub(super) fn set_sip(cpu: C<'_, '_>, _: u16, value: u64) {
    let delegated = cpu.state.mideleg;
    set_pending(cpu, value, (SSIP | LCOFIP) & delegated);
}

pub(super) fn sie(cpu: C<'_, '_>, _: u16) -> u64 {
    cpu.state.mie & cpu.state.mideleg
}

pub(super) fn set_sie(cpu: C<'_, '_>, _: u16, value: u64) {
    let delegated = cpu.state.mideleg;
    cpu.state.mie = cpu.state.mie & !delegated | value & delegated;
}

/// With `mvien` zero, `mvip` is another name of the software bits.
pub(super) fn mvip(cpu: C<'_, '_>, _: u16) -> u64 {
    let timer = if cpu.state.menvcfg & STCE == 0 { STIP } else { 0 };
    cpu.state.mip & (SSIP | SEIP | timer)
}

pub(super) fn set_mvip(cpu: C<'_, '_>, number: u16, value: u64) {
    let kept = cpu.state.mip & LCOFIP;
    set_mip(cpu, number, value & !LCOFIP | kept);
}
