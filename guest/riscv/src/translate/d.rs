//! D: double-precision floating point.

use super::Translator;
use super::float::{Format, Sign};
use crate::decode::{D, FpR, FpR1, FpR4, I, R, R1, S};
use ir::{FpCond, OpKind};

impl D for Translator<'_, '_> {
    fn fld(&mut self, a: I) {
        self.fp_load(a, Format::D);
    }
    fn fsd(&mut self, a: S) {
        self.fp_store(a, Format::D);
    }
    fn fmadd_d(&mut self, a: FpR4) {
        self.fp_mul_add(a, (false, false), Format::D);
    }
    fn fmsub_d(&mut self, a: FpR4) {
        self.fp_mul_add(a, (false, true), Format::D);
    }
    fn fnmsub_d(&mut self, a: FpR4) {
        self.fp_mul_add(a, (true, false), Format::D);
    }
    fn fnmadd_d(&mut self, a: FpR4) {
        self.fp_mul_add(a, (true, true), Format::D);
    }
    fn fadd_d(&mut self, a: FpR) {
        self.fp_binary(a, OpKind::FAdd, Format::D);
    }
    fn fsub_d(&mut self, a: FpR) {
        self.fp_binary(a, OpKind::FSub, Format::D);
    }
    fn fmul_d(&mut self, a: FpR) {
        self.fp_binary(a, OpKind::FMul, Format::D);
    }
    fn fdiv_d(&mut self, a: FpR) {
        self.fp_binary(a, OpKind::FDiv, Format::D);
    }
    fn fsqrt_d(&mut self, a: FpR1) {
        self.fp_sqrt(a, Format::D);
    }
    fn fsgnj_d(&mut self, a: R) {
        self.fp_sign(a, Sign::Copy, Format::D);
    }
    fn fsgnjn_d(&mut self, a: R) {
        self.fp_sign(a, Sign::Negate, Format::D);
    }
    fn fsgnjx_d(&mut self, a: R) {
        self.fp_sign(a, Sign::Xor, Format::D);
    }
    fn fmin_d(&mut self, a: R) {
        self.fp_extremum(a, OpKind::FMin, Format::D);
    }
    fn fmax_d(&mut self, a: R) {
        self.fp_extremum(a, OpKind::FMax, Format::D);
    }
    fn feq_d(&mut self, a: R) {
        self.fp_compare(a, FpCond::EqQuiet, Format::D);
    }
    fn flt_d(&mut self, a: R) {
        self.fp_compare(a, FpCond::LtSignal, Format::D);
    }
    fn fle_d(&mut self, a: R) {
        self.fp_compare(a, FpCond::LeSignal, Format::D);
    }
    fn fclass_d(&mut self, a: R1) {
        self.fp_class(a, Format::D);
    }
    fn fcvt_w_d(&mut self, a: FpR1) {
        self.fp_to_int(a, (32, true), Format::D);
    }
    fn fcvt_d_w(&mut self, a: FpR1) {
        self.fp_from_int(a, (32, true), Format::D);
    }
    fn fcvt_wu_d(&mut self, a: FpR1) {
        self.fp_to_int(a, (32, false), Format::D);
    }
    fn fcvt_d_wu(&mut self, a: FpR1) {
        self.fp_from_int(a, (32, false), Format::D);
    }
    fn fcvt_l_d(&mut self, a: FpR1) {
        self.fp_to_int(a, (64, true), Format::D);
    }
    fn fcvt_d_l(&mut self, a: FpR1) {
        self.fp_from_int(a, (64, true), Format::D);
    }
    fn fcvt_lu_d(&mut self, a: FpR1) {
        self.fp_to_int(a, (64, false), Format::D);
    }
    fn fcvt_d_lu(&mut self, a: FpR1) {
        self.fp_from_int(a, (64, false), Format::D);
    }
    fn fmv_x_d(&mut self, a: R1) {
        self.fp_move_to_x(a.rd, a.rs1, Format::D);
    }
    fn fmv_d_x(&mut self, a: R1) {
        self.fp_move_from_x(a.rd, a.rs1, Format::D);
    }
    fn fcvt_s_d(&mut self, a: FpR1) {
        self.fp_narrow(a);
    }
    fn fcvt_d_s(&mut self, a: FpR1) {
        self.fp_widen(a, Format::S, Format::D);
    }
}
