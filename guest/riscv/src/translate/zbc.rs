//! Zbc and Zbkc: carry-less multiplication.

use super::Translator;
use crate::decode::{R, Zbc};
use crate::helpers::HelperIndex;

impl Zbc for Translator<'_, '_> {
    fn clmul(&mut self, a: R) {
        self.helper(a, HelperIndex::Clmul);
    }
    fn clmulh(&mut self, a: R) {
        self.helper(a, HelperIndex::Clmulh);
    }
    fn clmulr(&mut self, a: R) {
        self.helper(a, HelperIndex::Clmulr);
    }
}
