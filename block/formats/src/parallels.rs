//! Parallels, expandable images ("Parallels Expandable Image File Format", QEMU documentation;
//! integers little-endian).
//!
//! Layout: a header of 64 bytes, the block allocation table (BAT) of 32-bit entries, clusters. An
//! entry counts sectors in images with the first signature, clusters in those with the second.
//!
//! Order of writes: data; flush; the BAT's entries. A mark in the header says that the image is open
//! for writing. A crash loses space at the end, which the next writer takes.
//! Not supported: format extensions (dirty bitmaps), which are left alone and marked as absent when
//! the image is written.

use std::io;
use std::sync::Arc;

use graph::{
    CheckReport, Fix, ImageOption, Node, NodeInfo, OpenError, Preallocation, SECTOR, ValueKind,
};

use crate::blocks::codec::{
    Fields, damage, damaged, grow, le32, le64, note, put, read_padded, read_start, write,
};
use crate::blocks::{BlockMap, Blocks, Place, Space, Step, Tables, option_size};
use crate::format::{CreateRequest, Format, OpenRequest};

const FORMAT: &str = "parallels";
const HEADER: usize = 64;
const MAGIC_SECTORS: &[u8; 16] = b"WithoutFreeSpace";
const MAGIC_CLUSTERS: &[u8; 16] = b"WithouFreSpacExt";

/// The image is open for writing.
const IN_USE: u32 = 0x746f_6e59;

mod at {
    //! Offsets in the header.
    pub const VERSION: usize = 16;
    pub const HEADS: usize = 20;
    pub const CYLINDERS: usize = 24;
    pub const TRACKS: usize = 28;
    pub const BAT_ENTRIES: usize = 32;
    pub const SECTORS: usize = 36;
    pub const IN_USE: usize = 44;
    pub const DATA_OFFSET: usize = 48;
    pub const EXT_OFFSET: usize = 56;
}

/// The row of `parallels` in the table of formats.
pub struct ParallelsFormat;

const CREATE_OPTIONS: &[ImageOption] = &[
    ImageOption::new("size", ValueKind::Size, "Virtual disk size"),
    ImageOption::with("cluster_size", ValueKind::Size, "1048576", "Parallels image cluster size"),
];

impl Format for ParallelsFormat {
    fn name(&self) -> &'static str {
        FORMAT
    }

    fn recognises(&self, start: &[u8], _path: &str) -> bool {
        let magic = start.starts_with(MAGIC_SECTORS) || start.starts_with(MAGIC_CLUSTERS);
        magic && le32(start, at::VERSION) == 2
    }

    fn open(&self, request: OpenRequest<'_>) -> Result<Arc<dyn Node>, OpenError> {
        let header = Header::read(&*request.file, request.path)?;
        Ok(Arc::new(Blocks::new(request, Map { header, next: None })))
    }

    fn create_options(&self) -> &'static [ImageOption] {
        CREATE_OPTIONS
    }

    fn create(&self, request: &CreateRequest<'_>) -> Result<(), OpenError> {
        let refuse = |text: &str| Err(OpenError::Option(text.to_owned()));
        let size = option_size(request.options)?;
        let cluster = request.options.number("cluster_size").unwrap_or(1 << 20);
        let Some(cluster) = cluster.max(1).checked_next_multiple_of(SECTOR) else {
            return refuse("Cluster size is too large");
        };
        if cluster > i32::MAX as u64 {
            return refuse("Cluster size is too large");
        }
        let entries = size.div_ceil(cluster);
        if entries > MOST_ENTRIES {
            return refuse("Image size is too large for this cluster size");
        }
        request.with_file(request.path, 0, Preallocation::Off, |file| {
            create(&*file, size, cluster).map_err(|e| OpenError::host(request.path, e))
        })
    }

    fn check(&self, request: OpenRequest<'_>, fix: Fix) -> Result<Option<CheckReport>, OpenError> {
        let header = Header::read(&*request.file, request.path)?;
        let report = check(&*request.file, &header, fix);
        report.map(Some).map_err(|e| OpenError::host(request.path, e))
    }
}

/// Most entries of a BAT: what a signed 32-bit number of bytes holds.
const MOST_ENTRIES: u64 = i32::MAX as u64 / 4;

/// Begins the cluster of extensions.
const EXT_MAGIC: u64 = 0xab23_4cef_23dc_ea87;

/// What a header says.
#[derive(Clone, Copy)]
struct Header {
    /// Bytes per cluster.
    cluster: u64,
    /// Bytes that an entry counts.
    unit: u64,
    entries: u32,
    /// Length of the disk in bytes.
    size: u64,
    /// Where clusters begin.
    data: u64,
    in_use: bool,
    extensions: bool,
}

impl Header {
    fn read(file: &dyn Node, path: &str) -> Result<Self, OpenError> {
        let b = read_start::<HEADER>(file, path)?;
        if !ParallelsFormat.recognises(&b, path) {
            return Err(OpenError::NotThisFormat { format: FORMAT });
        }
        let fields = Fields { path, format: FORMAT };
        let by_clusters = b.starts_with(MAGIC_CLUSTERS);
        let tracks = u64::from(le32(&b, at::TRACKS));
        let good = tracks > 0 && tracks <= i32::MAX as u64 / SECTOR;
        fields.want(
            good,
            "tracks",
            tracks,
            "Invalid image: Zero sectors per track, or too many",
        )?;
        let entries = le32(&b, at::BAT_ENTRIES);
        let bat_end = HEADER as u64 + u64::from(entries) * 4;
        fields.want(
            u64::from(entries) <= MOST_ENTRIES && bat_end <= file.size(),
            "bat_entries",
            entries.into(),
            "Catalog too large, or beyond the file",
        )?;
        let sectors = le64(&b, at::SECTORS);
        // The older images have 32 bits here.
        let sectors = if by_clusters { sectors } else { sectors & 0xffff_ffff };
        let size = sectors.checked_mul(SECTOR).filter(|size| *size <= i64::MAX as u64);
        let room = u64::from(entries) * tracks;
        fields.want(
            size.is_some() && sectors <= room,
            "nb_sectors",
            sectors,
            "more than the catalog has room for",
        )?;
        let bat_end = bat_end.next_multiple_of(SECTOR);
        let data = u64::from(le32(&b, at::DATA_OFFSET)) * SECTOR;
        let data = if data == 0 && !by_clusters { bat_end } else { data };
        let cluster = tracks * SECTOR;
        let data = if data < bat_end { bat_end.next_multiple_of(cluster) } else { data };
        let extensions = le64(&b, at::EXT_OFFSET);
        if extensions != 0 {
            let mut magic = [0; 8];
            read_padded(file, extensions.saturating_mul(SECTOR), &mut magic)
                .map_err(|e| OpenError::host(path, e))?;
            let magic = u64::from_le_bytes(magic);
            if magic != EXT_MAGIC {
                return Err(fields.refuse(format!(
                    "Wrong parallels Format Extension magic: {magic:#x}, expected: {EXT_MAGIC:#x}"
                )));
            }
        }
        Ok(Self {
            cluster,
            unit: if by_clusters { cluster } else { SECTOR },
            entries,
            size: size.unwrap_or(0),
            data,
            in_use: le32(&b, at::IN_USE) == IN_USE,
            extensions: extensions != 0,
        })
    }

    fn entry_at(&self, guest: u64) -> u64 {
        HEADER as u64 + guest / self.cluster * 4
    }

    fn entry(&self, tables: &mut Tables, file: &dyn Node, guest: u64) -> io::Result<u64> {
        let entry = u32::from_le_bytes(tables.get(file, self.entry_at(guest))?);
        Ok(u64::from(entry) * self.unit)
    }

    /// The end of the last cluster, or the start of all.
    fn data_end(&self, tables: &mut Tables, file: &dyn Node) -> io::Result<u64> {
        let mut end = self.data;
        for i in 0..u64::from(self.entries) {
            let host = self.entry(tables, file, i * self.cluster)?;
            if host != 0 {
                end = end.max(host + self.cluster);
            }
        }
        Ok(end)
    }
}

/// An open image.
struct Map {
    header: Header,
    /// Where the next cluster goes; found when it is needed.
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
        self.header.cluster
    }

    fn lookup(
        &mut self,
        tables: &mut Tables,
        file: &dyn Node,
        guest: u64,
    ) -> io::Result<(Place, u64)> {
        let within = guest % self.header.cluster;
        let place = match self.header.entry(tables, file, guest)? {
            0 => Place::Unallocated,
            host if host < self.header.data.min(self.header.cluster) => {
                return Err(damaged(format!("parallels: a cluster at {host:#x}")));
            }
            host => Place::Data(host + within),
        };
        Ok((place, self.header.cluster - within))
    }

    fn allocate(&mut self, tables: &mut Tables, file: &dyn Node, _: u64) -> io::Result<Space> {
        let header = &self.header;
        let host = match self.next {
            Some(next) => next,
            None => header.data_end(tables, file)?.next_multiple_of(header.unit),
        };
        if u32::try_from(host / header.unit).is_err() {
            return Err(damaged("parallels: the image is full"));
        }
        let end = host + header.cluster;
        self.next = Some(end);
        Ok(Space { host, end })
    }

    fn link(
        &mut self,
        tables: &mut Tables,
        file: &dyn Node,
        guest: u64,
        host: u64,
    ) -> io::Result<()> {
        let entry = ((host / self.header.unit) as u32).to_le_bytes();
        tables.put(file, self.header.entry_at(guest), &entry, Step::Leaves)
    }

    fn begin(&mut self, _: &mut Tables, file: &dyn Node) -> io::Result<()> {
        if self.header.extensions {
            write(file, at::EXT_OFFSET as u64, &[0; 8])?;
        }
        mark(file, true)
    }

    fn end(&mut self, file: &dyn Node) -> io::Result<()> {
        file.flush()?;
        mark(file, false)
    }

    fn describe(&self, info: &mut NodeInfo) {
        info.cluster_size = None;
        info.dirty = self.header.in_use;
    }
}

/// Says in the header whether the image is open for writing.
fn mark(file: &dyn Node, in_use: bool) -> io::Result<()> {
    let value = if in_use { IN_USE } else { 0 };
    write(file, at::IN_USE as u64, &value.to_le_bytes())?;
    file.flush()
}

/// Writes a new image into `file`, which is empty.
fn create(file: &dyn Node, size: u64, cluster: u64) -> io::Result<()> {
    let sectors = size / SECTOR;
    let entries = size.div_ceil(cluster);
    let data = (HEADER as u64 + entries * 4).next_multiple_of(cluster);
    let mut header = [0; HEADER];
    let h = &mut header[..];
    put(h, 0, MAGIC_CLUSTERS);
    put(h, at::VERSION, &2u32.to_le_bytes());
    put(h, at::HEADS, &16u32.to_le_bytes());
    put(h, at::CYLINDERS, &((sectors / 16 / 32) as u32).to_le_bytes());
    put(h, at::TRACKS, &((cluster / SECTOR) as u32).to_le_bytes());
    put(h, at::BAT_ENTRIES, &(entries as u32).to_le_bytes());
    put(h, at::SECTORS, &sectors.to_le_bytes());
    put(h, at::DATA_OFFSET, &((data / SECTOR) as u32).to_le_bytes());
    grow(file, data)?;
    file.flush()?;
    write(file, 0, &header)?;
    file.flush()
}

/// Checks that clusters are in the file and used once; space behind the last one is lost.
fn check(file: &dyn Node, header: &Header, fix: Fix) -> io::Result<CheckReport> {
    let mut report =
        CheckReport { total_clusters: header.entries.into(), ..CheckReport::default() };
    if header.in_use {
        // Damage by itself to those who ask, as the peer has it.
        let text = "image was not closed correctly";
        if fix == Fix::All {
            note(&mut report, format!("Repairing {text}"));
            report.corruptions_fixed += 1;
        } else {
            damage(&mut report, format!("ERROR {text}"));
        }
    }
    let mut tables = Tables::default();
    let len = file.size();
    let mut used = vec![0u64; (len / header.cluster).div_ceil(64) as usize + 1];
    let (mut end, mut last) = (header.data, 0);
    for i in 0..u64::from(header.entries) {
        let guest = i * header.cluster;
        let host = header.entry(&mut tables, file, guest)?;
        if host == 0 {
            continue;
        }
        let number = host.saturating_sub(header.data) / header.cluster;
        let inside = host >= header.data && host.saturating_add(header.cluster) <= len;
        let free = inside && used[number as usize / 64] >> (number % 64) & 1 == 0;
        if !free {
            let why = if inside { "used twice" } else { "outside the image" };
            damage(&mut report, format!("ERROR cluster {i} at {host:#x} is {why}"));
            if fix == Fix::All {
                write(file, header.entry_at(guest), &[0; 4])?;
                report.corruptions -= 1;
                report.corruptions_fixed += 1;
            }
            continue;
        }
        used[number as usize / 64] |= 1 << (number % 64);
        report.allocated_clusters += 1;
        if last != 0 && host != last + header.cluster {
            report.fragmented_clusters += 1;
        }
        last = host;
        end = end.max(host + header.cluster);
    }
    report.image_end = end;
    if len > end {
        report.leaks = (len - end).div_ceil(header.cluster);
        let verb = if fix >= Fix::Leaks { "Repairing" } else { "ERROR" };
        note(&mut report, format!("{verb} space leaked at the end of the image {}", len - end));
        if fix >= Fix::Leaks {
            file.truncate(end)?;
            report.leaks_fixed = std::mem::take(&mut report.leaks);
        }
    }
    if fix == Fix::All && header.in_use {
        file.flush()?;
        mark(file, false)?;
    }
    Ok(report)
}
