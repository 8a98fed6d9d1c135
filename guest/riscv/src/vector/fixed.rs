//! Fixed-point arithmetic: saturation, averages, rounding shifts and multiplication, clipping.

use super::{Done, Vector, zero_extend};

/// Computes on exact numbers: the result, and how far to shift it right with rounding.
type Op = fn(i128, i128) -> (i128, u32);

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
        0x20 => saturating(v, Unsigned, |a, b| (a + b, 0)),
        0x21 => saturating(v, Signed, |a, b| (a + b, 0)),
        0x22 => saturating(v, Unsigned, |a, b| (a - b, 0)),
        0x23 => saturating(v, Signed, |a, b| (a - b, 0)),
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
        0x08 => wrapping(v, Unsigned, |a, b| (a + b, 1)),
        0x09 => wrapping(v, Signed, |a, b| (a + b, 1)),
        0x0a => wrapping(v, Unsigned, |a, b| (a - b, 1)),
        0x0b => wrapping(v, Signed, |a, b| (a - b, 1)),
        _ => Err(v.illegal()),
    }
}

/// value / 2^by, rounded as `vxrm` says.
fn round(value: i128, by: u32, vxrm: u64) -> i128 {
    if by == 0 {
        return value;
    }
    let (half, below) = (value >> (by - 1) & 1, value & ((1 << (by - 1)) - 1));
    let shifted = value >> by;
    shifted
        + match vxrm {
            0 => half,
            1 => half & i128::from(below != 0 || shifted & 1 != 0),
            2 => 0,
            _ => i128::from(shifted & 1 == 0 && (half != 0 || below != 0)),
        }
}

/// The nearest number of `bits` bits; and whether that is another one.
fn clip(value: i128, bits: u32, sign: Sign) -> (i128, bool) {
    let (low, high) = match sign {
        Signed => (-(1 << (bits - 1)), (1 << (bits - 1)) - 1),
        Unsigned => (0, (1 << bits) - 1),
    };
    let clipped = value.clamp(low, high);
    (clipped, clipped != value)
}

fn exact(value: i64, bits: u32, sign: Sign) -> i128 {
    match sign {
        Signed => i128::from(value),
        Unsigned => i128::from(zero_extend(value, bits)),
    }
}

fn saturating(v: &mut Vector<'_, '_>, sign: Sign, op: Op) -> Done {
    binary(v, sign, true, op)
}

fn wrapping(v: &mut Vector<'_, '_>, sign: Sign, op: Op) -> Done {
    binary(v, sign, false, op)
}

fn binary(v: &mut Vector<'_, '_>, sign: Sign, saturate: bool, op: Op) -> Done {
    let dest = v.dest(v.sew)?;
    let (first, second) = (v.source(dest, v.vs2(), v.sew)?, v.second(dest, v.sew)?);
    let (bits, vxrm) = (v.bits(), v.cpu.state.vxrm);
    v.each(|v, i| {
        let a = exact(v.get_signed(first, i), bits, sign);
        let b = exact(v.get_second(second, v.sew, i), bits, sign);
        let (value, by) = op(a, b);
        let mut value = round(value, by, vxrm);
        if saturate {
            let (clipped, changed) = clip(value, bits, sign);
            v.cpu.state.vxsat |= u64::from(changed);
            value = clipped;
        }
        v.set(dest, i, value as u64);
    })
}

/// `vsmul`: vd[i] = clip(round(vs2[i] · second[i] / 2^(SEW − 1)))
fn multiply(v: &mut Vector<'_, '_>) -> Done {
    let by = v.bits() - 1;
    let dest = v.dest(v.sew)?;
    let (first, second) = (v.source(dest, v.vs2(), v.sew)?, v.second(dest, v.sew)?);
    let (bits, vxrm) = (v.bits(), v.cpu.state.vxrm);
    v.each(|v, i| {
        let product =
            i128::from(v.get_signed(first, i)) * i128::from(v.get_second(second, v.sew, i));
        let (value, changed) = clip(round(product, by, vxrm), bits, Signed);
        v.cpu.state.vxsat |= u64::from(changed);
        v.set(dest, i, value as u64);
    })
}

/// `vssrl`, `vssra`; `vnclipu`, `vnclip` if `narrowing`: shift with rounding, then clip.
fn shift(v: &mut Vector<'_, '_>, sign: Sign, narrowing: bool) -> Done {
    let dest = v.dest(v.sew)?;
    let first = v.source(dest, v.vs2(), v.sew + i32::from(narrowing))?;
    let second = v.second_unsigned(dest, v.sew)?;
    v.apart(first, second)?;
    let (bits, vxrm) = (v.bits(), v.cpu.state.vxrm);
    let from = if narrowing { 2 * bits } else { bits };
    v.each(|v, i| {
        let by = (v.get_second(second, v.sew, i) & i64::from(from - 1)) as u32;
        let value = round(exact(v.get_signed(first, i), from, sign), by, vxrm);
        let (clipped, changed) = clip(value, bits, sign);
        if narrowing {
            v.cpu.state.vxsat |= u64::from(changed);
        }
        v.set(dest, i, clipped as u64);
    })
}
