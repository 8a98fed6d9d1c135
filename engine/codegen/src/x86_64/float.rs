//! Floating-point operations, on the host's scalar instructions.
//!
//! Results are bit-exact for ISAs whose rules are: round as the operation says, MXCSR's mode if that
//! leaves it to the processor, tininess after rounding,
//! NaN results are the default NaN. MXCSR collects the flags. The out-of-line parts repair what
//! the host does otherwise: its NaNs and the values of conversions that do not fit. With
//! [`FloatRules::Propagate`] the host is right in all.

use super::asm::gpr::{RAX, RBP, RCX};
use super::asm::{Alu, Asm, Cc, Gpr, Mem, Width, Xmm};
use super::lower::{Generator, Tail};
use super::thunks::{core_disp, core_mem};
use crate::CompileError;
use crate::layout::{Consts, Core};
use ir::{FloatRules, FpCond, Op, OpKind, Rounding, Type};
use std::mem::offset_of;

const UCOMIS: u8 = 0x2e;
const COMIS: u8 = 0x2f;
const ADD: u8 = 0x58;
const MUL: u8 = 0x59;
const CONVERT: u8 = 0x5a;
const SUB: u8 = 0x5c;
const MIN: u8 = 0x5d;
const DIV: u8 = 0x5e;
const MAX: u8 = 0x5f;
const AND: u8 = 0x54;
const OR: u8 = 0x56;
const SQRT: u8 = 0x51;
const COMPARE: u8 = 0xc2;
/// Carry, parity and zero among the flags that a comparison gives.
const RELATIONS: i32 = 0x45;
const CONVERT_ROUNDED: u8 = 0x2d;
const CONVERT_TRUNCATED: u8 = 0x2c;
/// Shift right with the sign.
const SAR: u8 = 7;
/// The rounding mode towards zero, and what keeps roundings to integral values from being inexact.
const TOWARD_ZERO: u8 = 3;
const QUIET: u8 = 8;
/// The six exception flags of MXCSR.
const MXCSR_FLAGS: i32 = 0x3f;
/// The one for invalid operations.
const MXCSR_INVALID: i32 = 1;
const X0: Xmm = Xmm(0);
const X1: Xmm = Xmm(1);

impl Generator<'_> {
    pub(super) fn float_move(&mut self, op: &Op) -> Result<(), CompileError> {
        let a = self.float(op.a)?;
        let d = self.define_float(op, Some(op.a))?;
        self.asm.vmov(d, a);
        self.defined(op);
        Ok(())
    }

    pub(super) fn lower_float(&mut self, op: &Op) -> Result<(), CompileError> {
        use OpKind as K;
        match op.kind {
            K::ToFloat => {
                let a = self.int(op.a)?;
                let d = self.define_float(op, None)?;
                self.asm.vmovq_from(d, a);
            }
            K::ToInt => {
                let a = self.float(op.a)?;
                let d = self.define_int(op, None)?;
                let w = if op.aux == 32 { Width::W32 } else { Width::W64 };
                self.asm.vmovq_to(w, d, a);
            }
            K::FBox => {
                let a = self.float(op.a)?;
                let d = self.define_float(op, Some(op.a))?;
                self.asm.vlogic(0x56, d, a, constant(offset_of!(Consts, box_mask)).into());
            }
            K::FUnbox => self.unbox(op)?,
            K::FAdd => self.float2(op, ADD)?,
            K::FSub => self.float2(op, SUB)?,
            K::FMul => self.float2(op, MUL)?,
            K::FDiv => self.float2(op, DIV)?,
            K::FMin => self.float_extremum(op, MIN, OR)?,
            K::FMax => self.float_extremum(op, MAX, AND)?,
            K::FSqrt | K::FConvert => self.float1(op)?,
            K::FMulAdd => self.multiply_add(op)?,
            K::FCompare => self.float_compare(op)?,
            K::FRelate => self.float_relate(op)?,
            K::FFromInt => self.convert_signed(op)?,
            K::FFromUInt => self.convert_unsigned(op)?,
            K::FlagsGet => self.flags_get(op)?,
            K::FlagsClear => self.flags_clear(),
            K::FRound => self.float_round(op)?,
            K::FFromHalf => self.half_to_single(op)?,
            K::FToHalf => self.single_to_half(op)?,
            K::FToUInt => self.truncate_unsigned(op)?,
            _ => self.truncate_signed(op)?,
        }
        self.defined(op);
        Ok(())
    }

    fn flags_get(&mut self, op: &Op) -> Result<(), CompileError> {
        let d = self.define_int(op, None)?;
        let saved = core_mem(offset_of!(Core, scratch_mxcsr));
        self.asm.mxcsr(3, saved);
        self.asm.load(Width::W32, RAX, saved);
        self.asm.alu_imm(Alu::And, Width::W32, RAX.into(), MXCSR_FLAGS);
        let table = match self.unit.float {
            FloatRules::Canonical => offset_of!(Consts, flags),
            FloatRules::Propagate => offset_of!(Consts, all_flags),
        };
        let table = core_disp(offset_of!(Core, consts) + table);
        self.asm.movzx8(d, Mem::indexed(RBP, RAX, table).into());
        Ok(())
    }

    fn flags_clear(&mut self) {
        let saved = core_mem(offset_of!(Core, scratch_mxcsr));
        self.asm.mxcsr(3, saved);
        self.asm.alu_imm(Alu::And, Width::W32, saved.into(), !MXCSR_FLAGS);
        self.asm.mxcsr(2, saved);
    }

    /// Whether the host's own results are right, NaNs and integers included.
    pub(super) fn propagates(&self) -> bool {
        self.unit.float == FloatRules::Propagate
    }

    /// Emits an operation in its own rounding mode.
    pub(super) fn rounded(&mut self, op: &Op, emit: impl FnOnce(&mut Self)) {
        let Some(mode) = fixed_mode(op.rounding()) else { return emit(self) };
        enter_mode(&mut self.asm, mode);
        emit(self);
        leave_mode(&mut self.asm);
    }

    fn unbox(&mut self, op: &Op) -> Result<(), CompileError> {
        let a = self.float(op.a)?;
        let d = self.define_float(op, Some(op.a))?;
        self.asm.vmovq_to(Width::W64, RAX, a);
        self.asm.vmov(d, a);
        if op.float_aux() == 16 {
            // Carries out of the register if all bits above the low quarter are ones.
            self.asm.alu_imm(Alu::Add, Width::W64, RAX.into(), 0x1_0000);
            let wrong = self.asm.jcc(Cc::Ae);
            let back = self.asm.here();
            let nan = constant(offset_of!(Consts, nan16));
            self.fix(wrong, back, move |asm| asm.vload(true, d, nan));
            return Ok(());
        }
        self.asm.shift_imm(Width::W64, 7, RAX, 32);
        self.asm.alu_imm(Alu::Cmp, Width::W32, RAX.into(), -1);
        let wrong = self.asm.jcc(Cc::Ne);
        let back = self.asm.here();
        self.fix(wrong, back, move |asm| asm.vload(true, d, constant(offset_of!(Consts, nan32))));
        Ok(())
    }

    /// Code out of line that comes back.
    pub(super) fn fix(
        &mut self,
        from: super::asm::Patch,
        back: usize,
        code: impl FnOnce(&mut Asm) + Send + Sync + 'static,
    ) {
        self.tails.push(Tail::Fix { from, back, code: Box::new(code) });
    }

    /// Replaces a NaN in `d` by the default NaN.
    fn default_nan(&mut self, double: bool, d: Xmm) {
        if self.propagates() {
            return;
        }
        self.asm.vcompare(double, UCOMIS, d, d);
        let nan = self.asm.jcc(Cc::P);
        let back = self.asm.here();
        self.fix(nan, back, move |asm| asm.vload(true, d, nan_of(double)));
    }

    fn float2(&mut self, op: &Op, opcode: u8) -> Result<(), CompileError> {
        let double = op.ty == Type::F64;
        let (a, b) = (self.float(op.a)?, self.float(op.b)?);
        let d = self.define_float(op, Some(op.a))?;
        self.rounded(op, |g| g.asm.vscalar(double, opcode, d, a, b.into()));
        self.default_nan(double, d);
        Ok(())
    }

    /// The host's instruction gives its second operand when both are zeros: both orders together
    /// have both signs. It also calls quiet NaNs invalid, so NaNs are looked for before.
    fn float_extremum(&mut self, op: &Op, opcode: u8, combine: u8) -> Result<(), CompileError> {
        let double = op.ty == Type::F64;
        let (a, b) = (self.float(op.a)?, self.float(op.b)?);
        let d = self.define_float(op, None)?;
        if self.propagates() {
            self.asm.vscalar(double, opcode, d, a, b.into());
            return Ok(());
        }
        self.asm.vcompare(double, UCOMIS, a, b);
        let nan = self.asm.jcc(Cc::P);
        self.asm.vscalar(double, opcode, X0, a, b.into());
        self.asm.vscalar(double, opcode, X1, b, a.into());
        self.asm.vlogic(combine, d, X0, X1.into());
        let back = self.asm.here();
        self.fix(nan, back, move |asm| {
            asm.vmov(X0, a);
            asm.vcompare(double, UCOMIS, b, b);
            let b_is_nan = asm.jcc(Cc::P);
            asm.vmov(X0, b);
            asm.bind(b_is_nan);
            // A NaN here means that both are.
            asm.vcompare(double, UCOMIS, X0, X0);
            let number = asm.jcc(Cc::Np);
            asm.vload(true, X0, nan_of(double));
            asm.bind(number);
            asm.vmov(d, X0);
        });
        Ok(())
    }

    fn float1(&mut self, op: &Op) -> Result<(), CompileError> {
        let double = op.ty == Type::F64;
        let a = self.float(op.a)?;
        let d = self.define_float(op, Some(op.a))?;
        self.rounded(op, |g| match op.kind {
            OpKind::FSqrt => g.asm.vscalar(double, SQRT, d, a, a.into()),
            // The instruction is named by its source, the operation by its result.
            _ => g.asm.vscalar(!double, CONVERT, d, a, a.into()),
        });
        self.default_nan(double, d);
        Ok(())
    }

    fn float_round(&mut self, op: &Op) -> Result<(), CompileError> {
        let double = op.ty == Type::F64;
        let a = self.float(op.a)?;
        let d = self.define_float(op, Some(op.a))?;
        let quiet = if op.float_aux() & 1 != 0 { 0 } else { QUIET };
        self.asm.vround(double, d, a, fixed_mode(op.rounding()).unwrap_or(4) | quiet);
        self.default_nan(double, d);
        Ok(())
    }

    /// The host's instruction converts four: the others become zeros before, so that they set no
    /// flags.
    fn half_to_single(&mut self, op: &Op) -> Result<(), CompileError> {
        let a = self.float(op.a)?;
        let d = self.define_float(op, Some(op.a))?;
        self.asm.vlogic(AND, d, a, constant(offset_of!(Consts, half_mask)).into());
        self.asm.vcvt_from_half(d, d);
        self.default_nan(false, d);
        Ok(())
    }

    /// Like [`Self::half_to_single`].
    fn single_to_half(&mut self, op: &Op) -> Result<(), CompileError> {
        let a = self.float(op.a)?;
        let d = self.define_float(op, Some(op.a))?;
        let convert = move |asm: &mut Asm| {
            asm.vlowest(d, a);
            asm.vcvt_to_half(d, d, fixed_mode(op.rounding()).unwrap_or(4));
            asm.vlogic(OR, d, d, constant(offset_of!(Consts, half_box_mask)).into());
        };
        if self.propagates() {
            convert(&mut self.asm);
            return Ok(());
        }
        self.asm.vcompare(false, UCOMIS, a, a);
        let nan = self.asm.jcc(Cc::P);
        convert(&mut self.asm);
        let back = self.asm.here();
        self.fix(nan, back, move |asm| asm.vload(true, d, constant(offset_of!(Consts, nan16))));
        Ok(())
    }

    /// A NaN result is looked at again out of line: an infinity times zero is invalid even when
    /// the addend is a quiet NaN, which the host's instruction does not flag.
    fn multiply_add(&mut self, op: &Op) -> Result<(), CompileError> {
        let double = op.ty == Type::F64;
        let (a, b, c) = (self.float(op.a)?, self.float(op.b)?, self.float(op.c)?);
        let d = self.define_float(op, None)?;
        let opcode = [0xb9, 0xbd, 0xbb, 0xbf][usize::from(op.aux & 3)];
        self.asm.vmov(X0, c);
        self.rounded(op, |g| g.asm.vfma231(double, opcode, X0, a, b));
        if self.propagates() {
            self.asm.vmov(d, X0);
            return Ok(());
        }
        self.asm.vcompare(double, UCOMIS, X0, X0);
        let nan = self.asm.jcc(Cc::P);
        let back = self.asm.here();
        self.asm.vmov(d, X0);
        self.fix(nan, back, move |asm| {
            let saved = core_mem(offset_of!(Core, scratch_mxcsr));
            asm.mxcsr(3, saved);
            asm.vscalar(double, MUL, X1, a, b.into());
            asm.vcompare(double, UCOMIS, X1, X1);
            let product_is_nan = asm.jcc(Cc::P);
            // The product is a number: its flags are not the operation's.
            asm.mxcsr(2, saved);
            asm.bind(product_is_nan);
            asm.vload(true, X0, nan_of(double));
        });
        Ok(())
    }

    fn float_compare(&mut self, op: &Op) -> Result<(), CompileError> {
        let double = op.ty == Type::F64;
        let (a, b) = (self.float(op.a)?, self.float(op.b)?);
        let d = self.define_int(op, None)?;
        let cond = FpCond::from_code(op.aux);
        if !matches!(
            cond,
            FpCond::EqQuiet
                | FpCond::LtSignal
                | FpCond::LeSignal
                | FpCond::LtQuiet
                | FpCond::LeQuiet
        ) {
            self.asm.vscalar(double, COMPARE, X0, a, b.into());
            self.asm.imm8(predicate(cond));
            self.asm.vmovq_to(Width::W32, d, X0);
            self.asm.alu_imm(Alu::And, Width::W32, d.into(), 1);
            return Ok(());
        }
        let opcode = match cond {
            FpCond::LtSignal | FpCond::LeSignal => COMIS,
            _ => UCOMIS,
        };
        match cond {
            FpCond::EqQuiet => {
                self.asm.vcompare(double, opcode, a, b);
                self.asm.setcc(Cc::E, RAX);
                self.asm.setcc(Cc::Np, RCX);
                self.asm.alu(Alu::And, Width::W32, RAX, RCX.into());
            }
            // b > a and b >= a: false when unordered, which sets the carry.
            FpCond::LtSignal | FpCond::LtQuiet => {
                self.asm.vcompare(double, opcode, b, a);
                self.asm.setcc(Cc::A, RAX);
            }
            _ => {
                self.asm.vcompare(double, opcode, b, a);
                self.asm.setcc(Cc::Ae, RAX);
            }
        }
        self.asm.movzx8(d, RAX.into());
        Ok(())
    }

    /// The host's flags are the result: carry, parity and zero.
    fn float_relate(&mut self, op: &Op) -> Result<(), CompileError> {
        let (a, b) = (self.float(op.a)?, self.float(op.b)?);
        let d = self.define_int(op, None)?;
        let opcode = if op.aux != 0 { COMIS } else { UCOMIS };
        self.asm.vcompare(op.ty == Type::F64, opcode, a, b);
        self.asm.lahf();
        self.asm.bextr_high_byte(d, RAX);
        self.asm.alu_imm(Alu::And, Width::W32, d.into(), RELATIONS);
        Ok(())
    }

    fn convert_signed(&mut self, op: &Op) -> Result<(), CompileError> {
        let a = self.int(op.a)?;
        let d = self.define_float(op, None)?;
        let w = if op.float_aux() == 32 { Width::W32 } else { Width::W64 };
        let double = op.ty == Type::F64;
        self.asm.vlogic(0x57, d, d, d.into());
        let Some(mode) = fixed_mode(op.rounding()) else {
            self.asm.vcvt_from_int(double, w, d, d, a);
            return Ok(());
        };
        // As a rule the integer has no more digits than the format, and the mode does not matter.
        let digits = if double { 53 } else { 24 };
        match w {
            Width::W32 => self.asm.movsxd(RAX, a.into()),
            _ => self.asm.mov(Width::W64, RAX, a),
        }
        self.asm.shift_imm(Width::W64, SAR, RAX, digits);
        self.asm.alu_imm(Alu::Add, Width::W64, RAX.into(), 1);
        self.asm.alu_imm(Alu::Cmp, Width::W64, RAX.into(), 1);
        let rounds = self.asm.jcc(Cc::A);
        self.asm.vcvt_from_int(double, w, d, d, a);
        let back = self.asm.here();
        self.fix(rounds, back, move |asm| {
            enter_mode(asm, mode);
            asm.vcvt_from_int(double, w, d, d, a);
            leave_mode(asm);
        });
        Ok(())
    }

    /// Unsigned: 32 bits fit into a signed 64; 64 bits above the middle are halved, with the lost
    /// bit kept sticky, converted and doubled.
    fn convert_unsigned(&mut self, op: &Op) -> Result<(), CompileError> {
        let double = op.ty == Type::F64;
        let a = self.int(op.a)?;
        let d = self.define_float(op, None)?;
        self.asm.vlogic(0x57, d, d, d.into());
        self.rounded(op, |g| {
            if op.float_aux() == 32 {
                g.asm.mov(Width::W32, RAX, a);
                return g.asm.vcvt_from_int(double, Width::W64, d, d, RAX);
            }
            g.asm.test(Width::W64, a, a);
            let large = g.asm.jcc(Cc::L);
            g.asm.vcvt_from_int(double, Width::W64, d, d, a);
            let back = g.asm.here();
            g.fix(large, back, move |asm| {
                asm.mov(Width::W64, RAX, a);
                asm.mov(Width::W64, RCX, a);
                asm.shift_imm(Width::W64, 5, RAX, 1);
                asm.alu_imm(Alu::And, Width::W32, RCX.into(), 1);
                asm.alu(Alu::Or, Width::W64, RAX, RCX.into());
                asm.vcvt_from_int(double, Width::W64, d, d, RAX);
                asm.vscalar(double, ADD, d, d, d.into());
            });
        });
        Ok(())
    }

    /// The host answers the most negative integer for whatever does not fit; NaN and what is too
    /// large become the most positive one.
    fn truncate_signed(&mut self, op: &Op) -> Result<(), CompileError> {
        let double = op.ty == Type::F64;
        let a = self.float(op.a)?;
        let d: Gpr = self.define_int(op, None)?;
        let w = if op.float_aux() == 32 { Width::W32 } else { Width::W64 };
        if self.propagates() {
            match op.rounding() {
                Rounding::TowardZero => self.asm.vcvt_to_int(double, w, CONVERT_TRUNCATED, d, a),
                _ => {
                    self.rounded(op, |g| g.asm.vcvt_to_int(double, w, CONVERT_ROUNDED, d, a));
                }
            }
            if w == Width::W32 {
                self.asm.movsxd(d, d.into());
            }
            return Ok(());
        }
        if let (Some(mode), true, Width::W32) = (fixed_mode(op.rounding()), double, w)
            && op.rounding() != Rounding::TowardZero
        {
            self.double_to_word(d, a, mode);
            return Ok(());
        }
        self.float_to_signed(op, w, d, a);
        self.asm.alu_imm(Alu::Cmp, w, d.into(), 1);
        let invalid = self.asm.jcc(Cc::O);
        let back = self.asm.here();
        if w == Width::W32 {
            self.asm.movsxd(d, d.into());
        }
        self.fix(invalid, back, move |asm| {
            asm.vlogic(0x57, X0, X0, X0.into());
            asm.vcompare(double, UCOMIS, X0, a);
            // Carry: 0 < a, or a is a NaN.
            let negative = asm.jcc(Cc::Ae);
            asm.mov_imm(d, if w == Width::W64 { i64::MAX as u64 } else { i32::MAX as u64 });
            asm.bind(negative);
        });
        Ok(())
    }

    /// The host's conversion to a signed integer, in the operation's rounding mode. With one of its own,
    /// it becomes an integral value first: what that changes, and calls inexact, is in range (unless
    /// a double becomes a word).
    fn float_to_signed(&mut self, op: &Op, w: Width, d: Gpr, a: Xmm) {
        let double = op.ty == Type::F64;
        match fixed_mode(op.rounding()) {
            None => self.asm.vcvt_to_int(double, w, CONVERT_ROUNDED, d, a),
            Some(TOWARD_ZERO) => self.asm.vcvt_to_int(double, w, CONVERT_TRUNCATED, d, a),
            Some(mode) => {
                self.asm.vround(double, X0, a, mode);
                self.asm.vcvt_to_int(double, w, CONVERT_TRUNCATED, d, X0);
            }
        }
    }

    /// A double to a signed word in a mode of its own: it is rounded once without flags, to see
    /// whether the word holds it, and once more for them if so.
    fn double_to_word(&mut self, d: Gpr, a: Xmm, mode: u8) {
        const SMALLEST: u64 = 0xc1e0_0000_0000_0000; // −2³¹
        self.asm.vmov(X1, a);
        self.asm.vround(true, X0, a, mode | QUIET);
        self.asm.vcvt_to_int(true, Width::W32, CONVERT_TRUNCATED, d, X0);
        self.asm.alu_imm(Alu::Cmp, Width::W32, d.into(), 1);
        let smallest = self.asm.jcc(Cc::O);
        let back = self.asm.here();
        self.asm.vround(true, X1, X1, mode);
        self.asm.movsxd(d, d.into());
        self.fix(smallest, back, move |asm| {
            asm.vmovq_to(Width::W64, RAX, X0);
            asm.mov_imm(RCX, SMALLEST);
            asm.alu(Alu::Cmp, Width::W64, RAX, RCX.into());
            let holds = asm.jcc(Cc::E);
            asm.vlogic(0x57, X1, X1, X1.into());
            asm.vcompare(true, UCOMIS, X1, a);
            // Carry: 0 < a, or a is a NaN.
            let negative = asm.jcc(Cc::Ae);
            asm.mov_imm(d, i32::MAX as u64);
            asm.bind(negative);
            asm.bind(holds);
        });
    }

    /// Unsigned: what a signed 64-bit integer holds is right; the rest is done again out of line, with
    /// the flags there were before.
    fn truncate_unsigned(&mut self, op: &Op) -> Result<(), CompileError> {
        let (double, narrow) = (op.ty == Type::F64, op.float_aux() == 32);
        let a = self.float(op.a)?;
        let d: Gpr = self.define_int(op, None)?;
        let before = core_mem(offset_of!(Core, flags_mxcsr));
        self.asm.mxcsr(3, before);
        self.float_to_signed(op, Width::W64, d, a);
        let outside = if narrow {
            self.asm.rorx(Width::W64, RAX, d.into(), 32);
            self.asm.test(Width::W32, RAX, RAX);
            self.asm.jcc(Cc::Ne)
        } else {
            self.asm.test(Width::W64, d, d);
            self.asm.jcc(Cc::L)
        };
        let back = self.asm.here();
        if narrow {
            self.asm.movsxd(d, d.into());
        }
        self.fix(outside, back, move |asm| {
            asm.mxcsr(2, before);
            let done = (!narrow).then(|| upper_half(asm, double, d, a));
            // Too large and NaN become the largest, the negative zero.
            asm.alu_imm(Alu::Or, Width::W32, before.into(), MXCSR_INVALID);
            asm.vlogic(0x57, X0, X0, X0.into());
            asm.mov_imm(d, 0);
            asm.vcompare(double, UCOMIS, X0, a);
            let negative = asm.jcc(Cc::Ae);
            asm.mov_imm(d, u64::MAX);
            asm.bind(negative);
            asm.mxcsr(2, before);
            if let Some(done) = done {
                asm.bind(done);
            }
        });
        Ok(())
    }
}

/// The immediate of the host's comparisons.
pub(super) fn predicate(cond: FpCond) -> u8 {
    use FpCond as C;
    match cond {
        C::EqQuiet => 0x00,
        C::LtSignal => 0x01,
        C::LeSignal => 0x02,
        C::Un => 0x03,
        C::Ne => 0x04,
        C::NotLtSignal => 0x05,
        C::NotLeSignal => 0x06,
        C::Ord => 0x07,
        C::EqUn => 0x08,
        C::Never => 0x0b,
        C::LtGt => 0x0c,
        C::Always => 0x0f,
        C::EqSignal => 0x10,
        C::LtQuiet => 0x11,
        C::LeQuiet => 0x12,
        C::UnSignal => 0x13,
        C::NeSignal => 0x14,
        C::NotLt => 0x15,
        C::NotLe => 0x16,
        C::OrdSignal => 0x17,
        C::EqUnSignal => 0x18,
        C::NeverSignal => 0x1b,
        C::LtGtSignal => 0x1c,
        C::AlwaysSignal => 0x1f,
    }
}

/// From 2⁶³ on floats are integers: less 2⁶³ they convert without a flag if they are below 2⁶⁴, which
/// goes to the returned place with the result in `d`.
fn upper_half(asm: &mut Asm, double: bool, d: Gpr, a: Xmm) -> super::asm::Patch {
    let offset =
        if double { offset_of!(Consts, half_range64) } else { offset_of!(Consts, half_range32) };
    asm.vload(double, X0, constant(offset));
    asm.vcompare(double, UCOMIS, a, X0);
    let below = asm.jcc(Cc::B);
    asm.vscalar(double, SUB, X0, a, X0.into());
    asm.vcvt_to_int(double, Width::W64, CONVERT_TRUNCATED, d, X0);
    asm.mov_imm(RAX, 1 << 63);
    asm.alu(Alu::Xor, Width::W64, d, RAX.into());
    asm.test(Width::W64, d, d);
    let fits = asm.jcc(Cc::L);
    asm.bind(below);
    fits
}

/// The mode in MXCSR and in immediates; none to leave it to MXCSR.
pub(super) fn fixed_mode(rounding: Rounding) -> Option<u8> {
    match rounding {
        Rounding::Current => None,
        Rounding::Nearest => Some(0),
        Rounding::Down => Some(1),
        Rounding::Up => Some(2),
        Rounding::TowardZero => Some(TOWARD_ZERO),
    }
}

/// Switches MXCSR to a rounding mode, keeping the flags. Uses RAX.
fn enter_mode(asm: &mut Asm, mode: u8) {
    let saved = core_mem(offset_of!(Core, saved_mxcsr));
    let scratch = core_mem(offset_of!(Core, scratch_mxcsr));
    asm.mxcsr(3, saved);
    asm.load(Width::W32, RAX, saved);
    asm.alu_imm(Alu::And, Width::W32, RAX.into(), !(3 << 13));
    asm.alu_imm(Alu::Or, Width::W32, RAX.into(), i32::from(mode) << 13);
    asm.store(Width::W32, scratch, RAX);
    asm.mxcsr(2, scratch);
}

/// Back to the mode before [`enter_mode`], with the flags of both. Uses RAX.
fn leave_mode(asm: &mut Asm) {
    let saved = core_mem(offset_of!(Core, saved_mxcsr));
    let scratch = core_mem(offset_of!(Core, scratch_mxcsr));
    asm.mxcsr(3, scratch);
    asm.load(Width::W32, RAX, scratch);
    asm.alu_imm(Alu::And, Width::W32, RAX.into(), MXCSR_FLAGS);
    asm.alu(Alu::Or, Width::W32, RAX, saved.into());
    asm.store(Width::W32, saved, RAX);
    asm.mxcsr(2, saved);
}

fn constant(offset: usize) -> Mem {
    core_mem(offset_of!(Core, consts) + offset)
}

fn nan_of(double: bool) -> Mem {
    constant(if double { offset_of!(Consts, nan64) } else { offset_of!(Consts, nan32) })
}
