//! Zfh and Zfhmin: half-precision floating point. Fused operations and what comes from doubles are
//! softfloat's.

use super::Translator;
use super::float::{Format, Sign, To};
use crate::decode::{FpR, FpR1, FpR4, I, R, R1, S, Zfh};
use ir::{FpCond, OpKind};

impl Zfh for Translator<'_, '_> {
    fn flh(&mut self, a: I) {
        self.fp_load(a, Format::H);
    }
    fn fsh(&mut self, a: S) {
        self.fp_store(a, Format::H);
    }
    fn fmadd_h(&mut self, a: FpR4) {
        self.fp_mul_add(a, (false, false), Format::H);
    }
    fn fmsub_h(&mut self, a: FpR4) {
        self.fp_mul_add(a, (false, true), Format::H);
    }
    fn fnmsub_h(&mut self, a: FpR4) {
        self.fp_mul_add(a, (true, false), Format::H);
    }
    fn fnmadd_h(&mut self, a: FpR4) {
        self.fp_mul_add(a, (true, true), Format::H);
    }
    fn fadd_h(&mut self, a: FpR) {
        self.fp_binary(a, OpKind::FAdd, Format::H);
    }
    fn fsub_h(&mut self, a: FpR) {
        self.fp_binary(a, OpKind::FSub, Format::H);
    }
    fn fmul_h(&mut self, a: FpR) {
        self.fp_binary(a, OpKind::FMul, Format::H);
    }
    fn fdiv_h(&mut self, a: FpR) {
        self.fp_binary(a, OpKind::FDiv, Format::H);
    }
    fn fsqrt_h(&mut self, a: FpR1) {
        self.fp_sqrt(a, Format::H);
    }
    fn fsgnj_h(&mut self, a: R) {
        self.fp_sign(a, Sign::Copy, Format::H);
    }
    fn fsgnjn_h(&mut self, a: R) {
        self.fp_sign(a, Sign::Negate, Format::H);
    }
    fn fsgnjx_h(&mut self, a: R) {
        self.fp_sign(a, Sign::Xor, Format::H);
    }
    fn fmin_h(&mut self, a: R) {
        self.fp_extremum(a, OpKind::FMin, Format::H);
    }
    fn fmax_h(&mut self, a: R) {
        self.fp_extremum(a, OpKind::FMax, Format::H);
    }
    fn feq_h(&mut self, a: R) {
        self.fp_compare(a, FpCond::EqQuiet, Format::H);
    }
    fn flt_h(&mut self, a: R) {
        self.fp_compare(a, FpCond::LtSignal, Format::H);
    }
    fn fle_h(&mut self, a: R) {
        self.fp_compare(a, FpCond::LeSignal, Format::H);
    }
    fn fclass_h(&mut self, a: R1) {
        self.fp_class(a, Format::H);
    }
    fn fcvt_w_h(&mut self, a: FpR1) {
        self.fp_to_int(a, (32, true), Format::H);
    }
    fn fcvt_h_w(&mut self, a: FpR1) {
        self.fp_from_int(a, (32, true), Format::H);
    }
    fn fcvt_wu_h(&mut self, a: FpR1) {
        self.fp_to_int(a, (32, false), Format::H);
    }
    fn fcvt_h_wu(&mut self, a: FpR1) {
        self.fp_from_int(a, (32, false), Format::H);
    }
    fn fcvt_l_h(&mut self, a: FpR1) {
        self.fp_to_int(a, (64, true), Format::H);
    }
    fn fcvt_h_l(&mut self, a: FpR1) {
        self.fp_from_int(a, (64, true), Format::H);
    }
    fn fcvt_lu_h(&mut self, a: FpR1) {
        self.fp_to_int(a, (64, false), Format::H);
    }
    fn fcvt_h_lu(&mut self, a: FpR1) {
        self.fp_from_int(a, (64, false), Format::H);
    }
    fn fmv_x_h(&mut self, a: R1) {
        self.fp_move_to_x(a.rd, a.rs1, Format::H);
    }
    fn fmv_h_x(&mut self, a: R1) {
        self.fp_move_from_x(a.rd, a.rs1, Format::H);
    }
    fn fcvt_s_h(&mut self, a: FpR1) {
        self.fp_widen(a, Format::H, Format::S);
    }
    fn fcvt_h_s(&mut self, a: FpR1) {
        self.fp_narrow_to_half(a);
    }
    fn fcvt_d_h(&mut self, a: FpR1) {
        self.fp_widen(a, Format::H, Format::D);
    }
    fn fcvt_h_d(&mut self, a: FpR1) {
        self.soft_rounded(To::F(a.rd, Format::H), a.rm);
    }
}
