//! Zicsr: control and status registers, all by helpers.

use super::Translator;
use crate::decode::{Csr, CsrI, Zicsr};
use crate::helpers::HelperIndex;
use ir::{ExitKind, Operand};

const FFLAGS: u16 = 0x001;
const FCSR: u16 = 0x003;

/// Registers whose value neither translation nor interrupts depend on: the unit goes on after a
/// write. fflags, vxsat, vxrm, stvec, sscratch, sepc, scause, stval, mtvec, mscratch, mepc,
/// mcause, mtval.
const QUIET: [u16; 13] =
    [FFLAGS, 0x009, 0x00a, 0x105, 0x140, 0x141, 0x142, 0x143, 0x305, 0x340, 0x341, 0x342, 0x343];

impl Zicsr for Translator<'_, '_> {
    fn csrrw(&mut self, a: Csr) {
        let value = self.x(a.rs1);
        self.csr(a.rd, a.csr, value, true);
    }
    fn csrrs(&mut self, a: Csr) {
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
