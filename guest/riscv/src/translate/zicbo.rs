//! Zicbom, Zicboz, Zicbop: cache blocks. Helpers check the rights; prefetches do nothing.

use super::Translator;
use crate::decode::{Base, BaseOffset, Zicbo};
use crate::helpers::HelperIndex;

impl Zicbo for Translator<'_, '_> {
    fn cbo_inval(&mut self, a: Base) {
        self.cache_block(a, HelperIndex::Cbo);
    }
    fn cbo_clean(&mut self, a: Base) {
        self.cache_block(a, HelperIndex::Cbo);
    }
    fn cbo_flush(&mut self, a: Base) {
        self.cache_block(a, HelperIndex::Cbo);
    }
    fn cbo_zero(&mut self, a: Base) {
        self.cache_block(a, HelperIndex::CboZero);
    }
    fn prefetch_i(&mut self, _: BaseOffset) {}
    fn prefetch_r(&mut self, _: BaseOffset) {}
    fn prefetch_w(&mut self, _: BaseOffset) {}
}

impl Translator<'_, '_> {
    fn cache_block(&mut self, a: Base, helper: HelperIndex) {
        let (insn, at) = (self.insn_bits(), self.at_x(a.rs1));
        self.call_effect(helper, &[insn, at]);
    }
}
