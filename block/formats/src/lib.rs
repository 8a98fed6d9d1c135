//! Image formats and how drives are opened from their options.

mod blockdev_create;
mod blocks;
mod bochs;
mod cloop;
mod dmg;
mod drive;
mod folder;
mod format;
mod gate;
mod image;
mod keys;
pub mod luks;
mod manage;
mod objects;
mod open;
mod open_filters;
mod parallels;
pub mod probe;
mod qcow;
pub mod qcow2;
mod qed;
mod raw;
mod recipe;
mod rehearsal;
mod remote;
mod reopen;
mod uuid;
mod vdi;
mod vhdx;
mod vmdk;
mod vpc;

pub use blockdev_create::{Target, amend_blockdev, create_blockdev, open_target};
pub use drive::{DriveOptions, Opened, add_blockdev, create_qcow2, open_drive, overlay};
pub use format::{
    Content, CreateRequest, FILE_OPTIONS, FORMATS, Format, MeasureRequest, OpenRequest, Purpose,
    Reference, format_named,
};
pub use gate::{Gate, HostFiles, NewFile, Reason};
pub use image::{ImageSpec, OpenedImage, check_image, open_image, rehearse_repair};
pub use keys::{Keys, Style};
pub use manage::{Manager, SnapshotSync};
pub use objects::{OBJECT_KINDS, Objects};
pub use open::{DETECT_ZEROES, DISCARD, UNMAP_WANTS_DISCARD, beside};
pub use raw::Raw;
pub use rehearsal::Rehearsal;
