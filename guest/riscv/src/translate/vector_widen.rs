//! V: integer arithmetic between two widths.

use super::Translator;
use super::vector_integer::Second;
use super::vector_pieces::{ByHelper, Done, Piece, Work};
use crate::vector::Group;
use ir::{Lane, OpKind, Operand, Type};

/// How the sources of an instruction are read that makes elements of twice the width.
#[derive(Clone, Copy)]
pub(super) struct Read {
    /// vs2 has that width already.
    pub(super) wide: bool,
    pub(super) first_signed: bool,
    pub(super) second_signed: bool,
}

/// Both sources signed, or unsigned.
pub(super) const fn both(signed: bool) -> Read {
    Read { wide: false, first_signed: signed, second_signed: signed }
}

impl Translator<'_, '_> {
    /// The elements of a piece from elements of half the width.
    fn widened(&mut self, work: &Work, group: Group, piece: Piece, signed: bool) -> Operand {
        let half = self.get_half(work, group, piece);
        let kind = if signed { OpKind::VWiden } else { OpKind::VWidenU };
        self.b.vector1(kind, piece.ty, piece.lane, half)
    }

    /// The second source: a group of the selected width, or a scalar extended to twice that.
    fn narrow_integers(
        &mut self,
        work: &Work,
        dest: Group,
        signed: bool,
    ) -> Result<Second, ByHelper> {
        let shape = &work.shape;
        if shape.second_is_group() {
            return Ok(Second::Group(shape.source(dest, shape.vs1(), shape.sew)?));
        }
        let (value, bits) = (self.x(shape.vs1() as u8), shape.bits() as u16);
        let value = if signed { self.b.sext(value, bits) } else { self.b.zext(value, bits) };
        let eew = shape.sew + 1;
        let ty = work.pieces(eew).next().map_or(Type::V128, |piece| piece.ty);
        Ok(Second::Same(self.b.vsplat(ty, Work::lane(eew), value)))
    }

    fn second_widened(
        &mut self,
        work: &Work,
        second: Second,
        piece: Piece,
        signed: bool,
    ) -> Operand {
        match second {
            Second::Group(group) => self.widened(work, group, piece, signed),
            Second::Same(vector) => vector,
        }
    }

    /// What all these instructions need: the sources, checked.
    fn widening(
        &mut self,
        read: Read,
        accumulates: bool,
    ) -> Result<(Work, Group, Group, Second), ByHelper> {
        let work = self.work()?;
        let (shape, wide) = (work.shape, work.shape.sew + 1);
        let dest = shape.dest(wide)?;
        let first = shape.source(dest, shape.vs2(), if read.wide { wide } else { shape.sew })?;
        if shape.second_is_group() {
            let second = shape.source(dest, shape.vs1(), shape.sew)?;
            shape.require(first.eew == second.eew || !first.overlaps(second))?;
            shape.require(!accumulates || !dest.overlaps(second))?;
        }
        shape.require(!accumulates || !dest.overlaps(first))?;
        let second = self.narrow_integers(&work, dest, read.second_signed)?;
        Ok((work, dest, first, second))
    }

    /// vd[i] = vs2[i] op second[i], in twice the width.
    pub(super) fn vector_widen(&mut self, kind: OpKind, read: Read) {
        self.translated(|t| {
            let (work, dest, first, second) = t.widening(read, false)?;
            for piece in work.pieces(dest.eew) {
                let a = match read.wide {
                    true => t.get(&work, first, piece),
                    false => t.widened(&work, first, piece, read.first_signed),
                };
                let b = t.second_widened(&work, second, piece, read.second_signed);
                let value = t.b.vector2(kind, piece.ty, piece.lane, a, b);
                t.put(&work, dest, piece, value);
            }
            Ok(())
        });
    }

    /// vd[i] += vs2[i] · second[i], in twice the width.
    pub(super) fn vector_widen_accumulate(&mut self, read: Read) {
        self.translated(|t| {
            let (work, dest, first, second) = t.widening(read, true)?;
            for piece in work.pieces(dest.eew) {
                let a = t.widened(&work, first, piece, read.first_signed);
                let b = t.second_widened(&work, second, piece, read.second_signed);
                let product = t.b.vector2(OpKind::VMul, piece.ty, piece.lane, a, b);
                let d = t.get(&work, dest, piece);
                let value = t.b.vector2(OpKind::VAdd, piece.ty, piece.lane, d, product);
                t.put(&work, dest, piece, value);
            }
            Ok(())
        });
    }

    /// `vzext`, `vsext`: from 1/2, 1/4 or 1/8 of the width, as a power of two.
    pub(super) fn vector_extend(&mut self, step: i32, signed: bool) {
        self.translated(|t| t.extend(step, signed));
    }

    fn extend(&mut self, step: i32, signed: bool) -> Done {
        let work = self.work()?;
        let (shape, sew) = (work.shape, work.shape.sew);
        let dest = shape.dest(sew)?;
        let source = shape.source(dest, shape.vs2(), sew - step)?;
        let kind = if signed { OpKind::VWiden } else { OpKind::VWidenU };
        let end = (work.place(source, 0) + (work.vlmax << source.eew)) as usize;
        if end + 16 > 32 * shape.vlenb {
            // Vectors that begin in the last elements may end beyond the registers.
            return Err(ByHelper);
        }
        for piece in work.pieces(sew) {
            let mut value = self.b.vget(Type::V128, work.place(source, piece.first));
            for eew in source.eew + 1..sew {
                value = self.b.vector1(kind, Type::V128, Work::lane(eew), value);
            }
            if piece.ty == Type::V256 {
                value = self.b.vector1(OpKind::VExtend, Type::V256, Lane::B8, value);
            }
            let value = self.b.vector1(kind, piece.ty, piece.lane, value);
            self.put(&work, dest, piece, value);
        }
        Ok(())
    }

    /// `vnsrl`, `vnsra`: vd[i] = low half of (vs2[i] >> second[i])
    pub(super) fn vector_narrow(&mut self, kind: OpKind, by: OpKind) {
        self.translated(|t| {
            let work = t.work()?;
            let (shape, sew) = (work.shape, work.shape.sew);
            let dest = shape.dest(sew)?;
            let first = shape.source(dest, shape.vs2(), sew + 1)?;
            let amounts = match shape.second_is_group() {
                true => Some(shape.source(dest, shape.vs1(), sew)?),
                false => None,
            };
            if let Some(second) = amounts {
                shape.require(!first.overlaps(second))?;
            }
            let field = shape.vs1() as u8;
            let scalar = match (amounts, shape.funct3()) {
                (Some(_), _) => None,
                (None, 3) => Some(t.imm(field.into())),
                (None, _) => Some(t.x(field)),
            };
            let wide: Vec<_> = work.pieces(sew + 1).collect();
            for piece in work.pieces(sew) {
                let mut halves = Vec::new();
                let all = piece.first..piece.first + piece.lanes();
                for part in wide.iter().filter(|part| all.contains(&part.first)) {
                    let a = t.get(&work, first, *part);
                    let shifted = match (scalar, amounts) {
                        (None, Some(second)) => {
                            let amount = t.widened(&work, second, *part, false);
                            t.b.vector2(kind, part.ty, part.lane, a, amount)
                        }
                        (amount, _) => {
                            let zero = t.imm(0);
                            t.b.vector2(by, part.ty, part.lane, a, amount.unwrap_or(zero))
                        }
                    };
                    let low = t.b.vector1(OpKind::VNarrow, part.ty, piece.lane, shifted);
                    halves.push(match part.ty {
                        Type::V256 => t.b.vhalf(0, low),
                        _ => low,
                    });
                }
                let value = match *halves {
                    [low, high] => t.b.vector2(OpKind::VJoin, Type::V256, Lane::B8, low, high),
                    [low] => low,
                    _ => return Err(ByHelper),
                };
                t.put(&work, dest, piece, value);
            }
            Ok(())
        });
    }
}
