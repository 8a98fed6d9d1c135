//! M and Zmmul: integer multiplication and division.

use super::Translator;
use crate::decode::{M, R};
use ir::{Builder, Operand};

impl M for Translator<'_, '_> {
    fn mul(&mut self, a: R) {
        self.binary_xlen(a, Builder::mul, Builder::mul32);
    }
    fn mulh(&mut self, a: R) {
        match self.rv32 {
            true => self.binary(a, upper_word),
            false => self.binary(a, Builder::mulh),
        }
    }
    fn mulhsu(&mut self, a: R) {
        match self.rv32 {
            true => self.binary(a, |b, x, y| {
                let y = b.zext(y, 32);
                upper_word(b, x, y)
            }),
            false => self.binary(a, Builder::mulhsu),
        }
    }
    fn mulhu(&mut self, a: R) {
        match self.rv32 {
            true => self.binary(a, |b, x, y| {
                let (x, y) = (b.zext(x, 32), b.zext(y, 32));
                upper_word(b, x, y)
            }),
            false => self.binary(a, Builder::mulhu),
        }
    }
    fn div(&mut self, a: R) {
        self.binary_xlen(a, Builder::div, Builder::div32);
    }
    fn divu(&mut self, a: R) {
        self.binary_xlen(a, Builder::divu, Builder::divu32);
    }
    fn rem(&mut self, a: R) {
        self.binary_xlen(a, Builder::rem, Builder::rem32);
    }
    fn remu(&mut self, a: R) {
        self.binary_xlen(a, Builder::remu, Builder::remu32);
    }
    fn mulw(&mut self, a: R) {
        self.binary_word(a, Builder::mul32);
    }
    fn divw(&mut self, a: R) {
        self.binary_word(a, Builder::div32);
    }
    fn divuw(&mut self, a: R) {
        self.binary_word(a, Builder::divu32);
    }
    fn remw(&mut self, a: R) {
        self.binary_word(a, Builder::rem32);
    }
    fn remuw(&mut self, a: R) {
        self.binary_word(a, Builder::remu32);
    }
}

/// Bits 63:32 of a 64-bit product, sign-extended (that of an unsigned product, too).
fn upper_word(b: &mut Builder<'_>, x: Operand, y: Operand) -> Operand {
    let product = b.mul(x, y);
    let by = b.imm(32);
    b.sar(product, by)
}
