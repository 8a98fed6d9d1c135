//! Virtio devices and their transports (OASIS VIRTIO 1.3, legacy interfaces included).
//!
//! A [`VirtioDevice`] is a device type without a bus. [`VirtioMmio`] and [`VirtioPci`] are the
//! transports; a device behind one is a [`Port`]. Rings are in [`ring`], memory access in [`dma`]. Devices are made by
//! name and properties with [`build`], from the rows in [`CLASSES`].

pub mod balloon;
pub mod blk;
mod boot_order;
mod build;
mod class;
pub mod console;
mod core;
pub mod dma;
mod inbox;
mod legacy;
mod mmio;
pub mod net;
mod pci_legacy;
mod pci_modern;
mod pci_transport;
mod plug;
mod props;
pub mod ring;
pub mod rng;
pub mod scsi;

pub use crate::core::{
    Core, Doorbell, Interrupt, Ledger, Port, RingOptions, Virtio, VirtioDevice, feature, isr,
    status,
};
pub use build::{Backends, Drive, build, build_child};
pub use class::{CLASSES, class};
pub use mmio::{MMIO_LEN, VirtioMmio};
pub use pci_transport::{PciConfig, VirtioPci};
pub use plug::{Plugs, Spec};
pub use props::{BuildError, Props};

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod more_tests;
#[cfg(test)]
mod pci_tests;
#[cfg(test)]
mod tests;
