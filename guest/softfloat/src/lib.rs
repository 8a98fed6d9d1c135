//! IEEE 754 arithmetic in integers, bit-exact for every guest: results, NaNs and flags.
//!
//! A number is its encoding: [`F64`] works on `u64`, [`F32`] on `u32`, [`F16`] and [`BF16`] on
//! `u16`, [`F80`] (lower 80 bits) and [`F128`] on `u128`. What the ISA and its control register
//! decide is in [`Env`]; operations accumulate [`Flags`] there and never panic.
//!
//! ```
//! use softfloat::{Env, F64, Flags, Float, Rounding};
//!
//! let mut env = Env::riscv(Rounding::NearestEven);
//! let third = F64::div(&mut env, 1f64.to_bits(), 3f64.to_bits());
//! assert_eq!(third, (1f64 / 3f64).to_bits());
//! assert_eq!(env.flags, Flags::INEXACT);
//! ```
//!
//! Written from IEEE 754-2008/2019, the RISC-V unprivileged ISA, the Arm ARM and the Intel SDM.
//! Left out: decimal formats, Arm's alternative half precision, traps (callers compare flags),
//! underflow without loss of accuracy when that exception is unmasked.

mod arith;
mod compare;
mod convert;
mod env;
mod float;
mod format;
mod nan;
pub mod riscv;
mod unpacked;
mod word;
pub mod x87;

pub use arith::{MulAdd, Quotient};
pub use compare::{Class, Extremum, ExtremumRule, Relation};
pub use convert::{Inexact, Integer};
pub use env::{
    Env, ExtendedPrecision, Flags, FlushToZero, FmaOrder, InfZeroNan, IntOverflow, NanFraction,
    NanRule, Propagate, Rounding, Tininess,
};
pub use float::Float;
pub use format::{BF16, F16, F32, F64, F80, F128, Format};
pub use word::{Significand, U256, Word};
