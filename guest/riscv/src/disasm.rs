//! How operands are printed that are neither registers nor plain numbers.

mod csr_names;

use std::fmt::{Result, Write};

use crate::decode::{At, Ext};

/// Address of a jump's or branch's target.
pub(crate) fn target(out: &mut dyn Write, offset: i64, at: &At) -> Result {
    let target = at.pc.wrapping_add_signed(offset);
    let target = if at.ext.has(Ext::Rv32) { target & 0xffff_ffff } else { target };
    write!(out, "{target:#x}")
}

/// The twenty high bits that `lui` and `auipc` give.
pub(crate) fn upper(out: &mut dyn Write, value: i64, _: &At) -> Result {
    write!(out, "{:#x}", value >> 12 & 0xf_ffff)
}

/// Ordering bits of an atomic instruction, as a suffix of the mnemonic.
pub(crate) fn ordering(out: &mut dyn Write, aqrl: i64, _: &At) -> Result {
    out.write_str(match aqrl {
        0 => "",
        1 => ".rl",
        2 => ".aq",
        _ => ".aqrl",
    })
}

/// Static rounding mode; nothing for the dynamic one.
pub(crate) fn rounding(out: &mut dyn Write, rm: i64, _: &At) -> Result {
    out.write_str(match rm {
        0 => ", rne",
        1 => ", rtz",
        2 => ", rdn",
        3 => ", rup",
        4 => ", rmm",
        _ => "",
    })
}

/// Rounding mode of a conversion that never rounds: assemblers write zero and leave it out.
pub(crate) fn exact(out: &mut dyn Write, rm: i64, at: &At) -> Result {
    if rm == 0 { Ok(()) } else { rounding(out, rm, at) }
}

/// Accesses that a fence orders.
pub(crate) fn fence_set(out: &mut dyn Write, set: i64, _: &At) -> Result {
    if set == 0 {
        return out.write_str("0");
    }
    let bits = [(8, 'i'), (4, 'o'), (2, 'r'), (1, 'w')];
    bits.iter().filter(|(bit, _)| set & bit != 0).try_for_each(|(_, c)| out.write_char(*c))
}

/// Name of a control and status register; its number if it has none.
pub(crate) fn csr(out: &mut dyn Write, number: i64, _: &At) -> Result {
    let found = u16::try_from(number).ok().and_then(|n| csr_names::find(n));
    match found {
        Some((name, None, suffix)) => write!(out, "{name}{suffix}"),
        Some((name, Some(index), suffix)) => write!(out, "{name}{index}{suffix}"),
        None => write!(out, "{number:#x}"),
    }
}

/// Number of a may-be-operation, as a suffix of the mnemonic.
pub(crate) fn dotted(out: &mut dyn Write, n: i64, _: &At) -> Result {
    write!(out, ".{n}")
}

/// Mask of a vector instruction: nothing if it has none.
pub(crate) fn mask(out: &mut dyn Write, vm: i64, _: &At) -> Result {
    out.write_str(if vm == 0 { ", v0.t" } else { "" })
}

/// Vector type of `vsetvli`: its number if it is a reserved one.
pub(crate) fn vtype(out: &mut dyn Write, vtype: i64, _: &At) -> Result {
    let (lmul, sew) = (vtype & 7, vtype >> 3 & 7);
    if lmul == 4 || sew > 3 || vtype >> 8 != 0 {
        return write!(out, "{vtype}");
    }
    let lmul = if lmul < 4 { format!("m{}", 1 << lmul) } else { format!("mf{}", 1 << (8 - lmul)) };
    let tail = if vtype & 0x40 != 0 { "ta" } else { "tu" };
    let masked = if vtype & 0x80 != 0 { "ma" } else { "mu" };
    write!(out, "e{}, {lmul}, {tail}, {masked}", 8 << sew)
}

/// Element width of a vector load or store, in bits.
pub(crate) fn eew(out: &mut dyn Write, width: i64, _: &At) -> Result {
    write!(out, "{}", if width == 0 { 8 } else { 16 << (width & 7).saturating_sub(5) })
}

/// Number of fields of a segment: nothing for a plain load or store.
pub(crate) fn segment(out: &mut dyn Write, nf: i64, _: &At) -> Result {
    if nf == 1 { Ok(()) } else { write!(out, "seg{nf}") }
}
