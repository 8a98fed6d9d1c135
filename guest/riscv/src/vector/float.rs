//! Floating-point arithmetic, by softfloat, for every width that the hart has.

use super::{Done, Group, Second, Vector};
use crate::decode::Ext;
use crate::trap::Trap;
use softfloat::riscv::{box_f16, box_f32, rec7, rsqrt7, unbox_bf16, unbox_f16, unbox_f32};
use softfloat::{BF16, Env, F16, F32, F64, Float, MulAdd, Rounding};

/// A format whose elements are read from and written to vector registers.
trait Lane: Float {
    /// log2 of its width in bytes.
    const EEW: i32;
    /// The value in a floating-point register, as element bits.
    fn unbox(register: u64) -> u64;
    /// Element bits as a floating-point register.
    fn boxed(bits: u64) -> u64;
}

impl Lane for F16 {
    const EEW: i32 = 1;
    fn unbox(register: u64) -> u64 {
        u64::from(unbox_f16(register))
    }
    fn boxed(bits: u64) -> u64 {
        box_f16(bits as u16)
    }
}

impl Lane for F32 {
    const EEW: i32 = 2;
    fn unbox(register: u64) -> u64 {
        u64::from(unbox_f32(register))
    }
    fn boxed(bits: u64) -> u64 {
        box_f32(bits as u32)
    }
}

impl Lane for F64 {
    const EEW: i32 = 3;
    fn unbox(register: u64) -> u64 {
        register
    }
    fn boxed(bits: u64) -> u64 {
        bits
    }
}

impl Lane for BF16 {
    const EEW: i32 = 1;
    fn unbox(register: u64) -> u64 {
        u64::from(unbox_bf16(register))
    }
    fn boxed(bits: u64) -> u64 {
        box_f16(bits as u16)
    }
}

/// Element bits as the format's type.
fn lane<F: Float>(bits: u64) -> F::Bits {
    let masked = if F::WIDTH == 64 { bits } else { bits & ((1 << F::WIDTH) - 1) };
    F::Bits::try_from(u128::from(masked)).unwrap_or_default()
}

/// The format's type as element bits.
fn bits<F: Float>(value: F::Bits) -> u64 {
    let wide: u128 = value.into();
    wide as u64
}

type Unary<F> = fn(&mut Env, <F as softfloat::Format>::Bits) -> <F as softfloat::Format>::Bits;
/// vs2 and the second source.
type Binary<F> = fn(
    &mut Env,
    <F as softfloat::Format>::Bits,
    <F as softfloat::Format>::Bits,
) -> <F as softfloat::Format>::Bits;
type Compare<F> =
    fn(&mut Env, <F as softfloat::Format>::Bits, <F as softfloat::Format>::Bits) -> bool;
/// An element of one width to one of another.
type Convert = fn(&mut Env, u64) -> u64;

/// The instructions with funct3 OPFVV and OPFVF.
pub(super) fn operate(v: &mut Vector<'_, '_>) -> Result<u64, Trap> {
    let Some(rounding) = Rounding::from_riscv(v.cpu.state.frm as u8) else {
        return Err(v.illegal());
    };
    let mut env = Env::riscv(rounding);
    let e = &mut env;
    let result = match (v.funct6(), v.sew) {
        (0x12, _) => convert(v, e).map(|()| 0),
        // The decoder gives this to Zvfbfwma alone.
        (0x3b, 1) => widen_mul_add::<BF16, F32>(v, e, (false, false)).map(|()| 0),
        (_, 1) if v.has(Ext::Zvfh) => run::<F16, F32>(v, e),
        (_, 2) => run::<F32, F64>(v, e),
        (_, 3) if v.has(Ext::Zve64d) => run_widest(v, e),
        _ => Err(v.illegal()),
    };
    v.cpu.state.fflags |= u64::from(env.flags.riscv());
    result
}

/// Instructions of a width that has one of twice the width.
fn run<F: Lane, W: Lane>(v: &mut Vector<'_, '_>, env: &mut Env) -> Result<u64, Trap> {
    let done = match v.funct6() {
        0x30 => widen::<F, W>(v, env, false, W::add),
        0x31 | 0x33 => widening_sum::<F, W>(v, env),
        0x32 => widen::<F, W>(v, env, false, W::sub),
        0x34 => widen::<F, W>(v, env, true, W::add),
        0x36 => widen::<F, W>(v, env, true, W::sub),
        0x38 => widen::<F, W>(v, env, false, W::mul),
        0x3c => widen_mul_add::<F, W>(v, env, (false, false)),
        0x3d => widen_mul_add::<F, W>(v, env, (true, true)),
        0x3e => widen_mul_add::<F, W>(v, env, (false, true)),
        0x3f => widen_mul_add::<F, W>(v, env, (true, false)),
        _ => return single::<F>(v, env),
    };
    done.map(|()| 0)
}

fn run_widest(v: &mut Vector<'_, '_>, env: &mut Env) -> Result<u64, Trap> {
    match v.funct6() {
        0x30.. => Err(v.illegal()),
        _ => single::<F64>(v, env),
    }
}

/// Instructions of one width.
fn single<F: Lane>(v: &mut Vector<'_, '_>, env: &mut Env) -> Result<u64, Trap> {
    let done = match v.funct6() {
        0x00 => binary::<F>(v, env, F::add),
        0x01 | 0x03 => sum::<F>(v, env, F::add),
        0x02 => binary::<F>(v, env, F::sub),
        0x04 => binary::<F>(v, env, F::minimum_number),
        0x05 => sum::<F>(v, env, F::minimum_number),
        0x06 => binary::<F>(v, env, F::maximum_number),
        0x07 => sum::<F>(v, env, F::maximum_number),
        0x08 => binary::<F>(v, env, |_, a, b| F::with_sign(a, F::sign(b))),
        0x09 => binary::<F>(v, env, |_, a, b| F::with_sign(a, !F::sign(b))),
        0x0a => binary::<F>(v, env, |_, a, b| F::with_sign(a, F::sign(a) != F::sign(b))),
        0x0e | 0x0f => {
            v.x = F::unbox(v.x);
            super::permute::slide_one(v)
        }
        0x10 => return move_scalar::<F>(v),
        0x13 => unary::<F>(v, env),
        0x17 => merge::<F>(v),
        0x18 => compare::<F>(v, env, F::eq),
        0x19 => compare::<F>(v, env, F::le),
        0x1b => compare::<F>(v, env, F::lt),
        0x1c => compare::<F>(v, env, |env, a, b| !F::eq(env, a, b)),
        0x1d => compare::<F>(v, env, |env, a, b| F::lt(env, b, a)),
        0x1f => compare::<F>(v, env, |env, a, b| F::le(env, b, a)),
        0x20 => binary::<F>(v, env, F::div),
        0x21 => binary::<F>(v, env, |env, a, b| F::div(env, b, a)),
        0x24 => binary::<F>(v, env, F::mul),
        0x27 => binary::<F>(v, env, |env, a, b| F::sub(env, b, a)),
        0x28 => mul_add::<F>(v, env, true, (false, false)),
        0x29 => mul_add::<F>(v, env, true, (true, true)),
        0x2a => mul_add::<F>(v, env, true, (false, true)),
        0x2b => mul_add::<F>(v, env, true, (true, false)),
        0x2c => mul_add::<F>(v, env, false, (false, false)),
        0x2d => mul_add::<F>(v, env, false, (true, true)),
        0x2e => mul_add::<F>(v, env, false, (false, true)),
        0x2f => mul_add::<F>(v, env, false, (true, false)),
        _ => Err(v.illegal()),
    };
    done.map(|()| 0)
}

/// The second source: a group, or the scalar as element bits.
fn second<F: Lane>(v: &Vector<'_, '_>, dest: Group) -> Result<Second, Trap> {
    Ok(match v.second(dest, F::EEW)? {
        Second::Value(register) => Second::Value(F::unbox(register)),
        group @ Second::Group(_) => group,
    })
}

fn element<F: Lane>(v: &Vector<'_, '_>, second: Second, i: usize) -> F::Bits {
    lane::<F>(match second {
        Second::Group(group) => v.get(group, i),
        Second::Value(value) => value,
    })
}

/// vd[i] = op(vs2[i], second[i])
fn binary<F: Lane>(v: &mut Vector<'_, '_>, env: &mut Env, op: Binary<F>) -> Done {
    let dest = v.dest(F::EEW)?;
    let (first, second) = (v.source(dest, v.vs2(), F::EEW)?, second::<F>(v, dest)?);
    v.each(|v, i| {
        let value = op(env, lane::<F>(v.get(first, i)), element::<F>(v, second, i));
        v.set(dest, i, bits::<F>(value));
    })
}

/// vd.mask[i] = op(vs2[i], second[i])
fn compare<F: Lane>(v: &mut Vector<'_, '_>, env: &mut Env, op: Compare<F>) -> Done {
    let dest = Group::mask(v.vd());
    let (first, second) = (v.source(dest, v.vs2(), F::EEW)?, second::<F>(v, dest)?);
    v.each(|v, i| {
        let value = op(env, lane::<F>(v.get(first, i)), element::<F>(v, second, i));
        v.set_bit(dest.first, i, value);
    })
}

/// vd[i] = ±(second[i] · x) ± y: x is vd[i] and y vs2[i], or the other way round.
fn mul_add<F: Lane>(
    v: &mut Vector<'_, '_>,
    env: &mut Env,
    multiplies_dest: bool,
    (negate_product, negate_addend): (bool, bool),
) -> Done {
    let dest = v.dest(F::EEW)?;
    let (first, second) = (v.source(dest, v.vs2(), F::EEW)?, second::<F>(v, dest)?);
    let form = MulAdd { negate_product, negate_addend };
    v.each(|v, i| {
        let (a, d) = (lane::<F>(v.get(first, i)), lane::<F>(v.get(dest, i)));
        let b = element::<F>(v, second, i);
        let (factor, addend) = if multiplies_dest { (d, a) } else { (a, d) };
        let value = F::fma(env, b, factor, addend, form);
        v.set(dest, i, bits::<F>(value));
    })
}

/// vd[0] = op over vs1[0] and the active elements of vs2, in order.
fn sum<F: Lane>(v: &mut Vector<'_, '_>, env: &mut Env, op: Binary<F>) -> Done {
    v.must_start()?;
    let source = v.group(v.vs2(), F::EEW)?;
    let scalar = |first| Group { first, count: 1, eew: F::EEW, emul: 0 };
    if v.vl == 0 {
        return Ok(());
    }
    let mut sum = lane::<F>(v.get(scalar(v.vs1()), 0));
    v.each(|v, i| sum = op(env, sum, lane::<F>(v.get(source, i))))?;
    v.set(scalar(v.vd()), 0, bits::<F>(sum));
    Ok(())
}

/// The sum in twice the width.
fn widening_sum<F: Lane, W: Lane>(v: &mut Vector<'_, '_>, env: &mut Env) -> Done {
    v.must_start()?;
    v.require(wide_enough::<W>(v))?;
    let source = v.group(v.vs2(), F::EEW)?;
    let scalar = |first| Group { first, count: 1, eew: W::EEW, emul: 0 };
    if v.vl == 0 {
        return Ok(());
    }
    let mut sum = lane::<W>(v.get(scalar(v.vs1()), 0));
    v.each(|v, i| {
        let element = F::convert::<W>(env, lane::<F>(v.get(source, i)));
        sum = W::add(env, sum, element);
    })?;
    v.set(scalar(v.vd()), 0, bits::<W>(sum));
    Ok(())
}

/// Whether the hart has elements of this format.
fn wide_enough<W: Lane>(v: &Vector<'_, '_>) -> bool {
    W::EEW <= v.elen && (W::EEW < 3 || v.has(Ext::Zve64d))
}

/// vd[i] = op(vs2[i], second[i]) in twice the width; vs2 has it already if `wide`.
fn widen<F: Lane, W: Lane>(
    v: &mut Vector<'_, '_>,
    env: &mut Env,
    wide: bool,
    op: Binary<W>,
) -> Done {
    v.require(wide_enough::<W>(v))?;
    let dest = v.dest(W::EEW)?;
    let eew = if wide { W::EEW } else { F::EEW };
    let (first, second) = (v.source(dest, v.vs2(), eew)?, second::<F>(v, dest)?);
    v.apart(first, second)?;
    v.each(|v, i| {
        let a = v.get(first, i);
        let a = if wide { lane::<W>(a) } else { F::convert::<W>(env, lane::<F>(a)) };
        let b = F::convert::<W>(env, element::<F>(v, second, i));
        let value = op(env, a, b);
        v.set(dest, i, bits::<W>(value));
    })
}

/// vd[i] = ±(second[i] · vs2[i]) ± vd[i], vd in twice the width.
fn widen_mul_add<F: Lane, W: Lane>(
    v: &mut Vector<'_, '_>,
    env: &mut Env,
    (negate_product, negate_addend): (bool, bool),
) -> Done {
    v.require(wide_enough::<W>(v))?;
    let dest = v.dest(W::EEW)?;
    let (first, second) = (v.source(dest, v.vs2(), F::EEW)?, second::<F>(v, dest)?);
    v.apart(dest, Second::Group(first))?;
    v.apart(dest, second)?;
    let form = MulAdd { negate_product, negate_addend };
    v.each(|v, i| {
        let a = F::convert::<W>(env, lane::<F>(v.get(first, i)));
        let b = F::convert::<W>(env, element::<F>(v, second, i));
        let value = W::fma(env, b, a, lane::<W>(v.get(dest, i)), form);
        v.set(dest, i, bits::<W>(value));
    })
}

/// `vfmv.f.s` (its result), `vfmv.s.f`.
fn move_scalar<F: Lane>(v: &mut Vector<'_, '_>) -> Result<u64, Trap> {
    let one = |first| Group { first, count: 1, eew: F::EEW, emul: 0 };
    if v.second_is_group() {
        return Ok(F::boxed(v.get(one(v.vs2()), 0)));
    }
    if v.vstart < v.vl {
        v.set(one(v.vd()), 0, F::unbox(v.x));
    }
    Ok(0)
}

/// `vfmerge.vfm`; `vfmv.v.f` if not masked.
fn merge<F: Lane>(v: &mut Vector<'_, '_>) -> Done {
    let dest = v.dest(F::EEW)?;
    let scalar = F::unbox(v.x);
    let first = if v.unmasked() { dest } else { v.source(dest, v.vs2(), F::EEW)? };
    for i in v.vstart..v.vl {
        let value = if v.active(i) { scalar } else { v.get(first, i) };
        v.set(dest, i, value);
    }
    Ok(())
}

/// `vfsqrt.v`, `vfrsqrt7.v`, `vfrec7.v`, `vfclass.v`.
fn unary<F: Lane>(v: &mut Vector<'_, '_>, env: &mut Env) -> Done {
    let op: Unary<F> = match v.vs1() {
        0x00 => F::sqrt,
        0x04 => rsqrt7::<F>,
        0x05 => rec7::<F>,
        0x10 => |_, a| lane::<F>(u64::from(F::classify(a).riscv_mask())),
        _ => return Err(v.illegal()),
    };
    let dest = v.dest(F::EEW)?;
    let source = v.source(dest, v.vs2(), F::EEW)?;
    v.each(|v, i| {
        let value = op(env, lane::<F>(v.get(source, i)));
        v.set(dest, i, bits::<F>(value));
    })
}

/// Conversions of `F` to the integers of a width and back, as functions of element bits.
macro_rules! conversions {
    ($v:ident, $F:ty, $unsigned:ty, $signed:ty) => {
        match $v.vs1() & 7 {
            0 => |env, a| u64::from(<$F>::to_int::<$unsigned>(env, lane::<$F>(a), None)),
            1 => |env, a| <$F>::to_int::<$signed>(env, lane::<$F>(a), None) as u64,
            2 => |env, a| bits::<$F>(<$F>::from_int(env, a as $unsigned)),
            3 => |env, a| bits::<$F>(<$F>::from_int(env, a as $signed)),
            6 => |env, a| {
                let mode = Some(Rounding::TowardZero);
                u64::from(<$F>::to_int::<$unsigned>(env, lane::<$F>(a), mode))
            },
            7 => |env, a| {
                let mode = Some(Rounding::TowardZero);
                <$F>::to_int::<$signed>(env, lane::<$F>(a), mode) as u64
            },
            _ => return Err($v.illegal()),
        }
    };
}

/// `vfcvt`, `vfwcvt`, `vfncvt`: vs1 says between what.
fn convert(v: &mut Vector<'_, '_>, env: &mut Env) -> Done {
    let (kind, selector) = (v.vs1() >> 3, v.vs1() & 7);
    let to_float = matches!(selector, 2 | 3);
    let (from, to) = match kind {
        0 => (v.sew, v.sew),
        1 => (v.sew, v.sew + 1),
        _ => (v.sew + 1, v.sew),
    };
    let between_floats = kind != 0 && matches!(selector, 4 | 5);
    let op: Convert = if between_floats {
        float_to_float(v, from, to)?
    } else {
        let (float, integer) = if to_float { (to, from) } else { (from, to) };
        v.require(has_float(v, float, false))?;
        match (float, integer) {
            (1, 0) => conversions!(v, F16, u8, i8),
            (1, 1) => conversions!(v, F16, u16, i16),
            (1, 2) => conversions!(v, F16, u32, i32),
            (2, 1) => conversions!(v, F32, u16, i16),
            (2, 2) => conversions!(v, F32, u32, i32),
            (2, 3) => conversions!(v, F32, u64, i64),
            (3, 2) => conversions!(v, F64, u32, i32),
            (3, 3) => conversions!(v, F64, u64, i64),
            _ => return Err(v.illegal()),
        }
    };
    let dest = v.dest(to)?;
    let source = v.source(dest, v.vs2(), from)?;
    v.each(|v, i| {
        let value = op(env, v.get(source, i));
        v.set(dest, i, value);
    })
}

/// Whether the hart has floats of a width; of halves, perhaps only conversions.
fn has_float(v: &Vector<'_, '_>, eew: i32, only_convert: bool) -> bool {
    match eew {
        1 => v.has(Ext::Zvfh) || only_convert && v.has(Ext::Zvfhmin),
        2 => v.has(Ext::Zve32f),
        3 => v.has(Ext::Zve64d),
        _ => false,
    }
}

/// `vfwcvt.f.f.v`, `vfncvt.f.f.w`, `vfncvt.rod.f.f.w`, and the two of BF16.
fn float_to_float(v: &Vector<'_, '_>, from: i32, to: i32) -> Result<Convert, Trap> {
    let (halves, widest) = (from.min(to), from.max(to));
    let bf16 = matches!(v.vs1(), 0x0d | 0x1d);
    let known = has_float(v, halves, true) && has_float(v, widest, true);
    v.require(if bf16 { halves == 1 } else { known })?;
    Ok(match v.vs1() {
        0x0c if halves == 1 => |env, a| bits::<F32>(F16::convert::<F32>(env, lane::<F16>(a))),
        0x0c => |env, a| F32::convert::<F64>(env, lane::<F32>(a)),
        0x14 if halves == 1 => |env, a| bits::<F16>(F32::convert::<F16>(env, lane::<F32>(a))),
        0x14 => |env, a| bits::<F32>(F64::convert::<F32>(env, a)),
        0x15 if halves == 1 => {
            |env, a| round_to_odd(env, |env| bits::<F16>(F32::convert::<F16>(env, lane::<F32>(a))))
        }
        0x15 => |env, a| round_to_odd(env, |env| bits::<F32>(F64::convert::<F32>(env, a))),
        0x0d => |env, a| bits::<F32>(BF16::convert::<F32>(env, lane::<BF16>(a))),
        0x1d => |env, a| bits::<BF16>(F32::convert::<BF16>(env, lane::<F32>(a))),
        _ => return Err(v.illegal()),
    })
}

fn round_to_odd(env: &mut Env, run: impl FnOnce(&mut Env) -> u64) -> u64 {
    let rounding = std::mem::replace(&mut env.rounding, Rounding::ToOdd);
    let value = run(env);
    env.rounding = rounding;
    value
}
