//! The formats: how sign, exponent and significand sit in the bits.

use crate::word::Significand;
use std::fmt::Debug;
use std::hash::Hash;

/// A binary interchange or extended format of IEEE 754.
pub trait Format: Copy + Debug + 'static {
    /// The integer that holds an encoding.
    type Bits: Copy + Eq + Ord + Hash + Debug + Default + Into<u128> + TryFrom<u128> + Send + Sync;
    /// The word significands are computed in; at least two bits wider than [`Format::PRECISION`].
    type Word: Significand;

    /// Width of the exponent field.
    const EXP_BITS: u32;
    /// Bits of significand, the integer bit included.
    const PRECISION: u32;
    /// Whether the integer bit is stored.
    const EXPLICIT: bool;
    /// What is added to the exponent of a number.
    const BIAS: i32 = (1 << (Self::EXP_BITS - 1)) - 1;
    /// The exponent field of infinities and NaNs.
    const EXP_MAX: i32 = (1 << Self::EXP_BITS) - 1;
    /// Bits of the word below the significand.
    const SPARE: u32 = <Self::Word as crate::word::Word>::BITS - Self::PRECISION;
    /// Bits of an encoding.
    const WIDTH: u32 = 1 + Self::EXP_BITS + Self::PRECISION - !Self::EXPLICIT as u32;

    /// Sign, exponent field, and the field below it.
    fn split(bits: Self::Bits) -> (bool, i32, Self::Word);
    /// The encoding of what [`Format::split`] returns; the fields must fit.
    fn join(sign: bool, exp: i32, field: Self::Word) -> Self::Bits;
}

macro_rules! formats {
    ($($(#[$doc:meta])* $name:ident: $bits:ty, $word:ty, $exp:literal, $precision:literal, $explicit:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub enum $name {}

        impl Format for $name {
            type Bits = $bits;
            type Word = $word;
            const EXP_BITS: u32 = $exp;
            const PRECISION: u32 = $precision;
            const EXPLICIT: bool = $explicit;

            #[inline]
            fn split(bits: $bits) -> (bool, i32, $word) {
                const FIELD: u32 = <$name as Format>::WIDTH - 1 - $exp;
                let exp = (bits >> FIELD) as i32 & Self::EXP_MAX;
                let field = bits & ((1 << FIELD) - 1);
                (bits >> (Self::WIDTH - 1) & 1 != 0, exp, <$word>::from(field))
            }

            #[inline]
            fn join(sign: bool, exp: i32, field: $word) -> $bits {
                const FIELD: u32 = <$name as Format>::WIDTH - 1 - $exp;
                <$bits>::from(sign) << (Self::WIDTH - 1) | (exp as $bits) << FIELD | field as $bits
            }
        }
    )*};
}

formats! {
    /// IEEE binary16, “half”.
    F16: u16, u64, 5, 11, false;
    /// bfloat16: the upper half of binary32.
    BF16: u16, u64, 8, 8, false;
    /// IEEE binary32, “single”.
    F32: u32, u64, 8, 24, false;
    /// IEEE binary64, “double”.
    F64: u64, u64, 11, 53, false;
    /// x87 double extended precision, in the lower 80 bits.
    F80: u128, u128, 15, 64, true;
    /// IEEE binary128, “quad”.
    F128: u128, u128, 15, 113, false;
}

impl F80 {
    /// The encoding from the sign-and-exponent word and the significand, as FSTP stores them.
    #[must_use]
    pub fn from_parts(sign_exp: u16, significand: u64) -> u128 {
        u128::from(sign_exp) << 64 | u128::from(significand)
    }

    /// The sign-and-exponent word and the significand.
    #[must_use]
    pub fn to_parts(bits: u128) -> (u16, u64) {
        ((bits >> 64) as u16, bits as u64)
    }
}
