//! What floating-point instructions of all formats share.
//!
//! An operation runs on the host if its rounding mode is the dynamic one, which the host's units are
//! set to and the translation depends on. Everything else is computed by softfloat in a helper, which
//! finds in the instruction what to do.

use super::Translator;
use crate::decode::{FpR, FpR1, FpR4, I, R, R1, S};
use crate::helpers::HelperIndex;
use crate::state::flags;
use ir::{Cond, FpCond, MemOp, OpKind, Operand, Rounding, Type};

/// `rm`: dynamic.
const DYN: u8 = 7;
/// `rm`: to nearest, ties away from zero; hosts lack it.
const RMM: u8 = 4;
/// `rm`: towards zero.
const RTZ: u8 = 1;

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
    /// Type in IR.
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

    /// Whether the host rounds like this.
    fn host_rounds(&self, mode: u8) -> bool {
        mode != RMM && u32::from(mode) == flags::frm(self.flags)
    }

    /// The single or double in a register.
    pub(super) fn f(&mut self, format: Format, n: u8) -> Operand {
        let value = self.b.reg(Self::f_reg(n));
        if format == Format::S && self.boxed >> n & 1 == 0 { self.b.funbox(value) } else { value }
    }

    /// Assigns a floating-point register a single or double.
    pub(super) fn set_f(&mut self, format: Format, n: u8, value: Operand) {
        let value = if format == Format::S { self.b.fbox(value) } else { value };
        self.b.set_float_reg(Self::f_reg(n), value);
        self.note_boxed(format, n);
    }

    fn note_boxed(&mut self, format: Format, n: u8) {
        self.boxed &= !(1 << n);
        self.boxed |= u32::from(format == Format::S) << n;
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
    fn f_bits(&mut self, format: Format, n: u8) -> Operand {
        let value = self.b.reg(Self::f_reg(n));
        match format {
            Format::D => self.b.to_int(value, 64),
            Format::S => {
                let value = self.f(Format::S, n);
                self.b.to_int(value, 32)
            }
            Format::H => {
                let bits = self.b.to_int(value, 64);
                let above = self.b.imm(format.above());
                let nan = self.b.imm(0x7e00 | format.above());
                // Unsigned values below the box are those without it.
                let boxed = self.b.setcond(Cond::Geu, bits, above);
                self.b.select(boxed, bits, nan)
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
        let Some(mode) = self.fp_rounding(a.rm) else { return };
        if format == Format::H || !self.host_rounds(mode) {
            return self.soft(To::F(a.rd, format), mode);
        }
        let (x, y) = (self.f(format, a.rs1), self.f(format, a.rs2));
        let value = self.b.float2(kind, format.ty(), x, y);
        self.set_f(format, a.rd, value);
    }

    /// rd = the lesser or greater of rs1 and rs2.
    pub(super) fn fp_extremum(&mut self, a: R, kind: OpKind, format: Format) {
        if !self.fp_write() {
            return;
        }
        let (x, y) = (self.f(format, a.rs1), self.f(format, a.rs2));
        let value = self.b.float2(kind, format.ty(), x, y);
        self.set_f(format, a.rd, value);
    }

    /// rd = √rs1.
    pub(super) fn fp_sqrt(&mut self, a: FpR1, format: Format) {
        let Some(mode) = self.fp_rounding(a.rm) else { return };
        if format == Format::H || !self.host_rounds(mode) {
            return self.soft(To::F(a.rd, format), mode);
        }
        let x = self.f(format, a.rs1);
        let value = self.b.fsqrt(format.ty(), x);
        self.set_f(format, a.rd, value);
    }

    /// rd = ±(rs1 · rs2) ± rs3.
    pub(super) fn fp_mul_add(&mut self, a: FpR4, negate: (bool, bool), format: Format) {
        let Some(mode) = self.fp_rounding(a.rm) else { return };
        if format == Format::H || !self.host_rounds(mode) {
            return self.soft(To::F(a.rd, format), mode);
        }
        let operands = [self.f(format, a.rs1), self.f(format, a.rs2), self.f(format, a.rs3)];
        let value = self.b.fmuladd(format.ty(), negate, operands);
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
        if format == Format::H {
            return self.soft_exact(To::X(a.rd));
        }
        if !self.fp_write() {
            return;
        }
        let (x, y) = (self.f(format, a.rs1), self.f(format, a.rs2));
        let value = self.b.fcompare(format.ty(), cond, x, y);
        self.set_x(a.rd, value);
    }

    /// rd = class of rs1, as a bit mask.
    pub(super) fn fp_class(&mut self, a: R1) {
        if self.fp_on() {
            self.soft(To::X(a.rd), 0);
        }
    }

    /// Float to signed integer of `bits` bits.
    pub(super) fn fp_to_int(&mut self, a: FpR1, bits: u16, format: Format) {
        let Some(mode) = self.fp_rounding(a.rm) else { return };
        let rounding = match mode {
            RTZ => Rounding::TowardZero,
            _ if self.host_rounds(mode) => Rounding::Current,
            _ => return self.soft(To::X(a.rd), mode),
        };
        if format == Format::H {
            return self.soft(To::X(a.rd), mode);
        }
        let x = self.f(format, a.rs1);
        let value = self.b.fto_int(format.ty(), bits, rounding, x);
        self.set_x(a.rd, value);
    }

    /// Integer of `bits` bits to float.
    pub(super) fn fp_from_int(&mut self, a: FpR1, (bits, signed): (u16, bool), format: Format) {
        let Some(mode) = self.fp_rounding(a.rm) else { return };
        let exact = format == Format::D && bits == 32;
        if format == Format::H || !exact && !self.host_rounds(mode) {
            return self.soft(To::F(a.rd, format), mode);
        }
        let x = self.x(a.rs1);
        let value = self.b.ffrom_int(format.ty(), signed, bits, x);
        self.set_f(format, a.rd, value);
    }

    /// Between single and double: to `format` from the other.
    pub(super) fn fp_convert(&mut self, a: FpR1, format: Format) {
        let Some(mode) = self.fp_rounding(a.rm) else { return };
        let other = if format == Format::D { Format::S } else { Format::D };
        if format == Format::S && !self.host_rounds(mode) {
            return self.soft(To::F(a.rd, format), mode);
        }
        let x = self.f(other, a.rs1);
        let value = self.b.fconvert(format.ty(), x);
        self.set_f(format, a.rd, value);
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
