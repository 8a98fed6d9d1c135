//! Instructions on vectors that are functions of bytes, rare enough to be called.

pub mod dot;
pub mod galois;
pub mod rare;
pub mod sha;
pub mod strings;
pub mod wide;
pub mod wide_floats;

/// 128 bits, the lowest byte first.
pub type Bytes = [u8; 16];

/// The lanes of 32 bits.
pub(crate) fn words(v: Bytes) -> [u32; 4] {
    std::array::from_fn(|i| {
        u32::from_le_bytes([v[4 * i], v[4 * i + 1], v[4 * i + 2], v[4 * i + 3]])
    })
}

/// The reverse of [`words`].
pub(crate) fn from_words(words: [u32; 4]) -> Bytes {
    std::array::from_fn(|i| words[i / 4].to_le_bytes()[i % 4])
}
