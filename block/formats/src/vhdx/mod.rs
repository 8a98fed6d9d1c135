//! VHDX ([MS-VHDX], "Virtual Hard Disk v2 File Format", revision 8.0; integers little-endian).
//!
//! Layout: an identifier; two headers, of which the one with the higher sequence number is current;
//! two copies of the region table; a log; the block allocation table (BAT), whose entries give each
//! block's state and its place in MiB; metadata items (block size, length of the disk, sector
//! sizes); blocks. The BAT has room for an entry about sector bitmaps behind each chunk.
//!
//! Order of writes: data; flush; the BAT's pages in the log; flush; in place (`log.rs`). While an
//! image is changed its header names the log. One that was not closed has its log replayed: into
//! the file when it is opened for writing, else in memory.
//! Not supported: parents (differencing images), resizing.

mod crc;
mod create;
mod log;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use graph::{
    CheckReport, Extent, ExtentKind, Fix, ImageOption, Limits, Node, NodeInfo, OpenError, SECTOR,
    ValueKind, WriteFlags, ZeroFlags,
};

use crate::blocks::codec::{
    Fields, damage, damaged, le16, le32, le64, note, put, read_padded, read_start, write,
};
use crate::blocks::{BlockMap, Blocks, Place, Space, Step, Tables};
use crate::format::{CreateRequest, Format, OpenRequest};
use crc::crc32c;
use log::{Log, Patch, Replay};

const FORMAT: &str = "vhdx";
const MIB: u64 = 1 << 20;
const IDENTIFIER: &[u8; 8] = b"vhdxfile";

/// Offsets of the two headers and of the two region tables.
const HEADERS: [u64; 2] = [64 << 10, 128 << 10];
const REGIONS: [u64; 2] = [192 << 10, 256 << 10];

/// Bytes of a metadata table; items lie behind it.
const METADATA_TABLE: usize = 65536;

/// Region identifiers, in the order of their bytes.
const BAT: [u8; 16] = *b"\x66\x77\xc2\x2d\x23\xf6\x00\x42\x9d\x64\x11\x5e\x9b\xfd\x4a\x08";
const METADATA: [u8; 16] = *b"\x06\xa2\x7c\x8b\x90\x47\x9a\x4b\xb8\xfe\x57\x5f\x05\x0f\x88\x6e";

mod item {
    //! Identifiers of metadata items.
    type Guid = [u8; 16];
    pub const FILE_PARAMETERS: Guid =
        *b"\x37\x67\xa1\xca\x36\xfa\x43\x4d\xb3\xb6\x33\xf0\xaa\x44\xe7\x6b";
    pub const DISK_SIZE: Guid =
        *b"\x24\x42\xa5\x2f\x1b\xcd\x76\x48\xb2\x11\x5d\xbe\xd8\x3b\xf4\xb8";
    pub const PAGE_83: Guid = *b"\xab\x12\xca\xbe\xe6\xb2\x23\x45\x93\xef\xc3\x09\xe0\x00\xc7\x46";
    pub const LOGICAL_SECTOR: Guid =
        *b"\x1d\xbf\x41\x81\x6f\xa9\x09\x47\xba\x47\xf2\x33\xa8\xfa\xab\x5f";
    pub const PHYSICAL_SECTOR: Guid =
        *b"\xc7\x48\xa3\xcd\x5d\x44\x71\x44\x9c\xc9\xe9\x88\x52\x51\xc5\x56";
    pub const PARENT_LOCATOR: Guid =
        *b"\x2d\x5f\xd3\xa8\x0b\xb3\x4d\x45\xab\xf7\xd3\xd8\x48\x34\xab\x0c";
}

/// States of a payload block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
enum State {
    Zero = 2,
    FullyPresent = 6,
}

/// An entry of the BAT for a block at `offset`.
fn state(offset: u64, state: State) -> u64 {
    ((offset / MIB) << 20) | state as u64
}

/// The row of `vhdx` in the table of formats.
pub struct VhdxFormat;

const CREATE_OPTIONS: &[ImageOption] = &[
    ImageOption::new("size", ValueKind::Size, "Virtual disk size; max of 64TB."),
    ImageOption::with("log_size", ValueKind::Size, "1048576", "Log size; min 1MB."),
    ImageOption::with(
        "block_size",
        ValueKind::Size,
        "0",
        "Block Size; min 1MB, max 256MB. 0 means auto-calculate based on image size.",
    ),
    ImageOption::new(
        "subformat",
        ValueKind::Text,
        "VHDX format type, can be either 'dynamic' or 'fixed'. Default is 'dynamic'.",
    ),
    ImageOption::new(
        "block_state_zero",
        ValueKind::Switch,
        "Force use of payload blocks of type 'ZERO'. Non-standard, but default.  Do not set to \
         'off' when using 'qemu-img convert' with subformat=dynamic.",
    ),
];

impl Format for VhdxFormat {
    fn name(&self) -> &'static str {
        FORMAT
    }

    fn recognises(&self, start: &[u8], _path: &str) -> bool {
        start.starts_with(IDENTIFIER)
    }

    fn open(&self, request: OpenRequest<'_>) -> Result<Arc<dyn Node>, OpenError> {
        let read_only = request.read_only || request.file.read_only();
        let (file, image) = load(request.file, request.path, read_only)?;
        let place =
            image.header.log_place(crate::uuid::random().map_err(|e| OpenError::Host {
                operation: "random numbers".to_owned(),
                source: e,
            })?);
        if !read_only {
            let fields = Fields { path: request.path, format: FORMAT };
            let good =
                place.len > 0 && u64::from(place.len).is_multiple_of(MIB) && place.offset >= MIB;
            fields.want(good, "LogLength", place.len.into(), "no multiple of 1 MiB")?;
        }
        let map = Map { image, guid: place.guid, next: 0 };
        let disk = Blocks::of(file, None, read_only, request.discard, map);
        Ok(Arc::new(disk.with_store(Log::new(place))))
    }

    fn create_options(&self) -> &'static [ImageOption] {
        CREATE_OPTIONS
    }

    fn create(&self, request: &CreateRequest<'_>) -> Result<(), OpenError> {
        create::create(request)
    }

    fn check(&self, request: OpenRequest<'_>, fix: Fix) -> Result<Option<CheckReport>, OpenError> {
        let path = request.path;
        let (file, image) = load(request.file, path, fix == Fix::Nothing)?;
        image.check(&*file, fix).map(Some).map_err(|e| OpenError::host(path, e))
    }
}

/// The header that counts.
#[derive(Clone)]
struct CurrentHeader {
    /// Which of the two it is.
    slot: usize,
    bytes: [u8; 4096],
}

mod at {
    //! Offsets in a header.
    pub const CHECKSUM: usize = 4;
    pub const SEQUENCE: usize = 8;
    pub const FILE_WRITE_GUID: usize = 16;
    pub const DATA_WRITE_GUID: usize = 32;
    pub const LOG_GUID: usize = 48;
    pub const LOG_VERSION: usize = 64;
    pub const VERSION: usize = 66;
    pub const LOG_LENGTH: usize = 68;
    pub const LOG_OFFSET: usize = 72;
}

impl CurrentHeader {
    /// The valid header with the higher sequence number.
    fn read(file: &dyn Node, fields: &Fields<'_>) -> Result<Self, OpenError> {
        let mut best: Option<Self> = None;
        for (slot, offset) in HEADERS.into_iter().enumerate() {
            let mut bytes = [0; 4096];
            read_padded(file, offset, &mut bytes).map_err(|e| OpenError::host(fields.path, e))?;
            let header = Self { slot, bytes };
            let newer = best.as_ref().is_none_or(|b| header.sequence() > b.sequence());
            if header.valid() && newer {
                best = Some(header);
            }
        }
        let best = best.ok_or_else(|| fields.refuse("No valid VHDX header found"))?;
        let version = le16(&best.bytes, at::LOG_VERSION);
        fields.want(version == 0, "LogVersion", version.into(), "not a known version")?;
        Ok(best)
    }

    fn valid(&self) -> bool {
        let mut bytes = self.bytes;
        bytes[at::CHECKSUM..at::CHECKSUM + 4].fill(0);
        self.bytes.starts_with(b"head")
            && le16(&self.bytes, at::VERSION) == 1
            && crc32c(&bytes) == le32(&self.bytes, at::CHECKSUM)
    }

    /// The header of a new image, to be written twice.
    fn fresh(log_offset: u64, log_len: u32) -> io::Result<Self> {
        let mut bytes = [0; 4096];
        let start: [u8; 4] = crate::uuid::random_bytes()?;
        put(&mut bytes, 0, b"head");
        put(&mut bytes, at::SEQUENCE, &u64::from(u32::from_le_bytes(start) >> 1).to_le_bytes());
        put(&mut bytes, at::FILE_WRITE_GUID, &crate::uuid::random()?);
        put(&mut bytes, at::DATA_WRITE_GUID, &crate::uuid::random()?);
        put(&mut bytes, at::VERSION, &1u16.to_le_bytes());
        put(&mut bytes, at::LOG_LENGTH, &log_len.to_le_bytes());
        put(&mut bytes, at::LOG_OFFSET, &log_offset.to_le_bytes());
        Ok(Self { slot: 1, bytes })
    }

    fn sequence(&self) -> u64 {
        le64(&self.bytes, at::SEQUENCE)
    }

    fn log_guid(&self) -> [u8; 16] {
        crate::blocks::codec::bytes(&self.bytes, at::LOG_GUID)
    }

    fn log_place(&self, guid: [u8; 16]) -> log::Place {
        let (offset, len) = (le64(&self.bytes, at::LOG_OFFSET), le32(&self.bytes, at::LOG_LENGTH));
        log::Place { offset, len, guid }
    }

    /// Writes the header over the one that does not count, which makes it the one that does.
    fn advance(&mut self, file: &dyn Node) -> io::Result<()> {
        let sequence = self.sequence().wrapping_add(1);
        put(&mut self.bytes, at::SEQUENCE, &sequence.to_le_bytes());
        self.bytes[at::CHECKSUM..at::CHECKSUM + 4].fill(0);
        let sum = crc32c(&self.bytes);
        put(&mut self.bytes, at::CHECKSUM, &sum.to_le_bytes());
        self.slot = 1 - self.slot;
        write(file, HEADERS[self.slot], &self.bytes)?;
        file.flush()
    }

    /// Names the log that changes go through from now on, or none.
    fn set_log(&mut self, file: &dyn Node, guid: [u8; 16]) -> io::Result<()> {
        put(&mut self.bytes, at::LOG_GUID, &guid);
        self.advance(file)?;
        self.advance(file)
    }
}

/// A part of the file.
#[derive(Clone, Copy, Debug)]
struct Region {
    offset: u64,
    len: u64,
}

impl Region {
    fn end(&self) -> u64 {
        self.offset + self.len
    }
}

/// What the metadata of an image say.
struct Image {
    header: CurrentHeader,
    /// Length of the disk in bytes.
    size: u64,
    block: u64,
    bat: Region,
    /// What no block may lie on.
    reserved: [Region; 3],
    /// Blocks in front of each entry about sector bitmaps.
    chunk: u64,
}

/// Reads the metadata of an image whose log has been replayed, into the file or, if that must not
/// change, in front of it.
fn load(
    file: Arc<dyn Node>,
    path: &str,
    read_only: bool,
) -> Result<(Arc<dyn Node>, Image), OpenError> {
    let fields = Fields { path, format: FORMAT };
    let failed = |e| OpenError::host(path, e);
    let start = read_start::<8>(&*file, path)?;
    if !start.starts_with(IDENTIFIER) {
        return Err(OpenError::NotThisFormat { format: FORMAT });
    }
    let mut header = CurrentHeader::read(&*file, &fields)?;
    let guid = header.log_guid();
    let mut file = file;
    if guid != [0; 16] {
        let replay = log::replay(&*file, &header.log_place(guid)).map_err(failed)?;
        if read_only {
            file = Arc::new(Replayed::new(file, replay));
        } else {
            replay.apply(&*file).map_err(failed)?;
            header.set_log(&*file, [0; 16]).map_err(failed)?;
        }
    }
    let image = Image::read(&*file, header, &fields)?;
    Ok((file, image))
}

impl Image {
    fn read(
        file: &dyn Node,
        header: CurrentHeader,
        fields: &Fields<'_>,
    ) -> Result<Self, OpenError> {
        let (bat, metadata) = regions(file, fields)?;
        let items = Metadata::read(file, metadata, fields)?;
        let parameters = items.number(&item::FILE_PARAMETERS, "File Parameters", fields)?;
        let block = parameters & 0xffff_ffff;
        let good = block.is_power_of_two() && (MIB..=256 * MIB).contains(&block);
        fields.want(good, "BlockSize", block, "no power of two from 1 MiB to 256 MiB")?;
        let has_parent = parameters >> 33 & 1 != 0 || items.0.contains_key(&item::PARENT_LOCATOR);
        if has_parent {
            let what = "vhdx with a parent".to_owned();
            return Err(OpenError::NotSupported { path: fields.path.to_owned(), what });
        }
        let size = items.number(&item::DISK_SIZE, "Virtual Disk Size", fields)?;
        fields.want(size <= 64 << 40, "VirtualDiskSize", size, "more than 64 TiB")?;
        let sector = items.number(&item::LOGICAL_SECTOR, "Logical Sector Size", fields)?;
        fields.want(
            matches!(sector, 512 | 4096),
            "LogicalSectorSize",
            sector,
            "not 512 or 4096",
        )?;
        fields.want(
            size.is_multiple_of(SECTOR),
            "VirtualDiskSize",
            size,
            "no multiple of a sector",
        )?;
        let chunk = (sector << 23) / block;
        let blocks = size.div_ceil(block);
        let entries = blocks + blocks.saturating_sub(1) / chunk;
        let why = "too short for the disk";
        fields.want(entries * 8 <= bat.len, "length of the BAT region", bat.len, why)?;
        let log = header.log_place([0; 16]);
        let log = Region { offset: log.offset, len: log.len.into() };
        let end = log.offset.checked_add(log.len);
        fields.want(end.is_some(), "LogOffset", log.offset, "beyond all files")?;
        Ok(Self { header, size, block, bat, reserved: [bat, metadata, log], chunk })
    }

    fn entry_at(&self, guest: u64) -> u64 {
        let block = guest / self.block;
        self.bat.offset + (block + block / self.chunk) * 8
    }

    /// The place of a block that an entry says is there.
    fn place(&self, entry: u64) -> Option<u64> {
        let host = entry >> 20 << 20;
        let end = host.checked_add(self.block)?;
        let clear = |region: &Region| region.end() <= host || region.offset >= end;
        (host >= MIB && self.reserved.iter().all(clear)).then_some(host)
    }

    fn check(&self, file: &dyn Node, fix: Fix) -> io::Result<CheckReport> {
        let mut report = CheckReport::default();
        let mut tables = Tables::default();
        let copies = [region_table(file, REGIONS[0])?, region_table(file, REGIONS[1])?];
        for (copy, offset) in REGIONS.into_iter().enumerate() {
            match (&copies[copy], &copies[1 - copy]) {
                (Some(_), _) => {}
                // The image is open by the other one, which stays as it is.
                (None, Some(good)) if fix == Fix::All => {
                    write(file, offset, good)?;
                    file.flush()?;
                    report.corruptions_fixed += 1;
                    note(&mut report, format!("Repairing copy {copy} of the region table"));
                }
                (None, _) => {
                    let text = format!("ERROR: copy {copy} of the region table is damaged");
                    damage(&mut report, text);
                }
            }
        }
        for block in 0..self.size.div_ceil(self.block) {
            let guest = block * self.block;
            let entry = u64::from_le_bytes(tables.get(file, self.entry_at(guest))?);
            match entry & 7 {
                0..=3 => {}
                6 => match self.place(entry) {
                    // The last block may be as short as the disk's end makes it.
                    Some(host) if host + (self.size - guest).min(self.block) <= file.size() => {}
                    _ => damage(
                        &mut report,
                        format!("ERROR: block {block} is outside the file's data: {entry:#x}"),
                    ),
                },
                other => {
                    damage(&mut report, format!("ERROR: block {block} has the state {other}"));
                }
            }
        }
        Ok(report)
    }
}

/// A copy of the region table, if it is valid.
fn region_table(file: &dyn Node, offset: u64) -> io::Result<Option<Vec<u8>>> {
    let mut table = vec![0; 65536];
    read_padded(file, offset, &mut table)?;
    let sum = le32(&table, 4);
    table[4..8].fill(0);
    let good = table.starts_with(b"regi") && crc32c(&table) == sum;
    table[4..8].copy_from_slice(&sum.to_le_bytes());
    Ok(good.then_some(table))
}

/// The BAT and metadata regions, by the first valid copy of the table.
fn regions(file: &dyn Node, fields: &Fields<'_>) -> Result<(Region, Region), OpenError> {
    const MOST: usize = 2047;
    let mut valid = None;
    for offset in REGIONS {
        let table = region_table(file, offset).map_err(|e| OpenError::host(fields.path, e))?;
        if table.is_some() {
            valid = table;
            break;
        }
    }
    let table = valid.ok_or_else(|| fields.refuse("no valid region table"))?;
    let count = le32(&table, 8) as usize;
    fields.want(count <= MOST, "EntryCount", count as u64, "too many regions")?;
    let (mut bat, mut metadata) = (None, None);
    for entry in table[16..].chunks_exact(32).take(count) {
        let region = Region { offset: le64(entry, 16), len: le32(entry, 24).into() };
        let inside = region.offset.checked_add(region.len).is_some_and(|end| end <= file.size());
        let good = inside && region.offset >= MIB && region.offset.is_multiple_of(MIB);
        match &entry[..16] {
            guid if guid == BAT => bat = Some(region),
            guid if guid == METADATA => metadata = Some(region),
            _ if entry[28] & 1 != 0 => {
                return Err(fields.refuse("the image needs a region that is not known"));
            }
            _ => continue,
        }
        fields.want(good, "FileOffset", region.offset, "the region is outside the file")?;
    }
    match (bat, metadata) {
        (Some(bat), Some(metadata)) => Ok((bat, metadata)),
        _ => Err(fields.refuse("the BAT or the metadata region is missing")),
    }
}

/// Small metadata items: up to the first 16 bytes of each, with its length.
struct Metadata(BTreeMap<[u8; 16], (u32, [u8; 16])>);

impl Metadata {
    fn read(file: &dyn Node, region: Region, fields: &Fields<'_>) -> Result<Self, OpenError> {
        let failed = |e| OpenError::host(fields.path, e);
        let mut table = vec![0; METADATA_TABLE];
        read_padded(file, region.offset, &mut table).map_err(failed)?;
        if !table.starts_with(b"metadata") {
            return Err(fields.refuse("the metadata table has no signature"));
        }
        let count = le16(&table, 10);
        fields.want(count <= 2047, "metadata EntryCount", count.into(), "too many items")?;
        let known = [
            item::FILE_PARAMETERS,
            item::DISK_SIZE,
            item::PAGE_83,
            item::LOGICAL_SECTOR,
            item::PHYSICAL_SECTOR,
            item::PARENT_LOCATOR,
        ];
        let mut items = BTreeMap::new();
        for entry in table[32..].chunks_exact(32).take(count.into()) {
            let guid: [u8; 16] = crate::blocks::codec::bytes(entry, 0);
            let (offset, len) = (le32(entry, 16), le32(entry, 20));
            if !known.contains(&guid) {
                if le32(entry, 24) & 4 != 0 {
                    return Err(fields.refuse("the image needs metadata that is not known"));
                }
                continue;
            }
            let inside = u64::from(offset) + u64::from(len) <= region.len;
            let good = inside && offset as usize >= METADATA_TABLE;
            fields.want(good, "metadata Offset", offset.into(), "outside its region")?;
            let mut value = [0; 16];
            let n = (len as usize).min(value.len());
            read_padded(file, region.offset + u64::from(offset), &mut value[..n])
                .map_err(failed)?;
            items.insert(guid, (len, value));
        }
        Ok(Self(items))
    }

    /// A number of 4 or 8 bytes.
    fn number(&self, guid: &[u8; 16], name: &str, fields: &Fields<'_>) -> Result<u64, OpenError> {
        match self.0.get(guid) {
            Some((4 | 8, value)) => Ok(le64(value, 0)),
            Some(_) => Err(fields.refuse(format!("the metadata item {name} has a bad length"))),
            None => Err(fields.refuse(format!("the metadata item {name} is missing"))),
        }
    }
}

/// An open image.
struct Map {
    image: Image,
    /// Names the log while the image is changed.
    guid: [u8; 16],
    /// Where the next block goes, if that is behind the file's end.
    next: u64,
}

impl BlockMap for Map {
    fn name(&self) -> &'static str {
        FORMAT
    }

    fn size(&self) -> u64 {
        self.image.size
    }

    fn block(&self) -> u64 {
        self.image.block
    }

    fn lookup(
        &mut self,
        tables: &mut Tables,
        file: &dyn Node,
        guest: u64,
    ) -> io::Result<(Place, u64)> {
        let image = &self.image;
        let entry = u64::from_le_bytes(tables.get(file, image.entry_at(guest))?);
        let within = guest % image.block;
        // Without a parent, what is not present, undefined, zero or unmapped reads as zeroes.
        let place = match entry & 7 {
            0..=3 => Place::Zero,
            6 => match image.place(entry) {
                Some(host) => Place::Data(host + within),
                None => return Err(damaged(format!("vhdx: a block at {entry:#x}"))),
            },
            other => return Err(damaged(format!("vhdx: a block in the state {other}"))),
        };
        Ok((place, image.block - within))
    }

    fn allocate(&mut self, _: &mut Tables, file: &dyn Node, _: u64) -> io::Result<Space> {
        let mut regions = self.image.reserved.iter().map(Region::end);
        let reserved = regions.by_ref().max().unwrap_or(0);
        let end = self.next.max(file.size()).max(reserved);
        let host = end.checked_next_multiple_of(MIB).filter(|host| *host < 1 << 62);
        let host = host.ok_or_else(|| damaged("vhdx: the file is too large"))?;
        self.next = host + self.image.block;
        Ok(Space { host, end: self.next })
    }

    fn link(
        &mut self,
        tables: &mut Tables,
        file: &dyn Node,
        guest: u64,
        host: u64,
    ) -> io::Result<()> {
        let entry = state(host, State::FullyPresent).to_le_bytes();
        tables.put(file, self.image.entry_at(guest), &entry, Step::Leaves)
    }

    fn begin(&mut self, _: &mut Tables, file: &dyn Node) -> io::Result<()> {
        let header = &mut self.image.header;
        put(&mut header.bytes, at::FILE_WRITE_GUID, &crate::uuid::random()?);
        put(&mut header.bytes, at::DATA_WRITE_GUID, &crate::uuid::random()?);
        header.set_log(file, self.guid)
    }

    fn end(&mut self, file: &dyn Node) -> io::Result<()> {
        // The pages of the last entry must be stable before the log is forgotten.
        file.flush()?;
        self.image.header.set_log(file, [0; 16])
    }

    fn describe(&self, _info: &mut NodeInfo) {}
}

/// A file as it would be if its log had been replayed.
struct Replayed {
    file: Arc<dyn Node>,
    replay: Replay,
}

impl Replayed {
    fn new(file: Arc<dyn Node>, replay: Replay) -> Self {
        Self { file, replay }
    }
}

impl Node for Replayed {
    fn size(&self) -> u64 {
        self.file.size().max(self.replay.file_len)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        read_padded(&*self.file, offset, buf)?;
        let end = offset + buf.len() as u64;
        for patch in &self.replay.patches {
            let (at, len) = match patch {
                Patch::Data(at, page) => (*at, page.len() as u64),
                Patch::Zero(at, len) => (*at, *len),
            };
            let (from, to) = (at.max(offset), at.saturating_add(len).min(end));
            if from >= to {
                continue;
            }
            let target = &mut buf[(from - offset) as usize..(to - offset) as usize];
            match patch {
                Patch::Data(_, page) => {
                    target.copy_from_slice(&page[(from - at) as usize..(to - at) as usize]);
                }
                Patch::Zero(..) => target.fill(0),
            }
        }
        Ok(())
    }

    fn write_at(&self, _: u64, _: &[u8], _: WriteFlags) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn write_zeroes(&self, _: u64, _: u64, _: ZeroFlags) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn discard(&self, _: u64, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }

    fn block_status(&self, _: u64, len: u64) -> io::Result<Extent> {
        Ok(Extent { kind: ExtentKind::Data, len, host_offset: None })
    }

    fn read_only(&self) -> bool {
        true
    }

    fn limits(&self) -> Limits {
        self.file.limits()
    }

    fn info(&self) -> NodeInfo {
        self.file.info()
    }
}
