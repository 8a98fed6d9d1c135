//! Atomic accesses that IR has no operation for.

use crate::hart::Riscv;
use crate::state::State;
use crate::trap::Trap;
use isa::Cpu;

/// `amocas.q` (instruction, address, set of translations): compares and swaps 16 bytes.
pub(crate) fn amocas_q(cpu: &mut Cpu<'_, Riscv>, [insn, at, mmu]: [u64; 3]) -> Result<u64, Trap> {
    let (rd, rs2) = ((insn >> 7 & 30) as usize, (insn >> 20 & 30) as usize);
    let (expected, new) = (pair(cpu.state, rd), pair(cpu.state, rs2));
    let old = cpu.cas_wide(mmu as u8, at, (expected, new))?;
    if rd != 0 {
        cpu.state.x[rd] = old as u64;
        cpu.state.x[rd + 1] = (old >> 64) as u64;
    }
    Ok(0)
}

/// The value of an even register and its neighbour; zero for `x0`.
fn pair(state: &State, n: usize) -> u128 {
    if n == 0 { 0 } else { u128::from(state.x[n]) | u128::from(state.x[n + 1]) << 64 }
}
