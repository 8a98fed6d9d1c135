//! Image formats and how drives are opened from their options.

pub mod probe;
mod raw;

pub use raw::Raw;
