//! Instructions that only AVX-512 has: `spec/evex.map`.

use super::Translator;
use super::evex::{CURRENT_ROUNDING, lane_of};
use super::simd::{float_type, vector_at};
use crate::decode::traits::Evex;
use crate::decode::{Attr, Insn};
use crate::helpers::HelperIndex;
use crate::simd::wide;
use ir::{Cond, Lane, OpKind as K, Operand, Type};

impl Evex for Translator<'_, '_> {
    fn compare_lanes(&mut self, i: &Insn) {
        let lane = lane_of(i.element());
        // 3E and 1E compare unsigned numbers.
        let signed = i.opcode & 1 != 0;
        self.binary_vector(i, |t, ty, a, b| {
            let (less, cond) = if signed { (Cond::Lt, Cond::Le) } else { (Cond::Ltu, Cond::Leu) };
            let cond = match i.byte() & 3 {
                0 => Cond::Eq,
                1 => less,
                2 => cond,
                _ => {
                    let all = if i.byte() & 4 != 0 { u64::MAX } else { 0 };
                    let all = t.b.imm(all);
                    return t.b.vsplat(ty, Lane::B64, all);
                }
            };
            let cond = if i.byte() & 4 != 0 { cond.negated() } else { cond };
            t.b.vcompare(ty, lane, cond, a, b)
        });
    }

    fn test_lanes(&mut self, i: &Insn) {
        let lane = lane_of(i.element());
        let cond = if i.p66 { Cond::Ne } else { Cond::Eq };
        self.binary_vector(i, |t, ty, a, b| {
            let (both, zero) = (t.b.vlogic(K::VAnd, ty, a, b), t.zero(ty));
            t.b.vcompare(ty, lane, cond, both, zero)
        });
    }

    fn mask_to_lanes(&mut self, i: &Insn) {
        let ty = Self::vector_type(i);
        let bits = self.opmask(i.rm);
        let lanes = u64::from(self.piece()) * (ty.bytes() as u64 / u64::from(i.element()));
        let count = self.b.imm(lanes);
        let bits = self.b.shr(bits, count);
        let value = self.b.vector1(K::VFromBits, ty, lane_of(i.element()), bits);
        self.put_vector(i, 0, ty, value);
    }

    fn lanes_to_mask(&mut self, i: &Insn) {
        self.unary_vector(i, |_, _, a| a);
    }

    fn broadcast_mask(&mut self, i: &Insn) {
        let ty = Self::vector_type(i);
        let bits = self.opmask(i.rm);
        let bits = self.zx(bits, Self::size(i, 1));
        let value = self.b.vsplat(ty, lane_of(i.element()), bits);
        self.put_vector(i, 0, ty, value);
    }

    fn broadcast_general(&mut self, i: &Insn) {
        let (ty, value) = (Self::vector_type(i), self.x(i.rm));
        let value = self.b.vsplat(ty, lane_of(i.element()), value);
        self.put_vector(i, 0, ty, value);
    }

    fn broadcast_part(&mut self, i: &Insn) {
        let ty = Self::vector_type(i);
        let value = match Self::size(i, 1) {
            8 => {
                let a = self.vector_operand(i, 1, Type::V128);
                let a = self.b.vextract(Type::V128, Lane::B64, 0, a);
                self.b.vsplat(ty, Lane::B64, a)
            }
            16 => {
                let a = self.vector_operand(i, 1, Type::V128);
                self.b.vector2(K::VJoin, Type::V256, Lane::B8, a, a)
            }
            _ => self.vector_operand(i, 1, Type::V256),
        };
        self.put_vector(i, 0, ty, value);
    }

    fn insert_part(&mut self, i: &Insn) {
        let unit = Self::size(i, 2);
        let index = i.byte() & (i.vl / unit - 1);
        let ty = Type::V256;
        let part = self.vector_operand(i, 2, if unit == 32 { ty } else { Type::V128 });
        let a = self.vector_operand(i, 1, ty);
        let here = index * unit / 32 == self.piece();
        let value = match here {
            false => a,
            true if unit == 32 => part,
            true => {
                let other = self.b.vhalf(u16::from(!index & 1), a);
                let (low, high) = if index & 1 == 0 { (part, other) } else { (other, part) };
                self.b.vector2(K::VJoin, ty, Lane::B8, low, high)
            }
        };
        self.put_vector(i, 0, ty, value);
    }

    fn extract_part(&mut self, i: &Insn) {
        let unit = Self::size(i, 0);
        let index = i.byte() & (i.vl / unit - 1);
        let ty = if unit == 32 { Type::V256 } else { Type::V128 };
        let value = self.b.vget(ty, vector_at(i.reg) + u32::from(index * unit));
        self.put_vector(i, 0, ty, value);
    }

    /// The result of three bits, by the immediate: of the first operand, whether it is set, chooses
    /// a function of the other two.
    fn ternary_logic(&mut self, i: &Insn) {
        let ty = Self::vector_type(i);
        let (set, clear) = (i.byte() >> 4, i.byte() & 15);
        let c = self.vector_operand(i, 2, ty);
        let b = self.vector_operand(i, 1, ty);
        let value = if set == clear {
            self.of_two_bits(ty, set, b, c)
        } else {
            let a = self.vector_operand(i, 0, ty);
            if set == !clear & 15 {
                let clear = self.of_two_bits(ty, clear, b, c);
                self.b.vlogic(K::VXor, ty, a, clear)
            } else {
                let (set, clear) =
                    (self.of_two_bits(ty, set, b, c), self.of_two_bits(ty, clear, b, c));
                let set = self.b.vlogic(K::VAnd, ty, set, a);
                let clear = self.b.vlogic(K::VAndNot, ty, clear, a);
                self.b.vlogic(K::VOr, ty, set, clear)
            }
        };
        self.put_vector(i, 0, ty, value);
    }

    fn rotate_constant(&mut self, i: &Insn) {
        let lane = lane_of(i.element());
        let bits = lane.bits();
        let left = match i.entry.mnemonic.starts_with("vprol") {
            true => u32::from(i.byte()) % bits,
            false => (bits - u32::from(i.byte()) % bits) % bits,
        };
        let ty = Self::vector_type(i);
        let a = self.vector_operand(i, 1, ty);
        let value = if left == 0 {
            a
        } else {
            let (count, rest) = (self.b.imm(left.into()), self.b.imm((bits - left).into()));
            let high = self.b.vector2(K::VShlBy, ty, lane, a, count);
            let low = self.b.vector2(K::VShrBy, ty, lane, a, rest);
            self.b.vlogic(K::VOr, ty, high, low)
        };
        self.put_vector(i, 0, ty, value);
    }

    fn rotate_each(&mut self, i: &Insn) {
        let lane = lane_of(i.element());
        let (to, back) = match i.opcode & 1 {
            1 => (K::VShl, K::VShr),
            _ => (K::VShr, K::VShl),
        };
        self.binary_vector(i, |t, ty, a, b| {
            let low = t.b.imm(u64::from(lane.bits()) - 1);
            let (low, zero) = (t.b.vsplat(ty, lane, low), t.zero(ty));
            let count = t.b.vlogic(K::VAnd, ty, b, low);
            let rest = t.b.vector2(K::VSub, ty, lane, zero, count);
            let rest = t.b.vlogic(K::VAnd, ty, rest, low);
            let there = t.b.vector2(to, ty, lane, a, count);
            let here = t.b.vector2(back, ty, lane, a, rest);
            t.b.vlogic(K::VOr, ty, there, here)
        });
    }

    /// The second source where the opmask is set, else the first, or zero.
    fn blend_lanes(&mut self, i: &Insn) {
        let lane = lane_of(i.element());
        self.binary_vector(i, |t, ty, a, b| {
            if i.mask == 0 || i.zeroing {
                return b;
            }
            let mask = t.mask_of_piece(i, ty, lane);
            if let Some(wide) = &mut t.wide {
                wide.merged = true;
            }
            t.b.vblend(ty, mask, b, a)
        });
    }

    fn wide(&mut self, i: &Insn) {
        if self.pieced(i) {
            return;
        }
        match wide::index(i.entry.mnemonic) {
            Some(index) => self.helped(i, index),
            None => self.undefined_instruction(),
        }
    }

    fn gathered(&mut self, i: &Insn) {
        self.gathered_lanes(i);
    }

    fn unsigned_to_float(&mut self, i: &Insn) {
        let (size, to) = (Self::size(i, 2), if i.rep == crate::decode::Rep::F2 { 8 } else { 4 });
        let value = self.read(i, 2);
        let value = self.zx(value, size);
        let a = self.vector_operand(i, 1, Type::V128);
        let (_, lane) = float_type(to);
        let rounding = self.rounding_of(i);
        let how = self.b.imm(u64::from(to) | rounding << 8);
        let bits = self.call(HelperIndex::FromUnsigned, &[value, how]);
        let value = self.b.vinsert(Type::V128, lane, 0, a, bits);
        self.put_vector(i, 0, Type::V128, value);
    }

    fn float_to_unsigned(&mut self, i: &Insn) {
        let from = Self::size(i, 1);
        let (_, lane) = float_type(from);
        let a = self.vector_operand(i, 1, Type::V128);
        let a = self.b.vextract(Type::V128, lane, 0, a);
        let rounding = match i.opcode & 1 {
            // The truncating form may only suppress exceptions.
            0 => 3 | u64::from(self.fixed_rounding.is_some()) << 3 | 1 << 4,
            _ => self.rounding_of(i),
        };
        let to = u64::from(Self::size(i, 0));
        let how = self.b.imm(u64::from(from) | rounding << 8 | to << 16);
        let value = self.call(HelperIndex::ToUnsigned, &[a, how]);
        self.write(i, 0, value);
    }
}

impl Translator<'_, '_> {
    /// Rounding for helpers: bits 0 and 1 the mode, bit 3 whether exceptions are suppressed, bit 4
    /// whether MXCSR's mode is not to be used.
    fn rounding_of(&self, i: &Insn) -> u64 {
        let fixed = self.fixed_rounding.map(u64::from);
        let own = fixed.filter(|mode| *mode != u64::from(CURRENT_ROUNDING));
        let has = i.entry.has(Attr::Round) && own.is_some();
        own.unwrap_or(0) & 3 | u64::from(fixed.is_some()) << 3 | u64::from(has) << 4
    }

    /// A function of two bits, given as its table.
    fn of_two_bits(&mut self, ty: Type, table: u8, b: Operand, c: Operand) -> Operand {
        let ones = |t: &mut Self| {
            let ones = t.b.imm(u64::MAX);
            t.b.vsplat(ty, Lane::B64, ones)
        };
        // Those with a set result for two clear bits are complements.
        if table & 1 != 0 && table != 15 {
            let other = self.of_two_bits(ty, !table & 15, b, c);
            let ones = ones(self);
            return self.b.vlogic(K::VXor, ty, other, ones);
        }
        match table {
            0 => self.zero(ty),
            2 => self.b.vlogic(K::VAndNot, ty, c, b),
            4 => self.b.vlogic(K::VAndNot, ty, b, c),
            6 => self.b.vlogic(K::VXor, ty, b, c),
            8 => self.b.vlogic(K::VAnd, ty, b, c),
            10 => c,
            12 => b,
            14 => self.b.vlogic(K::VOr, ty, b, c),
            _ => ones(self),
        }
    }
}
