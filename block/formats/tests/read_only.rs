//! Formats that are only read: images made here, read by us and by the installed `qemu-img`.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::io::Write;

use common::images::*;
use common::*;
use formats::{HostFiles, probe};
use graph::WriteFlags;

/// Content with all kinds of places in it.
fn content(len: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..len).map(|i| (i / 700) as u8 ^ (i / 3) as u8).collect();
    bytes[len / 4..len / 2].fill(0);
    bytes
}

/// Both readers find `model`; the format is recognised and refuses to be written.
fn both_read(folder: &Folder, format: &str, image: &[u8], model: &[u8]) {
    let name = if format == "dmg" { "image.dmg" } else { "image" };
    let (path, raw) = (folder.path(name), folder.path("raw"));
    std::fs::write(&path, image).unwrap();
    assert_eq!(probe::format_of(&image[..image.len().min(2048)], &path), format);
    let disk = try_open(&HostFiles, format, &path, &Opening::reading()).unwrap();
    assert!(read_all(&*disk) == model, "{format}");
    let mut some = vec![0; 3000];
    disk.read_at(1000, &mut some).unwrap();
    assert!(some == model[1000..4000]);
    drop(disk);
    must("qemu-img", &["convert", "-f", format, "-O", "raw", &path, &raw]);
    assert!(std::fs::read(&raw).unwrap() == model, "the peer reads {format}");
    let disk = try_open(&HostFiles, format, &path, &Opening::default()).unwrap();
    assert!(disk.read_only() && disk.write_at(0, &[1], WriteFlags::default()).is_err());
}

fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn cloop(model: &[u8], block: usize) -> Vec<u8> {
    let script = "#!/bin/sh\n#V2.0 Format\nmodprobe cloop file=$0 && \
                  mount -r -t iso9660 /dev/cloop $1\n";
    let mut image = script.as_bytes().to_vec();
    image.resize(128, 0);
    let blocks: Vec<Vec<u8>> = model.chunks(block).map(zlib).collect();
    image.extend((block as u32).to_be_bytes());
    image.extend((blocks.len() as u32).to_be_bytes());
    let mut at = image.len() as u64 + (blocks.len() as u64 + 1) * 8;
    for packed in &blocks {
        image.extend(at.to_be_bytes());
        at += packed.len() as u64;
    }
    image.extend(at.to_be_bytes());
    image.extend(blocks.concat());
    image
}

fn bochs(model: &[u8], extent: usize, version: u32) -> Vec<u8> {
    let mut image = vec![0; 512];
    let entries = model.len().div_ceil(extent);
    let bitmap = (extent / 512).div_ceil(8);
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"Bochs Virtual HD Image");
    put(32, b"Redolog");
    put(48, b"Growing");
    put(64, &version.to_le_bytes());
    put(68, &512u32.to_le_bytes());
    put(72, &(entries as u32).to_le_bytes());
    put(76, &(bitmap as u32).to_le_bytes());
    put(80, &(extent as u32).to_le_bytes());
    put(if version == 0x1_0000 { 84 } else { 88 }, &(model.len() as u64).to_le_bytes());
    let mut extents = Vec::new();
    let mut number = 0u32;
    // Extents in another order than those of the disk.
    let mut catalog = vec![u32::MAX; entries];
    for (i, part) in model.chunks(extent).enumerate().collect::<Vec<_>>().into_iter().rev() {
        if part.iter().all(|b| *b == 0) {
            continue;
        }
        catalog[i] = number;
        number += 1;
        let mut bits = vec![0u8; bitmap.next_multiple_of(512)];
        let mut sectors = part.to_vec();
        sectors.resize(extent, 0);
        for (s, sector) in sectors.chunks_mut(512).enumerate() {
            if sector.iter().any(|b| *b != 0) {
                bits[s / 8] |= 1 << (s % 8);
            } else {
                // What the bitmap leaves out is not looked at.
                sector.fill(0xee);
            }
        }
        extents.extend(bits);
        extents.extend(sectors);
    }
    image.extend(catalog.iter().flat_map(|entry| entry.to_le_bytes()));
    image.extend(extents);
    image
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for group in bytes.chunks(3) {
        let byte = |i: usize| u32::from(group.get(i).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for i in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * i) & 63) as usize];
            out.push(if i <= group.len() { digit as char } else { '=' });
        }
    }
    out
}

/// A run: its type and how it is packed.
type Method = (u32, fn(&[u8]) -> Vec<u8>);

/// What the peer reads, too.
const USUAL: &[Method] = &[(0x8000_0005, zlib), (1, <[u8]>::to_vec)];

const ALL: &[Method] = &[
    (0x8000_0005, zlib),
    (1, <[u8]>::to_vec),
    (0x8000_0006, |bytes| {
        let mut packed = Vec::new();
        let mut encoder = bzip2::write::BzEncoder::new(&mut packed, bzip2::Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap();
        packed
    }),
    (0x8000_0008, |bytes| {
        let options = lzma_rust2::XzOptions::with_preset(6);
        let mut encoder = lzma_rust2::XzWriter::new(Vec::new(), options).unwrap();
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }),
    (0x8000_0004, |bytes| {
        let literal = |part: &[u8]| [&[0x7f + part.len() as u8][..], part].concat();
        bytes.chunks(128).flat_map(literal).collect()
    }),
];

fn dmg(model: &[u8], run: usize, methods: &[Method]) -> Vec<u8> {
    let mut image = Vec::new();
    let mut runs = Vec::new();
    for (i, part) in model.chunks(run).enumerate() {
        let (kind, packed) = if part.iter().all(|b| *b == 0) {
            (0, Vec::new())
        } else {
            let (kind, pack) = methods[i % methods.len()];
            (kind, pack(part))
        };
        runs.extend(u32::to_be_bytes(kind));
        runs.extend([0; 4]);
        for number in [i * run / 512, part.len() / 512, image.len(), packed.len()] {
            runs.extend((number as u64).to_be_bytes());
        }
        image.extend(packed);
    }
    runs.extend(0xffff_ffffu32.to_be_bytes());
    runs.extend([0; 36]);
    let mut table = vec![0; 204];
    table[..4].copy_from_slice(b"mish");
    table[4..8].copy_from_slice(&1u32.to_be_bytes());
    table[16..24].copy_from_slice(&(model.len() as u64 / 512).to_be_bytes());
    table[200..204].copy_from_slice(&(runs.len() as u32 / 40).to_be_bytes());
    table.extend(runs);
    let list = format!(
        "<plist><dict><key>resource-fork</key><dict><key>blkx</key><array><dict>\
         <key>Data</key><data>\n\t{}\n</data></dict></array></dict></dict></plist>",
        base64(&table)
    );
    let mut trailer = vec![0; 512];
    trailer[..4].copy_from_slice(b"koly");
    trailer[4..8].copy_from_slice(&4u32.to_be_bytes());
    trailer[8..12].copy_from_slice(&512u32.to_be_bytes());
    trailer[32..40].copy_from_slice(&(image.len() as u64).to_be_bytes());
    trailer[216..224].copy_from_slice(&(image.len() as u64).to_be_bytes());
    trailer[224..232].copy_from_slice(&(list.len() as u64).to_be_bytes());
    trailer[492..500].copy_from_slice(&(model.len() as u64 / 512).to_be_bytes());
    image.extend(list.as_bytes());
    image.extend(trailer);
    image
}

#[test]
fn cloop_images_are_read() {
    let folder = Folder::new("cloop");
    let model = content(300 << 10);
    both_read(&folder, "cloop", &cloop(&model, 20 << 10), &model[..]);
}

#[test]
fn bochs_images_are_read() {
    let folder = Folder::new("bochs");
    let model = content(300 << 10);
    for version in [0x1_0000, 0x2_0000] {
        both_read(&folder, "bochs", &bochs(&model, 16384, version), &model);
    }
}

#[test]
fn dmg_images_are_read() {
    let folder = Folder::new("dmg");
    let model = content(300 << 10);
    both_read(&folder, "dmg", &dmg(&model, 20 << 10, USUAL), &model);
    let host = MemoryHost::default();
    host.put("image.dmg", dmg(&model, 12 << 10, ALL));
    let disk = try_open(&host, "dmg", "image.dmg", &Opening::reading()).unwrap();
    assert!(read_all(&*disk) == model);
}

#[test]
fn damaged_images_do_no_harm() {
    let model = content(100 << 10);
    let images = [
        ("cloop", cloop(&model, 4096)),
        ("bochs", bochs(&model, 4096, 0x2_0000)),
        ("dmg", dmg(&model, 10 << 10, ALL)),
    ];
    for (i, (format, good)) in images.iter().enumerate() {
        let mut random = Random(i as u64 + 1);
        for _ in 0..1500 {
            let mut bad = good.clone();
            for _ in 0..=random.below(3) {
                let area = [160, 512, u64::MAX][random.below(3) as usize].min(bad.len() as u64);
                // The trailer of a dmg is at the end.
                let mut at = random.below(area) as usize;
                if *format == "dmg" && random.below(2) == 0 {
                    at = bad.len() - 1 - at;
                }
                let value = random.next().to_be_bytes();
                let len = [1, 4, 8][random.below(3) as usize].min(bad.len() - at);
                bad[at..at + len].copy_from_slice(&value[..len]);
            }
            let host = MemoryHost::default();
            host.put("bad", bad);
            if let Ok(disk) = try_open(&host, format, "bad", &Opening::reading()) {
                let mut buf = vec![0; 70_000.min(disk.size()) as usize];
                let _ = disk.read_at(0, &mut buf);
                let _ = disk.block_status(0, disk.size());
            }
        }
    }
}
