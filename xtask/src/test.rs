//! `cargo xtask test`: everything CI runs, in order, and one count at the end.

use std::process::{Command, Stdio};
use std::time::Instant;

use crate::boots;
use crate::emulator::{self, Emulator};
use crate::fuzz;
use crate::kernel_nbd;
use crate::lent;
use crate::packages;
use crate::tidy;
use crate::tools::{self, Result};
use crate::user;

/// What a stage found: how many checks held and which did not.
#[derive(Default)]
struct Count {
    passed: usize,
    failed: usize,
}

impl Count {
    fn one(done: &Result<()>) -> Self {
        Self { passed: usize::from(done.is_ok()), failed: usize::from(done.is_err()) }
    }
}

/// One stage: its name and what it does. A stage tells its failures itself.
struct Stage {
    name: &'static str,
    /// Whether `--quick` leaves it out.
    slow: bool,
    run: fn() -> Count,
}

const STAGES: &[Stage] = &[
    Stage { name: "packages", slow: false, run: host_packages },
    Stage { name: "format", slow: false, run: format },
    Stage { name: "tidy", slow: false, run: tidy_stage },
    Stage { name: "clippy", slow: false, run: clippy },
    Stage { name: "tests", slow: false, run: unit_tests },
    Stage { name: "documentation tests", slow: false, run: documentation_tests },
    Stage { name: "fuzz targets", slow: true, run: fuzz_stage },
    Stage { name: "boots", slow: true, run: boot_stage },
    Stage { name: "user programs", slow: true, run: user_stage },
    Stage { name: "lent disks", slow: true, run: lent_stage },
    Stage { name: "kernel's NBD client", slow: true, run: kernel_nbd_stage },
];

/// `cargo xtask test`.
///
/// # Errors
/// When anything failed.
pub fn run(arguments: &[String]) -> Result<()> {
    let (flags, rest) = tools::flags(arguments, &["--quick"])?;
    if let Some(word) = rest.first() {
        return Err(format!("what is '{word}'?"));
    }
    let quick = flags.contains(&"--quick");
    let start = Instant::now();
    let mut rows = Vec::new();
    for stage in STAGES.iter().filter(|stage| !(quick && stage.slow)) {
        println!("== {}", stage.name);
        let begin = Instant::now();
        let count = (stage.run)();
        rows.push((stage.name, count, begin.elapsed().as_secs_f64()));
    }
    println!("\n== summary ({:.0} s)", start.elapsed().as_secs_f64());
    let (mut passed, mut failed) = (0, 0);
    for (name, count, took) in &rows {
        let verdict = if count.failed == 0 { "ok" } else { "FAIL" };
        let Count { passed: good, failed: bad } = count;
        println!("{name:20} {verdict:4} {good:5} passed {bad:3} failed {took:6.1} s");
        passed += good;
        failed += bad;
    }
    println!("{passed} passed, {failed} failed");
    if failed == 0 { Ok(()) } else { Err("something failed, see above".into()) }
}

fn tell(done: Result<()>) -> Count {
    if let Err(message) = &done {
        println!("{message}");
    }
    Count::one(&done)
}

fn host_packages() -> Count {
    // Firmware that the emulator looks for in the distribution's places; tools and servers to compare with.
    tell(packages::need(&[
        "opensbi",
        "u-boot-qemu",
        "qemu-utils",
        "dosfstools",
        "mtools",
        "nginx-light",
        "openssh-client",
        "openssh-server",
        "gcc",
        "libc6-dev",
        "gcc-riscv64-linux-gnu",
        "gdb-multiarch",
        "libc6-dev-riscv64-cross",
        "libnbd-bin",
        "nbdkit",
        "mount",
        "strace",
    ]))
}

fn cargo(words: &[&str]) -> Command {
    let mut cargo = Command::new("cargo");
    cargo.current_dir(tools::root()).args(words);
    cargo
}

fn format() -> Count {
    everywhere(&["fmt", "--all", "--check"])
}

fn clippy() -> Count {
    everywhere(&["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"])
}

/// Runs Cargo in the workspace, and in that of the fuzz targets.
fn everywhere(words: &[&str]) -> Count {
    let mut fuzz = cargo(words);
    fuzz.current_dir(tools::root().join("fuzz")).env("CARGO_TARGET_DIR", tools::target());
    let counts = [cargo(words), fuzz].map(|mut cargo| tell(tools::call(&mut cargo)));
    counts.into_iter().fold(Count::default(), |all, one| Count {
        passed: all.passed + one.passed,
        failed: all.failed + one.failed,
    })
}

/// Debian's programs under user mode.
fn user_stage() -> Count {
    let short = user::Choice { names: &[], long: false };
    match emulator::build().and_then(|program| user::all(&program, short)) {
        Ok((passed, failed)) => Count { passed, failed },
        Err(message) => tell(Err(message)),
    }
}

fn tidy_stage() -> Count {
    tell(tidy::run(&[]))
}

fn unit_tests() -> Count {
    if tools::has("cargo-nextest") {
        let words = ["nextest", "run", "--workspace", "--no-fail-fast", "--status-level", "fail"];
        return counted(&mut cargo(&words), nextest_count);
    }
    let words = ["test", "--workspace", "--all-targets", "--no-fail-fast", "--quiet"];
    counted(&mut cargo(&words), cargo_count)
}

fn documentation_tests() -> Count {
    let words = ["test", "--workspace", "--doc", "--no-fail-fast", "--quiet"];
    counted(&mut cargo(&words), cargo_count)
}

/// Runs a test runner, shows what it says and counts the tests in it. A runner
/// that fails without a failed test (it did not build) counts as one failure.
fn counted(command: &mut Command, count: fn(&str) -> Count) -> Count {
    let name = tools::shown(command);
    let done = command.stdin(Stdio::null()).output();
    let Ok(done) = done.map_err(|error| println!("{name}: {error}")) else {
        return Count { passed: 0, failed: 1 };
    };
    let said = String::from_utf8_lossy(&done.stdout) + String::from_utf8_lossy(&done.stderr);
    let mut count = count(&said);
    if !done.status.success() {
        println!("{said}");
        count.failed = count.failed.max(1);
    }
    count
}

/// The figures of nextest's line `Summary […] N tests run: N passed, N failed, …`.
fn nextest_count(said: &str) -> Count {
    let line = said.lines().rev().find(|line| line.contains("Summary ["));
    let Some((_, figures)) = line.and_then(|line| line.split_once("run:")) else {
        return Count::default();
    };
    let mut count = Count::default();
    for figure in figures.split(',') {
        let mut words = figure.split_whitespace();
        let number = words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
        match words.next() {
            Some("passed") => count.passed += number,
            Some("failed" | "timed") => count.failed += number,
            _ => {}
        }
    }
    count
}

/// The figures of the lines `test result: ok. N passed; N failed; …`.
fn cargo_count(said: &str) -> Count {
    let mut count = Count::default();
    for line in said.lines().filter(|line| line.starts_with("test result:")) {
        let words: Vec<&str> = line.split_whitespace().collect();
        for pair in words.windows(2) {
            let number: usize = pair[0].parse().unwrap_or(0);
            match pair[1] {
                "passed;" => count.passed += number,
                "failed;" => count.failed += number,
                _ => {}
            }
        }
    }
    count
}

/// Each target, if there are any, for a short while.
fn fuzz_stage() -> Count {
    let targets = match fuzz::targets() {
        Ok(targets) => targets,
        Err(message) => return tell(Err(message)),
    };
    let mut all = Count::default();
    for target in targets {
        let count = tell(fuzz::feed(&target, fuzz::SHORT));
        all.passed += count.passed;
        all.failed += count.failed;
    }
    all
}

fn boot_stage() -> Count {
    stories(Emulator::ours().and_then(|emulator| boots::all(&emulator, &[])))
}

fn lent_stage() -> Count {
    stories(lent::all())
}

/// Counts stories that told their ends themselves.
fn stories<Name>(told: Result<Vec<(Name, Result<()>)>>) -> Count {
    match told {
        Ok(told) => {
            let failed = told.iter().filter(|(_, done)| done.is_err()).count();
            Count { passed: told.len() - failed, failed }
        }
        Err(message) => tell(Err(message)),
    }
}

fn kernel_nbd_stage() -> Count {
    tell(kernel_nbd::run(&[]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_runners_are_counted() {
        let nextest =
            "   Summary [ 0.2s] 9 tests run: 6 passed (1 slow), 2 failed, 1 timed out, 3 skipped\n";
        let count = nextest_count(nextest);
        assert_eq!((count.passed, count.failed), (6, 3));
        let cargo = "test result: ok. 5 passed; 0 failed; 0 ignored\n\
                     test result: FAILED. 1 passed; 2 failed; 0 ignored\n";
        let count = cargo_count(cargo);
        assert_eq!((count.passed, count.failed), (6, 2));
    }
}
