//! A whole Debian system for a foreign architecture, without running any of
//! its programs here: packages are unpacked and recorded as unpacked in dpkg's
//! database (dpkg(1), “package states”); the guest configures them when it
//! starts for the first time.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use super::{MODULES, SUITE, disk, only};
use crate::debian::{Archive, Index, Package};
use crate::kmod::Modules;
use crate::tools::{self, At, Result};

/// What completes the system in the guest.
pub const FIRST_BOOT: &str = include_str!("../../guest/first-boot");

/// What the system has beside what every system has.
const INSTALLED: &[&str] = &[
    "apt",
    "dbus",
    "e2fsprogs",
    "gcc",
    "kmod",
    "less",
    "libc6-dev",
    "libpam-systemd",
    "login",
    "make",
    "nano",
    "passwd",
    "procps",
    "systemd-sysv",
    "udev",
];

/// Packages that lie ready in the system's own archive: it has no network.
const AT_HAND: &[&str] = &["bc", "hello", "tree", "jq"];

/// Where that archive lies in the system.
const POOL: &str = "srv/packages";

/// Files of the system's configuration.
const FILES: &[(&str, &str)] = &[
    ("etc/hostname", "tinamou\n"),
    ("etc/hosts", "127.0.0.1 localhost tinamou\n"),
    ("etc/fstab", "LABEL=tinamou / ext4 errors=remount-ro 0 1\n"),
    ("etc/machine-id", ""),
    ("etc/apt/sources.list", "deb [trusted=yes] file:/srv/packages ./\n"),
];

/// Builds the disk.
pub fn riscv64(archive: &Archive, work: &Path) -> Result<()> {
    let index = archive.index(SUITE, "riscv64")?;
    let root = work.join("root");
    let mut names = index.essential();
    names.extend(INSTALLED);
    let installed = index.closure(&names)?;
    let mut system = System { archive, index: &index, root: &root, database: Database::default() };
    for package in &installed {
        system.register(package)?;
    }
    system.database.write(&root)?;
    system.fill_pool(&installed)?;
    system.modules(work)?;
    for (name, text) in FILES {
        write(&root.join(name), text.as_bytes(), 0o644)?;
    }
    write(&root.join("first-boot"), FIRST_BOOT.as_bytes(), 0o755)?;

    let image = work.join("root.ext4");
    disk::ext4(&root, &image, "4G", &system.unpack(&installed)?)?;
    disk::qcow2(&image, &work.join("out/root.qcow2"))
}

/// The system while it is put together.
struct System<'a> {
    archive: &'a Archive,
    index: &'a Index,
    root: &'a Path,
    database: Database,
}

impl System<'_> {
    /// Records a package as unpacked.
    fn register(&mut self, package: &Package) -> Result<()> {
        let deb = self.archive.fetch(self.index, package)?;
        let control = tools::text(Command::new("dpkg-deb").arg("--field").arg(&deb))?;
        // Packages of which several architectures may be installed carry it.
        let shared = control.lines().any(|line| line == "Multi-Arch: same");
        let stem = if shared { format!("{}:riscv64", package.name) } else { package.name.clone() };

        let info = self.root.join("var/lib/dpkg/info");
        let scripts = self.root.join("var/lib/dpkg").join(format!("control.{}", package.name));
        tools::make_folder(&info)?;
        tools::output(Command::new("dpkg-deb").arg("--control").arg(&deb).arg(&scripts))?;
        let mut conffiles = String::new();
        for entry in fs::read_dir(&scripts).at("listing", &scripts)? {
            let path = entry.at("listing", &scripts)?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            match name.as_str() {
                "control" => continue,
                "conffiles" => conffiles = fs::read_to_string(&path).at("reading", &path)?,
                "triggers" => {
                    let text = fs::read_to_string(&path).at("reading", &path)?;
                    self.database.triggers(&stem, &text);
                }
                _ => {}
            }
            fs::rename(&path, info.join(format!("{stem}.{name}"))).at("moving", &path)?;
        }
        fs::remove_dir_all(&scripts).at("removing", &scripts)?;

        let files = tar(&deb, &["--list"])?;
        let mut list = String::new();
        for name in files.lines() {
            let name = name.trim_start_matches('.').trim_end_matches('/');
            list.push_str(if name.is_empty() { "/." } else { name });
            list.push('\n');
        }
        write(&info.join(format!("{stem}.list")), list.as_bytes(), 0o644)?;
        self.database.package(&control, &digests(&deb, &conffiles)?);
        Ok(())
    }

    /// Shell text that unpacks the packages into the current folder. What comes
    /// with the links of the top folders (`/bin` and others) comes first.
    fn unpack(&self, packages: &[&Package]) -> Result<String> {
        let mut sorted = packages.to_vec();
        sorted.sort_by_key(|package| package.name != "base-files");
        let mut text = String::from("chown -R 0:0 .\n");
        for package in sorted {
            let deb = self.archive.fetch(self.index, package)?;
            let deb = deb.to_string_lossy().replace('\'', r"'\''");
            let _ = writeln!(
                text,
                "dpkg-deb --fsys-tarfile '{deb}' | tar --extract --preserve-permissions \
                 --numeric-owner --keep-directory-symlink --skip-old-files"
            );
        }
        // dpkg and everything after it need the first accounts.
        text.push_str("cp usr/share/base-passwd/passwd.master etc/passwd\n");
        text.push_str("cp usr/share/base-passwd/group.master etc/group\n");
        Ok(text)
    }

    /// The system's own archive: what a network would give.
    fn fill_pool(&self, installed: &[&Package]) -> Result<()> {
        let pool = self.root.join(POOL);
        tools::make_folder(&pool)?;
        let mut packages = String::new();
        for package in self.index.closure(AT_HAND)? {
            if installed.iter().any(|each| each.name == package.name) {
                continue;
            }
            let deb = self.archive.fetch(self.index, package)?;
            let control = tools::text(Command::new("dpkg-deb").arg("--field").arg(&deb))?;
            let name = format!("{}.deb", package.name);
            fs::copy(&deb, pool.join(&name)).at("copying", &deb)?;
            let size = fs::metadata(&deb).at("reading", &deb)?.len();
            let (control, sum) = (control.trim_end(), package.sha256());
            let _ =
                writeln!(packages, "{control}\nFilename: ./{name}\nSize: {size}\nSHA256: {sum}\n");
        }
        write(&pool.join("Packages"), packages.as_bytes(), 0o644)
    }

    /// The kernel's modules that the machine has use for.
    fn modules(&self, work: &Path) -> Result<()> {
        let kernel = work.join("kernel");
        let patterns = ["./usr/lib/modules/*"];
        self.archive.unpack(self.index, "linux-image-riscv64", &kernel, &patterns)?;
        let release = only(&kernel.join("usr/lib/modules"), "")?;
        let name = release.file_name().unwrap_or_default();
        let folder = self.root.join("usr/lib/modules").join(name);
        for (name, module) in &Modules::pick(&release, MODULES)?.0 {
            write(&folder.join(format!("kernel/{name}.ko")), &module.body, 0o644)?;
        }
        for table in ["modules.builtin", "modules.builtin.modinfo", "modules.order"] {
            fs::copy(release.join(table), folder.join(table))
                .at("copying", &release.join(table))?;
        }
        Ok(())
    }
}

/// dpkg's database (`/var/lib/dpkg`).
#[derive(Default)]
struct Database {
    status: String,
    /// Packages interested in paths.
    paths: String,
    /// Packages interested in names.
    names: BTreeMap<String, String>,
}

impl Database {
    fn package(&mut self, control: &str, conffiles: &str) {
        for line in control.trim_end().lines() {
            let _ = writeln!(self.status, "{line}");
            if line.starts_with("Package: ") {
                self.status.push_str("Status: install ok unpacked\n");
            }
        }
        if !conffiles.is_empty() {
            let _ = write!(self.status, "Conffiles:\n{conffiles}");
        }
        self.status.push('\n');
    }

    /// What a package's `triggers` file asks for (deb-triggers(5)).
    fn triggers(&mut self, package: &str, text: &str) {
        for line in text.lines() {
            let mut words = line.split_whitespace();
            let (Some(verb), Some(about)) = (words.next(), words.next()) else { continue };
            if !verb.starts_with("interest") {
                continue;
            }
            let noawait = if verb == "interest-noawait" { "/noawait" } else { "" };
            if about.starts_with('/') {
                let _ = writeln!(self.paths, "{about} {package}{noawait}");
            } else {
                let _ = writeln!(self.names.entry(about.into()).or_default(), "{package}{noawait}");
            }
        }
    }

    fn write(&self, root: &Path) -> Result<()> {
        let folder = root.join("var/lib/dpkg");
        for name in ["updates", "alternatives", "parts", "triggers"] {
            tools::make_folder(&folder.join(name))?;
        }
        let plain = [
            ("status", self.status.as_str()),
            ("available", ""),
            ("arch", "riscv64\n"),
            ("diversions", ""),
            ("statoverride", ""),
            ("info/format", "1\n"),
            ("triggers/File", self.paths.as_str()),
            ("triggers/Unincorp", ""),
            ("triggers/Lock", ""),
            ("lock", ""),
            ("lock-frontend", ""),
        ];
        for (name, text) in plain {
            write(&folder.join(name), text.as_bytes(), 0o644)?;
        }
        for (name, text) in &self.names {
            write(&folder.join("triggers").join(name), text.as_bytes(), 0o644)?;
        }
        Ok(())
    }
}

/// Runs tar over a package's files.
fn tar(deb: &Path, words: &[&str]) -> Result<String> {
    let data = tools::output(Command::new("dpkg-deb").arg("--fsys-tarfile").arg(deb))?;
    let bytes = tools::filter(Command::new("tar").args(words), data)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The configuration files of a package with their digests, as dpkg keeps them.
fn digests(deb: &Path, conffiles: &str) -> Result<String> {
    let mut text = String::new();
    for name in conffiles.lines().filter(|line| line.starts_with('/')) {
        let data = tools::output(Command::new("dpkg-deb").arg("--fsys-tarfile").arg(deb))?;
        let member = format!(".{name}");
        let body = tools::filter(Command::new("tar").args(["--extract", "-O", &member]), data)?;
        let sum = tools::filter(&mut Command::new("md5sum"), body)?;
        let sum = String::from_utf8_lossy(&sum);
        let _ = writeln!(text, " {name} {}", sum.split(' ').next().unwrap_or_default());
    }
    Ok(text)
}

fn write(path: &Path, body: &[u8], mode: u32) -> Result<()> {
    if let Some(folder) = path.parent() {
        tools::make_folder(folder)?;
    }
    fs::write(path, body).at("writing", path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).at("setting the mode of", path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unpacked_package_is_recorded_with_its_configuration_files() {
        let mut database = Database::default();
        database.package("Package: a\nVersion: 1\nDescription: x\n y\n", " /etc/a 00\n");
        assert_eq!(
            database.status,
            "Package: a\nStatus: install ok unpacked\nVersion: 1\nDescription: x\n y\n\
             Conffiles:\n /etc/a 00\n\n"
        );
    }

    #[test]
    fn triggers_are_kept_by_path_and_by_name() {
        let mut database = Database::default();
        database.triggers(
            "a",
            "# no\ninterest-noawait /usr/lib\ninterest ldconfig\nactivate-noawait x\n",
        );
        assert_eq!(database.paths, "/usr/lib a/noawait\n");
        assert_eq!(database.names["ldconfig"], "a\n");
    }
}
