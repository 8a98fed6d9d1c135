//! V: register groups as vectors of the IR.
//!
//! A group is cut into vectors of 256 bits, or is one of 128 bits where it has no more. Elements
//! beyond `vl`, beyond the group and those that a mask leaves out keep their values: results are
//! blended with them.

use super::Translator;
use crate::state::flags::{self, Length};
use crate::state::{self};
use crate::vector::{Group, Illegal, Shape};
use ir::{Lane, OpKind, Operand, Type};

/// A vector instruction that is translated: what its operands are, and how long they are.
#[derive(Clone, Copy)]
pub(super) struct Work {
    pub(super) shape: Shape,
    /// Most elements.
    pub(super) vlmax: u32,
    /// Whether `vl` is less.
    pub(super) short: bool,
}

/// One vector of a group.
#[derive(Clone, Copy)]
pub(super) struct Piece {
    pub(super) ty: Type,
    pub(super) lane: Lane,
    /// Number of its first element.
    pub(super) first: u32,
}

/// An instruction that helpers must execute.
pub(super) struct ByHelper;

impl From<Illegal> for ByHelper {
    /// The helper raises the exception.
    fn from(_: Illegal) -> Self {
        Self
    }
}

pub(super) type Done = Result<(), ByHelper>;

impl Work {
    /// The lanes of elements of a width (log2 of bytes).
    pub(super) fn lane(eew: i32) -> Lane {
        Lane::ALL[eew.clamp(0, 3) as usize]
    }

    /// The vectors of groups with elements of a width.
    pub(super) fn pieces(&self, eew: i32) -> impl Iterator<Item = Piece> + use<> {
        let lane = Self::lane(eew);
        let bytes = self.vlmax as usize * lane.bytes();
        let ty = if bytes >= 32 { Type::V256 } else { Type::V128 };
        let each = (ty.bytes() / lane.bytes()) as u32;
        (0..self.vlmax.div_ceil(each)).map(move |i| Piece { ty, lane, first: i * each })
    }

    /// Byte of the vector registers at which an element of a group is.
    pub(super) fn place(&self, group: Group, element: u32) -> u32 {
        (group.first * self.shape.vlenb) as u32 + element * (1 << group.eew.max(0))
    }
}

impl Piece {
    /// Number of elements.
    pub(super) fn lanes(&self) -> u32 {
        (self.ty.bytes() / self.lane.bytes()) as u32
    }
}

impl Translator<'_, '_> {
    /// The present instruction, if the mode says what is needed to translate it.
    pub(super) fn work(&self) -> Result<Work, ByHelper> {
        let short = match flags::length(self.flags) {
            Length::Full => false,
            Length::Short => true,
            Length::Unknown | Length::Odd => return Err(ByHelper),
        };
        if flags::vs(self.flags) != flags::DIRTY {
            return Err(ByHelper);
        }
        let vtype = flags::vtype(self.flags);
        let vlmax = self.hart.vlmax(vtype).ok_or(ByHelper)? as u32;
        let shape = Shape::new(&self.hart.config, self.insn, vtype);
        Ok(Work { shape, vlmax, short })
    }

    /// A vector of a group.
    pub(super) fn get(&mut self, work: &Work, group: Group, piece: Piece) -> Operand {
        self.b.vget(piece.ty, work.place(group, piece.first))
    }

    /// Writes a vector of a group, as far as its elements are active.
    pub(super) fn put(&mut self, work: &Work, group: Group, piece: Piece, value: Operand) {
        let active = self.active(work, piece, !work.shape.unmasked());
        self.put_where(work, group, piece, active, value);
    }

    /// Writes the elements of a vector that a mask selects; all, if there is none.
    pub(super) fn put_where(
        &mut self,
        work: &Work,
        group: Group,
        piece: Piece,
        mask: Option<Operand>,
        value: Operand,
    ) {
        let at = work.place(group, piece.first);
        let value = match mask {
            None => value,
            Some(mask) => {
                let old = self.b.vget(piece.ty, at);
                self.b.vblend(piece.ty, mask, value, old)
            }
        };
        self.b.vput(piece.ty, at, value);
    }

    /// The mask of the elements of a vector that are below `vl` and, if `masked`, in `v0`. None if
    /// that is all of them.
    pub(super) fn active(&mut self, work: &Work, piece: Piece, masked: bool) -> Option<Operand> {
        let below = if work.short {
            let vl = self.b.reg(state::VL);
            Some(self.b.vbelow(piece.ty, piece.lane, vl, piece.first))
        } else if work.vlmax < piece.lanes() {
            let vlmax = self.b.imm(work.vlmax.into());
            Some(self.b.vbelow(piece.ty, piece.lane, vlmax, piece.first))
        } else {
            None
        };
        if !masked {
            return below;
        }
        let selected = self.selected(work, piece);
        Some(match below {
            Some(below) => self.b.vlogic(OpKind::VAnd, piece.ty, below, selected),
            None => selected,
        })
    }

    /// The mask of the elements of a vector that are in `v0`.
    pub(super) fn selected(&mut self, work: &Work, piece: Piece) -> Operand {
        let bits = self.mask_bits(work, 0, piece.first / 64);
        let by = self.b.imm(u64::from(piece.first % 64));
        let bits = self.b.shr(bits, by);
        self.b.vector1(OpKind::VFromBits, piece.ty, piece.lane, bits)
    }

    /// The elements of half the width that belong to a piece, in the low half of a vector of its type.
    pub(super) fn get_half(&mut self, work: &Work, group: Group, piece: Piece) -> Operand {
        let low = self.b.vget(Type::V128, work.place(group, piece.first));
        match piece.ty {
            Type::V256 => self.b.vector1(OpKind::VExtend, Type::V256, Lane::B8, low),
            _ => low,
        }
    }

    // Masks, 64 bits at a time.

    /// How many times 64 bits the mask of a group has.
    pub(super) fn mask_words(work: &Work) -> u32 {
        work.vlmax.div_ceil(64)
    }

    /// 64 bits of a mask register.
    pub(super) fn mask_bits(&mut self, work: &Work, register: usize, word: u32) -> Operand {
        let at = (register * work.shape.vlenb) as u32 + word / 2 * 16;
        let vector = self.b.vget(Type::V128, at);
        self.b.vextract(Type::V128, Lane::B64, (word % 2) as u16, vector)
    }

    /// Which of 64 elements are below `vl`; none if all are.
    pub(super) fn word_below(&mut self, work: &Work, word: u32) -> Option<Operand> {
        let first = word * 64;
        let most = (work.vlmax - first).min(64);
        if !work.short {
            return (most < 64).then(|| self.b.imm((1 << most) - 1));
        }
        let (vl, one, first) = (self.b.reg(state::VL), self.b.imm(1), self.b.imm(first.into()));
        if work.vlmax <= 64 {
            // It is less than 64.
            let bit = self.b.shl(one, vl);
            return Some(self.b.sub(bit, one));
        }
        let from = self.b.maxu(vl, first);
        let count = self.b.sub(from, first);
        let all = self.b.imm(64);
        let whole = self.b.setcond(ir::Cond::Geu, count, all);
        let bit = self.b.shl(one, count);
        let some = self.b.sub(bit, one);
        let ones = self.b.imm(u64::MAX);
        Some(self.b.select(whole, ones, some))
    }

    /// Which of 64 elements are active; none if all are.
    pub(super) fn word_active(&mut self, work: &Work, word: u32) -> Option<Operand> {
        let below = self.word_below(work, word);
        if work.shape.unmasked() {
            return below;
        }
        let selected = self.mask_bits(work, 0, word);
        Some(match below {
            Some(below) => self.b.and(below, selected),
            None => selected,
        })
    }

    /// Writes 64 bits of a mask register, those that `active` has set.
    pub(super) fn put_mask(
        &mut self,
        work: &Work,
        register: usize,
        word: u32,
        (active, bits): (Option<Operand>, Operand),
    ) {
        let at = (register * work.shape.vlenb) as u32 + word / 2 * 16;
        let index = (word % 2) as u16;
        let old = self.b.vget(Type::V128, at);
        let bits = match active {
            None => bits,
            Some(active) => {
                let kept = self.b.vextract(Type::V128, Lane::B64, index, old);
                let kept = self.b.andnot(kept, active);
                let new = self.b.and(bits, active);
                self.b.or(kept, new)
            }
        };
        let new = self.b.vinsert(Type::V128, Lane::B64, index, old, bits);
        self.b.vput(Type::V128, at, new);
    }
}
