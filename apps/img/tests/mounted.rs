//! File systems inside images, mounted: made through one implementation and read through the other.
//!
//! Its own `main`, because the same binary is also the tools. An image is made and served (`qemu-nbd`), shown
//! as a file (`nbdfuse`), which gets a file system that is mounted through a loop device; then the other
//! implementation serves the image. Needs root and /dev/fuse, and the packages libnbd-bin, e2fsprogs
//! and mount.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};

/// Formats of images.
const FORMATS: &[&str] = &["qcow2", "vmdk", "vhdx", "raw"];
/// File systems, with what makes and checks them. Kernels of hosts need not have others; those of guests do
/// (`cargo xtask kernel-nbd`).
const SYSTEMS: &[(&str, &[&str], &[&str])] = &[
    ("ext4", &["mkfs.ext4", "-q", "-F"], &["e2fsck", "-f", "-n"]),
    (
        "ext4",
        &["mkfs.ext4", "-q", "-F", "-b", "1024", "-O", "^has_journal"],
        &["e2fsck", "-f", "-n"],
    ),
];

fn main() -> ExitCode {
    let mut words: Vec<String> = std::env::args().collect();
    match words.remove(0).as_str() {
        "qemu-img" => return img::run("qemu-img", &words),
        "qemu-nbd" => return img::nbd::run("qemu-nbd", &words),
        _ => {}
    }
    if words.iter().any(|word| word == "--list") {
        println!("mounted: test");
        return ExitCode::SUCCESS;
    }
    if words.iter().any(|word| word == "--ignored") {
        return ExitCode::SUCCESS;
    }
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("mounted");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    for format in FORMATS {
        for (number, system) in SYSTEMS.iter().enumerate() {
            for (maker, reader) in [(Whose::Ours, Whose::Peer), (Whose::Peer, Whose::Ours)] {
                let name = format!("{format}-{number}-{maker:?}");
                let within = folder.join(&name);
                std::fs::create_dir_all(&within).unwrap();
                round_trip(&within, format, *system, maker, reader);
                println!("{name}: read by the other");
            }
        }
    }
    ExitCode::SUCCESS
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    Ours,
    Peer,
}

impl Whose {
    fn command(self, name: &str, within: &Path) -> Command {
        let mut command = match self {
            Self::Peer => Command::new(name),
            Self::Ours => Command::new(std::env::current_exe().unwrap()),
        };
        command.arg0(name).current_dir(within);
        command
    }
}

fn must(command: &mut Command) {
    let done = command.stdin(Stdio::null()).output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "{command:?}: {said}{}", String::from_utf8_lossy(&done.stdout));
}

fn program(words: &[&str], within: &Path) -> Command {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).current_dir(within);
    command
}

/// A file system made through `maker`'s server has what was written, through `reader`'s.
fn round_trip(
    within: &Path,
    format: &str,
    (system, make, check): (&str, &[&str], &[&str]),
    maker: Whose,
    reader: Whose,
) {
    let content: Vec<u8> =
        (0..6_000_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    must(maker.command("qemu-img", within).args(["create", "-q", "-f", format, "image", "96M"]));
    {
        let shown = Shown::start(maker, format, &[], within);
        must(program(make, within).arg(&shown.file));
        let mounted = Mounted::start(system, &shown.file, "rw", within);
        std::fs::write(mounted.0.join("content"), &content).unwrap();
    }
    if format != "raw" {
        for whose in [Whose::Ours, Whose::Peer] {
            must(whose.command("qemu-img", within).args(["check", "-q", "-f", format, "image"]));
        }
    }
    let shown = Shown::start(reader, format, &["-r"], within);
    must(program(check, within).arg(&shown.file));
    let mounted = Mounted::start(system, &shown.file, "ro", within);
    assert!(std::fs::read(mounted.0.join("content")).unwrap() == content, "{within:?}");
}

/// An image that a server has, as a file.
struct Shown {
    server: Child,
    fuse: Child,
    folder: PathBuf,
    file: PathBuf,
}

impl Shown {
    fn start(whose: Whose, format: &str, more: &[&str], within: &Path) -> Self {
        let (socket, pid) = (within.join("socket"), within.join("pid"));
        for old in [&socket, &pid] {
            let _ = std::fs::remove_file(old);
        }
        let mut command = whose.command("qemu-nbd", within);
        command.args(more).args(["-t", "-e", "0", "-f", format, "-k"]).arg(&socket);
        let mut server = command.arg("--pid-file").arg(&pid).arg("image").spawn().unwrap();
        wait_for(&mut server, || pid.exists());
        let folder = within.join("shown");
        std::fs::create_dir_all(&folder).unwrap();
        let mut command = program(&["nbdfuse"], within);
        if !more.is_empty() {
            command.arg("-r");
        }
        command.arg(&folder).arg("--unix").arg(&socket);
        let mut fuse = command.spawn().unwrap_or_else(|e| panic!("nbdfuse: {e}"));
        let file = folder.join("nbd");
        wait_for(&mut fuse, || file.exists());
        Self { server, fuse, folder, file }
    }
}

/// Waits until something is there; a program that ends before has failed.
fn wait_for(child: &mut Child, there: impl Fn() -> bool) {
    while !there() {
        assert!(child.try_wait().unwrap().is_none(), "it ended");
        std::thread::yield_now();
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        must(Command::new("umount").arg(&self.folder));
        self.fuse.wait().unwrap();
        must(Command::new("kill").arg(self.server.id().to_string()));
        assert!(self.server.wait().unwrap().success());
    }
}

/// A file system in the tree.
struct Mounted(PathBuf);

impl Mounted {
    fn start(system: &str, file: &Path, mode: &str, within: &Path) -> Self {
        let folder = within.join("mnt");
        std::fs::create_dir_all(&folder).unwrap();
        let options = format!("loop,{mode}");
        must(program(&["mount", "-t", system, "-o", &options], within).arg(file).arg(&folder));
        Self(folder)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        must(Command::new("umount").arg(&self.0));
    }
}
