//! x86 guest: x86-64 and IA-32, from 16-bit code to 64-bit code.
//!
//! Sources: Intel 64 and IA-32 Architectures Software Developer's Manual (SDM), volumes 1 to 4, 325462-085;
//! AMD64 Architecture Programmer's Manual (APM), volumes 1 to 5, 40332 rev. 4.08. Where the two
//! differ, AMD's is followed: that is what the tests compare with. Left out by now: privileged
//! instructions, paging, gates.

pub mod decode;
pub mod flags;
pub mod helpers;
mod helpers_integer;
mod helpers_save;
mod helpers_segment;
mod helpers_simd;
mod helpers_system;
mod helpers_wide;
mod helpers_x87;
pub mod image;
pub mod model;
mod processor;
mod simd;
pub mod state;
pub mod translate;
pub mod trap;

pub use helpers_segment::{Descriptor, TLS_FIRST};
pub use model::{Config, CpuError, Feature, FeatureSet};
pub use processor::{Wiring, X86};
pub use state::State;
pub use trap::{Exception, Trap};
