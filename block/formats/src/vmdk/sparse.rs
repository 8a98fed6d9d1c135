//! A sparse extent: a directory of tables of grains, plain or compressed.

use std::io;
use std::io::{Read, Write};

use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use graph::{CheckReport, Node, NodeInfo, OpenError, SECTOR};

use crate::blocks::codec::{Fields, damage, damaged, le32, le64, put, read_padded, read_start};
use crate::blocks::{BlockMap, Pack, Piece, Place, Space, Step, Tables, Unpack};

/// Bytes of a header.
pub(super) const HEADER: usize = 512;

/// Signature of hosted sparse extents.
pub(super) const MAGIC: &[u8; 4] = b"KDMV";

/// Signature of the sparse extents of ESX Server.
pub(super) const COWD: &[u8; 4] = b"COWD";

/// The directory lies at the end; a footer says where.
const AT_END: u64 = u64::MAX;

/// Bits of `flags`.
pub(super) mod flags {
    pub const NEWLINE_TEST: u32 = 1 << 0;
    pub const REDUNDANT: u32 = 1 << 1;
    pub const ZEROED_GRAIN: u32 = 1 << 2;
    pub const COMPRESSED: u32 = 1 << 16;
    pub const MARKERS: u32 = 1 << 17;
}

/// Most bytes of a grain; of a compressed one, which is unpacked in memory.
const MOST_GRAIN: u64 = 1 << 30;
const MOST_PACKED_GRAIN: u64 = 2 << 20;

/// What a header says, in bytes where the file counts in sectors.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub version: u32,
    pub flags: u32,
    /// Length of the extent.
    pub capacity: u64,
    pub grain: u64,
    pub descriptor_offset: u64,
    pub descriptor_len: u64,
    /// Entries per table.
    pub entries: u64,
    pub directory: u64,
    /// The redundant directory.
    pub second: Option<u64>,
    /// Where grains begin: the file is at least as long.
    grains_at: u64,
}

impl Header {
    /// Reads the header of either kind.
    pub fn read(file: &dyn Node, path: &str) -> Result<Self, OpenError> {
        let start = read_start::<HEADER>(file, path)?;
        let fields = Fields { path, format: "vmdk" };
        let header = if start.starts_with(COWD) {
            Self::parse_cowd(&start, &fields)?
        } else if start.starts_with(MAGIC) {
            let header = Self::parse(&start);
            if header.directory == AT_END { Self::footer(file, &fields)? } else { header }
        } else {
            return Err(OpenError::NotThisFormat { format: "vmdk" });
        };
        header.check(file.size(), &fields)?;
        Ok(header)
    }

    fn parse(b: &[u8]) -> Self {
        let flags = le32(b, 8);
        let bytes = |at: usize| le64(b, at).saturating_mul(SECTOR);
        let second = bytes(48);
        let directory = le64(b, 56);
        Self {
            version: le32(b, 4),
            flags,
            capacity: bytes(12),
            grain: bytes(20),
            descriptor_offset: bytes(28),
            descriptor_len: bytes(36),
            entries: le32(b, 44).into(),
            directory: if directory == AT_END { AT_END } else { bytes(56) },
            grains_at: bytes(64),
            second: Some(second).filter(|at| flags & flags::REDUNDANT != 0 && *at != 0),
        }
    }

    /// The header that a stream has at its end, between two markers.
    fn footer(file: &dyn Node, fields: &Fields<'_>) -> Result<Self, OpenError> {
        let mut bytes = [0; HEADER];
        let at = file.size().saturating_sub(2 * SECTOR);
        read_padded(file, at, &mut bytes).map_err(|e| OpenError::host(fields.path, e))?;
        let header = Self::parse(&bytes);
        if !bytes.starts_with(MAGIC) || header.directory == AT_END {
            return Err(fields.refuse("the footer that names the grain directory is damaged"));
        }
        Ok(header)
    }

    fn parse_cowd(b: &[u8], fields: &Fields<'_>) -> Result<Self, OpenError> {
        let bytes = |at: usize| u64::from(le32(b, at)) * SECTOR;
        let version = le32(b, 4);
        fields.want(version == 1, "version", version.into(), "not a known version")?;
        Ok(Self {
            version,
            flags: 0,
            capacity: bytes(12),
            grain: bytes(16),
            descriptor_offset: 0,
            descriptor_len: 0,
            entries: 4096,
            directory: bytes(20),
            grains_at: 0,
            second: None,
        })
    }

    fn check(&self, file_len: u64, fields: &Fields<'_>) -> Result<(), OpenError> {
        if self.grains_at > file_len {
            let least = self.grains_at;
            return Err(fields.refuse(format!("File truncated, expecting at least {least} bytes")));
        }
        if self.version > 3 {
            let what = format!("VMDK version {}", self.version);
            return Err(OpenError::NotSupported { path: fields.path.to_owned(), what });
        }
        let most = if self.compressed() { MOST_PACKED_GRAIN } else { MOST_GRAIN };
        let grain = self.grain;
        let good = grain.is_power_of_two() && (SECTOR..=most).contains(&grain);
        fields.want(good, "grainSize", grain / SECTOR, "not a power of two within limits")?;
        let entries = self.entries;
        fields.want((1..=4096).contains(&entries), "numGTEsPerGT", entries, "out of range")?;
        fields.want(
            self.capacity <= i64::MAX as u64,
            "capacity",
            self.capacity / SECTOR,
            "out of range",
        )?;
        let tables = self.tables();
        for (field, at) in [("gdOffset", Some(self.directory)), ("rgdOffset", self.second)] {
            let Some(at) = at else { continue };
            let end = at.checked_add(tables * 4).filter(|end| at != 0 && *end <= file_len);
            fields.want(end.is_some(), field, at / SECTOR, "the directory is outside the file")?;
        }
        Ok(())
    }

    /// Grain tables of the extent.
    fn tables(&self) -> u64 {
        self.capacity.div_ceil(self.grain).div_ceil(self.entries)
    }

    pub fn compressed(&self) -> bool {
        self.flags & flags::COMPRESSED != 0
    }
}

/// The table of an open extent.
pub(super) struct Map {
    header: Header,
    /// Where the next grain or table goes, if that is behind the file's end.
    next: u64,
}

impl Map {
    pub fn new(header: Header) -> Self {
        Self { header, next: 0 }
    }

    /// Reserves bytes at the end of the file.
    fn reserve(&mut self, file: &dyn Node, len: u64, alignment: u64) -> io::Result<u64> {
        let at = self.next.max(file.size()).next_multiple_of(alignment);
        self.next = at + len;
        // Entries count sectors in 32 bits.
        match u32::try_from(self.next / SECTOR) {
            Ok(_) => Ok(at),
            Err(_) => Err(damaged("vmdk: the extent is full: 2 TiB")),
        }
    }

    /// Offset of the table that a directory has for `guest`; 0 if it has none.
    fn table(
        &self,
        tables: &mut Tables,
        file: &dyn Node,
        directory: u64,
        guest: u64,
    ) -> io::Result<u64> {
        let index = guest / (self.header.grain * self.header.entries);
        let entry = u32::from_le_bytes(tables.get(file, directory + index * 4)?);
        let at = u64::from(entry) * SECTOR;
        // A table of a crashed writer may be about to come into being; only zeroes are read there.
        Ok(at)
    }

    /// Offset of the table for `guest`, which is made if need be.
    fn own_table(
        &mut self,
        tables: &mut Tables,
        file: &dyn Node,
        directory: u64,
        guest: u64,
    ) -> io::Result<u64> {
        let found = self.table(tables, file, directory, guest)?;
        if found != 0 {
            return Ok(found);
        }
        let len = self.header.entries * 4;
        let at = self.reserve(file, len.next_multiple_of(SECTOR), SECTOR)?;
        crate::blocks::codec::grow(file, self.next)?;
        let index = guest / (self.header.grain * self.header.entries);
        let entry = ((at / SECTOR) as u32).to_le_bytes();
        tables.put(file, directory + index * 4, &entry, Step::Roots)?;
        Ok(at)
    }

    fn entry_offset(&self, table: u64, guest: u64) -> u64 {
        table + guest / self.header.grain % self.header.entries * 4
    }

    fn set(
        &mut self,
        tables: &mut Tables,
        file: &dyn Node,
        guest: u64,
        sector: u32,
    ) -> io::Result<()> {
        for directory in [Some(self.header.directory), self.header.second].into_iter().flatten() {
            let table = self.own_table(tables, file, directory, guest)?;
            let at = self.entry_offset(table, guest);
            tables.put(file, at, &sector.to_le_bytes(), Step::Leaves)?;
        }
        Ok(())
    }
}

impl BlockMap for Map {
    fn name(&self) -> &'static str {
        "vmdk"
    }

    fn size(&self) -> u64 {
        self.header.capacity
    }

    fn block(&self) -> u64 {
        self.header.grain
    }

    fn lookup(
        &mut self,
        tables: &mut Tables,
        file: &dyn Node,
        guest: u64,
    ) -> io::Result<(Place, u64)> {
        let grain = self.header.grain;
        let table = self.table(tables, file, self.header.directory, guest)?;
        if table == 0 {
            let covered = grain * self.header.entries;
            return Ok((Place::Unallocated, covered - guest % covered));
        }
        let sector = u32::from_le_bytes(tables.get(file, self.entry_offset(table, guest))?);
        let within = guest % grain;
        let host = u64::from(sector) * SECTOR;
        let place = match sector {
            0 => Place::Unallocated,
            1 if self.header.flags & flags::ZEROED_GRAIN != 0 => Place::Zero,
            _ if self.header.compressed() => Place::Packed(Piece { at: host, len: 0 }, within),
            _ => Place::Data(host + within),
        };
        Ok((place, grain - within))
    }

    fn allocate(&mut self, _: &mut Tables, file: &dyn Node, _: u64) -> io::Result<Space> {
        let grain = self.header.grain;
        let host = self.reserve(file, grain, grain)?;
        Ok(Space { host, end: host + grain })
    }

    fn link(
        &mut self,
        tables: &mut Tables,
        file: &dyn Node,
        guest: u64,
        host: u64,
    ) -> io::Result<()> {
        self.set(tables, file, guest, (host / SECTOR) as u32)
    }

    fn allocate_packed(&mut self, file: &dyn Node, len: u64) -> io::Result<u64> {
        self.reserve(file, len, SECTOR)
    }

    fn link_packed(
        &mut self,
        tables: &mut Tables,
        file: &dyn Node,
        guest: u64,
        piece: Piece,
    ) -> io::Result<()> {
        self.set(tables, file, guest, (piece.at / SECTOR) as u32)
    }

    fn set_zero(&mut self, tables: &mut Tables, file: &dyn Node, guest: u64) -> io::Result<bool> {
        if self.header.flags & flags::ZEROED_GRAIN == 0 {
            return Ok(false);
        }
        self.set(tables, file, guest, 1)?;
        Ok(true)
    }

    fn describe(&self, _info: &mut NodeInfo) {}
}

/// Compressed grains: RFC 1950 streams, behind a marker if the flag says so.
pub(super) struct Grains {
    pub grain: u64,
    pub markers: bool,
}

/// Bytes of a marker in front of the data: the grain's first sector and the data's length.
const MARKER: usize = 12;

impl Unpack for Grains {
    fn unpack(&self, file: &dyn Node, piece: Piece) -> io::Result<Vec<u8>> {
        let mut start = piece.at;
        let mut len = self.grain * 2;
        if self.markers {
            let mut marker = [0; MARKER];
            read_padded(file, start, &mut marker)?;
            start += MARKER as u64;
            len = le32(&marker, 8).into();
        }
        let at = piece.at;
        let inside = file.size().saturating_sub(start);
        if len == 0 || len > self.grain * 2 || inside == 0 {
            return Err(damaged(format!("vmdk: compressed grain at {at:#x} has {len:#x} bytes")));
        }
        let mut packed = vec![0; len.min(inside) as usize];
        read_padded(file, start, &mut packed)?;
        let mut content = Vec::new();
        let unpacked = ZlibDecoder::new(&packed[..]).take(self.grain).read_to_end(&mut content);
        unpacked.map_err(|e| damaged(format!("vmdk: compressed grain at {at:#x}: {e}")))?;
        content.resize(self.grain as usize, 0);
        Ok(content)
    }
}

impl Pack for Grains {
    fn pack(&self, guest: u64, data: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let mut packed = Vec::with_capacity(MARKER + data.len() / 2);
        if self.markers {
            packed.resize(MARKER, 0);
            put(&mut packed, 0, &(guest / SECTOR).to_le_bytes());
        }
        let mut encoder = ZlibEncoder::new(&mut packed, Compression::default());
        encoder.write_all(data)?;
        encoder.finish()?;
        if self.markers {
            let len = (packed.len() - MARKER) as u32;
            put(&mut packed, 8, &len.to_le_bytes());
        }
        packed.resize(packed.len().next_multiple_of(SECTOR as usize), 0);
        Ok(Some(packed))
    }

    fn always(&self) -> bool {
        true
    }
}

/// Checks that every grain and table is in the file.
pub(super) fn check(
    file: &dyn Node,
    header: &Header,
    start: u64,
    report: &mut CheckReport,
) -> io::Result<()> {
    let mut map = Map::new(*header);
    let mut tables = Tables::default();
    // A table that has two entries would be walked twice, and one of a hostile image for ever.
    let mut seen = std::collections::HashSet::new();
    let covered = header.grain * header.entries;
    let mut guest = 0;
    while guest < header.capacity {
        let table = map.table(&mut tables, file, header.directory, guest)?;
        if table != 0 && guest % covered == 0 {
            let sector = (start + guest) / SECTOR;
            if table + header.entries * 4 > file.size() {
                damage(report, format!("ERROR: grain table after EOF for sector {sector}"));
            }
            if !seen.insert(table) {
                damage(report, format!("ERROR: grain table used twice for sector {sector}"));
                guest += covered;
                continue;
            }
        }
        let (place, len) = map.lookup(&mut tables, file, guest)?;
        if let Place::Data(host) | Place::Packed(Piece { at: host, .. }, _) = place
            && host >= file.size()
        {
            let sector = (start + guest) / SECTOR;
            damage(report, format!("ERROR: cluster offset after EOF for sector {sector}"));
        }
        guest += len;
    }
    Ok(())
}
