//! `kill -9` under random load: what was flushed is there, and the image is without damage.
//!
//! Its own `main`, because the same binary is the victim: it loads an image for ever and says on
//! standard output up to which step it has flushed. After each death the image must hold what was
//! flushed or something done after that, a check of ours and of the peer's finds at most leaks, and
//! the peer reads what we read. Then the next victim goes on with the same image, which one of
//! the two has repaired from time to time.
//!
//! The short form kills twice for each row of [`cases::CASES`]; `KILLS=40` kills forty times
//! (`cargo xtask kills`), and `KILL_CASE=text` takes the rows with that text in their names.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod cases;
#[path = "../common/mod.rs"]
mod common;
mod load;
mod model;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use cases::{CASES, Case};
use common::*;
use formats::{HostFiles, ImageSpec, check_image};
use graph::Fix;
use load::Flushed;
use model::Model;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    match args.get(1).map(String::as_str) {
        Some("victim") => {
            load::run(&CASES[args[2].parse::<usize>().unwrap()], &args[3], args[4].parse().unwrap())
        }
        // A runner that asks what there is to run; there are no ignored tests.
        _ if args.iter().any(|arg| arg == "--list") => {
            if !args.iter().any(|arg| arg == "--ignored") {
                println!("killed_at_any_time_the_image_is_whole: test");
            }
        }
        // Filters are not for us: there is one test.
        _ => all_cases(),
    }
}

fn all_cases() {
    let kills = std::env::var("KILLS").map_or(2, |n| n.parse().unwrap());
    let chosen = std::env::var("KILL_CASE").unwrap_or_default();
    let folder = Folder::new("kill");
    let mut all = 0;
    for (number, case) in CASES.iter().enumerate() {
        if !case.name.contains(&chosen) {
            continue;
        }
        let path = folder.path(&format!("image-{number}"));
        case.create(&path);
        let mut model = Model::of(case, &*case.open(&path, false));
        let mut random = Random(17 + number as u64);
        let (mut flushes, mut leaking) = (0, 0);
        for seed in 1..=kills {
            let flushed = run_and_kill(number, &path, seed, &mut random);
            flushes += flushed.values().sum::<u64>() / load::STEPS_PER_FLUSH;
            leaking += u32::from(verify(case, &path, seed, &flushed, &mut model));
        }
        println!("{}: {kills} kills, {flushes} flushes, {leaking} times leaks", case.name);
        all += kills;
    }
    println!("{all} kills survived");
}

/// Kills a victim some time after one of its flushes; returns what is known as flushed.
fn run_and_kill(number: usize, path: &str, seed: u64, random: &mut Random) -> Flushed {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["victim", &number.to_string(), path, &seed.to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut flushed = BTreeMap::new();
    let mut note = |line: String| {
        let (thread, index) = line.split_once(' ').unwrap();
        flushed.insert(thread.parse().unwrap(), index.parse().unwrap());
    };
    let wanted = random.below(8);
    for _ in 0..wanted {
        note(lines.next().expect("the victim died by itself").unwrap());
    }
    // Without a flush to wait for: somewhere between its start and its first steps.
    let most = if wanted == 0 { 20_000 } else { 3000 };
    std::thread::sleep(Duration::from_micros(random.below(most)));
    child.kill().unwrap();
    child.wait().unwrap();
    lines.for_each(|line| note(line.unwrap()));
    flushed
}

/// Judges what is left; says whether there are leaks.
fn verify(case: &Case, path: &str, seed: u64, flushed: &Flushed, model: &mut Model) -> bool {
    let what = format!("{} seed {seed}", case.name);
    model.account(case, seed, flushed);
    model.settle(case, &*case.open(path, false), &what);
    let leaks = check(case, path, Fix::Nothing, &what);
    peer_check(case, path, &[], &[0, 3], &what);
    // Lost space inside of these images stays lost.
    let keeps_leaks = case.format == "qed";
    let repaired: &[i32] = if keeps_leaks { &[0, 3] } else { &[0] };
    match seed % 4 {
        0 => {
            let left = check(case, path, Fix::All, &what);
            assert!(!left || keeps_leaks, "{what}: leaks stay");
            peer_check(case, path, &[], repaired, &what);
        }
        2 if case.repaired => {
            peer_check(case, path, &["-r", "all"], repaired, &what);
            let left = check(case, path, Fix::Nothing, &what);
            assert!(!left || keeps_leaks, "{what}: the peer left leaks");
        }
        _ => return leaks,
    }
    model.settle(case, &*case.open(path, false), &format!("{what} after repair"));
    let raw = format!("{path}.raw");
    let mut words = vec!["convert", "--image-opts", "-O", "raw"];
    let source = case.options_of(path);
    words.extend(case.secret());
    words.extend([source.as_str(), raw.as_str()]);
    must("qemu-img", &words);
    assert!(std::fs::read(&raw).unwrap() == model.bytes(), "{what}: the peer reads differently");
    leaks
}

/// Our check finds no corruption; says whether it finds leaks.
fn check(case: &Case, path: &str, fix: Fix, what: &str) -> bool {
    let options = case.options_of(path);
    let writable = fix != Fix::Nothing;
    let spec = ImageSpec { name: &options, complete: true, writable, ..ImageSpec::default() };
    let report = check_image(&spec, fix, &HostFiles, &Backwards).unwrap().1;
    let Some(report) = report else { return false };
    assert_eq!(images::damage(&report), 0, "{what}: {:?}", report.findings);
    report.leaks > 0
}

/// The peer's check ends with one of `codes`: 0 is clean, 3 leaks only.
fn peer_check(case: &Case, path: &str, words: &[&str], codes: &[i32], what: &str) {
    /// The format has no check.
    const NONE: i32 = 63;
    let options = case.options_of(path);
    let copy = format!("{path}.copy");
    let mut all = vec!["check", "--image-opts"];
    all.extend(words);
    all.extend(case.secret());
    let log = case.format == "vhdx" && words.is_empty();
    let options = if log {
        // It reads none with a log that has to be replayed.
        std::fs::copy(path, &copy).unwrap();
        all.extend(["-r", "all"]);
        case.options_of(&copy)
    } else {
        options
    };
    all.push(&options);
    let out = tool("qemu-img", &all);
    let code = out.status.code().unwrap();
    let told = String::from_utf8_lossy(&out.stderr);
    // To its checkers damage, and what any crash leaves.
    let open = code == 2
        && (told.starts_with("ERROR image was not closed correctly\n") || counts_too_many(&told))
        && String::from_utf8_lossy(&out.stdout).starts_with("\n1 errors were found");
    let none = code == NONE && !case.checked;
    assert!(codes.contains(&code) || none || open, "{what}: {out:?}");
}

/// Whether all that is told of a vdi image is a count of blocks that is too high: their space is lost.
fn counts_too_many(told: &str) -> bool {
    let counts = told.strip_prefix("ERROR: allocated blocks mismatch, is ");
    let counts = counts.and_then(|rest| rest.strip_suffix('\n')?.split_once(", should be "));
    let counts = counts.and_then(|(is, should)| Some((is.parse().ok()?, should.parse().ok()?)));
    counts.is_some_and(|(is, should): (u32, u32)| is < should)
}
