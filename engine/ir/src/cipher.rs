//! What the operations on cipher blocks compute: AES rounds (FIPS 197; byte r + 4c of a block is in row r,
//! column c), products in GF(2⁸), carry-less products.

/// 128 bits, the lowest byte first.
pub type Block = [u8; 16];

/// The lanes of 32 bits.
pub(crate) fn words(v: Block) -> [u32; 4] {
    std::array::from_fn(|i| {
        u32::from_le_bytes([v[4 * i], v[4 * i + 1], v[4 * i + 2], v[4 * i + 3]])
    })
}

/// The reverse of [`words`].
pub(crate) fn from_words(words: [u32; 4]) -> Block {
    std::array::from_fn(|i| words[i / 4].to_le_bytes()[i % 4])
}

/// The field of AES: its polynomial is x⁸ + x⁴ + x³ + x + 1, here without the highest bit.
const FIELD: u8 = 0x1b;

/// The product in the field of AES.
pub const fn multiply(a: u8, b: u8) -> u8 {
    multiply_in(FIELD, a, b)
}

/// The product in the field with this polynomial, whose highest bit is left out.
const fn multiply_in(field: u8, a: u8, b: u8) -> u8 {
    let (mut a, mut product, mut i) = (a, 0, 0);
    while i < 8 {
        if b >> i & 1 != 0 {
            product ^= a;
        }
        a = a << 1 ^ if a >> 7 != 0 { field } else { 0 };
        i += 1;
    }
    product
}

/// The inverse in the field of AES; of zero: zero.
pub const fn inverse(a: u8) -> u8 {
    inverse_in(FIELD, a)
}

/// The inverse, a²⁵⁴, in the field with this polynomial, whose highest bit is left out; of zero: zero.
pub const fn inverse_in(field: u8, a: u8) -> u8 {
    let (mut result, mut power, mut i) = (1, a, 1);
    while i < 8 {
        power = multiply_in(field, power, power);
        result = multiply_in(field, result, power);
        i += 1;
    }
    result
}

/// The substitution of bytes in AES.
pub static AES_SBOX: [u8; 256] = {
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
pub static AES_INVERSE_SBOX: [u8; 256] = {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        table[AES_SBOX[i] as usize] = i as u8;
        i += 1;
    }
    table
};

/// Row r goes r columns to the left, or to the right.
fn shift_rows(v: Block, left: bool) -> Block {
    std::array::from_fn(|i| {
        let (row, column) = (i % 4, i / 4);
        let from = if left { column + row } else { column + 4 - row };
        v[row + 4 * (from % 4)]
    })
}

/// Columns times the circulant matrix with this first row.
fn mix(v: Block, row: [u8; 4]) -> Block {
    std::array::from_fn(|i| {
        let column = i / 4 * 4;
        let terms = (0..4).map(|k| multiply(v[column + k], row[(k + 4 - i % 4) % 4]));
        terms.fold(0, |sum, term| sum ^ term)
    })
}

fn xor(a: Block, b: Block) -> Block {
    std::array::from_fn(|i| a[i] ^ b[i])
}

const FORWARD: [u8; 4] = [2, 3, 1, 1];
const BACKWARD: [u8; 4] = [14, 11, 13, 9];

/// A round of encryption, without mixed columns if it is the last.
pub fn encrypt(state: Block, key: Block, last: bool) -> Block {
    let v = shift_rows(state, true).map(|byte| AES_SBOX[usize::from(byte)]);
    xor(if last { v } else { mix(v, FORWARD) }, key)
}

/// A round of the equivalent inverse cipher, alike.
pub fn decrypt(state: Block, key: Block, last: bool) -> Block {
    let v = shift_rows(state, false).map(|byte| AES_INVERSE_SBOX[usize::from(byte)]);
    xor(if last { v } else { mix(v, BACKWARD) }, key)
}

/// Inverse mixed columns.
pub fn inverse_mix(v: Block) -> Block {
    mix(v, BACKWARD)
}

/// Words 1 and 3 substituted; and rotated, with the constant.
pub fn key_assist(v: Block, constant: u8) -> Block {
    let substituted =
        |w: u32| u32::from_le_bytes(w.to_le_bytes().map(|byte| AES_SBOX[usize::from(byte)]));
    let [_, x1, _, x3] = words(v).map(substituted);
    let rotated = |w: u32| w.rotate_right(8) ^ u32::from(constant);
    from_words([x1, rotated(x1), x3, rotated(x3)])
}

/// The carry-less product of a half of each: bits 0 and 4 say which.
pub fn carryless(a: Block, b: Block, which: u8) -> Block {
    let half = |v: Block, high: bool| {
        let from = if high { 8 } else { 0 };
        v[from..from + 8].iter().rev().fold(0u128, |sum, byte| sum << 8 | u128::from(*byte))
    };
    let (x, y) = (half(a, which & 1 != 0), half(b, which & 16 != 0));
    let terms = (0..64).filter(|bit| y >> bit & 1 != 0).map(|bit| x << bit);
    terms.fold(0, |sum, term| sum ^ term).to_le_bytes()
}
