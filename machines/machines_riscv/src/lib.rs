//! RISC-V boards.
//!
//! Addresses, lines and device trees are those that QEMU 10.0.2 shows for its boards of the same
//! names (`info mtree`, `-machine dumpdtb=`); firmware and kernels rely on them.

pub mod assemble;
pub mod boot;
mod clint;
pub mod harts;
pub mod imsic;
pub mod inputs;
pub mod spike;
pub mod virt;

/// A range of guest physical addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// First address.
    pub base: u64,
    /// Bytes.
    pub len: u64,
}

impl Window {
    /// A window of `len` bytes at `base`.
    pub const fn new(base: u64, len: u64) -> Self {
        Self { base, len }
    }

    /// Address after the last.
    pub const fn end(&self) -> u64 {
        self.base + self.len
    }

    /// As `reg` with two cells each for address and length.
    fn reg(&self) -> [u64; 2] {
        [self.base, self.len]
    }
}

/// Width of the harts' registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Xlen {
    /// RV32.
    Rv32,
    /// RV64.
    Rv64,
}
