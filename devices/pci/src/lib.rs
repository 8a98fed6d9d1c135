//! PCI: functions with their configuration space, and the generic ECAM host bridge.
//!
//! Sources: PCI Local Bus Specification 3.0 (configuration space, MSI-X), PCI Express Base
//! Specification ("PCI Express Enhanced Configuration Access Mechanism"). A [`PciDevice`] wraps a
//! [`PciFunction`]; [`PciHost`] gives it a place, an interrupt line and windows for its BARs.
//! Left out: bridges and root ports (bus 0 only), expansion ROMs, power management.

mod config;
mod function;
mod host;
mod msix;

pub use config::ConfigSpace;
pub use function::{Bar, BarKind, FunctionBuilder, Identity, PciFunction, reg};
pub use host::{AttachError, Devfn, PciDevice, PciHost, Windows};
pub use msix::{MSIX_BAR_LEN, MsiSink, Msix};
