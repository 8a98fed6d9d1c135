//! What lies where in a program's address space: regions by their first address, and where the
//! next one goes.

use std::collections::BTreeMap;
use std::ops::Range;

/// What a region is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// Whatever the program wanted.
    #[default]
    Other,
    /// The heap of `brk`.
    Heap,
    /// The first thread's stack.
    Stack,
    /// The code that the system offers to programs.
    Vdso,
}

impl Kind {
    /// Name in `/proc/self/maps`.
    pub fn name(self) -> Option<&'static str> {
        match self {
            Self::Other => None,
            Self::Heap => Some("[heap]"),
            Self::Stack => Some("[stack]"),
            Self::Vdso => Some("[vdso]"),
        }
    }
}

/// Pages of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// Rights of the guest, as in `mmap`.
    pub rights: u32,
    /// Whether others see what is written.
    pub shared: bool,
    /// What it is for.
    pub kind: Kind,
}

/// The regions of an address space.
#[derive(Debug)]
pub struct Map {
    regions: BTreeMap<u64, (u64, Region)>,
    lowest: u64,
    /// Places are given out below this address.
    top: u64,
    /// Where the search for the next place begins, downwards.
    cursor: u64,
    /// First address and end of the heap.
    pub heap: (u64, u64),
    /// Attached segments of shared memory and their lengths.
    pub attached: BTreeMap<u64, u64>,
}

impl Map {
    /// A map without regions of the addresses from `lowest` to `limit`.
    pub fn new(lowest: u64, limit: u64) -> Self {
        Self {
            regions: BTreeMap::new(),
            lowest,
            top: limit,
            cursor: limit,
            heap: (0, 0),
            attached: BTreeMap::new(),
        }
    }

    /// Gives out places below `top` from now on.
    pub fn set_top(&mut self, top: u64) {
        (self.top, self.cursor) = (top, top);
    }

    /// The region that holds an address, and its range.
    pub fn at(&self, address: u64) -> Option<(Range<u64>, &Region)> {
        let (start, (end, region)) = self.regions.range(..=address).next_back()?;
        (address < *end).then_some((*start..*end, region))
    }

    /// Whether nothing lies in the range.
    pub fn is_free(&self, range: &Range<u64>) -> bool {
        let before = self.regions.range(..range.end).next_back();
        range.is_empty() || before.is_none_or(|(_, (end, _))| *end <= range.start)
    }

    /// What lies in the range, cut to it.
    pub fn parts(&self, range: &Range<u64>) -> Vec<(Range<u64>, Region)> {
        let first = self.at(range.start).map_or(range.start, |(found, _)| found.start);
        let cut = |(start, (end, region)): (&u64, &(u64, Region))| {
            ((*start).max(range.start)..(*end).min(range.end), region.clone())
        };
        self.regions.range(first..range.end.max(first)).map(cut).collect()
    }

    /// Every region.
    pub fn all(&self) -> impl Iterator<Item = (Range<u64>, &Region)> {
        self.regions.iter().map(|(start, (end, region))| (*start..*end, region))
    }

    /// Takes out whatever lies in the range.
    pub fn remove(&mut self, range: Range<u64>) {
        for (part, region) in self.parts(&range) {
            let (whole, _) = self.at(part.start).expect("the part comes from a region");
            self.regions.remove(&whole.start);
            if whole.start < part.start {
                self.regions.insert(whole.start, (part.start, region.clone()));
            }
            if part.end < whole.end {
                self.regions.insert(part.end, (whole.end, region));
            }
        }
        if range.end > self.cursor && range.end <= self.top {
            self.cursor = range.end;
        }
    }

    /// Puts a region into the range, in place of what lies there.
    pub fn insert(&mut self, range: Range<u64>, region: Region) {
        if range.is_empty() {
            return;
        }
        let cursor = self.cursor;
        self.remove(range.clone());
        self.cursor = cursor;
        let Range { mut start, mut end } = range;
        if let Some((before, same)) = self.at(start.wrapping_sub(1))
            && before.end == start
            && *same == region
        {
            start = before.start;
        }
        if let Some((after, same)) = self.at(end)
            && *same == region
        {
            end = after.end;
            self.regions.remove(&after.start);
        }
        self.regions.insert(start, (end, region));
    }

    /// A free place of `len` bytes: at `wish` if it can be, else somewhere below the top.
    pub fn place(&mut self, wish: u64, len: u64, align: u64) -> Option<Range<u64>> {
        if wish >= self.lowest && wish.is_multiple_of(align) {
            let range = wish..wish.checked_add(len)?;
            if range.end <= self.top && self.is_free(&range) {
                return Some(range);
            }
        }
        let found = self.below(self.cursor, len, align);
        let start = found.or_else(|| self.below(self.top, len, align))?;
        self.cursor = start;
        Some(start..start + len)
    }

    /// The highest free place that ends at or below `end`.
    fn below(&self, mut end: u64, len: u64, align: u64) -> Option<u64> {
        let mut regions = self.regions.range(..end).rev();
        loop {
            let next = regions.next();
            let floor = next.map_or(self.lowest, |(_, (above, _))| (*above).max(self.lowest));
            let start = end.checked_sub(len).map(|start| start & !(align - 1));
            if let Some(start) = start.filter(|start| *start >= floor) {
                return Some(start);
            }
            end = *next?.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Region = Region { rights: 3, shared: false, kind: Kind::Other };
    const OTHER: Region = Region { rights: 1, shared: false, kind: Kind::Other };

    fn shape(map: &Map) -> Vec<(u64, u64, u32)> {
        map.all().map(|(range, region)| (range.start, range.end, region.rights)).collect()
    }

    #[test]
    fn neighbours_of_one_kind_are_one_region() {
        let mut map = Map::new(0x1000, 0x10_0000);
        map.insert(0x2000..0x3000, PLAIN);
        map.insert(0x4000..0x5000, PLAIN);
        map.insert(0x3000..0x4000, PLAIN);
        assert_eq!(shape(&map), [(0x2000, 0x5000, 3)]);
    }

    #[test]
    fn a_hole_and_another_kind_split_a_region() {
        let mut map = Map::new(0x1000, 0x10_0000);
        map.insert(0x2000..0x9000, PLAIN);
        map.insert(0x3000..0x4000, OTHER);
        map.remove(0x5000..0x6000);
        let parts =
            [(0x2000, 0x3000, 3), (0x3000, 0x4000, 1), (0x4000, 0x5000, 3), (0x6000, 0x9000, 3)];
        assert_eq!(shape(&map), parts);
        assert!(map.is_free(&(0x5000..0x6000)) && !map.is_free(&(0x4fff..0x6000)));
        assert!(!map.is_free(&(0x5000..0x6001)) && map.is_free(&(0..0x2000)));
        let cut: Vec<_> = map.parts(&(0x3800..0x6800)).into_iter().map(|(r, _)| r).collect();
        assert_eq!(cut, [0x3800..0x4000, 0x4000..0x5000, 0x6000..0x6800]);
    }

    #[test]
    fn places_are_found_downwards_and_in_holes() {
        let mut map = Map::new(0x1000, 0x6000);
        let mut take = |wish, len| {
            let range = map.place(wish, len, 0x1000)?;
            map.insert(range.clone(), PLAIN);
            Some(range.start)
        };
        assert_eq!(take(0, 0x1000), Some(0x5000));
        assert_eq!(take(0x2000, 0x1000), Some(0x2000));
        assert_eq!(take(0x2000, 0x2000), Some(0x3000));
        assert_eq!(take(0, 0x2000), None);
        map.remove(0x5000..0x6000);
        assert_eq!(map.place(0, 0x1000, 0x1000), Some(0x5000..0x6000));
    }

    #[test]
    fn alignment_is_kept() {
        let mut map = Map::new(0x1000, 0x10_0000);
        assert_eq!(map.place(0, 0x3000, 0x8000), Some(0xf_8000..0xf_b000));
    }
}
