//! What the instruction sets decide: NaNs, tininess, flushing, x87's encodings and precision.

mod common;

use common::{MODES, Pair, Random};
use rustc_apfloat::{Float as ApFloat, FloatConvert, Round, ieee};
use softfloat::{
    Class, Env, ExtendedPrecision, Extremum, ExtremumRule, F16, F32, F64, F80, F128, Flags, Float,
    FlushToZero, Inexact, InfZeroNan, IntOverflow, MulAdd, NanFraction, NanRule, Relation,
    Rounding, Tininess,
};

const NONE: Flags = Flags::empty();
const ONE: u32 = 0x3f80_0000;
const INF: u32 = 0x7f80_0000;
/// Quiet and signalling NaNs, told apart by their lowest digit.
const Q1: u32 = 0x7fc0_0001;
const Q2: u32 = 0xffc0_0002;
const S3: u32 = 0x7f80_0003;
const S4: u32 = 0xff80_0004;
const QUIET: u32 = 0x0040_0000;

fn with(nan: NanRule) -> Env {
    Env { nan, ..Env::default() }
}

#[test]
fn operations_return_the_nan_the_rule_names() {
    let table = [
        (NanRule::RISCV, Q2, Q1, 0x7fc0_0000, NONE),
        (NanRule::RISCV, Q2, S3, 0x7fc0_0000, Flags::INVALID),
        (NanRule::X86_SSE, ONE, Q2, Q2, NONE),
        (NanRule::X86_SSE, Q1, Q2, Q1, NONE),
        (NanRule::X86_SSE, Q1, S4, Q1, Flags::INVALID),
        (NanRule::X86_SSE, S4, Q1, S4 | QUIET, Flags::INVALID),
        (NanRule::X86_SSE, ONE, S4, S4 | QUIET, Flags::INVALID),
        (NanRule::X87, Q1, Q2, Q2, NONE),
        (NanRule::X87, Q2, Q2 & !(1 << 31), Q2 & !(1 << 31), NONE),
        (NanRule::X87, Q1, S4, Q1, Flags::INVALID),
        (NanRule::X87, S3, Q1, Q1, Flags::INVALID),
        (NanRule::X87, S3, S4, S4 | QUIET, Flags::INVALID),
        (NanRule::ARM, Q2, Q1, Q2, NONE),
        (NanRule::ARM, Q1, S4, S4 | QUIET, Flags::INVALID),
        (NanRule::ARM, S3, S4, S3 | QUIET, Flags::INVALID),
        (NanRule::ARM_DEFAULT_NAN, S3, S4, 0x7fc0_0000, Flags::INVALID),
    ];
    for (nan, a, b, expected, flags) in table {
        for operation in [F32::add, F32::sub, F32::mul, F32::div, F32::rem, F32::minimum] {
            let mut env = with(nan);
            assert_eq!(operation(&mut env, a, b), expected, "{nan:?} {a:x} {b:x}");
            assert_eq!(env.flags, flags, "{nan:?} {a:x} {b:x}");
        }
    }
}

#[test]
fn default_nans_follow_the_rule() {
    let fraction = |default_fraction| NanRule { default_fraction, ..NanRule::RISCV };
    for (nan, expected) in [
        (NanRule::RISCV, 0x7fc0_0000),
        (NanRule::X86_SSE, 0xffc0_0000),
        (NanRule::ARM, 0x7fc0_0000),
        (fraction(NanFraction::All), 0x7fff_ffff),
        (fraction(NanFraction::AllButTop), 0x7fbf_ffff),
        (fraction(NanFraction::Second), 0x7fa0_0000),
    ] {
        let mut env = with(nan);
        assert_eq!(F32::sub(&mut env, INF, INF), expected);
        assert_eq!(env.flags, Flags::INVALID);
    }
    assert_eq!(F80::default_nan(&with(NanRule::X87)), 0xffff_c000_0000_0000_0000);
    assert_eq!(F128::default_nan(&Env::default()), 0x7fff_8000 << 96);
}

#[test]
fn invalid_operations_raise_invalid_only() {
    let env = &mut Env::default();
    let negative = ONE | 1 << 31;
    let results = [
        F32::mul(env, INF, 0),
        F32::div(env, 0, 0),
        F32::div(env, INF, INF),
        F32::sqrt(env, negative),
        F32::rem(env, INF, ONE),
        F32::rem(env, ONE, 0),
        F32::fma(env, INF, 0, ONE, MulAdd::ADD),
        F32::fma(env, INF, ONE, INF, MulAdd::SUB),
    ];
    assert_eq!(results, [0x7fc0_0000; 8]);
    assert_eq!(env.flags, Flags::INVALID);
    assert_eq!(F32::sqrt(env, 1 << 31), 1 << 31);
}

#[test]
fn division_by_zero_is_exact_infinity() {
    let env = &mut Env::default();
    assert_eq!(F32::div(env, ONE, 1 << 31), INF | 1 << 31);
    assert_eq!(env.flags, Flags::DIV_BY_ZERO);
    env.flags = NONE;
    assert_eq!(F32::div(env, INF, 0), INF);
    assert_eq!(env.flags, NONE);
}

#[test]
fn fused_multiply_add_of_infinity_times_zero_and_a_nan() {
    let propagating = NanRule { inf_zero_nan: InfZeroNan::PropagateInvalid, ..NanRule::X86_SSE };
    for (nan, addend, expected, flags) in [
        (NanRule::RISCV, Q1, 0x7fc0_0000, Flags::INVALID),
        (NanRule::ARM, Q1, 0x7fc0_0000, Flags::INVALID),
        (NanRule::ARM, S3, S3 | QUIET, Flags::INVALID),
        (NanRule::X86_SSE, Q1, Q1, NONE),
        (NanRule::X86_SSE, S3, S3 | QUIET, Flags::INVALID),
        (propagating, Q1, Q1, Flags::INVALID),
    ] {
        for (a, b) in [(INF, 0), (0, INF)] {
            let mut env = with(nan);
            assert_eq!(F32::fma(&mut env, a, b, addend, MulAdd::NEG_SUB), expected);
            assert_eq!(env.flags, flags);
        }
    }
}

#[test]
fn fused_multiply_add_looks_at_operands_in_order() {
    let order = |fma_order| NanRule { fma_order, ..NanRule::X86_SSE };
    let (factors, addend, second) = (
        softfloat::FmaOrder::FactorsFirst,
        softfloat::FmaOrder::AddendFirst,
        softfloat::FmaOrder::AddendSecond,
    );
    for (rule, [a, b, c], expected) in [
        (order(factors), [Q1, Q2, S3], Q1),
        (order(factors), [ONE, Q2, S3], Q2),
        (order(addend), [Q1, Q2, S3], S3 | QUIET),
        (order(second), [ONE, Q2, S3], S3 | QUIET),
        (order(second), [Q1, Q2, S3], Q1),
        (NanRule::ARM, [S4, Q2, Q1], S4 | QUIET),
        (NanRule::ARM, [Q1, ONE, Q2], Q2),
    ] {
        assert_eq!(F32::fma(&mut with(rule), a, b, c, MulAdd::ADD), expected);
    }
}

#[test]
fn conversions_quiet_nans_and_keep_the_upper_payload() {
    let env = &mut Env::arm(Rounding::NearestEven);
    assert_eq!(F64::convert::<F32>(env, 0xfff8_0000_6000_0001), 0xffc0_0003);
    assert_eq!(env.flags, NONE);
    assert_eq!(F64::convert::<F32>(env, 0x7ff0_0000_0000_0001), 0x7fc0_0000);
    assert_eq!(env.flags, Flags::INVALID);
    assert_eq!(F32::convert::<F64>(env, S3), 0x7ff8_0000_6000_0000);
    assert_eq!(F32::convert::<F80>(env, Q2), 0xffff_c000_0200_0000_0000);
    assert_eq!(F80::convert::<F32>(env, 0xffff_c000_0200_0000_0000), Q2);
    assert_eq!(F32::convert::<F16>(env, 0x7fff_e000), 0x7fff);
}

#[test]
fn inverted_quiet_bit_swaps_the_kinds() {
    let mut env = with(NanRule {
        signalling_bit: true,
        default_fraction: NanFraction::AllButTop,
        ..NanRule::X86_SSE
    });
    assert_eq!(F32::classify_in(&env, Q1), Class::SignallingNan);
    assert_eq!(F32::classify_in(&env, S3), Class::QuietNan);
    assert_eq!(F32::add(&mut env, ONE, S3), S3);
    assert_eq!(env.flags, NONE);
    assert_eq!(F32::add(&mut env, ONE, Q1), 0xffbf_ffff);
    assert_eq!(env.flags, Flags::INVALID);
    // The payload below a half's lowest bit cannot survive.
    assert_eq!(F32::convert::<F16>(&mut env, S3), 0xfdff);
}

#[test]
fn extrema_follow_their_rules() {
    use ExtremumRule::{Number, Number2008, Propagating, SecondOperand};
    let minus_zero = 1 << 31;
    for (rule, a, b, min, max, flags) in [
        (Number, 0, minus_zero, minus_zero, 0, NONE),
        (Number, Q1, ONE, ONE, ONE, NONE),
        (Number, ONE, S3, ONE, ONE, Flags::INVALID),
        (Number, Q1, Q2, Q1, Q1, NONE),
        (Number2008, Q1, ONE, ONE, ONE, NONE),
        (Number2008, ONE, S3, S3 | QUIET, S3 | QUIET, Flags::INVALID),
        (Number2008, S3, Q1, S3 | QUIET, S3 | QUIET, Flags::INVALID),
        (Propagating, ONE, Q2, Q2, Q2, NONE),
        (Propagating, minus_zero, 0, minus_zero, 0, NONE),
        (SecondOperand, 0, minus_zero, minus_zero, minus_zero, NONE),
        (SecondOperand, minus_zero, 0, 0, 0, NONE),
        (SecondOperand, Q1, ONE, ONE, ONE, Flags::INVALID),
        (SecondOperand, ONE, S3, S3, S3, Flags::INVALID),
        (SecondOperand, ONE, INF, ONE, INF, NONE),
    ] {
        for (which, expected) in [(Extremum::Min, min), (Extremum::Max, max)] {
            let mut env = with(NanRule::X86_SSE);
            assert_eq!(
                F32::extremum(&mut env, a, b, which, rule),
                expected,
                "{rule:?} {a:x} {b:x}"
            );
            assert_eq!(env.flags, flags, "{rule:?} {a:x} {b:x}");
        }
    }
}

#[test]
fn numbers_that_fit_no_integer_follow_the_rule() {
    use IntOverflow::{Indefinite, SaturateNanMax, SaturateNanMin, SaturateNanZero};
    let (large, minus) = (0x4f80_0000, 0xcf80_0000); // ±2^32
    for (int_overflow, nan, above, below, unsigned) in [
        (SaturateNanMax, i32::MAX, i32::MAX, i32::MIN, [u32::MAX, u32::MAX, 0]),
        (SaturateNanZero, 0, i32::MAX, i32::MIN, [0, u32::MAX, 0]),
        (SaturateNanMin, i32::MIN, i32::MAX, i32::MIN, [0, u32::MAX, 0]),
        (Indefinite, i32::MIN, i32::MIN, i32::MIN, [u32::MAX; 3]),
    ] {
        let env = &mut Env { int_overflow, ..Env::default() };
        assert_eq!([Q2, large, minus].map(|a| F32::to_i32(env, a)), [nan, above, below]);
        assert_eq!([Q2, large, minus].map(|a| F32::to_u32(env, a)), unsigned);
        assert_eq!(env.flags, Flags::INVALID);
    }
}

#[test]
fn modular_conversion_of_large_numbers() {
    let env = &mut Env::default();
    let bits = |x: f64| x.to_bits();
    assert_eq!(F64::to_i32_modular(env, bits(4_294_967_296.0 * 3.0 + 5.0)), 5);
    assert_eq!(F64::to_i32_modular(env, bits(-4_294_967_301.0)), -5);
    assert_eq!(F64::to_i32_modular(env, bits(9.0e300)), 0);
    assert_eq!(F64::to_i32_modular(env, bits(f64::INFINITY)), 0);
    assert_eq!(F64::to_i32_modular(env, bits(f64::NAN)), 0);
    assert_eq!(env.flags, Flags::INVALID);
    // 2^112 + 1 scaled by 2^17: the low bit is bit 17 of an integer of 130 bits.
    assert_eq!(F128::to_i32_modular(env, (16383 + 129) << 112 | 1), 1 << 17);
    env.flags = NONE;
    assert_eq!(F64::to_i32_modular(env, bits(-2_147_483_648.5)), i32::MIN);
    assert_eq!(env.flags, Flags::INEXACT);
}

#[test]
fn classes_have_the_bits_of_fclass() {
    let operands = [INF | 1 << 31, ONE | 1 << 31, 0x8000_0001, 1 << 31, 0, 1, ONE, INF, S3, Q1];
    let masks = operands.map(|a| F32::classify(a).riscv_mask());
    assert_eq!(masks, std::array::from_fn(|bit| 1 << bit));
}

/// The formats with four more exponent bits: the oracle for a result “as if the exponent range were
/// unbounded”.
mod unbounded {
    use super::ieee;

    pub struct Half;
    pub struct Single;
    pub struct Double;

    impl ieee::Semantics for Half {
        const BITS: usize = 20;
        const EXP_BITS: usize = 9;
    }

    impl ieee::Semantics for Single {
        const BITS: usize = 36;
        const EXP_BITS: usize = 12;
    }

    impl ieee::Semantics for Double {
        const BITS: usize = 68;
        const EXP_BITS: usize = 15;
    }
}

/// Overflow, and underflow by either definition of tininess, from the unbounded result.
fn range_flags<F: Pair, S: ieee::Semantics>(seed: u64)
where
    F::Ap: FloatConvert<ieee::IeeeFloat<S>>,
{
    type Wide<S> = ieee::IeeeFloat<S>;
    let widen = |a: F::Bits| -> Wide<S> { F::ap(a).convert(&mut false).value };
    let smallest = common::assemble::<F>(false, 1, 0);
    let largest = F::bits(F::infinity(false).into() - 1);
    let mut random = Random::new(seed);
    for _ in 0..8000 {
        let a = random.operand::<F>();
        let edge = if random.below(4) == 0 { largest } else { smallest };
        let env = &mut Env::default();
        // b puts a × b, and c puts a × b + c, near an edge of the normal numbers.
        let quotient = F::div(env, edge, a);
        let b = random.near::<F>(quotient);
        let product = F::mul(env, a, b);
        let (_, exp, _) = common::fields::<F>(product);
        let c = if random.below(2) == 0 || exp == F::EXP_MAX {
            common::assemble::<F>(random.below(2) == 0, 0, 0)
        } else {
            let difference = F::sub(env, edge, product);
            random.near::<F>(difference)
        };
        if [a, b, c].iter().any(|&operand| F::is_nan(operand)) {
            continue;
        }
        for (rounding, round) in MODES {
            let wide = |round| widen(a).mul_add_r(widen(b), widen(c), round).value.abs();
            let (rounded, truncated) = (wide(round), wide(Round::TowardZero));
            if !rounded.is_finite() {
                continue;
            }
            let run = |tininess| {
                let mut env = Env { tininess, ..Env::riscv(rounding) };
                let result = F::fma(&mut env, a, b, c, MulAdd::ADD);
                (result, env.flags)
            };
            let (result, flags) = run(Tininess::AfterRounding);
            let (result_before, flags_before) = run(Tininess::Before);
            let context = format!("{} {a:x?} {b:x?} {c:x?} {rounding:?}", F::NAME);
            let inexact = flags.contains(Flags::INEXACT);
            let tiny = |x: Wide<S>| x < widen(smallest);
            let raised = |flag| (flags.contains(flag), flags_before.contains(flag));
            assert_eq!(result, result_before, "{context}");
            let expected = (inexact && tiny(rounded), inexact && tiny(truncated));
            assert_eq!(raised(Flags::UNDERFLOW), expected, "{context}");
            let overflow = rounded > widen(largest);
            assert_eq!(raised(Flags::OVERFLOW), (overflow, overflow), "{context}");
        }
    }
}

#[test]
fn overflow_and_underflow_agree_with_unbounded_results() {
    range_flags::<F16, unbounded::Half>(31);
    range_flags::<F32, unbounded::Single>(32);
    range_flags::<F64, unbounded::Double>(33);
}

#[test]
fn rounding_to_odd_is_truncation_with_a_mark() {
    fn run<F: Pair>() {
        let mut random = Random::new(34);
        for _ in 0..2000 {
            let (a, b) = random.couple::<F>();
            let c = random.operand::<F>();
            let all = |rounding| {
                let fresh = || Env::riscv(rounding);
                let mut results = Vec::new();
                let mut note = |operation: &dyn Fn(&mut Env) -> F::Bits| {
                    let mut env = fresh();
                    let result: u128 = operation(&mut env).into();
                    results.push((result, env.flags));
                };
                note(&|env| F::add(env, a, b));
                note(&|env| F::mul(env, a, b));
                note(&|env| F::div(env, a, b));
                note(&|env| F::sqrt(env, a));
                note(&|env| F::fma(env, a, b, c, MulAdd::ADD));
                note(&|env| F::from_i64(env, c.into() as i64));
                results
            };
            let odd = all(Rounding::ToOdd);
            let truncated = all(Rounding::TowardZero);
            for (odd, (bits, flags)) in odd.into_iter().zip(truncated) {
                let mark = u128::from(flags.contains(Flags::INEXACT));
                assert_eq!(odd, (bits | mark, flags), "{} {a:x?} {b:x?} {c:x?}", F::NAME);
            }
        }
    }
    for_each_format!(run);
}

/// Rounding to odd in a wider format and then to nearest is rounding once (RISC-V vfncvt.rod).
#[test]
fn rounding_to_odd_makes_double_rounding_safe() {
    let mut random = Random::new(35);
    for _ in 0..20_000 {
        let a = random.operand::<F128>();
        let odd = F128::convert::<F64>(&mut Env::riscv(Rounding::ToOdd), a);
        for (rounding, _) in MODES {
            let twice = F64::convert::<F32>(&mut Env::riscv(rounding), odd);
            assert_eq!(twice, F128::convert::<F32>(&mut Env::riscv(rounding), a), "{a:x}");
        }
    }
}

#[test]
fn tiny_results_are_flushed_when_asked() {
    let (smallest, half) = (0x0080_0000, 0x3f00_0000);
    for (flush_to_zero, result, flags) in [
        (FlushToZero::Off, 0x8040_0000, NONE),
        (FlushToZero::Underflow, 1 << 31, Flags::UNDERFLOW),
        (FlushToZero::UnderflowInexact, 1 << 31, Flags::UNDERFLOW | Flags::INEXACT),
    ] {
        let mut env = Env { flush_to_zero, ..Env::default() };
        assert_eq!(F32::mul(&mut env, smallest | 1 << 31, half), result);
        assert_eq!(env.flags, flags);
    }
    // Just below the smallest normal number: tiny before rounding, not tiny after.
    for (tininess, result) in [(Tininess::Before, 0), (Tininess::AfterRounding, smallest)] {
        let mut env = Env { flush_to_zero: FlushToZero::Underflow, tininess, ..Env::default() };
        assert_eq!(F32::mul(&mut env, 0x3f80_0001, 0x007f_ffff), result);
    }
}

#[test]
fn subnormal_operands_are_reported_or_flushed() {
    let mut env = Env::x86_sse(Rounding::NearestEven);
    assert_eq!(F32::add(&mut env, 1, ONE), ONE);
    assert_eq!(env.flags, Flags::INPUT_DENORMAL | Flags::INEXACT);
    let mut env = Env { denormals_are_zero: true, ..Env::x86_sse(Rounding::NearestEven) };
    assert_eq!(F32::add(&mut env, 0x8000_0001, 1 << 31), 1 << 31);
    assert_eq!(F32::compare(&mut env, 0x8000_0001, 1), Relation::Equal);
    assert_eq!(F32::convert::<F64>(&mut env, 1), 0);
    assert_eq!(F32::extremum(&mut env, 1, ONE, Extremum::Min, ExtremumRule::Number), 0);
    assert_eq!(env.flags, Flags::INPUT_FLUSHED);
    assert_eq!(F32::div(&mut env, ONE, 1), INF);
    assert_eq!(env.flags, Flags::INPUT_FLUSHED | Flags::DIV_BY_ZERO);
}

#[test]
fn unsupported_extended_encodings_are_invalid() {
    let one = 0x3fff_8000_0000_0000_0000;
    let indefinite = 0xffff_c000_0000_0000_0000;
    let unnormal = 0x3fff_4000_0000_0000_0000;
    let pseudo_infinity = 0x7fff_0000_0000_0000_0000;
    let pseudo_nan = 0x7fff_4000_0000_0000_0001;
    for odd in [unnormal, pseudo_infinity, pseudo_nan] {
        assert_eq!(F80::classify(odd), Class::Unsupported);
        let fresh = || Env::x87(Rounding::NearestEven);
        for operation in [F80::add, F80::sub, F80::mul, F80::div, F80::rem] {
            let mut env = fresh();
            assert_eq!(operation(&mut env, odd, one), indefinite);
            assert_eq!(operation(&mut env, 0x7fff_c000_0000_0000_0001, odd), indefinite);
            assert_eq!(env.flags, Flags::INVALID);
        }
        let mut env = fresh();
        assert_eq!(F80::sqrt(&mut env, odd), indefinite);
        assert_eq!(F80::convert::<F64>(&mut env, odd), 0xfff8_0000_0000_0000);
        assert_eq!(F80::to_i32(&mut env, odd), i32::MIN);
        assert_eq!(env.flags, Flags::INVALID);
        let mut env = fresh();
        assert_eq!(F80::compare(&mut env, odd, one), Relation::Unordered);
        assert_eq!(env.flags, Flags::INVALID);
    }
}

#[test]
fn pseudo_denormals_are_the_numbers_they_look_like() {
    let (pseudo, normal) = (0x8000_0000_0000_0001, 0x1_8000_0000_0000_0001);
    let mut env = Env::x87(Rounding::NearestEven);
    assert_eq!(F80::compare(&mut env, pseudo, normal), Relation::Equal);
    assert_eq!(F80::add(&mut env, pseudo, 0), normal);
    assert_eq!(env.flags, Flags::INPUT_DENORMAL);
    assert_eq!(F80::classify(pseudo), Class::PositiveSubnormal);
}

#[test]
fn precision_control_shortens_arithmetic_but_not_conversions() {
    let third = |extended_precision| {
        let mut env = Env { extended_precision, ..Env::x87(Rounding::NearestEven) };
        let (one, three) = (F80::from_i32(&mut env, 1), F80::from_i32(&mut env, 3));
        F80::div(&mut env, one, three)
    };
    assert_eq!(third(ExtendedPrecision::Single), 0x3ffd_aaaa_ab00_0000_0000);
    assert_eq!(third(ExtendedPrecision::Double), 0x3ffd_aaaa_aaaa_aaaa_a800);
    assert_eq!(third(ExtendedPrecision::Extended), 0x3ffd_aaaa_aaaa_aaaa_aaab);
    let mut env =
        Env { extended_precision: ExtendedPrecision::Single, ..Env::x87(Rounding::NearestEven) };
    assert_eq!(F80::from_i64(&mut env, i64::MAX), 0x403d_ffff_ffff_ffff_fffe);
    let long = 0x403d_ffff_ffff_ffff_ffff;
    assert_eq!(F80::round_to_integral(&mut env, long, None, Inexact::Raise), 0x403e_8000 << 48);
    assert_eq!(F80::rem(&mut env, long, F80::infinity(false)), long);
    let largest = 0x7ffe_ffff_ff00_0000_0000;
    env.rounding = Rounding::TowardZero;
    assert_eq!(F80::add(&mut env, largest, largest), largest);
}

#[test]
fn extended_numbers_come_in_parts() {
    let bits = F80::from_parts(0xbfff, 1 << 63);
    assert_eq!(F80::to_parts(bits), (0xbfff, 1 << 63));
    assert_eq!(F80::to_i32(&mut Env::default(), bits), -1);
}

#[test]
fn exact_zeros_take_their_sign_from_the_mode() {
    for (rounding, _) in MODES {
        let env = &mut Env::riscv(rounding);
        let zero = u32::from(rounding == Rounding::Down) << 31;
        assert_eq!(F32::sub(env, ONE, ONE), zero);
        assert_eq!(F32::add(env, 0, 1 << 31), zero);
        assert_eq!(F32::add(env, 1 << 31, 1 << 31), 1 << 31);
        assert_eq!(F32::fma(env, ONE, ONE, ONE, MulAdd::SUB), zero);
        assert_eq!(F32::fma(env, ONE, 0, 0, MulAdd::NEG_ADD), zero);
        assert_eq!(env.flags, NONE);
    }
}

#[test]
fn flags_accumulate_and_print() {
    let env = &mut Env::default();
    F32::div(env, ONE, 0);
    F32::div(env, ONE, 0x4040_0000);
    assert_eq!(env.flags.riscv(), 0b01001);
    assert_eq!(format!("{:?}", env.flags), r#"{"div_by_zero", "inexact"}"#);
}
