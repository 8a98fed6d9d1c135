//! Repairing what `check.rs` finds.
//!
//! Refcounts become the number of references, COPIED flags what the refcounts say. If the refcount
//! table or its blocks are damaged themselves, new ones are written behind the end of the file
//! first; sync; then the header names them. Entries that say things that exclude each other (flags
//! of compressed clusters, subclusters) say what is read of them from then on, which the peer's repair
//! leaves as it is. Other entries that cannot be right are left: nobody knows what they should be, and
//! reading them fails as it did.
//!
//! Raising counts comes before everything else, so that nothing that is used is given away; until
//! all is done, a crash leaves an image that is no worse.

use std::io;
use std::sync::Arc;

use graph::{CheckReport, Fix, Node, OpenError, WriteFlags};

use super::check::Walk;
use super::codec::table_bytes;
use super::header::{AT_REFTABLE, Header, INCOMPATIBLE_CORRUPT, INCOMPATIBLE_DIRTY, Reach};
use super::layout::{COPIED, Entry, OFFSET};
use super::meta::{Meta, put_refcount};
use super::{Options, Qcow2, snapshots};

impl Qcow2 {
    /// Checks the image in `file`, which nobody has open, and repairs what `fix` allows. What was
    /// repaired is counted as such; the rest of the report is about the image as it is then.
    ///
    /// # Errors
    /// As for opening the image; an I/O error of the file.
    pub fn check_and_repair(
        file: &Arc<dyn Node>,
        path: &str,
        fix: Fix,
    ) -> Result<CheckReport, OpenError> {
        let before = Self::check(&**file, path)?;
        let wanted = match fix {
            Fix::Nothing => false,
            Fix::Leaks => before.leaks > 0,
            Fix::All => true,
        };
        // Where tables lie beyond the file, nothing tells what is in use: what refers to the rest of the
        // image is missing, and the peer's repair gives all of that away.
        if !wanted || tables_beyond(&**file, path)? {
            return Ok(before);
        }
        if fix == Fix::All {
            rebuild_if_broken(&**file, path)?;
        } else if Walk::run(&**file, path, Reach::File)?.refcounts_broken {
            // Where counts seem to be is something else.
            return Ok(before);
        }
        let options = Options { repairing: true, ..Options::default() };
        let image = Self::open(Arc::clone(file), path, options)?;
        let failed = |e| OpenError::host(path, e);
        if fix == Fix::All {
            image.drop_damaged_bitmaps().map_err(failed)?;
        }
        image.repair(fix).map_err(failed)?;
        if fix == Fix::All {
            image.complete_snapshots().map_err(failed)?;
        }
        let mut after = Self::check(&**file, path)?;
        if fix == Fix::All && after.corruptions == 0 {
            let marks = INCOMPATIBLE_CORRUPT | INCOMPATIBLE_DIRTY;
            if image.header().incompatible & marks != 0 {
                let cleared = image.update_header(|header| header.incompatible &= !marks);
                cleared.map_err(|e| OpenError::host(path, e))?;
            }
        }
        after.corruptions_fixed = before.corruptions.saturating_sub(after.corruptions);
        after.leaks_fixed = before.leaks.saturating_sub(after.leaks);
        let gone = before.findings.iter().filter(|text| !after.findings.contains(text));
        let repaired: Vec<String> = gone.map(|text| repaired(text)).collect();
        after.findings.splice(0..0, repaired);
        Ok(after)
    }

    /// Makes refcounts what the references say: all and the COPIED flags, or only those that are
    /// too high. Until the caller clears the dirty bit, a crash in between leaves an image that is
    /// repaired again.
    pub(super) fn repair(&self, fix: Fix) -> io::Result<()> {
        let file = &*self.file;
        let walk = Walk::run(file, &self.path, Reach::File).map_err(io::Error::from)?;
        if fix == Fix::All {
            self.correct(&walk, |stored, found| stored < found)?;
        }
        self.correct(&walk, |stored, found| stored > found)?;
        let mut meta = self.meta();
        // Tables of a change that was not completed are none.
        meta.kinds.retain(|cluster, _| walk.found.get(*cluster) > 0 || *cluster == 0);
        if fix == Fix::All {
            self.repair_flags(&mut meta)?;
        }
        drop(meta);
        self.write_back()
    }

    /// Sets the refcounts for which `wrong` holds.
    fn correct(&self, walk: &Walk<'_>, wrong: impl Fn(u64, u64) -> bool) -> io::Result<()> {
        let file = &*self.file;
        let per_block = 1u64 << self.layout.block_bits;
        let mut meta = self.meta();
        let clusters = walk.found.len() as u64;
        meta.allocate_behind(clusters);
        let counted = meta.reftable.len() as u64 * per_block;
        let mut cluster = 0;
        while cluster < counted.max(clusters) {
            let found = walk.found.get(cluster);
            if cluster >= clusters && !meta.has_block(cluster) {
                cluster = (cluster / per_block + 1) * per_block;
                continue;
            }
            if wrong(meta.refcount(file, cluster)?, found) {
                meta.ensure_block(file, cluster)?;
                let most = self.layout.max_refcount();
                // The block itself may just have been put here.
                if cluster < clusters || !meta.is_table(cluster) {
                    meta.set_refcount(file, cluster, found.min(most))?;
                }
            }
            cluster += 1;
            if cluster.is_multiple_of(per_block) && meta.is_crowded() {
                drop(meta);
                self.commit()?;
                meta = self.meta();
            }
        }
        meta.allocate_behind(0);
        drop(meta);
        self.commit()?;
        file.flush()
    }

    fn repair_flags(&self, meta: &mut Meta) -> io::Result<()> {
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
                if meta.contradicts(file, guest)? {
                    meta.set_entry(file, guest, entry)?;
                }
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

/// Whether the L1 table or the table of snapshots lies beyond the file.
fn tables_beyond(file: &dyn Node, path: &str) -> Result<bool, OpenError> {
    let header = match Header::read_within(file, path, Reach::File) {
        Ok(header) => header,
        Err(_) => return Header::read_within(file, path, Reach::Beyond).map(|_| true),
    };
    let list = snapshots::read(file, &header, path, Reach::File);
    match list {
        Ok(_) => Ok(false),
        Err(_) => snapshots::read(file, &header, path, Reach::Beyond).map(|_| true),
    }
}

/// How a finding is worded that is no longer one.
fn repaired(text: &str) -> String {
    let what = text.strip_prefix("ERROR ").or_else(|| text.strip_prefix("Leaked "));
    format!("Repairing {}", what.unwrap_or(text))
}

/// Writes a new refcount table and blocks behind the file's end if the old ones are damaged
/// themselves, and makes the header name them.
fn rebuild_if_broken(file: &dyn Node, path: &str) -> Result<(), OpenError> {
    let walk = Walk::run(file, path, Reach::File)?;
    if !walk.refcounts_broken {
        return Ok(());
    }
    let failed = |e| OpenError::host(path, e);
    let layout = walk.layout;
    let used = walk.found.len() as u64;
    let per_block = 1u64 << layout.block_bits;
    let (blocks, clusters) = layout.room_for_refcounts(used, per_block);
    let first_block = (used + clusters) * layout.cluster;
    let mut table: Vec<u64> = (0..blocks).map(|i| first_block + i * layout.cluster).collect();
    table.resize((clusters * layout.cluster / 8) as usize, 0);
    let plain = WriteFlags::default();
    for block in 0..blocks {
        let mut bytes = vec![0; layout.cluster as usize];
        for within in 0..per_block {
            let cluster = block * per_block + within;
            let new = (used..used + clusters + blocks).contains(&cluster);
            let count = walk.found.get(cluster) + u64::from(new);
            let bits = within << layout.refcount_order;
            let (at, shift) = ((bits / 8) as usize, (bits % 8) as u32);
            let count = count.min(layout.max_refcount());
            put_refcount(&mut bytes, at, shift, layout.refcount_order, count);
        }
        file.write_at(first_block + block * layout.cluster, &bytes, plain).map_err(failed)?;
    }
    file.write_at(used * layout.cluster, &table_bytes(&table), plain).map_err(failed)?;
    file.flush().map_err(failed)?;
    let mut fields = (used * layout.cluster).to_be_bytes().to_vec();
    fields.extend((clusters as u32).to_be_bytes());
    file.write_at(AT_REFTABLE, &fields, plain).and_then(|()| file.flush()).map_err(failed)
}
