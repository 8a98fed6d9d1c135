//! Interrupt controllers.

mod plic;

pub use plic::{Plic, PlicConfig};

use device::DeviceClass;

/// The interrupt controllers there are.
pub static CLASSES: &[&DeviceClass] = &[&plic::CLASS];
