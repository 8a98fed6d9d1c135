//! Trap return, waiting and translation fences: helpers check the rights.

use super::Translator;
use crate::decode::{Privileged, Sources};
use crate::helpers::HelperIndex;
use ir::ExitKind;

impl Privileged for Translator<'_, '_> {
    fn mret(&mut self) {
        self.trap_return(HelperIndex::Mret);
    }
    fn sret(&mut self) {
        self.trap_return(HelperIndex::Sret);
    }
    fn wfi(&mut self) {
        let insn = self.insn_bits();
        self.call_effect(HelperIndex::Wfi, &[insn]);
        self.exit_loop(ExitKind::Halt, self.next);
    }
    fn sfence_vma(&mut self, a: Sources) {
        self.fence_translations(a);
    }
    fn sinval_vma(&mut self, a: Sources) {
        self.fence_translations(a);
    }
    fn sfence_w_inval(&mut self) {
        let insn = self.insn_bits();
        self.call_effect(HelperIndex::SfenceInval, &[insn]);
    }
    fn sfence_inval_ir(&mut self) {
        let insn = self.insn_bits();
        self.call_effect(HelperIndex::SfenceInval, &[insn]);
        self.exit_loop(ExitKind::Lookup, self.next);
    }
}

impl Translator<'_, '_> {
    fn trap_return(&mut self, helper: HelperIndex) {
        let insn = self.insn_bits();
        self.call_effect(helper, &[insn]);
        self.exit_loop(ExitKind::Redirected, self.next);
    }

    fn fence_translations(&mut self, a: Sources) {
        let (insn, x, y) = (self.insn_bits(), self.x(a.rs1), self.x(a.rs2));
        self.call_effect(HelperIndex::SfenceVma, &[insn, x, y]);
        self.exit_loop(ExitKind::Lookup, self.next);
    }
}
