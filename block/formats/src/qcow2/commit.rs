//! When changes reach the file, and in which order.
//!
//! Rule 1: what an entry refers to is stable before the entry is written.
//! Rule 2: a cluster is given to somebody else only when no stable entry refers to it.
//!
//! A commit takes a consistent picture of all changed tables and writes
//!
//! 1. refcount blocks. They may go at any time: counts are raised before the first use (too high
//!    is a leak, not damage) and lowered only by step 6 of an earlier commit;
//! 2. if the refcount table has new entries: sync, then these entries (their blocks, and the
//!    counts of those blocks themselves, are now stable). If the table has moved: sync, then the
//!    header's two fields for it, which share a sector;
//! 3. sync: counts, guest data, and the initial content of new L2 tables are stable;
//! 4. L2 slices and L1 entries, in any order. If the L1 table has moved, its content went out with
//!    step 1 and now the header's two fields for it follow, which share a sector. A new L1 entry may become stable before the slices
//!    of its table: the table then is what step 3 made stable, zeroes or the copied original;
//! 5. sync, if clusters are to be freed: no stable entry refers to them any more;
//! 6. in memory: lower the counts of freed clusters, which makes them available; pass discards on.
//!    The lowered counts are written by the next commit; a crash before that leaks them.
//!
//! Guest data is written to its cluster before the entry changes in memory, so step 3 covers it.
//! Steps without work are left out: a flush after writes in place is one sync, after allocating
//! writes two. What is cut between any two writes is thus at worst a leak, and what was flushed
//! is there: `tests/crash.rs` stops between every two writes.

use std::io;

use graph::{Event, WriteFlags};

use super::Qcow2;
use super::codec::table_bytes;
use super::header;
use super::meta::Batch;

impl Qcow2 {
    /// Brings the file up to date with memory; only a following sync makes the last step stable.
    pub(super) fn commit(&self) -> io::Result<()> {
        let _one_at_a_time = super::lock(&self.committing);
        let batch = {
            let mut meta = self.meta();
            if !meta.is_dirty() {
                return Ok(());
            }
            meta.take_batch()
        };
        let written = self.write_batch(&batch);
        let unused = {
            let mut meta = self.meta();
            let unused = meta.settle(&*self.file, &batch, written.is_ok())?;
            if !unused.is_empty() {
                // Before anybody can put something else there.
                self.unpacker.clear();
            }
            unused
        };
        written?;
        self.pass_discards(&unused);
        Ok(())
    }

    fn write_batch(&self, batch: &Batch) -> io::Result<()> {
        let file = &*self.file;
        let plain = WriteFlags::default();
        for (at, bytes) in &batch.refcounts {
            file.event(Event::RefblockUpdatePart);
            file.write_at(*at, bytes, plain)?;
        }
        if let Some((offset, table)) = &batch.l1_moved {
            file.event(Event::L1GrowWriteTable);
            file.write_at(*offset, &table_bytes(table), plain)?;
        }
        if !batch.reftable.is_empty() {
            file.flush()?;
            for (index, entry) in &batch.reftable {
                let at = batch.reftable_offset + *index as u64 * 8;
                file.event(Event::RefblockAllocHookup);
                file.write_at(at, &entry.to_be_bytes(), plain)?;
            }
        }
        if let Some((offset, clusters)) = batch.reftable_moved {
            file.flush()?;
            let mut fields = offset.to_be_bytes().to_vec();
            fields.extend(clusters.to_be_bytes());
            file.event(Event::RefblockAllocSwitchTable);
            file.write_at(header::AT_REFTABLE, &fields, plain)?;
            let mut header = self.header();
            (header.reftable_offset, header.reftable_clusters) = (offset, clusters);
        }
        if !batch.l2.is_empty() || !batch.l1.is_empty() || batch.l1_moved.is_some() {
            file.flush()?;
            for (at, bytes) in &batch.l2 {
                file.event(Event::L2Update);
                file.write_at(*at, bytes, plain)?;
            }
            for (index, entry) in &batch.l1 {
                let at = batch.l1_offset + *index as u64 * 8;
                file.event(Event::L1Update);
                file.write_at(at, &entry.to_be_bytes(), plain)?;
            }
            if let Some((offset, table)) = &batch.l1_moved {
                let mut fields = (table.len() as u32).to_be_bytes().to_vec();
                fields.extend(offset.to_be_bytes());
                file.event(Event::L1GrowActivateTable);
                file.write_at(header::AT_L1, &fields, plain)?;
                let mut header = self.header();
                (header.l1_offset, header.l1_size) = (*offset, table.len() as u32);
            }
        }
        if !batch.frees.is_empty() {
            file.flush()?;
        }
        Ok(())
    }

    /// Tells the file about clusters that nobody uses, in runs. A failed discard costs only space.
    pub(super) fn pass_discards(&self, unused: &[u64]) {
        if unused.is_empty() || !self.discard {
            return;
        }
        let mut unused = unused.to_vec();
        unused.sort_unstable();
        let cluster = self.layout.cluster;
        for run in unused.chunk_by(|a, b| a + 1 == *b) {
            // Only while nobody has allocated them again: the mutex keeps allocations out.
            let mut meta = self.meta();
            let free = run.iter().all(|c| meta.refcount(&*self.file, *c).is_ok_and(|n| n == 0));
            if free {
                let _ = self.file.discard(run[0] * cluster, run.len() as u64 * cluster);
            }
        }
    }
}
