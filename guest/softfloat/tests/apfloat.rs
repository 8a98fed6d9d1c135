//! Every operation of every format against `rustc_apfloat`: results and flags, five modes.

mod common;

use common::{MODES, Pair, Random, check, flags};
use rustc_apfloat::{Float as ApFloat, FloatConvert, Status, StatusAnd};
use softfloat::{
    BF16, Env, F16, F32, F64, F80, F128, Flags, Inexact, IntOverflow, Integer, MulAdd, Quotient,
    Relation, Rounding,
};

const ROUNDS: usize = 3000;

#[test]
fn addition_and_subtraction_agree() {
    fn run<F: Pair>() {
        let mut random = Random::new(1);
        for _ in 0..ROUNDS {
            let (a, b) = random.couple::<F>();
            for (rounding, round) in MODES {
                let mut env = Env::riscv(rounding);
                let result = F::add(&mut env, a, b);
                let StatusAnd { status, value } = F::ap(a).add_r(F::ap(b), round);
                check::<F>("add", &[a, b], &env, result, value, status);
                let mut env = Env::riscv(rounding);
                let result = F::sub(&mut env, a, b);
                let StatusAnd { status, value } = F::ap(a).sub_r(F::ap(b), round);
                check::<F>("sub", &[a, b], &env, result, value, status);
            }
        }
    }
    for_each_format!(run);
}

#[test]
fn multiplication_and_division_agree() {
    fn run<F: Pair>() {
        let mut random = Random::new(2);
        for _ in 0..ROUNDS {
            let (a, b) = random.couple::<F>();
            for (rounding, round) in MODES {
                let mut env = Env::riscv(rounding);
                let result = F::mul(&mut env, a, b);
                let StatusAnd { status, value } = F::ap(a).mul_r(F::ap(b), round);
                check::<F>("mul", &[a, b], &env, result, value, status);
                let mut env = Env::riscv(rounding);
                let result = F::div(&mut env, a, b);
                let StatusAnd { status, value } = F::ap(a).div_r(F::ap(b), round);
                check::<F>("div", &[a, b], &env, result, value, status);
            }
        }
    }
    for_each_format!(run);
}

#[test]
fn fused_multiply_add_agrees() {
    fn run<F: Pair>() {
        let mut random = Random::new(3);
        for _ in 0..ROUNDS {
            let (a, b) = random.couple::<F>();
            let product = F::mul(&mut Env::default(), a, b);
            let c = if random.below(2) == 0 && !F::is_nan(product) {
                random.near::<F>(product)
            } else {
                random.operand::<F>()
            };
            for (rounding, round) in MODES {
                let mut env = Env::riscv(rounding);
                let result = F::fma(&mut env, a, b, c, MulAdd::ADD);
                let StatusAnd { status, value } = F::ap(a).mul_add_r(F::ap(b), F::ap(c), round);
                check::<F>("fma", &[a, b, c], &env, result, value, status);
            }
        }
    }
    for_each_format!(run);
}

#[test]
fn negated_forms_of_fused_multiply_add_agree_with_negated_operands() {
    fn run<F: Pair>() {
        let mut random = Random::new(4);
        for _ in 0..ROUNDS {
            let (a, b) = random.couple::<F>();
            let c = random.operand::<F>();
            for (form, a1, c1) in [
                (MulAdd::SUB, a, F::negate(c)),
                (MulAdd::NEG_ADD, F::negate(a), c),
                (MulAdd::NEG_SUB, F::negate(a), F::negate(c)),
            ] {
                let (mut env, mut env1) = (Env::default(), Env::default());
                let result = F::fma(&mut env, a, b, c, form);
                let expected = F::fma(&mut env1, a1, b, c1, MulAdd::ADD);
                assert_eq!((result, env.flags), (expected, env1.flags), "{a:x?} {b:x?} {c:x?}");
            }
        }
    }
    for_each_format!(run);
}

#[test]
fn remainders_agree() {
    fn run<F: Pair>() {
        let mut random = Random::new(5);
        for _ in 0..ROUNDS / 6 {
            let (a, b) = random.couple::<F>();
            let mut env = Env::default();
            let result = F::rem(&mut env, a, b);
            let StatusAnd { status, value } = F::ap(a).ieee_rem(F::ap(b));
            check::<F>("rem", &[a, b], &env, result, value, status);
            let mut env = Env::default();
            let (result, _) = F::rem_quotient(&mut env, a, b, Quotient::Truncated);
            let StatusAnd { status, value } = F::ap(a).c_fmod(F::ap(b));
            check::<F>("fmod", &[a, b], &env, result, value, status);
        }
    }
    for_each_format!(run);
}

/// The root is checked by squaring it: the oracle's fused multiply-add gives the exact residue.
#[test]
fn square_roots_satisfy_their_definition() {
    fn run<F: Pair>() {
        let mut random = Random::new(6);
        let residue = |root: F::Bits, a: F::Bits| {
            let nearest = rustc_apfloat::Round::NearestTiesToEven;
            F::ap(root).mul_add_r(F::ap(root), -F::ap(a), nearest).value
        };
        for _ in 0..ROUNDS {
            let mut a = random.operand::<F>();
            let (_, exp, field) = common::fields::<F>(a);
            if exp < F::EXP_MAX {
                // Where neither squares overflow nor residues underflow.
                let exp = F::BIAS + (F::PRECISION as i32 & !1) + (exp & 1);
                let integer_bit = if F::EXPLICIT { 1 << (F::PRECISION - 1) } else { 0 };
                a = common::assemble::<F>(false, exp, field | integer_bit);
            } else {
                continue;
            }
            let root = |rounding| {
                let mut env = Env::riscv(rounding);
                let root = F::sqrt(&mut env, a);
                (root, env.flags)
            };
            let (down, inexact) = root(Rounding::TowardZero);
            let exact = residue(down, a).is_zero();
            assert_eq!(inexact, if exact { Flags::empty() } else { Flags::INEXACT }, "{a:x?}");
            let next = if exact { down } else { F::bits(F::ap(down).next_up().value.to_bits()) };
            if !exact {
                assert!(residue(down, a).is_negative(), "{} {a:x?} {down:x?}", F::NAME);
                assert!(!residue(next, a).is_negative(), "{} {a:x?} {down:x?}", F::NAME);
            }
            // Nearest is the upper one if a - down^2 exceeds down * ulp; there are no ties.
            let ulp = F::ap(next).sub_r(F::ap(down), rustc_apfloat::Round::TowardZero).value;
            let limit = F::ap(down).mul_r(ulp, rustc_apfloat::Round::TowardZero).value;
            let nearest = if -residue(down, a) > limit { next } else { down };
            assert_eq!(root(Rounding::NearestEven).0, nearest, "{} {a:x?}", F::NAME);
            assert_eq!(root(Rounding::NearestMaxMag).0, nearest, "{} {a:x?}", F::NAME);
            assert_eq!(root(Rounding::Down).0, down, "{} {a:x?}", F::NAME);
            assert_eq!(root(Rounding::Up).0, next, "{} {a:x?}", F::NAME);
        }
    }
    for_each_format!(run);
}

/// √(a × 4ⁿ) = √a × 2ⁿ carries the check above to all exponents.
#[test]
fn square_roots_scale() {
    fn run<F: Pair>() {
        let mut random = Random::new(7);
        for _ in 0..ROUNDS {
            let a = F::with_sign(random.operand::<F>(), false);
            let (_, exp, field) = common::fields::<F>(a);
            if exp == 0 || exp == F::EXP_MAX {
                continue;
            }
            let parity = (exp ^ F::BIAS) & 1;
            let middle = common::assemble::<F>(false, F::BIAS + parity, field);
            let (_, root_exp, root_field) =
                common::fields::<F>(F::sqrt(&mut Env::default(), middle));
            let shift = (exp - F::BIAS - parity) / 2;
            let expected = common::assemble::<F>(false, root_exp + shift, root_field);
            assert_eq!(F::sqrt(&mut Env::default(), a), expected, "{} {a:x?}", F::NAME);
        }
    }
    for_each_format!(run);
}

#[test]
fn comparisons_agree() {
    fn run<F: Pair>() {
        let mut random = Random::new(8);
        for _ in 0..ROUNDS {
            let (a, b) = random.couple::<F>();
            let expected = match F::ap(a).partial_cmp(&F::ap(b)) {
                None => Relation::Unordered,
                Some(std::cmp::Ordering::Less) => Relation::Less,
                Some(std::cmp::Ordering::Equal) => Relation::Equal,
                Some(std::cmp::Ordering::Greater) => Relation::Greater,
            };
            let invalid = |raise| if raise { Flags::INVALID } else { Flags::empty() };
            let mut env = Env::default();
            assert_eq!(F::compare(&mut env, a, b), expected, "{} {a:x?} {b:x?}", F::NAME);
            let signalling = F::is_signalling_nan(a) || F::is_signalling_nan(b);
            assert_eq!(common::arithmetic(&env), invalid(signalling));
            let mut env = Env::default();
            assert_eq!(F::compare_signalling(&mut env, a, b), expected);
            assert_eq!(common::arithmetic(&env), invalid(expected == Relation::Unordered));
            assert_eq!(F::is_signalling_nan(a), F::ap(a).is_signaling());
        }
    }
    for_each_format!(run);
}

#[test]
fn minima_and_maxima_agree() {
    fn run<F: Pair>() {
        let mut random = Random::new(9);
        for _ in 0..ROUNDS {
            let (a, b) = random.couple::<F>();
            let mut env = Env::default();
            let results = [
                (F::minimum(&mut env, a, b), F::ap(a).minimum(F::ap(b))),
                (F::maximum(&mut env, a, b), F::ap(a).maximum(F::ap(b))),
            ];
            for (result, expected) in results {
                let expected = if expected.is_nan() {
                    F::default_nan(&env)
                } else {
                    F::bits(expected.to_bits())
                };
                assert_eq!(result, expected, "{} {a:x?} {b:x?}", F::NAME);
            }
            let numbers = [
                (F::minimum_number(&mut env, a, b), results[0].0),
                (F::maximum_number(&mut env, a, b), results[1].0),
            ];
            for (result, propagating) in numbers {
                let expected = match (F::is_nan(a), F::is_nan(b)) {
                    (true, false) => b,
                    (false, true) => a,
                    _ => propagating,
                };
                assert_eq!(result, expected, "{} {a:x?} {b:x?}", F::NAME);
            }
            let signalling = F::is_signalling_nan(a) || F::is_signalling_nan(b);
            assert_eq!(env.flags.contains(Flags::INVALID), signalling);
        }
    }
    for_each_format!(run);
}

#[test]
fn conversions_between_formats_agree() {
    fn run<F: Pair, G: Pair>()
    where
        F::Ap: FloatConvert<G::Ap>,
    {
        let mut random = Random::new(10);
        for _ in 0..ROUNDS / 3 {
            let a = random.operand::<F>();
            for (rounding, round) in MODES {
                let mut env = Env::riscv(rounding);
                let result = F::convert::<G>(&mut env, a);
                let StatusAnd { status, value } = F::ap(a).convert_r(round, &mut false);
                // The oracle takes the quiet bit of an 80-bit NaN from the wrong place.
                let expected = if F::is_nan(a) { G::ap(G::default_nan(&env)) } else { value };
                let status = match (F::is_nan(a), F::is_signalling_nan(a)) {
                    (true, true) => Status::INVALID_OP,
                    (true, false) => Status::OK,
                    _ => status,
                };
                let what = format!("{} from {} {a:x?}", G::NAME, F::NAME);
                check::<G>(&what, &[], &env, result, expected, status);
            }
        }
    }
    fn from<F: Pair>()
    where
        F::Ap: FloatConvert<<F16 as Pair>::Ap>
            + FloatConvert<<BF16 as Pair>::Ap>
            + FloatConvert<<F32 as Pair>::Ap>
            + FloatConvert<<F64 as Pair>::Ap>
            + FloatConvert<<F80 as Pair>::Ap>
            + FloatConvert<<F128 as Pair>::Ap>,
    {
        run::<F, F16>();
        run::<F, BF16>();
        run::<F, F32>();
        run::<F, F64>();
        run::<F, F80>();
        run::<F, F128>();
    }
    for_each_format!(from);
}

#[test]
fn conversions_to_integers_agree() {
    fn to<F: Pair, I: Integer + Into<i128>>(a: F::Bits) {
        let width = I::BITS as usize;
        for (rounding, round) in MODES {
            let mut env = Env::riscv(rounding);
            let result: i128 = F::to_int::<I>(&mut env, a, None).into();
            let max = (1i128 << (I::BITS - u32::from(I::SIGNED))) - 1;
            let StatusAnd { status, value } = match (F::is_nan(a), I::SIGNED) {
                (true, _) => Status::INVALID_OP.and(max),
                (_, true) => F::ap(a).to_i128_r(width, round, &mut false),
                (_, false) => F::ap(a).to_u128_r(width, round, &mut false).map(|v| v as i128),
            };
            let context = format!("{} {a:x?} {rounding:?} {width}", F::NAME);
            assert_eq!((result, env.flags), (value, flags(status)), "{context}");
            let mut fixed = Env::default();
            let again: i128 = F::to_int::<I>(&mut fixed, a, Some(rounding)).into();
            assert_eq!((again, fixed.flags), (result, env.flags));
        }
    }
    fn run<F: Pair>() {
        let mut random = Random::new(11);
        for _ in 0..ROUNDS {
            let a = random.operand::<F>();
            to::<F, i8>(a);
            to::<F, u8>(a);
            to::<F, i16>(a);
            to::<F, u16>(a);
            to::<F, i32>(a);
            to::<F, u32>(a);
            to::<F, i64>(a);
            to::<F, u64>(a);
        }
    }
    for_each_format!(run);
}

#[test]
fn conversions_from_integers_agree() {
    fn run<F: Pair>() {
        let mut random = Random::new(12);
        for _ in 0..ROUNDS {
            let n = random.pattern(128);
            for (rounding, round) in MODES {
                let mut env = Env::riscv(rounding);
                let result = F::from_u64(&mut env, n as u64);
                let StatusAnd { status, value } = F::Ap::from_u128_r(n.into_low(), round);
                check::<F>(&format!("from u64 {n:x}"), &[], &env, result, value, status);
                let mut env = Env::riscv(rounding);
                let result = F::from_i64(&mut env, n as i64);
                let StatusAnd { status, value } = F::Ap::from_i128_r((n as i64).into(), round);
                check::<F>(&format!("from i64 {n:x}"), &[], &env, result, value, status);
                let mut env = Env::riscv(rounding);
                let result = F::from_i32(&mut env, n as i32);
                let StatusAnd { status, value } = F::Ap::from_i128_r((n as i32).into(), round);
                check::<F>(&format!("from i32 {n:x}"), &[], &env, result, value, status);
                let mut env = Env::riscv(rounding);
                let result = F::from_int(&mut env, n);
                let StatusAnd { status, value } = F::Ap::from_u128_r(n, round);
                check::<F>(&format!("from u128 {n:x}"), &[], &env, result, value, status);
            }
        }
    }
    for_each_format!(run);
}

trait IntoLow {
    fn into_low(self) -> u128;
}

impl IntoLow for u128 {
    fn into_low(self) -> u128 {
        u128::from(self as u64)
    }
}

#[test]
fn rounding_to_integral_agrees() {
    fn run<F: Pair>() {
        let mut random = Random::new(13);
        for _ in 0..ROUNDS {
            let a = random.operand::<F>();
            for (rounding, round) in MODES {
                let StatusAnd { status, value } = F::ap(a).round_to_integral(round);
                let mut env = Env::riscv(rounding);
                let result = F::round_to_integral(&mut env, a, None, Inexact::Raise);
                check::<F>("rint", &[a], &env, result, value, status);
                let mut env = Env::riscv(rounding);
                let result = F::round_to_integral(&mut env, a, None, Inexact::Suppress);
                check::<F>("round", &[a], &env, result, value, status & Status::INVALID_OP);
            }
        }
    }
    for_each_format!(run);
}

#[test]
fn modular_conversion_keeps_the_low_bits() {
    fn run<F: Pair>() {
        let mut random = Random::new(14);
        for _ in 0..ROUNDS {
            let a = random.operand::<F>();
            let mut env = Env::riscv(Rounding::Up);
            let result = F::to_i32_modular(&mut env, a);
            let mut plain = Env { int_overflow: IntOverflow::SaturateNanZero, ..Env::default() };
            let exact: i128 = F::to_int(&mut plain, a, Some(Rounding::TowardZero));
            if plain.flags.contains(Flags::INVALID) {
                assert!(env.flags == Flags::INVALID);
                continue;
            }
            assert_eq!(result, exact as i32, "{} {a:x?}", F::NAME);
            let expected = if i32::try_from(exact).is_ok() { plain.flags } else { Flags::INVALID };
            assert_eq!(env.flags, expected, "{} {a:x?}", F::NAME);
        }
    }
    for_each_format!(run);
}
