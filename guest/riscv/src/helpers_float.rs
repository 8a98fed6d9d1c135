//! Floating-point instructions by softfloat: what the host's units do not do exactly.

use crate::hart::Riscv;
use crate::trap::Trap;
use isa::Cpu;
use softfloat::riscv::{box_f16, box_f32, unbox_bf16, unbox_f16, unbox_f32};
use softfloat::{BF16, Env, F16, F32, F64, Float, Inexact, MulAdd, Rounding};

/// A format with the way registers hold its values.
trait Boxed: Float {
    /// The value in a register; the canonical NaN if it is not boxed.
    fn take(register: u64) -> Self::Bits;
    /// A register with the value.
    fn give(bits: Self::Bits) -> u64;
}

impl Boxed for F16 {
    fn take(register: u64) -> u16 {
        unbox_f16(register)
    }
    fn give(bits: u16) -> u64 {
        box_f16(bits)
    }
}

impl Boxed for F32 {
    fn take(register: u64) -> u32 {
        unbox_f32(register)
    }
    fn give(bits: u32) -> u64 {
        box_f32(bits)
    }
}

impl Boxed for F64 {
    fn take(register: u64) -> u64 {
        register
    }
    fn give(bits: u64) -> u64 {
        bits
    }
}

/// A floating-point instruction (instruction, rounding mode), operands from the state: what goes
/// into its destination. Flags are added to the state's.
pub(crate) fn float(cpu: &mut Cpu<'_, Riscv>, [insn, mode, _]: [u64; 3]) -> Result<u64, Trap> {
    let Some(rounding) = Rounding::from_riscv(mode as u8) else {
        return Err(Trap::illegal(insn));
    };
    let word = insn as u32;
    let reg = |at: u32| (word >> at & 31) as usize;
    let state = &mut *cpu.state;
    let op = Operation {
        word,
        f: [state.f[reg(15)], state.f[reg(20)], state.f[reg(27)]],
        x: state.x[reg(15)],
    };
    let mut env = Env::riscv(rounding);
    let value = match word >> 25 & 3 {
        0 => op.run::<F32>(&mut env),
        1 => op.run::<F64>(&mut env),
        2 => op.run::<F16>(&mut env),
        _ => None,
    };
    state.fflags |= u64::from(env.flags.riscv());
    value.ok_or(Trap::illegal(insn))
}

/// An instruction and the registers it names.
struct Operation {
    word: u32,
    f: [u64; 3],
    x: u64,
}

impl Operation {
    fn run<F: Boxed>(&self, env: &mut Env) -> Option<u64> {
        let [a, b, c] = self.f.map(F::take);
        let form = |negate_product, negate_addend| MulAdd { negate_product, negate_addend };
        Some(F::give(match (self.word & 0x7f, self.word >> 27) {
            (0x43, _) => F::fma(env, a, b, c, form(false, false)),
            (0x47, _) => F::fma(env, a, b, c, form(false, true)),
            (0x4b, _) => F::fma(env, a, b, c, form(true, false)),
            (0x4f, _) => F::fma(env, a, b, c, form(true, true)),
            (_, 0x00) => F::add(env, a, b),
            (_, 0x01) => F::sub(env, a, b),
            (_, 0x02) => F::mul(env, a, b),
            (_, 0x03) => F::div(env, a, b),
            (_, 0x0b) => F::sqrt(env, a),
            (_, 0x05) => self.extremum::<F>(env, a, b)?,
            (_, 0x08) => return self.convert::<F>(env, a),
            (_, 0x14) => return self.compare::<F>(env, a, b).map(u64::from),
            (_, 0x18) => return self.to_int::<F>(env, a),
            (_, 0x1a) => self.int::<F>(env)?,
            (_, 0x1c) => return Some(u64::from(F::classify(a).riscv_mask())),
            _ => return None,
        }))
    }

    /// The field of three bits: rounding mode or function.
    fn funct3(&self) -> u32 {
        self.word >> 12 & 7
    }

    /// The field of the second source register, which selects conversions.
    fn selector(&self) -> u32 {
        self.word >> 20 & 31
    }

    fn extremum<F: Boxed>(&self, env: &mut Env, a: F::Bits, b: F::Bits) -> Option<F::Bits> {
        Some(match self.funct3() {
            0 => F::minimum_number(env, a, b),
            1 => F::maximum_number(env, a, b),
            2 => F::minimum(env, a, b),
            3 => F::maximum(env, a, b),
            _ => return None,
        })
    }

    fn compare<F: Boxed>(&self, env: &mut Env, a: F::Bits, b: F::Bits) -> Option<bool> {
        Some(match self.funct3() {
            0 => F::le(env, a, b),
            1 => F::lt(env, a, b),
            2 => F::eq(env, a, b),
            4 => F::le_quiet(env, a, b),
            5 => F::lt_quiet(env, a, b),
            _ => return None,
        })
    }

    /// To format `F` from the one that the selector names; or rounding to an integral value.
    fn convert<F: Boxed>(&self, env: &mut Env, a: F::Bits) -> Option<u64> {
        let from = self.f[0];
        Some(F::give(match self.selector() {
            0 => F32::convert::<F>(env, F32::take(from)),
            1 => F64::convert::<F>(env, from),
            2 => F16::convert::<F>(env, F16::take(from)),
            4 => F::round_to_integral(env, a, None, Inexact::Suppress),
            5 => F::round_to_integral(env, a, None, Inexact::Raise),
            6 => BF16::convert::<F>(env, unbox_bf16(from)),
            8 => return Some(box_f16(F32::convert::<BF16>(env, F32::take(from)))),
            _ => return None,
        }))
    }

    fn to_int<F: Boxed>(&self, env: &mut Env, a: F::Bits) -> Option<u64> {
        let word = |value: i32| i64::from(value).cast_unsigned();
        Some(match self.selector() {
            0 => word(F::to_i32(env, a)),
            1 => word(F::to_u32(env, a).cast_signed()),
            2 => F::to_i64(env, a).cast_unsigned(),
            3 => F::to_u64(env, a),
            8 => word(F::to_i32_modular(env, a)),
            _ => return None,
        })
    }

    /// From an integer.
    fn int<F: Boxed>(&self, env: &mut Env) -> Option<F::Bits> {
        let x = self.x;
        Some(match self.selector() {
            0 => F::from_i32(env, x as i32),
            1 => F::from_u32(env, x as u32),
            2 => F::from_i64(env, x.cast_signed()),
            3 => F::from_u64(env, x),
            _ => return None,
        })
    }
}
