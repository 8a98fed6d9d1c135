//! `spec/control.map`: jumps and calls; the rest of the file's is in `stack.rs`, `string.rs`,
//! `decimal.rs` and `far.rs`.

use super::{Place, Translator};
use crate::decode::traits::Control;
use crate::decode::{Insn, Rep};
use crate::helpers::{HelperIndex, LeafIndex};
use crate::state::{eflags, gpr, mode, seg};
use crate::trap::{Exception, entry};
use ir::{Cond, ExitKind, Hint, Operand};

impl Control for Translator<'_, '_> {
    fn push(&mut self, i: &Insn) {
        self.push_operand(i);
    }
    fn pop(&mut self, i: &Insn) {
        self.pop_operand(i);
    }
    fn pop_segment(&mut self, i: &Insn) {
        self.pop_selector(i);
    }
    fn pusha(&mut self, i: &Insn) {
        self.push_all(i);
    }
    fn popa(&mut self, i: &Insn) {
        self.pop_all(i);
    }
    fn pushf(&mut self, i: &Insn) {
        let flags = self.leaf(LeafIndex::Flags, &[]);
        self.push_value(flags, i.size);
    }
    fn popf(&mut self, i: &Insn) {
        let value = self.top(0, i.size);
        let size = self.b.imm(i.size.into());
        self.call_effect(HelperIndex::SetFlags, &[value, size]);
        self.flags_settled();
        self.move_stack(i.size.into());
        self.lookup_next();
    }
    fn enter(&mut self, i: &Insn) {
        self.enter_frame(i);
    }
    fn leave(&mut self, i: &Insn) {
        self.leave_frame(i);
    }
    fn jcc(&mut self, i: &Insn) {
        let target = self.target(i);
        let test = self.condition_of(i);
        if self.is_near(target, i) && self.is_skip(target) {
            let label = self.skip_to(target);
            match test.narrow {
                true => self.b.branch_if32(test.cond, test.x, test.y, label),
                false => self.b.branch_if(test.cond, test.x, test.y, label),
            }
            return;
        }
        if !self.is_near(target, i) {
            let past = self.b.label();
            match test.narrow {
                true => self.b.branch_if32(test.cond.negated(), test.x, test.y, past),
                false => self.b.branch_if(test.cond.negated(), test.x, test.y, past),
            }
            self.jump(i, Hint::Jump);
            self.b.place(past);
            return self.exit(self.next, Hint::Jump);
        }
        match test.narrow {
            true => self.b.exit_if32(test.cond, test.x, test.y, target),
            false => self.b.exit_if(test.cond, test.x, test.y, target),
        }
        if target <= self.pc {
            self.exit(self.next, Hint::Jump);
        }
    }
    fn loopcc(&mut self, i: &Insn) {
        let (one, zero) = (self.b.imm(1), self.b.imm(0));
        let rcx = self.x(gpr::RCX);
        let count = self.b.sub(rcx, one);
        let count = self.put(Place::Gpr(gpr::RCX), i.address_size, count);
        let count = self.zx(count, i.address_size);
        let again = self.b.setcond(Cond::Ne, count, zero);
        // loopne: ZF is 0; loope: it is 1. AMD's processors take a repetition prefix for either.
        let zero = match (i.opcode, i.rep) {
            (0xe2, _) => None,
            (_, Rep::F3) => Some(4),
            (_, Rep::F2) => Some(5),
            (opcode, Rep::None) => Some(if opcode == 0xe0 { 5 } else { 4 }),
        };
        let again = match zero {
            None => again,
            Some(code) => {
                let again = self.b.copy(again);
                let bit = self.condition_bit(code);
                self.b.and(again, bit)
            }
        };
        self.jump_if(i, again);
    }
    fn jrcxz(&mut self, i: &Insn) {
        let (rcx, zero) = (self.x(gpr::RCX), self.b.imm(0));
        let count = self.zx(rcx, i.address_size);
        let jumps = self.b.setcond(Cond::Eq, count, zero);
        self.jump_if(i, jumps);
    }
    fn jmp(&mut self, i: &Insn) {
        self.jump(i, Hint::Jump);
    }
    fn call(&mut self, i: &Insn) {
        let link = self.ip_of(self.next);
        self.push_value(link, i.size);
        self.jump(i, Hint::Call);
    }
    fn jmp_near(&mut self, i: &Insn) {
        let target = self.read(i, 0);
        self.jump_to(target, i.size, Hint::Jump);
    }
    fn call_near(&mut self, i: &Insn) {
        let target = self.read(i, 0);
        let target = self.b.copy(target);
        let link = self.ip_of(self.next);
        self.push_value(link, i.size);
        self.jump_to(target, i.size, Hint::Call);
    }
    fn ret(&mut self, i: &Insn) {
        let target = self.top(0, i.size);
        let target = self.b.copy(target);
        let more = if i.entry.operands.is_empty() { 0 } else { i.imm[0] & 0xffff };
        self.move_stack(i64::from(i.size) + more);
        self.jump_to(target, i.size, Hint::Return);
    }
    fn call_far(&mut self, i: &Insn) {
        self.far(i, true);
    }
    fn jmp_far(&mut self, i: &Insn) {
        self.far(i, false);
    }
    fn retf(&mut self, i: &Insn) {
        let more = if i.entry.operands.is_empty() { 0 } else { i.imm[0] & 0xffff };
        self.return_far(i, false, more);
    }
    fn iret(&mut self, i: &Insn) {
        self.return_far(i, true, 0);
    }
    fn load_far(&mut self, i: &Insn) {
        self.load_far_pointer(i);
    }
    fn int3(&mut self, _: &Insn) {
        self.trap_behind(Exception::Breakpoint);
    }
    fn int1(&mut self, _: &Insn) {
        self.trap_behind(Exception::Debug);
    }
    fn into(&mut self, _: &Insn) {
        let bit = self.condition_bit(0);
        let (zero, past) = (self.b.imm(0), self.b.label());
        self.b.branch_if(Cond::Eq, bit, zero, past);
        self.raise_behind(Exception::Overflow);
        self.b.place(past);
    }
    fn int(&mut self, i: &Insn) {
        match i.imm[0] as u8 {
            3 => self.trap_behind(Exception::Breakpoint),
            4 => self.trap_behind(Exception::Overflow),
            0x80 => self.system_call(entry::INT80),
            // Gates that programs may not use.
            vector => self.raise(Exception::Protection, u32::from(vector) << 3 | 2),
        }
    }
    fn syscall(&mut self, _: &Insn) {
        // AMD has it in legacy mode as well; Linux does not use it there but by the vdso.
        self.system_call(entry::SYSCALL);
    }
    fn sysenter(&mut self, _: &Insn) {
        self.system_call(entry::SYSENTER);
    }
    fn ud2(&mut self, _: &Insn) {
        self.undefined_instruction();
    }
    fn bound(&mut self, i: &Insn) {
        if i.memory.is_none() {
            return self.undefined_instruction();
        }
        let size = i.size;
        let (base, offset) = self.address(i, 2 * size);
        let low = self.get(Place::Memory(base, offset), size);
        let high = self.get(Place::Memory(base, offset + i64::from(size)), size);
        let value = self.x(i.reg);
        let [low, high, value] = [low, high, value].map(|v| self.sx(v, size));
        let below = self.b.setcond(Cond::Lt, value, low);
        let above = self.b.setcond(Cond::Gt, value, high);
        let (bad, zero) = (self.b.or(below, above), self.b.imm(0));
        self.raise_if(Cond::Ne, (bad, zero), Exception::Bound);
    }
    fn arpl(&mut self, i: &Insn) {
        if self.flags & mode::PROTECTED == 0 || self.flags & mode::VM86 != 0 {
            return self.undefined_instruction();
        }
        let place = self.place(i, 0);
        let (value, other) = (self.get(place, 2), self.read(i, 1));
        let (value, three) = (self.b.copy(value), self.b.imm(3));
        let (own, wanted) = (self.b.and(value, three), self.b.and(other, three));
        let less = self.b.setcond(Cond::Ltu, own, wanted);
        let rest = self.b.andnot(value, three);
        let raised = self.b.or(rest, wanted);
        let new = self.b.select(less, raised, value);
        let less = self.b.copy(less);
        self.put(place, 2, new);
        let shift = self.b.imm(6);
        let bit = self.b.shl(less, shift);
        let (old, others) = (self.all_flags(), self.b.imm(!eflags::ZF));
        let old = self.b.and(old, others);
        let bits = self.b.or(old, bit);
        self.flags_are(bits);
    }
    fn movs(&mut self, i: &Insn) {
        self.string_move(i);
    }
    fn cmps(&mut self, i: &Insn) {
        self.string_compare(i);
    }
    fn stos(&mut self, i: &Insn) {
        self.string_store(i);
    }
    fn lods(&mut self, i: &Insn) {
        self.string_load(i);
    }
    fn scas(&mut self, i: &Insn) {
        self.string_scan(i);
    }
    fn daa(&mut self, i: &Insn) {
        self.decimal(i);
    }
    fn das(&mut self, i: &Insn) {
        self.decimal(i);
    }
    fn aaa(&mut self, i: &Insn) {
        self.decimal(i);
    }
    fn aas(&mut self, i: &Insn) {
        self.decimal(i);
    }
    fn aam(&mut self, i: &Insn) {
        self.adjust_multiplied(i);
    }
    fn aad(&mut self, i: &Insn) {
        self.adjust_before_division(i);
    }
    fn salc(&mut self, _: &Insn) {
        let carry = self.carry();
        let value = self.b.neg(carry);
        self.put(Place::Gpr(gpr::RAX), 1, value);
    }
}

impl Translator<'_, '_> {
    /// The linear address that a relative jump goes to, if the segment is flat.
    fn target(&self, i: &Insn) -> u64 {
        let target = self.next.wrapping_add_signed(i.imm[0]);
        match i.size {
            8 => target,
            4 => target & 0xffff_ffff,
            _ => target & 0xffff,
        }
    }

    /// Whether the target is known: nothing is added to it, and it does not wrap in a segment.
    fn is_near(&self, target: u64, i: &Insn) -> bool {
        let flat = self.is_long() || self.flags & mode::FLAT != 0;
        flat && (i.size > 2 || target == self.next.wrapping_add_signed(i.imm[0]))
    }

    /// A relative jump.
    fn jump(&mut self, i: &Insn, hint: Hint) {
        let target = self.target(i);
        if self.is_near(target, i) {
            return self.exit(target, hint);
        }
        let ip = self.ip_of(self.next);
        let by = self.imm(i.imm[0]);
        let ip = self.b.add(ip, by);
        self.jump_to(ip, i.size, hint);
    }

    /// A jump to an instruction pointer's value of so many bytes.
    fn jump_to(&mut self, ip: Operand, size: u8, hint: Hint) {
        let mut target = self.zx(ip, size);
        if !self.is_long() && self.flags & mode::FLAT == 0 {
            let base = self.segment_base(seg::CS);
            target = self.b.add32(target, base);
        }
        self.b.exit_indirect(target, hint);
        self.ended = true;
    }

    /// A relative jump if a value is not zero.
    fn jump_if(&mut self, i: &Insn, condition: Operand) {
        let (zero, target) = (self.b.imm(0), self.target(i));
        if self.is_near(target, i) {
            self.b.exit_if(Cond::Ne, condition, zero, target);
            return self.exit(self.next, Hint::Jump);
        }
        let past = self.b.label();
        self.b.branch_if(Cond::Eq, condition, zero, past);
        self.jump(i, Hint::Jump);
        self.b.place(past);
        self.exit(self.next, Hint::Jump);
    }

    /// An exception that is told behind the instruction; the unit goes on elsewhere.
    fn raise_behind(&mut self, exception: Exception) {
        let vector = self.b.imm(exception as u64);
        let zero = self.b.imm(0);
        let len = self.b.imm(self.next.wrapping_sub(self.pc));
        self.call_effect(HelperIndex::Raise, &[vector, zero, len]);
    }

    pub(crate) fn trap_behind(&mut self, exception: Exception) {
        self.raise_behind(exception);
        self.exit_loop(ExitKind::Lookup, self.pc);
    }

    /// The kernel is wanted.
    fn system_call(&mut self, by: u8) {
        let what = self.b.imm(by.into());
        let next = self.ip_of(self.next);
        self.call_effect(HelperIndex::SystemCall, &[what, next]);
        self.exit_loop(ExitKind::Lookup, self.pc);
    }
}
