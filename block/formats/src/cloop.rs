//! cloop, the compressed loop image of Knoppix, version 2 (cloop driver documentation, "Compressed
//! Loop Device V2.0 format"; integers big-endian). Only read.
//!
//! Layout: a shell script of 128 bytes; block size and number of blocks; offsets of the blocks and of
//! the end of the last; blocks, each a zlib stream.

use std::io;
use std::io::Read;
use std::sync::Arc;

use flate2::read::ZlibDecoder;
use graph::{Node, NodeInfo, OpenError, SECTOR};

use crate::blocks::codec::{Fields, be32, damaged, read_padded, read_start};
use crate::blocks::{BlockMap, Blocks, Piece, Place, Tables, Unpack};
use crate::format::{Format, OpenRequest};

const FORMAT: &str = "cloop";
const MAGIC: &[u8] =
    b"#!/bin/sh\n#V2.0 Format\nmodprobe cloop file=$0 && mount -r -t iso9660 /dev/cloop $1\n";

/// Where block size, number of blocks and offsets are.
const BLOCK_SIZE_AT: usize = 128;
const BLOCKS_AT: usize = 132;
const OFFSETS_AT: u64 = 136;

/// Largest block, which is unpacked in memory.
const MOST_BLOCK: u64 = 64 << 20;

/// The row of `cloop` in the table of formats.
pub struct CloopFormat;

impl Format for CloopFormat {
    fn name(&self) -> &'static str {
        FORMAT
    }

    fn recognises(&self, start: &[u8], _path: &str) -> bool {
        start.starts_with(MAGIC)
    }

    fn open(&self, request: OpenRequest<'_>) -> Result<Arc<dyn Node>, OpenError> {
        let map = Map::read(&*request.file, request.path)?;
        let block = map.block;
        let disk = Blocks::of(request.file, None, true, false, map);
        Ok(Arc::new(disk.with_unpack(Zlib { block })))
    }
}

/// The table of an open image.
struct Map {
    block: u64,
    blocks: u64,
}

impl Map {
    fn read(file: &dyn Node, path: &str) -> Result<Self, OpenError> {
        let fields = Fields { path, format: FORMAT };
        // Whoever names the format need not have the script.
        let start = read_start::<{ OFFSETS_AT as usize }>(file, path)?;
        let block = u64::from(be32(&start, BLOCK_SIZE_AT));
        let good = block > 0 && block.is_multiple_of(SECTOR) && block <= MOST_BLOCK;
        fields.want(good, "block_size", block, "no multiple of 512 up to 64 MiB")?;
        let blocks = u64::from(be32(&start, BLOCKS_AT));
        let end = OFFSETS_AT + (blocks + 1) * 8;
        fields.want(end <= file.size(), "n_blocks", blocks, "the table ends beyond the file")?;
        Ok(Self { block, blocks })
    }
}

impl BlockMap for Map {
    fn name(&self) -> &'static str {
        FORMAT
    }

    fn size(&self) -> u64 {
        self.blocks * self.block
    }

    fn block(&self) -> u64 {
        self.block
    }

    fn lookup(
        &mut self,
        tables: &mut Tables,
        file: &dyn Node,
        guest: u64,
    ) -> io::Result<(Place, u64)> {
        let at = OFFSETS_AT + guest / self.block * 8;
        let start = u64::from_be_bytes(tables.get(file, at)?);
        let end = u64::from_be_bytes(tables.get(file, at + 8)?);
        // Deflate never makes more than a few bytes per block of what it cannot pack.
        if start > end || end > file.size() || end - start > self.block * 2 {
            return Err(damaged(format!("cloop: a block from {start:#x} to {end:#x}")));
        }
        let within = guest % self.block;
        let piece = Piece { at: start, len: end - start };
        Ok((Place::Packed(piece, within), self.block - within))
    }

    fn describe(&self, info: &mut NodeInfo) {
        info.cluster_size = None;
    }
}

struct Zlib {
    block: u64,
}

impl Unpack for Zlib {
    fn unpack(&self, file: &dyn Node, piece: Piece) -> io::Result<Vec<u8>> {
        let mut packed = vec![0; piece.len as usize];
        read_padded(file, piece.at, &mut packed)?;
        let mut content = vec![0; self.block as usize];
        let unpacked = ZlibDecoder::new(&packed[..]).read_exact(&mut content);
        unpacked.map_err(|e| damaged(format!("cloop: block at {:#x}: {e}", piece.at)))?;
        Ok(content)
    }
}
