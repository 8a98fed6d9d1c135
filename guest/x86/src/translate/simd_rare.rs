//! Instructions on vectors that helpers execute: `spec/simd_rare.map`.

use super::Translator;
use super::evex::lane_of;
use super::simd::vector_at;
use crate::decode::traits::SimdRare;
use crate::decode::{Insn, Kind, Operand as Spec};
use crate::helpers::{HelperIndex, LeafIndex};
use crate::simd::rare;
use crate::state::{SPARE_AT, X87_AT, gpr};
use ir::{OpKind as K, Operand, Type};

/// As the number of a register: what was read from memory.
const FROM_MEMORY: u8 = 255;

impl SimdRare for Translator<'_, '_> {
    fn rare(&mut self, i: &Insn) {
        if !self.vectors_enabled(i) {
            return;
        }
        let mnemonic = i.entry.mnemonic.trim_start_matches('v');
        let named = self.named(i);
        let helper = match (mnemonic, rare::index(i.entry.mnemonic)) {
            ("dpps" | "dppd", _) => {
                let size = self.b.imm(if mnemonic == "dpps" { 4 } else { 8 });
                return self.call_effect(HelperIndex::DotProduct, &[size, named]);
            }
            (_, Some(index)) => self.b.imm(index as u64),
            _ => return self.undefined_instruction(),
        };
        self.leaf_effect(LeafIndex::Rare, &[helper, named]);
    }

    fn sha(&mut self, i: &Insn) {
        let (kind, byte) = match i.entry.mnemonic {
            "sha256rnds2" => {
                return self.binary_vector(i, |t, ty, a, b| {
                    let sums = t.b.vget(ty, vector_at(0));
                    t.b.vsha256_rounds([a, b, sums])
                });
            }
            "sha256msg1" => (K::VSha256First, 0),
            "sha256msg2" => (K::VSha256Last, 0),
            "sha1rnds4" => (K::VSha1Rounds, i.byte() & 3),
            "sha1nexte" => (K::VSha1Next, 0),
            "sha1msg1" => (K::VSha1First, 0),
            _ => (K::VSha1Last, 0),
        };
        self.binary_vector(i, |t, ty, a, b| t.b.vbyte(kind, ty, byte, a, b));
    }

    fn strings(&mut self, i: &Insn) {
        if !self.vectors_enabled(i) {
            return;
        }
        // Bit 0 clear: explicit lengths; bit 1 of the opcode: an index.
        let explicit = match i.opcode & 2 {
            0 if i.w && i.is_long() => 8,
            0 => 4,
            _ => 0,
        };
        let index = i.opcode & 1 != 0;
        if index && explicit == 0 {
            let first = self.vector_operand(i, 0, Type::V128);
            let second = self.vector_operand(i, 1, Type::V128);
            let found = self.b.vbyte(K::VTextIndex, Type::V128, i.byte(), first, second);
            return self.text_found(found);
        }
        let named = self.named(i);
        let how = self.b.imm(explicit << 48 | u64::from(!index) << 56);
        let what = self.b.or(named, how);
        let (first, second) = (self.x(gpr::RAX), self.x(gpr::RDX));
        let found = self.leaf(LeafIndex::CompareStrings, &[what, first, second]);
        if index {
            return self.text_found(found);
        }
        let shift = self.b.imm(32);
        let flags = self.b.shr(found, shift);
        self.flags_are(flags);
    }

    fn maskmov(&mut self, i: &Insn) {
        if !self.vectors_enabled(i) {
            return;
        }
        let mmx = Self::uses_mmx(i);
        let at = |number: u8| match mmx {
            true => X87_AT as u64 + u64::from(number & 7) * 16,
            false => vector_at(number).into(),
        };
        let places = self.b.imm(at(i.reg) | at(i.rm) << 32);
        let bytes = if mmx { 8 } else { 16 };
        let address = self.string_destination(i, bytes);
        let bytes = self.b.imm(bytes.into());
        self.call_effect(HelperIndex::MaskedBytes, &[places, address, bytes]);
    }

    fn vmaskmov(&mut self, i: &Insn) {
        self.masked(i, i.vvvv, false);
    }

    fn vmaskmov_to(&mut self, i: &Insn) {
        self.masked(i, i.vvvv, true);
    }

    fn gather(&mut self, i: &Insn) {
        // Without an index register there is nothing to gather; 16-bit addresses have no other.
        if i.address_size == 2 {
            return self.undefined_instruction();
        }
        let (Some(memory), Some(index)) = (i.memory, i.memory.and_then(|m| m.index)) else {
            return self.undefined_instruction();
        };
        let overlaps = i.reg == i.vvvv || i.reg == index || i.vvvv == index;
        if overlaps || !self.vectors_enabled(i) {
            return if overlaps {
                self.undefined_instruction()
            };
        }
        let without = Insn { memory: Some(crate::decode::Memory { index: None, ..memory }), ..*i };
        let (base, offset) = self.address(&without, 8);
        let offset = self.imm(offset);
        let base = self.b.add(base, offset);
        let parts = i.vl / 16;
        let named = self.names(i.reg, i.vvvv, index, parts, 0);
        let size: u64 = if i.w { 8 } else { 4 };
        let index_size: u64 = if i.opcode & 1 != 0 { 8 } else { 4 };
        let narrow = u64::from(!i.is_long() || i.address_size == 4);
        let how = size | index_size << 8 | u64::from(memory.scale) << 16 | narrow << 24;
        let how = self.b.imm(how);
        self.call_effect(HelperIndex::Gather, &[named, base, how]);
    }
}

impl Translator<'_, '_> {
    /// An index of a comparison of texts, with the flags above 32 bits.
    fn text_found(&mut self, found: Operand) {
        let shift = self.b.imm(32);
        let flags = self.b.shr(found, shift);
        self.flags_are(flags);
        let low = self.b.zext(found, 32);
        self.b.set_reg(Self::gpr(gpr::RCX), low);
    }

    fn names(&mut self, to: u8, a: u8, b: u8, parts: u8, imm: u8) -> Operand {
        self.packed_names([to, a, b, parts, 1, imm])
    }

    fn packed_names(&mut self, names: [u8; 6]) -> Operand {
        let [to, a, b, parts, vex, imm] = names;
        self.b.imm(u64::from_le_bytes([to, a, b, parts, vex, imm, 0, 0]))
    }

    /// What the instruction names, for a helper; its memory operand is read.
    fn named(&mut self, i: &Insn) -> Operand {
        let ty = Self::vector_type(i);
        let operands = i.entry.operands;
        let registers = operands.iter().filter(|o| !matches!(o, Spec::Typed(Kind::I, _))).count();
        let (x, y) = if registers == 2 { (0, 1) } else { (1, 2) };
        let mut numbers = [0, x, y].map(|n| Self::vector_number(i, n));
        if i.memory.is_some() {
            let value = self.vector_operand(i, y, ty);
            self.b.vput(ty, SPARE_AT as u32, value);
            numbers[2] = FROM_MEMORY;
        }
        let parts = (ty.bytes() / 16) as u8;
        let vex = u8::from(Self::is_vex(i));
        self.packed_names([numbers[0], numbers[1], numbers[2], parts, vex, i.byte()])
    }

    fn masked(&mut self, i: &Insn, mask: u8, stores: bool) {
        if !self.vectors_enabled(i) {
            return;
        }
        let size: u8 = match i.opcode {
            0x2c | 0x2e => 4,
            0x2d | 0x2f => 8,
            _ if i.w => 8,
            _ => 4,
        };
        let ty = Self::vector_type(i);
        let (lane, lanes) = (lane_of(size), i.vl / size);
        if stores {
            let (data, mask) =
                (self.b.vget(ty, vector_at(i.reg)), self.b.vget(ty, vector_at(mask)));
            self.b.vput(ty, SPARE_AT as u32, data);
            let bits = self.b.vector1(K::VToBits, ty, lane, mask);
            self.b.set_reg(Self::scratch(0), bits);
            return self.write_lanes(i, Self::scratch(0), (lanes, size));
        }
        let (slow, past) = (self.b.label(), self.b.label());
        let chosen = self.b.vget(ty, vector_at(mask));
        let bits = self.b.vector1(K::VToBits, ty, lane, chosen);
        self.b.set_reg(Self::scratch(0), bits);
        let place = (self.whole_address(i, i.vl), self.b.reg(Self::scratch(0)));
        self.unless_all_readable(place, (i.vl, size), slow);
        let value = self.vector_at_address(i.vl, (place.0, 0), false);
        let chosen = self.b.vget(ty, vector_at(mask));
        let chosen = self.negative(ty, lane, chosen);
        let value = self.b.vlogic(K::VAnd, ty, value, chosen);
        self.put_whole(i.reg, ty, value);
        self.b.branch(past);
        self.b.place(slow);
        let named = self.names(i.reg, mask, 0, i.vl / 16, 0);
        let address = self.whole_address(i, i.vl);
        let how = self.b.imm(size.into());
        self.call_effect(HelperIndex::MaskedMove, &[named, address, how]);
        self.b.place(past);
    }

    /// Where DS:rDI leads.
    fn string_destination(&mut self, i: &Insn, size: u8) -> Operand {
        let memory = crate::decode::Memory {
            base: Some(gpr::RDI),
            segment: i.segment.unwrap_or(crate::state::seg::DS),
            ..crate::decode::Memory::default()
        };
        let with = Insn { memory: Some(memory), ..*i };
        let (base, offset) = self.address(&with, size);
        let offset = self.imm(offset);
        self.b.add(base, offset)
    }
}
