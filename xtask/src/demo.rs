//! `cargo xtask demo`: from a fresh checkout to a shell in a guest.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;

use crate::emulator::Emulator;
use crate::guests;
use crate::packages;
use crate::tools::{self, At, Result};

/// `cargo xtask demo`.
///
/// # Errors
/// When something cannot be had, built or started.
pub fn run(arguments: &[String]) -> Result<()> {
    let (flags, rest) = tools::flags(arguments, &["--debian"])?;
    if let Some(word) = rest.first() {
        return Err(format!("what is '{word}'?"));
    }
    let debian = flags.contains(&"--debian");
    packages::need(&["opensbi"])?;
    let emulator = Emulator::ours()?;
    let kernel = guests::folder("riscv64")?;
    let image = if debian { guests::folder("riscv64-debian")? } else { kernel.clone() };

    // What is written in the guest stays there, in a copy of the image.
    let folder = tools::target().join("demo");
    tools::make_folder(&folder)?;
    let disk = folder.join(if debian { "debian.qcow2" } else { "root.qcow2" });
    if !disk.exists() {
        fs::copy(image.join("root.qcow2"), &disk).at("copying to", &disk)?;
    }

    let mut command = emulator.command();
    command.args(command_line(&kernel, &disk, debian));
    println!("+ {}", tools::shown(&command));
    println!("Ctrl-A x ends it, Ctrl-A h tells the other keys.\n");
    Err(format!("{}: {}", tools::shown(&command), command.exec()))
}

fn command_line(kernel: &Path, disk: &Path, debian: bool) -> Vec<String> {
    let run = if debian { "guest.run=init" } else { "guest.run=shell" };
    let memory = if debian { "1G" } else { "512M" };
    let disk = format!("file={},if=none,id=disk,format=qcow2", disk.display());
    let append = format!("console=ttyS0 guest.disk=vda guest.root {run}");
    let mut line: Vec<String> = Vec::new();
    line.extend(["-M", "virt", "-m", memory, "-smp", "2", "-nographic"].map(String::from));
    line.extend(["-kernel".into(), kernel.join("kernel").display().to_string()]);
    line.extend(["-initrd".into(), kernel.join("initrd.gz").display().to_string()]);
    line.extend(["-append".into(), append]);
    line.extend(["-drive".into(), disk]);
    line.extend(["-device", "virtio-blk-pci,drive=disk"].map(String::from));
    line.extend(["-device", "virtio-rng-pci"].map(String::from));
    line
}
