//! Persistent dirty bitmaps, beside the installed tools.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::process::{Command, Stdio};

use common::*;
use graph::{BitmapInfo, Bitmaps, Node, Preallocation, WriteFlags, ZeroFlags};

const KIB: u64 = 1 << 10;

fn bitmaps(disk: &dyn Node) -> &dyn Bitmaps {
    disk.image().unwrap().bitmaps().unwrap()
}

/// The runs of set bits.
fn runs(disk: &dyn Node, name: &str) -> Vec<(u64, u64)> {
    let mut runs = Vec::new();
    let mut at = 0;
    while let Some((start, len)) = bitmaps(disk).next_dirty(name, at).unwrap() {
        runs.push((start, len));
        at = start + len;
    }
    runs
}

/// The same as the installed server tells them.
fn peer_runs(folder: &Folder, path: &str, name: &str) -> Vec<(u64, u64)> {
    let socket = folder.path("socket");
    let mut server = Command::new("qemu-nbd")
        .args(["-r", "-f", "qcow2", "-k", &socket, "-B", name, path])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    while !exists(&socket) {
        assert!(server.try_wait().unwrap().is_none(), "the server has gone");
        std::thread::yield_now();
    }
    let node = format!(
        "driver=nbd,server.type=unix,server.path={socket},x-dirty-bitmap=qemu:dirty-bitmap:{name}"
    );
    let map = must("qemu-img", &["map", "--output=json", "--image-opts", &node]);
    server.wait().unwrap();
    let number = |line: &str, key: &str| -> u64 {
        let rest = line.split(&format!("\"{key}\": ")).nth(1).unwrap();
        rest.split(',').next().unwrap().parse().unwrap()
    };
    let dirty = map.lines().filter(|line| line.contains("\"data\": false"));
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for (start, len) in dirty.map(|line| (number(line, "start"), number(line, "length"))) {
        match runs.last_mut() {
            Some((first, length)) if *first + *length == start => *length += len,
            _ => runs.push((start, len)),
        }
    }
    runs
}

fn peer_finds_nothing_wrong(path: &str) {
    must("qemu-img", &["check", "-q", "-f", "qcow2", path]);
    assert_clean(path);
}

#[test]
fn writes_are_noted_and_stored_for_the_peer() {
    let folder = Folder::new("noted");
    for options in ["", "cluster_size=512", "extended_l2=on", "data_file=DATA"] {
        let path = folder.path("image.qcow2");
        let options = options.replace("DATA", &folder.path("data"));
        create_image("qcow2", &path, &format!("size=40M,{options}"));
        let disk = open_named(&path, "qcow2", false);
        bitmaps(&*disk).add("fine", 4096, true).unwrap();
        bitmaps(&*disk).add("usual", 0, true).unwrap();
        bitmaps(&*disk).add("off", 65536, false).unwrap();
        disk.write_at(10 * KIB, &[1; 3000], WriteFlags::default()).unwrap();
        disk.write_zeroes(2000 * KIB, 64 * KIB, ZeroFlags::default()).unwrap();
        drop(disk);
        peer_finds_nothing_wrong(&path);
        let disk = open_named(&path, "qcow2", true);
        let fine = [(8 * KIB, 8 * KIB), (2000 * KIB, 64 * KIB)];
        assert_eq!(runs(&*disk, "fine"), fine, "{options}");
        assert_eq!(runs(&*disk, "off"), []);
        drop(disk);
        assert_eq!(peer_runs(&folder, &path, "fine"), fine, "{options}");

        // The peer notes in ours, and we in what it stored.
        must("qemu-io", &["-f", "qcow2", "-c", "write 30M 100k", &path]);
        let disk = open_named(&path, "qcow2", false);
        let names: Vec<String> = bitmaps(&*disk).list().into_iter().map(|info| info.name).collect();
        assert_eq!(names, ["fine", "usual", "off"]);
        disk.discard(39 << 20, 1 << 20).unwrap();
        drop(disk);
        peer_finds_nothing_wrong(&path);
        let all = [fine[0], fine[1], (30 << 20, 100 * KIB), (39 << 20, 1 << 20)];
        assert_eq!(peer_runs(&folder, &path, "fine"), all, "{options}");
    }
}

#[test]
fn bitmaps_are_added_removed_cleared_and_merged_in_turns_with_the_peer() {
    let folder = Folder::new("turns");
    let path = folder.path("image.qcow2");
    create_image("qcow2", &path, "size=8M");
    let peer = |args: &[&str], name: &str| {
        must("qemu-img", &[&["bitmap"], args, &[path.as_str(), name]].concat());
    };
    peer(&["--add", "-g", "32k"], "a");
    must("qemu-io", &["-f", "qcow2", "-c", "write 1M 64k", &path]);
    peer(&["--add", "--disable"], "b");
    let disk = open_named(&path, "qcow2", false);
    let shown = |name: &str, granularity, auto| BitmapInfo {
        name: name.to_owned(),
        granularity,
        in_use: false,
        auto,
    };
    let listed = [shown("a", 32768, true), shown("b", 65536, false)];
    assert_eq!(bitmaps(&*disk).list(), listed);
    disk.write_at(4 << 20, &[1; 512], WriteFlags::default()).unwrap();
    assert_eq!(runs(&*disk, "a"), [(1 << 20, 64 * KIB), (4 << 20, 32 * KIB)]);
    bitmaps(&*disk).enable("b", true).unwrap();
    disk.write_at(5 << 20, &[1; 512], WriteFlags::default()).unwrap();
    for (start, len) in runs(&*disk, "a") {
        bitmaps(&*disk).set("b", start, len).unwrap();
    }
    drop(disk);
    peer_finds_nothing_wrong(&path);
    assert_eq!(
        peer_runs(&folder, &path, "b"),
        [(1 << 20, 64 * KIB), (4 << 20, 64 * KIB), (5 << 20, 64 * KIB)]
    );
    peer(&["--clear"], "b");
    peer(&["--merge", "a"], "b");
    peer(&["--remove"], "a");
    let disk = open_named(&path, "qcow2", false);
    assert_eq!(bitmaps(&*disk).list(), [shown("b", 65536, true)]);
    assert_eq!(runs(&*disk, "b").len(), 3);
    bitmaps(&*disk).clear("b").unwrap();
    bitmaps(&*disk).add("c", 1 << 20, true).unwrap();
    drop(disk);
    assert_eq!(peer_runs(&folder, &path, "b"), []);
    let disk = open_named(&path, "qcow2", false);
    bitmaps(&*disk).remove("b").unwrap();
    bitmaps(&*disk).remove("c").unwrap();
    assert!(bitmaps(&*disk).remove("c").is_err());
    drop(disk);
    peer_finds_nothing_wrong(&path);
    assert!(!must("qemu-img", &["info", &path]).contains("bitmaps"));
}

#[test]
fn bitmaps_follow_the_length_of_the_disk() {
    let folder = Folder::new("lengths");
    let path = folder.path("image.qcow2");
    create_image("qcow2", &path, "size=8M,cluster_size=512");
    let disk = open_named(&path, "qcow2", false);
    bitmaps(&*disk).add("a", 512, true).unwrap();
    disk.write_at(7 << 20, &[1; 512], WriteFlags::default()).unwrap();
    disk.image().unwrap().resize(30 << 20, Preallocation::Off).unwrap();
    disk.write_at(29 << 20, &[1; 512], WriteFlags::default()).unwrap();
    drop(disk);
    assert_eq!(peer_runs(&folder, &path, "a"), [(7 << 20, 512), (29 << 20, 512)]);
    let disk = open_named(&path, "qcow2", false);
    disk.image().unwrap().resize(8 << 20, Preallocation::Off).unwrap();
    drop(disk);
    assert_eq!(peer_runs(&folder, &path, "a"), [(7 << 20, 512)]);
    peer_finds_nothing_wrong(&path);
}

#[test]
fn a_bitmap_that_was_not_stored_is_not_believed() {
    let folder = Folder::new("in-use");
    let path = folder.path("image.qcow2");
    let copy = folder.path("copy.qcow2");
    create_image("qcow2", &path, "size=8M");
    let disk = open_named(&path, "qcow2", false);
    bitmaps(&*disk).add("a", 0, true).unwrap();
    drop(disk);
    let disk = open_named(&path, "qcow2", false);
    disk.write_at(0, &[1; 512], WriteFlags::default()).unwrap();
    disk.flush().unwrap();
    // As after the end of the process.
    std::fs::copy(&path, &copy).unwrap();
    drop(disk);
    let disk = open_named(&copy, "qcow2", false);
    assert!(bitmaps(&*disk).list()[0].in_use);
    assert!(bitmaps(&*disk).next_dirty("a", 0).is_err());
    assert!(bitmaps(&*disk).clear("a").is_err());
    drop(disk);
    let shown = must("qemu-img", &["info", &copy]);
    assert!(shown.contains("in-use"), "{shown}");
    let disk = open_named(&copy, "qcow2", false);
    bitmaps(&*disk).remove("a").unwrap();
    drop(disk);
    peer_finds_nothing_wrong(&copy);
}
