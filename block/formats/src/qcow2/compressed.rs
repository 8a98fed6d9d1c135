//! Compressed clusters: unpacking, packing, and storing them.
//!
//! Packed clusters follow each other byte by byte; a host cluster counts one reference per packed
//! cluster that touches it. Packing happens before any lock is taken, so threads pack in parallel.
//! The order of writes is that of a plain write: counts, content, then the entry.

use std::collections::VecDeque;
use std::io;
use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};

use flate2::{Compress as Deflate, FlushCompress, Status};
use graph::{Compress, Node, Sharing, WriteFlags};

use super::Qcow2;
use super::codec::{damaged, read_padded};
use super::header::Compression;
use super::layout::{Entry, Packed};

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

/// Window of deflate streams as a power of two: readers provide no more.
const WINDOW_BITS: u8 = 12;

/// Packs a cluster; `None` if that makes it no smaller.
fn pack(method: Compression, content: &[u8]) -> Option<Vec<u8>> {
    let packed = match method {
        Compression::Zlib => {
            let mut packed = Vec::with_capacity(content.len());
            let level = flate2::Compression::default();
            let mut deflate = Deflate::new_with_window_bits(level, false, WINDOW_BITS);
            let status = deflate.compress_vec(content, &mut packed, FlushCompress::Finish);
            // The room is limited to the length of the content.
            if !matches!(status, Ok(Status::StreamEnd)) {
                return None;
            }
            packed
        }
        Compression::Zstd => {
            let level = ruzstd::encoding::CompressionLevel::Fastest;
            ruzstd::encoding::compress_to_vec(content, level)
        }
    };
    (packed.len() < content.len()).then_some(packed)
}

impl Compress for Qcow2 {
    fn unit(&self) -> u64 {
        self.layout.cluster
    }

    fn write_compressed(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.writable(offset, data.len() as u64)?;
        let cluster = self.layout.cluster;
        let whole = data.len() as u64 == cluster || offset + data.len() as u64 == self.disk_size();
        if !offset.is_multiple_of(cluster) || !whole || data.len() as u64 > cluster {
            let text = format!("a compressed write covers one cluster of {cluster} bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        if self.layout.external {
            let text = "Compression is not supported with external data files";
            return Err(io::Error::new(io::ErrorKind::Unsupported, text));
        }
        if self.crypt.is_some() {
            let text = "Compression and encryption not supported at the same time";
            return Err(io::Error::new(io::ErrorKind::Unsupported, text));
        }
        self.bitmaps.note(offset, data.len() as u64);
        let packed = if data.len() as u64 == cluster {
            pack(self.unpacker.method, data)
        } else {
            let mut content = data.to_vec();
            content.resize(cluster as usize, 0);
            pack(self.unpacker.method, &content)
        };
        match packed {
            Some(packed) => self.store_packed(offset, &packed),
            None => self.write_data(offset, data),
        }
    }
}

impl Qcow2 {
    fn store_packed(&self, guest: u64, packed: &[u8]) -> io::Result<()> {
        self.commit_if_crowded()?;
        let file = &*self.file;
        let _range = self.hold(guest, guest + 1, Sharing::Exclusive);
        let place = {
            let mut meta = self.meta();
            meta.own_l2(file, guest).map_err(|e| self.note_damage(e))?;
            file.event(graph::Event::ClusterAllocBytes);
            meta.allocate_packed(file, packed.len() as u64).map_err(|e| self.note_damage(e))?
        };
        let entry = Entry { packed: Some(place), ..Entry::default() };
        file.event(graph::Event::WriteCompressed);
        if let Err(e) = file.write_at(place.offset, packed, WriteFlags::default()) {
            self.meta().free_entry(&entry);
            return Err(e);
        }
        let mut meta = self.meta();
        let old = self.entry_of(&mut meta, guest)?;
        meta.set_entry(file, guest, entry)?;
        meta.free_entry(&old);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_unpacks_and_noise_is_left_alone() {
        for method in [Compression::Zlib, Compression::Zstd] {
            let unpacker = Unpacker::new(method, 65536);
            let content: Vec<u8> = (0..65536u32).map(|i| (i / 700 * i / 9000) as u8).collect();
            let mut packed = pack(method, &content).expect("it repeats itself");
            // As in a file, something else follows.
            packed.extend([0xa5; 300]);
            let mut back = vec![0; content.len()];
            unpacker.unpack(&packed, &mut back).expect("it was just packed");
            assert!(back == content);
            let mut seed = 1u64;
            let noise: Vec<u8> = (0..65536)
                .map(|_| {
                    seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    (seed >> 56) as u8
                })
                .collect();
            assert!(pack(method, &noise).is_none());
        }
    }
}
