//! Scalar cryptography: Zbkx, Zknd, Zkne, Zknh, Zksed, Zksh. Hashes are rotations; tables are helpers'.

use super::Translator;
use crate::decode::{Byte, R, R1, Round, Zk};
use crate::helpers::HelperIndex;
use Term::{Rotate, Shift};
use ir::{Builder, Operand};

impl Zk for Translator<'_, '_> {
    fn xperm4(&mut self, a: R) {
        self.helper(a, HelperIndex::Xperm4);
    }
    fn xperm8(&mut self, a: R) {
        self.helper(a, HelperIndex::Xperm8);
    }
    fn aes32dsi(&mut self, a: Byte) {
        self.helper(a.into(), HelperIndex::Aes32);
    }
    fn aes32dsmi(&mut self, a: Byte) {
        self.helper(a.into(), HelperIndex::Aes32);
    }
    fn aes32esi(&mut self, a: Byte) {
        self.helper(a.into(), HelperIndex::Aes32);
    }
    fn aes32esmi(&mut self, a: Byte) {
        self.helper(a.into(), HelperIndex::Aes32);
    }
    fn aes64ds(&mut self, a: R) {
        self.helper(a, HelperIndex::Aes64);
    }
    fn aes64dsm(&mut self, a: R) {
        self.helper(a, HelperIndex::Aes64);
    }
    fn aes64es(&mut self, a: R) {
        self.helper(a, HelperIndex::Aes64);
    }
    fn aes64esm(&mut self, a: R) {
        self.helper(a, HelperIndex::Aes64);
    }
    fn aes64im(&mut self, a: R1) {
        self.helper(R { rd: a.rd, rs1: a.rs1, rs2: 0 }, HelperIndex::Aes64Im);
    }
    fn aes64ks1i(&mut self, a: Round) {
        self.helper(R { rd: a.rd, rs1: a.rs1, rs2: 0 }, HelperIndex::Aes64Ks1);
    }
    /// rd[31:0] = rs1[63:32] ^ rs2[31:0]; rd[63:32] = rd[31:0] ^ rs2[63:32]
    fn aes64ks2(&mut self, a: R) {
        self.binary(a, |b, x, y| {
            let by = b.imm(32);
            let word = b.shr(x, by);
            let low = b.xor32(word, y);
            let high = b.shl(low, by);
            let high = b.xor(high, y);
            let mask = b.imm(!0xffff_ffff);
            let high = b.and(high, mask);
            b.or(high, low)
        });
    }
    fn sha256sum0(&mut self, a: R1) {
        self.mix32(a, [Rotate(2), Rotate(13), Rotate(22)]);
    }
    fn sha256sum1(&mut self, a: R1) {
        self.mix32(a, [Rotate(6), Rotate(11), Rotate(25)]);
    }
    fn sha256sig0(&mut self, a: R1) {
        self.mix32(a, [Rotate(7), Rotate(18), Shift(3)]);
    }
    fn sha256sig1(&mut self, a: R1) {
        self.mix32(a, [Rotate(17), Rotate(19), Shift(10)]);
    }
    fn sha512sum0(&mut self, a: R1) {
        self.mix64(a, [Rotate(28), Rotate(34), Rotate(39)]);
    }
    fn sha512sum1(&mut self, a: R1) {
        self.mix64(a, [Rotate(14), Rotate(18), Rotate(41)]);
    }
    fn sha512sig0(&mut self, a: R1) {
        self.mix64(a, [Rotate(1), Rotate(8), Shift(7)]);
    }
    fn sha512sig1(&mut self, a: R1) {
        self.mix64(a, [Rotate(19), Rotate(61), Shift(6)]);
    }
    fn sha512sum0r(&mut self, a: R) {
        self.halves(a, &[25, 30, -28], &[-7, -2, 4]);
    }
    fn sha512sum1r(&mut self, a: R) {
        self.halves(a, &[23, -14, -18], &[-9, 18, 14]);
    }
    fn sha512sig0l(&mut self, a: R) {
        self.halves(a, &[-1, -7, -8], &[31, 25, 24]);
    }
    fn sha512sig1l(&mut self, a: R) {
        self.halves(a, &[3, -6, -19], &[-29, 26, 13]);
    }
    fn sha512sig0h(&mut self, a: R) {
        self.halves(a, &[-1, -7, -8], &[31, 24]);
    }
    fn sha512sig1h(&mut self, a: R) {
        self.halves(a, &[3, -6, -19], &[-29, 13]);
    }
    fn sm4ed(&mut self, a: Byte) {
        self.helper(a.into(), HelperIndex::Sm4);
    }
    fn sm4ks(&mut self, a: Byte) {
        self.helper(a.into(), HelperIndex::Sm4);
    }
    /// rd = x ^ (x <<< 9) ^ (x <<< 17)
    fn sm3p0(&mut self, a: R1) {
        self.mix32(a, [Rotate(0), Rotate(23), Rotate(15)]);
    }
    /// rd = x ^ (x <<< 15) ^ (x <<< 23)
    fn sm3p1(&mut self, a: R1) {
        self.mix32(a, [Rotate(0), Rotate(17), Rotate(9)]);
    }
}

impl From<Byte> for R {
    fn from(a: Byte) -> Self {
        Self { rd: a.rd, rs1: a.rs1, rs2: a.rs2 }
    }
}

/// A term of a hash function: rotation or shift to the right.
#[derive(Clone, Copy)]
enum Term {
    Rotate(u64),
    Shift(u64),
}

impl Translator<'_, '_> {
    /// rd = sext(XOR of the terms of rs1[31:0])
    fn mix32(&mut self, a: R1, terms: [Term; 3]) {
        let x = self.x(a.rs1);
        let sum = terms.map(|term| match term {
            Rotate(0) => x,
            Rotate(n) => with(self.b, Builder::rotr32, x, n),
            Shift(n) => with(self.b, Builder::shr32, x, n),
        });
        let sum = xor_all(self.b, &sum);
        let sum = self.word(sum);
        self.set_x(a.rd, sum);
    }

    /// rd = XOR of the terms of rs1
    fn mix64(&mut self, a: R1, terms: [Term; 3]) {
        let x = self.x(a.rs1);
        let sum = terms.map(|term| match term {
            Rotate(n) => with(self.b, Builder::rotr, x, n),
            Shift(n) => with(self.b, Builder::shr, x, n),
        });
        let sum = xor_all(self.b, &sum);
        self.set_x(a.rd, sum);
    }

    /// rd = sext(XOR of 32-bit shifts of rs1 and rs2): positive to the left, negative to the right.
    fn halves(&mut self, a: R, of_rs1: &[i8], of_rs2: &[i8]) {
        let (x, y) = (self.x(a.rs1), self.x(a.rs2));
        let shifts = of_rs1.iter().map(|n| (x, n)).chain(of_rs2.iter().map(|n| (y, n)));
        let terms: Vec<_> = shifts
            .map(|(x, n)| {
                let op = if *n < 0 { Builder::shr32 } else { Builder::shl32 };
                with(self.b, op, x, u64::from(n.unsigned_abs()))
            })
            .collect();
        let sum = xor_all(self.b, &terms);
        let sum = self.word(sum);
        self.set_x(a.rd, sum);
    }
}

fn with<'u>(b: &mut Builder<'u>, op: super::Binary<'u>, x: Operand, n: u64) -> Operand {
    let n = b.imm(n);
    op(b, x, n)
}

fn xor_all(b: &mut Builder<'_>, terms: &[Operand]) -> Operand {
    let zero = b.imm(0);
    terms.iter().fold(zero, |sum, term| b.xor(sum, *term))
}
