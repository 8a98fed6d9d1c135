//! Interrupt controllers.

mod aplic;
mod imsic;
mod plic;

pub use aplic::{Aplic, AplicConfig, Domain, DomainWindow};
pub use imsic::{Imsic, ImsicRouter, InterruptFile};
pub use plic::{Plic, PlicConfig};

use device::DeviceClass;

/// The interrupt controllers there are.
pub static CLASSES: &[&DeviceClass] = &[&aplic::CLASS, &imsic::CLASS, &plic::CLASS];
