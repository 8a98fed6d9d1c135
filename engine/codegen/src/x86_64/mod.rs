//! Code generator for x86-64 hosts with AVX2, BMI1/2, FMA, LZCNT and POPCNT (x86-64-v3).
//!
//! One pass over a unit with local register allocation. The hottest guest registers of the ISA
//! live in host registers throughout (pins); others, and temporaries, share five more, are read
//! from the state when first used and written back where control leaves. `rax` and `rcx` are
//! scratch, `rbp` points at the state, `rsp` is the host's.

mod alloc;

pub mod asm;
mod calls;
mod features;
mod float;
mod integer;
mod leaf;
mod lower;
mod memory;
mod mxcsr;
mod spans;
mod thunks;
mod units;
mod vector;
mod vector_composed;
mod vector_copy;
mod vector_float;
mod vector_loops;
mod vector_places;

pub use lower::{Buffers, Generator};
pub use mxcsr::{read_mxcsr, write_mxcsr};

pub use alloc::pin_of;
pub use features::HostFeatures;
pub use thunks::emit_thunks;
pub use units::SOFT;

use asm::Gpr;
use asm::gpr::{R8, R9, R10, R11, R12, R13, R14, R15, RBX, RDI, RDX, RSI};

/// Host registers for pinned guest registers, hottest first.
pub const PINS: [Gpr; 7] = [RBX, RSI, RDI, R12, R13, R14, R15];
/// Host registers shared by everything else.
pub const POOL: [u8; 5] = [RDX.0, R8.0, R9.0, R10.0, R11.0];
/// Vector registers shared by floating-point values; 0 and 1 are scratch.
pub const FLOAT_POOL: [u8; 14] = [2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];

/// Whether this host has what generated code uses; if not, the name of what is missing.
///
/// # Errors
/// The first missing processor feature.
pub fn host_supported() -> Result<(), &'static str> {
    #[cfg(target_arch = "x86_64")]
    {
        macro_rules! need {
            ($($feature:tt)*) => { $(
                if !std::arch::is_x86_feature_detected!($feature) {
                    return Err($feature);
                }
            )* };
        }
        need!("avx2" "f16c" "fma" "bmi1" "bmi2" "lzcnt" "popcnt");
        // Beyond x86-64-v3, but with every processor that has it.
        need!("aes" "pclmulqdq");
        Ok(())
    }
    #[cfg(not(target_arch = "x86_64"))]
    Err("x86-64")
}
