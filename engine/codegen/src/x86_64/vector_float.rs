//! Operations on floating-point lanes.
//!
//! The rules are those of the scalar operations: MXCSR rounds and collects the flags, and what the
//! host does otherwise with NaNs is repaired, out of line where only NaNs need it.

use super::asm::gpr::{RAX, RCX};
use super::asm::{Asm, Cc, Map, Mem, Pp, Vex, Width, Xmm};
use super::lower::Generator;
use super::thunks::core_mem;
use super::vector::{
    EXTRACTI128, INSERTI128, PAND, PANDN, PBLENDVB, PCMPEQ, POR, PXOR, Shift, m0f, m3a, m38, row,
    wide,
};
use crate::CompileError;
use crate::layout::{Core, VectorConsts};
use ir::{FpCond, Lane, Op, OpKind, Rounding};
use std::mem::offset_of;

const X0: Xmm = Xmm(0);
const X1: Xmm = Xmm(1);

/// Predicates of comparisons: the signalling ones are invalid for any NaN, the quiet ones for a
/// signalling NaN only.
mod predicate {
    pub const UNORDERED: u8 = 0x03;
    pub const LT_QUIET: u8 = 0x11;
    pub const LE_QUIET: u8 = 0x12;
    /// Not less, or unordered.
    pub const NOT_LT_QUIET: u8 = 0x15;
    pub const GE_QUIET: u8 = 0x1d;
}

/// The packed form of an instruction for binary32 or binary64.
fn packed(double: bool, opcode: u8) -> Vex {
    Vex::new(if double { Pp::P66 } else { Pp::None }, Map::M0F, opcode)
}

const SQRT: u8 = 0x51;
const AND: u8 = 0x54;
const OR: u8 = 0x56;
const ADD: u8 = 0x58;
const MUL: u8 = 0x59;
const SUB: u8 = 0x5c;
const MIN: u8 = 0x5d;
const CONVERT: u8 = 0x5a;
const DIV: u8 = 0x5e;
const MAX: u8 = 0x5f;

/// What the emitters below must know of an operation, in parts out of line, too.
#[derive(Clone, Copy)]
struct Lanes {
    wide: bool,
    double: bool,
}

impl Lanes {
    fn of(op: &Op) -> Self {
        Self { wide: wide(op), double: op.lane() == Lane::B64 }
    }

    fn op(self, asm: &mut Asm, opcode: u8, d: Xmm, a: Xmm, b: Xmm) {
        asm.v(self.wide, packed(self.double, opcode), d, a, b);
    }

    fn compare(self, asm: &mut Asm, predicate: u8, d: Xmm, (a, b): (Xmm, Xmm)) {
        self.op(asm, 0xc2, d, a, b);
        asm.imm8(predicate);
    }

    fn compare_constant(self, asm: &mut Asm, predicate: u8, d: Xmm, (a, b): (Xmm, Mem)) {
        asm.v(self.wide, packed(self.double, 0xc2), d, a, b);
        asm.imm8(predicate);
    }

    /// d = yes where the mask has sign bits set, else no
    fn blend(self, asm: &mut Asm, d: Xmm, mask: Xmm, (yes, no): (Xmm, Xmm)) {
        asm.v(self.wide, PBLENDVB, d, no, yes);
        asm.imm8(mask.0 << 4);
    }

    /// The row of a table of constants for these lanes.
    fn row(self, offset: usize) -> Mem {
        row(offset, self.double.into())
    }

    /// d = the default NaN where the mask is set
    fn set_nan(self, asm: &mut Asm, d: Xmm, mask: Xmm) {
        asm.v(self.wide, PBLENDVB, d, d, self.row(offset_of!(VectorConsts, nan)));
        asm.imm8(mask.0 << 4);
    }
}

fn scratch_mxcsr() -> Mem {
    core_mem(offset_of!(Core, scratch_mxcsr))
}

const SAVE: u8 = 3;
const RESTORE: u8 = 2;

impl Generator<'_> {
    pub(super) fn lower_vector_float(&mut self, op: &Op) -> Result<(), CompileError> {
        use OpKind as K;
        match op.kind {
            K::VFAdd => self.vector_float2(op, ADD),
            K::VFSub => self.vector_float2(op, SUB),
            K::VFMul => self.vector_float2(op, MUL),
            K::VFDiv => self.vector_float2(op, DIV),
            K::VFAddSub => self.vector_add_subtract(op),
            K::VFSqrt => self.vector_sqrt(op),
            K::VFMin => self.vector_float_extremum(op, MIN, OR),
            K::VFMax => self.vector_float_extremum(op, MAX, AND),
            K::VFMulAdd => self.vector_multiply_add(op),
            K::VFCompare => self.vector_float_compare(op),
            K::VFConvert => self.vector_convert(op),
            K::VFFromInt => self.vector_from_signed(op),
            K::VFFromUInt => self.vector_from_unsigned(op),
            K::VFToInt => self.vector_to_signed(op),
            K::VFRound => self.vector_round(op),
            K::VFFromInt32 => self.vector_from_words(op),
            K::VFToInt32 => self.vector_to_words(op),
            K::VFAddLow => self.vector_low(op, ADD),
            K::VFSubLow => self.vector_low(op, SUB),
            K::VFMulLow => self.vector_low(op, MUL),
            K::VFDivLow => self.vector_low(op, DIV),
            K::VFMinLow => self.vector_low(op, MIN),
            K::VFMaxLow => self.vector_low(op, MAX),
            K::VFSqrtLow => self.vector_low(op, SQRT),
            K::VFConvertLow => self.vector_low(op, CONVERT),
            K::VFCompareLow | K::VFRoundLow => self.vector_low_immediate(op),
            _ => self.vector_to_unsigned(op),
        }
    }

    /// Jumps out of line if any lane of `d` is a NaN; xmm0 has the mask of them.
    fn if_nan(
        &mut self,
        lanes: Lanes,
        (a, b): (Xmm, Xmm),
        code: impl FnOnce(&mut Asm) + Send + Sync + 'static,
    ) {
        lanes.compare(&mut self.asm, predicate::UNORDERED, X0, (a, b));
        self.asm.vector(lanes.wide, packed(lanes.double, 0x50), RAX.0, 0, X0.into());
        self.asm.test(Width::W32, RAX, RAX);
        let nan = self.asm.jcc(Cc::Ne);
        let back = self.asm.here();
        self.fix(nan, back, code);
    }

    fn default_nans(&mut self, lanes: Lanes, d: Xmm) {
        if self.propagates() {
            return;
        }
        self.if_nan(lanes, (d, d), move |asm| lanes.set_nan(asm, d, X0));
    }

    fn vector_float2(&mut self, op: &Op, opcode: u8) -> Result<(), CompileError> {
        let lanes = Lanes::of(op);
        let (a, b) = (self.vector(op.a)?, self.vector(op.b)?);
        let d = self.define_vector(op, Some(op.a))?;
        lanes.op(&mut self.asm, opcode, d, a, b);
        self.default_nans(lanes, d);
        Ok(())
    }

    fn vector_add_subtract(&mut self, op: &Op) -> Result<(), CompileError> {
        let lanes = Lanes::of(op);
        let (a, b) = (self.vector(op.a)?, self.vector(op.b)?);
        let d = self.define_vector(op, Some(op.a))?;
        let pp = if lanes.double { Pp::P66 } else { Pp::F2 };
        self.v(op, Vex::new(pp, Map::M0F, 0xd0), d, a, b);
        self.default_nans(lanes, d);
        Ok(())
    }

    fn vector_sqrt(&mut self, op: &Op) -> Result<(), CompileError> {
        let lanes = Lanes::of(op);
        let a = self.vector(op.a)?;
        let d = self.define_vector(op, Some(op.a))?;
        lanes.op(&mut self.asm, SQRT, d, X0, a);
        self.default_nans(lanes, d);
        Ok(())
    }

    /// As with scalars: both orders together have both signs of zeros, and the host calls quiet NaNs
    /// invalid. The comparison that finds NaNs has raised what is due.
    fn vector_float_extremum(
        &mut self,
        op: &Op,
        opcode: u8,
        combine: u8,
    ) -> Result<(), CompileError> {
        let lanes = Lanes::of(op);
        let (a, b) = (self.vector(op.a)?, self.vector(op.b)?);
        let d = self.define_vector(op, None)?;
        if self.propagates() {
            lanes.op(&mut self.asm, opcode, d, a, b);
            return Ok(());
        }
        lanes.compare(&mut self.asm, predicate::UNORDERED, X0, (a, b));
        self.asm.vector(lanes.wide, packed(lanes.double, 0x50), RAX.0, 0, X0.into());
        self.asm.test(Width::W32, RAX, RAX);
        let nan = self.asm.jcc(Cc::Ne);
        let both = move |asm: &mut Asm, (x, y): (Xmm, Xmm)| {
            lanes.op(asm, opcode, X0, x, y);
            lanes.op(asm, opcode, X1, y, x);
            lanes.op(asm, combine, d, X0, X1);
        };
        both(&mut self.asm, (a, b));
        let back = self.asm.here();
        self.fix(nan, back, move |asm| {
            asm.mxcsr(SAVE, scratch_mxcsr());
            // A lane that is a NaN takes the other's value.
            lanes.compare(asm, predicate::UNORDERED, X0, (a, a));
            lanes.blend(asm, X1, X0, (b, a));
            lanes.compare(asm, predicate::UNORDERED, X0, (b, b));
            lanes.blend(asm, d, X0, (a, b));
            lanes.op(asm, opcode, X0, X1, d);
            lanes.op(asm, opcode, d, d, X1);
            lanes.op(asm, combine, d, d, X0);
            lanes.compare(asm, predicate::UNORDERED, X0, (a, a));
            lanes.compare(asm, predicate::UNORDERED, X1, (b, b));
            asm.v(lanes.wide, PAND, X0, X0, X1);
            lanes.set_nan(asm, d, X0);
            asm.mxcsr(RESTORE, scratch_mxcsr());
        });
        Ok(())
    }

    /// Infinity times zero is invalid even when the addend is a quiet NaN, which the host does not
    /// flag: lanes whose product is a NaN are multiplied once more, for their flags.
    fn vector_multiply_add(&mut self, op: &Op) -> Result<(), CompileError> {
        let lanes = Lanes::of(op);
        let (a, b, c) = (self.vector(op.a)?, self.vector(op.b)?, self.vector(op.c)?);
        let like = (op.c != op.a && op.c != op.b).then_some(op.c);
        let d = self.define_vector(op, like)?;
        let opcode = [0xb8, 0xbc, 0xba, 0xbe][usize::from(op.lane_aux() & 3)];
        let insn = if lanes.double { m38(opcode).w() } else { m38(opcode) };
        self.vector_move(op, d, c);
        self.v(op, insn, d, a, b);
        if self.propagates() {
            return Ok(());
        }
        self.if_nan(lanes, (d, d), move |asm| {
            asm.mxcsr(SAVE, scratch_mxcsr());
            lanes.op(asm, MUL, X1, a, b);
            lanes.compare(asm, predicate::UNORDERED, X1, (X1, X1));
            asm.mxcsr(RESTORE, scratch_mxcsr());
            lanes.set_nan(asm, d, X0);
            asm.v(lanes.wide, PAND, X0, a, X1);
            asm.v(lanes.wide, PAND, X1, b, X1);
            lanes.op(asm, MUL, X0, X0, X1);
        });
        Ok(())
    }

    fn vector_float_compare(&mut self, op: &Op) -> Result<(), CompileError> {
        let (a, b) = (self.vector(op.a)?, self.vector(op.b)?);
        let d = self.define_vector(op, Some(op.a))?;
        let predicate = super::float::predicate(FpCond::from_code(op.lane_aux()));
        Lanes::of(op).compare(&mut self.asm, predicate, d, (a, b));
        Ok(())
    }

    fn vector_convert(&mut self, op: &Op) -> Result<(), CompileError> {
        let lanes = Lanes::of(op);
        let a = self.vector(op.a)?;
        let d = self.define_vector(op, None)?;
        // The instruction is named by its source.
        self.v(op, packed(!lanes.double, 0x5a), d, X0, a);
        self.default_nans(lanes, d);
        Ok(())
    }

    fn vector_round(&mut self, op: &Op) -> Result<(), CompileError> {
        let lanes = Lanes::of(op);
        let a = self.vector(op.a)?;
        let d = self.define_vector(op, Some(op.a))?;
        self.v(op, m3a(if lanes.double { 0x09 } else { 0x08 }), d, X0, a);
        self.asm.imm8(rounding_immediate(op));
        self.default_nans(lanes, d);
        Ok(())
    }

    /// The host's scalar instructions keep the other lanes of their first operand.
    fn vector_low(&mut self, op: &Op, opcode: u8) -> Result<(), CompileError> {
        let (a, b) = (self.vector(op.a)?, self.vector(op.b)?);
        let d = self.define_vector(op, Some(op.a))?;
        // Conversions are named by their source.
        let double = (op.lane() == Lane::B64) != (op.kind == OpKind::VFConvertLow);
        self.asm.vscalar(double, opcode, d, a, b.into());
        Ok(())
    }

    fn vector_low_immediate(&mut self, op: &Op) -> Result<(), CompileError> {
        let double = op.lane() == Lane::B64;
        let (a, b) = (self.vector(op.a)?, self.vector(op.b)?);
        let d = self.define_vector(op, Some(op.a))?;
        if op.kind == OpKind::VFRoundLow {
            self.asm.v(false, m3a(if double { 0x0b } else { 0x0a }), d, a, b);
            self.asm.imm8(rounding_immediate(op));
        } else {
            self.asm.vscalar(double, 0xc2, d, a, b.into());
            self.asm.imm8(super::float::predicate(FpCond::from_code(op.lane_aux())));
        }
        Ok(())
    }

    // ---- integers ----

    fn vector_from_words(&mut self, op: &Op) -> Result<(), CompileError> {
        let a = self.vector(op.a)?;
        let d = self.define_vector(op, Some(op.a))?;
        self.v(op, Vex::new(Pp::F3, Map::M0F, 0xe6), d, X0, a);
        Ok(())
    }

    /// As with [`Self::vector_to_signed`], the host's answer for what does not fit is made another for
    /// numbers that are not negative.
    fn vector_to_words(&mut self, op: &Op) -> Result<(), CompileError> {
        let a = self.vector(op.a)?;
        let d = self.define_vector(op, None)?;
        let pp = if rounding(op) == Rounding::TowardZero { Pp::P66 } else { Pp::F2 };
        self.v(op, Vex::new(pp, Map::M0F, 0xe6), d, X0, a);
        if self.propagates() {
            return Ok(());
        }
        // All ones where a is not less than zero, in 32 bits each.
        let lanes = Lanes::of(op);
        self.v(op, PXOR, X1, X1, X1);
        lanes.compare(&mut self.asm, predicate::NOT_LT_QUIET, X0, (a, X1));
        if lanes.wide {
            self.asm.vector(true, EXTRACTI128, X0.0, 0, X1.into());
            self.asm.imm8(1);
        }
        self.asm.v(false, Vex::new(Pp::None, Map::M0F, 0xc6), X0, X0, X1);
        self.asm.imm8(0x88);
        let smallest = row(offset_of!(VectorConsts, sign), Lane::B32 as usize);
        self.asm.v(false, PCMPEQ[2], X1, d, smallest);
        self.asm.v(false, PAND, X0, X0, X1);
        self.asm.v(false, PXOR, d, d, X0);
        Ok(())
    }

    fn vector_from_signed(&mut self, op: &Op) -> Result<(), CompileError> {
        let a = self.vector(op.a)?;
        let d = self.define_vector(op, None)?;
        self.float_of_signed(op, d, a);
        Ok(())
    }

    /// d = the signed integers in a, a different register
    fn float_of_signed(&mut self, op: &Op, d: Xmm, a: Xmm) {
        if op.lane() == Lane::B32 {
            return self.v(op, Vex::new(Pp::None, Map::M0F, 0x5b), d, X0, a);
        }
        let pair = |asm: &mut Asm, d: Xmm, from: Xmm| {
            let word = |asm: &mut Asm, d: Xmm, from| {
                asm.v(false, PXOR, d, d, d);
                asm.vcvt_from_int(true, Width::W64, d, d, from);
            };
            asm.vmovq_to(Width::W64, RAX, from);
            asm.vector(false, m3a(0x16).w(), from.0, 0, RCX.into());
            asm.imm8(1);
            word(asm, d, RAX);
            word(asm, X1, RCX);
            asm.v(false, m0f(0x14), d, d, X1);
        };
        pair(&mut self.asm, d, a);
        if wide(op) {
            self.asm.vector(true, EXTRACTI128, a.0, 0, X0.into());
            self.asm.imm8(1);
            pair(&mut self.asm, X0, X0);
            self.v(op, INSERTI128, d, d, X0);
            self.asm.imm8(1);
        }
    }

    /// Lanes with their top bit set are halved, with the lost bit kept sticky, converted and doubled.
    fn vector_from_unsigned(&mut self, op: &Op) -> Result<(), CompileError> {
        let lanes = Lanes::of(op);
        let a = self.vector(op.a)?;
        let d = self.define_vector(op, None)?;
        let fit = self.vector_scratch()?;
        // The variable blends of floats look at the sign bit of each lane.
        let choose = m3a(if lanes.double { 0x4b } else { 0x4a });
        let one = lanes.row(offset_of!(VectorConsts, one));
        self.v(op, PAND, X0, a, one);
        self.shift_constant(op, Shift::Right, op.lane(), (fit, a), 1);
        self.v(op, POR, X0, X0, fit);
        self.v(op, choose, fit, a, X0);
        self.asm.imm8(a.0 << 4);
        self.float_of_signed(op, d, fit);
        lanes.op(&mut self.asm, ADD, X0, d, d);
        self.v(op, choose, d, d, X0);
        self.asm.imm8(a.0 << 4);
        Ok(())
    }

    fn vector_to_signed(&mut self, op: &Op) -> Result<(), CompileError> {
        let lanes = Lanes::of(op);
        let a = self.vector(op.a)?;
        let d = self.define_vector(op, None)?;
        self.signed_of_float(op, d, a);
        if self.propagates() {
            return Ok(());
        }
        // The host answers the most negative integer for whatever does not fit; NaN and what is too
        // large become the most positive one.
        let limit = lanes.row(offset_of!(VectorConsts, half_range));
        lanes.compare_constant(&mut self.asm, predicate::NOT_LT_QUIET, X0, (a, limit));
        self.v(op, PXOR, d, d, X0);
        Ok(())
    }

    /// d = a as the host converts it, from a different register
    fn signed_of_float(&mut self, op: &Op, d: Xmm, a: Xmm) {
        let truncate = rounding(op) == Rounding::TowardZero;
        if op.lane() == Lane::B32 {
            let pp = if truncate { Pp::F3 } else { Pp::P66 };
            return self.v(op, Vex::new(pp, Map::M0F, 0x5b), d, X0, a);
        }
        let opcode = if truncate { 0x2c } else { 0x2d };
        let pair = |asm: &mut Asm, d: Xmm, from: Xmm| {
            asm.vcvt_to_int(true, Width::W64, opcode, RAX, from);
            asm.v(false, m0f(0x15), X1, from, from);
            asm.vcvt_to_int(true, Width::W64, opcode, RCX, X1);
            asm.vmovq_from(d, RAX);
            asm.v(false, m3a(0x22).w(), d, d, RCX);
            asm.imm8(1);
        };
        pair(&mut self.asm, d, a);
        if wide(op) {
            self.asm.vector(true, EXTRACTI128, a.0, 0, X0.into());
            self.asm.imm8(1);
            pair(&mut self.asm, X0, X0);
            self.v(op, INSERTI128, d, d, X0);
            self.asm.imm8(1);
        }
    }

    /// Lanes in the upper half of the range are converted less that half. Those that round to less
    /// than zero are converted as a NaN: invalid, and nothing else.
    fn vector_to_unsigned(&mut self, op: &Op) -> Result<(), CompileError> {
        let lanes = Lanes::of(op);
        let half_range = lanes.row(offset_of!(VectorConsts, half_range));
        let range = lanes.row(offset_of!(VectorConsts, range));
        let minus_one = lanes.row(offset_of!(VectorConsts, minus_one));
        let a = self.vector(op.a)?;
        let d = self.define_vector(op, None)?;
        let (fit, negative) = (self.vector_scratch()?, self.vector_scratch()?);
        let asm = &mut self.asm;
        // Rounded without flags.
        let mode = if rounding(op) == Rounding::TowardZero { 3 } else { 4 };
        asm.v(lanes.wide, m3a(if lanes.double { 0x09 } else { 0x08 }), negative, X0, a);
        asm.imm8(mode | 8);
        lanes.compare_constant(asm, predicate::LE_QUIET, negative, (negative, minus_one));
        lanes.compare_constant(asm, predicate::GE_QUIET, X0, (a, half_range));
        lanes.compare_constant(asm, predicate::LT_QUIET, X1, (a, range));
        asm.v(lanes.wide, PAND, X0, X0, X1);
        // What is subtracted is all there is of such lanes, or zero: exact.
        asm.v(lanes.wide, PAND, X1, X0, half_range);
        lanes.op(asm, SUB, fit, a, X1);
        asm.v(lanes.wide, POR, fit, fit, negative);
        self.signed_of_float(op, d, fit);
        let asm = &mut self.asm;
        lanes.compare_constant(asm, predicate::GE_QUIET, X0, (a, half_range));
        asm.v(lanes.wide, PAND, X0, X0, row(offset_of!(VectorConsts, sign), op.lane() as usize));
        asm.v(lanes.wide, PXOR, d, d, X0);
        lanes.compare_constant(asm, predicate::NOT_LT_QUIET, X0, (a, range));
        asm.v(lanes.wide, POR, d, d, X0);
        asm.v(lanes.wide, PANDN, d, negative, d);
        Ok(())
    }
}

/// The immediate of the host's roundings to integral values.
fn rounding_immediate(op: &Op) -> u8 {
    let (rounding, exactly) = op.integral();
    let quiet = if exactly { 0 } else { 8 };
    super::float::fixed_mode(rounding).unwrap_or(4) | quiet
}

fn rounding(op: &Op) -> Rounding {
    Rounding::from_code(op.lane_aux())
}
