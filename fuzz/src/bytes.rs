//! Decisions out of a fuzzer's bytes: zeroes when they are used up.

/// What is left of an input.
pub struct Bytes<'a>(pub &'a [u8]);

impl<'a> Bytes<'a> {
    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next `n` bytes, or what is left.
    pub fn take(&mut self, n: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(n.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// A little-endian number of `n` bytes, at most 8.
    pub fn number(&mut self, n: usize) -> u64 {
        let mut bytes = [0; 8];
        let taken = self.take(n.min(8));
        bytes[..taken.len()].copy_from_slice(taken);
        u64::from_le_bytes(bytes)
    }

    /// A byte.
    pub fn byte(&mut self) -> u8 {
        self.number(1) as u8
    }

    /// A number below `n`, which is at most 65536; zero if there is none.
    pub fn below(&mut self, n: u64) -> u64 {
        let width = if n <= 256 { 1 } else { 2 };
        self.number(width).checked_rem(n).unwrap_or(0)
    }

    /// A value as drivers write them: small, one bit, all ones, an address near `base`, or any.
    pub fn value(&mut self, base: u64) -> u64 {
        match self.byte() % 6 {
            0 | 1 => self.number(1),
            2 => 1 << self.below(64),
            3 => u64::MAX >> self.below(64),
            4 => base.wrapping_add(self.number(2)),
            _ => self.number(8),
        }
    }
}
