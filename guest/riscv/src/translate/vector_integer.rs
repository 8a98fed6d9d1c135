//! V: integer arithmetic of one width.

use super::Translator;
use super::vector_pieces::{ByHelper, Done, Piece, Work};
use crate::vector::Group;
use ir::{Cond, Lane, OpKind, Operand, Type};

/// The second source: a group, or one vector for all pieces.
#[derive(Clone, Copy)]
pub(super) enum Second {
    Group(Group),
    Same(Operand),
}

/// What a multiply-add computes of vs2, the other source and vd.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum MulAdd {
    /// vd + second · vs2
    Accumulate,
    /// vd − second · vs2
    Deduct,
    /// second · vd + vs2
    Multiply,
    /// −(second · vd) + vs2
    MultiplyNegated,
}

impl Translator<'_, '_> {
    /// Executes an instruction by what is translated here, else by its helper.
    pub(super) fn translated(&mut self, run: impl FnOnce(&mut Self) -> Done) {
        if run(self).is_err() {
            self.vector_operate();
        }
    }

    /// The second source in the selected width, for a destination.
    pub(super) fn second(&mut self, work: &Work, dest: Group) -> Result<Second, ByHelper> {
        let shape = &work.shape;
        if shape.second_is_group() {
            return Ok(Second::Group(shape.source(dest, shape.vs1(), shape.sew)?));
        }
        let value = self.scalar(shape.vs1() as u8, shape.funct3() == 3);
        Ok(self.splat(work, shape.sew, value))
    }

    /// An integer register, or a signed immediate.
    fn scalar(&mut self, field: u8, immediate: bool) -> Operand {
        if immediate { self.imm(i64::from(field) << 59 >> 59) } else { self.x(field) }
    }

    fn splat(&mut self, work: &Work, eew: i32, value: Operand) -> Second {
        let ty = work.pieces(eew).next().map_or(Type::V128, |piece| piece.ty);
        Second::Same(self.b.vsplat(ty, Work::lane(eew), value))
    }

    pub(super) fn piece_of(&mut self, work: &Work, source: Second, piece: Piece) -> Operand {
        match source {
            Second::Group(group) => self.get(work, group, piece),
            Second::Same(vector) => vector,
        }
    }

    /// vd[i] = op(vs2[i], second[i])
    fn vector_each(&mut self, op: impl Fn(&mut Self, Piece, Operand, Operand) -> Operand) -> Done {
        let work = self.work()?;
        let (shape, sew) = (work.shape, work.shape.sew);
        let dest = shape.dest(sew)?;
        let first = shape.source(dest, shape.vs2(), sew)?;
        let second = self.second(&work, dest)?;
        for piece in work.pieces(sew) {
            let a = self.get(&work, first, piece);
            let b = self.piece_of(&work, second, piece);
            let value = op(self, piece, a, b);
            self.put(&work, dest, piece, value);
        }
        Ok(())
    }

    pub(super) fn vector_binary(&mut self, kind: OpKind) {
        self.translated(|t| {
            t.vector_each(|t, piece, a, b| t.b.vector2(kind, piece.ty, piece.lane, a, b))
        });
    }

    /// The operands the other way round.
    pub(super) fn vector_reverse(&mut self, kind: OpKind) {
        self.translated(|t| {
            t.vector_each(|t, piece, a, b| t.b.vector2(kind, piece.ty, piece.lane, b, a))
        });
    }

    pub(super) fn vector_logic(&mut self, kind: OpKind) {
        self.translated(|t| t.vector_each(|t, piece, a, b| t.b.vlogic(kind, piece.ty, a, b)));
    }

    /// vd[i] = op(vs2[i], second[i] mod SEW); `by` for the same amount everywhere.
    pub(super) fn vector_shift(&mut self, kind: OpKind, by: OpKind) {
        self.translated(|t| {
            let work = t.work()?;
            if work.shape.second_is_group() {
                return t.vector_each(|t, p, a, b| t.b.vector2(kind, p.ty, p.lane, a, b));
            }
            let (shape, sew) = (work.shape, work.shape.sew);
            let dest = shape.dest(sew)?;
            let first = shape.source(dest, shape.vs2(), sew)?;
            let immediate = shape.funct3() == 3;
            let field = shape.vs1() as u8;
            let amount = if immediate { t.imm(field.into()) } else { t.x(field) };
            for piece in work.pieces(sew) {
                let a = t.get(&work, first, piece);
                let value = t.b.vector2(by, piece.ty, piece.lane, a, amount);
                t.put(&work, dest, piece, value);
            }
            Ok(())
        });
    }

    pub(super) fn vector_mul_add(&mut self, form: MulAdd) {
        self.translated(|t| {
            let work = t.work()?;
            let (shape, sew) = (work.shape, work.shape.sew);
            let dest = shape.dest(sew)?;
            let first = shape.source(dest, shape.vs2(), sew)?;
            let second = t.second(&work, dest)?;
            for piece in work.pieces(sew) {
                let (ty, lane) = (piece.ty, piece.lane);
                let (a, d) = (t.get(&work, first, piece), t.get(&work, dest, piece));
                let b = t.piece_of(&work, second, piece);
                let accumulates = matches!(form, MulAdd::Accumulate | MulAdd::Deduct);
                let (factor, addend) = if accumulates { (a, d) } else { (d, a) };
                let product = t.b.vector2(OpKind::VMul, ty, lane, b, factor);
                let negates = matches!(form, MulAdd::Deduct | MulAdd::MultiplyNegated);
                let kind = if negates { OpKind::VSub } else { OpKind::VAdd };
                let value = t.b.vector2(kind, ty, lane, addend, product);
                t.put(&work, dest, piece, value);
            }
            Ok(())
        });
    }

    /// `vmerge`, and `vmv.v` if not masked.
    pub(super) fn vector_merge(&mut self) {
        self.translated(|t| {
            let work = t.work()?;
            let (shape, sew) = (work.shape, work.shape.sew);
            let dest = shape.dest(sew)?;
            let second = t.second(&work, dest)?;
            let first = match shape.unmasked() {
                true => None,
                false => Some(shape.source(dest, shape.vs2(), sew)?),
            };
            t.merge_pieces(&work, dest, first, second);
            Ok(())
        });
    }

    /// vd[i] = second[i], or vs2[i] where there is one and the mask has no bit.
    pub(super) fn merge_pieces(
        &mut self,
        work: &Work,
        dest: Group,
        first: Option<Group>,
        second: Second,
    ) {
        for piece in work.pieces(work.shape.sew) {
            let mut value = self.piece_of(work, second, piece);
            if let Some(first) = first {
                let a = self.get(work, first, piece);
                let selected = self.selected(work, piece);
                value = self.b.vblend(piece.ty, selected, value, a);
            }
            let below = self.active(work, piece, false);
            self.put_where(work, dest, piece, below, value);
        }
    }

    /// vd.mask[i] = vs2[i] `cond` second[i]
    pub(super) fn vector_compare(&mut self, cond: Cond) {
        self.translated(|t| {
            let work = t.work()?;
            let (shape, sew) = (work.shape, work.shape.sew);
            let dest = Group::mask(shape.vd());
            let first = shape.source(dest, shape.vs2(), sew)?;
            let second = t.second(&work, dest)?;
            t.compare_pieces(&work, dest, |t, piece| {
                let a = t.get(&work, first, piece);
                let b = t.piece_of(&work, second, piece);
                t.b.vcompare(piece.ty, piece.lane, cond, a, b)
            })
        });
    }

    /// vd.mask = the top bits of what `lanes` makes of each piece, as far as elements are active. The
    /// destination may be among the sources: it is written last.
    pub(super) fn compare_pieces(
        &mut self,
        work: &Work,
        dest: Group,
        mut lanes: impl FnMut(&mut Self, Piece) -> Operand,
    ) -> Done {
        let mut words = Vec::new();
        for piece in work.pieces(work.shape.sew) {
            let vector = lanes(self, piece);
            let bits = self.b.vector1(OpKind::VToBits, piece.ty, piece.lane, vector);
            let by = self.b.imm(u64::from(piece.first % 64));
            let bits = self.b.shl(bits, by);
            match words.get_mut(piece.first as usize / 64) {
                Some(word) => *word = self.b.or(*word, bits),
                None => words.push(bits),
            }
        }
        for (word, bits) in words.into_iter().enumerate() {
            let active = self.word_active(work, word as u32);
            self.put_mask(work, dest.first, word as u32, (active, bits));
        }
        Ok(())
    }

    /// `vid.v`
    pub(super) fn vector_number(&mut self) {
        self.translated(|t| {
            let work = t.work()?;
            let sew = work.shape.sew;
            let dest = work.shape.dest(sew)?;
            for piece in work.pieces(sew) {
                let zero = t.b.imm(0);
                let mut value = t.b.vsplat(piece.ty, piece.lane, zero);
                for index in 0..(piece.ty.bytes() / 8) as u32 {
                    let word = t.b.imm(numbers(piece.lane, piece.first, index));
                    value = t.b.vinsert(piece.ty, Lane::B64, index as u16, value, word);
                }
                t.put(&work, dest, piece, value);
            }
            Ok(())
        });
    }

    /// `vmv.x.s`
    pub(super) fn vector_to_scalar(&mut self) {
        let Ok(work) = self.work() else { return self.vector_to_x() };
        let lane = Work::lane(work.shape.sew);
        let group = Group { first: work.shape.vs2(), count: 1, eew: work.shape.sew, emul: 0 };
        let vector = self.b.vget(Type::V128, work.place(group, 0));
        let bits = self.b.vextract(Type::V128, lane, 0, vector);
        let width = if self.rv32 { lane.bits().min(32) } else { lane.bits() };
        let value = if width < 64 { self.b.sext(bits, width as u16) } else { bits };
        self.set_x(self.field(7), value);
    }

    /// `vmv.s.x`
    pub(super) fn vector_from_scalar(&mut self) {
        self.translated(|t| {
            let work = t.work()?;
            if work.short {
                // There may be no element 0.
                return Err(ByHelper);
            }
            let lane = Work::lane(work.shape.sew);
            let group = Group { first: work.shape.vd(), count: 1, eew: work.shape.sew, emul: 0 };
            let value = t.x(work.shape.vs1() as u8);
            let old = t.b.vget(Type::V128, work.place(group, 0));
            let new = t.b.vinsert(Type::V128, lane, 0, old, value);
            t.b.vput(Type::V128, work.place(group, 0), new);
            Ok(())
        });
    }

    /// `vmv1r.v` … `vmv8r.v`
    pub(super) fn vector_move_whole(&mut self) {
        self.translated(|t| {
            let shape = t.work()?.shape;
            let (count, vd, vs2) = (shape.vs1() + 1, shape.vd(), shape.vs2());
            let aligned = vd.is_multiple_of(count) && vs2.is_multiple_of(count);
            shape.require(count.is_power_of_two() && aligned)?;
            let bytes = count * shape.vlenb;
            let ty = if bytes >= 32 { Type::V256 } else { Type::V128 };
            for at in (0..bytes).step_by(ty.bytes()) {
                let value = t.b.vget(ty, (vs2 * shape.vlenb + at) as u32);
                t.b.vput(ty, (vd * shape.vlenb + at) as u32, value);
            }
            Ok(())
        });
    }
}

/// 64 bits of a vector whose elements are their own numbers.
fn numbers(lane: Lane, first: u32, word: u32) -> u64 {
    let each = 64 / lane.bits();
    let element = |i: u32| {
        let number = u64::from(first + word * each + i);
        let kept = if lane == Lane::B64 { number } else { number & ((1 << lane.bits()) - 1) };
        kept << (i * lane.bits())
    };
    (0..each).map(element).fold(0, |all, one| all | one)
}
