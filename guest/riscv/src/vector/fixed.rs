//! Fixed-point arithmetic: saturation, averages, rounding shifts and multiplication, clipping.

use super::{Done, Vector, zero_extend};
use std::ops::{Add, BitAnd, Mul, Shl, Shr, Sub};

/// Numbers wide enough to be exact: of 64 bits for elements of 32 and fewer, else of 128.
trait Exact:
    Copy
    + Ord
    + From<i64>
    + From<bool>
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + BitAnd<Output = Self>
    + Shl<u32, Output = Self>
    + Shr<u32, Output = Self>
{
    fn low(self) -> i64;
}

impl Exact for i64 {
    fn low(self) -> i64 {
        self
    }
}

impl Exact for i128 {
    fn low(self) -> i64 {
        self as i64
    }
}

/// How elements are read and results limited.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sign {
    Signed,
    Unsigned,
}
use Sign::{Signed, Unsigned};

/// The instructions with funct3 OPIVV, OPIVX, OPIVI.
pub(super) fn operate(v: &mut Vector<'_, '_>) -> Done {
    match v.funct6() {
        0x20 => sum(v, Unsigned, None),
        0x21 => sum(v, Signed, None),
        0x22 => difference(v, Unsigned, None),
        0x23 => difference(v, Signed, None),
        0x27 => multiply(v),
        0x2a => shift(v, Unsigned, false),
        0x2b => shift(v, Signed, false),
        0x2e => shift(v, Unsigned, true),
        0x2f => shift(v, Signed, true),
        _ => Err(v.illegal()),
    }
}

/// The averages: vd[i] = round((vs2[i] ± second[i]) / 2).
pub(super) fn average(v: &mut Vector<'_, '_>) -> Done {
    match v.funct6() {
        0x08 => sum(v, Unsigned, Some(1)),
        0x09 => sum(v, Signed, Some(1)),
        0x0a => difference(v, Unsigned, Some(1)),
        0x0b => difference(v, Signed, Some(1)),
        _ => Err(v.illegal()),
    }
}

/// value / 2^by, rounded as `vxrm` says.
fn round<N: Exact>(value: N, by: u32, vxrm: u64) -> N {
    if by == 0 {
        return value;
    }
    let (zero, one) = (N::from(false), N::from(true));
    let half = (value >> (by - 1)) & one;
    let below = value & ((one << (by - 1)) - one) != zero;
    let shifted = value >> by;
    let odd = shifted & one != zero;
    shifted
        + match vxrm {
            0 => half,
            1 => half & N::from(below || odd),
            2 => zero,
            _ => N::from(!odd && (half != zero || below)),
        }
}

/// The nearest number of `bits` bits; and whether that is another one.
fn clip<N: Exact>(value: N, bits: u32, sign: Sign) -> (N, bool) {
    let (zero, one) = (N::from(false), N::from(true));
    let (low, high) = match sign {
        Signed => (zero - (one << (bits - 1)), (one << (bits - 1)) - one),
        Unsigned => (zero, (one << bits) - one),
    };
    let clipped = value.clamp(low, high);
    (clipped, clipped != value)
}

fn exact<N: Exact>(value: i64, bits: u32, sign: Sign) -> N {
    match sign {
        Unsigned if bits < 64 => N::from(zero_extend(value, bits).cast_signed()),
        // Twice as many bits hold the number without its sign.
        Unsigned if value < 0 => {
            N::from(value) + N::from(i64::MAX) + N::from(i64::MAX) + N::from(2)
        }
        _ => N::from(value),
    }
}

fn sum(v: &mut Vector<'_, '_>, sign: Sign, halves: Option<u32>) -> Done {
    match v.bits() {
        64 => binary::<i128>(v, sign, halves, |a, b| a + b),
        _ => binary::<i64>(v, sign, halves, |a, b| a + b),
    }
}

fn difference(v: &mut Vector<'_, '_>, sign: Sign, halves: Option<u32>) -> Done {
    match v.bits() {
        64 => binary::<i128>(v, sign, halves, |a, b| a - b),
        _ => binary::<i64>(v, sign, halves, |a, b| a - b),
    }
}

/// vd[i] = clip(vs2[i] op second[i]), or, with `halves`, that divided by a power of two and rounded.
fn binary<N: Exact>(
    v: &mut Vector<'_, '_>,
    sign: Sign,
    halves: Option<u32>,
    op: impl Fn(N, N) -> N,
) -> Done {
    let dest = v.dest(v.sew)?;
    let (first, second) = (v.source(dest, v.vs2(), v.sew)?, v.second(dest, v.sew)?);
    let (bits, vxrm) = (v.bits(), v.cpu.state.vxrm);
    let mut saturated = false;
    v.each_of_two((dest, false), (first, second), |a, b, _| {
        let value = op(exact(a, bits, sign), exact(b, bits, sign));
        if let Some(by) = halves {
            return round(value, by, vxrm).low();
        }
        let (clipped, changed) = clip(value, bits, sign);
        saturated |= changed;
        clipped.low()
    })?;
    v.cpu.state.vxsat |= u64::from(saturated);
    Ok(())
}

/// `vsmul`: vd[i] = clip(round(vs2[i] · second[i] / 2^(SEW − 1)))
fn multiply(v: &mut Vector<'_, '_>) -> Done {
    match v.bits() {
        64 => multiply_exactly::<i128>(v),
        _ => multiply_exactly::<i64>(v),
    }
}

fn multiply_exactly<N: Exact>(v: &mut Vector<'_, '_>) -> Done {
    let by = v.bits() - 1;
    let dest = v.dest(v.sew)?;
    let (first, second) = (v.source(dest, v.vs2(), v.sew)?, v.second(dest, v.sew)?);
    let (bits, vxrm) = (v.bits(), v.cpu.state.vxrm);
    let mut saturated = false;
    v.each_of_two((dest, false), (first, second), |a, b, _| {
        let (value, changed) = clip(round(N::from(a) * N::from(b), by, vxrm), bits, Signed);
        saturated |= changed;
        value.low()
    })?;
    v.cpu.state.vxsat |= u64::from(saturated);
    Ok(())
}

/// `vssrl`, `vssra`; `vnclipu`, `vnclip` if `narrowing`: shift with rounding, then clip.
fn shift(v: &mut Vector<'_, '_>, sign: Sign, narrowing: bool) -> Done {
    match v.bits() << u32::from(narrowing) {
        64.. => shift_exactly::<i128>(v, sign, narrowing),
        _ => shift_exactly::<i64>(v, sign, narrowing),
    }
}

fn shift_exactly<N: Exact>(v: &mut Vector<'_, '_>, sign: Sign, narrowing: bool) -> Done {
    let dest = v.dest(v.sew)?;
    let first = v.source(dest, v.vs2(), v.sew + i32::from(narrowing))?;
    let second = v.second_unsigned(dest, v.sew)?;
    v.apart(first, second)?;
    let (bits, vxrm) = (v.bits(), v.cpu.state.vxrm);
    let from = if narrowing { 2 * bits } else { bits };
    let mut saturated = false;
    v.each_of_two((dest, false), (first, second), |a, b, _| {
        let by = (b & i64::from(from - 1)) as u32;
        let (clipped, changed) = clip(round(exact::<N>(a, from, sign), by, vxrm), bits, sign);
        saturated |= changed;
        clipped.low()
    })?;
    v.cpu.state.vxsat |= u64::from(narrowing && saturated);
    Ok(())
}
