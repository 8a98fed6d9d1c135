//! Giving guest clusters places before they are written.
//!
//! The order is that of a write: counts, then the entries. Nothing refers to a place before it reads
//! as zeroes.

use std::io;

use graph::{Preallocation, Sharing, ZeroFlags};

use super::Qcow2;
use super::layout::Entry;
use super::meta::{Meta, Run};

impl Qcow2 {
    /// Reserves space in an image that was just made.
    pub(super) fn fill_new(&self, how: Preallocation) -> io::Result<()> {
        let size = self.disk_size();
        if self.layout.external {
            self.data.truncate(size)?;
        }
        if how != Preallocation::Off {
            self.preallocate_range(0, size, how, false)?;
        }
        self.write_back()
    }

    /// Gives places to all clusters of a range that have none. With `zero` they read as zeroes even
    /// if there is a backing file.
    pub(super) fn preallocate_range(
        &self,
        from: u64,
        to: u64,
        how: Preallocation,
        zero: bool,
    ) -> io::Result<()> {
        // What is not written decrypts to rubbish.
        let zero = zero || self.crypt.is_some();
        if zero && !self.layout.zero_flag {
            let text = "preallocation of encrypted images or overlays needs compat=1.1";
            return Err(io::Error::new(io::ErrorKind::Unsupported, text));
        }
        let cluster = self.layout.cluster;
        let covered = self.layout.l2_entries * cluster;
        let (mut at, to) = (from - from % cluster, to.next_multiple_of(cluster));
        let mut end_of_file = 0;
        while at < to {
            self.commit_if_crowded()?;
            let stop = (at - at % covered).saturating_add(covered).min(to);
            let _range = self.hold(at, stop, Sharing::Exclusive);
            let mut meta = self.meta();
            let (run, taken) = self.preallocate_run(&mut meta, at, stop, how, zero)?;
            if let Some(run) = run {
                end_of_file = end_of_file.max(run.host + run.clusters * cluster);
            }
            at += taken * cluster;
        }
        if self.data.size() < end_of_file { self.data.truncate(end_of_file) } else { Ok(()) }
    }

    /// Does so for the first clusters, inside one L2 table; returns how many.
    fn preallocate_run(
        &self,
        meta: &mut Meta,
        from: u64,
        to: u64,
        how: Preallocation,
        zero: bool,
    ) -> io::Result<(Option<Run>, u64)> {
        let layout = self.layout;
        let file = &*self.file;
        let mut old = Vec::new();
        for guest in (from..to).step_by(layout.cluster as usize) {
            let entry = self.entry_of(meta, guest)?;
            if entry.host.is_some() || entry.packed.is_some() {
                break;
            }
            old.push(entry);
        }
        if old.is_empty() {
            return Ok((None, 1));
        }
        meta.own_l2(file, from)?;
        let run = match layout.external {
            true => Run { host: from, clusters: old.len() as u64, fresh: false },
            false => meta.allocate(file, old.len() as u64)?,
        };
        let len = run.clusters * layout.cluster;
        let behind_end = run.host >= self.data.size();
        if !behind_end {
            self.data.write_zeroes(run.host, len, ZeroFlags { unmap: true, fua: false })?;
        }
        self.data.preallocate(run.host, len, how)?;
        for (i, old) in old.iter().take(run.clusters as usize).enumerate() {
            let skip = i as u64 * layout.cluster;
            let zeroed = if layout.subs > 1 { old.zero } else { 0 };
            let entry = Entry {
                host: Some(run.host + skip),
                copied: true,
                packed: None,
                data: if layout.subs > 1 || zero { 0 } else { 1 },
                zero: if zero { layout.all_subs() } else { zeroed },
            };
            meta.set_entry(file, from + skip, entry)?;
        }
        Ok((Some(run), run.clusters))
    }
}
