//! `cargo xtask fuzz`: the targets of `fuzz/`, each for a while.
//!
//! The compiler's coverage counters need no nightly features, the sanitizers would; so they are
//! built by Cargo alone, with the flags below (`docs/decisions/0004-fuzzing-on-stable.md`).

use std::fs;
use std::process::Command;

use crate::packages;
use crate::tools::{self, At, Result, Scratch};

/// How long each target runs in a test.
pub const SHORT: Feeding = Feeding { seconds: 5, seed: Some(1), verbose: false };

/// Counters on every edge, and compared values, for libFuzzer to look at.
const COVERAGE: &[&str] = &[
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];

/// No input may take longer, or more memory: it is a finding. (Seconds; MiB of the process.)
const LIMITS: &[&str] = &["-timeout=20", "-rss_limit_mb=1024"];

/// How a target is run.
#[derive(Clone, Copy)]
pub struct Feeding {
    /// For how long.
    pub seconds: u32,
    /// First state of the mutator, for runs that are to find the same.
    pub seed: Option<u32>,
    /// Whether to tell of each input that reaches new code: a thousand lines per target.
    pub verbose: bool,
}

/// `cargo xtask fuzz`.
///
/// # Errors
/// When a target finds something.
pub fn run(arguments: &[String]) -> Result<()> {
    let mut feeding = Feeding { seconds: 60, seed: None, verbose: true };
    let mut names = Vec::new();
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        if word == "--seconds" {
            let number = words.next().and_then(|number| number.parse().ok());
            feeding.seconds = number.ok_or("--seconds: how many?")?;
        } else {
            names.push(word.as_str());
        }
    }
    let all = targets()?;
    if let Some(name) = names.iter().find(|name| !all.iter().any(|known| known == *name)) {
        return Err(format!("unknown target '{name}' (known: {})", all.join(", ")));
    }
    for target in all.iter().filter(|each| names.is_empty() || names.contains(&each.as_str())) {
        feed(target, feeding)?;
    }
    Ok(())
}

/// The targets there are.
///
/// # Errors
/// When their folder cannot be read.
pub fn targets() -> Result<Vec<String>> {
    let folder = tools::root().join("fuzz/fuzz_targets");
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder).at("listing", &folder)? {
        let file = entry.at("listing", &folder)?.file_name();
        if let Some(name) = file.to_string_lossy().strip_suffix(".rs") {
            names.push(name.to_string());
        }
    }
    names.sort();
    Ok(names)
}

/// Builds the targets, as far as they are not up to date, and runs one.
///
/// Inputs that reach new code are kept for the next run, beside the build.
///
/// # Errors
/// When it finds something, or the build fails.
pub fn feed(target: &str, feeding: Feeding) -> Result<()> {
    if !tools::has("c++") {
        packages::need(&["g++"])?;
    }
    // Some seeds are written by others.
    packages::need(&["qemu-utils"])?;
    let host = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let built = tools::target().join("fuzz");
    let mut build = Command::new("cargo");
    build.current_dir(tools::root().join("fuzz")).env("RUSTFLAGS", COVERAGE.join(" "));
    // With a target named, the flags are not those of build scripts and procedural macros.
    build.args(["build", "--release", "--bins", "--quiet", "--target", &host]);
    tools::call(build.arg("--target-dir").arg(&built))?;

    let [corpus, seeds, findings] =
        ["corpus", "seeds", "findings"].map(|kind| built.join(kind).join(target));
    for folder in [&corpus, &seeds, &findings] {
        fs::create_dir_all(folder).at("making", folder)?;
    }
    // What a target writes, such as a log that an input names, goes where it does no harm.
    let work = Scratch::new(&built, target)?;
    let mut run = Command::new(built.join(&host).join("release").join(target));
    run.current_dir(work.path());
    run.env("FUZZ_SEEDS", &seeds).args(LIMITS);
    run.arg(format!("-max_total_time={}", feeding.seconds));
    run.args(feeding.seed.map(|seed| format!("-seed={seed}")));
    run.arg(format!("-verbosity={}", u8::from(feeding.verbose)));
    run.arg(format!("-artifact_prefix={}/", findings.display()));
    run.arg(format!("-print_final_stats={}", u8::from(feeding.verbose)));
    println!("  fuzz {target}, {} s", feeding.seconds);
    tools::call(run.arg(&corpus).arg(&seeds))
}
