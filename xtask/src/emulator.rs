//! The emulator a task starts: ours, or another one to compare with.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::packages;
use crate::tools::{self, Result};

/// The name an emulator of this guest is called by.
pub const NAME: &str = "qemu-system-riscv64";

/// A program that is called as `qemu-system-riscv64`.
pub struct Emulator {
    program: PathBuf,
}

/// Builds the binary as it is handed out: in release, and without shared libraries, so that it runs on any
/// host and in any folder that is somebody's root, and starts at once. Where it is.
///
/// # Errors
/// When the build fails.
pub fn build() -> Result<PathBuf> {
    let host = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let mut flags = vec!["-Ctarget-feature=+crt-static"];
    if libc_takes_packed_relocations() {
        flags.push("-Clink-arg=-Wl,-z,pack-relative-relocs");
    }
    let mut cargo = Command::new("cargo");
    // With a target named, the flags are not those of build scripts and procedural macros.
    cargo.current_dir(tools::root()).args(["build", "--release", "--quiet", "--target", &host]);
    tools::call(cargo.args(["-p", "tinamou"]).env("RUSTFLAGS", flags.join(" ")))?;
    Ok(tools::target().join(host).join("release/tinamou"))
}

/// Whether a program without shared libraries finds its own packed relocations: from glibc 2.36 on.
fn libc_takes_packed_relocations() -> bool {
    let said = tools::text(Command::new("getconf").arg("GNU_LIBC_VERSION")).unwrap_or_default();
    let version = said.trim().strip_prefix("glibc 2.").and_then(|minor| minor.parse().ok());
    version.is_some_and(|minor: u32| minor >= 36)
}

/// `cargo xtask build`.
///
/// # Errors
/// When the build fails.
pub fn run(_: &[String]) -> Result<()> {
    println!("{}", build()?.display());
    Ok(())
}

impl Emulator {
    /// Ours, built in release.
    ///
    /// # Errors
    /// When the build fails.
    pub fn ours() -> Result<Self> {
        Ok(Self { program: build()? })
    }

    /// Another one, to check the stories themselves or to compare.
    pub fn other(program: &str) -> Self {
        Self { program: PathBuf::from(program) }
    }

    /// The program itself.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// A command that starts it as `qemu-system-riscv64`.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.arg0(NAME);
        command
    }

    /// The distribution's QEMU 10, installed if need be.
    ///
    /// # Errors
    /// When there is none to be had.
    pub fn installed() -> Result<Self> {
        if version().is_none_or(|major| major < 10) {
            need("qemu-system-misc", "qemu-system-riscv")?;
        }
        match version() {
            Some(major) if major >= 10 => Ok(Self::other(NAME)),
            Some(major) => Err(format!("{NAME} is of version {major}; 10 or later is needed")),
            None => Err(format!("{NAME} is not there")),
        }
    }

    /// What it says to `-version`.
    ///
    /// # Errors
    /// When it does not.
    pub fn version(&self) -> Result<String> {
        let text = tools::text(self.command().arg("-version"))?;
        Ok(text.lines().next().unwrap_or_default().to_string())
    }
}

/// Installs a package of the distribution's QEMU 10, which may have another name in `bookworm`.
fn need(bookworm: &str, later: &str) -> Result<()> {
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    if release.contains("VERSION_CODENAME=bookworm") {
        packages::need_from("bookworm-backports", bookworm)
    } else {
        packages::need(&[later])
    }
}

/// The distribution's QEMU 10 for x86-64 guests, installed if need be; its name.
///
/// # Errors
/// When there is none to be had.
pub fn installed_x86_64() -> Result<&'static str> {
    let name = "qemu-system-x86_64";
    if !tools::has(name) {
        need("qemu-system-x86", "qemu-system-x86")?;
    }
    Ok(name)
}

/// The major version of the installed emulator.
fn version() -> Option<u32> {
    let said = Emulator::other(NAME).version().ok()?;
    let number = said.split_whitespace().skip_while(|word| *word != "version").nth(1)?;
    number.split('.').next()?.parse().ok()
}
