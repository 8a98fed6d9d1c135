//! Comparisons of texts of up to 16 bytes, as x86 has them (Intel SDM volume 2, “Imm8 Control Byte Operation
//! for PCMPESTRI…”): elements that are in a set or in ranges, that are equal, or at which a text begins.

use crate::cipher::Block;

/// Some element fits.
const CF: u32 = 1 << 0;
/// The second text ends within the block.
const ZF: u32 = 1 << 6;
/// The first text does.
const SF: u32 = 1 << 7;
/// The first element fits.
const OF: u32 = 1 << 11;

/// What a comparison gives.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    /// The index of an element that fits, or how many there are.
    pub index: u32,
    /// The elements that fit, as bits or as elements.
    pub mask: Block,
    /// Bit 0: some element fits; 6: the second text ends within the block; 7: the first does; 11: the first
    /// element fits.
    pub flags: u32,
}

/// Elements, as many as are valid.
struct Text {
    elements: [i32; 16],
    len: usize,
}

fn text(v: Block, length: Option<i64>, imm: u8) -> Text {
    let (words, signed) = (imm & 1 != 0, imm & 2 != 0);
    let count = if words { 8 } else { 16 };
    let element = |i: usize| match (words, signed) {
        (false, false) => v[i].into(),
        (false, true) => v[i].cast_signed().into(),
        (true, _) if i >= 8 => 0,
        (true, false) => u16::from_le_bytes([v[2 * i], v[2 * i + 1]]).into(),
        (true, true) => i16::from_le_bytes([v[2 * i], v[2 * i + 1]]).into(),
    };
    let elements: [i32; 16] = std::array::from_fn(element);
    let len = match length {
        Some(length) => length.unsigned_abs().min(count as u64) as usize,
        None => elements[..count].iter().position(|e| *e == 0).unwrap_or(count),
    };
    Text { elements, len }
}

/// Compares as `imm` says; lengths are given, or an element of zero ends a text.
pub fn compare(a: Block, b: Block, lengths: [Option<i64>; 2], imm: u8) -> Found {
    let count = if imm & 1 != 0 { 8 } else { 16 };
    let (x, y) = (text(a, lengths[0], imm), text(b, lengths[1], imm));
    let equal = |i: usize, j: usize| x.elements[i] == y.elements[j];
    let fits = |j: usize| match imm >> 2 & 3 {
        // Any of the first text.
        0 => j < y.len && (0..x.len).any(|i| equal(i, j)),
        // In any range of it.
        1 => {
            let within =
                |i: usize| x.elements[i] <= y.elements[j] && y.elements[j] <= x.elements[i + 1];
            j < y.len && (0..x.len / 2).any(|i| within(2 * i))
        }
        // The same at the same place; both texts may be over.
        2 => match (j < x.len, j < y.len) {
            (true, true) => equal(j, j),
            (false, false) => true,
            _ => false,
        },
        // The first text begins here.
        _ => (0..x.len).all(|i| j + i >= count || j + i < y.len && equal(i, j + i)),
    };
    let raw = (0..count).filter(|j| fits(*j)).fold(0u32, |bits, j| bits | 1 << j);
    let valid = (1u32 << y.len) - 1;
    let all = (1u32 << count) - 1;
    let bits = match imm >> 4 & 3 {
        1 => raw ^ all,
        3 => raw ^ valid,
        _ => raw,
    };
    let index = match (bits, imm & 0x40) {
        (0, _) => count as u32,
        (_, 0) => bits.trailing_zeros(),
        _ => bits.ilog2(),
    };
    let mask = std::array::from_fn(|i| match imm & 0x40 {
        0 => bits.to_le_bytes().get(i).copied().unwrap_or(0),
        _ => {
            let element = if imm & 1 != 0 { i / 2 } else { i };
            if bits >> element & 1 != 0 { 0xff } else { 0 }
        }
    });
    let flag = |condition: bool, flag: u32| if condition { flag } else { 0 };
    let flags = flag(bits != 0, CF)
        | flag(y.len < count, ZF)
        | flag(x.len < count, SF)
        | flag(bits & 1 != 0, OF);
    Found { index, mask, flags }
}

impl Found {
    /// The index, and the flags from bit 32 on.
    pub fn packed(&self) -> u64 {
        u64::from(self.index) | u64::from(self.flags) << 32
    }
}
