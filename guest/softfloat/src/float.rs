//! The operations, as functions of a format: `F64::add(&mut env, a, b)`.

use crate::arith::{self, MulAdd, Quotient};
use crate::compare::{self, Class, Extremum, ExtremumRule, Relation};
use crate::convert::{self, Inexact, Integer};
use crate::env::{Env, Rounding};
use crate::format::Format;
use crate::nan;
use crate::unpacked;

/// IEEE 754 operations on encodings. Implemented for every [`Format`].
///
/// Where a function takes an `Option<Rounding>`, `None` means the environment's mode.
pub trait Float: Format {
    /// a + b.
    #[inline]
    fn add(env: &mut Env, a: Self::Bits, b: Self::Bits) -> Self::Bits {
        arith::add::<Self>(env, a, b, false)
    }

    /// a − b.
    #[inline]
    fn sub(env: &mut Env, a: Self::Bits, b: Self::Bits) -> Self::Bits {
        arith::add::<Self>(env, a, b, true)
    }

    /// a × b.
    #[inline]
    fn mul(env: &mut Env, a: Self::Bits, b: Self::Bits) -> Self::Bits {
        arith::mul::<Self>(env, a, b)
    }

    /// a ÷ b.
    #[inline]
    fn div(env: &mut Env, a: Self::Bits, b: Self::Bits) -> Self::Bits {
        arith::div::<Self>(env, a, b)
    }

    /// √a.
    #[inline]
    fn sqrt(env: &mut Env, a: Self::Bits) -> Self::Bits {
        arith::sqrt::<Self>(env, a)
    }

    /// ±(a × b) ± c, rounded once.
    ///
    /// `form` negates numbers only: on Arm, where FMSUB negates NaNs too, negate the operands with
    /// [`Float::negate`] instead.
    #[inline]
    fn fma(env: &mut Env, a: Self::Bits, b: Self::Bits, c: Self::Bits, form: MulAdd) -> Self::Bits {
        arith::fma::<Self>(env, a, b, c, form)
    }

    /// The IEEE remainder a − n × b, n the integer nearest to a ÷ b.
    #[inline]
    fn rem(env: &mut Env, a: Self::Bits, b: Self::Bits) -> Self::Bits {
        arith::rem::<Self>(env, a, b, Quotient::Nearest).0
    }

    /// A remainder by either rule, and the lowest 64 bits of the quotient's magnitude.
    #[inline]
    fn rem_quotient(
        env: &mut Env,
        a: Self::Bits,
        b: Self::Bits,
        rule: Quotient,
    ) -> (Self::Bits, u64) {
        arith::rem::<Self>(env, a, b, rule)
    }

    /// The nearest integral value, in the same format.
    #[inline]
    fn round_to_integral(
        env: &mut Env,
        a: Self::Bits,
        mode: Option<Rounding>,
        signal: Inexact,
    ) -> Self::Bits {
        convert::round_to_integral::<Self>(env, a, mode, signal)
    }

    /// Compares; only signalling NaNs raise invalid.
    #[inline]
    fn compare(env: &mut Env, a: Self::Bits, b: Self::Bits) -> Relation {
        compare::compare::<Self>(env, a, b, false)
    }

    /// Compares; every NaN raises invalid.
    #[inline]
    fn compare_signalling(env: &mut Env, a: Self::Bits, b: Self::Bits) -> Relation {
        compare::compare::<Self>(env, a, b, true)
    }

    /// a = b; only signalling NaNs raise invalid (RISC-V feq).
    #[inline]
    fn eq(env: &mut Env, a: Self::Bits, b: Self::Bits) -> bool {
        Self::compare(env, a, b) == Relation::Equal
    }

    /// a < b; every NaN raises invalid (RISC-V flt).
    #[inline]
    fn lt(env: &mut Env, a: Self::Bits, b: Self::Bits) -> bool {
        Self::compare_signalling(env, a, b) == Relation::Less
    }

    /// a ≤ b; every NaN raises invalid (RISC-V fle).
    #[inline]
    fn le(env: &mut Env, a: Self::Bits, b: Self::Bits) -> bool {
        matches!(Self::compare_signalling(env, a, b), Relation::Less | Relation::Equal)
    }

    /// a < b; only signalling NaNs raise invalid (RISC-V fltq).
    #[inline]
    fn lt_quiet(env: &mut Env, a: Self::Bits, b: Self::Bits) -> bool {
        Self::compare(env, a, b) == Relation::Less
    }

    /// a ≤ b; only signalling NaNs raise invalid (RISC-V fleq).
    #[inline]
    fn le_quiet(env: &mut Env, a: Self::Bits, b: Self::Bits) -> bool {
        matches!(Self::compare(env, a, b), Relation::Less | Relation::Equal)
    }

    /// Minimum or maximum by any rule.
    #[inline]
    fn extremum(
        env: &mut Env,
        a: Self::Bits,
        b: Self::Bits,
        which: Extremum,
        rule: ExtremumRule,
    ) -> Self::Bits {
        compare::extremum::<Self>(env, a, b, which, rule)
    }

    /// IEEE 754-2019 `minimumNumber` (RISC-V fmin).
    #[inline]
    fn minimum_number(env: &mut Env, a: Self::Bits, b: Self::Bits) -> Self::Bits {
        Self::extremum(env, a, b, Extremum::Min, ExtremumRule::Number)
    }

    /// IEEE 754-2019 `maximumNumber` (RISC-V fmax).
    #[inline]
    fn maximum_number(env: &mut Env, a: Self::Bits, b: Self::Bits) -> Self::Bits {
        Self::extremum(env, a, b, Extremum::Max, ExtremumRule::Number)
    }

    /// IEEE 754-2019 `minimum` (RISC-V fminm).
    #[inline]
    fn minimum(env: &mut Env, a: Self::Bits, b: Self::Bits) -> Self::Bits {
        Self::extremum(env, a, b, Extremum::Min, ExtremumRule::Propagating)
    }

    /// IEEE 754-2019 `maximum` (RISC-V fmaxm).
    #[inline]
    fn maximum(env: &mut Env, a: Self::Bits, b: Self::Bits) -> Self::Bits {
        Self::extremum(env, a, b, Extremum::Max, ExtremumRule::Propagating)
    }

    /// The number in format `G`.
    #[inline]
    fn convert<G: Format>(env: &mut Env, a: Self::Bits) -> G::Bits {
        convert::convert::<Self, G>(env, a)
    }

    /// The number as an integer; what does not fit is up to [`Env::int_overflow`].
    #[inline]
    fn to_int<I: Integer>(env: &mut Env, a: Self::Bits, mode: Option<Rounding>) -> I {
        convert::to_int::<Self, I>(env, a, mode)
    }

    /// [`Float::to_int`] to `i32` in the environment's mode.
    #[inline]
    fn to_i32(env: &mut Env, a: Self::Bits) -> i32 {
        Self::to_int(env, a, None)
    }

    /// [`Float::to_int`] to `u32` in the environment's mode.
    #[inline]
    fn to_u32(env: &mut Env, a: Self::Bits) -> u32 {
        Self::to_int(env, a, None)
    }

    /// [`Float::to_int`] to `i64` in the environment's mode.
    #[inline]
    fn to_i64(env: &mut Env, a: Self::Bits) -> i64 {
        Self::to_int(env, a, None)
    }

    /// [`Float::to_int`] to `u64` in the environment's mode.
    #[inline]
    fn to_u64(env: &mut Env, a: Self::Bits) -> u64 {
        Self::to_int(env, a, None)
    }

    /// The lowest 32 bits of the number truncated to an integer; NaN and infinity give 0.
    ///
    /// Raises invalid if the truncated number is no `i32`, else inexact if it was truncated (RISC-V
    /// fcvtmod.w.d, Arm FJCVTZS).
    #[inline]
    fn to_i32_modular(env: &mut Env, a: Self::Bits) -> i32 {
        convert::to_i32_modular::<Self>(env, a)
    }

    /// The number nearest to an integer.
    #[inline]
    fn from_int<I: Integer>(env: &mut Env, value: I) -> Self::Bits {
        convert::from_int::<Self, I>(env, value)
    }

    /// [`Float::from_int`] of an `i32`.
    #[inline]
    fn from_i32(env: &mut Env, value: i32) -> Self::Bits {
        Self::from_int(env, value)
    }

    /// [`Float::from_int`] of a `u32`.
    #[inline]
    fn from_u32(env: &mut Env, value: u32) -> Self::Bits {
        Self::from_int(env, value)
    }

    /// [`Float::from_int`] of an `i64`.
    #[inline]
    fn from_i64(env: &mut Env, value: i64) -> Self::Bits {
        Self::from_int(env, value)
    }

    /// [`Float::from_int`] of a `u64`.
    #[inline]
    fn from_u64(env: &mut Env, value: u64) -> Self::Bits {
        Self::from_int(env, value)
    }

    /// What the encoding is; quiet NaNs have the highest fraction bit set.
    #[inline]
    fn classify(a: Self::Bits) -> Class {
        compare::classify::<Self>(a, false)
    }

    /// What the encoding is under the environment's way to tell signalling NaNs.
    #[inline]
    fn classify_in(env: &Env, a: Self::Bits) -> Class {
        compare::classify::<Self>(a, env.nan.signalling_bit)
    }

    /// Whether the encoding is a quiet or signalling NaN.
    #[inline]
    fn is_nan(a: Self::Bits) -> bool {
        matches!(Self::classify(a), Class::QuietNan | Class::SignallingNan)
    }

    /// Whether the encoding is a signalling NaN.
    #[inline]
    fn is_signalling_nan(a: Self::Bits) -> bool {
        Self::classify(a) == Class::SignallingNan
    }

    /// The NaN that operations without a NaN operand return.
    #[inline]
    fn default_nan(env: &Env) -> Self::Bits {
        nan::default_nan::<Self>(env)
    }

    /// A zero.
    #[inline]
    fn zero(negative: bool) -> Self::Bits {
        unpacked::zero::<Self>(negative)
    }

    /// An infinity.
    #[inline]
    fn infinity(negative: bool) -> Self::Bits {
        unpacked::infinity::<Self>(negative)
    }

    /// The sign bit.
    #[inline]
    fn sign(a: Self::Bits) -> bool {
        Self::split(a).0
    }

    /// The same encoding with the given sign bit; quiet for every operand.
    #[inline]
    fn with_sign(a: Self::Bits, negative: bool) -> Self::Bits {
        let (_, exp, field) = Self::split(a);
        Self::join(negative, exp, field)
    }

    /// The same encoding with the sign bit inverted; quiet for every operand.
    #[inline]
    fn negate(a: Self::Bits) -> Self::Bits {
        Self::with_sign(a, !Self::sign(a))
    }
}

impl<F: Format> Float for F {}
