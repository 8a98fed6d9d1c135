//! A set of bits over a disk, one per so many bytes, that takes memory only where bits are set.

use std::collections::BTreeMap;

/// Words of a chunk: 32768 bits in 4 KiB.
const WORDS: usize = 512;
const CHUNK: u64 = WORDS as u64 * 64;

/// The bits of a dirty bitmap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DirtyBits {
    granularity_bits: u32,
    /// Chunks with set bits, by the number of their first bit divided by their length.
    chunks: BTreeMap<u64, Box<[u64; WORDS]>>,
}

impl DirtyBits {
    /// No bits set, each for `1 << granularity_bits` (below 64) bytes.
    pub fn new(granularity_bits: u32) -> Self {
        Self { granularity_bits, chunks: BTreeMap::new() }
    }

    /// Whether no bit is set.
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// Whether the bit of a byte is set.
    pub fn is_set(&self, offset: u64) -> bool {
        let bit = offset >> self.granularity_bits;
        self.word(bit - bit % 64) >> (bit % 64) & 1 != 0
    }

    /// Sets the bits of a byte range; those that it only touches, too.
    pub fn set(&mut self, offset: u64, len: u64) {
        let (first, end) = (offset >> self.granularity_bits, self.end(offset, len));
        self.each_word(first, end, |words, i, mask| words[i] |= mask);
    }

    /// Clears the bits of a byte range that lie inside it as a whole.
    pub fn clear(&mut self, offset: u64, len: u64) {
        let unit = 1u64 << self.granularity_bits;
        let first = offset.div_ceil(unit);
        let end = offset.saturating_add(len) >> self.granularity_bits;
        let chunks: Vec<u64> = self.chunks.range(first / CHUNK..).map(|(at, _)| *at).collect();
        for chunk in chunks.into_iter().take_while(|chunk| chunk * CHUNK < end) {
            let (from, to) = (first.max(chunk * CHUNK), end.min((chunk + 1) * CHUNK));
            if from < to {
                self.each_word(from, to, |words, i, mask| words[i] &= !mask);
            }
        }
        self.chunks.retain(|_, words| words.iter().any(|word| *word != 0));
    }

    /// The first run of set bits at or behind byte `from`, as start and length in bytes. The start
    /// is never before `from`; the end may lie behind the disk's.
    pub fn next_run(&self, from: u64) -> Option<(u64, u64)> {
        let start = self.find(from >> self.granularity_bits, true)?;
        let end = self.find(start, false)?;
        let bytes = |bit: u64| bit.saturating_mul(1 << self.granularity_bits);
        let first = bytes(start).max(from);
        Some((first, bytes(end) - first))
    }

    /// Number of set bits.
    pub fn count(&self) -> u64 {
        let ones = |words: &[u64; WORDS]| words.iter().map(|w| u64::from(w.count_ones())).sum();
        self.chunks.values().map(|words| -> u64 { ones(words) }).sum()
    }

    /// Sixty-four bits from bit `index` on, which is a multiple of that.
    pub fn word(&self, index: u64) -> u64 {
        let chunk = self.chunks.get(&(index / CHUNK));
        chunk.map_or(0, |words| words[(index % CHUNK / 64) as usize])
    }

    /// Sets those bits.
    pub fn set_word(&mut self, index: u64, word: u64) {
        if word != 0 {
            let words = self.chunks.entry(index / CHUNK).or_insert_with(|| Box::new([0; WORDS]));
            words[(index % CHUNK / 64) as usize] |= word;
        }
    }

    /// The number of the first bit at or behind `from` in a chunk with set bits.
    pub fn next_chunk(&self, from: u64) -> Option<u64> {
        let (chunk, _) = self.chunks.range(from / CHUNK..).next()?;
        Some((chunk * CHUNK).max(from))
    }

    fn end(&self, offset: u64, len: u64) -> u64 {
        offset.saturating_add(len).div_ceil(1 << self.granularity_bits)
    }

    fn each_word(
        &mut self,
        first: u64,
        end: u64,
        mut change: impl FnMut(&mut [u64; WORDS], usize, u64),
    ) {
        let mut at = first;
        while at < end {
            let stop = (at / CHUNK + 1).saturating_mul(CHUNK).min(end);
            let words = self.chunks.entry(at / CHUNK).or_insert_with(|| Box::new([0; WORDS]));
            while at < stop {
                let next = (at / 64 + 1).saturating_mul(64).min(stop);
                let ones = u64::MAX >> (64 - (next - at));
                change(words, (at % CHUNK / 64) as usize, ones << (at % 64));
                at = next;
            }
        }
    }

    /// The first bit at or behind `from` that is `set`.
    fn find(&self, from: u64, set: bool) -> Option<u64> {
        let mut at = from;
        loop {
            let Some((chunk, words)) = self.chunks.range(at / CHUNK..).next() else {
                return (!set).then_some(at);
            };
            if chunk * CHUNK > at {
                if !set {
                    return Some(at);
                }
                at = chunk * CHUNK;
            }
            while at < (chunk + 1) * CHUNK {
                let word = words[(at % CHUNK / 64) as usize];
                let wanted = if set { word } else { !word } >> (at % 64);
                if wanted != 0 {
                    return Some(at + u64::from(wanted.trailing_zeros()));
                }
                at = (at / 64 + 1) * 64;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_found_across_words_and_chunks() {
        let mut bits = DirtyBits::new(9);
        bits.set(1000, 1);
        bits.set(512 * 60, 512 * 100);
        bits.set(512 * (CHUNK - 1), 512 * 2);
        assert_eq!(bits.next_run(0), Some((512, 512)));
        assert_eq!(bits.next_run(600), Some((600, 424)));
        assert_eq!(bits.next_run(1024), Some((512 * 60, 512 * 100)));
        assert_eq!(bits.next_run(512 * 160), Some((512 * (CHUNK - 1), 1024)));
        assert_eq!(bits.next_run(512 * (CHUNK + 1)), None);
        assert_eq!(bits.count(), 103);
        bits.clear(512 * 60 + 1, 512 * 99);
        assert_eq!(bits.next_run(1024), Some((512 * 60, 512)));
        bits.clear(0, u64::MAX);
        assert!(bits.is_empty());
    }
}
