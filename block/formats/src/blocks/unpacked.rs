//! Packed pieces of an image: unpacking, and keeping the last few.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use graph::Node;

/// Pieces that are kept: sequential reads come in parts of a piece.
const KEPT: usize = 4;

/// A packed piece, as its format identifies it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Offset in the file, or number of the piece.
    pub at: u64,
    /// Packed bytes, where the table tells.
    pub len: u64,
}

/// Unpacks pieces of one format.
pub(crate) trait Unpack: Send + Sync {
    /// The content of a piece. Its length is bounded by the format, not by the file.
    fn unpack(&self, file: &dyn Node, piece: Piece) -> io::Result<Vec<u8>>;
}

/// Packs blocks of one format.
pub(crate) trait Pack: Send + Sync {
    /// What is stored for the content of the whole block at `guest`; `None` if plain storage is as
    /// short.
    fn pack(&self, guest: u64, data: &[u8]) -> io::Result<Option<Vec<u8>>>;

    /// Whether the image holds packed blocks only, each written once.
    fn always(&self) -> bool {
        false
    }
}

type Kept = (Piece, Arc<Vec<u8>>);

/// The last pieces that were unpacked.
#[derive(Default)]
pub(crate) struct Unpacked {
    unpack: Option<Box<dyn Unpack>>,
    kept: Mutex<VecDeque<Kept>>,
}

impl Unpacked {
    /// Nothing yet.
    pub fn new(unpack: Box<dyn Unpack>) -> Self {
        Self { unpack: Some(unpack), kept: Mutex::default() }
    }

    /// Fills `buf` with what is `within` a piece; zeroes behind its end.
    pub fn read(
        &self,
        file: &dyn Node,
        piece: Piece,
        within: u64,
        buf: &mut [u8],
    ) -> io::Result<()> {
        let content = self.piece(file, piece)?;
        let from = content.get(usize::try_from(within).unwrap_or(usize::MAX)..).unwrap_or(&[]);
        let n = from.len().min(buf.len());
        buf[..n].copy_from_slice(&from[..n]);
        buf[n..].fill(0);
        Ok(())
    }

    fn piece(&self, file: &dyn Node, piece: Piece) -> io::Result<Arc<Vec<u8>>> {
        if let Some((_, content)) = self.lock().iter().find(|(p, _)| *p == piece) {
            return Ok(Arc::clone(content));
        }
        let unpack = self.unpack.as_ref().ok_or(io::ErrorKind::Unsupported)?;
        let content = Arc::new(unpack.unpack(file, piece)?);
        let mut kept = self.lock();
        kept.truncate(KEPT - 1);
        kept.push_front((piece, Arc::clone(&content)));
        Ok(content)
    }

    /// Forgets a piece whose place has got new content.
    pub fn forget(&self, at: u64) {
        self.lock().retain(|(piece, _)| piece.at != at);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
