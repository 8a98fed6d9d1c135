//! Timers and clocks that a guest can read and program.

pub mod aclint;
mod goldfish_rtc;

pub use aclint::{Mswi, Mtimer, MtimerLayout, Sswi};
pub use goldfish_rtc::GoldfishRtc;

use device::DeviceClass;

/// The timers there are.
pub static CLASSES: &[&DeviceClass] =
    &[&aclint::SWI_CLASS, &aclint::MTIMER_CLASS, &goldfish_rtc::CLASS];
