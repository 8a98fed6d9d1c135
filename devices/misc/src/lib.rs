//! Small devices that boards need.

mod sifive_test;

pub use sifive_test::SifiveTest;

use device::DeviceClass;

/// The devices there are.
pub static CLASSES: &[&DeviceClass] = &[&sifive_test::CLASS];
