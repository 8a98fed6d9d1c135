//! Reproducible randomness for tests: what a seed gives is the same everywhere and for ever, so that a
//! failure replays. Not for secrets. The generator is xorshift64* (S. Vigna, "An experimental
//! exploration of Marsaglia's xorshift generators, scrambled").

/// A generator; its state must not be zero.
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    /// The next number.
    #[expect(clippy::should_implement_trait, reason = "there is always a next one")]
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `n`, which is not zero.
    pub fn below(&mut self, n: u64) -> u64 {
        (self.next() >> 16) % n
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_for_ever() {
        let mut random = Random(1);
        assert_eq!([(); 2].map(|()| random.next()), [0x47e4_ce4b_896c_dd1d, 0xabcf_a6a8_e079_651d]);
        assert!((0..1000).all(|_| random.below(7) < 7));
    }
}
