//! `kill -9` under random load: what was flushed is there, and the image is without damage.
//!
//! Its own `main`, because the same binary is the victim: it writes to an image for ever and says
//! on standard output up to which step it has flushed. The short form: 10 kills per kind of image;
//! `KILLS=1000 cargo test -p formats --test kill` is the long one.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod common;

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use common::*;
use graph::{Node, WriteFlags};

const SIZE: u64 = 8 << 20;
const SECTOR: u64 = 512;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    match args.get(1).map(String::as_str) {
        Some("victim") => victim(&args[2], args[3].parse().unwrap()),
        // A runner that asks what there is to run; there are no ignored tests.
        _ if args.iter().any(|arg| arg == "--list") => {
            if !args.iter().any(|arg| arg == "--ignored") {
                println!("killed_at_any_time_the_image_is_whole: test");
            }
        }
        // Filters are not for us: there is one test.
        _ => all_kinds(),
    }
}

/// One step of the load: which sectors get the step's tag.
fn step(seed: u64, index: u64) -> (u64, u64) {
    let mut random = Random((seed << 32 | index) + 1);
    random.next();
    let first = random.below(SIZE / SECTOR);
    let most = [1, 8, 128, 500][random.below(4) as usize];
    (first, (random.below(most) + 1).min(SIZE / SECTOR - first))
}

fn tag(seed: u64, index: u64) -> u64 {
    seed << 32 | index
}

fn victim(path: &str, seed: u64) {
    let disk = open(path, false, None);
    for index in 1.. {
        let (first, count) = step(seed, index);
        let data = tag(seed, index).to_le_bytes().repeat((count * SECTOR / 8) as usize);
        disk.write_at(first * SECTOR, &data, WriteFlags::default()).unwrap();
        if index % 7 == 0 {
            disk.flush().unwrap();
            println!("{index}");
            std::io::stdout().flush().unwrap();
        }
    }
}

fn all_kinds() {
    let kills = std::env::var("KILLS").map_or(10, |n| n.parse().unwrap());
    let folder = Folder::new("kill");
    for options in ["compat=1.1", "cluster_size=512,refcount_bits=64", "extended_l2=on"] {
        let path = folder.path("image.qcow2");
        let size = SIZE.to_string();
        must("qemu-img", &["create", "-q", "-f", "qcow2", "-o", options, &path, &size]);
        let mut random = Random(17);
        let mut model = vec![0; (SIZE / SECTOR) as usize];
        for seed in 1..=kills {
            let flushed = run_and_kill(&path, seed, random.below(12) + 1);
            verify(&path, seed, flushed, &mut model);
        }
        println!("{options}: {kills} kills survived");
    }
}

/// Kills a victim some time after its `wanted`th flush; returns the last step known as flushed.
fn run_and_kill(path: &str, seed: u64, wanted: u64) -> u64 {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["victim", path, &seed.to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut flushed = 0;
    for _ in 0..wanted {
        flushed = lines.next().expect("the victim died by itself").unwrap().parse().unwrap();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    for line in lines {
        flushed = line.unwrap().parse().unwrap();
    }
    flushed
}

fn verify(path: &str, seed: u64, flushed: u64, model: &mut [u64]) {
    let mut at_least = vec![0; model.len()];
    for index in 1..=flushed {
        let (first, count) = step(seed, index);
        for sector in first..first + count {
            model[sector as usize] = tag(seed, index);
            at_least[sector as usize] = index;
        }
    }
    let disk = open(path, true, None);
    for (sector, bytes) in read_all(&disk).chunks(SECTOR as usize).enumerate() {
        let value = u64::from_le_bytes(*bytes.first_chunk().unwrap());
        assert!(bytes.chunks(8).all(|c| c == value.to_le_bytes()), "sector {sector} is torn");
        if value == model[sector] {
            continue;
        }
        let (writer, index) = (value >> 32, value & 0xffff_ffff);
        let (first, count) = step(writer, index);
        let later = writer == seed
            && index > flushed.max(at_least[sector])
            && (first..first + count).contains(&(sector as u64));
        assert!(later, "sector {sector} holds {value:#x}, not {:#x}", model[sector]);
        model[sector] = value;
    }
    drop(disk);
    let report = formats::qcow2::Qcow2::check(&*open_file(path, true), path).unwrap();
    assert_eq!(report.corruptions, 0, "{:?}", report.findings);
    let out = tool("qemu-img", &["check", "-f", "qcow2", path]);
    // 0: clean, 3: leaks only.
    assert!(matches!(out.status.code(), Some(0 | 3)), "{out:?}");
}
