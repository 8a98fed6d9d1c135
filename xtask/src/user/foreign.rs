//! A Debian system of a foreign architecture as `debootstrap --foreign` makes it: its second stage, and
//! apt-get in it, run in the changed root, where none of the host's files are and the kernel knows
//! nothing of foreign programs. Needs the rights of root.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::Bench;
use crate::debian::Archive;
use crate::guests;
use crate::packages;
use crate::tools::{self, At, Result};

/// The name of this story.
pub const NAME: &str = "debootstrap";

/// Packages beside what `debootstrap --variant=minbase` needs.
const MORE: &[&str] = &["apt", "base-files", "debian-archive-keyring", "hello", "mawk"];

/// What runs in the new system, and what it has to print.
const SCRIPT: &str =
    "{ apt-get update && apt-get install --yes hello; } > /log 2>&1 && hello && dpkg --verify hello
    apt-get purge --yes hello > /log 2>&1; dpkg --get-selections hello; uname -m; dpkg --audit";
const EXPECTED: &str = "Hello, world!\nriscv64\n";

/// Makes the system and uses it.
///
/// # Errors
/// When a step fails.
pub fn run(bench: &Bench<'_>) -> Result<()> {
    packages::need(&["debootstrap"])?;
    let (_, work) = bench.shell("", "1")?;
    let root = work.path().join("system");
    let done = use_system(bench, work.path(), &root);
    // What was ended in its second stage has these mounted still.
    for name in ["proc", "sys"] {
        drop(Command::new("umount").args(["--quiet", "--lazy"]).arg(root.join(name)).output());
    }
    done
}

fn use_system(bench: &Bench<'_>, work: &Path, root: &Path) -> Result<()> {
    let archive = work.join("archive");
    fill(&archive, bench.root.debian)?;
    let mut first = Command::new("debootstrap");
    first.args(["--foreign", "--no-check-gpg", "--variant=minbase"]);
    first.arg(format!("--arch={}", bench.root.debian)).arg(guests::SUITE).arg(root);
    tools::output(first.arg(format!("file://{}", archive.display())))?;
    inside(bench, work, root, &["/debootstrap/debootstrap", "--second-stage"])?;

    let sources = format!("deb [trusted=yes] file:/srv {} main\n", guests::SUITE);
    tools::write_whole(&root.join("etc/apt/sources.list"), sources.as_bytes())?;
    let srv = root.join("srv");
    fs::remove_dir(&srv).at("removing", &srv)?;
    fs::rename(&archive, &srv).at("moving to", &srv)?;
    let said = inside(bench, work, root, &["/bin/sh", "-c", SCRIPT])?;
    if said == EXPECTED {
        return Ok(());
    }
    let log = fs::read_to_string(root.join("log")).unwrap_or_default();
    Err(format!("--- expected\n{EXPECTED}--- said\n{said}{log}"))
}

/// Runs a program in a folder that is its root, from the first step on by the emulator: the program
/// that changes the root is of the new system.
fn inside(bench: &Bench<'_>, work: &Path, root: &Path, words: &[&str]) -> Result<String> {
    let mut command = Command::new("timeout");
    command
        .arg(super::LIMIT)
        .arg(work.join(format!("qemu-{}", bench.root.isa)))
        .arg("-L")
        .arg(root);
    command.arg(root.join("usr/sbin/chroot")).arg(root).args(words).env_clear();
    command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("HOME", "/root").env("LC_ALL", "C");
    tools::text(command.env("DEBIAN_FRONTEND", "noninteractive"))
}

/// Makes an archive of the packages that the system is made of (Debian, “Repository format”).
fn fill(folder: &Path, arch: &str) -> Result<()> {
    let archive = Archive::open(&tools::cache()?)?;
    let index = archive.index(guests::SUITE, arch)?;
    let mut names = index.required();
    names.extend(MORE);
    let mut list = String::new();
    for package in index.closure(&names)? {
        let to = folder.join(package.filename());
        tools::make_folder(to.parent().unwrap_or(folder))?;
        let from = archive.fetch(&index, package)?;
        fs::copy(&from, &to).at("copying to", &to)?;
        list.push_str(index.paragraph(package).trim_end());
        list.push_str("\n\n");
    }
    let suite = folder.join("dists").join(guests::SUITE);
    let name = format!("main/binary-{arch}/Packages");
    let packages = suite.join(&name);
    tools::make_folder(packages.parent().unwrap_or(folder))?;
    tools::write_whole(&packages, list.as_bytes())?;
    let sum = tools::text(Command::new("sha256sum").arg(&packages))?;
    let sum = sum.split(' ').next().unwrap_or_default();
    let release = format!(
        "Suite: stable\nCodename: {}\nArchitectures: {arch}\nComponents: main\nSHA256:\n {sum} {} {name}\n",
        guests::SUITE,
        list.len()
    );
    tools::write_whole(&suite.join("Release"), release.as_bytes())
}
