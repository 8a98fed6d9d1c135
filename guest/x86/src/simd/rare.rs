//! The table of instructions that are functions of 128 bits.

use super::{Bytes, galois};

/// What such an instruction sees.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sources {
    /// The first source.
    pub(crate) a: Bytes,
    /// The second source; of instructions of one, the only one.
    pub(crate) b: Bytes,
    /// The immediate.
    pub(crate) imm: u8,
    /// Which 128 bits these are.
    pub(crate) part: usize,
}

type Function = fn(&Sources) -> Bytes;

/// Instructions by their mnemonics without VEX's `v`.
pub(crate) static RARE: &[(&str, Function)] = &[
    ("phminposuw", |s| minimum_position(s.b)),
    ("mpsadbw", multiple_distances),
    ("gf2p8mulb", |s| galois::multiply_bytes(s.a, s.b)),
    ("gf2p8affineqb", |s| galois::affine_bytes(s.a, s.b, s.imm)),
    ("gf2p8affineinvqb", |s| galois::affine_inverse_bytes(s.a, s.b, s.imm)),
];

/// The place of an instruction in the table.
pub(crate) fn index(mnemonic: &str) -> Option<usize> {
    let name = |name: &str| RARE.iter().position(|(known, _)| *known == name);
    name(mnemonic).or_else(|| name(mnemonic.strip_prefix('v')?))
}

/// PHMINPOSUW: the least of eight numbers, and its place.
fn minimum_position(v: Bytes) -> Bytes {
    let numbers = v.chunks_exact(2).map(|w| u16::from_le_bytes([w[0], w[1]]));
    let least = numbers.enumerate().min_by_key(|(place, number)| (*number, *place));
    let (place, number) = least.unwrap_or_default();
    let mut result = [0; 16];
    result[..2].copy_from_slice(&number.to_le_bytes());
    result[2] = place as u8;
    result
}

/// MPSADBW: distances of four bytes of the second source from eight places of the first.
fn multiple_distances(s: &Sources) -> Bytes {
    let imm = s.imm >> (3 * s.part);
    let (from, block) = (usize::from(imm >> 2 & 1) * 4, usize::from(imm & 3) * 4);
    let distance = |place: usize| -> u16 {
        let byte = |k: usize| u16::from(s.a[from + place + k].abs_diff(s.b[block + k]));
        (0..4).map(byte).sum()
    };
    std::array::from_fn(|i| distance(i / 2).to_le_bytes()[i % 2])
}
