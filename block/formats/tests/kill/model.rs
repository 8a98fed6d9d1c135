//! What an image may hold after a kill.

use std::collections::BTreeMap;

use graph::Node;

use super::cases::Case;
use super::common::*;
use super::load::{BITMAP, Change, Flushed, SECTOR, STEPS_PER_FLUSH, Step, What, unit_of};

/// The values that each sector may have.
type Sectors = Vec<Vec<u64>>;

pub struct Model {
    sectors: Sectors,
    /// What the sectors held when it was last known.
    before: Vec<u64>,
    /// Every snapshot that may be there.
    snapshots: BTreeMap<String, Sectors>,
    /// The lists of snapshots that there may be: the last one is the newest.
    lists: Vec<Vec<String>>,
    /// Sectors that are packed together.
    unit: u64,
}

/// The tag of every sector of `disk`: each has been written as a whole.
fn tags(disk: &dyn Node) -> Vec<u64> {
    let bytes = read_all(disk);
    let tag = |(sector, bytes): (usize, &[u8])| {
        let value = u64::from_le_bytes(*bytes.first_chunk().unwrap());
        assert!(bytes.chunks(8).all(|c| c == value.to_le_bytes()), "sector {sector} is torn");
        value
    };
    bytes.chunks(SECTOR as usize).enumerate().map(tag).collect()
}

fn may(values: &mut Vec<u64>, value: u64) {
    if !values.contains(&value) {
        values.push(value);
    }
}

impl Model {
    pub fn of(case: &Case, disk: &dyn Node) -> Self {
        let before = tags(disk);
        Self {
            sectors: before.iter().map(|tag| vec![*tag]).collect(),
            before,
            snapshots: BTreeMap::new(),
            lists: vec![Vec::new()],
            unit: unit_of(case, disk),
        }
    }

    /// The content of the disk as it was last seen.
    pub fn bytes(&self) -> Vec<u8> {
        self.before.iter().flat_map(|tag| tag.to_le_bytes().repeat(64)).collect()
    }

    /// Takes in what a victim has flushed, and what it may have done after that.
    pub fn account(&mut self, case: &Case, seed: u64, flushed: &Flushed) {
        let sectors = self.sectors.len() as u64;
        for thread in 0..case.threads() {
            let last = flushed.get(&thread).copied().unwrap_or(0);
            // It reports each flush before its next step.
            for index in 1..=last + STEPS_PER_FLUSH {
                let step = Step::of(case, seed, thread, index, sectors, self.unit);
                self.step(&step, index <= last);
            }
        }
    }

    fn step(&mut self, step: &Step, certain: bool) {
        let range = step.first as usize..(step.first + step.count) as usize;
        let value = if matches!(step.what, What::Zero | What::Discard) { 0 } else { step.tag };
        match step.what {
            What::Snapshot => self.change(step, certain),
            What::Discard => self.sectors[range].iter_mut().for_each(|values| may(values, 0)),
            _ if certain => self.sectors[range].fill(vec![value]),
            _ => self.sectors[range].iter_mut().for_each(|values| may(values, value)),
        }
    }

    fn change(&mut self, step: &Step, certain: bool) {
        let mut list = self.lists.last().unwrap().clone();
        match step.change(&list) {
            Change::Take(name) => {
                self.snapshots.insert(name.clone(), self.sectors.clone());
                list.push(name);
            }
            Change::Apply(name) if certain => self.sectors = self.snapshots[&name].clone(),
            Change::Apply(name) => {
                for (values, more) in self.sectors.iter_mut().zip(&self.snapshots[&name]) {
                    more.iter().for_each(|value| may(values, *value));
                }
            }
            Change::Delete(name) => list.retain(|other| *other != name),
        }
        if certain {
            self.lists.clear();
        }
        self.lists.push(list);
    }

    /// The disk holds what it may; from now on, what it does hold.
    pub fn settle(&mut self, case: &Case, disk: &dyn Node, what: &str) {
        let now = tags(disk);
        settle(&mut self.sectors, &now, what);
        if case.bitmap {
            self.judge_bitmap(disk, &now, what);
        }
        self.before = now;
        if !case.snapshots {
            return;
        }
        let snapshots = disk.image().and_then(|image| image.snapshots()).unwrap();
        let list: Vec<String> = snapshots.list().into_iter().map(|s| s.name).collect();
        assert!(self.lists.contains(&list), "{what}: {list:?}, not one of {:?}", self.lists);
        self.snapshots.retain(|name, _| list.contains(name));
        for name in &list {
            let held = tags(&*snapshots.open(name).unwrap());
            let sectors = self.snapshots.get_mut(name).unwrap();
            settle(sectors, &held, &format!("{what}, snapshot {name}"));
        }
        self.lists = vec![list];
    }

    /// A bitmap that is believed knows what has changed.
    fn judge_bitmap(&self, disk: &dyn Node, now: &[u64], what: &str) {
        let bitmaps = disk.image().and_then(|image| image.bitmaps()).unwrap();
        if !bitmaps.list().iter().any(|info| info.name == BITMAP && !info.in_use) {
            return;
        }
        for (sector, (old, new)) in self.before.iter().zip(now).enumerate() {
            let at = sector as u64 * SECTOR;
            let run = || bitmaps.next_dirty(BITMAP, at).unwrap();
            let noted = old == new || run().is_some_and(|(start, _)| start <= at);
            assert!(noted, "{what}: the bitmap does not know that sector {sector} has changed");
        }
    }
}

fn settle(sectors: &mut Sectors, now: &[u64], what: &str) {
    for (sector, (values, value)) in sectors.iter_mut().zip(now).enumerate() {
        let shown = || values.iter().map(|value| format!("{value:#x} ")).collect::<String>();
        assert!(values.contains(value), "{what}: sector {sector} holds {value:#x}: {}", shown());
        *values = vec![*value];
    }
}
