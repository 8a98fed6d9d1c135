//! Protocols: the nodes at the bottom of the block graph, which hold bytes.

mod direct;
mod file;
mod lock;
mod null;
mod vvfat;

pub use file::{CacheMode, Driver, File, FileOptions, Locking};
pub use lock::Access;
pub use null::Null;
pub use vvfat::{FatType, MOST_ENTRIES, Vvfat, VvfatOptions};
