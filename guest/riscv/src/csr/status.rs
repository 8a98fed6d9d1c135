//! Status, trap setup, and the registers of the floating-point and vector units.

use super::C;
use crate::hart::Riscv;
use crate::mmu;
use crate::model::Feature;
use crate::state::State;
use crate::status::{
    FS, MIE, MPIE, MPP, MPP_SHIFT, MPRV, MXR, SIE, SPIE, SPP, SUM, SXL64, TSR, TVM, TW, UXL64, VS,
};
use crate::trap::{INTERRUPT, set_status};
use isa::Cpu;

/// Bits of `mstatus` that software can write.
fn status_mask(hart: &Riscv) -> u64 {
    let mut mask = MIE | MPIE;
    if hart.has(Feature::U) {
        mask |= MPP | MPRV | TW;
    }
    if hart.has(Feature::S) {
        mask |= SIE | SPIE | SPP | SUM | MXR | TVM | TSR;
    }
    if hart.has(Feature::F) {
        mask |= FS;
    }
    if hart.has(Feature::Zve32x) {
        mask |= VS;
    }
    mask
}

/// The summary bit for dirty units, where this XLEN has it.
fn dirty(hart: &Riscv, status: u64) -> u64 {
    let any = status & FS == FS || status & VS == VS;
    let bit = if hart.is_rv32() { 31 } else { 63 };
    u64::from(any) << bit
}

/// All of `mstatus`, on RV32 with `mstatush`.
pub(crate) fn mstatus_value(hart: &Riscv, state: &State) -> u64 {
    let mut fixed = 0;
    if !hart.is_rv32() && hart.has(Feature::U) {
        fixed |= UXL64;
    }
    if !hart.is_rv32() && hart.has(Feature::S) {
        fixed |= SXL64;
    }
    state.mstatus | fixed | dirty(hart, state.mstatus)
}

pub(super) fn mstatus(cpu: C<'_, '_>, _: u16) -> u64 {
    mstatus_value(cpu.guest, cpu.state)
}

pub(super) fn set_mstatus(cpu: C<'_, '_>, _: u16, value: u64) {
    let mut mask = status_mask(cpu.guest);
    if !cpu.guest.has_privilege(value >> MPP_SHIFT) {
        mask &= !MPP;
    }
    let status = cpu.state.mstatus & !mask | value & mask;
    let privilege = cpu.state.privilege;
    set_status(cpu, status, privilege);
}

const SSTATUS: u64 = SIE | SPIE | SPP | VS | FS | SUM | MXR;

pub(super) fn sstatus(cpu: C<'_, '_>, _: u16) -> u64 {
    let fixed = if cpu.guest.is_rv32() { 0 } else { UXL64 };
    cpu.state.mstatus & SSTATUS | fixed | dirty(cpu.guest, cpu.state.mstatus)
}

pub(super) fn set_sstatus(cpu: C<'_, '_>, _: u16, value: u64) {
    let mask = status_mask(cpu.guest) & SSTATUS;
    let status = cpu.state.mstatus & !mask | value & mask;
    let privilege = cpu.state.privilege;
    set_status(cpu, status, privilege);
}

pub(super) fn misa(cpu: C<'_, '_>, _: u16) -> u64 {
    let letters = Feature::ALL.iter().filter(|f| f.is_letter() && cpu.guest.has(**f));
    let bits = letters.fold(0, |bits, f| bits | 1 << (f.name().as_bytes()[0] - b'a'));
    bits | if cpu.guest.is_rv32() { 1 << 30 } else { 2 << 62 }
}

/// A trap vector accepts the modes direct and vectored; others leave it as it is.
fn tvec(old: u64, value: u64) -> u64 {
    if value & 2 == 0 { value } else { old }
}

pub(super) fn set_mtvec(cpu: C<'_, '_>, _: u16, value: u64) {
    cpu.state.mtvec = tvec(cpu.state.mtvec, value);
}

pub(super) fn set_stvec(cpu: C<'_, '_>, _: u16, value: u64) {
    cpu.state.stvec = tvec(cpu.state.stvec, value);
}

pub(super) fn mepc(cpu: C<'_, '_>, _: u16) -> u64 {
    cpu.guest.return_address(cpu.state.mepc)
}

pub(super) fn sepc(cpu: C<'_, '_>, _: u16) -> u64 {
    cpu.guest.return_address(cpu.state.sepc)
}

/// A cause as this XLEN shows it.
pub(crate) fn shown_cause(hart: &Riscv, cause: u64) -> u64 {
    if hart.is_rv32() { cause & !INTERRUPT | (cause & INTERRUPT) >> 32 } else { cause }
}

/// A cause as the state holds it.
pub(super) fn cause_from(cpu: &Cpu<'_, Riscv>, value: u64) -> u64 {
    if cpu.guest.is_rv32() { value & 0x7fff_ffff | (value >> 31 & 1) << 63 } else { value }
}

/// Modes that the hart lacks leave `satp` as it is.
pub(super) fn set_satp(cpu: C<'_, '_>, _: u16, value: u64) {
    let (mode, known) = if cpu.guest.is_rv32() {
        (mmu::satp_mode(cpu.guest, value), true)
    } else {
        let code = value >> 60;
        let mode = mmu::satp_mode(cpu.guest, value);
        (mode, mode.code() == code)
    };
    if known && cpu.guest.config.satp.allows(mode) && value != cpu.state.satp {
        let same_mode = mmu::satp_mode(cpu.guest, cpu.state.satp) == mode;
        cpu.state.satp = value;
        // Another address space: what is global holds in it, too.
        cpu.flush_translations(if same_mode { isa::Flush::Local } else { isa::Flush::All });
    }
}

fn set_dirty(cpu: C<'_, '_>, unit: u64) {
    cpu.state.mstatus |= unit;
}

pub(super) fn set_fflags(cpu: C<'_, '_>, _: u16, value: u64) {
    cpu.state.fflags = value & 31;
    set_dirty(cpu, FS);
}

pub(super) fn set_frm(cpu: C<'_, '_>, _: u16, value: u64) {
    cpu.state.frm = value & 7;
    set_dirty(cpu, FS);
}

pub(super) fn fcsr(cpu: C<'_, '_>, _: u16) -> u64 {
    cpu.state.fflags & 31 | (cpu.state.frm & 7) << 5
}

pub(super) fn set_fcsr(cpu: C<'_, '_>, number: u16, value: u64) {
    set_fflags(cpu, number, value);
    set_frm(cpu, number, value >> 5);
}

pub(super) fn set_vstart(cpu: C<'_, '_>, _: u16, value: u64) {
    // As many bits as the largest element index needs: VLEN elements of one byte, LMUL 8.
    let mask = u64::from(cpu.guest.config.vlen.next_power_of_two()) - 1;
    cpu.state.vstart = value & mask;
    set_dirty(cpu, VS);
}

pub(super) fn set_vxsat(cpu: C<'_, '_>, _: u16, value: u64) {
    cpu.state.vxsat = value & 1;
    set_dirty(cpu, VS);
}

pub(super) fn set_vxrm(cpu: C<'_, '_>, _: u16, value: u64) {
    cpu.state.vxrm = value & 3;
    set_dirty(cpu, VS);
}

pub(super) fn vcsr(cpu: C<'_, '_>, _: u16) -> u64 {
    cpu.state.vxsat | cpu.state.vxrm << 1
}

pub(super) fn set_vcsr(cpu: C<'_, '_>, number: u16, value: u64) {
    set_vxsat(cpu, number, value);
    set_vxrm(cpu, number, value >> 1);
}

/// `vtype` with vill in the highest bit of this XLEN.
pub(super) fn vtype(cpu: C<'_, '_>, _: u16) -> u64 {
    let (vtype, vill) = (cpu.state.vtype & !INTERRUPT, cpu.state.vtype >> 63);
    vtype | vill << if cpu.guest.is_rv32() { 31 } else { 63 }
}
