//! Arithmetic in GF(2⁸) and carry-less products: GFNI, PCLMULQDQ.

use super::Bytes;

/// The product modulo x⁸ + x⁴ + x³ + x + 1.
pub(crate) const fn multiply(a: u8, b: u8) -> u8 {
    let (mut a, mut product, mut i) = (a, 0, 0);
    while i < 8 {
        if b >> i & 1 != 0 {
            product ^= a;
        }
        a = a << 1 ^ if a >> 7 != 0 { 0x1b } else { 0 };
        i += 1;
    }
    product
}

/// The inverse, a²⁵⁴; of zero: zero.
pub(crate) const fn inverse(a: u8) -> u8 {
    let (mut result, mut power, mut i) = (1, a, 1);
    while i < 8 {
        power = multiply(power, power);
        result = multiply(result, power);
        i += 1;
    }
    result
}

/// A matrix of bits, a row in each byte of its lane from the last on, times a byte, plus another.
fn affine(matrix: &[u8], x: u8, plus: u8) -> u8 {
    let row = |bit: usize| ((matrix[7 - bit] & x).count_ones() as u8 & 1) << bit;
    (0..8).map(row).sum::<u8>() ^ plus
}

/// GF2P8MULB
pub(crate) fn multiply_bytes(a: Bytes, b: Bytes) -> Bytes {
    std::array::from_fn(|i| multiply(a[i], b[i]))
}

/// GF2P8AFFINEQB
pub(crate) fn affine_bytes(x: Bytes, matrices: Bytes, plus: u8) -> Bytes {
    std::array::from_fn(|i| affine(&matrices[i / 8 * 8..i / 8 * 8 + 8], x[i], plus))
}

/// GF2P8AFFINEINVQB
pub(crate) fn affine_inverse_bytes(x: Bytes, matrices: Bytes, plus: u8) -> Bytes {
    affine_bytes(x.map(inverse), matrices, plus)
}

/// PCLMULQDQ: the carry-less product of a half of each.
pub(crate) fn carryless(a: Bytes, b: Bytes, which: u8) -> Bytes {
    let half = |v: Bytes, high: bool| {
        let from = if high { 8 } else { 0 };
        v[from..from + 8].iter().rev().fold(0u128, |sum, byte| sum << 8 | u128::from(*byte))
    };
    let (x, y) = (half(a, which & 1 != 0), half(b, which & 16 != 0));
    let terms = (0..64).filter(|bit| y >> bit & 1 != 0).map(|bit| x << bit);
    terms.fold(0, |sum, term| sum ^ term).to_le_bytes()
}
