//! Instructions on vectors that are functions of bytes, rare enough to be called.

pub mod dot;
pub mod galois;
pub mod rare;
pub mod wide;
pub mod wide_floats;

/// 128 bits, the lowest byte first.
pub type Bytes = [u8; 16];
