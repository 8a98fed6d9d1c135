//! Integer reductions.

use super::{Done, Vector, zero_extend};

type Op = fn(i64, i64) -> i64;

/// vd[0] = op over vs1[0] and the active elements of vs2.
pub(super) fn integer(v: &mut Vector<'_, '_>) -> Done {
    let op: Op = match v.funct6() {
        0 => i64::wrapping_add,
        1 => |a, b| a & b,
        2 => |a, b| a | b,
        3 => |a, b| a ^ b,
        4 => |a, b| a.cast_unsigned().min(b.cast_unsigned()).cast_signed(),
        5 => i64::min,
        6 => |a, b| a.cast_unsigned().max(b.cast_unsigned()).cast_signed(),
        7 => i64::max,
        _ => return Err(v.illegal()),
    };
    reduce(v, v.sew, true, op)
}

/// `vwredsumu`, `vwredsum`: a sum of twice the width.
pub(super) fn widening(v: &mut Vector<'_, '_>) -> Done {
    let signed = v.funct6() & 1 != 0;
    reduce(v, v.sew + 1, signed, i64::wrapping_add)
}

fn reduce(v: &mut Vector<'_, '_>, eew: i32, signed: bool, op: Op) -> Done {
    v.must_start()?;
    v.require(eew <= v.elen)?;
    let source = v.group(v.vs2(), v.sew)?;
    let scalar = |first| super::Group { first, count: 1, eew, emul: 0 };
    let mut sum = v.get_signed(scalar(v.vs1()), 0);
    if v.vl == 0 {
        return Ok(());
    }
    let bits = v.bits();
    v.each(|v, i| {
        let element = v.get_signed(source, i);
        let element = if signed { element } else { zero_extend(element, bits).cast_signed() };
        sum = op(sum, element);
    })?;
    v.set(scalar(v.vd()), 0, sum.cast_unsigned());
    Ok(())
}
