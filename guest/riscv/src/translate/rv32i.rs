//! RV32I, and what RV64I shares with it.

use super::Translator;
use crate::decode::{B, Ext, Fence, I, J, R, Rv32i, S, Shift, U};
use crate::helpers::HelperIndex;
use crate::trap::Exception;
use ir::{Builder, Cond, ExitKind, Hint, MemOp};

impl Rv32i for Translator<'_, '_> {
    fn lui(&mut self, a: U) {
        let value = self.imm(a.imm);
        self.set_x(a.rd, value);
    }
    fn auipc(&mut self, a: U) {
        let value = self.register_value(self.pc.wrapping_add_signed(a.imm));
        let value = self.b.imm(value);
        self.set_x(a.rd, value);
    }
    fn jal(&mut self, a: J) {
        let target = self.address(self.pc.wrapping_add_signed(a.offset));
        if self.is_misaligned(target) {
            return self.misaligned_jump(target);
        }
        let link = self.register_value(self.next);
        let link = self.b.imm(link);
        self.set_x(a.rd, link);
        self.exit(target, if is_link(a.rd) { Hint::Call } else { Hint::Jump });
    }
    /// The target is computed, and found to be aligned, before rd changes.
    fn jalr(&mut self, a: I) {
        let (base, imm) = (self.x(a.rs1), self.imm(a.imm));
        let even = self.imm(-2);
        let target = match self.rv32 {
            true => self.b.add32(base, imm),
            false => self.b.add(base, imm),
        };
        let target = self.b.and(target, even);
        if !self.has(Ext::Zca) {
            let two = self.b.imm(2);
            let bit = self.b.and(target, two);
            let (zero, aligned) = (self.b.imm(0), self.b.label());
            self.b.branch_if(Cond::Eq, bit, zero, aligned);
            self.raise(Exception::FetchMisaligned, target);
            self.b.place(aligned);
            return self.jump_aligned(a);
        }
        self.link_and_jump(a, target);
    }
    fn beq(&mut self, a: B) {
        self.branch(a, Cond::Eq);
    }
    fn bne(&mut self, a: B) {
        self.branch(a, Cond::Ne);
    }
    fn blt(&mut self, a: B) {
        self.branch(a, Cond::Lt);
    }
    fn bge(&mut self, a: B) {
        self.branch(a, Cond::Ge);
    }
    fn bltu(&mut self, a: B) {
        self.branch(a, Cond::Ltu);
    }
    fn bgeu(&mut self, a: B) {
        self.branch(a, Cond::Geu);
    }
    fn lb(&mut self, a: I) {
        self.load(a, MemOp::S8);
    }
    fn lh(&mut self, a: I) {
        self.load(a, MemOp::S16);
    }
    fn lw(&mut self, a: I) {
        self.load(a, MemOp::S32);
    }
    fn lbu(&mut self, a: I) {
        self.load(a, MemOp::U8);
    }
    fn lhu(&mut self, a: I) {
        self.load(a, MemOp::U16);
    }
    fn sb(&mut self, a: S) {
        self.store(a, MemOp::U8);
    }
    fn sh(&mut self, a: S) {
        self.store(a, MemOp::U16);
    }
    fn sw(&mut self, a: S) {
        self.store(a, MemOp::U32);
    }
    fn addi(&mut self, a: I) {
        if self.rv32 && a.rs1 != 0 && a.imm != 0 {
            self.immediate_word(a, Builder::add32);
        } else {
            self.immediate(a, Builder::add);
        }
    }
    fn slti(&mut self, a: I) {
        self.immediate(a, |b, x, y| b.setcond(Cond::Lt, x, y));
    }
    fn sltiu(&mut self, a: I) {
        self.immediate(a, |b, x, y| b.setcond(Cond::Ltu, x, y));
    }
    fn xori(&mut self, a: I) {
        self.immediate(a, Builder::xor);
    }
    fn ori(&mut self, a: I) {
        self.immediate(a, Builder::or);
    }
    fn andi(&mut self, a: I) {
        self.immediate(a, Builder::and);
    }
    fn add(&mut self, a: R) {
        if a.rs1 == 0 || a.rs2 == 0 {
            return self.binary(a, Builder::add);
        }
        self.binary_xlen(a, Builder::add, Builder::add32);
    }
    fn sub(&mut self, a: R) {
        self.binary_xlen(a, Builder::sub, Builder::sub32);
    }
    fn sll(&mut self, a: R) {
        self.binary_xlen(a, Builder::shl, Builder::shl32);
    }
    fn slt(&mut self, a: R) {
        self.binary(a, |b, x, y| b.setcond(Cond::Lt, x, y));
    }
    fn sltu(&mut self, a: R) {
        self.binary(a, |b, x, y| b.setcond(Cond::Ltu, x, y));
    }
    fn xor(&mut self, a: R) {
        self.binary(a, Builder::xor);
    }
    fn srl(&mut self, a: R) {
        self.binary_xlen(a, Builder::shr, Builder::shr32);
    }
    fn sra(&mut self, a: R) {
        self.binary_xlen(a, Builder::sar, Builder::sar32);
    }
    fn or(&mut self, a: R) {
        self.binary(a, Builder::or);
    }
    fn and(&mut self, a: R) {
        self.binary(a, Builder::and);
    }
    /// Hosts keep the order of everything but a store before a load.
    fn fence(&mut self, a: Fence) {
        const WRITES: u8 = 0b0101;
        const READS: u8 = 0b1010;
        if a.pred & WRITES != 0 && a.succ & READS != 0 {
            self.b.fence();
        }
    }
    /// Orders everything but a store before a load.
    fn fence_tso(&mut self) {}
    fn ecall(&mut self) {
        self.call_effect(HelperIndex::Ecall, &[]);
        self.exit_loop(ExitKind::Lookup, self.pc);
    }
    fn ebreak(&mut self) {
        let pc = self.b.imm(self.pc);
        self.raise(Exception::Breakpoint, pc);
        self.exit_loop(ExitKind::Lookup, self.pc);
    }
    fn slli(&mut self, a: Shift) {
        self.shift_xlen(a, Builder::shl, Builder::shl32);
    }
    fn srli(&mut self, a: Shift) {
        self.shift_xlen(a, Builder::shr, Builder::shr32);
    }
    fn srai(&mut self, a: Shift) {
        self.shift_xlen(a, Builder::sar, Builder::sar32);
    }
}

/// Whether a register is one that calls link through.
fn is_link(n: u8) -> bool {
    n == 1 || n == 5
}

impl Translator<'_, '_> {
    pub(super) fn load(&mut self, a: I, mem: MemOp) {
        let (base, offset) = self.at(a.rs1, a.imm);
        let value = self.b.load(mem, base, offset);
        self.set_x(a.rd, value);
    }

    pub(super) fn store(&mut self, a: S, mem: MemOp) {
        let (base, offset) = self.at(a.rs1, a.imm);
        let value = self.x(a.rs2);
        self.b.store(mem, base, offset, value);
    }

    /// Whether no instruction can be at an address.
    fn is_misaligned(&self, target: u64) -> bool {
        target & 2 != 0 && !self.has(Ext::Zca)
    }

    /// The exception of jumping there.
    fn misaligned_jump(&mut self, target: u64) {
        let tval = self.b.imm(target);
        self.raise(Exception::FetchMisaligned, tval);
        self.exit_loop(ExitKind::Lookup, self.pc);
    }

    /// The jump of a `jalr` whose target is known to be aligned; computes it again, because
    /// temporaries end at labels.
    fn jump_aligned(&mut self, a: I) {
        let (base, imm) = (self.x(a.rs1), self.imm(a.imm));
        let even = self.imm(-2);
        let sum = if self.rv32 { self.b.add32(base, imm) } else { self.b.add(base, imm) };
        let target = self.b.and(sum, even);
        self.link_and_jump(a, target);
    }

    fn link_and_jump(&mut self, a: I, target: ir::Operand) {
        let link = self.register_value(self.next);
        let link = self.b.imm(link);
        self.set_x(a.rd, link);
        let hint = match (is_link(a.rd), is_link(a.rs1)) {
            (true, _) => Hint::Call,
            (false, true) => Hint::Return,
            (false, false) => Hint::Jump,
        };
        self.forget_vectors();
        self.b.exit_indirect(target, hint);
        self.ended = true;
    }

    /// Leaves for the target if the condition holds. Behind a forward branch the unit goes on.
    fn branch(&mut self, a: B, cond: Cond) {
        let target = self.address(self.pc.wrapping_add_signed(a.offset));
        let (x, y) = (self.x(a.rs1), self.x(a.rs2));
        if self.is_misaligned(target) {
            let past = self.b.label();
            self.b.branch_if(cond.negated(), x, y, past);
            let tval = self.b.imm(target);
            self.raise(Exception::FetchMisaligned, tval);
            self.b.place(past);
            return;
        }
        if a.rs1 == a.rs2 {
            if cond.holds(0, 0) {
                self.exit(target, Hint::Jump);
            }
            return;
        }
        self.branches = true;
        if self.is_skip(target) {
            return self.skip_if(cond, x, y, target);
        }
        self.b.exit_if(cond, x, y, target);
        if a.offset <= 0 {
            self.exit(self.next, Hint::Jump);
        }
    }
}
