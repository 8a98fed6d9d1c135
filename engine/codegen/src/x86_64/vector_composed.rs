//! Integer operations on lanes of widths that the host has no instruction for.

use super::asm::{Vex, Xmm};
use super::lower::Generator;
use super::vector::{
    PADD, PAND, PANDN, PCMPGT, PMAXU, PMINU, PMULLW, PMULUDQ, POR, PSUB, PXOR, Shift, low_half,
    m3a, m38, sign,
};
use crate::CompileError;
use ir::{Lane, Op, OpKind};

const X0: Xmm = Xmm(0);
const X1: Xmm = Xmm(1);
const PMULDQ: Vex = m38(0x28);
const PBLENDD: Vex = m3a(0x02);

impl Generator<'_> {
    /// Lanes of 32 or 64 bits: where the sum overflows, the extremum on the first operand's side.
    pub(super) fn saturate_signed(&mut self, op: &Op, d: Xmm, (a, b): (Xmm, Xmm)) {
        let lane = op.lane() as usize;
        let adds = op.kind == OpKind::VAddSat;
        self.v(op, if adds { PADD[lane] } else { PSUB[lane] }, d, a, b);
        // The sign of the result differs from the first operand's though it could not: operands of
        // the same sign were added, or of different signs subtracted.
        self.v(op, PXOR, X0, a, d);
        self.v(op, PXOR, X1, a, b);
        self.v(op, if adds { PANDN } else { PAND }, X0, X1, X0);
        self.ones(op, X1);
        self.v(op, PCMPGT[lane], X1, a, X1);
        self.v(op, PXOR, X1, X1, sign(op.lane()));
        // By the sign bits of the lanes.
        let choose = if op.lane() == Lane::B64 { m3a(0x4b) } else { m3a(0x4a) };
        self.v(op, choose, d, d, X1);
        self.asm.imm8(X0.0 << 4);
    }

    /// Lanes of 32 or 64 bits.
    pub(super) fn saturate_unsigned(&mut self, op: &Op, d: Xmm, (a, b): (Xmm, Xmm)) {
        match (op.kind, op.lane()) {
            // As much as fits is added, or subtracted.
            (OpKind::VAddSatU, Lane::B32) => {
                self.ones(op, X0);
                self.v(op, PXOR, X0, X0, b);
                self.v(op, PMINU[2], X0, X0, a);
                self.v(op, PADD[2], d, X0, b);
            }
            (OpKind::VSubSatU, Lane::B32) => {
                self.v(op, PMAXU[2], X0, a, b);
                self.v(op, PSUB[2], d, X0, b);
            }
            (OpKind::VAddSatU, _) => {
                self.v(op, PADD[3], d, a, b);
                self.flip_signs(op, (a, d));
                self.v(op, PCMPGT[3], X0, X0, X1);
                self.v(op, POR, d, d, X0);
            }
            _ => {
                self.v(op, PSUB[3], d, a, b);
                self.flip_signs(op, (a, b));
                self.v(op, PCMPGT[3], X0, X1, X0);
                self.v(op, PANDN, d, X0, d);
            }
        }
    }

    /// (a | b) − (a ^ b) / 2
    pub(super) fn average(&mut self, op: &Op, d: Xmm, (a, b): (Xmm, Xmm)) {
        self.v(op, PXOR, X0, a, b);
        self.shift_constant(op, Shift::Right, op.lane(), (X0, X0), 1);
        self.v(op, POR, d, a, b);
        self.v(op, PSUB[op.lane() as usize], d, d, X0);
    }

    pub(super) fn multiply_high_halves(
        &mut self,
        op: &Op,
        d: Xmm,
        (a, b): (Xmm, Xmm),
    ) -> Result<(), CompileError> {
        match op.lane() {
            Lane::B8 => self.multiply_high_bytes(op, d, (a, b)),
            Lane::B32 => self.multiply_high_words(op, d, (a, b)),
            _ => self.multiply_high_long(op, d, (a, b))?,
        }
        Ok(())
    }

    /// Products of odd bytes, then of even ones, in 16 bits.
    fn multiply_high_bytes(&mut self, op: &Op, d: Xmm, (a, b): (Xmm, Xmm)) {
        let shift = if op.kind == OpKind::VMulHigh { Shift::Arithmetic } else { Shift::Right };
        let by_8 = |g: &mut Self, shift, to| g.shift_constant(op, shift, Lane::B16, to, 8);
        by_8(self, Shift::Left, (X0, a));
        by_8(self, shift, (X0, X0));
        by_8(self, Shift::Left, (X1, b));
        by_8(self, shift, (X1, X1));
        self.v(op, PMULLW, d, X0, X1);
        by_8(self, Shift::Right, (d, d));
        by_8(self, shift, (X0, a));
        by_8(self, shift, (X1, b));
        self.v(op, PMULLW, X0, X0, X1);
        by_8(self, Shift::Right, (X0, X0));
        by_8(self, Shift::Left, (X0, X0));
        self.v(op, POR, d, d, X0);
    }

    /// Products of odd 32-bit lanes and of even ones, in 64 bits.
    fn multiply_high_words(&mut self, op: &Op, d: Xmm, (a, b): (Xmm, Xmm)) {
        let multiply = if op.kind == OpKind::VMulHigh { PMULDQ } else { PMULUDQ };
        let high = |g: &mut Self, to| g.shift_constant(op, Shift::Right, Lane::B64, to, 32);
        high(self, (X0, a));
        high(self, (X1, b));
        self.v(op, multiply, X0, X0, X1);
        self.v(op, multiply, d, a, b);
        high(self, (d, d));
        self.v(op, PBLENDD, d, d, X0);
        self.asm.imm8(0b1010_1010);
    }

    /// Products of the halves of 64-bit lanes, added with their carries.
    fn multiply_high_long(
        &mut self,
        op: &Op,
        d: Xmm,
        (a, b): (Xmm, Xmm),
    ) -> Result<(), CompileError> {
        let (a_high, b_high) = (self.vector_scratch()?, self.vector_scratch()?);
        let high = |g: &mut Self, to| g.shift_constant(op, Shift::Right, Lane::B64, to, 32);
        let mask = low_half(Lane::B64);
        high(self, (a_high, a));
        high(self, (b_high, b));
        // What is added to a_high · b begins above the low product.
        self.v(op, PMULUDQ, X0, a, b);
        high(self, (X0, X0));
        self.v(op, PMULUDQ, X1, a_high, b);
        self.v(op, PADD[3], X0, X0, X1);
        self.v(op, PAND, X1, X0, mask);
        high(self, (X0, X0));
        self.v(op, PMULUDQ, d, a, b_high);
        self.v(op, PADD[3], X1, X1, d);
        high(self, (X1, X1));
        self.v(op, PMULUDQ, d, a_high, b_high);
        self.v(op, PADD[3], d, d, X0);
        self.v(op, PADD[3], d, d, X1);
        if op.kind == OpKind::VMulHigh {
            // Less b where a is negative, and a where b is.
            for (x, y) in [(a, b), (b, a)] {
                self.v(op, PXOR, X0, X0, X0);
                self.v(op, PCMPGT[3], X0, X0, x);
                self.v(op, PAND, X0, X0, y);
                self.v(op, PSUB[3], d, d, X0);
            }
        }
        Ok(())
    }
}
