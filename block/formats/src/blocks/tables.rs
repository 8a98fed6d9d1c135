//! Tables of an image in memory: read page by page when needed, changed here, written in steps.
//!
//! A change stays in memory until [`Tables::take`] hands all of them to a commit, which writes
//! sectors, not pages: a page may hold guest data beside the table, and that is not ours to write.
//! Memory is bounded whatever the tables' size: clean pages are dropped when there are too many, and
//! too many changed ones call for a commit.

use std::collections::{BTreeMap, HashMap};
use std::io;

use graph::{Node, SECTOR};

use super::codec::read_padded;

const PAGE: u64 = 4096;

/// Pages kept: 8 MiB.
const MOST_PAGES: usize = 2048;

/// Changed sectors from which on a commit is due.
const CROWDED: usize = 1024;

/// When a change is written, relative to others of the same commit. Between two steps the file is
/// flushed, so that a step that is on the disk implies the ones before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    /// Before anything refers to new blocks: counters that reserve space, trailers at its end.
    /// Written together with the data of the blocks.
    Reserve,
    /// Entries that refer to data.
    Leaves,
    /// Entries that refer to tables of leaves.
    Roots,
}

/// A sector that a commit writes.
pub(crate) struct Change {
    /// When.
    pub step: Step,
    /// Offset in the file.
    pub at: u64,
    /// Content.
    pub bytes: [u8; SECTOR as usize],
}

/// Pages of tables.
#[derive(Default)]
pub(crate) struct Tables {
    pages: HashMap<u64, Box<[u8; PAGE as usize]>>,
    /// Changed sectors by number.
    dirty: BTreeMap<u64, Step>,
    /// A commit writes sectors that are no longer dirty here and not yet in the file.
    committing: bool,
}

impl Tables {
    /// Copies `buf.len()` bytes at `at` of the file.
    pub fn read(&mut self, file: &dyn Node, at: u64, buf: &mut [u8]) -> io::Result<()> {
        let mut done = 0;
        while done < buf.len() {
            let (page, within) = self.page(file, at + done as u64)?;
            let n = (buf.len() - done).min(PAGE as usize - within);
            buf[done..done + n].copy_from_slice(&page[within..within + n]);
            done += n;
        }
        Ok(())
    }

    /// The `N` bytes at `at`.
    pub fn get<const N: usize>(&mut self, file: &dyn Node, at: u64) -> io::Result<[u8; N]> {
        let mut entry = [0; N];
        self.read(file, at, &mut entry)?;
        Ok(entry)
    }

    /// Changes bytes.
    pub fn put(&mut self, file: &dyn Node, at: u64, bytes: &[u8], step: Step) -> io::Result<()> {
        let mut done = 0;
        while done < bytes.len() {
            let (page, within) = self.page(file, at + done as u64)?;
            let n = (bytes.len() - done).min(PAGE as usize - within);
            page[within..within + n].copy_from_slice(&bytes[done..done + n]);
            done += n;
        }
        if !bytes.is_empty() {
            for sector in at / SECTOR..=(at + bytes.len() as u64 - 1) / SECTOR {
                let when = self.dirty.entry(sector).or_insert(step);
                *when = (*when).max(step);
            }
        }
        Ok(())
    }

    fn page(&mut self, file: &dyn Node, at: u64) -> io::Result<(&mut [u8; PAGE as usize], usize)> {
        let number = at / PAGE;
        if !self.pages.contains_key(&number) {
            self.make_room();
            let mut page = Box::new([0; PAGE as usize]);
            read_padded(file, number * PAGE, &mut page[..])?;
            self.pages.insert(number, page);
        }
        let page = self.pages.get_mut(&number).expect("it was just looked up or inserted");
        Ok((page, (at % PAGE) as usize))
    }

    fn make_room(&mut self) {
        if self.pages.len() >= MOST_PAGES && !self.committing {
            let per_page = PAGE / SECTOR;
            let dirty = &self.dirty;
            self.pages
                .retain(|n, _| dirty.range(n * per_page..(n + 1) * per_page).next().is_some());
        }
    }

    /// Whether so much has changed that it should be written.
    pub fn is_crowded(&self) -> bool {
        self.dirty.len() >= CROWDED
    }

    /// All changes in the order of their steps. Until [`Tables::finish`], no page is dropped.
    pub fn take(&mut self) -> Vec<Change> {
        let mut changes: Vec<Change> = Vec::with_capacity(self.dirty.len());
        for (sector, step) in std::mem::take(&mut self.dirty) {
            let at = sector * SECTOR;
            let page = self.pages.get(&(at / PAGE)).expect("a changed page is kept");
            let within = (at % PAGE) as usize;
            let bytes = *page[within..].first_chunk().expect("sectors divide pages");
            changes.push(Change { step, at, bytes });
        }
        changes.sort_by_key(|change| change.step);
        self.committing = true;
        changes
    }

    /// The changes are in the file, or still to be written.
    pub fn finish(&mut self, changes: &[Change], written: bool) {
        self.committing = false;
        if !written {
            for change in changes {
                let when = self.dirty.entry(change.at / SECTOR).or_insert(change.step);
                *when = (*when).max(change.step);
            }
        }
    }
}

/// How the changes of a commit reach the file.
pub(crate) trait Store: Send {
    /// Writes `changes`, which are ordered by step. Everything written to the file before the call
    /// must be stable before the first change of [`Step::Leaves`] is.
    fn write(&mut self, file: &dyn Node, changes: &[Change]) -> io::Result<()>;
}

/// Writes in place, with a flush between two steps. What was written last is stable with the next
/// flush of the file.
pub(crate) struct InPlace;

impl Store for InPlace {
    fn write(&mut self, file: &dyn Node, changes: &[Change]) -> io::Result<()> {
        let mut step = Step::Reserve;
        for run in changes.chunk_by(|a, b| a.step == b.step && a.at + SECTOR == b.at) {
            if run[0].step != step {
                step = run[0].step;
                file.flush()?;
            }
            let bytes: Vec<u8> = run.iter().flat_map(|change| change.bytes).collect();
            super::codec::write(file, run[0].at, &bytes)?;
        }
        Ok(())
    }
}
