//! Consistency: every reference to a host cluster against its refcount.
//!
//! The checker reads the file itself and shares no state with an open image, so it also judges what
//! `meta.rs` and `commit.rs` wrote. A refcount above the number of references is a leak; below
//! it, or a table entry that cannot be right, is damage. `repair.rs` acts on what is found here.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use graph::{CheckReport, Node, OpenError};

use super::Qcow2;
use super::bitmaps;
use super::codec::{be64, read_padded, read_table};
use super::header::{CRYPT_LUKS, Header, Reach};
use super::layout::{BLOCK_OFFSET, COMPRESSED, COPIED, Entry, Layout, OFFSET};
use super::meta::get_refcount;
use super::snapshots;

/// Findings listed one by one; the rest is only counted.
const LISTED: usize = 100;

/// Most clusters of a file that is checked: half a gibibyte of counters.
const MOST_CLUSTERS: usize = 1 << 28;

/// Bits of an L1 entry that mean nothing.
const L1_RESERVED: u64 = 0x7f00_0000_0000_01ff;
/// Bits of an L2 entry for a plain cluster that mean nothing; bit 0 is the zero flag.
const L2_RESERVED: u64 = 0x3f00_0000_0000_01fe;
/// Bits of a refcount table entry that mean nothing.
const REFTABLE_RESERVED: u64 = 0x1ff;

/// Numbers that are nearly always small, by index.
pub(super) struct Counts {
    small: Vec<u16>,
    /// Those that do not fit.
    large: BTreeMap<usize, u64>,
}

impl Counts {
    fn new(len: usize) -> Self {
        Self { small: vec![0; len], large: BTreeMap::new() }
    }

    pub fn len(&self) -> usize {
        self.small.len()
    }

    pub fn get(&self, at: u64) -> u64 {
        let Ok(at) = usize::try_from(at) else { return 0 };
        match self.small.get(at) {
            Some(&u16::MAX) => self.large.get(&at).copied().unwrap_or(u16::MAX.into()),
            Some(count) => u64::from(*count),
            None => 0,
        }
    }

    fn add(&mut self, at: usize, times: u64) {
        let sum = self.get(at as u64).saturating_add(times);
        self.small[at] = u16::try_from(sum).unwrap_or(u16::MAX);
        if sum >= u64::from(u16::MAX) {
            self.large.insert(at, sum);
        }
    }
}

/// Who refers to an L2 table.
#[derive(Clone, Copy, Default)]
struct Users {
    /// L1 entries of the image and of snapshots.
    times: u32,
    /// The image's own L1 entry, if it has one.
    active: Option<u64>,
}

/// The walk over all tables of a file.
pub(super) struct Walk<'a> {
    file: &'a dyn Node,
    pub header: Header,
    pub layout: Layout,
    /// References found per host cluster of the file.
    pub found: Counts,
    /// Host clusters whose refcount in the file is one, a bit each.
    alone: Vec<u64>,
    /// L2 tables by offset: one shared by snapshots is walked once and counted for each.
    tables: BTreeMap<u64, Users>,
    /// The refcount table or its blocks are damaged themselves.
    pub refcounts_broken: bool,
    pub report: CheckReport,
}

impl Qcow2 {
    /// Checks the image in `file`, which must not be open for writing.
    ///
    /// # Errors
    /// As for opening the image; an I/O error of the file.
    pub fn check(file: &dyn Node, path: &str) -> Result<CheckReport, OpenError> {
        let mut walk = Walk::run(file, path, Reach::Beyond)?;
        walk.compare().map_err(|e| OpenError::host(path, e))?;
        Ok(walk.report)
    }
}

impl<'a> Walk<'a> {
    /// Counts all references in the file.
    pub fn run(file: &'a dyn Node, path: &str, reach: Reach) -> Result<Self, OpenError> {
        let header = Header::read_within(file, path, reach)?;
        let layout = Layout::of(&header);
        let (list, table_len) = snapshots::read(file, &header, path, reach)?;
        let clusters = file.size().div_ceil(layout.cluster) as usize;
        if clusters > MOST_CLUSTERS {
            let what = format!("checking a file of {clusters} clusters");
            return Err(OpenError::NotSupported { path: path.to_owned(), what });
        }
        let total_clusters = header.size.div_ceil(layout.cluster);
        let mut walk = Self {
            file,
            header,
            layout,
            found: Counts::new(clusters),
            alone: vec![0; clusters.div_ceil(64)],
            tables: BTreeMap::new(),
            refcounts_broken: false,
            report: CheckReport { total_clusters, ..CheckReport::default() },
        };
        let failed = |e| OpenError::host(path, e);
        walk.load_alone().map_err(failed)?;
        for (index, snapshot) in list.iter().enumerate() {
            if !snapshot.complete && walk.header.version > 2 {
                walk.damage(format!("snapshot table entry {index} is incomplete"));
            }
        }
        walk.refer(0, 1, 1);
        let l1_offset = walk.header.l1_offset;
        walk.l1(l1_offset, walk.header.l1_size, true).map_err(failed)?;
        if !list.is_empty() {
            walk.refer(walk.header.snapshots_offset, table_len, 1);
        }
        for snapshot in &list {
            match snapshot.fault(layout.cluster) {
                Some(fault) => walk.damage(fault),
                None => walk.l1(snapshot.l1_offset, snapshot.l1_size, false).map_err(failed)?,
            }
        }
        for (table, users) in std::mem::take(&mut walk.tables) {
            walk.l2(table, users).map_err(failed)?;
        }
        if let Some((offset, len)) = walk.header.crypt_header
            && walk.header.crypt_method == CRYPT_LUKS
        {
            walk.refer(offset, len, 1);
        }
        walk.bitmaps().map_err(failed)?;
        walk.refcount_tables().map_err(failed)?;
        Ok(walk)
    }

    fn damage(&mut self, text: String) {
        self.report.corruptions += 1;
        self.list(format!("ERROR {text}"));
    }

    fn list(&mut self, text: String) {
        if self.report.findings.len() < LISTED {
            self.report.findings.push(text);
        }
    }

    /// Counts `times` references to every cluster that `len` bytes from `offset` on touch.
    /// Returns whether they are in the file.
    fn refer(&mut self, offset: u64, len: u64, times: u32) -> bool {
        if len == 0 {
            return true;
        }
        let bits = self.layout.cluster_bits;
        let last = offset.saturating_add(len - 1) >> bits;
        if last >= self.found.len() as u64 {
            self.report.corruptions += 1;
            self.list(format!(
                "ERROR: counting reference for region exceeding the end of the file by one cluster \
                 or more: offset {offset:#x} size {len:#x}"
            ));
            return false;
        }
        for cluster in offset >> bits..=last {
            self.found.add(cluster as usize, times.into());
        }
        true
    }

    /// Notes the L2 tables of an L1 table.
    fn l1(&mut self, offset: u64, entries: u32, active: bool) -> io::Result<()> {
        if !self.refer(offset, u64::from(entries) * 8, 1) {
            return Ok(());
        }
        for entry in read_table(self.file, offset, entries as usize)? {
            let table = entry & OFFSET;
            if table == 0 {
                continue;
            }
            if entry & L1_RESERVED != 0 {
                self.damage(format!("found L1 entry with reserved bits set: {entry:x}"));
            }
            if !table.is_multiple_of(self.layout.cluster) {
                self.damage(format!(
                    "l2_offset={table:x}: Table is not cluster aligned; L1 entry corrupted"
                ));
                continue;
            }
            let users = self.tables.entry(table).or_default();
            users.times = users.times.saturating_add(1);
            if active {
                users.active = Some(entry);
            }
        }
        Ok(())
    }

    /// Walks an L2 table.
    fn l2(&mut self, table: u64, users: Users) -> io::Result<()> {
        self.refer(table, self.layout.cluster, users.times);
        if table >= self.file.size() {
            return Ok(());
        }
        if let Some(entry) = users.active {
            self.flag(table, entry & COPIED != 0, || format!("L2 cluster: l1_entry={entry:x}"));
        }
        let words = (self.layout.cluster / 8) as usize;
        let content = read_table(self.file, table, words)?;
        let mut next = None;
        for (index, words) in content.chunks_exact((self.layout.entry / 8) as usize).enumerate() {
            let bitmap = words.get(1).copied().unwrap_or(0);
            self.l2_entry(index, (words[0], bitmap), users, &mut next);
        }
        Ok(())
    }

    /// Judges an L2 entry with its bitmap; `next` is where the data of the one before it ends.
    fn l2_entry(&mut self, index: usize, entry: (u64, u64), users: Users, next: &mut Option<u64>) {
        let (word, bitmap) = entry;
        let entry = Entry::decode(&self.layout, word, bitmap);
        let (times, active) = (users.times, users.active.is_some());
        if let Some(packed) = entry.packed {
            self.report.compressed_clusters += u64::from(active);
            self.report.allocated_clusters += u64::from(active);
            self.report.fragmented_clusters += u64::from(active);
            if word & COPIED != 0 {
                self.report.corruptions += 1;
                self.list(format!(
                    "ERROR: coffset={:#x}: copied flag must never be set for compressed clusters",
                    packed.offset
                ));
            }
            if bitmap != 0 {
                self.damage(format!(
                    "compressed cluster {index} with non-zero subcluster allocation bitmap, \
                     entry={word:#x}"
                ));
            }
            self.refer(packed.offset, packed.len, times);
            return;
        }
        let reserved = if self.layout.subs > 1 { L2_RESERVED | 1 } else { L2_RESERVED };
        if word & reserved & !COMPRESSED != 0 {
            self.damage(format!("found l2 entry with reserved bits set: {word:x}"));
        }
        if self.layout.subs > 1 {
            self.subclusters(word, bitmap);
        }
        let Some(host) = entry.host else { return };
        if active {
            self.report.allocated_clusters += 1;
            let follows = next.is_none_or(|next| next == host);
            self.report.fragmented_clusters += u64::from(!follows);
            *next = Some(host + self.layout.cluster);
        }
        if !host.is_multiple_of(self.layout.cluster) {
            self.damage(format!(
                "offset={host:x}: Cluster is not properly aligned; L2 entry corrupted."
            ));
            return;
        }
        if self.layout.external {
            return;
        }
        self.refer(host, self.layout.cluster, times);
        if active {
            self.flag(host, entry.copied, || format!("data cluster: l2_entry={word:x}"));
        }
    }

    /// A subcluster has data or zeroes, and data only where there is a cluster.
    fn subclusters(&mut self, word: u64, bitmap: u64) {
        let (data, zero) = (bitmap as u32, (bitmap >> 32) as u32);
        let host = word & OFFSET;
        if host == 0 && data != 0 && !self.layout.external {
            self.report.corruptions += 1;
            self.list(
                "ERROR: Unallocated cluster has non-zero subcluster allocation map".to_owned(),
            );
        } else if data & zero != 0 {
            self.damage(format!(
                "offset={host:x}: Allocated cluster has corrupted subcluster allocation bitmap"
            ));
        }
    }

    /// The COPIED flag says that the refcount is one.
    fn flag(&mut self, host: u64, copied: bool, what: impl FnOnce() -> String) {
        let cluster = host >> self.layout.cluster_bits;
        let word = self.alone.get((cluster / 64) as usize).copied().unwrap_or(0);
        let alone = word >> (cluster % 64) & 1 != 0;
        if copied != alone {
            let count = self.stored(cluster).unwrap_or(0);
            self.damage(format!("OFLAG_COPIED {} refcount={count}", what()));
        }
    }

    /// The refcount in the file.
    fn stored(&self, cluster: u64) -> io::Result<u64> {
        let index = cluster >> self.layout.block_bits;
        let entries = u64::from(self.header.reftable_clusters) * self.layout.cluster / 8;
        if index >= entries {
            return Ok(0);
        }
        let mut word = [0; 8];
        read_padded(self.file, self.header.reftable_offset + index * 8, &mut word)?;
        let block = be64(&word, 0) & BLOCK_OFFSET;
        if block == 0 || block >= self.file.size() {
            return Ok(0);
        }
        let within = cluster & ((1 << self.layout.block_bits) - 1);
        let bits = within << self.layout.refcount_order;
        read_padded(self.file, block + bits / 8, &mut word)?;
        Ok(get_refcount(&word, 0, (bits % 8) as u32, self.layout.refcount_order))
    }

    fn reftable(&self) -> io::Result<Vec<u64>> {
        let bytes = u64::from(self.header.reftable_clusters) * self.layout.cluster;
        read_table(self.file, self.header.reftable_offset, (bytes / 8) as usize)
    }

    /// Calls `see` with the number and the refcount of every cluster that a refcount block counts,
    /// and of every other cluster of the file.
    fn each_refcount(&mut self, mut see: impl FnMut(&mut Self, u64, u64)) -> io::Result<()> {
        let per_block = 1u64 << self.layout.block_bits;
        let table = self.reftable()?;
        let clusters = self.found.len() as u64;
        let mut bytes = vec![0; self.layout.cluster as usize];
        let mut seen = BTreeSet::new();
        for (index, entry) in table.iter().enumerate() {
            let block = entry & BLOCK_OFFSET;
            let first = index as u64 * per_block;
            // A block that counts twice is damage by itself; once is enough to read it.
            let again = block != 0 && !seen.insert(block);
            if first >= clusters && (again || block == 0 || block >= self.file.size()) {
                continue;
            }
            match block == 0 || block >= self.file.size() {
                true => bytes.fill(0),
                false => read_padded(self.file, block, &mut bytes)?,
            }
            if first >= clusters && bytes.iter().all(|b| *b == 0) {
                continue;
            }
            let order = self.layout.refcount_order;
            for within in 0..per_block {
                let bits = within << order;
                let stored = get_refcount(&bytes, (bits / 8) as usize, (bits % 8) as u32, order);
                see(self, first + within, stored);
            }
        }
        for cluster in table.len() as u64 * per_block..clusters {
            see(self, cluster, 0);
        }
        Ok(())
    }

    fn load_alone(&mut self) -> io::Result<()> {
        self.each_refcount(|this, cluster, stored| {
            if stored == 1 && cluster < this.found.len() as u64 {
                this.alone[(cluster / 64) as usize] |= 1 << (cluster % 64);
            }
        })
    }

    /// Counts the references to the refcount table and its blocks, last: what else refers to them
    /// tells that they are damaged.
    fn refcount_tables(&mut self) -> io::Result<()> {
        let table = self.reftable()?;
        self.refer(self.header.reftable_offset, table.len() as u64 * 8, 1);
        for (index, entry) in table.iter().enumerate() {
            let block = entry & BLOCK_OFFSET;
            if entry & REFTABLE_RESERVED != 0 {
                self.damage(format!("refcount table entry {index} has reserved bits set"));
            } else if !block.is_multiple_of(self.layout.cluster) {
                self.damage(format!(
                    "refcount block {index} is not cluster aligned; refcount table entry corrupted"
                ));
            } else if block >= self.found.len() as u64 * self.layout.cluster {
                self.damage(format!("refcount block {index} is outside image"));
            } else if block != 0 {
                self.refer(block, self.layout.cluster, 1);
                let cluster = block >> self.layout.cluster_bits;
                let references = self.found.get(cluster);
                if references == 1 {
                    continue;
                }
                self.damage(format!("refcount block {index} refcount={references}"));
            } else {
                continue;
            }
            self.refcounts_broken = true;
        }
        Ok(())
    }

    fn bitmaps(&mut self) -> io::Result<()> {
        let Some(ext) = bitmaps::in_use(&self.header) else { return Ok(()) };
        let stored = match bitmaps::read_directory(self.file, &self.layout, &ext) {
            Ok(stored) => stored,
            Err(e) => {
                self.damage(format!("bitmap directory: {e}"));
                return Ok(());
            }
        };
        self.refer(ext.directory_offset, ext.directory_size, 1);
        for bitmap in stored {
            self.refer(bitmap.table_offset, u64::from(bitmap.table_len) * 8, 1);
            for entry in read_table(self.file, bitmap.table_offset, bitmap.table_len as usize)? {
                if !bitmaps::is_entry(entry) {
                    self.damage(format!("bitmap table entry {entry:x} of '{}'", bitmap.name));
                } else if entry & OFFSET != 0 {
                    self.refer(entry & OFFSET, self.layout.cluster, 1);
                }
            }
        }
        Ok(())
    }

    /// Compares the references found with all refcounts in the file.
    fn compare(&mut self) -> io::Result<()> {
        self.each_refcount(Self::judge)
    }

    /// Counts of clusters behind the file's end, which a crash can leave, take no space and are not
    /// looked at.
    fn judge(&mut self, cluster: u64, stored: u64) {
        if cluster >= self.found.len() as u64 {
            return;
        }
        let found = self.found.get(cluster);
        if stored != 0 || found != 0 {
            self.report.image_end = (cluster + 1) << self.layout.cluster_bits;
        }
        if stored > found {
            self.report.leaks += 1;
            self.list(format!("Leaked cluster {cluster} refcount={stored} reference={found}"));
        } else if stored < found {
            self.damage(format!("cluster {cluster} refcount={stored} reference={found}"));
        }
    }
}
