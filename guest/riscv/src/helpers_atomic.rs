//! Atomic accesses that IR has no operation for.

use crate::hart::Riscv;
use crate::trap::{Exception, Trap};
use ir::MemOp;
use isa::{Access, Cpu};

/// `amocas.q` (instruction, address, set of translations): compares and swaps 16 bytes.
///
/// Not atomic towards other harts and devices: the halves are read and written one after the other.
pub(crate) fn amocas_q(cpu: &mut Cpu<'_, Riscv>, [insn, at, mmu]: [u64; 3]) -> Result<u64, Trap> {
    let mmu = mmu as u8;
    if !at.is_multiple_of(16) {
        return Err(Trap::new(Exception::StoreMisaligned, at));
    }
    cpu.probe(mmu, Access::Atomic, at, 16)?;
    let upper = at.wrapping_add(8);
    let old = (cpu.load(mmu, MemOp::U64, at)?, cpu.load(mmu, MemOp::U64, upper)?);
    let (rd, rs2) = ((insn >> 7 & 30) as usize, (insn >> 20 & 30) as usize);
    let pair = |x: &[u64; 32], n: usize| if n == 0 { (0, 0) } else { (x[n], x[n + 1]) };
    if old == pair(&cpu.state.x, rd) {
        let new = pair(&cpu.state.x, rs2);
        cpu.store(mmu, MemOp::U64, at, new.0)?;
        cpu.store(mmu, MemOp::U64, upper, new.1)?;
    }
    if rd != 0 {
        cpu.state.x[rd] = old.0;
        cpu.state.x[rd + 1] = old.1;
    }
    Ok(0)
}
