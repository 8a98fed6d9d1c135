//! Internal snapshots, in turns with the installed `qemu-img`.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;

use common::*;
use graph::{Node, Preallocation, SnapshotInfo, WriteFlags, ZeroFlags};

fn named(name: &str) -> SnapshotInfo {
    SnapshotInfo { name: name.to_owned(), ..SnapshotInfo::default() }
}

fn scribble(disk: &dyn Node, model: &mut [u8], random: &mut Random) {
    for _ in 0..12 {
        let at = random.below(model.len() as u64);
        let len = (random.below(150_000) + 1).min(model.len() as u64 - at);
        let byte = random.next() as u8;
        let range = at as usize..(at + len) as usize;
        if byte.is_multiple_of(5) {
            disk.write_zeroes(at, len, ZeroFlags { unmap: true, fua: false }).unwrap();
            model[range].fill(0);
        } else {
            disk.write_at(at, &vec![byte; len as usize], WriteFlags::default()).unwrap();
            model[range].fill(byte);
        }
    }
}

fn peer_agrees(folder: &Folder, path: &str, model: &[u8], what: &str) {
    let out = tool("qemu-img", &["check", "-f", "qcow2", path]);
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(out.status.success(), "{what}: {text}{}", String::from_utf8_lossy(&out.stderr));
    assert_clean(path);
    let raw = folder.path("model.raw");
    std::fs::write(&raw, model).unwrap();
    must("qemu-img", &["compare", "-f", "qcow2", "-F", "raw", path, &raw]);
}

#[test]
fn snapshots_are_taken_applied_and_deleted_in_turns_with_the_peer() {
    let folder = Folder::new("turns");
    for (i, options) in [
        "",
        "compat=0.10",
        "cluster_size=512",
        "extended_l2=on",
        "refcount_bits=4,cluster_size=4k",
        "lazy_refcounts=on,cluster_size=2M",
    ]
    .iter()
    .enumerate()
    {
        let path = folder.path(&format!("{i}.qcow2"));
        create_image("qcow2", &path, &format!("size=1500k,{options}"));
        let mut random = Random(i as u64 + 5);
        let mut model = vec![0; 1500 << 10];
        let mut kept: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        for step in 0..22u32 {
            let what = format!("{options} step {step}");
            let ours = random.below(2) == 0;
            let some = (!kept.is_empty())
                .then(|| kept.keys().nth(random.below(kept.len() as u64) as usize).unwrap())
                .cloned();
            let action = random.below(4);
            {
                let disk = open_named(&path, "qcow2", false);
                scribble(&*disk, &mut model, &mut random);
                let snapshots = disk.image().unwrap().snapshots().unwrap();
                match (action, &some) {
                    (2, Some(name)) if ours => {
                        snapshots.apply(name).unwrap();
                        assert!(read_all(&*disk) == kept[name], "{what}");
                    }
                    (3, Some(name)) if ours => snapshots.delete(name).unwrap(),
                    (0 | 1, _) if ours => snapshots.create(&named(&format!("s{step}"))).unwrap(),
                    _ => {}
                }
            }
            match (action, &some) {
                (2, Some(name)) => {
                    if !ours {
                        must("qemu-img", &["snapshot", "-a", name, &path]);
                    }
                    model.clone_from(&kept[name]);
                }
                (3, Some(name)) => {
                    if !ours {
                        must("qemu-img", &["snapshot", "-d", name, &path]);
                    }
                    kept.remove(name);
                }
                (0 | 1, _) => {
                    if !ours {
                        must("qemu-img", &["snapshot", "-c", &format!("s{step}"), &path]);
                    }
                    kept.insert(format!("s{step}"), model.clone());
                }
                _ => {}
            }
            peer_agrees(&folder, &path, &model, &what);
            let disk = open_named(&path, "qcow2", true);
            let snapshots = disk.image().unwrap().snapshots().unwrap();
            let mut names: Vec<String> = snapshots.list().into_iter().map(|s| s.name).collect();
            let listed = must("qemu-img", &["snapshot", "-l", &path]);
            assert!(names.iter().all(|name| listed.contains(name)), "{what}: {listed}");
            names.sort();
            assert!(names.iter().eq(kept.keys()), "{what}");
            for (name, content) in &kept {
                assert!(read_all(&*snapshots.open(name).unwrap()) == *content, "{what}");
            }
        }
    }
}

#[test]
fn the_state_of_a_machine_is_kept_with_its_snapshot() {
    let folder = Folder::new("vm-state");
    let path = folder.path("image.qcow2");
    create_image("qcow2", &path, "size=1M");
    let disk = open_named(&path, "qcow2", false);
    let snapshots = disk.image().unwrap().snapshots().unwrap();
    let state: Vec<u8> = (0..300_000u32).map(|i| (i / 7) as u8).collect();
    for (n, part) in state.chunks(70_000).enumerate() {
        snapshots.write_vm_state(n as u64 * 70_000, part).unwrap();
    }
    let info = SnapshotInfo {
        vm_state_size: state.len() as u64,
        date_sec: 1_700_000_000,
        vm_clock_nsec: 3_723_000_000_000,
        icount: Some(9),
        ..named("running")
    };
    snapshots.create(&info).unwrap();
    let mut back = vec![1; state.len()];
    snapshots.read_vm_state(0, &mut back).unwrap();
    assert!(back.iter().all(|b| *b == 0), "the active image has given its copy up");
    snapshots.write_vm_state(0, &[3; 1000]).unwrap();
    snapshots.apply("1").unwrap();
    snapshots.read_vm_state(0, &mut back).unwrap();
    assert!(back == state);
    let shown = snapshots.list();
    assert_eq!(shown, [SnapshotInfo { id: "1".into(), disk_size: 1 << 20, ..info }]);
    disk.image().unwrap().resize(2 << 20, Preallocation::Off).unwrap();
    assert!(read_all(&*disk).iter().all(|b| *b == 0), "the state does not become the disk");
    drop(disk);
    assert_clean(&path);
    let listed = must("qemu-img", &["snapshot", "-l", &path]);
    let row = listed.lines().last().unwrap();
    assert!(row.contains("running") && row.contains("293 KiB"), "{row}");
    assert!(row.contains("0001:02:03.000") || row.contains("01:02:03.000"), "{row}");
    must("qemu-img", &["snapshot", "-a", "running", &path]);
    let disk = open_named(&path, "qcow2", true);
    disk.image().unwrap().snapshots().unwrap().read_vm_state(0, &mut back).unwrap();
    assert!(back == state);
    assert_eq!(disk.size(), 1 << 20);
}

#[test]
fn narrow_refcounts_refuse_a_snapshot_and_stay_sound() {
    let folder = Folder::new("narrow");
    let path = folder.path("image.qcow2");
    create_image("qcow2", &path, "size=1M,refcount_bits=1");
    let disk = open_named(&path, "qcow2", false);
    disk.write_at(0, &[1; 200_000], WriteFlags::default()).unwrap();
    let snapshots = disk.image().unwrap().snapshots().unwrap();
    let refused = snapshots.create(&named("one")).unwrap_err().to_string();
    assert_eq!(refused, "the refcounts of the image are too narrow for another snapshot");
    assert!(snapshots.list().is_empty());
    disk.write_at(300_000, &[2; 200_000], WriteFlags::default()).unwrap();
    drop(disk);
    let mut model = vec![0; 1 << 20];
    model[..200_000].fill(1);
    model[300_000..500_000].fill(2);
    peer_agrees(&folder, &path, &model, "narrow");
}

#[test]
fn an_overlay_is_emptied_and_gets_another_backing_file() {
    let folder = Folder::new("overlay");
    let (one, two) = (folder.path("one.raw"), folder.path("two.raw"));
    std::fs::write(&one, vec![1; 1 << 20]).unwrap();
    std::fs::write(&two, vec![2; 1 << 20]).unwrap();
    for options in ["", ",compat=0.10", ",extended_l2=on", ",cluster_size=512"] {
        let path = folder.path("image.qcow2");
        let backing = format!("size=1M,backing_file={one},backing_fmt=raw{options}");
        create_image("qcow2", &path, &backing);
        let disk = open_named(&path, "qcow2", false);
        let overlay = disk.image().unwrap().overlay().unwrap();
        disk.write_at(100_000, &[3; 300_000], WriteFlags::default()).unwrap();
        let snapshots = disk.image().unwrap().snapshots().unwrap();
        snapshots.create(&named("kept")).unwrap();
        disk.write_at(0, &[4; 200_000], WriteFlags::default()).unwrap();
        overlay.make_empty().unwrap();
        assert!(read_all(&*disk).iter().all(|b| *b == 1), "{options}");
        overlay.record_backing(Some(&two), Some("raw")).unwrap();
        drop(disk);
        peer_agrees(&folder, &path, &[2; 1 << 20], options);
        let disk = open_named(&path, "qcow2", false);
        let snapshots = disk.image().unwrap().snapshots().unwrap();
        snapshots.apply("kept").unwrap();
        snapshots.delete("kept").unwrap();
        let overlay = disk.image().unwrap().overlay().unwrap();
        overlay.make_empty().unwrap();
        overlay.record_backing(None, None).unwrap();
        drop(disk);
        peer_agrees(&folder, &path, &[0; 1 << 20], options);
        let length = std::fs::metadata(&path).unwrap().len();
        assert!(length <= 1 << 20, "{options}: the file is cut, not {length} bytes");
        must("qemu-img", &["rebase", "-u", "-f", "qcow2", "-b", &one, "-F", "raw", &path]);
        assert!(read_all(&*open_named(&path, "qcow2", false)).iter().all(|b| *b == 1));
    }
}
