//! V: reductions of integers, and sums of floats in order.

use super::Translator;
use super::vector_pieces::{ByHelper, Done, Work};
use crate::vector::Group;
use ir::{Lane, OpKind, Operand, Type};

/// What a reduction begins with, by what it leaves alone.
#[derive(Clone, Copy)]
pub(super) enum Neutral {
    Zero,
    Ones,
    Least,
    Greatest,
}

impl Neutral {
    fn bits(self, lane: Lane) -> u64 {
        let top = 1_u64 << (lane.bits() - 1);
        match self {
            Self::Zero => 0,
            Self::Ones => u64::MAX,
            Self::Least => top,
            Self::Greatest => top - 1,
        }
    }
}

impl Translator<'_, '_> {
    pub(super) fn vector_reduce(&mut self, kind: OpKind, neutral: Neutral) {
        self.translated(|t| {
            let work = t.work()?;
            t.reduce(&work, work.shape.sew, (kind, neutral), None)
        });
    }

    /// A sum of twice the width.
    pub(super) fn vector_reduce_wide(&mut self, signed: bool) {
        let widen = if signed { OpKind::VWiden } else { OpKind::VWidenU };
        self.translated(|t| {
            let work = t.work()?;
            let wide = work.shape.sew + 1;
            work.shape.require(wide <= work.shape.elen)?;
            t.reduce(&work, wide, (OpKind::VAdd, Neutral::Zero), Some(widen))
        });
    }

    fn reduce(
        &mut self,
        work: &Work,
        eew: i32,
        (kind, neutral): (OpKind, Neutral),
        widen: Option<OpKind>,
    ) -> Done {
        let shape = work.shape;
        let source = shape.group(shape.vs2(), shape.sew)?;
        let lane = Work::lane(eew);
        let mut total = None;
        for piece in work.pieces(eew) {
            let mut value = match widen {
                Some(widen) => {
                    let half = self.get_half(work, source, piece);
                    self.b.vector1(widen, piece.ty, lane, half)
                }
                None => self.get(work, source, piece),
            };
            if let Some(active) = self.active(work, piece, !shape.unmasked()) {
                let bits = self.b.imm(neutral.bits(lane));
                let other = self.b.vsplat(piece.ty, lane, bits);
                value = self.b.vblend(piece.ty, active, value, other);
            }
            total = Some((
                piece.ty,
                match total {
                    Some((_, total)) => self.combine(kind, piece.ty, lane, total, value),
                    None => value,
                },
            ));
        }
        let Some((ty, total)) = total else { return Err(ByHelper) };
        let scalar = |first| Group { first, count: 1, eew, emul: 0 };
        let start = self.b.vget(Type::V128, work.place(scalar(shape.vs1()), 0));
        let sum = self.across(kind, ty, lane, total);
        let sum = self.combine(kind, Type::V128, lane, sum, start);
        let bits = self.b.vextract(Type::V128, lane, 0, sum);
        self.put_scalar(work, scalar(shape.vd()), bits);
        Ok(())
    }

    fn combine(&mut self, kind: OpKind, ty: Type, lane: Lane, a: Operand, b: Operand) -> Operand {
        match kind {
            OpKind::VAnd | OpKind::VOr | OpKind::VXor => self.b.vlogic(kind, ty, a, b),
            _ => self.b.vector2(kind, ty, lane, a, b),
        }
    }

    /// All lanes of a vector in lane 0 of one of 128 bits.
    fn across(&mut self, kind: OpKind, ty: Type, lane: Lane, vector: Operand) -> Operand {
        let mut sum = vector;
        if ty == Type::V256 {
            let low = self.b.vhalf(0, vector);
            let high = self.b.vhalf(1, vector);
            sum = self.combine(kind, Type::V128, lane, low, high);
        }
        let mut lanes = (16 / lane.bytes()) as u16;
        while lanes > 1 {
            lanes /= 2;
            let upper = self.b.valign(Type::V128, lane, lanes, sum, sum);
            sum = self.combine(kind, Type::V128, lane, sum, upper);
        }
        sum
    }

    /// Writes element 0, if there is one.
    pub(super) fn put_scalar(&mut self, work: &Work, group: Group, bits: Operand) {
        let (at, lane) = (work.place(group, 0), Work::lane(group.eew));
        let old = self.b.vget(Type::V128, at);
        let mut new = self.b.vinsert(Type::V128, lane, 0, old, bits);
        if work.short {
            let vl = self.b.reg(crate::state::VL);
            let below = self.b.vbelow(Type::V128, lane, vl, 0);
            new = self.b.vblend(Type::V128, below, new, old);
        }
        self.b.vput(Type::V128, at, new);
    }
}
