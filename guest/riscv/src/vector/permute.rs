//! Permutation: slides, gathers, compression, whole-register moves.

use super::{Done, Group, Second, Vector};

/// `vrgather`, `vrgatherei16`, `vslideup`, `vslidedown`.
pub(super) fn slides(v: &mut Vector<'_, '_>) -> Done {
    match (v.funct6(), v.funct3()) {
        (0x0c, _) => gather(v, v.sew),
        (0x0e, 0) => gather(v, 1),
        (0x0e, _) => slide_up(v),
        (0x0f, 3 | 4) => slide_down(v),
        _ => Err(v.illegal()),
    }
}

/// The destination and vs2, which must not overlap.
fn apart(v: &Vector<'_, '_>) -> Result<(Group, Group), crate::trap::Trap> {
    let (dest, source) = (v.dest(v.sew)?, v.operand(v.vs2(), v.sew)?);
    v.require(!dest.overlaps(source))?;
    Ok((dest, source))
}

/// The unsigned distance or index in rs1 or the immediate.
fn distance(v: &Vector<'_, '_>) -> u64 {
    if v.funct3() == 3 { v.vs1() as u64 } else { v.cpu.guest.address(v.x) }
}

/// vd[i] = vs2[second[i]], or 0 beyond VLMAX.
fn gather(v: &mut Vector<'_, '_>, index_eew: i32) -> Done {
    let (dest, source) = apart(v)?;
    let vlmax = v.vlmax() as u64;
    let indices = if v.second_is_group() {
        let indices = v.operand(v.vs1(), index_eew)?;
        v.apart(source, Second::Group(indices))?;
        v.require(!dest.overlaps(indices))?;
        Some(indices)
    } else {
        None
    };
    let at = |v: &Vector<'_, '_>, index| {
        if index < vlmax { v.get(source, index as usize) } else { 0 }
    };
    match indices {
        Some(indices) => v.each(|v, i| {
            let value = at(v, v.get(indices, i));
            v.set(dest, i, value);
        }),
        None => {
            let value = Second::Value(at(v, distance(v)));
            v.each_of_two((dest, false), (dest, value), |_, value, _| value)
        }
    }
}

/// vd[i + distance] = vs2[i]
fn slide_up(v: &mut Vector<'_, '_>) -> Done {
    let (dest, source) = apart(v)?;
    let by = distance(v);
    if v.unmasked() {
        let first = v.vl.min(usize::try_from(by).unwrap_or(v.vl)).max(v.vstart);
        let (from, to) = (v.place(source, first.saturating_sub(by as usize)), v.place(dest, first));
        let len = v.vl.saturating_sub(first) << dest.eew;
        v.cpu.state.v.0.copy_within(from..from + len, to);
        return Ok(());
    }
    v.each(|v, i| {
        if let Some(from) = (i as u64).checked_sub(by) {
            let value = v.get(source, from as usize);
            v.set(dest, i, value);
        }
    })
}

/// vd[i] = vs2[i + distance], or 0 beyond VLMAX.
fn slide_down(v: &mut Vector<'_, '_>) -> Done {
    let dest = v.dest(v.sew)?;
    let source = v.operand(v.vs2(), v.sew)?;
    let (by, vlmax) = (distance(v), v.vlmax() as u64);
    v.each(|v, i| {
        let from = (i as u64).saturating_add(by);
        let value = if from < vlmax { v.get(source, from as usize) } else { 0 };
        v.set(dest, i, value);
    })
}

/// `vslide1up`, `vslide1down`: by one, the scalar at the free end.
pub(super) fn slide_one(v: &mut Vector<'_, '_>) -> Done {
    let scalar = v.x;
    if v.funct6() == 0x0e {
        let (dest, source) = apart(v)?;
        return v.each(|v, i| {
            let value = i.checked_sub(1).map_or(scalar, |from| v.get(source, from));
            v.set(dest, i, value);
        });
    }
    let (dest, source) = (v.dest(v.sew)?, v.operand(v.vs2(), v.sew)?);
    let last = v.vl.wrapping_sub(1);
    v.each(|v, i| {
        let value = if i == last { scalar } else { v.get(source, i + 1) };
        v.set(dest, i, value);
    })
}

/// vd = the elements of vs2 whose bit in vs1 is set, close together.
pub(super) fn compress(v: &mut Vector<'_, '_>) -> Done {
    v.must_start()?;
    v.require(v.unmasked())?;
    let (dest, source) = apart(v)?;
    let mask = Group::mask(v.vs1());
    v.require(!dest.overlaps(mask))?;
    let mut to = 0;
    for i in 0..v.vl {
        if v.bit(mask.first, i) {
            let value = v.get(source, i);
            v.set(dest, to, value);
            to += 1;
        }
    }
    Ok(())
}

/// `vmv1r.v` … `vmv8r.v`
pub(super) fn move_whole(v: &mut Vector<'_, '_>) -> Done {
    let count = v.vs1() + 1;
    let (vd, vs2) = (v.vd(), v.vs2());
    v.require(count.is_power_of_two() && vd.is_multiple_of(count) && vs2.is_multiple_of(count))?;
    let skipped = (v.vstart << v.sew).min(count * v.vlenb);
    let (from, len) = (vs2 * v.vlenb + skipped, count * v.vlenb - skipped);
    let to = vd * v.vlenb + skipped;
    v.cpu.state.v.0.copy_within(from..from + len, to);
    Ok(())
}
