//! Translation of instructions to IR.

use crate::hart::Riscv;
use crate::helpers::HelperIndex;
use ir::{Builder, ExitKind};
use isa::{CodeSource, Mode};

/// Appends IR for the instructions from `mode.pc` on.
pub fn translate_unit(
    _hart: &Riscv,
    mode: &Mode,
    _max_insns: u32,
    code: &mut dyn CodeSource,
    b: &mut Builder<'_>,
) {
    let insn = code.halfword(mode.pc).unwrap_or(0);
    b.insn(mode.pc, 2);
    let insn = b.imm(u64::from(insn));
    b.call_effect(HelperIndex::Illegal.id(), &[insn]);
    b.exit_loop(ExitKind::Lookup, mode.pc);
}
