//! Power loss between every two writes.
//!
//! The image lives in memory on a protocol with a volatile cache: of what was written since the last
//! flush, any set of sectors may be lost. The log of a workload is cut after every operation; each
//! remaining image must be without damage (leaks are allowed), and every sector must hold what was
//! flushed or something written after that.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod common;

use std::collections::BTreeMap;
use std::sync::Arc;

use common::cuts::*;
use common::power::*;
use common::*;
use formats::qcow2::{CreateOptions, Options, Qcow2, create};
use graph::{
    BitmapInfo, Bitmaps, Compress, Image, Memory, Node, Preallocation, SnapshotInfo, Snapshots,
    WriteFlags, ZeroFlags,
};

/// Runs a workload on the image and cuts its log after each operation.
fn torture(name: &str, image: Vec<u8>, backing: Option<Arc<dyn Node>>, rounds: u32, seed: u64) {
    let file = Volatile::holding(image);
    let start = file.forget_log();
    let disk = open_over(Arc::clone(&file) as Arc<dyn Node>, backing.clone());
    let mut history = History::of(&disk);
    workload(&disk, || file.logged(), &mut history, rounds, seed);
    drop(disk);
    let log = std::mem::take(&mut file.0.lock().unwrap().1);
    let mut random = Random(seed + 1);
    let mut seen = BTreeMap::new();
    for cut in 0..=log.len() {
        for what in [Survivors::None, Survivors::All, Survivors::Half, Survivors::Few] {
            let left = remains(&start, &log, cut, what, &mut random);
            let image: Arc<dyn Node> = Arc::new(Memory::new(left.clone(), true));
            let report = Qcow2::check(&*image, name).unwrap();
            assert_eq!(report.corruptions, 0, "{name} cut {cut} {what:?}: {:?}", report.findings);
            *seen.entry(report.leaks > 0).or_insert(0u32) += 1;
            let options = Options { backing: backing.clone(), ..Options::default() };
            let disk = Qcow2::open(image, name, options).unwrap();
            for (i, tag) in tags(&read_all(&disk)).into_iter().enumerate() {
                let right = history.allows(i, cut, tag);
                assert!(right, "{name} cut {cut} {what:?}: sector {i} holds {tag:#x}");
            }
            if cut % 16 == 0 {
                still_writable(name, left, backing.clone());
            }
        }
    }
    assert!(seen.len() == 2, "{name}: no cut leaked, so the cuts cannot be right: {seen:?}");
}

/// The image can be used again: leaks do no harm.
fn still_writable(name: &str, left: Vec<u8>, backing: Option<Arc<dyn Node>>) {
    let file = Volatile::holding(left);
    let disk = open_over(Arc::clone(&file) as Arc<dyn Node>, backing);
    let mut history = History::of(&disk);
    workload(&disk, || file.logged(), &mut history, 12, 99);
    drop(disk);
    let report = Qcow2::check(&*file, name).unwrap();
    assert_eq!(report.corruptions, 0, "{name}: {:?}", report.findings);
}

#[test]
fn no_cut_damages_a_new_image() {
    let base = CreateOptions::new(160 * 1024);
    let small = CreateOptions { cluster_size: 512, refcount_bits: 64, ..base.clone() };
    torture("512-byte clusters", fresh(&small), None, 90, 1);
    let usual = CreateOptions { cluster_size: 4096, ..base.clone() };
    torture("4 KiB clusters", fresh(&usual), None, 120, 2);
    let old = CreateOptions { cluster_size: 2048, version: 2, ..base.clone() };
    torture("version 2", fresh(&old), None, 100, 3);
    let sub = CreateOptions { cluster_size: 16384, extended_l2: true, ..base };
    torture("extended L2", fresh(&sub), None, 120, 4);
}

#[test]
fn no_cut_damages_an_overlay() {
    let content: Vec<u8> =
        (0..200u64).flat_map(|i| (i + 1).to_le_bytes().repeat(SECTOR / 8)).collect();
    let backing: Arc<dyn Node> = Arc::new(Memory::new(content, true));
    for (version, extended_l2, cluster_size) in
        [(3, false, 4096), (2, false, 4096), (3, true, 16384)]
    {
        let base = CreateOptions::new(160 * 1024);
        let options = CreateOptions {
            version,
            extended_l2,
            cluster_size,
            backing_file: Some("base".to_owned()),
            ..base
        };
        torture("overlay", fresh(&options), Some(Arc::clone(&backing)), 100, 5);
    }
}

#[test]
fn no_cut_damages_an_image_with_a_snapshot() {
    let folder = Folder::new("crash-snapshot");
    let path = folder.path("image.qcow2");
    must("qemu-img", &["create", "-q", "-f", "qcow2", "-o", "cluster_size=4096", &path, "160k"]);
    let disk = open(&path, false, None);
    let tagged: Vec<u8> =
        (0..200u64).flat_map(|i| (i + 1).to_le_bytes().repeat(SECTOR / 8)).collect();
    disk.write_at(0, &tagged, WriteFlags::default()).unwrap();
    drop(disk);
    must("qemu-img", &["snapshot", "-c", "one", &path]);
    torture("snapshot", std::fs::read(&path).unwrap(), None, 100, 6);
}

#[test]
fn no_cut_damages_an_image_whose_refcount_table_grows() {
    // 64 entries of 64 clusters of 512 bytes: the table is full when the file has 2 MiB.
    let base = CreateOptions::new(2 << 20);
    let image = fresh(&CreateOptions { cluster_size: 512, refcount_bits: 64, ..base });
    let file = Volatile::holding(image);
    let disk = open_over(Arc::clone(&file) as Arc<dyn Node>, None);
    let mut at = 0;
    while file.size() < (2 << 20) - 24 * 1024 {
        disk.write_at(at, &[7; 8192], WriteFlags::default()).unwrap();
        at += 8192;
    }
    disk.flush().unwrap();
    let start = file.forget_log();
    for i in 0..12 {
        disk.write_at(at + i * 4096, &[9; 4096], WriteFlags::default()).unwrap();
        if i % 5 == 4 {
            disk.flush().unwrap();
        }
    }
    drop(disk);
    let before = u64::from_be_bytes(*start[48..].first_chunk().unwrap());
    let log = std::mem::take(&mut file.0.lock().unwrap().1);
    let mut random = Random(8);
    for cut in 0..=log.len() {
        for what in [Survivors::None, Survivors::All, Survivors::Half] {
            let left = remains(&start, &log, cut, what, &mut random);
            let image: Arc<dyn Node> = Arc::new(Memory::new(left, true));
            let report = Qcow2::check(&*image, "growing").unwrap();
            assert_eq!(report.corruptions, 0, "cut {cut} {what:?}: {:?}", report.findings);
            let disk = Qcow2::open(image, "growing", Options::default()).unwrap();
            let mut old = vec![0; at as usize];
            disk.read_at(0, &mut old).unwrap();
            assert!(old.iter().all(|b| *b == 7));
        }
    }
    let after = u64::from_be_bytes(*file.forget_log()[48..].first_chunk().unwrap());
    assert_ne!(before, after, "the table should have moved");
}

#[test]
fn a_cut_while_creating_leaves_an_empty_image_or_none() {
    let file = Volatile::holding(Vec::new());
    let node: Arc<dyn Node> = Arc::clone(&file) as Arc<dyn Node>;
    create(&node, "image", &CreateOptions::new(1 << 20)).unwrap();
    let log = std::mem::take(&mut file.0.lock().unwrap().1);
    let mut random = Random(1);
    for cut in 0..=log.len() {
        for what in [Survivors::None, Survivors::All, Survivors::Half] {
            let left = remains(&[], &log, cut, what, &mut random);
            let image: Arc<dyn Node> = Arc::new(Memory::new(left, true));
            if let Ok(disk) = Qcow2::open(Arc::clone(&image), "image", Options::default()) {
                assert_eq!(Qcow2::check(&*image, "image").unwrap().corruptions, 0);
                assert!(read_all(&disk).iter().all(|b| *b == 0));
            }
        }
    }
}

#[test]
fn no_cut_while_growing_or_shrinking_damages() {
    for options in [
        CreateOptions { cluster_size: 512, ..CreateOptions::new(100 << 10) },
        CreateOptions { version: 2, cluster_size: 1024, ..CreateOptions::new(100 << 10) },
        CreateOptions { cluster_size: 16384, extended_l2: true, ..CreateOptions::new(100 << 10) },
    ] {
        let image = numbered(&options);
        let sizes = [100 << 10, 3 << 20, 50 << 10];
        cut_everywhere(
            "growing",
            image.clone(),
            |disk| disk.resize(3 << 20, Preallocation::Off).unwrap(),
            |disk| sizes.contains(&disk.size()) && numbers_up_to(disk, 200),
        );
        cut_everywhere(
            "growing with metadata",
            image.clone(),
            |disk| disk.resize(200 << 10, Preallocation::Metadata).unwrap(),
            |disk| numbers_up_to(disk, 200),
        );
        cut_everywhere(
            "shrinking",
            image,
            |disk| disk.resize(50 << 10, Preallocation::Off).unwrap(),
            |disk| sizes.contains(&disk.size()) && numbers_up_to(disk, 100),
        );
    }
}

#[test]
fn no_cut_while_snapshots_change_damages() {
    for options in [
        CreateOptions { cluster_size: 512, ..CreateOptions::new(60 << 10) },
        CreateOptions { cluster_size: 16384, extended_l2: true, ..CreateOptions::new(60 << 10) },
        CreateOptions { version: 2, cluster_size: 1024, ..CreateOptions::new(60 << 10) },
    ] {
        let info = SnapshotInfo { name: "one".to_owned(), ..SnapshotInfo::default() };
        let image = numbered(&options);
        let same = |disk: &Qcow2| numbers_up_to(disk, usize::MAX);
        cut_everywhere("taking", image.clone(), |disk| disk.create(&info).unwrap(), same);

        // With a snapshot of the numbers, zeroes in the second half, and something packed.
        let file = Volatile::holding(image);
        let disk = open_over(Arc::clone(&file) as Arc<dyn Node>, None);
        disk.create(&info).unwrap();
        disk.write_zeroes(30 << 10, 30 << 10, ZeroFlags { unmap: true, fua: false }).unwrap();
        let unit = disk.unit().min(30 << 10);
        let mut first = vec![0; unit as usize];
        disk.read_at(0, &mut first).unwrap();
        disk.write_compressed(0, &first).unwrap();
        drop(disk);
        let image = file.forget_log();
        let half = |disk: &Qcow2| numbers_up_to(disk, 60);
        cut_everywhere("deleting", image.clone(), |disk| disk.delete("one").unwrap(), half);
        let kept = |disk: &Qcow2| {
            half(disk) && {
                Snapshots::apply(disk, "one").unwrap();
                numbers_up_to(disk, usize::MAX)
            }
        };
        let apply = |disk: &Qcow2| Snapshots::apply(disk, "one").unwrap();
        cut_everywhere("applying", image.clone(), apply, kept);
        let another = SnapshotInfo { name: "two".to_owned(), ..SnapshotInfo::default() };
        cut_everywhere("taking two", image, |disk| disk.create(&another).unwrap(), kept);
    }
}

#[test]
fn no_cut_while_bitmaps_are_stored_damages_or_lies() {
    let options = CreateOptions { cluster_size: 512, ..CreateOptions::new(60 << 10) };
    let file = Volatile::holding(numbered(&options));
    let disk = open_over(Arc::clone(&file) as Arc<dyn Node>, None);
    disk.add("a", 512, true).unwrap();
    drop(disk);
    let image = file.forget_log();
    let mut sectors = vec![0; 1024];
    open_over(Volatile::holding(image.clone()), None).read_at(5120, &mut sectors).unwrap();
    cut_everywhere(
        "bitmaps",
        image,
        |disk| {
            disk.add("b", 512, true).unwrap();
            disk.write_at(5120, &sectors, WriteFlags::default()).unwrap();
            disk.flush().unwrap();
        },
        |disk| {
            // What is believed either knows of the write or is from before the opening.
            let right = |info: BitmapInfo| {
                let run = disk.next_dirty(&info.name, 0).ok().flatten();
                info.in_use || run == Some((5120, 1024)) || (run.is_none() && info.name == "a")
            };
            numbers_up_to(disk, usize::MAX) && Bitmaps::list(disk).into_iter().all(right)
        },
    );
}
