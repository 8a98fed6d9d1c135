//! Random IR, and what it is for: the interpreter and every other executor must agree on it.
//!
//! [`generate`] makes valid units from a seed or from a fuzzer's bytes; [`Bench`] runs one on both
//! executors, from the same registers and memory, for an ISA ([`TestGuest`]) that has nothing but
//! registers, a few pages and a few helpers; [`minimise`] drops what a difference does not need.

mod bench;
mod flat;
mod generate;
pub mod golden;
mod guest;
mod minimise;
mod random;
mod values;
mod vector;

pub use bench::{Bench, Difference, Machine, Start};
pub use generate::{Shape, generate};
pub use guest::{TestGuest, TestState, TestTrap, Vectors};
pub use minimise::minimise;
pub use random::Random;
pub use values::{float32, float64, integer};
