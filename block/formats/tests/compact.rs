//! Images made as short as their content, and cut off while that is done.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod common;

use std::sync::Arc;

use common::cuts::*;
use common::power::*;
use formats::qcow2::{CreateOptions, Qcow2};
use graph::{
    Compact, Compress, Image, Memory, Node, Preallocation, SnapshotInfo, Snapshots, WriteFlags,
    ZeroFlags,
};

const UNMAP: ZeroFlags = ZeroFlags { unmap: true, fua: false };

/// Images of 100 KiB in which sectors up to 100 are zeroes and the others hold their numbers, with
/// what is free in front of what is used.
fn with_holes() -> Vec<(&'static str, Vec<u8>)> {
    let base = CreateOptions::new(100 << 10);
    let kinds = [
        ("512-byte clusters", CreateOptions { cluster_size: 512, ..base.clone() }),
        ("many blocks", CreateOptions { cluster_size: 512, refcount_bits: 64, ..base.clone() }),
        ("version 2", CreateOptions { version: 2, cluster_size: 1024, ..base.clone() }),
        ("extended L2", CreateOptions { cluster_size: 16384, extended_l2: true, ..base }),
    ];
    let holed = |options: &CreateOptions| {
        let file = Volatile::holding(numbered(options));
        let disk = open_over(Arc::clone(&file) as Arc<dyn Node>, None);
        // Something packed behind everything, and the front free.
        let unit = disk.unit();
        let at = (60 << 10) / unit * unit;
        let mut bytes = vec![0; unit as usize];
        disk.read_at(at, &mut bytes).unwrap();
        disk.write_compressed(at, &bytes).unwrap();
        disk.write_zeroes(0, 50 << 10, UNMAP).unwrap();
        drop(disk);
        file.forget_log()
    };
    kinds.map(|(name, options)| (name, holed(&options))).into()
}

/// The content of [`with_holes`].
fn second_half(disk: &Qcow2) -> bool {
    let mut bytes = vec![0; 100 << 10];
    disk.read_at(0, &mut bytes).unwrap();
    tags(&bytes).iter().enumerate().all(|(i, tag)| *tag == if i < 100 { 0 } else { i as u64 + 1 })
}

fn compact(disk: &Qcow2) {
    Compact::compact(disk, &mut |_, _| ()).unwrap();
}

#[test]
fn no_cut_while_compacting_damages() {
    for (name, image) in with_holes() {
        cut_everywhere(name, image, compact, second_half);
    }
}

#[test]
fn no_cut_while_compacting_damages_a_snapshot_or_an_overlay() {
    let (name, image) = with_holes().remove(0);
    let file = Volatile::holding(image);
    let disk = open_over(Arc::clone(&file) as Arc<dyn Node>, None);
    disk.create(&SnapshotInfo { name: "one".to_owned(), ..SnapshotInfo::default() }).unwrap();
    let mut bytes = vec![0; 20 << 10];
    disk.read_at(60 << 10, &mut bytes).unwrap();
    disk.write_at(60 << 10, &bytes, WriteFlags::default()).unwrap();
    drop(disk);
    let kept = |disk: &Qcow2| {
        second_half(disk) && {
            Snapshots::apply(disk, "one").unwrap();
            second_half(disk)
        }
    };
    cut_everywhere(name, file.forget_log(), compact, kept);
    let backing: Arc<dyn Node> = Arc::new(Memory::new(vec![0xff; 100 << 10], true));
    let image = with_holes().remove(0).1;
    cut_over("overlay", image, Some(backing), compact, second_half);
}

#[test]
fn the_file_is_as_short_as_its_content() {
    for (name, image) in with_holes() {
        let before = image.len();
        let file = Volatile::holding(image);
        let disk = open_over(Arc::clone(&file) as Arc<dyn Node>, None);
        compact(&disk);
        let once = file.size();
        assert!(second_half(&disk), "{name}");
        drop(disk);
        let report = Qcow2::check(&*file, name).unwrap();
        assert_eq!((report.corruptions, report.leaks), (0, 0), "{name}: {:?}", report.findings);
        assert_eq!(report.image_end, once, "{name}: nothing is behind the last cluster");
        assert!(once < before as u64, "{name}: {before} bytes became {once}");
        let disk = open_over(Arc::clone(&file) as Arc<dyn Node>, None);
        compact(&disk);
        assert_eq!(file.size(), once, "{name}: there is nothing more to gain");
    }
}

#[test]
fn a_preallocated_image_that_was_emptied_becomes_small() {
    let options = CreateOptions { cluster_size: 4096, ..CreateOptions::new(1 << 20) };
    let file = Volatile::holding(fresh(&options));
    let disk = open_over(Arc::clone(&file) as Arc<dyn Node>, None);
    disk.resize(64 << 20, Preallocation::Metadata).unwrap();
    let before = file.size();
    disk.write_at(50 << 20, &[7; 4096], WriteFlags::default()).unwrap();
    disk.write_zeroes(0, 50 << 20, UNMAP).unwrap();
    disk.write_zeroes((50 << 20) + 4096, (14 << 20) - 4096, UNMAP).unwrap();
    compact(&disk);
    let mut bytes = vec![0; 4096];
    disk.read_at(50 << 20, &mut bytes).unwrap();
    assert!(bytes.iter().all(|byte| *byte == 7));
    assert!(before > 60 << 20 && file.size() <= 10 * 4096, "{} bytes are left", file.size());
    drop(disk);
    let report = Qcow2::check(&*file, "image").unwrap();
    assert_eq!((report.corruptions, report.leaks), (0, 0), "{:?}", report.findings);
}
