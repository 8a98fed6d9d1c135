//! `cargo xtask tidy`: the rules of the workspace that no compiler checks. It
//! runs as an ordinary test, too.

mod layers;
mod manifest;
mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::tools::{self, At, Result};
use manifest::Manifest;

/// Where `unsafe` may stand (ARCHITECTURE.md, “Unsafe code”).
const UNSAFE: &[&str] = &[
    "base/host/",
    "vm/memory/",
    "engine/codegen/",
    "engine/runtime/",
    "engine/kvm/",
    "user/",
    "fuzz/",
];

/// Text that no file may hold: places of one workplace and hosts of package
/// registries, which are the business of each machine's own configuration.
/// Written in parts, so that this file does not hold it either.
const FORBIDDEN: &[&str] = &[
    concat!("/wo", "rk/"),
    concat!("/sha", "red/"),
    concat!("deb.deb", "ian.org"),
    concat!("archive.ubu", "ntu.com"),
    concat!("index.crat", "es.io"),
    concat!("static.crat", "es.io"),
];

/// The workspace as the checks see it.
struct Workspace {
    root: PathBuf,
    /// Every file under version control, relative to the root.
    files: Vec<String>,
    manifests: Vec<Manifest>,
}

/// `cargo xtask tidy`.
///
/// # Errors
/// The complaints, a line each.
pub fn run(arguments: &[String]) -> Result<()> {
    if let Some(word) = arguments.first() {
        return Err(format!("what is '{word}'?"));
    }
    let complaints = check(&tools::root())?;
    if complaints.is_empty() { Ok(()) } else { Err(complaints.join("\n")) }
}

/// Everything that is wrong in the workspace at `root`.
///
/// # Errors
/// When it cannot be read.
pub fn check(root: &Path) -> Result<Vec<String>> {
    let workspace = Workspace::read(root)?;
    let mut complaints = layers::check(&workspace.manifests);
    complaints.extend(workspace.manifests.iter().flat_map(inherits));
    complaints.extend(workspace.sources()?);
    complaints.extend(workspace.forbidden()?);
    complaints.extend(workspace.mapped()?);
    complaints.extend(workspace.explained()?);
    Ok(complaints)
}

impl Workspace {
    fn read(root: &Path) -> Result<Self> {
        let mut list = Command::new("git");
        list.current_dir(root).args(["ls-files", "--cached", "--others", "--exclude-standard"]);
        let mut files: Vec<String> = tools::text(&mut list)?
            .lines()
            .filter(|name| root.join(name).is_file())
            .map(String::from)
            .collect();
        files.sort();
        files.dedup();
        let mut manifests = Vec::new();
        for name in files.iter().filter(|name| name.ends_with("/Cargo.toml")) {
            let path = root.join(name);
            let text = fs::read_to_string(&path).at("reading", &path)?;
            manifests.push(Manifest::parse(name.trim_end_matches("/Cargo.toml"), &text));
        }
        Ok(Self { root: root.to_path_buf(), files, manifests })
    }

    fn text(&self, name: &str) -> Result<String> {
        let path = self.root.join(name);
        let bytes = fs::read(&path).at("reading", &path)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Rust files: a head, no `unsafe` outside its places, no test left out.
    fn sources(&self) -> Result<Vec<String>> {
        let mut complaints = Vec::new();
        for name in self.files.iter().filter(|name| name.ends_with(".rs")) {
            let text = self.text(name)?;
            let headed = text.trim_start_matches("#!").trim_start().starts_with("//!");
            if !headed && !name.contains("/examples/") {
                complaints.push(format!("{name}: does not open with //! and what it is"));
            }
            let code = source::code_only(&text);
            for (number, line) in (1..).zip(code.lines()) {
                if source::has_word(line, "unsafe") && !within(name, UNSAFE) {
                    complaints.push(format!("{name}:{number}: unsafe is not allowed here"));
                }
                if line.contains("#[ignore") {
                    complaints.push(format!("{name}:{number}: a test must run or go"));
                }
            }
        }
        Ok(complaints)
    }

    fn forbidden(&self) -> Result<Vec<String>> {
        let mut complaints = Vec::new();
        for name in self.files.iter().filter(|name| *name != "Cargo.lock") {
            let text = self.text(name)?;
            for word in FORBIDDEN {
                if let Some(at) = find_path(&text, word) {
                    let line = text[..at].lines().count().max(1);
                    complaints.push(format!("{name}:{line}: '{word}' has no place in a file"));
                }
            }
        }
        Ok(complaints)
    }

    /// The paths that ARCHITECTURE.md names exist.
    fn mapped(&self) -> Result<Vec<String>> {
        let name = "ARCHITECTURE.md";
        let text = self.text(name)?;
        let missing = |path: &&str| !self.root.join(path).exists();
        Ok(paths_in(&text)
            .filter(missing)
            .map(|path| format!("{name}: there is no {path}"))
            .collect())
    }

    /// Each external package has its line in docs/dependencies.md.
    fn explained(&self) -> Result<Vec<String>> {
        let name = "docs/dependencies.md";
        let text = self.text(name)?;
        let explained: BTreeSet<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix("| ")?.split(' ').next())
            .filter(|word| *word != "package" && !word.starts_with('-'))
            .collect();
        let inside: BTreeSet<&str> = self.manifests.iter().map(|each| each.name.as_str()).collect();
        let mut used: BTreeMap<&str, &str> = BTreeMap::new();
        for manifest in &self.manifests {
            for dependency in &manifest.dependencies {
                if !inside.contains(dependency.name.as_str()) {
                    used.entry(&dependency.name).or_insert(&manifest.folder);
                }
            }
        }
        let mut complaints = Vec::new();
        for (package, user) in &used {
            if !explained.contains(package) {
                complaints.push(format!("{name}: no line for {package}, which {user} uses"));
            }
        }
        for package in explained.iter().filter(|package| !used.contains_key(*package)) {
            complaints.push(format!("{name}: {package} is used by nobody"));
        }
        Ok(complaints)
    }
}

/// A crate takes its licence and its lints from the workspace.
fn inherits(manifest: &Manifest) -> Vec<String> {
    let folder = &manifest.folder;
    let mut complaints = Vec::new();
    if folder.starts_with("fuzz") {
        return complaints;
    }
    if !manifest.licensed {
        complaints.push(format!("{folder}/Cargo.toml: license.workspace = true is missing"));
    }
    if !manifest.linted {
        complaints.push(format!("{folder}/Cargo.toml: [lints] workspace = true is missing"));
    }
    complaints
}

fn within(name: &str, places: &[&str]) -> bool {
    places.iter().any(|place| name.starts_with(place))
}

/// Where `word` stands; one that begins with a slash must begin a path there.
fn find_path(text: &str, word: &str) -> Option<usize> {
    text.match_indices(word).map(|(at, _)| at).find(|&at| {
        let before = text[..at].chars().next_back();
        let inside = |c: char| c.is_alphanumeric() || "/_-.}$)*~".contains(c);
        !word.starts_with('/') || !before.is_some_and(inside)
    })
}

/// The paths among the words in backquotes and in the code map.
fn paths_in(text: &str) -> impl Iterator<Item = &str> {
    let plain = |word: &str| {
        let fits = |c: char| c.is_ascii_alphanumeric() || "_./-".contains(c);
        word.contains('/') && word.chars().all(fits) && !word.starts_with(['/', '-', '.'])
    };
    text.split('`').skip(1).step_by(2).filter(move |word| plain(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workspace_is_tidy() {
        let complaints = check(&tools::root()).unwrap();
        assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
    }

    #[test]
    fn paths_of_a_document_are_its_quoted_words_with_a_slash() {
        let text = "`base/` and `vm/memory/src/lib.rs`, `unsafe`, `-drive a/b`, a/b, `guest/<isa>`";
        let paths: Vec<&str> = paths_in(text).collect();
        assert_eq!(paths, ["base/", "vm/memory/src/lib.rs"]);
    }

    #[test]
    fn a_forbidden_path_counts_where_it_begins_one() {
        assert_eq!(find_path("in /abc/x", "/abc/"), Some(3));
        assert_eq!(find_path("in x/abc/x", "/abc/"), None);
        assert_eq!(find_path("in x/abc/x or '/abc/'", "/abc/"), Some(15));
    }
}
