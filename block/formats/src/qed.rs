//! QED ("QED Image File Format", QEMU documentation; integers little-endian).
//!
//! Layout: a header; an L1 table of L2 tables, each of `table_size` clusters; data clusters. An L2
//! entry of 0 shows the backing file, 1 is a cluster of zeroes.
//!
//! Order of writes: data; flush; L2 entries; flush; L1 entries. So an image never needs the check
//! that its header can ask for, and we do not ask for it; an image that does is repaired when it is
//! opened for writing. Resizing grows only.

use std::io;
use std::sync::Arc;

use graph::{
    CheckReport, Fix, ImageOption, Node, NodeInfo, OpenError, Preallocation, Role, SECTOR,
    ValueKind,
};

use crate::blocks::codec::{
    Fields, damage, damaged, grow, le32, le64, note, put, read_padded, read_start, write,
};
use crate::blocks::{BlockMap, Blocks, Order, Place, Space, Step, Tables, TwoLevel, option_size};
use crate::format::{CreateRequest, Format, OpenRequest, Reference};

const FORMAT: &str = "qed";
const MAGIC: &[u8; 4] = b"QED\0";
const HEADER: usize = 64;

mod at {
    //! Offsets in the header.
    pub const CLUSTER_SIZE: usize = 4;
    pub const TABLE_SIZE: usize = 8;
    pub const HEADER_SIZE: usize = 12;
    pub const FEATURES: usize = 16;
    pub const AUTOCLEAR: usize = 32;
    pub const L1_OFFSET: usize = 40;
    pub const IMAGE_SIZE: usize = 48;
    pub const BACKING_OFFSET: usize = 56;
    pub const BACKING_LEN: usize = 60;
}

mod features {
    //! Bits that a reader must know.
    pub const BACKING_FILE: u64 = 1;
    pub const NEED_CHECK: u64 = 2;
    pub const RAW_BACKING: u64 = 4;
    pub const KNOWN: u64 = BACKING_FILE | NEED_CHECK | RAW_BACKING;
}

/// An L2 entry that stands for zeroes.
const ZERO: u64 = 1;

/// The row of `qed` in the table of formats.
pub struct QedFormat;

const CREATE_OPTIONS: &[ImageOption] = &[
    ImageOption::new("size", ValueKind::Size, "Virtual disk size"),
    ImageOption::new("backing_file", ValueKind::Text, "File name of a base image"),
    ImageOption::new("backing_fmt", ValueKind::Text, "Image format of the base image"),
    ImageOption::with("cluster_size", ValueKind::Size, "65536", "Cluster size (in bytes)"),
    ImageOption::new("table_size", ValueKind::Size, "L1/L2 table size (in clusters)"),
];

impl Format for QedFormat {
    fn name(&self) -> &'static str {
        FORMAT
    }

    fn recognises(&self, start: &[u8], _path: &str) -> bool {
        start.starts_with(MAGIC)
    }

    fn has_backing(&self) -> bool {
        true
    }

    fn references(&self, file: &dyn Node, path: &str) -> Result<Vec<Reference>, OpenError> {
        let header = Header::read(file, path)?;
        let raw = header.features & features::RAW_BACKING != 0;
        let format = raw.then(|| "raw".to_owned());
        let backing = header.backing.map(|name| Reference { role: Role::Backing, name, format });
        Ok(backing.into_iter().collect())
    }

    fn open(&self, request: OpenRequest<'_>) -> Result<Arc<dyn Node>, OpenError> {
        let mut header = Header::read(&*request.file, request.path)?;
        let read_only = request.read_only || request.file.read_only();
        if header.features & features::NEED_CHECK != 0 && !read_only {
            check(&*request.file, &mut header, Fix::All)
                .map_err(|e| OpenError::host(request.path, e))?;
        }
        let levels = header.levels();
        Ok(Arc::new(Blocks::new(request, Map { header, levels })))
    }

    fn create_options(&self) -> &'static [ImageOption] {
        CREATE_OPTIONS
    }

    fn create(&self, request: &CreateRequest<'_>) -> Result<(), OpenError> {
        let header = Header::for_options(request)?;
        request.with_file(request.path, 0, Preallocation::Off, |file| {
            header.create(&*file).map_err(|e| OpenError::host(request.path, e))
        })
    }

    fn check(&self, request: OpenRequest<'_>, fix: Fix) -> Result<Option<CheckReport>, OpenError> {
        let mut header = Header::read(&*request.file, request.path)?;
        let report = check(&*request.file, &mut header, fix);
        report.map(Some).map_err(|e| OpenError::host(request.path, e))
    }
}

/// What a header says.
struct Header {
    cluster: u64,
    /// Bytes of a table.
    table: u64,
    features: u64,
    autoclear: u64,
    l1: u64,
    /// Length of the disk in bytes.
    size: u64,
    backing: Option<String>,
}

impl Header {
    fn read(file: &dyn Node, path: &str) -> Result<Self, OpenError> {
        let start = read_start::<HEADER>(file, path)?;
        if !start.starts_with(MAGIC) {
            return Err(OpenError::NotThisFormat { format: FORMAT });
        }
        let fields = Fields { path, format: FORMAT };
        let mut header = Self::parse(&start, file.size(), &fields)?;
        if header.features & features::BACKING_FILE != 0 {
            let at = u64::from(le32(&start, at::BACKING_OFFSET));
            let len = le32(&start, at::BACKING_LEN);
            let header_len = u64::from(le32(&start, at::HEADER_SIZE)) * header.cluster;
            fields.want(
                len < 1024 && at + u64::from(len) <= header_len,
                "backing_filename_size",
                len.into(),
                "the name is outside the header",
            )?;
            let mut name = vec![0; len as usize];
            read_padded(file, at, &mut name).map_err(|e| OpenError::host(path, e))?;
            header.backing = Some(String::from_utf8_lossy(&name).into_owned());
        }
        Ok(header)
    }

    fn parse(b: &[u8], file_len: u64, fields: &Fields<'_>) -> Result<Self, OpenError> {
        let features = le64(b, at::FEATURES);
        let unknown = features & !features::KNOWN;
        if unknown != 0 {
            return Err(fields.refuse(format!("Unsupported QED features: {unknown:x}")));
        }
        let cluster = u64::from(le32(b, at::CLUSTER_SIZE));
        let tables = u64::from(le32(b, at::TABLE_SIZE));
        fields.want(good_cluster(cluster), "cluster_size", cluster, "out of range")?;
        fields.want(good_tables(tables), "table_size", tables, "out of range")?;
        let header = Self {
            cluster,
            table: tables * cluster,
            features,
            autoclear: le64(b, at::AUTOCLEAR),
            l1: le64(b, at::L1_OFFSET),
            size: le64(b, at::IMAGE_SIZE),
            backing: None,
        };
        let size = header.size;
        let good = size <= most(cluster, tables) && size.is_multiple_of(SECTOR);
        fields.want(good, "image_size", size, "out of range")?;
        let end = header.l1.checked_add(header.table).filter(|end| *end <= file_len);
        let behind = u64::from(le32(b, at::HEADER_SIZE)) * cluster;
        let good = end.is_some() && header.l1.is_multiple_of(cluster) && header.l1 >= behind.max(1);
        fields.want(good, "l1_table_offset", header.l1, "the table is outside the file")?;
        Ok(header)
    }

    fn levels(&self) -> TwoLevel {
        TwoLevel {
            l1: self.l1,
            l2_entries: self.table / 8,
            l2_len: self.table,
            cluster: self.cluster,
            order: Order::Little,
            next: 0,
        }
    }

    fn for_options(request: &CreateRequest<'_>) -> Result<Self, OpenError> {
        let refuse = |text: String| Err(OpenError::Option(text));
        let options = request.options;
        let cluster = options.number("cluster_size").unwrap_or(65536);
        let tables = options.number("table_size").unwrap_or(4);
        if !good_cluster(cluster) {
            return refuse(
                "QED cluster size must be within range [4096, 67108864] and power of 2".to_owned(),
            );
        }
        if !good_tables(tables) {
            return refuse("QED table size must be within range [1, 16] and power of 2".to_owned());
        }
        let size = option_size(options)?;
        let most = most(cluster, tables);
        if size > most {
            return refuse(format!(
                "QED image size must be a non-zero multiple of cluster size and less than {most} \
                 bytes"
            ));
        }
        let backing = options.text("backing_file").filter(|name| !name.is_empty());
        if backing.is_some_and(|name| name.len() > 1023) {
            return refuse("Backing file name too long".to_owned());
        }
        let mut bits = 0;
        if backing.is_some() {
            bits |= features::BACKING_FILE;
            if options.text("backing_fmt") == Some("raw") {
                bits |= features::RAW_BACKING;
            }
        }
        Ok(Self {
            cluster,
            table: tables * cluster,
            features: bits,
            autoclear: 0,
            l1: cluster,
            size,
            backing: backing.map(str::to_owned),
        })
    }

    fn create(&self, file: &dyn Node) -> io::Result<()> {
        let mut header = vec![0; HEADER];
        put(&mut header, 0, MAGIC);
        put(&mut header, at::CLUSTER_SIZE, &(self.cluster as u32).to_le_bytes());
        put(&mut header, at::TABLE_SIZE, &((self.table / self.cluster) as u32).to_le_bytes());
        put(&mut header, at::HEADER_SIZE, &1u32.to_le_bytes());
        put(&mut header, at::FEATURES, &self.features.to_le_bytes());
        put(&mut header, at::L1_OFFSET, &self.l1.to_le_bytes());
        put(&mut header, at::IMAGE_SIZE, &self.size.to_le_bytes());
        if let Some(name) = &self.backing {
            put(&mut header, at::BACKING_OFFSET, &(HEADER as u32).to_le_bytes());
            put(&mut header, at::BACKING_LEN, &(name.len() as u32).to_le_bytes());
            header.extend_from_slice(name.as_bytes());
        }
        grow(file, self.l1 + self.table)?;
        file.flush()?;
        write(file, 0, &header)?;
        file.flush()
    }

    /// Writes a field of the header.
    fn store(file: &dyn Node, at: usize, value: u64) -> io::Result<()> {
        write(file, at as u64, &value.to_le_bytes())?;
        file.flush()
    }
}

fn good_cluster(cluster: u64) -> bool {
    cluster.is_power_of_two() && (4096..=64 << 20).contains(&cluster)
}

fn good_tables(tables: u64) -> bool {
    tables.is_power_of_two() && tables <= 16
}

/// Longest disk that two levels of tables reach.
fn most(cluster: u64, tables: u64) -> u64 {
    let entries = u128::from(tables * cluster / 8);
    let most = entries * entries * u128::from(cluster);
    u64::try_from(most).unwrap_or(u64::MAX).min(i64::MAX as u64)
}

/// An open image.
struct Map {
    header: Header,
    levels: TwoLevel,
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
        let cluster = self.levels.cluster;
        self.levels.lookup(tables, file, guest, |entry, within| match entry {
            ZERO => Ok(Place::Zero),
            host if host.is_multiple_of(cluster) && host < 1 << 62 => {
                Ok(Place::Data(host + within))
            }
            bad => Err(damaged(format!("qed: L2 entry {bad:#x}"))),
        })
    }

    fn allocate(&mut self, _: &mut Tables, file: &dyn Node, _: u64) -> io::Result<Space> {
        let cluster = self.levels.cluster;
        let host = self.levels.reserve(file, cluster, cluster)?;
        Ok(Space { host, end: host + cluster })
    }

    fn link(
        &mut self,
        tables: &mut Tables,
        file: &dyn Node,
        guest: u64,
        host: u64,
    ) -> io::Result<()> {
        self.levels.set(tables, file, guest, host)
    }

    fn set_zero(&mut self, tables: &mut Tables, file: &dyn Node, guest: u64) -> io::Result<bool> {
        self.levels.set(tables, file, guest, ZERO)?;
        Ok(true)
    }

    fn begin(&mut self, _: &mut Tables, file: &dyn Node) -> io::Result<()> {
        if self.header.autoclear != 0 {
            Header::store(file, at::AUTOCLEAR, 0)?;
        }
        Ok(())
    }

    fn is_overlay(&self) -> bool {
        true
    }

    fn resizes(&self) -> bool {
        true
    }

    /// The name goes to another place than the old one, so that the change of the header's first
    /// sector is the whole change.
    fn record_backing(
        &mut self,
        file: &dyn Node,
        name: Option<&str>,
        format: Option<&str>,
    ) -> io::Result<()> {
        const PLACES: [u32; 2] = [2048, 3072];
        let text = name.unwrap_or("");
        if text.len() > 1023 {
            let why = "the name of the backing file is too long";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        let mut sector = [0; SECTOR as usize];
        read_padded(file, 0, &mut sector)?;
        let old = le32(&sector, at::BACKING_OFFSET);
        let place = if old == PLACES[0] { PLACES[1] } else { PLACES[0] };
        let mut bits = self.header.features & !(features::BACKING_FILE | features::RAW_BACKING);
        if name.is_some() {
            bits |= features::BACKING_FILE;
            bits |= if format == Some("raw") { features::RAW_BACKING } else { 0 };
            write(file, place.into(), text.as_bytes())?;
            file.flush()?;
        }
        let place = if name.is_some() { place } else { 0 };
        put(&mut sector, at::FEATURES, &bits.to_le_bytes());
        put(&mut sector, at::BACKING_OFFSET, &place.to_le_bytes());
        put(&mut sector, at::BACKING_LEN, &(text.len() as u32).to_le_bytes());
        write(file, 0, &sector)?;
        file.flush()?;
        self.header.features = bits;
        self.header.backing = name.map(str::to_owned);
        Ok(())
    }

    fn resize(&mut self, tables: &mut Tables, file: &dyn Node, size: u64) -> io::Result<()> {
        let unsupported = |text: &str| Err(io::Error::new(io::ErrorKind::Unsupported, text));
        let entries = self.header.table / self.header.cluster;
        if size > most(self.header.cluster, entries) || !size.is_multiple_of(SECTOR) {
            return unsupported("Invalid image size specified");
        }
        if size < self.header.size {
            return unsupported("Shrinking images is currently not supported");
        }
        tables.put(file, at::IMAGE_SIZE as u64, &size.to_le_bytes(), Step::Roots)?;
        self.header.size = size;
        Ok(())
    }

    fn describe(&self, info: &mut NodeInfo) {
        info.backing_filename = self.header.backing.clone();
        if self.header.features & features::RAW_BACKING != 0 {
            info.backing_format = Some("raw".to_owned());
        }
        info.dirty = self.header.features & features::NEED_CHECK != 0;
    }
}

/// The walk of a check over all tables.
struct Walk<'a> {
    file: &'a dyn Node,
    header: &'a Header,
    /// A bit for each cluster of the file.
    used: Vec<u64>,
    report: CheckReport,
    fix: Fix,
    /// The data cluster before, to see which do not follow.
    last: u64,
}

impl Walk<'_> {
    /// Marks clusters; `false` if some are outside the file or used already.
    fn mark(&mut self, at: u64, len: u64) -> bool {
        let cluster = self.header.cluster;
        let inside = at.is_multiple_of(cluster)
            && at.checked_add(len).is_some_and(|end| end <= self.file.size());
        if !inside {
            return false;
        }
        let range = at / cluster..(at + len) / cluster;
        let free = |n: u64| self.used[n as usize / 64] >> (n % 64) & 1 == 0;
        if !range.clone().all(free) {
            return false;
        }
        range.for_each(|n| self.used[n as usize / 64] |= 1 << (n % 64));
        true
    }

    /// A wrong entry: forgotten if that is allowed.
    fn wrong(&mut self, at: u64, text: String) -> io::Result<()> {
        damage(&mut self.report, text);
        if self.fix == Fix::All {
            write(self.file, at, &[0; 8])?;
            self.report.corruptions -= 1;
            self.report.corruptions_fixed += 1;
        }
        Ok(())
    }

    fn run(&mut self) -> io::Result<()> {
        let header = self.header;
        self.mark(0, header.cluster);
        self.mark(header.l1, header.table);
        let levels = header.levels();
        let mut l1 = Tables::default();
        // What is behind the disk counts, too.
        for index in 0..header.table / 8 {
            let at = header.l1 + index * 8;
            let table = levels.get(&mut l1, self.file, at)?;
            if table == 0 {
                continue;
            }
            if !self.mark(table, header.table) {
                self.wrong(at, format!("ERROR: L1 entry {index} is {table:#x}"))?;
                continue;
            }
            self.table(table)?;
        }
        Ok(())
    }

    fn table(&mut self, table: u64) -> io::Result<()> {
        let mut bytes = vec![0; 1 << 16];
        let mut done = 0;
        while done < self.header.table {
            let len = (self.header.table - done).min(1 << 16) as usize;
            read_padded(self.file, table + done, &mut bytes[..len])?;
            for i in (0..len).step_by(8) {
                let entry = le64(&bytes, i);
                if entry <= ZERO {
                    continue;
                }
                let at = table + done + i as u64;
                if !self.mark(entry, self.header.cluster) {
                    self.wrong(at, format!("ERROR: L2 entry at {at:#x} is {entry:#x}"))?;
                    continue;
                }
                self.report.allocated_clusters += 1;
                if self.last != 0 && self.last + self.header.cluster != entry {
                    self.report.fragmented_clusters += 1;
                }
                self.last = entry;
            }
            done += len as u64;
        }
        Ok(())
    }
}

/// Checks that each cluster is used once, and repairs what `fix` allows.
fn check(file: &dyn Node, header: &mut Header, fix: Fix) -> io::Result<CheckReport> {
    let clusters = file.size().div_ceil(header.cluster);
    let total = header.size.div_ceil(header.cluster);
    let mut walk = Walk {
        file,
        header,
        used: vec![0; clusters.div_ceil(64) as usize],
        report: CheckReport { total_clusters: total, ..CheckReport::default() },
        fix,
        last: 0,
    };
    walk.run()?;
    let Walk { used, mut report, .. } = walk;
    let has = |n: &u64| used[*n as usize / 64] >> (n % 64) & 1 != 0;
    let lost = (0..clusters).filter(|n| !has(n)).count() as u64;
    if lost > 0 {
        report.leaks = lost;
        note(&mut report, format!("{lost} clusters of the file are not used"));
    }
    if fix >= Fix::Leaks && report.corruptions == 0 {
        let end = (0..clusters).rev().find(has).map_or(0, |n| n + 1);
        if end < clusters {
            file.truncate(end * header.cluster)?;
            report.leaks -= clusters - end;
            report.leaks_fixed += clusters - end;
        }
        if header.features & features::NEED_CHECK != 0 {
            file.flush()?;
            header.features &= !features::NEED_CHECK;
            Header::store(file, at::FEATURES, header.features)?;
        }
        file.flush()?;
    }
    Ok(report)
}
