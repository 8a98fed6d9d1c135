//! Comparison, minimum, maximum, classification.

use crate::env::{Env, Flags};
use crate::format::Format;
use crate::nan::propagate;
use crate::unpacked::{Kind, Unpacked, dissect, note_denormals, unpack, zero};
use crate::word::Word;

/// How two numbers relate (IEEE 754 clause 5.11).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// a < b.
    Less,
    /// a = b.
    Equal,
    /// a > b.
    Greater,
    /// At least one is a NaN.
    Unordered,
}

/// What a number is (IEEE 754 `class`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// −∞.
    NegativeInfinity,
    /// A negative normal number.
    NegativeNormal,
    /// A negative subnormal number.
    NegativeSubnormal,
    /// −0.
    NegativeZero,
    /// +0.
    PositiveZero,
    /// A positive subnormal number.
    PositiveSubnormal,
    /// A positive normal number.
    PositiveNormal,
    /// +∞.
    PositiveInfinity,
    /// A signalling NaN.
    SignallingNan,
    /// A quiet NaN.
    QuietNan,
    /// An 80-bit pattern that is no number and no NaN.
    Unsupported,
}

impl Class {
    /// The mask RISC-V's `fclass` returns.
    #[must_use]
    pub const fn riscv_mask(self) -> u32 {
        match self {
            Self::Unsupported => 0,
            known => 1 << known as u32,
        }
    }
}

/// What an encoding is, without touching any flag.
pub(crate) fn classify<F: Format>(bits: F::Bits, signalling_bit: bool) -> Class {
    let number = dissect::<F>(bits, signalling_bit);
    match (number.kind, number.sign) {
        (Kind::Infinite, true) => Class::NegativeInfinity,
        (Kind::Finite, true) if number.denormal => Class::NegativeSubnormal,
        (Kind::Finite, true) => Class::NegativeNormal,
        (Kind::Zero, true) => Class::NegativeZero,
        (Kind::Zero, false) => Class::PositiveZero,
        (Kind::Finite, false) if number.denormal => Class::PositiveSubnormal,
        (Kind::Finite, false) => Class::PositiveNormal,
        (Kind::Infinite, false) => Class::PositiveInfinity,
        (Kind::SignallingNan, _) => Class::SignallingNan,
        (Kind::QuietNan, _) => Class::QuietNan,
        (Kind::Unsupported, _) => Class::Unsupported,
    }
}

/// Whether |a| < |b|, neither being a NaN.
#[inline]
fn smaller<W: Word>(a: &Unpacked<W>, b: &Unpacked<W>) -> bool {
    match (a.kind, b.kind) {
        (Kind::Finite, Kind::Finite) => (a.exp, a.sig) < (b.exp, b.sig),
        (Kind::Zero, other) => other != Kind::Zero,
        (Kind::Finite, other) => other == Kind::Infinite,
        _ => false,
    }
}

/// The relation of two operands that are not NaNs.
#[inline]
fn order<W: Word>(a: &Unpacked<W>, b: &Unpacked<W>) -> Relation {
    if a.is_zero() && b.is_zero() {
        return Relation::Equal;
    }
    let less = if a.sign != b.sign {
        a.sign
    } else if smaller(a, b) {
        !a.sign
    } else if smaller(b, a) {
        a.sign
    } else {
        return Relation::Equal;
    };
    if less { Relation::Less } else { Relation::Greater }
}

/// Compares; raises invalid for signalling NaNs, and for quiet ones too if `signalling`.
#[inline]
pub(crate) fn compare<F: Format>(
    env: &mut Env,
    a: F::Bits,
    b: F::Bits,
    signalling: bool,
) -> Relation {
    let (a, b) = (unpack::<F>(env, a), unpack::<F>(env, b));
    if a.is_nan() || b.is_nan() {
        let loud = |kind| matches!(kind, Kind::SignallingNan | Kind::Unsupported);
        if signalling || loud(a.kind) || loud(b.kind) {
            env.raise(Flags::INVALID);
        }
        return Relation::Unordered;
    }
    note_denormals(env, &[&a, &b]);
    order(&a, &b)
}

/// Which of two operands is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extremum {
    /// The smaller one.
    Min,
    /// The larger one.
    Max,
}

/// What minimum and maximum do with NaNs and zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExtremumRule {
    /// IEEE 754-2019 `minimumNumber`: a NaN loses against a number, −0 < +0 (RISC-V fmin, fmax).
    Number,
    /// IEEE 754-2008 `minNum`: a quiet NaN loses, a signalling one wins; −0 < +0 (Arm FMINNM).
    Number2008,
    /// IEEE 754-2019 `minimum`: a NaN wins, −0 < +0 (RISC-V fminm, Arm FMIN).
    Propagating,
    /// `a < b ? a : b`: with a NaN or two zeros, b as it is; any NaN raises invalid (x86 MINSS).
    SecondOperand,
}

/// The smaller or larger operand.
pub(crate) fn extremum<F: Format>(
    env: &mut Env,
    a_bits: F::Bits,
    b_bits: F::Bits,
    which: Extremum,
    rule: ExtremumRule,
) -> F::Bits {
    let (a, b) = (unpack::<F>(env, a_bits), unpack::<F>(env, b_bits));
    if a.is_nan() || b.is_nan() {
        return extremum_nan::<F>(env, (a, a_bits), (b, b_bits), rule);
    }
    note_denormals(env, &[&a, &b]);
    let first = match order(&a, &b) {
        Relation::Less => which == Extremum::Min,
        Relation::Greater => which == Extremum::Max,
        _ => rule != ExtremumRule::SecondOperand && a.sign == (which == Extremum::Min),
    };
    let (chosen, bits) = if first { (a, a_bits) } else { (b, b_bits) };
    if chosen.is_zero() { zero::<F>(chosen.sign) } else { bits }
}

#[cold]
fn extremum_nan<F: Format>(
    env: &mut Env,
    (a, a_bits): (Unpacked<F::Word>, F::Bits),
    (b, b_bits): (Unpacked<F::Word>, F::Bits),
    rule: ExtremumRule,
) -> F::Bits {
    let number = match rule {
        ExtremumRule::SecondOperand => {
            env.raise(Flags::INVALID);
            return if b.is_zero() { zero::<F>(b.sign) } else { b_bits };
        }
        ExtremumRule::Propagating => None,
        ExtremumRule::Number if !b.is_nan() => Some((a, b, b_bits)),
        ExtremumRule::Number if !a.is_nan() => Some((b, a, a_bits)),
        ExtremumRule::Number2008 if a.kind == Kind::QuietNan && !b.is_nan() => Some((a, b, b_bits)),
        ExtremumRule::Number2008 if b.kind == Kind::QuietNan && !a.is_nan() => Some((b, a, a_bits)),
        _ => None,
    };
    let Some((nan, chosen, bits)) = number else { return propagate::<F>(env, &[a, b]) };
    if nan.kind != Kind::QuietNan {
        env.raise(Flags::INVALID);
    }
    if chosen.is_zero() { zero::<F>(chosen.sign) } else { bits }
}
