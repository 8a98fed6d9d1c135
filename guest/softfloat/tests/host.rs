//! Singles and doubles against the host's own arithmetic (to nearest), and every half and bfloat16.

mod common;

use common::{Pair, Random};
use softfloat::{
    BF16, Class, Env, F16, F32, F64, F80, F128, Flags, Float, Inexact, IntOverflow, MulAdd,
    Quotient, Rounding,
};

const ROUNDS: usize = 20_000;

/// NaNs of the host have whatever sign and payload; all others must be the same.
#[track_caller]
fn same64(ours: u64, host: f64) {
    assert!(ours == host.to_bits() || (F64::is_nan(ours) && host.is_nan()), "{ours:x}, not {host}");
}

#[track_caller]
fn same32(ours: u32, host: f32) {
    assert!(ours == host.to_bits() || (F32::is_nan(ours) && host.is_nan()), "{ours:x}, not {host}");
}

#[test]
fn doubles_agree_with_the_host() {
    let mut random = Random::new(21);
    let env = &mut Env::default();
    for _ in 0..ROUNDS {
        let (a, b) = random.couple::<F64>();
        let c = random.operand::<F64>();
        let (x, y, z) = (f64::from_bits(a), f64::from_bits(b), f64::from_bits(c));
        same64(F64::add(env, a, b), x + y);
        same64(F64::sub(env, a, b), x - y);
        same64(F64::mul(env, a, b), x * y);
        same64(F64::div(env, a, b), x / y);
        same64(F64::sqrt(env, a), x.sqrt());
        same64(F64::fma(env, a, b, c, MulAdd::ADD), x.mul_add(y, z));
        same64(F64::rem_quotient(env, a, b, Quotient::Truncated).0, x % y);
        same64(F64::round_to_integral(env, a, None, Inexact::Raise), x.round_ties_even());
        same32(F64::convert::<F32>(env, a), x as f32);
        same64(F64::from_i64(env, a as i64), a as i64 as f64);
        same64(F64::from_u64(env, a), a as f64);
        assert_eq!(F64::lt(env, a, b), x < y);
        assert_eq!(F64::le(env, a, b), x <= y);
        assert_eq!(F64::eq(env, a, b), x == y);
    }
}

#[test]
fn singles_agree_with_the_host() {
    let mut random = Random::new(22);
    let env = &mut Env::default();
    for _ in 0..ROUNDS {
        let (a, b) = random.couple::<F32>();
        let c = random.operand::<F32>();
        let (x, y, z) = (f32::from_bits(a), f32::from_bits(b), f32::from_bits(c));
        same32(F32::add(env, a, b), x + y);
        same32(F32::sub(env, a, b), x - y);
        same32(F32::mul(env, a, b), x * y);
        same32(F32::div(env, a, b), x / y);
        same32(F32::sqrt(env, a), x.sqrt());
        same32(F32::fma(env, a, b, c, MulAdd::ADD), x.mul_add(y, z));
        same32(F32::rem_quotient(env, a, b, Quotient::Truncated).0, x % y);
        same64(F32::convert::<F64>(env, a), f64::from(x));
        same32(F32::from_i32(env, a as i32), a as i32 as f32);
        same32(F32::from_u32(env, a), a as f32);
    }
}

#[test]
fn saturating_conversions_agree_with_the_host() {
    let mut random = Random::new(23);
    // The host's `as` turns NaN into 0, which is Arm's rule.
    let int_overflow = IntOverflow::SaturateNanZero;
    let env = &mut Env { rounding: Rounding::TowardZero, int_overflow, ..Env::default() };
    for _ in 0..ROUNDS {
        let a = random.operand::<F64>();
        let x = f64::from_bits(a);
        assert_eq!(F64::to_i32(env, a), x as i32);
        assert_eq!(F64::to_u32(env, a), x as u32);
        assert_eq!(F64::to_i64(env, a), x as i64);
        assert_eq!(F64::to_u64(env, a), x as u64);
        assert_eq!(F64::to_int::<i16>(env, a, None), x as i16);
        assert_eq!(F64::to_int::<u8>(env, a, None), x as u8);
        assert_eq!(F64::to_int::<i128>(env, a, None), x as i128);
        assert_eq!(F64::to_int::<u128>(env, a, None), x as u128);
    }
}

/// A double holds exact products and sums of two short numbers, and square roots far enough that
/// rounding twice does no harm.
fn short<F: Pair<Bits = u16>>() {
    let mut random = Random::new(24);
    let wide = |a| f64::from_bits(F::convert::<F64>(&mut Env::default(), a));
    let narrow = |x: f64, rounding| {
        let mut env = Env::riscv(rounding);
        let result = F64::convert::<F>(&mut env, x.to_bits());
        (result, env.flags.riscv())
    };
    for a in 0..=u16::MAX {
        let b = random.operand::<F>();
        for (rounding, _) in common::MODES {
            let mut env = Env::riscv(rounding);
            let product = F::mul(&mut env, a, b);
            if !F::is_nan(product) {
                let expected = narrow(wide(a) * wide(b), rounding);
                assert_eq!((product, env.flags.riscv()), expected, "{a:x} {b:x} {rounding:?}");
            }
        }
        let root = F::sqrt(&mut Env::default(), a);
        if !F::is_nan(root) {
            assert_eq!(root, narrow(wide(a).sqrt(), Rounding::NearestEven).0, "{a:x}");
        }
        let quotient = F::div(&mut Env::default(), a, b);
        if !F::is_nan(quotient) {
            let expected = narrow(wide(a) / wide(b), Rounding::NearestEven).0;
            assert_eq!(quotient, expected, "{a:x} {b:x}");
        }
    }
}

#[test]
fn every_half_agrees_with_doubles() {
    short::<F16>();
}

#[test]
fn every_bfloat16_agrees_with_doubles() {
    short::<BF16>();
}

/// Widening loses nothing: the way back gives the same bits, quiet.
#[test]
fn widening_and_narrowing_is_the_identity() {
    fn via<F: Pair<Bits = u16>, G: Pair>() {
        for a in 0..=u16::MAX {
            let env = &mut Env::arm(Rounding::Up);
            let back = {
                let wide = F::convert::<G>(env, a);
                G::convert::<F>(env, wide)
            };
            let quiet = if F::is_nan(a) { 1 << (F::PRECISION - 2) } else { 0 };
            assert_eq!(back, a | quiet);
            let expected = if F::is_signalling_nan(a) { Flags::INVALID } else { Flags::empty() };
            assert_eq!(common::arithmetic(env), expected);
        }
    }
    via::<F16, F32>();
    via::<F16, F64>();
    via::<F16, F80>();
    via::<F16, F128>();
    via::<BF16, F32>();
    via::<BF16, F64>();
    via::<BF16, F80>();
    via::<BF16, F128>();
}

#[test]
fn every_half_converts_to_integers_and_integral_values() {
    for a in 0..=u16::MAX {
        if F16::is_nan(a) || F16::classify(a) == Class::PositiveInfinity {
            continue;
        }
        let x = f64::from_bits(F16::convert::<F64>(&mut Env::default(), a));
        for (rounding, expected) in [
            (Rounding::NearestEven, x.round_ties_even()),
            (Rounding::NearestMaxMag, x.round()),
            (Rounding::TowardZero, x.trunc()),
            (Rounding::Down, x.floor()),
            (Rounding::Up, x.ceil()),
        ] {
            let mut env = Env::riscv(rounding);
            let integral = F16::round_to_integral(&mut env, a, None, Inexact::Raise);
            same64(F16::convert::<F64>(&mut Env::default(), integral), expected);
            assert_eq!(env.flags.contains(Flags::INEXACT), expected != x);
            assert_eq!(F16::to_i32(&mut env, a), expected as i32);
            assert_eq!(F16::to_u64(&mut env, a), expected as u64);
        }
    }
}
