//! RV64I: what it adds to RV32I.

use super::Translator;
use crate::decode::{I, R, Rv64i, S, Shift};
use ir::{Builder, MemOp};

impl Rv64i for Translator<'_, '_> {
    fn lwu(&mut self, a: I) {
        self.load(a, MemOp::U32);
    }
    fn ld(&mut self, a: I) {
        self.load(a, MemOp::U64);
    }
    fn sd(&mut self, a: S) {
        self.store(a, MemOp::U64);
    }
    fn addiw(&mut self, a: I) {
        if a.imm == 0 {
            let value = self.x(a.rs1);
            let value = self.word(value);
            return self.set_x(a.rd, value);
        }
        self.immediate_word(a, Builder::add32);
    }
    fn slliw(&mut self, a: Shift) {
        self.shift_word(a, Builder::shl32);
    }
    fn srliw(&mut self, a: Shift) {
        self.shift_word(a, Builder::shr32);
    }
    fn sraiw(&mut self, a: Shift) {
        self.shift_word(a, Builder::sar32);
    }
    fn addw(&mut self, a: R) {
        self.binary_word(a, Builder::add32);
    }
    fn subw(&mut self, a: R) {
        self.binary_word(a, Builder::sub32);
    }
    fn sllw(&mut self, a: R) {
        self.binary_word(a, Builder::shl32);
    }
    fn srlw(&mut self, a: R) {
        self.binary_word(a, Builder::shr32);
    }
    fn sraw(&mut self, a: R) {
        self.binary_word(a, Builder::sar32);
    }
}
