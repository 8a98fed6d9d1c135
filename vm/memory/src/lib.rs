//! Guest memory: RAM blocks, and address spaces that say what is where.
//!
//! An [`AddressSpace`] is a list of regions with priorities, flattened into an immutable
//! [`FlatView`] that readers take without a lock. RAM is host-mapped and reached only through
//! volatile and atomic operations; the translator gets host addresses of RAM pages.

mod ram;
mod space;
mod torn;

pub use ram::{CodeWatcher, PAGE, Ram};
pub use space::{
    AccessRules, AddressSpace, Backing, FlatRange, FlatView, IoHandler, MemoryListener, Region,
    RegionId,
};

use std::fmt;

/// A guest physical address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Gpa(pub u64);

impl fmt::Display for Gpa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// Nothing answers at this address, or not to this kind of access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BusError {
    /// First address that failed.
    pub at: Gpa,
}

impl fmt::Display for BusError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "nothing answers at guest physical address {}", self.at)
    }
}

impl std::error::Error for BusError {}
