//! Zbkb: bit manipulation for cryptography that Zbb does not have.

use super::Translator;
use crate::decode::{R, R1, Zbkb};
use crate::helpers::HelperIndex;
use ir::{Builder, Operand};

impl Zbkb for Translator<'_, '_> {
    fn pack(&mut self, a: R) {
        if self.rv32 {
            return self.packw(a);
        }
        self.binary(a, |b, x, y| {
            let by = b.imm(32);
            let (low, high) = (b.zext(x, 32), b.shl(y, by));
            b.or(high, low)
        });
    }
    fn packh(&mut self, a: R) {
        self.binary(a, |b, x, y| {
            let by = b.imm(8);
            let (low, high) = (b.zext(x, 8), b.zext(y, 8));
            let high = b.shl(high, by);
            b.or(high, low)
        });
    }
    fn brev8(&mut self, a: R1) {
        self.unary_xlen(a, reverse_in_bytes, reverse_in_bytes);
    }
    fn zip(&mut self, a: R1) {
        self.helper(R { rd: a.rd, rs1: a.rs1, rs2: 0 }, HelperIndex::Zip);
    }
    fn unzip(&mut self, a: R1) {
        self.helper(R { rd: a.rd, rs1: a.rs1, rs2: 0 }, HelperIndex::Unzip);
    }
    fn packw(&mut self, a: R) {
        self.binary_word(a, |b, x, y| {
            let by = b.imm(16);
            let (low, high) = (b.zext(x, 16), b.shl(y, by));
            b.or(high, low)
        });
    }
}

/// The bits of each byte in reverse order: swaps neighbours, then pairs, then halves.
fn reverse_in_bytes(b: &mut Builder<'_>, mut x: Operand) -> Operand {
    const STEPS: [(u64, u64); 3] =
        [(1, 0x5555_5555_5555_5555), (2, 0x3333_3333_3333_3333), (4, 0x0f0f_0f0f_0f0f_0f0f)];
    for (by, mask) in STEPS {
        let (by, mask) = (b.imm(by), b.imm(mask));
        let up = b.and(x, mask);
        let up = b.shl(up, by);
        let down = b.shr(x, by);
        let down = b.and(down, mask);
        x = b.or(up, down);
    }
    x
}
