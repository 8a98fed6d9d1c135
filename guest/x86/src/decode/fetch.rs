//! Bytes of an instruction, one after the other.

use super::{DecodeError, MAX_LEN};

/// A byte that cannot be fetched: how many came before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault(pub usize);

/// What bytes come from: the byte so many after the instruction's first.
pub type Source<'a> = dyn FnMut(usize) -> Option<u8> + 'a;

/// Bytes of one instruction.
pub struct Fetch<'a> {
    source: &'a mut Source<'a>,
    bytes: [u8; MAX_LEN],
    len: usize,
    /// Bytes in `bytes`; one may have been looked at only.
    known: usize,
}

impl<'a> Fetch<'a> {
    /// From the first byte on.
    pub fn new(source: &'a mut Source<'a>) -> Self {
        Self { source, bytes: [0; MAX_LEN], len: 0, known: 0 }
    }

    /// Bytes taken so far.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether none was taken.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The bytes taken so far.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// The next byte, which is not taken.
    pub(super) fn peek(&mut self) -> Result<u8, DecodeError> {
        if self.len >= MAX_LEN {
            return Err(DecodeError::TooLong);
        }
        if self.known <= self.len {
            self.bytes[self.len] = (self.source)(self.len).ok_or(Fault(self.len))?;
            self.known = self.len + 1;
        }
        Ok(self.bytes[self.len])
    }

    /// The next byte.
    pub(super) fn byte(&mut self) -> Result<u8, DecodeError> {
        let byte = self.peek()?;
        self.len += 1;
        Ok(byte)
    }

    /// A little-endian number of up to 8 bytes.
    pub(super) fn unsigned(&mut self, bytes: usize) -> Result<u64, DecodeError> {
        let mut value = 0;
        for i in 0..bytes.min(8) {
            value |= u64::from(self.byte()?) << (8 * i);
        }
        Ok(value)
    }

    /// The same, sign-extended.
    pub(super) fn signed(&mut self, bytes: usize) -> Result<i64, DecodeError> {
        let value = self.unsigned(bytes)?;
        let shift = 64 - 8 * bytes.clamp(1, 8);
        Ok((value << shift).cast_signed() >> shift)
    }
}

/// A source of a slice.
pub struct Slice<'a>(pub &'a [u8]);

impl Slice<'_> {
    /// The byte at a place.
    pub fn get(&self, at: usize) -> Option<u8> {
        self.0.get(at).copied()
    }
}
