//! Zacas: compare and swap.

use super::Translator;
use crate::decode::{Amo, Zacas};
use crate::helpers::HelperIndex;
use ir::{MemOp, Operand};

impl Zacas for Translator<'_, '_> {
    fn amocas_w(&mut self, a: Amo) {
        self.compare_and_swap(a, MemOp::S32);
    }
    /// On RV32 the operands are pairs of registers.
    fn amocas_d(&mut self, a: Amo) {
        if !self.rv32 {
            return self.compare_and_swap(a, MemOp::U64);
        }
        let at = self.at_x(a.rs1);
        let (expected, new) = (self.pair(a.rd), self.pair(a.rs2));
        let old = self.b.cas(MemOp::U64.aligned(), at, expected, new);
        if a.rd != 0 {
            let by = self.imm(32);
            let low = self.word(old);
            let high = self.b.sar(old, by);
            self.set_x(a.rd + 1, high);
            self.set_x(a.rd, low);
        }
    }
    fn amocas_q(&mut self, a: Amo) {
        let (insn, at) = (self.insn_bits(), self.x(a.rs1));
        let mmu = self.imm(i64::from(self.mmu));
        self.call_effect(HelperIndex::AmocasQ, &[insn, at, mmu]);
    }
}

impl Translator<'_, '_> {
    /// rd = [rs1]; if that is what rd was, [rs1] = rs2.
    pub(super) fn compare_and_swap(&mut self, a: Amo, mem: MemOp) {
        let at = self.at_x(a.rs1);
        let (expected, new) = (self.x(a.rd), self.x(a.rs2));
        let old = self.b.cas(mem.aligned(), at, expected, new);
        self.set_x(a.rd, old);
    }

    /// The 64-bit value in an even register and its neighbour; zero for `x0`.
    fn pair(&mut self, n: u8) -> Operand {
        if n == 0 {
            return self.imm(0);
        }
        let (low, high, by) = (self.x(n), self.x(n + 1), self.imm(32));
        let (low, high) = (self.b.zext(low, 32), self.b.shl(high, by));
        self.b.or(high, low)
    }
}
