//! The arithmetic flags: setting them, and asking for them.

use super::Translator;
use crate::decode::Insn;
use crate::flags::{Cc, Kind};
use crate::helpers::LeafIndex;
use crate::state::{CC_DST, CC_OP, CC_OVER, CC_SRC, CC_SRC2, eflags};
use ir::{Cond, Operand};

/// A comparison that tells a condition.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Test {
    pub(crate) cond: Cond,
    /// Whether 32 bits are compared.
    pub(crate) narrow: bool,
    pub(crate) x: Operand,
    pub(crate) y: Operand,
}

impl Test {
    fn wide(cond: Cond, x: Operand, y: Operand) -> Self {
        Self { cond, narrow: false, x, y }
    }

    fn negated_if(self, negate: bool) -> Self {
        Self { cond: if negate { self.cond.negated() } else { self.cond }, ..self }
    }
}

impl Translator<'_, '_> {
    // Setting.

    /// `cc_op` is this from here on; the values are there already, or follow at once.
    pub(crate) fn set_cc(&mut self, cc: Cc) {
        if self.cc != Some(cc) {
            let code = self.b.imm(cc.code());
            self.b.set_reg(CC_OP, code);
            self.cc = Some(cc);
        }
    }

    /// Flags of an operation that leaves d and s; the values may be used again.
    pub(crate) fn flags_from(&mut self, kind: Kind, size: u8, d: Operand, s: Operand) {
        self.keep(CC_DST, d);
        self.keep(CC_SRC, s);
        self.set_cc(Cc::new(kind, size));
    }

    /// Flags of a logical operation's result.
    pub(crate) fn flags_of_result(&mut self, size: u8, r: Operand) {
        self.keep(CC_DST, r);
        self.set_cc(Cc::new(Kind::Logic, size));
    }

    /// Flags of a logical operation's result, but for CF.
    pub(crate) fn flags_with_carry(&mut self, size: u8, r: Operand, carry: Operand) {
        self.keep(CC_OVER, carry);
        self.keep(CC_DST, r);
        self.set_cc(Cc { carry: true, ..Cc::new(Kind::Logic, size) });
    }

    /// The flags are these bits, at their places.
    pub(crate) fn flags_are(&mut self, bits: Operand) {
        self.keep(CC_DST, bits);
        self.set_cc(Cc::EFLAGS);
    }

    /// The helper before has put the flags where `Kind::Eflags` has them.
    pub(crate) fn flags_settled(&mut self) {
        self.cc = None;
    }

    /// `cc_over` has these flags from here on.
    fn overlay(&mut self, carry: bool, overflow: bool) {
        if let Some(cc) = self.cc {
            let (carry, overflow) = (cc.carry || carry, cc.overflow || overflow);
            return self.set_cc(Cc { carry, overflow, ..cc });
        }
        let both = Cc { carry, overflow, ..Cc::EFLAGS }.code() ^ Cc::EFLAGS.code();
        let (op, both) = (self.b.reg(CC_OP), self.b.imm(both));
        let op = self.b.or(op, both);
        self.b.set_reg(CC_OP, op);
    }

    /// CF changes, nothing else.
    pub(crate) fn set_carry(&mut self, carry: Operand) {
        let over = match self.cc {
            Some(Cc { overflow: false, .. }) => carry,
            _ => {
                let (old, mask) = (self.b.reg(CC_OVER), self.b.imm(eflags::OF));
                let old = self.b.and(old, mask);
                self.b.or(old, carry)
            }
        };
        self.keep(CC_OVER, over);
        self.overlay(true, false);
    }

    /// CF and OF become those of `bits`, which has no others; nothing else changes.
    pub(crate) fn set_carry_and_overflow(&mut self, bits: Operand) {
        self.keep(CC_OVER, bits);
        self.overlay(true, true);
    }

    /// The same unless `count` is zero.
    pub(crate) fn set_carry_and_overflow_if(&mut self, count: Operand, bits: Operand) {
        let both = Cc { carry: true, overflow: true, ..Cc::EFLAGS }.code() ^ Cc::EFLAGS.code();
        let (old, op, both) = (self.b.reg(CC_OVER), self.b.reg(CC_OP), self.b.imm(both));
        let with = self.b.or(op, both);
        let op = self.b.select(count, with, op);
        let over = self.b.select(count, bits, old);
        self.keep(CC_OP, op);
        self.keep(CC_OVER, over);
        self.cc = self.cc.filter(|cc| cc.carry && cc.overflow);
    }

    // Asking.

    /// How the flags are kept; if that is not known, they are settled first.
    fn known(&mut self) -> Cc {
        if let Some(cc) = self.cc {
            return cc;
        }
        self.leaf_effect(LeafIndex::SettleFlags, &[]);
        self.cc = Some(Cc::EFLAGS);
        Cc::EFLAGS
    }

    /// A flag of `cc_over`.
    fn overlaid(&mut self, flag: u64) -> Test {
        let (over, mask) = (self.b.reg(CC_OVER), self.b.imm(flag));
        let bit = self.b.and(over, mask);
        self.not_zero(bit)
    }

    /// The values that the flags come from.
    fn values(&mut self) -> (Operand, Operand, Operand) {
        (self.b.reg(CC_DST), self.b.reg(CC_SRC), self.b.reg(CC_SRC2))
    }

    /// A bit of `cc_dst`, as 0 or 1.
    fn settled_bit(&mut self, flag: u64) -> Operand {
        let (bits, shift) = (self.b.reg(CC_DST), self.b.imm(flag.trailing_zeros().into()));
        let one = self.b.imm(1);
        let bit = self.b.shr(bits, shift);
        self.b.and(bit, one)
    }

    /// The result that flags come from, with anything above its size.
    fn result(&mut self, cc: Cc) -> Operand {
        let (d, s, t) = self.values();
        match cc.kind {
            Kind::Sub => self.sub_sized(cc.size, d, s),
            Kind::Sbb => {
                let r = self.sub_sized(cc.size, d, s);
                self.sub_sized(cc.size, r, t)
            }
            _ => d,
        }
    }

    /// Whether two values of a size are so.
    fn compare(&mut self, cond: Cond, size: u8, x: Operand, y: Operand) -> Test {
        let signed = matches!(cond, Cond::Lt | Cond::Ge | Cond::Le | Cond::Gt);
        match size {
            8 => Test::wide(cond, x, y),
            4 => Test { cond, narrow: true, x, y },
            _ if signed => {
                let (x, y) = (self.sx(x, size), self.sx(y, size));
                Test::wide(cond, x, y)
            }
            _ => {
                let (x, y) = (self.zx(x, size), self.zx(y, size));
                Test::wide(cond, x, y)
            }
        }
    }

    fn never(&mut self) -> Test {
        let zero = self.b.imm(0);
        Test::wide(Cond::Ne, zero, zero)
    }

    fn not_zero(&mut self, value: Operand) -> Test {
        let zero = self.b.imm(0);
        Test::wide(Cond::Ne, value, zero)
    }

    fn setcond(&mut self, test: Test) -> Operand {
        match test.narrow {
            true => self.b.setcond32(test.cond, test.x, test.y),
            false => self.b.setcond(test.cond, test.x, test.y),
        }
    }

    fn zero_test(&mut self, cc: Cc) -> Test {
        let zero = self.b.imm(0);
        match cc.kind {
            Kind::Eflags => {
                let (bits, mask) = (self.b.reg(CC_DST), self.b.imm(eflags::ZF));
                let bit = self.b.and(bits, mask);
                self.not_zero(bit)
            }
            Kind::Sub => {
                let (d, s, _) = self.values();
                self.compare(Cond::Eq, cc.size, d, s)
            }
            _ => {
                let r = self.result(cc);
                self.compare(Cond::Eq, cc.size, r, zero)
            }
        }
    }

    fn sign_test(&mut self, cc: Cc) -> Test {
        let zero = self.b.imm(0);
        if cc.kind == Kind::Eflags {
            let (bits, mask) = (self.b.reg(CC_DST), self.b.imm(eflags::SF));
            let bit = self.b.and(bits, mask);
            return self.not_zero(bit);
        }
        let r = self.result(cc);
        self.compare(Cond::Lt, cc.size, r, zero)
    }

    fn carry_test(&mut self, cc: Cc) -> Test {
        let (d, s, t) = self.values();
        if cc.carry {
            return self.overlaid(eflags::CF);
        }
        match cc.kind {
            Kind::Eflags => {
                let mask = self.b.imm(eflags::CF);
                let bit = self.b.and(d, mask);
                self.not_zero(bit)
            }
            Kind::Add | Kind::Sub => self.compare(Cond::Ltu, cc.size, d, s),
            Kind::Adc | Kind::Sbb => {
                // d < s, or ≤ if there was a carry in: as d − s is at most, with the carry.
                let less = self.compare(Cond::Ltu, cc.size, d, s);
                let less = self.setcond(less);
                let equal = self.compare(Cond::Eq, cc.size, d, s);
                let equal = self.setcond(equal);
                let equal = self.b.and(equal, t);
                let bit = self.b.or(less, equal);
                self.not_zero(bit)
            }
            Kind::Logic | Kind::Field => self.never(),
            Kind::Inc | Kind::Dec => self.not_zero(s),
            Kind::Shl => {
                let zero = self.b.imm(0);
                self.compare(Cond::Lt, cc.size, s, zero)
            }
            Kind::Shr => {
                let one = self.b.imm(1);
                let bit = self.b.and(s, one);
                self.not_zero(bit)
            }
        }
    }

    fn overflow_test(&mut self, cc: Cc) -> Test {
        if cc.overflow {
            return self.overlaid(eflags::OF);
        }
        let (d, s, t) = self.values();
        let zero = self.b.imm(0);
        let size = cc.size;
        // The sign of a value tells.
        let sign = match cc.kind {
            Kind::Eflags => {
                let mask = self.b.imm(eflags::OF);
                let bit = self.b.and(d, mask);
                return self.not_zero(bit);
            }
            Kind::Logic | Kind::Field => return self.never(),
            Kind::Inc | Kind::Dec => {
                let least = u64::MAX << (8 * u32::from(size) - 1);
                let value = if cc.kind == Kind::Inc { least } else { !least };
                let mask = u64::MAX >> (64 - 8 * u32::from(size));
                let value = self.b.imm(value & mask);
                return self.compare(Cond::Eq, size, d, value);
            }
            Kind::Shl | Kind::Shr => self.b.xor(d, s),
            Kind::Add | Kind::Adc => {
                let mut x = self.sub_sized(size, d, s);
                if cc.kind == Kind::Adc {
                    x = self.sub_sized(size, x, t);
                }
                let (a, b) = (self.b.xor(x, d), self.b.xor(s, d));
                self.b.and(a, b)
            }
            Kind::Sub | Kind::Sbb => {
                let r = self.result(cc);
                let (a, b) = (self.b.xor(d, s), self.b.xor(d, r));
                self.b.and(a, b)
            }
        };
        self.compare(Cond::Lt, size, sign, zero)
    }

    fn parity_test(&mut self, cc: Cc) -> Test {
        if cc.kind == Kind::Eflags {
            let (bits, mask) = (self.b.reg(CC_DST), self.b.imm(eflags::PF));
            let bit = self.b.and(bits, mask);
            return self.not_zero(bit);
        }
        let r = self.result(cc);
        let low = self.b.zext(r, 8);
        let (count, one) = (self.b.popcnt(low), self.b.imm(1));
        let odd = self.b.and(count, one);
        let zero = self.b.imm(0);
        Test::wide(Cond::Eq, odd, zero)
    }

    /// AF, as 0 or 1.
    fn adjust(&mut self, cc: Cc) -> Operand {
        let (d, s, t) = self.values();
        let size = cc.size;
        let whole = match cc.kind {
            Kind::Eflags => return self.settled_bit(eflags::AF),
            Kind::Logic => return self.b.imm(0),
            Kind::Field | Kind::Shl | Kind::Shr => return self.b.imm(1),
            Kind::Inc | Kind::Dec => {
                let low = self.b.imm(15);
                let digit = self.b.and(d, low);
                let value = self.b.imm(if cc.kind == Kind::Inc { 0 } else { 15 });
                return self.b.setcond(Cond::Eq, digit, value);
            }
            Kind::Add | Kind::Adc => {
                let mut x = self.sub_sized(size, d, s);
                if cc.kind == Kind::Adc {
                    x = self.sub_sized(size, x, t);
                }
                let both = self.b.xor(x, s);
                self.b.xor(both, d)
            }
            Kind::Sub | Kind::Sbb => {
                let r = self.result(cc);
                let both = self.b.xor(d, s);
                self.b.xor(both, r)
            }
        };
        let (four, one) = (self.b.imm(4), self.b.imm(1));
        let bit = self.b.shr(whole, four);
        self.b.and(bit, one)
    }

    /// CF, as 0 or 1.
    pub(crate) fn carry(&mut self) -> Operand {
        let cc = self.known();
        let test = self.carry_test(cc);
        self.setcond(test)
    }

    /// OF, as 0 or 1.
    pub(crate) fn overflow_flag(&mut self) -> Operand {
        let cc = self.known();
        let test = self.overflow_test(cc);
        self.setcond(test)
    }

    /// All arithmetic flags, at their places.
    pub(crate) fn all_flags(&mut self) -> Operand {
        let cc = self.known();
        if cc == Cc::EFLAGS {
            return self.b.reg(CC_DST);
        }
        let tests = [
            (Self::carry_test as fn(&mut Self, Cc) -> Test, eflags::CF),
            (Self::parity_test, eflags::PF),
            (Self::zero_test, eflags::ZF),
            (Self::sign_test, eflags::SF),
            (Self::overflow_test, eflags::OF),
        ];
        let adjust = self.adjust(cc);
        let shift = self.b.imm(4);
        let mut bits = self.b.shl(adjust, shift);
        for (test, flag) in tests {
            let test = test(self, cc);
            let bit = self.setcond(test);
            let shift = self.b.imm(flag.trailing_zeros().into());
            let bit = self.b.shl(bit, shift);
            bits = self.b.or(bits, bit);
        }
        bits
    }

    /// What tells condition `code`, as jumps encode it (SDM volume 1, appendix B).
    pub(crate) fn condition(&mut self, code: u8) -> Test {
        let cc = self.known();
        let test = match code >> 1 & 7 {
            0 => self.overflow_test(cc),
            1 => self.carry_test(cc),
            2 => self.zero_test(cc),
            3 => self.below_or_equal(cc),
            4 => self.sign_test(cc),
            5 => self.parity_test(cc),
            6 => self.less(cc),
            _ => self.less_or_equal(cc),
        };
        test.negated_if(code & 1 != 0)
    }

    fn below_or_equal(&mut self, cc: Cc) -> Test {
        if !cc.carry {
            let (d, s, _) = self.values();
            match cc.kind {
                Kind::Sub => return self.compare(Cond::Leu, cc.size, d, s),
                Kind::Logic => return self.zero_test(cc),
                Kind::Eflags => {
                    let mask = self.b.imm(eflags::CF | eflags::ZF);
                    let bits = self.b.and(d, mask);
                    return self.not_zero(bits);
                }
                _ => {}
            }
        }
        let carry = self.carry_test(cc);
        let carry = self.setcond(carry);
        let zero = self.zero_test(cc);
        let zero = self.setcond(zero);
        let bit = self.b.or(carry, zero);
        self.not_zero(bit)
    }

    fn less(&mut self, cc: Cc) -> Test {
        let (d, s, _) = self.values();
        match cc.kind {
            _ if cc.overflow => {}
            Kind::Sub => return self.compare(Cond::Lt, cc.size, d, s),
            Kind::Logic => return self.sign_test(cc),
            _ => {}
        }
        let sign = self.sign_test(cc);
        let sign = self.setcond(sign);
        let overflow = self.overflow_test(cc);
        let overflow = self.setcond(overflow);
        Test::wide(Cond::Ne, sign, overflow)
    }

    fn less_or_equal(&mut self, cc: Cc) -> Test {
        let (d, s, _) = self.values();
        match cc.kind {
            _ if cc.overflow => {}
            Kind::Sub => return self.compare(Cond::Le, cc.size, d, s),
            Kind::Logic => {
                let zero = self.b.imm(0);
                return self.compare(Cond::Le, cc.size, d, zero);
            }
            _ => {}
        }
        let less = self.less(cc);
        let less = self.setcond(less);
        let zero = self.zero_test(cc);
        let zero = self.setcond(zero);
        let bit = self.b.or(less, zero);
        self.not_zero(bit)
    }

    /// Condition `code` as 0 or 1.
    pub(crate) fn condition_bit(&mut self, code: u8) -> Operand {
        let test = self.condition(code);
        self.setcond(test)
    }

    /// The condition of a `jcc`, `setcc`, `cmovcc`: the low half of the opcode.
    pub(crate) fn condition_of(&mut self, i: &Insn) -> Test {
        self.condition(i.opcode & 15)
    }
}
