//! F: single-precision floating point.

use super::Translator;
use super::float::{Format, Sign};
use crate::decode::{F, FpR, FpR1, FpR4, I, R, R1, S};
use ir::{FpCond, OpKind};

impl F for Translator<'_, '_> {
    fn flw(&mut self, a: I) {
        self.fp_load(a, Format::S);
    }
    fn fsw(&mut self, a: S) {
        self.fp_store(a, Format::S);
    }
    fn fmadd_s(&mut self, a: FpR4) {
        self.fp_mul_add(a, (false, false), Format::S);
    }
    fn fmsub_s(&mut self, a: FpR4) {
        self.fp_mul_add(a, (false, true), Format::S);
    }
    fn fnmsub_s(&mut self, a: FpR4) {
        self.fp_mul_add(a, (true, false), Format::S);
    }
    fn fnmadd_s(&mut self, a: FpR4) {
        self.fp_mul_add(a, (true, true), Format::S);
    }
    fn fadd_s(&mut self, a: FpR) {
        self.fp_binary(a, OpKind::FAdd, Format::S);
    }
    fn fsub_s(&mut self, a: FpR) {
        self.fp_binary(a, OpKind::FSub, Format::S);
    }
    fn fmul_s(&mut self, a: FpR) {
        self.fp_binary(a, OpKind::FMul, Format::S);
    }
    fn fdiv_s(&mut self, a: FpR) {
        self.fp_binary(a, OpKind::FDiv, Format::S);
    }
    fn fsqrt_s(&mut self, a: FpR1) {
        self.fp_sqrt(a, Format::S);
    }
    fn fsgnj_s(&mut self, a: R) {
        self.fp_sign(a, Sign::Copy, Format::S);
    }
    fn fsgnjn_s(&mut self, a: R) {
        self.fp_sign(a, Sign::Negate, Format::S);
    }
    fn fsgnjx_s(&mut self, a: R) {
        self.fp_sign(a, Sign::Xor, Format::S);
    }
    fn fmin_s(&mut self, a: R) {
        self.fp_extremum(a, OpKind::FMin, Format::S);
    }
    fn fmax_s(&mut self, a: R) {
        self.fp_extremum(a, OpKind::FMax, Format::S);
    }
    fn feq_s(&mut self, a: R) {
        self.fp_compare(a, FpCond::EqQuiet, Format::S);
    }
    fn flt_s(&mut self, a: R) {
        self.fp_compare(a, FpCond::LtSignal, Format::S);
    }
    fn fle_s(&mut self, a: R) {
        self.fp_compare(a, FpCond::LeSignal, Format::S);
    }
    fn fclass_s(&mut self, a: R1) {
        self.fp_class(a, Format::S);
    }
    fn fcvt_w_s(&mut self, a: FpR1) {
        self.fp_to_int(a, (32, true), Format::S);
    }
    fn fcvt_s_w(&mut self, a: FpR1) {
        self.fp_from_int(a, (32, true), Format::S);
    }
    fn fcvt_wu_s(&mut self, a: FpR1) {
        self.fp_to_int(a, (32, false), Format::S);
    }
    fn fcvt_s_wu(&mut self, a: FpR1) {
        self.fp_from_int(a, (32, false), Format::S);
    }
    fn fcvt_l_s(&mut self, a: FpR1) {
        self.fp_to_int(a, (64, true), Format::S);
    }
    fn fcvt_s_l(&mut self, a: FpR1) {
        self.fp_from_int(a, (64, true), Format::S);
    }
    fn fcvt_lu_s(&mut self, a: FpR1) {
        self.fp_to_int(a, (64, false), Format::S);
    }
    fn fcvt_s_lu(&mut self, a: FpR1) {
        self.fp_from_int(a, (64, false), Format::S);
    }
    fn fmv_x_w(&mut self, a: R1) {
        self.fp_move_to_x(a.rd, a.rs1, Format::S);
    }
    fn fmv_w_x(&mut self, a: R1) {
        self.fp_move_from_x(a.rd, a.rs1, Format::S);
    }
}
