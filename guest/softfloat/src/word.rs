//! Unsigned words that hold significands: 64, 128 and 256 bits.
//!
//! Only what the arithmetic needs, so that one generic body serves every format. A significand
//! lives in a [`Significand`] word (64 or 128 bits); exact products live in its double.

use std::fmt::Debug;
use std::ops::{BitAnd, BitOr, Shl, Shr};

/// An unsigned integer used as a fixed-point number.
pub trait Word:
    Copy
    + Ord
    + Debug
    + BitAnd<Output = Self>
    + BitOr<Output = Self>
    + Shl<u32, Output = Self>
    + Shr<u32, Output = Self>
{
    /// Number of bits.
    const BITS: u32;
    /// The number 0.
    const ZERO: Self;
    /// The number 1.
    const ONE: Self;

    /// Sum modulo 2^BITS.
    fn wrapping_add(self, other: Self) -> Self;
    /// Difference modulo 2^BITS.
    fn wrapping_sub(self, other: Self) -> Self;
    /// Number of zero bits above the highest one.
    fn leading_zeros(self) -> u32;

    /// The highest bit alone.
    #[inline]
    fn top() -> Self {
        Self::ONE << (Self::BITS - 1)
    }

    /// Whether the number is 0.
    #[inline]
    fn is_zero(self) -> bool {
        self == Self::ZERO
    }

    /// Whether the highest bit is set.
    #[inline]
    fn top_set(self) -> bool {
        self >= Self::top()
    }

    /// 1 for true, 0 for false.
    #[inline]
    fn from_bool(value: bool) -> Self {
        if value { Self::ONE } else { Self::ZERO }
    }

    /// The lowest `n` bits set, for `n` below BITS.
    #[inline]
    fn low_mask(n: u32) -> Self {
        (Self::ONE << n).wrapping_sub(Self::ONE)
    }

    /// Shift right by any amount; bits shifted out leave a mark in bit 0.
    #[inline]
    fn shr_sticky(self, n: u32) -> Self {
        if n == 0 {
            self
        } else if n < Self::BITS {
            (self >> n) | Self::from_bool(!(self << (Self::BITS - n)).is_zero())
        } else {
            Self::from_bool(!self.is_zero())
        }
    }
}

/// A word that holds one significand, with the double-width operations on it.
pub trait Significand: Word {
    /// Twice as many bits.
    type Double: Word;

    /// The exact product.
    fn full_mul(self, other: Self) -> Self::Double;
    /// `self` as the upper half, zeros below.
    fn into_upper(self) -> Self::Double;
    /// The upper half; a one anywhere below leaves a mark in bit 0.
    fn from_upper_sticky(double: Self::Double) -> Self;
    /// Quotient and remainder of `high:low / divisor`; needs `high < divisor` and the top bit of
    /// the divisor set.
    fn div_wide(high: Self, low: Self, divisor: Self) -> (Self, Self);
    /// The integer square root of a radicand whose upper two bits are not both 0, and whether it is
    /// exact.
    fn sqrt_wide(radicand: Self::Double) -> (Self, bool);
    /// The lowest 64 bits.
    fn low_u64(self) -> u64;
    /// The number left-aligned in 128 bits.
    fn align_u128(self) -> u128;
    /// A left-aligned number; bits that do not fit leave a mark in bit 0.
    fn from_aligned_u128(aligned: u128) -> Self;
    /// The number itself in 128 bits.
    fn to_u128(self) -> u128;
}

macro_rules! primitive_word {
    ($($t:ty),*) => {$(
        impl Word for $t {
            const BITS: u32 = <$t>::BITS;
            const ZERO: Self = 0;
            const ONE: Self = 1;

            #[inline]
            fn wrapping_add(self, other: Self) -> Self {
                <$t>::wrapping_add(self, other)
            }

            #[inline]
            fn wrapping_sub(self, other: Self) -> Self {
                <$t>::wrapping_sub(self, other)
            }

            #[inline]
            fn leading_zeros(self) -> u32 {
                <$t>::leading_zeros(self)
            }
        }
    )*};
}

primitive_word!(u64, u128);

impl Significand for u64 {
    type Double = u128;

    #[inline]
    fn full_mul(self, other: Self) -> u128 {
        u128::from(self) * u128::from(other)
    }

    #[inline]
    fn into_upper(self) -> u128 {
        u128::from(self) << 64
    }

    #[inline]
    fn from_upper_sticky(double: u128) -> Self {
        (double >> 64) as u64 | u64::from(double as u64 != 0)
    }

    #[inline]
    fn div_wide(high: Self, low: Self, divisor: Self) -> (Self, Self) {
        let dividend = u128::from(high) << 64 | u128::from(low);
        let quotient = (dividend / u128::from(divisor)) as u64;
        (quotient, low.wrapping_sub(quotient.wrapping_mul(divisor)))
    }

    #[inline]
    fn sqrt_wide(radicand: u128) -> (Self, bool) {
        let root = radicand.isqrt();
        (root as u64, root * root == radicand)
    }

    #[inline]
    fn low_u64(self) -> u64 {
        self
    }

    #[inline]
    fn align_u128(self) -> u128 {
        u128::from(self) << 64
    }

    #[inline]
    fn from_aligned_u128(aligned: u128) -> Self {
        Self::from_upper_sticky(aligned)
    }

    #[inline]
    fn to_u128(self) -> u128 {
        u128::from(self)
    }
}

impl Significand for u128 {
    type Double = U256;

    #[inline]
    fn full_mul(self, other: Self) -> U256 {
        const LOW: u128 = u64::MAX as u128;
        let (a1, a0, b1, b0) = (self >> 64, self & LOW, other >> 64, other & LOW);
        let (p00, p01, p10, p11) = (a0 * b0, a0 * b1, a1 * b0, a1 * b1);
        let middle = (p00 >> 64) + (p01 & LOW) + (p10 & LOW);
        U256 {
            high: p11 + (p01 >> 64) + (p10 >> 64) + (middle >> 64),
            low: middle << 64 | (p00 & LOW),
        }
    }

    #[inline]
    fn into_upper(self) -> U256 {
        U256 { high: self, low: 0 }
    }

    #[inline]
    fn from_upper_sticky(double: U256) -> Self {
        double.high | u128::from(double.low != 0)
    }

    fn div_wide(high: Self, low: Self, divisor: Self) -> (Self, Self) {
        let (upper, rest) = div_digit(high, (low >> 64) as u64, divisor);
        let (lower, rest) = div_digit(rest, low as u64, divisor);
        (u128::from(upper) << 64 | u128::from(lower), rest)
    }

    /// Square root by halves (Zimmermann, “Karatsuba Square Root”): the root of the upper half,
    /// then one division by its double gives the lower half, at most one too large.
    fn sqrt_wide(radicand: U256) -> (Self, bool) {
        let upper = radicand.high.isqrt();
        let rest = radicand.high - upper * upper;
        let (next, last) = ((radicand.low >> 64) as u64, radicand.low as u64);
        // (rest * 2^64 + next) / (2 * upper), halved on both sides so that it fits.
        let halved = rest << 63 | u128::from(next >> 1);
        let lower = halved / upper;
        let odd = (halved - lower * upper) << 1 | u128::from(next & 1);
        let mut root = (upper << 64).wrapping_add(lower);
        // The radicand left over is odd * 2^64 + last - lower^2.
        let left = U256 { high: odd >> 64, low: odd << 64 | u128::from(last) };
        let square = lower.full_mul(lower);
        if left < square {
            root = root.wrapping_sub(1);
        }
        (root, left == square)
    }

    #[inline]
    fn low_u64(self) -> u64 {
        self as u64
    }

    #[inline]
    fn align_u128(self) -> u128 {
        self
    }

    #[inline]
    fn from_aligned_u128(aligned: u128) -> Self {
        aligned
    }

    #[inline]
    fn to_u128(self) -> u128 {
        self
    }
}

/// One step of long division in base 2^64: `rest:digit / divisor` with `rest < divisor`.
fn div_digit(rest: u128, digit: u64, divisor: u128) -> (u64, u128) {
    let estimate = (rest / (divisor >> 64)).min(u128::from(u64::MAX));
    let dividend = U256 { high: rest >> 64, low: rest << 64 | u128::from(digit) };
    let (mut quotient, mut product) = (estimate as u64, estimate.full_mul(divisor));
    // The estimate uses the upper digit of the divisor only: at most two too large.
    while product > dividend {
        quotient -= 1;
        product = product.wrapping_sub(U256 { high: 0, low: divisor });
    }
    (quotient, dividend.wrapping_sub(product).low)
}

/// An unsigned 256-bit integer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct U256 {
    high: u128,
    low: u128,
}

impl BitAnd for U256 {
    type Output = Self;

    #[inline]
    fn bitand(self, other: Self) -> Self {
        Self { high: self.high & other.high, low: self.low & other.low }
    }
}

impl BitOr for U256 {
    type Output = Self;

    #[inline]
    fn bitor(self, other: Self) -> Self {
        Self { high: self.high | other.high, low: self.low | other.low }
    }
}

impl Shl<u32> for U256 {
    type Output = Self;

    #[inline]
    fn shl(self, n: u32) -> Self {
        match n {
            0 => self,
            1..=127 => Self { high: self.high << n | self.low >> (128 - n), low: self.low << n },
            _ => Self { high: self.low << (n - 128), low: 0 },
        }
    }
}

impl Shr<u32> for U256 {
    type Output = Self;

    #[inline]
    fn shr(self, n: u32) -> Self {
        match n {
            0 => self,
            1..=127 => Self { high: self.high >> n, low: self.low >> n | self.high << (128 - n) },
            _ => Self { high: 0, low: self.high >> (n - 128) },
        }
    }
}

impl Word for U256 {
    const BITS: u32 = 256;
    const ZERO: Self = Self { high: 0, low: 0 };
    const ONE: Self = Self { high: 0, low: 1 };

    #[inline]
    fn wrapping_add(self, other: Self) -> Self {
        let (low, carry) = self.low.overflowing_add(other.low);
        Self { high: self.high.wrapping_add(other.high).wrapping_add(u128::from(carry)), low }
    }

    #[inline]
    fn wrapping_sub(self, other: Self) -> Self {
        let (low, borrow) = self.low.overflowing_sub(other.low);
        Self { high: self.high.wrapping_sub(other.high).wrapping_sub(u128::from(borrow)), low }
    }

    #[inline]
    fn leading_zeros(self) -> u32 {
        if self.high != 0 { self.high.leading_zeros() } else { 128 + self.low.leading_zeros() }
    }
}
