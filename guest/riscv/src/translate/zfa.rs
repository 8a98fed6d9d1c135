//! Zfa: additional floating-point instructions.

use super::Translator;
use super::float::{Format, To};
use crate::decode::{Fli, FpR1, R, R1, Zfa};
use ir::FpCond;
use softfloat::{Env, F16, F64, Float, Rounding};

/// Values of `fli` by their number; the second is the format's smallest normal number.
const CONSTANTS: [f64; 32] = [
    -1.0,
    0.0,
    1.0 / 65536.0,
    1.0 / 32768.0,
    1.0 / 256.0,
    1.0 / 128.0,
    0.0625,
    0.125,
    0.25,
    0.3125,
    0.375,
    0.4375,
    0.5,
    0.625,
    0.75,
    0.875,
    1.0,
    1.25,
    1.5,
    1.75,
    2.0,
    2.5,
    3.0,
    4.0,
    8.0,
    16.0,
    128.0,
    256.0,
    32768.0,
    65536.0,
    f64::INFINITY,
    f64::NAN,
];
const MINIMUM: u8 = 1;
const NAN: u8 = 31;

impl Zfa for Translator<'_, '_> {
    fn fli_s(&mut self, a: Fli) {
        self.load_constant(a, Format::S);
    }
    fn fminm_s(&mut self, a: R) {
        self.soft_exact(To::F(a.rd, Format::S));
    }
    fn fmaxm_s(&mut self, a: R) {
        self.soft_exact(To::F(a.rd, Format::S));
    }
    fn fround_s(&mut self, a: FpR1) {
        self.fp_round(a, false, Format::S);
    }
    fn froundnx_s(&mut self, a: FpR1) {
        self.fp_round(a, true, Format::S);
    }
    fn fleq_s(&mut self, a: R) {
        self.fp_compare(a, FpCond::LeQuiet, Format::S);
    }
    fn fltq_s(&mut self, a: R) {
        self.fp_compare(a, FpCond::LtQuiet, Format::S);
    }
    fn fli_d(&mut self, a: Fli) {
        self.load_constant(a, Format::D);
    }
    fn fminm_d(&mut self, a: R) {
        self.soft_exact(To::F(a.rd, Format::D));
    }
    fn fmaxm_d(&mut self, a: R) {
        self.soft_exact(To::F(a.rd, Format::D));
    }
    fn fround_d(&mut self, a: FpR1) {
        self.fp_round(a, false, Format::D);
    }
    fn froundnx_d(&mut self, a: FpR1) {
        self.fp_round(a, true, Format::D);
    }
    fn fleq_d(&mut self, a: R) {
        self.fp_compare(a, FpCond::LeQuiet, Format::D);
    }
    fn fltq_d(&mut self, a: R) {
        self.fp_compare(a, FpCond::LtQuiet, Format::D);
    }
    fn fli_h(&mut self, a: Fli) {
        self.load_constant(a, Format::H);
    }
    fn fminm_h(&mut self, a: R) {
        self.soft_exact(To::F(a.rd, Format::H));
    }
    fn fmaxm_h(&mut self, a: R) {
        self.soft_exact(To::F(a.rd, Format::H));
    }
    fn fround_h(&mut self, a: FpR1) {
        self.fp_round(a, false, Format::H);
    }
    fn froundnx_h(&mut self, a: FpR1) {
        self.fp_round(a, true, Format::H);
    }
    fn fleq_h(&mut self, a: R) {
        self.fp_compare(a, FpCond::LeQuiet, Format::H);
    }
    fn fltq_h(&mut self, a: R) {
        self.fp_compare(a, FpCond::LtQuiet, Format::H);
    }
    fn fcvtmod_w_d(&mut self, a: R1) {
        self.soft_exact(To::X(a.rd));
    }
    /// rd = the upper half of the double in rs1
    fn fmvh_x_d(&mut self, a: R1) {
        if self.fp_on() {
            let (value, by) = (self.b.reg(Self::f_reg(a.rs1)), self.imm(32));
            let bits = self.b.to_int(value, 64);
            let high = self.b.sar(bits, by);
            self.set_x(a.rd, high);
        }
    }
    /// rd = the double whose halves are rs1 (lower) and rs2
    fn fmvp_d_x(&mut self, a: R) {
        if self.fp_write() {
            let (low, high, by) = (self.x(a.rs1), self.x(a.rs2), self.imm(32));
            let (low, high) = (self.b.zext(low, 32), self.b.shl(high, by));
            let bits = self.b.or(high, low);
            self.set_f_bits(Format::D, a.rd, bits);
        }
    }
}

impl Translator<'_, '_> {
    fn load_constant(&mut self, a: Fli, format: Format) {
        if !self.fp_write() {
            return;
        }
        let value = CONSTANTS[usize::from(a.constant & 31)];
        let bits = match (format, a.constant) {
            (Format::H, MINIMUM) => 0x0400,
            (Format::S, MINIMUM) => 0x0080_0000,
            (Format::D, MINIMUM) => 0x0010_0000_0000_0000,
            (Format::H, NAN) => 0x7e00,
            (Format::S, NAN) => 0x7fc0_0000,
            (Format::D, NAN) => 0x7ff8_0000_0000_0000,
            (Format::H, _) => {
                let env = &mut Env::riscv(Rounding::NearestEven);
                u64::from(F64::convert::<F16>(env, value.to_bits()))
            }
            (Format::S, _) => u64::from((value as f32).to_bits()),
            (Format::D, _) => value.to_bits(),
        };
        let bits = self.b.imm(bits);
        self.set_f_bits(format, a.rd, bits);
    }
}
