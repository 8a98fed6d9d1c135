//! Random numbers from a seed (SplitMix64), or from a fuzzer's bytes as long as there are any.

/// A source of numbers, the same every time for the same seed.
#[derive(Clone, Debug)]
pub struct Random<'a> {
    bytes: &'a [u8],
    state: u64,
}

impl Random<'static> {
    /// Numbers from a seed.
    pub fn new(seed: u64) -> Self {
        Self { bytes: &[], state: seed }
    }
}

impl<'a> Random<'a> {
    /// Numbers from bytes; when they are used up, from their sum.
    pub fn from_bytes(bytes: &'a [u8]) -> Self {
        let sum = bytes.iter().fold(0u64, |sum, b| sum.rotate_left(5) ^ u64::from(*b));
        Self { bytes, state: sum }
    }

    /// Any number.
    pub fn number(&mut self) -> u64 {
        if let Some((first, rest)) = self.bytes.split_first_chunk() {
            self.bytes = rest;
            return u64::from_le_bytes(*first);
        }
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// A number below `n`; zero if there is none.
    pub fn below(&mut self, n: u64) -> u64 {
        if n == 0 {
            return 0;
        }
        match self.bytes.split_first() {
            // Small choices cost a fuzzer one byte each.
            Some((first, rest)) if n <= 256 => {
                self.bytes = rest;
                u64::from(*first) % n
            }
            _ => self.number() % n,
        }
    }

    /// Whether something of this probability, in percent, happens.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One of the items.
    ///
    /// # Panics
    /// There are no items.
    pub fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len() as u64) as usize]
    }
}
