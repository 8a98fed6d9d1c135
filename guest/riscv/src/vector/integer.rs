//! Integer arithmetic: single-width, widening, narrowing, multiplication and division.

use super::{Done, Group, Second, Vector, zero_extend};
use crate::state::VLENB_MAX;

/// vs2, the second source, and the destination's old element.
type Accumulate = fn(i64, i64, i64) -> i64;
/// A comparison of sign-extended elements.
type Compare = fn(i64, i64) -> bool;

/// How a source is read.
#[derive(Clone, Copy)]
struct Read {
    wide: bool,
    signed: bool,
}

const SIGNED: Read = Read { wide: false, signed: true };
const UNSIGNED: Read = Read { wide: false, signed: false };
const WIDE: Read = Read { wide: true, signed: true };

/// The instructions with funct3 OPIVV, OPIVX, OPIVI.
pub(super) fn operate(v: &mut Vector<'_, '_>) -> Done {
    match v.funct6() {
        0x00 => binary(v, |a, b, _| a.wrapping_add(b)),
        0x01 => binary(v, |a, b, _| a & !b),
        0x02 => binary(v, |a, b, _| a.wrapping_sub(b)),
        0x03 => binary(v, |a, b, _| b.wrapping_sub(a)),
        // Sign-extension keeps the order of unsigned numbers.
        0x04 => binary(v, |a, b, _| if a.cast_unsigned() < b.cast_unsigned() { a } else { b }),
        0x05 => binary(v, |a, b, _| a.min(b)),
        0x06 => binary(v, |a, b, _| if a.cast_unsigned() > b.cast_unsigned() { a } else { b }),
        0x07 => binary(v, |a, b, _| a.max(b)),
        0x09 => binary(v, |a, b, _| a & b),
        0x0a => binary(v, |a, b, _| a | b),
        0x0b => binary(v, |a, b, _| a ^ b),
        0x10 => with_carry(v, |a, b, c| a.wrapping_add(b).wrapping_add(c)),
        0x11 => carry_out(v, |a, b, c, bits| {
            let sum = u128::from(zero_extend(a, bits)) + u128::from(zero_extend(b, bits)) + c;
            sum >> bits != 0
        }),
        0x12 => with_carry(v, |a, b, c| a.wrapping_sub(b).wrapping_sub(c)),
        0x13 => carry_out(v, |a, b, c, bits| {
            u128::from(zero_extend(a, bits)) < u128::from(zero_extend(b, bits)) + c
        }),
        0x14 | 0x15 if v.funct3() == 3 => rotate_immediate(v),
        0x14 => shift(v, rotate_right),
        0x15 => shift(v, |a, by, bits| rotate_right(a, i64::from(bits) - by, bits)),
        0x17 => merge(v),
        0x18 => compare(v, |a, b| a == b),
        0x19 => compare(v, |a, b| a != b),
        0x1a => compare(v, |a, b| a.cast_unsigned() < b.cast_unsigned()),
        0x1b => compare(v, |a, b| a < b),
        0x1c => compare(v, |a, b| a.cast_unsigned() <= b.cast_unsigned()),
        0x1d => compare(v, |a, b| a <= b),
        0x1e => compare(v, |a, b| a.cast_unsigned() > b.cast_unsigned()),
        0x1f => compare(v, |a, b| a > b),
        0x25 => shift(v, |a, by, _| a << by),
        0x28 => shift(v, |a, by, bits| (zero_extend(a, bits) >> by).cast_signed()),
        0x29 => shift(v, |a, by, _| a >> by),
        0x2c => narrow_shift(v, |a, by, bits| (zero_extend(a, bits) >> by).cast_signed()),
        0x2d => narrow_shift(v, |a, by, _| a >> by),
        0x35 => widen_shift(v),
        _ => Err(v.illegal()),
    }
}

/// The instructions with funct3 OPMVV, OPMVX that are neither masks nor permutations.
pub(super) fn multiply(v: &mut Vector<'_, '_>) -> Done {
    match v.funct6() {
        0x0c => carryless(v, 0),
        0x0d => carryless(v, 64),
        0x12 if v.vs1() >= 8 => unary(v),
        0x12 => extend(v),
        0x20 => binary(v, |a, b, bits| {
            let quotient = zero_extend(a, bits).checked_div(zero_extend(b, bits));
            quotient.unwrap_or(u64::MAX).cast_signed()
        }),
        0x21 => binary(v, |a, b, _| if b == 0 { -1 } else { a.wrapping_div(b) }),
        0x22 => binary(v, |a, b, bits| {
            let a = zero_extend(a, bits);
            a.checked_rem(zero_extend(b, bits)).unwrap_or(a).cast_signed()
        }),
        0x23 => binary(v, |a, b, _| if b == 0 { a } else { a.wrapping_rem(b) }),
        0x24 => binary(v, |a, b, bits| {
            let product = u128::from(zero_extend(a, bits)) * u128::from(zero_extend(b, bits));
            (product >> bits) as i64
        }),
        0x25 => binary(v, |a, b, _| a.wrapping_mul(b)),
        0x26 => binary(v, |a, b, bits| {
            ((i128::from(a) * i128::from(zero_extend(b, bits))) >> bits) as i64
        }),
        0x27 => binary(v, |a, b, bits| ((i128::from(a) * i128::from(b)) >> bits) as i64),
        0x29 => accumulate(v, false, (SIGNED, SIGNED), |a, b, d| b.wrapping_mul(d).wrapping_add(a)),
        0x2b => accumulate(v, false, (SIGNED, SIGNED), |a, b, d| a.wrapping_sub(b.wrapping_mul(d))),
        0x2d => accumulate(v, false, (SIGNED, SIGNED), multiply_add),
        0x2f => accumulate(v, false, (SIGNED, SIGNED), |a, b, d| d.wrapping_sub(a.wrapping_mul(b))),
        0x30 => accumulate(v, true, (UNSIGNED, UNSIGNED), |a, b, _| a.wrapping_add(b)),
        0x31 => accumulate(v, true, (SIGNED, SIGNED), |a, b, _| a.wrapping_add(b)),
        0x32 => accumulate(v, true, (UNSIGNED, UNSIGNED), |a, b, _| a.wrapping_sub(b)),
        0x33 => accumulate(v, true, (SIGNED, SIGNED), |a, b, _| a.wrapping_sub(b)),
        0x34 => accumulate(v, true, (WIDE, UNSIGNED), |a, b, _| a.wrapping_add(b)),
        0x35 => accumulate(v, true, (WIDE, SIGNED), |a, b, _| a.wrapping_add(b)),
        0x36 => accumulate(v, true, (WIDE, UNSIGNED), |a, b, _| a.wrapping_sub(b)),
        0x37 => accumulate(v, true, (WIDE, SIGNED), |a, b, _| a.wrapping_sub(b)),
        0x38 => accumulate(v, true, (UNSIGNED, UNSIGNED), |a, b, _| a.wrapping_mul(b)),
        0x3a => accumulate(v, true, (SIGNED, UNSIGNED), |a, b, _| a.wrapping_mul(b)),
        0x3b => accumulate(v, true, (SIGNED, SIGNED), |a, b, _| a.wrapping_mul(b)),
        0x3c => accumulate(v, true, (UNSIGNED, UNSIGNED), multiply_add),
        0x3d => accumulate(v, true, (SIGNED, SIGNED), multiply_add),
        0x3e => accumulate(v, true, (SIGNED, UNSIGNED), multiply_add),
        0x3f => accumulate(v, true, (UNSIGNED, SIGNED), multiply_add),
        _ => Err(v.illegal()),
    }
}

fn multiply_add(a: i64, b: i64, d: i64) -> i64 {
    a.wrapping_mul(b).wrapping_add(d)
}

/// vd[i] = op(vs2[i], second[i]), given sign-extended elements and their width in bits; the result's low
/// bits count.
fn binary(v: &mut Vector<'_, '_>, op: impl Fn(i64, i64, u32) -> i64) -> Done {
    let dest = v.dest(v.sew)?;
    let (first, second) = (v.source(dest, v.vs2(), v.sew)?, v.second(dest, v.sew)?);
    let bits = v.bits();
    v.each_of_two((dest, false), (first, second), |a, b, _| op(a, b, bits))
}

/// vd[i] = op(vs2[i], second[i] mod SEW)
fn shift(v: &mut Vector<'_, '_>, op: impl Fn(i64, i64, u32) -> i64) -> Done {
    let dest = v.dest(v.sew)?;
    let (first, second) = (v.source(dest, v.vs2(), v.sew)?, v.second_unsigned(dest, v.sew)?);
    let bits = v.bits();
    let mask = i64::from(bits - 1);
    v.each_of_two((dest, false), (first, second), |a, b, _| op(a, b & mask, bits))
}

/// vd[i] = op(wide vs2[i], second[i] mod 2·SEW)
fn narrow_shift(v: &mut Vector<'_, '_>, op: impl Fn(i64, i64, u32) -> i64) -> Done {
    let dest = v.dest(v.sew)?;
    let first = v.source(dest, v.vs2(), v.sew + 1)?;
    let second = v.second_unsigned(dest, v.sew)?;
    v.apart(first, second)?;
    let bits = 2 * v.bits();
    let mask = i64::from(bits - 1);
    v.each_of_two((dest, false), (first, second), |a, b, _| op(a, b & mask, bits))
}

/// vd[i] = op(vs2[i], second[i], vd[i]), the destination of twice the width if `widening`.
fn accumulate(
    v: &mut Vector<'_, '_>,
    widening: bool,
    (read_first, read_second): (Read, Read),
    op: Accumulate,
) -> Done {
    let wide = v.sew + i32::from(widening);
    let dest = v.dest(wide)?;
    let eew = if read_first.wide { wide } else { v.sew };
    let (first, second) = (v.source(dest, v.vs2(), eew)?, v.second(dest, v.sew)?);
    v.apart(first, second)?;
    if v.funct6() >= 0x3c {
        // The destination is a source as well.
        v.apart(dest, Second::Group(first))?;
        v.apart(dest, second)?;
    }
    let bits = v.bits();
    let extended = |value: i64, read: Read| {
        if read.signed { value } else { zero_extend(value, bits).cast_signed() }
    };
    v.each(|v, i| {
        let a = extended(v.get_signed(first, i), read_first);
        let b = extended(v.get_second(second, v.sew, i), read_second);
        let value = op(a, b, v.get_signed(dest, i));
        v.set(dest, i, value.cast_unsigned());
    })
}

/// vd[i] = op(vs2[i], second[i], v0.mask[i]) for all elements.
fn with_carry(v: &mut Vector<'_, '_>, op: impl Fn(i64, i64, i64) -> i64) -> Done {
    let dest = v.dest(v.sew)?;
    let (first, second) = (v.group(v.vs2(), v.sew)?, v.second_or_mask()?);
    let mut carries = [0; VLENB_MAX];
    carries.copy_from_slice(&v.cpu.state.v.0[..VLENB_MAX]);
    let carry = |i: usize| i64::from(carries.get(i / 8).is_some_and(|b| b >> (i % 8) & 1 != 0));
    v.each_of_two((dest, true), (first, second), |a, b, i| op(a, b, carry(i)))
}

/// vd.mask[i] = op(vs2[i], second[i], v0.mask[i] or 0, SEW) for all elements.
fn carry_out(v: &mut Vector<'_, '_>, op: impl Fn(i64, i64, u128, u32) -> bool) -> Done {
    let dest = Group::mask(v.vd());
    let (first, second) = (v.source(dest, v.vs2(), v.sew)?, v.second(dest, v.sew)?);
    let bits = v.bits();
    for i in v.vstart..v.vl {
        let (a, b) = (v.get_signed(first, i), v.get_second(second, v.sew, i));
        let carry = !v.unmasked() && v.bit(0, i);
        let value = op(a, b, u128::from(carry), bits);
        v.set_bit(dest.first, i, value);
    }
    Ok(())
}

/// vd.mask[i] = op(vs2[i], second[i])
fn compare(v: &mut Vector<'_, '_>, op: Compare) -> Done {
    let dest = Group::mask(v.vd());
    let (first, second) = (v.source(dest, v.vs2(), v.sew)?, v.second(dest, v.sew)?);
    v.each(|v, i| {
        let value = op(v.get_signed(first, i), v.get_second(second, v.sew, i));
        v.set_bit(dest.first, i, value);
    })
}

/// `vmerge`: vd[i] = v0.mask[i] ? second[i] : vs2[i]; `vmv.v` if not masked: vd[i] = second[i].
fn merge(v: &mut Vector<'_, '_>) -> Done {
    let dest = v.dest(v.sew)?;
    let second = v.second(dest, v.sew)?;
    let first = if v.unmasked() { dest } else { v.source(dest, v.vs2(), v.sew)? };
    for i in v.vstart..v.vl {
        let value = match v.active(i) {
            true => v.get_second(second, v.sew, i),
            false => v.get_signed(first, i),
        };
        v.set(dest, i, value.cast_unsigned());
    }
    Ok(())
}

/// `vzext`, `vsext`: from a half, a quarter or an eighth of the width.
fn extend(v: &mut Vector<'_, '_>) -> Done {
    v.require(v.second_is_group())?;
    let (step, signed) = match v.vs1() {
        2 => (3, false),
        3 => (3, true),
        4 => (2, false),
        5 => (2, true),
        6 => (1, false),
        7 => (1, true),
        _ => return Err(v.illegal()),
    };
    let dest = v.dest(v.sew)?;
    let first: Group = v.source(dest, v.vs2(), v.sew - step)?;
    v.each(|v, i| {
        let value = if signed { v.get_signed(first, i).cast_unsigned() } else { v.get(first, i) };
        v.set(dest, i, value);
    })
}

/// Rotates the low `bits` bits to the right.
fn rotate_right(a: i64, by: i64, bits: u32) -> i64 {
    let (a, by) = (zero_extend(a, bits), by as u32 % bits);
    let left = if by == 0 { 0 } else { a << (bits - by) };
    (a >> by | left).cast_signed()
}

/// `vror.vi`: the sixth bit of the amount is the lowest of funct6.
fn rotate_immediate(v: &mut Vector<'_, '_>) -> Done {
    let by = (v.vs1() | (v.funct6() & 1) << 5) as i64;
    let dest = v.dest(v.sew)?;
    let first = v.source(dest, v.vs2(), v.sew)?;
    let bits = v.bits();
    v.each(|v, i| {
        let value = rotate_right(v.get_signed(first, i), by, bits);
        v.set(dest, i, value.cast_unsigned());
    })
}

/// `vwsll`: wide vd[i] = vs2[i] << (second[i] mod 2·SEW)
fn widen_shift(v: &mut Vector<'_, '_>) -> Done {
    let dest = v.dest(v.sew + 1)?;
    let (first, second) = (v.source(dest, v.vs2(), v.sew)?, v.second_unsigned(dest, v.sew)?);
    let bits = 2 * v.bits();
    v.each(|v, i| {
        let by = v.get_second(second, v.sew, i) & i64::from(bits - 1);
        let value = v.get(first, i) << by;
        v.set(dest, i, value);
    })
}

/// `vclmul`, `vclmulh`: 64 bits of the carry-less product, of 64-bit elements.
fn carryless(v: &mut Vector<'_, '_>, from: u32) -> Done {
    v.require(v.sew == 3)?;
    let dest = v.dest(v.sew)?;
    let (first, second) = (v.source(dest, v.vs2(), v.sew)?, v.second(dest, v.sew)?);
    v.each(|v, i| {
        let b = v.get_second(second, v.sew, i).cast_unsigned();
        let product = crate::helpers_bits::carryless(v.get(first, i), b);
        v.set(dest, i, (product >> from) as u64);
    })
}

/// `vbrev8`, `vrev8`, `vbrev`, `vclz`, `vctz`, `vcpop`.
fn unary(v: &mut Vector<'_, '_>) -> Done {
    v.require(v.second_is_group())?;
    let op: fn(u64, u32) -> u64 = match v.vs1() {
        8 => |a, _| a.reverse_bits().swap_bytes(),
        9 => |a, bits| a.swap_bytes() >> (64 - bits),
        10 => |a, bits| a.reverse_bits() >> (64 - bits),
        12 => |a, bits| u64::from(a.leading_zeros() + bits - 64),
        13 => |a, bits| u64::from(a.trailing_zeros().min(bits)),
        14 => |a, _| u64::from(a.count_ones()),
        _ => return Err(v.illegal()),
    };
    let dest = v.dest(v.sew)?;
    let first = v.source(dest, v.vs2(), v.sew)?;
    let bits = v.bits();
    v.each(|v, i| {
        let value = op(v.get(first, i), bits);
        v.set(dest, i, value);
    })
}
