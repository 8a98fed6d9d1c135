//! What boards are made from, and why that may fail.

use crate::Window;
use crate::assemble::{self, BootError};
use fdt::Tree;
use machine::{Builder, Rom};
use memory::{AddressSpace, Backing, Gpa, Ram, Region};
use std::fmt;
use std::io;
use std::sync::Arc;

/// A file that the user named, read.
pub struct File {
    /// Its name.
    pub name: String,
    /// Its contents.
    pub bytes: Vec<u8>,
}

/// What the machine starts with.
#[derive(Default)]
pub struct BootFiles {
    /// Firmware; none with `-bios none`.
    pub firmware: Option<File>,
    /// `-kernel`.
    pub kernel: Option<File>,
    /// `-initrd`.
    pub initrd: Option<File>,
    /// `-append`.
    pub append: String,
    /// `-dtb`.
    pub dtb: Option<File>,
}

impl BootFiles {
    /// The device tree that the user gave, or else the board's.
    pub(crate) fn tree(&self, board: impl FnOnce() -> Tree) -> Result<Tree, BuildError> {
        let Some(file) = &self.dtb else { return Ok(board()) };
        Tree::parse(&file.bytes).map_err(|e| BuildError::File(file.name.clone(), e.to_string()))
    }

    /// The same, borrowed.
    pub(crate) fn borrow(&self) -> assemble::Files<'_> {
        fn file(f: &Option<File>) -> Option<assemble::File<'_>> {
            f.as_ref().map(|f| assemble::File { path: &f.name, bytes: &f.bytes })
        }
        assemble::Files {
            firmware: file(&self.firmware),
            kernel: file(&self.kernel),
            initrd: file(&self.initrd),
            append: Some(&self.append),
        }
    }
}

/// Why the board cannot be made.
#[derive(Debug)]
pub enum BuildError {
    /// The host failed at this.
    Host(&'static str, io::Error),
    /// A file does not fit: its name and what is wrong.
    File(String, String),
    /// What it starts does not fit.
    Boot(BootError),
    /// A device: the option as written and what is wrong.
    Device(String, String),
    /// Something that the board does not have yet.
    NotSupportedYet(String),
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(what, error) => {
                let text = error.to_string();
                // Without the host's number of the error.
                write!(f, "{what}: {}", text.split(" (os error").next().unwrap_or_default())
            }
            Self::File(name, problem) => write!(f, "could not load '{name}': {problem}"),
            Self::Boot(error) => error.fmt(f),
            Self::Device(name, problem) => write!(f, "{name}: {problem}"),
            Self::NotSupportedYet(what) => write!(f, "not supported yet: {what}"),
        }
    }
}

impl std::error::Error for BuildError {}

/// Maps read-only memory.
pub(crate) fn map_rom(space: &AddressSpace, window: Window, ram: &Arc<Ram>) {
    space.map(Region {
        name: ram.name().into(),
        base: Gpa(window.base),
        len: window.len,
        priority: 0,
        backing: Backing::Rom { ram: Arc::clone(ram), offset: 0, writes: None },
    });
}

/// Puts what starts with the machine in its places.
pub(crate) fn add_roms(b: &mut Builder, assembly: &mut assemble::Assembly, mrom: Window) {
    for loaded in assembly.ram.drain(..) {
        let (at, bytes) = (Gpa(loaded.piece.at), loaded.piece.bytes.into());
        b.roms.push(Rom { name: loaded.name, at, bytes });
    }
    let bytes = std::mem::take(&mut assembly.rom).into();
    b.roms.push(Rom { name: "mrom.reset".into(), at: Gpa(mrom.base), bytes });
}
