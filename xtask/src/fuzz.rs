//! `cargo xtask fuzz`: the targets of `fuzz/`, each for a while.

use std::fs;
use std::process::Command;

use crate::tools::{self, At, Result};

/// How long each target runs in a test.
pub const SHORT: u32 = 10;

/// `cargo xtask fuzz`.
///
/// # Errors
/// When a target finds something.
pub fn run(arguments: &[String]) -> Result<()> {
    let mut seconds = 60;
    let mut names = Vec::new();
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        if word == "--seconds" {
            let number = words.next().and_then(|number| number.parse().ok());
            seconds = number.ok_or("--seconds: how many?")?;
        } else {
            names.push(word.as_str());
        }
    }
    let all = targets()?;
    if let Some(name) = names.iter().find(|name| !all.iter().any(|known| known == *name)) {
        return Err(format!("unknown target '{name}' (known: {})", all.join(", ")));
    }
    for target in all.iter().filter(|each| names.is_empty() || names.contains(&each.as_str())) {
        feed(target, seconds)?;
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

/// Runs one target for some seconds.
///
/// # Errors
/// When it finds something, or cargo-fuzz is not there.
pub fn feed(target: &str, seconds: u32) -> Result<()> {
    if !tools::has("cargo-fuzz") {
        tools::call(Command::new("cargo").args(["install", "--locked", "cargo-fuzz"]))?;
    }
    let mut fuzz = Command::new("cargo");
    // Coverage needs no nightly compiler, the sanitizers would.
    fuzz.current_dir(tools::root()).env("RUSTC_BOOTSTRAP", "1");
    fuzz.args(["fuzz", "run", "--sanitizer", "none", target, "--"]);
    fuzz.arg(format!("-max_total_time={seconds}"));
    tools::call(&mut fuzz)
}
