//! Runs of zeroes in data.

use graph::is_zero;

/// A stretch of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// First byte.
    pub start: usize,
    /// Bytes.
    pub len: usize,
    /// Whether all of them are zero.
    pub zero: bool,
}

/// Splits a buffer into runs of zeroes and of data. Zeroes count from `min` bytes on (a power of two),
/// at multiples of it; with `min` zero everything is data.
pub fn runs(buf: &[u8], min: usize) -> Vec<Run> {
    if min == 0 {
        return vec![Run { start: 0, len: buf.len(), zero: false }];
    }
    let mut found: Vec<Run> = Vec::new();
    for (row, piece) in buf.chunks(min).enumerate() {
        let zero = is_zero(piece);
        match found.last_mut() {
            Some(last) if last.zero == zero => last.len += piece.len(),
            _ => found.push(Run { start: row * min, len: piece.len(), zero }),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeroes_count_in_whole_units() {
        let mut buf = vec![0; 40];
        buf[9] = 1;
        buf[33] = 1;
        let found: Vec<(usize, usize, bool)> =
            runs(&buf, 8).iter().map(|r| (r.start, r.len, r.zero)).collect();
        assert_eq!(found, [(0, 8, true), (8, 8, false), (16, 16, true), (32, 8, false)]);
        assert_eq!(runs(&buf, 0), [Run { start: 0, len: 40, zero: false }]);
        assert!(runs(&[], 8).is_empty());
    }
}
