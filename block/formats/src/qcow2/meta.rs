//! Metadata in memory: L1 and refcount tables whole, L2 tables and refcount blocks in slices.
//!
//! Everything here runs under one mutex and changes memory only, except where a new table or
//! refcount block needs defined content in the file before anything may point to it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io;

use graph::{Event, Node, OpenError, WriteFlags};

use super::codec::{be64, damaged, read_padded, read_table, table_bytes};
use super::header::Header;
use super::layout::{BLOCK_OFFSET, COPIED, Entry, Layout, OFFSET, Packed};
use super::slices::Slices;

/// Memory for L2 slices: enough for 128 GiB of content at the default cluster size. Two images, as a copy
/// has open, stay well below the 64 MiB that a tool may take.
const L2_CACHE: u64 = 16 << 20;
/// Memory for refcount slices.
const REFCOUNT_CACHE: u64 = 4 << 20;
/// Largest L1 table in bytes.
const MAX_L1: u64 = 32 << 20;
/// Clusters are numbered up to here: the offset field has 56 bits.
const MAX_OFFSET: u64 = 1 << 56;
/// Clusters beyond the end of the file that may be counted as used (a crash can leave some).
const MANY_LEAKS: u64 = 1 << 20;
/// Freed clusters that wait for a commit before one is started.
const MANY_FREES: usize = 1 << 16;

/// What a host cluster holds that guest data must never overwrite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Header,
    L1,
    L2,
    RefcountTable,
    RefcountBlock,
    Snapshots,
    InactiveL1,
    Bitmaps,
    CryptHeader,
    /// An L2 table that two L1 entries share: reading is harmless, a change is not.
    SharedL2,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Header => "qcow2_header",
            Self::L1 => "active L1 table",
            Self::L2 | Self::SharedL2 => "active L2 table",
            Self::RefcountTable => "refcount table",
            Self::RefcountBlock => "refcount block",
            Self::Snapshots => "snapshot table",
            Self::InactiveL1 => "inactive L1 table",
            Self::Bitmaps => "bitmap directory",
            Self::CryptHeader => "encryption header",
        }
    }
}

/// A run of host clusters.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    /// Byte offset of the first one.
    pub host: u64,
    /// Number of clusters.
    pub clusters: u64,
    /// Nothing was ever stored here: reads as zeroes beyond the end of the file.
    pub fresh: bool,
}

/// The metadata of an open image.
pub(super) struct Meta {
    pub layout: Layout,
    pub l1: Vec<u64>,
    pub l1_offset: u64,
    /// L1 entries that differ from the file.
    pub l1_dirty: BTreeSet<usize>,
    /// The table has moved and the header does not say so yet.
    pub l1_moved: bool,
    pub l2: Slices,
    pub reftable: Vec<u64>,
    pub reftable_offset: u64,
    /// Refcount table entries that differ from the file.
    pub reftable_dirty: BTreeSet<usize>,
    /// The table has moved and the header does not say so yet: offset and clusters.
    pub reftable_moved: Option<(u64, u32)>,
    pub refcounts: Slices,
    /// Refcounts to be lowered by one once nothing in the file refers to the cluster any more.
    pub frees: Vec<u64>,
    /// Host clusters of tables, by cluster number.
    pub kinds: HashMap<u64, Kind>,
    /// Tables change beside those of the file (`aside.rs`).
    pub aside: bool,
    /// No free cluster is below this number.
    hint: u64,
    /// From this byte offset on the file was never written.
    fresh_from: u64,
    /// Where the next packed cluster goes; at the start of a cluster there is no room left.
    packing: u64,
}

/// What a commit has to write, in the order of `commit.rs`.
#[derive(Default)]
pub(super) struct Batch {
    pub refcounts: Vec<(u64, Vec<u8>)>,
    pub reftable: BTreeMap<usize, u64>,
    pub reftable_offset: u64,
    pub reftable_moved: Option<(u64, u32)>,
    pub l2: Vec<(u64, Vec<u8>)>,
    pub l1: BTreeMap<usize, u64>,
    pub l1_offset: u64,
    /// New place and whole content of an L1 table that has moved.
    pub l1_moved: Option<(u64, Vec<u64>)>,
    pub frees: Vec<u64>,
}

impl Meta {
    /// Loads the tables that stay in memory.
    pub fn load(file: &dyn Node, header: &Header, path: &str) -> Result<Self, OpenError> {
        let layout = Layout::of(header);
        let failed = |e| OpenError::host(path, e);
        let l1 = read_table(file, header.l1_offset, header.l1_size as usize).map_err(failed)?;
        let entries = (u64::from(header.reftable_clusters) << header.cluster_bits) / 8;
        file.event(Event::ReftableLoad);
        let reftable =
            read_table(file, header.reftable_offset, entries as usize).map_err(failed)?;
        let mut meta = Self {
            layout,
            l1,
            l1_offset: header.l1_offset,
            l1_dirty: BTreeSet::new(),
            l1_moved: false,
            l2: Slices::new(Event::L2Load, layout.cluster, L2_CACHE),
            reftable,
            reftable_offset: header.reftable_offset,
            reftable_dirty: BTreeSet::new(),
            reftable_moved: None,
            refcounts: Slices::new(Event::RefblockLoad, layout.cluster, REFCOUNT_CACHE),
            frees: Vec::new(),
            kinds: HashMap::new(),
            aside: false,
            hint: 0,
            fresh_from: file.size().next_multiple_of(layout.cluster),
            packing: 0,
        };
        meta.note_tables(file.size());
        Ok(meta)
    }

    /// Notes which clusters hold tables. Entries beyond the file cannot be hit by a write inside.
    fn note_tables(&mut self, file_size: u64) {
        let bits = self.layout.cluster_bits;
        self.kinds.insert(0, Kind::Header);
        self.note(self.l1_offset, self.l1.len() as u64 * 8, Kind::L1);
        self.note(self.reftable_offset, self.reftable.len() as u64 * 8, Kind::RefcountTable);
        for entry in &self.reftable {
            if entry & OFFSET != 0 && entry & OFFSET < file_size {
                self.kinds.insert((entry & OFFSET) >> bits, Kind::RefcountBlock);
            }
        }
        self.note_l2(file_size);
    }

    /// The active L1 table is another one: notes it and its L2 tables.
    pub fn note_active(&mut self) {
        self.kinds.retain(|_, kind| !matches!(kind, Kind::L1 | Kind::L2 | Kind::SharedL2));
        self.note(self.l1_offset, self.l1.len() as u64 * 8, Kind::L1);
        self.note_l2(self.fresh_from);
    }

    fn note_l2(&mut self, file_size: u64) {
        let bits = self.layout.cluster_bits;
        let mut times: HashMap<u64, u32> = HashMap::new();
        for entry in self.l1.iter().filter(|e| **e & OFFSET != 0 && **e & OFFSET < file_size) {
            *times.entry((entry & OFFSET) >> bits).or_default() += 1;
        }
        for (cluster, times) in times {
            // What is another table already stays so: a change through the L1 entry is refused.
            let kind = if times > 1 { Kind::SharedL2 } else { Kind::L2 };
            self.kinds.entry(cluster).or_insert(kind);
        }
    }

    /// Notes that `len` bytes from `offset` on are a table.
    pub fn note(&mut self, offset: u64, len: u64, kind: Kind) {
        let bits = self.layout.cluster_bits;
        for cluster in offset >> bits..offset.saturating_add(len).div_ceil(self.layout.cluster) {
            self.kinds.insert(cluster, kind);
        }
    }

    /// Whether a commit should run before more is changed.
    pub fn is_crowded(&self) -> bool {
        let frees = !self.aside && self.frees.len() > MANY_FREES;
        self.l2.is_crowded() || self.refcounts.is_crowded() || frees
    }

    /// Whether anything differs from the file.
    pub fn is_dirty(&self) -> bool {
        let slices = self.l2.is_dirty() || self.refcounts.is_dirty();
        if self.aside {
            return slices;
        }
        slices
            || !self.l1_dirty.is_empty()
            || self.l1_moved
            || !self.reftable_dirty.is_empty()
            || self.reftable_moved.is_some()
            || !self.frees.is_empty()
    }

    /// Takes what has to be written; [`Meta::settle`] must follow.
    pub fn take_batch(&mut self) -> Batch {
        let pick = |dirty: &mut BTreeSet<usize>, table: &[u64]| {
            std::mem::take(dirty).into_iter().map(|i| (i, table[i])).collect()
        };
        if self.aside {
            // What names the tables follows with the header.
            return Batch {
                refcounts: self.refcounts.take_dirty(),
                l2: self.l2.take_dirty(),
                ..Batch::default()
            };
        }
        Batch {
            refcounts: self.refcounts.take_dirty(),
            reftable: pick(&mut self.reftable_dirty, &self.reftable),
            reftable_offset: self.reftable_offset,
            reftable_moved: self.reftable_moved.take(),
            l2: self.l2.take_dirty(),
            l1_moved: std::mem::take(&mut self.l1_moved).then(|| {
                self.l1_dirty.clear();
                (self.l1_offset, self.l1.clone())
            }),
            l1: pick(&mut self.l1_dirty, &self.l1),
            l1_offset: self.l1_offset,
            frees: std::mem::take(&mut self.frees),
        }
    }

    /// Ends a commit. With success the freed clusters become free, and those nobody uses any more
    /// are returned; without, everything waits for the next commit.
    pub fn settle(
        &mut self,
        file: &dyn Node,
        batch: &Batch,
        success: bool,
    ) -> io::Result<Vec<u64>> {
        self.refcounts.written(&batch.refcounts, success);
        self.l2.written(&batch.l2, success);
        if !success {
            self.l1_dirty.extend(batch.l1.keys());
            self.l1_moved |= batch.l1_moved.is_some();
            self.reftable_dirty.extend(batch.reftable.keys());
            self.reftable_moved = self.reftable_moved.or(batch.reftable_moved);
            self.frees.extend(&batch.frees);
            return Ok(Vec::new());
        }
        let mut unused = Vec::new();
        for cluster in &batch.frees {
            if self.lower_refcount(file, *cluster)? == 0 {
                unused.push(*cluster);
            }
        }
        Ok(unused)
    }

    /// Decodes the L2 entry of a guest offset.
    pub fn entry(&mut self, file: &dyn Node, guest: u64) -> io::Result<Entry> {
        let Some(at) = self.entry_offset(guest)? else { return Ok(Entry::default()) };
        let entry = self.entry_at(file, at)?;
        match entry.host {
            Some(host) if !host.is_multiple_of(self.layout.cluster) => Err(damaged(format!(
                "qcow2: Cluster allocation offset {host:#x} unaligned (guest offset: {guest:#x})"
            ))),
            _ => Ok(entry),
        }
    }

    /// Decodes the L2 entry of a guest offset; so many entries from it on say the same of their clusters,
    /// stored ones of clusters in a row. Looks no further than a slice of the table.
    pub fn entries_alike(&mut self, file: &dyn Node, guest: u64) -> io::Result<(Entry, u64)> {
        let entry = self.entry(file, guest)?;
        let Some(at) = self.entry_offset(guest)? else { return Ok((entry, 1)) };
        if self.layout.subs > 1 || entry.packed.is_some() {
            return Ok((entry, 1));
        }
        let step = if entry.host.is_some() { self.layout.cluster } else { 0 };
        let (bytes, at) = self.l2.get(file, at)?;
        let first = be64(bytes, at);
        let words = bytes[at..].chunks_exact(8);
        let alike = words.zip(0..).take_while(|(word, row)| {
            u64::from_be_bytes(*word.first_chunk().expect("chunks of eight"))
                == first.wrapping_add(row * step)
        });
        Ok((entry, alike.count() as u64))
    }

    /// Decodes the L2 entry at a place in the file.
    pub fn entry_at(&mut self, file: &dyn Node, at: u64) -> io::Result<Entry> {
        let (word, bitmap) = self.stored_at(file, at)?;
        Ok(Entry::decode(&self.layout, word, bitmap))
    }

    /// The L2 entry at a place in the file, and its bitmap.
    fn stored_at(&mut self, file: &dyn Node, at: u64) -> io::Result<(u64, u64)> {
        let extended = self.layout.subs > 1;
        let (bytes, at) = self.l2.get(file, at)?;
        Ok((be64(bytes, at), if extended { be64(bytes, at + 8) } else { 0 }))
    }

    /// Whether the L2 entry of a guest offset says things that exclude each other.
    pub fn contradicts(&mut self, file: &dyn Node, guest: u64) -> io::Result<bool> {
        let Some(at) = self.entry_offset(guest)? else { return Ok(false) };
        let (word, bitmap) = self.stored_at(file, at)?;
        Ok(Entry::contradicts(&self.layout, word, bitmap))
    }

    /// Replaces the L2 entry of a guest offset, whose table [`Meta::own_l2`] has made ours.
    pub fn set_entry(&mut self, file: &dyn Node, guest: u64, entry: Entry) -> io::Result<()> {
        let at = self.entry_offset(guest)?.ok_or_else(|| damaged("qcow2: no L2 table".into()))?;
        self.set_entry_at(file, at, entry)
    }

    /// Replaces the L2 entry at a place in the file.
    pub fn set_entry_at(&mut self, file: &dyn Node, at: u64, entry: Entry) -> io::Result<()> {
        let (word, bitmap) = entry.encode(&self.layout);
        let extended = self.layout.subs > 1;
        let (bytes, at) = self.l2.get_mut(file, at)?;
        bytes[at..at + 8].copy_from_slice(&word.to_be_bytes());
        if extended {
            bytes[at + 8..at + 16].copy_from_slice(&bitmap.to_be_bytes());
        }
        Ok(())
    }

    /// Whether the L1 entry for a guest offset names a table.
    pub fn has_l2(&self, guest: u64) -> bool {
        self.l1.get(self.layout.l1_index(guest) as usize).is_some_and(|e| e & OFFSET != 0)
    }

    fn entry_offset(&self, guest: u64) -> io::Result<Option<u64>> {
        let table = match self.l1.get(self.layout.l1_index(guest) as usize) {
            None => return Err(damaged(format!("qcow2: no L1 entry for offset {guest:#x}"))),
            Some(entry) => entry & OFFSET,
        };
        if table == 0 {
            return Ok(None);
        }
        if !table.is_multiple_of(self.layout.cluster) {
            let index = self.layout.l1_index(guest);
            return Err(damaged(format!(
                "qcow2: L2 table offset {table:#x} unaligned (L1 index: {index:#x})"
            )));
        }
        Ok(Some(table + self.layout.l2_index(guest) * self.layout.entry))
    }

    /// Makes the L2 table of a guest offset exist and belong to the active image alone.
    ///
    /// A new table's content goes to the file at once; the L1 entry follows in a commit, which
    /// syncs before it writes L1 entries.
    pub fn own_l2(&mut self, file: &dyn Node, guest: u64) -> io::Result<()> {
        let index = self.layout.l1_index(guest) as usize;
        let old = match self.entry_offset(guest)? {
            Some(_) => {
                let table = self.l1[index] & OFFSET;
                if let Some(kind) = self.kinds.get(&(table >> self.layout.cluster_bits))
                    && *kind != Kind::L2
                {
                    return Err(Overlap { offset: table, kind: *kind }.into());
                }
                if table >= self.fresh_from {
                    return Err(damaged(format!("qcow2: L2 table {table:#x} is beyond the file")));
                }
                if self.l1[index] & COPIED != 0 {
                    return Ok(());
                }
                Some(table)
            }
            None => None,
        };
        let mut content = vec![0; self.layout.cluster as usize];
        if let Some(table) = old {
            file.event(Event::L2AllocCowRead);
            read_padded(file, table, &mut content)?;
        }
        let run = self.allocate(file, 1)?;
        file.event(Event::L2AllocWrite);
        if let Err(e) = file.write_at(run.host, &content, WriteFlags::default()) {
            self.release(file, run)?;
            return Err(e);
        }
        if let Some(table) = old {
            let cluster = table >> self.layout.cluster_bits;
            self.kinds.remove(&cluster);
            self.l2.forget(table, self.layout.cluster);
            self.frees.push(cluster);
        }
        self.note(run.host, self.layout.cluster, Kind::L2);
        self.l1[index] = run.host | COPIED;
        self.l1_dirty.insert(index);
        Ok(())
    }

    /// Forgets the L2 table of an L1 entry; what its entries refer to is the caller's to free.
    pub fn drop_l2(&mut self, index: usize) {
        let table = self.l1[index] & OFFSET;
        let cluster = table >> self.layout.cluster_bits;
        self.kinds.remove(&cluster);
        self.l2.forget(table, self.layout.cluster);
        self.frees.push(cluster);
        self.l1[index] = 0;
        self.l1_dirty.insert(index);
    }

    /// The file was cut: what lies behind `end` was never written.
    pub fn ends_at(&mut self, end: u64) {
        self.fresh_from = end;
    }

    /// Gives out up to `wanted` (at least one) free clusters in a row, with refcount one.
    pub fn allocate(&mut self, file: &dyn Node, wanted: u64) -> io::Result<Run> {
        file.event(Event::ClusterAlloc);
        let mut at = self.hint;
        let end_of_file = self.fresh_from >> self.layout.cluster_bits;
        loop {
            if at >= MAX_OFFSET >> self.layout.cluster_bits || at > end_of_file + MANY_LEAKS {
                return Err(io::ErrorKind::StorageFull.into());
            }
            if self.block_of(at)?.is_none() {
                self.add_block(file, at)?;
                at += 1;
                continue;
            }
            let (next, free) = self.skip_used(file, at)?;
            at = next;
            if free {
                break;
            }
        }
        let mut clusters = 0;
        let end = (at | ((1 << self.layout.block_bits) - 1)) + 1;
        while clusters < wanted && at + clusters < end {
            let cluster = at + clusters;
            if self.refcount(file, cluster)? != 0 {
                break;
            }
            self.forbid_overlap(cluster << self.layout.cluster_bits)?;
            self.set_refcount(file, cluster, 1)?;
            clusters += 1;
        }
        self.hint = at + clusters;
        let host = at << self.layout.cluster_bits;
        let fresh = host >= self.fresh_from;
        self.fresh_from = self.fresh_from.max((at + clusters) << self.layout.cluster_bits);
        Ok(Run { host, clusters, fresh })
    }

    /// Gives out room for a packed cluster of `len` bytes, at most a cluster, behind the last one.
    pub fn allocate_packed(&mut self, file: &dyn Node, len: u64) -> io::Result<Packed> {
        let place = match self.room_behind(file, len)? {
            Some(place) => place,
            None => Packed { offset: self.allocate(file, 1)?.host, len },
        };
        if !place.fits(&self.layout) {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.packing = place.offset + len;
        Ok(place)
    }

    /// Room behind the last packed cluster, reaching into the next host cluster if that is free.
    fn room_behind(&mut self, file: &dyn Node, len: u64) -> io::Result<Option<Packed>> {
        let offset = self.packing;
        let within = offset % self.layout.cluster;
        let cluster = offset >> self.layout.cluster_bits;
        if within == 0 {
            return Ok(None);
        }
        let count = self.refcount(file, cluster)?;
        if count == self.layout.max_refcount() {
            return Ok(None);
        }
        if within + len > self.layout.cluster {
            let next = cluster + 1;
            if self.block_of(next)?.is_none() || self.refcount(file, next)? != 0 {
                return Ok(None);
            }
            self.forbid_overlap(next << self.layout.cluster_bits)?;
            self.set_refcount(file, next, 1)?;
            self.fresh_from = self.fresh_from.max((next + 1) << self.layout.cluster_bits);
        }
        self.set_refcount(file, cluster, count + 1)?;
        Ok(Some(Packed { offset, len }))
    }

    /// Makes the L1 table have at least `entries` entries, in a new place if need be.
    pub fn grow_l1(&mut self, file: &dyn Node, entries: u64) -> io::Result<()> {
        file.event(Event::L1GrowAllocTable);
        if entries <= self.l1.len() as u64 {
            return Ok(());
        }
        if entries * 8 > MAX_L1 {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let bits = self.layout.cluster_bits;
        let clusters = |entries: u64| (entries * 8).div_ceil(self.layout.cluster);
        let (old, wanted) = (clusters(self.l1.len() as u64), clusters(entries));
        let first = self.l1_offset >> bits;
        if wanted > old || old == 0 {
            self.l1_offset = self.allocate_table(file, wanted)?;
            for cluster in first..first + old {
                self.kinds.remove(&cluster);
                self.frees.push(cluster);
            }
            self.note(self.l1_offset, wanted << bits, Kind::L1);
        }
        self.l1.resize(entries as usize, 0);
        // In the same place the header's new length follows content that is all zero there.
        self.l1_moved = true;
        Ok(())
    }

    /// Gives out exactly `clusters` clusters in a row, for a table. A long row spans the ranges of
    /// several refcount blocks; those are made to exist first, so that none is put into the row.
    pub fn allocate_table(&mut self, file: &dyn Node, clusters: u64) -> io::Result<u64> {
        let short = self.allocate(file, clusters)?;
        if short.clusters == clusters {
            return Ok(short.host);
        }
        self.release(file, short)?;
        let bits = self.layout.cluster_bits;
        let per_block = 1u64 << self.layout.block_bits;
        let mut first = self.fresh_from >> bits;
        loop {
            for range in first / per_block..=(first + clusters - 1) / per_block {
                self.ensure_block(file, range * per_block)?;
            }
            let mut used = None;
            for cluster in first..first + clusters {
                if self.is_table(cluster) || self.refcount(file, cluster)? != 0 {
                    used = Some(cluster);
                }
            }
            match used {
                Some(last) => first = last + 1,
                None => break,
            }
        }
        for cluster in first..first + clusters {
            self.set_refcount(file, cluster, 1)?;
        }
        self.fresh_from = self.fresh_from.max((first + clusters) << bits);
        Ok(first << bits)
    }

    /// Looks for a free cluster from `at` on, as far as one slice of its refcount block goes.
    /// Returns where the search ended and whether that cluster is free.
    fn skip_used(&mut self, file: &dyn Node, at: u64) -> io::Result<(u64, bool)> {
        let Some(block) = self.block_of(at)? else { return Ok((at, false)) };
        let (place, mut shift) = self.place(block, at);
        let order = self.layout.refcount_order;
        let (bytes, mut byte) = self.refcounts.get(file, place)?;
        let mut at = at;
        while byte < bytes.len() {
            if get_refcount(bytes, byte, shift, order) == 0 {
                return Ok((at, true));
            }
            at += 1;
            shift += 1 << order;
            byte += (shift / 8) as usize;
            shift %= 8;
        }
        Ok((at, false))
    }

    /// Takes back clusters that nothing has referred to yet.
    pub fn release(&mut self, file: &dyn Node, run: Run) -> io::Result<()> {
        file.event(Event::ClusterFree);
        let first = run.host >> self.layout.cluster_bits;
        for cluster in first..first + run.clusters {
            self.lower_refcount(file, cluster)?;
        }
        Ok(())
    }

    /// Refuses host offsets where a table is.
    pub fn forbid_overlap(&self, host: u64) -> io::Result<()> {
        match self.kinds.get(&(host >> self.layout.cluster_bits)) {
            None => Ok(()),
            Some(kind) => Err(Overlap { offset: host, kind: *kind }.into()),
        }
    }

    /// Refuses to store guest data at a host offset where it would destroy something.
    pub fn forbid_data(&self, host: u64) -> io::Result<()> {
        if self.layout.external {
            return Ok(());
        }
        if host >= self.fresh_from {
            return Err(damaged(format!("qcow2: data cluster {host:#x} is beyond the file")));
        }
        self.forbid_overlap(host)
    }

    /// Queues the clusters of an entry that nothing in memory refers to any more.
    pub fn free_entry(&mut self, entry: &Entry) {
        let bits = self.layout.cluster_bits;
        if let Some(host) = entry.host.filter(|_| !self.layout.external) {
            self.frees.push(host >> bits);
        }
        if let Some(packed) = entry.packed {
            let last = packed.offset + packed.len - 1;
            self.frees.extend(packed.offset >> bits..=last >> bits);
        }
    }

    /// The refcount of a host cluster.
    pub fn refcount(&mut self, file: &dyn Node, cluster: u64) -> io::Result<u64> {
        let Some(block) = self.block_of(cluster)? else { return Ok(0) };
        let (at, shift) = self.place(block, cluster);
        let order = self.layout.refcount_order;
        let (bytes, at) = self.refcounts.get(file, at)?;
        Ok(get_refcount(bytes, at, shift, order))
    }

    /// Sets a refcount whose block exists.
    pub fn set_refcount(&mut self, file: &dyn Node, cluster: u64, value: u64) -> io::Result<()> {
        let block = self
            .block_of(cluster)?
            .ok_or_else(|| damaged(format!("qcow2: no refcount block for cluster {cluster:#x}")))?;
        let (at, shift) = self.place(block, cluster);
        let order = self.layout.refcount_order;
        let (bytes, at) = self.refcounts.get_mut(file, at)?;
        put_refcount(bytes, at, shift, order, value);
        Ok(())
    }

    /// Lowers a refcount by one; returns what it is then, or one for a cluster that was free.
    pub fn lower_refcount(&mut self, file: &dyn Node, cluster: u64) -> io::Result<u64> {
        let now = self.refcount(file, cluster)?;
        if now == 0 {
            // A damaged image; `check` tells. There is nothing to give back.
            return Ok(1);
        }
        self.set_refcount(file, cluster, now - 1)?;
        if now == 1 {
            self.hint = self.hint.min(cluster);
            if self.packing >> self.layout.cluster_bits == cluster {
                self.packing = 0;
            }
        }
        Ok(now - 1)
    }

    fn block_of(&self, cluster: u64) -> io::Result<Option<u64>> {
        let index = cluster >> self.layout.block_bits;
        let offset = match self.reftable.get(index as usize) {
            None => return Ok(None),
            Some(entry) => entry & BLOCK_OFFSET,
        };
        if offset >= MAX_OFFSET {
            return Err(damaged(format!("qcow2: refcount block {index:#x} is outside image")));
        }
        if !offset.is_multiple_of(self.layout.cluster) {
            return Err(damaged(format!(
                "qcow2: Refblock offset {offset:#x} unaligned (reftable index: {index:#x})"
            )));
        }
        Ok(Some(offset).filter(|o| *o != 0))
    }

    /// Whether a block counts the cluster.
    pub fn has_block(&self, cluster: u64) -> bool {
        matches!(self.block_of(cluster), Ok(Some(_)))
    }

    /// The clusters of the refcount table and its blocks.
    pub fn refcount_clusters(&self) -> HashSet<u64> {
        let bits = self.layout.cluster_bits;
        let first = self.reftable_offset >> bits;
        let len = (self.reftable.len() as u64 * 8).div_ceil(self.layout.cluster);
        let blocks = self.reftable.iter().map(|entry| (entry & OFFSET) >> bits);
        (first..first + len).chain(blocks.filter(|block| *block != 0)).collect()
    }

    /// Whether a table is in the cluster.
    pub fn is_table(&self, cluster: u64) -> bool {
        self.kinds.contains_key(&cluster)
    }

    /// Byte offset in the file and bit position in that byte of a refcount.
    fn place(&self, block: u64, cluster: u64) -> (u64, u32) {
        let index = cluster & ((1 << self.layout.block_bits) - 1);
        let bits = index << self.layout.refcount_order;
        (block + bits / 8, (bits % 8) as u32)
    }

    /// From now on gives out only clusters from number `cluster` on (0: from the start again).
    pub fn allocate_behind(&mut self, cluster: u64) {
        self.hint = cluster;
    }

    /// Makes the block that counts `cluster` exist, at a place of the allocator's choice.
    pub fn ensure_block(&mut self, file: &dyn Node, cluster: u64) -> io::Result<()> {
        while self.block_of(cluster)?.is_none() {
            let index = (cluster >> self.layout.block_bits) as usize;
            if index >= self.reftable.len() {
                self.grow_reftable(file)?;
                continue;
            }
            let run = self.allocate(file, 1)?;
            if self.block_of(cluster)?.is_some() {
                return self.release(file, run);
            }
            let zeroes = vec![0; self.layout.cluster as usize];
            file.event(Event::RefblockAllocWrite);
            file.write_at(run.host, &zeroes, WriteFlags::default())?;
            self.reftable[index] = run.host;
            self.reftable_dirty.insert(index);
            self.note(run.host, self.layout.cluster, Kind::RefcountBlock);
        }
        Ok(())
    }

    /// Makes a refcount block at host cluster `cluster`, which lies in the range that the block
    /// counts and thereby is free. Its content goes to the file at once; the table entry follows
    /// in a commit, which syncs in between.
    fn add_block(&mut self, file: &dyn Node, cluster: u64) -> io::Result<()> {
        let index = (cluster >> self.layout.block_bits) as usize;
        if index >= self.reftable.len() {
            return self.grow_reftable(file);
        }
        let offset = cluster << self.layout.cluster_bits;
        self.forbid_overlap(offset)?;
        file.event(Event::RefblockAlloc);
        file.event(Event::RefblockAllocWrite);
        file.write_at(offset, &vec![0; self.layout.cluster as usize], WriteFlags::default())?;
        self.fresh_from = self.fresh_from.max(offset + self.layout.cluster);
        self.reftable[index] = offset;
        self.reftable_dirty.insert(index);
        self.note(offset, self.layout.cluster, Kind::RefcountBlock);
        self.set_refcount(file, cluster, 1)
    }

    /// Moves the refcount table to a larger place behind everything it counts now.
    ///
    /// The new table and the blocks that count it go to the file at once; the header follows in
    /// a commit, which syncs in between. Until then the old table is the file's.
    fn grow_reftable(&mut self, file: &dyn Node) -> io::Result<()> {
        file.event(Event::ReftableGrow);
        let layout = self.layout;
        let old_len = self.reftable.len() as u64;
        let start = old_len << layout.block_bits;
        let mut clusters = (old_len * 12).div_ceil(layout.cluster).max(1);
        let (mut blocks, mut last);
        loop {
            blocks = 1;
            loop {
                last = (start + clusters + blocks - 1) >> layout.block_bits;
                if last - old_len < blocks {
                    break;
                }
                blocks += 1;
            }
            if (last + 1) * 8 <= clusters * layout.cluster {
                break;
            }
            clusters += 1;
        }
        if clusters * layout.cluster > (8 << 20).max(layout.cluster) {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let table = start << layout.cluster_bits;
        let mut entries = self.reftable.clone();
        entries.resize((clusters * layout.cluster / 8) as usize, 0);
        let mut counts = vec![0; (blocks * layout.cluster) as usize];
        let first_block = table + (clusters << layout.cluster_bits);
        for i in 0..blocks {
            entries[(old_len + i) as usize] = first_block + (i << layout.cluster_bits);
        }
        for i in 0..clusters + blocks {
            let bits = i << layout.refcount_order;
            put_refcount(
                &mut counts,
                (bits / 8) as usize,
                (bits % 8) as u32,
                layout.refcount_order,
                1,
            );
        }
        let plain = WriteFlags::default();
        file.event(Event::RefblockAllocWriteBlocks);
        file.write_at(first_block, &counts, plain)?;
        file.event(Event::RefblockAllocWriteTable);
        file.write_at(table, &table_bytes(&entries), plain)?;

        let bits = layout.cluster_bits;
        let old = self.reftable_offset >> bits;
        for cluster in old..old + (old_len * 8).div_ceil(layout.cluster) {
            self.kinds.remove(&cluster);
            self.frees.push(cluster);
        }
        self.reftable = entries;
        self.reftable_offset = table;
        self.reftable_dirty.clear();
        self.reftable_moved = Some((table, clusters as u32));
        self.fresh_from = self.fresh_from.max(first_block + (blocks << bits));
        self.note(table, clusters << bits, Kind::RefcountTable);
        self.note(first_block, blocks << bits, Kind::RefcountBlock);
        Ok(())
    }
}

/// A write that would have hit a table.
#[derive(Debug)]
pub(super) struct Overlap {
    pub offset: u64,
    pub kind: Kind,
}

impl std::fmt::Display for Overlap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Preventing invalid write on metadata (overlaps with {}) at {:#x}",
            self.kind.name(),
            self.offset
        )
    }
}

impl std::error::Error for Overlap {}

impl From<Overlap> for io::Error {
    fn from(overlap: Overlap) -> Self {
        Self::new(io::ErrorKind::InvalidData, overlap)
    }
}

/// Reads a refcount of `1 << order` bits; those below a byte start at its lowest bit.
pub(super) fn get_refcount(bytes: &[u8], at: usize, shift: u32, order: u32) -> u64 {
    match order {
        0..=2 => u64::from(bytes[at] >> shift) & ((1 << (1 << order)) - 1),
        _ => {
            let width = 1 << (order - 3);
            bytes[at..at + width].iter().fold(0, |v, b| v << 8 | u64::from(*b))
        }
    }
}

/// Writes what [`get_refcount`] reads; the caller keeps `value` in range.
pub(super) fn put_refcount(bytes: &mut [u8], at: usize, shift: u32, order: u32, value: u64) {
    match order {
        0..=2 => {
            let mask = ((1u32 << (1 << order)) - 1) << shift;
            let byte = (u32::from(bytes[at]) & !mask) | ((value as u32) << shift & mask);
            bytes[at] = byte as u8;
        }
        _ => {
            let width = 1 << (order - 3);
            bytes[at..at + width].copy_from_slice(&value.to_be_bytes()[8 - width..]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refcounts_of_every_width_keep_their_neighbours() {
        for order in 0..=6u32 {
            let mut bytes = vec![0; 64];
            let max = u64::MAX >> (64 - (1u32 << order));
            let place = |i: u64| (((i << order) / 8) as usize, ((i << order) % 8) as u32);
            for i in 0..8 {
                let (at, shift) = place(i);
                put_refcount(&mut bytes, at, shift, order, (i * 0x0123_4567_89ab) & max);
            }
            for i in 0..8 {
                let (at, shift) = place(i);
                let want = (i * 0x0123_4567_89ab) & max;
                assert_eq!(get_refcount(&bytes, at, shift, order), want, "order {order}");
            }
        }
    }
}
