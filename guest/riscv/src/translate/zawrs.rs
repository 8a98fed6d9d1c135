//! Zawrs: wait on reservation set.

use super::Translator;
use crate::decode::Zawrs;
use crate::helpers::HelperIndex;
use ir::ExitKind;

impl Zawrs for Translator<'_, '_> {
    fn wrs_nto(&mut self) {
        self.wait_on_reservation();
    }
    fn wrs_sto(&mut self) {
        self.wait_on_reservation();
    }
}

impl Translator<'_, '_> {
    /// Waits, then sees interrupts at once.
    fn wait_on_reservation(&mut self) {
        let (insn, mmu) = (self.insn_bits(), self.imm(i64::from(self.mmu)));
        self.call_effect(HelperIndex::Wrs, &[insn, mmu]);
        self.exit_loop(ExitKind::Lookup, self.next);
    }
}
