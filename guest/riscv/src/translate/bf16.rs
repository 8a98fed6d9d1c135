//! Zfbfmin: conversions of BF16, by softfloat.

use super::Translator;
use super::float::{Format, To};
use crate::decode::{Bf16, FpR1};

impl Bf16 for Translator<'_, '_> {
    fn fcvt_bf16_s(&mut self, a: FpR1) {
        self.soft_rounded(To::F(a.rd, Format::H), a.rm);
    }
    fn fcvt_s_bf16(&mut self, a: FpR1) {
        self.soft_rounded(To::F(a.rd, Format::S), a.rm);
    }
}
