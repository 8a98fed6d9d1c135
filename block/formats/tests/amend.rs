//! Amending qcow2 images, beside the installed `qemu-img`.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::*;
use formats::format_named;
use graph::{ImageOptions, NoSecrets, SnapshotInfo, WriteFlags, ZeroFlags};

fn amend(path: &str, options: &str) -> Result<(), String> {
    let disk = open_named(path, "qcow2", false);
    let mut values = ImageOptions::new(&[format_named("qcow2").unwrap().amend_options()]);
    for pair in options.split(',') {
        let (name, value) = pair.split_once('=').unwrap();
        values.set(name, value).map_err(|e| e.to_string())?;
    }
    let amend = disk.image().unwrap().amend().unwrap();
    amend.apply(&values, false, &NoSecrets, &mut |_, _| {}).map_err(|e| e.to_string())
}

fn sample(path: &str, options: &str) -> Vec<u8> {
    create_image("qcow2", path, &format!("size=1M,{options}"));
    let disk = open_named(path, "qcow2", false);
    disk.write_at(0, &[1; 300 << 10], WriteFlags::default()).unwrap();
    disk.write_zeroes(64 << 10, 100 << 10, ZeroFlags { unmap: false, fua: false }).unwrap();
    disk.write_zeroes(200 << 10, 300 << 10, ZeroFlags { unmap: true, fua: false }).unwrap();
    read_all(&*disk)
}

#[test]
fn versions_and_widths_change_and_the_content_stays() {
    let folder = Folder::new("amend");
    let path = folder.path("image.qcow2");
    let base = folder.path("base.raw");
    std::fs::write(&base, vec![9; 1 << 20]).unwrap();
    for (options, steps) in [
        ("", &["refcount_bits=64", "refcount_bits=1", "compat=0.10,refcount_bits=16"][..]),
        ("cluster_size=512", &["refcount_bits=8", "refcount_bits=64", "refcount_bits=16"]),
        ("compat=0.10", &["compat=1.1,lazy_refcounts=on", "lazy_refcounts=off", "compat=v2"]),
        ("refcount_bits=32,cluster_size=4k", &["compat=0.10,refcount_bits=16", "compat=v3"]),
        ("backing_file=BASE,backing_fmt=raw", &["compat=0.10", "compat=1.1", "size=2M"]),
        ("", &["backing_file=BASE,backing_fmt=raw", "size=512k"]),
    ] {
        let mut content = sample(&path, &options.replace("BASE", &base));
        for step in steps {
            amend(&path, &step.replace("BASE", &base)).unwrap();
            let what = format!("{options}: {step}");
            let disk = open_named(&path, "qcow2", false);
            let shown = read_all(&*disk);
            if step.contains("backing_file") {
                content = shown;
            } else {
                content.resize(shown.len(), 0);
                assert!(shown == content, "{what}");
            }
            disk.write_at(5000, &[3; 5000], WriteFlags::default()).unwrap();
            content[5000..10_000].fill(3);
            drop(disk);
            must("qemu-img", &["check", "-q", "-f", "qcow2", &path]);
            let info = must("qemu-img", &["info", &path]);
            for pair in step.split(',') {
                let (name, value) = pair.split_once('=').unwrap();
                let wanted = match (name, value) {
                    ("compat", "1.1" | "v3") => "compat: 1.1".to_owned(),
                    ("compat", _) => "compat: 0.10".to_owned(),
                    ("refcount_bits", bits) => format!("refcount bits: {bits}"),
                    ("lazy_refcounts", "on") => "lazy refcounts: true".to_owned(),
                    _ => continue,
                };
                assert!(info.contains(&wanted), "{what}: {info}");
            }
            let raw = folder.path("model.raw");
            std::fs::write(&raw, &content).unwrap();
            must("qemu-img", &["compare", "-f", "qcow2", "-F", "raw", &path, &raw]);
        }
    }
}

#[test]
fn impossible_changes_are_refused_and_change_nothing() {
    let folder = Folder::new("refused");
    let path = folder.path("image.qcow2");
    let content = sample(&path, "");
    let disk = open_named(&path, "qcow2", false);
    let info = SnapshotInfo { name: "s".into(), ..SnapshotInfo::default() };
    disk.image().unwrap().snapshots().unwrap().create(&info).unwrap();
    drop(disk);
    for options in [
        "refcount_bits=1",
        "refcount_bits=5",
        "compat=0.10",
        "compat=2",
        "data_file=x",
        "data_file_raw=on",
        "compat=0.10,refcount_bits=8",
        "encrypt.state=active",
    ] {
        assert!(amend(&path, options).is_err(), "{options}");
        must("qemu-img", &["check", "-q", "-f", "qcow2", &path]);
        assert!(read_all(&*open_named(&path, "qcow2", false)) == content, "{options}");
    }
}
