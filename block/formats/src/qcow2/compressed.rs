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
use zstd::stream::raw::{Decoder, Operation};

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
    /// Decoders that nobody is using.
    idle: Mutex<Vec<Decoder<'static>>>,
}

impl Unpacker {
    pub fn new(method: Compression, cluster: u64) -> Self {
        Self { method, cluster, kept: Mutex::default(), idle: Mutex::default() }
    }

    /// Reads from byte `within` of a compressed cluster on. Who wants all of it will not ask again:
    /// it is unpacked where it is wanted.
    pub fn read(
        &self,
        file: &dyn Node,
        place: Packed,
        within: u64,
        buf: &mut [u8],
    ) -> io::Result<()> {
        if buf.len() as u64 == self.cluster {
            return self.load(file, place, buf);
        }
        let from = within as usize;
        let content = self.content(file, place)?;
        buf.copy_from_slice(&content[from..from + buf.len()]);
        Ok(())
    }

    /// The content of a compressed cluster, kept for the neighbours of what is read now.
    fn content(&self, file: &dyn Node, place: Packed) -> io::Result<Arc<Vec<u8>>> {
        if let Some((_, content)) = self.lock().iter().find(|(p, _)| *p == place) {
            return Ok(Arc::clone(content));
        }
        let mut content = vec![0; self.cluster as usize];
        self.load(file, place, &mut content)?;
        let content = Arc::new(content);
        let mut kept = self.lock();
        kept.truncate(KEPT - 1);
        kept.push_front((place, Arc::clone(&content)));
        Ok(content)
    }

    fn load(&self, file: &dyn Node, place: Packed, content: &mut [u8]) -> io::Result<()> {
        let offset = place.offset;
        if offset >= file.size() {
            return Err(damaged(format!(
                "qcow2: compressed cluster {offset:#x} is beyond the file"
            )));
        }
        // The descriptor bounds the length by two clusters.
        let mut packed = vec![0; place.len as usize];
        read_padded(file, offset, &mut packed)?;
        self.unpack(&packed, content)
            .map_err(|e| damaged(format!("qcow2: compressed cluster {offset:#x}: {e}")))
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
            Compression::Zstd => self.unpack_zstd(packed, content),
        }
    }

    /// A decoder is reused: its tables and its window are larger than a cluster. One that failed is not.
    fn unpack_zstd(&self, packed: &[u8], content: &mut [u8]) -> io::Result<()> {
        let idle = || self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let reused = idle().pop();
        let mut decoder = reused.map_or_else(new_decoder, Ok)?;
        decoder.reinit()?;
        let (mut read, mut written) = (0, 0);
        while written < content.len() {
            let step = decoder.run_on_buffers(&packed[read..], &mut content[written..])?;
            read += step.bytes_read;
            written += step.bytes_written;
            let stuck = step.bytes_read == 0 && step.bytes_written == 0;
            if written < content.len() && (step.remaining == 0 || stuck) {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        idle().push(decoder);
        Ok(())
    }
}

/// A frame of one cluster, of at most 2 MiB, needs no larger window; one that claims to is refused.
const ZSTD_WINDOW_BITS: u32 = 24;

fn new_decoder() -> io::Result<Decoder<'static>> {
    let mut decoder = Decoder::new()?;
    decoder.set_parameter(zstd::stream::raw::DParameter::WindowLogMax(ZSTD_WINDOW_BITS))?;
    Ok(decoder)
}

/// Window of deflate streams as a power of two: readers provide no more.
const WINDOW_BITS: u8 = 12;

/// The effort that the method calls its default.
const ZSTD_LEVEL: i32 = 3;

/// What packs one cluster after the other; making one costs as much as packing a cluster.
enum Encoder {
    Zlib(Deflate),
    Zstd(zstd::bulk::Compressor<'static>),
}

/// Packs clusters, on as many threads as like to.
pub(super) struct Packer {
    method: Compression,
    /// Encoders that nobody is using.
    idle: Mutex<Vec<Encoder>>,
}

impl Packer {
    pub fn new(method: Compression) -> Self {
        Self { method, idle: Mutex::default() }
    }

    /// Packs a cluster; `None` if that makes it no smaller.
    fn pack(&self, content: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let idle = || self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let reused = idle().pop();
        let mut encoder = reused.map_or_else(|| self.encoder(), Ok)?;
        let packed = encoder.pack(content);
        idle().push(encoder);
        Ok(packed)
    }

    fn encoder(&self) -> io::Result<Encoder> {
        Ok(match self.method {
            Compression::Zlib => {
                let level = flate2::Compression::default();
                Encoder::Zlib(Deflate::new_with_window_bits(level, false, WINDOW_BITS))
            }
            Compression::Zstd => Encoder::Zstd(zstd::bulk::Compressor::new(ZSTD_LEVEL)?),
        })
    }
}

impl Encoder {
    /// The room is limited to what makes packing worth while.
    fn pack(&mut self, content: &[u8]) -> Option<Vec<u8>> {
        let mut packed = Vec::with_capacity(content.len() - 1);
        match self {
            Self::Zlib(deflate) => {
                deflate.reset();
                let status = deflate.compress_vec(content, &mut packed, FlushCompress::Finish);
                matches!(status, Ok(Status::StreamEnd)).then_some(packed)
            }
            Self::Zstd(zstd) => zstd.compress_to_buffer(content, &mut packed).ok().map(|_| packed),
        }
    }
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
            self.packer.pack(data)?
        } else {
            let mut content = data.to_vec();
            content.resize(cluster as usize, 0);
            self.packer.pack(&content)?
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
            let packer = Packer::new(method);
            packer.pack(&content).expect("it can be tried");
            let packed = packer.pack(&content).expect("it can be tried again");
            let mut packed = packed.expect("it repeats itself");
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
            assert_eq!(packer.pack(&noise).expect("it can be tried"), None);
        }
    }
}
