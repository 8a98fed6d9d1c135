//! Floating-point operations, by softfloat.

use ir::{Effects, FloatRules, FpCond, Op, OpKind, Type};
use isa::{FloatControl, FpFlags, HostRounding};
use softfloat::{
    Env, Extremum, ExtremumRule, F16, F32, F64, Flags, Float, FlushToZero, Inexact, MulAdd,
    Relation, Rounding, riscv,
};

/// The floating-point unit while a unit runs.
pub(crate) struct FloatUnit {
    pub(crate) env: Env,
    /// What minimum and maximum do.
    pub(crate) extremum: ExtremumRule,
}

/// A format as values of the IR hold it.
pub(crate) trait Bits: Float {
    fn take(value: u64) -> Self::Bits;
    fn give(bits: Self::Bits) -> u64;
}

impl Bits for F32 {
    fn take(value: u64) -> u32 {
        value as u32
    }
    fn give(bits: u32) -> u64 {
        u64::from(bits)
    }
}

impl Bits for F64 {
    fn take(value: u64) -> u64 {
        value
    }
    fn give(bits: u64) -> u64 {
        bits
    }
}

fn rounding_of(rounding: HostRounding) -> Rounding {
    match rounding {
        HostRounding::Nearest => Rounding::NearestEven,
        HostRounding::Down => Rounding::Down,
        HostRounding::Up => Rounding::Up,
        HostRounding::Zero => Rounding::TowardZero,
    }
}

/// The mode that an operation fixes, if it does.
pub(crate) fn fixed_rounding(rounding: ir::Rounding) -> Option<Rounding> {
    match rounding {
        ir::Rounding::Current => None,
        ir::Rounding::TowardZero => Some(Rounding::TowardZero),
        ir::Rounding::Nearest => Some(Rounding::NearestEven),
        ir::Rounding::Down => Some(Rounding::Down),
        ir::Rounding::Up => Some(Rounding::Up),
    }
}

impl FloatUnit {
    /// A unit without flags.
    pub(crate) fn new(rules: FloatRules, control: FloatControl) -> Self {
        let (env, extremum) = match rules {
            FloatRules::Canonical => (Env::riscv(Rounding::default()), ExtremumRule::Number),
            FloatRules::Propagate => {
                (Env::x86_sse(Rounding::default()), ExtremumRule::SecondOperand)
            }
        };
        let mut unit = Self { env, extremum };
        unit.set_control(control);
        unit
    }

    pub(crate) fn set_control(&mut self, control: FloatControl) {
        self.env.rounding = rounding_of(control.rounding);
        self.env.denormals_are_zero = control.denormals_are_zero;
        self.env.flush_to_zero = match control.flush_to_zero {
            true => FlushToZero::UnderflowInexact,
            false => FlushToZero::Off,
        };
    }

    /// The flags since the last call.
    pub(crate) fn take_flags(&mut self) -> FpFlags {
        let flags = std::mem::replace(&mut self.env.flags, Flags::empty());
        FpFlags {
            invalid: flags.contains(Flags::INVALID),
            div_by_zero: flags.contains(Flags::DIV_BY_ZERO),
            overflow: flags.contains(Flags::OVERFLOW),
            underflow: flags.contains(Flags::UNDERFLOW),
            inexact: flags.contains(Flags::INEXACT),
            denormal: flags.contains(Flags::INPUT_DENORMAL),
        }
    }

    /// The value of a floating-point operation.
    pub(crate) fn evaluate(&mut self, op: &Op, args: [u64; 3]) -> u64 {
        let current = self.env.rounding;
        if op.kind.effects().has(Effects::FLAGS) {
            self.env.rounding = fixed_rounding(op.rounding()).unwrap_or(current);
        }
        let value = self.rounded(op, args);
        self.env.rounding = current;
        value
    }

    fn rounded(&mut self, op: &Op, args: [u64; 3]) -> u64 {
        let [a, ..] = args;
        match op.kind {
            OpKind::ToFloat => a,
            OpKind::ToInt if op.aux == 32 => a & 0xffff_ffff,
            OpKind::ToInt => a,
            OpKind::FBox => riscv::box_f32(a as u32),
            OpKind::FUnbox if op.float_aux() == 16 => riscv::box_f16(riscv::unbox_f16(a)),
            OpKind::FUnbox => u64::from(riscv::unbox_f32(a)),
            OpKind::FFromHalf => u64::from(half_to_single(&mut self.env, a as u16)),
            OpKind::FToHalf => riscv::box_f16(single_to_half(&mut self.env, a as u32)),
            OpKind::FConvert if op.ty == Type::F64 => F32::convert::<F64>(&mut self.env, a as u32),
            OpKind::FConvert => u64::from(F64::convert::<F32>(&mut self.env, a)),
            _ if op.ty == Type::F32 => self.arithmetic::<F32>(op, args),
            _ => self.arithmetic::<F64>(op, args),
        }
    }

    fn arithmetic<F: Bits>(&mut self, op: &Op, [x, y, z]: [u64; 3]) -> u64 {
        let env = &mut self.env;
        let [a, b, c] = [x, y, z].map(F::take);
        F::give(match op.kind {
            OpKind::FAdd => F::add(env, a, b),
            OpKind::FSub => F::sub(env, a, b),
            OpKind::FMul => F::mul(env, a, b),
            OpKind::FDiv => F::div(env, a, b),
            OpKind::FMin => F::extremum(env, a, b, Extremum::Min, self.extremum),
            OpKind::FMax => F::extremum(env, a, b, Extremum::Max, self.extremum),
            OpKind::FSqrt => F::sqrt(env, a),
            OpKind::FMulAdd => F::fma(env, a, b, c, form(op.float_aux())),
            OpKind::FRound => F::round_to_integral(env, a, None, inexact(op.float_aux())),
            OpKind::FFromInt if op.float_aux() == 32 => F::from_i32(env, x as i32),
            OpKind::FFromInt => F::from_i64(env, x.cast_signed()),
            OpKind::FFromUInt if op.float_aux() == 32 => F::from_u32(env, x as u32),
            OpKind::FFromUInt => F::from_u64(env, x),
            OpKind::FCompare => {
                return u64::from(compare::<F>(env, FpCond::from_code(op.aux), a, b));
            }
            OpKind::FRelate => return relate::<F>(env, op.aux != 0, a, b),
            OpKind::FToInt | OpKind::FToUInt => return to_int::<F>(env, op, a),
            other => unreachable!("{other:?} is no floating-point operation"),
        })
    }
}

/// Binary16 operands are never taken for zeros, nor told to be denormal.
fn half_to_single(env: &mut Env, a: u16) -> u32 {
    let mut apart =
        Env { denormals_are_zero: false, flush_to_zero: FlushToZero::Off, ..env.clone() };
    apart.flags = Flags::empty();
    let value = F16::convert::<F32>(&mut apart, a);
    if apart.flags.contains(Flags::INVALID) {
        env.flags |= Flags::INVALID;
    }
    value
}

/// Binary16 results are never flushed.
fn single_to_half(env: &mut Env, a: u32) -> u16 {
    let flush = std::mem::replace(&mut env.flush_to_zero, FlushToZero::Off);
    let value = F32::convert::<F16>(env, a);
    env.flush_to_zero = flush;
    value
}

pub(crate) fn form(aux: u16) -> MulAdd {
    MulAdd { negate_product: aux & 1 != 0, negate_addend: aux & 2 != 0 }
}

pub(crate) fn compare<F: Bits>(env: &mut Env, cond: FpCond, a: F::Bits, b: F::Bits) -> bool {
    cond.holds()[relation::<F>(env, cond.signals(), a, b) as usize]
}

/// How two numbers relate, as an index of [`FpCond::holds`].
fn relation<F: Bits>(env: &mut Env, signalling: bool, a: F::Bits, b: F::Bits) -> Relation {
    match signalling {
        true => F::compare_signalling(env, a, b),
        false => F::compare(env, a, b),
    }
}

fn relate<F: Bits>(env: &mut Env, signalling: bool, a: F::Bits, b: F::Bits) -> u64 {
    match relation::<F>(env, signalling, a, b) {
        Relation::Less => 1,
        Relation::Equal => 64,
        Relation::Greater => 0,
        Relation::Unordered => 69,
    }
}

fn inexact(aux: u16) -> Inexact {
    if aux & 1 != 0 { Inexact::Raise } else { Inexact::Suppress }
}

fn to_int<F: Bits>(env: &mut Env, op: &Op, a: F::Bits) -> u64 {
    let value = match (op.kind, op.float_aux()) {
        (OpKind::FToInt, 32) => i64::from(F::to_i32(env, a)),
        (OpKind::FToInt, _) => F::to_i64(env, a),
        (_, 32) => i64::from(F::to_u32(env, a).cast_signed()),
        _ => F::to_u64(env, a).cast_signed(),
    };
    value.cast_unsigned()
}

/// The estimate of 1 / x, or of 1 / √x: the nearest of 12 bits.
pub(crate) fn estimate(kind: OpKind, x: u32) -> u32 {
    const ONE: u32 = 0x3f80_0000;
    const DROPPED: u32 = 12;
    let env = &mut Env { denormals_are_zero: true, ..Env::x86_sse(Rounding::NearestEven) };
    let exact = match kind {
        OpKind::VFRcp => F32::div(env, ONE, x),
        _ if x & 0x7f80_0000 == 0 => F32::infinity(F32::sign(x)),
        _ => {
            let root = F32::sqrt(env, x);
            F32::div(env, ONE, root)
        }
    };
    match exact >> 23 & 0xff {
        0 => F32::zero(F32::sign(exact)),
        0xff => exact,
        _ => (exact + (1 << (DROPPED - 1))) & !((1 << DROPPED) - 1),
    }
}
