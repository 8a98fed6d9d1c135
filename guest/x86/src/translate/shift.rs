//! `spec/shift.map`: shifts and rotations.
//!
//! A count of zero changes no flag. With a count that is known now, the flags are as another
//! instruction's; else each of the values that make them is chosen by whether the count is zero.

use super::bits::{constant, shifts};
use super::{Place, Translator};
use crate::decode::Insn;
use crate::decode::traits::Shift;
use crate::flags::{Cc, Kind};
use crate::helpers::LeafIndex;
use crate::state::{CC_DST, CC_OP, CC_OVER, CC_SRC, eflags};
use ir::{Builder, Cond, Operand};

/// Which way bits go.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Left,
    Right,
    Arithmetic,
}

impl Shift for Translator<'_, '_> {
    fn shl(&mut self, i: &Insn) {
        self.shift(i, Way::Left);
    }
    fn shr(&mut self, i: &Insn) {
        self.shift(i, Way::Right);
    }
    fn sar(&mut self, i: &Insn) {
        self.shift(i, Way::Arithmetic);
    }
    fn rol(&mut self, i: &Insn) {
        self.rotate(i, true);
    }
    fn ror(&mut self, i: &Insn) {
        self.rotate(i, false);
    }
    fn rcl(&mut self, i: &Insn) {
        self.rotate_through_carry(i, LeafIndex::Rcl);
    }
    fn rcr(&mut self, i: &Insn) {
        self.rotate_through_carry(i, LeafIndex::Rcr);
    }
}

impl Translator<'_, '_> {
    /// The count, of 5 bits or 6.
    fn count(&mut self, i: &Insn, n: usize) -> Operand {
        let count = self.read(i, n);
        let mask = self.b.imm(if Self::size(i, 0) == 8 { 63 } else { 31 });
        self.b.and(count, mask)
    }

    fn shift(&mut self, i: &Insn, way: Way) {
        let size = Self::size(i, 0);
        let place = self.place(i, 0);
        let count = self.count(i, 1);
        let value = self.get(place, size);
        let value = match way {
            Way::Left => value,
            Way::Right => self.zx(value, size),
            Way::Arithmetic => self.sx(value, size),
        };
        let op = match way {
            Way::Left => Builder::shl,
            Way::Right => Builder::shr,
            Way::Arithmetic => Builder::sar,
        };
        let kind = if way == Way::Left { Kind::Shl } else { Kind::Shr };
        let one = self.b.imm(1);
        match constant(self.b, count) {
            Some(0) => {
                let value = self.zx(value, size);
                self.put(place, size, value);
            }
            Some(n) => {
                let less = self.b.imm(n - 1);
                let before = op(self.b, value, less);
                if let Place::Memory(..) = place {
                    let r = op(self.b, value, count);
                    self.put(place, size, r);
                    return self.flags_from(kind, size, r, before);
                }
                self.keep(CC_SRC, before);
                let r = match (way, size) {
                    (Way::Left, 4) => self.b.shl32(value, count),
                    (Way::Right, 4) => self.b.shr32(value, count),
                    (Way::Arithmetic, 4) => self.b.sar32(value, count),
                    _ => op(self.b, value, count),
                };
                let r = self.put(place, size, r);
                self.keep(CC_DST, r);
                self.set_cc(Cc::new(kind, size));
            }
            None => {
                // The count's register may be the destination.
                let count = self.b.copy(count);
                let r = op(self.b, value, count);
                let less = self.b.sub(count, one);
                let before = op(self.b, value, less);
                let r = self.b.copy(r);
                self.put(place, size, r);
                let code = self.b.imm(Cc::new(kind, size).code());
                self.flags_unless_zero(count, code, r, before);
            }
        }
    }

    /// Flags of a shift whose count may be zero.
    fn flags_unless_zero(&mut self, count: Operand, code: Operand, d: Operand, s: Operand) {
        for (reg, new) in [(CC_OP, code), (CC_DST, d), (CC_SRC, s)] {
            let old = self.b.reg(reg);
            let value = self.b.select(count, new, old);
            self.b.set_reg(reg, value);
        }
        self.cc = None;
    }

    fn rotate(&mut self, i: &Insn, left: bool) {
        let size = Self::size(i, 0);
        let width = 8 * u64::from(size);
        let place = self.place(i, 0);
        let count = self.count(i, 1);
        let value = self.get(place, size);
        let known = constant(self.b, count);
        let count = self.b.copy(count);
        let r = match size {
            8 if left => self.b.rotl(value, count),
            8 => self.b.rotr(value, count),
            4 if left => self.b.rotl32(value, count),
            4 => self.b.rotr32(value, count),
            _ => {
                // Twice beside itself, in 32 bits.
                let low = self.zx(value, size);
                let shift = self.b.imm(width);
                let high = self.b.shl(low, shift);
                let mut both = self.b.or(low, high);
                if size == 1 {
                    let shift = self.b.imm(16);
                    let high = self.b.shl(both, shift);
                    both = self.b.or(both, high);
                }
                if left { self.b.rotl32(both, count) } else { self.b.rotr32(both, count) }
            }
        };
        let r = self.b.copy(r);
        if known == Some(0) {
            self.put(place, size, r);
            return;
        }
        // CF is the bit that went round last; OF says whether it differs from its neighbour.
        let (top, low) = (self.b.imm(width - 1), self.b.imm(0));
        let one = self.b.imm(1);
        let next = self.b.imm(width - 2);
        let (first, second) = if left { (low, top) } else { (top, next) };
        let carry = self.b.shr(r, first);
        let carry = self.b.and(carry, one);
        let other = self.b.shr(r, second);
        let other = self.b.and(other, one);
        let overflow = self.b.xor(carry, other);
        let shift = self.b.imm(11);
        let overflow = self.b.shl(overflow, shift);
        let bits = self.b.or(carry, overflow);
        let bits = self.b.copy(bits);
        self.put(place, size, r);
        if known.is_some() {
            self.set_carry_and_overflow(bits);
        } else {
            self.set_carry_and_overflow_if(count, bits);
        }
    }

    fn rotate_through_carry(&mut self, i: &Insn, helper: LeafIndex) {
        let size = Self::size(i, 0);
        let place = self.place(i, 0);
        let count = self.count(i, 1);
        let value = self.get(place, size);
        let value = self.b.copy(value);
        let flags = self.all_flags();
        self.keep(Self::scratch(0), flags);
        let wide = self.b.imm(u64::from(size) << 8);
        let what = self.b.or(count, wide);
        let flags = self.b.reg(Self::scratch(0));
        let r = self.leaf(helper, &[value, what, flags]);
        self.put(place, size, r);
        // The helper leaves the flags there.
        let flags = self.b.reg(Self::scratch(0));
        self.flags_are(flags);
    }

    /// `shld`, `shrd`: bits of the second operand follow.
    pub(super) fn double_shift(&mut self, i: &Insn, left: bool) {
        let size = Self::size(i, 0);
        let width = 8 * u64::from(size);
        let place = self.place(i, 0);
        let count = self.count(i, 2);
        let (value, more) = (self.get(place, size), self.read(i, 1));
        let known = constant(self.b, count);
        if known == Some(0) {
            let value = self.zx(value, size);
            self.put(place, size, value);
            return;
        }
        let count = self.b.copy(count);
        let one = self.b.imm(1);
        let less = self.b.sub(count, one);
        let (value, more) = (self.zx(value, size), self.zx(more, size));
        let (value, more) = (self.b.copy(value), self.b.copy(more));
        let r = self.joined(left, width, value, more, count);
        let before = self.joined(left, width, value, more, less);
        let zero = self.b.imm(0);
        let none = self.b.setcond(Cond::Eq, count, zero);
        let r = self.b.select(none, value, r);
        let r = self.b.copy(r);
        self.put(place, size, r);
        let kind = if left { Kind::Shl } else { Kind::Shr };
        let code = Cc::new(kind, size);
        if size == 2 {
            return self.double_shift_flags(left, (count, known), code, r, before);
        }
        match known {
            Some(_) => self.flags_from(kind, size, r, before),
            None => {
                let code = self.b.imm(code.code());
                self.flags_unless_zero(count, code, r, before);
            }
        }
    }

    /// Flags of `shld` and `shrd` of 16 bits, where the count may be more: then CF is 0, and of SHLD also
    /// OF, which with 16 is CF.
    fn double_shift_flags(
        &mut self,
        left: bool,
        (count, known): (Operand, Option<u64>),
        within: Cc,
        r: Operand,
        before: Operand,
    ) {
        let (first, beyond) = match left {
            true => (16, Cc { carry: true, overflow: true, ..Cc::new(Kind::Field, 2) }),
            false => (17, Cc { carry: true, ..within }),
        };
        if let Some(n) = known.filter(|n| *n < first) {
            debug_assert!(n != 0, "a count of zero changes nothing");
            return self.flags_from(within.kind, 2, r, before);
        }
        let (sixteen, first) = (self.b.imm(16), self.b.imm(first));
        let (top, both) = (self.b.imm(15), self.b.imm(eflags::CF | eflags::OF));
        let (one, zero) = (self.b.imm(1), self.b.imm(0));
        let carry = self.b.shr(before, top);
        let carry = self.b.and(carry, one);
        let bits = self.b.mul(carry, both);
        let exact = self.b.setcond(Cond::Eq, count, sixteen);
        let over = self.b.select(exact, bits, zero);
        if known.is_some() {
            self.keep(CC_OVER, over);
            self.flags_from(beyond.kind, 2, r, before);
            return self.set_cc(beyond);
        }
        let far = self.b.setcond(Cond::Geu, count, first);
        let far = self.b.copy(far);
        let (inside, outside) = (self.b.imm(within.code()), self.b.imm(beyond.code()));
        let code = self.b.select(far, outside, inside);
        let old = self.b.reg(CC_OVER);
        let over = self.b.select(far, over, old);
        self.keep(CC_OVER, over);
        self.flags_unless_zero(count, code, r, before);
    }

    /// One value shifted by a count below 64 with bits of another behind; of 16 bits, these again
    /// behind them.
    fn joined(
        &mut self,
        left: bool,
        width: u64,
        value: Operand,
        more: Operand,
        count: Operand,
    ) -> Operand {
        let (toward, back) = (shifts(left).0, shifts(!left).0);
        match width {
            64 => {
                let shifted = toward(self.b, value, count);
                let (one, last) = (self.b.imm(1), self.b.imm(63));
                let rest = self.b.xor(count, last);
                let half = back(self.b, more, one);
                let behind = back(self.b, half, rest);
                self.b.or(shifted, behind)
            }
            32 => {
                let shift = self.b.imm(32);
                if left {
                    let high = self.b.shl(value, shift);
                    let both = self.b.or(high, more);
                    let both = self.b.shl(both, count);
                    self.b.shr(both, shift)
                } else {
                    let high = self.b.shl(more, shift);
                    let both = self.b.or(high, value);
                    self.b.shr(both, count)
                }
            }
            _ => {
                let (sixteen, more_shift) = (self.b.imm(16), self.b.imm(32));
                if left {
                    let high = self.b.shl(value, more_shift);
                    let middle = self.b.shl(more, sixteen);
                    let both = self.b.or(high, middle);
                    let all = self.b.or(both, more);
                    let all = self.b.shl(all, count);
                    self.b.shr(all, more_shift)
                } else {
                    let high = self.b.shl(more, more_shift);
                    let middle = self.b.shl(more, sixteen);
                    let both = self.b.or(high, middle);
                    let all = self.b.or(both, value);
                    self.b.shr(all, count)
                }
            }
        }
    }
}
