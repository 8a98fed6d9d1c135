//! Changes of many tables at once, prepared beside those that the header names.
//!
//! A snapshot changes counts and COPIED flags of everything the image has. Neither may go first in
//! place: each without the other is what a checker calls corrupt. So both change in copies:
//!
//! 1. places for copies of the refcount table and its blocks are allocated; sync;
//! 2. from then on counts change in the copies, and an L2 table whose flags change moves. Nothing in
//!    the file refers to any of it, so it is written in any order. No count falls to zero: what is to
//!    be freed waits, so nothing goes over what the header still reaches;
//! 3. the refcount table and the L1 table are written to their new places; sync; one write of the
//!    header's first sector names both, with what else the caller changes;
//! 4. the old tables are freed by ordinary commits.
//!
//! A cut before the header's write leaves the image as it was, one after it as it shall be; at
//! worst with leaks. Nothing asks for a repair, so version 2 needs no dirty bit.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::Ordering;

use graph::{Fix, Node, OpenError, WriteFlags};

use super::Qcow2;
use super::codec::{read_padded, table_bytes};
use super::header::{Header, Reach};
use super::layout::OFFSET;
use super::meta::{Kind, Meta};
use super::snapshots;

/// Where copies go.
struct Places {
    table: u64,
    /// Refcount blocks, by their index in the table.
    blocks: BTreeMap<usize, u64>,
}

impl Meta {
    /// Allocates room for a copy of the refcount table and of each block, those included that
    /// are made on the way.
    fn places_for_copies(&mut self, file: &dyn Node) -> io::Result<Places> {
        let bits = self.layout.cluster_bits;
        let mut blocks = BTreeMap::new();
        loop {
            let clusters = (self.reftable.len() as u64 * 8).div_ceil(self.layout.cluster);
            let table = self.allocate_table(file, clusters)?;
            let len = self.reftable.len();
            for index in 0.. {
                let Some(entry) = self.reftable.get(index) else { break };
                if entry & OFFSET != 0 && !blocks.contains_key(&index) {
                    blocks.insert(index, self.allocate(file, 1)?.host);
                }
            }
            // A block that was made for the last allocations may have an index that was passed.
            let all =
                |(index, entry): (usize, &u64)| entry & OFFSET == 0 || blocks.contains_key(&index);
            if self.reftable.len() == len && self.reftable.iter().enumerate().all(all) {
                return Ok(Places { table, blocks });
            }
            self.frees.extend((table >> bits..).take(clusters as usize));
        }
    }
}

impl Qcow2 {
    /// Begins a change beside the tables of the file, which is up to date; nothing else changes
    /// the image until [`Qcow2::adopt`] or [`Qcow2::abandon`]. Returns the clusters of the
    /// tables that are then replaced.
    pub(super) fn set_aside(&self) -> io::Result<BTreeSet<u64>> {
        let file = &*self.file;
        let places = self.meta().places_for_copies(file)?;
        self.write_back()?;
        let mut meta = self.meta();
        let mut old: BTreeSet<u64> = meta.refcount_clusters().into_iter().collect();
        let first = meta.l1_offset >> self.layout.cluster_bits;
        let l1_clusters = (meta.l1.len() as u64 * 8).div_ceil(self.layout.cluster);
        old.extend(first..first + l1_clusters);
        let mut bytes = vec![0; self.layout.cluster as usize];
        for (index, place) in places.blocks {
            let block = meta.reftable[index] & OFFSET;
            read_padded(file, block, &mut bytes)?;
            file.write_at(place, &bytes, WriteFlags::default())?;
            meta.refcounts.forget(block, self.layout.cluster);
            meta.reftable[index] = place;
            meta.note(place, self.layout.cluster, Kind::RefcountBlock);
        }
        meta.reftable_offset = places.table;
        let len = meta.reftable.len() as u64 * 8;
        meta.note(places.table, len, Kind::RefcountTable);
        meta.aside = true;
        Ok(old)
    }

    /// Makes what was changed the image's: the header names the new tables, and says what
    /// `change` says, in one write. `old` is what [`Qcow2::set_aside`] returned.
    pub(super) fn adopt(
        &self,
        old: BTreeSet<u64>,
        change: impl FnOnce(&mut Header),
    ) -> io::Result<()> {
        let l1 = self.meta().l1.clone();
        let l1_offset = self.store_table(&table_bytes(&l1), Kind::L1)?;
        while self.meta().is_dirty() {
            self.commit()?;
        }
        let (reftable, reftable_offset) = {
            let meta = self.meta();
            (table_bytes(&meta.reftable), meta.reftable_offset)
        };
        self.file.write_at(reftable_offset, &reftable, WriteFlags::default())?;
        self.update_header(|header| {
            (header.l1_offset, header.l1_size) = (l1_offset, l1.len() as u32);
            header.reftable_offset = reftable_offset;
            header.reftable_clusters = (reftable.len() as u64).div_ceil(self.layout.cluster) as u32;
            change(header);
        })?;
        let mut meta = self.meta();
        meta.aside = false;
        meta.l1_offset = l1_offset;
        meta.l1_moved = false;
        meta.l1_dirty.clear();
        meta.reftable_moved = None;
        meta.reftable_dirty.clear();
        for cluster in old {
            meta.kinds.remove(&cluster);
            meta.frees.push(cluster);
        }
        Ok(())
    }

    /// After a failure: memory is again what the file has. What was allocated is given back, if
    /// that can be done; otherwise it is leaked.
    pub(super) fn abandon(&self) {
        if self.reload().is_err() {
            // Nothing more is written through tables that may be wrong.
            self.outdated.store(true, Ordering::Release);
            return;
        }
        self.unpacker.clear();
        // The failure that led here is what the caller hears of.
        let _ = self.repair(Fix::Leaks);
    }

    /// Reads header and tables again: a failed write of the header may have come through.
    fn reload(&self) -> Result<(), OpenError> {
        let file = &*self.file;
        let header = Header::read(file, &self.path)?;
        let (list, list_len) = snapshots::read(file, &header, &self.path, Reach::File)?;
        let meta = Self::load_meta(file, &header, &self.path, &list, list_len)?;
        self.size.store(header.size, Ordering::Release);
        self.list_len.store(list_len, Ordering::Release);
        *super::lock(&self.snapshots) = list;
        *self.header() = header;
        *self.meta() = meta;
        Ok(())
    }
}
