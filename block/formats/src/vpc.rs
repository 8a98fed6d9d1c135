//! VHD, called `vpc` ("Virtual Hard Disk Image Format Specification", Microsoft, version 1.0 of
//! October 2006; integers big-endian).
//!
//! A footer of 512 bytes ends every image. A fixed one is the disk's bytes before it. A dynamic one
//! has a copy of the footer, a header and the block allocation table (BAT) in front; each block (2
//! MiB) follows a bitmap of its sectors. A differencing image has content for sectors whose bit is
//! set and a parent for the others; it is only read.
//!
//! The length of the disk is what the geometry (cylinders, heads, sectors) gives where the creator
//! was Virtual PC or an image tool that follows it, else the footer's current size.
//!
//! Order of writes: the new block's bitmap and the footer behind it, with the data; flush; the BAT's
//! entry. In between, the copy of the footer at the start stands for the one overwritten.

use std::io;
use std::sync::Arc;

use graph::{ImageOption, Node, NodeInfo, OpenError, Preallocation, Role, SECTOR, ValueKind};

use crate::blocks::codec::{
    Fields, be32, be64, damaged, grow, put, read_padded, read_start, write,
};
use crate::blocks::{BlockMap, Blocks, Place, Space, Step, Tables, option_size};
use crate::format::{CreateRequest, Format, OpenRequest, Reference};

const FORMAT: &str = "vpc";
const FOOTER: usize = 512;
const DYNAMIC_HEADER: usize = 1024;
const COOKIE: &[u8; 8] = b"conectix";
const DYNAMIC_COOKIE: &[u8; 8] = b"cxsparse";
const BLOCK: u64 = 2 << 20;
const UNUSED: u32 = 0xffff_ffff;

/// Largest geometry: 65535 cylinders, 16 heads, 255 sectors.
const MOST_BY_GEOMETRY: u64 = 65535 * 16 * 255;

/// Largest disk in sectors: 2040 GiB.
const MOST_SECTORS: u64 = 0xff00_0000;

mod at {
    //! Offsets in the footer.
    pub const FEATURES: usize = 8;
    pub const VERSION: usize = 12;
    pub const DATA_OFFSET: usize = 16;
    pub const TIMESTAMP: usize = 24;
    pub const CREATOR: usize = 28;
    pub const CREATOR_VERSION: usize = 32;
    pub const CREATOR_OS: usize = 36;
    pub const ORIGINAL_SIZE: usize = 40;
    pub const CURRENT_SIZE: usize = 48;
    pub const GEOMETRY: usize = 56;
    pub const TYPE: usize = 60;
    pub const CHECKSUM: usize = 64;
    pub const UUID: usize = 68;
}

mod dynamic_at {
    //! Offsets in the header of dynamic images.
    pub const DATA_OFFSET: usize = 8;
    pub const TABLE_OFFSET: usize = 16;
    pub const VERSION: usize = 24;
    pub const MAX_ENTRIES: usize = 28;
    pub const BLOCK_SIZE: usize = 32;
    pub const CHECKSUM: usize = 36;
    pub const LOCATORS: usize = 576;
}

/// Values of the type field.
mod kind {
    pub const FIXED: u32 = 2;
    pub const DYNAMIC: u32 = 3;
    pub const DIFFERENCING: u32 = 4;
}

/// The row of `vpc` in the table of formats.
pub struct VpcFormat;

const CREATE_OPTIONS: &[ImageOption] = &[
    ImageOption::new("size", ValueKind::Size, "Virtual disk size"),
    ImageOption::new(
        "subformat",
        ValueKind::Text,
        "Type of virtual hard disk format. Supported formats are {dynamic (default) | fixed} ",
    ),
    ImageOption::new(
        "force_size",
        ValueKind::Switch,
        "Force disk size calculation to use the actual size specified, rather than using the \
         nearest CHS-based calculation",
    ),
];

impl Format for VpcFormat {
    fn name(&self) -> &'static str {
        FORMAT
    }

    /// A fixed image has its footer at the end and nothing to be recognised by.
    fn recognises(&self, start: &[u8], _path: &str) -> bool {
        start.starts_with(COOKIE)
    }

    fn references(&self, file: &dyn Node, path: &str) -> Result<Vec<Reference>, OpenError> {
        let header = Header::read(file, path, SizeBy::Creator)?;
        let parent =
            header.parent.map(|name| Reference { role: Role::Backing, name, format: None });
        Ok(parent.into_iter().collect())
    }

    fn open(&self, request: OpenRequest<'_>) -> Result<Arc<dyn Node>, OpenError> {
        let by = match request.options.take("force_size_calc").as_deref() {
            None => SizeBy::Creator,
            Some("chs") => SizeBy::Geometry,
            Some("current_size") => SizeBy::Field,
            Some(other) => {
                let text = format!("Invalid size calculation mode: '{other}'");
                return Err(OpenError::Option(text));
            }
        };
        let header = Header::read(&*request.file, request.path, by)?;
        if header.table.is_some_and(|table| table.differencing) && !request.read_only {
            let what = "writing a differencing vpc image".to_owned();
            return Err(OpenError::NotSupported { path: request.path.to_owned(), what });
        }
        let map = Map { header, next: None };
        Ok(Arc::new(Blocks::new(request, map)))
    }

    fn create_options(&self) -> &'static [ImageOption] {
        CREATE_OPTIONS
    }

    fn create(&self, request: &CreateRequest<'_>) -> Result<(), OpenError> {
        let options = request.options;
        let fixed = match options.text("subformat").unwrap_or("dynamic") {
            "dynamic" => false,
            "fixed" => true,
            other => {
                let text = format!("Parameter 'subformat' does not accept value '{other}'");
                return Err(OpenError::Option(text));
            }
        };
        let too_large = || {
            let text = "The image size is too large for file format 'vpc'";
            OpenError::Option(text.to_owned())
        };
        let size = option_size(options)?;
        let shape = Shape::of(size / SECTOR, options.switch("force_size")).ok_or_else(too_large)?;
        request.with_file(request.path, 0, Preallocation::Off, |file| {
            create(&*file, &shape, fixed).map_err(|e| OpenError::host(request.path, e))
        })
    }
}

/// What decides the length of the disk.
#[derive(Clone, Copy, PartialEq, Eq)]
enum SizeBy {
    Creator,
    Geometry,
    Field,
}

/// The block allocation table of a dynamic image.
#[derive(Clone, Copy)]
struct Table {
    offset: u64,
    entries: u32,
    block: u64,
    differencing: bool,
}

impl Table {
    /// Bytes of the bitmap in front of each block.
    fn bitmap(&self) -> u64 {
        (self.block / SECTOR).div_ceil(8).next_multiple_of(SECTOR)
    }
}

/// What footer and header say.
struct Header {
    /// Length of the disk in bytes.
    size: u64,
    footer: [u8; FOOTER],
    /// `None` for a fixed image.
    table: Option<Table>,
    parent: Option<String>,
}

impl Header {
    fn read(file: &dyn Node, path: &str, by: SizeBy) -> Result<Self, OpenError> {
        let fields = Fields { path, format: FORMAT };
        let failed = |e| OpenError::host(path, e);
        let mut footer = read_start::<FOOTER>(file, path)?;
        let mut at_start = true;
        if !footer.starts_with(COOKIE) {
            let at = file.size().saturating_sub(FOOTER as u64);
            read_padded(file, at, &mut footer).map_err(failed)?;
            at_start = false;
        }
        // Only a fixed image begins with its content: the copy at the end of others is no header.
        let fixed = be32(&footer, at::TYPE) == kind::FIXED;
        if !footer.starts_with(COOKIE) || !(at_start || fixed) {
            return Err(fields.refuse("invalid VPC image"));
        }
        if checksum(&footer, at::CHECKSUM) != be32(&footer, at::CHECKSUM) {
            return Err(fields.refuse("Incorrect header checksum"));
        }
        let size = disk_size(&footer, by);
        let most = MOST_SECTORS * SECTOR;
        fields.want(size <= most, "current size", size, "more than 2040 GiB")?;
        let mut header = Self { size, footer, table: None, parent: None };
        if fixed {
            return Ok(header);
        }
        let mut dynamic = [0; DYNAMIC_HEADER];
        let at = be64(&footer, at::DATA_OFFSET);
        read_padded(file, at, &mut dynamic).map_err(failed)?;
        if !dynamic.starts_with(DYNAMIC_COOKIE) {
            return Err(fields.refuse("Invalid header magic"));
        }
        let differencing = be32(&footer, at::TYPE) == kind::DIFFERENCING;
        header.table = Some(parse_table(&dynamic, size, differencing, file.size(), &fields)?);
        if differencing {
            header.parent = parent_name(&dynamic, file).map_err(failed)?;
        }
        Ok(header)
    }
}

fn parse_table(
    b: &[u8],
    size: u64,
    differencing: bool,
    file_len: u64,
    fields: &Fields<'_>,
) -> Result<Table, OpenError> {
    let block = u64::from(be32(b, dynamic_at::BLOCK_SIZE));
    if !block.is_power_of_two() || block < SECTOR {
        return Err(fields.refuse(format!("Invalid block size {block}")));
    }
    let entries = be32(b, dynamic_at::MAX_ENTRIES);
    let offset = be64(b, dynamic_at::TABLE_OFFSET);
    let end = offset.checked_add(u64::from(entries) * 4).filter(|end| *end <= file_len);
    fields.want(end.is_some(), "table offset", offset, "the table ends beyond the file")?;
    if u64::from(entries) * block < size {
        return Err(fields.refuse("Page table too small"));
    }
    fields.want(
        offset.is_multiple_of(SECTOR) && offset >= (FOOTER + DYNAMIC_HEADER) as u64,
        "table offset",
        offset,
        "not aligned, or inside the headers",
    )?;
    Ok(Table { offset, entries, block, differencing })
}

/// The length of the disk in bytes.
fn disk_size(footer: &[u8], by: SizeBy) -> u64 {
    let geometry = be32(footer, at::GEOMETRY);
    let (cylinders, heads, sectors) = (geometry >> 16, geometry >> 8 & 0xff, geometry & 0xff);
    let by_geometry = u64::from(cylinders) * u64::from(heads) * u64::from(sectors);
    let follows = matches!(&footer[at::CREATOR..at::CREATOR + 4], b"vpc " | b"qemu");
    let field = be64(footer, at::CURRENT_SIZE);
    match by {
        SizeBy::Geometry => by_geometry * SECTOR,
        SizeBy::Creator if follows && by_geometry < MOST_BY_GEOMETRY => by_geometry * SECTOR,
        // A remainder of a sector cannot be addressed.
        SizeBy::Creator | SizeBy::Field => field - field % SECTOR,
    }
}

/// Sum of all bytes but those of the checksum itself, inverted.
fn checksum(b: &[u8], at: usize) -> u32 {
    let sum = |bytes: &[u8]| bytes.iter().map(|b| u32::from(*b)).sum::<u32>();
    !(sum(&b[..at]) + sum(&b[at + 4..]))
}

/// The parent's name by one of the locators for Windows, as a path.
fn parent_name(b: &[u8], file: &dyn Node) -> io::Result<Option<String>> {
    const LONGEST: u32 = 2048;
    let mut absolute = None;
    for locator in b[dynamic_at::LOCATORS..].chunks_exact(24).take(8) {
        let len = be32(locator, 8).min(LONGEST);
        let mut bytes = vec![0; len as usize];
        let relative = match &locator[..4] {
            b"W2ru" => true,
            b"W2ku" => false,
            _ => continue,
        };
        read_padded(file, be64(locator, 16), &mut bytes)?;
        let units = bytes.chunks_exact(2).map(|u| u16::from_le_bytes([u[0], u[1]]));
        let text: String = char::decode_utf16(units).map(|c| c.unwrap_or('\u{fffd}')).collect();
        let path = text.replace('\\', "/");
        if relative {
            return Ok(Some(path.strip_prefix("./").unwrap_or(&path).to_owned()));
        }
        absolute = Some(path);
    }
    Ok(absolute)
}

/// An open image.
struct Map {
    header: Header,
    /// Where the next block goes; found when it is needed.
    next: Option<u64>,
}

impl BlockMap for Map {
    fn name(&self) -> &'static str {
        FORMAT
    }

    fn size(&self) -> u64 {
        self.header.size
    }

    fn block(&self) -> u64 {
        self.header.table.map_or(BLOCK, |table| table.block)
    }

    fn lookup(
        &mut self,
        tables: &mut Tables,
        file: &dyn Node,
        guest: u64,
    ) -> io::Result<(Place, u64)> {
        let Some(table) = self.header.table else {
            return Ok((Place::Data(guest), self.header.size - guest));
        };
        let entry = u32::from_be_bytes(tables.get(file, table.offset + guest / table.block * 4)?);
        let within = guest % table.block;
        let left = table.block - within;
        let bitmap = u64::from(entry) * SECTOR;
        let host = bitmap + table.bitmap() + within;
        match entry {
            UNUSED if table.differencing => Ok((Place::Unallocated, left)),
            UNUSED => Ok((Place::Zero, left)),
            _ if table.differencing => {
                let sector = within / SECTOR;
                let [bits] = tables.get::<1>(file, bitmap + sector / 8)?;
                let ours = bits >> (7 - sector % 8) & 1 != 0;
                let place = if ours { Place::Data(host) } else { Place::Unallocated };
                Ok((place, SECTOR - within % SECTOR))
            }
            _ => Ok((Place::Data(host), left)),
        }
    }

    fn allocate(&mut self, tables: &mut Tables, file: &dyn Node, _: u64) -> io::Result<Space> {
        let table = self.header.table.ok_or_else(|| damaged("vpc: a fixed image has no table"))?;
        let at = match self.next {
            Some(at) => at,
            None => free_space(&table, tables, file)?,
        };
        let data = at + table.bitmap();
        let end = data + table.block;
        if u32::try_from(end / SECTOR).is_err() {
            return Err(damaged("vpc: the image is full: 2 TiB"));
        }
        self.next = Some(end);
        // Every sector of the block is in use from the start.
        let bitmap = vec![0xff; table.bitmap() as usize];
        tables.put(file, at, &bitmap, Step::Reserve)?;
        tables.put(file, end, &self.header.footer, Step::Reserve)?;
        Ok(Space { host: data, end: end + FOOTER as u64 })
    }

    fn link(
        &mut self,
        tables: &mut Tables,
        file: &dyn Node,
        guest: u64,
        host: u64,
    ) -> io::Result<()> {
        let table = self.header.table.ok_or_else(|| damaged("vpc: a fixed image has no table"))?;
        let entry = ((host - table.bitmap()) / SECTOR) as u32;
        tables.put(file, table.offset + guest / table.block * 4, &entry.to_be_bytes(), Step::Leaves)
    }

    fn describe(&self, info: &mut NodeInfo) {
        if self.header.table.is_none() {
            info.cluster_size = None;
        }
        info.backing_filename = self.header.parent.clone();
    }
}

/// The end of the last block, or of the table.
fn free_space(table: &Table, tables: &mut Tables, file: &dyn Node) -> io::Result<u64> {
    let mut last = None;
    for i in 0..u64::from(table.entries) {
        let entry = u32::from_be_bytes(tables.get(file, table.offset + i * 4)?);
        if entry != UNUSED {
            last = last.max(Some(entry));
        }
    }
    let table_end = (table.offset + u64::from(table.entries) * 4).next_multiple_of(SECTOR);
    let blocks_end =
        last.map_or(0, |entry| u64::from(entry) * SECTOR + table.bitmap() + table.block);
    if blocks_end > file.size() {
        return Err(damaged("vpc: the last block ends beyond the file, which was cut"));
    }
    Ok(table_end.max(blocks_end))
}

/// Length and geometry of a new disk.
struct Shape {
    sectors: u64,
    geometry: u32,
    /// The length is the field's, not the geometry's.
    exact: bool,
}

impl Shape {
    /// The geometry for a disk of at least `sectors`, which become what it has; with `exact`, or
    /// beyond every geometry, they stay what they are. `None` if that is too large.
    fn of(sectors: u64, exact: bool) -> Option<Self> {
        const MOST: u32 = 0xffff_10ff;
        if exact || sectors > MOST_BY_GEOMETRY {
            let shape = Self { sectors, geometry: MOST, exact };
            return (sectors <= MOST_SECTORS).then_some(shape);
        }
        if sectors == 0 {
            return Some(Self { sectors, geometry: 0, exact });
        }
        let mut wanted = sectors;
        loop {
            let (cylinders, heads, per_track) = geometry(wanted);
            let has = cylinders * heads * per_track;
            if has >= sectors {
                let geometry = (cylinders << 16 | heads << 8 | per_track) as u32;
                return Some(Self { sectors: has, geometry, exact });
            }
            wanted += 1;
        }
    }
}

/// Cylinders, heads and sectors per track ("Appendix: CHS Calculation").
fn geometry(sectors: u64) -> (u64, u64, u64) {
    let sectors = sectors.min(MOST_BY_GEOMETRY);
    if sectors > 65535 * 16 * 63 {
        return (sectors / 255 / 16, 16, 255);
    }
    let mut tracks = sectors / 17;
    let mut heads = tracks.div_ceil(1024).max(4);
    let mut per_track = 17;
    if tracks >= heads * 1024 || heads > 16 {
        (heads, per_track) = (16, 31);
        tracks = sectors / per_track;
    }
    if tracks >= heads * 1024 {
        (heads, per_track) = (16, 63);
        tracks = sectors / per_track;
    }
    (tracks / heads, heads, per_track)
}

/// Seconds since the beginning of 2000, when the format's time begins.
fn timestamp() -> u32 {
    const EPOCH: u64 = 946_684_800;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |now| now.as_secs().saturating_sub(EPOCH) as u32)
}

/// Writes a new image into `file`, which is empty. What makes the file an image comes last: the
/// footer of a fixed one, the copy at the start of a dynamic one.
fn create(file: &dyn Node, shape: &Shape, fixed: bool) -> io::Result<()> {
    let size = shape.sectors * SECTOR;
    let mut footer = [0; FOOTER];
    let f = &mut footer[..];
    let data_offset = if fixed { u64::MAX } else { FOOTER as u64 };
    put(f, 0, COOKIE);
    put(f, at::FEATURES, &2u32.to_be_bytes());
    put(f, at::VERSION, &0x1_0000u32.to_be_bytes());
    put(f, at::DATA_OFFSET, &data_offset.to_be_bytes());
    put(f, at::TIMESTAMP, &timestamp().to_be_bytes());
    put(f, at::CREATOR, if shape.exact { b"qem2" } else { b"qemu" });
    put(f, at::CREATOR_VERSION, &0x5_0003u32.to_be_bytes());
    put(f, at::CREATOR_OS, b"Wi2k");
    put(f, at::ORIGINAL_SIZE, &size.to_be_bytes());
    put(f, at::CURRENT_SIZE, &size.to_be_bytes());
    put(f, at::GEOMETRY, &shape.geometry.to_be_bytes());
    put(f, at::TYPE, &if fixed { kind::FIXED } else { kind::DYNAMIC }.to_be_bytes());
    put(f, at::UUID, &crate::uuid::random()?);
    let sum = checksum(f, at::CHECKSUM);
    put(f, at::CHECKSUM, &sum.to_be_bytes());
    if fixed {
        grow(file, size + FOOTER as u64)?;
        write(file, size, &footer)?;
        return file.flush();
    }
    let table = (FOOTER + DYNAMIC_HEADER) as u64;
    let entries = size.div_ceil(BLOCK);
    let table_len = (entries * 4).next_multiple_of(SECTOR);
    write(file, table, &vec![0xff; table_len as usize])?;
    write(file, table + table_len, &footer)?;
    write(file, FOOTER as u64, &dynamic_header(table, entries))?;
    file.flush()?;
    write(file, 0, &footer)?;
    file.flush()
}

fn dynamic_header(table: u64, entries: u64) -> [u8; DYNAMIC_HEADER] {
    let mut header = [0; DYNAMIC_HEADER];
    let h = &mut header[..];
    put(h, 0, DYNAMIC_COOKIE);
    put(h, dynamic_at::DATA_OFFSET, &u64::MAX.to_be_bytes());
    put(h, dynamic_at::TABLE_OFFSET, &table.to_be_bytes());
    put(h, dynamic_at::VERSION, &0x1_0000u32.to_be_bytes());
    put(h, dynamic_at::MAX_ENTRIES, &(entries as u32).to_be_bytes());
    put(h, dynamic_at::BLOCK_SIZE, &(BLOCK as u32).to_be_bytes());
    let sum = checksum(h, dynamic_at::CHECKSUM);
    put(h, dynamic_at::CHECKSUM, &sum.to_be_bytes());
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn geometries_have_room_for_the_disk() {
        for (sectors, wanted) in [
            (0, (0, 0, 0)),
            (2048, (31, 4, 17)),
            (20480, (302, 4, 17)),
            (204_800, (0x3ec, 12, 17)),
            (504 << 11, (1024, 16, 63)),
            (1 << 21, (0x821, 16, 63)),
            (127 << 21, (0xfeff, 16, 255)),
        ] {
            let shape = Shape::of(sectors, false).expect("it is small enough");
            let (cylinders, heads, per_track) = wanted;
            assert_eq!(shape.geometry, cylinders << 16 | heads << 8 | per_track, "{sectors}");
            assert!(shape.sectors >= sectors);
        }
    }
}
