//! Image formats and how drives are opened from their options.

pub mod probe;
pub mod qcow2;
mod raw;

pub use raw::Raw;
