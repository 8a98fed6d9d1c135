//! Images from and to the installed `qemu-img`.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::images::exercise;
use common::*;
use formats::create_qcow2;
use formats::qcow2::{Compression, CreateOptions};
use graph::Node;

const MIB: u64 = 1 << 20;

/// The peer finds nothing wrong with the image and reads `model` from it.
fn peer_agrees(folder: &Folder, path: &str, model: &[u8]) {
    assert_clean(path);
    let out = tool("qemu-img", &["check", "-f", "qcow2", path]);
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(out.status.success(), "{text}{}", String::from_utf8_lossy(&out.stderr));
    let raw = folder.path("model.raw");
    std::fs::write(&raw, model).unwrap();
    must("qemu-img", &["compare", "-f", "qcow2", "-F", "raw", path, &raw]);
}

#[test]
fn what_we_create_and_write_the_peer_checks_and_reads() {
    let folder = Folder::new("ours");
    let base = CreateOptions::new(5 * MIB + 1024);
    let cases = [
        base.clone(),
        CreateOptions { version: 2, ..base.clone() },
        CreateOptions { cluster_size: 512, refcount_bits: 64, size: MIB, ..base.clone() },
        CreateOptions { cluster_size: 4096, refcount_bits: 1, ..base.clone() },
        CreateOptions { cluster_size: 2 * MIB, refcount_bits: 2, ..base.clone() },
        CreateOptions {
            cluster_size: 1024,
            refcount_bits: 8,
            lazy_refcounts: true,
            ..base.clone()
        },
        CreateOptions { compression: Compression::Zstd, refcount_bits: 32, ..base.clone() },
        CreateOptions { extended_l2: true, ..base.clone() },
        CreateOptions { extended_l2: true, cluster_size: 16384, refcount_bits: 4, ..base },
    ];
    for (i, options) in cases.iter().enumerate() {
        let path = folder.path(&format!("{i}.qcow2"));
        create_qcow2(&path, options).unwrap();
        peer_agrees(&folder, &path, &vec![0; options.size as usize]);
        let mut model = vec![0; options.size as usize];
        let mut random = Random(i as u64 + 77);
        for _ in 0..2 {
            let disk = open(&path, false, None);
            assert_eq!(disk.size(), options.size);
            exercise(&disk, &mut model, &mut random, 60);
            assert!(read_all(&disk) == model, "case {i}: {options:?}");
            drop(disk);
            peer_agrees(&folder, &path, &model);
        }
    }
}

#[test]
fn what_the_peer_creates_we_read_and_write() {
    let folder = Folder::new("theirs");
    let mut model: Vec<u8> = vec![0; 3 * MIB as usize];
    let mut random = Random(5);
    for part in model.chunks_mut(40_000).step_by(3) {
        let byte = random.next() as u8;
        part.iter_mut().enumerate().for_each(|(i, b)| *b = byte.wrapping_add((i / 100) as u8));
    }
    let raw = folder.path("source.raw");
    std::fs::write(&raw, &model).unwrap();
    let cases: &[&[&str]] = &[
        &["-o", "compat=1.1"],
        &["-o", "compat=0.10"],
        &["-c"],
        &["-c", "-o", "compression_type=zstd"],
        &["-c", "-o", "cluster_size=2M"],
        &["-c", "-o", "cluster_size=4k,refcount_bits=64"],
        &["-o", "extended_l2=on"],
        &["-o", "lazy_refcounts=on,refcount_bits=1,cluster_size=512"],
        &["-o", "preallocation=metadata"],
        &["-o", "preallocation=falloc"],
    ];
    for (i, case) in cases.iter().enumerate() {
        let path = folder.path(&format!("{i}.qcow2"));
        let mut args = vec!["convert", "-f", "raw", "-O", "qcow2"];
        args.extend(*case);
        args.extend([raw.as_str(), path.as_str()]);
        must("qemu-img", &args);
        assert!(read_all(&open(&path, true, None)) == model, "{case:?}");
        let mut model = model.clone();
        let disk = open(&path, false, None);
        exercise(&disk, &mut model, &mut random, 80);
        assert!(read_all(&disk) == model, "{case:?} after writing");
        drop(disk);
        peer_agrees(&folder, &path, &model);
    }
}

#[test]
fn backing_files_show_through_and_are_not_written() {
    let folder = Folder::new("backing");
    for (i, (options, cluster)) in [
        ("compat=1.1", "65536"),
        ("compat=0.10", "65536"),
        ("extended_l2=on", "65536"),
        ("compat=1.1", "4096"),
    ]
    .iter()
    .enumerate()
    {
        let (raw, path) = (folder.path("base.raw"), folder.path(&format!("{i}.qcow2")));
        let mut random = Random(i as u64 + 1);
        let base: Vec<u8> = (0..MIB + 512).map(|i| (i / 300) as u8 | 1).collect();
        std::fs::write(&raw, &base).unwrap();
        let options = format!("{options},cluster_size={cluster}");
        let args =
            ["create", "-q", "-f", "qcow2", "-b", &raw, "-F", "raw", "-o", &options, &path, "2M"];
        must("qemu-img", &args);
        let mut model = base.clone();
        model.resize(2 * MIB as usize, 0);
        let disk = open(&path, false, Some(open_file(&raw, true)));
        assert!(read_all(&disk) == model);
        exercise(&disk, &mut model, &mut random, 80);
        assert!(read_all(&disk) == model, "{options}");
        drop(disk);
        peer_agrees(&folder, &path, &model);
        assert!(std::fs::read(&raw).unwrap() == base);
    }
}

#[test]
fn internal_snapshots_keep_their_content_while_we_write() {
    let folder = Folder::new("snapshot");
    for options in ["compat=1.1", "compat=0.10,cluster_size=4096", "extended_l2=on"] {
        let path = folder.path("image.qcow2");
        must("qemu-img", &["create", "-q", "-f", "qcow2", "-o", options, &path, "4M"]);
        let mut random = Random(3);
        let mut before = vec![0; 4 * MIB as usize];
        exercise(&open(&path, false, None), &mut before, &mut random, 60);
        must("qemu-img", &["snapshot", "-c", "one", &path]);
        let mut after = before.clone();
        exercise(&open(&path, false, None), &mut after, &mut random, 60);
        peer_agrees(&folder, &path, &after);
        must("qemu-img", &["snapshot", "-a", "one", &path]);
        assert!(read_all(&open(&path, true, None)) == before);
        must("qemu-img", &["snapshot", "-d", "one", &path]);
        peer_agrees(&folder, &path, &before);
    }
}
