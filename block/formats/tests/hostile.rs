//! Images made to harm: nothing panics, hangs or allocates what the file does not back.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod common;

use std::sync::Arc;

use common::*;
use formats::qcow2::{CreateOptions, Options, Qcow2, create};
use graph::{Memory, Node, WriteFlags, ZeroFlags};
use protocols::File;

/// A file in memory that grows.
fn image(bytes: Vec<u8>) -> Arc<dyn Node> {
    let file = File::temporary(&std::env::temp_dir()).unwrap();
    file.write_at(0, &bytes, WriteFlags::default()).unwrap();
    Arc::new(file)
}

/// A small image with data, a zero cluster and two L2 tables.
fn sample(cluster_size: u64) -> Vec<u8> {
    let file = image(Vec::new());
    let options = CreateOptions { cluster_size, ..CreateOptions::new(600 * 1024) };
    create(&file, "sample", &options).unwrap();
    let disk = Qcow2::open(Arc::clone(&file), "sample", Options::default()).unwrap();
    for at in [0, 5000, 300_000, 599 * 1024] {
        disk.write_at(at, &[at as u8 + 1; 700], WriteFlags::default()).unwrap();
    }
    let flags = ZeroFlags { unmap: true, fua: false };
    disk.write_zeroes(300_000, 10_000, flags).unwrap();
    drop(disk);
    let mut bytes = vec![0; file.size() as usize];
    file.read_at(0, &mut bytes).unwrap();
    bytes
}

/// Does everything that can be done to an image, expecting nothing.
fn prod(bytes: Vec<u8>) {
    let _ = Qcow2::check(&Memory::new(bytes.clone(), true), "bad");
    let Ok(disk) = Qcow2::open(image(bytes), "bad", Options::default()) else { return };
    let size = disk.size();
    let mut buf = vec![0; 4096];
    let plain = WriteFlags::default();
    for at in [0, 4096, 300_000, 599 * 1024, size.saturating_sub(4096)] {
        let _ = disk.read_at(at, &mut buf);
        let _ = disk.block_status(at.min(size), size - at.min(size));
        let _ = disk.write_at(at, &buf, plain);
        let _ = disk.write_zeroes(at, 8192, ZeroFlags { unmap: true, fua: false });
        let _ = disk.discard(at, 65536);
        let _ = disk.flush();
    }
}

#[test]
fn no_prefix_of_an_image_panics() {
    let good = sample(512);
    for n in (0..600).chain((600..good.len()).step_by(97)) {
        prod(good[..n].to_vec());
    }
}

#[test]
fn no_flipped_byte_panics() {
    let good = sample(512);
    let header = (0..112).flat_map(|at| [0x01, 0x80, 0xff].map(|flip| (at, flip)));
    // Tables lie in the first clusters; behind them there is data with L2 tables in between.
    let tables = (512..good.len()).step_by(7).map(|at| (at, 0xff));
    for (at, flip) in header.chain(tables) {
        let mut bad = good.clone();
        bad[at] ^= flip;
        prod(bad);
    }
}

#[test]
fn no_random_damage_panics() {
    let mut random = Random(11);
    for cluster in [512, 4096] {
        let good = sample(cluster);
        for _ in 0..300 {
            let mut bad = good.clone();
            for _ in 0..random.below(6) + 1 {
                // Whole entries: small offsets are the interesting ones.
                let at = random.below(bad.len() as u64 / 8) as usize * 8;
                let entry = (random.below(64) * cluster) | (random.below(4) << 62);
                bad[at..at + 8].copy_from_slice(&entry.to_be_bytes());
            }
            prod(bad);
        }
    }
}

fn refusal(bytes: Vec<u8>) -> String {
    let result = Qcow2::open(image(bytes), "x.qcow2", Options::default());
    result.err().map(|e| e.to_string()).expect("it should have been refused")
}

#[test]
fn bad_fields_are_named() {
    let good = sample(4096);
    let with = |at: usize, bytes: &[u8]| {
        let mut bad = good.clone();
        bad[at..at + bytes.len()].copy_from_slice(bytes);
        refusal(bad)
    };
    let field = |name: &str, rest: &str| format!("x.qcow2: qcow2 header field {name} is {rest}");
    assert_eq!(with(0, b"RIFF"), "Image is not in qcow2 format");
    assert_eq!(with(7, &[4]), "x.qcow2: Unsupported qcow2 version 4");
    assert_eq!(with(20, &[0, 0, 0, 8]), field("cluster_bits", "0x8: too small"));
    assert_eq!(with(20, &[0, 0, 0, 40]), field("cluster_bits", "0x28: too large"));
    assert_eq!(with(36, &[0xff; 4]), field("l1_size", "0x7fffffff8: too large"));
    assert_eq!(with(36, &[0; 4]), field("l1_size", "0x0: too small for the disk's size"));
    let far = 1u64 << 40;
    let text = field("l1_table_offset", "0x10000000000: the table ends beyond the file");
    assert_eq!(with(40, &far.to_be_bytes()), text);
    let text = field("refcount_table_offset", "0x1001: not aligned to a cluster");
    assert_eq!(with(48, &0x1001u64.to_be_bytes()), text);
    assert_eq!(with(60, &[0xff; 4]), field("nb_snapshots", "0xffffffff: too large"));
    assert_eq!(with(96, &[0, 0, 0, 7]), field("refcount_order", "0x7: too large"));
    assert_eq!(with(35, &[2]), field("crypt_method", "0x2: there is no LUKS header"));
    let text = "x.qcow2: 'data-file' is required for this image";
    assert_eq!(with(79, &[4]), text);
    let text = "x.qcow2: qcow2: Image is corrupt; cannot be opened read/write";
    assert_eq!(with(79, &[2]), text);
    let text = "x.qcow2: Unsupported qcow2 feature(s): Unknown incompatible feature: 20";
    assert_eq!(with(79, &[0x20]), text);
    // The same bit with a name in the feature table: type 0, bit 5.
    let mut named = good.clone();
    named[79] = 0x20;
    named[121] = 5;
    assert_eq!(refusal(named), "x.qcow2: Unsupported qcow2 feature(s): dirty bit");
}

/// Makes the first L2 table of the sample lie at `target`; returns the image.
fn with_l1_entry(mut bytes: Vec<u8>, target: u64) -> Vec<u8> {
    let l1 = u64::from_be_bytes(*bytes[40..].first_chunk().unwrap()) as usize;
    bytes[l1..l1 + 8].copy_from_slice(&(target | 1 << 63).to_be_bytes());
    bytes
}

#[test]
fn writes_that_would_hit_metadata_mark_the_image_corrupt() {
    let good = sample(4096);
    let l1 = u64::from_be_bytes(*good[40..].first_chunk().unwrap());
    let l2 = u64::from_be_bytes(*good[l1 as usize..].first_chunk().unwrap()) & !(1 << 63);
    // An L1 entry that names the L1 table itself, and a data cluster that is the refcount table.
    let own_l1 = with_l1_entry(good.clone(), l1);
    let mut on_reftable = good.clone();
    let entry = 1u64 << 63 | 4096;
    on_reftable[l2 as usize..l2 as usize + 8].copy_from_slice(&entry.to_be_bytes());
    for (bytes, kind) in [(own_l1, "active L1 table"), (on_reftable, "refcount table")] {
        let file = image(bytes);
        let disk = Qcow2::open(Arc::clone(&file), "x", Options::default()).unwrap();
        let error = disk.write_at(0, &[1; 8192], WriteFlags::default()).unwrap_err().to_string();
        let wanted = format!(
            "x: qcow2: Marking image as corrupt: Preventing invalid write on metadata (overlaps \
             with {kind})"
        );
        assert!(error.starts_with(&wanted), "{error}");
        assert!(disk.write_at(300_000, &[1], WriteFlags::default()).is_err());
        drop(disk);
        let mut header = [0; 80];
        file.read_at(0, &mut header).unwrap();
        assert_eq!(header[79] & 2, 2, "the corrupt bit");
        assert!(Qcow2::open(file, "x", Options::default()).is_err());
    }
}

#[test]
fn a_dirty_image_is_repaired_when_opened_for_writing() {
    let folder = Folder::new("dirty");
    let path = folder.path("image.qcow2");
    let args = ["create", "-q", "-f", "qcow2", "-o", "lazy_refcounts=on", &path, "8M"];
    must("qemu-img", &args);
    // The peer dies with its refcounts in memory only.
    let commands = ["-c", "write -P 5 0 300k", "-c", "flush", "-c", "sigraise 9", &path];
    let args: Vec<&str> = ["-f", "qcow2"].iter().chain(&commands).copied().collect();
    tool("qemu-io", &args);
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!(bytes[79] & 1, 1, "the peer should have left the dirty bit");
    let readonly = open(&path, true, None);
    assert!(readonly.info().dirty);
    drop(readonly);
    let disk = open(&path, false, None);
    let mut byte = [0];
    disk.read_at(299 * 1024, &mut byte).unwrap();
    assert_eq!(byte, [5]);
    disk.write_at(4 << 20, &[6; 1000], WriteFlags::default()).unwrap();
    drop(disk);
    assert_clean(&path);
    must("qemu-img", &["check", "-f", "qcow2", &path]);
    assert_eq!(std::fs::read(&path).unwrap()[79], 0);
}

/// What an image says of its backing file opens files and nothing else, and comes to an end.
#[test]
fn backing_files_that_images_describe_are_files_by_the_rules_of_their_user() {
    let folder = Folder::new("described");
    let path = folder.path("image.qcow2");
    let itself = format!(r#"{{"driver":"qcow2","file":{{"filename":"{path}"}}}}"#);
    let cases = [
        (&*itself, "does the chain loop?"),
        (r#"{"driver":"raw","file":{"driver":"vvfat","dir":"/"}}"#, "driver 'vvfat'"),
        (r#"{"file":{"driver":"quorum","children":["a"],"vote-threshold":1}}"#, "driver 'quorum'"),
        (r#"{"driver":"raw","file":"disk"}"#, "a node of ours as 'file'"),
        (r#"{"file":{"filename":"/nonexistent"}}"#, "No such file"),
        (r#"[]"#, "JSON"),
    ];
    for (description, said) in cases {
        let backing = format!("json:{description}");
        let create = ["create", "-q", "-u", "-f", "qcow2", "-b", &backing, "-F", "raw"];
        // What loops has to be what it says it is.
        let format = if description == itself { "qcow2" } else { "raw" };
        let create = [&create[..8], &[format, &path, "1M"]].concat();
        must("qemu-img", &create);
        let opened = try_open_options(&format!("driver=qcow2,file.filename={path}"), false);
        let error = opened.err().expect(description).to_string();
        assert!(error.contains(said), "{description}: {error}");
    }
}
