//! Exceptions, system calls, and what the system tells.

use crate::helpers_integer::mmu;
use crate::processor::X86;
use crate::state::{State, eflags, gpr, seg};
use crate::trap::{Exception, Trap, entry};
use isa::{Access, Cpu, Guest};

type Result64 = Result<u64, Trap>;

pub(crate) mod what {
    //! What [`super::system_register`] is asked for; 0 to 5 are the segments' selectors.
    pub(crate) const LDTR: u64 = 8;
    pub(crate) const TR: u64 = 9;
    pub(crate) const CR0: u64 = 10;
    /// The limit; the base is next.
    pub(crate) const GDTR: u64 = 12;
    pub(crate) const IDTR: u64 = 14;
    pub(crate) const TSC_AUX: u64 = 16;
}

pub(crate) fn raise(cpu: &mut Cpu<'_, X86>, [vector, error, behind]: [u64; 3]) -> Result64 {
    let exception = Exception::from_vector(vector as u8).unwrap_or(Exception::Undefined);
    cpu.state.rip = cpu.state.rip.wrapping_add(behind);
    Err(Trap::Exception(exception, error as u32, 0))
}

pub(crate) fn fetch_fault(cpu: &mut Cpu<'_, X86>, [at, ..]: [u64; 3]) -> Result64 {
    let set = mmu(cpu.state);
    cpu.probe(set, Access::Fetch, at, 1)?;
    Ok(0)
}

/// A system call (by which [`entry`], the next instruction pointer).
pub(crate) fn system_call(cpu: &mut Cpu<'_, X86>, [by, next, _]: [u64; 3]) -> Result64 {
    let at = cpu.guest.mode(cpu.state).pc;
    let state = &mut *cpu.state;
    state.rip = next;
    if by as u8 == entry::SYSCALL && state.is_long() {
        // SDM volume 2, SYSCALL.
        state.gpr[usize::from(gpr::RCX)] = next;
        state.gpr[11] = state.flags() & !eflags::RF;
    }
    Err(Trap::Syscall(by as u8, at))
}

pub(crate) fn cpuid(cpu: &mut Cpu<'_, X86>, _: [u64; 3]) -> Result64 {
    let [leaf, sub] = [gpr::RAX, gpr::RCX].map(|n| cpu.state.gpr[usize::from(n)] as u32);
    let answer = cpu.guest.config.cpuid(cpu.state, leaf, sub);
    for (n, value) in [gpr::RAX, gpr::RBX, gpr::RCX, gpr::RDX].into_iter().zip(answer) {
        cpu.state.gpr[usize::from(n)] = value.into();
    }
    Ok(0)
}

pub(crate) fn tsc(cpu: &mut Cpu<'_, X86>, _: [u64; 3]) -> Result64 {
    Ok((cpu.guest.wiring.clock)().wrapping_add(cpu.state.tsc_offset))
}

pub(crate) fn xgetbv(cpu: &mut Cpu<'_, X86>, _: [u64; 3]) -> Result64 {
    let value = match cpu.state.gpr[usize::from(gpr::RCX)] as u32 {
        0 => cpu.state.xcr0,
        _ => return Err(Trap::protection(0)),
    };
    cpu.state.gpr[usize::from(gpr::RAX)] = value & 0xffff_ffff;
    cpu.state.gpr[usize::from(gpr::RDX)] = value >> 32;
    Ok(0)
}

pub(crate) fn system_register(cpu: &mut Cpu<'_, X86>, [which, ..]: [u64; 3]) -> Result64 {
    let state: &State = cpu.state;
    Ok(match which {
        0..=5 => state.seg_selector[(which as usize).min(usize::from(seg::GS))],
        what::LDTR => state.table_selector[0],
        what::TR => state.table_selector[1],
        what::CR0 => state.cr[0],
        what::TSC_AUX => state.tsc_aux,
        what::GDTR => state.table_limit[0],
        13 => state.table_base[0],
        what::IDTR => state.table_limit[1],
        15 => state.table_base[1],
        _ => 0,
    })
}
