//! `cargo xtask kernel-nbd`: the kernel's client of network block devices with our `qemu-nbd`.
//!
//! A host's kernel need not have that client, and using it needs privileges; so a small Debian guest runs
//! it, under the installed QEMU, with our binary and its libraries inside. What the guest wrote into an
//! image is then looked at from outside, with other programs.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::cpio::Cpio;
use crate::emulator;
use crate::expect::Session;
use crate::guests;
use crate::packages;
use crate::tools::{self, At, Result, Scratch};

/// What the guest does.
const SCRIPT: &str = include_str!("../guest/nbd.sh");

/// Time for the guest, translated on a busy host.
const LIMIT: Duration = Duration::from_secs(600);

/// Bytes of the disks on which the guest hands its results over.
const DISK: u64 = 128 << 20;
/// Bytes of the content that the guest makes.
const CONTENT: usize = 8 << 20;
/// Where the first sector tells at which sector the first partition begins.
const PARTITION: std::ops::Range<usize> = 454..458;

/// `cargo xtask kernel-nbd [PROGRAM]`.
///
/// # Errors
/// When a step fails in the guest, or what it hands over is not whole.
pub fn run(arguments: &[String]) -> Result<()> {
    packages::need(&["qemu-utils", "mtools"])?;
    let emulator = emulator::installed_x86_64()?;
    let program = match arguments {
        [] => emulator::build()?,
        [program] => program.into(),
        [_, word, ..] => return Err(format!("what is '{word}'?")),
    };
    let guest = guests::folder("amd64")?;
    let work = Scratch::new(&tools::cache()?, "kernel-nbd")?;
    let at = |name: &str| work.path().join(name);
    // What follows a compressed archive would have to be aligned.
    let initrd = [overlay(&program)?, fs::read(guest.join("initrd.gz")).at("reading", &guest)?];
    fs::write(at("initrd"), initrd.concat()).at("writing", &at("initrd"))?;
    let mut emulator = Command::new(emulator);
    emulator.args(["-accel", "tcg", "-m", "1G", "-nographic", "-no-reboot", "-nic", "none"]);
    emulator.arg("-kernel").arg(guest.join("kernel")).arg("-initrd").arg(at("initrd"));
    emulator.args(["-append", "console=ttyS0 quiet panic=-1 guest.run=/nbd.sh"]);
    for name in ["image", "content"] {
        let file = fs::File::create(at(name)).at("creating", &at(name))?;
        file.set_len(DISK).at("sizing", &at(name))?;
        let drive = format!("if=virtio,format=raw,file={}", at(name).display());
        emulator.args(["-drive", &drive]);
    }
    let mut session = Session::start(&mut emulator)?;
    session.wait_for("GUEST-SELFTEST ", LIMIT)?;
    session.wait_for_end(LIMIT)?;
    let said = session.output();
    said.lines().filter(|line| line.starts_with("GUEST-TEST ")).for_each(|line| println!("{line}"));
    if !said.contains("GUEST-SELFTEST PASS") {
        return Err(format!("a step failed\n{said}"));
    }
    look(work.path())
}

/// Looks at what the guest handed over: an image that the peer finds whole, and a file in it.
fn look(work: &Path) -> Result<()> {
    let (image, raw) = (work.join("image"), work.join("raw"));
    tools::output(Command::new("qemu-img").args(["check", "-q", "-f", "qcow2"]).arg(&image))?;
    let mut convert = Command::new("qemu-img");
    convert.args(["convert", "-f", "qcow2", "-O", "raw"]).arg(&image).arg(&raw);
    tools::output(&mut convert)?;
    let disk = fs::read(&raw).at("reading", &raw)?;
    let first = disk.get(PARTITION).and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes);
    let first = first.ok_or("the image is too short for a partition table")?;
    let from = format!("{}@@{}", raw.display(), u64::from(first) * 512);
    let copied = tools::output(Command::new("mcopy").args(["-i", &from, "::content", "-"]))?;
    let content = work.join("content");
    let wanted = fs::read(&content).at("reading", &content)?;
    if Some(copied.as_slice()) != wanted.get(..CONTENT) {
        return Err("the file in the image is not what the guest wrote".into());
    }
    Ok(())
}

/// What is added to the guest: the script, the program under the tools' names, and its libraries.
fn overlay(program: &Path) -> Result<Vec<u8>> {
    let mut archive = Cpio::default();
    let read = |path: &Path| fs::read(path).at("reading", path);
    archive.file("nbd.sh", 0o755, SCRIPT.as_bytes());
    archive.file("opt/tinamou", 0o755, &read(program)?);
    for name in ["qemu-img", "qemu-nbd"] {
        archive.symlink(&format!("usr/bin/{name}"), "/opt/tinamou");
    }
    let listed = tools::text(Command::new("ldd").arg(program))?;
    let paths = listed.split_whitespace().filter(|word| word.starts_with('/'));
    for path in paths.collect::<BTreeSet<_>>() {
        archive.file(path.trim_start_matches('/'), 0o755, &read(Path::new(path))?);
    }
    Ok(archive.finish())
}
