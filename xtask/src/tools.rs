//! Running other programs, and the paths every task needs.

use std::env;
use std::ffi::OsStr;
use std::fmt::Display;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

/// A task's failure is text for the person who called it.
pub type Result<T> = std::result::Result<T, String>;

/// Says what was being done to a path when the host refused.
pub trait At<T> {
    /// Turns a host error into text that names `what` and `path`.
    fn at(self, what: &str, path: &Path) -> Result<T>;
}

impl<T, E: Display> At<T> for std::result::Result<T, E> {
    fn at(self, what: &str, path: &Path) -> Result<T> {
        self.map_err(|error| format!("{what} {}: {error}", path.display()))
    }
}

/// The workspace's root.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().expect("xtask lies in the workspace's root").to_path_buf()
}

/// Where Cargo puts what it builds.
pub fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// The cache of downloads and guests, shared by all checkouts:
/// `$TINAMOU_CACHE`, `$XDG_CACHE_HOME/tinamou` or `~/.cache/tinamou`.
///
/// # Errors
/// When none of the variables is set.
pub fn cache() -> Result<PathBuf> {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("TINAMOU_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|cache| cache.join("tinamou")))
        .or_else(|| set("HOME").map(|home| home.join(".cache/tinamou")))
        .ok_or_else(|| "no place for the cache: set TINAMOU_CACHE".to_string())
}

/// Whether `program` is found on the search path.
pub fn has(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// A command line as text, for messages.
pub fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(quoted).collect::<Vec<_>>().join(" ")
}

fn quoted(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=+.,/:@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.into_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// Runs a command whose output is for the person at the terminal.
///
/// # Errors
/// When it cannot be started or does not end well.
pub fn call(command: &mut Command) -> Result<()> {
    let status = command.status().map_err(|error| format!("{}: {error}", shown(command)))?;
    if status.success() { Ok(()) } else { Err(format!("{}: {status}", shown(command))) }
}

/// Runs a command and returns what it wrote.
///
/// # Errors
/// When it does not end well: the text holds what it wrote to stderr.
pub fn output(command: &mut Command) -> Result<Vec<u8>> {
    let done = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{}: {error}", shown(command)))?;
    if done.status.success() {
        return Ok(done.stdout);
    }
    let said = String::from_utf8_lossy(&done.stderr);
    Err(format!("{}: {}\n{}", shown(command), done.status, said.trim_end()))
}

/// The same, as text.
///
/// # Errors
/// As [`output`].
pub fn text(command: &mut Command) -> Result<String> {
    Ok(String::from_utf8_lossy(&output(command)?).into_owned())
}

/// Sends `input` through a filter such as `gzip`.
///
/// # Errors
/// When the filter does not end well.
pub fn filter(command: &mut Command, input: Vec<u8>) -> Result<Vec<u8>> {
    let name = shown(command);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{name}: {error}"))?;
    let mut pipe = child.stdin.take().expect("stdin is piped");
    // Written from another thread, since the filter answers while it reads.
    let writer = thread::spawn(move || pipe.write_all(&input));
    let done = child.wait_with_output().map_err(|error| format!("{name}: {error}"))?;
    let written = writer.join().map_err(|_| format!("{name}: the writer stopped"))?;
    if !done.status.success() {
        return Err(format!("{name}: {}", done.status));
    }
    written.map_err(|error| format!("{name}: {error}"))?;
    Ok(done.stdout)
}

/// Writes a file so that it is either complete or absent.
///
/// # Errors
/// When the host refuses.
pub fn write_whole(path: &Path, data: &[u8]) -> Result<()> {
    let part = path.with_added_extension("part");
    fs::write(&part, data).at("writing", &part)?;
    fs::rename(&part, path).at("renaming to", path)
}

/// Makes a folder and those above it.
///
/// # Errors
/// When the host refuses.
pub fn make_folder(path: &Path) -> Result<()> {
    fs::create_dir_all(path).at("making folder", path)
}

/// A folder that goes away with its value.
pub struct Scratch(PathBuf);

impl Scratch {
    /// Makes `NAME.PID` inside `parent`.
    ///
    /// # Errors
    /// When the host refuses.
    pub fn new(parent: &Path, name: &str) -> Result<Self> {
        let path = parent.join(format!("{name}.{}", std::process::id()));
        if path.exists() {
            fs::remove_dir_all(&path).at("removing", &path)?;
        }
        make_folder(&path)?;
        Ok(Self(path))
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed only wastes space in the cache.
        drop(fs::remove_dir_all(&self.0));
    }
}

/// Splits a task's arguments into the flags it knows and the rest.
///
/// # Errors
/// At an option that is not in `known`.
pub fn flags<'a>(arguments: &'a [String], known: &[&str]) -> Result<(Vec<&'a str>, Vec<&'a str>)> {
    let (flags, rest): (Vec<&str>, Vec<&str>) =
        arguments.iter().map(String::as_str).partition(|word| word.starts_with("--"));
    match flags.iter().find(|flag| !known.contains(flag)) {
        Some(flag) => Err(format!("unknown option {flag} (known: {})", known.join(" "))),
        None => Ok((flags, rest)),
    }
}
