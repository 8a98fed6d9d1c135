//! `cargo xtask kills` and `cargo xtask patterns`: the long forms of two tests of images.

use std::process::Command;

use crate::packages;
use crate::tools::{self, Result};

/// Kills per kind of image: more than a thousand over all of them.
const KILLS: u32 = 40;

/// Rounds of random requests on every kind of image.
const ROUNDS: u32 = 50;

/// `cargo xtask kills`.
///
/// # Errors
/// When an image was damaged, or a number cannot be read.
pub fn run(arguments: &[String]) -> Result<()> {
    long(arguments, ("KILLS", KILLS), &["formats", "--test", "kill"])
}

/// `cargo xtask patterns`.
///
/// # Errors
/// When our tools and the installed ones do not agree, or a number cannot be read.
pub fn patterns(arguments: &[String]) -> Result<()> {
    long(arguments, ("PATTERNS", ROUNDS), &["storage", "--test", "daemon", "either_tool"])
}

/// Runs a test that reads from a variable how long it is to be.
fn long(arguments: &[String], (variable, usual): (&str, u32), test: &[&str]) -> Result<()> {
    let times = match arguments {
        [] => usual,
        [number] => number.parse().map_err(|_| format!("what is '{number}'?"))?,
        [_, word, ..] => return Err(format!("what is '{word}'?")),
    };
    packages::need(&["qemu-utils"])?;
    let mut cargo = Command::new("cargo");
    cargo.current_dir(tools::root()).args(["test", "--quiet", "-p"]).args(test);
    tools::call(cargo.env(variable, times.to_string()))
}
