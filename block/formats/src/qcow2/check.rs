//! Consistency: every reference to a host cluster against its refcount.
//!
//! The checker reads the file itself and shares no state with an open image, so it also judges what
//! `meta.rs` and `commit.rs` wrote. A refcount above the number of references is a leak; below
//! it, or a table entry that cannot be right, is damage.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use graph::{CheckReport, Node, OpenError};

use super::Qcow2;
use super::codec::{be32, be64, read_padded, read_table};
use super::header::{AUTOCLEAR_BITMAPS, Header};
use super::layout::{COPIED, Entry, Layout, OFFSET};
use super::meta::get_refcount;
use super::snapshots;

/// Findings listed one by one; the rest is only counted.
const LISTED: usize = 100;

/// Most clusters of a file that is checked: 1 GiB of counters.
const MOST_CLUSTERS: usize = 1 << 28;

fn damage(report: &mut CheckReport, text: String) {
    report.corruptions += 1;
    list(report, format!("ERROR {text}"));
}

fn list(report: &mut CheckReport, text: String) {
    if report.findings.len() < LISTED {
        report.findings.push(text);
    }
}

/// Who refers to an L2 table.
#[derive(Clone, Copy, Default)]
struct Users {
    /// L1 entries of the image and of snapshots.
    times: u32,
    /// The COPIED flag of the image's own entry, if it has one.
    active: Option<bool>,
}

/// The walk over all tables of a file.
struct Walk<'a> {
    file: &'a dyn Node,
    header: Header,
    layout: Layout,
    /// References found per host cluster of the file.
    found: Vec<u32>,
    /// L2 tables by offset: one shared by snapshots is walked once and counted for each.
    tables: BTreeMap<u64, Users>,
    report: CheckReport,
}

impl Qcow2 {
    /// Checks the image in `file`, which must not be open for writing.
    ///
    /// # Errors
    /// As for opening the image; an I/O error of the file.
    pub fn check(file: &dyn Node, path: &str) -> Result<CheckReport, OpenError> {
        let mut walk = Walk::run(file, path)?;
        walk.compare().map_err(|e| OpenError::host(path, e))?;
        Ok(walk.report)
    }

    /// Makes all refcounts and COPIED flags what the references say. Until the caller clears the
    /// dirty bit, a crash in between leaves an image that is repaired again.
    pub(super) fn repair(&self) -> io::Result<()> {
        let file = &*self.file;
        let walk = Walk::run(file, &self.path)?;
        let mut meta = self.meta();
        meta.allocate_behind(walk.found.len() as u64);
        for (cluster, found) in walk.found.iter().enumerate() {
            let (cluster, found) = (cluster as u64, u64::from(*found));
            if meta.refcount(file, cluster)? != found {
                meta.ensure_block(file, cluster)?;
                meta.set_refcount(file, cluster, found.min(self.layout.max_refcount()))?;
            }
        }
        meta.allocate_behind(0);
        // Tables of a change that was not completed are none.
        meta.kinds
            .retain(|cluster, _| walk.found.get(*cluster as usize).is_none_or(|found| *found > 0));
        self.repair_flags(&mut meta)?;
        drop(meta);
        self.commit()?;
        self.file.flush()
    }

    fn repair_flags(&self, meta: &mut super::meta::Meta) -> io::Result<()> {
        let file = &*self.file;
        for index in 0..meta.l1.len() {
            let table = meta.l1[index] & OFFSET;
            if table == 0 || !table.is_multiple_of(self.layout.cluster) {
                continue;
            }
            let alone = meta.refcount(file, table >> self.layout.cluster_bits)? == 1;
            if alone != (meta.l1[index] & COPIED != 0) {
                meta.l1[index] = table | if alone { COPIED } else { 0 };
                meta.l1_dirty.insert(index);
            }
            let covered = self.layout.l2_entries * self.layout.cluster;
            for i in 0..self.layout.l2_entries {
                let guest = index as u64 * covered + i * self.layout.cluster;
                let Ok(entry) = meta.entry(file, guest) else { continue };
                let Some(host) = entry.host.filter(|_| !self.layout.external) else { continue };
                let alone = meta.refcount(file, host >> self.layout.cluster_bits)? == 1;
                if alone != entry.copied {
                    meta.set_entry(file, guest, Entry { copied: alone, ..entry })?;
                }
            }
        }
        Ok(())
    }
}

impl<'a> Walk<'a> {
    fn run(file: &'a dyn Node, path: &str) -> Result<Self, OpenError> {
        let header = Header::read(file, path)?;
        let layout = Layout::of(&header);
        let (list, table_len) = snapshots::read(file, &header, path)?;
        let clusters = file.size().div_ceil(layout.cluster) as usize;
        if clusters > MOST_CLUSTERS {
            let what = format!("checking a file of {clusters} clusters");
            return Err(OpenError::NotSupported { path: path.to_owned(), what });
        }
        let total_clusters = header.size.div_ceil(layout.cluster);
        let report = CheckReport { total_clusters, ..CheckReport::default() };
        let found = vec![0; clusters];
        let mut walk = Self { file, header, layout, found, tables: BTreeMap::new(), report };
        let failed = |e| OpenError::host(path, e);
        walk.refer(0, 1, 1, "header");
        let l1_offset = walk.header.l1_offset;
        walk.l1(l1_offset, walk.header.l1_size, true).map_err(failed)?;
        if !list.is_empty() {
            walk.refer(walk.header.snapshots_offset, table_len, 1, "snapshot table");
        }
        for snapshot in &list {
            walk.l1(snapshot.l1_offset, snapshot.l1_size, false).map_err(failed)?;
        }
        for (table, users) in std::mem::take(&mut walk.tables) {
            walk.l2(table, users).map_err(failed)?;
        }
        walk.refcount_tables().map_err(failed)?;
        walk.bitmaps().map_err(failed)?;
        Ok(walk)
    }

    /// Counts `times` references to every cluster that `len` bytes from `offset` on touch.
    fn refer(&mut self, offset: u64, len: u64, times: u32, what: &str) {
        if len == 0 {
            return;
        }
        let bits = self.layout.cluster_bits;
        let last = offset.saturating_add(len - 1) >> bits;
        for cluster in offset >> bits..=last {
            match self.found.get_mut(cluster as usize) {
                Some(count) => *count = count.saturating_add(times),
                None => {
                    let text = format!("{what}: cluster {cluster:#x} is beyond the file");
                    return damage(&mut self.report, text);
                }
            }
        }
    }

    /// Notes the L2 tables of an L1 table.
    fn l1(&mut self, offset: u64, entries: u32, active: bool) -> io::Result<()> {
        self.refer(offset, u64::from(entries) * 8, 1, "L1 table");
        for entry in read_table(self.file, offset, entries as usize)? {
            let table = entry & OFFSET;
            if table == 0 {
                continue;
            }
            if !table.is_multiple_of(self.layout.cluster) {
                damage(&mut self.report, format!("L2 table offset {table:#x} is not aligned"));
                continue;
            }
            let users = self.tables.entry(table).or_default();
            users.times = users.times.saturating_add(1);
            if active {
                users.active = Some(entry & COPIED != 0);
            }
        }
        Ok(())
    }

    /// Walks an L2 table.
    fn l2(&mut self, table: u64, users: Users) -> io::Result<()> {
        self.refer(table, 1, users.times, "L2 table");
        if table >= self.file.size() {
            return Ok(());
        }
        if let Some(copied) = users.active {
            self.flag(table, copied, "L2 table")?;
        }
        let words = (self.layout.cluster / 8) as usize;
        let content = read_table(self.file, table, words)?;
        for words in content.chunks_exact((self.layout.entry / 8) as usize) {
            let bitmap = words.get(1).copied().unwrap_or(0);
            self.l2_entry(Entry::decode(&self.layout, words[0], bitmap), users)?;
        }
        Ok(())
    }

    fn l2_entry(&mut self, entry: Entry, users: Users) -> io::Result<()> {
        let (times, active) = (users.times, users.active.is_some());
        if let Some(packed) = entry.packed {
            self.report.compressed_clusters += u64::from(active);
            self.report.allocated_clusters += u64::from(active);
            self.refer(packed.offset, packed.len, times, "compressed cluster");
        }
        let Some(host) = entry.host else { return Ok(()) };
        self.report.allocated_clusters += u64::from(active);
        if !host.is_multiple_of(self.layout.cluster) {
            damage(&mut self.report, format!("data cluster offset {host:#x} is not aligned"));
            return Ok(());
        }
        if self.layout.external {
            return Ok(());
        }
        self.refer(host, 1, times, "data cluster");
        if active { self.flag(host, entry.copied, "data cluster") } else { Ok(()) }
    }

    /// The COPIED flag says that the refcount is one.
    fn flag(&mut self, host: u64, copied: bool, what: &str) -> io::Result<()> {
        let count = self.stored(host >> self.layout.cluster_bits)?;
        if copied != (count == 1) {
            let text = format!("{what} {host:#x}: OFLAG_COPIED={copied} refcount={count}");
            damage(&mut self.report, text);
        }
        Ok(())
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
        let block = be64(&word, 0) & OFFSET;
        if block == 0 {
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

    fn refcount_tables(&mut self) -> io::Result<()> {
        let table = self.reftable()?;
        self.refer(self.header.reftable_offset, table.len() as u64 * 8, 1, "refcount table");
        for entry in table {
            let block = entry & OFFSET;
            if !block.is_multiple_of(self.layout.cluster) {
                damage(
                    &mut self.report,
                    format!("refcount block offset {block:#x} is not aligned"),
                );
            } else if block != 0 {
                self.refer(block, 1, 1, "refcount block");
            }
        }
        Ok(())
    }

    fn bitmaps(&mut self) -> io::Result<()> {
        let Some(ext) = self.header.bitmaps else { return Ok(()) };
        if self.header.autoclear & AUTOCLEAR_BITMAPS == 0 {
            return Ok(());
        }
        let len = ext.directory_size.min(self.file.size());
        self.refer(ext.directory_offset, len, 1, "bitmap directory");
        let mut directory = vec![0; len as usize];
        read_padded(self.file, ext.directory_offset, &mut directory)?;
        let mut at = 0;
        for _ in 0..ext.count {
            let Some(fixed) = directory.get(at..at + 24) else { break };
            let (offset, entries) = (be64(fixed, 0), be32(fixed, 8));
            let name = u16::from_be_bytes([fixed[18], fixed[19]]) as usize;
            let extra = be32(fixed, 20) as usize;
            let entries = u64::from(entries).min(self.file.size() / 8);
            self.refer(offset, entries * 8, 1, "bitmap table");
            for entry in read_table(self.file, offset, entries as usize)? {
                if entry & OFFSET != 0 {
                    self.refer(entry & OFFSET, 1, 1, "bitmap data");
                }
            }
            at += (24 + name + extra).next_multiple_of(8);
        }
        Ok(())
    }

    /// Compares the references found with all refcounts in the file.
    fn compare(&mut self) -> io::Result<()> {
        let per_block = 1u64 << self.layout.block_bits;
        let table = self.reftable()?;
        let mut bytes = vec![0; self.layout.cluster as usize];
        let covered = table.len() as u64 * per_block;
        let mut seen = BTreeSet::new();
        for (index, entry) in table.iter().enumerate() {
            let block = entry & OFFSET;
            let first = index as u64 * per_block;
            // A block that counts twice is damage and was reported; once is enough to read it.
            if block != 0 && !seen.insert(block) && first >= self.found.len() as u64 {
                continue;
            }
            if block == 0 || block >= self.file.size() {
                if first < self.found.len() as u64 {
                    bytes.fill(0);
                } else {
                    continue;
                }
            } else {
                read_padded(self.file, block, &mut bytes)?;
            }
            for within in 0..per_block {
                let bits = within << self.layout.refcount_order;
                let order = self.layout.refcount_order;
                let stored = get_refcount(&bytes, (bits / 8) as usize, (bits % 8) as u32, order);
                self.judge(first + within, stored);
            }
        }
        for cluster in covered..self.found.len() as u64 {
            self.judge(cluster, 0);
        }
        Ok(())
    }

    fn judge(&mut self, cluster: u64, stored: u64) {
        let found = self.found.get(cluster as usize).map_or(0, |n| u64::from(*n));
        if stored != 0 || found != 0 {
            self.report.image_end = (cluster + 1) << self.layout.cluster_bits;
        }
        if stored > found {
            self.report.leaks += 1;
            let text = format!("Leaked cluster {cluster} refcount={stored} reference={found}");
            list(&mut self.report, text);
        } else if stored < found {
            damage(
                &mut self.report,
                format!("cluster {cluster} refcount={stored} reference={found}"),
            );
        }
    }
}
