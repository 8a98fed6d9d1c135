//! Images that are tables of blocks: from and to the installed `qemu-img`.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use common::images::*;
use common::*;
use formats::HostFiles;
use graph::{CheckReport, ExtentKind, Fix, Node, Preallocation, Property, WriteFlags};

const MIB: u64 = 1 << 20;

/// Formats that are written, with options for `-o`.
const KINDS: &[(&str, &str)] = &[
    ("vdi", "static=off"),
    ("vdi", "static=on"),
    ("vmdk", "compat6=off"),
    ("vmdk", "adapter_type=lsilogic,compat6=on,toolsversion=7"),
    ("vmdk", "zeroed_grain=on"),
    ("vmdk", "subformat=monolithicFlat"),
    ("vmdk", "subformat=twoGbMaxExtentSparse,adapter_type=legacyESX"),
    ("vmdk", "subformat=twoGbMaxExtentFlat,hwversion=9"),
    ("vpc", "subformat=dynamic"),
    ("vpc", "force_size=on"),
    ("vpc", "subformat=fixed"),
    ("vhdx", "subformat=dynamic"),
    ("vhdx", "block_size=1M,log_size=2M"),
    ("vhdx", "block_state_zero=off"),
    ("vhdx", "subformat=fixed"),
    ("qed", "cluster_size=65536"),
    ("qed", "cluster_size=4096,table_size=2"),
    ("qcow", "nocow=off"),
    ("parallels", "cluster_size=1048576"),
    ("parallels", "cluster_size=3072"),
    ("vhdx", "subformat=fixed,block_state_zero=off,block_size=2M"),
];

/// Neither checker finds anything, and the peer reads `model` from the image.
fn peer_agrees(folder: &Folder, format: &str, path: &str, model: &[u8]) {
    let ours = check(&HostFiles, format, path, Fix::Nothing).unwrap().unwrap_or_default();
    let clean = CheckReport {
        allocated_clusters: ours.allocated_clusters,
        fragmented_clusters: ours.fragmented_clusters,
        compressed_clusters: ours.compressed_clusters,
        total_clusters: ours.total_clusters,
        image_end: ours.image_end,
        ..CheckReport::default()
    };
    assert_eq!(ours, clean, "{format}");
    let out = tool("qemu-img", &["check", "-f", format, path]);
    // 63: the peer has no check for this format.
    assert!(matches!(out.status.code(), Some(0 | 63)), "{out:?}");
    let raw = folder.path("model.raw");
    std::fs::write(&raw, model).unwrap();
    must("qemu-img", &["compare", "-f", format, "-F", "raw", path, &raw]);
}

/// A piece of a disk: start, length, whether the image answers for it, where it is in the file.
type Piece = (u64, u64, bool, Option<u64>);

fn push(map: &mut Vec<Piece>, piece: Piece) {
    if let Some((start, len, present, offset)) = map.last_mut()
        && *present == piece.2
        && offset.map(|at| at + *len) == piece.3
        && *start + *len == piece.0
    {
        *len += piece.1;
        return;
    }
    map.push(piece);
}

fn our_map(disk: &dyn Node) -> Vec<Piece> {
    let (mut at, mut map) = (0, Vec::new());
    while at < disk.size() {
        let extent = disk.block_status(at, disk.size() - at).unwrap();
        let present = extent.kind != ExtentKind::Unallocated;
        push(&mut map, (at, extent.len, present, extent.host_offset));
        at += extent.len;
    }
    map
}

fn peer_map(format: &str, path: &str) -> Vec<Piece> {
    let text = must("qemu-img", &["map", "--output=json", "-f", format, path]);
    let pieces: serde_json::Value = serde_json::from_str(&text).unwrap();
    let mut map = Vec::new();
    for piece in pieces.as_array().unwrap() {
        let number = |key: &str| piece[key].as_u64();
        let offset = number("offset");
        let present = piece["present"].as_bool().unwrap();
        push(&mut map, (number("start").unwrap(), number("length").unwrap(), present, offset));
    }
    map
}

fn json(property: &Property) -> serde_json::Value {
    match property {
        Property::Bool(on) => (*on).into(),
        Property::Number(n) => (*n).into(),
        Property::Text(text) => text.as_str().into(),
        Property::List(list) => list.iter().map(json).collect(),
        Property::Group(group) => group.iter().map(|(k, v)| ((*k).to_owned(), json(v))).collect(),
    }
}

/// What the peer shows about an image is what we do.
fn same_info(disk: &dyn Node, format: &str, path: &str) {
    let text = must("qemu-img", &["info", "--output=json", "-f", format, path]);
    let theirs: serde_json::Value = serde_json::from_str(&text).unwrap();
    let ours = disk.info();
    assert_eq!(theirs["virtual-size"].as_u64(), Some(disk.size()));
    assert_eq!(theirs["cluster-size"].as_u64(), ours.cluster_size.map(u64::from), "{format}");
    assert_eq!(theirs["backing-filename"].as_str(), ours.backing_filename.as_deref());
    assert_eq!(theirs["backing-filename-format"].as_str(), ours.backing_format.as_deref());
    assert_eq!(theirs["dirty-flag"].as_bool().unwrap_or(false), ours.dirty);
    assert_eq!(theirs["actual-size"].as_u64(), ours.allocated);
    let specific = theirs.get("format-specific").map(|s| s["data"].clone());
    let group = Property::Group(ours.specific);
    let wanted = if group == Property::Group(Vec::new()) { None } else { Some(json(&group)) };
    assert_eq!(specific, wanted, "{format}");
}

#[test]
fn what_we_create_and_write_the_peer_checks_and_reads() {
    let folder = Folder::new("blocks-ours");
    for (i, (format, options)) in KINDS.iter().enumerate() {
        let path = folder.path(&format!("ours{i}.{format}"));
        let size = 5 * MIB + 1024;
        make(&HostFiles, format, &path, options, size);
        let mut model = vec![0; open_host(format, &path).size() as usize];
        assert!(model.len() as u64 >= size);
        peer_agrees(&folder, format, &path, &model);
        let mut random = Random(77);
        for _ in 0..2 {
            let disk = open_host(format, &path);
            exercise(&*disk, &mut model, &mut random, 60);
            assert!(read_all(&*disk) == model, "{format} {options}");
            drop(disk);
            peer_agrees(&folder, format, &path, &model);
        }
    }
}

#[test]
fn what_the_peer_creates_we_read_and_write() {
    let folder = Folder::new("blocks-theirs");
    let mut model: Vec<u8> = vec![0; 3 * MIB as usize];
    let mut random = Random(5);
    for part in model.chunks_mut(40_000).step_by(3) {
        let byte = random.next() as u8;
        part.iter_mut().enumerate().for_each(|(i, b)| *b = byte.wrapping_add((i / 100) as u8));
    }
    let raw = folder.path("source.raw");
    std::fs::write(&raw, &model).unwrap();
    for (i, (format, options)) in KINDS.iter().enumerate() {
        let path = folder.path(&format!("theirs{i}.{format}"));
        must("qemu-img", &["convert", "-f", "raw", "-O", format, "-o", options, &raw, &path]);
        let mut model = model.clone();
        let disk = try_open(&HostFiles, format, &path, &Opening::reading()).unwrap();
        model.resize(disk.size() as usize, 0);
        assert!(read_all(&*disk) == model, "{format} {options}");
        // The peer takes all of a vhdx image for data.
        if *format != "vhdx" {
            assert_eq!(our_map(&*disk), peer_map(format, &path), "{format} {options}");
        }
        same_info(&*disk, format, &path);
        drop(disk);
        let disk = open_host(format, &path);
        exercise(&*disk, &mut model, &mut random, 80);
        assert!(read_all(&*disk) == model, "{format} {options} after writing");
        drop(disk);
        peer_agrees(&folder, format, &path, &model);
    }
}

/// The files of an image by name: the first bytes without what is random, and the length.
fn files_of(folder: &Path, format: &str) -> BTreeMap<String, (Vec<u8>, u64)> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let file = open_file(&entry.path().display().to_string(), true);
        let mut len = file.size();
        let mut bytes = vec![0; len.min(6 * MIB) as usize];
        file.read_at(0, &mut bytes).unwrap();
        let (_, random) = RANDOM.iter().find(|(name, _)| *name == format).unwrap();
        random(&mut bytes, &mut len);
        files.insert(entry.file_name().into_string().unwrap(), (bytes, len));
    }
    files
}

type Normalise = fn(&mut Vec<u8>, &mut u64);

/// Takes identifiers and times out of an image: they differ from image to image.
const RANDOM: &[(&str, Normalise)] = &[
    ("vdi", |bytes, _| bytes[0x188..0x1a8].fill(0)),
    ("qed", |_, _| {}),
    ("qcow", |_, _| {}),
    ("parallels", |_, _| {}),
    ("vhdx", |bytes, _| {
        // The creator's name; checksum, sequence and identifiers of both headers.
        bytes[8..520].fill(0);
        for at in [65536, 131_072] {
            bytes[at + 4..at + 48].fill(0);
        }
        // Page 83 data, behind the table of the metadata region.
        let at = u64::from_le_bytes(bytes[196_608 + 64..][..8].try_into().unwrap()) as usize;
        bytes[at + 65536 + 16..at + 65536 + 32].fill(0);
    }),
    ("vpc", |bytes, _| {
        let starts: Vec<usize> = bytes
            .windows(8)
            .enumerate()
            .filter(|(_, w)| w == b"conectix")
            .map(|(at, _)| at)
            .collect();
        for at in starts {
            bytes[at + 24..at + 28].fill(0);
            bytes[at + 64..at + 84].fill(0);
        }
    }),
    ("vmdk", |bytes, len| {
        let Some(at) = bytes.windows(5).position(|w| w == b"\nCID=") else { return };
        let digits = bytes[at + 5..].iter().position(|b| *b == b'\n').unwrap();
        bytes.drain(at + 5..at + 5 + digits);
        match bytes[at..].iter().position(|b| *b == 0) {
            Some(end) => {
                let zeroes = std::iter::repeat_n(0, digits);
                bytes.splice(at + end..at + end, zeroes);
            }
            None => *len -= digits as u64,
        }
    }),
];

#[test]
fn new_images_have_the_bytes_of_the_peers() {
    let folder = Folder::new("blocks-bytes");
    for (format, options) in KINDS {
        for size in [0, 1000, 5 * MIB + 512, 3 << 30] {
            // The peer's empty vhdx has a table of 64 MiB: an underflow.
            if (*format, size) == ("vhdx", 0) {
                continue;
            }
            let inside = PathBuf::from(folder.path("inside"));
            let path = inside.join("a.b").display().to_string();
            std::fs::create_dir(&inside).unwrap();
            let made = try_make(&HostFiles, format, &path, options, size);
            let ours = files_of(&inside, format);
            std::fs::remove_dir_all(&inside).unwrap();
            std::fs::create_dir(&inside).unwrap();
            let size_text = size.to_string();
            let args = ["create", "-q", "-f", format, "-o", options, &path, &size_text];
            let out = tool("qemu-img", &args);
            let theirs = files_of(&inside, format);
            std::fs::remove_dir_all(&inside).unwrap();
            assert_eq!(out.status.success(), made.is_ok(), "{out:?} {made:?}");
            if made.is_err() {
                assert!(ours.is_empty(), "a half image is left");
                continue;
            }
            let names: Vec<&String> = theirs.keys().collect();
            assert_eq!(ours.keys().collect::<Vec<_>>(), names);
            for (name, (bytes, len)) in &theirs {
                let (our_bytes, our_len) = &ours[name];
                let differs = our_bytes.iter().zip(bytes).position(|(a, b)| a != b);
                assert_eq!(differs, None, "{format} {options} {size} {name}");
                assert_eq!(our_len, len, "{format} {options} {size} {name}");
            }
        }
    }
}

/// Formats with a backing file, with options for the overlay.
const OVERLAYS: &[(&str, &str)] = &[
    ("vmdk", "compat6=off"),
    ("vmdk", "zeroed_grain=on,subformat=twoGbMaxExtentSparse"),
    ("qed", "cluster_size=65536"),
    ("qed", "cluster_size=4096,table_size=16"),
    ("qcow", "nocow=off"),
];

#[test]
fn backing_files_show_through_and_are_not_written() {
    let folder = Folder::new("blocks-backing");
    for (i, (format, options)) in OVERLAYS.iter().enumerate() {
        let (raw, base) = (folder.path("base.raw"), folder.path(&format!("base{i}.{format}")));
        let content: Vec<u8> = (0..MIB + 512).map(|i| (i / 300) as u8 | 1).collect();
        std::fs::write(&raw, &content).unwrap();
        must("qemu-img", &["convert", "-f", "raw", "-O", format, &raw, &base]);
        let before = std::fs::read(&base).unwrap();
        let path = folder.path(&format!("overlay{i}.{format}"));
        let name = Path::new(&base).file_name().unwrap().to_str().unwrap();
        let options = format!("{options},backing_file={name}");
        make(&HostFiles, format, &path, &options, 2 * MIB);
        let mut model = content.clone();
        model.resize(2 * MIB as usize, 0);
        let mut random = Random(i as u64 + 1);
        for _ in 0..2 {
            let backing = try_open(&HostFiles, format, &base, &Opening::reading()).unwrap();
            let mut opening = Opening { backing: Some(backing), ..Opening::reading() };
            let disk = try_open(&HostFiles, format, &path, &opening).unwrap();
            same_info(&*disk, format, &path);
            drop(disk);
            opening.read_only = false;
            let disk = try_open(&HostFiles, format, &path, &opening).unwrap();
            assert!(read_all(&*disk) == model, "{options}");
            exercise(&*disk, &mut model, &mut random, 40);
            assert!(read_all(&*disk) == model, "{options}");
            drop(disk);
            peer_agrees(&folder, format, &path, &model);
        }
        assert!(std::fs::read(&base).unwrap() == before);
    }
}

/// Formats with compressed blocks, with options for an image that has them.
const PACKED: &[(&str, &str)] = &[("vmdk", "subformat=streamOptimized"), ("qcow", "nocow=off")];

/// `qemu-img convert -c` fails for qcow; single compressed writes do not.
fn packed_piece_by_piece(format: &str, path: &str) -> Vec<u8> {
    must("qemu-img", &["create", "-q", "-f", format, path, "1M"]);
    let mut model = vec![0; MIB as usize];
    let commands: Vec<String> =
        (0..40).map(|i| format!("write -c -P {} {} 4k", i + 1, i * 24576)).collect();
    let args = commands.iter().flat_map(|c| ["-c", c.as_str()]);
    let args: Vec<&str> = ["-f", format].into_iter().chain(args).chain([path]).collect();
    must("qemu-io", &args);
    for i in 0..40 {
        model[i * 24576..][..4096].fill(i as u8 + 1);
    }
    model
}

#[test]
fn compressed_blocks_go_both_ways() {
    let folder = Folder::new("blocks-packed");
    let mut model: Vec<u8> = (0..3 * MIB + 1024).map(|i| (i / 500) as u8).collect();
    let mut random = Random(9);
    model[MIB as usize..2 * MIB as usize].fill(0);
    model[300_000..400_000].fill_with(|| random.next() as u8);
    let raw = folder.path("source.raw");
    std::fs::write(&raw, &model).unwrap();
    for (i, (format, options)) in PACKED.iter().enumerate() {
        let path = folder.path(&format!("theirs{i}.{format}"));
        let theirs = if *format == "qcow" {
            packed_piece_by_piece(format, &path)
        } else {
            must("qemu-img", &["convert", "-c", "-O", format, "-o", options, &raw, &path]);
            model.clone()
        };
        let disk = try_open(&HostFiles, format, &path, &Opening::reading()).unwrap();
        assert!(read_all(&*disk) == theirs);
        assert_eq!(our_map(&*disk), peer_map(format, &path), "{format}");
        same_info(&*disk, format, &path);
        let path = folder.path(&format!("ours{i}.{format}"));
        make(&HostFiles, format, &path, options, model.len() as u64);
        let disk = open_host(format, &path);
        let compress = disk.image().unwrap().compress().unwrap();
        let unit = compress.unit();
        for (i, part) in model.chunks(unit as usize).enumerate() {
            if part.iter().any(|b| *b != 0) {
                compress.write_compressed(i as u64 * unit, part).unwrap();
            }
        }
        assert!(compress.write_compressed(unit + 512, &model[..512]).is_err());
        assert!(read_all(&*disk) == model);
        drop(disk);
        peer_agrees(&folder, format, &path, &model);
        let small = std::fs::metadata(&path).unwrap().len();
        assert!(small < model.len() as u64 / 4, "{small}");
    }
}

/// Formats that note what they are about to do, with options.
const KILLED: &[(&str, &str)] = &[("vhdx", "block_size=1M")];

#[test]
fn an_image_whose_peer_was_killed_is_read_and_repaired() {
    let folder = Folder::new("blocks-killed");
    for (i, (format, options)) in KILLED.iter().enumerate() {
        let path = folder.path(&format!("{i}.{format}"));
        must("qemu-img", &["create", "-q", "-f", format, "-o", options, &path, "5M"]);
        let commands = ["write -P 5 0 300k", "write -P 6 3M 512k", "flush", "sigraise 9"];
        let args = commands.iter().flat_map(|c| ["-c", *c]);
        let args: Vec<&str> = ["-f", format].into_iter().chain(args).chain([&*path]).collect();
        tool("qemu-io", &args);
        let mut model = vec![0; 5 * MIB as usize];
        model[..300 << 10].fill(5);
        model[3 << 20..][..512 << 10].fill(6);
        let before = std::fs::read(&path).unwrap();
        let disk = try_open(&HostFiles, format, &path, &Opening::reading()).unwrap();
        assert!(read_all(&*disk) == model, "{format}");
        drop(disk);
        assert!(std::fs::read(&path).unwrap() == before, "reading changes nothing");
        let disk = open_host(format, &path);
        assert!(read_all(&*disk) == model, "{format}");
        disk.write_at(4 << 20, &[7; 5000], WriteFlags::default()).unwrap();
        drop(disk);
        model[4 << 20..][..5000].fill(7);
        peer_agrees(&folder, format, &path, &model);
    }
}

#[test]
fn qed_images_grow_and_change_their_backing_file() {
    let folder = Folder::new("blocks-qed");
    let (path, base) = (folder.path("a.qed"), folder.path("base.raw"));
    let content: Vec<u8> = (0..2 * MIB).map(|i| (i / 500) as u8 | 1).collect();
    std::fs::write(&base, &content).unwrap();
    make(&HostFiles, "qed", &path, "cluster_size=4096", MIB);
    let disk = open_host("qed", &path);
    disk.write_at(0, &[9; 4096], WriteFlags::default()).unwrap();
    let image = disk.image().unwrap();
    assert!(image.resize(MIB / 2, Preallocation::Off).is_err());
    image.resize(2 * MIB, Preallocation::Off).unwrap();
    for name in ["other.raw", "base.raw"] {
        image.overlay().unwrap().record_backing(Some(name), Some("raw")).unwrap();
        assert_eq!(disk.info().backing_filename.as_deref(), Some(name));
    }
    drop(disk);
    let mut model = content;
    model[..4096].fill(9);
    peer_agrees(&folder, "qed", &path, &model);
    let backing = open_file(&base, true);
    let opening = Opening { backing: Some(backing), ..Opening::reading() };
    let disk = try_open(&HostFiles, "qed", &path, &opening).unwrap();
    same_info(&*disk, "qed", &path);
    assert!(read_all(&*disk) == model);
}

#[test]
fn files_of_images_take_the_preallocation_of_files() {
    let folder = Folder::new("blocks-preallocation");
    let path = folder.path("image");
    for format in ["vdi", "vmdk", "vpc", "vhdx", "qed", "parallels", "qcow"] {
        for (mode, good) in [("off", true), ("falloc", true), ("full", true), ("metadata", false)] {
            let options = format!("preallocation={mode}");
            let ours = try_make(&HostFiles, format, &path, &options, MIB);
            let theirs =
                tool("qemu-img", &["create", "-q", "-f", format, "-o", &options, &path, "1M"]);
            assert_eq!((ours.is_ok(), theirs.status.success()), (good, good), "{format} {mode}");
        }
    }
}

#[test]
fn either_copy_of_the_regions_of_a_vhdx_image_gives_the_other() {
    let folder = Folder::new("vhdx-regions");
    let path = folder.path("image.vhdx");
    must("qemu-img", &["create", "-q", "-f", "vhdx", &path, "8M"]);
    must("qemu-io", &["-f", "vhdx", "-c", "write -P 7 1M 1M", &path]);
    let good = std::fs::read(&path).unwrap();
    for at in [192 << 10, 256 << 10] {
        let mut bad = good.clone();
        bad[at + 20] ^= 0x55;
        std::fs::write(&path, &bad).unwrap();
        let told = |fix| {
            let report = check(&HostFiles, "vhdx", &path, fix).unwrap().unwrap();
            (report.corruptions, report.corruptions_fixed)
        };
        assert_eq!(told(Fix::Nothing), (1, 0));
        assert_eq!(told(Fix::Leaks), (1, 0));
        assert_eq!(told(Fix::All), (0, 1));
        assert_eq!(told(Fix::Nothing), (0, 0));
        let now = std::fs::read(&path).unwrap();
        assert!(now[192 << 10..320 << 10] == good[192 << 10..320 << 10]);
        must("qemu-io", &["-f", "vhdx", "-c", "read -P 7 1M 1M", &path]);
    }
}
