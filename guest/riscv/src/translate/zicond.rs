//! Zicond: integer conditional operations.

use super::Translator;
use crate::decode::{R, Zicond};

impl Zicond for Translator<'_, '_> {
    /// rd = rs2 = 0 ? 0 : rs1
    fn czero_eqz(&mut self, a: R) {
        self.binary(a, |b, x, condition| {
            let zero = b.imm(0);
            b.select(condition, x, zero)
        });
    }
    /// rd = rs2 ≠ 0 ? 0 : rs1
    fn czero_nez(&mut self, a: R) {
        self.binary(a, |b, x, condition| {
            let zero = b.imm(0);
            b.select(condition, zero, x)
        });
    }
}
