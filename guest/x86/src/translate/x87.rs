//! The x87: `spec/x87.map`. Instructions are helpers; loads, stores and what only moves words are IR.

use super::simd::shapes;
use super::{Place, Translator};
use crate::decode::Insn;
use crate::decode::traits::X87;
use crate::helpers::{HelperIndex, LeafIndex};
use crate::helpers_x87::{Format, HIGH, STORES};
use crate::state::{FCW, FSW, FTOP, FTW, mode};
use ir::{Cond, Operand};

/// Bits of the first argument of [`HelperIndex::X87Arithmetic`].
const POPS_AT: u32 = 3;
const TO_I: u64 = 1 << 5;
const I_AT: u32 = 8;
const FORMAT_AT: u32 = 12;
const QUIET: u64 = 1 << 16;
/// FCOM among the operations.
const COMPARE: u64 = 2;

impl X87 for Translator<'_, '_> {
    shapes! {
        fp_unary by_last_byte(LeafIndex::X87Unary);
        fp_constant by_constant_number();
        fp_push by_register(LeafIndex::X87Push);
        fxch by_register(LeafIndex::X87Exchange);
        fldenv with_memory(HelperIndex::LoadEnvironment, true);
        frstor with_memory(HelperIndex::X87Restore, true);
        fnstenv with_memory(HelperIndex::StoreEnvironment, false);
        fnsave with_memory(HelperIndex::X87Save, false);
        fxsave with_all(HelperIndex::Fxsave, 0);
        fxrstor with_all(HelperIndex::Fxrstor, 0);
        xsave with_all(HelperIndex::Xsave, 0);
        xsavec with_all(HelperIndex::Xsave, 1);
        xrstor with_all(HelperIndex::Xrstor, 0);
    }

    fn fnop(&mut self, i: &Insn) {
        self.x87_begins(i);
    }

    fn fp_arithmetic(&mut self, i: &Insn) {
        if !self.x87_begins(i) {
            return;
        }
        let operation = u64::from(i.modrm_reg());
        let what = operation & 7;
        if i.memory.is_some() {
            let format = memory_format(i);
            let value = self.read(i, 0);
            let pops = u64::from(operation == COMPARE + 1) << POPS_AT;
            let what = self.b.imm(what | pops | (format as u64) << FORMAT_AT);
            return self.leaf_effect(LeafIndex::X87Arithmetic, &[what, value]);
        }
        let compares = operation & !1 == COMPARE;
        let to_i = if i.opcode != 0xd8 && !compares { TO_I } else { 0 };
        let pops = i.opcode == 0xde || operation == COMPARE + 1;
        self.register_arithmetic(i, what | to_i | u64::from(pops) << POPS_AT);
    }

    /// FUCOM, FUCOMP, FUCOMPP, FCOMPP.
    fn fp_compare_pop(&mut self, i: &Insn) {
        if !self.x87_begins(i) {
            return;
        }
        let (pops, quiet) = match (i.opcode, i.modrm_reg()) {
            (0xdd, 4) => (0, QUIET),
            (0xdd, _) => (1, QUIET),
            (0xda, _) => (2, QUIET),
            _ => (2, 0),
        };
        self.register_arithmetic(i, COMPARE | pops << POPS_AT | quiet);
    }

    fn fp_compare_flags(&mut self, i: &Insn) {
        if !self.x87_begins(i) {
            return;
        }
        let quiet = self.b.imm(u64::from(i.modrm_reg() == 5));
        let pops = self.b.imm(u64::from(i.opcode == 0xdf));
        let register = self.b.imm(u64::from(i.rm & 7));
        let bits = self.leaf(LeafIndex::X87CompareFlags, &[register, quiet, pops]);
        self.flags_are(bits);
    }

    fn fp_load(&mut self, i: &Insn) {
        if !self.x87_begins(i) {
            return;
        }
        let (low, high) = match self.place(i, 0) {
            Place::Memory(base, offset) if Self::size(i, 0) == 10 => {
                let (long, half) = (self.mem(8), self.mem(2));
                let low = self.b.load(long, base, offset);
                (low, self.b.load(half, base, offset + 8))
            }
            place => (self.get(place, Self::size(i, 0)), self.b.imm(0)),
        };
        let format = self.b.imm(memory_format(i) as u64);
        self.leaf_effect(LeafIndex::X87Load, &[format, low, high]);
    }

    /// The value is stored before anything is popped and flags are set, as the store may fault.
    fn fp_store(&mut self, i: &Insn) {
        if !self.x87_begins(i) {
            return;
        }
        let format = memory_format(i);
        let cut = i.modrm_reg() == 1;
        let pops = i.modrm_reg() != 2;
        let size = Self::size(i, 0);
        // Addresses are kept across the check below in a register of the state.
        let place = self.place(i, 0);
        let Place::Memory(base, offset) = place else { return self.undefined_instruction() };
        let offset = self.imm(offset);
        let address = self.b.add(base, offset);
        self.keep(Self::scratch(3), address);
        if self.flags & mode::X87_EXACT != 0 {
            // What is not stored for an exception may fault nevertheless.
            self.probe_store(i);
        }
        let (format, cut) = (self.b.imm(format as u64), self.b.imm(cut.into()));
        let value = self.leaf(LeafIndex::X87Store, &[format, cut]);
        self.b.set_reg(Self::scratch(0), value);
        let past = (self.flags & mode::X87_EXACT != 0).then(|| {
            let past = self.b.label();
            let (word, high) = (self.b.reg(Self::scratch(STORES as u8)), self.b.imm(32));
            let (stores, zero) = (self.b.shr(word, high), self.b.imm(0));
            self.b.branch_if(Cond::Eq, stores, zero, past);
            past
        });
        let (address, value) = (self.b.reg(Self::scratch(3)), self.b.reg(Self::scratch(0)));
        let mem = self.mem(size.min(8));
        self.b.store(mem, address, 0, value);
        if size == 10 {
            let (high, mem) = (self.b.reg(Self::scratch(HIGH as u8)), self.mem(2));
            self.b.store(mem, address, 8, high);
        }
        if pops {
            self.pop_x87();
        }
        if let Some(past) = past {
            self.b.place(past);
        }
        let word = self.b.reg(Self::scratch(STORES as u8));
        let word = self.b.zext(word, 16);
        self.b.set_reg(FSW, word);
    }

    fn fp_copy(&mut self, i: &Insn) {
        if !self.x87_begins(i) {
            return;
        }
        let pops = i.opcode != 0xdd || i.modrm_reg() == 3;
        let (register, pops) = (self.b.imm(u64::from(i.rm & 7)), self.b.imm(pops.into()));
        self.leaf_effect(LeafIndex::X87Copy, &[register, pops]);
    }

    fn fcmov(&mut self, i: &Insn) {
        if !self.x87_begins(i) {
            return;
        }
        // Below, equal, below or equal, parity; and their opposites in the other opcode.
        let code = [2, 4, 6, 10][usize::from(i.modrm_reg() & 3)] | i.opcode & 1;
        let holds = self.condition_bit(code);
        let register = self.b.imm(u64::from(i.rm & 7));
        self.leaf_effect(LeafIndex::X87MoveIf, &[register, holds]);
    }

    fn ffree(&mut self, i: &Insn) {
        if !self.x87_begins(i) {
            return;
        }
        let pops = self.b.imm(u64::from(i.opcode == 0xdf));
        let register = self.b.imm(u64::from(i.rm & 7));
        self.leaf_effect(LeafIndex::X87Free, &[register, pops]);
    }

    fn fincstp(&mut self, i: &Insn) {
        self.turn(i, 1);
    }

    fn fdecstp(&mut self, i: &Insn) {
        self.turn(i, 7);
    }

    fn fldcw(&mut self, i: &Insn) {
        if !self.x87_begins(i) {
            return;
        }
        let value = self.read(i, 0);
        self.call_effect(HelperIndex::X87SetControl, &[value]);
        self.recheck_next();
    }

    fn fnstcw(&mut self, i: &Insn) {
        if self.x87_enabled(i) {
            let value = self.b.reg(FCW);
            self.write(i, 0, value);
        }
    }

    fn fnstsw(&mut self, i: &Insn) {
        if self.x87_enabled(i) {
            let value = self.status_word();
            self.write(i, 0, value);
        }
    }

    fn fnstsw_ax(&mut self, i: &Insn) {
        self.fnstsw(i);
    }

    fn fnclex(&mut self, i: &Insn) {
        if self.x87_enabled(i) {
            self.leaf_effect(LeafIndex::X87ClearExceptions, &[]);
        }
    }

    fn fninit(&mut self, i: &Insn) {
        if self.x87_enabled(i) {
            self.call_effect(HelperIndex::X87Initialise, &[]);
            self.recheck_next();
        }
    }
}

/// What the memory operand of an instruction is.
fn memory_format(i: &Insn) -> Format {
    match (i.opcode, i.modrm_reg()) {
        (0xd8 | 0xd9, _) => Format::Single,
        (0xdc, _) | (0xdd, 0 | 2 | 3) => Format::Double,
        (0xda, _) | (0xdb, 0..4) => Format::Int32,
        (0xdb, _) => Format::Extended,
        (0xdd, _) | (0xdf, 5 | 7) => Format::Int64,
        (0xdf, 4 | 6) => Format::Decimal,
        _ => Format::Int16,
    }
}

impl Insn {
    /// The digit of ModRM.reg.
    pub(crate) fn modrm_reg(&self) -> u8 {
        self.reg & 7
    }
}

impl Translator<'_, '_> {
    /// What an instruction that waits does first; whether it is to go on.
    fn x87_begins(&mut self, i: &Insn) -> bool {
        if !self.x87_enabled(i) {
            return false;
        }
        self.check_pending();
        true
    }

    /// #MF for an exception that is pending; there is none while all are masked.
    pub(crate) fn check_pending(&mut self) {
        if self.flags & mode::X87_EXACT != 0 {
            self.call_effect(HelperIndex::X87Check, &[]);
        }
    }

    fn register_arithmetic(&mut self, i: &Insn, what: u64) {
        let i_bits = u64::from(i.rm & 7) << I_AT;
        let what = self.b.imm(what | i_bits | (Format::Register as u64) << FORMAT_AT);
        self.leaf_effect(LeafIndex::X87Arithmetic, &[what]);
    }

    fn by_last_byte(&mut self, i: &Insn, helper: LeafIndex) {
        if self.x87_begins(i) {
            let what = self.b.imm(u64::from(0xc0 | i.modrm_reg() << 3 | i.rm & 7));
            self.leaf_effect(helper, &[what]);
        }
    }

    fn by_constant_number(&mut self, i: &Insn) {
        if self.x87_begins(i) {
            let which = self.b.imm(u64::from(i.rm & 7));
            self.leaf_effect(LeafIndex::X87Constant, &[which]);
        }
    }

    fn by_register(&mut self, i: &Insn, helper: LeafIndex) {
        if self.x87_begins(i) {
            let register = self.b.imm(u64::from(i.rm & 7));
            self.leaf_effect(helper, &[register]);
        }
    }

    /// Adds to TOP; C1 is cleared.
    fn turn(&mut self, i: &Insn, by: u64) {
        if !self.x87_begins(i) {
            return;
        }
        let (by, seven) = (self.b.imm(by), self.b.imm(7));
        let top = self.b.reg(FTOP);
        let top = self.b.add(top, by);
        let top = self.b.and(top, seven);
        self.b.set_reg(FTOP, top);
        let keep = self.b.imm(!crate::helpers_x87::status::C1);
        let word = self.b.reg(FSW);
        let word = self.b.and(word, keep);
        self.b.set_reg(FSW, word);
    }

    /// ST(0) is empty, and ST(1) the top.
    fn pop_x87(&mut self) {
        let (top, one, seven) = (self.b.reg(FTOP), self.b.imm(1), self.b.imm(7));
        let bit = self.b.shl(one, top);
        let in_use = self.b.reg(FTW);
        let in_use = self.b.andnot(in_use, bit);
        self.b.set_reg(FTW, in_use);
        let next = self.b.add(top, one);
        let next = self.b.and(next, seven);
        self.b.set_reg(FTOP, next);
    }

    fn status_word(&mut self) -> Operand {
        let (top, eleven) = (self.b.reg(FTOP), self.b.imm(11));
        let top = self.b.shl(top, eleven);
        let word = self.b.reg(FSW);
        self.b.or(word, top)
    }

    fn memory_address(&mut self, i: &Insn) -> Operand {
        let (base, offset) = self.address(i, 1);
        let offset = self.imm(offset);
        self.b.add(base, offset)
    }

    /// An instruction on the environment in memory; the mode may change.
    fn with_memory(&mut self, i: &Insn, helper: HelperIndex, waits: bool) {
        let begins = if waits { self.x87_begins(i) } else { self.x87_enabled(i) };
        if !begins {
            return;
        }
        let address = self.memory_address(i);
        let size = self.b.imm(if i.size == 2 { 2 } else { 4 });
        self.call_effect(helper, &[address, size]);
        self.recheck_next();
    }

    /// An instruction that saves or restores more than the x87.
    fn with_all(&mut self, i: &Insn, helper: HelperIndex, how: u64) {
        let xsave = !i.entry.mnemonic.starts_with("fx");
        if xsave && self.flags & mode::OSXSAVE == 0 {
            return self.undefined_instruction();
        }
        if !self.x87_enabled(i) {
            return;
        }
        let address = self.memory_address(i);
        let size = self.b.imm(if self.is_long() { 8 } else { 4 });
        let how = self.b.imm(how);
        self.call_effect(helper, &[address, size, how]);
        if matches!(helper, HelperIndex::Fxrstor | HelperIndex::Xrstor) {
            self.recheck_next();
        }
    }
}
