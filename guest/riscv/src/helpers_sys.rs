//! Helpers for CSR accesses and privileged instructions.

use crate::hart::Riscv;
use crate::trap::Trap;
use isa::Cpu;

type Result = std::result::Result<u64, Trap>;

pub(crate) fn csr(_cpu: &mut Cpu<'_, Riscv>, [insn, _, _]: [u64; 3]) -> Result {
    Err(Trap::illegal(insn))
}

pub(crate) fn illegal(_cpu: &mut Cpu<'_, Riscv>, [insn, _, _]: [u64; 3]) -> Result {
    Err(Trap::illegal(insn))
}

pub(crate) fn raise(_cpu: &mut Cpu<'_, Riscv>, [insn, _, _]: [u64; 3]) -> Result {
    Err(Trap::illegal(insn))
}

pub(crate) fn ecall(_cpu: &mut Cpu<'_, Riscv>, [insn, _, _]: [u64; 3]) -> Result {
    Err(Trap::illegal(insn))
}

pub(crate) fn mret(_cpu: &mut Cpu<'_, Riscv>, [insn, _, _]: [u64; 3]) -> Result {
    Err(Trap::illegal(insn))
}

pub(crate) fn sret(_cpu: &mut Cpu<'_, Riscv>, [insn, _, _]: [u64; 3]) -> Result {
    Err(Trap::illegal(insn))
}

pub(crate) fn wfi(_cpu: &mut Cpu<'_, Riscv>, [insn, _, _]: [u64; 3]) -> Result {
    Err(Trap::illegal(insn))
}

pub(crate) fn sfence_vma(_cpu: &mut Cpu<'_, Riscv>, [insn, _, _]: [u64; 3]) -> Result {
    Err(Trap::illegal(insn))
}

pub(crate) fn sfence_inval(_cpu: &mut Cpu<'_, Riscv>, [insn, _, _]: [u64; 3]) -> Result {
    Err(Trap::illegal(insn))
}

pub(crate) fn cbo_zero(_cpu: &mut Cpu<'_, Riscv>, [insn, _, _]: [u64; 3]) -> Result {
    Err(Trap::illegal(insn))
}

pub(crate) fn cbo(_cpu: &mut Cpu<'_, Riscv>, [insn, _, _]: [u64; 3]) -> Result {
    Err(Trap::illegal(insn))
}

pub(crate) fn dirty_float(_cpu: &mut Cpu<'_, Riscv>, [insn, _, _]: [u64; 3]) -> Result {
    Err(Trap::illegal(insn))
}

pub(crate) fn dirty_vector(_cpu: &mut Cpu<'_, Riscv>, [insn, _, _]: [u64; 3]) -> Result {
    Err(Trap::illegal(insn))
}

pub(crate) fn fetch_fault(_cpu: &mut Cpu<'_, Riscv>, [insn, _, _]: [u64; 3]) -> Result {
    Err(Trap::illegal(insn))
}
