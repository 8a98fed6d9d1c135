//! The intermediate representation: what guest code means, once, for every code generator.
//!
//! A [`Unit`] is a flat list of fixed-size operations in program order. Operands are guest
//! registers, named directly; temporaries, assigned once; or constants. Control enters at the top
//! and leaves through exits; between operations there may be labels, at which temporaries are
//! dead and every guest register has one place. Operations are declared once, in [`ops`].
//!
//! Values are 64 bits wide. An operation of type [`Type::I32`] reads the low halves of its
//! operands and its result is zero-extended; so `sext` and `zext` are the only width changes.
//! Floating-point values are bit patterns in the low bits of a register of their own class.
//! Vectors are temporaries of 128 or 256 bits; the guest's vector registers are bytes of its state
//! ([`VectorRegion`]), which `vget` and `vput` read and write at once, so that no exit has to.

pub mod bits;
mod builder;
pub mod cipher;
mod ops;
mod parse;
mod print;
pub mod sha;
pub mod text;
mod unit;
mod vector;

pub use builder::{Builder, fold};
pub use ops::{AmoOp, Cond, Effects, FloatRules, FpCond, MemOp, OpKind, Rounding, Type};
pub use parse::ParseError;
pub use unit::{
    Const, ExitKind, GuestReg, HelperId, Hint, Label, LeafId, Op, Operand, RegClass, RegInfo, Temp,
    Unit, Value, VerifyError,
};
pub use vector::{Aux, Form, Lane, Slot, VectorBytes, VectorRegion};
