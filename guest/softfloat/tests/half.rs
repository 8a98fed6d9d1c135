//! Half precision computed as single and rounded once more is half precision: what lets a host
//! without arithmetic of that format compute in it, results and flags.

use softfloat::{Env, F16, F32, Float, Rounding};

const MODES: [Rounding; 4] =
    [Rounding::NearestEven, Rounding::TowardZero, Rounding::Down, Rounding::Up];
/// Operands that meet every other: edges of the format, and digits of all lengths.
const PARTNERS: [u16; 20] = [
    0x0000, 0x8001, 0x0002, 0x03ff, 0x0400, 0x8401, 0x07ff, 0x1555, 0x2aaa, 0x3bff, 0x3c00, 0xbc01,
    0x3fff, 0x4248, 0x57ff, 0x63fd, 0x7801, 0x7bff, 0xfc00, 0x7d01,
];

/// Partners of each operand.
const PER_OPERAND: usize = 4;

/// A result and the flags.
fn with<T>(mode: Rounding, act: impl FnOnce(&mut Env) -> T) -> (T, u8) {
    let mut env = Env::riscv(mode);
    let value = act(&mut env);
    (value, env.flags.riscv())
}

fn through_single(
    mode: Rounding,
    [a, b]: [u16; 2],
    op: fn(&mut Env, u32, u32) -> u32,
) -> (u16, u8) {
    with(mode, |env| {
        let (a, b) = (F16::convert::<F32>(env, a), F16::convert::<F32>(env, b));
        let single = op(env, a, b);
        F32::convert::<F16>(env, single)
    })
}

type Op = (fn(&mut Env, u16, u16) -> u16, fn(&mut Env, u32, u32) -> u32);

#[test]
fn sums_products_and_quotients_round_once() {
    let ops: [Op; 4] =
        [(F16::add, F32::add), (F16::sub, F32::sub), (F16::mul, F32::mul), (F16::div, F32::div)];
    for a in 0..=u16::MAX {
        for turn in 0..PER_OPERAND {
            // A partner whose digits change with the operand.
            let index = (usize::from(a) + turn * 7) % PARTNERS.len();
            let b = PARTNERS[index] ^ a.rotate_left(7) & 0x03f0;
            for (mode, (i, (half, single))) in MODES
                .into_iter()
                .flat_map(|mode| ops.into_iter().enumerate().map(move |op| (mode, op)))
            {
                for [a, b] in [[a, b], [b, a]] {
                    let direct = with(mode, |env| half(env, a, b));
                    let found = through_single(mode, [a, b], single);
                    assert_eq!(found, direct, "{a:#x} {b:#x} operation {i} {mode:?}");
                }
            }
        }
    }
}

#[test]
fn roots_round_once() {
    for a in 0..=u16::MAX {
        for mode in MODES {
            let direct = with(mode, |env| F16::sqrt(env, a));
            let found = through_single(mode, [a, 0], |env, a, _| F32::sqrt(env, a));
            assert_eq!(found, direct, "{a:#x} {mode:?}");
        }
    }
}

#[test]
fn integers_round_once() {
    let around = |x: i64| [x - 1, x, x + 1];
    let edges = (0..63).flat_map(|bit| {
        let power = 1_i64 << bit;
        [power, power + (power >> 11), power + (power >> 12), power | power >> 24]
    });
    let all = edges.flat_map(around).chain(-70_000..70_000).chain([i64::MIN, i64::MAX]);
    for x in all.flat_map(|x| [x, x.wrapping_neg()]) {
        for mode in MODES {
            let signed = with(mode, |env| F16::from_i64(env, x));
            let found = with(mode, |env| {
                let single = F32::from_i64(env, x);
                F32::convert::<F16>(env, single)
            });
            assert_eq!(found, signed, "{x} {mode:?}");
            let unsigned = with(mode, |env| F16::from_u64(env, x.cast_unsigned()));
            let found = with(mode, |env| {
                let single = F32::from_u64(env, x.cast_unsigned());
                F32::convert::<F16>(env, single)
            });
            assert_eq!(found, unsigned, "{} {mode:?}", x.cast_unsigned());
        }
    }
}
