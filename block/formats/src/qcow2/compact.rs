//! Making the file as short as its content: what lies far behind moves to the front.
//!
//! Nothing else changes meanwhile: all guest ranges are held. A data cluster moves as it would be
//! written anew: its bytes to a lower place, then the entry, then the old place is free, in the order
//! of `commit.rs`. A table moves as one that a snapshot shares would. The L1 table, the refcount
//! table and its blocks move together, beside the old ones (`aside.rs`). Blocks that count nothing any
//! more are forgotten in a commit of their own. At last the file is cut.
//!
//! What a snapshot shares, bitmaps, the snapshot table and the header of an encryption stay where
//! they are.

use std::io;

use graph::{Compact, WriteFlags};

use super::Qcow2;
use super::codec::read_padded;
use super::layout::{COPIED, Entry, OFFSET, Packed};
use super::meta::Meta;

/// Most rounds: each frees places for the next, and the first does nearly all.
const ROUNDS: u32 = 4;

impl Compact for Qcow2 {
    fn compact(&self, progress: &mut dyn FnMut(u64, u64)) -> io::Result<()> {
        let (_one_at_a_time, _all) = self.alone()?;
        for _ in 0..ROUNDS {
            let end = self.used_clusters()? * self.layout.cluster;
            let moved = self.move_content(end, progress)?;
            self.write_back()?;
            let moved_tables = self.move_tables(end)?;
            self.write_back()?;
            self.forget_empty_blocks()?;
            self.write_back()?;
            if !moved && !moved_tables {
                break;
            }
        }
        self.cut_file()
    }
}

impl Qcow2 {
    /// Clusters that are in use: a file without gaps would have so many.
    fn used_clusters(&self) -> io::Result<u64> {
        let file = &*self.file;
        let mut meta = self.meta();
        let mut used = 0;
        for cluster in 0..file.size().div_ceil(self.layout.cluster) {
            used += u64::from(meta.refcount(file, cluster)? != 0);
        }
        meta.allocate_behind(0);
        Ok(used)
    }

    /// Moves data clusters and L2 tables that lie behind `end`; whether there were any.
    fn move_content(&self, end: u64, progress: &mut dyn FnMut(u64, u64)) -> io::Result<bool> {
        let tables = self.meta().l1.len();
        let covered = self.layout.l2_entries * self.layout.cluster;
        let mut moved = false;
        for index in 0..tables {
            progress(index as u64, tables as u64);
            let l1_entry = self.meta().l1[index];
            if l1_entry & COPIED == 0 {
                continue;
            }
            let start = index as u64 * covered;
            let mut holds = false;
            for guest in (start..start + covered).step_by(self.layout.cluster as usize) {
                self.commit_if_crowded()?;
                let mut meta = self.meta();
                let entry = self.entry_of(&mut meta, guest)?;
                holds |= entry.host.is_some()
                    || entry.packed.is_some()
                    || (entry.zero != 0 && self.backing.is_some());
                moved |= match entry {
                    Entry { host: Some(host), copied: true, .. } if host >= end => {
                        self.move_data(&mut meta, guest, &entry)?
                    }
                    Entry { packed: Some(packed), .. } if packed.offset + packed.len > end => {
                        self.move_packed(&mut meta, guest, packed)?
                    }
                    _ => false,
                };
            }
            if !holds {
                self.meta().drop_l2(index);
                moved = true;
            } else if l1_entry & OFFSET >= end {
                moved |= self.move_l2(index, start)?;
            }
        }
        progress(tables as u64, tables as u64);
        Ok(moved)
    }

    /// Moves one cluster to the lowest free place; `false` if that is not lower.
    fn move_data(&self, meta: &mut Meta, guest: u64, entry: &Entry) -> io::Result<bool> {
        let file = &*self.file;
        let Some(old) = entry.host else { return Ok(false) };
        let run = meta.allocate(file, 1)?;
        if run.host > old {
            meta.release(file, run)?;
            return Ok(false);
        }
        let mut bytes = vec![0; self.layout.cluster as usize];
        let copied = self
            .read_data(file, old, guest, &mut bytes)
            .and_then(|()| self.store_data(run.host, guest, &bytes));
        if let Err(error) = copied {
            meta.release(file, run)?;
            return Err(error);
        }
        meta.set_entry(file, guest, Entry { host: Some(run.host), ..*entry })?;
        meta.free_entry(entry);
        Ok(true)
    }

    /// Moves a packed cluster to lower places, behind others that were moved.
    fn move_packed(&self, meta: &mut Meta, guest: u64, old: Packed) -> io::Result<bool> {
        let file = &*self.file;
        if old.len > self.layout.cluster {
            return Ok(false);
        }
        let mut bytes = vec![0; old.len as usize];
        read_padded(file, old.offset, &mut bytes)?;
        let place = meta.allocate_packed(file, old.len)?;
        let new = Entry { packed: Some(place), ..Entry::default() };
        if place.offset > old.offset {
            meta.free_entry(&new);
            return Ok(false);
        }
        if let Err(error) = file.write_at(place.offset, &bytes, WriteFlags::default()) {
            meta.free_entry(&new);
            return Err(error);
        }
        meta.set_entry(file, guest, new)?;
        meta.free_entry(&Entry { packed: Some(old), ..Entry::default() });
        Ok(true)
    }

    /// Moves an L2 table to the lowest free place.
    fn move_l2(&self, index: usize, guest: u64) -> io::Result<bool> {
        let file = &*self.file;
        // The copy is made from the file.
        self.write_back()?;
        let mut meta = self.meta();
        let probe = meta.allocate(file, 1)?;
        meta.release(file, probe)?;
        if probe.host > meta.l1[index] & OFFSET {
            return Ok(false);
        }
        meta.l1[index] &= !COPIED;
        meta.own_l2(file, guest)?;
        Ok(true)
    }

    /// Moves the L1 table, the refcount table and its blocks, if one of them lies behind `end`.
    fn move_tables(&self, end: u64) -> io::Result<bool> {
        let behind = {
            let meta = self.meta();
            let first = end >> self.layout.cluster_bits;
            let l1_end = meta.l1_offset + meta.l1.len() as u64 * 8;
            l1_end > end || meta.refcount_clusters().into_iter().any(|cluster| cluster >= first)
        };
        if behind {
            let old = self.set_aside();
            old.and_then(|old| self.adopt(old, |_| ())).inspect_err(|_| self.abandon())?;
        }
        Ok(behind)
    }

    /// Takes refcount blocks out of the table that count nothing.
    fn forget_empty_blocks(&self) -> io::Result<()> {
        let file = &*self.file;
        let bits = self.layout.cluster_bits;
        let per_block = 1u64 << self.layout.block_bits;
        let mut meta = self.meta();
        for index in 0..meta.reftable.len() {
            let block = meta.reftable[index] & OFFSET;
            let first = index as u64 * per_block;
            if block == 0 || (first..first + per_block).contains(&(block >> bits)) {
                continue;
            }
            let mut empty = true;
            for cluster in first..first + per_block {
                empty &= meta.refcount(file, cluster)? == 0;
            }
            if empty {
                meta.reftable[index] = 0;
                meta.reftable_dirty.insert(index);
                meta.kinds.remove(&(block >> bits));
                meta.refcounts.forget(block, self.layout.cluster);
                meta.frees.push(block >> bits);
            }
        }
        Ok(())
    }
}
