//! EVEX: vectors of 512 bits, opmasks, broadcast operands, static rounding.
//!
//! An instruction runs as its VEX form does, by the same method, once for each 256 bits; the operands that
//! the method gets are those of the piece. What it makes is kept until all pieces are there, and then
//! written by the opmask. Lanes that the opmask leaves out compute something harmless, so that they
//! raise nothing.

use super::evex_pieces::is_pieced;
use super::simd::{float_type, typed, vector_at};
use super::{PAGE, Translator, unsigned};
use crate::decode::{self, Attr, Encoding, Insn, Kind, Op, Operand as Spec, Ty};
use crate::helpers::{HelperIndex, LeafIndex};
use crate::model::Feature;
use crate::state::{OPMASK, SPARE_AT, ZMM_USED, mode};
use crate::trap::Exception;
use ir::{Cond, GuestReg, Label, Lane, MemOp, OpKind as K, Operand, Type};

/// How far an instruction is.
#[derive(Default)]
pub(crate) struct Wide {
    /// The piece that is being made, of so many.
    piece: u8,
    pieces: u8,
    /// Lanes of a piece that the opmask has a bit for.
    lanes: u8,
    /// Whether the memory operand was read already, to [`SPARE_AT`].
    spare: bool,
    /// Whether the results have taken the opmask into account.
    pub(crate) merged: bool,
    /// The results, one for each piece.
    results: Vec<(usize, Type, Operand)>,
    /// Bits for an opmask register, one for each piece.
    bits: Vec<Operand>,
}

/// Whether bytes of an operand grow with the vector length.
fn scales(ty: Ty) -> bool {
    matches!(ty, Ty::X | Ty::Hx | Ty::Qx | Ty::Ex)
}

/// Whether operands are parts of vectors, whose length matters.
fn has_length(i: &Insn) -> bool {
    i.entry.operands.iter().any(|o| match o {
        Spec::Typed(Kind::VSIBx | Kind::VSIBy, _) => true,
        Spec::Typed(_, ty) => scales(*ty) || *ty == Ty::Qq,
        Spec::Fixed(_) => false,
    })
}

/// The operand that may be in memory and is read.
fn memory_source(i: &Insn) -> Option<usize> {
    let operands = i.entry.operands.iter().enumerate();
    let mut sources = operands.filter(|(n, o)| *n > 0 && o.is_memory() && !o.is_vsib());
    sources.next().map(|(n, _)| n).filter(|_| i.memory.is_some())
}

/// The lane of a size in bytes.
pub(crate) fn lane_of(bytes: u8) -> Lane {
    Lane::of_bits(8 * u32::from(bytes)).unwrap_or(Lane::B64)
}

impl Translator<'_, '_> {
    /// Whether the vector length is there.
    pub(crate) fn has_evex_length(&self, i: &Insn) -> bool {
        i.encoding != Encoding::Evex || i.vl == 64 || !has_length(i) || self.has(Feature::Avx512vl)
    }

    /// Raises what instructions on opmasks raise; whether to go on.
    pub(crate) fn opmasks_enabled(&mut self) -> bool {
        let enabled = self.flags & (mode::AVX | mode::AVX512) == mode::AVX | mode::AVX512;
        if !enabled {
            self.undefined_instruction();
        } else if self.flags & mode::TS != 0 {
            self.raise(Exception::NotAvailable, 0);
        }
        enabled && self.flags & mode::TS == 0
    }

    pub(crate) fn opmask_register(number: u8) -> GuestReg {
        GuestReg(OPMASK + (number & 7))
    }

    /// An opmask register, all of it.
    pub(crate) fn opmask(&mut self, number: u8) -> Operand {
        self.b.reg(Self::opmask_register(number))
    }

    /// Ones in as many low bits.
    fn low_ones(&mut self, bits: u32) -> Operand {
        self.b.imm(u64::MAX >> (64 - bits.clamp(1, 64)))
    }

    /// Runs an instruction; whether there is a method for it.
    pub(crate) fn evex(&mut self, i: &Insn) -> bool {
        if !self.vectors_enabled(i) {
            return true;
        }
        let once = i.entry.has(Attr::Once) && !is_pieced(i);
        let long = i.entry.operands.iter().any(|o| matches!(o, Spec::Typed(_, ty) if scales(*ty)));
        let pieces = if long && i.vl == 64 && !once { 2 } else { 1 };
        self.wide = Some(Wide { pieces, lanes: Self::mask_lanes(i) / pieces, ..Wide::default() });
        // Without rounding in the instruction, only exceptions are suppressed.
        self.fixed_rounding = match i.evex_b && i.memory.is_none() {
            true if i.entry.has(Attr::Round) => Some(i.evex_rc),
            true => Some(CURRENT_ROUNDING),
            false => None,
        };
        self.read_ahead(i);
        let mut known = true;
        for piece in 0..pieces {
            self.set_piece(piece);
            known &= decode::dispatch(self, i);
        }
        if !self.ended && known {
            self.finish_evex(i);
            self.use_upper_halves(i);
        }
        (self.wide, self.fixed_rounding) = (None, None);
        known
    }

    /// Notes that bits above 256 of registers that VEX has are in use, of which code so far did not know.
    fn use_upper_halves(&mut self, i: &Insn) {
        let register = !matches!(typed(i, 0), Some((Kind::W | Kind::M, _)) if i.memory.is_some());
        let first = Self::vector_number(i, 0) < 16;
        if self.flags & mode::ZMM == 0 && register && first && Self::size(i, 0) == 64 {
            let one = self.b.imm(1);
            self.b.set_reg(ZMM_USED, one);
            self.lookup_next();
        }
    }

    /// Before a store to 64 bytes that is made in two: what crosses into a page that is not there leaves
    /// nothing behind, and faults where it begins.
    fn touch(&mut self, address: Operand) {
        let (last, low) = (self.b.imm(63), self.b.imm(!63));
        let end = self.b.add(address, last);
        let second = self.b.and(end, low);
        self.b.load(MemOp::U8, address, 0);
        self.b.load(MemOp::U8, second, 0);
    }

    /// The address of 64 bytes that must be aligned: odd, so that an access to half of them that must be
    /// aligned faults, if they are not.
    fn aligned_address(&mut self, i: &Insn) -> Operand {
        let address = self.whole_address(i, 64);
        let (five, one) = (self.b.imm(5), self.b.imm(1));
        let bit = self.b.shr(address, five);
        let bit = self.b.and(bit, one);
        self.b.or(address, bit)
    }

    /// The linear address of the memory operand as one value.
    pub(crate) fn whole_address(&mut self, i: &Insn, size: u8) -> Operand {
        let (base, offset) = self.address(i, size);
        let offset = self.imm(offset);
        self.b.add(base, offset)
    }

    /// Lanes that the opmask has a bit for.
    fn mask_lanes(i: &Insn) -> u8 {
        let bytes = match typed(i, 0) {
            _ if i.entry.has(Attr::Tscalar) && !has_length(i) => return 1,
            Some((Kind::V | Kind::H | Kind::W | Kind::U | Kind::M, _))
                if i.entry.has(Attr::Once) =>
            {
                Self::size(i, 0)
            }
            _ => i.vl,
        };
        (bytes / i.element()).max(1)
    }

    /// Reads the memory operand where faults depend on the opmask, or exceptions are looked for.
    fn read_ahead(&mut self, i: &Insn) {
        let Some(n) = memory_source(i) else { return };
        let masked = i.mask != 0 && !i.entry.has(Attr::Whole);
        let computes = i.entry.has(Attr::Round) || i.entry.has(Attr::Sae);
        let exact = computes && self.flags & mode::SSE_EXACT != 0;
        let once = i.entry.has(Attr::Once) && !is_pieced(i);
        if !masked && !exact && !once || i.entry.op == Op::Gathered {
            return;
        }
        let size = if i.broadcasts() { broadcast_size(i) } else { Self::size(i, n) };
        if masked {
            self.read_masked(i, n, size);
        } else {
            let (base, offset) = self.address(i, size);
            self.read_to_spare(base, offset, size);
        }
        if let Some(wide) = &mut self.wide {
            wide.spare = true;
        }
    }

    /// Where the memory operand begins, and the bits of the opmask.
    fn masked_place(&mut self, i: &Insn, size: u8) -> (Operand, Operand) {
        let address = self.whole_address(i, size);
        let (bits, low) = (self.opmask(i.mask), self.low_ones(Self::mask_lanes(i).into()));
        (address, self.b.and(bits, low))
    }

    /// Reads the memory operand, of so many bytes, by the opmask.
    fn read_masked(&mut self, i: &Insn, n: usize, size: u8) {
        let lanes = Self::mask_lanes(i);
        let part = i.broadcasts() || !typed(i, n).is_some_and(|(_, ty)| scales(ty));
        // Of expansions the bits count, not their places.
        let expands = i.entry.mnemonic.contains("expand");
        // Of a part that all of the vector comes from, the lanes that anything comes from.
        let each = match part {
            true if i.broadcasts() || i.entry.has(Attr::Tscalar) && !has_length(i) => size,
            true => size.min(i.element()),
            false => size / lanes,
        };
        let aligned = i.entry.op == Op::Movaps;
        let how = u64::from(if part { size / each } else { lanes })
            | u64::from(each) << 8
            | u64::from(part) << 16
            | u64::from(expands) << 17
            | u64::from(aligned) << 18;
        let past = self.b.label();
        if !part && !expands {
            let slow = self.b.label();
            let (address, bits) = self.masked_place(i, size);
            if aligned {
                self.unless_aligned(address, size, slow);
            }
            self.unless_all_readable((address, bits), (size, each), slow);
            self.read_to_spare(address, 0, size);
            self.b.branch(past);
            self.b.place(slow);
        }
        let (address, bits) = self.masked_place(i, size);
        let how = self.b.imm(how);
        self.call_effect(HelperIndex::MaskedRead, &[address, bits, how]);
        self.b.place(past);
    }

    /// Branches unless the lanes whose bits are set, some of them, are in one page, and takes the fault of the
    /// first: where one lane can be read, all can.
    pub(crate) fn unless_all_readable(
        &mut self,
        (address, bits): (Operand, Operand),
        (size, element): (u8, u8),
        label: Label,
    ) {
        let zero = self.b.imm(0);
        self.b.branch_if(Cond::Eq, bits, zero, label);
        self.unless_within_page(address, size, label);
        let (first, shift) = (self.b.ctz(bits), self.b.imm(element.trailing_zeros().into()));
        let first = self.b.shl(first, shift);
        let first = self.b.add(address, first);
        self.b.load(unsigned(element), first, 0);
    }

    /// Branches if an address is not a multiple of a size.
    fn unless_aligned(&mut self, address: Operand, size: u8, label: Label) {
        let (low, zero) = (self.b.imm(u64::from(size) - 1), self.b.imm(0));
        let rest = self.b.and(address, low);
        self.b.branch_if(Cond::Ne, rest, zero, label);
    }

    /// Branches if an access crosses into another page.
    fn unless_within_page(&mut self, address: Operand, size: u8, label: Label) {
        let (inside, last) = (self.b.imm(PAGE - 1), self.b.imm(PAGE - u64::from(size)));
        let within = self.b.and(address, inside);
        self.b.branch_if(Cond::Gtu, within, last, label);
    }

    /// As many bytes of memory to where helpers find them, with zeros above up to 16.
    fn read_to_spare(&mut self, base: Operand, offset: i64, size: u8) {
        let at = SPARE_AT as u32;
        for (piece, from) in (0..size).step_by(32).enumerate() {
            let value =
                self.vector_at_address(size.min(32), (base, offset + i64::from(from)), false);
            let ty = if size >= 32 { Type::V256 } else { Type::V128 };
            self.b.vput(ty, at + 32 * piece as u32, value);
        }
    }

    /// Operand `n` of the piece.
    pub(crate) fn evex_operand(&mut self, i: &Insn, n: usize, ty: Type) -> Operand {
        let Some(Wide { piece, pieces, lanes, spare, .. }) = self.wide else {
            return self.zero(ty);
        };
        let Some((kind, spec)) = typed(i, n) else { return self.zero(ty) };
        let (size, scaled) = (Self::size(i, n), scales(spec));
        let bytes = if scaled { size / pieces } else { size };
        let offset = if scaled { bytes * piece } else { 0 };
        let memory = matches!(kind, Kind::W | Kind::M) && i.memory.is_some();
        let value = if memory && i.broadcasts() {
            let lane = lane_of(broadcast_size(i));
            let element = if spare {
                let v = self.b.vget(Type::V128, SPARE_AT as u32);
                self.b.vextract(Type::V128, lane, 0, v)
            } else {
                let (base, offset) = self.address(i, broadcast_size(i));
                let mem = self.mem(broadcast_size(i));
                self.b.load(mem, base, offset)
            };
            self.b.vsplat(ty, lane, element)
        } else if memory && !spare {
            let aligned = i.entry.op == Op::Movaps;
            let (base, start) = match aligned && pieces > 1 && piece == 0 {
                true => (self.aligned_address(i), 0),
                false => self.address(i, size),
            };
            let value = self.vector_at_address(bytes, (base, start + i64::from(offset)), aligned);
            if ty == Type::V256 && bytes < 32 { self.widen_zero(value) } else { value }
        } else {
            let start = match memory {
                true => SPARE_AT as u32,
                false => vector_at(Self::vector_number(i, n)),
            };
            let rest = offset & 15;
            let value = self.b.vget(ty, start + u32::from(offset - rest));
            if rest == 0 {
                value
            } else {
                let zero = self.zero(ty);
                self.b.vbyte(K::VAlignEach, ty, rest, value, zero)
            }
        };
        let computes = i.entry.has(Attr::Round) || i.entry.has(Attr::Sae);
        if i.mask == 0 || !computes {
            return value;
        }
        let lane = match i.entry.has(Attr::Tscalar) {
            true if kind == Kind::W => lane_of(size),
            true => lane_of(i.element()),
            false => lane_of(bytes / lanes),
        };
        let one = if lane == Lane::B64 { 1f64.to_bits() } else { 1f32.to_bits().into() };
        let one = self.b.imm(one);
        let one = self.b.vsplat(ty, lane, one);
        let mask = self.mask_of_piece(i, ty, lane);
        self.b.vblend(ty, mask, value, one)
    }

    /// Ones in the lanes of the piece that the opmask has, and above those that it is for.
    pub(crate) fn mask_of_piece(&mut self, i: &Insn, ty: Type, lane: Lane) -> Operand {
        let (piece, lanes) = self.wide.as_ref().map_or((0, 1), |w| (w.piece, w.lanes));
        let mut bits = self.opmask(i.mask);
        if piece > 0 {
            let count = self.b.imm(u64::from(piece) * u64::from(lanes));
            bits = self.b.shr(bits, count);
        }
        if usize::from(lanes) * lane.bytes() < ty.bytes() {
            let above = self.b.imm(u64::MAX << lanes);
            bits = self.b.or(bits, above);
        }
        self.b.vector1(K::VFromBits, ty, lane, bits)
    }

    /// Takes a result of the piece.
    pub(crate) fn keep_result(&mut self, i: &Insn, n: usize, ty: Type, value: Operand) {
        let to_mask = matches!(typed(i, n), Some((Kind::KG, _)));
        let bits = to_mask.then(|| self.b.vector1(K::VToBits, ty, lane_of(i.element()), value));
        if let Some(wide) = &mut self.wide {
            match bits {
                Some(bits) => wide.bits.push(bits),
                None => wide.results.push((n, ty, value)),
            }
        }
    }

    /// Which piece is being made.
    pub(crate) fn piece(&self) -> u8 {
        self.wide.as_ref().map_or(0, |wide| wide.piece)
    }

    pub(crate) fn set_piece(&mut self, piece: u8) {
        if let Some(wide) = &mut self.wide {
            wide.piece = piece;
        }
    }

    /// Whether this is the first piece, and the last.
    pub(crate) fn ends(&self) -> (bool, bool) {
        self.wide.as_ref().map_or((true, true), |w| (w.piece == 0, w.piece + 1 == w.pieces))
    }

    /// The part of an immediate that has `bits` bits for each 256.
    pub(crate) fn byte_of_piece(&self, i: &Insn, bits: u8) -> u8 {
        i.byte() >> (bits * self.piece())
    }

    /// Writes what was made.
    fn finish_evex(&mut self, i: &Insn) {
        let Some(mut wide) = self.wide.take() else { return };
        if !wide.bits.is_empty() {
            return self.finish_bits(i, &wide);
        }
        let Some((n, ty, _)) = wide.results.first().copied() else { return };
        let memory = i.memory.is_some() && matches!(typed(i, n), Some((Kind::W | Kind::M, _)));
        if memory {
            return self.finish_store(i, &wide, n);
        }
        let number = Self::vector_number(i, n);
        let bytes = match typed(i, n) {
            Some((_, spec)) if scales(spec) => Self::size(i, n) / wide.pieces,
            _ => Self::size(i, n),
        };
        let merges = i.mask != 0 && !wide.merged;
        let mut values: Vec<Operand> = wide.results.iter().map(|(.., value)| *value).collect();
        if merges {
            let lane = match i.entry.has(Attr::Tscalar) && !has_length(i) {
                true => lane_of(i.element()),
                false => lane_of(bytes / wide.lanes),
            };
            for (piece, value) in values.iter_mut().enumerate() {
                wide.piece = piece as u8;
                self.wide = Some(std::mem::take(&mut wide));
                let mask = self.mask_of_piece(i, ty, lane);
                wide = self.wide.take().unwrap_or_default();
                let at = vector_at(number) + piece as u32 * u32::from(bytes);
                let old = if i.zeroing { self.zero(ty) } else { self.b.vget(ty, at) };
                *value = self.b.vblend(ty, mask, *value, old);
            }
        }
        match values[..] {
            [low, high] if ty == Type::V256 => {
                self.b.vput(Type::V256, vector_at(number), low);
                self.b.vput(Type::V256, vector_at(number) + 32, high);
            }
            [low, high] => {
                let both = self.b.vector2(K::VJoin, Type::V256, Lane::B8, low, high);
                self.put_whole(number, Type::V256, both);
            }
            [one] => self.put_whole(number, ty, one),
            _ => {}
        }
    }

    /// Opmask bits of all pieces, by the opmask.
    fn finish_bits(&mut self, i: &Insn, wide: &Wide) {
        let lanes = u32::from(wide.lanes);
        let mut all = None;
        for (piece, bits) in wide.bits.iter().enumerate() {
            let low = self.low_ones(lanes);
            let mut bits = self.b.and(*bits, low);
            if piece > 0 {
                let count = self.b.imm(u64::from(lanes) * piece as u64);
                bits = self.b.shl(bits, count);
            }
            all = Some(match all {
                Some(others) => self.b.or(others, bits),
                None => bits,
            });
        }
        let Some(mut all) = all else { return };
        if i.mask != 0 {
            let mask = self.opmask(i.mask);
            all = self.b.and(all, mask);
        }
        self.keep(Self::opmask_register(i.reg), all);
    }

    /// Results to memory.
    fn finish_store(&mut self, i: &Insn, wide: &Wide, n: usize) {
        let size = Self::size(i, n);
        let step = size / wide.pieces;
        if i.mask == 0 {
            let aligned = i.entry.op == Op::MovapsTo;
            let (base, offset) = match wide.pieces {
                2 if size == 64 && aligned => (self.aligned_address(i), 0),
                2 if size == 64 => {
                    let address = self.whole_address(i, size);
                    self.touch(address);
                    (address, 0)
                }
                _ => self.address(i, size),
            };
            for (piece, (_, ty, value)) in wide.results.iter().enumerate() {
                let offset = offset + i64::from(step) * piece as i64;
                self.store_bytes(step, (base, offset), (*ty, *value), aligned);
            }
            return;
        }
        for (piece, (_, ty, value)) in wide.results.iter().enumerate() {
            let at = SPARE_AT as u32 + u32::from(step) * piece as u32;
            self.b.vput(*ty, at, *value);
        }
        let lanes = Self::mask_lanes(i);
        let (element, mask) = (size / lanes, Self::opmask_register(i.mask));
        if i.entry.has(Attr::Whole) {
            let address = self.whole_address(i, size);
            let bytes = self.b.imm(size.into());
            self.call_effect(HelperIndex::ProbeStore, &[address, bytes]);
        }
        self.write_lanes(i, mask, (lanes, element));
    }

    /// Writes the lanes whose bits are set in a register, from where helpers put them.
    pub(crate) fn write_lanes(&mut self, i: &Insn, mask: GuestReg, (lanes, element): (u8, u8)) {
        let size = lanes * element;
        let place = |t: &mut Self| {
            let (bits, low) = (t.b.reg(mask), t.low_ones(lanes.into()));
            (t.whole_address(i, size), t.b.and(bits, low))
        };
        let (slow, past) = (self.b.label(), self.b.label());
        let (address, bits) = place(self);
        let aligned = i.entry.op == Op::MovapsTo;
        if aligned {
            self.unless_aligned(address, size, slow);
        } else {
            self.unless_within_page(address, size, slow);
        }
        if size >= 16 {
            // All of it.
            let some = self.b.label();
            let all = self.low_ones(lanes.into());
            self.b.branch_if(Cond::Ne, bits, all, some);
            for from in (0..size).step_by(32) {
                let ty = if size >= 32 { Type::V256 } else { Type::V128 };
                let value = self.b.vget(ty, SPARE_AT as u32 + u32::from(from));
                self.store_bytes(size.min(32), (address, from.into()), (ty, value), false);
            }
            self.b.branch(past);
            self.b.place(some);
        }
        if lanes <= 16 {
            // Within a page a fault is the first lane's.
            for n in 0..lanes {
                let skip = self.b.label();
                let (bits, one) = (self.b.reg(mask), self.b.imm(1 << n));
                let (bit, zero) = (self.b.and(bits, one), self.b.imm(0));
                self.b.branch_if(Cond::Eq, bit, zero, skip);
                let at = n * element;
                let value = self.b.vget(Type::V128, SPARE_AT as u32 + u32::from(at & !15));
                let lane = u16::from((at & 15) / element);
                let value = self.b.vextract(Type::V128, lane_of(element), lane, value);
                let (base, offset) = self.address(i, size);
                self.b.store(unsigned(element), base, offset + i64::from(at), value);
                self.b.place(skip);
            }
            self.b.branch(past);
        } else {
            self.b.branch(slow);
        }
        self.b.place(slow);
        let (address, bits) = place(self);
        let how = if aligned { u64::from(size) << 8 } else { 0 };
        self.masked_write(address, bits, how | u64::from(element));
        self.b.place(past);
    }

    /// Writes the lanes whose bits are set from where helpers put them.
    fn masked_write(&mut self, address: Operand, bits: Operand, how: u64) {
        let how = self.b.imm(how);
        self.call_effect(HelperIndex::MaskedWrite, &[address, bits, how]);
    }

    /// The low bytes of a vector to memory.
    fn store_bytes(
        &mut self,
        size: u8,
        (base, offset): (Operand, i64),
        (ty, value): (Type, Operand),
        aligned: bool,
    ) {
        match size {
            16 | 32 => {
                let mem = MemOp::vector(ty);
                let mem = if aligned { mem.aligned() } else { mem };
                self.b.vstore(ty, mem, base, offset, value);
            }
            4 | 8 => {
                let (float, lane) = float_type(size);
                let value = self.b.vextract_float(Type::V128, lane, 0, value);
                let mem = self.mem(size);
                self.b.store_float(float, mem, base, offset, value);
            }
            _ => {
                let value = self.b.vextract(Type::V128, Lane::B16, 0, value);
                let mem = self.mem(size);
                self.b.store(mem, base, offset, value);
            }
        }
    }

    /// An instruction that a helper computes: [`crate::simd::wide`].
    pub(crate) fn helped(&mut self, i: &Insn, index: usize) {
        let to_bits = matches!(typed(i, 0), Some((Kind::KG, _)));
        let stores = i.memory.is_some() && memory_source(i).is_none();
        let operands = i.entry.operands;
        let registers = operands.iter().filter(|o| !matches!(o, Spec::Typed(Kind::I, _))).count();
        let two = registers == 2;
        let (x, y) = if two { (1, 1) } else { (1, 2) };
        let to = if to_bits { 0 } else { Self::vector_number(i, 0) & 31 };
        let a = Self::vector_number(i, x);
        let b = if memory_source(i).is_some() { SPARE } else { Self::vector_number(i, y) };
        let a = if two { b } else { a };
        let floats = i.entry.has(Attr::Round) || i.entry.has(Attr::Sae);
        let fixed = i.evex_b && i.memory.is_none();
        let source = match typed(i, y) {
            _ if i.broadcasts() => broadcast_size(i),
            _ => 0,
        };
        let lanes = Self::mask_lanes(i);
        let flag = |set: bool, bit: u32| u8::from(set) << bit;
        let flags = flag(i.zeroing, 0)
            | flag(stores, 1)
            | flag(fixed, 2)
            | flag(i.entry.has(Attr::Round), 3)
            | flag(i.entry.has(Attr::Tscalar) && !has_length(i), 4)
            | flag(i.w, 5);
        let what = [index as u8, i.byte(), i.evex_rc, i.element(), lanes, i.vl, flags, source];
        let from = match typed(i, y) {
            Some((_, spec)) if scales(spec) => Self::size(i, y) / lanes,
            _ => Self::size(i, y),
        };
        let names = [to, a, b, from, 0, 0, 0, 0];
        let (what, names) = (u64::from_le_bytes(what), u64::from_le_bytes(names));
        let (what, names) = (self.b.imm(what), self.b.imm(names));
        let mask = match i.mask {
            0 => self.b.imm(u64::MAX),
            _ => self.opmask(i.mask),
        };
        if floats && stores {
            // A fault comes before exceptions, and leaves no flags.
            let (address, low) =
                (self.whole_address(i, Self::size(i, 0)), self.low_ones(lanes.into()));
            let bits = self.b.and(mask, low);
            self.masked_write(address, bits, u64::from(i.element()) | ONLY_LOOK);
        }
        let args = [what, names, mask];
        let bits = match floats {
            true => self.call(HelperIndex::WideFloats, &args),
            false => self.leaf(LeafIndex::Wide, &args),
        };
        if to_bits && i.entry.mnemonic.starts_with("vp2intersect") {
            let shift = self.b.imm(32);
            let (low, high) = (self.b.zext(bits, 32), self.b.shr(bits, shift));
            self.keep(Self::opmask_register(i.reg & 6), low);
            self.keep(Self::opmask_register(i.reg | 1), high);
        } else if to_bits {
            self.keep(Self::opmask_register(i.reg), bits);
        } else if stores {
            self.b.set_reg(Self::scratch(0), bits);
            self.write_lanes(i, Self::scratch(0), (lanes, i.element()));
        }
    }

    /// What gathers and scatters name, for a helper.
    pub(crate) fn gathered_lanes(&mut self, i: &Insn) {
        let (Some(memory), Some(index)) = (i.memory, i.memory.and_then(|m| m.index)) else {
            return self.undefined_instruction();
        };
        let stores = i.opcode & 0xf0 == 0xa0;
        if i.mask == 0 || i.address_size == 2 || !stores && i.reg == index {
            return self.undefined_instruction();
        }
        let without = Insn { memory: Some(decode::Memory { index: None, ..memory }), ..*i };
        let base = self.whole_address(&without, 8);
        let size = i.element();
        let index_size = if i.opcode & 1 != 0 { 8 } else { 4 };
        let narrow = u8::from(!i.is_long() || i.address_size == 4);
        let lanes = i.vl / size.max(index_size);
        let how = [i.reg, index, size, index_size, lanes, memory.scale, narrow, i.mask];
        let how = self.b.imm(u64::from_le_bytes(how));
        let stores = self.b.imm(stores.into());
        self.call_effect(HelperIndex::GatherMasked, &[base, how, stores]);
    }
}

/// Of a masked write: whether it would fault, only.
pub(crate) const ONLY_LOOK: u64 = 1 << 16;

/// As a rounding mode: MXCSR's.
pub(crate) const CURRENT_ROUNDING: u8 = 4;

/// As the number of a register: what was read from memory.
pub(crate) const SPARE: u8 = 255;

/// Bytes of the lane that is broadcast.
fn broadcast_size(i: &Insn) -> u8 {
    let sizes = [(Attr::Bcst16, 2), (Attr::Bcst32, 4), (Attr::Bcst64, 8)];
    sizes.iter().find(|(attr, _)| i.entry.has(*attr)).map_or(4, |(_, size)| *size)
}
