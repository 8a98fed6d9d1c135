//! V: slides by distances that the instruction says, as accesses of the registers at other bytes.

use super::Translator;
use super::vector_pieces::{ByHelper, Done, Work};
use crate::vector::Group;
use ir::{Lane, OpKind, Operand};

impl Translator<'_, '_> {
    /// `vslidedown.vi`
    pub(super) fn vector_slide_down(&mut self) {
        let by = u32::from(self.field(15));
        self.translated(|t| t.slide_down(by, None));
    }

    /// `vslideup.vi`
    pub(super) fn vector_slide_up(&mut self) {
        let by = u32::from(self.field(15));
        self.translated(|t| t.slide_up(by, None));
    }

    /// `vslide1down.vx`
    pub(super) fn vector_slide_one_down(&mut self) {
        self.translated(|t| {
            let x = t.x(t.field(15));
            t.slide_down(1, Some(x))
        });
    }

    /// `vslide1up.vx`
    pub(super) fn vector_slide_one_up(&mut self) {
        self.translated(|t| {
            let x = t.x(t.field(15));
            t.slide_up(1, Some(x))
        });
    }

    /// vd[i] = vs2[i + by], or 0 beyond VLMAX; with a scalar, that in the last element.
    fn slide_down(&mut self, by: u32, scalar: Option<Operand>) -> Done {
        let work = self.work()?;
        let (shape, sew) = (work.shape, work.shape.sew);
        let dest = shape.dest(sew)?;
        let source = shape.operand(shape.vs2(), sew)?;
        if scalar.is_some() && work.short {
            return Err(ByHelper);
        }
        let left = work.vlmax.saturating_sub(by);
        for piece in work.pieces(sew) {
            let from = piece.first + by;
            let zero = self.b.imm(0);
            let mut value = self.b.vsplat(piece.ty, piece.lane, zero);
            if from < work.vlmax {
                let at = work.place(source, from);
                if at as usize + piece.ty.bytes() > 32 * shape.vlenb {
                    return Err(ByHelper);
                }
                let shifted = self.b.vget(piece.ty, at);
                value = if from + piece.lanes() > work.vlmax {
                    let left = self.b.imm(left.into());
                    let inside = self.b.vbelow(piece.ty, piece.lane, left, piece.first);
                    self.b.vblend(piece.ty, inside, shifted, value)
                } else {
                    shifted
                };
            }
            let last = work.vlmax - 1;
            if let Some(x) = scalar
                && (piece.first..piece.first + piece.lanes()).contains(&last)
            {
                let index = (last - piece.first) as u16;
                value = self.b.vinsert(piece.ty, piece.lane, index, value, x);
            }
            self.put(&work, dest, piece, value);
        }
        Ok(())
    }

    /// vd[i + by] = vs2[i]; with a scalar, that in element 0.
    fn slide_up(&mut self, by: u32, scalar: Option<Operand>) -> Done {
        let work = self.work()?;
        let (shape, sew) = (work.shape, work.shape.sew);
        let (dest, source) = self.groups_apart(&work)?;
        let start = work.place(source, 0);
        if start < by << sew {
            // Vectors would begin before the registers.
            return Err(ByHelper);
        }
        for piece in work.pieces(sew) {
            if piece.first + piece.lanes() <= by {
                continue;
            }
            let mut value = self.b.vget(piece.ty, start + (piece.first << sew) - (by << sew));
            let active = self.active(&work, piece, !shape.unmasked());
            if let (Some(x), 0) = (scalar, piece.first) {
                value = self.b.vinsert(piece.ty, piece.lane, 0, value, x);
            } else if piece.first < by {
                let by = self.b.imm(by.into());
                let kept = self.b.vbelow(piece.ty, piece.lane, by, piece.first);
                let old = self.get(&work, dest, piece);
                value = self.b.vblend(piece.ty, kept, old, value);
            }
            self.put_where(&work, dest, piece, active, value);
        }
        Ok(())
    }

    /// The destination and vs2, which must not overlap.
    fn groups_apart(&self, work: &Work) -> Result<(Group, Group), ByHelper> {
        let (shape, sew) = (work.shape, work.shape.sew);
        let (dest, source) = (shape.dest(sew)?, shape.operand(shape.vs2(), sew)?);
        shape.require(!dest.overlaps(source))?;
        Ok((dest, source))
    }

    /// `vrgather.vv` of bytes that one vector holds.
    pub(super) fn vector_gather(&mut self) {
        self.translated(|t| {
            let work = t.work()?;
            let shape = work.shape;
            let (dest, source) = t.groups_apart(&work)?;
            let indices = shape.operand(shape.vs1(), shape.sew)?;
            shape.require(!dest.overlaps(indices))?;
            let mut pieces = work.pieces(shape.sew);
            let (Some(piece), None) = (pieces.next(), pieces.next()) else { return Err(ByHelper) };
            if piece.lane != Lane::B8 || work.vlmax != piece.lanes() {
                return Err(ByHelper);
            }
            let (a, by) = (t.get(&work, source, piece), t.get(&work, indices, piece));
            let value = t.b.vlogic(OpKind::VShuffle, piece.ty, a, by);
            t.put(&work, dest, piece, value);
            Ok(())
        });
    }
}
