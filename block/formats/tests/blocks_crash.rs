//! Power loss between every two writes, for images that are tables of blocks.
//!
//! As in `crash.rs`: the log of a workload is cut after every operation; each remaining image has no
//! damage, and every sector holds what was flushed or something written after that.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::io;
use std::sync::Arc;

use common::images::*;
use common::power::*;
use common::*;
use graph::{Extent, ExtentKind, Fix, Node, NodeInfo, WriteFlags, ZeroFlags};

struct Case {
    format: &'static str,
    options: &'static str,
    size: u64,
    rounds: u32,
}

const CASES: &[Case] = &[
    Case { format: "vdi", options: "", size: 3 << 20, rounds: 60 },
    Case { format: "vmdk", options: "", size: 600 << 10, rounds: 60 },
    Case { format: "vmdk", options: "zeroed_grain=on", size: 600 << 10, rounds: 60 },
    Case { format: "vpc", options: "", size: 5 << 20, rounds: 50 },
    Case { format: "vhdx", options: "block_size=1M", size: 3 << 20, rounds: 30 },
    Case { format: "qed", options: "cluster_size=4096,table_size=1", size: 400 << 10, rounds: 60 },
    Case { format: "qcow", options: "", size: 400 << 10, rounds: 60 },
    Case { format: "parallels", options: "cluster_size=64k", size: 600 << 10, rounds: 60 },
];

/// Runs a workload on a new image and cuts its log after each operation.
fn torture(case: &Case, backing: Option<(Arc<dyn Node>, Vec<u8>)>, seed: u64) {
    let Case { format, options, size, rounds } = *case;
    let host = MemoryHost::default();
    let backing = backing.map(|(node, file)| {
        host.put("base", file);
        node
    });
    make(&host, format, "image", options, size);
    let file = host.file("image");
    let start = file.forget_log();
    let opening = Opening { backing, ..Opening::default() };
    let disk = try_open(&host, format, "image", &opening).unwrap();
    let mut history = History::of(&*disk);
    workload(&*disk, || file.logged(), &mut history, rounds, seed);
    drop(disk);
    let log = std::mem::take(&mut file.0.lock().unwrap().1);
    let mut random = Random(seed + 1);
    for cut in 0..=log.len() {
        for what in [Survivors::None, Survivors::All, Survivors::Half, Survivors::Few] {
            let name = format!("{format} {options} cut {cut} {what:?}");
            let left = remains(&start, &log, cut, what, &mut random);
            host.put("left", left);
            if let Some(report) = check(&host, format, "left", Fix::Nothing).unwrap() {
                assert_eq!(damage(&report), 0, "{name}: {:?}", report.findings);
            }
            let reading = Opening { read_only: true, ..opening.clone() };
            let disk = try_open(&host, format, "left", &reading).unwrap();
            for (i, tag) in tags(&read_all(&*disk)).into_iter().enumerate() {
                assert!(history.allows(i, cut, tag), "{name}: sector {i} holds {tag:#x}");
            }
            if cut % 16 == 0 {
                drop(disk);
                still_writable(&host, format, &opening, &name);
            }
        }
    }
}

/// The image can be used again: leaks do no harm.
fn still_writable(host: &MemoryHost, format: &str, opening: &Opening, name: &str) {
    let disk = try_open(host, format, "left", opening).unwrap();
    let mut history = History::of(&*disk);
    workload(&*disk, || 0, &mut history, 12, 99);
    drop(disk);
    if let Some(report) = check(host, format, "left", Fix::Nothing).unwrap() {
        assert_eq!(damage(&report), 0, "{name}: {:?}", report.findings);
    }
}

#[test]
fn no_cut_damages_an_image() {
    for (i, case) in CASES.iter().enumerate() {
        torture(case, None, i as u64 + 1);
    }
}

/// Formats that can have a backing file, with the option that names it.
const OVERLAYS: &[Case] = &[
    Case { format: "vmdk", options: "backing_file=base", size: 400 << 10, rounds: 60 },
    Case {
        format: "qed",
        options: "cluster_size=4096,backing_file=base",
        size: 200 << 10,
        rounds: 60,
    },
    Case { format: "qcow", options: "backing_file=base", size: 100 << 10, rounds: 60 },
    Case {
        format: "vmdk",
        options: "zeroed_grain=on,backing_file=base",
        size: 400 << 10,
        rounds: 60,
    },
];

/// A backing file of some format: content, behind what an overlay asks about it.
struct Base(Vec<u8>, NodeInfo);

impl Node for Base {
    fn size(&self) -> u64 {
        self.0.len() as u64
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        buf.copy_from_slice(&self.0[offset as usize..][..buf.len()]);
        Ok(())
    }
    fn write_at(&self, _: u64, _: &[u8], _: WriteFlags) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }
    fn write_zeroes(&self, _: u64, _: u64, _: ZeroFlags) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }
    fn discard(&self, _: u64, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }
    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
    fn block_status(&self, _: u64, len: u64) -> io::Result<Extent> {
        Ok(Extent { kind: ExtentKind::Data, len, host_offset: None })
    }
    fn read_only(&self) -> bool {
        true
    }
    fn info(&self) -> NodeInfo {
        self.1.clone()
    }
}

#[test]
fn no_cut_damages_an_overlay() {
    for (i, case) in OVERLAYS.iter().enumerate() {
        // The overlay is made in front of an image of its own format and asks what that is.
        let host = MemoryHost::default();
        make(&host, case.format, "base", "", case.size);
        let info = try_open(&host, case.format, "base", &Opening::reading()).unwrap().info();
        let sectors = case.size / SECTOR as u64;
        let content = (0..sectors).flat_map(|i| (i + 1).to_le_bytes().repeat(SECTOR / 8));
        let base: Arc<dyn Node> = Arc::new(Base(content.collect(), info));
        let files = host.0.lock().unwrap()["base"].forget_log();
        torture(case, Some((base, files)), i as u64 + 40);
    }
}

/// Formats whose images the peer repairs after a crash, with options.
const REPAIRED: &[Case] =
    &[Case { format: "vhdx", options: "block_size=1M", size: 3 << 20, rounds: 20 }];

#[test]
fn the_peer_repairs_what_a_cut_leaves() {
    let folder = Folder::new("blocks-repaired");
    for case in REPAIRED {
        let Case { format, options, size, rounds } = *case;
        let host = MemoryHost::default();
        make(&host, format, "image", options, size);
        let file = host.file("image");
        let start = file.forget_log();
        let disk = try_open(&host, format, "image", &Opening::default()).unwrap();
        let mut history = History::of(&*disk);
        workload(&*disk, || file.logged(), &mut history, rounds, 5);
        drop(disk);
        let log = std::mem::take(&mut file.0.lock().unwrap().1);
        let mut random = Random(6);
        let (path, raw) = (folder.path("left"), folder.path("raw"));
        for i in 1..=24 {
            let cut = log.len() * i / 24;
            let what = [Survivors::None, Survivors::All, Survivors::Half][i % 3];
            std::fs::write(&path, remains(&start, &log, cut, what, &mut random)).unwrap();
            let out = tool("qemu-img", &["check", "-f", format, "-r", "all", &path]);
            assert!(out.status.success(), "{format} cut {cut} {what:?}: {out:?}");
            must("qemu-img", &["convert", "-f", format, "-O", "raw", &path, &raw]);
            for (i, tag) in tags(&std::fs::read(&raw).unwrap()).into_iter().enumerate() {
                assert!(history.allows(i, cut, tag), "{format} cut {cut} {what:?}: sector {i}");
            }
        }
    }
}
