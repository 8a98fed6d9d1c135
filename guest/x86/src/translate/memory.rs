//! Addresses of operands in memory.

use super::Translator;
use crate::decode::{Insn, Memory};
use crate::helpers::HelperIndex;
use crate::state::{mode, seg};
use ir::{MemOp, Operand};

/// The unsigned access of a size in bytes.
pub(crate) fn unsigned(size: u8) -> MemOp {
    match size {
        1 => MemOp::U8,
        2 => MemOp::U16,
        4 => MemOp::U32,
        _ => MemOp::U64,
    }
}

impl Translator<'_, '_> {
    /// An access of `size` bytes, with the alignment rule in force.
    pub(crate) fn mem(&self, size: u8) -> MemOp {
        let mem = unsigned(size);
        if self.flags & mode::ALIGN != 0 { mem.aligned() } else { mem }
    }

    /// The effective address of the memory operand, without segment, and what is to be added.
    fn effective(&mut self, i: &Insn, m: &Memory) -> (Operand, i64) {
        if m.rip {
            let at = self.next.wrapping_add_signed(m.disp);
            let at = if i.address_size == 4 { at & 0xffff_ffff } else { at };
            return (self.b.imm(at), 0);
        }
        let index = m.index.map(|index| {
            let (index, scale) = (self.x(index), self.b.imm(m.scale.into()));
            self.b.shl(index, scale)
        });
        let base = m.base.map(|base| self.x(base));
        if i.address_size == 8 {
            return match (base, index) {
                (Some(base), Some(index)) => (self.b.add(base, index), m.disp),
                (Some(one), None) | (None, Some(one)) => (one, m.disp),
                (None, None) => (self.imm(m.disp), 0),
            };
        }
        let disp = self.imm(m.disp);
        let sum = match (base, index) {
            (Some(base), Some(index)) => {
                let sum = self.b.add32(base, index);
                if m.disp == 0 { sum } else { self.b.add32(sum, disp) }
            }
            (Some(one), None) | (None, Some(one)) if m.disp != 0 => self.b.add32(one, disp),
            (Some(one), None) | (None, Some(one)) => one,
            (None, None) => disp,
        };
        let bits = if i.address_size == 2 { 16 } else { 32 };
        (self.b.zext(sum, bits), 0)
    }

    /// The effective address as a value, for `lea`.
    pub(crate) fn effective_address(&mut self, i: &Insn) -> Operand {
        let Some(m) = i.memory else { return self.b.imm(0) };
        let (base, offset) = self.effective(i, &m);
        let offset = self.imm(offset);
        self.b.add(base, offset)
    }

    /// The linear address of the memory operand, of which `size` bytes are accessed, and what is to
    /// be added.
    pub(crate) fn address(&mut self, i: &Insn, size: u8) -> (Operand, i64) {
        let Some(m) = i.memory else { return (self.b.imm(0), 0) };
        let (base, offset) = self.effective(i, &m);
        self.in_segment(m.segment, (base, offset), size)
    }

    /// An address in a segment as a linear one.
    pub(crate) fn in_segment(
        &mut self,
        segment: u8,
        (base, offset): (Operand, i64),
        size: u8,
    ) -> (Operand, i64) {
        let of_thread = matches!(segment, seg::FS | seg::GS);
        if self.is_long() {
            if !of_thread {
                return (base, offset);
            }
            let start = self.segment_base(segment);
            return (self.b.add(start, base), offset);
        }
        let flat = match segment {
            seg::FS => mode::FS_FLAT,
            seg::GS => mode::GS_FLAT,
            _ => mode::FLAT,
        };
        if self.flags & flat == 0 {
            let offset = self.imm(offset);
            let at = self.b.add32(base, offset);
            let what = self.b.imm(u64::from(segment) | u64::from(size) << 8);
            return (self.call(HelperIndex::Linear, &[what, at]), 0);
        }
        if of_thread {
            let start = self.segment_base(segment);
            let offset = self.imm(offset);
            let sum = self.b.add32(start, base);
            return (self.b.add32(sum, offset), 0);
        }
        (base, offset)
    }
}
