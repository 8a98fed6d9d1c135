//! Zbb: basic bit manipulation, with what Zbkb shares.

use super::Translator;
use crate::decode::{R, R1, Shift, Zbb};
use ir::{Builder, Operand};

impl Zbb for Translator<'_, '_> {
    fn andn(&mut self, a: R) {
        self.binary(a, Builder::andnot);
    }
    fn orn(&mut self, a: R) {
        self.binary(a, |b, x, y| {
            let y = b.not(y);
            b.or(x, y)
        });
    }
    fn xnor(&mut self, a: R) {
        self.binary(a, |b, x, y| {
            let differ = b.xor(x, y);
            b.not(differ)
        });
    }
    fn rol(&mut self, a: R) {
        self.binary_xlen(a, Builder::rotl, Builder::rotl32);
    }
    fn ror(&mut self, a: R) {
        self.binary_xlen(a, Builder::rotr, Builder::rotr32);
    }
    fn rori(&mut self, a: Shift) {
        self.shift_xlen(a, Builder::rotr, Builder::rotr32);
    }
    fn rev8(&mut self, a: R1) {
        self.unary_xlen(a, Builder::bswap, Builder::bswap32);
    }
    fn rolw(&mut self, a: R) {
        self.binary_word(a, Builder::rotl32);
    }
    fn rorw(&mut self, a: R) {
        self.binary_word(a, Builder::rotr32);
    }
    fn roriw(&mut self, a: Shift) {
        self.shift_word(a, Builder::rotr32);
    }
    fn clz(&mut self, a: R1) {
        self.unary(a, if self.rv32 { Builder::clz32 } else { Builder::clz });
    }
    fn ctz(&mut self, a: R1) {
        self.unary(a, if self.rv32 { Builder::ctz32 } else { Builder::ctz });
    }
    fn cpop(&mut self, a: R1) {
        self.unary(a, if self.rv32 { Builder::popcnt32 } else { Builder::popcnt });
    }
    fn sext_b(&mut self, a: R1) {
        self.unary(a, |b, x| b.sext(x, 8));
    }
    fn sext_h(&mut self, a: R1) {
        self.unary(a, |b, x| b.sext(x, 16));
    }
    fn orc_b(&mut self, a: R1) {
        self.unary_xlen(a, or_combine_bytes, or_combine_bytes);
    }
    fn min(&mut self, a: R) {
        self.binary(a, Builder::min);
    }
    fn minu(&mut self, a: R) {
        self.binary(a, Builder::minu);
    }
    fn max(&mut self, a: R) {
        self.binary(a, Builder::max);
    }
    fn maxu(&mut self, a: R) {
        self.binary(a, Builder::maxu);
    }
    fn zext_h(&mut self, a: R1) {
        self.unary(a, |b, x| b.zext(x, 16));
    }
    fn clzw(&mut self, a: R1) {
        self.unary(a, Builder::clz32);
    }
    fn ctzw(&mut self, a: R1) {
        self.unary(a, Builder::ctz32);
    }
    fn cpopw(&mut self, a: R1) {
        self.unary(a, Builder::popcnt32);
    }
}

/// Each byte all ones if it is not zero: bit 7 first, then spread as 256 − 1.
fn or_combine_bytes(b: &mut Builder<'_>, x: Operand) -> Operand {
    const LOW: u64 = 0x7f7f_7f7f_7f7f_7f7f;
    let (low, high) = (b.imm(LOW), b.imm(!LOW));
    let (one, seven) = (b.imm(1), b.imm(7));
    let carry = b.and(x, low);
    let carry = b.add(carry, low);
    let any = b.or(carry, x);
    let any = b.and(any, high);
    let (upper, lower) = (b.shl(any, one), b.shr(any, seven));
    b.sub(upper, lower)
}
