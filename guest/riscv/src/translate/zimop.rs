//! Zimop and Zcmop: may-be-operations, which nothing redefines here.

use super::Translator;
use crate::decode::{MopC, MopR, MopRR, Zimop};

impl Zimop for Translator<'_, '_> {
    /// rd = 0
    fn mop_r(&mut self, a: MopR) {
        let zero = self.imm(0);
        self.set_x(a.rd, zero);
    }
    /// rd = 0
    fn mop_rr(&mut self, a: MopRR) {
        let zero = self.imm(0);
        self.set_x(a.rd, zero);
    }
    fn c_mop(&mut self, _: MopC) {}
}
