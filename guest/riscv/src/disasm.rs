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
