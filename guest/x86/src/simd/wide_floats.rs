//! Floating-point instructions of AVX-512 that are called.
//!
//! Reciprocals and reciprocal roots have 18 bits; processors differ from them, and from each other, beyond the
//! 14 bits that they promise.

use super::wide::{Bytes, Sources, lane, set_lane};
use softfloat::{BF16, Env, F16, F32, F64, F128, Flags, Float, FlushToZero, Inexact, Rounding};

/// One lane of each source and what else decides.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lanes {
    a: u64,
    b: u64,
    c: u64,
    imm: u8,
}

type Function = fn(&mut Env, Lanes) -> u64;

/// How an instruction is computed.
#[derive(Clone, Copy)]
pub(crate) enum Floats {
    /// By a function of binary32, or of binary64.
    Of(Function, Function),
    /// From signed integers.
    FromSigned,
    /// From unsigned integers.
    FromUnsigned,
    /// To signed integers.
    ToSigned,
    /// To unsigned integers.
    ToUnsigned,
    /// To signed integers, towards zero.
    CutSigned,
    /// To unsigned integers, towards zero.
    CutUnsigned,
    /// From binary16.
    FromHalf,
    /// To binary16.
    ToHalf,
    /// Bits for an opmask: the class.
    Class,
    /// To bfloat16.
    ToBrain,
    /// Two sources to bfloat16.
    TwoToBrain,
    /// Products of bfloat16 and an accumulator.
    BrainDot,
}

/// The result, or bits for an opmask. Lanes that are not wanted are not computed.
pub(crate) fn compute(form: Floats, s: &Sources, env: &mut Env) -> (Bytes, u64) {
    let (mut out, mut bits) = ([0; 64], 0);
    for n in (0..s.lanes).filter(|n| s.mask >> n & 1 != 0) {
        let (b, double) = (lane(&s.b, s.from, n), s.from == 8);
        let to_double = s.element == 8;
        let value = match form {
            Floats::Of(single, whole) => {
                let at = |v| lane(v, s.element, n);
                let lanes = Lanes { a: at(&s.a), b: at(&s.b), c: at(&s.c), imm: s.imm };
                if to_double { whole(env, lanes) } else { single(env, lanes) }
            }
            Floats::FromSigned if to_double => F64::from_i64(env, b.cast_signed()),
            Floats::FromSigned => F32::from_i64(env, b.cast_signed()).into(),
            Floats::FromUnsigned if to_double => F64::from_u64(env, b),
            Floats::FromUnsigned => F32::from_u64(env, b).into(),
            Floats::ToSigned => to_signed(env, double, b, None),
            Floats::CutSigned => to_signed(env, double, b, Some(Rounding::TowardZero)),
            Floats::ToUnsigned => to_unsigned(env, (double, to_double), b, None),
            Floats::CutUnsigned => {
                to_unsigned(env, (double, to_double), b, Some(Rounding::TowardZero))
            }
            Floats::FromHalf => from_half(env, b),
            Floats::ToHalf => to_half(env, b, s.imm),
            Floats::Class => {
                let daz = env.denormals_are_zero;
                let class = if double { class::<F64>(b, daz) } else { class::<F32>(b, daz) };
                bits |= u64::from(class & s.imm != 0) << n;
                continue;
            }
            Floats::ToBrain => brain(b),
            Floats::TwoToBrain => {
                let half = s.lanes / 2;
                let (v, at) = if n < half { (&s.b, n) } else { (&s.a, n - half) };
                brain(lane(v, 4, at))
            }
            Floats::BrainDot => {
                let at = |v| lane(v, 4, n);
                brain_dot(at(&s.c), at(&s.a), at(&s.b))
            }
        };
        set_lane(&mut out, s.element, n, value);
    }
    (out, bits)
}

/// A float to a signed integer of 64 bits.
fn to_signed(env: &mut Env, double: bool, value: u64, mode: Option<Rounding>) -> u64 {
    let integer: i64 = match double {
        true => F64::to_int(env, value, mode),
        false => F32::to_int(env, value as u32, mode),
    };
    integer.cast_unsigned()
}

/// A float to an unsigned integer: whether from and to 64 bits. What does not fit is all ones.
pub(crate) fn to_unsigned(
    env: &mut Env,
    (double, to_double): (bool, bool),
    value: u64,
    mode: Option<Rounding>,
) -> u64 {
    match (double, to_double) {
        (true, true) => F64::to_int::<u64>(env, value, mode),
        (true, false) => F64::to_int::<u32>(env, value, mode).into(),
        (false, true) => F32::to_int::<u64>(env, value as u32, mode),
        (false, false) => F32::to_int::<u32>(env, value as u32, mode).into(),
    }
}

/// An unsigned integer as a float.
pub(crate) fn from_unsigned(env: &mut Env, double: bool, value: u64) -> u64 {
    if double { F64::from_u64(env, value) } else { F32::from_u64(env, value).into() }
}

/// Halves are never flushed, and are not told as denormal.
fn from_half(env: &mut Env, half: u64) -> u64 {
    let mut own = Env { denormals_are_zero: false, ..env.clone() };
    own.flags = Flags::empty();
    let value = F16::convert::<F32>(&mut own, half as u16);
    if own.flags.contains(Flags::INVALID) {
        env.flags |= Flags::INVALID;
    }
    value.into()
}

fn to_half(env: &mut Env, value: u64, imm: u8) -> u64 {
    let mut own = Env { flush_to_zero: FlushToZero::Off, ..env.clone() };
    own.rounding = immediate_rounding(imm).unwrap_or(env.rounding);
    let half = F32::convert::<F16>(&mut own, value as u32);
    env.flags |= own.flags;
    half.into()
}

/// The rounding mode that an immediate says, if not MXCSR's.
fn immediate_rounding(imm: u8) -> Option<Rounding> {
    let modes = [Rounding::NearestEven, Rounding::Down, Rounding::Up, Rounding::TowardZero];
    (imm & 4 == 0).then(|| modes[usize::from(imm & 3)])
}

/// Sign, exponent field and fraction.
fn parts<F: Float>(value: u64) -> (bool, i32, u64) {
    let fraction = F::PRECISION - 1;
    let exponent = (value >> fraction) as i32 & F::EXP_MAX;
    (value >> (F::WIDTH - 1) & 1 != 0, exponent, value & ((1 << fraction) - 1))
}

fn join<F: Float>(sign: bool, exponent: i32, fraction: u64) -> u64 {
    u64::from(sign) << (F::WIDTH - 1) | (exponent as u64) << (F::PRECISION - 1) | fraction
}

fn bits<F: Float>(value: u64) -> F::Bits {
    let value = u128::from(value) & ((1 << F::WIDTH) - 1);
    F::Bits::try_from(value).unwrap_or_default()
}

fn number<F: Float>(value: F::Bits) -> u64 {
    let value: u128 = value.into();
    value as u64
}

fn is_nan<F: Float>(value: u64) -> bool {
    let (_, exponent, fraction) = parts::<F>(value);
    exponent == F::EXP_MAX && fraction != 0
}

fn is_signalling<F: Float>(value: u64) -> bool {
    is_nan::<F>(value) && value >> (F::PRECISION - 2) & 1 == 0
}

fn is_infinite<F: Float>(value: u64) -> bool {
    let (_, exponent, fraction) = parts::<F>(value);
    exponent == F::EXP_MAX && fraction == 0
}

fn is_zero<F: Float>(value: u64) -> bool {
    value & !(1 << (F::WIDTH - 1)) == 0
}

fn is_denormal<F: Float>(value: u64) -> bool {
    let (_, exponent, fraction) = parts::<F>(value);
    exponent == 0 && fraction != 0
}

/// A NaN made quiet; invalid if it was not.
fn quiet<F: Float>(env: &mut Env, value: u64) -> u64 {
    if is_signalling::<F>(value) {
        env.flags |= Flags::INVALID;
    }
    value | 1 << (F::PRECISION - 2)
}

/// What invalid operations give.
fn indefinite<F: Float>() -> u64 {
    join::<F>(true, F::EXP_MAX, 1 << (F::PRECISION - 2))
}

fn infinity<F: Float>(sign: bool) -> u64 {
    join::<F>(sign, F::EXP_MAX, 0)
}

fn sign_of<F: Float>(value: u64) -> bool {
    value >> (F::WIDTH - 1) & 1 != 0
}

/// An operand as denormals-are-zero has it.
fn flushed<F: Float>(env: &Env, value: u64) -> u64 {
    match env.denormals_are_zero && is_denormal::<F>(value) {
        true => join::<F>(sign_of::<F>(value), 0, 0),
        false => value,
    }
}

/// The same, told if it is denormal.
fn told<F: Float>(env: &mut Env, value: u64) -> u64 {
    let value = flushed::<F>(env, value);
    if is_denormal::<F>(value) {
        env.flags |= Flags::INPUT_DENORMAL;
    }
    value
}

/// Exponent and fraction of a number that is neither zero nor special, normalised.
fn normalised<F: Float>(value: u64) -> (i32, u64) {
    let (_, exponent, fraction) = parts::<F>(value);
    if exponent != 0 {
        return (exponent - F::BIAS, fraction);
    }
    let shift = F::PRECISION - (64 - fraction.leading_zeros());
    let fraction = fraction << shift & ((1 << (F::PRECISION - 1)) - 1);
    (1 - F::BIAS - shift as i32, fraction)
}

/// A value in a format in which anything here is exact.
fn widened<F: Float>(value: u64) -> u128 {
    F::convert::<F128>(&mut Env::x86_sse(Rounding::NearestEven), bits::<F>(value))
}

/// 2ⁿ.
fn power(n: i32) -> u128 {
    u128::from((n + 0x3fff).clamp(1, 0x7ffe).unsigned_abs()) << 112
}

fn scaled(value: u128, n: i32) -> u128 {
    F128::mul(&mut Env::x86_sse(Rounding::NearestEven), value, power(n))
}

/// VSCALEF: a × 2^⌊b⌋.
pub(crate) fn scale<F: Float>(env: &mut Env, l: Lanes) -> u64 {
    let (a, b) = (flushed::<F>(env, l.a), flushed::<F>(env, l.b));
    if is_signalling::<F>(a) || is_signalling::<F>(b) {
        env.flags |= Flags::INVALID;
    }
    if is_nan::<F>(a) {
        let sign = sign_of::<F>(b);
        return match is_infinite::<F>(b) && !is_signalling::<F>(a) {
            true if sign => 0,
            true => infinity::<F>(false),
            false => quiet::<F>(env, a),
        };
    }
    if is_nan::<F>(b) {
        return quiet::<F>(env, b);
    }
    let sign = sign_of::<F>(a);
    if is_infinite::<F>(b) {
        let wrong = if sign_of::<F>(b) { is_infinite::<F>(a) } else { is_zero::<F>(a) };
        if wrong {
            env.flags |= Flags::INVALID;
            return indefinite::<F>();
        }
    }
    if is_denormal::<F>(a) {
        env.flags |= Flags::INPUT_DENORMAL;
    }
    if is_infinite::<F>(b) {
        let zero = sign_of::<F>(b);
        return if zero { join::<F>(sign, 0, 0) } else { infinity::<F>(sign) };
    }
    if is_infinite::<F>(a) || is_zero::<F>(a) {
        return a;
    }
    let mut own = Env::x86_sse(Rounding::Down);
    let n: i64 = F::to_int(&mut own, bits::<F>(b), None);
    let far = own.flags.contains(Flags::INVALID);
    let n = if far { if sign_of::<F>(b) { i64::MIN } else { i64::MAX } } else { n };
    let wide = scaled(widened::<F>(a), n.clamp(-5000, 5000) as i32);
    let before = env.denormals_are_zero;
    env.denormals_are_zero = false;
    let value = number::<F>(F128::convert::<F>(env, wide));
    env.denormals_are_zero = before;
    value
}

/// VGETEXP: the exponent as a number.
pub(crate) fn exponent<F: Float>(env: &mut Env, l: Lanes) -> u64 {
    if is_nan::<F>(l.b) {
        return quiet::<F>(env, l.b);
    }
    let value = told::<F>(env, l.b);
    if is_infinite::<F>(value) || is_zero::<F>(value) {
        return infinity::<F>(is_zero::<F>(value));
    }
    let (exponent, _) = normalised::<F>(value);
    number::<F>(F::from_i32(&mut Env::x86_sse(Rounding::NearestEven), exponent))
}

/// VGETMANT: the significand, in an interval and with a sign by the immediate.
pub(crate) fn mantissa<F: Float>(env: &mut Env, l: Lanes) -> u64 {
    if is_nan::<F>(l.b) {
        return quiet::<F>(env, l.b);
    }
    let value = flushed::<F>(env, l.b);
    let negative = sign_of::<F>(value);
    let sign = negative && l.imm & 4 == 0;
    if is_zero::<F>(value) {
        return join::<F>(sign, F::BIAS, 0);
    }
    if negative && l.imm & 8 != 0 {
        env.flags |= Flags::INVALID;
        return indefinite::<F>();
    }
    if is_infinite::<F>(value) {
        return join::<F>(sign, F::BIAS, 0);
    }
    let value = told::<F>(env, value);
    let (exponent, fraction) = normalised::<F>(value);
    let half = match l.imm & 3 {
        0 => false,
        1 => exponent & 1 != 0,
        2 => true,
        _ => fraction >> (F::PRECISION - 2) & 1 != 0,
    };
    join::<F>(sign, F::BIAS - i32::from(half), fraction)
}

/// A number rounded to so many bits behind the point; whether that is inexact.
fn rounded<F: Float>(env: &Env, value: u64, imm: u8) -> (u64, bool) {
    let mode = immediate_rounding(imm).unwrap_or(env.rounding);
    let (digits, mut own) = (i32::from(imm >> 4), Env::x86_sse(mode));
    let whole = F128::round_to_integral(
        &mut own,
        scaled(widened::<F>(value), digits),
        None,
        Inexact::Raise,
    );
    let inexact = own.flags.contains(Flags::INEXACT);
    own.flags = Flags::empty();
    (number::<F>(F128::convert::<F>(&mut own, scaled(whole, -digits))), inexact)
}

/// VRNDSCALE.
pub(crate) fn round_scaled<F: Float>(env: &mut Env, l: Lanes) -> u64 {
    if is_nan::<F>(l.b) {
        return quiet::<F>(env, l.b);
    }
    let value = flushed::<F>(env, l.b);
    if is_infinite::<F>(value) || is_zero::<F>(value) {
        return value;
    }
    let (value, inexact) = rounded::<F>(env, value, l.imm);
    if inexact && l.imm & 8 == 0 {
        env.flags |= Flags::INEXACT;
    }
    value
}

/// VREDUCE: what VRNDSCALE takes away.
pub(crate) fn reduce<F: Float>(env: &mut Env, l: Lanes) -> u64 {
    if is_nan::<F>(l.b) {
        return quiet::<F>(env, l.b);
    }
    let value = flushed::<F>(env, l.b);
    if is_infinite::<F>(value) {
        return 0;
    }
    let (whole, _) = rounded::<F>(env, value, l.imm);
    let mut own = Env::x86_sse(immediate_rounding(l.imm).unwrap_or(env.rounding));
    own.flush_to_zero = env.flush_to_zero;
    let value = number::<F>(F::sub(&mut own, bits::<F>(value), bits::<F>(whole)));
    if own.flags.contains(Flags::INEXACT) && l.imm & 8 == 0 {
        env.flags |= Flags::INEXACT;
    }
    value
}

/// VRANGE: minimum or maximum, perhaps of magnitudes, with a sign by the immediate.
pub(crate) fn range<F: Float>(env: &mut Env, l: Lanes) -> u64 {
    let (a, b) = (flushed::<F>(env, l.a), flushed::<F>(env, l.b));
    for value in [a, b] {
        if is_signalling::<F>(value) {
            return quiet::<F>(env, value);
        }
    }
    let magnitudes = l.imm & 2 != 0;
    let largest = l.imm & 1 != 0;
    let chosen = if is_nan::<F>(b) {
        a
    } else if is_nan::<F>(a) {
        b
    } else {
        if is_denormal::<F>(a) || is_denormal::<F>(b) {
            env.flags |= Flags::INPUT_DENORMAL;
        }
        let magnitude = |v: u64| v & !(1 << (F::WIDTH - 1));
        // As integers that are in the same order; negative zero is the lesser.
        let order = |v: u64| {
            let size = magnitude(v).cast_signed();
            if sign_of::<F>(v) { -1 - size } else { size }
        };
        let less = match magnitudes && magnitude(a) != magnitude(b) {
            true => magnitude(a) < magnitude(b),
            false => order(a) < order(b),
        };
        if less != largest { a } else { b }
    };
    let sign = match l.imm >> 2 & 3 {
        0 => sign_of::<F>(a),
        1 => sign_of::<F>(chosen),
        2 => false,
        _ => true,
    };
    chosen & !(1 << (F::WIDTH - 1)) | u64::from(sign) << (F::WIDTH - 1)
}

/// VFIXUPIMM: what a table of answers says to the class of the source.
pub(crate) fn fix_up<F: Float>(env: &mut Env, l: Lanes) -> u64 {
    let value = flushed::<F>(env, l.a);
    let one = join::<F>(false, F::BIAS, 0);
    let sign = sign_of::<F>(value);
    let (token, invalid, zero) = match value {
        v if is_signalling::<F>(v) => (1, 1 << 4, 0),
        v if is_nan::<F>(v) => (0, 0, 0),
        v if is_zero::<F>(v) => (2, 1 << 1, 1),
        v if v == one => (3, 1 << 3, 1 << 2),
        v if is_infinite::<F>(v) && sign => (4, 1 << 5, 0),
        v if is_infinite::<F>(v) => (5, 1 << 7, 0),
        _ if sign => (6, 1 << 6, 0),
        _ => (7, 0, 0),
    };
    if l.imm & invalid != 0 {
        env.flags |= Flags::INVALID;
    }
    if l.imm & zero != 0 {
        env.flags |= Flags::DIV_BY_ZERO;
    }
    let most = join::<F>(false, F::EXP_MAX - 1, (1 << (F::PRECISION - 1)) - 1);
    let real = |v: f64| {
        let mut own = Env::x86_sse(Rounding::NearestEven);
        number::<F>(F64::convert::<F>(&mut own, v.to_bits()))
    };
    let top = 1 << (F::WIDTH - 1);
    match l.b >> (4 * token) & 15 {
        0 => l.c,
        1 => value,
        2 => value | indefinite::<F>() & !top,
        3 => indefinite::<F>(),
        4 => infinity::<F>(true),
        5 => infinity::<F>(false),
        6 => infinity::<F>(sign),
        7 => top,
        8 => 0,
        9 => one | top,
        10 => one,
        11 => real(0.5),
        12 => real(90.0),
        13 => real(std::f64::consts::FRAC_PI_2),
        14 => most,
        _ => most | top,
    }
}

/// Bits of VFPCLASS's immediate that a value is of.
fn class<F: Float>(value: u64, denormals_are_zero: bool) -> u8 {
    let sign = sign_of::<F>(value);
    let daz = denormals_are_zero && is_denormal::<F>(value);
    match value {
        v if is_signalling::<F>(v) => 0x80,
        v if is_nan::<F>(v) => 1,
        v if is_zero::<F>(v) || daz => 2 << u8::from(sign),
        v if is_infinite::<F>(v) => 8 << u8::from(sign),
        v if is_denormal::<F>(v) => 0x20 | u8::from(sign) << 6,
        _ => u8::from(sign) << 6,
    }
}

/// VRCP14.
pub(crate) fn reciprocal<F: Float>(env: &mut Env, l: Lanes) -> u64 {
    if is_nan::<F>(l.b) {
        return l.b | 1 << (F::PRECISION - 2);
    }
    let value = flushed::<F>(env, l.b);
    let sign = sign_of::<F>(value);
    if is_zero::<F>(value) {
        return infinity::<F>(sign);
    }
    if is_infinite::<F>(value) {
        return join::<F>(sign, 0, 0);
    }
    let (exponent, significand) = leading::<F>(value);
    estimate::<F>(env, sign, -exponent, (1 << 40) / significand)
}

/// VRSQRT14.
pub(crate) fn reciprocal_root<F: Float>(env: &mut Env, l: Lanes) -> u64 {
    if is_nan::<F>(l.b) {
        return l.b | 1 << (F::PRECISION - 2);
    }
    let value = flushed::<F>(env, l.b);
    if is_zero::<F>(value) {
        return infinity::<F>(sign_of::<F>(value));
    }
    if sign_of::<F>(value) {
        return indefinite::<F>();
    }
    if is_infinite::<F>(value) {
        return 0;
    }
    let (exponent, significand) = leading::<F>(value);
    let odd = exponent.rem_euclid(2);
    let square = (1 << 60) / (significand << odd);
    estimate::<F>(env, false, -((exponent - odd) / 2), square.isqrt())
}

/// The exponent of a number, and its first bits: from 2²⁰ on.
fn leading<F: Float>(value: u64) -> (i32, u64) {
    let (exponent, fraction) = normalised::<F>(value);
    (exponent, 1 << 20 | fraction >> (F::PRECISION - 1).saturating_sub(20))
}

/// A number of 2²⁰ at most and more than 2¹⁹, as a significand, times a power of two.
fn estimate<F: Float>(env: &Env, sign: bool, exponent: i32, significand: u64) -> u64 {
    let (exponent, significand) = match significand >> 20 {
        0 => (exponent - 1, significand << 1),
        _ => (exponent, significand),
    };
    let field = exponent + F::BIAS;
    let fraction = (significand & ((1 << 20) - 1)) << (F::PRECISION - 1 - 20);
    match field {
        _ if field >= F::EXP_MAX => infinity::<F>(sign),
        1.. => join::<F>(sign, field, fraction),
        _ if env.flush_to_zero != FlushToZero::Off => join::<F>(sign, 0, 0),
        _ => {
            let whole = 1 << (F::PRECISION - 1) | fraction;
            join::<F>(sign, 0, whole.checked_shr((1 - field).unsigned_abs()).unwrap_or(0))
        }
    }
}

/// An environment for bfloat16: to nearest, without denormals.
fn brain_env() -> Env {
    let mut env = Env::x86_sse(Rounding::NearestEven);
    env.denormals_are_zero = true;
    env.flush_to_zero = FlushToZero::UnderflowInexact;
    env
}

fn brain(value: u64) -> u64 {
    F32::convert::<BF16>(&mut brain_env(), value as u32).into()
}

/// VDPBF16PS: c and two products.
fn brain_dot(c: u64, a: u64, b: u64) -> u64 {
    let mut env = brain_env();
    let half = |v: u64, i: u32| (v >> (16 * i) & 0xffff) as u32 * 0x1_0000;
    let sum = [1, 0].into_iter().fold(c as u32, |sum, i| {
        F32::fma(&mut env, half(a, i), half(b, i), sum, softfloat::MulAdd::ADD)
    });
    sum.into()
}
