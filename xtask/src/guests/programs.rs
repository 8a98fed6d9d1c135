//! Debian's programs of a foreign architecture, unpacked into a folder: what user mode runs below
//! `-L`. Nothing is configured.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::SUITE;
use crate::debian::Archive;
use crate::tools::{self, At, Result};

/// What every folder has beside what every system has.
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
    "libpython3.13-testsuite",
    "make",
    "openssl",
    "perl",
    "python3",
    "ripgrep",
    "sqlite3",
    "xz-utils",
];

/// Programs with run-time systems of their own: Java, JavaScript, Go.
const RUNTIMES: &[&str] =
    &["esbuild", "fzf", "libecj-java", "luajit", "nodejs", "openjdk-21-jre-headless"];

/// The recipe, for the stamp.
pub const RECIPE: &str = include_str!("programs.rs");

/// Builds the folder of 64-bit RISC-V.
pub fn riscv64(archive: &Archive, work: &Path) -> Result<()> {
    build(archive, work, "riscv64", RUNTIMES)
}

/// Builds the folder of x86-64.
pub fn amd64(archive: &Archive, work: &Path) -> Result<()> {
    build(archive, work, "amd64", RUNTIMES)
}

/// Builds the folder of 32-bit x86.
pub fn i386(archive: &Archive, work: &Path) -> Result<()> {
    build(archive, work, "i386", &[])
}

fn build(archive: &Archive, work: &Path, arch: &str, more: &[&str]) -> Result<()> {
    let index = archive.index(SUITE, arch)?;
    let root = work.join("out/root");
    let mut names = index.essential();
    names.extend(PACKAGES);
    names.extend(more);
    let mut packages = index.closure(&names)?;
    // What comes with the links of the top folders (`/bin` and others) comes first.
    packages.sort_by_key(|package| package.name != "base-files");
    for package in packages {
        archive.unpack(&index, &package.name, &root, &["./*"])?;
    }
    lead_inside(&root, &root)?;
    // The host's list of libraries, which knows others, would stand in for a missing one.
    tools::write_whole(&root.join("etc/ld.so.cache"), &[])?;
    // Scripts look for these in places that the configuration of packages would fill.
    tools::make_folder(&root.join("tmp"))
}

/// Makes links with absolute targets relative: the kernel would follow them to the host's files.
fn lead_inside(root: &Path, folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder).at("listing", folder)? {
        let path = entry.at("listing", folder)?.path();
        let about = fs::symlink_metadata(&path).at("looking at", &path)?;
        if about.is_dir() {
            lead_inside(root, &path)?;
        } else if about.is_symlink() {
            let target = fs::read_link(&path).at("reading", &path)?;
            let Ok(inside) = target.strip_prefix("/") else { continue };
            let up = folder.strip_prefix(root).unwrap_or(folder).components().map(|_| "..");
            let relative = up.collect::<std::path::PathBuf>().join(inside);
            fs::remove_file(&path).at("removing", &path)?;
            symlink(relative, &path).at("linking", &path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absolute_links_lead_into_the_folder() {
        let root = tools::Scratch::new(&std::env::temp_dir(), "links").unwrap();
        let deep = root.path().join("a/b");
        fs::create_dir_all(&deep).unwrap();
        symlink("/etc/x", deep.join("far")).unwrap();
        symlink("../near", deep.join("near")).unwrap();
        lead_inside(root.path(), root.path()).unwrap();
        assert_eq!(fs::read_link(deep.join("far")).unwrap(), Path::new("../../etc/x"));
        assert_eq!(fs::read_link(deep.join("near")).unwrap(), Path::new("../near"));
    }
}
