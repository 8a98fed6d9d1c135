//! Taking, applying and deleting internal snapshots.
//!
//! Nothing else changes meanwhile: all guest ranges are held. The order of each operation:
//!
//! - take: beside the tables of the file (`aside.rs`), counts of everything the active L1 table
//!   reaches go up and COPIED flags go; a copy of the L1 table and a new snapshot table are written;
//!   sync; the header names all of it.
//! - apply: counts of the snapshot's clusters go up, which no flag of the active image depends on; a
//!   copy of its L1 table is written; sync; the header names it as the active one; then the counts of
//!   the old table's clusters go down: those that the new one shares stay above one.
//! - delete: beside the tables of the file, counts go down as far as one, and flags of clusters that
//!   have become the active image's alone are set; a snapshot table without it is written; sync;
//!   the header names all of it; then what is left over is freed.
//!
//! The header's change is one write of its first sector. Before it, or behind it, counts may be too
//! high, which leaks clusters; flags and counts agree at any time.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use graph::{Bitmaps, Node, RangeGuard, Sharing, SnapshotInfo, Snapshots, WriteFlags};

use super::codec::{be64, damaged, read_padded, read_table, table_bytes};
use super::header::MAX_SNAPSHOTS;
use super::layout::{COPIED, Entry, OFFSET};
use super::meta::{Kind, Meta};
use super::read::Source;
use super::snapshots::{MAX_TABLE, Snapshot, to_bytes};
use super::{Options, Qcow2, lock};

/// What happens to the counts of all clusters that an L1 table reaches.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Change {
    /// Up: a snapshot shares all of it.
    Share,
    /// Up: what a snapshot has becomes the active image's, too.
    Restore,
    /// Only the COPIED flags are made right.
    Keep,
    /// Down, as far as one; the rest with the commits that follow.
    Lower,
}

impl Snapshots for Qcow2 {
    fn list(&self) -> Vec<SnapshotInfo> {
        lock(&self.snapshots).iter().map(|snapshot| snapshot.info.clone()).collect()
    }

    fn create(&self, info: &SnapshotInfo) -> io::Result<()> {
        let (_one_at_a_time, _all) = self.alone()?;
        let mut list = lock(&self.snapshots).clone();
        let snapshot = self.described(info, &list)?;
        list.push(snapshot);
        self.take(list).inspect_err(|_| self.abandon())?;
        // The snapshot has it; in the active image it would only be copied again.
        self.unmap_held(self.vm_state_at(0), self.table_end())?;
        self.write_back()
    }

    fn apply(&self, id_or_name: &str) -> io::Result<()> {
        let (_one_at_a_time, _all) = self.alone()?;
        if !Bitmaps::list(self).is_empty() {
            // They would not know what changes.
            return Err(io::Error::other("Device has active dirty bitmaps"));
        }
        let snapshot = self.found(id_or_name)?;
        self.switch_to(&snapshot).inspect_err(|_| self.abandon())?;
        self.write_back()
    }

    fn delete(&self, id_or_name: &str) -> io::Result<()> {
        let (_one_at_a_time, _all) = self.alone()?;
        let snapshot = self.found(id_or_name)?;
        self.drop_snapshot(&snapshot).inspect_err(|_| self.abandon())?;
        self.write_back()
    }

    fn open(&self, id_or_name: &str) -> io::Result<Arc<dyn Node>> {
        let snapshot = self.found(id_or_name)?;
        self.table_of(&snapshot)?;
        self.commit()?;
        let options =
            Options { read_only: true, backing: self.backing.clone(), ..Options::default() };
        let file = Arc::clone(&self.file);
        let at = (snapshot.info.id.as_str(), self.crypt.clone());
        let view = Self::open_at(file, &self.path, options, Some(at));
        Ok(Arc::new(view.map_err(io::Error::from)?))
    }

    fn write_vm_state(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.writable(0, 0)?;
        let at = self.vm_state_at(offset);
        self.file.event(graph::Event::VmstateSave);
        let end = at.checked_add(data.len() as u64).ok_or(io::ErrorKind::InvalidInput)?;
        self.meta().grow_l1(&*self.file, self.l1_entries(end))?;
        self.write_data(at, data)
    }

    fn read_vm_state(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.file.event(graph::Event::VmstateLoad);
        let mut done = 0;
        while done < buf.len() {
            let at = self.vm_state_at(offset.saturating_add(done as u64));
            let end = self.table_end();
            if at >= end {
                buf[done..].fill(0);
                break;
            }
            let left = ((buf.len() - done) as u64).min(end - at);
            let (source, len) = self.resolve(&mut self.meta(), at, left)?;
            let part = &mut buf[done..done + len as usize];
            match source {
                Source::Backing => part.fill(0),
                source => self.fetch(source, at, part)?,
            }
            done += len as usize;
        }
        Ok(())
    }
}

impl Qcow2 {
    /// Waits until nothing else changes the image and the file has all that memory has.
    pub(super) fn alone(&self) -> io::Result<(std::sync::MutexGuard<'_, ()>, RangeGuard<'_>)> {
        self.writable(0, 0)?;
        if self.layout.external {
            let text = "images with an external data file have no internal snapshots";
            return Err(io::Error::new(io::ErrorKind::Unsupported, text));
        }
        let changing = lock(&self.changing);
        let all = self.ranges.lock(0, u64::MAX, Sharing::Exclusive);
        self.write_back()?;
        Ok((changing, all))
    }

    fn found(&self, id_or_name: &str) -> io::Result<Snapshot> {
        let list = lock(&self.snapshots);
        let by_id = list.iter().find(|snapshot| snapshot.info.id == id_or_name);
        let found = by_id.or_else(|| list.iter().find(|s| s.info.name == id_or_name));
        found.cloned().ok_or_else(|| {
            let text = format!("there is no snapshot '{id_or_name}'");
            io::Error::new(io::ErrorKind::NotFound, text)
        })
    }

    /// The entry of a new snapshot, without its L1 table.
    fn described(&self, info: &SnapshotInfo, list: &[Snapshot]) -> io::Result<Snapshot> {
        let refuse = |text: &str| Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        if list.len() >= MAX_SNAPSHOTS as usize {
            return refuse("the image has as many snapshots as it can have");
        }
        if info.name.len() > usize::from(u16::MAX) || info.id.len() > usize::from(u16::MAX) {
            return refuse("the snapshot's name is too long");
        }
        let taken = |id: &str| list.iter().any(|snapshot| snapshot.info.id == id);
        let highest = list.iter().filter_map(|s| s.info.id.parse::<u64>().ok()).max();
        let id = match info.id.as_str() {
            "" => (highest.unwrap_or(0).saturating_add(1)).to_string(),
            id => id.to_owned(),
        };
        if taken(&id) {
            return refuse("there is a snapshot with that ID");
        }
        let info = SnapshotInfo { id, disk_size: self.disk_size(), ..info.clone() };
        Ok(Snapshot { l1_offset: 0, l1_size: 0, info, unknown: Vec::new(), complete: true })
    }

    /// Takes the last snapshot of `list`.
    fn take(&self, mut list: Vec<Snapshot>) -> io::Result<()> {
        let old = self.set_aside()?;
        let mut active = self.meta().l1.clone();
        self.change_counts(&mut active, Change::Share)?;
        let copy = self.store_table(&table_bytes(&active), Kind::InactiveL1)?;
        if let Some(snapshot) = list.last_mut() {
            snapshot.l1_offset = copy;
            snapshot.l1_size = active.len() as u32;
        }
        self.meta().l1 = active;
        self.adopt_list(list, old)
    }

    /// Removes a snapshot.
    fn drop_snapshot(&self, snapshot: &Snapshot) -> io::Result<()> {
        let usable = snapshot.usable(self.layout.cluster, self.file.size());
        // Of one without a table there is only the entry; what it had is leaked.
        let mut table = if usable { self.table_of(snapshot)? } else { Vec::new() };
        let mut list = lock(&self.snapshots).clone();
        list.retain(|other| other.info.id != snapshot.info.id);
        let old = self.set_aside()?;
        self.change_counts(&mut table, Change::Lower)?;
        self.free_table(snapshot.l1_offset, table.len() as u64 * 8);
        let mut active = self.meta().l1.clone();
        self.change_counts(&mut active, Change::Keep)?;
        self.meta().l1 = active;
        self.adopt_list(list, old)
    }

    /// Makes a copy of a snapshot's L1 table the active one.
    fn switch_to(&self, snapshot: &Snapshot) -> io::Result<()> {
        let mut table = self.table_of(snapshot)?;
        self.change_counts(&mut table, Change::Restore)?;
        let size = snapshot.info.disk_size;
        let entries = table.len().max(self.l1_entries(size) as usize).max(1);
        table.resize(entries, 0);
        let new = self.store_table(&table_bytes(&table), Kind::L1)?;
        self.write_back()?;
        self.update_header(|header| {
            (header.l1_offset, header.l1_size, header.size) = (new, entries as u32, size);
        })?;
        let (mut old, old_offset) = {
            let mut meta = self.meta();
            let old_offset = std::mem::replace(&mut meta.l1_offset, new);
            (std::mem::replace(&mut meta.l1, table), old_offset)
        };
        self.size.store(size, Ordering::Release);
        self.resize_bitmaps();
        self.bitmaps.note(0, size);
        self.meta().note_active();
        let len = old.len() as u64 * 8;
        self.change_counts(&mut old, Change::Lower)?;
        self.free_table(old_offset, len);
        Ok(())
    }

    fn table_of(&self, snapshot: &Snapshot) -> io::Result<Vec<u64>> {
        if !snapshot.usable(self.layout.cluster, self.file.size()) {
            let why = snapshot.fault(self.layout.cluster);
            let why = why.unwrap_or_else(|| "its L1 table is beyond the file".to_owned());
            return Err(damaged(format!("qcow2: {why}")));
        }
        read_table(&*self.file, snapshot.l1_offset, snapshot.l1_size as usize)
    }

    /// Writes a table to new clusters; returns where.
    pub(super) fn store_table(&self, bytes: &[u8], kind: Kind) -> io::Result<u64> {
        let mut meta = self.meta();
        let clusters = (bytes.len() as u64).div_ceil(self.layout.cluster).max(1);
        let offset = meta.allocate_table(&*self.file, clusters)?;
        self.file.write_at(offset, bytes, WriteFlags::default())?;
        meta.note(offset, bytes.len() as u64, kind);
        Ok(offset)
    }

    /// Frees the clusters of a table that nothing refers to any more, with the next commits.
    pub(super) fn free_table(&self, offset: u64, len: u64) {
        let bits = self.layout.cluster_bits;
        let mut meta = self.meta();
        for cluster in offset >> bits..(offset + len).div_ceil(self.layout.cluster) {
            meta.kinds.remove(&cluster);
            meta.frees.push(cluster);
        }
    }

    /// Writes a snapshot table and makes the header name it, together with all that was changed
    /// aside.
    fn adopt_list(&self, list: Vec<Snapshot>, old: BTreeSet<u64>) -> io::Result<()> {
        let bytes = to_bytes(&list);
        if bytes.len() as u64 > MAX_TABLE {
            let text = "the table of snapshots would become too large";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let offset = match list.is_empty() {
            true => 0,
            false => self.store_table(&bytes, Kind::Snapshots)?,
        };
        let before = self.header().snapshots_offset;
        let count = list.len() as u32;
        self.adopt(old, |header| (header.snapshots, header.snapshots_offset) = (count, offset))?;
        let had = !std::mem::replace(&mut *lock(&self.snapshots), list).is_empty();
        let len = self.list_len.swap(bytes.len() as u64, Ordering::AcqRel);
        if had {
            self.free_table(before, len);
        }
        Ok(())
    }

    /// Writes a snapshot table anew whose entries lack fields.
    pub(super) fn complete_snapshots(&self) -> io::Result<()> {
        let mut list = lock(&self.snapshots).clone();
        if !self.layout.zero_flag || list.iter().all(|snapshot| snapshot.complete) {
            return Ok(());
        }
        list.iter_mut().for_each(|snapshot| snapshot.complete = true);
        let old = self.set_aside()?;
        self.adopt_list(list, old)?;
        self.write_back()
    }

    /// Where the virtual machine's state is: behind the L2 tables of the disk.
    pub(super) fn vm_state_at(&self, offset: u64) -> u64 {
        let covered = self.layout.l2_entries * self.layout.cluster;
        (self.l1_entries(self.disk_size()) * covered).saturating_add(offset)
    }

    /// Guest offset behind all that the L1 table can hold.
    pub(super) fn table_end(&self) -> u64 {
        let covered = self.layout.l2_entries * self.layout.cluster;
        (self.meta().l1.len() as u64).saturating_mul(covered)
    }

    /// Changes the counts of all clusters that `l1` reaches, and makes the COPIED flags of its L2
    /// tables and of `l1` itself what the counts say. A table whose flags change moves, unless nobody
    /// will look at them. The file is up to date.
    fn change_counts(&self, l1: &mut [u64], change: Change) -> io::Result<()> {
        let file = &*self.file;
        let mut content = vec![0; self.layout.cluster as usize];
        for entry in l1 {
            let mut table = *entry & OFFSET;
            if table == 0 {
                continue;
            }
            if !table.is_multiple_of(self.layout.cluster) {
                return Err(damaged(format!("qcow2: L2 table offset {table:#x} unaligned")));
            }
            self.commit_if_crowded()?;
            let mut meta = self.meta();
            read_padded(file, table, &mut content)?;
            let mut flags_change = false;
            for words in content.chunks_exact_mut(self.layout.entry as usize) {
                flags_change |= self.change_entry(&mut meta, words, change)?;
            }
            let moves = flags_change && change != Change::Lower;
            if moves {
                let old = table >> self.layout.cluster_bits;
                table = meta.allocate(file, 1)?.host;
                file.write_at(table, &content, WriteFlags::default())?;
                // What was cached of an earlier table there.
                meta.l2.forget(table, self.layout.cluster);
                meta.note(table, self.layout.cluster, Kind::L2);
                if change != Change::Restore {
                    meta.kinds.remove(&old);
                    meta.l2.forget(*entry & OFFSET, self.layout.cluster);
                    meta.frees.push(old);
                }
            }
            // A table that moved away from a snapshot's is the active image's alone.
            let change = if moves && change == Change::Restore { Change::Keep } else { change };
            let cluster = table >> self.layout.cluster_bits;
            let count = self.change_count(&mut meta, cluster, change)?;
            *entry = table | if count == 1 { COPIED } else { 0 };
            if count == 0 {
                meta.l2.forget(table, self.layout.cluster);
                meta.kinds.remove(&cluster);
            }
        }
        Ok(())
    }

    /// Changes the counts of what an L2 entry refers to and the entry's flag; says whether the flag
    /// was another one.
    fn change_entry(&self, meta: &mut Meta, words: &mut [u8], change: Change) -> io::Result<bool> {
        let bits = self.layout.cluster_bits;
        let word = be64(words, 0);
        let entry = Entry::decode(&self.layout, word, 0);
        if let Some(packed) = entry.packed {
            for cluster in packed.offset >> bits..=(packed.offset + packed.len - 1) >> bits {
                self.change_count(meta, cluster, change)?;
            }
        }
        let Some(host) = entry.host else { return Ok(false) };
        if !host.is_multiple_of(self.layout.cluster) {
            return Err(damaged(format!("qcow2: Cluster allocation offset {host:#x} unaligned")));
        }
        let copied = self.change_count(meta, host >> bits, change)? == 1;
        if copied == entry.copied {
            return Ok(false);
        }
        words[..8].copy_from_slice(&(word ^ COPIED).to_be_bytes());
        Ok(true)
    }

    /// Changes one count; returns what it is then.
    fn change_count(&self, meta: &mut Meta, cluster: u64, change: Change) -> io::Result<u64> {
        let file = &*self.file;
        let count = meta.refcount(file, cluster)?;
        match change {
            Change::Keep => Ok(count),
            Change::Share | Change::Restore => {
                if count >= self.layout.max_refcount() {
                    let text = "the refcounts of the image are too narrow for another snapshot";
                    return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
                }
                if count == 0 {
                    return Err(damaged(format!("qcow2: cluster {cluster:#x} is used and free")));
                }
                meta.set_refcount(file, cluster, count + 1)?;
                Ok(count + 1)
            }
            Change::Lower => match count {
                // A damaged image; `check` tells. There is nothing to give back.
                0 => Ok(1),
                1 => {
                    meta.frees.push(cluster);
                    Ok(0)
                }
                _ => meta.lower_refcount(file, cluster),
            },
        }
    }
}
