//! The `virt` board: a machine that exists nowhere else.

mod acpi;
mod board;
mod firmware;
mod interrupts;
pub mod map;
mod qtree;
mod tree;

pub use crate::inputs::{BootFiles, BuildError, File};
pub use board::{Board, DeviceSpec, Inputs, build};
pub use firmware::FirmwareConfig;
pub use qtree::qtree;
pub use tree::device_tree;

use crate::Xlen;
use crate::harts::HartInfo;

/// Most harts that the board has.
pub const MAX_HARTS: usize = 512;
/// Most guest interrupt files of each hart (`aia-guests=`).
pub const MAX_GUESTS: u32 = 7;

/// `aia=`: how interrupts reach the harts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Aia {
    /// Through a PLIC.
    #[default]
    None,
    /// Through APLICs that drive the harts' lines.
    Aplic,
    /// Through APLICs that send messages to the harts' IMSICs.
    AplicImsic,
}

/// What the device tree and the map depend on.
#[derive(Clone, Debug)]
pub struct VirtConfig {
    /// Width of the harts' registers.
    pub xlen: Xlen,
    /// The harts, in order of their numbers.
    pub harts: Vec<HartInfo>,
    /// Bytes of RAM.
    pub ram_len: u64,
    /// `aia=`.
    pub aia: Aia,
    /// `aia-guests=`: guest interrupt files of each hart, at most [`MAX_GUESTS`].
    pub aia_guests: u32,
    /// `aclint=`: ACLINT devices in place of a CLINT.
    pub aclint: bool,
    /// `acpi=`: ACPI tables for the firmware.
    pub acpi: bool,
    /// `-global virtio-mmio.force-legacy=off`: the slots speak version 2 of their interface.
    pub modern_slots: bool,
    /// Programmable performance counters, one bit each (3 to 31).
    pub counters: u32,
    /// Entropy for the kernel.
    pub rng_seed: [u8; 32],
}

impl VirtConfig {
    /// A board with a PLIC and a CLINT.
    pub fn new(xlen: Xlen, harts: Vec<HartInfo>, ram_len: u64) -> Self {
        Self {
            xlen,
            harts,
            ram_len,
            aia: Aia::None,
            aia_guests: 0,
            aclint: false,
            acpi: true,
            modern_slots: false,
            counters: 0x7fff8,
            rng_seed: [0; 32],
        }
    }

    /// Bits that number the interrupt files of a hart at the supervisor level.
    pub fn guest_index_bits(&self) -> u32 {
        self.aia_guests.min(MAX_GUESTS).checked_ilog2().map_or(0, |n| n + 1)
    }
}

#[cfg(test)]
mod tests;
