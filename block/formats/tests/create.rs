//! New and resized qcow2 images with every option, against the installed `qemu-img`.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::*;
use graph::{Preallocation, WriteFlags, ZeroFlags};

const MIB: u64 = 1 << 20;

/// What the peer says about an image, apart from names and sizes of files.
fn described(path: &str) -> String {
    let info = must("qemu-img", &["info", "-f", "qcow2", "--output=json", path]);
    let at = info.rfind("\"format-specific\": {\n        \"type\": \"qcow2\"").unwrap();
    let size = info.lines().rfind(|l| l.contains("virtual-size")).unwrap();
    format!("{size}\n{}", &info[at..])
}

/// Which parts of the disk have a place in the image, as the peer sees it.
fn mapped(path: &str) -> Vec<(u64, bool)> {
    let map = must("qemu-img", &["map", "-f", "qcow2", "--output=json", path]);
    let mut parts: Vec<(u64, bool)> = Vec::new();
    for line in map.lines() {
        let start = line.split("\"start\": ").nth(1).and_then(|rest| rest.split(',').next());
        let has_place = line.contains("\"offset\"");
        if parts.last().is_none_or(|(_, last)| *last != has_place) {
            parts.push((start.unwrap().parse().unwrap(), has_place));
        }
    }
    parts
}

fn peer_finds_nothing_wrong(path: &str) {
    let out = tool("qemu-img", &["check", "-f", "qcow2", path]);
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(out.status.success(), "{text}{}", String::from_utf8_lossy(&out.stderr));
}

#[test]
fn every_option_makes_the_image_that_the_peer_makes() {
    let folder = Folder::new("options");
    std::fs::write(folder.path("base.raw"), vec![5; 300 << 10]).unwrap();
    let base = folder.path("base.raw");
    let (ours, theirs) = (folder.path("ours.qcow2"), folder.path("theirs.qcow2"));
    let (our_data, their_data) = (folder.path("ours.data"), folder.path("theirs.data"));
    for options in [
        "",
        "compat=0.10",
        "compat=v3,lazy_refcounts=on",
        "cluster_size=512",
        "cluster_size=2M",
        "extended_l2=on",
        "extended_l2=on,cluster_size=16k,preallocation=metadata",
        "compression_type=zstd",
        "refcount_bits=1",
        "refcount_bits=2,preallocation=metadata",
        "refcount_bits=4,cluster_size=1k,preallocation=metadata",
        "refcount_bits=8",
        "refcount_bits=32",
        "refcount_bits=64,cluster_size=512,preallocation=metadata",
        "preallocation=metadata",
        "compat=0.10,preallocation=metadata",
        "preallocation=falloc",
        "preallocation=full",
        "nocow=on",
        "backing_file=BASE,backing_fmt=raw",
        "backing_file=BASE,backing_fmt=raw,extended_l2=on,preallocation=metadata",
        "data_file=DATA",
        "data_file=DATA,preallocation=metadata",
        "data_file=DATA,preallocation=full",
        "data_file=DATA,data_file_raw=on",
        "data_file=DATA,data_file_raw=on,preallocation=falloc,extended_l2=on",
    ] {
        let given = options.replace("BASE", &base);
        let our_options = given.replace("DATA", &our_data);
        let mut all = format!("size=3145728,{our_options}");
        create_image("qcow2", &ours, &all);
        all = given.replace("DATA", &their_data);
        let all = if all.is_empty() { "compat=1.1".to_owned() } else { all };
        must("qemu-img", &["create", "-q", "-f", "qcow2", "-o", &all, &theirs, "3M"]);
        let same_name = |text: String| text.replace("theirs.data", "ours.data");
        assert_eq!(described(&ours), same_name(described(&theirs)), "{options}");
        assert_eq!(mapped(&ours), mapped(&theirs), "{options}");
        peer_finds_nothing_wrong(&ours);
        assert_clean(&ours);
        let length = |path: &str| std::fs::metadata(path).map(|m| m.len()).ok();
        assert_eq!(length(&our_data), length(&their_data), "{options}");
        let _ = std::fs::remove_file(&our_data);
        let _ = std::fs::remove_file(&their_data);
    }
}

#[test]
fn impossible_options_are_refused_in_the_words_of_the_peer() {
    let folder = Folder::new("refused");
    let path = folder.path("image.qcow2");
    for options in [
        "compat=0.10,lazy_refcounts=on",
        "compat=0.10,extended_l2=on",
        "compat=0.10,compression_type=zstd",
        "compat=0.10,refcount_bits=8",
        "compat=0.10,data_file=x",
        "compat=2",
        "data_file_raw=on",
        "cluster_size=513",
        "cluster_size=4M",
        "refcount_bits=128",
        "extended_l2=on,cluster_size=8k",
        "compression_type=lz4",
        "preallocation=some",
        "backing_fmt=raw",
        "foo=bar",
        "lazy_refcounts=1",
        "refcount_bits=x",
    ] {
        let refused = try_create("qcow2", &path, &format!("size=1M,{options}")).unwrap_err();
        let out = tool("qemu-img", &["create", "-q", "-f", "qcow2", "-o", options, &path, "1M"]);
        let theirs = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(format!("qemu-img: {path}: {refused}\n"), theirs, "{options}");
        assert!(!exists(&path), "{options}: a half image is left");
    }
}

#[test]
fn external_data_files_are_read_and_written_by_both() {
    let folder = Folder::new("data-file");
    for (i, options) in ["", ",data_file_raw=on", ",extended_l2=on"].iter().enumerate() {
        let path = folder.path(&format!("{i}.qcow2"));
        let data = folder.path(&format!("{i}.data"));
        create_image("qcow2", &path, &format!("size=3M,data_file={data}{options}"));
        let mut model = vec![0; 3 << 20];
        let disk = open_named(&path, "qcow2", false);
        let mut random = Random(41);
        for n in 1..40u64 {
            let at = random.below(3 << 20);
            let len = (random.below(200_000) + 1).min((3 << 20) - at);
            let range = at as usize..(at + len) as usize;
            if n % 7 == 0 {
                let unmap = n % 2 == 0;
                let flags = ZeroFlags { unmap, fua: false };
                disk.write_zeroes(at, len, flags).unwrap();
                model[range].fill(0);
            } else {
                disk.write_at(at, &vec![n as u8; len as usize], WriteFlags::default()).unwrap();
                model[range].fill(n as u8);
            }
        }
        assert!(read_all(&*disk) == model);
        drop(disk);
        peer_finds_nothing_wrong(&path);
        let raw = folder.path("model.raw");
        std::fs::write(&raw, &model).unwrap();
        must("qemu-img", &["compare", "-f", "qcow2", "-F", "raw", &path, &raw]);
        if i == 1 {
            assert!(std::fs::read(&data).unwrap() == model, "the data file is a raw image");
        }
        must("qemu-io", &["-f", "qcow2", "-c", "write -P 7 100k 300k", &path]);
        model[100 << 10..400 << 10].fill(7);
        assert!(read_all(&*open_named(&path, "qcow2", true)) == model);
    }
}

#[test]
fn disks_grow_and_shrink_and_read_as_zeroes_where_they_are_new() {
    let folder = Folder::new("resize");
    let base = folder.path("base.raw");
    std::fs::write(&base, vec![5; 3 << 20]).unwrap();
    for (i, options) in [
        "",
        "compat=0.10",
        "cluster_size=512",
        "extended_l2=on",
        "backing_file=BASE,backing_fmt=raw",
        "backing_file=BASE,backing_fmt=raw,extended_l2=on",
        "data_file=DATA",
        "data_file=DATA,data_file_raw=on",
    ]
    .iter()
    .enumerate()
    {
        let path = folder.path(&format!("{i}.qcow2"));
        let options = options.replace("BASE", &base).replace("DATA", &format!("{path}.data"));
        create_image("qcow2", &path, &format!("size=1M,{options}"));
        let byte = if options.contains("backing") { 5 } else { 0 };
        let mut model = vec![byte; MIB as usize];
        let mut random = Random(9);
        for step in 0..16u32 {
            let disk = open_named(&path, "qcow2", false);
            let size = (random.below(5 * MIB) + 1).next_multiple_of(512);
            let how = match (step % 5, size > disk.size()) {
                (0, true) => Preallocation::Metadata,
                (1, true) => Preallocation::Falloc,
                _ => Preallocation::Off,
            };
            disk.image().unwrap().resize(size, how).unwrap();
            model.resize(size as usize, 0);
            assert_eq!(disk.size(), size);
            for _ in 0..4 {
                let at = random.below(size);
                let len = (random.below(100_000) + 1).min(size - at);
                let byte = random.next() as u8;
                disk.write_at(at, &vec![byte; len as usize], WriteFlags::default()).unwrap();
                model[at as usize..(at + len) as usize].fill(byte);
            }
            assert!(read_all(&*disk) == model, "{options} step {step}");
            drop(disk);
            assert_clean(&path);
            assert!(read_all(&*open_named(&path, "qcow2", true)) == model);
        }
        peer_finds_nothing_wrong(&path);
        let raw = folder.path("model.raw");
        std::fs::write(&raw, &model).unwrap();
        must("qemu-img", &["compare", "-f", "qcow2", "-F", "raw", &path, &raw]);
        must("qemu-img", &["resize", "-q", "-f", "qcow2", "--shrink", &path, "700k"]);
        model.truncate(700 << 10);
        assert!(read_all(&*open_named(&path, "qcow2", true)) == model, "{options}");
    }
}

#[test]
fn tables_longer_than_a_refcount_block_counts_are_moved() {
    let folder = Folder::new("long-tables");
    let path = folder.path("image.qcow2");
    create_image("qcow2", &path, "size=1M,cluster_size=512,refcount_bits=64");
    let disk = open_named(&path, "qcow2", false);
    for gib in [4u64, 20, 60] {
        disk.image().unwrap().resize(gib << 30, Preallocation::Off).unwrap();
        disk.write_at((gib << 30) - 512, &[gib as u8; 512], WriteFlags::default()).unwrap();
    }
    drop(disk);
    peer_finds_nothing_wrong(&path);
    assert_clean(&path);
    let disk = open_named(&path, "qcow2", true);
    let mut sector = [0; 512];
    for gib in [4u64, 20, 60] {
        disk.read_at((gib << 30) - 512, &mut sector).unwrap();
        assert_eq!(sector, [gib as u8; 512]);
    }
}

#[test]
fn a_large_sparse_disk_grows_at_once() {
    let folder = Folder::new("large");
    let path = folder.path("image.qcow2");
    create_image("qcow2", &path, "size=1M");
    let disk = open_named(&path, "qcow2", false);
    disk.image().unwrap().resize(1 << 40, Preallocation::Off).unwrap();
    disk.write_at((1 << 40) - 512, &[1; 512], WriteFlags::default()).unwrap();
    disk.image().unwrap().resize(1 << 30, Preallocation::Off).unwrap();
    drop(disk);
    peer_finds_nothing_wrong(&path);
    assert!(std::fs::metadata(&path).unwrap().len() < MIB);
}

/// Text that packs well, and some noise that does not.
fn content(len: usize, random: &mut Random) -> Vec<u8> {
    let mut bytes = Vec::new();
    while bytes.len() < len {
        match random.below(6) {
            0 => bytes.extend((0..9000).map(|_| random.next() as u8)),
            n => {
                let line = format!("{} lines of number {}\n", n * 7, random.below(1000));
                bytes.extend(line.as_bytes().repeat(40 * n as usize * n as usize));
            }
        }
    }
    bytes.truncate(len);
    bytes
}

#[test]
fn compressed_clusters_are_read_by_both_and_overwritten() {
    let folder = Folder::new("compressed");
    for (i, options) in [
        "",
        "compression_type=zstd",
        "cluster_size=512",
        "cluster_size=2M,compression_type=zstd",
        "cluster_size=4k,refcount_bits=1",
        "cluster_size=4k,refcount_bits=2,compat=1.1",
        "compat=0.10",
        "extended_l2=on",
    ]
    .iter()
    .enumerate()
    {
        let path = folder.path(&format!("{i}.qcow2"));
        create_image("qcow2", &path, &format!("size=3000k,{options}"));
        let mut random = Random(i as u64 + 1);
        let mut model = content(3000 << 10, &mut random);
        let disk = open_named(&path, "qcow2", false);
        let pack = disk.image().unwrap().compress().unwrap();
        let unit = pack.unit() as usize;
        // Four threads, each with every fourth cluster.
        std::thread::scope(|scope| {
            for first in 0..4 {
                let model = &model;
                scope.spawn(move || {
                    for (n, part) in model.chunks(unit).enumerate().skip(first).step_by(4) {
                        pack.write_compressed((n * unit) as u64, part).unwrap();
                    }
                });
            }
        });
        assert!(read_all(&*disk) == model, "{options}");
        for round in 0..60 {
            let at = random.below(3000 << 10) as usize;
            let len = (random.below(50_000) as usize + 1).min(model.len() - at);
            if round % 3 == 0 {
                let at = at / unit * unit;
                let len = unit.min(model.len() - at);
                let part = content(len, &mut random);
                pack.write_compressed(at as u64, &part).unwrap();
                model[at..at + len].copy_from_slice(&part);
            } else {
                let part = content(len, &mut random);
                disk.write_at(at as u64, &part, WriteFlags::default()).unwrap();
                model[at..at + len].copy_from_slice(&part);
            }
            if round % 20 == 0 {
                disk.flush().unwrap();
            }
        }
        assert!(read_all(&*disk) == model, "{options} overwritten");
        drop(disk);
        assert_clean(&path);
        peer_finds_nothing_wrong(&path);
        let raw = folder.path("model.raw");
        std::fs::write(&raw, &model).unwrap();
        must("qemu-img", &["compare", "-f", "qcow2", "-F", "raw", &path, &raw]);
        must("qemu-io", &["-f", "qcow2", "-c", "write -P 7 100k 300k", &path]);
        model[100 << 10..400 << 10].fill(7);
        assert!(read_all(&*open_named(&path, "qcow2", true)) == model);
    }
}
