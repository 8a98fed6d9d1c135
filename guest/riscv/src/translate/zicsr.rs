//! Zicsr: control and status registers, by helpers; `fflags` also without, since compilers save and
//! restore it around quiet comparisons.

use super::Translator;
use crate::decode::{Csr, CsrI, Ext, Zicsr};
use crate::helpers::HelperIndex;
use crate::state::{self, flags};
use ir::{Cond, ExitKind, Operand};

const FFLAGS: u16 = 0x001;
const FCSR: u16 = 0x003;
const VL: u16 = 0xc20;
const VLENB: u16 = 0xc22;

/// Registers whose value neither translation nor interrupts depend on: the unit goes on after a
/// write. fflags, vxsat, vxrm, stvec, sscratch, sepc, scause, stval, mtvec, mscratch, mepc,
/// mcause, mtval.
const QUIET: [u16; 13] =
    [FFLAGS, 0x009, 0x00a, 0x105, 0x140, 0x141, 0x142, 0x143, 0x305, 0x340, 0x341, 0x342, 0x343];

impl Zicsr for Translator<'_, '_> {
    fn csrrw(&mut self, a: Csr) {
        let value = self.x(a.rs1);
        if a.csr == FFLAGS && self.has_plain_fflags() {
            return self.write_fflags(a.rd, value);
        }
        self.csr(a.rd, a.csr, value, true);
    }
    fn csrrs(&mut self, a: Csr) {
        if a.csr == FFLAGS && a.rs1 == 0 && self.has_plain_fflags() {
            let all = self.fflags();
            return self.set_x(a.rd, all);
        }
        if a.rs1 == 0
            && let Some(value) = self.vector_csr(a.csr)
        {
            return self.set_x(a.rd, value);
        }
        let value = self.x(a.rs1);
        self.csr(a.rd, a.csr, value, a.rs1 != 0);
    }
    fn csrrc(&mut self, a: Csr) {
        let value = self.x(a.rs1);
        self.csr(a.rd, a.csr, value, a.rs1 != 0);
    }
    fn csrrwi(&mut self, a: CsrI) {
        let value = self.imm(a.zimm);
        self.csr(a.rd, a.csr, value, true);
    }
    fn csrrsi(&mut self, a: CsrI) {
        let value = self.imm(a.zimm);
        self.csr(a.rd, a.csr, value, a.zimm != 0);
    }
    fn csrrci(&mut self, a: CsrI) {
        let value = self.imm(a.zimm);
        self.csr(a.rd, a.csr, value, a.zimm != 0);
    }
}

impl Translator<'_, '_> {
    /// `vl` or `vlenb`, if that is what the number says and the vector unit is on.
    fn vector_csr(&mut self, csr: u16) -> Option<Operand> {
        if !self.has(Ext::Zve32x) || flags::vs(self.flags) == flags::OFF {
            return None;
        }
        match csr {
            VL => Some(self.b.reg(state::VL)),
            VLENB => Some(self.b.imm(u64::from(self.hart.config.vlen / 8))),
            _ => None,
        }
    }

    /// Whether `fflags` is there and nothing but itself changes with it.
    fn has_plain_fflags(&self) -> bool {
        self.has(Ext::F) && flags::fs(self.flags) == flags::DIRTY
    }

    /// The accrued exceptions: those in the state and those that the host's units collected.
    fn fflags(&mut self) -> Operand {
        let collected = self.b.flags_get();
        let kept = self.b.reg(state::FFLAGS);
        self.b.or(collected, kept)
    }

    /// Sets the accrued exceptions. Mostly they are set to what they are.
    fn write_fflags(&mut self, rd: u8, value: Operand) {
        let mask = self.b.imm(0x1f);
        let (new, old) = (self.b.and(value, mask), self.fflags());
        if rd != 0 {
            self.b.flags_clear();
            self.b.set_reg(state::FFLAGS, new);
            return self.set_x(rd, old);
        }
        let same = self.b.label();
        self.b.branch_if(Cond::Eq, old, new, same);
        self.b.flags_clear();
        self.b.set_reg(state::FFLAGS, new);
        self.b.place(same);
    }

    /// The helper finds in the instruction what to do with the operand.
    fn csr(&mut self, rd: u8, csr: u16, operand: Operand, writes: bool) {
        let float = (FFLAGS..=FCSR).contains(&csr);
        let helper = if float { HelperIndex::CsrFloat } else { HelperIndex::Csr };
        let insn = self.insn_bits();
        let old = self.call(helper, &[insn, operand]);
        self.set_x(rd, old);
        if writes && !QUIET.contains(&csr) {
            self.exit_loop(ExitKind::Recheck, self.next);
        }
    }
}
