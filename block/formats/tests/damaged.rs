//! Bytes changed in every structure of metadata, judged beside the installed `qemu-img`.
//!
//! Whatever an image says: we neither panic nor write to what we did not understand; we do not call
//! clean what the peer calls damaged; what we have repaired is clean for both, and reads.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};

use common::*;
use formats::{HostFiles, ImageSpec, check_image};
use graph::{Fix, SnapshotInfo, WriteFlags, ZeroFlags};

/// What a check says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    Clean,
    Leaks,
    Damaged,
    /// Not opened.
    Refused,
    /// The format has no check.
    Unchecked,
}

fn ours(format: &str, path: &str, fix: Fix) -> (Verdict, String) {
    let spec = ImageSpec {
        name: path,
        format: Some(format),
        writable: fix != Fix::Nothing,
        ..ImageSpec::default()
    };
    match check_image(&spec, fix, &HostFiles, &Backwards) {
        Err(e) => (Verdict::Refused, e.to_string()),
        Ok((_, None)) => (Verdict::Unchecked, String::new()),
        Ok((_, Some(report))) => {
            let verdict = if report.corruptions + report.check_errors > 0 {
                Verdict::Damaged
            } else if report.leaks > 0 {
                Verdict::Leaks
            } else {
                Verdict::Clean
            };
            (verdict, report.findings.join("; "))
        }
    }
}

fn theirs(format: &str, path: &str) -> (Verdict, String) {
    let out = tool("qemu-img", &["check", "-f", format, path]);
    let said = String::from_utf8_lossy(&out.stderr).replace('\n', "; ");
    let verdict = match out.status.code() {
        Some(0) => Verdict::Clean,
        Some(3) => Verdict::Leaks,
        Some(2) => Verdict::Damaged,
        Some(63) => Verdict::Unchecked,
        _ => Verdict::Refused,
    };
    (verdict, said)
}

/// Most memory of this process: small images take little, whatever they claim.
const MEMORY_KIB: u64 = 400 << 10;

/// The most memory that this process had.
fn most_memory_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Bytes changed in each structure; more with `ROUNDS`.
const ROUNDS: u32 = 3;

#[test]
fn what_the_peer_calls_damaged_is_not_clean_to_us() {
    let folder = Folder::new("damaged");
    let path = folder.path("image");
    let rounds: u32 = std::env::var("ROUNDS").map_or(ROUNDS, |n| n.parse().unwrap());
    let mut wrong = Vec::new();
    for sample in SAMPLES {
        let good = sample.make(&folder.path("good"));
        let mut random = Random(9);
        for (name, start, len) in sample.structures(&good) {
            for _ in 0..rounds {
                let at = (start + random.below(len as u64) as usize).min(good.len() - 1);
                let bits = match random.below(2) {
                    0 => 1 << random.below(8),
                    _ => random.next() as u8 | 1,
                };
                let what = format!("{} {name} {at:#x}^{bits:#x}", sample.name);
                let mut bad = good.clone();
                bad[at] ^= bits;
                std::fs::write(&path, &bad).unwrap();
                let judged = catch_unwind(AssertUnwindSafe(|| judge(sample, &path)));
                let said = judged.unwrap_or_else(|_| panic!("{what}"));
                wrong.extend(said.map(|said| format!("{what}: {said}")));
                assert!(most_memory_kib() < MEMORY_KIB, "{what}: {} KiB", most_memory_kib());
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What is wrong with how we judge and repair an image, if anything is.
fn judge(sample: &Sample, path: &str) -> Option<String> {
    let (our, said) = ours(sample.format, path, Fix::Nothing);
    let (their, told) = theirs(sample.format, path);
    // Both copies of a table count for us; the peer gives up with the first.
    let second_copy = sample.format == "vhdx" && their == Verdict::Refused;
    if their >= Verdict::Damaged && their < Verdict::Unchecked && our < Verdict::Damaged {
        let excused = second_copy;
        if !excused {
            return Some(format!("ours {our:?} ({said}), theirs {their:?} ({told})"));
        }
    }
    let (fixed, said) = ours(sample.format, path, Fix::All);
    let (their, told) = theirs(sample.format, path);
    let wrong = fixed == Verdict::Clean && their > Verdict::Leaks && their < Verdict::Unchecked;
    if wrong && !second_copy {
        return Some(format!("repaired by us ({said}), theirs {their:?} ({told})"));
    }
    use_image(sample.format, path);
    let (used, said) = ours(sample.format, path, Fix::Nothing);
    let spoilt = fixed == Verdict::Clean && used == Verdict::Damaged;
    spoilt.then(|| format!("damaged by writing: {said}"))
}

/// Reads and writes, as far as that goes.
fn use_image(format: &str, path: &str) {
    let options = format!("driver={format},file.driver=file,file.filename={path}");
    let Ok(disk) = try_open_options(&options, true) else { return };
    let mut bytes = vec![0; 4096];
    let size = disk.size().min(64 << 20);
    for at in (0..size.saturating_sub(4096)).step_by(64 << 10) {
        let _ = disk.read_at(at, &mut bytes);
    }
    for at in [0, 100_000, 500_000] {
        let _ = disk.write_at(at, &[7; 3000], WriteFlags::default());
    }
    let _ = disk.flush();
}

struct Sample {
    name: &'static str,
    format: &'static str,
    options: &'static str,
}

const SAMPLES: &[Sample] = &[
    Sample { name: "qcow2", format: "qcow2", options: "cluster_size=4k" },
    Sample { name: "qcow2 v2", format: "qcow2", options: "cluster_size=4k,compat=0.10" },
    Sample { name: "qcow2 ext", format: "qcow2", options: "cluster_size=16k,extended_l2=on" },
    Sample { name: "vdi", format: "vdi", options: "" },
    Sample { name: "vmdk", format: "vmdk", options: "" },
    Sample { name: "vpc", format: "vpc", options: "" },
    Sample { name: "vhdx", format: "vhdx", options: "block_size=1M" },
    Sample { name: "qed", format: "qed", options: "cluster_size=4096,table_size=2" },
    Sample { name: "parallels", format: "parallels", options: "cluster_size=64k" },
    Sample { name: "qcow", format: "qcow", options: "" },
];

fn be(b: &[u8], at: usize) -> usize {
    (u64::from_be_bytes(*b[at..].first_chunk().unwrap()) & 0x00ff_ffff_ffff_fe00) as usize
}

impl Sample {
    fn make(&self, path: &str) -> Vec<u8> {
        let size = if self.format == "qcow2" { "1M" } else { "4M" };
        create_image(
            self.format,
            path,
            format!("size={size},{}", self.options).trim_end_matches(','),
        );
        let options = format!("driver={},file.driver=file,file.filename={path}", self.format);
        let disk = open_options(&options, true);
        disk.write_at(0, &[1; 300 << 10], WriteFlags::default()).unwrap();
        disk.write_at(700 << 10, &[2; 100 << 10], WriteFlags::default()).unwrap();
        if self.format == "qcow2" {
            let image = disk.image().unwrap();
            for name in ["s", "t"] {
                let info = SnapshotInfo { name: name.into(), ..SnapshotInfo::default() };
                image.snapshots().unwrap().create(&info).unwrap();
            }
            disk.write_at(64 << 10, &[3; 100 << 10], WriteFlags::default()).unwrap();
            disk.write_zeroes(200 << 10, 64 << 10, ZeroFlags { unmap: true, fua: false }).unwrap();
            let unit = image.compress().unwrap().unit();
            for n in 0..3 {
                image
                    .compress()
                    .unwrap()
                    .write_compressed((512 << 10) + n * unit, &vec![4; unit as usize])
                    .unwrap();
            }
            if let Some(bitmaps) = image.bitmaps() {
                bitmaps.add("one", 4096, true).unwrap();
                bitmaps.add("another", 65536, false).unwrap();
                bitmaps.set("another", 0, 200 << 10).unwrap();
            }
            disk.write_at(800 << 10, &[5; 20 << 10], WriteFlags::default()).unwrap();
        }
        drop(disk);
        std::fs::read(path).unwrap()
    }

    /// Name, start and length of what a byte is changed in.
    fn structures(&self, b: &[u8]) -> Vec<(&'static str, usize, usize)> {
        match self.format {
            "qcow2" => {
                let (reftable, l1, list) = (be(b, 48), be(b, 40), be(b, 64));
                let mut all = vec![
                    ("fields", 4, 108),
                    ("extensions", 112, 460),
                    ("refcount table", reftable, 16),
                    ("refcount block", be(b, reftable), 128),
                    ("L1", l1, 8),
                    ("L2", be(b, l1), 1024),
                    ("snapshot table", list, 128),
                    ("snapshot L1", be(b, list), 8),
                    ("snapshot L2", be(b, be(b, list)), 512),
                ];
                if let Some(at) = b[..4096].windows(4).position(|w| w == [0x23, 0x85, 0x28, 0x75]) {
                    let directory = be(b, at + 24);
                    all.push(("bitmap extension", at, 32));
                    all.push(("bitmap directory", directory, 72));
                    all.push(("bitmap table", be(b, directory), 8));
                }
                all
            }
            "vdi" => vec![("header", 0, 512), ("map", 512, 16)],
            "vmdk" => {
                let le = |at: usize| u64::from_le_bytes(*b[at..].first_chunk().unwrap()) as usize;
                vec![
                    ("header", 0, 80),
                    ("descriptor", 512, 600),
                    ("directory", le(56) * 512, 8),
                    ("table", (le(le(56) * 512) & 0xffff_ffff) * 512, 64),
                ]
            }
            "vpc" => vec![("footer", 0, 512), ("dynamic header", 512, 64), ("table", 1536, 16)],
            "vhdx" => vec![
                ("file id", 0, 16),
                ("header 1", 64 << 10, 128),
                ("header 2", 128 << 10, 128),
                ("regions", 192 << 10, 128),
                ("metadata", 2 << 20, 256),
                ("values", (2 << 20) + (64 << 10), 64),
                ("bat", 3 << 20, 64),
            ],
            "qed" => vec![
                ("header", 0, 64),
                ("l1", 4096, 16),
                ("l2", (u64::from_le_bytes(*b[4096..].first_chunk().unwrap())) as usize, 1024),
            ],
            "parallels" => vec![("header", 0, 64), ("bat", 64, 64)],
            "qcow" => vec![("header", 0, 48), ("l1", 48, 16), ("l2", be(b, 48), 256)],
            _ => vec![],
        }
    }
}

/// The image is read by the other copy, and nobody is told but who checks.
#[test]
fn either_copy_of_a_region_table_can_be_damaged() {
    let folder = Folder::new("regions");
    let path = folder.path("disk.vhdx");
    for (copy, at) in [(0, 196_608), (1, 262_144)] {
        create_image("vhdx", &path, "size=4M");
        assert_eq!(ours("vhdx", &path, Fix::Nothing).0, Verdict::Clean);
        let file = open_file(&path, false);
        file.write_at(at + 100, &[0x55], WriteFlags::default()).unwrap();
        drop(file);
        let (verdict, text) = ours("vhdx", &path, Fix::Nothing);
        assert_eq!(verdict, Verdict::Damaged, "{text}");
        assert!(text.contains(&format!("copy {copy} of the region table is damaged")), "{text}");
        assert_eq!(open_named(&path, "vhdx", false).size(), 4 << 20);
    }
}
