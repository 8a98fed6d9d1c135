//! Jumps, calls and returns between segments of one privilege level, and far pointers.

use super::{Place, Translator};
use crate::decode::Insn;
use crate::helpers::HelperIndex;
use crate::state::seg;
use ir::ExitKind;

impl Translator<'_, '_> {
    /// `jmp`, `call` to another segment.
    pub(super) fn far(&mut self, i: &Insn, call: bool) {
        let (selector, offset) = match i.memory {
            Some(_) => {
                let (base, at) = self.address(i, i.size + 2);
                let offset = self.get(Place::Memory(base, at), i.size);
                let offset = self.zx(offset, i.size);
                let selector = self.get(Place::Memory(base, at + i64::from(i.size)), 2);
                (selector, offset)
            }
            None if i.entry.modrm => return self.undefined_instruction(),
            None => (self.imm(i.imm[1]), self.imm(i.imm[0])),
        };
        if call {
            let what = self.b.imm(u64::from(i.size));
            self.b.set_reg(Self::scratch(0), what);
            let next = self.ip_of(self.next);
            self.call_effect(HelperIndex::FarCall, &[selector, offset, next]);
        } else {
            self.call_effect(HelperIndex::FarJump, &[selector, offset]);
        }
        self.exit_loop(ExitKind::Redirected, self.next);
    }

    /// `retf`, `iret`.
    pub(super) fn return_far(&mut self, i: &Insn, interrupt: bool, more: i64) {
        let what = self.b.imm(u64::from(i.size) | u64::from(interrupt) << 8);
        let more = self.imm(more);
        self.call_effect(HelperIndex::FarReturn, &[what, more]);
        self.exit_loop(ExitKind::Redirected, self.next);
    }

    /// `les` and its kin: a pointer into a segment register and a general one.
    pub(super) fn load_far_pointer(&mut self, i: &Insn) {
        if i.memory.is_none() {
            return self.undefined_instruction();
        }
        let number = match (i.entry.map, i.opcode) {
            (0, 0xc4) => seg::ES,
            (0, _) => seg::DS,
            (_, 0xb2) => seg::SS,
            (_, 0xb4) => seg::FS,
            _ => seg::GS,
        };
        let (base, at) = self.address(i, i.size + 2);
        let offset = self.get(Place::Memory(base, at), i.size);
        self.keep(Self::scratch(0), offset);
        let selector = self.get(Place::Memory(base, at + i64::from(i.size)), 2);
        let number = self.b.imm(number.into());
        self.call_effect(HelperIndex::LoadSegment, &[number, selector]);
        let offset = self.b.reg(Self::scratch(0));
        self.write(i, 0, offset);
        self.lookup_next();
    }
}
