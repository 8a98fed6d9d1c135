//! What floating-point instructions of all formats share.
//!
//! Operations run on the host's units, which are set to the dynamic rounding mode; the translation
//! depends on it. What the host does not have (ties away from zero, fused operations of half
//! precision…) is computed by softfloat in a helper, which finds in the instruction what to do.
//!
//! Half precision is computed as single and rounded once more: singles have more than twice the
//! digits and two, so that rounding twice in one mode is rounding once for sums, products, quotients
//! and roots (S. A. Figueroa, “When is double rounding innocuous?”, 1995), and no result is exact in
//! half that was not in single, so that the flags are those of one rounding, too.

use super::Translator;
use crate::decode::{FpR, FpR1, FpR4, I, R, R1, S};
use crate::helpers::HelperIndex;
use crate::state::flags;
use ir::{Cond, FpCond, MemOp, OpKind, Operand, Rounding, Type};

/// `rm`: dynamic.
const DYN: u8 = 7;
/// `rm`: to nearest, ties away from zero; hosts lack it.
const RMM: u8 = 4;

/// Where a result goes.
#[derive(Clone, Copy)]
pub(super) enum To {
    /// An integer register.
    X(u8),
    /// A floating-point register, boxed if the format is narrow.
    F(u8, Format),
}

/// Floating-point formats.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    H,
    S,
    D,
}

impl Format {
    /// Type in IR: half precision is computed as single.
    fn ty(self) -> Type {
        if self == Self::D { Type::F64 } else { Type::F32 }
    }
    /// Width in bits.
    fn bits(self) -> u16 {
        match self {
            Self::H => 16,
            Self::S => 32,
            Self::D => 64,
        }
    }
    /// The bits of a register above a value of this format.
    fn above(self) -> u64 {
        if self == Self::D { 0 } else { u64::MAX << self.bits() }
    }
    /// The sign bit.
    fn sign(self) -> u64 {
        1 << (self.bits() - 1)
    }
    /// The smallest normal number.
    fn smallest_normal(self) -> u64 {
        match self {
            Self::H => 1 << 10,
            Self::S => 1 << 23,
            Self::D => 1 << 52,
        }
    }
    /// The positive infinity.
    fn infinity(self) -> u64 {
        self.sign() - self.smallest_normal()
    }
    /// The least quiet NaN.
    fn quiet_nan(self) -> u64 {
        self.infinity() + self.smallest_normal() / 2
    }
}

/// How the sign of a result is made of the operands' (`fsgnj` and its kin).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Sign {
    Copy,
    Negate,
    Xor,
}

impl Translator<'_, '_> {
    /// Begins a floating-point instruction; false if the unit is off, which makes it illegal.
    pub(super) fn fp_on(&mut self) -> bool {
        let on = flags::fs(self.flags) != flags::OFF;
        if !on {
            self.illegal();
        }
        on
    }

    /// Begins an instruction that writes floating-point registers or flags.
    pub(super) fn fp_write(&mut self) -> bool {
        if !self.fp_on() {
            return false;
        }
        if flags::fs(self.flags) == flags::CLEAN {
            self.call_effect(HelperIndex::DirtyFloat, &[]);
            self.marked = true;
        }
        true
    }

    /// Begins an instruction that rounds: the mode, unless it is illegal.
    pub(super) fn fp_rounding(&mut self, rm: u8) -> Option<u8> {
        let mode = if rm == DYN { flags::frm(self.flags) as u8 } else { rm };
        if mode > RMM {
            self.illegal();
            return None;
        }
        self.fp_write().then_some(mode)
    }

    /// How the host rounds like this, if it does.
    fn host_rounding(&self, mode: u8) -> Option<Rounding> {
        match mode {
            RMM => None,
            _ if u32::from(mode) == flags::frm(self.flags) => Some(Rounding::Current),
            1 => Some(Rounding::TowardZero),
            2 => Some(Rounding::Down),
            3 => Some(Rounding::Up),
            _ => Some(Rounding::Nearest),
        }
    }

    /// Begins an instruction that rounds: the host's rounding, or nothing if there is no more to do,
    /// because the mode is illegal or the host lacks it and softfloat computes the result.
    fn fp_host(&mut self, rm: u8, to: To) -> Option<Rounding> {
        let mode = self.fp_rounding(rm)?;
        let rounding = self.host_rounding(mode);
        if rounding.is_none() {
            self.soft(to, mode);
        }
        rounding
    }

    /// The single or double in a register; a half as single.
    pub(super) fn f(&mut self, format: Format, n: u8) -> Operand {
        let value = self.b.reg(Self::f_reg(n));
        match format {
            Format::S if self.boxed >> n & 1 == 0 => self.b.funbox(value),
            Format::H => {
                let value = self.unboxed_half(n, value);
                self.b.ffrom_half(value)
            }
            _ => value,
        }
    }

    fn unboxed_half(&mut self, n: u8, value: Operand) -> Operand {
        if self.boxed_half >> n & 1 == 0 { self.b.funbox_half(value) } else { value }
    }

    /// Assigns a floating-point register a single or double; a half, from a single that is one.
    pub(super) fn set_f(&mut self, format: Format, n: u8, value: Operand) {
        self.set_f_rounded(format, n, value, Rounding::Nearest);
    }

    /// The same, rounding a single to half.
    fn set_f_rounded(&mut self, format: Format, n: u8, value: Operand, rounding: Rounding) {
        let value = match format {
            Format::H => self.b.fto_half(rounding, value),
            Format::S => self.b.fbox(value),
            Format::D => value,
        };
        self.b.set_float_reg(Self::f_reg(n), value);
        self.note_boxed(format, n);
    }

    fn note_boxed(&mut self, format: Format, n: u8) {
        let set = |known: u32, is: bool| known & !(1 << n) | u32::from(is) << n;
        self.boxed = set(self.boxed, format == Format::S);
        self.boxed_half = set(self.boxed_half, format == Format::H);
    }

    /// Assigns a floating-point register the bits of an integer, with ones above the format's.
    pub(super) fn set_f_bits(&mut self, format: Format, n: u8, bits: Operand) {
        let above = self.b.imm(format.above());
        let bits = self.b.or(bits, above);
        let value = self.b.to_float(Type::F64, bits);
        self.b.set_float_reg(Self::f_reg(n), value);
        self.note_boxed(format, n);
    }

    /// The bits of a register as an integer: the canonical NaN's in place of what is not boxed.
    pub(super) fn f_bits(&mut self, format: Format, n: u8) -> Operand {
        let value = self.b.reg(Self::f_reg(n));
        match format {
            Format::D => self.b.to_int(value, 64),
            Format::S => {
                let value = self.f(Format::S, n);
                self.b.to_int(value, 32)
            }
            Format::H => {
                let value = self.unboxed_half(n, value);
                self.b.to_int(value, 64)
            }
        }
    }

    /// Computes the instruction by softfloat.
    pub(super) fn soft(&mut self, to: To, mode: u8) {
        let (insn, mode) = (self.insn_bits(), self.imm(i64::from(mode)));
        let value = self.call(HelperIndex::Float, &[insn, mode]);
        match to {
            To::X(rd) => self.set_x(rd, value),
            To::F(rd, format) => {
                let value = self.b.to_float(Type::F64, value);
                self.b.set_float_reg(Self::f_reg(rd), value);
                self.note_boxed(format, rd);
            }
        }
    }

    /// Computes an instruction that rounds by softfloat.
    pub(super) fn soft_rounded(&mut self, to: To, rm: u8) {
        if let Some(mode) = self.fp_rounding(rm) {
            self.soft(to, mode);
        }
    }

    /// Computes an instruction that does not round by softfloat.
    pub(super) fn soft_exact(&mut self, to: To) {
        if self.fp_write() {
            self.soft(to, 0);
        }
    }

    /// Loads and stores move bits; a narrow value is boxed.
    pub(super) fn fp_load(&mut self, a: I, format: Format) {
        if !self.fp_write() {
            return;
        }
        let (base, offset) = self.at(a.rs1, a.imm);
        match format {
            Format::H => {
                let bits = self.b.load(MemOp::U16, base, offset);
                self.set_f_bits(format, a.rd, bits);
            }
            Format::S => {
                let value = self.b.load_float(Type::F32, MemOp::U32, base, offset);
                self.set_f(format, a.rd, value);
            }
            Format::D => {
                let value = self.b.load_float(Type::F64, MemOp::U64, base, offset);
                self.set_f(format, a.rd, value);
            }
        }
    }

    pub(super) fn fp_store(&mut self, a: S, format: Format) {
        if !self.fp_on() {
            return;
        }
        let (base, offset) = self.at(a.rs1, a.imm);
        let value = self.b.reg(Self::f_reg(a.rs2));
        match format {
            Format::H => {
                let bits = self.b.to_int(value, 64);
                self.b.store(MemOp::U16, base, offset, bits);
            }
            Format::S => self.b.store_float(Type::F32, MemOp::U32, base, offset, value),
            Format::D => self.b.store_float(Type::F64, MemOp::U64, base, offset, value),
        }
    }

    /// rd = rs1 op rs2.
    pub(super) fn fp_binary(&mut self, a: FpR, kind: OpKind, format: Format) {
        let Some(rounding) = self.fp_host(a.rm, To::F(a.rd, format)) else { return };
        let (x, y) = (self.f(format, a.rs1), self.f(format, a.rs2));
        let value = self.b.float2(kind, (format.ty(), rounding), x, y);
        self.set_f_rounded(format, a.rd, value, rounding);
    }

    /// rd = the lesser or greater of rs1 and rs2.
    pub(super) fn fp_extremum(&mut self, a: R, kind: OpKind, format: Format) {
        if !self.fp_write() {
            return;
        }
        let (x, y) = (self.f(format, a.rs1), self.f(format, a.rs2));
        let value = self.b.float2(kind, (format.ty(), Rounding::Current), x, y);
        self.set_f(format, a.rd, value);
    }

    /// rd = √rs1.
    pub(super) fn fp_sqrt(&mut self, a: FpR1, format: Format) {
        let Some(rounding) = self.fp_host(a.rm, To::F(a.rd, format)) else { return };
        let x = self.f(format, a.rs1);
        let value = self.b.fsqrt(format.ty(), rounding, x);
        self.set_f_rounded(format, a.rd, value, rounding);
    }

    /// rd = ±(rs1 · rs2) ± rs3.
    pub(super) fn fp_mul_add(&mut self, a: FpR4, negate: (bool, bool), format: Format) {
        if format == Format::H {
            return self.soft_rounded(To::F(a.rd, format), a.rm);
        }
        let Some(rounding) = self.fp_host(a.rm, To::F(a.rd, format)) else { return };
        let operands = [self.f(format, a.rs1), self.f(format, a.rs2), self.f(format, a.rs3)];
        let value = self.b.fmuladd((format.ty(), rounding), negate, operands);
        self.set_f(format, a.rd, value);
    }

    /// rd = rs1 with a sign made of both.
    pub(super) fn fp_sign(&mut self, a: R, sign: Sign, format: Format) {
        if !self.fp_write() {
            return;
        }
        if a.rs1 == a.rs2 && sign == Sign::Copy && format != Format::H {
            let value = self.f(format, a.rs1);
            return self.set_f(format, a.rd, value);
        }
        let x = self.f_bits(format, a.rs1);
        let mask = self.b.imm(format.sign());
        let bits = if a.rs1 == a.rs2 {
            match sign {
                Sign::Copy => x,
                Sign::Negate => self.b.xor(x, mask),
                Sign::Xor => self.b.andnot(x, mask),
            }
        } else {
            let mut y = self.f_bits(format, a.rs2);
            if sign == Sign::Negate {
                y = self.b.not(y);
            }
            let y = self.b.and(y, mask);
            let x = if sign == Sign::Xor { x } else { self.b.andnot(x, mask) };
            self.b.xor(x, y)
        };
        self.set_f_bits(format, a.rd, bits);
    }

    /// rd = rs1 cond rs2, into an integer register.
    pub(super) fn fp_compare(&mut self, a: R, cond: FpCond, format: Format) {
        if !self.fp_write() {
            return;
        }
        let (x, y) = (self.f(format, a.rs1), self.f(format, a.rs2));
        let value = self.b.fcompare(format.ty(), cond, x, y);
        self.set_x(a.rd, value);
    }

    /// rd = class of rs1, as a bit mask: −∞, negative normal, subnormal, −0, then the positive ones
    /// from bit 4 on, and from bit 8 on signalling and quiet NaN.
    pub(super) fn fp_class(&mut self, a: R1, format: Format) {
        if !self.fp_on() {
            return;
        }
        let bits = self.f_bits(format, a.rs1);
        let magnitude = self.imm((format.sign() - 1).cast_signed());
        let magnitude = self.b.and(bits, magnitude);
        let [mut class, sign] = [self.imm(4), self.imm(i64::from(format.bits()) - 1)];
        let smallest_of_each = [1, format.smallest_normal(), format.infinity()];
        for smallest in smallest_of_each {
            let smallest = self.b.imm(smallest);
            let reaches = self.b.setcond(Cond::Geu, magnitude, smallest);
            class = self.b.add(class, reaches);
        }
        // 4 to 7; the other way round for negative numbers.
        let negative = self.b.shr(bits, sign);
        let [zero, one, seven, eight] = [0, 1, 7, 8].map(|n| self.imm(n));
        let negative = self.b.and(negative, one);
        let turn = self.b.select(negative, seven, zero);
        let number = self.b.xor(class, turn);
        let (infinity, quiet) = (self.b.imm(format.infinity()), self.b.imm(format.quiet_nan()));
        let quiet = self.b.setcond(Cond::Geu, magnitude, quiet);
        let nan = self.b.add(quiet, eight);
        let is_nan = self.b.setcond(Cond::Gtu, magnitude, infinity);
        let class = self.b.select(is_nan, nan, number);
        let mask = self.b.shl(one, class);
        self.set_x(a.rd, mask);
    }

    /// Float to integer of `bits` bits.
    pub(super) fn fp_to_int(&mut self, a: FpR1, (bits, signed): (u16, bool), format: Format) {
        let Some(rounding) = self.fp_host(a.rm, To::X(a.rd)) else { return };
        let x = self.f(format, a.rs1);
        let value = self.b.fto_int((format.ty(), rounding), (bits, signed), x);
        self.set_x(a.rd, value);
    }

    /// rd = rs1 rounded to an integral value; with `inexact`, that may be told.
    pub(super) fn fp_round(&mut self, a: FpR1, inexact: bool, format: Format) {
        let Some(rounding) = self.fp_host(a.rm, To::F(a.rd, format)) else { return };
        let x = self.f(format, a.rs1);
        let value = self.b.fround((format.ty(), rounding), inexact, x);
        self.set_f(format, a.rd, value);
    }

    /// Integer of `bits` bits to float.
    pub(super) fn fp_from_int(&mut self, a: FpR1, (bits, signed): (u16, bool), format: Format) {
        // Exact, whatever the mode says.
        let exact = format == Format::D && bits == 32;
        let rounding = if exact {
            self.fp_rounding(a.rm).map(|_| Rounding::Current)
        } else {
            self.fp_host(a.rm, To::F(a.rd, format))
        };
        let Some(rounding) = rounding else { return };
        let x = self.x(a.rs1);
        // An integer that single does not hold is too large for half.
        let value = self.b.ffrom_int((format.ty(), rounding), (bits, signed), x);
        self.set_f_rounded(format, a.rd, value, rounding);
    }

    /// Between formats: to a wider one, which is exact.
    pub(super) fn fp_widen(&mut self, a: FpR1, from: Format, to: Format) {
        if self.fp_rounding(a.rm).is_none() {
            return;
        }
        let mut value = self.f(from, a.rs1);
        if to == Format::D {
            value = self.b.fconvert(Type::F64, Rounding::Current, value);
        }
        self.set_f(to, a.rd, value);
    }

    /// From double to single.
    pub(super) fn fp_narrow(&mut self, a: FpR1) {
        let Some(rounding) = self.fp_host(a.rm, To::F(a.rd, Format::S)) else { return };
        let x = self.f(Format::D, a.rs1);
        let value = self.b.fconvert(Type::F32, rounding, x);
        self.set_f(Format::S, a.rd, value);
    }

    /// From single to half.
    pub(super) fn fp_narrow_to_half(&mut self, a: FpR1) {
        let Some(rounding) = self.fp_host(a.rm, To::F(a.rd, Format::H)) else { return };
        let x = self.f(Format::S, a.rs1);
        self.set_f_rounded(Format::H, a.rd, x, rounding);
    }

    /// The bits of a floating-point register, sign-extended, into an integer register.
    pub(super) fn fp_move_to_x(&mut self, rd: u8, rs1: u8, format: Format) {
        if !self.fp_on() {
            return;
        }
        let value = self.b.reg(Self::f_reg(rs1));
        let bits = self.b.to_int(value, 64);
        let bits = if format == Format::D { bits } else { self.b.sext(bits, format.bits()) };
        self.set_x(rd, bits);
    }

    /// The low bits of an integer register into a floating-point register.
    pub(super) fn fp_move_from_x(&mut self, rd: u8, rs1: u8, format: Format) {
        if self.fp_write() {
            let bits = self.x(rs1);
            self.set_f_bits(format, rd, bits);
        }
    }
}
