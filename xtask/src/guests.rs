//! The cache of guests: kernels, initial file systems, disks and firmware,
//! built from Debian packages of the guest's own architecture.
//!
//! A guest is a folder of the cache. It is built beside its place and moved
//! there when complete, with a stamp of the recipe; a guest whose stamp is
//! current is left alone and needs no network.

mod disk;
mod programs;
mod system;

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cpio::Cpio;
use crate::debian::{self, Archive};
use crate::kmod::Modules;
use crate::packages;
use crate::tools::{self, At, Result, Scratch};

/// One guest of the cache.
struct Guest {
    name: &'static str,
    about: &'static str,
    /// Whether `cargo xtask guests` with no names builds it.
    usual: bool,
    /// Raise it when the recipe below changes.
    version: u32,
    /// Files of ours that go into it.
    inputs: &'static [&'static str],
    build: fn(&Archive, &Path) -> Result<()>,
}

const GUESTS: &[Guest] = &[
    Guest {
        name: "riscv64",
        about: "Debian kernel, busybox initramfs and ext4 disk, OpenSBI, U-Boot",
        usual: true,
        version: 1,
        inputs: &[INIT, SELFTEST, DISKTEST],
        build: riscv64,
    },
    Guest {
        name: "amd64",
        about: "Debian kernel and busybox initramfs, in which our tools meet another kernel",
        usual: false,
        version: 1,
        inputs: &[INIT, SELFTEST, DISKTEST],
        build: amd64,
    },
    Guest {
        name: "riscv64-efi",
        about: "UEFI firmware (EDK2) for two flash banks",
        usual: true,
        version: 1,
        inputs: &[],
        build: efi,
    },
    Guest {
        name: "riscv64-debian",
        about: "Debian on an ext4 disk: systemd, apt, gcc; configures itself when first booted",
        usual: false,
        version: 1,
        inputs: &[system::FIRST_BOOT],
        build: system::riscv64,
    },
    Guest {
        name: "riscv64-user",
        about: "Debian's programs in a folder, for user mode",
        usual: false,
        version: 1,
        inputs: &[programs::RECIPE],
        build: programs::riscv64,
    },
    Guest {
        name: "amd64-user",
        about: "Debian's programs in a folder, for user mode",
        usual: false,
        version: 1,
        inputs: &[programs::RECIPE],
        build: programs::amd64,
    },
    Guest {
        name: "i386-user",
        about: "Debian's programs in a folder, for user mode",
        usual: false,
        version: 1,
        inputs: &[programs::RECIPE],
        build: programs::i386,
    },
];

const INIT: &str = include_str!("../guest/init");
const SELFTEST: &str = include_str!("../guest/selftest.sh");
const DISKTEST: &str = include_str!("../guest/disktest.sh");

/// The Debian release the guests come from.
pub const SUITE: &str = "trixie";

/// Modules of the small guests; the kernel may have some of them built in.
const MODULES: &[&str] = &[
    "virtio_mmio",
    "virtio_pci",
    "virtio_blk",
    "virtio_scsi",
    "virtio_net",
    "virtio_rng",
    "virtio_console",
    "virtio_balloon",
    "sd_mod",
    "sr_mod",
    "isofs",
    "nvme",
    "ext4",
    // ext4 asks for its checksum by name while it runs, not as a dependency
    "crc32c_generic",
    "libcrc32c",
];

/// What the guest has beside them that mounts images.
const NBD_MODULES: &[&str] =
    &["nbd", "vfat", "nls_ascii", "nls_cp437", "nls_iso8859_1", "nls_utf8"];

/// `cargo xtask guests`.
///
/// # Errors
/// When a name is unknown or a guest cannot be built.
pub fn run(arguments: &[String]) -> Result<()> {
    let (flags, names) = tools::flags(arguments, &["--force", "--list"])?;
    if flags.contains(&"--list") {
        for guest in GUESTS {
            println!("{:16} {}", guest.name, guest.about);
        }
        return Ok(());
    }
    let force = flags.contains(&"--force");
    for name in &names {
        find(name)?;
    }
    for guest in GUESTS {
        if names.contains(&guest.name) || (names.is_empty() && guest.usual) {
            println!("{}", ensure(guest, force)?.display());
        }
    }
    Ok(())
}

/// The folder of a guest, built if need be.
///
/// # Errors
/// When it cannot be built.
pub fn folder(name: &str) -> Result<PathBuf> {
    ensure(find(name)?, false)
}

fn find(name: &str) -> Result<&'static Guest> {
    let known = || GUESTS.iter().map(|guest| guest.name).collect::<Vec<_>>().join(", ");
    GUESTS
        .iter()
        .find(|guest| guest.name == name)
        .ok_or_else(|| format!("unknown guest '{name}' (known: {})", known()))
}

fn ensure(guest: &Guest, force: bool) -> Result<PathBuf> {
    let cache = tools::cache()?;
    let folder = cache.join("guests").join(guest.name);
    let stamp = stamp(guest);
    let current = fs::read_to_string(folder.join("stamp")).is_ok_and(|text| text == stamp);
    if current && !force {
        return Ok(folder);
    }
    eprintln!("building guest {}", guest.name);
    packages::need(debian::NEEDS)?;
    packages::need(disk::NEEDS)?;
    let archive = Archive::open(&cache)?;
    let work = Scratch::new(&cache, guest.name)?;
    let out = work.path().join("out");
    tools::make_folder(&out)?;
    (guest.build)(&archive, work.path())?;
    tools::write_whole(&out.join("stamp"), stamp.as_bytes())?;
    tools::make_folder(&cache.join("guests"))?;
    // The old one makes room at once; it is removed with the rest.
    if folder.exists() {
        fs::rename(&folder, work.path().join("old")).at("moving", &folder)?;
    }
    fs::rename(&out, &folder).at("renaming to", &folder)?;
    Ok(folder)
}

/// What a guest was made from, as far as this program decides it.
fn stamp(guest: &Guest) -> String {
    let mut hash = DefaultHasher::new();
    (guest.version, SUITE, MODULES, guest.inputs).hash(&mut hash);
    format!("{} {:016x}\n", guest.name, hash.finish())
}

/// The small RISC-V guest.
fn riscv64(archive: &Archive, work: &Path) -> Result<()> {
    let parts = small(archive, work, "riscv64", MODULES)?;
    let root = work.join("root");
    parts.root(&root)?;
    let image = work.join("root.ext4");
    disk::ext4(&root, &image, "256M", "chown -R 0:0 .")?;
    disk::qcow2(&image, &work.join("out/root.qcow2"))?;
    firmware(archive, work)
}

/// The small x86-64 guest.
fn amd64(archive: &Archive, work: &Path) -> Result<()> {
    small(archive, work, "amd64", &[MODULES, NBD_MODULES].concat()).map(drop)
}

/// Kernel and initial file system of a small guest.
fn small(archive: &Archive, work: &Path, arch: &str, modules: &[&str]) -> Result<Parts> {
    let out = work.join("out");
    let native = archive.index(SUITE, arch)?;
    archive.unpack(
        &native,
        &format!("linux-image-{arch}"),
        &work.join("kernel"),
        &["./boot/vmlinu*", "./usr/lib/modules/*.ko*"],
    )?;
    let kernel = only(&work.join("kernel/boot"), "vmlinu")?;
    fs::copy(&kernel, out.join("kernel")).at("copying", &kernel)?;
    let release = only(&work.join("kernel/usr/lib/modules"), "")?;
    let modules = Modules::pick(&release, modules)?;
    let release = release.file_name().unwrap_or_default().to_string_lossy().into_owned();

    let tools = work.join("tools");
    archive.unpack(&native, "busybox-static", &tools, &["./usr/bin/busybox"])?;
    archive.unpack(&native, "e2fsck-static", &tools, &["./usr/sbin/e2fsck.static"])?;
    let read = |name: &str| {
        let path = tools.join(name);
        fs::read(&path).at("reading", &path)
    };
    let parts = Parts {
        busybox: read("usr/bin/busybox")?,
        e2fsck: read("usr/sbin/e2fsck.static")?,
        release,
        modules,
    };
    let initrd = tools::filter(Command::new("gzip").arg("-9n"), parts.initramfs())?;
    tools::write_whole(&out.join("initrd.gz"), &initrd)?;
    Ok(parts)
}

/// OpenSBI and U-Boot, from packages that serve every architecture.
fn firmware(archive: &Archive, work: &Path) -> Result<()> {
    let index = archive.index(SUITE, "riscv64")?;
    let from = work.join("firmware");
    let sbi = "usr/lib/riscv64-linux-gnu/opensbi/generic";
    let boot = "usr/lib/u-boot/qemu-riscv64";
    archive.unpack(&index, "opensbi", &from, &[&format!("./{sbi}/*")])?;
    archive.unpack(&index, "u-boot-qemu", &from, &[&format!("./{boot}*/*")])?;
    let files = [
        (format!("{sbi}/fw_dynamic.bin"), "fw_dynamic.bin"),
        (format!("{sbi}/fw_jump.bin"), "fw_jump.bin"),
        (format!("{boot}/u-boot.bin"), "u-boot.bin"),
        (format!("{boot}_smode/u-boot.bin"), "u-boot-smode.bin"),
    ];
    for (source, name) in &files {
        let source = from.join(source);
        fs::copy(&source, work.join("out").join(name)).at("copying", &source)?;
    }
    Ok(())
}

/// EDK2: a bank of code, and one of variables.
fn efi(archive: &Archive, work: &Path) -> Result<()> {
    let index = archive.index(SUITE, "riscv64")?;
    let from = work.join("firmware");
    let folder = "usr/share/qemu-efi-riscv64";
    archive.unpack(&index, "qemu-efi-riscv64", &from, &[&format!("./{folder}/*")])?;
    for (source, name) in [("RISCV_VIRT_CODE.fd", "code.fd"), ("RISCV_VIRT_VARS.fd", "vars.fd")] {
        let source = from.join(folder).join(source);
        fs::copy(&source, work.join("out").join(name)).at("copying", &source)?;
    }
    Ok(())
}

/// What the busybox guests are put together from.
struct Parts {
    busybox: Vec<u8>,
    e2fsck: Vec<u8>,
    release: String,
    modules: Modules,
}

const FOLDERS: &[&str] = &["bin", "dev", "etc", "mnt", "proc", "root", "sbin", "sys", "tmp"];

impl Parts {
    /// Every file: path, mode, content.
    fn files(&self) -> Vec<(String, u32, Vec<u8>)> {
        let mut files: Vec<(String, u32, Vec<u8>)> = vec![
            ("bin/busybox".into(), 0o755, self.busybox.clone()),
            ("sbin/e2fsck".into(), 0o755, self.e2fsck.clone()),
            ("init".into(), 0o755, INIT.into()),
            ("etc/selftest.sh".into(), 0o644, SELFTEST.into()),
            ("etc/disktest.sh".into(), 0o644, DISKTEST.into()),
            ("etc/passwd".into(), 0o644, "root::0:0:root:/root:/bin/sh\n".into()),
            ("etc/group".into(), 0o644, "root:x:0:\n".into()),
        ];
        let folder = format!("lib/modules/{}", self.release);
        for (name, module) in &self.modules.0 {
            files.push((format!("{folder}/{name}.ko"), 0o644, module.body.clone()));
        }
        let tables = [
            ("modules.dep", self.modules.dependencies()),
            ("modules.alias", self.modules.aliases()),
            ("modules.symbols", String::new()),
            ("modules.builtin", String::new()),
        ];
        for (name, text) in tables {
            files.push((format!("{folder}/{name}"), 0o644, text.into_bytes()));
        }
        files
    }

    fn initramfs(&self) -> Vec<u8> {
        let mut archive = Cpio::default();
        for folder in FOLDERS {
            archive.folder(folder);
        }
        archive.device("dev/console", 5, 1);
        archive.device("dev/null", 1, 3);
        for (name, to) in LINKS {
            archive.symlink(name, to);
        }
        for (name, mode, body) in self.files() {
            archive.file(&name, mode, &body);
        }
        archive.finish()
    }

    /// The same as a folder, for a root on disk.
    fn root(&self, into: &Path) -> Result<()> {
        use std::os::unix::fs::{PermissionsExt, symlink};
        for folder in FOLDERS {
            tools::make_folder(&into.join(folder))?;
        }
        for (name, to) in LINKS {
            symlink(to, into.join(name)).at("linking", &into.join(name))?;
        }
        for (name, mode, body) in self.files() {
            let path = into.join(name);
            tools::make_folder(path.parent().unwrap_or(into))?;
            fs::write(&path, body).at("writing", &path)?;
            let mode = fs::Permissions::from_mode(mode);
            fs::set_permissions(&path, mode).at("setting the mode of", &path)?;
        }
        Ok(())
    }
}

/// The kernel calls `/sbin/modprobe`; the scripts need a shell to begin with.
const LINKS: &[(&str, &str)] = &[("bin/sh", "busybox"), ("sbin/modprobe", "/bin/busybox")];

/// The one entry of a folder whose name begins with `prefix`.
fn only(folder: &Path, prefix: &str) -> Result<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).at("listing", folder)? {
        let entry = entry.at("listing", folder)?;
        if entry.file_name().to_string_lossy().starts_with(prefix) {
            found.push(entry.path());
        }
    }
    match found.len() {
        1 => Ok(found.remove(0)),
        count => Err(format!("{}: {count} entries named {prefix}…, not 1", folder.display())),
    }
}
