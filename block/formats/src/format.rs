//! What a format is to those who open, create and check images, and the table of all formats.
//!
//! To add one: a file with a [`Format`], and its row in [`FORMATS`].

use std::io;
use std::sync::Arc;

use graph::{
    BitmapInfo, CheckReport, Child, Fix, ImageOption, ImageOptions, Measured, Node, OpenError,
    Preallocation, Role, Secrets, ValueKind,
};

use crate::gate::{Gate, NewFile};
use crate::keys::Keys;
use crate::{bochs, cloop, dmg, luks, parallels, qcow, qcow2, qed, raw, vdi, vhdx, vmdk, vpc};

/// All formats. What no other recognises is `raw`.
pub static FORMATS: &[&dyn Format] = &[
    &raw::RawFormat,
    &qcow2::Qcow2Format,
    &luks::LuksFormat,
    &vdi::VdiFormat,
    &vmdk::VmdkFormat,
    &vpc::VpcFormat,
    &vhdx::VhdxFormat,
    &qed::QedFormat,
    &parallels::ParallelsFormat,
    &qcow::QcowFormat,
    &bochs::BochsFormat,
    &cloop::CloopFormat,
    // Known by the file's name only: whatever has a signature comes first.
    &dmg::DmgFormat,
];

/// The format called `name`.
pub fn format_named(name: &str) -> Option<&'static dyn Format> {
    FORMATS.iter().copied().find(|format| format.name() == name)
}

/// An image format.
pub trait Format: Sync {
    /// The name that options use.
    fn name(&self) -> &'static str;

    /// Whether `start`, up to [`crate::probe::PROBE_BYTES`] of a file called `path`, is of this
    /// format.
    fn recognises(&self, start: &[u8], path: &str) -> bool;

    /// The files that the image in `file` names and without which it cannot be read.
    ///
    /// # Errors
    /// As for opening.
    fn references(&self, _file: &dyn Node, _path: &str) -> Result<Vec<Reference>, OpenError> {
        Ok(Vec::new())
    }

    /// Whether an image that has no backing file can be given one while it is open. Such a format
    /// always gets a child with that role, which may lead to nothing.
    fn has_backing(&self) -> bool {
        false
    }

    /// Children that only options name, beside `file`, `backing` and `data-file`.
    fn children(&self) -> &'static [Role] {
        &[]
    }

    /// Opens an image. Takes what it knows from `request.options`; the caller refuses the rest.
    ///
    /// # Errors
    /// `NotThisFormat`, a bad field by its name, or what forbids to use the image as asked.
    fn open(&self, request: OpenRequest<'_>) -> Result<Arc<dyn Node>, OpenError>;

    /// Options for a new image, in the order in which tools print them; empty for formats that are
    /// only read.
    fn create_options(&self) -> &'static [ImageOption] {
        &[]
    }

    /// Makes a new image. On failure it leaves no file that it made.
    ///
    /// # Errors
    /// `Option` for impossible options, else the host's.
    fn create(&self, _request: &CreateRequest<'_>) -> Result<(), OpenError> {
        let name = self.name();
        Err(OpenError::Option(format!("Format driver '{name}' does not support image creation")))
    }

    /// Options of an existing image that [`graph::Amend`] can change.
    fn amend_options(&self) -> &'static [ImageOption] {
        &[]
    }

    /// Checks an image that nobody else has open, and repairs what `fix` allows; `None` if the
    /// format has nothing to check.
    ///
    /// # Errors
    /// As for opening; an I/O error of the file.
    fn check(
        &self,
        _request: OpenRequest<'_>,
        _fix: Fix,
    ) -> Result<Option<CheckReport>, OpenError> {
        Ok(None)
    }

    /// How large the file of a new image would be. `None` if the format cannot tell.
    ///
    /// # Errors
    /// As for [`Format::create`]; an I/O error of the content.
    fn measure(&self, _request: &MeasureRequest<'_>) -> Result<Option<Measured>, OpenError> {
        Ok(None)
    }
}

/// What a new image would hold, for [`Format::measure`].
pub struct MeasureRequest<'a> {
    /// Values for [`Format::create_options`]; their `size` does not count.
    pub options: &'a ImageOptions,
    /// Length of the disk in bytes.
    pub size: u64,
    /// What is to be copied into it, if anything is.
    pub content: Option<&'a Content<'a>>,
    /// Where passphrases come from.
    pub secrets: &'a dyn Secrets,
}

/// What a disk holds, as far as sizes of images depend on it.
pub struct Content<'a> {
    /// Whether there is data at an offset that would be copied, and for how many bytes (> 0) that
    /// holds.
    pub data: &'a dyn Fn(u64) -> io::Result<(bool, u64)>,
    /// Its bitmaps, if it can have some.
    pub bitmaps: Option<Vec<BitmapInfo>>,
}

/// A file that an image names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// What it is to the image.
    pub role: Role,
    /// Its name as the image has it; relative names are relative to the image.
    pub name: String,
    /// Its format, where the image says so; a backing file is probed otherwise.
    pub format: Option<String>,
}

/// What an image is opened for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Purpose {
    /// Reading and writing the disk.
    #[default]
    Use,
    /// Looking at metadata only: neither keys nor other files are needed, and data is not read.
    Info,
}

/// How to open an image.
pub struct OpenRequest<'a> {
    /// Holds the image.
    pub file: Arc<dyn Node>,
    /// What messages call the image.
    pub path: &'a str,
    /// Only read.
    pub read_only: bool,
    /// What for.
    pub purpose: Purpose,
    /// The nodes for what [`Format::references`] named, or what the user gave instead.
    pub children: Vec<Child>,
    /// Discards by the guest reach the file.
    pub discard: bool,
    /// The driver's own options.
    pub options: &'a mut Keys,
    /// Where passphrases come from.
    pub secrets: &'a dyn Secrets,
}

impl OpenRequest<'_> {
    /// The child of that role.
    pub fn child(&self, role: Role) -> Option<Arc<dyn Node>> {
        self.children.iter().find(|c| c.role == role).map(|c| Arc::clone(&c.node))
    }
}

/// How to make an image.
pub struct CreateRequest<'a> {
    /// File name of the image.
    pub path: &'a str,
    /// Values for [`Format::create_options`] and [`FILE_OPTIONS`].
    pub options: &'a ImageOptions,
    /// Makes files.
    pub gate: &'a dyn Gate,
    /// Where passphrases come from.
    pub secrets: &'a dyn Secrets,
}

/// Options of every new file of the host, whatever its format. A format that has a row of the same
/// name means its own.
pub const FILE_OPTIONS: &[ImageOption] = &[
    ImageOption::new("nocow", ValueKind::Switch, "Turn off copy-on-write (valid only on btrfs)"),
    ImageOption::new(
        "extent_size_hint",
        ValueKind::Size,
        "Extent size hint for the image file, 0 to disable",
    ),
    ImageOption::new(
        "preallocation",
        ValueKind::Text,
        "Preallocation mode (allowed values: off, falloc, full)",
    ),
];

/// How the space of a new file of the host is reserved.
///
/// # Errors
/// `Option` for a mode that files do not have.
pub(crate) fn file_preallocation(options: &ImageOptions) -> Result<Preallocation, OpenError> {
    let mode = options.text("preallocation").unwrap_or("off");
    let text = match Preallocation::named(mode) {
        Some(Preallocation::Metadata) => format!("Unsupported preallocation mode: {mode}"),
        Some(how) => return Ok(how),
        None => format!("invalid parameter value: {mode}"),
    };
    Err(OpenError::Option(text))
}

impl CreateRequest<'_> {
    /// Makes the file `path` with `size` bytes, empties one that exists and is not in use, and lets
    /// `fill` write to it; removes it on failure if it was not there before.
    ///
    /// # Errors
    /// The gate's and those of `fill`.
    pub fn with_file(
        &self,
        path: &str,
        size: u64,
        preallocation: Preallocation,
        fill: impl FnOnce(Arc<dyn Node>) -> Result<(), OpenError>,
    ) -> Result<(), OpenError> {
        let new = NewFile { size, preallocation, nocow: self.options.switch("nocow") };
        let existed = self.gate.exists(path);
        let made = self.gate.create(path, &new).and_then(fill);
        made.inspect_err(|_| {
            if !existed {
                self.gate.remove(path);
            }
        })
    }
}
