//! Debian's programs of a foreign architecture, unpacked into a folder: what user mode runs below
//! `-L`. Nothing is configured.

use std::path::Path;

use super::SUITE;
use crate::debian::Archive;
use crate::tools::{self, Result};

/// What the folder has beside what every system has.
const PACKAGES: &[&str] = &[
    "base-files",
    "bash",
    "bc",
    "busybox-static",
    "coreutils",
    "file",
    "gcc",
    "git",
    "gzip",
    "jq",
    "libc6-dev",
    "make",
    "openssl",
    "perl",
    "python3",
    "sqlite3",
    "xz-utils",
];

/// The recipe, for the stamp.
pub const RECIPE: &str = include_str!("programs.rs");

/// Builds the folder.
pub fn riscv64(archive: &Archive, work: &Path) -> Result<()> {
    let index = archive.index(SUITE, "riscv64")?;
    let root = work.join("out/root");
    let mut names = index.essential();
    names.extend(PACKAGES);
    let mut packages = index.closure(&names)?;
    // What comes with the links of the top folders (`/bin` and others) comes first.
    packages.sort_by_key(|package| package.name != "base-files");
    for package in packages {
        archive.unpack(&index, &package.name, &root, &["./*"])?;
    }
    // Scripts look for these in places that the configuration of packages would fill.
    tools::make_folder(&root.join("tmp"))
}
