//! The tables of the opcode maps, generated from `spec/*.map`, and what their entries are.
#![allow(clippy::all, missing_docs, reason = "generated; checked by the tests of this crate")]
#![allow(non_camel_case_types, unused_qualifications)]

use super::Insn;
use crate::model::Feature;

/// An entry of a map.
#[derive(Debug)]
pub struct Entry {
    /// Number of the map.
    pub map: u8,
    /// Last byte of the opcode.
    pub opcode: u8,
    /// Conditions that fit.
    pub accepts: u32,
    /// Whether a ModRM byte follows.
    pub modrm: bool,
    /// Mnemonic; several, by operand size 16, 32, 64, with `|` between.
    pub mnemonic: &'static str,
    /// Operands, the destination first.
    pub operands: &'static [Operand],
    /// Attributes, a bit each.
    pub attrs: u64,
    /// Features that it needs.
    pub features: &'static [Feature],
    /// The translator's method.
    pub op: Op,
    /// The file it is from.
    pub file: &'static str,
}

impl Entry {
    /// Whether an operand is the register of VEX.vvvv.
    pub fn has_vvvv(&self) -> bool {
        let of_vvvv = |o: &Operand| matches!(o, Operand::Typed(Kind::H | Kind::B | Kind::KH, _));
        self.operands.iter().any(of_vvvv)
    }

    /// Whether it has an attribute.
    pub fn has(&self, attr: Attr) -> bool {
        self.attrs >> attr as u32 & 1 != 0
    }
}

/// An operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operand {
    /// As encoded.
    Typed(Kind, Ty),
    /// Always the same.
    Fixed(Fixed),
}

impl Operand {
    /// Whether it has a vector register as index.
    pub fn is_vsib(&self) -> bool {
        matches!(self, Self::Typed(Kind::VSIBx | Kind::VSIBy, _))
    }

    /// Whether it may be in memory, by ModRM.
    pub fn is_memory(&self) -> bool {
        use Kind as K;
        let kinds = [K::E, K::M, K::Q, K::W, K::KE, K::VSIBx, K::VSIBy];
        matches!(self, Self::Typed(kind, _) if kinds.contains(kind))
    }
}

include!(concat!(env!("OUT_DIR"), "/opcodes.rs"));
