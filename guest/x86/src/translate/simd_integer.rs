//! Vectors of integers: `spec/simd_integer.map`.

use super::Translator;
use super::simd::shapes;
use crate::decode::traits::SimdInteger;
use crate::decode::{Encoding, Insn};
use crate::state::eflags;
use Lane::{B8, B16, B32, B64};
use ir::{Cond, Lane, OpKind as K, Operand, Type};

impl SimdInteger for Translator<'_, '_> {
    shapes! {
        paddb lanes(K::VAdd, B8);
        paddw lanes(K::VAdd, B16);
        paddd lanes(K::VAdd, B32);
        paddq lanes(K::VAdd, B64);
        psubb lanes(K::VSub, B8);
        psubw lanes(K::VSub, B16);
        psubd lanes(K::VSub, B32);
        psubq lanes(K::VSub, B64);
        paddsb lanes(K::VAddSat, B8);
        paddsw lanes(K::VAddSat, B16);
        paddusb lanes(K::VAddSatU, B8);
        paddusw lanes(K::VAddSatU, B16);
        psubsb lanes(K::VSubSat, B8);
        psubsw lanes(K::VSubSat, B16);
        psubusb lanes(K::VSubSatU, B8);
        psubusw lanes(K::VSubSatU, B16);
        pavgb lanes(K::VAvgU, B8);
        pavgw lanes(K::VAvgU, B16);
        pminub lanes(K::VMinU, B8);
        pminuw lanes(K::VMinU, B16);
        pminud lanes(K::VMinU, B32);
        pminsb lanes(K::VMin, B8);
        pminsw lanes(K::VMin, B16);
        pminsd lanes(K::VMin, B32);
        pmaxub lanes(K::VMaxU, B8);
        pmaxuw lanes(K::VMaxU, B16);
        pmaxud lanes(K::VMaxU, B32);
        pmaxsb lanes(K::VMax, B8);
        pmaxsw lanes(K::VMax, B16);
        pmaxsd lanes(K::VMax, B32);
        pmullw lanes(K::VMul, B16);
        pmulld lanes(K::VMul, B32);
        pmulhw lanes(K::VMulHigh, B16);
        pmulhuw lanes(K::VMulHighU, B16);
        pmuludq lanes(K::VMulLowU, B8);
        pmuldq lanes(K::VMulLow, B8);
        pmulhrsw lanes(K::VMulRound, B8);
        pmaddwd lanes(K::VPairs16, B8);
        pmaddubsw lanes(K::VPairs8, B8);
        psadbw lanes(K::VDistance, B8);
        pand lanes(K::VAnd, B8);
        por lanes(K::VOr, B8);
        pxor lanes(K::VXor, B8);
        pcmpeqb lanes_compare(Cond::Eq, B8);
        pcmpeqw lanes_compare(Cond::Eq, B16);
        pcmpeqd lanes_compare(Cond::Eq, B32);
        pcmpeqq lanes_compare(Cond::Eq, B64);
        pcmpgtb lanes_compare(Cond::Gt, B8);
        pcmpgtw lanes_compare(Cond::Gt, B16);
        pcmpgtd lanes_compare(Cond::Gt, B32);
        pcmpgtq lanes_compare(Cond::Gt, B64);
        packsswb packed_lanes(K::VPack, B8);
        packssdw packed_lanes(K::VPack, B16);
        packuswb packed_lanes(K::VPackU, B8);
        packusdw packed_lanes(K::VPackU, B16);
        punpcklbw unpack_low(B8);
        punpcklwd unpack_low(B16);
        punpckldq unpack_low(B32);
        punpcklqdq unpack_low(B64);
        punpckhbw unpack_high(B8);
        punpckhwd unpack_high(B16);
        punpckhdq unpack_high(B32);
        punpckhqdq unpack_high(B64);
        psllw shift_lanes(K::VShlBy, B16);
        pslld shift_lanes(K::VShlBy, B32);
        psllq shift_lanes(K::VShlBy, B64);
        psrlw shift_lanes(K::VShrBy, B16);
        psrld shift_lanes(K::VShrBy, B32);
        psrlq shift_lanes(K::VShrBy, B64);
        psraw shift_lanes(K::VSarBy, B16);
        psrad shift_lanes(K::VSarBy, B32);
        psllw_by shift_constant(K::VShlBy, B16);
        pslld_by shift_constant(K::VShlBy, B32);
        psllq_by shift_constant(K::VShlBy, B64);
        psrlw_by shift_constant(K::VShrBy, B16);
        psrld_by shift_constant(K::VShrBy, B32);
        psrlq_by shift_constant(K::VShrBy, B64);
        psraw_by shift_constant(K::VSarBy, B16);
        psrad_by shift_constant(K::VSarBy, B32);
        vpsllvd shift_each(K::VShl, B32);
        vpsllvq shift_each(K::VShl, B64);
        vpsrlvd shift_each(K::VShr, B32);
        vpsrlvq shift_each(K::VShr, B64);
        vpsravd shift_each(K::VSar, B32);
        vpsllvw shift_each(K::VShl, B16);
        vpsrlvw shift_each(K::VShr, B16);
        vpsravw shift_each(K::VSar, B16);
        vpsravq shift_each(K::VSar, B64);
        psraq shift_lanes(K::VSarBy, B64);
        psraq_by shift_constant(K::VSarBy, B64);
        pminsq lanes(K::VMin, B64);
        pminuq lanes(K::VMinU, B64);
        pmaxsq lanes(K::VMax, B64);
        pmaxuq lanes(K::VMaxU, B64);
        pmullq lanes(K::VMul, B64);
        pabsq absolute(B64);
        pshufd picked(K::VPick);
        pshuflw picked(K::VPickLow);
        pshufhw picked(K::VPickHigh);
        pshufw picked(K::VPickLow);
        vpermq picked(K::VPermute64);
        pblendw chosen(K::VChoose16);
        vpblendd chosen(K::VChoose32);
        phaddw horizontal_words(K::VAdd);
        phaddsw horizontal_words(K::VAddSat);
        phsubw horizontal_words(K::VSub);
        phsubsw horizontal_words(K::VSubSat);
        phaddd horizontal_doubles(K::VAdd);
        phsubd horizontal_doubles(K::VSub);
        psignb sign(B8);
        psignw sign(B16);
        psignd sign(B32);
        pabsb absolute(B8);
        pabsw absolute(B16);
        pabsd absolute(B32);
        pmovsxbw widened(true, B8, B16);
        pmovsxbd widened(true, B8, B32);
        pmovsxbq widened(true, B8, B64);
        pmovsxwd widened(true, B16, B32);
        pmovsxwq widened(true, B16, B64);
        pmovsxdq widened(true, B32, B64);
        pmovzxbw widened(false, B8, B16);
        pmovzxbd widened(false, B8, B32);
        pmovzxbq widened(false, B8, B64);
        pmovzxwd widened(false, B16, B32);
        pmovzxwq widened(false, B16, B64);
        pmovzxdq widened(false, B32, B64);
        vpbroadcastb broadcast(B8);
        vpbroadcastw broadcast(B16);
        vpbroadcastd broadcast(B32);
        vpbroadcastq broadcast(B64);
        aesenc round(K::VAesEncrypt);
        aesenclast round(K::VAesEncryptLast);
        aesdec round(K::VAesDecrypt);
        aesdeclast round(K::VAesDecryptLast);
        pinsrb insert(B8);
        pinsrw insert(B16);
    }

    fn aesimc(&mut self, i: &Insn) {
        self.unary_vector(i, |t, ty, a| t.b.vlogic1(K::VAesMix, ty, a));
    }

    fn aeskeygenassist(&mut self, i: &Insn) {
        self.picked(i, K::VAesAssist);
    }

    fn pclmulqdq(&mut self, i: &Insn) {
        self.in_halves(i, |t, a, b| t.b.vbyte(K::VCarryless, Type::V128, i.byte(), a, b));
    }

    fn pandn(&mut self, i: &Insn) {
        self.binary_vector(i, |t, ty, a, b| t.b.vlogic(K::VAndNot, ty, b, a));
    }

    fn pshufb(&mut self, i: &Insn) {
        self.binary_vector(i, |t, ty, a, b| {
            if !Self::uses_mmx(i) {
                return t.b.vlogic(K::VShuffleEach, ty, a, b);
            }
            // Of eight bytes, by three bits each.
            let keep = t.b.imm(0x87);
            let keep = t.b.vsplat(ty, B8, keep);
            let b = t.b.vlogic(K::VAnd, ty, b, keep);
            t.b.vlogic(K::VShuffleEach, ty, a, b)
        });
    }

    fn palignr(&mut self, i: &Insn) {
        let n = i.byte();
        self.binary_vector(i, |t, ty, a, b| {
            if !Self::uses_mmx(i) {
                return t.b.vbyte(K::VAlignEach, ty, n, b, a);
            }
            let (both, zero) = (t.b.vector2(K::VUnpackLow, ty, B64, b, a), t.zero(ty));
            t.b.vbyte(K::VAlignEach, ty, n, both, zero)
        });
    }

    /// Bytes shifted left, zeros shifted in.
    fn pslldq(&mut self, i: &Insn) {
        let n = 16 - i.byte().min(16);
        self.by_constant(i, |t, ty, a| {
            let zero = t.zero(ty);
            t.b.vbyte(K::VAlignEach, ty, n, zero, a)
        });
    }

    fn psrldq(&mut self, i: &Insn) {
        let n = i.byte().min(16);
        self.by_constant(i, |t, ty, a| {
            let zero = t.zero(ty);
            t.b.vbyte(K::VAlignEach, ty, n, a, zero)
        });
    }

    fn pblendvb(&mut self, i: &Insn) {
        self.blend_by_register(i, B8);
    }

    /// ZF: no bit is set in both; CF: none is set in the second alone.
    fn ptest(&mut self, i: &Insn) {
        if !self.vectors_enabled(i) {
            return;
        }
        let ty = Self::vector_type(i);
        let (b, a) = (self.vector_operand(i, 1, ty), self.vector_operand(i, 0, ty));
        let both = self.b.vlogic(K::VAnd, ty, a, b);
        let second = self.b.vlogic(K::VAndNot, ty, b, a);
        self.flags_of_test(ty, both, second);
    }

    fn pmovmskb(&mut self, i: &Insn) {
        self.vector_to_general(i, |t, ty, a| {
            let bits = t.b.vector1(K::VToBits, ty, B8, a);
            if Self::uses_mmx(i) { t.b.zext(bits, 8) } else { bits }
        });
    }

    fn pinsrd(&mut self, i: &Insn) {
        if Self::is_wide_outside(i) {
            return self.undefined_instruction();
        }
        self.insert(i, if i.w && i.is_long() { B64 } else { B32 });
    }

    fn pextrw(&mut self, i: &Insn) {
        let lanes = if Self::uses_mmx(i) { 4 } else { 8 };
        let index = u16::from(i.byte() % lanes);
        self.vector_to_general(i, |t, ty, a| t.b.vextract(ty, B16, index, a));
    }

    /// To a general register or memory, in the size of that.
    fn pextr_to(&mut self, i: &Insn) {
        if i.opcode == 0x16 && Self::is_wide_outside(i) {
            return self.undefined_instruction();
        }
        if !self.vectors_enabled(i) {
            return;
        }
        let size = Self::size(i, 0);
        let lane = Lane::of_bits(8 * u32::from(size)).unwrap_or(B32);
        let index = u16::from(i.byte() % (16 / size));
        let a = self.vector_operand(i, 1, Type::V128);
        let value = self.b.vextract(Type::V128, lane, index, a);
        // Of a register all bits are written.
        match i.memory {
            Some(_) => self.write(i, 0, value),
            None => self.put(super::Place::Gpr(i.rm), 8, value),
        };
    }

    fn vpermd(&mut self, i: &Insn) {
        self.binary_vector(i, |t, ty, a, b| t.b.vlogic(K::VPermute32, ty, b, a));
    }

    fn vperm2f128(&mut self, i: &Insn) {
        let byte = i.byte();
        self.binary_vector(i, |t, _, a, b| {
            let half = |t: &mut Self, by: u8| match by & 8 {
                0 => t.b.vhalf((by & 1).into(), if by & 2 == 0 { a } else { b }),
                _ => t.zero(Type::V128),
            };
            let (low, high) = (half(t, byte), half(t, byte >> 4));
            t.b.vector2(K::VJoin, Type::V256, B8, low, high)
        });
    }

    fn vinsertf128(&mut self, i: &Insn) {
        if !self.vectors_enabled(i) {
            return;
        }
        let b = self.vector_operand(i, 2, Type::V128);
        let a = self.vector_operand(i, 1, Type::V256);
        let other = self.b.vhalf(u16::from(!i.byte() & 1), a);
        let (low, high) = if i.byte() & 1 == 0 { (b, other) } else { (other, b) };
        let value = self.b.vector2(K::VJoin, Type::V256, B8, low, high);
        self.put_vector(i, 0, Type::V256, value);
    }

    fn vextractf128(&mut self, i: &Insn) {
        if !self.vectors_enabled(i) {
            return;
        }
        let a = self.vector_operand(i, 1, Type::V256);
        let value = self.b.vhalf(u16::from(i.byte() & 1), a);
        self.put_vector(i, 0, Type::V128, value);
    }

    fn vbroadcastf128(&mut self, i: &Insn) {
        if !self.vectors_enabled(i) {
            return;
        }
        let a = self.vector_operand(i, 1, Type::V128);
        let value = self.b.vector2(K::VJoin, Type::V256, B8, a, a);
        self.put_vector(i, 0, Type::V256, value);
    }
}

impl Translator<'_, '_> {
    /// Whether VEX asks for a general register of 64 bits where there is none; EVEX does not mean it.
    fn is_wide_outside(i: &Insn) -> bool {
        i.encoding == Encoding::Vex && i.w && !i.is_long()
    }

    fn lanes(&mut self, i: &Insn, kind: K, lane: Lane) {
        if matches!(kind, K::VXor | K::VSub) && Self::is_same_twice(i) {
            return self.zeroed(i);
        }
        self.binary_vector(i, |t, ty, a, b| t.b.vector2(kind, ty, lane, a, b));
    }

    fn lanes_compare(&mut self, i: &Insn, cond: Cond, lane: Lane) {
        self.binary_vector(i, |t, ty, a, b| t.b.vcompare(ty, lane, cond, a, b));
    }

    /// What works on 128 bits, on each.
    fn in_halves(&mut self, i: &Insn, op: impl Fn(&mut Self, Operand, Operand) -> Operand) {
        self.binary_vector(i, |t, ty, a, b| {
            if ty == Type::V128 {
                return op(t, a, b);
            }
            let mut half = |which: u16| {
                let (a, b) = (t.b.vhalf(which, a), t.b.vhalf(which, b));
                op(t, a, b)
            };
            let (low, high) = (half(0), half(1));
            t.b.vector2(K::VJoin, ty, B8, low, high)
        });
    }

    /// A round of AES.
    fn round(&mut self, i: &Insn, kind: K) {
        self.in_halves(i, |t, a, b| t.b.vlogic(kind, Type::V128, a, b));
    }

    /// Zero, whatever the sources are.
    pub(crate) fn zeroed(&mut self, i: &Insn) {
        if self.vectors_enabled(i) {
            let ty = Self::vector_type(i);
            let zero = self.zero(ty);
            self.put_vector(i, 0, ty, zero);
        }
    }

    /// Of 64 bits both sources go into one.
    fn packed_lanes(&mut self, i: &Insn, kind: K, lane: Lane) {
        self.binary_vector(i, |t, ty, a, b| {
            if !Self::uses_mmx(i) {
                return t.b.vector2(kind, ty, lane, a, b);
            }
            let both = t.b.vector2(K::VUnpackLow, ty, B64, a, b);
            t.b.vector2(kind, ty, lane, both, both)
        });
    }

    fn unpack_low(&mut self, i: &Insn, lane: Lane) {
        self.lanes(i, K::VUnpackLow, lane);
    }

    fn unpack_high(&mut self, i: &Insn, lane: Lane) {
        self.binary_vector(i, |t, ty, a, b| {
            if !Self::uses_mmx(i) {
                return t.b.vector2(K::VUnpackHigh, ty, lane, a, b);
            }
            // The high halves of 64 bits are above the low ones' result.
            let all = t.b.vector2(K::VUnpackLow, ty, lane, a, b);
            t.b.vector2(K::VUnpackHigh, ty, B64, all, all)
        });
    }

    /// By the low 64 bits of the second source, which may be more than a lane has.
    fn shift_lanes(&mut self, i: &Insn, kind: K, lane: Lane) {
        if !self.vectors_enabled(i) {
            return;
        }
        let ty = Self::vector_type(i);
        let (x, y) = Self::sources(i);
        let count = self.vector_operand(i, y, Type::V128);
        let a = self.vector_operand(i, x, ty);
        let count = self.b.vextract(Type::V128, B64, 0, count);
        let value = if kind == K::VSarBy {
            let most = self.b.imm(u64::from(lane.bits()) - 1);
            let count = self.b.minu(count, most);
            self.b.vector2(kind, ty, lane, a, count)
        } else {
            let (limit, ones, zero) =
                (self.b.imm(lane.bits().into()), self.b.imm(u64::MAX), self.b.imm(0));
            let fits = self.b.setcond(Cond::Ltu, count, limit);
            let mask = self.b.select(fits, ones, zero);
            let mask = self.b.vsplat(ty, B64, mask);
            let shifted = self.b.vector2(kind, ty, lane, a, count);
            self.b.vlogic(K::VAnd, ty, shifted, mask)
        };
        self.put_vector(i, 0, ty, value);
    }

    /// An instruction whose destination VEX has in another field than its source.
    fn by_constant(&mut self, i: &Insn, op: impl FnOnce(&mut Self, Type, Operand) -> Operand) {
        if !self.vectors_enabled(i) {
            return;
        }
        let ty = Self::vector_type(i);
        let a = self.vector_operand(i, usize::from(Self::is_vex(i)), ty);
        let value = op(self, ty, a);
        self.put_vector(i, 0, ty, value);
    }

    fn shift_constant(&mut self, i: &Insn, kind: K, lane: Lane) {
        let (count, bits) = (i.byte(), lane.bits() as u8);
        self.by_constant(i, |t, ty, a| {
            if count >= bits && kind != K::VSarBy {
                return t.zero(ty);
            }
            let count = t.b.imm(count.min(bits - 1).into());
            t.b.vector2(kind, ty, lane, a, count)
        });
    }

    /// By the lanes of the second source.
    fn shift_each(&mut self, i: &Insn, kind: K, lane: Lane) {
        self.binary_vector(i, |t, ty, a, b| {
            let bits = u64::from(lane.bits());
            if kind == K::VSar {
                let most = t.b.imm(bits - 1);
                let most = t.b.vsplat(ty, lane, most);
                let count = t.b.vector2(K::VMinU, ty, lane, b, most);
                return t.b.vector2(kind, ty, lane, a, count);
            }
            let limit = t.b.imm(bits);
            let limit = t.b.vsplat(ty, lane, limit);
            let fits = t.b.vcompare(ty, lane, Cond::Ltu, b, limit);
            let shifted = t.b.vector2(kind, ty, lane, a, b);
            t.b.vlogic(K::VAnd, ty, shifted, fits)
        });
    }

    fn picked(&mut self, i: &Insn, kind: K) {
        self.unary_vector(i, |t, ty, a| t.b.vbyte(kind, ty, i.byte(), a, Operand::NONE));
    }

    fn chosen(&mut self, i: &Insn, kind: K) {
        self.binary_vector(i, |t, ty, a, b| t.b.vbyte(kind, ty, i.byte(), a, b));
    }

    /// Sums or differences of neighbours, the first source's first. `parts` makes the even lanes
    /// of two vectors one vector, and their odd ones another.
    fn horizontal(
        &mut self,
        i: &Insn,
        (kind, lane): (K, Lane),
        parts: impl FnOnce(&mut Self, Type, Operand, Operand) -> (Operand, Operand),
    ) {
        self.binary_vector(i, |t, ty, a, b| {
            let (a, b) = if Self::uses_mmx(i) {
                let both = t.b.vector2(K::VUnpackLow, ty, B64, a, b);
                (both, both)
            } else {
                (a, b)
            };
            let (even, odd) = parts(t, ty, a, b);
            t.b.vector2(kind, ty, lane, even, odd)
        });
    }

    fn horizontal_words(&mut self, i: &Insn, kind: K) {
        self.horizontal(i, (kind, B16), |t, ty, a, b| {
            // Packed from lanes that hold a word each, which loses nothing.
            let sixteen = t.b.imm(16);
            let even = |t: &mut Self, v| {
                let high = t.b.vector2(K::VShlBy, ty, B32, v, sixteen);
                t.b.vector2(K::VSarBy, ty, B32, high, sixteen)
            };
            let (x, y) = (even(t, a), even(t, b));
            let evens = t.b.vector2(K::VPack, ty, B16, x, y);
            let x = t.b.vector2(K::VSarBy, ty, B32, a, sixteen);
            let y = t.b.vector2(K::VSarBy, ty, B32, b, sixteen);
            (evens, t.b.vector2(K::VPack, ty, B16, x, y))
        });
    }

    fn horizontal_doubles(&mut self, i: &Insn, kind: K) {
        self.horizontal(i, (kind, B32), |t, ty, a, b| {
            let even = t.b.vbyte(K::VPickTwo, ty, 0x88, a, b);
            (even, t.b.vbyte(K::VPickTwo, ty, 0xdd, a, b))
        });
    }

    /// Negative where the second source is, zero where that is zero.
    fn sign(&mut self, i: &Insn, lane: Lane) {
        self.binary_vector(i, |t, ty, a, b| {
            let zero = t.zero(ty);
            let minus = t.b.vector2(K::VSub, ty, lane, zero, a);
            let negative = t.b.vcompare(ty, lane, Cond::Lt, b, zero);
            let signed = t.b.vblend(ty, negative, minus, a);
            let none = t.b.vcompare(ty, lane, Cond::Eq, b, zero);
            t.b.vlogic(K::VAndNot, ty, signed, none)
        });
    }

    fn absolute(&mut self, i: &Insn, lane: Lane) {
        self.unary_vector(i, |t, ty, a| {
            let zero = t.zero(ty);
            let minus = t.b.vector2(K::VSub, ty, lane, zero, a);
            // The most negative number stays as it is: as an unsigned one it is right.
            t.b.vector2(K::VMinU, ty, lane, a, minus)
        });
    }

    fn widened(&mut self, i: &Insn, signed: bool, from: Lane, to: Lane) {
        if !self.vectors_enabled(i) {
            return;
        }
        let ty = Self::vector_type(i);
        let kind = if signed { K::VWiden } else { K::VWidenU };
        let mut value = self.vector_operand(i, 1, Type::V128);
        for lane in &Lane::ALL[from as usize + 1..=to as usize] {
            // What is less than the last width fits 128 bits.
            let wide = *lane == to && ty == Type::V256;
            if wide {
                value = self.widen_zero(value);
            }
            let ty = if wide { Type::V256 } else { Type::V128 };
            value = self.b.vector1(kind, ty, *lane, value);
        }
        self.put_vector(i, 0, ty, value);
    }

    fn broadcast(&mut self, i: &Insn, lane: Lane) {
        if !self.vectors_enabled(i) {
            return;
        }
        let ty = Self::vector_type(i);
        let value = if i.memory.is_some() && matches!(lane, B8 | B16) && i.mask == 0 {
            self.read(i, 1)
        } else {
            let a = self.vector_operand(i, 1, Type::V128);
            self.b.vextract(Type::V128, lane, 0, a)
        };
        let value = self.b.vsplat(ty, lane, value);
        self.put_vector(i, 0, ty, value);
    }

    /// A lane from a general register or memory.
    fn insert(&mut self, i: &Insn, lane: Lane) {
        if !self.vectors_enabled(i) {
            return;
        }
        let (x, y) = Self::sources(i);
        let bytes = if Self::uses_mmx(i) { 8 } else { 16 };
        let index = u16::from(i.byte()) % (bytes / lane.bytes() as u16);
        let value = match i.memory {
            Some(_) => self.read(i, y),
            None => self.x(i.rm),
        };
        let a = self.vector_operand(i, x, Type::V128);
        let value = self.b.vinsert(Type::V128, lane, index, a, value);
        self.put_vector(i, 0, Type::V128, value);
    }

    /// The second source where the lanes of a register are negative: XMM0, or one that VEX names.
    pub(crate) fn blend_by_register(&mut self, i: &Insn, lane: Lane) {
        self.binary_vector(i, |t, ty, a, b| {
            let last = i.entry.operands.len() - 1;
            let mask = t.vector_operand(i, last, ty);
            let mask = if lane == B8 { mask } else { t.negative(ty, lane, mask) };
            t.b.vblend(ty, mask, b, a)
        });
    }

    /// ZF if the first vector is zero, CF if the second is; the other flags are clear.
    pub(crate) fn flags_of_test(&mut self, ty: Type, zero: Operand, carry: Operand) {
        let (zero, carry) = (self.is_zero(ty, zero), self.is_zero(ty, carry));
        let six = self.b.imm(u64::from(eflags::ZF.trailing_zeros()));
        let zero = self.b.shl(zero, six);
        let bits = self.b.or(zero, carry);
        self.flags_are(bits);
    }
}
