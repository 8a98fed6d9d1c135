//! What the oracle tests share: the formats paired with `rustc_apfloat`'s, and operands that sit
//! where arithmetic goes wrong.

#![allow(dead_code)]

use rustc_apfloat::{Float as ApFloat, Round, Status, ieee};
use softfloat::{BF16, Env, F16, F32, F64, F80, F128, Flags, Float, Format, Rounding};

/// A format and the oracle's idea of it.
pub trait Pair: Float {
    type Ap: ApFloat;
    const NAME: &'static str;

    fn ap(bits: Self::Bits) -> Self::Ap {
        Self::Ap::from_bits(bits.into())
    }

    fn bits(raw: u128) -> Self::Bits {
        let Ok(bits) = Self::Bits::try_from(raw) else { panic!("{raw:#x} is too wide") };
        bits
    }
}

macro_rules! pairs {
    ($($format:ty => $ap:ty;)*) => {$(
        impl Pair for $format {
            type Ap = $ap;
            const NAME: &'static str = stringify!($format);
        }
    )*};
}

pairs! {
    F16 => ieee::Half;
    BF16 => ieee::BFloat;
    F32 => ieee::Single;
    F64 => ieee::Double;
    F80 => ieee::X87DoubleExtended;
    F128 => ieee::Quad;
}

pub const MODES: [(Rounding, Round); 5] = [
    (Rounding::NearestEven, Round::NearestTiesToEven),
    (Rounding::TowardZero, Round::TowardZero),
    (Rounding::Down, Round::TowardNegative),
    (Rounding::Up, Round::TowardPositive),
    (Rounding::NearestMaxMag, Round::NearestTiesToAway),
];

/// Calls a generic function for every format.
#[macro_export]
macro_rules! for_each_format {
    ($function:ident) => {
        $function::<softfloat::F16>();
        $function::<softfloat::BF16>();
        $function::<softfloat::F32>();
        $function::<softfloat::F64>();
        $function::<softfloat::F80>();
        $function::<softfloat::F128>();
    };
}

pub fn flags(status: Status) -> Flags {
    [
        (Status::INVALID_OP, Flags::INVALID),
        (Status::DIV_BY_ZERO, Flags::DIV_BY_ZERO),
        (Status::OVERFLOW, Flags::OVERFLOW),
        (Status::UNDERFLOW, Flags::UNDERFLOW),
        (Status::INEXACT, Flags::INEXACT),
    ]
    .into_iter()
    .filter(|(bit, _)| status.intersects(*bit))
    .fold(Flags::empty(), |all, (_, flag)| all | flag)
}

/// The flags that RISC-V has.
pub fn arithmetic(env: &Env) -> Flags {
    Flags::from_bits(env.flags.riscv())
}

/// The same operands in every run.
pub struct Random(seeded::Random);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seeded::Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1))
    }

    pub fn next(&mut self) -> u64 {
        self.0.next()
    }

    pub fn below(&mut self, n: u64) -> u64 {
        ((self.next() >> 32) * n) >> 32
    }

    fn wide(&mut self) -> u128 {
        u128::from(self.next()) << 64 | u128::from(self.next())
    }

    /// Few set bits, few clear bits, runs, or anything.
    pub fn pattern(&mut self, width: u32) -> u128 {
        let mask = u128::MAX >> (128 - width);
        let bit = 1 << self.below(u64::from(width));
        mask & match self.below(9) {
            0 => 0,
            1 => 1,
            2 => bit,
            3 => !bit,
            4 => bit - 1,
            5 => !(bit - 1),
            6 => bit | 1 << self.below(u64::from(width)),
            7 => mask - u128::from(self.below(3)),
            _ => self.wide(),
        }
    }

    /// Zeros, subnormals, numbers at every boundary, infinities, NaNs, and plain numbers.
    pub fn operand<F: Pair>(&mut self) -> F::Bits {
        let max = F::EXP_MAX as u64;
        let bias = F::BIAS as u64;
        let precision = u64::from(F::PRECISION);
        let exp = match self.below(10) {
            0 => 0,
            1 => self.below(4),
            2 => max - self.below(4).min(max),
            3 => bias + self.below(9) - 4,
            4 | 5 => (bias + self.below(2 * precision + 5)).saturating_sub(precision + 2),
            6 => self.below(2 * precision),
            7 => bias / 2 + self.below(9) - 4,
            _ => self.below(max),
        };
        let exp = exp.min(max) as i32;
        let field = self.pattern(F::PRECISION - 1);
        let integer_bit = if F::EXPLICIT && exp != 0 { 1 << (F::PRECISION - 1) } else { 0 };
        assemble::<F>(self.next() >> 63 != 0, exp, field | integer_bit)
    }

    /// An operand close to another one: off by a few units or a power of two.
    pub fn near<F: Pair>(&mut self, bits: F::Bits) -> F::Bits {
        let (_, exp, field) = fields::<F>(bits);
        let exp = match self.below(4) {
            0 => (exp + self.below(5) as i32 - 2).clamp(0, F::EXP_MAX),
            _ => exp,
        };
        let mask = u128::MAX >> (128 - (F::PRECISION - 1));
        let moved = match self.below(3) {
            0 => field,
            1 => field ^ 1 << self.below(u64::from(F::PRECISION - 1)),
            _ => field.wrapping_add(u128::from(self.below(9))).wrapping_sub(4),
        };
        let integer_bit = if F::EXPLICIT && exp != 0 { 1 << (F::PRECISION - 1) } else { 0 };
        assemble::<F>(self.next() >> 63 != 0, exp, moved & mask | integer_bit)
    }

    /// Two operands, often close to each other.
    pub fn couple<F: Pair>(&mut self) -> (F::Bits, F::Bits) {
        let a = self.operand::<F>();
        let b = if self.below(3) == 0 { self.near::<F>(a) } else { self.operand::<F>() };
        (a, b)
    }
}

/// Width of what lies below the exponent.
fn field_width<F: Format>() -> u32 {
    F::WIDTH - 1 - F::EXP_BITS
}

/// Sign, exponent field and the field below.
pub fn fields<F: Pair>(bits: F::Bits) -> (bool, i32, u128) {
    let raw: u128 = bits.into();
    let width = field_width::<F>();
    let exp = (raw >> width) as i32 & F::EXP_MAX;
    (raw >> (F::WIDTH - 1) & 1 != 0, exp, raw & ((1 << width) - 1))
}

pub fn assemble<F: Pair>(sign: bool, exp: i32, field: u128) -> F::Bits {
    let raw = u128::from(sign) << (F::WIDTH - 1) | (exp as u128) << field_width::<F>() | field;
    F::bits(raw)
}

/// Whether the result is the largest finite number. The oracle does not report the overflow when a
/// directed rounding makes that of a larger one.
pub fn largest<F: Pair>(bits: F::Bits) -> bool {
    let (_, exp, field) = fields::<F>(bits);
    exp == F::EXP_MAX - 1 && field == (1 << field_width::<F>()) - 1
}

/// Whether the result is the smallest normal number. The oracle decides tininess after rounding to
/// the subnormal grid, where IEEE 754 says to unbounded exponent range: there the two may differ.
pub fn smallest_normal<F: Pair>(bits: F::Bits) -> bool {
    let (_, exp, field) = fields::<F>(bits);
    exp == 1 && field << (128 - (F::PRECISION - 1)) == 0
}

/// Asserts result and flags against the oracle's.
pub fn check<F: Pair>(
    what: &str,
    operands: &[F::Bits],
    env: &Env,
    result: F::Bits,
    expected: F::Ap,
    status: Status,
) {
    let context = || format!("{} {what} {operands:x?} {:?}", F::NAME, env.rounding);
    let expected_bits =
        if expected.is_nan() { F::default_nan(env) } else { F::bits(expected.to_bits()) };
    assert_eq!(result, expected_bits, "{}: {result:x?}, not {expected_bits:x?}", context());
    let doubtful = if smallest_normal::<F>(result) {
        Flags::UNDERFLOW
    } else if largest::<F>(result) {
        Flags::OVERFLOW
    } else {
        Flags::empty()
    };
    let of = |flags: Flags| flags | doubtful;
    assert_eq!(of(arithmetic(env)), of(flags(status)), "{}", context());
}
