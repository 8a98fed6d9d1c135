//! Bit tests, scans, counts and fields.

use super::memory::unsigned;
use super::{Binary, Place, Translator};
use crate::decode::Insn;
use crate::flags::{Cc, Kind};
use crate::state::CC_DST;
use ir::{AmoOp, Builder, Cond, Operand};

impl<'u> Translator<'_, 'u> {
    /// `bt` and its kin: CF is the bit; then it is set, cleared or changed.
    pub(super) fn bit_test(&mut self, i: &Insn, change: Option<AmoOp>) {
        let size = Self::size(i, 0);
        let index = self.read(i, 1);
        let mask = self.b.imm(8 * u64::from(size) - 1);
        let bit = self.b.and(index, mask);
        let constant = self.b.unit().as_const(index).is_some();
        let place = match i.memory {
            // The index reaches beyond the operand.
            Some(_) if !constant => {
                let bits = 8 * size;
                let (index, shift) = (self.sx(index, size), bits.trailing_zeros());
                let (down, up) = (self.b.imm(shift.into()), self.b.imm((shift - 3).into()));
                let words = self.b.sar(index, down);
                let bytes = self.b.shl(words, up);
                let at = self.effective_address(i);
                let at = self.b.add(at, bytes);
                let at = self.zx(at, i.address_size);
                let segment = i.memory.map_or(3, |m| m.segment);
                let (base, offset) = self.in_segment(segment, (at, 0), size);
                Place::Memory(base, offset)
            }
            _ => self.place(i, 0),
        };
        let one = self.b.imm(1);
        let selected = self.b.shl(one, bit);
        let old = match (place, change) {
            (Place::Memory(base, offset), Some(op)) if self.is_atomic(i) => {
                let at = self.at(base, offset);
                let ones = self.b.imm(u64::MAX);
                let value = if op == AmoOp::And { self.b.xor(selected, ones) } else { selected };
                self.b.amo(op, unsigned(size), at, value)
            }
            _ => {
                let old = self.get(place, size);
                let old = self.b.copy(old);
                let new = match change {
                    Some(AmoOp::Or) => Some(self.b.or(old, selected)),
                    Some(AmoOp::And) => Some(self.b.andnot(old, selected)),
                    Some(_) => Some(self.b.xor(old, selected)),
                    None => None,
                };
                if let Some(new) = new {
                    self.put(place, size, new);
                }
                old
            }
        };
        let carry = self.b.shr(old, bit);
        let carry = self.b.and(carry, one);
        self.set_carry(carry);
    }

    /// `bsf`, `bsr`: ZF tells that there is no bit; then the destination stays.
    pub(super) fn bit_scan(&mut self, i: &Insn, high: bool) {
        let size = Self::size(i, 0);
        let value = self.read(i, 1);
        let value = self.zx(value, size);
        let value = self.b.copy(value);
        let zero = self.b.imm(0);
        let none = self.b.setcond(Cond::Eq, value, zero);
        let none = self.b.copy(none);
        let found = if high {
            let (count, last) = (self.b.clz(value), self.b.imm(63));
            self.b.xor(count, last)
        } else {
            self.b.ctz(value)
        };
        let found = self.b.copy(found);
        let old = self.read(i, 0);
        let result = self.b.select(none, old, found);
        if size == 4 {
            // All 64 bits stay.
            let place = self.place(i, 0);
            self.put(place, 8, result);
        } else {
            self.write(i, 0, result);
        }
        // As of a result that has a bit more, unless there was none at all.
        let more = self.b.imm(0x100);
        let some = self.b.or(found, more);
        let like = self.b.select(none, zero, some);
        self.flags_of_result(8, like);
    }

    /// `tzcnt`, `lzcnt`: CF tells that there is no bit, ZF that the result is 0.
    pub(super) fn count_zeros(&mut self, i: &Insn, leading: bool) {
        let size = Self::size(i, 0);
        let value = self.read(i, 1);
        let value = self.zx(value, size);
        let value = self.b.copy(value);
        let width = self.b.imm(8 * u64::from(size));
        let count = if leading {
            let (all, rest) = (self.b.clz(value), self.b.imm(64 - 8 * u64::from(size)));
            self.b.sub(all, rest)
        } else {
            let count = self.b.ctz(value);
            self.b.minu(count, width)
        };
        let count = self.b.copy(count);
        let zero = self.b.imm(0);
        let (none, first) =
            (self.b.setcond(Cond::Eq, value, zero), self.b.setcond(Cond::Eq, count, zero));
        let shift = self.b.imm(6);
        let first = self.b.shl(first, shift);
        let bits = self.b.or(none, first);
        let overflow = self.overflow_flag();
        let shift = self.b.imm(11);
        let overflow = self.b.shl(overflow, shift);
        let bits = self.b.or(bits, overflow);
        self.flags_are(bits);
        self.write(i, 0, count);
    }

    /// `popcnt`: ZF tells that there is no bit; the other flags are 0.
    pub(super) fn population(&mut self, i: &Insn) {
        let value = self.read(i, 1);
        let value = self.zx(value, Self::size(i, 0));
        let (count, zero) = (self.b.popcnt(value), self.b.imm(0));
        let count = self.b.copy(count);
        let none = self.b.setcond(Cond::Eq, count, zero);
        let shift = self.b.imm(6);
        let bits = self.b.shl(none, shift);
        self.flags_are(bits);
        self.write(i, 0, count);
    }

    /// `blsr`, `blsmsk`, `blsi`: the operand with what is one less; CF tells whether it was 0, or not.
    pub(super) fn lowest_bit(&mut self, i: &Insn, op: Binary<'u>, carry_if_zero: bool) {
        let size = Self::size(i, 0);
        let value = self.read(i, 1);
        let value = self.zx(value, size);
        let value = self.b.copy(value);
        let (one, zero) = (self.b.imm(1), self.b.imm(0));
        let less = self.b.sub(value, one);
        let r = op(self.b, value, less);
        let cond = if carry_if_zero { Cond::Eq } else { Cond::Ne };
        let carry = self.b.setcond(cond, value, zero);
        self.flags_with_carry(size, r, carry);
        let r = self.b.copy(r);
        self.write(i, 0, r);
    }

    /// `bzhi`: the bits below an index; CF tells that it is beyond the operand.
    pub(super) fn zero_high(&mut self, i: &Insn) {
        let size = Self::size(i, 0);
        let (value, index) = (self.read(i, 1), self.read(i, 2));
        let index = self.b.zext(index, 8);
        let width = self.b.imm(8 * u64::from(size));
        let beyond = self.b.setcond(Cond::Geu, index, width);
        let one = self.b.imm(1);
        let above = self.b.shl(one, index);
        let mask = self.b.sub(above, one);
        let low = self.b.and(value, mask);
        let r = self.b.select(beyond, value, low);
        self.flags_with_carry(size, r, beyond);
        let r = self.b.copy(r);
        self.write(i, 0, r);
    }

    /// `bextr`: so many bits from a start on.
    pub(super) fn bit_field(&mut self, i: &Insn) {
        let size = Self::size(i, 0);
        let (value, control) = (self.read(i, 1), self.read(i, 2));
        let value = self.zx(value, size);
        let start = self.b.zext(control, 8);
        let (eight, one, zero) = (self.b.imm(8), self.b.imm(1), self.b.imm(0));
        let len = self.b.shr(control, eight);
        let len = self.b.zext(len, 8);
        let last = self.b.imm(63);
        let far = self.b.setcond(Cond::Gtu, start, last);
        let shifted = self.b.shr(value, start);
        let shifted = self.b.select(far, zero, shifted);
        let all = self.b.setcond(Cond::Gtu, len, last);
        let above = self.b.shl(one, len);
        let mask = self.b.sub(above, one);
        let low = self.b.and(shifted, mask);
        let r = self.b.select(all, shifted, low);
        let r = self.b.copy(r);
        // SF is 0, whatever the result: the flags are of its lowest byte and of whether there is more.
        let some = self.b.setcond(Cond::Ne, r, zero);
        let some = self.b.shl(some, eight);
        let byte = self.b.zext(r, 8);
        let like = self.b.or(byte, some);
        self.keep(CC_DST, like);
        self.set_cc(Cc::new(Kind::Field, 8));
        self.write(i, 0, r);
    }

    /// `pext`, `pdep`.
    pub(super) fn bits_by_mask(&mut self, i: &Insn, ops: (Binary<'u>, Binary<'u>)) {
        let (value, mask) = (self.read(i, 1), self.read(i, 2));
        let r = self.sized(ops, Self::size(i, 0), value, mask);
        self.write(i, 0, r);
    }

    /// `shlx`, `shrx`, `sarx`.
    pub(super) fn shift_without_flags(&mut self, i: &Insn, ops: (Binary<'u>, Binary<'u>)) {
        let (value, count) = (self.read(i, 1), self.read(i, 2));
        let r = self.sized(ops, Self::size(i, 0), value, count);
        self.write(i, 0, r);
    }
}

/// Names of the builder's shifts to the left and right.
pub(super) fn shifts<'u>(left: bool) -> (Binary<'u>, Binary<'u>) {
    match left {
        true => (Builder::shl, Builder::shl32),
        false => (Builder::shr, Builder::shr32),
    }
}

/// An operand that is a constant.
pub(super) fn constant(b: &Builder<'_>, value: Operand) -> Option<u64> {
    b.unit().as_const(value)
}
