//! Instructions on opmasks: `spec/opmask.map`.

use super::Translator;
use crate::decode::Insn;
use crate::decode::traits::Opmask;
use crate::state::eflags;
use ir::{Builder, Cond, Operand};

impl Opmask for Translator<'_, '_> {
    fn kand(&mut self, i: &Insn) {
        self.of_two(i, |t, a, b| t.b.and(a, b));
    }

    fn kandn(&mut self, i: &Insn) {
        self.of_two(i, |t, a, b| t.b.andnot(b, a));
    }

    fn kor(&mut self, i: &Insn) {
        self.of_two(i, |t, a, b| t.b.or(a, b));
    }

    fn kxor(&mut self, i: &Insn) {
        self.of_two(i, |t, a, b| t.b.xor(a, b));
    }

    fn kxnor(&mut self, i: &Insn) {
        self.of_two(i, |t, a, b| {
            let value = t.b.xor(a, b);
            t.b.not(value)
        });
    }

    fn kadd(&mut self, i: &Insn) {
        self.of_two(i, |t, a, b| t.b.add(a, b));
    }

    /// The first source's low half above the second's.
    fn kunpck(&mut self, i: &Insn) {
        let half = 8 * u16::from(Self::size(i, 1));
        self.of_two(i, |t, a, b| {
            let (count, low) = (t.b.imm(half.into()), t.b.zext(b, half));
            let high = t.b.shl(a, count);
            t.b.or(high, low)
        });
    }

    fn knot(&mut self, i: &Insn) {
        if self.opmasks_enabled() {
            let a = self.opmask(i.rm);
            let value = self.b.not(a);
            self.put_opmask(i, value);
        }
    }

    fn kmov(&mut self, i: &Insn) {
        if !self.opmasks_enabled() {
            return;
        }
        let value = match i.memory {
            Some(_) => {
                let size = Self::size(i, 1);
                let (base, offset) = self.address(i, size);
                let mem = self.mem(size);
                self.b.load(mem, base, offset)
            }
            None => self.opmask(i.rm),
        };
        self.put_opmask(i, value);
    }

    fn kmov_store(&mut self, i: &Insn) {
        if !self.opmasks_enabled() {
            return;
        }
        let value = self.opmask(i.reg);
        let size = Self::size(i, 0);
        let (base, offset) = self.address(i, size);
        let mem = self.mem(size);
        self.b.store(mem, base, offset, value);
    }

    fn kmov_from(&mut self, i: &Insn) {
        if self.opmasks_enabled() {
            let value = self.x(i.rm);
            self.put_opmask(i, value);
        }
    }

    fn kmov_to(&mut self, i: &Insn) {
        if self.opmasks_enabled() {
            let value = self.opmask(i.rm);
            let value = self.zx(value, Self::size(i, 1));
            self.write(i, 0, value);
        }
    }

    /// ZF: no bit of both is set; CF: every bit of one or the other is.
    fn kortest(&mut self, i: &Insn) {
        if !self.opmasks_enabled() {
            return;
        }
        let (a, b) = (self.opmask(i.reg), self.opmask(i.rm));
        let either = self.b.or(a, b);
        let either = self.zx(either, Self::size(i, 0));
        let ones = self.b.imm(u64::MAX >> (64 - 8 * u32::from(Self::size(i, 0))));
        let zero = self.b.imm(0);
        let carry = self.b.setcond(Cond::Eq, either, ones);
        let none = self.b.setcond(Cond::Eq, either, zero);
        self.flags_of_masks(none, carry);
    }

    /// ZF: no bit is set in both; CF: none is set in the second alone.
    fn ktest(&mut self, i: &Insn) {
        if !self.opmasks_enabled() {
            return;
        }
        let (a, b) = (self.opmask(i.reg), self.opmask(i.rm));
        let (both, second) = (self.b.and(a, b), self.b.andnot(b, a));
        let size = Self::size(i, 0);
        let (both, second) = (self.zx(both, size), self.zx(second, size));
        let zero = self.b.imm(0);
        let none = self.b.setcond(Cond::Eq, both, zero);
        let carry = self.b.setcond(Cond::Eq, second, zero);
        self.flags_of_masks(none, carry);
    }

    fn kshiftl(&mut self, i: &Insn) {
        self.shifted(i, Builder::shl);
    }

    fn kshiftr(&mut self, i: &Insn) {
        self.shifted(i, Builder::shr);
    }
}

impl<'u> Translator<'_, 'u> {
    fn put_opmask(&mut self, i: &Insn, value: Operand) {
        let value = self.zx(value, Self::size(i, 0));
        self.keep(Self::opmask_register(i.reg), value);
    }

    fn of_two(&mut self, i: &Insn, op: impl FnOnce(&mut Self, Operand, Operand) -> Operand) {
        if self.opmasks_enabled() {
            let (a, b) = (self.opmask(i.vvvv), self.opmask(i.rm));
            let value = op(self, a, b);
            self.put_opmask(i, value);
        }
    }

    fn shifted(&mut self, i: &Insn, op: super::Binary<'u>) {
        if !self.opmasks_enabled() {
            return;
        }
        let size = Self::size(i, 0);
        let value = if i.byte() < 8 * size {
            let (a, count) = (self.opmask(i.rm), self.b.imm(i.byte().into()));
            let a = self.zx(a, size);
            op(self.b, a, count)
        } else {
            self.b.imm(0)
        };
        self.put_opmask(i, value);
    }

    /// ZF and CF from ones and zeros; the other flags are clear.
    fn flags_of_masks(&mut self, zero: Operand, carry: Operand) {
        let six = self.b.imm(u64::from(eflags::ZF.trailing_zeros()));
        let zero = self.b.shl(zero, six);
        let bits = self.b.or(zero, carry);
        self.flags_are(bits);
    }
}
