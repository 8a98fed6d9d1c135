//! Checking and repairing damaged qcow2 images, beside the installed `qemu-img`.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::*;
use formats::qcow2::Qcow2;
use graph::{CheckReport, Fix, SnapshotInfo, WriteFlags};

/// The value of a field in the peer's JSON report; absent fields are zero.
fn field(json: &str, name: &str) -> u64 {
    let key = format!("\"{name}\": ");
    let rest = json.split(&key).nth(1);
    rest.map_or(0, |rest| rest.split([',', '\n']).next().unwrap().parse().unwrap())
}

fn check(path: &str) -> CheckReport {
    Qcow2::check(&*open_file(path, true), path).unwrap()
}

fn repair(path: &str, fix: Fix) -> CheckReport {
    Qcow2::check_and_repair(&open_file(path, false), path, fix).unwrap()
}

/// Both count the same.
fn counts_agree(path: &str, what: &str) -> CheckReport {
    let ours = check(path);
    let out = tool("qemu-img", &["check", "-f", "qcow2", "--output=json", path]);
    let json = String::from_utf8_lossy(&out.stdout).into_owned();
    let theirs = |name| field(&json, name);
    let texts = String::from_utf8_lossy(&out.stderr).into_owned();
    let what = format!("{what}: {:?}\n{json}{texts}", ours.findings);
    assert_eq!(ours.corruptions, theirs("corruptions"), "{what}");
    assert_eq!(ours.leaks, theirs("leaks"), "{what}");
    assert_eq!(ours.total_clusters, theirs("total-clusters"), "{what}");
    assert_eq!(ours.allocated_clusters, theirs("allocated-clusters"), "{what}");
    assert_eq!(ours.fragmented_clusters, theirs("fragmented-clusters"), "{what}");
    assert_eq!(ours.compressed_clusters, theirs("compressed-clusters"), "{what}");
    assert_eq!(ours.image_end, theirs("image-end-offset"), "{what}");
    for finding in &ours.findings {
        assert!(texts.contains(finding.as_str()), "{finding}\n{what}");
    }
    ours
}

/// An image with data, holes, a snapshot and packed clusters.
fn sample(path: &str, options: &str) -> Vec<u8> {
    create_image("qcow2", path, &format!("size=1M,{options}"));
    let disk = open_named(path, "qcow2", false);
    let image = disk.image().unwrap();
    disk.write_at(0, &[1; 300 << 10], WriteFlags::default()).unwrap();
    disk.write_at(700 << 10, &[2; 100 << 10], WriteFlags::default()).unwrap();
    let info = SnapshotInfo { name: "s".into(), ..SnapshotInfo::default() };
    image.snapshots().unwrap().create(&info).unwrap();
    disk.write_at(64 << 10, &[3; 100 << 10], WriteFlags::default()).unwrap();
    let unit = image.compress().unwrap().unit();
    for n in 0..3 {
        let packed = vec![4; unit as usize];
        image.compress().unwrap().write_compressed((512 << 10) + n * unit, &packed).unwrap();
    }
    read_all(&*disk)
}

fn be64(bytes: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(*bytes[at..].first_chunk().unwrap())
}

#[test]
fn counts_are_those_of_the_peer() {
    let folder = Folder::new("counts");
    let path = folder.path("image.qcow2");
    for options in ["", "cluster_size=4k", "compat=0.10", "extended_l2=on", "refcount_bits=64"] {
        sample(&path, options);
        let report = counts_agree(&path, options);
        assert!(report.fragmented_clusters > 0 && report.compressed_clusters == 3, "{options}");
    }
}

#[test]
fn entries_that_say_what_excludes_itself_say_what_is_read() {
    let folder = Folder::new("contradictions");
    let path = folder.path("image.qcow2");
    let content = sample(&path, "extended_l2=on");
    let good = std::fs::read(&path).unwrap();
    let l1 = be64(&good, 40) as usize;
    let l2 = (be64(&good, l1) & 0x00ff_ffff_ffff_fe00) as usize;
    // Guest clusters of 64 KiB: data from 0 on, nothing from the fifth on, compressed from the eighth.
    let damages = [
        ("flag of a compressed cluster", l2 + 8 * 16, 0x80),
        ("subclusters of a compressed cluster", l2 + 8 * 16 + 15, 1),
        ("data without a cluster", l2 + 6 * 16 + 15, 3),
        ("data that are zero", l2 + 2 * 16 + 8, 1),
    ];
    for (what, at, bits) in damages {
        let mut bad = good.clone();
        bad[at] ^= bits;
        std::fs::write(&path, bad).unwrap();
        assert_eq!(check(&path).corruptions, 1, "{what}");
        assert_eq!(repair(&path, Fix::Leaks).corruptions, 1, "{what}");
        let after = repair(&path, Fix::All);
        assert_eq!((after.corruptions, after.corruptions_fixed), (0, 1), "{what}");
        must("qemu-img", &["check", "-q", "-f", "qcow2", &path]);
        assert!(read_all(&*open_named(&path, "qcow2", false)) == content, "{what}");
    }
}

/// What is not referred to because a table is missing is no leak.
#[test]
fn images_whose_tables_are_gone_are_told_and_stay_as_they_are() {
    let folder = Folder::new("gone");
    let path = folder.path("image.qcow2");
    sample(&path, "");
    let good = std::fs::read(&path).unwrap();
    for (what, at) in [("L1 table", 40), ("snapshots", 64)] {
        let mut bad = good.clone();
        bad[at..at + 8].copy_from_slice(&(1u64 << 30).to_be_bytes());
        std::fs::write(&path, &bad).unwrap();
        let before = check(&path);
        for fix in [Fix::Leaks, Fix::All] {
            assert_eq!(repair(&path, fix), before, "{what}");
        }
        assert!(before.corruptions > 0 && std::fs::read(&path).unwrap() == bad, "{what}");
    }
}

#[test]
fn leaks_and_damage_are_repaired_and_the_content_stays() {
    let folder = Folder::new("damage");
    let path = folder.path("image.qcow2");
    for options in ["cluster_size=4k", "", "cluster_size=4k,refcount_bits=8", "compat=0.10"] {
        let content = sample(&path, options);
        let good = std::fs::read(&path).unwrap();
        let (table, l1) = (be64(&good, 48) as usize, be64(&good, 40) as usize);
        let block = be64(&good, table) as usize;
        let l2 = (be64(&good, l1) & 0x00ff_ffff_ffff_fe00) as usize;
        let flip = |places: &[(usize, u8)]| {
            let mut bad = good.clone();
            for (at, bits) in places {
                bad[*at] ^= bits;
            }
            std::fs::write(&path, bad).unwrap();
        };
        let damages: &[(&str, &[(usize, u8)])] = &[
            ("counts", &[(block + 9, 3), (block + 21, 1), (block + 30, 0x40)]),
            ("flags", &[(l2, 0x80), (l2 + 16, 0x80), (l1, 0x80)]),
            ("both", &[(block + 11, 1), (l2 + 24, 0x80)]),
        ];
        for (name, places) in damages {
            flip(places);
            let what = format!("{options} {name}");
            let before = check(&path);
            assert!(before.corruptions + before.leaks > 0, "{what}");
            let after = repair(&path, Fix::All);
            assert_eq!((after.corruptions, after.leaks), (0, 0), "{what}: {:?}", after.findings);
            assert_eq!(after.corruptions_fixed, before.corruptions, "{what}");
            assert_eq!(after.leaks_fixed, before.leaks, "{what}");
            must("qemu-img", &["check", "-q", "-f", "qcow2", &path]);
            assert!(read_all(&*open_named(&path, "qcow2", false)) == content, "{what}");
        }
        // A count that is too high is all that is repaired if only leaks may be.
        flip(&[(block + 9, 2), (l2, 0x80), (block + 30, 0x40)]);
        let before = check(&path);
        let after = repair(&path, Fix::Leaks);
        assert_eq!((after.leaks, after.leaks_fixed), (0, before.leaks), "{options}");
        assert!(after.corruptions > 0, "{options}");
    }
}

#[test]
fn damaged_refcount_tables_are_built_anew() {
    let folder = Folder::new("rebuild");
    let path = folder.path("image.qcow2");
    for options in ["cluster_size=4k", "cluster_size=512", "", "compat=0.10"] {
        let content = sample(&path, options);
        let good = std::fs::read(&path).unwrap();
        let table = be64(&good, 48) as usize;
        for (at, bits) in [(table + 6, 0x01), (table + 3, 0x10), (table + 7, 0x40)] {
            let mut bad = good.clone();
            bad[at] ^= bits;
            std::fs::write(&path, bad).unwrap();
            assert!(check(&path).corruptions > 0, "{options}");
            let after = repair(&path, Fix::All);
            assert_eq!((after.corruptions, after.leaks), (0, 0), "{options}: {:?}", after.findings);
            must("qemu-img", &["check", "-q", "-f", "qcow2", &path]);
            let disk = open_named(&path, "qcow2", false);
            assert!(read_all(&*disk) == content, "{options}");
            disk.write_at(0, &[9; 1 << 20], WriteFlags::default()).unwrap();
            drop(disk);
            must("qemu-img", &["check", "-q", "-f", "qcow2", &path]);
        }
    }
}

#[test]
fn what_is_marked_corrupt_is_usable_after_repair() {
    let folder = Folder::new("marked");
    let path = folder.path("image.qcow2");
    let content = sample(&path, "cluster_size=4k");
    let mut bad = std::fs::read(&path).unwrap();
    bad[79] |= 3;
    std::fs::write(&path, bad).unwrap();
    let after = repair(&path, Fix::All);
    assert_eq!((after.corruptions, after.leaks), (0, 0));
    assert!(read_all(&*open_named(&path, "qcow2", false)) == content);
    assert!(must("qemu-img", &["info", &path]).contains("corrupt: false"));
}

#[test]
fn what_cannot_be_repaired_is_told_and_left() {
    let folder = Folder::new("left");
    let path = folder.path("image.qcow2");
    sample(&path, "cluster_size=4k");
    let good = std::fs::read(&path).unwrap();
    let l1 = be64(&good, 40) as usize;
    let l2 = (be64(&good, l1) & 0x00ff_ffff_ffff_fe00) as usize;
    let mut bad = good;
    bad[l2 + 6] |= 1;
    bad[l2 + 10] |= 1;
    std::fs::write(&path, bad).unwrap();
    let before = counts_agree(&path, "entries");
    let after = repair(&path, Fix::All);
    assert_eq!((after.corruptions, after.leaks), (before.corruptions, 0), "{after:?}");
    assert_eq!(after.leaks_fixed, before.leaks, "{after:?}");
    counts_agree(&path, "entries after repair");
}
