//! Power loss in the middle of changes of an image: options, names, key slots, bitmaps, repair,
//! creation. As in `crash.rs`, the log of each is cut after every operation.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::sync::Arc;

use common::cuts::*;
use common::images::{MemoryHost, Opening, check, damage, image_options, make, try_open};
use common::power::*;
use common::*;
use formats::qcow2::{CreateOptions, Options, Qcow2, Qcow2Format};
use formats::{CreateRequest, FORMATS, Format, format_named};
use graph::{
    Amend, Bitmaps, Fix, ImageOptions, Memory, NoSecrets, Node, Overlay, SnapshotInfo, Snapshots,
    WriteFlags, ZeroFlags,
};

const SIZE: u64 = 60 << 10;

fn amend_options(format: &dyn Format, text: &str) -> ImageOptions {
    let mut options = ImageOptions::new(&[format.amend_options()]);
    for pair in text.split(',') {
        let (name, value) = pair.split_once('=').unwrap();
        options.set(name, value).unwrap();
    }
    options
}

/// Content for every sector: what the tests' backing file holds, too.
fn numbers(size: u64) -> Vec<u8> {
    (1..=size / SECTOR as u64).flat_map(|i| i.to_le_bytes().repeat(SECTOR / 8)).collect()
}

/// An image with data, zero clusters of both kinds, and a hole.
fn sample(options: &CreateOptions, backing: Option<Arc<dyn Node>>) -> Vec<u8> {
    let file = Volatile::holding(fresh(options));
    let disk = open_over(Arc::clone(&file) as Arc<dyn Node>, backing);
    disk.write_at(0, &numbers(SIZE)[..20 << 10], WriteFlags::default()).unwrap();
    for (from, unmap) in [(4 << 10, false), (12 << 10, true), (30 << 10, true)] {
        disk.write_zeroes(from, 4 << 10, ZeroFlags { unmap, fua: false }).unwrap();
    }
    drop(disk);
    file.forget_log()
}

#[test]
fn no_cut_while_amending_damages() {
    let small = CreateOptions { cluster_size: 512, ..CreateOptions::new(SIZE) };
    let usual = CreateOptions { cluster_size: 4096, ..CreateOptions::new(SIZE) };
    let old = CreateOptions { version: 2, ..usual.clone() };
    let below: Arc<dyn Node> = Arc::new(Memory::new(numbers(SIZE), true));
    let overlay = CreateOptions { backing_file: Some("base".into()), ..usual.clone() };
    let cases = [
        (&small, None, "refcount_bits=64"),
        (&small, None, "refcount_bits=1"),
        (&small, None, "compat=0.10"),
        (&usual, None, "lazy_refcounts=on"),
        (&usual, None, "compat=0.10"),
        (&usual, None, "refcount_bits=8,size=100k"),
        (&old, None, "compat=1.1"),
        (&old, None, "compat=1.1,refcount_bits=64"),
        (&overlay, Some(&below), "compat=0.10"),
        (&overlay, Some(&below), "size=200k"),
        (&overlay, Some(&below), "backing_file=another,backing_fmt=raw"),
    ];
    for (options, backing, text) in cases {
        let image = sample(options, backing.cloned());
        let before = open_over(Volatile::holding(image.clone()), backing.cloned());
        let content = read_all(&before);
        let name = format!("{text}, clusters of {}", options.cluster_size);
        cut_over(
            &name,
            image,
            backing.cloned(),
            |disk| {
                let values = amend_options(&Qcow2Format, text);
                Amend::apply(disk, &values, false, &NoSecrets, &mut |_, _| {}).unwrap();
            },
            |disk| {
                let shown = read_all(disk);
                let (same, more) = shown.split_at(content.len());
                same == content && more.iter().all(|b| *b == 0)
            },
        );
    }
}

/// A name that has room in no sector.
fn long(letter: char, len: usize) -> String {
    letter.to_string().repeat(len)
}

#[test]
fn no_cut_loses_a_name_in_the_header() {
    let below: Arc<dyn Node> = Arc::new(Memory::new(numbers(SIZE), true));
    for (version, cluster_size, len) in
        [(3, 4096, 1000), (3, 65536, 700), (2, 4096, 1000), (3, 4096, 90), (2, 2048, 400)]
    {
        let (one, two) = (long('a', len), long('b', len));
        let options = CreateOptions {
            version,
            cluster_size,
            backing_file: Some(one.clone()),
            backing_format: Some("raw".into()),
            ..CreateOptions::new(SIZE)
        };
        let image = sample(&options, Some(Arc::clone(&below)));
        let named = |disk: &Qcow2, names: &[&str]| {
            let info = disk.info();
            names.contains(&info.backing_filename.as_deref().unwrap_or(""))
        };
        let name = format!("version {version}, {len} bytes");
        let change = |what: &str, change: &dyn Fn(&Qcow2), names: &[&str]| {
            let name = format!("{name}, {what}");
            let over = Some(Arc::clone(&below));
            cut_over(&name, image.clone(), over, change, |disk| named(disk, names));
        };
        let rename = |disk: &Qcow2| disk.record_backing(Some(&two), Some("qcow2")).unwrap();
        change("renamed", &rename, &[&one, &two]);
        change("removed", &|disk| disk.record_backing(None, None).unwrap(), &[&one, ""]);
        if version == 3 {
            change("bitmap", &|disk| disk.add("a", 4096, true).unwrap(), &[&one]);
        }
        let compat = if version == 3 { "compat=0.10" } else { "compat=1.1" };
        let amend = |disk: &Qcow2| {
            let values = amend_options(&Qcow2Format, compat);
            Amend::apply(disk, &values, false, &NoSecrets, &mut |_, _| {}).unwrap();
        };
        change(compat, &amend, &[&one]);
        let several = |disk: &Qcow2| {
            for n in 0..6 {
                let name = long(char::from(b'c' + n), len - usize::from(n));
                disk.record_backing(Some(&name), None).unwrap();
            }
            disk.record_backing(Some(&two), None).unwrap();
        };
        let names: Vec<String> =
            (0..6).map(|n| long(char::from(b'c' + n), len - usize::from(n))).collect();
        let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
        names.extend([one.as_str(), two.as_str()]);
        change("renamed often", &several, &names);
    }
}

#[test]
fn no_cut_while_an_overlay_is_emptied_damages() {
    let below: Arc<dyn Node> = Arc::new(Memory::new(numbers(SIZE), true));
    for (version, cluster_size, extended_l2) in
        [(3, 512, false), (2, 4096, false), (3, 16384, true)]
    {
        let options = CreateOptions {
            version,
            cluster_size,
            extended_l2,
            backing_file: Some("base".into()),
            ..CreateOptions::new(SIZE)
        };
        let file = Volatile::holding(fresh(&options));
        let disk = open_over(Arc::clone(&file) as Arc<dyn Node>, Some(Arc::clone(&below)));
        disk.write_at(0, &numbers(SIZE), WriteFlags::default()).unwrap();
        disk.create(&SnapshotInfo { name: "one".into(), ..SnapshotInfo::default() }).unwrap();
        disk.write_at(9000, &numbers(SIZE)[9000..30_000], WriteFlags::default()).unwrap();
        drop(disk);
        let with_snapshot = file.forget_log();
        let disk = open_over(Arc::clone(&file) as Arc<dyn Node>, Some(Arc::clone(&below)));
        disk.delete("one").unwrap();
        drop(disk);
        for image in [with_snapshot, file.forget_log()] {
            cut_over(
                "emptying",
                image,
                Some(Arc::clone(&below)),
                // The base holds the same, as it does when a commit gets here.
                |disk| disk.make_empty().unwrap(),
                |disk| {
                    let snapshot = Snapshots::list(disk).first().is_none_or(|info| {
                        read_all(&*Snapshots::open(disk, &info.name).unwrap()) == numbers(SIZE)
                    });
                    read_all(disk) == numbers(SIZE) && snapshot
                },
            );
        }
    }
}

#[test]
fn no_cut_while_bitmaps_change_damages_or_lies() {
    let options = CreateOptions { cluster_size: 512, ..CreateOptions::new(SIZE) };
    let file = Volatile::holding(numbered(&options));
    let disk = open_over(Arc::clone(&file) as Arc<dyn Node>, None);
    for name in ["a", "b", "c"] {
        disk.add(name, 512, false).unwrap();
    }
    disk.set("a", 0, 10 << 10).unwrap();
    disk.set("b", 20 << 10, 1 << 10).unwrap();
    drop(disk);
    let image = file.forget_log();
    type Change = (&'static str, fn(&Qcow2));
    let changes: [Change; 4] = [
        ("removing", |disk| disk.remove("a").unwrap()),
        ("clearing", |disk| disk.clear("a").unwrap()),
        ("merging", |disk| {
            disk.set("b", 0, 10 << 10).unwrap();
            disk.remove("c").unwrap();
        }),
        ("enabling", |disk| disk.enable("c", true).unwrap()),
    ];
    for (name, change) in changes {
        cut_over(name, image.clone(), None, change, |disk| {
            let first = |name: &str| disk.next_dirty(name, 0).ok().flatten();
            let right = |info: &graph::BitmapInfo| match info.name.as_str() {
                _ if info.in_use => true,
                "a" => matches!(first("a"), None | Some((0, 10_240))),
                "b" => matches!(first("b"), Some((0, 10_240) | (20_480, 1024))),
                _ => first("c").is_none(),
            };
            numbers_up_to(disk, usize::MAX) && Bitmaps::list(disk).iter().all(right)
        });
    }
}

/// Damages and the repair of each, cut: never worse than before, and repaired by another repair.
#[test]
fn a_cut_repair_is_completed_by_the_next() {
    for options in [
        CreateOptions { cluster_size: 512, ..CreateOptions::new(SIZE) },
        CreateOptions { cluster_size: 512, refcount_bits: 1, ..CreateOptions::new(SIZE) },
        CreateOptions { cluster_size: 4096, version: 2, ..CreateOptions::new(SIZE) },
    ] {
        let good = numbered(&options);
        let word = |at: usize| u64::from_be_bytes(*good[at..].first_chunk().unwrap()) as usize;
        let (table, l1) = (word(48), word(40));
        let (block, l2) = (word(table), word(l1) & 0x00ff_ffff_ffff_fe00);
        let damages: [(&str, &[usize]); 4] = [
            ("counts", &[block + 3, block + 5, block + 9]),
            ("flags", &[l2, l2 + 8, l1]),
            ("refcount table", &[table + 6]),
            ("no refcount block", &[table + 5]),
        ];
        for (name, places) in damages {
            for fix in [Fix::Leaks, Fix::All] {
                let mut bad = good.clone();
                places.iter().for_each(|at| bad[*at] ^= if name == "flags" { 0x80 } else { 1 });
                cut_repair(&format!("{name} {fix:?}"), &bad, fix);
            }
        }
    }
}

fn cut_repair(name: &str, bad: &[u8], fix: Fix) {
    let before = Qcow2::check(&Memory::new(bad.to_vec(), true), name).unwrap();
    assert!(before.corruptions + before.leaks > 0, "{name}");
    let file = Volatile::holding(bad.to_vec());
    let start = file.forget_log();
    let node: Arc<dyn Node> = Arc::clone(&file) as Arc<dyn Node>;
    Qcow2::check_and_repair(&node, name, fix).unwrap();
    let log = std::mem::take(&mut file.0.lock().unwrap().1);
    let mut random = Random(4);
    for cut in 0..=log.len() {
        for what in [Survivors::None, Survivors::All, Survivors::Half, Survivors::Few] {
            let name = format!("{name} cut {cut} {what:?}");
            let file = Volatile::holding(remains(&start, &log, cut, what, &mut random));
            let left: Arc<dyn Node> = file;
            let reading = Options { read_only: true, ..Options::default() };
            let shown = Qcow2::open(Arc::clone(&left), &name, reading.clone());
            assert!(numbers_up_to(&shown.unwrap(), usize::MAX), "{name}");
            let after = Qcow2::check_and_repair(&left, &name, Fix::All).unwrap();
            assert_eq!((after.corruptions, after.leaks), (0, 0), "{name}: {:?}", after.findings);
            let shown = Qcow2::open(left, &name, reading).unwrap();
            assert!(numbers_up_to(&shown, usize::MAX), "{name}");
        }
    }
}

/// Opens the volume of a LUKS image with the secret `id`.
fn unlocked(file: &Arc<Volatile>, format: &str, id: &str) -> Option<Arc<dyn Node>> {
    let host = MemoryHost::default();
    host.put("volume", file.0.lock().unwrap().0.clone());
    let key = if format == "luks" { "key-secret" } else { "encrypt.key-secret" };
    let opening = Opening { keys: vec![(key.into(), id.into())], ..Opening::reading() };
    try_open(&host, format, "volume", &opening).ok()
}

#[test]
fn no_cut_while_key_slots_change_locks_a_volume() {
    for (format, prefix) in [("luks", ""), ("qcow2", "encrypt.")] {
        let host = MemoryHost::default();
        let text = match format {
            "luks" => "key-secret=one,iter-time=10",
            _ => "encrypt.format=luks,encrypt.key-secret=one,encrypt.iter-time=10,cluster_size=4k",
        };
        let format_row = format_named(format).unwrap();
        let options = image_options(format_row, text, SIZE);
        let request =
            CreateRequest { path: "volume", options: &options, gate: &host, secrets: &Backwards };
        format_row.create(&request).unwrap();
        let key = format!("{prefix}key-secret");
        let open = |id: &str| {
            let keys = vec![(key.clone(), id.to_owned())];
            try_open(&host, format, "volume", &Opening { keys, ..Opening::default() }).unwrap()
        };
        let disk = open("one");
        disk.write_at(0, &numbers(SIZE), WriteFlags::default()).unwrap();
        disk.flush().unwrap();
        drop(disk);
        // Each with the secret that opens it before, and the secrets that do after.
        let steps: [(&str, &str, &[&str]); 4] = [
            ("state=active,new-secret=two,iter-time=10", "one", &["one", "two"]),
            ("state=active,new-secret=three,keyslot=6,iter-time=10", "two", &["one", "three"]),
            ("state=inactive,old-secret=one", "two", &["two", "three"]),
            ("state=inactive,keyslot=6", "two", &["two"]),
        ];
        for (step, id, after) in steps {
            let file = host.file("volume");
            let start = file.forget_log();
            let text: Vec<String> = step.split(',').map(|pair| format!("{prefix}{pair}")).collect();
            let values = amend_options(format_row, &text.join(","));
            let disk = open(id);
            let amend = disk.image().and_then(|image| image.amend()).unwrap();
            amend.apply(&values, false, &Backwards, &mut |_, _| {}).unwrap();
            drop(disk);
            let log = std::mem::take(&mut file.0.lock().unwrap().1);
            let mut random = Random(7);
            for cut in 0..=log.len() {
                for what in [Survivors::None, Survivors::All, Survivors::Half, Survivors::Few] {
                    let left = remains(&start, &log, cut, what, &mut random);
                    let left = Volatile::holding(left);
                    let kept = unlocked(&left, format, id);
                    let shown = read_all(&*kept.unwrap_or_else(|| panic!("{step} cut {cut}")));
                    assert!(shown == numbers(SIZE), "{format} {step} cut {cut} {what:?}");
                }
            }
            for id in after {
                let shown = read_all(&*unlocked(&file, format, id).unwrap());
                assert!(shown == numbers(SIZE), "{format} {step}: {id}");
            }
        }
    }
}

/// A replay that is cut is replayed again.
#[test]
fn no_cut_while_a_log_is_replayed_damages() {
    let host = MemoryHost::default();
    make(&host, "vhdx", "image", "block_size=1M", 3 << 20);
    let file = host.file("image");
    let start = file.forget_log();
    let disk = try_open(&host, "vhdx", "image", &Opening::default()).unwrap();
    let mut history = History::of(&*disk);
    workload(&*disk, || file.logged(), &mut history, 20, 5);
    drop(disk);
    let log = std::mem::take(&mut file.0.lock().unwrap().1);
    let mut random = Random(6);
    let mut replays = 0;
    for i in 1..=12 {
        let cut = log.len() * i / 12;
        let left = remains(&start, &log, cut, Survivors::Half, &mut random);
        host.put("left", left.clone());
        let once = try_open(&host, "vhdx", "left", &Opening::reading()).unwrap();
        let content = read_all(&*once);
        drop(once);
        let file = host.file("left");
        let opened = try_open(&host, "vhdx", "left", &Opening::default()).unwrap();
        assert!(read_all(&*opened) == content);
        drop(opened);
        let replay = std::mem::take(&mut file.0.lock().unwrap().1);
        replays += u32::from(replay.len() > 4);
        for cut in 0..=replay.len() {
            for what in [Survivors::None, Survivors::All, Survivors::Half, Survivors::Few] {
                host.put("again", remains(&left, &replay, cut, what, &mut random));
                let again = try_open(&host, "vhdx", "again", &Opening::reading()).unwrap();
                assert!(read_all(&*again) == content, "{i}: cut {cut} {what:?}");
                drop(again);
                let report = check(&host, "vhdx", "again", Fix::Nothing).unwrap().unwrap();
                assert_eq!(damage(&report), 0, "{:?}", report.findings);
            }
        }
    }
    assert!(replays > 0, "nothing was replayed");
}

/// What each format makes, cut: no image, or an empty one without damage.
#[test]
fn a_cut_while_creating_leaves_an_empty_image_or_none_in_every_format() {
    for format in FORMATS.iter().filter(|format| !format.create_options().is_empty()) {
        let name = format.name();
        if name == "luks" || name == "raw" {
            // What a new volume holds is noise; a raw image is its file.
            continue;
        }
        let host = MemoryHost::default();
        make(&host, name, "image", "", 4 << 20);
        let log = std::mem::take(&mut host.file("image").0.lock().unwrap().1);
        let mut random = Random(1);
        for cut in 0..=log.len() {
            for what in [Survivors::None, Survivors::All, Survivors::Half, Survivors::Few] {
                let left = remains(&[], &log, cut, what, &mut random);
                host.put("left", left);
                let Ok(disk) = try_open(&host, name, "left", &Opening::reading()) else {
                    assert!(cut < log.len(), "{name} is not there");
                    continue;
                };
                assert!(read_all(&*disk).iter().all(|b| *b == 0), "{name} cut {cut} {what:?}");
                drop(disk);
                if let Some(report) = check(&host, name, "left", Fix::Nothing).unwrap() {
                    assert_eq!(damage(&report), 0, "{name} cut {cut}: {:?}", report.findings);
                }
            }
        }
    }
}
