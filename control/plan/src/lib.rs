//! From a command line to a validated plan.
//!
//! [`plan()`] reads the arguments of a system emulator in order, checks everything that can be checked
//! without touching the host, and yields pure, printable data: a [`Plan`] to build a machine from, or
//! text to print (`-help`, `-M help`, …). Which parts exist comes from a [`Catalog`]; nothing here
//! names one. Source: the QEMU 10.0 system emulation manual, "Invocation", and the binary's behaviour.

mod argv;
mod catalog;
mod chardevs;
mod devices;
mod drives;
mod globals;
mod host;
mod lists;
mod log;
mod machine;
mod memory;
mod model;
mod planner;
mod refusal;
mod show;
mod smp;
mod table;

pub use catalog::{
    AccelInfo, Catalog, CpuInfo, DeviceInfo, DriveSupport, MachineInfo, Name, ObjectInfo,
    PropertyInfo, TopologyLevels,
};
pub use chardevs::chardev as parse_chardev;
pub use model::*;
pub use planner::{Environment, Outcome, plan};
pub use refusal::Refusal;
pub use table::{OPTIONS, OptionRow, Support};

/// The version of QEMU whose interface this is.
pub const QEMU_VERSION: &str = "10.0.2";

#[cfg(test)]
mod tests;
