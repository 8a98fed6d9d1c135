//! Changing the length of the disk.
//!
//! Growing: a larger L1 table in a commit; then zeroes where old content or the backing file would
//! show; sync; then the length in the header. Shrinking: entries behind the new end go in a commit,
//! which frees their clusters; then the length; then the file is cut behind its last used cluster.
//! A crash in between leaves the old length.

use std::io;
use std::sync::atomic::Ordering;

use graph::{
    Amend, Bitmaps, Compact, Compress, Image, Overlay, Preallocation, SECTOR, Sharing, Snapshots,
    ZeroFlags,
};

use super::Qcow2;
use super::layout::Entry;
use super::meta::Meta;

impl Image for Qcow2 {
    fn resize(&self, size: u64, preallocation: Preallocation) -> io::Result<()> {
        self.writable(0, 0)?;
        let _one_at_a_time = super::lock(&self.changing);
        let old = self.disk_size();
        self.may_resize(size)?;
        let done = match size >= old {
            true => self.grow(old, size, preallocation),
            false if preallocation != Preallocation::Off => {
                let text = "Preallocation can't be used for shrinking an image";
                return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
            }
            false => self.shrink(old, size),
        };
        done.inspect_err(|_| self.size.store(self.header().size, Ordering::Release))?;
        self.resize_bitmaps();
        Ok(())
    }

    fn compress(&self) -> Option<&dyn Compress> {
        Some(self)
    }

    fn bitmaps(&self) -> Option<&dyn Bitmaps> {
        if self.layout.zero_flag { Some(self) } else { None }
    }

    fn amend(&self) -> Option<&dyn Amend> {
        Some(self)
    }

    fn compact(&self) -> Option<&dyn Compact> {
        if self.layout.external { None } else { Some(self) }
    }

    fn overlay(&self) -> Option<&dyn Overlay> {
        Some(self)
    }

    fn snapshots(&self) -> Option<&dyn Snapshots> {
        if self.layout.external { None } else { Some(self) }
    }
}

impl Qcow2 {
    fn may_resize(&self, size: u64) -> io::Result<()> {
        let refuse = |text: &str| Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        if !size.is_multiple_of(SECTOR) {
            return refuse("The new size must be a multiple of 512");
        }
        if size > i64::MAX as u64 {
            return refuse("The new size is too large");
        }
        let header = self.header();
        if header.version < 3 && header.snapshots > 0 {
            return refuse("Can't resize a v2 image which has snapshots");
        }
        Ok(())
    }

    /// Entries that the L1 table of a disk needs.
    pub(super) fn l1_entries(&self, size: u64) -> u64 {
        size.div_ceil(self.layout.cluster).div_ceil(self.layout.l2_entries)
    }

    fn grow(&self, old: u64, size: u64, preallocation: Preallocation) -> io::Result<()> {
        let cluster = self.layout.cluster;
        {
            // The state of a virtual machine behind the disk would become part of it.
            let _all = self.ranges.lock(0, u64::MAX, Sharing::Exclusive);
            let covered = self.layout.l2_entries * cluster;
            self.unmap_held(self.l1_entries(old) * covered, self.table_end())?;
        }
        self.meta().grow_l1(&*self.file, self.l1_entries(size))?;
        self.size.store(size, Ordering::Release);
        // What an earlier, longer disk left in the last cluster.
        self.write_zero_bytes(old, old.next_multiple_of(cluster).min(size))?;
        let behind = self.backing.as_ref().map_or(0, |backing| backing.size()).min(size);
        let zero = behind > old;
        if zero {
            let flags = ZeroFlags { unmap: true, fua: false };
            self.zero_range(old, behind.next_multiple_of(cluster).min(size) - old, flags)?;
        }
        if self.layout.external && self.data.size() < size {
            self.data.truncate(size)?;
        }
        if preallocation != Preallocation::Off || self.raw_data() {
            self.preallocate_range(old.next_multiple_of(cluster), size, preallocation, zero)?;
        }
        self.write_back()?;
        self.update_header(|header| header.size = size)
    }

    fn shrink(&self, old: u64, size: u64) -> io::Result<()> {
        let cluster = self.layout.cluster;
        {
            let _all = self.ranges.lock(0, u64::MAX, Sharing::Exclusive);
            self.size.store(size, Ordering::Release);
            self.unmap_held(size.next_multiple_of(cluster), old.next_multiple_of(cluster))?;
        }
        self.write_back()?;
        self.update_header(|header| header.size = size)?;
        if self.layout.external {
            return self.data.truncate(size);
        }
        self.cut_file()
    }

    /// Brings the file up to date, counts of freed clusters included; stable on return.
    pub(super) fn write_back(&self) -> io::Result<()> {
        // Lowered counts of the first commit are written by the second.
        while self.meta().is_dirty() {
            self.commit()?;
        }
        if self.layout.external {
            self.data.flush()?;
        }
        self.file.flush()
    }

    /// Forgets whole guest clusters, and L2 tables in which nothing is left. Behind `to` nothing is
    /// mapped. The caller holds the range.
    pub(super) fn unmap_held(&self, from: u64, to: u64) -> io::Result<()> {
        let covered = self.layout.l2_entries * self.layout.cluster;
        let mut at = from;
        while at < to {
            let start = at - at % covered;
            let stop = start.saturating_add(covered).min(to);
            self.commit_if_crowded()?;
            let mut meta = self.meta();
            if meta.has_l2(at) {
                self.unmap_in_table(&mut meta, at, stop, at == start)?;
            }
            at = stop;
        }
        Ok(())
    }

    pub(super) fn unmap_in_table(
        &self,
        meta: &mut Meta,
        from: u64,
        to: u64,
        whole: bool,
    ) -> io::Result<()> {
        let layout = self.layout;
        let file = &*self.file;
        if !whole {
            meta.own_l2(file, from)?;
        }
        for guest in (from..to).step_by(layout.cluster as usize) {
            let entry = meta.entry(file, guest)?;
            if entry != Entry::default() {
                meta.free_entry(&entry);
                if !whole {
                    meta.set_entry(file, guest, Entry::default())?;
                }
            }
        }
        if whole {
            meta.drop_l2(layout.l1_index(from) as usize);
        }
        Ok(())
    }

    /// Cuts the file behind its last used cluster.
    pub(super) fn cut_file(&self) -> io::Result<()> {
        let cluster = self.layout.cluster;
        let mut meta = self.meta();
        let mut end = self.file.size().div_ceil(cluster);
        while end > 0 && meta.refcount(&*self.file, end - 1)? == 0 {
            end -= 1;
        }
        if end * cluster < self.file.size() {
            self.file.truncate(end * cluster)?;
            meta.ends_at(end * cluster);
        }
        Ok(())
    }
}
