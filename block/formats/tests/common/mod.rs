//! What several tests need: folders, reproducible randomness, the installed image tool.
#![allow(dead_code, reason = "each test uses a part")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

pub mod cuts;
pub mod images;
pub mod power;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use formats::qcow2::{Options, Qcow2};
use formats::{
    CreateRequest, DriveOptions, FILE_OPTIONS, HostFiles, ImageSpec, format_named, open_drive,
    open_image,
};
use graph::{Graph, ImageOptions, NoSecrets, Node, OpenError, Secrets};
use protocols::{Access, File, FileOptions};
pub use seeded::Random;

/// A folder that is removed with the value. Tests that have one run one after the other: while one
/// starts a process, the child has for a moment all descriptors of this process, with their locks.
pub struct Folder(PathBuf, #[allow(dead_code, reason = "held, not used")] MutexGuard<'static, ()>);

static ALONE: Mutex<()> = Mutex::new(());

impl Folder {
    pub fn new(name: &str) -> Self {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let path = std::env::temp_dir().join(format!("formats-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path, alone)
    }

    pub fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Runs a tool of the package qemu-utils; fails the test if it is missing.
pub fn tool(name: &str, args: &[&str]) -> Output {
    let run = Command::new(name).args(args).output();
    run.unwrap_or_else(|e| panic!("{name}: {e}; install the package qemu-utils"))
}

/// Runs a tool that has to succeed; returns its standard output.
pub fn must(name: &str, args: &[&str]) -> String {
    let out = tool(name, args);
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let errors = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{name} {args:?}: {text}{errors}");
    text
}

pub fn open_file(path: &str, read_only: bool) -> Arc<dyn Node> {
    let access = if read_only { Access::FORMAT_READ } else { Access::FORMAT_WRITE };
    let options = FileOptions { read_only, access, ..FileOptions::new(path) };
    Arc::new(File::open(&options).unwrap())
}

pub fn open(path: &str, read_only: bool, backing: Option<Arc<dyn Node>>) -> Qcow2 {
    let options = Options { read_only, backing, pass_discards: true, ..Options::default() };
    Qcow2::open(open_file(path, read_only), path, options).unwrap()
}

/// Creates an image as `-o` of the tools would.
pub fn try_create(format: &str, path: &str, options: &str) -> Result<(), OpenError> {
    try_create_with(format, path, options, &NoSecrets)
}

/// The same with secrets.
pub fn try_create_with(
    format: &str,
    path: &str,
    options: &str,
    secrets: &dyn Secrets,
) -> Result<(), OpenError> {
    let format = format_named(format).unwrap();
    let mut values = ImageOptions::new(&[format.create_options(), FILE_OPTIONS]);
    for pair in options.split(',').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap();
        values.set(name, value)?;
    }
    let request = CreateRequest { path, options: &values, gate: &HostFiles, secrets };
    format.create(&request)
}

/// The same where it has to succeed.
pub fn create_image(format: &str, path: &str, options: &str) {
    try_create(format, path, options).unwrap_or_else(|e| panic!("{options}: {e}"));
}

/// Opens an image with all the files it names, as `-drive` does.
pub fn open_named(path: &str, format: &str, read_only: bool) -> Arc<dyn Node> {
    let options = DriveOptions {
        file: Some(path.to_owned()),
        format: Some(format.to_owned()),
        read_only: Some(read_only),
        discard: true,
        ..DriveOptions::default()
    };
    let opened = open_drive(&options, &HostFiles, &Graph::new(), &NoSecrets);
    opened.unwrap_or_else(|e| panic!("{path}: {e}")).disk.node()
}

/// Secrets whose bytes are the ID, backwards: `abc` is `cba`.
pub struct Backwards;

impl Secrets for Backwards {
    fn secret(&self, id: &str) -> Result<Vec<u8>, OpenError> {
        Ok(id.bytes().rev().collect())
    }
}

/// Opens what a list of options describes, with [`Backwards`] secrets.
pub fn try_open_options(options: &str, writable: bool) -> Result<Arc<dyn Node>, OpenError> {
    let spec = ImageSpec { name: options, complete: true, writable, ..ImageSpec::default() };
    open_image(&spec, &HostFiles, &Backwards).map(|opened| opened.node)
}

/// The same where it has to succeed.
pub fn open_options(options: &str, writable: bool) -> Arc<dyn Node> {
    try_open_options(options, writable).unwrap_or_else(|e| panic!("{options}: {e}"))
}

/// Our own checker has nothing to say.
pub fn assert_clean(path: &str) {
    let report = Qcow2::check(&*open_file(path, true), path).unwrap();
    assert_eq!((report.corruptions, report.leaks), (0, 0), "{:?}", report.findings);
}

pub fn read_all(node: &dyn Node) -> Vec<u8> {
    let mut bytes = vec![0; node.size() as usize];
    for (i, part) in bytes.chunks_mut(1 << 20).enumerate() {
        node.read_at((i as u64) << 20, part).unwrap();
    }
    bytes
}

pub fn exists(path: &str) -> bool {
    Path::new(path).exists()
}
