//! Conversions: between formats, to and from integers, to integral values.

use crate::env::{Env, Flags, IntOverflow, Rounding};
use crate::format::Format;
use crate::nan::propagate;
use crate::unpacked::{
    Kind, Unpacked, full_precision, infinity, note_denormals, round_pack, unpack, zero,
};
use crate::word::Significand;

/// An integer type numbers convert to and from.
pub trait Integer: Copy {
    /// Number of bits.
    const BITS: u32;
    /// Whether there are negative ones.
    const SIGNED: bool;

    /// The low bits of a 128-bit two's-complement number.
    fn truncate(value: u128) -> Self;
    /// Sign and magnitude.
    fn magnitude(self) -> (bool, u128);
}

macro_rules! integers {
    ($($signed:ty, $unsigned:ty;)*) => {$(
        impl Integer for $signed {
            const BITS: u32 = <$signed>::BITS;
            const SIGNED: bool = true;

            #[inline]
            fn truncate(value: u128) -> Self {
                value as Self
            }

            #[inline]
            fn magnitude(self) -> (bool, u128) {
                (self < 0, self.unsigned_abs() as u128)
            }
        }

        impl Integer for $unsigned {
            const BITS: u32 = <$unsigned>::BITS;
            const SIGNED: bool = false;

            #[inline]
            fn truncate(value: u128) -> Self {
                value as Self
            }

            #[inline]
            fn magnitude(self) -> (bool, u128) {
                (false, self as u128)
            }
        }
    )*};
}

integers! { i8, u8; i16, u16; i32, u32; i64, u64; i128, u128; }

/// From format `F` to format `G`.
#[inline]
pub(crate) fn convert<F: Format, G: Format>(env: &mut Env, bits: F::Bits) -> G::Bits {
    let a = unpack::<F>(env, bits);
    let sig = G::Word::from_aligned_u128(a.sig.align_u128());
    match a.kind {
        Kind::Finite => {
            // FSTP from the x87 stack does not report its operand.
            if !F::EXPLICIT {
                note_denormals(env, &[&a]);
            }
            full_precision(env, |env| round_pack::<G>(env, a.sign, a.exp, sig))
        }
        Kind::Zero => zero::<G>(a.sign),
        Kind::Infinite => infinity::<G>(a.sign),
        _ => {
            // The sticky bit of a narrowed payload lies below what the target keeps.
            let (sign, kind, exp, denormal) = (a.sign, a.kind, a.exp, a.denormal);
            propagate::<G>(env, &[Unpacked { sign, kind, exp, sig, denormal }])
        }
    }
}

/// The integer nearest to a finite number's magnitude.
struct Whole {
    value: u128,
    inexact: bool,
    up: bool,
}

/// That integer by the rounding mode. `None` if it has more than 128 bits.
#[inline]
fn integer_part<W: Significand>(a: &Unpacked<W>, mode: Rounding) -> Option<Whole> {
    if a.exp >= 128 {
        return None;
    }
    let exact = |value| Some(Whole { value, inexact: false, up: false });
    let wide = a.sig.align_u128();
    if a.exp == 127 {
        return exact(wide);
    }
    if a.exp < -1 {
        let up = mode == Rounding::ToOdd || mode.increments(a.sign, false, &0, &1);
        return Some(Whole { value: u128::from(up), inexact: true, up });
    }
    // exp is −1..=126: 127 − exp bits lie below the point.
    let fraction = (127 - a.exp) as u32;
    let (whole, rest) =
        if a.exp < 0 { (0, wide) } else { (wide >> fraction, wide << (128 - fraction)) };
    if rest == 0 {
        return exact(whole);
    }
    let odd = whole & 1 != 0;
    let up = mode.increments(a.sign, odd, &rest, &(1 << 127));
    let value = match mode {
        Rounding::ToOdd => whole | 1,
        _ => whole + u128::from(up),
    };
    Some(Whole { value, inexact: true, up })
}

/// To an integer; `mode` overrides the environment's.
#[inline]
pub(crate) fn to_int<F: Format, I: Integer>(
    env: &mut Env,
    bits: F::Bits,
    mode: Option<Rounding>,
) -> I {
    let a = unpack::<F>(env, bits);
    let mode = mode.unwrap_or(env.rounding);
    let part = match a.kind {
        Kind::Zero => return I::truncate(0),
        Kind::Finite => integer_part(&a, mode),
        _ => None,
    };
    let Some(Whole { value: whole, inexact, up }) = part else {
        return out_of_range(env, a.sign, a.is_nan());
    };
    let limit = u128::MAX >> (128 - I::BITS);
    let fits = match (I::SIGNED, a.sign) {
        (false, false) => whole <= limit,
        (false, true) => whole == 0,
        (true, false) => whole <= limit >> 1,
        (true, true) => whole <= (limit >> 1) + 1,
    };
    if !fits {
        return out_of_range(env, a.sign, false);
    }
    if inexact {
        env.raise(Flags::INEXACT);
        env.rounded_up = up;
    }
    I::truncate(if a.sign { whole.wrapping_neg() } else { whole })
}

/// What a number that does not fit becomes.
#[cold]
fn out_of_range<I: Integer>(env: &mut Env, negative: bool, nan: bool) -> I {
    env.raise(Flags::INVALID);
    let (min, max) = if I::SIGNED {
        let min = 1 << (I::BITS - 1);
        (min, min - 1)
    } else {
        (0, u128::MAX)
    };
    I::truncate(match (env.int_overflow, nan) {
        (IntOverflow::Indefinite, _) => {
            if I::SIGNED {
                min
            } else {
                max
            }
        }
        (IntOverflow::SaturateNanMax, true) => max,
        (IntOverflow::SaturateNanZero, true) => 0,
        (IntOverflow::SaturateNanMin, true) => min,
        (_, false) => {
            if negative {
                min
            } else {
                max
            }
        }
    })
}

/// The lowest 32 bits of the number truncated to an integer (RISC-V fcvtmod.w.d, Arm FJCVTZS).
///
/// Raises invalid if the truncated number is no `i32`, else inexact if it was truncated.
pub(crate) fn to_i32_modular<F: Format>(env: &mut Env, bits: F::Bits) -> i32 {
    let a = unpack::<F>(env, bits);
    if a.is_zero() {
        return 0;
    }
    if a.is_finite_nonzero()
        && let Some(Whole { value: whole, inexact, .. }) = integer_part(&a, Rounding::TowardZero)
    {
        let fits = whole < 1 << 31 || (a.sign && whole == 1 << 31);
        if !fits {
            env.raise(Flags::INVALID);
        } else if inexact {
            env.raise(Flags::INEXACT);
        }
        return if a.sign { whole.wrapping_neg() } else { whole } as i32;
    }
    env.raise(Flags::INVALID);
    if !a.is_finite_nonzero() {
        return 0;
    }
    // More than 128 bits: the lowest come from a left shift.
    let whole = a.sig.align_u128().checked_shl((a.exp - 127) as u32).unwrap_or(0);
    (if a.sign { whole.wrapping_neg() } else { whole }) as i32
}

/// From an integer.
#[inline]
pub(crate) fn from_int<F: Format, I: Integer>(env: &mut Env, value: I) -> F::Bits {
    let (sign, magnitude) = value.magnitude();
    if magnitude == 0 {
        return zero::<F>(false);
    }
    let shift = magnitude.leading_zeros();
    let sig = F::Word::from_aligned_u128(magnitude << shift);
    full_precision(env, |env| round_pack::<F>(env, sign, 127 - shift as i32, sig))
}

/// Whether rounding to an integral value raises inexact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inexact {
    /// It does (IEEE `roundToIntegralExact`; RISC-V froundnx, x86 ROUND with imm[3] clear).
    Raise,
    /// It does not (IEEE `roundToIntegral*`; RISC-V fround).
    Suppress,
}

/// The nearest integral value in the same format; `mode` overrides the environment's.
pub(crate) fn round_to_integral<F: Format>(
    env: &mut Env,
    bits: F::Bits,
    mode: Option<Rounding>,
    signal: Inexact,
) -> F::Bits {
    let a = unpack::<F>(env, bits);
    let mode = mode.unwrap_or(env.rounding);
    match a.kind {
        Kind::Zero => return zero::<F>(a.sign),
        Kind::Infinite => return bits,
        Kind::Finite if a.exp >= F::PRECISION as i32 - 1 => return bits,
        Kind::Finite => {}
        _ => return propagate::<F>(env, &[a]),
    }
    if F::EXPLICIT {
        // FRNDINT reports it, ROUNDSD does not.
        note_denormals(env, &[&a]);
    }
    // The precision is below 128, so is the number of integer bits.
    let Some(part) = integer_part(&a, mode) else { return bits };
    let Whole { value: whole, inexact, up } = part;
    if inexact && signal == Inexact::Raise {
        env.raise(Flags::INEXACT);
    }
    if whole == 0 {
        env.rounded_up = up;
        return zero::<F>(a.sign);
    }
    let shift = whole.leading_zeros();
    let sig = F::Word::from_aligned_u128(whole << shift);
    let result = full_precision(env, |env| round_pack::<F>(env, a.sign, 127 - shift as i32, sig));
    env.rounded_up = up;
    result
}
