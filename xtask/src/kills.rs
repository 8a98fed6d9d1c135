//! `cargo xtask kills`: the long form of the test that kills writers of images.

use std::process::Command;

use crate::packages;
use crate::tools::{self, Result};

/// Kills per kind of image: more than a thousand over all of them.
const KILLS: u32 = 40;

/// `cargo xtask kills`.
///
/// # Errors
/// When an image was damaged, or a number cannot be read.
pub fn run(arguments: &[String]) -> Result<()> {
    let kills = match arguments {
        [] => KILLS,
        [number] => number.parse().map_err(|_| format!("what is '{number}'?"))?,
        [_, word, ..] => return Err(format!("what is '{word}'?")),
    };
    packages::need(&["qemu-utils"])?;
    let mut cargo = Command::new("cargo");
    cargo.current_dir(tools::root()).args(["test", "--quiet", "-p", "formats", "--test", "kill"]);
    tools::call(cargo.env("KILLS", kills.to_string()))
}
