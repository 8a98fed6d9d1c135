//! The unpacked form every operation works on, and the one place where results are rounded.

use crate::env::{Env, ExtendedPrecision, Flags, FlushToZero, Rounding, Tininess};
use crate::format::Format;
use crate::word::Word;

/// What an encoding stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Zero,
    Finite,
    Infinite,
    QuietNan,
    SignallingNan,
    /// An 80-bit pattern that the processor does not accept: unnormal, pseudo-infinity, pseudo-NaN.
    Unsupported,
}

/// A number taken apart.
///
/// A finite number is `sig * 2^(exp - (BITS - 1))` with the top bit of `sig` set. A NaN has its
/// significand in `sig`, aligned the same way, with the top bit set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unpacked<W> {
    pub sign: bool,
    pub kind: Kind,
    pub exp: i32,
    pub sig: W,
    pub denormal: bool,
}

impl<W> Unpacked<W> {
    #[inline]
    pub fn is_nan(&self) -> bool {
        matches!(self.kind, Kind::QuietNan | Kind::SignallingNan | Kind::Unsupported)
    }

    #[inline]
    pub fn is_zero(&self) -> bool {
        self.kind == Kind::Zero
    }

    #[inline]
    pub fn is_infinite(&self) -> bool {
        self.kind == Kind::Infinite
    }

    #[inline]
    pub fn is_finite_nonzero(&self) -> bool {
        self.kind == Kind::Finite
    }
}

/// Takes an operand apart, minding `denormals_are_zero`.
#[inline]
pub(crate) fn unpack<F: Format>(env: &mut Env, bits: F::Bits) -> Unpacked<F::Word> {
    let number = dissect::<F>(bits, env.nan.signalling_bit);
    if number.denormal && env.denormals_are_zero {
        env.raise(Flags::INPUT_FLUSHED);
        return Unpacked { kind: Kind::Zero, denormal: false, ..number };
    }
    number
}

/// Takes an encoding apart, whatever the environment.
#[inline]
pub(crate) fn dissect<F: Format>(bits: F::Bits, signalling_bit: bool) -> Unpacked<F::Word> {
    let (sign, field_exp, field) = F::split(bits);
    let sig = field << F::SPARE;
    if field_exp == 0 {
        if sig.is_zero() {
            return Unpacked { sign, kind: Kind::Zero, exp: 0, sig, denormal: false };
        }
        let shift = sig.leading_zeros();
        let exp = 1 - F::BIAS - shift as i32;
        return Unpacked { sign, kind: Kind::Finite, exp, sig: sig << shift, denormal: true };
    }
    let unsupported = F::EXPLICIT && !sig.top_set();
    let sig = sig | F::Word::top();
    let exp = field_exp - F::BIAS;
    let kind = if unsupported {
        Kind::Unsupported
    } else if field_exp != F::EXP_MAX {
        Kind::Finite
    } else if sig == F::Word::top() {
        Kind::Infinite
    } else if (sig << 1).top_set() != signalling_bit {
        Kind::QuietNan
    } else {
        Kind::SignallingNan
    };
    Unpacked { sign, kind, exp, sig, denormal: false }
}

/// Raises the flag for subnormal operands that take part in an operation.
#[inline]
pub(crate) fn note_denormals<W>(env: &mut Env, operands: &[&Unpacked<W>]) {
    if operands.iter().any(|operand| operand.denormal) {
        env.raise(Flags::INPUT_DENORMAL);
    }
}

/// The field below the exponent for an aligned significand.
#[inline]
fn field<F: Format>(sig: F::Word) -> F::Word {
    if F::EXPLICIT {
        sig >> F::SPARE
    } else {
        (sig >> F::SPARE) & F::Word::low_mask(F::PRECISION - 1)
    }
}

/// A zero.
#[inline]
pub(crate) fn zero<F: Format>(sign: bool) -> F::Bits {
    F::join(sign, 0, F::Word::ZERO)
}

/// An infinity.
#[inline]
pub(crate) fn infinity<F: Format>(sign: bool) -> F::Bits {
    F::join(sign, F::EXP_MAX, field::<F>(F::Word::top()))
}

/// The NaN with an aligned significand.
pub(crate) fn nan<F: Format>(sign: bool, sig: F::Word) -> F::Bits {
    F::join(sign, F::EXP_MAX, field::<F>(sig))
}

/// The sign of an exact zero that comes from unlike signs.
#[inline]
pub(crate) fn exact_zero<F: Format>(env: &Env) -> F::Bits {
    zero::<F>(env.rounding == Rounding::Down)
}

/// Bits of the word below the precision that results are rounded to.
#[inline]
fn dropped<F: Format>(env: &Env) -> u32 {
    if !F::EXPLICIT {
        return F::SPARE;
    }
    let precision = match env.extended_precision {
        ExtendedPrecision::Single => 24,
        ExtendedPrecision::Double => 53,
        ExtendedPrecision::Extended => F::PRECISION,
    };
    F::Word::BITS - precision
}

/// Runs an operation that the x87 precision control does not reach.
#[inline]
pub(crate) fn full_precision<R>(env: &mut Env, body: impl FnOnce(&mut Env) -> R) -> R {
    let saved = std::mem::replace(&mut env.extended_precision, ExtendedPrecision::Extended);
    let result = body(env);
    env.extended_precision = saved;
    result
}

/// An aligned significand rounded in place.
struct Rounded<W> {
    /// Zero if the increment carried out of the word.
    sig: W,
    carried: bool,
    inexact: bool,
    up: bool,
}

#[inline]
fn round_in_place<W: Word>(mode: Rounding, negative: bool, sig: W, drop: u32) -> Rounded<W> {
    let unit = W::ONE << drop;
    let rest = sig & W::low_mask(drop);
    if rest.is_zero() {
        return Rounded { sig, carried: false, inexact: false, up: false };
    }
    let kept = sig.wrapping_sub(rest);
    let odd = !(kept & unit).is_zero();
    if mode.increments(negative, odd, &rest, &(W::ONE << (drop - 1))) {
        let sig = kept.wrapping_add(unit);
        return Rounded { sig, carried: sig.is_zero(), inexact: true, up: true };
    }
    let sig = if mode == Rounding::ToOdd { kept | unit } else { kept };
    Rounded { sig, carried: false, inexact: true, up: false }
}

/// Rounds `sig * 2^(exp - (BITS - 1))` once and encodes it, raising overflow, underflow, inexact.
///
/// The top bit of `sig` must be set; bit 0 may stand for anything non-zero below.
#[inline]
pub(crate) fn round_pack<F: Format>(env: &mut Env, sign: bool, exp: i32, sig: F::Word) -> F::Bits {
    let drop = dropped::<F>(env);
    let field_exp = exp + F::BIAS;
    if field_exp < 1 {
        return round_tiny::<F>(env, sign, field_exp, sig, drop);
    }
    let rounded = round_in_place(env.rounding, sign, sig, drop);
    env.rounded_up = rounded.up;
    let (sig, field_exp) =
        if rounded.carried { (F::Word::top(), field_exp + 1) } else { (rounded.sig, field_exp) };
    if field_exp >= F::EXP_MAX {
        return overflow::<F>(env, sign);
    }
    if rounded.inexact {
        env.raise(Flags::INEXACT);
    }
    F::join(sign, field_exp, field::<F>(sig))
}

/// The result of a magnitude beyond the largest number.
#[cold]
pub(crate) fn overflow<F: Format>(env: &mut Env, sign: bool) -> F::Bits {
    env.raise(Flags::OVERFLOW | Flags::INEXACT);
    env.rounded_up = env.rounding.overflows_to_infinity(sign);
    if env.rounded_up {
        return infinity::<F>(sign);
    }
    let largest = F::Word::ZERO.wrapping_sub(F::Word::ONE << dropped::<F>(env));
    F::join(sign, F::EXP_MAX - 1, field::<F>(largest))
}

/// Rounds a number whose exponent is below that of the normal numbers.
#[cold]
fn round_tiny<F: Format>(
    env: &mut Env,
    sign: bool,
    field_exp: i32,
    sig: F::Word,
    drop: u32,
) -> F::Bits {
    let tiny = env.tininess == Tininess::Before
        || field_exp < 0
        || !round_in_place(env.rounding, sign, sig, drop).carried;
    if tiny && env.flush_to_zero != FlushToZero::Off {
        env.raise(Flags::UNDERFLOW);
        if env.flush_to_zero == FlushToZero::UnderflowInexact {
            env.raise(Flags::INEXACT);
        }
        return zero::<F>(sign);
    }
    let sig = sig.shr_sticky(1i32.saturating_sub(field_exp) as u32);
    let rounded = round_in_place(env.rounding, sign, sig, drop);
    env.rounded_up = rounded.up;
    if rounded.inexact {
        env.raise(Flags::INEXACT);
        if tiny {
            env.raise(Flags::UNDERFLOW);
        }
    }
    F::join(sign, i32::from(rounded.sig.top_set()), field::<F>(rounded.sig))
}
