//! Mask instructions, and moves between element 0 and an integer register.

use super::{Done, Group, Vector};
use crate::trap::Trap;

/// Logical operations of masks; all elements from `vstart` to `vl`.
pub(super) fn logical(v: &mut Vector<'_, '_>) -> Done {
    let op: fn(bool, bool) -> bool = match v.funct6() {
        0x18 => |a, b| a & !b,
        0x19 => |a, b| a & b,
        0x1a => |a, b| a | b,
        0x1b => |a, b| a ^ b,
        0x1c => |a, b| a | !b,
        0x1d => |a, b| !(a & b),
        0x1e => |a, b| !(a | b),
        _ => |a, b| a == b,
    };
    for i in v.vstart..v.vl {
        let value = op(v.bit(v.vs2(), i), v.bit(v.vs1(), i));
        v.set_bit(v.vd(), i, value);
    }
    Ok(())
}

/// `vmv.x.s`, `vcpop.m`, `vfirst.m`: the integer result; and `vmv.s.x`.
pub(super) fn unary(v: &mut Vector<'_, '_>) -> Result<u64, Trap> {
    let one = |first, eew| Group { first, count: 1, eew, emul: 0 };
    let result = match (v.funct3(), v.vs1()) {
        (2, 0x00) => v.get_signed(one(v.vs2(), v.sew), 0).cast_unsigned(),
        (2, 0x10) => {
            v.must_start()?;
            (0..v.vl).filter(|i| v.active(*i) && v.bit(v.vs2(), *i)).count() as u64
        }
        (2, 0x11) => {
            v.must_start()?;
            let first = (0..v.vl).find(|i| v.active(*i) && v.bit(v.vs2(), *i));
            first.map_or(u64::MAX, |i| i as u64)
        }
        (6, _) => {
            if v.vstart < v.vl {
                v.set(one(v.vd(), v.sew), 0, v.x);
            }
            0
        }
        _ => return Err(v.illegal()),
    };
    v.cpu.state.vstart = 0;
    Ok(v.cpu.guest.value(result))
}

/// `vmsbf.m`, `vmsof.m`, `vmsif.m`, `viota.m`, `vid.v`.
pub(super) fn set_first(v: &mut Vector<'_, '_>) -> Done {
    match v.vs1() {
        0x01 => around_first(v, |before, _| before),
        0x02 => around_first(v, |before, at| !before && at),
        0x03 => around_first(v, |before, at| before || at),
        0x10 => iota(v),
        0x11 => {
            let dest = v.dest(v.sew)?;
            v.each(|v, i| v.set(dest, i, i as u64))
        }
        _ => Err(v.illegal()),
    }
}

/// vd.mask[i] by whether i is before, or at, the first set bit of vs2.
fn around_first(v: &mut Vector<'_, '_>, value: fn(bool, bool) -> bool) -> Done {
    v.must_start()?;
    let (vd, vs2) = (v.vd(), v.vs2());
    v.require(vd != vs2 && (v.unmasked() || vd != 0))?;
    let mut found = false;
    v.each(|v, i| {
        let first = !found && v.bit(vs2, i);
        found |= first;
        v.set_bit(vd, i, value(!found, first));
    })
}

/// vd[i] = number of set bits of vs2 before i
fn iota(v: &mut Vector<'_, '_>) -> Done {
    v.must_start()?;
    let dest = v.dest(v.sew)?;
    let source = Group::mask(v.vs2());
    v.require(!dest.overlaps(source))?;
    let mut count = 0;
    v.each(|v, i| {
        v.set(dest, i, count);
        count += u64::from(v.bit(source.first, i));
    })
}
