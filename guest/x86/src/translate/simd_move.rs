//! Moves of vectors and their parts: `spec/simd_move.map`.

use super::simd::{float_type, shapes};
use super::{Place, Translator};
use crate::decode::Insn;
use crate::decode::traits::SimdMove;
use crate::helpers::{HelperIndex, LeafIndex};
use crate::state::{FTW, mode};
use Lane::{B32, B64};
use ir::{Lane, MemOp, OpKind as K, Operand, Type};

impl SimdMove for Translator<'_, '_> {
    shapes! {
        movss lowest_moved(B32);
        movsd lowest_moved(B64);
        movsldup picked_pair(0xa0);
        movshdup picked_pair(0xf5);
        movddup picked_pair(0x44);
    }

    fn movaps(&mut self, i: &Insn) {
        self.moved(i, true);
    }

    fn movups(&mut self, i: &Insn) {
        self.moved(i, false);
    }

    fn movaps_to(&mut self, i: &Insn) {
        self.moved_to(i, true);
    }

    fn movups_to(&mut self, i: &Insn) {
        self.moved_to(i, false);
    }

    /// From memory, with zeros above.
    fn movs_from(&mut self, i: &Insn) {
        if !self.vectors_enabled(i) {
            return;
        }
        let value = self.vector_from_memory(i, 1, false);
        self.put_vector(i, 0, Type::V128, value);
    }

    fn movs_to(&mut self, i: &Insn) {
        self.part_to_memory(i, 0);
    }

    /// The encoding whose destination is the other register.
    fn movss_back(&mut self, i: &Insn) {
        self.lowest_moved_back(i, B32);
    }

    fn movsd_back(&mut self, i: &Insn) {
        self.lowest_moved_back(i, B64);
    }

    fn movhlps(&mut self, i: &Insn) {
        self.binary_vector(i, |t, ty, a, b| t.b.vector2(K::VUnpackHigh, ty, B64, b, a));
    }

    fn movlhps(&mut self, i: &Insn) {
        self.binary_vector(i, |t, ty, a, b| t.b.vector2(K::VUnpackLow, ty, B64, a, b));
    }

    fn movlps(&mut self, i: &Insn) {
        self.binary_vector(i, |t, ty, a, b| t.b.vbyte(K::VChoose32, ty, 3, a, b));
    }

    fn movhps(&mut self, i: &Insn) {
        self.binary_vector(i, |t, ty, a, b| t.b.vector2(K::VUnpackLow, ty, B64, a, b));
    }

    fn movlps_to(&mut self, i: &Insn) {
        self.part_to_memory(i, 0);
    }

    fn movhps_to(&mut self, i: &Insn) {
        self.part_to_memory(i, 1);
    }

    fn movd(&mut self, i: &Insn) {
        if !self.vectors_enabled(i) {
            return;
        }
        let value = self.vector_of_general(i);
        self.put_vector(i, 0, Type::V128, value);
    }

    fn movd_mmx(&mut self, i: &Insn) {
        self.movd(i);
    }

    fn movd_to(&mut self, i: &Insn) {
        if !self.vectors_enabled(i) {
            return;
        }
        let lane = if Self::size(i, 0) == 8 { B64 } else { B32 };
        let a = self.vector_operand(i, 1, Type::V128);
        let value = self.b.vextract(Type::V128, lane, 0, a);
        self.write(i, 0, value);
    }

    fn movd_mmx_to(&mut self, i: &Insn) {
        self.movd_to(i);
        if !self.ended {
            self.enter_mmx();
        }
    }

    fn movq_mmx(&mut self, i: &Insn) {
        self.unary_vector(i, |_, _, a| a);
    }

    fn movq_mmx_to(&mut self, i: &Insn) {
        if !self.vectors_enabled(i) {
            return;
        }
        let a = self.vector_operand(i, 1, Type::V128);
        match i.memory {
            Some(_) => {
                self.store_part(i, 0, a);
                self.enter_mmx();
            }
            None => self.put_mmx(i.rm, a),
        }
    }

    fn movq(&mut self, i: &Insn) {
        self.unary_vector(i, |t, _, a| match i.memory {
            Some(_) => a,
            None => t.low_quarter(a),
        });
    }

    fn movq_to(&mut self, i: &Insn) {
        if !self.vectors_enabled(i) {
            return;
        }
        let a = self.vector_operand(i, 1, Type::V128);
        if i.memory.is_some() {
            return self.store_part(i, 0, a);
        }
        let value = self.low_quarter(a);
        self.put_vector(i, 0, Type::V128, value);
    }

    fn movq2dq(&mut self, i: &Insn) {
        self.unary_vector(i, |t, _, a| t.low_quarter(a));
    }

    fn movdq2q(&mut self, i: &Insn) {
        self.unary_vector(i, |_, _, a| a);
    }

    fn emms(&mut self, i: &Insn) {
        if self.x87_enabled(i) {
            let none = self.b.imm(0);
            self.b.set_reg(FTW, none);
        }
    }

    fn vzeroupper(&mut self, i: &Insn) {
        if !self.vectors_enabled(i) {
            return;
        }
        for number in 0..if self.is_long() { 16 } else { 8 } {
            let zero = self.zero(Type::V128);
            self.b.vput(Type::V128, super::simd::vector_at(number) + 16, zero);
        }
        self.clear_upper_halves();
    }

    fn vzeroall(&mut self, i: &Insn) {
        if !self.vectors_enabled(i) {
            return;
        }
        let zero = self.zero(Type::V256);
        for number in 0..if self.is_long() { 16 } else { 8 } {
            self.b.vput(Type::V256, super::simd::vector_at(number), zero);
        }
        self.clear_upper_halves();
    }

    fn extrq(&mut self, i: &Insn) {
        if self.vectors_enabled(i) {
            let field = self.field_of_register(i.rm, 0);
            self.extract_field(i.reg, field);
        }
    }

    fn extrq_by(&mut self, i: &Insn) {
        if self.vectors_enabled(i) {
            let field = i.imm.map(|byte| self.imm(byte & 63));
            self.extract_field(i.rm, (field[0], field[1]));
        }
    }

    fn insertq(&mut self, i: &Insn) {
        if self.vectors_enabled(i) {
            let field = self.field_of_register(i.rm, 1);
            self.insert_field(i, field);
        }
    }

    fn insertq_by(&mut self, i: &Insn) {
        if self.vectors_enabled(i) {
            let field = i.imm.map(|byte| self.imm(byte & 63));
            self.insert_field(i, (field[0], field[1]));
        }
    }

    fn ldmxcsr(&mut self, i: &Insn) {
        if !self.vectors_enabled(i) {
            return;
        }
        let value = self.read(i, 0);
        let value = self.b.zext(value, 32);
        self.call_effect(HelperIndex::SetMxcsr, &[value]);
        self.recheck_next();
    }

    fn stmxcsr(&mut self, i: &Insn) {
        if !self.vectors_enabled(i) {
            return;
        }
        let value = self.call(HelperIndex::Mxcsr, &[]);
        self.write(i, 0, value);
    }
}

impl Translator<'_, '_> {
    /// Clears all above 256 bits of the registers that VEX has.
    fn clear_upper_halves(&mut self) {
        if self.flags & mode::ZMM != 0 {
            let count = self.b.imm(if self.is_long() { 16 } else { 8 });
            self.leaf_effect(LeafIndex::ClearUpperHalves, &[count]);
            self.recheck_next();
        }
    }

    /// All of a vector, from a register or memory.
    fn moved(&mut self, i: &Insn, aligned: bool) {
        if !self.vectors_enabled(i) {
            return;
        }
        let ty = Self::vector_type(i);
        let value = match i.memory {
            Some(_) => self.vector_from_memory(i, 1, aligned),
            None => self.vector_operand(i, 1, ty),
        };
        self.put_vector(i, 0, ty, value);
    }

    /// All of a vector, to a register or memory.
    fn moved_to(&mut self, i: &Insn, aligned: bool) {
        if !self.vectors_enabled(i) {
            return;
        }
        let ty = Self::vector_type(i);
        let value = self.vector_operand(i, 1, ty);
        match i.memory {
            Some(_) if self.wide.is_none() => {
                let (base, offset) = self.address(i, Self::size(i, 0));
                let mem = MemOp::vector(ty);
                let mem = if aligned { mem.aligned() } else { mem };
                self.b.vstore(ty, mem, base, offset, value);
            }
            _ => self.put_vector(i, 0, ty, value),
        }
    }

    /// Writes as many bytes as operand 0 has: the part with that number of the source.
    fn part_to_memory(&mut self, i: &Insn, part: u16) {
        if !self.vectors_enabled(i) {
            return;
        }
        let a = self.vector_operand(i, 1, Type::V128);
        self.store_part(i, part, a);
    }

    fn store_part(&mut self, i: &Insn, part: u16, a: Operand) {
        if i.mask != 0 {
            return self.put_vector(i, 0, Type::V128, a);
        }
        let size = Self::size(i, 0);
        let (ty, lane) = float_type(size);
        let (base, offset) = self.address(i, size);
        let value = self.b.vextract_float(Type::V128, lane, part, a);
        let mem = self.mem(size);
        self.b.store_float(ty, mem, base, offset, value);
    }

    /// Lane 0 of the second source, the others of the first.
    fn lowest_moved(&mut self, i: &Insn, lane: Lane) {
        let byte = if lane == B64 { 3 } else { 1 };
        self.binary_vector(i, |t, _, a, b| t.b.vbyte(K::VChoose32, Type::V128, byte, a, b));
    }

    fn lowest_moved_back(&mut self, i: &Insn, lane: Lane) {
        if !self.vectors_enabled(i) {
            return;
        }
        let (x, y) = Self::sources(i);
        let ty = Type::V128;
        let (a, b) = (self.vector_operand(i, x, ty), self.vector_operand(i, y, ty));
        let value = self.b.vbyte(K::VChoose32, ty, if lane == B64 { 3 } else { 1 }, a, b);
        self.put_vector(i, 0, ty, value);
    }

    fn picked_pair(&mut self, i: &Insn, byte: u8) {
        self.unary_vector(i, |t, ty, a| t.b.vbyte(K::VPick, ty, byte, a, Operand::NONE));
    }

    /// 64 bits of a vector register.
    fn word(&mut self, number: u8, which: u16) -> Operand {
        let v = self.b.vget(Type::V128, super::simd::vector_at(number));
        self.b.vextract(Type::V128, B64, which, v)
    }

    /// Writes the low half of a vector register; what AMD leaves undefined above becomes zero.
    fn put_word(&mut self, number: u8, value: Operand) {
        let value = self.b.to_float(Type::F64, value);
        let whole = self.b.vector1(K::VFromF, Type::V128, B64, value);
        self.b.vput(Type::V128, super::simd::vector_at(number), whole);
    }

    /// Length and place of a field, from bits 0 to 5 and 8 to 13 of a word of a register.
    fn field_of_register(&mut self, number: u8, which: u16) -> (Operand, Operand) {
        let (word, mask, eight) = (self.word(number, which), self.b.imm(63), self.b.imm(8));
        let len = self.b.and(word, mask);
        let at = self.b.shr(word, eight);
        (len, self.b.and(at, mask))
    }

    /// Ones in as many low bits; in all for zero.
    fn field_mask(&mut self, len: Operand) -> Operand {
        let (ones, sixty_four) = (self.b.imm(u64::MAX), self.b.imm(64));
        let rest = self.b.sub(sixty_four, len);
        self.b.shr(ones, rest)
    }

    fn extract_field(&mut self, number: u8, (len, at): (Operand, Operand)) {
        let word = self.word(number, 0);
        let (mask, moved) = (self.field_mask(len), self.b.shr(word, at));
        let value = self.b.and(moved, mask);
        self.put_word(number, value);
    }

    fn insert_field(&mut self, i: &Insn, (len, at): (Operand, Operand)) {
        let (old, new) = (self.word(i.reg, 0), self.word(i.rm, 0));
        let mask = self.field_mask(len);
        let new = self.b.and(new, mask);
        let (new, mask) = (self.b.shl(new, at), self.b.shl(mask, at));
        let keep = self.b.andnot(old, mask);
        let value = self.b.or(keep, new);
        self.put_word(i.reg, value);
    }

    /// The low 64 bits, and zeros above.
    fn low_quarter(&mut self, a: Operand) -> Operand {
        let zero = self.zero(Type::V128);
        self.b.vector2(K::VUnpackLow, Type::V128, B64, a, zero)
    }

    /// Operand 1, a general register or memory, with zeros above.
    fn vector_of_general(&mut self, i: &Insn) -> Operand {
        let size = Self::size(i, 1);
        let place = self.place(i, 1);
        let value = match place {
            Place::Memory(base, offset) => {
                let (ty, lane) = float_type(size);
                let mem = self.mem(size);
                let value = self.b.load_float(ty, mem, base, offset);
                return self.b.vector1(K::VFromF, Type::V128, lane, value);
            }
            place => self.get(place, size),
        };
        let (ty, lane) = float_type(size);
        let value = self.b.to_float(ty, value);
        self.b.vector1(K::VFromF, Type::V128, lane, value)
    }
}
