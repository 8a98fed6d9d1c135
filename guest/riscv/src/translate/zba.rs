//! Zba: address generation.

use super::Translator;
use crate::decode::{R, Shift, Zba};
use ir::Builder;

impl Zba for Translator<'_, '_> {
    fn sh1add(&mut self, a: R) {
        self.shift_add(a, 1);
    }
    fn sh2add(&mut self, a: R) {
        self.shift_add(a, 2);
    }
    fn sh3add(&mut self, a: R) {
        self.shift_add(a, 3);
    }
    fn add_uw(&mut self, a: R) {
        self.shift_add_uw(a, 0);
    }
    fn sh1add_uw(&mut self, a: R) {
        self.shift_add_uw(a, 1);
    }
    fn sh2add_uw(&mut self, a: R) {
        self.shift_add_uw(a, 2);
    }
    fn sh3add_uw(&mut self, a: R) {
        self.shift_add_uw(a, 3);
    }
    fn slli_uw(&mut self, a: Shift) {
        self.shift_xlen(
            a,
            |b, x, by| {
                let x = b.zext(x, 32);
                b.shl(x, by)
            },
            Builder::shl32,
        );
    }
}

impl Translator<'_, '_> {
    /// rd = rs2 + (rs1 << n)
    fn shift_add(&mut self, a: R, n: i64) {
        let (index, n) = (self.x(a.rs1), self.imm(n));
        let index = self.b.shl(index, n);
        let base = self.x(a.rs2);
        let sum = self.b.add(base, index);
        let sum = if self.rv32 { self.word(sum) } else { sum };
        self.set_x(a.rd, sum);
    }

    /// rd = rs2 + (zext(rs1[31:0]) << n)
    fn shift_add_uw(&mut self, a: R, n: i64) {
        let (index, n) = (self.x(a.rs1), self.imm(n));
        let index = self.b.zext(index, 32);
        let index = self.b.shl(index, n);
        let base = self.x(a.rs2);
        let sum = self.b.add(index, base);
        self.set_x(a.rd, sum);
    }
}
