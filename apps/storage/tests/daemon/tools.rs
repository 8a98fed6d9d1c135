//! Folders, and tools of either kind.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Whose tool is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    Ours,
    Peer,
}

/// A folder of a test's own.
pub fn folder(test: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("storage-{test}"));
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).unwrap();
    path
}

/// A tool by its name, ours or the installed one.
pub fn tool(whose: Whose, name: &str, args: &[&str], within: &Path) -> Command {
    let mut command = match whose {
        Whose::Ours => Command::new(std::env::current_exe().unwrap()),
        Whose::Peer => Command::new(name),
    };
    command.arg0(name).args(args).current_dir(within).stdin(Stdio::null());
    command
}

/// Runs a tool that must succeed: what it printed.
pub fn must(whose: Whose, name: &str, args: &[&str], within: &Path) -> String {
    let Output { status, stdout, stderr } = tool(whose, name, args, within).output().unwrap();
    let text = String::from_utf8_lossy(&stdout).into_owned();
    assert!(status.success(), "{name} {args:?}: {text}{}", String::from_utf8_lossy(&stderr));
    text
}
