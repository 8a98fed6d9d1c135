//! LUKS volumes and encrypted qcow2 images, beside the installed `qemu-img`.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::*;
use formats::format_named;
use graph::{ImageOptions, Node, Preallocation, SnapshotInfo, WriteFlags, ZeroFlags};

const KIB: u64 = 1 << 10;

/// A secret of the peer, as [`Backwards`] has it.
fn secret(id: &str) -> String {
    format!("secret,id={id},data={}", id.chars().rev().collect::<String>())
}

/// Runs a tool of the peer with the secrets `one` and `two`.
fn peer(name: &str, args: &[&str]) -> String {
    let (one, two) = (secret("one"), secret("two"));
    let (command, rest) = if name == "qemu-img" { args.split_at(1) } else { args.split_at(0) };
    must(name, &[command, &["--object", &one, "--object", &two], rest].concat())
}

fn luks(path: &str, secret: &str) -> String {
    format!("driver=luks,key-secret={secret},file.driver=file,file.filename={path}")
}

fn qcow2(path: &str, secret: &str) -> String {
    format!("driver=qcow2,encrypt.key-secret={secret},file.driver=file,file.filename={path}")
}

/// Unaligned writes over the whole disk, and what it holds then.
fn scribble(disk: &dyn Node, seed: u64) -> Vec<u8> {
    let mut model = vec![0; disk.size() as usize];
    disk.read_at(0, &mut model).unwrap();
    let mut random = Random(seed);
    for _ in 0..30 {
        let at = random.below(disk.size());
        let len = (random.below(50_000) + 1).min(disk.size() - at);
        let range = at as usize..(at + len) as usize;
        let byte = random.next() as u8;
        if byte.is_multiple_of(7) {
            disk.write_zeroes(at, len, ZeroFlags { unmap: true, fua: false }).unwrap();
            model[range].fill(0);
        } else {
            disk.write_at(at, &vec![byte; len as usize], WriteFlags::default()).unwrap();
            model[range].fill(byte);
        }
    }
    assert!(read_all(disk) == model);
    model
}

fn peer_reads(folder: &Folder, options: &str, model: &[u8]) {
    let raw = folder.path("model.raw");
    std::fs::write(&raw, model).unwrap();
    let raw = format!("driver=raw,file.driver=file,file.filename={raw}");
    peer("qemu-img", &["compare", "--image-opts", options, &raw]);
}

#[test]
fn volumes_of_every_cipher_are_read_by_both() {
    let folder = Folder::new("ciphers");
    let path = folder.path("image.luks");
    for options in [
        "",
        "cipher-alg=serpent-256",
        "cipher-alg=twofish-256",
        "cipher-alg=twofish-128,cipher-mode=cbc",
        "cipher-alg=aes-192,hash-alg=sha384",
        "cipher-mode=cbc,ivgen-alg=essiv,ivgen-hash-alg=sha256",
        "cipher-alg=aes-128,cipher-mode=cbc,ivgen-alg=essiv",
        "cipher-alg=serpent-256,cipher-mode=cbc,ivgen-alg=plain",
        "cipher-mode=ecb",
        "hash-alg=sha1",
        "hash-alg=ripemd160",
    ] {
        let all = format!("size=300k,key-secret=one,iter-time=1,{options}");
        try_create_with("luks", &path, &all, &Backwards).unwrap();
        let model = scribble(&*open_options(&luks(&path, "one"), true), 3);
        peer_reads(&folder, &luks(&path, "one"), &model);
        // The peer takes seconds to find its number of rounds.
        if !options.is_empty() && !options.contains("essiv") {
            continue;
        }
        let all = all.trim_start_matches("size=300k,");
        let all = all.trim_end_matches(',');
        peer("qemu-img", &["create", "-q", "-f", "luks", "-o", all, &path, "300k"]);
        let pattern = "write -P 5 1000 200k";
        peer("qemu-io", &["--image-opts", "-c", pattern, &luks(&path, "one")]);
        let disk = open_options(&luks(&path, "one"), true);
        assert_eq!(disk.size(), 300 * KIB);
        let content = read_all(&*disk);
        assert!(content[1000..1000 + 200 * KIB as usize].iter().all(|b| *b == 5), "{options}");
        let model = scribble(&*disk, 4);
        peer_reads(&folder, &luks(&path, "one"), &model);
    }
}

#[test]
fn a_wrong_passphrase_or_none_opens_nothing() {
    let folder = Folder::new("wrong");
    let path = folder.path("image");
    let refusal = |options: &str| try_open_options(options, false).err().unwrap().to_string();
    try_create_with("luks", &path, "size=64k,key-secret=one,iter-time=1", &Backwards).unwrap();
    let wrong = "Invalid password, cannot unlock any keyslot";
    assert_eq!(refusal(&luks(&path, "two")), wrong);
    let without = format!("driver=luks,file.driver=file,file.filename={path}");
    assert_eq!(refusal(&without), "Parameter 'key-secret' is required for cipher");
    let options = "size=64k,encrypt.format=luks,encrypt.key-secret=one,encrypt.iter-time=1";
    try_create_with("qcow2", &path, options, &Backwards).unwrap();
    assert_eq!(refusal(&qcow2(&path, "two")), wrong);
    let without = format!("driver=qcow2,file.driver=file,file.filename={path}");
    assert_eq!(refusal(&without), "Parameter 'encrypt.key-secret' is required for cipher");
    let info = must("qemu-img", &["info", &path]);
    assert!(info.contains("encrypted: yes") && info.contains("cipher alg: aes-256"), "{info}");
}

#[test]
fn encrypted_qcow2_images_are_read_and_written_by_both() {
    let folder = Folder::new("qcow2");
    let path = folder.path("image.qcow2");
    for options in [
        "encrypt.format=luks",
        "encrypt.format=luks,encrypt.cipher-alg=serpent-128,encrypt.hash-alg=sha512",
        "encrypt.format=luks,cluster_size=512",
        "encrypt.format=luks,extended_l2=on",
        "encrypt.format=luks,compat=0.10",
        "encrypt.format=luks,data_file=DATA",
        "encrypt.format=luks,preallocation=metadata",
        "encrypt.format=aes,cluster_size=4k,compat=0.10",
        "encryption=on",
    ] {
        let options = options.replace("DATA", &folder.path("data"));
        let time = if options.contains("luks") { ",encrypt.iter-time=1" } else { "" };
        let all = format!("size=1000k,encrypt.key-secret=one{time},{options}");
        try_create_with("qcow2", &path, &all, &Backwards).unwrap();
        let disk = open_options(&qcow2(&path, "one"), true);
        assert!(read_all(&*disk).iter().all(|b| *b == 0), "{options}");
        scribble(&*disk, 5);
        if !options.contains("data_file") {
            let snapshots = disk.image().unwrap().snapshots().unwrap();
            let before = read_all(&*disk);
            let info = SnapshotInfo { name: "s".into(), ..SnapshotInfo::default() };
            snapshots.create(&info).unwrap();
            scribble(&*disk, 6);
            assert!(read_all(&*snapshots.open("s").unwrap()) == before, "{options}");
        }
        if !options.contains("0.10") {
            disk.image().unwrap().resize(1300 * KIB, Preallocation::Off).unwrap();
        }
        let model = scribble(&*disk, 7);
        drop(disk);
        assert_clean(&path);
        peer("qemu-img", &["check", "-q", "--image-opts", &qcow2(&path, "one")]);
        peer_reads(&folder, &qcow2(&path, "one"), &model);

        // The peer takes seconds to find its number of rounds.
        if options.contains("luks,") && !options.contains("extended_l2") {
            continue;
        }
        let given = all.trim_start_matches("size=1000k,");
        peer("qemu-img", &["create", "-q", "-f", "qcow2", "-o", given, &path, "1000k"]);
        let pattern = "write -P 5 1000 600k";
        peer("qemu-io", &["--image-opts", "-c", pattern, &qcow2(&path, "one")]);
        let disk = open_options(&qcow2(&path, "one"), true);
        let content = read_all(&*disk);
        assert!(content[1000..1000 + 600 * KIB as usize].iter().all(|b| *b == 5), "{options}");
        let model = scribble(&*disk, 8);
        drop(disk);
        assert_clean(&path);
        peer_reads(&folder, &qcow2(&path, "one"), &model);
    }
}

fn amended(format: &str, disk: &dyn Node, options: &str, force: bool) -> Result<(), String> {
    let table = format_named(format).unwrap().amend_options();
    let mut values = ImageOptions::new(&[table]);
    for pair in options.split(',') {
        let (name, value) = pair.split_once('=').unwrap();
        values.set(name, value).unwrap();
    }
    let amend = disk.image().unwrap().amend().unwrap();
    amend.apply(&values, force, &Backwards, &mut |_, _| {}).map_err(|e| e.to_string())
}

#[test]
fn key_slots_are_added_and_erased() {
    let folder = Folder::new("slots");
    let path = folder.path("image.luks");
    try_create_with("luks", &path, "size=64k,key-secret=one,iter-time=1", &Backwards).unwrap();
    let disk = open_options(&luks(&path, "one"), true);
    let model = scribble(&*disk, 1);
    let add = "state=active,new-secret=two,iter-time=1";
    amended("luks", &*disk, &format!("{add},keyslot=5"), false).unwrap();
    let refused = amended("luks", &*disk, &format!("{add},keyslot=5"), false).unwrap_err();
    assert_eq!(refused, "Refusing to overwrite active keyslot 5 - please erase it first");
    peer_reads(&folder, &luks(&path, "two"), &model);
    amended("luks", &*disk, "state=inactive,old-secret=one", false).unwrap();
    assert!(try_open_options(&luks(&path, "one"), false).is_err());
    let refused = amended("luks", &*disk, "state=inactive,keyslot=5", false).unwrap_err();
    assert!(refused.contains("irreversibly"), "{refused}");
    drop(disk);
    peer_reads(&folder, &luks(&path, "two"), &model);
    let add = "state=active,new-secret=one,iter-time=10";
    peer("qemu-img", &["amend", "--image-opts", "-o", add, &luks(&path, "two")]);
    peer(
        "qemu-img",
        &["amend", "--image-opts", "-o", "state=inactive,keyslot=5", &luks(&path, "one")],
    );
    assert!(read_all(&*open_options(&luks(&path, "one"), false)) == model);
    assert!(try_open_options(&luks(&path, "two"), false).is_err());
}
