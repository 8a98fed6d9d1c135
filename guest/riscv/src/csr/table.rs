//! The registers: number (or first and last), name, existence, rights, behaviour.

use super::{C, Kind, Row, Use, aia, counters, envcfg, interrupts, status};
use crate::hart::Riscv;
use crate::model::{Feature, Version};
use crate::pmp;
use crate::state::Privilege;
use crate::status::{FS, STATEEN_ENVCFG, STATEEN_SE0, STCE, TVM, VS};
use isa::Cpu;

fn always(_: &Riscv) -> bool {
    true
}
fn float(hart: &Riscv) -> bool {
    hart.has(Feature::F)
}
fn vector(hart: &Riscv) -> bool {
    hart.has(Feature::Zve32x)
}
fn supervisor(hart: &Riscv) -> bool {
    hart.has(Feature::S)
}
fn user(hart: &Riscv) -> bool {
    hart.has(Feature::U)
}
fn stateen(hart: &Riscv) -> bool {
    hart.has(Feature::Smstateen)
}
fn sstateen(hart: &Riscv) -> bool {
    hart.has(Feature::Ssstateen) && supervisor(hart)
}
fn sstc(hart: &Riscv) -> bool {
    hart.has(Feature::Sstc) && supervisor(hart)
}
fn envcfg_exists(hart: &Riscv) -> bool {
    user(hart) && hart.config.version >= Version::V1_12
}
fn senvcfg_exists(hart: &Riscv) -> bool {
    supervisor(hart) && hart.config.version >= Version::V1_12
}
fn seccfg(hart: &Riscv) -> bool {
    [Feature::Smepmp, Feature::Smmpm, Feature::Zkr].into_iter().any(|f| hart.has(f))
}
fn protection(hart: &Riscv) -> bool {
    hart.has(Feature::Pmp)
}
fn random(hart: &Riscv) -> bool {
    hart.has(Feature::Zkr)
}
fn smaia(hart: &Riscv) -> bool {
    hart.has(Feature::Smaia)
}
fn ssaia(hart: &Riscv) -> bool {
    hart.has(Feature::Ssaia) && supervisor(hart)
}
fn m_file(hart: &Riscv) -> bool {
    smaia(hart) && hart.wiring.imsic.is_some()
}
fn s_file(hart: &Riscv) -> bool {
    ssaia(hart) && hart.wiring.imsic.is_some()
}
fn overflow(hart: &Riscv) -> bool {
    hart.has(Feature::Sscofpmf)
}
fn inhibit(hart: &Riscv) -> bool {
    hart.config.version >= Version::V1_11
}
fn config_pointer(hart: &Riscv) -> bool {
    hart.config.version >= Version::V1_12
}

fn any(_: &Cpu<'_, Riscv>, _: Use) -> bool {
    true
}
fn float_on(cpu: &Cpu<'_, Riscv>, _: Use) -> bool {
    cpu.state.mstatus & FS != 0
}
fn vector_on(cpu: &Cpu<'_, Riscv>, _: Use) -> bool {
    cpu.state.mstatus & VS != 0
}
fn translation(cpu: &Cpu<'_, Riscv>, _: Use) -> bool {
    cpu.state.privilege == Privilege::Machine || cpu.state.mstatus & TVM == 0
}
/// Whether `mstateen0` lets this privilege at what `bit` stands for.
pub(super) fn enabled(cpu: &Cpu<'_, Riscv>, bit: u64) -> bool {
    cpu.state.privilege == Privilege::Machine
        || !cpu.guest.has(Feature::Smstateen)
        || cpu.state.mstateen[0] & bit == bit
}
fn senvcfg_enabled(cpu: &Cpu<'_, Riscv>, _: Use) -> bool {
    enabled(cpu, STATEEN_ENVCFG)
}
fn sstateen_enabled(cpu: &Cpu<'_, Riscv>, used: Use) -> bool {
    let i = usize::from(used.number & 3);
    cpu.state.privilege == Privilege::Machine || cpu.state.mstateen[i] & STATEEN_SE0 != 0
}
fn timer_enabled(cpu: &Cpu<'_, Riscv>, _: Use) -> bool {
    cpu.state.privilege == Privilege::Machine
        || cpu.state.menvcfg & STCE != 0 && cpu.state.mcounteren & 2 != 0
}
fn rv64_or_even(cpu: &Cpu<'_, Riscv>, used: Use) -> bool {
    cpu.guest.is_rv32() || used.number & 1 == 0
}
fn seed_enabled(cpu: &Cpu<'_, Riscv>, used: Use) -> bool {
    used.writes && envcfg::seed_allowed(cpu)
}

/// A write that has no effect.
fn ignore(_: C<'_, '_>, _: u16, _: u64) {}
fn zero(_: C<'_, '_>, _: u16) -> u64 {
    0
}

const fn row(
    number: u16,
    name: &'static str,
    exists: fn(&Riscv) -> bool,
    allowed: fn(&Cpu<'_, Riscv>, Use) -> bool,
    kind: Kind,
) -> Row {
    Row { first: number, last: number, name, exists, allowed, kind }
}

const fn rows(
    (first, last): (u16, u16),
    name: &'static str,
    exists: fn(&Riscv) -> bool,
    allowed: fn(&Cpu<'_, Riscv>, Use) -> bool,
    kind: Kind,
) -> Row {
    Row { first, last, name, exists, allowed, kind }
}

/// A field of the state that keeps the bits in a mask.
macro_rules! field {
    ($($field:ident).+, $mask:expr) => {
        Kind::Plain(|c, _| c.state.$($field).+, |c, _, v| c.state.$($field).+ = v & $mask)
    };
}

/// What `aia::in_one_step` does instead.
const IN_ONE_STEP: Kind = Kind::Plain(zero, ignore);
const ALL: u64 = u64::MAX;

/// Sorted by number.
#[rustfmt::skip]
pub(super) static ROWS: &[Row] = &[
    row(0x001, "fflags", float, float_on, Kind::Plain(|c, _| c.state.fflags & 31, status::set_fflags)),
    row(0x002, "frm", float, float_on, Kind::Plain(|c, _| c.state.frm & 7, status::set_frm)),
    row(0x003, "fcsr", float, float_on, Kind::Plain(status::fcsr, status::set_fcsr)),
    row(0x008, "vstart", vector, vector_on, Kind::Plain(|c, _| c.state.vstart, status::set_vstart)),
    row(0x009, "vxsat", vector, vector_on, Kind::Plain(|c, _| c.state.vxsat, status::set_vxsat)),
    row(0x00a, "vxrm", vector, vector_on, Kind::Plain(|c, _| c.state.vxrm, status::set_vxrm)),
    row(0x00f, "vcsr", vector, vector_on, Kind::Plain(status::vcsr, status::set_vcsr)),
    row(0x015, "seed", random, seed_enabled, Kind::Plain(envcfg::seed, ignore)),

    row(0x100, "sstatus", supervisor, any, Kind::Plain(status::sstatus, status::set_sstatus)),
    row(0x104, "sie", supervisor, any, Kind::Wide(interrupts::sie, interrupts::set_sie)),
    row(0x105, "stvec", supervisor, any, Kind::Plain(|c, _| c.state.stvec, status::set_stvec)),
    row(0x106, "scounteren", supervisor, any, Kind::Plain(|c, _| c.state.scounteren, counters::set_scounteren)),
    row(0x10a, "senvcfg", senvcfg_exists, senvcfg_enabled, Kind::Plain(|c, _| c.state.senvcfg, envcfg::set_senvcfg)),
    rows((0x10c, 0x10f), "sstateen0", sstateen, sstateen_enabled, Kind::Plain(envcfg::sstateen, ignore)),
    row(0x114, "sieh", ssaia, any, Kind::High(0x10)),
    row(0x140, "sscratch", supervisor, any, field!(sscratch, ALL)),
    row(0x141, "sepc", supervisor, any, Kind::Plain(status::sepc, |c, _, v| c.state.sepc = v & !1)),
    row(0x142, "scause", supervisor, any, Kind::Plain(|c, _| status::shown_cause(c.guest, c.state.scause), |c, _, v| c.state.scause = status::cause_from(c, v))),
    row(0x143, "stval", supervisor, any, field!(stval, ALL)),
    row(0x144, "sip", supervisor, any, Kind::Wide(interrupts::sip, interrupts::set_sip)),
    row(0x14d, "stimecmp", sstc, timer_enabled, Kind::Wide(|c, _| c.state.stimecmp, counters::set_stimecmp)),
    row(0x150, "siselect", ssaia, aia::select_allowed, field!(siselect, aia::SELECT)),
    row(0x151, "sireg", ssaia, aia::indirect_allowed, IN_ONE_STEP),
    row(0x154, "siph", ssaia, any, Kind::High(0x10)),
    row(0x15c, "stopei", s_file, aia::file_allowed, IN_ONE_STEP),
    row(0x15d, "stimecmph", sstc, timer_enabled, Kind::High(0x10)),
    row(0x180, "satp", supervisor, translation, Kind::Plain(|c, _| c.state.satp, status::set_satp)),

    row(0x300, "mstatus", always, any, Kind::Wide(status::mstatus, status::set_mstatus)),
    row(0x301, "misa", always, any, Kind::Plain(status::misa, ignore)),
    row(0x302, "medeleg", supervisor, any, Kind::Wide(|c, _| c.state.medeleg, interrupts::set_medeleg)),
    row(0x303, "mideleg", supervisor, any, Kind::Wide(|c, _| c.state.mideleg, interrupts::set_mideleg)),
    row(0x304, "mie", always, any, Kind::Wide(|c, _| c.state.mie, interrupts::set_mie)),
    row(0x305, "mtvec", always, any, Kind::Plain(|c, _| c.state.mtvec, status::set_mtvec)),
    row(0x306, "mcounteren", user, any, Kind::Plain(|c, _| c.state.mcounteren, counters::set_mcounteren)),
    row(0x308, "mvien", smaia, any, Kind::Wide(zero, ignore)),
    row(0x309, "mvip", smaia, any, Kind::Wide(interrupts::mvip, interrupts::set_mvip)),
    row(0x30a, "menvcfg", envcfg_exists, any, Kind::Wide(|c, _| c.state.menvcfg, envcfg::set_menvcfg)),
    rows((0x30c, 0x30f), "mstateen0", stateen, any, Kind::Wide(envcfg::mstateen, envcfg::set_mstateen)),
    row(0x310, "mstatush", always, any, Kind::High(0x10)),
    row(0x312, "medelegh", supervisor, any, Kind::High(0x10)),
    row(0x313, "midelegh", smaia, any, Kind::High(0x10)),
    row(0x314, "mieh", smaia, any, Kind::High(0x10)),
    row(0x318, "mvienh", smaia, any, Kind::High(0x10)),
    row(0x319, "mviph", smaia, any, Kind::High(0x10)),
    row(0x31a, "menvcfgh", envcfg_exists, any, Kind::High(0x10)),
    rows((0x31c, 0x31f), "mstateen0h", stateen, any, Kind::High(0x10)),
    row(0x320, "mcountinhibit", inhibit, any, Kind::Plain(|c, _| c.state.mcountinhibit, counters::set_inhibit)),
    rows((0x323, 0x33f), "mhpmevent3", always, any, Kind::Wide(counters::event, counters::set_event)),
    row(0x340, "mscratch", always, any, field!(mscratch, ALL)),
    row(0x341, "mepc", always, any, Kind::Plain(status::mepc, |c, _, v| c.state.mepc = v & !1)),
    row(0x342, "mcause", always, any, Kind::Plain(|c, _| status::shown_cause(c.guest, c.state.mcause), |c, _, v| c.state.mcause = status::cause_from(c, v))),
    row(0x343, "mtval", always, any, field!(mtval, ALL)),
    row(0x344, "mip", always, any, Kind::Wide(interrupts::mip, interrupts::set_mip)),
    row(0x350, "miselect", smaia, any, field!(miselect, aia::SELECT)),
    row(0x351, "mireg", smaia, aia::indirect_allowed, IN_ONE_STEP),
    row(0x354, "miph", smaia, any, Kind::High(0x10)),
    row(0x35c, "mtopei", m_file, any, IN_ONE_STEP),
    rows((0x3a0, 0x3a3), "pmpcfg0", protection, rv64_or_even, Kind::Plain(pmpcfg, set_pmpcfg)),
    rows((0x3b0, 0x3bf), "pmpaddr0", protection, any, Kind::Plain(pmpaddr, set_pmpaddr)),
    rows((0x723, 0x73f), "mhpmevent3h", overflow, any, Kind::High(0x400)),
    row(0x747, "mseccfg", seccfg, any, Kind::Wide(|c, _| c.state.mseccfg, envcfg::set_mseccfg)),
    row(0x757, "mseccfgh", seccfg, any, Kind::High(0x10)),

    row(0xb00, "mcycle", always, any, Kind::Wide(counters::fixed, counters::set_fixed)),
    row(0xb02, "minstret", always, any, Kind::Wide(counters::fixed, counters::set_fixed)),
    rows((0xb03, 0xb1f), "mhpmcounter3", always, counters::there, Kind::Wide(counters::programmable, counters::set_programmable)),
    row(0xb80, "mcycleh", always, any, Kind::High(0x80)),
    row(0xb82, "minstreth", always, any, Kind::High(0x80)),
    rows((0xb83, 0xb9f), "mhpmcounter3h", always, counters::there, Kind::High(0x80)),
    row(0xc00, "cycle", counters::timing, counters::readable, Kind::Wide(counters::fixed, ignore)),
    row(0xc01, "time", counters::timing, counters::readable, Kind::Wide(|c, _| c.guest.wiring.timer.now(), ignore)),
    row(0xc02, "instret", counters::timing, counters::readable, Kind::Wide(counters::fixed, ignore)),
    rows((0xc03, 0xc1f), "hpmcounter3", counters::monitoring, counters::readable, Kind::Wide(counters::programmable, ignore)),
    row(0xc20, "vl", vector, vector_on, Kind::Plain(|c, _| c.state.vl, ignore)),
    row(0xc21, "vtype", vector, vector_on, Kind::Plain(status::vtype, ignore)),
    row(0xc22, "vlenb", vector, vector_on, Kind::Plain(|c, _| u64::from(c.guest.config.vlen / 8), ignore)),
    row(0xc80, "cycleh", counters::timing, counters::readable, Kind::High(0x80)),
    row(0xc81, "timeh", counters::timing, counters::readable, Kind::High(0x80)),
    row(0xc82, "instreth", counters::timing, counters::readable, Kind::High(0x80)),
    rows((0xc83, 0xc9f), "hpmcounter3h", counters::monitoring, counters::readable, Kind::High(0x80)),
    row(0xda0, "scountovf", overflow, any, Kind::Plain(counters::overflowed, ignore)),
    row(0xdb0, "stopi", ssaia, aia::top_allowed, Kind::Plain(aia::stopi, ignore)),
    row(0xf11, "mvendorid", always, any, Kind::Plain(|c, _| c.guest.config.mvendorid, ignore)),
    row(0xf12, "marchid", always, any, Kind::Plain(|c, _| c.guest.config.marchid, ignore)),
    row(0xf13, "mimpid", always, any, Kind::Plain(|c, _| c.guest.config.mimpid, ignore)),
    row(0xf14, "mhartid", always, any, Kind::Plain(|c, _| c.guest.wiring.hart_id, ignore)),
    row(0xf15, "mconfigptr", config_pointer, any, Kind::Plain(zero, ignore)),
    row(0xfb0, "mtopi", smaia, any, Kind::Plain(aia::mtopi, ignore)),
];

/// Entries of protection that one configuration register holds, and the first of them.
fn entries(cpu: &Cpu<'_, Riscv>, number: u16) -> std::ops::Range<usize> {
    let first = usize::from(number & 3) * 4;
    first..first + if cpu.guest.is_rv32() { 4 } else { 8 }
}

fn pmpcfg(cpu: C<'_, '_>, number: u16) -> u64 {
    let range = entries(cpu, number);
    let bytes = cpu.state.pmpcfg[range].iter().rev();
    bytes.fold(0, |value, byte| value << 8 | u64::from(*byte))
}

fn set_pmpcfg(cpu: C<'_, '_>, number: u16, value: u64) {
    let mut changed = false;
    for (i, byte) in entries(cpu, number).zip(value.to_le_bytes()) {
        changed |= pmp::write_cfg(cpu.state, i, byte);
    }
    if changed {
        cpu.flush_translations(isa::Flush::All);
    }
}

fn pmpaddr(cpu: C<'_, '_>, number: u16) -> u64 {
    cpu.state.pmpaddr[usize::from(number & 15)]
}

fn set_pmpaddr(cpu: C<'_, '_>, number: u16, value: u64) {
    let mask = if cpu.guest.is_rv32() { 0xffff_ffff } else { (1 << 54) - 1 };
    if pmp::write_addr(cpu.state, usize::from(number & 15), value & mask) {
        cpu.flush_translations(isa::Flush::All);
    }
}
