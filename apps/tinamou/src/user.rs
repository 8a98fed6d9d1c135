//! `qemu-<isa> PROGRAM` and `tinamou user <isa> PROGRAM`.

use std::ffi::OsString;
use std::process::ExitCode;

/// Runs a program of the architecture that the name ends with. Arguments are taken as they are: a
/// program's need not be text.
pub fn run(name: &str, args: &[String]) -> ExitCode {
    let isa = name.strip_prefix("qemu-").unwrap_or(name);
    let words: Vec<OsString> = std::env::args_os().collect();
    linux_user::run(name, isa, &words[words.len() - args.len()..])
}
