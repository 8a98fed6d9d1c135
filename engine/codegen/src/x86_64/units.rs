//! Operations for which some hosts have units and others do not: the instruction, or a function in its place.

use super::asm::gpr::{RAX, RCX, RDI, RSI};
use super::asm::{Alu, Cc, Width, Xmm};
use super::lower::Generator;
use super::thunks::core_mem;
use super::vector::m3a;
use crate::CompileError;
use crate::layout::Core;
use ir::{Op, OpKind, Operand, cipher::Block, sha};
use std::mem::offset_of;

/// Scratch vectors; the first is an operand that one instruction does not name.
const X0: Xmm = Xmm(0);
const X1: Xmm = Xmm(1);

/// A function in place of an instruction: the vectors of the frame, of which the first three are operands, the
/// first also the result, and a byte.
pub type Soft = extern "C" fn(&mut [[u64; 4]; 16], u64);

/// Operations on blocks that may need a function: the last byte of the instruction, and that function.
const ROWS: [(OpKind, u8, Soft); 7] = [
    (OpKind::VSha256Rounds, 0xcb, sha256_rounds),
    (OpKind::VSha256First, 0xcc, sha256_first),
    (OpKind::VSha256Last, 0xcd, sha256_last),
    (OpKind::VSha1Rounds, 0xcc, sha1_rounds),
    (OpKind::VSha1Next, 0xc8, sha1_next),
    (OpKind::VSha1First, 0xc9, sha1_first),
    (OpKind::VSha1Last, 0xca, sha1_last),
];

/// The functions, in the order of [`ROWS`].
pub static SOFT: [Soft; ROWS.len()] = {
    let mut table = [ROWS[0].2; ROWS.len()];
    let mut row = 0;
    while row < ROWS.len() {
        table[row] = ROWS[row].2;
        row += 1;
    }
    table
};

/// The row of an operation that may need a function.
pub(super) fn row_of(kind: OpKind) -> Option<usize> {
    ROWS.iter().position(|(known, ..)| *known == kind)
}

macro_rules! soft {
    ($($name:ident($a:ident, $b:ident, $c:ident, $byte:ident) $value:expr;)*) => { $(
        extern "C" fn $name(frame: &mut [[u64; 4]; 16], $byte: u64) {
            let [$a, $b, $c] = [0, 1, 2].map(|i: usize| block(&frame[i]));
            let value: Block = $value;
            let (words, _) = value.as_chunks::<8>();
            for (to, from) in frame[0].iter_mut().zip(words) {
                *to = u64::from_le_bytes(*from);
            }
            let _all = ($b, $c, $byte);
        }
    )* };
}

soft! {
    sha256_rounds(a, b, c, byte) sha::sha256_rounds(a, b, c);
    sha256_first(a, b, c, byte) sha::sha256_message1(a, b);
    sha256_last(a, b, c, byte) sha::sha256_message2(a, b);
    sha1_rounds(a, b, c, byte) sha::sha1_rounds(a, b, byte as u8);
    sha1_next(a, b, c, byte) sha::sha1_next(a, b);
    sha1_first(a, b, c, byte) sha::sha1_message1(a, b);
    sha1_last(a, b, c, byte) sha::sha1_message2(a, b);
}

fn block(words: &[u64; 4]) -> Block {
    std::array::from_fn(|i| words[i / 8].to_le_bytes()[i % 8])
}

impl Generator<'_> {
    /// An operation of [`ROWS`].
    pub(super) fn by_unit(&mut self, op: &Op, row: usize) -> Result<(), CompileError> {
        if !self.target.host.sha {
            return self.by_function(op, row);
        }
        let (a, b) = (self.vector(op.a)?, self.vector(op.b)?);
        if op.c != Operand::NONE {
            let c = self.vector(op.c)?;
            self.vector_move(op, X0, c);
        }
        let d = self.define_vector(op, Some(op.a))?;
        let by = if d == b && d != a { X1 } else { b };
        self.vector_move(op, by, b);
        self.vector_move(op, d, a);
        let is_byte = op.kind == OpKind::VSha1Rounds;
        self.asm.sha(ROWS[row].1, is_byte, d, by);
        if is_byte {
            self.asm.imm8(op.lane_aux() as u8 & 3);
        }
        Ok(())
    }

    fn by_function(&mut self, op: &Op, row: usize) -> Result<(), CompileError> {
        let place = |i: usize| core_mem(offset_of!(Core, frame.xmm) + 32 * i);
        for (i, operand) in op.operands().enumerate() {
            let value = self.vector(operand)?;
            self.asm.vector_store(false, place(i), value);
        }
        self.kill_operands(op);
        let lost = self.before_function()?;
        self.asm.lea(Width::W64, RDI, place(0));
        self.asm.mov_imm(RSI, op.lane_aux().into());
        self.call_function(core_mem(offset_of!(Core, soft)), row, lost);
        let d = self.define_vector(op, None)?;
        self.asm.vector_load(false, d, place(0));
        Ok(())
    }

    /// The index and the flags of a comparison of texts.
    pub(super) fn text_index(&mut self, op: &Op) -> Result<(), CompileError> {
        let (a, b) = (self.vector(op.a)?, self.vector(op.b)?);
        let d = self.define_int(op, None)?;
        self.v(op, m3a(0x63), a, X0, b);
        self.asm.imm8(op.lane_aux() as u8);
        // The index is in rcx. Of the flags, OF comes into al, CF, ZF and SF into ah.
        self.asm.lahf();
        self.asm.setcc(Cc::O, RAX);
        self.asm.movzx8(d, RAX.into());
        self.asm.shift_imm(Width::W32, 4, d, 11);
        self.asm.bextr_high_byte(RAX, RAX);
        self.asm.alu_imm(Alu::And, Width::W32, RAX.into(), 0xc1);
        self.asm.alu(Alu::Or, Width::W32, d, RAX.into());
        self.asm.shift_imm(Width::W64, 4, d, 32);
        self.asm.alu(Alu::Or, Width::W64, d, RCX.into());
        self.defined(op);
        Ok(())
    }
}
