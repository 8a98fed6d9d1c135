//! AES rounds (FIPS 197), as AESENC and its like have them: byte r + 4c is in row r, column c.

use super::galois::{inverse, multiply};
use super::{Bytes, from_words, words};

/// The substitution of bytes.
const SUBSTITUTE: [u8; 256] = {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        let x = inverse(i as u8);
        table[i] =
            x ^ x.rotate_left(1) ^ x.rotate_left(2) ^ x.rotate_left(3) ^ x.rotate_left(4) ^ 0x63;
        i += 1;
    }
    table
};

/// Its inverse.
const RESTORE: [u8; 256] = {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        table[SUBSTITUTE[i] as usize] = i as u8;
        i += 1;
    }
    table
};

/// Row r goes r columns to the left, or to the right.
fn shift_rows(v: Bytes, left: bool) -> Bytes {
    std::array::from_fn(|i| {
        let (row, column) = (i % 4, i / 4);
        let from = if left { column + row } else { column + 4 - row };
        v[row + 4 * (from % 4)]
    })
}

/// Columns times the circulant matrix with this first row.
fn mix(v: Bytes, row: [u8; 4]) -> Bytes {
    std::array::from_fn(|i| {
        let column = i / 4 * 4;
        let terms = (0..4).map(|k| multiply(v[column + k], row[(k + 4 - i % 4) % 4]));
        terms.fold(0, |sum, term| sum ^ term)
    })
}

fn xor(a: Bytes, b: Bytes) -> Bytes {
    std::array::from_fn(|i| a[i] ^ b[i])
}

const FORWARD: [u8; 4] = [2, 3, 1, 1];
const BACKWARD: [u8; 4] = [14, 11, 13, 9];

/// AESENC, AESENCLAST
pub(crate) fn encrypt(state: Bytes, key: Bytes, last: bool) -> Bytes {
    let v = shift_rows(state, true).map(|byte| SUBSTITUTE[usize::from(byte)]);
    xor(if last { v } else { mix(v, FORWARD) }, key)
}

/// AESDEC, AESDECLAST
pub(crate) fn decrypt(state: Bytes, key: Bytes, last: bool) -> Bytes {
    let v = shift_rows(state, false).map(|byte| RESTORE[usize::from(byte)]);
    xor(if last { v } else { mix(v, BACKWARD) }, key)
}

/// AESIMC
pub(crate) fn inverse_mix(v: Bytes) -> Bytes {
    mix(v, BACKWARD)
}

/// AESKEYGENASSIST
pub(crate) fn key_assist(v: Bytes, constant: u8) -> Bytes {
    let substituted =
        |w: u32| u32::from_le_bytes(w.to_le_bytes().map(|byte| SUBSTITUTE[usize::from(byte)]));
    let [_, x1, _, x3] = words(v).map(substituted);
    let rotated = |w: u32| w.rotate_right(8) ^ u32::from(constant);
    from_words([x1, rotated(x1), x3, rotated(x3)])
}
