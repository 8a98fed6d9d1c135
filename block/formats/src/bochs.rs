//! Bochs growing images ("Disk Image Formats", Bochs development guide: redolog, growing;
//! integers little-endian). Only read.
//!
//! Layout: a header of 512 bytes; the catalog, a 32-bit number of an extent for each extent of the
//! disk; extents, each a bitmap of its sectors followed by the sectors.

use std::io;
use std::sync::Arc;

use graph::{Node, NodeInfo, OpenError, SECTOR};

use crate::blocks::codec::{Fields, damaged, le32, le64, read_start};
use crate::blocks::{BlockMap, Blocks, Place, Tables};
use crate::format::{Format, OpenRequest};

const FORMAT: &str = "bochs";
const MAGIC: &[u8] = b"Bochs Virtual HD Image\0";
const UNALLOCATED: u32 = 0xffff_ffff;

/// Versions of the header; the first has the length of the disk at another place.
const VERSION_1: u32 = 0x1_0000;
const VERSION_2: u32 = 0x2_0000;

/// Largest extent: 8 MiB are usual.
const MOST_EXTENT: u64 = 1 << 30;

/// The row of `bochs` in the table of formats.
pub struct BochsFormat;

impl Format for BochsFormat {
    fn name(&self) -> &'static str {
        FORMAT
    }

    fn recognises(&self, start: &[u8], _path: &str) -> bool {
        let word = |at: usize, word: &[u8]| start.get(at..).is_some_and(|b| b.starts_with(word));
        word(0, MAGIC)
            && word(32, b"Redolog\0")
            && word(48, b"Growing\0")
            && matches!(le32(start, 64), VERSION_1 | VERSION_2)
    }

    fn open(&self, request: OpenRequest<'_>) -> Result<Arc<dyn Node>, OpenError> {
        let map = Map::read(&*request.file, request.path)?;
        Ok(Arc::new(Blocks::of(request.file, None, true, false, map)))
    }
}

/// The table of an open image.
struct Map {
    size: u64,
    catalog: u64,
    entries: u64,
    /// Bytes of an extent's bitmap, rounded up to sectors, and of its sectors.
    bitmap: u64,
    extent: u64,
}

impl Map {
    fn read(file: &dyn Node, path: &str) -> Result<Self, OpenError> {
        let b = read_start::<512>(file, path)?;
        if !BochsFormat.recognises(&b, path) {
            return Err(OpenError::NotThisFormat { format: FORMAT });
        }
        let fields = Fields { path, format: FORMAT };
        let number = |at: usize| u64::from(le32(&b, at));
        let size = if le32(&b, 64) == VERSION_1 { le64(&b, 84) } else { le64(&b, 88) };
        let size = size - size % SECTOR;
        let (catalog, entries, extent) = (number(68), number(72), number(80));
        let good = extent.is_power_of_two() && (SECTOR..=MOST_EXTENT).contains(&extent);
        fields.want(good, "extent", extent, "no power of two from 512 to 1 GiB")?;
        let end = catalog + entries * 4;
        fields.want(end <= file.size(), "catalog", entries, "the catalog ends beyond the file")?;
        let why = "the catalog is too small for this disk size";
        fields.want(size <= entries * extent, "catalog", entries, why)?;
        let bitmap = number(76);
        let good = bitmap * 8 >= extent / SECTOR;
        fields.want(good, "bitmap", bitmap, "too small for an extent")?;
        Ok(Self { size, catalog, entries, bitmap: bitmap.next_multiple_of(SECTOR), extent })
    }
}

impl BlockMap for Map {
    fn name(&self) -> &'static str {
        FORMAT
    }

    fn size(&self) -> u64 {
        self.size
    }

    fn block(&self) -> u64 {
        self.extent
    }

    fn lookup(
        &mut self,
        tables: &mut Tables,
        file: &dyn Node,
        guest: u64,
    ) -> io::Result<(Place, u64)> {
        let within = guest % self.extent;
        let number = u32::from_le_bytes(tables.get(file, self.catalog + guest / self.extent * 4)?);
        if number == UNALLOCATED {
            return Ok((Place::Zero, self.extent - within));
        }
        let first = self.catalog + self.entries * 4;
        let bitmap = first + u64::from(number) * (self.bitmap + self.extent);
        if bitmap > file.size() {
            return Err(damaged(format!("bochs: an extent at {bitmap:#x}")));
        }
        let sector = within / SECTOR;
        let [bits] = tables.get::<1>(file, bitmap + sector / 8)?;
        let place = match bits >> (sector % 8) & 1 {
            0 => Place::Zero,
            _ => Place::Data(bitmap + self.bitmap + within),
        };
        Ok((place, SECTOR - within % SECTOR))
    }

    fn describe(&self, info: &mut NodeInfo) {
        info.cluster_size = None;
    }
}
