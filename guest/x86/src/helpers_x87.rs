//! The x87: its stack, its exceptions, and what its instructions do (Intel SDM volume 1, chapter 8).
//!
//! An instruction that meets an exception which is not masked leaves its operands as they are, but for
//! overflow, underflow and inexact results, which are stored as if these were masked; the next
//! instruction that waits takes #MF.

use crate::X86;
use crate::helpers_simd::mxcsr_flags;
use crate::state::{State, X87_AT, eflags};
use crate::trap::{Exception, Trap};
use host::extended::{self, Extended, Memory, Setting};
use isa::Cpu;
use softfloat::{
    Class, Env, ExtendedPrecision, F32, F64, F80, Flags, Float, Inexact, Quotient, Relation,
    Rounding, x87,
};

type Result64 = Result<u64, Trap>;

/// Bits of the status word.
pub(crate) mod status {
    pub(crate) const IE: u64 = 1 << 0;
    pub(crate) const BEFORE: u64 = 7;
    pub(crate) const EXCEPTIONS: u64 = 0x3f;
    pub(crate) const PE: u64 = 1 << 5;
    pub(crate) const SF: u64 = 1 << 6;
    pub(crate) const ES: u64 = 1 << 7;
    pub(crate) const C0: u64 = 1 << 8;
    pub(crate) const C1: u64 = 1 << 9;
    pub(crate) const C2: u64 = 1 << 10;
    pub(crate) const C3: u64 = 1 << 14;
    pub(crate) const B: u64 = 1 << 15;
    pub(crate) const CODES: u64 = C0 | C1 | C2 | C3;
}

/// The negative quiet NaN without a payload.
const INDEFINITE: u128 = 0xffff_c000_0000_0000_0000;
const ONE: u128 = 0x3fff_8000_0000_0000_0000;
/// Bits 64 to 127 of the packed decimal indefinite.
const DECIMAL_INDEFINITE: u128 = 0xffff_c000_0000_0000_0000;

/// Where a stored value's upper half is, and what becomes of the status word.
pub(crate) const HIGH: usize = 2;
pub(crate) const STORES: usize = 1;

/// The x87 of a processor, during an instruction.
struct Fpu<'a> {
    state: &'a mut State,
    env: Env,
}

impl<'a> Fpu<'a> {
    /// C1 is clear unless the instruction says otherwise.
    fn new(state: &'a mut State) -> Self {
        state.fsw &= !status::C1;
        Self::keeping_codes(state)
    }

    /// Leaves C1 as it is.
    fn keeping_codes(state: &'a mut State) -> Self {
        let modes = [Rounding::NearestEven, Rounding::Down, Rounding::Up, Rounding::TowardZero];
        let mut env = Env::x87(modes[(state.fcw >> 10 & 3) as usize]);
        env.extended_precision = match state.fcw >> 8 & 3 {
            0 => ExtendedPrecision::Single,
            2 => ExtendedPrecision::Double,
            _ => ExtendedPrecision::Extended,
        };
        Self { state, env }
    }

    fn physical(&self, i: u64) -> usize {
        (self.state.ftop + i) as usize & 7
    }

    fn in_use(&self, i: u64) -> bool {
        self.state.ftw >> self.physical(i) & 1 != 0
    }

    /// The registers, by physical number.
    fn registers(&mut self) -> &mut [Extended; 8] {
        let (_, after) = self.state.vectors.0.split_at_mut(X87_AT);
        let (registers, _) = after.as_chunks_mut::<16>();
        registers.first_chunk_mut().expect("the region has eight")
    }

    /// A register. Its parts are read as the host's unit writes them, which is faster.
    fn raw(&mut self, i: u64) -> u128 {
        let physical = self.physical(i);
        let [a, b, c, d, e, f, g, h, low, high, ..] = self.registers()[physical];
        let significand = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
        u128::from(u16::from_le_bytes([low, high])) << 64 | u128::from(significand)
    }

    fn put(&mut self, i: u64, value: u128) {
        let physical = self.physical(i);
        let register = &mut self.registers()[physical];
        register[..8].copy_from_slice(&(value as u64).to_le_bytes());
        register[8..10].copy_from_slice(&((value >> 64) as u16).to_le_bytes());
        self.state.ftw |= 1 << physical;
    }

    /// How the host's unit is to compute, if it can do what this one would.
    fn host(&self) -> Option<Setting> {
        Setting::new(self.state.fcw as u16, (self.state.fsw & status::EXCEPTIONS) as u16)
    }

    /// Takes note of what the host's unit raised, all masked.
    fn note_host(&mut self, word: u16) {
        self.state.fsw |= u64::from(word) & (status::EXCEPTIONS | status::C1);
    }

    /// FADD and the others of its group on the host's unit, if that can do it; whether it did.
    fn arithmetic_on_host(&mut self, operation: u64, other: Other, to_i: bool) -> bool {
        let Some(setting) = self.host().filter(|_| self.in_use(0)) else { return false };
        let top = self.physical(0);
        let word = match other {
            Other::Memory(format, value) => extended::with_memory(
                setting,
                operation as u8,
                &mut self.registers()[top],
                (format, value),
            ),
            Other::Register(i) if !self.in_use(i) => return false,
            Other::Register(i) => {
                let other = self.physical(i);
                // Towards ST(i): what is reversed, is not.
                let (to, by, operation) = match to_i {
                    true => (other, top, operation ^ operation >> 2 & 1),
                    false => (top, other, operation),
                };
                match self.registers().get_disjoint_mut([to, by]) {
                    Ok([a, b]) => extended::arithmetic(setting, operation as u8, a, b),
                    Err(_) => {
                        let b = self.registers()[by];
                        extended::arithmetic(
                            setting,
                            operation as u8,
                            &mut self.registers()[to],
                            &b,
                        )
                    }
                }
            }
        };
        self.note_host(word);
        true
    }

    /// FCOM and the others of its group with a register, alike: C0, C2 and C3 at their places.
    fn compare_on_host(&mut self, quiet: bool, i: u64) -> Option<u64> {
        let setting = self.host().filter(|_| self.in_use(0) && self.in_use(i))?;
        let (a, b) = (self.physical(0), self.physical(i));
        let registers = self.registers();
        let word = extended::compare(setting, quiet, &registers[a], &registers[b]);
        self.note_host(word & !(status::C1 as u16));
        Some(u64::from(word) & (status::C0 | status::C2 | status::C3))
    }

    fn pop(&mut self) {
        self.state.ftw &= !(1 << self.physical(0));
        self.state.ftop = (self.state.ftop + 1) & 7;
    }

    /// Exceptions that are not masked.
    fn unmasked(&self) -> u64 {
        !self.state.fcw & status::EXCEPTIONS
    }

    /// Takes note of exceptions; whether results may be written.
    fn note(&mut self, flags: u64) -> bool {
        let stops = flags & self.unmasked() & status::BEFORE;
        let flags =
            if stops != 0 { flags & (status::BEFORE | status::SF | status::C1) } else { flags };
        self.state.fsw |= flags;
        if flags & self.unmasked() != 0 {
            self.state.fsw |= status::ES | status::B;
        }
        stops == 0
    }

    /// Takes note of what an operation raised.
    fn finish(&mut self) -> bool {
        let mut flags = mxcsr_flags(self.env.flags);
        let stops = flags & self.unmasked() & status::BEFORE != 0;
        if self.env.rounded_up && flags & status::PE != 0 && !stops {
            flags |= status::C1;
        }
        self.note(flags)
    }

    /// The flag for a denormal operand that came with the conversion of one, taken away.
    fn take_denormal(&mut self) -> Flags {
        let denormal = self.env.flags & Flags::INPUT_DENORMAL;
        let rest = self.env.flags.bits() & !Flags::INPUT_DENORMAL.bits();
        self.env.flags = Flags::from_bits(rest);
        denormal
    }

    /// An empty register was read, or (`overflow`) one in use is to be written; whether to go on with the
    /// indefinite.
    fn stack_fault(&mut self, overflow: bool) -> bool {
        self.state.fsw &= !status::C1;
        self.note(status::IE | status::SF | if overflow { status::C1 } else { 0 })
    }

    /// The registers, or the indefinite as the result if one is empty; `None`: it was an exception.
    fn operands<const N: usize>(&mut self, from: [u64; N]) -> Option<Result<[u128; N], u128>> {
        if from.iter().all(|i| self.in_use(*i)) {
            return Some(Ok(from.map(|i| self.raw(i))));
        }
        self.stack_fault(false).then_some(Err(INDEFINITE))
    }

    fn push(&mut self, value: u128) {
        let full = self.in_use(7);
        if full && !self.stack_fault(true) {
            return;
        }
        self.state.ftop = self.state.ftop.wrapping_sub(1) & 7;
        self.put(0, if full { INDEFINITE } else { value });
    }

    /// Sets C0, C2 and C3 by a relation.
    fn set_relation(&mut self, relation: Relation) {
        let codes = match relation {
            Relation::Greater => 0,
            Relation::Less => status::C0,
            Relation::Equal => status::C3,
            Relation::Unordered => status::C0 | status::C2 | status::C3,
        };
        self.set_codes(codes);
    }

    /// Sets C0, C2 and C3.
    fn set_codes(&mut self, codes: u64) {
        let fsw = self.state.fsw & !(status::C0 | status::C2 | status::C3);
        self.state.fsw = fsw | codes;
    }

    /// Compares; whether that may be followed by pops. A denormal operand that was converted is told
    /// unless they are unordered.
    fn compare(&mut self, quiet: bool, a: Result<[u128; 2], u128>, denormal: Flags) -> bool {
        let relation = match a {
            Ok([a, b]) if quiet => F80::compare(&mut self.env, a, b),
            Ok([a, b]) => F80::compare_signalling(&mut self.env, a, b),
            Err(_) => Relation::Unordered,
        };
        if relation != Relation::Unordered {
            self.env.flags |= denormal;
        }
        self.set_relation(relation);
        self.finish()
    }
}

/// The other operand of an operation.
#[derive(Clone, Copy)]
enum Other {
    Register(u64),
    Memory(Memory, u64),
}

/// Raises #MF if an exception is pending ().
pub fn check(cpu: &mut Cpu<'_, X86>, _: [u64; 3]) -> Result64 {
    if cpu.state.fsw & status::ES != 0 {
        return Err(Trap::new(Exception::X87));
    }
    Ok(0)
}

/// What a value in memory or a register is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Format {
    Single,
    Double,
    Extended,
    Int16,
    Int32,
    Int64,
    Decimal,
    Register,
    Constant,
}

impl Format {
    const ALL: [Self; 9] = [
        Self::Single,
        Self::Double,
        Self::Extended,
        Self::Int16,
        Self::Int32,
        Self::Int64,
        Self::Decimal,
        Self::Register,
        Self::Constant,
    ];

    fn new(code: u64) -> Self {
        Self::ALL[(code as usize & 15).min(8)]
    }

    /// What the host's unit converts.
    fn on_host(self) -> Option<Memory> {
        Some(match self {
            Self::Single => Memory::Single,
            Self::Double => Memory::Double,
            Self::Int16 => Memory::Int16,
            Self::Int32 => Memory::Int32,
            Self::Int64 => Memory::Int64,
            _ => return None,
        })
    }
}

/// A value of a format in extended precision.
fn widened(env: &mut Env, format: Format, low: u64, high: u64) -> u128 {
    match format {
        Format::Single => F32::convert::<F80>(env, low as u32),
        Format::Double => F64::convert::<F80>(env, low),
        Format::Int16 => F80::from_int(env, low as i16),
        Format::Int32 => F80::from_i32(env, low as i32),
        Format::Int64 => F80::from_i64(env, low.cast_signed()),
        Format::Decimal => decimal_value(env, low, high),
        _ => u128::from(high & 0xffff) << 64 | u128::from(low),
    }
}

fn decimal_value(env: &mut Env, low: u64, high: u64) -> u128 {
    let digits = u128::from(high) << 64 | u128::from(low);
    let magnitude = (0..18).rev().fold(0, |sum, i| sum * 10 + (digits >> (4 * i) & 15) as i64);
    F80::with_sign(F80::from_i64(env, magnitude), high >> 15 & 1 != 0)
}

/// FLD, FILD, FBLD: pushes a value (format, low and high half).
pub fn load(state: &mut State, [format, low, high]: [u64; 3]) -> u64 {
    let mut fpu = Fpu::new(state);
    // An overflow of the stack is found before the value is looked at.
    if fpu.in_use(7) {
        fpu.push(INDEFINITE);
        return 0;
    }
    let format = Format::new(format);
    if let (Some(setting), Some(memory)) = (fpu.host(), format.on_host()) {
        fpu.state.ftop = fpu.state.ftop.wrapping_sub(1) & 7;
        let physical = fpu.physical(0);
        fpu.state.ftw |= 1 << physical;
        let word = extended::load(setting, memory, low, &mut fpu.registers()[physical]);
        fpu.note_host(word);
        return 0;
    }
    let value = widened(&mut fpu.env, format, low, high);
    let invalid = fpu.env.flags.contains(Flags::INVALID);
    // A denormal operand is pushed, masked or not.
    if fpu.finish() || !invalid {
        fpu.push(value);
    }
    0
}

/// FLD of a register (i).
pub fn push(state: &mut State, [i, ..]: [u64; 3]) -> u64 {
    let mut fpu = Fpu::new(state);
    match fpu.operands([i]) {
        Some(Ok([value])) => fpu.push(value),
        Some(Err(nan)) => {
            // One fault is enough, should the stack be full, too.
            fpu.state.ftop = fpu.state.ftop.wrapping_sub(1) & 7;
            fpu.put(0, nan);
        }
        None => {}
    }
    0
}

/// Constants as FLD1 and the others round them: the 64 bits cut, and whether up is nearer.
const CONSTANTS: [(u16, u64, bool); 7] = [
    (0x3fff, 0x8000_0000_0000_0000, false),
    (0x4000, 0xd49a_784b_cd1b_8afe, false),
    (0x3fff, 0xb8aa_3b29_5c17_f0bb, true),
    (0x4000, 0xc90f_daa2_2168_c234, true),
    (0x3ffd, 0x9a20_9a84_fbcf_f798, true),
    (0x3ffe, 0xb172_17f7_d1cf_79ab, true),
    (0, 0, false),
];

/// FLD1, FLDL2T, FLDL2E, FLDPI, FLDLG2, FLDLN2, FLDZ (which).
pub fn constant(state: &mut State, [which, ..]: [u64; 3]) -> u64 {
    let mut fpu = Fpu::new(state);
    let (exponent, significand, nearer) = CONSTANTS[which.min(6) as usize];
    let exact = significand << 1 == 0;
    let up = match fpu.env.rounding {
        Rounding::NearestEven => nearer,
        Rounding::Up => !exact,
        _ => false,
    };
    let value = F80::from_parts(exponent, significand + u64::from(up));
    fpu.push(value);
    0
}

/// FST, FIST, FBSTP: the low half of ST(0) in a format (format, whether it is cut). Its upper half is left in
/// `scratch[HIGH]`; `scratch[STORES]` has the status word that is to be, and 1 in its upper half if there is
/// anything to be stored.
pub fn store(state: &mut State, [format, cut, _]: [u64; 3]) -> u64 {
    let before = state.fsw;
    let mut fpu = Fpu::new(state);
    let format = Format::new(format);
    let host = fpu.host().zip(format.on_host());
    let (value, goes_on) = if let (true, Some((setting, memory))) = (fpu.in_use(0), host) {
        let physical = fpu.physical(0);
        let (value, word) = extended::store(setting, memory, cut != 0, &fpu.registers()[physical]);
        fpu.note_host(word);
        (value.into(), true)
    } else if fpu.in_use(0) {
        let raw = fpu.raw(0);
        let value = narrowed(&mut fpu.env, format, raw, cut != 0);
        (value, fpu.finish())
    } else {
        let goes_on = fpu.stack_fault(false);
        let nan = match format {
            Format::Single => 0xffc0_0000,
            Format::Double => 0xfff8_0000_0000_0000,
            Format::Int16 => 1 << 15,
            Format::Int32 => 1 << 31,
            Format::Int64 => 1 << 63,
            _ => INDEFINITE,
        };
        (nan, goes_on)
    };
    state.scratch[HIGH] = (value >> 64) as u64;
    state.scratch[STORES] = state.fsw | u64::from(goes_on) << 32;
    state.fsw = before;
    value as u64
}

fn narrowed(env: &mut Env, format: Format, value: u128, cut: bool) -> u128 {
    let mode = cut.then_some(Rounding::TowardZero);
    match format {
        Format::Single => F80::convert::<F32>(env, value).into(),
        Format::Double => F80::convert::<F64>(env, value).into(),
        Format::Int16 => F80::to_int::<i16>(env, value, mode).cast_unsigned().into(),
        Format::Int32 => F80::to_int::<i32>(env, value, mode).cast_unsigned().into(),
        Format::Int64 => F80::to_int::<i64>(env, value, mode).cast_unsigned().into(),
        Format::Decimal => decimal_digits(env, value),
        _ => value,
    }
}

fn decimal_digits(env: &mut Env, value: u128) -> u128 {
    const LIMIT: u64 = 1_000_000_000_000_000_000;
    let flags = env.flags;
    let integer = F80::to_int::<i64>(env, value, None);
    if integer.unsigned_abs() >= LIMIT {
        env.flags = flags | Flags::INVALID;
        return DECIMAL_INDEFINITE;
    }
    let mut rest = integer.unsigned_abs();
    let mut digits = 0;
    for i in 0..18 {
        digits |= u128::from(rest % 10) << (4 * i);
        rest /= 10;
    }
    digits | u128::from(F80::sign(value)) << 79
}

/// FADD and the others of their group. Bits 0 to 2 of the first argument: the operation, as ModRM has it; bits
/// 3 and 4: pops; bit 5: the destination is ST(i), its number in bits 8 to 10; bits 12 to 15: the format of the
/// other operand, whose value is the second argument; bit 16: comparisons are quiet.
pub fn arithmetic(state: &mut State, [what, value, _]: [u64; 3]) -> u64 {
    let mut fpu = Fpu::new(state);
    let (operation, pops, i) = (what & 7, what >> 3 & 3, what >> 8 & 7);
    let format = Format::new(what >> 12);
    let (quiet, to_i) = (what & 1 << 16 != 0, what & 1 << 5 != 0);
    let compares = operation & !1 == 2;
    let done = match (format, format.on_host()) {
        (Format::Register, _) if compares => match fpu.compare_on_host(quiet, i) {
            Some(codes) => {
                fpu.set_codes(codes);
                true
            }
            None => false,
        },
        (Format::Register, _) => fpu.arithmetic_on_host(operation, Other::Register(i), to_i),
        (_, Some(memory)) if !compares => {
            fpu.arithmetic_on_host(operation, Other::Memory(memory, value), false)
        }
        _ => false,
    };
    if done {
        (0..pops).for_each(|_| fpu.pop());
        return 0;
    }
    let operands = match format {
        Format::Register => fpu.operands([0, i]),
        _ => match fpu.operands([0]) {
            Some(Ok([a])) => Some(Ok([a, widened(&mut fpu.env, format, value, 0)])),

            Some(Err(nan)) => Some(Err(nan)),
            None => None,
        },
    };
    let Some(operands) = operands else {
        if compares {
            fpu.set_relation(Relation::Unordered);
        }
        return 0;
    };
    let denormal = fpu.take_denormal();
    let goes_on = if compares {
        fpu.compare(quiet, operands, denormal)
    } else {
        let result = match operands {
            Ok([a, b]) => binary(&mut fpu.env, operation, a, b),
            Err(nan) => nan,
        };
        let worse = fpu.env.flags & (Flags::INVALID | Flags::DIV_BY_ZERO);
        if worse.is_empty() && !F80::is_nan(result) {
            fpu.env.flags |= denormal;
        }
        let goes_on = fpu.finish();
        if goes_on {
            fpu.put(if to_i { i } else { 0 }, result);
        }
        goes_on
    };
    if goes_on {
        (0..pops).for_each(|_| fpu.pop());
    }
    0
}

/// ST(0) with the other operand. What is reversed, by the name, depends on the destination; the codes do not.
fn binary(env: &mut Env, operation: u64, st: u128, other: u128) -> u128 {
    match operation {
        0 => F80::add(env, st, other),
        1 => F80::mul(env, st, other),
        4 => F80::sub(env, st, other),
        5 => F80::sub(env, other, st),
        6 => F80::div(env, st, other),
        _ => F80::div(env, other, st),
    }
}

/// FCOMI and FUCOMI (register; whether quiet; whether it pops): ZF, PF and CF.
pub fn compare_flags(state: &mut State, [i, quiet, pops]: [u64; 3]) -> u64 {
    let mut fpu = Fpu::keeping_codes(state);
    if let Some(codes) = fpu.compare_on_host(quiet != 0, i) {
        if pops != 0 {
            fpu.pop();
        }
        // C0, C2 and C3 are where CF, PF and ZF are in the byte above.
        return codes >> 8;
    }
    let relation = match fpu.operands([0, i]) {
        Some(Ok([a, b])) if quiet != 0 => F80::compare(&mut fpu.env, a, b),
        Some(Ok([a, b])) => F80::compare_signalling(&mut fpu.env, a, b),
        Some(Err(_)) => Relation::Unordered,
        None => return eflags::ZF | eflags::PF | eflags::CF,
    };
    if fpu.finish() && pops != 0 {
        fpu.pop();
    }
    match relation {
        Relation::Greater => 0,
        Relation::Less => eflags::CF,
        Relation::Equal => eflags::ZF,
        Relation::Unordered => eflags::ZF | eflags::PF | eflags::CF,
    }
}

/// FST and FSTP to a register (register; whether it pops).
pub fn copy(state: &mut State, [i, pops, _]: [u64; 3]) -> u64 {
    let mut fpu = Fpu::new(state);
    match fpu.operands([0]) {
        Some(Ok([value])) | Some(Err(value)) => fpu.put(i, value),
        None => return 0,
    }
    if pops != 0 {
        fpu.pop();
    }
    0
}

/// FXCH (register).
pub fn exchange(state: &mut State, [i, ..]: [u64; 3]) -> u64 {
    let mut fpu = Fpu::new(state);
    let empty = !fpu.in_use(0) || !fpu.in_use(i);
    if empty && !fpu.stack_fault(false) {
        return 0;
    }
    let value = |fpu: &mut Fpu<'_>, i: u64| if fpu.in_use(i) { fpu.raw(i) } else { INDEFINITE };
    let (a, b) = (value(&mut fpu, 0), value(&mut fpu, i));
    fpu.put(0, b);
    fpu.put(i, a);
    0
}

/// FCMOV of a condition that holds (register).
pub fn move_if(state: &mut State, [i, holds, _]: [u64; 3]) -> u64 {
    let mut fpu = Fpu::keeping_codes(state);
    match fpu.operands([0, i]) {
        Some(Ok([_, value])) if holds != 0 => fpu.put(0, value),
        Some(Err(nan)) => fpu.put(0, nan),
        _ => {}
    }
    0
}

/// Instructions on the top of the stack (the last byte of the encoding).
pub fn unary(state: &mut State, [what, ..]: [u64; 3]) -> u64 {
    let mut fpu = Fpu::new(state);
    if let (0xfa | 0xfc, true, Some(setting)) = (what, fpu.in_use(0), fpu.host()) {
        let physical = fpu.physical(0);
        let top = &mut fpu.registers()[physical];
        let word = match what {
            0xfa => extended::square_root(setting, top),
            _ => extended::round(setting, top),
        };
        fpu.note_host(word);
        return 0;
    }
    match what {
        0xe5 => examine(&mut fpu),
        0xf1 | 0xf3 | 0xf9 => two_to_one(&mut fpu, what),
        0xf2 | 0xf4 | 0xfb => one_to_two(&mut fpu, what),
        0xf5 | 0xf8 => remainder(&mut fpu, what),
        0xfd => {
            if let Some(operands) = fpu.operands([0, 1]) {
                let value = operands.map(|[x, y]| x87::scale(&mut fpu.env, x, y));
                put_result(&mut fpu, value);
            }
        }
        _ => {
            if matches!(what, 0xfe | 0xff) {
                fpu.state.fsw &= !status::C2;
            }
            let Some(operand) = fpu.operands([0]) else {
                if what == 0xe4 {
                    fpu.set_relation(Relation::Unordered);
                }
                return 0;
            };
            one_to_one(&mut fpu, what, operand);
        }
    }
    0
}

fn put_result(fpu: &mut Fpu<'_>, value: Result<u128, u128>) {
    if fpu.finish() {
        let (Ok(value) | Err(value)) = value;
        fpu.put(0, value);
    }
}

fn one_to_one(fpu: &mut Fpu<'_>, what: u64, operand: Result<[u128; 1], u128>) {
    let env = &mut fpu.env;
    let result = match (what, operand) {
        (0xe4, operand) => {
            let pair = operand.map(|[a]| [a, 0]);
            fpu.compare(false, pair, Flags::empty());
            return;
        }
        (_, Err(nan)) => Err(nan),
        (0xe0, Ok([a])) => Ok(F80::negate(a)),
        (0xe1, Ok([a])) => Ok(F80::with_sign(a, false)),
        (0xf0, Ok([a])) => Ok(x87::two_to_x_minus_1(env, a)),
        (0xfa, Ok([a])) => Ok(F80::sqrt(env, a)),
        (0xfc, Ok([a])) => Ok(F80::round_to_integral(env, a, None, Inexact::Raise)),
        (_, Ok([a])) => {
            let wanted = if what == 0xfe { x87::Wanted::Sine } else { x87::Wanted::Cosine };
            let angle = x87::trigonometric(env, a, wanted);
            let Some(angle) = angle else {
                fpu.state.fsw |= status::C2;
                return;
            };
            Ok(if what == 0xfe { angle.sine } else { angle.cosine })
        }
    };
    put_result(fpu, result);
}

/// FYL2X, FPATAN, FYL2XP1: of ST(1) and ST(0), which is popped.
fn two_to_one(fpu: &mut Fpu<'_>, what: u64) {
    let Some(operands) = fpu.operands([1, 0]) else { return };
    let env = &mut fpu.env;
    let (Ok(value) | Err(value)) = operands.map(|[y, x]| match what {
        0xf1 => x87::y_log2_x(env, y, x),
        0xf3 => x87::arctangent(env, y, x),
        _ => x87::y_log2_x_plus_1(env, y, x),
    });
    if fpu.finish() {
        fpu.put(1, value);
        fpu.pop();
    }
}

/// FPTAN, FXTRACT, FSINCOS: ST(0) is replaced, and another value pushed.
fn one_to_two(fpu: &mut Fpu<'_>, what: u64) {
    if what != 0xf4 {
        fpu.state.fsw &= !status::C2;
    }
    let empty = !fpu.in_use(0);
    if empty || fpu.in_use(7) {
        if fpu.stack_fault(!empty) {
            fpu.put(0, INDEFINITE);
            fpu.state.ftop = fpu.state.ftop.wrapping_sub(1) & 7;
            fpu.put(0, INDEFINITE);
        }
        return;
    }
    let x = fpu.raw(0);
    let (first, second) = match what {
        0xf4 => x87::extract(&mut fpu.env, x),
        _ => {
            let tangent = what == 0xf2;
            let wanted = if tangent { x87::Wanted::Tangent } else { x87::Wanted::Both };
            let Some(angle) = x87::trigonometric(&mut fpu.env, x, wanted) else {
                fpu.state.fsw |= status::C2;
                return;
            };
            match tangent {
                true if F80::is_nan(angle.tangent) => (angle.tangent, angle.tangent),
                true => (angle.tangent, ONE),
                false => (angle.sine, angle.cosine),
            }
        }
    };
    if fpu.finish() {
        fpu.put(0, first);
        fpu.push(second);
    }
}

/// FPREM and FPREM1: the quotient's bits go to C0, C3 and C1.
fn remainder(fpu: &mut Fpu<'_>, what: u64) {
    fpu.state.fsw &= !status::C2;
    let operands = match fpu.operands([0, 1]) {
        Some(Ok(operands)) => operands,
        Some(Err(nan)) => return fpu.put(0, nan),
        None => return,
    };
    let rule = if what == 0xf8 { Quotient::Truncated } else { Quotient::Nearest };
    let env = &mut fpu.env;
    let [a, b] = operands;
    let step = x87::remainder(env, a, b, rule);
    if !fpu.finish() {
        return;
    }
    fpu.put(0, step.value);
    if F80::is_nan(step.value) {
        return;
    }
    let codes = match step.quotient {
        Some(q) => (q & 4) << 6 | (q & 2) << 13 | (q & 1) << 9,
        None => status::C2,
    };
    fpu.state.fsw = fpu.state.fsw & !status::CODES | codes;
}

/// FXAM: what ST(0) is, even if empty.
fn examine(fpu: &mut Fpu<'_>) {
    let value = fpu.raw(0);
    let (c0, c2, c3) = (status::C0, status::C2, status::C3);
    let class = match F80::classify(value) {
        _ if !fpu.in_use(0) => c3 | c0,
        Class::QuietNan | Class::SignallingNan => c0,
        Class::PositiveInfinity | Class::NegativeInfinity => c2 | c0,
        Class::PositiveNormal | Class::NegativeNormal => c2,
        Class::PositiveSubnormal | Class::NegativeSubnormal => c3 | c2,
        Class::PositiveZero | Class::NegativeZero => c3,
        Class::Unsupported => 0,
    };
    let sign = if F80::sign(value) { status::C1 } else { 0 };
    fpu.state.fsw = fpu.state.fsw & !status::CODES | class | sign;
}

/// FFREE (register; whether it pops).
pub fn free(state: &mut State, [i, pops, _]: [u64; 3]) -> u64 {
    let mut fpu = Fpu::new(state);
    let physical = fpu.physical(i);
    fpu.state.ftw &= !(1 << physical);
    if pops != 0 {
        fpu.pop();
    }
    0
}

/// Sets the control word (value).
pub fn set_control(cpu: &mut Cpu<'_, X86>, [value, ..]: [u64; 3]) -> Result64 {
    set_words(cpu.state, value, cpu.state.fsw);
    Ok(0)
}

/// Bits that the control word has; one of them is always set.
const CONTROL: u64 = 0x1f7f;
const CONTROL_SET: u64 = 0x40;

/// Sets control and status words; an exception is pending if one is not masked.
pub(crate) fn set_words(state: &mut State, control: u64, word: u64) {
    state.fcw = control & CONTROL | CONTROL_SET;
    state.fsw = word & !0x3800 & !(status::ES | status::B);
    if state.fsw & !state.fcw & status::EXCEPTIONS != 0 {
        state.fsw |= status::ES | status::B;
    }
}

/// FNINIT ().
pub fn initialise(cpu: &mut Cpu<'_, X86>, _: [u64; 3]) -> Result64 {
    let state = &mut *cpu.state;
    (state.fcw, state.fsw, state.ftop, state.ftw) = (0x37f, 0, 0, 0);
    state.fop = [0; 3];
    Ok(0)
}

/// FNCLEX ().
pub fn clear_exceptions(state: &mut State, _: [u64; 3]) -> u64 {
    state.fsw &= !(status::EXCEPTIONS | status::SF | status::ES | status::B);
    0
}
