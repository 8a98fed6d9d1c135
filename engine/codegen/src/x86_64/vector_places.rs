//! Vector operations that move lanes to other places.

use super::asm::{Map, Pp, Vex, Xmm};
use super::lower::Generator;
use super::vector::{
    EXTRACTI128, INSERTI128, PADDUSB, PERMQ, POR, PSHUFB, PSUB, constant, m3a, m38, row, wide,
};
use crate::CompileError;
use crate::layout::VectorConsts;
use ir::{Op, OpKind};
use std::mem::offset_of;

const X0: Xmm = Xmm(0);
const X1: Xmm = Xmm(1);
const PALIGNR: Vex = m3a(0x0f);
const PERM2I128: Vex = m3a(0x46);
const MOVAPS: Vex = Vex::new(Pp::None, Map::M0F, 0x28);

impl Generator<'_> {
    pub(super) fn lower_rearrangement(&mut self, op: &Op) -> Result<(), CompileError> {
        match op.kind {
            OpKind::VIota => {
                let d = self.define_vector(op, None)?;
                let from = row(offset_of!(VectorConsts, iota), op.lane() as usize);
                self.asm.vector_load(wide(op), d, from);
                Ok(())
            }
            OpKind::VNarrow => self.narrow(op),
            OpKind::VShuffle => self.shuffle(op),
            OpKind::VAlign => self.align(op),
            _ => self.widen(op),
        }
    }

    fn widen(&mut self, op: &Op) -> Result<(), CompileError> {
        let a = self.vector(op.a)?;
        let d = self.define_vector(op, Some(op.a))?;
        let signed = if op.kind == OpKind::VWiden { 0x20 } else { 0x30 };
        let opcode = signed + [0, 0, 3, 5][op.lane() as usize];
        self.v(op, m38(opcode), d, X0, a);
        Ok(())
    }

    /// In each half, then the halves' results side by side.
    fn narrow(&mut self, op: &Op) -> Result<(), CompileError> {
        let a = self.vector(op.a)?;
        let d = self.define_vector(op, Some(op.a))?;
        let places = row(offset_of!(VectorConsts, narrow), op.lane() as usize);
        self.v(op, PSHUFB, d, a, places);
        if wide(op) {
            self.v(op, PERMQ, d, X0, d);
            self.asm.imm8(0b11_01_10_00);
        }
        Ok(())
    }

    /// The host looks at four bits of an index, and answers zero where it is negative. Of a wide vector
    /// each half is looked through, with indexes that fit it.
    fn shuffle(&mut self, op: &Op) -> Result<(), CompileError> {
        let (a, b) = (self.vector(op.a)?, self.vector(op.b)?);
        let d = self.define_vector(op, None)?;
        let bias = constant(offset_of!(VectorConsts, index_bias));
        self.v(op, PADDUSB, X0, b, bias);
        if !wide(op) {
            self.v(op, PSHUFB, d, a, X0);
            return Ok(());
        }
        self.v(op, PERM2I128, d, a, a);
        self.asm.imm8(0x00);
        self.v(op, PSHUFB, d, d, X0);
        // (index − 16), so that the low half's are negative.
        self.asm.vector_load(true, X1, constant(offset_of!(VectorConsts, sixteen)));
        self.v(op, PSUB[0], X1, b, X1);
        self.v(op, PADDUSB, X1, X1, bias);
        self.v(op, PERM2I128, X0, a, a);
        self.asm.imm8(0x11);
        self.v(op, PSHUFB, X0, X0, X1);
        self.v(op, POR, d, d, X0);
        Ok(())
    }

    fn align(&mut self, op: &Op) -> Result<(), CompileError> {
        let (a, b) = (self.vector(op.a)?, self.vector(op.b)?);
        let d = self.define_vector(op, None)?;
        let count = op.lane_aux() as u8 * op.lane().bytes() as u8;
        if !wide(op) {
            self.v(op, PALIGNR, d, b, a);
            self.asm.imm8(count);
            return Ok(());
        }
        // The high half of a, and the low one of b.
        self.v(op, PERM2I128, X0, a, b);
        self.asm.imm8(0x21);
        if count < 16 {
            self.v(op, PALIGNR, d, X0, a);
            self.asm.imm8(count);
        } else {
            self.v(op, PALIGNR, d, b, X0);
            self.asm.imm8(count - 16);
        }
        Ok(())
    }

    pub(super) fn lower_halves(&mut self, op: &Op) -> Result<(), CompileError> {
        let a = self.vector(op.a)?;
        match op.kind {
            // A move of 128 bits clears what is above them.
            OpKind::VExtend => {
                let d = self.define_vector(op, Some(op.a))?;
                self.asm.v(false, MOVAPS, d, X0, a);
            }
            OpKind::VJoin => {
                let b = self.vector(op.b)?;
                let d = self.define_vector(op, Some(op.a))?;
                self.v(op, INSERTI128, d, a, b);
                self.asm.imm8(1);
            }
            _ if op.lane_aux() == 0 => {
                let d = self.define_vector(op, Some(op.a))?;
                self.asm.vmov(d, a);
            }
            _ => {
                let d = self.define_vector(op, Some(op.a))?;
                self.asm.vector(true, EXTRACTI128, a.0, 0, d.into());
                self.asm.imm8(1);
            }
        }
        Ok(())
    }
}
