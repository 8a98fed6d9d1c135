//! Making and choosing NaNs.

use crate::env::{Env, Flags, NanFraction, Propagate};
use crate::format::Format;
use crate::unpacked::{Kind, Unpacked, nan};
use crate::word::Word;

/// The NaN an operation makes when no operand is one.
pub(crate) fn default_nan<F: Format>(env: &Env) -> F::Bits {
    let top = F::Word::top();
    let quiet = top >> 1;
    let below = quiet.wrapping_sub(F::Word::ONE);
    let fraction = match env.nan.default_fraction {
        NanFraction::Top => quiet,
        NanFraction::All => quiet | below,
        NanFraction::AllButTop => below,
        NanFraction::Second => quiet >> 1,
    };
    nan::<F>(env.nan.default_negative, top | fraction)
}

/// Raises invalid and returns the default NaN.
#[cold]
pub(crate) fn invalid<F: Format>(env: &mut Env) -> F::Bits {
    env.raise(Flags::INVALID);
    default_nan::<F>(env)
}

/// The result of an operation of which at least one operand is a NaN; operands in order of
/// preference. Raises invalid for signalling ones.
#[cold]
pub(crate) fn propagate<F: Format>(env: &mut Env, operands: &[Unpacked<F::Word>]) -> F::Bits {
    if operands.iter().any(|operand| operand.kind == Kind::Unsupported) {
        return invalid::<F>(env);
    }
    if operands.iter().any(|operand| operand.kind == Kind::SignallingNan) {
        env.raise(Flags::INVALID);
    }
    match choose(env.nan.propagate, operands) {
        Some(chosen) => quieted::<F>(env, chosen),
        None => default_nan::<F>(env),
    }
}

/// The NaN operand the rule returns.
fn choose<W: Word>(rule: Propagate, operands: &[Unpacked<W>]) -> Option<&Unpacked<W>> {
    let first = |kind| operands.iter().find(|operand| operand.kind == kind);
    let larger = |kind| {
        let candidates = operands.iter().filter(|operand| operand.kind == kind);
        candidates.max_by_key(|operand| (operand.sig, !operand.sign))
    };
    match rule {
        Propagate::Never => None,
        Propagate::First => operands.iter().find(|operand| operand.is_nan()),
        Propagate::SignallingFirst => first(Kind::SignallingNan).or(first(Kind::QuietNan)),
        Propagate::LargerSignificand => larger(Kind::QuietNan).or(larger(Kind::SignallingNan)),
    }
}

/// A NaN as the result of an operation: quiet, with as much of its payload as fits.
fn quieted<F: Format>(env: &Env, operand: &Unpacked<F::Word>) -> F::Bits {
    match (operand.kind, env.nan.signalling_bit) {
        (Kind::SignallingNan, true) => default_nan::<F>(env),
        // A narrowed payload must not vanish: that would be an infinity.
        (_, true) if (operand.sig << 1 >> F::SPARE).is_zero() => default_nan::<F>(env),
        (_, true) => nan::<F>(operand.sign, operand.sig),
        (_, false) => nan::<F>(operand.sign, operand.sig | (F::Word::top() >> 1)),
    }
}
