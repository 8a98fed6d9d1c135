//! What only RISC-V has: NaN boxing and the 7-bit estimates of the vector extension.

use crate::env::{Env, Flags};
use crate::format::Format;
use crate::nan::{invalid, propagate};
use crate::unpacked::{Kind, infinity, round_pack, unpack, zero};
use crate::word::Significand;

const CANONICAL_F16: u16 = 0x7e00;
const CANONICAL_BF16: u16 = 0x7fc0;
const CANONICAL_F32: u32 = 0x7fc0_0000;

/// The single in a 64-bit register; the canonical NaN if it is not boxed.
#[inline]
#[must_use]
pub const fn unbox_f32(register: u64) -> u32 {
    if register >> 32 == 0xffff_ffff { register as u32 } else { CANONICAL_F32 }
}

/// The half in a 64-bit register; the canonical NaN if it is not boxed.
#[inline]
#[must_use]
pub const fn unbox_f16(register: u64) -> u16 {
    if register >> 16 == 0xffff_ffff_ffff { register as u16 } else { CANONICAL_F16 }
}

/// The bfloat16 in a 64-bit register; the canonical NaN if it is not boxed.
#[inline]
#[must_use]
pub const fn unbox_bf16(register: u64) -> u16 {
    if register >> 16 == 0xffff_ffff_ffff { register as u16 } else { CANONICAL_BF16 }
}

/// A single as a 64-bit register holds it.
#[inline]
#[must_use]
pub const fn box_f32(bits: u32) -> u64 {
    bits as u64 | 0xffff_ffff_0000_0000
}

/// A half or bfloat16 as a 64-bit register holds it.
#[inline]
#[must_use]
pub const fn box_f16(bits: u16) -> u64 {
    bits as u64 | 0xffff_ffff_ffff_0000
}

/// The reciprocal estimate of vfrec7.v, good to 7 bits, for F16, F32 and F64.
///
/// The significand is that of the reciprocal of the middle of the interval that the upper 7
/// fraction bits name, rounded to 7 bits. That gives the manual's table.
pub fn rec7<F: Format>(env: &mut Env, bits: F::Bits) -> F::Bits {
    let a = unpack::<F>(env, bits);
    match a.kind {
        Kind::Infinite => zero::<F>(a.sign),
        Kind::Zero => {
            env.raise(Flags::DIV_BY_ZERO);
            infinity::<F>(a.sign)
        }
        Kind::Finite => {
            // The upper 8 bits and a half: twice the middle of the interval, in 1/256.
            let middle = 2 * upper_byte(a.sig) + 1;
            let significand = (65_536 + middle / 2) / middle;
            round_pack::<F>(env, a.sign, -1 - a.exp, aligned::<F>(significand))
        }
        _ => propagate::<F>(env, &[a]),
    }
}

/// The reciprocal square root estimate of vfrsqrt7.v, good to 7 bits, for F16, F32 and F64.
///
/// Made like [`rec7`]; the interval is named by the exponent's lowest bit and 6 fraction bits.
pub fn rsqrt7<F: Format>(env: &mut Env, bits: F::Bits) -> F::Bits {
    let a = unpack::<F>(env, bits);
    match a.kind {
        Kind::Zero => {
            env.raise(Flags::DIV_BY_ZERO);
            infinity::<F>(a.sign)
        }
        Kind::Finite | Kind::Infinite if a.sign => invalid::<F>(env),
        Kind::Infinite => zero::<F>(false),
        Kind::Finite => {
            let odd = a.exp & 1;
            // Twice the middle of the interval, in 1/128; doubled if the exponent is odd.
            let middle = (2 * (upper_byte(a.sig) >> 1) + 1) << odd;
            let scaled = (4 * 128 * 65_536u32 / middle).isqrt();
            round_pack::<F>(env, false, (-1 - a.exp) >> 1, aligned::<F>(scaled.div_ceil(2)))
        }
        _ => propagate::<F>(env, &[a]),
    }
}

/// The integer bit and the upper 7 fraction bits.
fn upper_byte<W: Significand>(sig: W) -> u32 {
    (sig.align_u128() >> 120) as u32
}

/// An 8-bit significand, aligned.
fn aligned<F: Format>(significand: u32) -> F::Word {
    F::Word::from_aligned_u128(u128::from(significand) << 120)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{F16, F32, F64, Rounding};

    #[test]
    fn boxing_round_trips_and_rejects_the_unboxed() {
        assert_eq!(unbox_f32(box_f32(0x1234_5678)), 0x1234_5678);
        assert_eq!(unbox_f16(box_f16(0x1234)), 0x1234);
        assert_eq!(unbox_bf16(box_f16(0x1234)), 0x1234);
        assert_eq!(unbox_f32(0x1234_5678), CANONICAL_F32);
        assert_eq!(unbox_f16(0xffff_ffff_0000_1234), CANONICAL_F16);
        assert_eq!(unbox_bf16(0xffff_fffe_ffff_1234), CANONICAL_BF16);
    }

    /// The manual's examples for vfrec7 and vfrsqrt7.
    #[test]
    fn estimates_match_the_examples_of_the_manual() {
        let env = &mut Env::riscv(Rounding::NearestEven);
        assert_eq!(rec7::<F32>(env, 0x0071_8abc), 0x7e90_0000);
        assert_eq!(rec7::<F32>(env, 0x7f76_5432), 0x0021_4000);
        assert_eq!(rsqrt7::<F32>(env, 0x0071_8abc), 0x5f08_0000);
        assert_eq!(rsqrt7::<F32>(env, 0x7f76_5432), 0x1f82_0000);
        assert!(env.flags.is_empty());
    }

    #[test]
    fn estimates_are_good_to_seven_bits() {
        let env = &mut Env::riscv(Rounding::NearestEven);
        for i in 0..0x8000u64 {
            let x = f64::from_bits(0x3ff0_0000_0000_0000 + (i << 38));
            let rec = f64::from_bits(rec7::<F64>(env, x.to_bits()));
            let rsqrt = f64::from_bits(rsqrt7::<F64>(env, x.to_bits()));
            assert!((rec * x - 1.0).abs() <= 1.0 / 128.0);
            assert!((rsqrt * x.sqrt() - 1.0).abs() <= 1.0 / 128.0);
        }
        assert!(env.flags.is_empty());
    }

    #[test]
    fn reciprocals_of_the_smallest_overflow_by_rounding_mode() {
        for (rounding, sign, expected) in [
            (Rounding::NearestEven, 0, 0x7c00),
            (Rounding::TowardZero, 0, 0x7bff),
            (Rounding::Down, 0x8000, 0xfc00),
            (Rounding::Up, 0x8000, 0xfbff),
        ] {
            let env = &mut Env::riscv(rounding);
            assert_eq!(rec7::<F16>(env, sign | 0xff), expected);
            assert_eq!(env.flags, Flags::OVERFLOW | Flags::INEXACT);
        }
    }

    #[test]
    fn estimates_of_special_operands() {
        for (a, rec, rec_flags, rsqrt, rsqrt_flags) in [
            (0x0000, 0x7c00, Flags::DIV_BY_ZERO, 0x7c00, Flags::DIV_BY_ZERO),
            (0x8000, 0xfc00, Flags::DIV_BY_ZERO, 0xfc00, Flags::DIV_BY_ZERO),
            (0x7c00, 0x0000, Flags::empty(), 0x0000, Flags::empty()),
            (0xfc00, 0x8000, Flags::empty(), 0x7e00, Flags::INVALID),
            (0xbc00, 0xbbf8, Flags::empty(), 0x7e00, Flags::INVALID),
            (0x7d00, 0x7e00, Flags::INVALID, 0x7e00, Flags::INVALID),
            (0xfe01, 0x7e00, Flags::empty(), 0x7e00, Flags::empty()),
        ] {
            let env = &mut Env::riscv(Rounding::NearestEven);
            assert_eq!((rec7::<F16>(env, a), env.flags), (rec, rec_flags), "rec7 {a:#x}");
            env.flags = Flags::empty();
            assert_eq!((rsqrt7::<F16>(env, a), env.flags), (rsqrt, rsqrt_flags), "rsqrt7 {a:#x}");
        }
    }
}
