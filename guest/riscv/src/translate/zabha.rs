//! Zabha: byte and halfword atomics.

use super::Translator;
use crate::decode::{Amo, Zabha};
use ir::{AmoOp, MemOp};

impl Zabha for Translator<'_, '_> {
    fn amoswap_b(&mut self, a: Amo) {
        self.amo(a, AmoOp::Swap, MemOp::S8);
    }
    fn amoadd_b(&mut self, a: Amo) {
        self.amo(a, AmoOp::Add, MemOp::S8);
    }
    fn amoxor_b(&mut self, a: Amo) {
        self.amo(a, AmoOp::Xor, MemOp::S8);
    }
    fn amoand_b(&mut self, a: Amo) {
        self.amo(a, AmoOp::And, MemOp::S8);
    }
    fn amoor_b(&mut self, a: Amo) {
        self.amo(a, AmoOp::Or, MemOp::S8);
    }
    fn amomin_b(&mut self, a: Amo) {
        self.amo(a, AmoOp::Min, MemOp::S8);
    }
    fn amomax_b(&mut self, a: Amo) {
        self.amo(a, AmoOp::Max, MemOp::S8);
    }
    fn amominu_b(&mut self, a: Amo) {
        self.amo(a, AmoOp::MinU, MemOp::S8);
    }
    fn amomaxu_b(&mut self, a: Amo) {
        self.amo(a, AmoOp::MaxU, MemOp::S8);
    }
    fn amocas_b(&mut self, a: Amo) {
        self.compare_and_swap(a, MemOp::S8);
    }
    fn amoswap_h(&mut self, a: Amo) {
        self.amo(a, AmoOp::Swap, MemOp::S16);
    }
    fn amoadd_h(&mut self, a: Amo) {
        self.amo(a, AmoOp::Add, MemOp::S16);
    }
    fn amoxor_h(&mut self, a: Amo) {
        self.amo(a, AmoOp::Xor, MemOp::S16);
    }
    fn amoand_h(&mut self, a: Amo) {
        self.amo(a, AmoOp::And, MemOp::S16);
    }
    fn amoor_h(&mut self, a: Amo) {
        self.amo(a, AmoOp::Or, MemOp::S16);
    }
    fn amomin_h(&mut self, a: Amo) {
        self.amo(a, AmoOp::Min, MemOp::S16);
    }
    fn amomax_h(&mut self, a: Amo) {
        self.amo(a, AmoOp::Max, MemOp::S16);
    }
    fn amominu_h(&mut self, a: Amo) {
        self.amo(a, AmoOp::MinU, MemOp::S16);
    }
    fn amomaxu_h(&mut self, a: Amo) {
        self.amo(a, AmoOp::MaxU, MemOp::S16);
    }
    fn amocas_h(&mut self, a: Amo) {
        self.compare_and_swap(a, MemOp::S16);
    }
}
