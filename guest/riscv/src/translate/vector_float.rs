//! V: floating-point arithmetic on the host's units, for the rounding modes and widths they have.
//!
//! Elements that are not active compute with ones (or zeros, as integers), which raises no flag.

use super::Translator;
use super::float::{Format, Sign};
use super::vector_integer::Second;
use super::vector_pieces::{ByHelper, Done, Piece, Work};
use crate::decode::Ext;
use crate::state::flags;
use crate::vector::Group;
use ir::{FpCond, Lane, OpKind, Operand, Rounding, Type};

/// A multiply-add: whether vd is multiplied, and what is negated.
#[derive(Clone, Copy)]
pub(super) struct Fused {
    pub(super) multiplies_dest: bool,
    pub(super) negated: (bool, bool),
}

/// A floating-point instruction that is translated.
#[derive(Clone, Copy)]
struct Float {
    work: Work,
    format: Format,
}

impl Float {
    /// The bits of one.
    fn one(self) -> u64 {
        if self.format == Format::D { 0x3ff0 << 48 } else { 0x3f80_0000 }
    }
}

impl Translator<'_, '_> {
    fn float_translated(&mut self, run: impl FnOnce(&mut Self) -> Done) {
        if run(self).is_err() {
            self.vector_float();
        }
    }

    /// The present instruction, if the host computes as it does.
    fn float(&self) -> Result<Float, ByHelper> {
        let work = self.work()?;
        let format = match work.shape.sew {
            2 if self.has(Ext::Zve32f) => Format::S,
            3 if self.has(Ext::Zve64d) => Format::D,
            _ => return Err(ByHelper),
        };
        let host = flags::fs(self.flags) == flags::DIRTY && flags::frm(self.flags) < 4;
        if host { Ok(Float { work, format }) } else { Err(ByHelper) }
    }

    /// A vector of the bits of a number in each lane.
    fn splat_bits(&mut self, piece: Piece, bits: u64) -> Operand {
        let bits = self.b.imm(bits);
        self.b.vsplat(piece.ty, piece.lane, bits)
    }

    /// The second source.
    fn float_second(&mut self, float: Float, dest: Group) -> Result<Second, ByHelper> {
        let shape = &float.work.shape;
        if shape.second_is_group() {
            return Ok(Second::Group(shape.source(dest, shape.vs1(), shape.sew)?));
        }
        Ok(Second::Same(self.splat_float(float)))
    }

    fn splat_float(&mut self, float: Float) -> Operand {
        let sew = float.work.shape.sew;
        let ty = float.work.pieces(sew).next().map_or(Type::V128, |piece| piece.ty);
        let value = self.f(float.format, float.work.shape.vs1() as u8);
        self.b.vector1(OpKind::VSplatF, ty, Work::lane(sew), value)
    }

    /// An operand with what is harmless in the lanes that are not active.
    fn harmless(
        &mut self,
        piece: Piece,
        active: Option<Operand>,
        value: Operand,
        harmless: u64,
    ) -> Operand {
        match active {
            None => value,
            Some(active) => {
                let other = self.splat_bits(piece, harmless);
                self.b.vblend(piece.ty, active, value, other)
            }
        }
    }

    /// vd[i] = op(vs2[i], second[i])
    fn float_each(&mut self, op: impl Fn(&mut Self, Piece, Operand, Operand) -> Operand) -> Done {
        let float = self.float()?;
        let (work, sew) = (float.work, float.work.shape.sew);
        let dest = work.shape.dest(sew)?;
        let first = work.shape.source(dest, work.shape.vs2(), sew)?;
        let second = self.float_second(float, dest)?;
        for piece in work.pieces(sew) {
            let active = self.active(&work, piece, !work.shape.unmasked());
            let (a, b) = (self.get(&work, first, piece), self.piece_of(&work, second, piece));
            let a = self.harmless(piece, active, a, float.one());
            let b = self.harmless(piece, active, b, float.one());
            let value = op(self, piece, a, b);
            self.put_where(&work, dest, piece, active, value);
        }
        Ok(())
    }

    pub(super) fn float_binary(&mut self, kind: OpKind) {
        self.float_translated(|t| t.float_each(|t, p, a, b| t.b.vector2(kind, p.ty, p.lane, a, b)));
    }

    /// The operands the other way round.
    pub(super) fn float_reverse(&mut self, kind: OpKind) {
        self.float_translated(|t| t.float_each(|t, p, a, b| t.b.vector2(kind, p.ty, p.lane, b, a)));
    }

    /// vs2 with a sign made of both signs.
    pub(super) fn float_sign(&mut self, sign: Sign) {
        self.float_translated(|t| {
            t.float_each(|t, piece, a, b| {
                let bit = t.splat_bits(piece, 1 << (piece.lane.bits() - 1));
                let other = match sign {
                    Sign::Copy => b,
                    Sign::Negate => t.b.vlogic(OpKind::VXor, piece.ty, b, bit),
                    Sign::Xor => t.b.vlogic(OpKind::VXor, piece.ty, a, b),
                };
                let other = t.b.vlogic(OpKind::VAnd, piece.ty, other, bit);
                let rest = t.b.vlogic(OpKind::VAndNot, piece.ty, a, bit);
                t.b.vlogic(OpKind::VOr, piece.ty, rest, other)
            })
        });
    }

    pub(super) fn float_fused(&mut self, form: Fused) {
        self.float_translated(|t| {
            let float = t.float()?;
            let (work, sew) = (float.work, float.work.shape.sew);
            let dest = work.shape.dest(sew)?;
            let first = work.shape.source(dest, work.shape.vs2(), sew)?;
            let second = t.float_second(float, dest)?;
            for piece in work.pieces(sew) {
                let active = t.active(&work, piece, !work.shape.unmasked());
                let (a, d) = (t.get(&work, first, piece), t.get(&work, dest, piece));
                let b = t.piece_of(&work, second, piece);
                let [a, b, d] = [a, b, d].map(|v| t.harmless(piece, active, v, float.one()));
                let (factor, addend) = if form.multiplies_dest { (d, a) } else { (a, d) };
                let operands = [b, factor, addend];
                let value = t.b.vfmuladd(piece.ty, piece.lane, form.negated, operands);
                t.put_where(&work, dest, piece, active, value);
            }
            Ok(())
        });
    }

    /// vd.mask[i] = vs2[i] `cond` second[i]; with `swapped`, the operands the other way round.
    pub(super) fn float_compare(&mut self, cond: FpCond, swapped: bool, negated: bool) {
        self.float_translated(|t| {
            let float = t.float()?;
            let (work, sew) = (float.work, float.work.shape.sew);
            let dest = Group::mask(work.shape.vd());
            let first = work.shape.source(dest, work.shape.vs2(), sew)?;
            let second = t.float_second(float, dest)?;
            t.compare_pieces(&work, dest, |t, piece| {
                let active = t.active(&work, piece, !work.shape.unmasked());
                let (a, b) = (t.get(&work, first, piece), t.piece_of(&work, second, piece));
                let a = t.harmless(piece, active, a, float.one());
                let b = t.harmless(piece, active, b, float.one());
                let (a, b) = if swapped { (b, a) } else { (a, b) };
                let lanes = t.b.vfcompare(piece.ty, piece.lane, cond, a, b);
                if !negated {
                    return lanes;
                }
                let ones = t.splat_bits(piece, u64::MAX);
                t.b.vlogic(OpKind::VXor, piece.ty, lanes, ones)
            })
        });
    }

    /// `vfmerge.vfm`; `vfmv.v.f` if not masked.
    pub(super) fn float_merge(&mut self) {
        self.float_translated(|t| {
            let float = t.float()?;
            let (work, sew) = (float.work, float.work.shape.sew);
            let dest = work.shape.dest(sew)?;
            let first = match work.shape.unmasked() {
                true => None,
                false => Some(work.shape.source(dest, work.shape.vs2(), sew)?),
            };
            let scalar = t.splat_float(float);
            t.merge_pieces(&work, dest, first, Second::Same(scalar));
            Ok(())
        });
    }

    /// `vfsqrt.v`
    pub(super) fn float_root(&mut self) {
        self.float_translated(|t| {
            let float = t.float()?;
            t.float_unary(float, float.one(), |t, p, a| {
                t.b.vector1(OpKind::VFSqrt, p.ty, p.lane, a)
            })
        });
    }

    /// `vfcvt` from floating point to integers.
    pub(super) fn float_to_int(&mut self, signed: bool, rounding: Rounding) {
        self.float_translated(|t| {
            let float = t.float()?;
            t.float_unary(float, float.one(), |t, p, a| {
                t.b.vfto_int(p.ty, p.lane, (signed, rounding), a)
            })
        });
    }

    /// `vfcvt` from integers to floating point.
    pub(super) fn float_from_int(&mut self, signed: bool) {
        let kind = if signed { OpKind::VFFromInt } else { OpKind::VFFromUInt };
        self.float_translated(|t| {
            let float = t.float()?;
            t.float_unary(float, 0, |t, p, a| t.b.vector1(kind, p.ty, p.lane, a))
        });
    }

    /// vd[i] = op(vs2[i])
    fn float_unary(
        &mut self,
        float: Float,
        harmless: u64,
        op: impl Fn(&mut Self, Piece, Operand) -> Operand,
    ) -> Done {
        let (work, sew) = (float.work, float.work.shape.sew);
        let dest = work.shape.dest(sew)?;
        let source = work.shape.source(dest, work.shape.vs2(), sew)?;
        for piece in work.pieces(sew) {
            let active = self.active(&work, piece, !work.shape.unmasked());
            let a = self.get(&work, source, piece);
            let a = self.harmless(piece, active, a, harmless);
            let value = op(self, piece, a);
            self.put_where(&work, dest, piece, active, value);
        }
        Ok(())
    }

    /// `vfmv.f.s`
    pub(super) fn float_to_scalar(&mut self) {
        let Ok(float) = self.float() else { return self.vector_to_f() };
        let shape = float.work.shape;
        let vector = self.b.vget(Type::V128, (shape.vs2() * shape.vlenb) as u32);
        let value = self.b.vextract_float(Type::V128, Work::lane(shape.sew), 0, vector);
        self.set_f(float.format, self.field(7), value);
    }

    /// `vfmv.s.f`
    pub(super) fn float_from_scalar(&mut self) {
        self.float_translated(|t| {
            let float = t.float()?;
            if float.work.short {
                // There may be no element 0.
                return Err(ByHelper);
            }
            let shape = float.work.shape;
            let at = (shape.vd() * shape.vlenb) as u32;
            let bits = t.f_bits(float.format, shape.vs1() as u8);
            let old = t.b.vget(Type::V128, at);
            let new = t.b.vinsert(Type::V128, Work::lane(shape.sew), 0, old, bits);
            t.b.vput(Type::V128, at, new);
            Ok(())
        });
    }

    // From singles to doubles.

    /// The singles of a group that belong to a piece of doubles, converted; ones where not active.
    fn doubles(
        &mut self,
        work: &Work,
        group: Group,
        piece: Piece,
        active: Option<Operand>,
    ) -> Operand {
        let singles = self.get_half(work, group, piece);
        let singles = match active {
            None => singles,
            Some(active) => {
                // A mask of the double's lanes, as one of the singles'.
                let narrow = self.b.vector1(OpKind::VNarrow, piece.ty, Lane::B32, active);
                let one = self.b.imm(0x3f80_0000);
                let ones = self.b.vsplat(piece.ty, Lane::B32, one);
                self.b.vblend(piece.ty, narrow, singles, ones)
            }
        };
        self.b.vector1(OpKind::VFConvert, piece.ty, Lane::B64, singles)
    }

    /// What an instruction that makes doubles of singles needs.
    fn widening_float(&self) -> Result<Float, ByHelper> {
        let float = self.float()?;
        let fits = float.format == Format::S && self.has(Ext::Zve64d);
        if fits { Ok(float) } else { Err(ByHelper) }
    }

    /// The second source as doubles.
    fn second_doubles(
        &mut self,
        work: &Work,
        second: Second,
        piece: Piece,
        active: Option<Operand>,
    ) -> Operand {
        match second {
            Second::Group(group) => self.doubles(work, group, piece, active),
            Second::Same(singles) => {
                let singles = match active {
                    None => singles,
                    Some(active) => {
                        let narrow = self.b.vector1(OpKind::VNarrow, piece.ty, Lane::B32, active);
                        let one = self.b.imm(0x3f80_0000);
                        let ones = self.b.vsplat(piece.ty, Lane::B32, one);
                        self.b.vblend(piece.ty, narrow, singles, ones)
                    }
                };
                self.b.vector1(OpKind::VFConvert, piece.ty, Lane::B64, singles)
            }
        }
    }

    /// The second source of a widening instruction: singles, for pieces of doubles.
    fn narrow_second(&mut self, float: Float, dest: Group) -> Result<Second, ByHelper> {
        let shape = &float.work.shape;
        if shape.second_is_group() {
            return Ok(Second::Group(shape.source(dest, shape.vs1(), shape.sew)?));
        }
        let ty = float.work.pieces(3).next().map_or(Type::V128, |piece| piece.ty);
        let value = self.f(Format::S, shape.vs1() as u8);
        Ok(Second::Same(self.b.vector1(OpKind::VSplatF, ty, Lane::B32, value)))
    }

    /// `vfwadd`, `vfwsub`, `vfwmul`; with `wide`, vs2 has doubles already.
    pub(super) fn float_widen(&mut self, kind: OpKind, wide: bool) {
        self.float_translated(|t| {
            let float = t.widening_float()?;
            let (work, shape) = (float.work, float.work.shape);
            let dest = shape.dest(3)?;
            let first = shape.source(dest, shape.vs2(), if wide { 3 } else { 2 })?;
            let second = t.narrow_second(float, dest)?;
            if let Second::Group(second) = second {
                shape.require(first.eew == second.eew || !first.overlaps(second))?;
            }
            for piece in work.pieces(3) {
                let active = t.active(&work, piece, !shape.unmasked());
                let a = if wide {
                    let a = t.get(&work, first, piece);
                    t.harmless(piece, active, a, 0x3ff0 << 48)
                } else {
                    t.doubles(&work, first, piece, active)
                };
                let b = t.second_doubles(&work, second, piece, active);
                let value = t.b.vector2(kind, piece.ty, piece.lane, a, b);
                t.put_where(&work, dest, piece, active, value);
            }
            Ok(())
        });
    }

    /// `vfwmacc` and its kin.
    pub(super) fn float_widen_fused(&mut self, negated: (bool, bool)) {
        self.float_translated(|t| {
            let float = t.widening_float()?;
            let (work, shape) = (float.work, float.work.shape);
            let dest = shape.dest(3)?;
            let first = shape.source(dest, shape.vs2(), 2)?;
            let second = t.narrow_second(float, dest)?;
            shape.require(!dest.overlaps(first))?;
            if let Second::Group(second) = second {
                shape.require(!dest.overlaps(second))?;
            }
            for piece in work.pieces(3) {
                let active = t.active(&work, piece, !shape.unmasked());
                let a = t.doubles(&work, first, piece, active);
                let b = t.second_doubles(&work, second, piece, active);
                let d = t.get(&work, dest, piece);
                let d = t.harmless(piece, active, d, 0x3ff0 << 48);
                let value = t.b.vfmuladd(piece.ty, piece.lane, negated, [b, a, d]);
                t.put_where(&work, dest, piece, active, value);
            }
            Ok(())
        });
    }

    /// `vfwcvt.f.f.v`, from singles.
    pub(super) fn float_widen_float(&mut self) {
        self.float_translated(|t| {
            let float = t.widening_float()?;
            let (work, shape) = (float.work, float.work.shape);
            let dest = shape.dest(3)?;
            let source = shape.source(dest, shape.vs2(), 2)?;
            for piece in work.pieces(3) {
                let active = t.active(&work, piece, !shape.unmasked());
                let value = t.doubles(&work, source, piece, active);
                t.put_where(&work, dest, piece, active, value);
            }
            Ok(())
        });
    }
}
