//! What a victim does, step by step; the same steps tell the judge what the image may hold.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

use graph::{
    Disk, DiskOptions, Executor, Node, Op, Queue, Request, SnapshotInfo, WriteFlags, ZeroFlags,
};

use super::cases::Case;
use super::common::*;

pub const SECTOR: u64 = 512;
/// Sectors of a block that direct transfers are made of.
const BLOCK: u64 = 8;
/// A thread flushes and reports after so many steps.
pub const STEPS_PER_FLUSH: u64 = 7;
/// Most snapshots of an image.
const MOST_SNAPSHOTS: usize = 3;

/// The last step that each thread has reported as flushed.
pub type Flushed = BTreeMap<u64, u64>;

/// The name of the bitmap that notes writes.
pub const BITMAP: &str = "b";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    Write,
    Pack,
    Zero,
    Discard,
    Snapshot,
}

/// One step of one thread: what happens to `count` sectors from `first` on, with `tag`.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    pub what: What,
    pub first: u64,
    pub count: u64,
    pub tag: u64,
}

/// What happens to snapshots, given the names of those that there are.
pub enum Change {
    Take(String),
    Apply(String),
    Delete(String),
}

impl Step {
    /// The step number `index` of a thread, on a disk of `sectors` with packed units of `unit`.
    pub fn of(case: &Case, seed: u64, thread: u64, index: u64, sectors: u64, unit: u64) -> Self {
        let mut random = Random((seed << 32 | thread << 28 | index) + 1);
        random.next();
        // Each thread has a part of the disk, in whole units.
        let part = sectors / case.threads() / unit * unit;
        let start = thread * part;
        let first = random.below(part);
        let most = [1, 8, 128, 500][random.below(4) as usize];
        let count = (random.below(most) + 1).min(part - first);
        let what = match random.below(16) {
            0 | 1 => What::Zero,
            2 => What::Discard,
            3 | 4 if case.snapshots => What::Snapshot,
            5 | 6 if case.packs => What::Pack,
            _ => What::Write,
        };
        let (first, count) = match what {
            _ if !case.aio.is_empty() => (first / BLOCK * BLOCK, count.next_multiple_of(BLOCK)),
            What::Pack => (first / unit * unit, unit),
            _ => (first, count),
        };
        Self { what, first: start + first, count, tag: seed << 32 | thread << 28 | index }
    }

    /// What a [`What::Snapshot`] does.
    pub fn change(&self, names: &[String]) -> Change {
        let some = || names[self.first as usize % names.len()].clone();
        match self.count % 3 {
            _ if names.is_empty() => Change::Take(format!("s{:x}", self.tag)),
            0 => Change::Apply(some()),
            _ if names.len() >= MOST_SNAPSHOTS => Change::Delete(some()),
            _ => Change::Take(format!("s{:x}", self.tag)),
        }
    }

    fn act(&self, disk: &dyn Node, queue: Option<&Queue>) {
        let (at, len) = (self.first * SECTOR, self.count * SECTOR);
        let data = || self.tag.to_le_bytes().repeat((len / 8) as usize);
        let unmap = self.tag.is_multiple_of(2);
        match self.what {
            What::Write => match queue {
                Some(queue) => written(queue, at, data()),
                None => disk.write_at(at, &data(), WriteFlags::default()).unwrap(),
            },
            What::Zero => disk.write_zeroes(at, len, ZeroFlags { unmap, fua: false }).unwrap(),
            What::Discard => disk.discard(at, len).unwrap(),
            What::Pack => {
                let compress = disk.image().and_then(|image| image.compress()).unwrap();
                compress.write_compressed(at, &data()).unwrap();
            }
            What::Snapshot => {
                let snapshots = disk.image().and_then(|image| image.snapshots()).unwrap();
                let names: Vec<String> = snapshots.list().into_iter().map(|s| s.name).collect();
                match self.change(&names) {
                    Change::Take(name) => {
                        snapshots.create(&SnapshotInfo { name, ..SnapshotInfo::default() })
                    }
                    Change::Apply(name) => snapshots.apply(&name),
                    Change::Delete(name) => snapshots.delete(&name),
                }
                .unwrap();
            }
        }
    }
}

/// Writes as a device does, and waits for it.
fn written(queue: &Queue, offset: u64, data: Vec<u8>) {
    let (sender, receiver) = std::sync::mpsc::channel();
    let op = Op::Write(data, WriteFlags::default());
    queue.submit(Request { offset, op }, move |done| sender.send(done.result).unwrap());
    receiver.recv().unwrap().unwrap();
}

/// Sectors that are packed together; one where nothing is.
pub fn unit_of(case: &Case, disk: &dyn Node) -> u64 {
    let unit = || disk.image().and_then(|image| image.compress()).unwrap().unit() / SECTOR;
    if case.packs { unit() } else { 1 }
}

/// Loads the image until somebody kills this process.
pub fn run(case: &Case, path: &str, seed: u64) {
    if case.bitmap {
        let disk = case.open(path, true);
        let bitmaps = disk.image().and_then(|image| image.bitmaps()).unwrap();
        if bitmaps.list().iter().any(|info| info.name == BITMAP) {
            bitmaps.remove(BITMAP).unwrap();
        }
        bitmaps.add(BITMAP, 4096, true).unwrap();
    }
    let disk = case.open(path, true);
    let (sectors, unit) = (disk.size() / SECTOR, unit_of(case, &*disk));
    let queue = || {
        let disk = Disk::new(Arc::clone(&disk), DiskOptions::default());
        Queue::new(Arc::new(disk), Executor::new("io", 2))
    };
    let queue = (!case.aio.is_empty()).then(queue);
    std::thread::scope(|scope| {
        for thread in 0..case.threads() {
            let (disk, queue) = (&disk, &queue);
            scope.spawn(move || {
                for index in 1.. {
                    Step::of(case, seed, thread, index, sectors, unit).act(&**disk, queue.as_ref());
                    if index % STEPS_PER_FLUSH == 0 {
                        disk.flush().unwrap();
                        let mut out = std::io::stdout().lock();
                        // In one write: a line is there or not.
                        out.write_all(format!("{thread} {index}\n").as_bytes()).unwrap();
                    }
                }
            });
        }
    });
}
