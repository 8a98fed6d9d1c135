//! Image formats and how drives are opened from their options.

mod drive;
mod gate;
mod keys;
mod open;
pub mod probe;
pub mod qcow2;
mod raw;

pub use drive::{DriveOptions, Opened, add_blockdev, create_qcow2, open_drive};
pub use gate::{Gate, HostFiles, Reason};
pub use raw::Raw;
