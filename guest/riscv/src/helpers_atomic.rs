//! Atomic accesses that IR has no operation for, and waiting for others' accesses.

use crate::hart::Riscv;
use crate::state::{NO_RESERVATION, Privilege, State};
use crate::status::TW;
use crate::trap::{self, Trap};
use ir::MemOp;
use isa::Cpu;

/// How often `wrs.sto` and `wrs.nto` let other threads of the host run before they give up.
const SHORT_WAIT: u32 = 4;
const LONG_WAIT: u32 = 64;

/// `wrs.nto`, `wrs.sto` (instruction, set of translations): waits while memory holds, in the low word,
/// what the reservation read, and no interrupt is pending that `wfi` would end for. The wait is
/// bounded: `wrs.nto` below M-mode traps at its end if TW asks for that.
pub(crate) fn wrs(cpu: &mut Cpu<'_, Riscv>, [insn, mmu, _]: [u64; 3]) -> Result<u64, Trap> {
    let short = insn >> 20 == 0x1d;
    for _ in 0..if short { SHORT_WAIT } else { LONG_WAIT } {
        if !reserved(cpu, mmu as u8) || trap::wakes(cpu) {
            return Ok(0);
        }
        std::thread::yield_now();
    }
    let machine = cpu.state.privilege == Privilege::Machine;
    if !short && !machine && cpu.state.mstatus & TW != 0 {
        return Err(Trap::illegal(insn));
    }
    Ok(0)
}

/// Whether the reservation stands, as far as the low word of memory tells.
fn reserved(cpu: &mut Cpu<'_, Riscv>, mmu: u8) -> bool {
    let at = cpu.state.reservation_address;
    let read = MemOp::U32.extend(cpu.state.reservation_value);
    at != NO_RESERVATION && cpu.load(mmu, MemOp::U32, at).is_ok_and(|now| now == read)
}

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
