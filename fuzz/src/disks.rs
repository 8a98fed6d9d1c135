//! Disk images of every format, through the table of formats.
//!
//! What must hold: no panic, no hang, no allocation that the file does not back. The first byte
//! chooses the format, the second counts the operations; two bytes each at the end of the input say
//! what they do; the image is between. Other files that an image names are empty.

use std::sync::Arc;

use formats::{
    CreateRequest, FILE_OPTIONS, FORMATS, Format, Gate, Keys, NewFile, OpenRequest, Purpose,
    Reason, Style,
};
use graph::{Child, Fix, ImageOptions, Memory, NoSecrets, Node, OpenError, Role, WriteFlags};
use protocols::FileOptions;
use std::sync::Mutex;

use crate::bytes::Bytes;
use crate::image::{Growing, use_disk};
use crate::peer;

fn file(bytes: Vec<u8>) -> Arc<dyn Node> {
    Arc::new(Growing(Memory::new(bytes, false)))
}

fn request<'a>(
    format: &dyn Format,
    file: &Arc<dyn Node>,
    options: &'a mut Keys,
) -> Result<OpenRequest<'a>, OpenError> {
    let mut children = Vec::new();
    for reference in format.references(&**file, "disk")? {
        if reference.role != Role::Backing {
            let node = self::file(vec![0; 65536]);
            children.push(Child { role: reference.role, node });
        }
    }
    Ok(OpenRequest {
        file: Arc::clone(file),
        path: "disk",
        read_only: false,
        purpose: Purpose::Use,
        children,
        discard: true,
        options,
        secrets: &NoSecrets,
    })
}

fn keys() -> Keys {
    Keys::new([], Style::Drive)
}

/// Feeds an image.
pub fn feed(input: &[u8]) {
    let mut start = Bytes(input);
    let format = FORMATS[usize::from(start.byte()) % FORMATS.len()];
    let wanted = 2 * usize::from(start.byte() % 32);
    let (image, ops) = start.0.split_at(start.0.len().saturating_sub(wanted));
    let file = file(image.to_vec());
    for fix in [Fix::Nothing, Fix::All] {
        if let Ok(request) = request(format, &file, &mut keys()) {
            let _report = format.check(request, fix);
        }
        let mut keys = keys();
        let opened = request(format, &file, &mut keys).and_then(|request| format.open(request));
        if let Ok(disk) = opened {
            use_disk(&*disk, &mut Bytes(ops), false);
        }
    }
}

/// Keeps the files that an image is made of.
#[derive(Default)]
struct Folder(Mutex<Vec<(String, Arc<dyn Node>)>>);

impl Gate for Folder {
    fn open(&self, options: &FileOptions, _: Reason) -> Result<Arc<dyn Node>, OpenError> {
        let files = self.0.lock().expect("nobody panics with it");
        let found = files.iter().find(|(name, _)| *name == options.filename);
        let missing = || OpenError::host(&options.filename, std::io::ErrorKind::NotFound.into());
        found.map(|(_, node)| Arc::clone(node)).ok_or_else(missing)
    }
    fn temporary(&self) -> Result<Arc<dyn Node>, OpenError> {
        Ok(file(Vec::new()))
    }
    fn create(&self, path: &str, new: &NewFile) -> Result<Arc<dyn Node>, OpenError> {
        let node = file(vec![0; new.size.min(1 << 20) as usize]);
        let mut files = self.0.lock().expect("nobody panics with it");
        files.push((path.to_owned(), Arc::clone(&node)));
        Ok(node)
    }
    fn exists(&self, _: &str) -> bool {
        false
    }
    fn remove(&self, _: &str) {}
}

/// A small image with data, as its format makes it.
fn sample(format: &dyn Format, text: &str) -> Option<Vec<u8>> {
    let folder = Folder::default();
    let mut options = ImageOptions::new(&[format.create_options(), FILE_OPTIONS]);
    options.set("size", "300k").ok()?;
    for pair in text.split(',').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=')?;
        options.set(key, value).ok()?;
    }
    let create =
        CreateRequest { path: "disk", options: &options, gate: &folder, secrets: &NoSecrets };
    format.create(&create).ok()?;
    let file = folder.open(&FileOptions::new("disk"), Reason::Named).ok()?;
    let mut keys = keys();
    if let Ok(disk) = request(format, &file, &mut keys).and_then(|request| format.open(request)) {
        let compress = disk.image().and_then(|image| image.compress());
        for at in [0, 5000, 200_000] {
            let written = match compress {
                Some(compress) => {
                    let unit = compress.unit();
                    let len = unit.min(disk.size() - at / unit * unit) as usize;
                    compress.write_compressed(at / unit * unit, &vec![at as u8 + 1; len])
                }
                None => disk.write_at(at, &[at as u8 + 1; 700], WriteFlags::default()),
            };
            // Not every image takes every write.
            drop(written);
        }
    }
    let mut bytes = vec![0; file.size().min(256 << 10) as usize];
    file.read_at(0, &mut bytes).ok()?;
    Some(bytes)
}

/// Small images of every format, with all operations after them.
pub fn seeds() -> Vec<Vec<u8>> {
    let ops: Vec<u8> = (0..40u8).map(|n| n.wrapping_mul(37)).collect();
    let mut seeds = Vec::new();
    for (number, format) in FORMATS.iter().enumerate() {
        for text in VARIANTS {
            if let Some(image) = sample(*format, text) {
                seeds.push([&[number as u8, 20][..], &image, &ops].concat());
            }
        }
    }
    for (name, mut image) in peer::images(|format| format != "luks") {
        let number = FORMATS.iter().position(|format| format.name() == name);
        let number = number.expect("we have all of their formats");
        image.truncate(256 << 10);
        seeds.push([&[number as u8, 20][..], &image, &ops].concat());
    }
    seeds
}

/// Options of which a format takes some.
const VARIANTS: &[&str] = &[
    "",
    "static=on",
    "subformat=streamOptimized",
    "subformat=monolithicFlat",
    "subformat=fixed",
    "zeroed_grain=on",
    "cluster_size=4096",
];
