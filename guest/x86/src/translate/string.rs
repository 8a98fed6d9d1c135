//! String instructions. With a repetition prefix, one round is a unit that goes back to itself, so that
//! interrupts are taken between rounds and faults leave the registers of their round.

use super::{Place, Translator};
use crate::decode::{Insn, Rep};
use crate::flags::Kind;
use crate::helpers::HelperIndex;
use crate::state::{gpr, mode, seg};
use ir::{Cond, Hint, Label, Operand};

/// What a round of a string instruction moves.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Moves {
    Source,
    Destination,
    Both,
}

impl Translator<'_, '_> {
    fn element(i: &Insn) -> u8 {
        if i.opcode & 1 == 0 { 1 } else { i.size }
    }

    /// The element at rSI.
    fn source_place(&mut self, i: &Insn) -> Place {
        let at = self.x(gpr::RSI);
        let at = self.zx(at, i.address_size);
        let segment = i.segment.unwrap_or(seg::DS);
        let (base, offset) = self.in_segment(segment, (at, 0), Self::element(i));
        Place::Memory(base, offset)
    }

    /// The element at rDI, always in ES.
    fn destination_place(&mut self, i: &Insn) -> Place {
        let at = self.x(gpr::RDI);
        let at = self.zx(at, i.address_size);
        let (base, offset) = self.in_segment(seg::ES, (at, 0), Self::element(i));
        Place::Memory(base, offset)
    }

    /// rSI and rDI move on.
    fn advance(&mut self, i: &Insn, moves: Moves) {
        let size = i64::from(Self::element(i));
        let by = if self.flags & mode::DF != 0 { -size } else { size };
        for (n, other) in [(gpr::RSI, Moves::Destination), (gpr::RDI, Moves::Source)] {
            if moves != other {
                let (x, by) = (self.x(n), self.imm(by));
                let sum = self.b.add(x, by);
                self.put(Place::Gpr(n), i.address_size, sum);
            }
        }
    }

    /// Begins a round: past the instruction if the count is zero.
    fn begin_round(&mut self, i: &Insn) -> Option<Label> {
        if !Self::repeats(i) {
            return None;
        }
        let done = self.b.label();
        let (count, zero) = (self.x(gpr::RCX), self.b.imm(0));
        let count = self.zx(count, i.address_size);
        self.b.branch_if(Cond::Eq, count, zero, done);
        Some(done)
    }

    /// Ends a round: the count is one less; again unless `stop` says so.
    fn end_round(&mut self, i: &Insn, done: Option<Label>) {
        let Some(done) = done else { return };
        let (count, one) = (self.x(gpr::RCX), self.b.imm(1));
        let count = self.b.sub(count, one);
        self.put(Place::Gpr(gpr::RCX), i.address_size, count);
        self.b.exit(self.pc, Hint::Jump);
        self.finish(done);
    }

    fn finish(&mut self, done: Label) {
        self.b.place(done);
        self.cc = None;
        self.exit(self.next, Hint::Jump);
    }

    pub(super) fn string_move(&mut self, i: &Insn) {
        if Self::repeats(i) && self.moves_many(i) {
            return;
        }
        let done = self.begin_round(i);
        let from = self.source_place(i);
        let value = self.get(from, Self::element(i));
        let to = self.destination_place(i);
        self.put(to, Self::element(i), value);
        self.advance(i, Moves::Both);
        self.end_round(i, done);
    }

    pub(super) fn string_store(&mut self, i: &Insn) {
        if Self::repeats(i) && self.moves_many(i) {
            return;
        }
        let done = self.begin_round(i);
        let value = self.x(gpr::RAX);
        let to = self.destination_place(i);
        self.put(to, Self::element(i), value);
        self.advance(i, Moves::Destination);
        self.end_round(i, done);
    }

    /// `rep movs`, `rep stos` upwards in flat memory: a helper does as much as is fit at a time.
    fn moves_many(&mut self, i: &Insn) -> bool {
        let flat = self.is_long() || self.flags & mode::FLAT != 0;
        let of_thread = matches!(i.segment, Some(seg::FS | seg::GS));
        if !flat || of_thread || self.flags & (mode::DF | mode::ALIGN) != 0 {
            return false;
        }
        let store = i.opcode >= 0xaa;
        let what =
            u64::from(Self::element(i)) | u64::from(store) << 8 | u64::from(i.address_size) << 16;
        let what = self.b.imm(what);
        let left = self.call(HelperIndex::RepeatMove, &[what]);
        let zero = self.b.imm(0);
        self.b.exit_if(Cond::Ne, left, zero, self.pc);
        self.exit(self.next, Hint::Jump);
        true
    }

    pub(super) fn string_load(&mut self, i: &Insn) {
        let done = self.begin_round(i);
        let from = self.source_place(i);
        let value = self.get(from, Self::element(i));
        let value = self.b.copy(value);
        self.advance(i, Moves::Source);
        self.put(Place::Gpr(gpr::RAX), Self::element(i), value);
        self.end_round(i, done);
    }

    pub(super) fn string_compare(&mut self, i: &Insn) {
        let done = self.begin_round(i);
        let size = Self::element(i);
        let from = self.source_place(i);
        let x = self.get(from, size);
        let x = self.b.copy(x);
        let to = self.destination_place(i);
        let y = self.get(to, size);
        let y = self.b.copy(y);
        self.compared(i, (x, y), Moves::Both, done);
    }

    pub(super) fn string_scan(&mut self, i: &Insn) {
        let done = self.begin_round(i);
        let size = Self::element(i);
        let to = self.destination_place(i);
        let y = self.get(to, size);
        let y = self.b.copy(y);
        let rax = self.x(gpr::RAX);
        let x = self.zx(rax, size);
        self.compared(i, (x, y), Moves::Destination, done);
    }

    /// Flags of a comparison; with a prefix, again while the two are equal, or are not.
    fn compared(
        &mut self,
        i: &Insn,
        (x, y): (Operand, Operand),
        moves: Moves,
        done: Option<Label>,
    ) {
        self.flags_from(Kind::Sub, Self::element(i), x, y);
        self.advance(i, moves);
        let Some(done) = done else { return };
        let (count, one) = (self.x(gpr::RCX), self.b.imm(1));
        let count = self.b.sub(count, one);
        self.put(Place::Gpr(gpr::RCX), i.address_size, count);
        let cond = if i.rep == Rep::F3 { Cond::Eq } else { Cond::Ne };
        self.b.exit_if(cond, x, y, self.pc);
        self.b.branch(done);
        self.finish(done);
    }
}
