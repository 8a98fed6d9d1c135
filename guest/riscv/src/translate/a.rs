//! A: atomic instructions. Acquire and release ask for nothing: atomics of hosts order everything,
//! and plain accesses stay in order but for stores before loads.

use super::Translator;
use crate::decode::{A, Amo, Load};
use crate::state::{NO_RESERVATION, RESERVATION_ADDRESS, RESERVATION_VALUE};
use ir::{AmoOp, Cond, MemOp};

impl A for Translator<'_, '_> {
    fn lr_w(&mut self, a: Load) {
        self.load_reserved(a, MemOp::S32);
    }
    fn sc_w(&mut self, a: Amo) {
        self.store_conditional(a, MemOp::S32);
    }
    fn lr_d(&mut self, a: Load) {
        self.load_reserved(a, MemOp::U64);
    }
    fn sc_d(&mut self, a: Amo) {
        self.store_conditional(a, MemOp::U64);
    }
    fn amoswap_w(&mut self, a: Amo) {
        self.amo(a, AmoOp::Swap, MemOp::S32);
    }
    fn amoadd_w(&mut self, a: Amo) {
        self.amo(a, AmoOp::Add, MemOp::S32);
    }
    fn amoxor_w(&mut self, a: Amo) {
        self.amo(a, AmoOp::Xor, MemOp::S32);
    }
    fn amoand_w(&mut self, a: Amo) {
        self.amo(a, AmoOp::And, MemOp::S32);
    }
    fn amoor_w(&mut self, a: Amo) {
        self.amo(a, AmoOp::Or, MemOp::S32);
    }
    fn amomin_w(&mut self, a: Amo) {
        self.amo(a, AmoOp::Min, MemOp::S32);
    }
    fn amomax_w(&mut self, a: Amo) {
        self.amo(a, AmoOp::Max, MemOp::S32);
    }
    fn amominu_w(&mut self, a: Amo) {
        self.amo(a, AmoOp::MinU, MemOp::S32);
    }
    fn amomaxu_w(&mut self, a: Amo) {
        self.amo(a, AmoOp::MaxU, MemOp::S32);
    }
    fn amoswap_d(&mut self, a: Amo) {
        self.amo(a, AmoOp::Swap, MemOp::U64);
    }
    fn amoadd_d(&mut self, a: Amo) {
        self.amo(a, AmoOp::Add, MemOp::U64);
    }
    fn amoxor_d(&mut self, a: Amo) {
        self.amo(a, AmoOp::Xor, MemOp::U64);
    }
    fn amoand_d(&mut self, a: Amo) {
        self.amo(a, AmoOp::And, MemOp::U64);
    }
    fn amoor_d(&mut self, a: Amo) {
        self.amo(a, AmoOp::Or, MemOp::U64);
    }
    fn amomin_d(&mut self, a: Amo) {
        self.amo(a, AmoOp::Min, MemOp::U64);
    }
    fn amomax_d(&mut self, a: Amo) {
        self.amo(a, AmoOp::Max, MemOp::U64);
    }
    fn amominu_d(&mut self, a: Amo) {
        self.amo(a, AmoOp::MinU, MemOp::U64);
    }
    fn amomaxu_d(&mut self, a: Amo) {
        self.amo(a, AmoOp::MaxU, MemOp::U64);
    }
}

impl Translator<'_, '_> {
    /// rd = [rs1], atomically replaced by op([rs1], rs2).
    pub(super) fn amo(&mut self, a: Amo, op: AmoOp, mem: MemOp) {
        let (at, value) = (self.at_x(a.rs1), self.x(a.rs2));
        let old = self.b.amo(op, mem.aligned(), at, value);
        self.set_x(a.rd, old);
    }

    /// The reservation is the address and what was read there.
    fn load_reserved(&mut self, a: Load, mem: MemOp) {
        let at = self.at_x(a.rs1);
        let value = self.b.load(mem.aligned(), at, 0);
        self.b.set_reg(RESERVATION_VALUE, value);
        self.b.set_reg(RESERVATION_ADDRESS, at);
        let value = self.b.reg(RESERVATION_VALUE);
        self.set_x(a.rd, value);
    }

    /// Takes the exception of a misaligned atomic access, without making one.
    fn check_alignment(&mut self, a: Amo, mem: MemOp) {
        let aligned = self.b.label();
        let (at, below) = (self.at_x(a.rs1), self.imm(i64::from(mem.size()) - 1));
        let (misaligned, zero) = (self.b.and(at, below), self.imm(0));
        self.b.branch_if(Cond::Eq, misaligned, zero, aligned);
        let at = self.at_x(a.rs1);
        self.b.cas(mem.aligned(), at, zero, zero);
        self.b.place(aligned);
    }

    /// Succeeds if memory still holds what the reservation read there: a value that was changed and
    /// changed back is not noticed (decision 12).
    fn store_conditional(&mut self, a: Amo, mem: MemOp) {
        let (fail, done) = (self.b.label(), self.b.label());
        let at = self.at_x(a.rs1);
        let reserved = self.b.reg(RESERVATION_ADDRESS);
        self.b.branch_if(Cond::Ne, at, reserved, fail);
        let (expected, new) = (self.b.reg(RESERVATION_VALUE), self.x(a.rs2));
        let old = self.b.cas(mem.aligned(), at, expected, new);
        let expected = if mem == MemOp::S32 { self.word(expected) } else { expected };
        let failed = self.b.setcond(Cond::Ne, old, expected);
        self.set_x(a.rd, failed);
        self.b.branch(done);
        self.b.place(fail);
        self.check_alignment(a, mem);
        let one = self.b.imm(1);
        self.set_x(a.rd, one);
        self.b.place(done);
        let none = self.b.imm(NO_RESERVATION);
        self.b.set_reg(RESERVATION_ADDRESS, none);
    }
}
