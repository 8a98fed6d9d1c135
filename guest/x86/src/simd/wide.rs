//! Instructions of AVX-512 that are called, by mnemonic: functions of lanes, or of all lanes.

use super::galois;
use super::wide_floats::{self as floats, Floats};
use ir::cipher::{inverse, multiply};
use softfloat::{F32, F64};

/// The bytes of a register of 512 bits.
pub(crate) type Bytes = [u8; 64];

/// What an instruction sees.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sources {
    /// The first source.
    pub(crate) a: Bytes,
    /// The second one; of instructions of one source, the same.
    pub(crate) b: Bytes,
    /// What the destination was.
    pub(crate) c: Bytes,
    /// The immediate.
    pub(crate) imm: u8,
    /// Bytes of lanes of the result, and how many there are.
    pub(crate) element: usize,
    pub(crate) lanes: usize,
    /// Bytes of lanes of the last source.
    pub(crate) from: usize,
    /// Bytes of vectors.
    pub(crate) vl: usize,
    /// Lanes that are wanted.
    pub(crate) mask: u64,
}

/// One lane of each source, zero-extended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lanes {
    pub(crate) a: u64,
    pub(crate) b: u64,
    pub(crate) c: u64,
    pub(crate) imm: u8,
    /// Bits of a lane.
    pub(crate) bits: u32,
}

/// How an instruction is computed.
#[derive(Clone, Copy)]
pub(crate) enum Form {
    /// Each lane of the result from the lanes with its number.
    Each(fn(Lanes) -> u64),
    /// Each lane from all of the sources.
    Lane(fn(&Sources, usize) -> u64),
    /// Bits for an opmask.
    Bits(fn(&Sources) -> u64),
    /// The lanes that are wanted, one after the other.
    Compress,
    /// The first lanes, to where they are wanted.
    Expand,
    /// Floating-point numbers.
    Float(Floats),
}

/// What may follow a name of the table in a mnemonic.
const SUFFIXES: [&str; 14] =
    ["b", "w", "d", "q", "ps", "pd", "ss", "sd", "wb", "db", "qb", "dw", "qw", "qd"];

/// A function of floating-point numbers of either format.
macro_rules! of {
    ($name:ident) => {
        Form::Float(Floats::Of(floats::$name::<F32>, floats::$name::<F64>))
    };
}

/// Names of instructions without the type of their lanes.
static TABLE: &[(&str, Form)] = &[
    ("vperm", Form::Lane(|s, n| lane(&s.b, s.element, low(&s.a, s, n) % s.lanes))),
    // The indices are in the destination, or in the first source.
    ("vpermi2", Form::Lane(|s, n| of_two(s, &s.a, &s.c, n))),
    ("vpermt2", Form::Lane(|s, n| of_two(s, &s.c, &s.a, n))),
    ("vpmultishiftqb", Form::Lane(multishift)),
    ("vpconflict", Form::Lane(conflicts)),
    ("valign", Form::Lane(aligned)),
    ("vshuff32x4", Form::Lane(shuffled)),
    ("vshuff64x2", Form::Lane(shuffled)),
    ("vshufi32x4", Form::Lane(shuffled)),
    ("vshufi64x2", Form::Lane(shuffled)),
    ("vdbpsadbw", Form::Lane(distances)),
    ("vpshld", Form::Each(|l| funnel_left(l, l.a, l.b, u64::from(l.imm)))),
    ("vpshrd", Form::Each(|l| funnel_right(l, l.a, l.b, u64::from(l.imm)))),
    ("vpshldv", Form::Each(|l| funnel_left(l, l.c, l.a, l.b))),
    ("vpshrdv", Form::Each(|l| funnel_right(l, l.c, l.a, l.b))),
    ("vplzcnt", Form::Each(|l| u64::from(l.b.leading_zeros()) - u64::from(64 - l.bits))),
    ("vpopcnt", Form::Each(|l| l.b.count_ones().into())),
    ("vpmadd52luq", Form::Each(|l| l.c.wrapping_add(product52(l) as u64 & LOW52))),
    ("vpmadd52huq", Form::Each(|l| l.c.wrapping_add((product52(l) >> 52) as u64))),
    ("vpdpbusd", Form::Each(|l| bytes_dot(l) as u64)),
    ("vpdpbusds", Form::Each(|l| saturated(bytes_dot(l)))),
    ("vpdpwssd", Form::Each(|l| words_dot(l) as u64)),
    ("vpdpwssds", Form::Each(|l| saturated(words_dot(l)))),
    ("vgf2p8mulb", Form::Each(|l| multiply(l.a as u8, l.b as u8).into())),
    ("vgf2p8affineqb", Form::Lane(|s, n| affine(s, n, lane(&s.a, 1, n) as u8))),
    ("vgf2p8affineinvqb", Form::Lane(|s, n| affine(s, n, inverse(lane(&s.a, 1, n) as u8)))),
    ("vpshufbitqmb", Form::Bits(shuffled_bits)),
    ("vp2intersect", Form::Bits(intersections)),
    ("vpmov", Form::Lane(wider)),
    ("vpmovs", Form::Lane(narrowed_signed)),
    ("vpmovus", Form::Lane(|s, n| wider(s, n).min(u64::MAX >> (64 - 8 * s.element)))),
    ("vcompress", Form::Compress),
    ("vpcompress", Form::Compress),
    ("vexpand", Form::Expand),
    ("vpexpand", Form::Expand),
    ("vcvtqq2ps", Form::Float(Floats::FromSigned)),
    ("vcvtqq2pd", Form::Float(Floats::FromSigned)),
    ("vcvtudq2ps", Form::Float(Floats::FromUnsigned)),
    ("vcvtudq2pd", Form::Float(Floats::FromUnsigned)),
    ("vcvtuqq2ps", Form::Float(Floats::FromUnsigned)),
    ("vcvtuqq2pd", Form::Float(Floats::FromUnsigned)),
    ("vcvtps2udq", Form::Float(Floats::ToUnsigned)),
    ("vcvtpd2udq", Form::Float(Floats::ToUnsigned)),
    ("vcvtps2uqq", Form::Float(Floats::ToUnsigned)),
    ("vcvtpd2uqq", Form::Float(Floats::ToUnsigned)),
    ("vcvtps2qq", Form::Float(Floats::ToSigned)),
    ("vcvtpd2qq", Form::Float(Floats::ToSigned)),
    ("vcvttps2udq", Form::Float(Floats::CutUnsigned)),
    ("vcvttpd2udq", Form::Float(Floats::CutUnsigned)),
    ("vcvttps2uqq", Form::Float(Floats::CutUnsigned)),
    ("vcvttpd2uqq", Form::Float(Floats::CutUnsigned)),
    ("vcvttps2qq", Form::Float(Floats::CutSigned)),
    ("vcvttpd2qq", Form::Float(Floats::CutSigned)),
    ("vcvtph2ps", Form::Float(Floats::FromHalf)),
    ("vcvtps2ph", Form::Float(Floats::ToHalf)),
    ("vscalef", of!(scale)),
    ("vgetexp", of!(exponent)),
    ("vgetmant", of!(mantissa)),
    ("vrndscale", of!(round_scaled)),
    ("vreduce", of!(reduce)),
    ("vrange", of!(range)),
    ("vfixupimm", of!(fix_up)),
    ("vrcp14", of!(reciprocal)),
    ("vrsqrt14", of!(reciprocal_root)),
    ("vfpclass", Form::Float(Floats::Class)),
    ("vcvtneps2bf16", Form::Float(Floats::ToBrain)),
    ("vcvtne2ps2bf16", Form::Float(Floats::TwoToBrain)),
    ("vdpbf16ps", Form::Float(Floats::BrainDot)),
];

/// The place of an instruction in the table.
pub(crate) fn index(mnemonic: &str) -> Option<usize> {
    let exact = TABLE.iter().position(|(name, _)| *name == mnemonic);
    let fits = |(name, _): &(&str, Form)| {
        mnemonic.strip_prefix(name).is_some_and(|rest| SUFFIXES.contains(&rest))
    };
    exact.or_else(|| TABLE.iter().position(fits))
}

/// How the instruction at a place of the table is computed.
pub(crate) fn form(index: usize) -> Option<Form> {
    TABLE.get(index).map(|(_, form)| *form)
}

/// A lane, zero-extended.
pub(crate) fn lane(v: &Bytes, size: usize, n: usize) -> u64 {
    let bytes = v.get(n * size..(n + 1) * size).unwrap_or_default();
    bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// Sets a lane to the low bits of a value.
pub(crate) fn set_lane(v: &mut Bytes, size: usize, n: usize, value: u64) {
    if let Some(place) = v.get_mut(n * size..(n + 1) * size) {
        place.copy_from_slice(&value.to_le_bytes()[..size]);
    }
}

/// The result of an instruction on integers, lane by lane, and which lanes of it count.
pub(crate) fn compute(form: Form, s: &Sources) -> (Bytes, u64) {
    let mut out = [0; 64];
    let mut mask = s.mask;
    let chosen = || (0..s.lanes).filter(|n| s.mask >> n & 1 != 0);
    match form {
        Form::Each(f) => {
            let bits = 8 * s.element as u32;
            for n in 0..s.lanes {
                let at = |v| lane(v, s.element, n);
                let lanes = Lanes { a: at(&s.a), b: at(&s.b), c: at(&s.c), imm: s.imm, bits };
                set_lane(&mut out, s.element, n, f(lanes));
            }
        }
        Form::Lane(f) => (0..s.lanes).for_each(|n| set_lane(&mut out, s.element, n, f(s, n))),
        Form::Compress => {
            let count = chosen().count();
            for (to, from) in chosen().enumerate() {
                set_lane(&mut out, s.element, to, lane(&s.b, s.element, from));
            }
            mask = (1u64.checked_shl(count as u32).unwrap_or(0)).wrapping_sub(1);
        }
        Form::Expand => {
            for (from, to) in chosen().enumerate() {
                set_lane(&mut out, s.element, to, lane(&s.b, s.element, from));
            }
        }
        Form::Bits(_) | Form::Float(_) => {}
    }
    (out, mask)
}

/// An index: a lane of `v`.
fn low(v: &Bytes, s: &Sources, n: usize) -> usize {
    lane(v, s.element, n) as usize
}

/// A lane of the table that the first and the last source are, by an index.
fn of_two(s: &Sources, first: &Bytes, index: &Bytes, n: usize) -> u64 {
    // Of VPERMI2 the index is what the destination was, of VPERMT2 the first source.
    let at = low(index, s, n) % (2 * s.lanes);
    if at < s.lanes { lane(first, s.element, at) } else { lane(&s.b, s.element, at - s.lanes) }
}

/// Eight bits from any place of 64.
fn multishift(s: &Sources, n: usize) -> u64 {
    let data = lane(&s.b, 8, n / 8);
    data.rotate_right(lane(&s.a, 1, n) as u32 & 63) & 0xff
}

/// The lanes before this one that are equal to it.
fn conflicts(s: &Sources, n: usize) -> u64 {
    let this = lane(&s.b, s.element, n);
    let same = |k: &usize| lane(&s.b, s.element, *k) == this;
    (0..n).filter(same).fold(0, |bits, k| bits | 1 << k)
}

/// The sources, the second one lower, shifted right by lanes.
fn aligned(s: &Sources, n: usize) -> u64 {
    let at = n + usize::from(s.imm) % s.lanes;
    if at < s.lanes { lane(&s.b, s.element, at) } else { lane(&s.a, s.element, at - s.lanes) }
}

/// Parts of 128 bits: the lower half of the result from the first source.
fn shuffled(s: &Sources, n: usize) -> u64 {
    let (parts, each) = (s.vl / 16, 16 / s.element);
    let part = n / each;
    let bits = parts.trailing_zeros() as usize;
    let from = usize::from(s.imm) >> (part * bits) & (parts - 1);
    let source = if part < parts / 2 { &s.a } else { &s.b };
    lane(source, s.element, from * each + n % each)
}

/// VDBPSADBW: distances of four bytes of the first source from four of the shuffled second one.
fn distances(s: &Sources, n: usize) -> u64 {
    let (block, word) = (n / 8, n % 8);
    let byte_b = |place: usize| {
        let group = usize::from(s.imm) >> (2 * (place / 4)) & 3;
        lane(&s.b, 1, 16 * block + 4 * group + place % 4) as u8
    };
    let a = |place: usize| lane(&s.a, 1, 16 * block + place) as u8;
    // Two words for each four bytes of the first, at neighbouring places of the second.
    let (from_a, from_b) = (word / 2 % 2 * 4 + word / 4 * 8, word % 4 + word / 4 * 8);
    (0..4).map(|k| u64::from(a(from_a + k).abs_diff(byte_b(from_b + k)))).sum()
}

fn low_bits(value: u64, bits: u32) -> u64 {
    value & u64::MAX >> (64 - bits)
}

/// The high part of two lanes shifted left.
fn funnel_left(l: Lanes, high: u64, low: u64, count: u64) -> u64 {
    let count = (count % u64::from(l.bits)) as u32;
    match count {
        0 => high,
        _ => low_bits(high << count, l.bits) | low_bits(low, l.bits) >> (l.bits - count),
    }
}

/// The low part of two lanes shifted right.
fn funnel_right(l: Lanes, low: u64, high: u64, count: u64) -> u64 {
    let count = (count % u64::from(l.bits)) as u32;
    match count {
        0 => low,
        _ => low_bits(low, l.bits) >> count | low_bits(high << (l.bits - count), l.bits),
    }
}

const LOW52: u64 = (1 << 52) - 1;

fn product52(l: Lanes) -> u128 {
    u128::from(l.a & LOW52) * u128::from(l.b & LOW52)
}

/// The accumulator and products of unsigned with signed bytes.
fn bytes_dot(l: Lanes) -> i64 {
    let (a, b) = (l.a.to_le_bytes(), l.b.to_le_bytes());
    let product = |i: usize| i64::from(a[i]) * i64::from(b[i].cast_signed());
    i64::from(l.c as i32) + (0..4).map(product).sum::<i64>()
}

/// The accumulator and products of signed words.
fn words_dot(l: Lanes) -> i64 {
    let word = |v: u64, i: u32| i64::from((v >> (16 * i)) as i16);
    i64::from(l.c as i32) + (0..2).map(|i| word(l.a, i) * word(l.b, i)).sum::<i64>()
}

fn saturated(value: i64) -> u64 {
    value.clamp(i32::MIN.into(), i32::MAX.into()) as u64
}

fn affine(s: &Sources, n: usize, byte: u8) -> u64 {
    let matrix = lane(&s.b, 8, n / 8).to_le_bytes();
    galois::affine(&matrix, byte, s.imm).into()
}

/// Bits of 64, chosen by bytes.
fn shuffled_bits(s: &Sources) -> u64 {
    let bit = |n: usize| lane(&s.a, 8, n / 8) >> (lane(&s.b, 1, n) & 63) & 1;
    (0..s.vl).fold(0, |bits, n| bits | bit(n) << n)
}

/// Which lanes of each source are in the other one: the first's, and above 32 bits the second's.
fn intersections(s: &Sources) -> u64 {
    let lanes = s.vl / s.element;
    let is_in = |v: &Bytes, other: &Bytes, n: usize| {
        let this = lane(v, s.element, n);
        u64::from((0..lanes).any(|k| lane(other, s.element, k) == this))
    };
    (0..lanes)
        .fold(0, |bits, n| bits | is_in(&s.a, &s.b, n) << n | is_in(&s.b, &s.a, n) << (n + 32))
}

/// A lane of a source with wider lanes than the result.
fn wider(s: &Sources, n: usize) -> u64 {
    lane(&s.b, s.from, n)
}

fn narrowed_signed(s: &Sources, n: usize) -> u64 {
    let unused = 64 - 8 * s.from.min(8) as u32;
    let value = (wider(s, n) << unused).cast_signed() >> unused;
    let most = i64::MAX >> (64 - 8 * s.element);
    value.clamp(!most, most) as u64
}
