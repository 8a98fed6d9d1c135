//! Images of every format made to harm: nothing panics, hangs or allocates what the file does not
//! back.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::images::*;
use common::*;
use graph::{Fix, Node, WriteFlags, ZeroFlags};

/// Formats that are written, with options.
const KINDS: &[(&str, &str)] = &[
    ("vdi", ""),
    ("vmdk", ""),
    ("vmdk", "zeroed_grain=on"),
    ("vmdk", "subformat=streamOptimized"),
    ("vmdk", "subformat=twoGbMaxExtentSparse"),
    ("vmdk", "subformat=monolithicFlat"),
    ("vpc", ""),
    ("vpc", "subformat=fixed"),
    ("vhdx", "block_size=1M"),
    ("qed", "cluster_size=4096"),
    ("qcow", ""),
    ("parallels", "cluster_size=64k"),
];

/// Writes a little everywhere, so that there are tables and data.
fn fill(disk: &dyn Node) {
    let compress = disk.image().and_then(|image| image.compress());
    for at in [0, 5000, 300_000, 1 << 20, disk.size() - 70_000] {
        match compress {
            Some(compress) => {
                let unit = compress.unit();
                let at = at - at % unit;
                let len = unit.min(disk.size() - at);
                let _second = compress.write_compressed(at, &vec![at as u8 + 1; len as usize]);
            }
            None => disk.write_at(at, &[at as u8 + 1; 700], WriteFlags::default()).unwrap(),
        }
    }
}

/// Does everything that can be done to an image, expecting nothing.
fn prod(host: &MemoryHost, format: &str) {
    let _ = check(host, format, "image.x", Fix::Nothing);
    if let Ok(disk) = try_open(host, format, "image.x", &Opening::default()) {
        let size = disk.size();
        let mut buf = vec![0; 70_000];
        for at in [0, 5000, 290_000, size / 2, size.saturating_sub(70_000)] {
            let len = (size.saturating_sub(at)).min(70_000);
            if len == 0 {
                continue;
            }
            let _ = disk.block_status(at, size - at);
            let _ = disk.read_at(at, &mut buf[..len as usize]);
            let _ = disk.write_at(at, &buf[..len.min(3000) as usize], WriteFlags::default());
            let flags = ZeroFlags { unmap: at % 2 == 0, fua: false };
            let _ = disk.write_zeroes(at, len, flags);
            let _ = disk.discard(at, len);
        }
        let _ = disk.flush();
        let _ = disk.info();
    }
    let _ = check(host, format, "image.x", Fix::All);
}

#[test]
fn no_damaged_image_does_harm() {
    for (i, (format, options)) in KINDS.iter().enumerate() {
        let host = MemoryHost::default();
        make(&host, format, "image.x", options, (4 << 20) + 512);
        fill(&*try_open(&host, format, "image.x", &Opening::default()).unwrap());
        let names: Vec<String> = host.0.lock().unwrap().keys().cloned().collect();
        let good: Vec<(String, Vec<u8>)> =
            names.into_iter().map(|name| (name.clone(), host.file(&name).forget_log())).collect();
        let mut random = Random(i as u64 + 3);
        for _ in 0..300 {
            for (name, bytes) in &good {
                let mut bad = bytes.clone();
                damage(&mut bad, &mut random);
                host.put(name, bad);
            }
            prod(&host, format);
        }
    }
}

/// Changes a few fields, mostly where there is something, or cuts the file.
fn damage(bytes: &mut Vec<u8>, random: &mut Random) {
    if bytes.is_empty() {
        return;
    }
    if random.below(10) == 0 {
        bytes.truncate(random.below(bytes.len() as u64) as usize);
        return;
    }
    for _ in 0..=random.below(3) {
        let area = [512, 2048, 70_000, u64::MAX][random.below(4) as usize];
        let mut at = random.below(area.min(bytes.len() as u64)) as usize;
        // The next byte that is not zero, so that fields are hit and not the space between.
        if let Some(n) = bytes[at..].iter().position(|b| *b != 0) {
            at += n;
        }
        let value = match random.below(5) {
            0 => 0,
            1 => u64::MAX,
            2 => 1 << random.below(64),
            3 => random.next(),
            _ => bytes.len() as u64 / 512,
        };
        let field = value.to_le_bytes();
        let field = if random.below(2) == 0 { field } else { value.to_be_bytes() };
        let len = [1, 2, 4, 8][random.below(4) as usize].min(bytes.len() - at);
        bytes[at..at + len].copy_from_slice(&field[..len]);
    }
}
