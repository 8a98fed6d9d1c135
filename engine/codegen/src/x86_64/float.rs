//! Floating-point operations, on the host's scalar instructions.
//!
//! Results are bit-exact for ISAs whose rules are: round as MXCSR says, tininess after rounding,
//! NaN results are the default NaN. MXCSR collects the flags. The out-of-line parts repair what
//! the host does otherwise: its NaNs and the values of conversions that do not fit.

use super::asm::gpr::{RAX, RBP, RCX};
use super::asm::{Alu, Asm, Cc, Gpr, Mem, Width, Xmm};
use super::lower::{Generator, Tail};
use super::thunks::{core_disp, core_mem};
use crate::CompileError;
use crate::layout::{Consts, Core};
use ir::{FpCond, Op, OpKind, Rounding, Type};
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
/// The six exception flags of MXCSR.
const MXCSR_FLAGS: i32 = 0x3f;
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
            K::FFromInt => self.convert_signed(op)?,
            K::FFromUInt => self.convert_unsigned(op)?,
            K::FlagsGet => self.flags_get(op)?,
            K::FlagsClear => self.flags_clear(),
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
        let table = core_disp(offset_of!(Core, consts) + offset_of!(Consts, flags));
        self.asm.movzx8(d, Mem::indexed(RBP, RAX, table).into());
        Ok(())
    }

    fn flags_clear(&mut self) {
        let saved = core_mem(offset_of!(Core, scratch_mxcsr));
        self.asm.mxcsr(3, saved);
        self.asm.alu_imm(Alu::And, Width::W32, saved.into(), !MXCSR_FLAGS);
        self.asm.mxcsr(2, saved);
    }

    fn unbox(&mut self, op: &Op) -> Result<(), CompileError> {
        let a = self.float(op.a)?;
        let d = self.define_float(op, Some(op.a))?;
        self.asm.vmovq_to(Width::W64, RAX, a);
        self.asm.vmov(d, a);
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
        self.asm.vcompare(double, UCOMIS, d, d);
        let nan = self.asm.jcc(Cc::P);
        let back = self.asm.here();
        self.fix(nan, back, move |asm| asm.vload(true, d, nan_of(double)));
    }

    fn float2(&mut self, op: &Op, opcode: u8) -> Result<(), CompileError> {
        let double = op.ty == Type::F64;
        let (a, b) = (self.float(op.a)?, self.float(op.b)?);
        let d = self.define_float(op, Some(op.a))?;
        self.asm.vscalar(double, opcode, d, a, b.into());
        self.default_nan(double, d);
        Ok(())
    }

    /// The host's instruction gives its second operand when both are zeros: both orders together
    /// have both signs. It also calls quiet NaNs invalid, so NaNs are looked for before.
    fn float_extremum(&mut self, op: &Op, opcode: u8, combine: u8) -> Result<(), CompileError> {
        let double = op.ty == Type::F64;
        let (a, b) = (self.float(op.a)?, self.float(op.b)?);
        let d = self.define_float(op, None)?;
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
        match op.kind {
            OpKind::FSqrt => self.asm.vscalar(double, SQRT, d, a, a.into()),
            // The instruction is named by its source, the operation by its result.
            _ => self.asm.vscalar(!double, CONVERT, d, a, a.into()),
        }
        self.default_nan(double, d);
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
        self.asm.vfma231(double, opcode, X0, a, b);
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
            FpCond::LeSignal | FpCond::LeQuiet => {
                self.asm.vcompare(double, opcode, b, a);
                self.asm.setcc(Cc::Ae, RAX);
            }
        }
        self.asm.movzx8(d, RAX.into());
        Ok(())
    }

    fn convert_signed(&mut self, op: &Op) -> Result<(), CompileError> {
        let a = self.int(op.a)?;
        let d = self.define_float(op, None)?;
        let w = if op.aux == 32 { Width::W32 } else { Width::W64 };
        self.asm.vlogic(0x57, d, d, d.into());
        self.asm.vcvt_from_int(op.ty == Type::F64, w, d, d, a);
        Ok(())
    }

    /// Unsigned: 32 bits fit into a signed 64; 64 bits above the middle are halved, with the lost
    /// bit kept sticky, converted and doubled.
    fn convert_unsigned(&mut self, op: &Op) -> Result<(), CompileError> {
        let double = op.ty == Type::F64;
        let a = self.int(op.a)?;
        let d = self.define_float(op, None)?;
        self.asm.vlogic(0x57, d, d, d.into());
        if op.aux == 32 {
            self.asm.mov(Width::W32, RAX, a);
            self.asm.vcvt_from_int(double, Width::W64, d, d, RAX);
            return Ok(());
        }
        self.asm.test(Width::W64, a, a);
        let large = self.asm.jcc(Cc::L);
        self.asm.vcvt_from_int(double, Width::W64, d, d, a);
        let back = self.asm.here();
        self.fix(large, back, move |asm| {
            asm.mov(Width::W64, RAX, a);
            asm.mov(Width::W64, RCX, a);
            asm.shift_imm(Width::W64, 5, RAX, 1);
            asm.alu_imm(Alu::And, Width::W32, RCX.into(), 1);
            asm.alu(Alu::Or, Width::W64, RAX, RCX.into());
            asm.vcvt_from_int(double, Width::W64, d, d, RAX);
            asm.vscalar(double, ADD, d, d, d.into());
        });
        Ok(())
    }

    /// The host answers the most negative integer for whatever does not fit; NaN and what is too
    /// large become the most positive one.
    fn truncate_signed(&mut self, op: &Op) -> Result<(), CompileError> {
        let double = op.ty == Type::F64;
        let a = self.float(op.a)?;
        let d: Gpr = self.define_int(op, None)?;
        let w = if op.aux & 0xff == 32 { Width::W32 } else { Width::W64 };
        let opcode = match Rounding::from_code(op.aux >> 8) {
            Rounding::TowardZero => 0x2c,
            Rounding::Current => 0x2d,
        };
        self.asm.vcvt_to_int(double, w, opcode, d, a);
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
}

fn constant(offset: usize) -> Mem {
    core_mem(offset_of!(Core, consts) + offset)
}

fn nan_of(double: bool) -> Mem {
    constant(if double { offset_of!(Consts, nan64) } else { offset_of!(Consts, nan32) })
}
