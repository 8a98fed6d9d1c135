//! Zbs: single-bit instructions.

use super::{Binary, Translator};
use crate::decode::{R, Shift, Zbs};
use ir::{Builder, Operand};

impl<'u> Zbs for Translator<'_, 'u> {
    fn bclr(&mut self, a: R) {
        self.bit(a, clear);
    }
    fn bclri(&mut self, a: Shift) {
        self.bit_immediate(a, clear);
    }
    fn bext(&mut self, a: R) {
        self.bit(a, extract);
    }
    fn bexti(&mut self, a: Shift) {
        self.bit_immediate(a, extract);
    }
    fn binv(&mut self, a: R) {
        self.bit(a, invert);
    }
    fn binvi(&mut self, a: Shift) {
        self.bit_immediate(a, invert);
    }
    fn bset(&mut self, a: R) {
        self.bit(a, set);
    }
    fn bseti(&mut self, a: Shift) {
        self.bit_immediate(a, set);
    }
}

impl<'u> Translator<'_, 'u> {
    fn bit(&mut self, a: R, op: Binary<'u>) {
        let mut index = self.x(a.rs2);
        if self.rv32 {
            let mask = self.imm(31);
            index = self.b.and(index, mask);
        }
        self.bit_at(a.rd, a.rs1, index, op);
    }

    fn bit_immediate(&mut self, a: Shift, op: Binary<'u>) {
        let index = self.imm(i64::from(a.shamt));
        self.bit_at(a.rd, a.rs1, index, op);
    }

    fn bit_at(&mut self, rd: u8, rs1: u8, index: Operand, op: Binary<'u>) {
        let x = self.x(rs1);
        let value = op(self.b, x, index);
        let value = if self.rv32 { self.word(value) } else { value };
        self.set_x(rd, value);
    }
}

/// 1 << index
fn mask(b: &mut Builder<'_>, index: Operand) -> Operand {
    let one = b.imm(1);
    b.shl(one, index)
}

fn clear(b: &mut Builder<'_>, x: Operand, index: Operand) -> Operand {
    let mask = mask(b, index);
    b.andnot(x, mask)
}

fn extract(b: &mut Builder<'_>, x: Operand, index: Operand) -> Operand {
    let one = b.imm(1);
    let bit = b.shr(x, index);
    b.and(bit, one)
}

fn invert(b: &mut Builder<'_>, x: Operand, index: Operand) -> Operand {
    let mask = mask(b, index);
    b.xor(x, mask)
}

fn set(b: &mut Builder<'_>, x: Operand, index: Operand) -> Operand {
    let mask = mask(b, index);
    b.or(x, mask)
}
