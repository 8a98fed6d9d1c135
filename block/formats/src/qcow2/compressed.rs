//! Reading compressed clusters.

use std::collections::VecDeque;
use std::io;
use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};

use graph::Node;

use super::codec::{damaged, read_padded};
use super::header::Compression;
use super::layout::Packed;

/// Unpacked clusters that are kept: sequential reads come in pieces of a cluster.
const KEPT: usize = 4;

type Kept = (Packed, Arc<Vec<u8>>);

/// Unpacks clusters and keeps the last few.
pub(super) struct Unpacker {
    method: Compression,
    cluster: u64,
    kept: Mutex<VecDeque<Kept>>,
}

impl Unpacker {
    pub fn new(method: Compression, cluster: u64) -> Self {
        Self { method, cluster, kept: Mutex::default() }
    }

    /// The content of a compressed cluster.
    pub fn read(&self, file: &dyn Node, place: Packed) -> io::Result<Arc<Vec<u8>>> {
        if let Some((_, content)) = self.lock().iter().find(|(p, _)| *p == place) {
            return Ok(Arc::clone(content));
        }
        if place.offset >= file.size() {
            return Err(damaged(format!(
                "qcow2: compressed cluster {:#x} is beyond the file",
                place.offset
            )));
        }
        // The descriptor bounds the length by two clusters.
        let mut packed = vec![0; place.len as usize];
        read_padded(file, place.offset, &mut packed)?;
        let mut content = vec![0; self.cluster as usize];
        self.unpack(&packed, &mut content)
            .map_err(|e| damaged(format!("qcow2: compressed cluster {:#x}: {e}", place.offset)))?;
        let content = Arc::new(content);
        let mut kept = self.lock();
        kept.truncate(KEPT - 1);
        kept.push_front((place, Arc::clone(&content)));
        Ok(content)
    }

    /// Forgets everything: clusters were freed and their place may get new content.
    pub fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unpack(&self, packed: &[u8], content: &mut [u8]) -> io::Result<()> {
        match self.method {
            Compression::Zlib => flate2::read::DeflateDecoder::new(packed).read_exact(content),
            Compression::Zstd => {
                let decoder = ruzstd::decoding::StreamingDecoder::new(packed);
                decoder.map_err(io::Error::other)?.read_exact(content)
            }
        }
    }
}
