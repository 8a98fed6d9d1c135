//! Helpers of AVX-512: static rounding, memory by opmasks, and instructions that are functions of lanes
//! ([`crate::simd::wide`]).

use crate::X86;
use crate::helpers_integer::mmu;
use crate::helpers_simd::{BEFORE, FLAGS, KEPT, env_of, mxcsr_flags};
use crate::simd::wide::{self as lanes, Bytes, Form, Sources, lane, set_lane};
use crate::simd::wide_floats::{self, Floats};
use crate::state::{SPARE_AT, State, ZMM_BYTES};
use crate::trap::{Exception, Trap};
use ir::MemOp;
use isa::{Access, Cpu};
use softfloat::{Env, Flags, Rounding};

type Result64 = Result<u64, Trap>;

/// Where MXCSR has its rounding mode, and the masks of exceptions.
const ROUNDING: u64 = 3 << 13;
const MASKS: u64 = 0x1f80;

/// Computes with a rounding mode (4: MXCSR's) and all exceptions masked, until [`rounding_end`].
pub fn rounding_begin(cpu: &mut Cpu<'_, X86>, [mode, ..]: [u64; 3]) -> Result64 {
    let state = &mut *cpu.state;
    state.scratch[KEPT] = state.mxcsr;
    state.mxcsr |= MASKS;
    if mode < 4 {
        state.mxcsr = state.mxcsr & !ROUNDING | mode << 13;
    }
    Ok(0)
}

/// Puts MXCSR back: exceptions leave no flags.
pub fn rounding_end(cpu: &mut Cpu<'_, X86>, _: [u64; 3]) -> Result64 {
    cpu.state.mxcsr = cpu.state.scratch[KEPT];
    Ok(0)
}

/// The access to a lane.
fn access(size: usize) -> MemOp {
    match size {
        1 => MemOp::U8,
        2 => MemOp::U16,
        4 => MemOp::U32,
        _ => MemOp::U64,
    }
}

/// Reads the lanes whose bits are set to [`SPARE_AT`], with zeros for the others (address; bits; how: lanes,
/// bytes of each; bit 16: there are more bits than lanes, which repeat; bit 17: lanes follow each other
/// without gaps; bit 18: all of them must be aligned).
pub fn masked_read(cpu: &mut Cpu<'_, X86>, [address, bits, how]: [u64; 3]) -> Result64 {
    let [count, size, part, ..] = how.to_le_bytes();
    let (count, size) = (usize::from(count), usize::from(size).max(1));
    let (repeats, dense, aligned) = (part & 1 != 0, part & 2 != 0, part & 4 != 0);
    if aligned && bits != 0 && address % (count * size).max(1) as u64 != 0 {
        return Err(Trap::protection(0));
    }
    let set = mmu(cpu.state);
    let mut value = [0; ZMM_BYTES];
    let step = size.min(8);
    let mut read = |cpu: &mut Cpu<'_, X86>, n: usize| -> Result<(), Trap> {
        for at in (0..size).step_by(step) {
            let from = address.wrapping_add((n * size + at) as u64);
            let word = cpu.load(set, access(step), from)?;
            set_lane(&mut value, step, (n * size + at) / step, word);
        }
        Ok(())
    };
    let wanted = |n: &usize| match (repeats, dense) {
        (true, _) => (*n..64).step_by(count.max(1)).any(|bit| bits >> bit & 1 != 0),
        (_, true) => *n < bits.count_ones() as usize,
        _ => bits >> n & 1 != 0,
    };
    for n in (0..count.min(64)).filter(wanted) {
        read(cpu, n)?;
    }
    cpu.state.vectors.0[SPARE_AT..SPARE_AT + ZMM_BYTES].copy_from_slice(&value);
    Ok(0)
}

/// Writes the lanes whose bits are set from [`SPARE_AT`] (address, bits; how: bytes of a lane, the alignment if
/// there must be one, whether only to look if it would fault).
pub fn masked_write(cpu: &mut Cpu<'_, X86>, [address, bits, how]: [u64; 3]) -> Result64 {
    let [size, align, only_look, ..] = how.to_le_bytes();
    let size = usize::from(size).clamp(1, 8);
    if align != 0 && bits != 0 && address % u64::from(align) != 0 {
        return Err(Trap::protection(0));
    }
    let set = mmu(cpu.state);
    let value = bytes(cpu.state, SPARE_AT);
    let chosen = || (0..64usize).filter(|n| bits >> n & 1 != 0);
    let at = |n: usize| address.wrapping_add((n * size) as u64);
    // Nothing is written before a fault.
    for n in chosen() {
        cpu.probe(set, Access::Store, at(n), size as u32)?;
    }
    for n in chosen().take_while(|_| only_look == 0) {
        cpu.store(set, access(size), at(n), lane(&value, size, n))?;
    }
    Ok(0)
}

/// 64 bytes of the region.
fn bytes(state: &State, at: usize) -> Bytes {
    let mut bytes = [0; ZMM_BYTES];
    bytes.copy_from_slice(&state.vectors.0[at..at + ZMM_BYTES]);
    bytes
}

/// What an instruction of the table is called with.
struct Called {
    form: Form,
    sources: Sources,
    to: usize,
    rounding: u8,
    flags: u8,
}

impl Called {
    /// What: number in the table, immediate, rounding mode, bytes of lanes, lanes, bytes of vectors, flags,
    /// bytes of a lane that is broadcast. Which: destination, sources, bytes of a source's lane.
    fn new(state: &State, [what, which, mask]: [u64; 3]) -> Option<Self> {
        let [index, imm, rounding, element, count, vl, flags, broadcast] = what.to_le_bytes();
        let [to, a, b, from, ..] = which.to_le_bytes();
        let at = |number: u8| match number {
            255 => SPARE_AT,
            _ => usize::from(number & 31) * ZMM_BYTES,
        };
        let (element, vl) = (usize::from(element).max(1), usize::from(vl).clamp(16, 64));
        let count = usize::from(count).clamp(1, 64);
        let (mut first, mut second) = (bytes(state, at(a)), bytes(state, at(b)));
        if broadcast != 0 {
            let size = usize::from(broadcast);
            let one = second;
            second = std::array::from_fn(|i| one[i % size]);
            first = if a == b { second } else { first };
        }
        let low = u64::MAX >> (64 - count);
        let sources = Sources {
            a: first,
            b: second,
            c: bytes(state, at(to)),
            imm,
            element,
            lanes: count,
            from: usize::from(from).max(1),
            vl,
            mask: mask & low,
        };
        let form = lanes::form(usize::from(index))?;
        Some(Self { form, sources, to: at(to), rounding, flags })
    }

    /// Writes the lanes of the mask; for what goes to memory, the mask is the answer.
    fn finish(&self, state: &mut State, value: &Bytes, mask: u64) -> u64 {
        let s = &self.sources;
        if self.flags & STORES != 0 {
            state.vectors.0[SPARE_AT..SPARE_AT + ZMM_BYTES].copy_from_slice(value);
            return mask;
        }
        let mut out = [0; ZMM_BYTES];
        if self.flags & SCALAR != 0 {
            out[..16].copy_from_slice(&s.a[..16]);
        }
        for n in 0..s.lanes {
            let one = match mask >> n & 1 {
                1 => lane(value, s.element, n),
                _ if self.flags & ZEROING != 0 => 0,
                _ => lane(&s.c, s.element, n),
            };
            set_lane(&mut out, s.element, n, one);
        }
        state.vectors.0[self.to..self.to + ZMM_BYTES].copy_from_slice(&out);
        0
    }
}

impl Called {
    fn finish_floats(&self, state: &mut State, form: Floats, value: &Bytes, bits: u64) -> u64 {
        match form {
            Floats::Class => bits,
            _ => self.finish(state, value, self.sources.mask),
        }
    }
}

/// Flags of [`Called`].
const ZEROING: u8 = 1;
const STORES: u8 = 2;
const FIXED: u8 = 4;
const ROUNDS: u8 = 8;
const SCALAR: u8 = 16;

/// An instruction of the table (what, which registers, opmask): the bits for an opmask, or those of the
/// lanes that go to memory.
pub fn wide(state: &mut State, args: [u64; 3]) -> u64 {
    let Some(called) = Called::new(state, args) else { return 0 };
    match called.form {
        Form::Bits(f) => {
            let twice = called.sources.mask | called.sources.mask << 32;
            let narrow = called.sources.lanes < 64;
            f(&called.sources) & if narrow { twice } else { called.sources.mask }
        }
        Form::Float(form) => {
            // Those that raise nothing.
            let mut env = env_of(state.mxcsr);
            let (value, bits) = wide_floats::compute(form, &called.sources, &mut env);
            called.finish_floats(state, form, &value, bits)
        }
        form => {
            let (value, mask) = lanes::compute(form, &called.sources);
            called.finish(state, &value, mask)
        }
    }
}

/// Clears all above 256 bits of the first vector registers (how many).
pub fn clear_upper_halves(state: &mut State, [count, ..]: [u64; 3]) -> u64 {
    let registers = state.vectors.0.chunks_exact_mut(ZMM_BYTES);
    registers.take(count as usize).for_each(|register| register[32..].fill(0));
    state.note_vectors();
    0
}

/// The modes that EVEX names.
const MODES: [Rounding; 4] =
    [Rounding::NearestEven, Rounding::Down, Rounding::Up, Rounding::TowardZero];

/// The same of floating-point numbers.
pub fn wide_floats(cpu: &mut Cpu<'_, X86>, args: [u64; 3]) -> Result64 {
    let Some(called) = Called::new(cpu.state, args) else { return Ok(0) };
    let Form::Float(form) = called.form else { return Ok(0) };
    let mut env = env_of(cpu.state.mxcsr);
    let fixed = called.flags & FIXED != 0;
    if fixed && called.flags & ROUNDS != 0 {
        env.rounding = MODES[usize::from(called.rounding & 3)];
    }
    let (value, bits) = wide_floats::compute(form, &called.sources, &mut env);
    raise(cpu, &env, fixed)?;
    Ok(called.finish_floats(cpu.state, form, &value, bits))
}

/// Takes the flags of a computation over, and raises what is not masked.
fn raise(cpu: &mut Cpu<'_, X86>, env: &Env, suppressed: bool) -> Result<(), Trap> {
    if suppressed || env.flags == Flags::empty() {
        return Ok(());
    }
    let mut raised = mxcsr_flags(env.flags);
    let unmasked = !(cpu.state.mxcsr >> 7) & FLAGS;
    if raised & unmasked & BEFORE != 0 {
        raised &= BEFORE;
    }
    cpu.state.mxcsr |= raised;
    match raised & unmasked {
        0 => Ok(()),
        _ => Err(Trap::new(Exception::Simd)),
    }
}

/// The environment of a scalar conversion: bits 0 and 1 the mode, bit 3 whether exceptions are
/// suppressed, bit 4 whether the mode counts.
fn scalar_env(cpu: &Cpu<'_, X86>, how: u64) -> (Env, bool) {
    let mut env = env_of(cpu.state.mxcsr);
    if how & 1 << 4 != 0 {
        env.rounding = MODES[(how & 3) as usize];
    }
    (env, how & 8 != 0)
}

/// A float to an unsigned integer (value; how: bytes of it, rounding, bytes of the result).
pub fn to_unsigned(cpu: &mut Cpu<'_, X86>, [value, how, _]: [u64; 3]) -> Result64 {
    let [from, rounding, to, ..] = how.to_le_bytes();
    let (mut env, suppressed) = scalar_env(cpu, rounding.into());
    let value = wide_floats::to_unsigned(&mut env, (from == 8, to == 8), value, None);
    raise(cpu, &env, suppressed)?;
    Ok(value)
}

/// An unsigned integer to a float (value; how: bytes of the result, rounding).
pub fn from_unsigned(cpu: &mut Cpu<'_, X86>, [value, how, _]: [u64; 3]) -> Result64 {
    let [to, rounding, ..] = how.to_le_bytes();
    let (mut env, suppressed) = scalar_env(cpu, rounding.into());
    let value = wide_floats::from_unsigned(&mut env, to == 8, value);
    raise(cpu, &env, suppressed)?;
    Ok(value)
}

/// Gathers and scatters (base; how: register, index register, bytes of lanes and of indices, lanes,
/// scale, whether addresses have 32 bits, opmask; whether it scatters). A lane that is done leaves
/// the opmask, so that a fault is followed by what is left.
pub fn gather(cpu: &mut Cpu<'_, X86>, [base, how, scatters]: [u64; 3]) -> Result64 {
    let [reg, index, size, index_size, count, scale, narrow, mask] = how.to_le_bytes();
    let (size, index_size) = (usize::from(size), usize::from(index_size));
    let (set, mask) = (mmu(cpu.state), usize::from(mask));
    let (at, count) = (usize::from(reg & 31) * ZMM_BYTES, usize::from(count).min(16));
    let indices = bytes(cpu.state, usize::from(index & 31) * ZMM_BYTES);
    for n in 0..count {
        let bits = cpu.state.opmask(mask);
        if bits >> n & 1 == 0 {
            continue;
        }
        let index = lane(&indices, index_size, n);
        let index = if index_size == 4 { i64::from(index as i32) as u64 } else { index };
        let address = base.wrapping_add(index << scale);
        let address = if narrow != 0 { address & 0xffff_ffff } else { address };
        let place = at + n * size;
        if scatters != 0 {
            let value = lane(&bytes(cpu.state, at), size, n);
            cpu.store(set, access(size), address, value)?;
        } else {
            let value = cpu.load(set, access(size), address)?;
            cpu.state.vectors.0[place..place + size].copy_from_slice(&value.to_le_bytes()[..size]);
        }
        cpu.state.set_opmask(mask, bits & !(1 << n));
        if scatters == 0 {
            cpu.state.zmm_used |= u64::from(count * size > 32 && reg < 16);
            // Processors do so before a fault of a later lane.
            let vl = (count * size.max(index_size)).min(ZMM_BYTES);
            cpu.state.vectors.0[at + vl..at + ZMM_BYTES].fill(0);
        }
    }
    cpu.state.set_opmask(mask, 0);
    if scatters == 0 {
        cpu.state.vectors.0[at + count * size..at + ZMM_BYTES].fill(0);
    }
    Ok(0)
}
