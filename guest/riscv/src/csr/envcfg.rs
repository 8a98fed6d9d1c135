//! Environment configuration, state enables, security configuration, entropy.

use super::C;
use crate::hart::Riscv;
use crate::model::Feature;
use crate::pmp;
use crate::state::Privilege;
use crate::status::{
    ADUE, CBCFE, CBIE, CBZE, FIOM, PBMTE, PMM, PMM_SHIFT, STATEEN_AIA, STATEEN_CSRIND,
    STATEEN_ENVCFG, STATEEN_IMSIC, STATEEN_SE0, STCE,
};
use isa::Cpu;
use std::hash::{BuildHasher, RandomState};

const USEED: u64 = 1 << 8;
const SSEED: u64 = 1 << 9;

/// Bits that exist at both levels. CBIE's reserved value 2 keeps the old one.
fn common(hart: &Riscv, old: u64, value: u64) -> u64 {
    let mut mask = FIOM;
    if hart.has(Feature::Zicbom) {
        mask |= CBCFE;
        if value & CBIE != 2 << 4 {
            mask |= CBIE;
        }
    }
    if hart.has(Feature::Zicboz) {
        mask |= CBZE;
    }
    let kept = old & (FIOM | CBCFE | CBIE | CBZE) & !mask;
    kept | value & mask
}

/// The pointer-masking field, if the hart has it there; its reserved value 1 keeps the old one.
fn masking(hart: &Riscv, feature: Feature, old: u64, value: u64) -> u64 {
    if !hart.has(feature) || hart.is_rv32() {
        0
    } else if value & PMM == 1 << PMM_SHIFT {
        old & PMM
    } else {
        value & PMM
    }
}

pub(super) fn set_menvcfg(cpu: C<'_, '_>, _: u16, value: u64) {
    let hart = cpu.guest;
    let bits = [(Feature::Sstc, STCE), (Feature::Svpbmt, PBMTE), (Feature::Svadu, ADUE)];
    let mask = bits.iter().filter(|(f, _)| hart.has(*f)).fold(0, |mask, (_, bit)| mask | bit);
    let old = cpu.state.menvcfg;
    let masking = masking(hart, Feature::Smnpm, old, value);
    cpu.state.menvcfg = common(hart, old, value) | masking | value & mask;
    if (old ^ cpu.state.menvcfg) & (PBMTE | ADUE | PMM) != 0 {
        cpu.flush_translations(isa::Flush::All);
    }
}

pub(super) fn set_senvcfg(cpu: C<'_, '_>, _: u16, value: u64) {
    let old = cpu.state.senvcfg;
    let masking = masking(cpu.guest, Feature::Ssnpm, old, value);
    cpu.state.senvcfg = common(cpu.guest, old, value) | masking;
    if (old ^ cpu.state.senvcfg) & PMM != 0 {
        cpu.flush_translations(isa::Flush::All);
    }
}

pub(super) fn mstateen(cpu: C<'_, '_>, number: u16) -> u64 {
    cpu.state.mstateen[usize::from(number & 3)]
}

pub(super) fn set_mstateen(cpu: C<'_, '_>, number: u16, value: u64) {
    let i = usize::from(number & 3);
    let mut mask = STATEEN_SE0;
    if i == 0 {
        mask |= STATEEN_ENVCFG;
        if cpu.guest.has(Feature::Ssaia) {
            mask |= STATEEN_CSRIND | STATEEN_AIA | STATEEN_IMSIC;
        }
    }
    cpu.state.mstateen[i] = value & mask;
}

/// Nothing that S-mode could hide from U-mode exists here.
pub(super) fn sstateen(cpu: C<'_, '_>, number: u16) -> u64 {
    cpu.state.sstateen[usize::from(number & 3)]
}

pub(super) fn set_mseccfg(cpu: C<'_, '_>, _: u16, value: u64) {
    let old = cpu.state.mseccfg;
    let mut new = masking(cpu.guest, Feature::Smmpm, old, value);
    if cpu.guest.has(Feature::Zkr) {
        new |= value & (USEED | SSEED);
    }
    if cpu.guest.has(Feature::Smepmp) {
        // Both restrictions stay once set; the bypass cannot be set over a locked rule.
        new |= (old | value) & (pmp::MML | pmp::MMWP);
        let bypass_allowed = old & pmp::RLB != 0 || !pmp::any_locked(cpu.state);
        if bypass_allowed {
            new |= value & pmp::RLB;
        }
    }
    cpu.state.mseccfg = new;
    if old != new {
        cpu.flush_translations(isa::Flush::All);
    }
}

/// Whether this privilege may use the entropy source.
pub(super) fn seed_allowed(cpu: &Cpu<'_, Riscv>) -> bool {
    match cpu.state.privilege {
        Privilege::Machine => true,
        Privilege::Supervisor => cpu.state.mseccfg & SSEED != 0,
        Privilege::User => cpu.state.mseccfg & USEED != 0,
    }
}

/// Sixteen bits of entropy, status ES16. They come from keys that the host's random source gave.
pub(super) fn seed(_: C<'_, '_>, _: u16) -> u64 {
    const ES16: u64 = 2 << 30;
    ES16 | RandomState::new().hash_one(0) & 0xffff
}
