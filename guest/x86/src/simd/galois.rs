//! Arithmetic in GF(2⁸): GFNI.

use super::Bytes;
use ir::cipher::{inverse, multiply};

/// A matrix of bits, a row in each byte of its lane from the last on, times a byte, plus another.
pub(crate) fn affine(matrix: &[u8], x: u8, plus: u8) -> u8 {
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
