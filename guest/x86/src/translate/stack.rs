//! The stack.

use super::{Place, Translator};
use crate::decode::{Fixed, Insn, Operand as Spec};
use crate::helpers::HelperIndex;
use crate::state::{gpr, mode, seg};
use ir::Operand;

impl Translator<'_, '_> {
    /// Bytes of the stack pointer.
    pub(crate) fn stack_size(&self) -> u8 {
        match () {
            () if self.is_long() => 8,
            () if self.flags & mode::STACK32 != 0 => 4,
            () => 2,
        }
    }

    /// The stack pointer plus something, in its own size.
    pub(crate) fn stack_offset(&mut self, base: u8, by: i64) -> Operand {
        let (rsp, by) = (self.x(base), self.imm(by));
        match self.stack_size() {
            8 => self.b.add(rsp, by),
            4 => self.b.add32(rsp, by),
            _ => {
                let sum = self.b.add(rsp, by);
                self.b.zext(sum, 16)
            }
        }
    }

    /// The place of `size` bytes at the stack pointer plus something.
    pub(crate) fn stack_place(&mut self, base: u8, by: i64, size: u8) -> Place {
        if self.is_long() {
            return Place::Memory(self.x(base), by);
        }
        let at = self.stack_offset(base, by);
        let at = if by == 0 { self.zx(at, self.stack_size()) } else { at };
        let (at, offset) = self.in_segment(seg::SS, (at, 0), size);
        Place::Memory(at, offset)
    }

    /// The stack pointer moves.
    pub(crate) fn move_stack(&mut self, by: i64) {
        let size = self.stack_size();
        let value = self.stack_offset(gpr::RSP, by);
        self.put(Place::Gpr(gpr::RSP), size, value);
    }

    /// Pushes a value that is no stack pointer of later.
    pub(crate) fn push_value(&mut self, value: Operand, size: u8) {
        let place = self.stack_place(gpr::RSP, -i64::from(size), size);
        self.put(place, size, value);
        self.move_stack(-i64::from(size));
    }

    /// What is on top of the stack, which stays.
    pub(crate) fn top(&mut self, at: i64, size: u8) -> Operand {
        let place = self.stack_place(gpr::RSP, at, size);
        self.get(place, size)
    }

    pub(super) fn push_operand(&mut self, i: &Insn) {
        let value = self.read(i, 0);
        if let Some(Spec::Fixed(_)) = i.entry.operands.first() {
            // A selector: of 32 bits, the upper half stays as it is in memory (SDM: on recent
            // processors), the pointer moves by all of it.
            let size = if i.size == 8 { 8 } else { 2 };
            let place = self.stack_place(gpr::RSP, -i64::from(i.size), size);
            self.put(place, size, value);
            return self.move_stack(-i64::from(i.size));
        }
        self.push_value(value, i.size);
    }

    pub(super) fn pop_operand(&mut self, i: &Insn) {
        let value = self.top(0, i.size);
        let value = self.b.copy(value);
        match i.memory {
            None if i.rm == gpr::RSP => {
                self.move_stack(i.size.into());
                self.write(i, 0, value);
            }
            None => {
                self.write(i, 0, value);
                self.move_stack(i.size.into());
            }
            Some(m) if m.base == Some(gpr::RSP) => {
                // The address is computed with the new pointer; a fault leaves the old one.
                self.keep(Self::scratch(0), value);
                let old = self.x(gpr::RSP);
                self.keep(Self::scratch(1), old);
                let value = self.b.reg(Self::scratch(0));
                let mut moved = *i;
                if let Some(m) = &mut moved.memory {
                    m.disp += i64::from(i.size);
                }
                self.write(&moved, 0, value);
                self.move_stack(i.size.into());
            }
            Some(_) => {
                self.write(i, 0, value);
                self.move_stack(i.size.into());
            }
        }
    }

    pub(super) fn pop_selector(&mut self, i: &Insn) {
        let number = match i.entry.operands.first() {
            Some(Spec::Fixed(Fixed::ES)) => seg::ES,
            Some(Spec::Fixed(Fixed::SS)) => seg::SS,
            Some(Spec::Fixed(Fixed::DS)) => seg::DS,
            Some(Spec::Fixed(Fixed::FS)) => seg::FS,
            _ => seg::GS,
        };
        let value = self.top(0, 2);
        let number = self.b.imm(number.into());
        self.call_effect(HelperIndex::LoadSegment, &[number, value]);
        self.move_stack(i.size.into());
        self.lookup_next();
    }

    pub(super) fn push_all(&mut self, i: &Insn) {
        let size = i64::from(i.size);
        for n in 0..8 {
            let value = self.x(n);
            let place = self.stack_place(gpr::RSP, -size * i64::from(n + 1), i.size);
            self.put(place, i.size, value);
        }
        self.move_stack(-8 * size);
    }

    pub(super) fn pop_all(&mut self, i: &Insn) {
        let size = i64::from(i.size);
        let order =
            [gpr::RDI, gpr::RSI, gpr::RBP, gpr::RSP, gpr::RBX, gpr::RDX, gpr::RCX, gpr::RAX];
        // All are read before any changes: a fault leaves them.
        let mut values = [Operand::NONE; 8];
        for (n, value) in (0..).zip(&mut values) {
            *value = self.top(size * n, i.size);
        }
        for (n, value) in order.into_iter().zip(values) {
            if n != gpr::RSP {
                self.put(Place::Gpr(n), i.size, value);
            }
        }
        self.move_stack(8 * size);
    }

    pub(super) fn enter_frame(&mut self, i: &Insn) {
        let (bytes, level) = (i.imm[0] & 0xffff, i.imm[1] & 31);
        let size = i64::from(i.size);
        let rbp = self.x(gpr::RBP);
        let place = self.stack_place(gpr::RSP, -size, i.size);
        self.put(place, i.size, rbp);
        let mut pushed = size;
        for n in 1..level {
            let place = self.stack_place(gpr::RBP, -size * n, i.size);
            let link = self.get(place, i.size);
            pushed += size;
            let place = self.stack_place(gpr::RSP, -pushed, i.size);
            self.put(place, i.size, link);
        }
        let frame = self.stack_offset(gpr::RSP, -size);
        let frame = self.b.copy(frame);
        if level > 0 {
            pushed += size;
            let place = self.stack_place(gpr::RSP, -pushed, i.size);
            self.put(place, i.size, frame);
        }
        // The new top must be there (SDM: “checks that the stack has space”).
        let top = self.stack_place(gpr::RSP, -pushed - bytes, i.size);
        self.get(top, i.size);
        self.move_stack(-pushed - bytes);
        self.put(Place::Gpr(gpr::RBP), i.size, frame);
    }

    pub(super) fn leave_frame(&mut self, i: &Insn) {
        let place = self.stack_place(gpr::RBP, 0, i.size);
        let value = self.get(place, i.size);
        let value = self.b.copy(value);
        let rsp = self.stack_offset(gpr::RBP, i.size.into());
        let size = self.stack_size();
        self.put(Place::Gpr(gpr::RSP), size, rsp);
        self.put(Place::Gpr(gpr::RBP), i.size, value);
    }
}
