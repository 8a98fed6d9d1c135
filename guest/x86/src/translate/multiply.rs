//! Multiplication and division.

use super::{Place, Translator};
use crate::decode::Insn;
use crate::helpers::HelperIndex;
use crate::state::{eflags, gpr};
use crate::trap::Exception;
use ir::{Builder, Cond, Operand};

impl Translator<'_, '_> {
    /// A value extended from its size.
    fn extended(&mut self, value: Operand, size: u8, signed: bool) -> Operand {
        if signed { self.sx(value, size) } else { self.zx(value, size) }
    }

    /// `mul`, `imul` with one operand: rDX:rAX = rAX · operand.
    pub(super) fn multiply(&mut self, i: &Insn, signed: bool) {
        let size = Self::size(i, 0);
        let x = self.x(gpr::RAX);
        let y = self.read(i, 0);
        let (x, y) = (self.extended(x, size, signed), self.extended(y, size, signed));
        let low = self.b.mul(x, y);
        if size == 8 {
            let high = if signed { self.b.mulh(x, y) } else { self.b.mulhu(x, y) };
            let rest = self.overflow(low, high, 8, signed);
            self.flags_of_overflow(rest);
            self.b.set_reg(Self::gpr(gpr::RDX), high);
            self.keep(Self::gpr(gpr::RAX), low);
            return;
        }
        // What is above the size is not that of the extended low half.
        let short = self.extended(low, size, signed);
        let rest = self.b.setcond(Cond::Ne, short, low);
        self.flags_of_overflow(rest);
        if size == 1 {
            self.put(Place::Gpr(gpr::RAX), 2, low);
            return;
        }
        let shift = self.b.imm(8 * u64::from(size));
        let high = self.b.shr(low, shift);
        self.put(Place::Gpr(gpr::RDX), size, high);
        self.put(Place::Gpr(gpr::RAX), size, low);
    }

    /// Whether the high half of a product is more than an extension of the low one.
    fn overflow(&mut self, low: Operand, high: Operand, size: u8, signed: bool) -> Operand {
        let sign = if signed {
            let shift = self.b.imm(8 * u64::from(size) - 1);
            self.b.sar(low, shift)
        } else {
            self.b.imm(0)
        };
        self.b.setcond(Cond::Ne, high, sign)
    }

    /// CF and OF are whether a product did not fit; the others stay.
    fn flags_of_overflow(&mut self, rest: Operand) {
        let both = self.b.imm(eflags::CF | eflags::OF);
        let bits = self.b.mul(rest, both);
        self.set_carry_and_overflow(bits);
    }

    /// CF and OF stay, AF is 1, the others are 0.
    fn flags_of_division(&mut self) {
        let (carry, overflow) = (self.carry(), self.overflow_flag());
        let shift = self.b.imm(11);
        let overflow = self.b.shl(overflow, shift);
        let adjust = self.b.imm(eflags::AF);
        let bits = self.b.or(carry, overflow);
        let bits = self.b.or(bits, adjust);
        self.flags_are(bits);
    }

    /// `imul` with two or three operands.
    pub(super) fn multiply_short(&mut self, i: &Insn, x: Operand, y: Operand) {
        let size = Self::size(i, 0);
        let (x, y) = (self.sx(x, size), self.sx(y, size));
        let low = self.b.mul(x, y);
        let rest = if size == 8 {
            let high = self.b.mulh(x, y);
            self.overflow(low, high, 8, true)
        } else {
            let short = self.sx(low, size);
            self.b.setcond(Cond::Ne, short, low)
        };
        self.flags_of_overflow(rest);
        self.write(i, 0, low);
    }

    /// `mulx`: the high half to the first operand, the low one to the second.
    pub(super) fn multiply_without_flags(&mut self, i: &Insn) {
        let size = Self::size(i, 0);
        let (x, y) = (self.x(gpr::RDX), self.read(i, 2));
        let (x, y) = (self.zx(x, size), self.zx(y, size));
        let low = self.b.mul(x, y);
        let high = if size == 8 {
            self.b.mulhu(x, y)
        } else {
            let shift = self.b.imm(32);
            self.b.shr(low, shift)
        };
        let high = self.b.copy(high);
        self.write(i, 1, low);
        self.write(i, 0, high);
    }

    /// `div`, `idiv`: rAX = quotient, rDX = remainder of rDX:rAX by the operand.
    pub(super) fn divide(&mut self, i: &Insn, signed: bool) {
        let size = Self::size(i, 0);
        if size == 8 {
            return self.divide_wide(i, signed);
        }
        let divisor = self.read(i, 0);
        let divisor = self.extended(divisor, size, signed);
        let dividend = self.dividend(size, signed);
        let ops: [super::Binary<'_>; 1] = [if signed { Builder::div } else { Builder::divu }];
        let quotient = ops[0](self.b, dividend, divisor);
        let product = self.b.mul(quotient, divisor);
        let remainder = self.b.sub(dividend, product);
        // Division by zero gives all ones, which do not fit a quotient of a zero divisor either.
        let short = self.extended(quotient, size, signed);
        let large = self.b.setcond(Cond::Ne, short, quotient);
        let zero = self.b.imm(0);
        let by_zero = self.b.setcond(Cond::Eq, divisor, zero);
        let bad = self.b.or(large, by_zero);
        self.b.set_reg(Self::scratch(2), bad);
        self.keep(Self::scratch(0), quotient);
        self.keep(Self::scratch(1), remainder);
        let bad = self.b.reg(Self::scratch(2));
        self.raise_if(Cond::Ne, (bad, zero), Exception::Divide);
        let (q, r) = (self.b.reg(Self::scratch(0)), self.b.reg(Self::scratch(1)));
        self.flags_of_division();
        if size == 1 {
            self.put(Place::Gpr(gpr::RAX), 1, q);
            self.put(Place::High(0), 1, r);
        } else {
            self.put(Place::Gpr(gpr::RAX), size, q);
            self.put(Place::Gpr(gpr::RDX), size, r);
        }
    }

    /// AX, DX:AX or EDX:EAX, extended.
    fn dividend(&mut self, size: u8, signed: bool) -> Operand {
        let rax = self.x(gpr::RAX);
        if size == 1 {
            return self.extended(rax, 2, signed);
        }
        let rdx = self.x(gpr::RDX);
        let shift = self.b.imm(8 * u64::from(size));
        let (high, low) = (self.b.shl(rdx, shift), self.zx(rax, size));
        let whole = self.b.or(high, low);
        self.extended(whole, 2 * size, signed)
    }

    /// 64 bits: the dividend mostly fits 64 as well, or a helper divides 128.
    fn divide_wide(&mut self, i: &Insn, signed: bool) {
        let (zero, minus) = (self.b.imm(0), self.b.imm(u64::MAX));
        let divisor = self.read(i, 0);
        self.keep(Self::scratch(0), divisor);
        let divisor = self.b.reg(Self::scratch(0));
        let (rax, rdx) = (self.x(gpr::RAX), self.x(gpr::RDX));
        let (wide, done) = (self.b.label(), self.b.label());
        let extension = if signed {
            let shift = self.b.imm(63);
            self.b.sar(rax, shift)
        } else {
            zero
        };
        self.b.branch_if(Cond::Ne, rdx, extension, wide);
        self.b.branch_if(Cond::Eq, divisor, zero, wide);
        if signed {
            self.b.branch_if(Cond::Eq, divisor, minus, wide);
        }
        let quotient = if signed { self.b.div(rax, divisor) } else { self.b.divu(rax, divisor) };
        let product = self.b.mul(quotient, divisor);
        let remainder = self.b.sub(rax, product);
        self.b.set_reg(Self::gpr(gpr::RDX), remainder);
        self.b.set_reg(Self::gpr(gpr::RAX), quotient);
        self.b.branch(done);
        self.b.place(wide);
        let helper = if signed { HelperIndex::Idiv64 } else { HelperIndex::Div64 };
        self.call_effect(helper, &[divisor]);
        self.b.place(done);
        self.flags_of_division();
    }
}
