//! Helpers for CSR accesses and privileged instructions.
//!
//! Arguments are those of the table in `helpers.rs`. Instruction bits are passed where the
//! instruction may be illegal, since they go to `xtval`.

use crate::csr;
use crate::hart::Riscv;
use crate::mmu;
use crate::model::Feature;
use crate::state::Privilege;
use crate::status::{CBCFE, CBIE, CBZE, FS, TSR, TVM, TW, VS};
use crate::trap::{self, Exception, Trap};
use isa::{Access, Cpu, Flush};

type Result = std::result::Result<u64, Trap>;

/// Fails with an illegal-instruction exception unless `allowed`.
fn require(allowed: bool, insn: u64) -> std::result::Result<(), Trap> {
    if allowed { Ok(()) } else { Err(Trap::illegal(insn)) }
}

pub(crate) fn csr(cpu: &mut Cpu<'_, Riscv>, [insn, operand, _]: [u64; 3]) -> Result {
    csr::execute(cpu, insn as u32, operand)
}

pub(crate) fn illegal(_: &mut Cpu<'_, Riscv>, [insn, _, _]: [u64; 3]) -> Result {
    Err(Trap::illegal(insn))
}

pub(crate) fn fetch_fault(cpu: &mut Cpu<'_, Riscv>, [address, _, _]: [u64; 3]) -> Result {
    let set = mmu::data_set(cpu.state);
    cpu.probe(set, Access::Fetch, address, 2)?;
    Ok(0)
}

pub(crate) fn raise(_: &mut Cpu<'_, Riscv>, [cause, tval, _]: [u64; 3]) -> Result {
    let cause = Exception::from_code(cause).unwrap_or(Exception::IllegalInstruction);
    Err(Trap::new(cause, tval))
}

pub(crate) fn ecall(cpu: &mut Cpu<'_, Riscv>, _: [u64; 3]) -> Result {
    let cause = match cpu.state.privilege {
        Privilege::User => Exception::EcallU,
        Privilege::Supervisor => Exception::EcallS,
        Privilege::Machine => Exception::EcallM,
    };
    Err(Trap::new(cause, 0))
}

pub(crate) fn mret(cpu: &mut Cpu<'_, Riscv>, [insn, _, _]: [u64; 3]) -> Result {
    require(cpu.state.privilege == Privilege::Machine, insn)?;
    trap::mret(cpu);
    Ok(0)
}

pub(crate) fn sret(cpu: &mut Cpu<'_, Riscv>, [insn, _, _]: [u64; 3]) -> Result {
    let allowed = match cpu.state.privilege {
        Privilege::User => false,
        Privilege::Supervisor => cpu.state.mstatus & TSR == 0,
        Privilege::Machine => true,
    };
    require(allowed && cpu.guest.has(Feature::S), insn)?;
    trap::sret(cpu);
    Ok(0)
}

pub(crate) fn wfi(cpu: &mut Cpu<'_, Riscv>, [insn, _, _]: [u64; 3]) -> Result {
    let allowed = match cpu.state.privilege {
        Privilege::User => cpu.state.mstatus & TW == 0 && !cpu.guest.has(Feature::S),
        Privilege::Supervisor => cpu.state.mstatus & TW == 0,
        Privilege::Machine => true,
    };
    require(allowed, insn)?;
    Ok(0)
}

/// Whether this privilege may fence address translation.
fn may_fence(cpu: &Cpu<'_, Riscv>) -> bool {
    match cpu.state.privilege {
        Privilege::User => false,
        Privilege::Supervisor => cpu.state.mstatus & TVM == 0,
        Privilege::Machine => true,
    }
}

pub(crate) fn sfence_vma(cpu: &mut Cpu<'_, Riscv>, [insn, address, _]: [u64; 3]) -> Result {
    require(may_fence(cpu), insn)?;
    let (one_page, one_space) = (insn >> 15 & 31 != 0, insn >> 20 & 31 != 0);
    cpu.flush_translations(match (one_page, one_space) {
        // The page may be cached under many pointers.
        (true, _) if mmu::masks_pointers(cpu.state) => Flush::All,
        (true, _) => Flush::Page(cpu.guest.address(address)),
        (false, true) => Flush::Local,
        (false, false) => Flush::All,
    });
    Ok(0)
}

pub(crate) fn sfence_inval(cpu: &mut Cpu<'_, Riscv>, [insn, _, _]: [u64; 3]) -> Result {
    require(cpu.state.privilege != Privilege::User, insn)?;
    Ok(0)
}

/// Whether the environment configuration of the levels above lets a block operation through.
fn environment(cpu: &Cpu<'_, Riscv>, bits: u64) -> bool {
    let machine = cpu.state.privilege == Privilege::Machine || cpu.state.menvcfg & bits != 0;
    let supervisor = cpu.state.privilege != Privilege::User
        || !cpu.guest.has(Feature::S)
        || cpu.state.senvcfg & bits != 0;
    machine && supervisor
}

pub(crate) fn cbo_zero(cpu: &mut Cpu<'_, Riscv>, [insn, address, _]: [u64; 3]) -> Result {
    require(environment(cpu, CBZE), insn)?;
    let size = u64::from(cpu.guest.config.cboz_block);
    let block = cpu.guest.address(address) & !(size - 1);
    let set = mmu::data_set(cpu.state);
    let stored = (block..block.saturating_add(size))
        .step_by(4096)
        .try_for_each(|at| cpu.zero(set, at, size.min(4096) as u32));
    // The exception names the address that the instruction named.
    stored.map_err(|fault| Trap { tval: cpu.guest.address(address), ..fault })?;
    Ok(0)
}

pub(crate) fn cbo(cpu: &mut Cpu<'_, Riscv>, [insn, address, _]: [u64; 3]) -> Result {
    let invalidates = insn >> 20 & 0xfff == 0;
    require(environment(cpu, if invalidates { CBIE } else { CBCFE }), insn)?;
    // Caches are coherent here, so there is nothing to do but to check the address: the block
    // must be readable or writable. Failures count as stores.
    let address = cpu.guest.address(address);
    let size = u64::from(cpu.guest.config.cbom_block);
    let block = address & !(size - 1);
    let set = mmu::data_set(cpu.state);
    if cpu.probe(set, Access::Load, block, size as u32).is_ok() {
        return Ok(0);
    }
    let probed = cpu.probe(set, Access::Store, block, size as u32);
    probed.map_err(|fault| Trap { tval: address, ..fault })?;
    Ok(0)
}

pub(crate) fn dirty_float(cpu: &mut Cpu<'_, Riscv>, _: [u64; 3]) -> Result {
    cpu.state.mstatus |= FS;
    Ok(0)
}

pub(crate) fn dirty_vector(cpu: &mut Cpu<'_, Riscv>, _: [u64; 3]) -> Result {
    cpu.state.mstatus |= VS;
    Ok(0)
}
