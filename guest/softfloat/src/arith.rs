//! Addition, multiplication, division, square root, fused multiply-add, remainder.

use crate::env::{Env, Flags, FmaOrder, InfZeroNan};
use crate::format::Format;
use crate::nan::{invalid, propagate};
use crate::unpacked::{
    Kind, Unpacked, exact_zero, full_precision, infinity, note_denormals, round_pack, unpack, zero,
};
use crate::word::{Significand, Word};

/// Sign, exponent and aligned significand of a non-zero number.
#[derive(Clone, Copy)]
struct Term<W> {
    sign: bool,
    exp: i32,
    sig: W,
}

/// The exact sum, with a sticky bit 0; `None` for zero.
///
/// Both significands must end in at least two zeros, so that what a shift moves out is far below
/// the rounding position.
#[inline]
fn sum<W: Word>(a: Term<W>, b: Term<W>) -> Option<Term<W>> {
    let (large, small) = if (a.exp, a.sig) >= (b.exp, b.sig) { (a, b) } else { (b, a) };
    let distance = (large.exp - small.exp) as u32;
    if large.sign == small.sign {
        let sig = (large.sig >> 1).wrapping_add(small.sig.shr_sticky(distance + 1));
        return Some(if sig.top_set() {
            Term { exp: large.exp + 1, sig, ..large }
        } else {
            Term { sig: sig << 1, ..large }
        });
    }
    let sig = large.sig.wrapping_sub(small.sig.shr_sticky(distance));
    if sig.is_zero() {
        return None;
    }
    let shift = sig.leading_zeros();
    Some(Term { exp: large.exp - shift as i32, sig: sig << shift, ..large })
}

impl<W: Word> Unpacked<W> {
    #[inline]
    fn term(&self) -> Term<W> {
        Term { sign: self.sign, exp: self.exp, sig: self.sig }
    }
}

/// a + b, or a − b.
#[inline]
pub(crate) fn add<F: Format>(env: &mut Env, a: F::Bits, b: F::Bits, subtract: bool) -> F::Bits {
    let a = unpack::<F>(env, a);
    let mut b = unpack::<F>(env, b);
    if a.is_nan() || b.is_nan() {
        return propagate::<F>(env, &[a, b]);
    }
    b.sign ^= subtract;
    if a.is_finite_nonzero() && b.is_finite_nonzero() {
        note_denormals(env, &[&a, &b]);
        return match sum(a.term(), b.term()) {
            Some(sum) => round_pack::<F>(env, sum.sign, sum.exp, sum.sig),
            None => exact_zero::<F>(env),
        };
    }
    if a.is_infinite() && b.is_infinite() && a.sign != b.sign {
        return invalid::<F>(env);
    }
    note_denormals(env, &[&a, &b]);
    match (a.kind, b.kind) {
        (Kind::Infinite, _) => infinity::<F>(a.sign),
        (_, Kind::Infinite) => infinity::<F>(b.sign),
        (Kind::Zero, Kind::Zero) if a.sign == b.sign => zero::<F>(a.sign),
        (Kind::Zero, Kind::Zero) => exact_zero::<F>(env),
        (Kind::Zero, _) => round_pack::<F>(env, b.sign, b.exp, b.sig),
        _ => round_pack::<F>(env, a.sign, a.exp, a.sig),
    }
}

/// The exact product of two aligned significands, aligned, with its exponent.
#[inline]
fn product<W: Significand>(a: &Unpacked<W>, b: &Unpacked<W>) -> (i32, W::Double) {
    let wide = a.sig.full_mul(b.sig);
    if wide.top_set() { (a.exp + b.exp + 1, wide) } else { (a.exp + b.exp, wide << 1) }
}

/// a × b.
#[inline]
pub(crate) fn mul<F: Format>(env: &mut Env, a: F::Bits, b: F::Bits) -> F::Bits {
    let (a, b) = (unpack::<F>(env, a), unpack::<F>(env, b));
    let sign = a.sign != b.sign;
    if a.is_finite_nonzero() && b.is_finite_nonzero() {
        note_denormals(env, &[&a, &b]);
        let (exp, wide) = product(&a, &b);
        return round_pack::<F>(env, sign, exp, F::Word::from_upper_sticky(wide));
    }
    if a.is_nan() || b.is_nan() {
        return propagate::<F>(env, &[a, b]);
    }
    if (a.is_infinite() && b.is_zero()) || (a.is_zero() && b.is_infinite()) {
        return invalid::<F>(env);
    }
    note_denormals(env, &[&a, &b]);
    if a.is_infinite() || b.is_infinite() { infinity::<F>(sign) } else { zero::<F>(sign) }
}

/// a ÷ b.
#[inline]
pub(crate) fn div<F: Format>(env: &mut Env, a: F::Bits, b: F::Bits) -> F::Bits {
    let (a, b) = (unpack::<F>(env, a), unpack::<F>(env, b));
    let sign = a.sign != b.sign;
    if a.is_finite_nonzero() && b.is_finite_nonzero() {
        note_denormals(env, &[&a, &b]);
        let smaller = a.sig < b.sig;
        let (high, low) = if smaller {
            (a.sig, F::Word::ZERO)
        } else {
            (a.sig >> 1, a.sig << (F::Word::BITS - 1))
        };
        let (quotient, rest) = F::Word::div_wide(high, low, b.sig);
        let sig = quotient | F::Word::from_bool(!rest.is_zero());
        return round_pack::<F>(env, sign, a.exp - b.exp - i32::from(smaller), sig);
    }
    match (a.kind, b.kind) {
        _ if a.is_nan() || b.is_nan() => propagate::<F>(env, &[a, b]),
        (Kind::Infinite, Kind::Infinite) | (Kind::Zero, Kind::Zero) => invalid::<F>(env),
        (Kind::Finite, Kind::Zero) => {
            env.raise(Flags::DIV_BY_ZERO);
            infinity::<F>(sign)
        }
        (Kind::Infinite, _) => {
            note_denormals(env, &[&b]);
            infinity::<F>(sign)
        }
        _ => {
            note_denormals(env, &[&a, &b]);
            zero::<F>(sign)
        }
    }
}

/// √a.
#[inline]
pub(crate) fn sqrt<F: Format>(env: &mut Env, a: F::Bits) -> F::Bits {
    let a = unpack::<F>(env, a);
    match a.kind {
        Kind::Zero => zero::<F>(a.sign),
        _ if a.is_nan() => propagate::<F>(env, &[a]),
        _ if a.sign => invalid::<F>(env),
        Kind::Infinite => infinity::<F>(false),
        _ => {
            note_denormals(env, &[&a]);
            let even = a.exp & 1 == 0;
            let (root, exact) = F::Word::sqrt_wide(a.sig.into_upper() >> u32::from(even));
            round_pack::<F>(env, false, a.exp >> 1, root | F::Word::from_bool(!exact))
        }
    }
}

/// Which parts of a fused multiply-add are negated; NaN operands keep their sign.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MulAdd {
    /// The product is negated.
    pub negate_product: bool,
    /// The addend is negated.
    pub negate_addend: bool,
}

impl MulAdd {
    /// a × b + c.
    pub const ADD: Self = Self { negate_product: false, negate_addend: false };
    /// a × b − c.
    pub const SUB: Self = Self { negate_product: false, negate_addend: true };
    /// −(a × b) + c (RISC-V fnmsub, x86 vfnmadd).
    pub const NEG_ADD: Self = Self { negate_product: true, negate_addend: false };
    /// −(a × b) − c (RISC-V fnmadd, x86 vfnmsub).
    pub const NEG_SUB: Self = Self { negate_product: true, negate_addend: true };
}

/// ±(a × b) ± c, rounded once.
#[inline]
pub(crate) fn fma<F: Format>(
    env: &mut Env,
    a: F::Bits,
    b: F::Bits,
    c: F::Bits,
    form: MulAdd,
) -> F::Bits {
    let (a, b) = (unpack::<F>(env, a), unpack::<F>(env, b));
    let mut c = unpack::<F>(env, c);
    if a.is_nan() || b.is_nan() || c.is_nan() {
        return fma_nan::<F>(env, a, b, c);
    }
    let sign = (a.sign != b.sign) != form.negate_product;
    c.sign ^= form.negate_addend;
    if !(a.is_finite_nonzero() && b.is_finite_nonzero() && c.is_finite_nonzero()) {
        return fma_special::<F>(env, [a, b, c], sign);
    }
    note_denormals(env, &[&a, &b, &c]);
    let (exp, wide) = product(&a, &b);
    let addend = Term { sign: c.sign, exp: c.exp, sig: c.sig.into_upper() };
    match sum(Term { sign, exp, sig: wide }, addend) {
        None => exact_zero::<F>(env),
        Some(sum) => round_pack::<F>(env, sum.sign, sum.exp, F::Word::from_upper_sticky(sum.sig)),
    }
}

/// Fused multiply-add with a zero or infinite operand; `sign` is that of the product.
#[cold]
fn fma_special<F: Format>(env: &mut Env, [a, b, c]: [Unpacked<F::Word>; 3], sign: bool) -> F::Bits {
    let infinite = a.is_infinite() || b.is_infinite();
    let vanishes = a.is_zero() || b.is_zero();
    if infinite && (vanishes || (c.is_infinite() && c.sign != sign)) {
        return invalid::<F>(env);
    }
    note_denormals(env, &[&a, &b, &c]);
    if infinite {
        infinity::<F>(sign)
    } else if c.is_infinite() {
        infinity::<F>(c.sign)
    } else if vanishes && c.is_zero() {
        if sign == c.sign { zero::<F>(sign) } else { exact_zero::<F>(env) }
    } else if vanishes {
        round_pack::<F>(env, c.sign, c.exp, c.sig)
    } else {
        let (exp, wide) = product(&a, &b);
        round_pack::<F>(env, sign, exp, F::Word::from_upper_sticky(wide))
    }
}

/// Fused multiply-add with a NaN operand.
#[cold]
fn fma_nan<F: Format>(
    env: &mut Env,
    a: Unpacked<F::Word>,
    b: Unpacked<F::Word>,
    c: Unpacked<F::Word>,
) -> F::Bits {
    let inf_zero = (a.is_infinite() && b.is_zero()) || (a.is_zero() && b.is_infinite());
    if inf_zero {
        match env.nan.inf_zero_nan {
            InfZeroNan::PropagateQuiet => {}
            InfZeroNan::PropagateInvalid => env.raise(Flags::INVALID),
            InfZeroNan::DefaultInvalid if c.kind == Kind::QuietNan => return invalid::<F>(env),
            InfZeroNan::DefaultInvalid => env.raise(Flags::INVALID),
        }
    }
    match env.nan.fma_order {
        FmaOrder::FactorsFirst => propagate::<F>(env, &[a, b, c]),
        FmaOrder::AddendFirst => propagate::<F>(env, &[c, a, b]),
        FmaOrder::AddendSecond => propagate::<F>(env, &[a, c, b]),
    }
}

/// How the quotient of a remainder is made an integer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quotient {
    /// To nearest, ties to even (IEEE remainder, x87 FPREM1).
    Nearest,
    /// Toward zero (C `fmod`, x87 FPREM).
    Truncated,
}

/// a − n × b with n the integral quotient, and the lowest bits of |n|. Always exact.
pub(crate) fn rem<F: Format>(
    env: &mut Env,
    a: F::Bits,
    b: F::Bits,
    rule: Quotient,
) -> (F::Bits, u64) {
    let (a, b) = (unpack::<F>(env, a), unpack::<F>(env, b));
    if a.is_nan() || b.is_nan() {
        return (propagate::<F>(env, &[a, b]), 0);
    }
    if a.is_infinite() || b.is_zero() {
        return (invalid::<F>(env), 0);
    }
    note_denormals(env, &[&a, &b]);
    if a.is_zero() {
        return (zero::<F>(a.sign), 0);
    }
    if b.is_infinite() || a.exp < b.exp - 1 {
        return (full_precision(env, |env| round_pack::<F>(env, a.sign, a.exp, a.sig)), 0);
    }
    let (mut rest, mut quotient) = reduce(a.sig, b.sig, a.exp - b.exp);
    let mut sign = a.sign;
    if rule == Quotient::Nearest {
        let up = b.sig.wrapping_sub(rest);
        if rest > up || (rest == up && quotient & 1 != 0) {
            (rest, sign, quotient) = (up, !sign, quotient.wrapping_add(1));
        }
    }
    if rest.is_zero() {
        return (zero::<F>(a.sign), quotient);
    }
    let shift = rest.leading_zeros();
    let (exp, sig) = (b.exp - shift as i32, rest << shift);
    (full_precision(env, |env| round_pack::<F>(env, sign, exp, sig)), quotient)
}

/// `a * 2^distance` divided by `b`, for a distance of at least −1: remainder, and the quotient's
/// lowest bits.
fn reduce<W: Significand>(a: W, b: W, distance: i32) -> (W, u64) {
    if distance < 0 {
        return (a >> 1, 0);
    }
    let (mut rest, mut quotient) = if a >= b { (a.wrapping_sub(b), 1u64) } else { (a, 0) };
    let mut left = distance as u32;
    while left > 0 {
        let step = left.min(W::BITS - 1);
        let (digit, next) = W::div_wide(rest >> (W::BITS - step), rest << step, b);
        quotient = quotient.checked_shl(step).unwrap_or(0) | digit.low_u64();
        rest = next;
        left -= step;
    }
    (rest, quotient)
}
