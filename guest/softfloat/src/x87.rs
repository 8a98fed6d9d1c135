//! The transcendental instructions of the x87 (Intel SDM, volume 1, section 8.3).
//!
//! They are computed in binary128 and rounded to 64 bits once, as the rounding mode says: the error
//! is below 0.501 units in the last place, within the 1 ulp that the manual promises. Arguments of
//! trigonometric functions are reduced by a π of 66 bits, as the processors do, so that their error
//! against the mathematical functions grows with the argument. The precision control has no say.

use crate::env::{Env, Flags, Rounding};
use crate::float::Float;
use crate::format::{F80, F128};
use crate::nan::{invalid, propagate};
use crate::unpacked::{
    Kind, dissect, full_precision, infinity, note_denormals, overflow, round_pack, unpack, zero,
};
use crate::{Class, MulAdd, Quotient};

/// 1/n!, from n = 1.
const FACTORIALS: [u128; 30] = [
    0x3fff_0000_0000_0000_0000_0000_0000_0000,
    0x3ffe_0000_0000_0000_0000_0000_0000_0000,
    0x3ffc_5555_5555_5555_5555_5555_5555_5555,
    0x3ffa_5555_5555_5555_5555_5555_5555_5555,
    0x3ff8_1111_1111_1111_1111_1111_1111_1111,
    0x3ff5_6c16_c16c_16c1_6c16_c16c_16c1_6c17,
    0x3ff2_a01a_01a0_1a01_a01a_01a0_1a01_a01a,
    0x3fef_a01a_01a0_1a01_a01a_01a0_1a01_a01a,
    0x3fec_71de_3a55_6c73_38fa_ac1c_88e5_0017,
    0x3fe9_27e4_fb77_89f5_c72e_f016_d3ea_6679,
    0x3fe5_ae64_567f_544e_38fe_747e_4b83_7dc7,
    0x3fe2_1eed_8eff_8d89_7b54_4da9_87ac_fe85,
    0x3fde_6124_613a_86d0_97ca_3833_1d23_af68,
    0x3fda_9397_4a8c_07c9_d20b_adf1_45df_a3e5,
    0x3fd6_ae7f_3e73_3b81_f11d_8656_b0ee_8cb0,
    0x3fd2_ae7f_3e73_3b81_f11d_8656_b0ee_8cb0,
    0x3fce_952c_7703_0ad4_a6b2_6051_9777_1b00,
    0x3fca_6827_863b_97d9_77bb_0048_86a2_c2ab,
    0x3fc6_2f49_b468_1415_724c_a1ec_3b7b_9675,
    0x3fc1_e542_ba40_2022_507a_9cad_2bf8_f0bb,
    0x3fbd_71b8_ef6d_cf57_18be_f146_fcee_6e45,
    0x3fb9_0ce3_96db_7f85_2945_0c90_b7f3_38ec,
    0x3fb4_761b_4131_6381_9d97_b870_4dd7_f628,
    0x3faf_f2cf_0197_2f57_7cca_4b40_67ca_9d8a,
    0x3fab_3f3c_cdd1_65fa_8d4e_44a4_1977_6f11,
    0x3fa6_88e8_5fc6_a4e5_9a38_f205_0ba6_b015,
    0x3fa1_d1ab_1c2d_ccea_320a_9a18_f15d_4277,
    0x3f9d_0a18_a263_5085_d373_c5c5_1c35_4a8d,
    0x3f98_259f_98b4_358a_d7ab_e30e_7766_f129,
    0x3f93_3932_c504_7d60_e60c_aded_4c29_89c5,
];

/// 1/n, for odd n.
const ODD: [u128; 28] = [
    0x3fff_0000_0000_0000_0000_0000_0000_0000,
    0x3ffd_5555_5555_5555_5555_5555_5555_5555,
    0x3ffc_9999_9999_9999_9999_9999_9999_999a,
    0x3ffc_2492_4924_9249_2492_4924_9249_2492,
    0x3ffb_c71c_71c7_1c71_c71c_71c7_1c71_c71c,
    0x3ffb_745d_1745_d174_5d17_45d1_745d_1746,
    0x3ffb_3b13_b13b_13b1_3b13_b13b_13b1_3b14,
    0x3ffb_1111_1111_1111_1111_1111_1111_1111,
    0x3ffa_e1e1_e1e1_e1e1_e1e1_e1e1_e1e1_e1e2,
    0x3ffa_af28_6bca_1af2_86bc_a1af_286b_ca1b,
    0x3ffa_8618_6186_1861_8618_6186_1861_8618,
    0x3ffa_642c_8590_b216_42c8_590b_2164_2c86,
    0x3ffa_47ae_147a_e147_ae14_7ae1_47ae_147b,
    0x3ffa_2f68_4bda_12f6_84bd_a12f_684b_da13,
    0x3ffa_1a7b_9611_a7b9_611a_7b96_11a7_b961,
    0x3ffa_0842_1084_2108_4210_8421_0842_1084,
    0x3ff9_f07c_1f07_c1f0_7c1f_07c1_f07c_1f08,
    0x3ff9_d41d_41d4_1d41_d41d_41d4_1d41_d41d,
    0x3ff9_bacf_914c_1bac_f914_c1ba_cf91_4c1c,
    0x3ff9_a41a_41a4_1a41_a41a_41a4_1a41_a41a,
    0x3ff9_8f9c_18f9_c18f_9c18_f9c1_8f9c_18fa,
    0x3ff9_7d05_f417_d05f_417d_05f4_17d0_5f41,
    0x3ff9_6c16_c16c_16c1_6c16_c16c_16c1_6c17,
    0x3ff9_5c98_82b9_3105_7262_0ae4_c415_c988,
    0x3ff9_4e5e_0a72_f053_9782_9cbc_14e5_e0a7,
    0x3ff9_4141_4141_4141_4141_4141_4141_4141,
    0x3ff9_3521_cfb2_b78c_1352_1cfb_2b78_c135,
    0x3ff9_29e4_129e_4129_e412_9e41_29e4_129e,
];

/// The arctangents of eighths.
const ARCTANGENTS: [u128; 9] = [
    0x0000_0000_0000_0000_0000_0000_0000_0000,
    0x3ffb_fd5b_a9aa_c2f6_dc65_912f_313e_7d11,
    0x3ffc_f5b7_5f92_c80d_d62a_db8f_3deb_ef44,
    0x3ffd_6f61_941e_4def_08e7_1546_4245_b9fd,
    0x3ffd_dac6_7056_1bb4_f68a_dfc8_8bd9_7875,
    0x3ffe_1e00_babd_efeb_3f36_b906_bc2c_cb88,
    0x3ffe_4978_fa32_69ee_1248_3350_fe54_8afb,
    0x3ffe_700a_7c57_8463_3ce7_965b_4aa4_2149,
    0x3ffe_921f_b544_42d1_8469_898c_c517_01b8,
];

const ONE: u128 = 0x3fff_0000_0000_0000_0000_0000_0000_0000;
const TWO: u128 = 0x4000_0000_0000_0000_0000_0000_0000_0000;
const EIGHT: u128 = 0x4002_0000_0000_0000_0000_0000_0000_0000;
const PI: u128 = 0x4000_921f_b544_42d1_8469_898c_c517_01b8;
const HALF_PI: u128 = 0x3fff_921f_b544_42d1_8469_898c_c517_01b8;
/// π/2 from the 66 bits that processors have of π.
const HALF_PI_66: u128 = 0x3fff_921f_b544_42d1_8469_8000_0000_0000;
const LN_2: u128 = 0x3ffe_62e4_2fef_a39e_f357_93c7_6730_07e6;
const ONE_BY_LN_2: u128 = 0x3fff_7154_7652_b82f_e177_7d0f_fda0_d23a;
const TWO_BY_LN_2: u128 = 0x4000_7154_7652_b82f_e177_7d0f_fda0_d23a;
/// An exponent far below all numbers.
const TINY: i32 = -40_000;
/// √2: what logarithms are centred on ends here.
const SQRT_2: u128 = 0x3fff_6a09_e667_f3bc_c908_b2fb_1366_ea95;

/// Arithmetic on the way to a result: binary128, to nearest, flags forgotten.
struct Work(Env);

impl Work {
    fn new() -> Self {
        Self(Env::riscv(Rounding::NearestEven))
    }
    fn add(&mut self, a: u128, b: u128) -> u128 {
        F128::add(&mut self.0, a, b)
    }
    fn sub(&mut self, a: u128, b: u128) -> u128 {
        F128::sub(&mut self.0, a, b)
    }
    fn mul(&mut self, a: u128, b: u128) -> u128 {
        F128::mul(&mut self.0, a, b)
    }
    fn div(&mut self, a: u128, b: u128) -> u128 {
        F128::div(&mut self.0, a, b)
    }
    /// a · b + c
    fn fma(&mut self, a: u128, b: u128, c: u128) -> u128 {
        F128::fma(&mut self.0, a, b, c, MulAdd::ADD)
    }
    fn integer(&mut self, value: i32) -> u128 {
        F128::from_i32(&mut self.0, value)
    }
    fn widen(&mut self, a: u128) -> u128 {
        F80::convert::<F128>(&mut self.0, a)
    }

    /// The sum of `coefficients[i]` · xⁱ.
    fn polynomial(&mut self, x: u128, coefficients: impl DoubleEndedIterator<Item = u128>) -> u128 {
        coefficients.rev().fold(F128::zero(false), |sum, c| self.fma(sum, x, c))
    }

    /// eˣ − 1 for |x| below 0.7.
    fn exp_minus_1(&mut self, x: u128) -> u128 {
        let sum = self.polynomial(x, FACTORIALS.into_iter());
        self.mul(x, sum)
    }

    /// 2 · artanh s / ln 2 for |s| below 0.18: the binary logarithm of (1 + s) / (1 − s).
    fn log2_of_ratio(&mut self, s: u128) -> u128 {
        let square = self.mul(s, s);
        let sum = self.polynomial(square, ODD.into_iter().take(24));
        let scaled = self.mul(s, TWO_BY_LN_2);
        self.mul(scaled, sum)
    }

    /// The binary logarithm of a positive number.
    fn log2(&mut self, x: u128) -> u128 {
        const FRACTION: u32 = 112;
        // The number as 2ᵉ · m with m from √½ to √2.
        let number = dissect::<F128>(x, false);
        let (x, scaled) = (ONE | number.sig << 1 >> (128 - FRACTION), number.exp);
        let above = F128::lt_quiet(&mut self.0, SQRT_2, x);
        let (m, e) = if above { (x - (1 << FRACTION), scaled + 1) } else { (x, scaled) };
        let (below, over) = (self.sub(m, ONE), self.add(m, ONE));
        let s = self.div(below, over);
        let logarithm = self.log2_of_ratio(s);
        let whole = self.integer(e);
        self.add(whole, logarithm)
    }

    /// (sin x, cos x) for |x| up to π/4.
    fn sine_and_cosine(&mut self, x: u128) -> (u128, u128) {
        let square = self.mul(x, x);
        let alternating = |first: usize| {
            (0..14).map(move |i| {
                let c = FACTORIALS[first + 2 * i];
                if i % 2 == 1 { F128::negate(c) } else { c }
            })
        };
        // 1/1!, −1/3!, …; and 1/2!, −1/4!, ….
        let sine = self.polynomial(square, alternating(0));
        let sine = self.mul(x, sine);
        let rest = self.polynomial(square, alternating(1));
        let rest = self.mul(square, rest);
        (sine, self.sub(ONE, rest))
    }

    /// The arctangent of t from 0 to 1.
    fn arctangent(&mut self, t: u128) -> u128 {
        // The nearest eighth is taken away.
        let eighths = self.mul(t, EIGHT);
        let nearest = F128::to_i32(&mut self.0, eighths);
        let whole = self.integer(nearest);
        let near = self.div(whole, EIGHT);
        let (difference, scale) = (self.sub(t, near), self.fma(t, near, ONE));
        let s = self.div(difference, scale);
        let square = self.mul(s, s);
        let series = ODD.into_iter().take(16).enumerate();
        let signed = series.map(|(i, c)| if i % 2 == 1 { F128::negate(c) } else { c });
        let terms: Vec<u128> = signed.collect();
        let sum = self.polynomial(square, terms.into_iter());
        let rest = self.mul(s, sum);
        self.add(ARCTANGENTS[nearest as usize % ARCTANGENTS.len()], rest)
    }
}

/// A result that is not exact, rounded to 64 bits; zero stands for one too small for the wider format.
fn rounded(env: &mut Env, value: u128) -> u128 {
    let number = dissect::<F128>(value, false);
    full_precision(env, |env| match number.kind {
        Kind::Zero => round_pack::<F80>(env, number.sign, TINY, 1 << 127 | 1),
        Kind::Finite => round_pack::<F80>(env, number.sign, number.exp, number.sig | 1),
        _ => overflow::<F80>(env, number.sign),
    })
}

/// F2XM1: 2ˣ − 1 for x from −1 to 1; beyond that the manual leaves the result open, and it is x.
pub fn two_to_x_minus_1(env: &mut Env, x: u128) -> u128 {
    let a = unpack::<F80>(env, x);
    match a.kind {
        Kind::Zero => return zero::<F80>(a.sign),
        Kind::Infinite if a.sign => return F80::negate(F80::from_i32(env, 1)),
        Kind::Infinite => return infinity::<F80>(false),
        Kind::Finite => {}
        _ => return propagate::<F80>(env, &[a]),
    }
    note_denormals(env, &[&a]);
    if a.exp >= 0 {
        // Exact at ±1: 1 and −½.
        let one = a.exp == 0 && a.sig << 1 == 0;
        return match (one, a.sign) {
            (true, true) => F80::from_parts(0xbffe, 1 << 63),
            _ => x,
        };
    }
    let mut work = Work::new();
    let wide = work.widen(x);
    let scaled = work.mul(wide, LN_2);
    let result = work.exp_minus_1(scaled);
    rounded(env, result)
}

/// FYL2X: y · log₂ x.
pub fn y_log2_x(env: &mut Env, y: u128, x: u128) -> u128 {
    let (a, b) = (unpack::<F80>(env, x), unpack::<F80>(env, y));
    if a.is_nan() || b.is_nan() {
        return propagate::<F80>(env, &[b, a]);
    }
    if a.sign && !a.is_zero() {
        return invalid::<F80>(env);
    }
    let one = a.is_finite_nonzero() && a.exp == 0 && a.sig << 1 == 0;
    match (a.kind, b.kind) {
        (Kind::Zero, Kind::Zero) => return invalid::<F80>(env),
        (Kind::Infinite, Kind::Zero) => return invalid::<F80>(env),
        (_, Kind::Infinite) if one => return invalid::<F80>(env),
        (Kind::Zero, Kind::Infinite) => return infinity::<F80>(!b.sign),
        (Kind::Zero, _) => {
            env.raise(Flags::DIV_BY_ZERO);
            return infinity::<F80>(!b.sign);
        }
        _ => note_denormals(env, &[&a, &b]),
    }
    let below_one = a.is_finite_nonzero() && a.exp < 0;
    match (a.kind, b.kind) {
        (Kind::Infinite, _) | (_, Kind::Infinite) => return infinity::<F80>(b.sign != below_one),
        (_, Kind::Zero) => return zero::<F80>(b.sign != below_one),
        _ if one => return zero::<F80>(b.sign),
        _ => {}
    }
    if a.sig << 1 == 0 {
        // A power of two: the product of two integers, nearly.
        let exponent = F80::from_i32(env, a.exp);
        return full_precision(env, |env| F80::mul(env, exponent, y));
    }
    let mut work = Work::new();
    let (x, y) = (work.widen(x), work.widen(y));
    let logarithm = work.log2(x);
    product(env, work, y, logarithm)
}

/// FYL2XP1: y · log₂(x + 1) for |x| below 1 − √½; beyond that the manual leaves the result open.
pub fn y_log2_x_plus_1(env: &mut Env, y: u128, x: u128) -> u128 {
    let (a, b) = (unpack::<F80>(env, x), unpack::<F80>(env, y));
    if a.is_nan() || b.is_nan() {
        return propagate::<F80>(env, &[b, a]);
    }
    if (a.is_zero() && b.is_infinite()) || (a.is_infinite() && (a.sign || b.is_zero())) {
        return invalid::<F80>(env);
    }
    note_denormals(env, &[&a, &b]);
    let sign = a.sign != b.sign;
    match (a.kind, b.kind) {
        (Kind::Zero, _) | (_, Kind::Zero) => return zero::<F80>(sign),
        (Kind::Infinite, _) | (_, Kind::Infinite) => return infinity::<F80>(sign),
        _ => {}
    }
    let mut work = Work::new();
    let (x, y) = (work.widen(x), work.widen(y));
    if a.exp < -80 {
        // The logarithm may be below what the wider format holds well: x / ln 2.
        let scaled = work.mul(y, x);
        return product(env, work, scaled, ONE_BY_LN_2);
    }
    let logarithm = if a.exp < -2 {
        let over = work.add(TWO, x);
        let s = work.div(x, over);
        work.log2_of_ratio(s)
    } else {
        let sum = work.add(ONE, x);
        if F128::sign(sum) || F128::classify(sum) == Class::PositiveZero {
            return invalid::<F80>(env);
        }
        work.log2(sum)
    };
    product(env, work, y, logarithm)
}

/// The product of a number and one that is not exact.
fn product(env: &mut Env, mut work: Work, y: u128, by: u128) -> u128 {
    let result = work.mul(y, by);
    rounded(env, result)
}

/// FPATAN: the angle of the point (x, y), from −π to π.
pub fn arctangent(env: &mut Env, y: u128, x: u128) -> u128 {
    let (a, b) = (unpack::<F80>(env, y), unpack::<F80>(env, x));
    if a.is_nan() || b.is_nan() {
        return propagate::<F80>(env, &[a, b]);
    }
    note_denormals(env, &[&a, &b]);
    let mut work = Work::new();
    // The angle of (|x|, |y|).
    let first = match (a.kind, b.kind) {
        (Kind::Zero, _) | (Kind::Finite, Kind::Infinite) if !b.sign => {
            return zero::<F80>(a.sign);
        }
        (Kind::Zero, _) | (Kind::Finite, Kind::Infinite) => F128::zero(false),
        (Kind::Infinite, Kind::Infinite) => ARCTANGENTS[8],
        (Kind::Infinite, _) | (_, Kind::Zero) => HALF_PI,
        _ => {
            let (y, x) = (work.widen(y), work.widen(x));
            let (y, x) = (F128::with_sign(y, false), F128::with_sign(x, false));
            if y > x {
                let ratio = work.div(x, y);
                let rest = work.arctangent(ratio);
                work.sub(HALF_PI, rest)
            } else {
                let ratio = work.div(y, x);
                work.arctangent(ratio)
            }
        }
    };
    let angle = if b.sign { work.sub(PI, first) } else { first };
    rounded(env, F128::with_sign(angle, a.sign))
}

/// Sine and cosine of an angle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Angle {
    /// Rounded to 64 bits.
    pub sine: u128,
    /// Alike.
    pub cosine: u128,
    /// Their quotient.
    pub tangent: u128,
}

/// Which of [`Angle`]'s numbers are wanted: flags are those of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// FSIN
    Sine,
    /// FCOS
    Cosine,
    /// FSINCOS
    Both,
    /// FPTAN
    Tangent,
}

/// FSIN, FCOS, FSINCOS, FPTAN: `None` where |x| is not below 2⁶³ and the instruction does nothing. What is
/// not wanted is zero.
pub fn trigonometric(env: &mut Env, x: u128, wanted: Wanted) -> Option<Angle> {
    let a = unpack::<F80>(env, x);
    let same = |value| Some(Angle { sine: value, cosine: value, tangent: value });
    match a.kind {
        Kind::Infinite => return same(invalid::<F80>(env)),
        Kind::Finite if a.exp >= 63 => return None,
        Kind::Zero | Kind::Finite => {}
        _ => return same(propagate::<F80>(env, &[a])),
    }
    note_denormals(env, &[&a]);
    let one = F80::from_parts(0x3fff, 1 << 63);
    if a.is_zero() {
        return Some(Angle { sine: x, cosine: one, tangent: x });
    }
    let mut work = Work::new();
    let wide = work.widen(x);
    let (rest, quarter) = F128::rem_quotient(&mut work.0, wide, HALF_PI_66, Quotient::Nearest);
    // The quotient is that of magnitudes.
    let quarter = if a.sign { quarter.wrapping_neg() } else { quarter };
    let (s, c) = work.sine_and_cosine(rest);
    let (sine, cosine) = match quarter & 3 {
        0 => (s, c),
        1 => (c, F128::negate(s)),
        2 => (F128::negate(s), F128::negate(c)),
        _ => (F128::negate(c), s),
    };
    let mut angle = Angle { sine: 0, cosine: 0, tangent: 0 };
    if matches!(wanted, Wanted::Sine | Wanted::Both) {
        angle.sine = rounded(env, sine);
    }
    if matches!(wanted, Wanted::Cosine | Wanted::Both) {
        angle.cosine = rounded(env, cosine);
    }
    if wanted == Wanted::Tangent {
        let tangent = work.div(sine, cosine);
        angle.tangent = rounded(env, tangent);
    }
    Some(angle)
}

/// FSCALE: x · 2ⁿ, n being y cut to an integer.
pub fn scale(env: &mut Env, x: u128, y: u128) -> u128 {
    let (a, b) = (unpack::<F80>(env, x), unpack::<F80>(env, y));
    if a.is_nan() || b.is_nan() {
        return propagate::<F80>(env, &[a, b]);
    }
    match (a.kind, b.kind) {
        (Kind::Infinite, Kind::Infinite) if b.sign => return invalid::<F80>(env),
        (Kind::Zero, Kind::Infinite) if !b.sign => return invalid::<F80>(env),
        _ => note_denormals(env, &[&a, &b]),
    }
    match (a.kind, b.kind) {
        (Kind::Infinite, _) => infinity::<F80>(a.sign),
        (Kind::Zero, _) => zero::<F80>(a.sign),
        (_, Kind::Infinite) if b.sign => zero::<F80>(a.sign),
        (_, Kind::Infinite) => infinity::<F80>(a.sign),
        _ => {
            // Far beyond all exponents from 2¹⁶ on.
            let magnitude = match b.exp {
                _ if b.is_zero() || b.exp < 0 => 0,
                0..17 => (b.sig >> (127 - b.exp)) as i32,
                _ => 1 << 17,
            };
            let n = if b.sign { -magnitude } else { magnitude };
            full_precision(env, |env| round_pack::<F80>(env, a.sign, a.exp + n, a.sig))
        }
    }
}

/// FXTRACT: the exponent and the significand of x, which is their 2ᵉ · s.
pub fn extract(env: &mut Env, x: u128) -> (u128, u128) {
    let a = unpack::<F80>(env, x);
    match a.kind {
        Kind::Zero => {
            env.raise(Flags::DIV_BY_ZERO);
            (infinity::<F80>(true), zero::<F80>(a.sign))
        }
        Kind::Infinite => (infinity::<F80>(false), infinity::<F80>(a.sign)),
        Kind::Finite => {
            note_denormals(env, &[&a]);
            let significand = full_precision(env, |env| round_pack::<F80>(env, a.sign, 0, a.sig));
            (F80::from_i32(env, a.exp), significand)
        }
        _ => {
            let nan = propagate::<F80>(env, &[a]);
            (nan, nan)
        }
    }
}

/// What a step of FPREM or FPREM1 leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remainder {
    /// The remainder, or a smaller dividend to go on with.
    pub value: u128,
    /// The lowest bits of the quotient; none if there are more steps to take.
    pub quotient: Option<u64>,
}

/// FPREM (by truncated quotients) and FPREM1: a step takes 63 bits of the quotient at most.
pub fn remainder(env: &mut Env, a: u128, b: u128, rule: Quotient) -> Remainder {
    let part = |bits| dissect::<F80>(bits, false);
    let (dividend, divisor) = (part(a), part(b));
    let distance = dividend.exp - divisor.exp;
    if !dividend.is_finite_nonzero() || !divisor.is_finite_nonzero() || distance < 64 {
        let (value, quotient) = F80::rem_quotient(env, a, b, rule);
        return Remainder { value, quotient: Some(quotient) };
    }
    note_denormals(env, &[&dividend, &divisor]);
    let step = 32 + distance % 32;
    // The divisor with an exponent that is so much less than the dividend's.
    let work = &mut Work::new().0;
    let exp = dividend.exp - step;
    let scaled = round_pack::<F128>(work, divisor.sign, exp, divisor.sig);
    let dividend = round_pack::<F128>(work, dividend.sign, dividend.exp, dividend.sig);
    let (value, _) = F128::rem_quotient(work, dividend, scaled, Quotient::Truncated);
    let number = dissect::<F128>(value, false);
    let value = match number.kind {
        Kind::Zero => zero::<F80>(number.sign),
        _ => full_precision(env, |env| round_pack::<F80>(env, number.sign, number.exp, number.sig)),
    };
    Remainder { value, quotient: None }
}
