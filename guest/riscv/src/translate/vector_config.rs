//! V: the configuration-setting instructions.
//!
//! The new type is a constant of the instruction. Code goes on in place for vectors of full length,
//! and leaves for code of its own if they turn out shorter.

use super::Translator;
use crate::decode::{R, VConfig, Vsetivli, Vsetvli};
use crate::helpers::HelperIndex;
use crate::state::flags::{self, Length};
use crate::state::{VKNOWN, VL, VSTART, VTYPE};
use ir::{ExitKind, Operand};

/// The application vector length of an instruction.
enum Wanted {
    /// A number.
    Count(u64),
    /// What an integer register says.
    Register(u8),
    /// As many as there are.
    All,
    /// As many as before.
    Same,
}

impl VConfig for Translator<'_, '_> {
    fn vsetvli(&mut self, a: Vsetvli) {
        let wanted = match (a.rs1, a.rd) {
            (0, 0) => Wanted::Same,
            (0, _) => Wanted::All,
            (rs1, _) => Wanted::Register(rs1),
        };
        self.configure(a.rd, wanted, u64::from(self.insn >> 20 & 0x7ff));
    }
    fn vsetivli(&mut self, a: Vsetivli) {
        let count = u64::from(self.field(15));
        self.configure(a.rd, Wanted::Count(count), u64::from(self.insn >> 20 & 0x3ff));
    }
    fn vsetvl(&mut self, _: R) {
        if self.vector_on() {
            self.configure_by_helper();
        }
    }
}

impl Translator<'_, '_> {
    fn configure(&mut self, rd: u8, wanted: Wanted, vtype: u64) {
        if !self.vector_on() {
            return;
        }
        let Some(vlmax) = self.hart.vlmax(vtype) else { return self.configure_by_helper() };
        let known = flags::length(self.flags);
        let was_full = known == Length::Full;
        let same_most = self.hart.vlmax(flags::vtype(self.flags)) == Some(vlmax);
        let length = match wanted {
            Wanted::Same if was_full && same_most => Length::Full,
            Wanted::Same if known == Length::Short && same_most => Length::Short,
            Wanted::Same => return self.configure_by_helper(),
            Wanted::Count(count) if count < vlmax => Length::Short,
            _ => Length::Full,
        };
        self.set_type(known, vtype);
        match wanted {
            Wanted::Same => {}
            Wanted::Count(count) => {
                let count = self.b.imm(count.min(vlmax));
                self.set_length(rd, count);
            }
            Wanted::All => {
                let all = self.b.imm(vlmax);
                self.set_length(rd, all);
            }
            Wanted::Register(rs1) => return self.configure_for(rd, rs1, vtype, vlmax),
        }
        self.vectors_are(length, vtype);
    }

    /// `vsetvli` with a length from a register.
    fn configure_for(&mut self, rd: u8, rs1: u8, vtype: u64, vlmax: u64) {
        let (avl, most) = (self.x(rs1), self.b.imm(vlmax));
        let vl = if self.rv32 { self.b.minu32(avl, most) } else { self.b.minu(avl, most) };
        let vl = self.set_length(rd, vl);
        if self.marked {
            return;
        }
        let short = flags::with_vector(self.flags, Length::Short, vtype);
        let less = self.b.sub(vl, most);
        self.b.exit_flags(less, self.next, short);
        self.vectors_are(Length::Full, vtype);
    }

    /// Sets `vtype`, and what else the mode does not say to be right.
    fn set_type(&mut self, known: Length, vtype: u64) {
        if !matches!(known, Length::Full | Length::Short) || flags::vtype(self.flags) != vtype {
            let vtype = self.b.imm(vtype);
            self.b.set_reg(VTYPE, vtype);
        }
        if !matches!(known, Length::Full | Length::Short) {
            let zero = self.b.imm(0);
            self.b.set_reg(VSTART, zero);
        }
        if known == Length::Unknown {
            let yes = self.b.imm(1);
            self.b.set_reg(VKNOWN, yes);
        }
    }

    /// Sets rd and `vl`; where the value is then.
    fn set_length(&mut self, rd: u8, vl: Operand) -> Operand {
        if self.b.unit().as_const(vl).is_some() {
            self.b.set_reg(VL, vl);
            self.set_x(rd, vl);
            return vl;
        }
        if rd == 0 {
            self.b.set_reg(VL, vl);
            return self.b.reg(VL);
        }
        self.set_x(rd, vl);
        let vl = self.x(rd);
        self.b.set_reg(VL, vl);
        vl
    }

    /// Goes on for vectors of this kind, unless the unit ends anyway.
    fn vectors_are(&mut self, length: Length, vtype: u64) {
        if !self.marked {
            self.set_flags(flags::with_vector(self.flags, length, vtype));
        }
    }

    fn configure_by_helper(&mut self) {
        let (insn, x, y) = (self.insn_bits(), self.x(self.field(15)), self.x(self.field(20)));
        let length = self.call(HelperIndex::VectorConfigure, &[insn, x, y]);
        self.set_x(self.field(7), length);
        if !self.marked {
            self.exit_loop(ExitKind::Recheck, self.next);
        }
    }
}
