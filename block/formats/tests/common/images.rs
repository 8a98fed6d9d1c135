//! Images of any format, made and opened through the table of formats.
#![allow(dead_code, reason = "each test uses a part")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use formats::{
    CreateRequest, FILE_OPTIONS, Format, Gate, HostFiles, Keys, NewFile, OpenRequest, Purpose,
    Reason, Style, format_named,
};
use graph::{
    CheckReport, Child, Fix, ImageOptions, NoSecrets, Node, OpenError, Role, WriteFlags, ZeroFlags,
};
use protocols::{Access, FileOptions};

use super::power::Volatile;
use super::{Backwards, Random};

/// Files in memory, by name.
#[derive(Default)]
pub struct MemoryHost(pub Mutex<BTreeMap<String, Arc<Volatile>>>);

impl MemoryHost {
    pub fn file(&self, path: &str) -> Arc<Volatile> {
        Arc::clone(&self.0.lock().unwrap()[path])
    }

    pub fn put(&self, path: &str, bytes: Vec<u8>) {
        self.0.lock().unwrap().insert(path.to_owned(), Volatile::holding(bytes));
    }
}

impl Gate for MemoryHost {
    fn open(&self, options: &FileOptions, _: Reason) -> Result<Arc<dyn Node>, OpenError> {
        let found = self.0.lock().unwrap().get(&options.filename).cloned();
        let missing = || OpenError::host(&options.filename, std::io::ErrorKind::NotFound.into());
        found.map(|file| file as Arc<dyn Node>).ok_or_else(missing)
    }
    fn temporary(&self) -> Result<Arc<dyn Node>, OpenError> {
        Ok(Volatile::holding(Vec::new()))
    }
    fn create(&self, path: &str, new: &NewFile) -> Result<Arc<dyn Node>, OpenError> {
        self.put(path, vec![0; new.size as usize]);
        Ok(self.file(path))
    }
    fn exists(&self, path: &str) -> bool {
        self.0.lock().unwrap().contains_key(path)
    }
    fn remove(&self, path: &str) {
        self.0.lock().unwrap().remove(path);
    }
}

/// What `-o text` says, for a disk of `size` bytes.
pub fn image_options(format: &dyn Format, text: &str, size: u64) -> ImageOptions {
    let mut options = ImageOptions::new(&[format.create_options(), FILE_OPTIONS]);
    options.set_number("size", size).unwrap();
    for pair in text.split(',').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap();
        options.set(key, value).unwrap();
    }
    options
}

/// Makes an image.
pub fn try_make(
    gate: &dyn Gate,
    format: &str,
    path: &str,
    text: &str,
    size: u64,
) -> Result<(), OpenError> {
    let format = format_named(format).unwrap();
    let options = image_options(format, text, size);
    format.create(&CreateRequest { path, options: &options, gate, secrets: &NoSecrets })
}

pub fn make(gate: &dyn Gate, format: &str, path: &str, text: &str, size: u64) {
    try_make(gate, format, path, text, size).unwrap();
}

/// How a test opens an image.
#[derive(Clone, Default)]
pub struct Opening {
    pub read_only: bool,
    pub backing: Option<Arc<dyn Node>>,
    /// The driver's own options; secrets are [`Backwards`].
    pub keys: Vec<(String, String)>,
}

impl Opening {
    pub fn reading() -> Self {
        Self { read_only: true, ..Self::default() }
    }
}

/// The file of an image and the files it names, without its backing file.
fn children(
    gate: &dyn Gate,
    format: &dyn Format,
    path: &str,
    opening: &Opening,
) -> Result<(Arc<dyn Node>, Vec<Child>), OpenError> {
    let access = if opening.read_only { Access::FORMAT_READ } else { Access::FORMAT_WRITE };
    let options =
        |name: &str| FileOptions { read_only: opening.read_only, access, ..FileOptions::new(name) };
    let file = gate.open(&options(path), Reason::Named)?;
    let mut children = Vec::new();
    for reference in format.references(&*file, path)? {
        let node = match reference.role {
            Role::Backing => match &opening.backing {
                Some(node) => Arc::clone(node),
                None => continue,
            },
            _ => {
                let beside = Path::new(path).parent().unwrap().join(&reference.name);
                gate.open(&options(&beside.display().to_string()), Reason::Data)?
            }
        };
        children.push(Child { role: reference.role, node });
    }
    Ok((file, children))
}

/// Opens an image.
pub fn try_open(
    gate: &dyn Gate,
    format: &str,
    path: &str,
    opening: &Opening,
) -> Result<Arc<dyn Node>, OpenError> {
    let format = format_named(format).unwrap();
    let (file, children) = children(gate, format, path, opening)?;
    format.open(OpenRequest {
        file,
        path,
        read_only: opening.read_only,
        purpose: Purpose::Use,
        children,
        discard: true,
        options: &mut Keys::new(opening.keys.clone(), Style::Drive),
        secrets: &Backwards,
    })
}

/// Opens an image of the host for reading and writing.
pub fn open_host(format: &str, path: &str) -> Arc<dyn Node> {
    try_open(&HostFiles, format, path, &Opening::default()).unwrap()
}

/// Checks an image; `None` if its format has no check.
pub fn check(
    gate: &dyn Gate,
    format: &str,
    path: &str,
    fix: Fix,
) -> Result<Option<CheckReport>, OpenError> {
    let format = format_named(format).unwrap();
    let opening = Opening { read_only: fix == Fix::Nothing, ..Opening::default() };
    let (file, children) = children(gate, format, path, &opening)?;
    let request = OpenRequest {
        file,
        path,
        read_only: opening.read_only,
        purpose: Purpose::Use,
        children,
        discard: true,
        options: &mut Keys::new([], Style::Drive),
        secrets: &NoSecrets,
    };
    format.check(request, fix)
}

/// What a report tells of that puts data in danger. That a parallels image was not closed is damage
/// to its checkers, and what any crash leaves.
pub fn damage(report: &CheckReport) -> u64 {
    let mark = "ERROR image was not closed correctly";
    let marks = report.findings.iter().filter(|text| *text == mark).count();
    report.corruptions + report.check_errors - marks as u64
}

/// Random writes, zeroes, discards and flushes on `disk`, mirrored in `model`.
pub fn exercise(disk: &dyn Node, model: &mut [u8], random: &mut Random, rounds: u32) {
    let size = model.len() as u64;
    for _ in 0..rounds {
        let len = match random.below(4) {
            0 => 512,
            1 => random.below(4096) + 1,
            2 => random.below(70_000) + 1,
            _ => random.below(300_000) + 1,
        };
        let at = random.below(size);
        let len = len.min(size - at);
        let range = at as usize..(at + len) as usize;
        match random.below(12) {
            0 => {
                let flags = ZeroFlags { unmap: random.below(2) == 0, fua: false };
                disk.write_zeroes(at, len, flags).unwrap();
                model[range].fill(0);
            }
            1 => {
                disk.discard(at, len).unwrap();
                let mut now = vec![0; len as usize];
                disk.read_at(at, &mut now).unwrap();
                let same = now.iter().zip(&model[range.clone()]).all(|(n, m)| n == m || *n == 0);
                assert!(same, "a discard may leave content or zeroes only");
                model[range].copy_from_slice(&now);
            }
            2 => disk.flush().unwrap(),
            _ => {
                let byte = random.next() as u8;
                let data: Vec<u8> = (0..len).map(|i| byte.wrapping_add((i >> 9) as u8)).collect();
                disk.write_at(at, &data, WriteFlags::default()).unwrap();
                model[range].copy_from_slice(&data);
            }
        }
    }
}
