//! What was fetched beyond what was asked for, until it is asked for.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

/// Most bytes that are kept.
const MOST: usize = 16 << 20;
/// Most pieces that are kept.
const PIECES: usize = 16;

/// A piece of the image.
struct Piece {
    start: u64,
    bytes: Arc<Vec<u8>>,
}

/// The pieces fetched last.
#[derive(Default)]
pub(crate) struct Ahead(Mutex<VecDeque<Piece>>);

impl Ahead {
    /// Fills the beginning of `buf` with what is known from `offset` on: how many bytes.
    pub fn copy(&self, offset: u64, buf: &mut [u8]) -> usize {
        let found = {
            let pieces = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let has = |piece: &&Piece| {
                piece.start <= offset && offset - piece.start < piece.bytes.len() as u64
            };
            pieces.iter().rfind(has).map(|piece| (piece.start, Arc::clone(&piece.bytes)))
        };
        let Some((start, bytes)) = found else { return 0 };
        // Less than the length of the piece.
        let known = &bytes[(offset - start) as usize..];
        let len = known.len().min(buf.len());
        buf[..len].copy_from_slice(&known[..len]);
        len
    }

    /// Keeps a piece in place of the oldest ones.
    pub fn keep(&self, start: u64, bytes: Vec<u8>) {
        if bytes.is_empty() || bytes.len() > MOST {
            return;
        }
        let mut pieces = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pieces.push_back(Piece { start, bytes: Arc::new(bytes) });
        let mut total: usize = pieces.iter().map(|piece| piece.bytes.len()).sum();
        while total > MOST || pieces.len() > PIECES {
            total -= pieces.pop_front().map_or(0, |piece| piece.bytes.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_found_and_forgotten() {
        let ahead = Ahead::default();
        ahead.keep(100, vec![1; 50]);
        ahead.keep(120, vec![2; 10]);
        let mut buf = [0; 40];
        assert_eq!(ahead.copy(99, &mut buf), 0);
        assert_eq!(ahead.copy(100, &mut buf), 40);
        assert_eq!((ahead.copy(125, &mut buf), buf[0]), (5, 2), "the newest counts");
        assert_eq!(ahead.copy(150, &mut buf), 0);
        for start in 0..PIECES as u64 {
            ahead.keep(1000 + start, vec![3]);
        }
        assert_eq!(ahead.copy(100, &mut buf), 0);
        ahead.keep(0, vec![4; MOST]);
        assert_eq!(ahead.copy(1000, &mut buf), 40);
        assert_eq!(ahead.copy(1001, &mut buf), 40, "of the large one");
    }
}
