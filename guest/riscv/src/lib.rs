//! RISC-V guest: RV32 and RV64 with the extensions listed in `spec/`.
//!
//! Sources: The RISC-V Instruction Set Manual, volumes I (unprivileged) and II (privileged),
//! 20240411 and later. XLEN is a run-time value. Left out: the hypervisor extension.

#[cfg(test)]
mod bench;
pub mod csr;
mod debug;
pub mod decode;
pub mod disasm;
pub mod hart;
pub mod helpers;
mod helpers_atomic;
mod helpers_bits;
mod helpers_crypto;
mod helpers_float;
mod helpers_sys;
pub mod imsic;
pub mod mappings;
mod mmu;
pub mod model;
mod pmp;
pub mod software;
pub mod state;
mod status;
pub mod timer;
pub mod translate;
pub mod trap;
mod user;
mod vector;

pub use hart::{Riscv, Wiring, Xlen};
pub use imsic::Imsic;
pub use model::{Config, CpuError, Feature};
pub use software::SoftwareEdge;
pub use state::{Privilege, State, flags};
pub use trap::{Exception, Trap};
