//! Packages of any Debian suite and architecture, read from the archive this
//! machine already uses. Nothing is installed and no host's name is kept here.
//!
//! Trust runs from the archive's keyring: `InRelease` is checked with `gpgv`,
//! `Packages.xz` against the hashes in `InRelease`, each package against its
//! hash in `Packages`. Only text that `gpgv` hands back as signed is read.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::tools::{self, At, Result};

/// apt's own downloader: it honours the proxies and certificates set up here.
const HELPER: &str = "/usr/lib/apt/apt-helper";

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// What an archive check needs on the host.
pub const NEEDS: &[&str] = &["debian-archive-keyring", "dpkg", "gpgv", "xz-utils"];

/// One package as the archive's index describes it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Where it lies, relative to the archive's base.
    filename: String,
    sha256: String,
    /// `Pre-Depends` and `Depends`, as written.
    pub depends: String,
    provides: String,
    essential: bool,
    required: bool,
    /// Where its paragraph is in the index's text.
    paragraph: Range<usize>,
}

impl Package {
    /// Where it lies in the archive.
    pub fn filename(&self) -> &str {
        &self.filename
    }

    /// The digest of its file.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }
}

/// The packages of one suite and architecture.
pub struct Index {
    base: String,
    text: String,
    packages: BTreeMap<String, Package>,
}

impl Index {
    /// The package of that name.
    ///
    /// # Errors
    /// When the suite has none.
    pub fn get(&self, name: &str) -> Result<&Package> {
        self.packages.get(name).ok_or_else(|| format!("the archive has no package {name}"))
    }

    /// The names of the packages that every system has.
    pub fn essential(&self) -> Vec<&str> {
        let names = self.packages.values().filter(|package| package.essential);
        names.map(|package| &*package.name).collect()
    }

    /// The names of the packages without which a system cannot be set up.
    pub fn required(&self) -> Vec<&str> {
        let names = self.packages.values().filter(|package| package.required || package.essential);
        names.map(|package| &*package.name).collect()
    }

    /// What the archive's index says of a package.
    pub fn paragraph(&self, package: &Package) -> &str {
        self.text.get(package.paragraph.clone()).unwrap_or_default()
    }

    /// The named packages and all they depend on, in no particular order; of
    /// alternatives the first that the suite has.
    ///
    /// # Errors
    /// When a name is not in the suite.
    pub fn closure(&self, names: &[&str]) -> Result<Vec<&Package>> {
        let mut provided: BTreeMap<&str, &str> = BTreeMap::new();
        for package in self.packages.values() {
            for name in relations(&package.provides) {
                provided.entry(name).or_insert(&package.name);
            }
        }
        let real = |name: &str| {
            self.packages.get(name).or_else(|| self.packages.get(*provided.get(name)?))
        };
        let mut todo = names.to_vec();
        let mut found: BTreeMap<&str, &Package> = BTreeMap::new();
        let mut unknown = BTreeSet::new();
        while let Some(name) = todo.pop() {
            let Some(package) = real(name) else {
                unknown.insert(name);
                continue;
            };
            if found.insert(&package.name, package).is_some() {
                continue;
            }
            for clause in package.depends.split(',').filter(|clause| !clause.trim().is_empty()) {
                let mut choices = clause.split('|').flat_map(relations);
                let first = choices.clone().next();
                todo.extend(choices.find(|choice| real(choice).is_some()).or(first));
            }
        }
        if unknown.is_empty() {
            return Ok(found.into_values().collect());
        }
        let unknown: Vec<&str> = unknown.into_iter().collect();
        Err(format!("the archive has no package {}", unknown.join(", ")))
    }

    /// The package with the kernel that a `linux-image-FLAVOUR` package stands for.
    ///
    /// # Errors
    /// When the suite has neither.
    pub fn kernel(&self, meta: &str) -> Result<&Package> {
        let package = self.get(meta)?;
        let names =
            package.depends.split(',').filter_map(|clause| clause.split_whitespace().next());
        match names.into_iter().find(|name| name.starts_with("linux-image-")) {
            Some(name) => self.get(name),
            None => Ok(package),
        }
    }
}

/// The archive, with a cache of what was taken from it.
pub struct Archive {
    cache: PathBuf,
    bases: Vec<String>,
}

impl Archive {
    /// The archive in this machine's apt sources, or at `$DEBIAN_MIRROR`.
    ///
    /// # Errors
    /// When there is none, or the cache cannot be made.
    pub fn open(cache: &Path) -> Result<Self> {
        for folder in ["lists", "pool"] {
            tools::make_folder(&cache.join(folder))?;
        }
        Ok(Self { cache: cache.to_path_buf(), bases: bases()? })
    }

    /// The index of the `main` component of one suite and architecture.
    ///
    /// # Errors
    /// When no configured archive has it, or it fails verification.
    pub fn index(&self, suite: &str, arch: &str) -> Result<Index> {
        let mut told = Vec::new();
        for base in &self.bases {
            match self.index_at(base, suite, arch) {
                Ok(index) => return Ok(index),
                Err(message) => told.push(message),
            }
        }
        Err(format!("no index of {suite} for {arch}:\n{}", told.join("\n")))
    }

    fn index_at(&self, base: &str, suite: &str, arch: &str) -> Result<Index> {
        let release = self.release(base, suite)?;
        let name = format!("main/binary-{arch}/Packages.xz");
        let digest = release_digest(&release, &name)
            .ok_or_else(|| format!("the release file of {suite} does not list {name}"))?;
        let kept = self.cache.join(format!("lists/{suite}_{arch}_{}.xz", short(digest)));
        if !kept.exists() {
            eprintln!("  index of {suite} for {arch}");
            // By hash: the mirror may be in the middle of an update.
            let folder = format!("{base}/dists/{suite}/main/binary-{arch}");
            download(&format!("{folder}/by-hash/SHA256/{digest}"), &kept, Some(digest))
                .or_else(|_| download(&format!("{folder}/Packages.xz"), &kept, Some(digest)))?;
        }
        let text = tools::text(Command::new("xz").arg("-dc").arg(&kept))?;
        Ok(Index { base: base.to_string(), packages: parse_packages(&text), text })
    }

    /// The signed text of a suite's release file; what was fetched before
    /// serves when the archive cannot be reached.
    fn release(&self, base: &str, suite: &str) -> Result<String> {
        let kept = self.cache.join(format!("lists/{suite}.InRelease"));
        let fresh = kept.with_extension("new");
        match download(&format!("{base}/dists/{suite}/InRelease"), &fresh, None) {
            Ok(()) => {
                let text = signed_text(&fresh)?;
                fs::rename(&fresh, &kept).at("renaming to", &kept)?;
                Ok(text)
            }
            Err(_) if kept.exists() => signed_text(&kept),
            Err(message) => Err(message),
        }
    }

    /// The path of a package's file, downloaded if it is not there yet.
    ///
    /// # Errors
    /// When it cannot be had or its hash is wrong.
    pub fn fetch(&self, index: &Index, package: &Package) -> Result<PathBuf> {
        let file = package.filename.rsplit('/').next().unwrap_or(&package.filename);
        let kept = self.cache.join(format!("pool/{}_{file}", short(&package.sha256)));
        if !kept.exists() {
            eprintln!("  {} {}", package.name, package.version);
            let from = format!("{}/{}", index.base, package.filename);
            download(&from, &kept, Some(&package.sha256))?;
        }
        Ok(kept)
    }

    /// Unpacks the members of a package that match `patterns` (as tar's
    /// wildcards, beginning `./`) into a folder.
    ///
    /// # Errors
    /// When the package cannot be had or read.
    pub fn unpack(&self, index: &Index, name: &str, into: &Path, patterns: &[&str]) -> Result<()> {
        let package =
            if name.starts_with("linux-image-") { index.kernel(name)? } else { index.get(name)? };
        let deb = self.fetch(index, package)?;
        tools::make_folder(into)?;
        let tar = tools::output(Command::new("dpkg-deb").arg("--fsys-tarfile").arg(&deb))?;
        let mut unpack = Command::new("tar");
        unpack.args(["--extract", "--no-same-owner", "--wildcards", "--directory"]);
        unpack.arg(into).args(patterns);
        tools::filter(&mut unpack, tar).map(drop).map_err(|error| format!("{name}: {error}"))
    }
}

/// Base addresses of the archives in the apt sources, main archive first.
fn bases() -> Result<Vec<String>> {
    if let Some(base) = env::var("DEBIAN_MIRROR").ok().filter(|base| !base.is_empty()) {
        return Ok(vec![base.trim_end_matches('/').to_string()]);
    }
    let mut query = Command::new("apt-get");
    // A fresh machine has no release files yet; the sources alone are enough.
    query.args(["indextargets", "--no-release-info", "--format", "$(REPO_URI)"]);
    query.arg("Created-By: Packages");
    let mut bases: Vec<String> = Vec::new();
    for line in tools::text(&mut query)?.lines() {
        let base = line.trim_end_matches('/').to_string();
        if !base.is_empty() && !bases.contains(&base) {
            bases.push(base);
        }
    }
    bases.sort_by_key(|base| !base.ends_with("/debian"));
    if bases.is_empty() {
        return Err("no archive in the apt sources: set DEBIAN_MIRROR".into());
    }
    Ok(bases)
}

/// Downloads to a file that appears only when complete and, with a digest,
/// verified.
fn download(from: &str, to: &Path, sha256: Option<&str>) -> Result<()> {
    let part = to.with_added_extension(format!("{}.part", std::process::id()));
    let mut helper = Command::new(HELPER);
    // The cache belongs to the caller; apt's own user could not write there.
    helper.args(["-o", "APT::Sandbox::User=root", "-o", "Acquire::Retries=3", "download-file"]);
    helper.arg(from).arg(&part);
    if let Some(digest) = sha256 {
        helper.arg(format!("SHA256:{digest}"));
    }
    tools::output(&mut helper)?;
    if let Some(digest) = sha256 {
        let sum = tools::text(Command::new("sha256sum").arg(&part))?;
        if sum.split_whitespace().next() != Some(digest) {
            return Err(format!("{}: the hash is not the one that was signed", to.display()));
        }
    }
    fs::rename(&part, to).at("renaming to", to)
}

/// The text of a clear-signed file, if a key of the keyring signed it.
fn signed_text(file: &Path) -> Result<String> {
    let text = file.with_extension("txt");
    let mut verify = Command::new("gpgv");
    verify.args(["--quiet", "--status-fd", "1", "--keyring", KEYRING, "--output"]);
    verify.arg(&text).arg(file);
    if text.exists() {
        fs::remove_file(&text).at("removing", &text)?;
    }
    let done = verify.output().map_err(|error| format!("gpgv: {error}"))?;
    // Several keys sign a release; gpgv fails if it lacks one of them, and one
    // good signature is what apt asks for too.
    let status = String::from_utf8_lossy(&done.stdout);
    let said = |word: &str| status.lines().any(|line| line.split(' ').nth(1) == Some(word));
    if !said("VALIDSIG") || !said("GOODSIG") || said("BADSIG") {
        let why = String::from_utf8_lossy(&done.stderr);
        return Err(format!("{}: not signed by the archive\n{why}", file.display()));
    }
    fs::read_to_string(&text).at("reading", &text)
}

/// The SHA-256 that a release file gives for one of its files.
fn release_digest<'a>(release: &'a str, name: &str) -> Option<&'a str> {
    let list = release.lines().skip_while(|line| !line.starts_with("SHA256:")).skip(1);
    list.take_while(|line| line.starts_with(' ')).find_map(|line| {
        let mut words = line.split_whitespace();
        let digest = words.next()?;
        (words.nth(1)? == name).then_some(digest)
    })
}

fn parse_packages(text: &str) -> BTreeMap<String, Package> {
    let mut packages = BTreeMap::new();
    let mut at = 0;
    for stanza in text.split("\n\n") {
        let mut package = Package { paragraph: at..at + stanza.len(), ..Package::default() };
        at += stanza.len() + 2;
        for line in stanza.lines() {
            let Some((key, value)) = line.split_once(": ") else { continue };
            match key {
                "Package" => package.name = value.to_string(),
                "Version" => package.version = value.to_string(),
                "Filename" => package.filename = value.to_string(),
                "SHA256" => package.sha256 = value.to_string(),
                "Provides" => package.provides = value.to_string(),
                "Essential" => package.essential = value == "yes",
                "Priority" => package.required = value == "required",
                "Depends" | "Pre-Depends" => {
                    if !package.depends.is_empty() {
                        package.depends.push_str(", ");
                    }
                    package.depends.push_str(value);
                }
                _ => {}
            }
        }
        if !package.name.is_empty() && !package.sha256.is_empty() {
            packages.insert(package.name.clone(), package);
        }
    }
    packages
}

/// The names in a list such as `a (>= 1), b:any [riscv64]`.
fn relations(list: &str) -> impl Iterator<Item = &str> + Clone {
    list.split(',').filter_map(|clause| clause.split([' ', '(', ':', '[']).find(|w| !w.is_empty()))
}

fn short(digest: &str) -> &str {
    digest.get(..16).unwrap_or(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(text: &str) -> Index {
        let (base, packages) = (String::new(), parse_packages(text));
        Index { base, text: text.to_string(), packages }
    }

    #[test]
    fn a_release_file_gives_the_digest_of_the_strong_list_only() {
        let text =
            "MD5Sum:\n aa 1 main/x\nSHA256:\n bb 1 main/x\n cc 2 main/y\nOther: z\n dd 3 main/z\n";
        assert_eq!(release_digest(text, "main/x"), Some("bb"));
        assert_eq!(release_digest(text, "main/y"), Some("cc"));
        assert_eq!(release_digest(text, "main/z"), None);
    }

    #[test]
    fn a_kernel_metapackage_leads_to_the_kernel() {
        let text = "Package: linux-image-riscv64\nVersion: 6\nFilename: a\nSHA256: aa\n\
            Depends: linux-image-6-riscv64 (= 6)\n\n\
            Package: linux-image-6-riscv64\nVersion: 6\nFilename: b\nSHA256: bb\n\
            Description: a kernel\n Depends: not a field\n";
        let index = index(text);
        assert_eq!(index.kernel("linux-image-riscv64").unwrap().filename, "b");
        assert!(index.get("linux-image-7-riscv64").is_err());
    }

    #[test]
    fn a_closure_follows_alternatives_and_virtual_packages() {
        let text = "Package: a\nSHA256: 1\nDepends: nowhere | b (>= 2), v:any\n\n\
            Package: b\nSHA256: 2\nPre-Depends: a\n\n\
            Package: c\nSHA256: 3\nProvides: v (= 1), w\nEssential: yes\n\n\
            Package: d\nSHA256: 4\n";
        let index = index(text);
        let found: Vec<&str> = index.closure(&["a"]).unwrap().iter().map(|p| &*p.name).collect();
        assert_eq!(found, ["a", "b", "c"]);
        assert_eq!(index.essential(), ["c"]);
        assert_eq!(index.paragraph(index.get("d").unwrap()), "Package: d\nSHA256: 4\n");
        assert!(index.closure(&["e"]).is_err());
    }
}
