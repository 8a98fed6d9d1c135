//! Vectors of floating-point numbers, and scalars in their lowest lanes: `spec/simd_float.map`.

use super::Translator;
use super::simd::{float_type, shapes};
use crate::decode::traits::SimdFloat;
use crate::decode::{Insn, Kind, Operand as Spec};
use Lane::{B32, B64};
use ir::{FpCond, Lane, OpKind as K, Operand, Rounding, Type};

impl SimdFloat for Translator<'_, '_> {
    shapes! {
        addps packed(K::VFAdd, B32);
        addpd packed(K::VFAdd, B64);
        addss lowest(K::VFAddLow, B32);
        addsd lowest(K::VFAddLow, B64);
        mulps packed(K::VFMul, B32);
        mulpd packed(K::VFMul, B64);
        mulss lowest(K::VFMulLow, B32);
        mulsd lowest(K::VFMulLow, B64);
        subps packed(K::VFSub, B32);
        subpd packed(K::VFSub, B64);
        subss lowest(K::VFSubLow, B32);
        subsd lowest(K::VFSubLow, B64);
        minps packed(K::VFMin, B32);
        minpd packed(K::VFMin, B64);
        minss lowest(K::VFMinLow, B32);
        minsd lowest(K::VFMinLow, B64);
        divps packed(K::VFDiv, B32);
        divpd packed(K::VFDiv, B64);
        divss lowest(K::VFDivLow, B32);
        divsd lowest(K::VFDivLow, B64);
        maxps packed(K::VFMax, B32);
        maxpd packed(K::VFMax, B64);
        maxss lowest(K::VFMaxLow, B32);
        maxsd lowest(K::VFMaxLow, B64);
        sqrtps packed_one(K::VFSqrt, B32);
        sqrtpd packed_one(K::VFSqrt, B64);
        sqrtss lowest(K::VFSqrtLow, B32);
        sqrtsd lowest(K::VFSqrtLow, B64);
        addsubps packed(K::VFAddSub, B32);
        addsubpd packed(K::VFAddSub, B64);
        haddps horizontal_floats(K::VFAdd, B32);
        haddpd horizontal_floats(K::VFAdd, B64);
        hsubps horizontal_floats(K::VFSub, B32);
        hsubpd horizontal_floats(K::VFSub, B64);
        cmpps packed_compare(B32);
        cmppd packed_compare(B64);
        cmpss lowest_compare(B32);
        cmpsd lowest_compare(B64);
        ucomiss relate(false, Type::F32);
        ucomisd relate(false, Type::F64);
        comiss relate(true, Type::F32);
        comisd relate(true, Type::F64);
        andps lanes_logic(K::VAnd);
        andpd lanes_logic(K::VAnd);
        orps lanes_logic(K::VOr);
        orpd lanes_logic(K::VOr);
        xorps lanes_logic(K::VXor);
        xorpd lanes_logic(K::VXor);
        andnps lanes_logic(K::VAndNot);
        andnpd lanes_logic(K::VAndNot);
        unpcklps interleaved(K::VUnpackLow, B32);
        unpcklpd interleaved(K::VUnpackLow, B64);
        unpckhps interleaved(K::VUnpackHigh, B32);
        unpckhpd interleaved(K::VUnpackHigh, B64);
        cvtsi2ss general_to_float(Type::F32);
        cvtsi2sd general_to_float(Type::F64);
        cvtss2si float_to_general(Type::F32, Rounding::Current);
        cvtsd2si float_to_general(Type::F64, Rounding::Current);
        cvttss2si float_to_general(Type::F32, Rounding::TowardZero);
        cvttsd2si float_to_general(Type::F64, Rounding::TowardZero);
        cvtss2sd lowest(K::VFConvertLow, B64);
        cvtsd2ss lowest(K::VFConvertLow, B32);
        cvtdq2ps packed_one(K::VFFromInt, B32);
        cvtps2dq lanes_to_integers(Rounding::Current);
        cvttps2dq lanes_to_integers(Rounding::TowardZero);
        cvtpd2dq narrowed(Some(Rounding::Current));
        cvttpd2dq narrowed(Some(Rounding::TowardZero));
        cvtpd2ps narrowed(None);
        cvtps2pd widened_floats(K::VFConvert);
        cvtdq2pd widened_floats(K::VFFromInt32);
        cvtps2pi lanes_to_mmx(B32, Rounding::Current);
        cvttps2pi lanes_to_mmx(B32, Rounding::TowardZero);
        cvtpd2pi lanes_to_mmx(B64, Rounding::Current);
        cvttpd2pi lanes_to_mmx(B64, Rounding::TowardZero);
        movmskps signs(B32);
        movmskpd signs(B64);
        roundps rounded_lanes(B32);
        roundpd rounded_lanes(B64);
        roundss rounded_lowest(B32);
        roundsd rounded_lowest(B64);
        vtestps tested(B32);
        vtestpd tested(B64);
        blendvps blend_by_register(B32);
        blendvpd blend_by_register(B64);
        rcpps estimated(K::VFRcp);
        rcpss estimated_lowest(K::VFRcp);
        rsqrtps estimated(K::VFRsqrt);
        rsqrtss estimated_lowest(K::VFRsqrt);
    }

    fn shufps(&mut self, i: &Insn) {
        self.binary_vector(i, |t, ty, a, b| t.b.vbyte(K::VPickTwo, ty, i.byte(), a, b));
    }

    fn shufpd(&mut self, i: &Insn) {
        let byte = self.byte_of_piece(i, 4);
        self.binary_vector(i, |t, ty, a, b| t.b.vbyte(K::VPickOne, ty, byte, a, b));
    }

    fn blendps(&mut self, i: &Insn) {
        self.binary_vector(i, |t, ty, a, b| t.b.vbyte(K::VChoose32, ty, i.byte(), a, b));
    }

    fn blendpd(&mut self, i: &Insn) {
        // Each bit twice.
        let byte = (0..4).map(|bit| ((i.byte() >> bit & 1) * 3) << (2 * bit)).sum();
        self.binary_vector(i, |t, ty, a, b| t.b.vbyte(K::VChoose32, ty, byte, a, b));
    }

    fn insertps(&mut self, i: &Insn) {
        if !self.vectors_enabled(i) {
            return;
        }
        let (x, y) = Self::sources(i);
        let ty = Type::V128;
        let from = if i.memory.is_some() { 0 } else { u16::from(i.byte() >> 6) };
        let b = self.vector_operand(i, y, ty);
        let a = self.vector_operand(i, x, ty);
        let lane = self.b.vextract_float(ty, B32, from, b);
        let value = self.b.vinsert_float((ty, B32), u16::from(i.byte() >> 4 & 3), a, lane);
        let zero = self.zero(ty);
        let value = self.b.vbyte(K::VChoose32, ty, i.byte() & 15, value, zero);
        self.put_vector(i, 0, ty, value);
    }

    fn vpermilps(&mut self, i: &Insn) {
        self.unary_vector(i, |t, ty, a| t.b.vbyte(K::VPick, ty, i.byte(), a, Operand::NONE));
    }

    fn vpermilpd(&mut self, i: &Insn) {
        let byte = self.byte_of_piece(i, 4);
        self.unary_vector(i, |t, ty, a| t.b.vbyte(K::VPickOne, ty, byte, a, a));
    }

    fn vpermilps_by(&mut self, i: &Insn) {
        self.binary_vector(i, |t, ty, a, b| t.picked_each(ty, a, b));
    }

    /// Bit 1 of each index chooses: as two lanes of 32 bits.
    fn vpermilpd_by(&mut self, i: &Insn) {
        self.binary_vector(i, |t, ty, a, b| {
            let two = t.b.imm(2);
            let two = t.b.vsplat(ty, B64, two);
            let even = t.b.vlogic(K::VAnd, ty, b, two);
            let copied = t.b.vbyte(K::VPick, ty, 0xa0, even, Operand::NONE);
            let odd = t.b.imm(1 << 32);
            let odd = t.b.vsplat(ty, B64, odd);
            let index = t.b.vlogic(K::VOr, ty, copied, odd);
            t.picked_each(ty, a, index)
        });
    }

    fn cvtpi2ps(&mut self, i: &Insn) {
        if !self.vectors_enabled(i) {
            return;
        }
        let ty = Type::V128;
        let (b, a) = (self.vector_operand(i, 1, ty), self.vector_operand(i, 0, ty));
        // The upper half is not converted, but zero.
        let b = self.low_half(b);
        let value = self.exactly(|t| t.b.vector1(K::VFFromInt, ty, B32, b));
        let value = self.b.vbyte(K::VChoose32, ty, 3, a, value);
        self.put_vector(i, 0, ty, value);
    }

    fn cvtpi2pd(&mut self, i: &Insn) {
        self.widened_floats(i, K::VFFromInt32);
    }

    fn vcvtph2ps(&mut self, i: &Insn) {
        if !self.vectors_enabled(i) {
            return;
        }
        let ty = Self::vector_type(i);
        let a = self.vector_operand(i, 1, Type::V128);
        let value = self.exactly(|t| {
            let lanes = (ty.bytes() / 4) as u16;
            let mut value = t.zero(ty);
            for lane in 0..lanes {
                let half = t.b.vextract(Type::V128, Lane::B16, lane, a);
                let half = t.b.to_float(Type::F32, half);
                let single = t.b.ffrom_half(half);
                value = t.b.vinsert_float((ty, B32), lane, value, single);
            }
            value
        });
        self.put_vector(i, 0, ty, value);
    }

    fn vcvtps2ph(&mut self, i: &Insn) {
        if !self.vectors_enabled(i) {
            return;
        }
        let ty = Self::vector_type(i);
        let a = self.vector_operand(i, 1, ty);
        if i.memory.is_some() {
            // A fault comes before exceptions, and leaves no flags.
            self.probe_store(i);
        }
        let rounding = rounding(i.byte());
        let value = self.exactly(|t| {
            let mut value = t.zero(Type::V128);
            for lane in 0..(ty.bytes() / 4) as u16 {
                let single = t.b.vextract_float(ty, B32, lane, a);
                let half = t.b.fto_half(rounding, single);
                let half = t.b.to_int(half, 32);
                value = t.b.vinsert(Type::V128, Lane::B16, lane, value, half);
            }
            value
        });
        if i.memory.is_some() && ty == Type::V128 {
            let low = self.b.vextract(Type::V128, B64, 0, value);
            self.write(i, 0, low);
        } else if i.memory.is_some() {
            self.put_vector(i, 0, Type::V128, value);
        } else {
            self.put_whole(i.rm, Type::V128, value);
        }
    }

    fn fma_packed(&mut self, i: &Insn) {
        let lane = if i.w { B64 } else { B32 };
        let negate = negated(i);
        self.fused(i, |t, ty, args| t.exactly(|t| t.b.vfmuladd(ty, lane, negate, args)));
    }

    fn fma_low(&mut self, i: &Insn) {
        let (ty, lane) = float_type(if i.w { 8 } else { 4 });
        let negate = negated(i);
        self.fused(i, |t, _, args| {
            t.exactly(|t| {
                let args = args.map(|v| t.b.vextract_float(Type::V128, lane, 0, v));
                let value = t.b.fmuladd((ty, Rounding::Current), negate, args);
                let old = t.vector_operand(i, 0, Type::V128);
                t.b.vinsert_float((Type::V128, lane), 0, old, value)
            })
        });
    }

    /// Even lanes with one sign of the addend, odd ones with the other: each by an operation on
    /// operands that are harmless in the other's lanes.
    fn fma_alternate(&mut self, i: &Insn) {
        let lane = if i.w { B64 } else { B32 };
        // 6: even lanes subtract; 7: even lanes add.
        let even_subtracts = i.opcode & 1 == 0;
        self.fused(i, |t, ty, args| {
            t.exactly(|t| {
                let odd = t.odd_lanes(ty, lane);
                let one = t.b.imm(if lane == B64 { 1f64.to_bits() } else { 1f32.to_bits().into() });
                let one = t.b.vsplat(ty, lane, one);
                let harmless =
                    args.map(|v| [t.b.vblend(ty, odd, one, v), t.b.vblend(ty, odd, v, one)]);
                let even = harmless.map(|[even, _]| even);
                let odds = harmless.map(|[_, odd]| odd);
                let even = t.b.vfmuladd(ty, lane, (false, even_subtracts), even);
                let odds = t.b.vfmuladd(ty, lane, (false, !even_subtracts), odds);
                t.b.vblend(ty, odd, odds, even)
            })
        });
    }
}

/// The conditions of comparisons by their immediate.
fn condition(byte: u8) -> (FpCond, bool) {
    use FpCond as C;
    const TABLE: [(FpCond, bool); 32] = [
        (C::EqQuiet, false),
        (C::LtSignal, false),
        (C::LeSignal, false),
        (C::Un, false),
        (C::Ne, false),
        (C::NotLtSignal, false),
        (C::NotLeSignal, false),
        (C::Ord, false),
        (C::EqUn, false),
        // Not greater or equal: not b ≤ a.
        (C::NotLeSignal, true),
        (C::NotLtSignal, true),
        (C::Never, false),
        (C::LtGt, false),
        (C::LeSignal, true),
        (C::LtSignal, true),
        (C::Always, false),
        (C::EqSignal, false),
        (C::LtQuiet, false),
        (C::LeQuiet, false),
        (C::UnSignal, false),
        (C::NeSignal, false),
        (C::NotLt, false),
        (C::NotLe, false),
        (C::OrdSignal, false),
        (C::EqUnSignal, false),
        (C::NotLe, true),
        (C::NotLt, true),
        (C::NeverSignal, false),
        (C::LtGtSignal, false),
        (C::LeQuiet, true),
        (C::LtQuiet, true),
        (C::AlwaysSignal, false),
    ];
    TABLE[usize::from(byte & 31)]
}

/// The rounding that an immediate's low bits say.
fn rounding(byte: u8) -> Rounding {
    match byte & 7 {
        0 => Rounding::Nearest,
        1 => Rounding::Down,
        2 => Rounding::Up,
        3 => Rounding::TowardZero,
        _ => Rounding::Current,
    }
}

/// What a fused multiply-add negates: its product, its addend.
fn negated(i: &Insn) -> (bool, bool) {
    match i.opcode & 0xe {
        0x8 => (false, false),
        0xa => (false, true),
        0xc => (true, false),
        _ => (true, true),
    }
}

impl Translator<'_, '_> {
    fn packed(&mut self, i: &Insn, kind: K, lane: Lane) {
        self.binary_vector(i, |t, ty, a, b| t.exactly(|t| t.b.vector2(kind, ty, lane, a, b)));
    }

    fn packed_one(&mut self, i: &Insn, kind: K, lane: Lane) {
        self.unary_vector(i, |t, ty, a| t.exactly(|t| t.b.vector1(kind, ty, lane, a)));
    }

    /// On the lowest lane; the others are the first source's.
    fn lowest(&mut self, i: &Insn, kind: K, lane: Lane) {
        self.binary_vector(i, |t, _, a, b| {
            t.exactly(|t| t.b.vector2(kind, Type::V128, lane, a, b))
        });
    }

    fn lanes_logic(&mut self, i: &Insn, kind: K) {
        if kind == K::VXor && Self::is_same_twice(i) {
            return self.zeroed(i);
        }
        self.binary_vector(i, |t, ty, a, b| match kind {
            K::VAndNot => t.b.vlogic(kind, ty, b, a),
            _ => t.b.vlogic(kind, ty, a, b),
        });
    }

    fn interleaved(&mut self, i: &Insn, kind: K, lane: Lane) {
        self.binary_vector(i, |t, ty, a, b| t.b.vector2(kind, ty, lane, a, b));
    }

    fn horizontal_floats(&mut self, i: &Insn, kind: K, lane: Lane) {
        self.binary_vector(i, |t, ty, a, b| {
            let (even, odd) = match lane {
                B64 => (
                    t.b.vector2(K::VUnpackLow, ty, B64, a, b),
                    t.b.vector2(K::VUnpackHigh, ty, B64, a, b),
                ),
                _ => {
                    (t.b.vbyte(K::VPickTwo, ty, 0x88, a, b), t.b.vbyte(K::VPickTwo, ty, 0xdd, a, b))
                }
            };
            t.exactly(|t| t.b.vector2(kind, ty, lane, even, odd))
        });
    }

    /// The condition of a comparison; legacy instructions have the first eight.
    fn condition_of_compare(i: &Insn) -> (FpCond, bool) {
        condition(if Self::is_vex(i) { i.byte() } else { i.byte() & 7 })
    }

    fn packed_compare(&mut self, i: &Insn, lane: Lane) {
        let (cond, swapped) = Self::condition_of_compare(i);
        self.binary_vector(i, |t, ty, a, b| {
            let (a, b) = if swapped { (b, a) } else { (a, b) };
            t.exactly(|t| t.b.vfcompare(ty, lane, cond, a, b))
        });
    }

    fn lowest_compare(&mut self, i: &Insn, lane: Lane) {
        let (cond, swapped) = Self::condition_of_compare(i);
        self.binary_vector(i, |t, ty, a, b| {
            if !swapped {
                return t.exactly(|t| t.b.vfcompare_low(lane, cond, a, b));
            }
            let mask = t.exactly(|t| t.b.vfcompare_low(lane, cond, b, a));
            let byte = if lane == B64 { 3 } else { 1 };
            t.b.vbyte(K::VChoose32, ty, byte, a, mask)
        });
    }

    /// Compares the lowest lanes; the flags are the relation's.
    fn relate(&mut self, i: &Insn, signalling: bool, ty: Type) {
        if !self.vectors_enabled(i) {
            return;
        }
        let lane = if ty == Type::F64 { B64 } else { B32 };
        let (b, a) = (self.scalar(i, 1, lane), self.scalar(i, 0, lane));
        let bits = self.exactly(|t| t.b.frelate(ty, signalling, a, b));
        self.flags_are(bits);
    }

    /// The lowest lane of operand `n` as a float.
    fn scalar(&mut self, i: &Insn, n: usize, lane: Lane) -> Operand {
        let memory = matches!(i.entry.operands.get(n), Some(Spec::Typed(Kind::W, _)));
        if memory && i.memory.is_some() {
            let (ty, _) = float_type(lane.bytes() as u8);
            let size = lane.bytes() as u8;
            let (base, offset) = self.address(i, size);
            let mem = self.mem(size);
            return self.b.load_float(ty, mem, base, offset);
        }
        let v = self.vector_operand(i, n, Type::V128);
        self.b.vextract_float(Type::V128, lane, 0, v)
    }

    /// A signed integer to the lowest lane.
    fn general_to_float(&mut self, i: &Insn, ty: Type) {
        if !self.vectors_enabled(i) {
            return;
        }
        let (x, y) = Self::sources(i);
        let lane = if ty == Type::F64 { B64 } else { B32 };
        let size = Self::size(i, y);
        let value = self.read(i, y);
        let a = self.vector_operand(i, x, Type::V128);
        let bits = 8 * u16::from(size);
        let value = self.exactly(|t| {
            let float = t.b.ffrom_int((ty, Rounding::Current), (bits, true), value);
            t.b.vinsert_float((Type::V128, lane), 0, a, float)
        });
        self.put_vector(i, 0, Type::V128, value);
    }

    fn float_to_general(&mut self, i: &Insn, ty: Type, rounding: Rounding) {
        if !self.vectors_enabled(i) {
            return;
        }
        let lane = if ty == Type::F64 { B64 } else { B32 };
        let a = self.scalar(i, 1, lane);
        let bits = 8 * u16::from(Self::size(i, 0));
        let value = self.exactly(|t| t.b.fto_int((ty, rounding), (bits, true), a));
        self.write(i, 0, value);
    }

    fn lanes_to_integers(&mut self, i: &Insn, rounding: Rounding) {
        self.unary_vector(i, |t, ty, a| t.exactly(|t| t.b.vfto_int(ty, B32, (true, rounding), a)));
    }

    /// Lanes of 64 bits to lanes of 32: to integers with a rounding, or to floats. The result is of
    /// 128 bits.
    fn narrowed(&mut self, i: &Insn, to_int: Option<Rounding>) {
        if !self.vectors_enabled(i) {
            return;
        }
        let ty = Self::vector_type(i);
        let a = self.vector_operand(i, 1, ty);
        let value = self.exactly(|t| match to_int {
            Some(rounding) => t.b.vfto_int32(ty, rounding, a),
            None => t.b.vector1(K::VFConvert, ty, B32, a),
        });
        let value = if ty == Type::V256 { self.b.vhalf(0, value) } else { value };
        self.put_vector(i, 0, Type::V128, value);
    }

    /// Lanes of 32 bits in half a vector to lanes of 64.
    fn widened_floats(&mut self, i: &Insn, kind: K) {
        if !self.vectors_enabled(i) {
            return;
        }
        let ty = Self::vector_type(i);
        let a = self.vector_operand(i, 1, Type::V128);
        let a = if ty == Type::V256 { self.widen_zero(a) } else { a };
        let value = self.exactly(|t| t.b.vector1(kind, ty, B64, a));
        self.put_vector(i, 0, ty, value);
    }

    fn lanes_to_mmx(&mut self, i: &Insn, lane: Lane, rounding: Rounding) {
        if !self.vectors_enabled(i) {
            return;
        }
        let ty = Type::V128;
        let a = self.vector_operand(i, 1, ty);
        // Before an exception of the conversion, after a fault.
        self.enter_mmx();
        let value = match lane {
            B64 => self.exactly(|t| t.b.vfto_int32(ty, rounding, a)),
            _ => {
                let a = self.low_half(a);
                self.exactly(|t| t.b.vfto_int(ty, B32, (true, rounding), a))
            }
        };
        self.put_mmx(i.reg, value);
    }

    /// The low 64 bits, and zeros.
    fn low_half(&mut self, v: Operand) -> Operand {
        let zero = self.zero(Type::V128);
        self.b.vector2(K::VUnpackLow, Type::V128, B64, v, zero)
    }

    fn signs(&mut self, i: &Insn, lane: Lane) {
        self.vector_to_general(i, |t, ty, a| t.b.vector1(K::VToBits, ty, lane, a));
    }

    pub(crate) fn rounded_lanes(&mut self, i: &Insn, lane: Lane) {
        let how = (rounding(i.byte()), i.byte() & 8 == 0);
        self.unary_vector(i, |t, ty, a| t.exactly(|t| t.b.vfround((ty, lane), how, a)));
    }

    pub(crate) fn rounded_lowest(&mut self, i: &Insn, lane: Lane) {
        let how = (rounding(i.byte()), i.byte() & 8 == 0);
        self.binary_vector(i, |t, _, a, b| t.exactly(|t| t.b.vfround_low(lane, how, a, b)));
    }

    /// As `ptest`, of the signs of lanes.
    fn tested(&mut self, i: &Insn, lane: Lane) {
        if !self.vectors_enabled(i) {
            return;
        }
        let ty = Self::vector_type(i);
        let (b, a) = (self.vector_operand(i, 1, ty), self.vector_operand(i, 0, ty));
        let both = self.b.vlogic(K::VAnd, ty, a, b);
        let second = self.b.vlogic(K::VAndNot, ty, b, a);
        let (both, second) = (self.negative(ty, lane, both), self.negative(ty, lane, second));
        self.flags_of_test(ty, both, second);
    }

    /// Lanes of 32 bits by the low two bits of indices, in each 128 bits.
    fn picked_each(&mut self, ty: Type, a: Operand, index: Operand) -> Operand {
        // Bytes 4n to 4n + 3 of the index n in each lane.
        let low = self.b.imm(3);
        let low = self.b.vsplat(ty, B32, low);
        let index = self.b.vlogic(K::VAnd, ty, index, low);
        let multiplier = self.b.imm(0x0404_0404);
        let multiplier = self.b.vsplat(ty, B32, multiplier);
        let bytes = self.b.vector2(K::VMul, ty, B32, index, multiplier);
        let order = self.b.imm(0x0302_0100);
        let order = self.b.vsplat(ty, B32, order);
        let bytes = self.b.vector2(K::VAdd, ty, Lane::B8, bytes, order);
        self.b.vlogic(K::VShuffleEach, ty, a, bytes)
    }

    /// Estimates of reciprocals and of reciprocal roots.
    fn estimated(&mut self, i: &Insn, kind: K) {
        self.unary_vector(i, |t, ty, a| t.b.vlogic1(kind, ty, a));
    }

    fn estimated_lowest(&mut self, i: &Insn, kind: K) {
        self.binary_vector(i, |t, ty, a, b| {
            let estimates = t.b.vlogic1(kind, ty, b);
            t.b.vbyte(K::VChoose32, ty, 1, a, estimates)
        });
    }

    /// A fused multiply-add: its factors and its addend, by the digits of its name.
    fn fused(&mut self, i: &Insn, op: impl FnOnce(&mut Self, Type, [Operand; 3]) -> Operand) {
        if !self.vectors_enabled(i) {
            return;
        }
        let low = i.opcode & 1 != 0 && i.opcode & 0xf > 7;
        let ty = if low { Type::V128 } else { Self::vector_type(i) };
        let third = self.vector_operand(i, 2, ty);
        let (first, second) = (self.vector_operand(i, 0, ty), self.vector_operand(i, 1, ty));
        let args = match i.opcode >> 4 {
            9 => [first, third, second],
            0xa => [second, first, third],
            _ => [second, third, first],
        };
        let value = op(self, ty, args);
        self.put_vector(i, 0, ty, value);
    }

    /// Ones in the lanes with odd numbers.
    fn odd_lanes(&mut self, ty: Type, lane: Lane) -> Operand {
        if lane == B32 {
            let high = self.b.imm(0xffff_ffff_0000_0000);
            return self.b.vsplat(ty, B64, high);
        }
        let (zero, ones) = (self.zero(ty), self.b.imm(u64::MAX));
        let ones = self.b.vsplat(ty, B64, ones);
        self.b.vector2(K::VUnpackLow, ty, B64, zero, ones)
    }
}
