//! A bounded cache of table pieces.
//!
//! Tables are cached in slices of at most 4 KiB, so that a random access in a huge image reads
//! little and a change writes little. Clean slices are dropped second-chance; dirty slices and
//! those that a commit is writing stay. Commits are started early enough that they do not pile up.
//! A slice of zeroes, which is most of the tables of a sparse image, takes no memory of its own.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::io;

use graph::{Event, Node, is_zero};

use super::codec::read_padded;

/// Largest slice in bytes.
const SLICE: usize = 4096;

/// What a slice without bytes of its own holds.
static ZEROES: [u8; SLICE] = [0; SLICE];

#[derive(Default)]
struct Slice {
    /// Where it is in the file.
    start: u64,
    /// Empty: all of it is zero.
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
    size: usize,
    limit: usize,
    /// Places in `slots` by offset.
    index: HashMap<u64, usize>,
    slots: Vec<Slice>,
    /// Places in `slots` that hold nothing.
    vacant: Vec<usize>,
    /// The slice that was asked for last, with its place: neighbours are often asked for in a row.
    last: Option<(u64, usize)>,
    ring: VecDeque<u64>,
    /// Offsets of the slices whose `dirty` is set.
    dirty: BTreeSet<u64>,
    /// What comes from the file, before it is looked at.
    incoming: Vec<u8>,
}

impl Slices {
    /// A cache of up to `bytes` for tables of `cluster` bytes; the file hears of `load` before a read.
    pub fn new(load: Event, cluster: u64, bytes: u64) -> Self {
        let size = cluster.min(SLICE as u64) as usize;
        Self {
            load,
            size,
            limit: (bytes as usize / size).max(16),
            index: HashMap::new(),
            slots: Vec::new(),
            vacant: Vec::new(),
            last: None,
            ring: VecDeque::new(),
            dirty: BTreeSet::new(),
            incoming: vec![0; size],
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
        let (slot, within) = self.load(file, at)?;
        let bytes = &*self.slots[slot].bytes;
        Ok((if bytes.is_empty() { &ZEROES[..self.size] } else { bytes }, within))
    }

    /// The same for a change.
    pub fn get_mut(&mut self, file: &dyn Node, at: u64) -> io::Result<(&mut [u8], usize)> {
        let (slot, within) = self.load(file, at)?;
        let slice = &mut self.slots[slot];
        if !slice.dirty {
            slice.dirty = true;
            self.dirty.insert(slice.start);
        }
        if slice.bytes.is_empty() {
            slice.bytes = vec![0; self.size].into();
        }
        Ok((&mut slice.bytes, within))
    }

    /// Copies of all dirty slices in the order of their offsets, which count as clean from now on and are held until
    /// [`Slices::written`].
    pub fn take_dirty(&mut self) -> Vec<(u64, Vec<u8>)> {
        let mut taken = Vec::with_capacity(self.dirty.len());
        for at in std::mem::take(&mut self.dirty) {
            if let Some(slot) = self.index.get(&at) {
                let slice = &mut self.slots[*slot];
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
            if let Some(slot) = self.index.get(at) {
                let slice = &mut self.slots[*slot];
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
        for at in (table..table + len).step_by(self.size) {
            self.drop_slice(at);
            self.dirty.remove(&at);
        }
    }

    fn drop_slice(&mut self, at: u64) {
        if let Some(slot) = self.index.remove(&at) {
            self.slots[slot] = Slice::default();
            self.vacant.push(slot);
            self.last = None;
        }
    }

    /// The place of the slice that holds byte `at` of the file, and the position of that byte in it.
    fn load(&mut self, file: &dyn Node, at: u64) -> io::Result<(usize, usize)> {
        let within = (at % self.size as u64) as usize;
        let start = at - within as u64;
        if let Some((last, slot)) = self.last
            && last == start
        {
            return Ok((slot, within));
        }
        let slot = match self.index.get(&start) {
            Some(slot) => *slot,
            None => self.read(file, start)?,
        };
        self.slots[slot].recent = true;
        self.last = Some((start, slot));
        Ok((slot, within))
    }

    fn read(&mut self, file: &dyn Node, start: u64) -> io::Result<usize> {
        file.event(self.load);
        read_padded(file, start, &mut self.incoming)?;
        self.make_room();
        let bytes = if is_zero(&self.incoming) { &[] } else { &self.incoming[..] };
        let slice = Slice { start, bytes: bytes.into(), ..Slice::default() };
        let slot = match self.vacant.pop() {
            Some(slot) => {
                self.slots[slot] = slice;
                slot
            }
            None => {
                self.slots.push(slice);
                self.slots.len() - 1
            }
        };
        self.index.insert(start, slot);
        self.ring.push_back(start);
        Ok(slot)
    }

    fn make_room(&mut self) {
        let mut tries = 2 * self.ring.len();
        while self.index.len() >= self.limit && tries > 0 {
            tries -= 1;
            let Some(at) = self.ring.pop_front() else { return };
            let Some(slot) = self.index.get(&at) else { continue };
            let slice = &mut self.slots[*slot];
            if slice.dirty || slice.writing || slice.recent {
                slice.recent = false;
                self.ring.push_back(at);
            } else {
                self.drop_slice(at);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use graph::Memory;

    fn file(slices: usize) -> Memory {
        Memory::new((0..slices * SLICE).map(|i| (i / SLICE) as u8).collect(), false)
    }

    #[test]
    fn a_slice_of_zeroes_can_be_changed() {
        let file = file(2);
        let mut slices = Slices::new(Event::L2Load, 65536, 1 << 20);
        assert!(slices.get(&file, 8).expect("it reads").0.iter().all(|byte| *byte == 0));
        slices.get_mut(&file, 8).expect("it reads").0[8] = 7;
        let (bytes, within) = slices.get(&file, 8).expect("it is there");
        assert_eq!((bytes[within], bytes.len()), (7, SLICE));
        let taken = slices.take_dirty();
        assert_eq!((taken.len(), taken[0].0, taken[0].1[8]), (1, 0, 7));
    }

    #[test]
    fn clean_slices_make_room_and_dirty_ones_stay() {
        let file = file(200);
        let mut slices = Slices::new(Event::L2Load, 65536, 16 * SLICE as u64);
        slices.get_mut(&file, 0).expect("it reads").0[0] = 9;
        for round in 0..3 {
            for row in 1..200_u64 {
                let (bytes, at) = slices.get(&file, row * SLICE as u64 + 5).expect("it reads");
                assert_eq!((bytes[at], at), (row as u8, 5), "round {round}");
            }
        }
        assert!(slices.index.len() <= 17 && slices.slots.len() <= 18);
        assert_eq!(slices.get(&file, 0).expect("it is there").0[0], 9);
    }

    #[test]
    fn what_is_forgotten_is_read_again() {
        let file = file(3);
        let mut slices = Slices::new(Event::L2Load, 65536, 1 << 20);
        slices.get_mut(&file, SLICE as u64).expect("it reads").0[0] = 9;
        slices.forget(0, 3 * SLICE as u64);
        assert!(!slices.is_dirty());
        assert_eq!(slices.get(&file, SLICE as u64).expect("it reads").0[0], 1);
    }
}
