//! A bounded cache of table pieces.
//!
//! Tables are cached in slices of at most 4 KiB, so that a random access in a huge image reads
//! little and a change writes little. Clean slices are dropped second-chance; dirty slices and
//! those that a commit is writing stay. Commits are started early enough that they do not pile up.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::io;

use graph::{Event, Node};

use super::codec::read_padded;

/// Largest slice in bytes.
const SLICE: u64 = 4096;

#[derive(Default)]
struct Slice {
    bytes: Box<[u8]>,
    dirty: bool,
    /// A commit is writing this version or an older one.
    writing: bool,
    recent: bool,
}

/// Slices of one kind of table by their offset in the file.
pub(super) struct Slices {
    /// What the file is told before a slice is read.
    load: Event,
    size: u64,
    limit: usize,
    slices: HashMap<u64, Slice>,
    ring: VecDeque<u64>,
    /// Offsets of the slices whose `dirty` is set.
    dirty: BTreeSet<u64>,
}

impl Slices {
    /// A cache of up to `bytes` for tables of `cluster` bytes; the file hears of `load` before a read.
    pub fn new(load: Event, cluster: u64, bytes: u64) -> Self {
        let size = cluster.min(SLICE);
        let limit = (bytes / size).max(16) as usize;
        Self {
            load,
            size,
            limit,
            slices: HashMap::new(),
            ring: VecDeque::new(),
            dirty: BTreeSet::new(),
        }
    }

    /// Whether so much is dirty that a commit should run.
    pub fn is_crowded(&self) -> bool {
        self.dirty.len() > self.limit / 2
    }

    /// Whether a commit has something to write.
    pub fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// The slice that holds byte `at` of the file, and the position of that byte in it.
    pub fn get(&mut self, file: &dyn Node, at: u64) -> io::Result<(&[u8], usize)> {
        let start = self.load(file, at)?;
        let slice = self.slices.get(&start).expect("load inserted it");
        Ok((&slice.bytes, (at - start) as usize))
    }

    /// The same for a change.
    pub fn get_mut(&mut self, file: &dyn Node, at: u64) -> io::Result<(&mut [u8], usize)> {
        let start = self.load(file, at)?;
        let slice = self.slices.get_mut(&start).expect("load inserted it");
        if !slice.dirty {
            slice.dirty = true;
            self.dirty.insert(start);
        }
        Ok((&mut slice.bytes, (at - start) as usize))
    }

    /// Copies of all dirty slices in the order of their offsets, which count as clean from now on and are held until
    /// [`Slices::written`].
    pub fn take_dirty(&mut self) -> Vec<(u64, Vec<u8>)> {
        let mut taken = Vec::with_capacity(self.dirty.len());
        for at in std::mem::take(&mut self.dirty) {
            if let Some(slice) = self.slices.get_mut(&at) {
                slice.dirty = false;
                slice.writing = true;
                taken.push((at, slice.bytes.to_vec()));
            }
        }
        taken
    }

    /// Ends what [`Slices::take_dirty`] began; without success the slices are dirty again.
    pub fn written(&mut self, taken: &[(u64, Vec<u8>)], success: bool) {
        for (at, _) in taken {
            if let Some(slice) = self.slices.get_mut(at) {
                slice.writing = false;
                if !success {
                    slice.dirty = true;
                    self.dirty.insert(*at);
                }
            }
        }
    }

    /// Forgets the slices of a table that is no longer one.
    pub fn forget(&mut self, table: u64, len: u64) {
        for at in (table..table + len).step_by(self.size as usize) {
            self.slices.remove(&at);
            self.dirty.remove(&at);
        }
    }

    fn load(&mut self, file: &dyn Node, at: u64) -> io::Result<u64> {
        let start = at - at % self.size;
        if let Some(slice) = self.slices.get_mut(&start) {
            slice.recent = true;
            return Ok(start);
        }
        let mut bytes = vec![0; self.size as usize].into_boxed_slice();
        file.event(self.load);
        read_padded(file, start, &mut bytes)?;
        self.make_room();
        self.slices.insert(start, Slice { bytes, ..Slice::default() });
        self.ring.push_back(start);
        Ok(start)
    }

    fn make_room(&mut self) {
        let mut tries = 2 * self.ring.len();
        while self.slices.len() >= self.limit && tries > 0 {
            tries -= 1;
            let Some(at) = self.ring.pop_front() else { return };
            match self.slices.get_mut(&at) {
                None => {}
                Some(s) if s.dirty || s.writing || s.recent => {
                    s.recent = false;
                    self.ring.push_back(at);
                }
                Some(_) => {
                    self.slices.remove(&at);
                }
            }
        }
    }
}
