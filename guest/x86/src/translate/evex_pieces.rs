//! What the table of [`crate::simd::wide`] has, but is quick to do on vectors.

use super::Translator;
use super::evex::lane_of;
use crate::decode::Insn;
use Lane::{B8, B16, B32, B64};
use ir::{Lane, OpKind as K, Operand, Type};

/// How an instruction is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Lanes of one source, chosen by the other.
    Permute,
    /// Lanes of two sources, chosen by what the destination was: it, or a table.
    PermuteTwo,
    /// Both sources shifted by lanes.
    Align,
    /// Parts of 128 bits.
    Shuffle,
    /// To integral values.
    Round,
    /// Products of words, or of bytes, and an accumulator.
    Words,
    Bytes,
    /// Bits that are set.
    Count,
    /// The low halves of lanes.
    Narrow,
    /// Unsigned integers to floats.
    Unsigned,
}

/// How an instruction is done on pieces; not at all if a helper does it.
fn way(i: &Insn) -> Option<Way> {
    let name = i.entry.mnemonic;
    let two = name.starts_with("vpermi2") || name.starts_with("vpermt2");
    // Words and double words of 128 bits alone are nobody's.
    let permutes = i.element() < 4 || i.vl > 16;
    match name {
        _ if two => permutes.then_some(Way::PermuteTwo),
        "vpermb" | "vpermw" | "vpermd" | "vpermps" | "vpermq" | "vpermpd" => {
            permutes.then_some(Way::Permute)
        }
        "valignd" | "valignq" => Some(Way::Align),
        "vshuff32x4" | "vshuff64x2" | "vshufi32x4" | "vshufi64x2" => Some(Way::Shuffle),
        "vrndscaleps" | "vrndscalepd" | "vrndscaless" | "vrndscalesd" => {
            (i.byte() >> 4 == 0).then_some(Way::Round)
        }
        "vpdpwssd" => Some(Way::Words),
        "vpdpbusd" => Some(Way::Bytes),
        "vpopcntb" | "vpopcntw" | "vpopcntd" | "vpopcntq" => Some(Way::Count),
        "vpmovwb" | "vpmovdw" | "vpmovqd" => Some(Way::Narrow),
        "vcvtudq2ps" => Some(Way::Unsigned),
        _ => None,
    }
}

/// Whether an instruction of the table is done on pieces.
pub(crate) fn is_pieced(i: &Insn) -> bool {
    way(i).is_some()
}

impl Translator<'_, '_> {
    /// An instruction of the table, done on a piece; whether it is.
    pub(crate) fn pieced(&mut self, i: &Insn) -> bool {
        let Some(way) = way(i) else { return false };
        let lane = lane_of(i.element());
        match way {
            Way::Permute => {
                let ty = Self::vector_type(i);
                let index = self.vector_operand(i, 1, ty);
                let parts = self.parts(i, 2);
                self.put_chosen(i, ty, &parts, index);
            }
            Way::PermuteTwo => {
                // Of VPERMI2 the index is what the destination was, of VPERMT2 the first source.
                let ty = Self::vector_type(i);
                let (index, first) = if i.opcode & 8 == 0 { (0, 1) } else { (1, 0) };
                let index = self.vector_operand(i, index, ty);
                let mut parts = self.parts(i, first);
                parts.extend(self.parts(i, 2));
                self.put_chosen(i, ty, &parts, index);
            }
            Way::Align => {
                let ty = Self::vector_type(i);
                let mut parts = self.parts(i, 2);
                parts.extend(self.parts(i, 1));
                let each = ty.bytes() / lane.bytes();
                let lanes = usize::from(i.vl) / lane.bytes();
                let first = usize::from(i.byte()) % lanes + usize::from(self.piece()) * each;
                let (part, rest) = (first / each, first % each);
                let value = match rest {
                    0 => parts[part],
                    _ => self.b.valign(ty, lane, rest as u16, parts[part], parts[part + 1]),
                };
                self.put_vector(i, 0, ty, value);
            }
            Way::Shuffle => {
                let (a, b) = (self.parts(i, 1), self.parts(i, 2));
                let count = usize::from(i.vl / 16);
                let bits = count.trailing_zeros() as usize;
                let first = usize::from(self.piece()) * 2;
                let [low, high] = [first, first + 1].map(|n| {
                    let from = usize::from(i.byte()) >> (n * bits) & (count - 1);
                    let source = if n < count / 2 { &a } else { &b };
                    self.b.vhalf((from & 1) as u16, source[from / 2])
                });
                let value = self.b.vector2(K::VJoin, Type::V256, B8, low, high);
                self.put_vector(i, 0, Type::V256, value);
            }
            Way::Round if i.opcode & 2 == 0 => self.rounded_lanes(i, lane),
            Way::Round => self.rounded_lowest(i, lane),
            Way::Words => self.accumulated(i, |t, ty, a, b| t.b.vector2(K::VPairs16, ty, B8, a, b)),
            Way::Bytes => self.accumulated(i, |t, ty, a, b| {
                // As words: the even bytes, and the odd ones.
                let eight = t.b.imm(8);
                let low = t.b.imm(0xff);
                let low = t.b.vsplat(ty, B16, low);
                let even = t.b.vlogic(K::VAnd, ty, a, low);
                let other = t.b.vector2(K::VShlBy, ty, B16, b, eight);
                let other = t.b.vector2(K::VSarBy, ty, B16, other, eight);
                let even = t.b.vector2(K::VPairs16, ty, B8, even, other);
                let odd = t.b.vector2(K::VShrBy, ty, B16, a, eight);
                let other = t.b.vector2(K::VSarBy, ty, B16, b, eight);
                let odd = t.b.vector2(K::VPairs16, ty, B8, odd, other);
                t.b.vector2(K::VAdd, ty, B32, even, odd)
            }),
            Way::Count => self.unary_vector(i, |t, ty, a| t.counted(ty, lane, a)),
            Way::Narrow => {
                let ty = Self::vector_type(i);
                let a = self.vector_operand(i, 1, ty);
                let value = self.b.vector1(K::VNarrow, ty, lane, a);
                let value = if ty == Type::V256 { self.b.vhalf(0, value) } else { value };
                self.put_vector(i, 0, Type::V128, value);
            }
            Way::Unsigned => self.unary_vector(i, |t, ty, a| {
                // The halves are exact, and so is the product: the sum alone is rounded.
                let (sixteen, low) = (t.b.imm(16), t.splatted(ty, B32, 0xffff));
                let high = t.b.vector2(K::VShrBy, ty, B32, a, sixteen);
                let low = t.b.vlogic(K::VAnd, ty, a, low);
                let step = t.splatted(ty, B32, 65536f32.to_bits().into());
                t.exactly(|t| {
                    let [high, low] = [high, low].map(|v| t.b.vector1(K::VFFromInt, ty, B32, v));
                    t.b.vfmuladd(ty, B32, (false, false), [high, step, low])
                })
            }),
        }
        true
    }

    /// All pieces of operand `n`.
    fn parts(&mut self, i: &Insn, n: usize) -> Vec<Operand> {
        let ty = Self::vector_type(i);
        let piece = self.piece();
        let part = |t: &mut Self, number: u8| {
            t.set_piece(number);
            t.vector_operand(i, n, ty)
        };
        let parts = (0..(i.vl / 32).max(1)).map(|number| part(self, number)).collect();
        self.set_piece(piece);
        parts
    }

    /// Lanes of a table by indices.
    fn put_chosen(&mut self, i: &Insn, ty: Type, parts: &[Operand], index: Operand) {
        let value = match i.element() {
            1 | 2 => self.chosen_bytes(i, ty, parts, index),
            size => self.chosen_words(ty, lane_of(size), parts, index),
        };
        self.put_vector(i, 0, ty, value);
    }

    fn splatted(&mut self, ty: Type, lane: Lane, value: u64) -> Operand {
        let value = self.b.imm(value);
        self.b.vsplat(ty, lane, value)
    }

    /// Lanes of 8 or 16 bits: each part gives those that it has, and zeros.
    fn chosen_bytes(&mut self, i: &Insn, ty: Type, parts: &[Operand], index: Operand) -> Operand {
        let table = parts.len() * ty.bytes();
        let mut bytes = index;
        if i.element() == 2 {
            // Bytes 2n and 2n + 1.
            let (both, second) = (self.splatted(ty, B16, 0x0202), self.splatted(ty, B16, 0x0100));
            let low = self.splatted(ty, B16, (table / 2 - 1) as u64);
            bytes = self.b.vlogic(K::VAnd, ty, bytes, low);
            bytes = self.b.vector2(K::VMul, ty, B16, bytes, both);
            bytes = self.b.vector2(K::VAdd, ty, B8, bytes, second);
        } else {
            let low = self.splatted(ty, B8, (table - 1) as u64);
            bytes = self.b.vlogic(K::VAnd, ty, bytes, low);
        }
        let step = self.splatted(ty, B8, ty.bytes() as u64);
        let mut value = self.b.vlogic(K::VShuffle, ty, parts[0], bytes);
        for part in &parts[1..] {
            bytes = self.b.vector2(K::VSub, ty, B8, bytes, step);
            let more = self.b.vlogic(K::VShuffle, ty, *part, bytes);
            value = self.b.vlogic(K::VOr, ty, value, more);
        }
        value
    }

    /// Lanes of 32 or 64 bits: bits of the index above three choose among parts of eight words.
    fn chosen_words(&mut self, ty: Type, lane: Lane, parts: &[Operand], index: Operand) -> Operand {
        let mut index = index;
        if lane == B64 {
            let copied = self.b.vbyte(K::VPick, ty, 0xa0, index, Operand::NONE);
            let doubled = self.b.vector2(K::VAdd, ty, B32, copied, copied);
            let odd = self.splatted(ty, B64, 1 << 32);
            index = self.b.vlogic(K::VOr, ty, doubled, odd);
        }
        let mut values: Vec<Operand> =
            parts.iter().map(|part| self.b.vlogic(K::VPermute32, ty, *part, index)).collect();
        let mut bit = 3;
        while values.len() > 1 {
            let (count, all) = (self.b.imm(31 - bit), self.b.imm(31));
            let mask = self.b.vector2(K::VShlBy, ty, B32, index, count);
            let mask = self.b.vector2(K::VSarBy, ty, B32, mask, all);
            values = values
                .chunks(2)
                .map(|pair| match pair {
                    [low, high] => self.b.vblend(ty, mask, *high, *low),
                    _ => pair[0],
                })
                .collect();
            bit += 1;
        }
        values[0]
    }

    /// What an operation makes of the sources, added to the destination.
    fn accumulated(
        &mut self,
        i: &Insn,
        op: impl FnOnce(&mut Self, Type, Operand, Operand) -> Operand,
    ) {
        let ty = Self::vector_type(i);
        let b = self.vector_operand(i, 2, ty);
        let (a, c) = (self.vector_operand(i, 1, ty), self.vector_operand(i, 0, ty));
        let products = op(self, ty, a, b);
        let value = self.b.vector2(K::VAdd, ty, B32, c, products);
        self.put_vector(i, 0, ty, value);
    }

    /// How many bits of each lane are set: by a table for four bits.
    fn counted(&mut self, ty: Type, lane: Lane, a: Operand) -> Operand {
        let low = self.splatted(ty, B64, 0x0302_0201_0201_0100);
        let high = self.splatted(ty, B64, 0x0403_0302_0302_0201);
        let table = self.b.vector2(K::VUnpackLow, ty, B64, low, high);
        let (four, nibble) = (self.b.imm(4), self.splatted(ty, B8, 15));
        let upper = self.b.vector2(K::VShrBy, ty, B16, a, four);
        let [low, high] = [a, upper].map(|v| {
            let v = self.b.vlogic(K::VAnd, ty, v, nibble);
            self.b.vlogic(K::VShuffleEach, ty, table, v)
        });
        let bytes = self.b.vector2(K::VAdd, ty, B8, low, high);
        let sum = |t: &mut Self, v: Operand, lane: Lane| {
            // The upper half of each lane to the lower one.
            let half = t.b.imm(u64::from(lane.bits()) / 2);
            let upper = t.b.vector2(K::VShrBy, ty, lane, v, half);
            let sum = t.b.vector2(K::VAdd, ty, lane, v, upper);
            let keep = t.splatted(ty, lane, 0xff);
            t.b.vlogic(K::VAnd, ty, sum, keep)
        };
        match lane {
            B8 => bytes,
            B16 => sum(self, bytes, B16),
            B32 => {
                let words = sum(self, bytes, B16);
                sum(self, words, B32)
            }
            B64 => {
                let zero = self.zero(ty);
                self.b.vector2(K::VDistance, ty, B8, bytes, zero)
            }
        }
    }
}
