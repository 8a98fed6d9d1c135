//! Helpers of vector instructions: SSE's control and exceptions, estimates, masked and gathered memory,
//! and instructions that are functions of bytes ([`crate::simd`]).

use crate::X86;
use crate::helpers_integer::mmu;
use crate::simd::dot;
use crate::simd::rare::{RARE, Sources};
use crate::state::{SPARE_AT, State, ZMM_BYTES};
use crate::trap::{Exception, Trap};
use ir::{MemOp, text};
use isa::{Access, Cpu};
use softfloat::{Env, Flags, Rounding};

type Result64 = Result<u64, Trap>;

/// The exception flags of MXCSR; those that operands alone raise are the low three.
pub(crate) const FLAGS: u64 = 0x3f;
pub(crate) const BEFORE: u64 = 7;
/// Bits that MXCSR has.
pub(crate) const MXCSR_MASK: u64 = 0xffff;

/// The register that keeps flags while an instruction computes.
pub(crate) const KEPT: usize = 3;

/// Takes the sticky flags away, so that those of one instruction can be seen.
pub fn simd_begin(cpu: &mut Cpu<'_, X86>, _: [u64; 3]) -> Result64 {
    let state = &mut *cpu.state;
    state.scratch[KEPT] = state.mxcsr & FLAGS;
    state.mxcsr &= !FLAGS;
    Ok(0)
}

/// Puts them back, and raises #XM if the instruction raised what is not masked (SDM volume 1,
/// section 11.5.2: what operands raise keeps the result from being computed).
pub fn simd_end(cpu: &mut Cpu<'_, X86>, _: [u64; 3]) -> Result64 {
    let state = &mut *cpu.state;
    let unmasked = !(state.mxcsr >> 7) & FLAGS;
    let mut raised = state.mxcsr & FLAGS;
    if raised & unmasked & BEFORE != 0 {
        raised &= BEFORE;
    }
    state.mxcsr = state.mxcsr & !FLAGS | state.scratch[KEPT] | raised;
    match raised & unmasked {
        0 => Ok(0),
        _ => Err(Trap::new(Exception::Simd)),
    }
}

/// MXCSR, flags included.
pub fn mxcsr(cpu: &mut Cpu<'_, X86>, _: [u64; 3]) -> Result64 {
    Ok(cpu.state.mxcsr)
}

/// Sets MXCSR; #GP for bits that there are not.
pub fn set_mxcsr(cpu: &mut Cpu<'_, X86>, [value, ..]: [u64; 3]) -> Result64 {
    if value & !MXCSR_MASK != 0 {
        return Err(Trap::protection(0));
    }
    cpu.state.mxcsr = value;
    Ok(0)
}

/// Takes the exception that a store would (address, bytes).
pub fn probe_store(cpu: &mut Cpu<'_, X86>, [address, bytes, _]: [u64; 3]) -> Result64 {
    cpu.probe(mmu(cpu.state), Access::Store, address, bytes as u32)?;
    Ok(0)
}

/// The 16 bytes of a vector register's 128 bits.
fn part(state: &State, at: usize) -> [u8; 16] {
    std::array::from_fn(|i| state.vectors.0[at + i])
}

fn put_part(state: &mut State, at: usize, value: [u8; 16]) {
    state.vectors.0[at..at + 16].copy_from_slice(&value);
}

/// What instructions on vector registers name: bytes 0 to 4 are destination, first and second source
/// (255: what was read from memory), vector length in 128 bits, whether VEX clears the rest; byte 5 is
/// the immediate.
struct Named {
    to: usize,
    a: usize,
    b: usize,
    parts: usize,
    vex: bool,
    imm: u8,
}

impl Named {
    fn new(packed: u64) -> Self {
        let [to, a, b, parts, vex, imm, ..] = packed.to_le_bytes();
        let at = |number: u8| match number {
            255 => SPARE_AT,
            _ => usize::from(number & 31) * ZMM_BYTES,
        };
        Self { to: at(to), a: at(a), b: at(b), parts: parts.clamp(1, 2).into(), vex: vex != 0, imm }
    }

    /// Clears what is above the result, and what was read from memory.
    fn finish(&self, state: &mut State) {
        if self.b == SPARE_AT {
            state.vectors.0[SPARE_AT..SPARE_AT + ZMM_BYTES].fill(0);
        }
        if self.vex {
            let from = self.to + 16 * self.parts;
            state.vectors.0[from..self.to + ZMM_BYTES].fill(0);
        }
    }
}

/// An instruction of the table [`RARE`] (which, what it names).
pub fn rare(state: &mut State, [which, named, _]: [u64; 3]) -> u64 {
    let named = Named::new(named);
    let Some((_, run)) = RARE.get(which as usize) else { return 0 };
    for n in 0..named.parts {
        let at = 16 * n;
        let (a, b) = (part(state, named.a + at), part(state, named.b + at));
        let value = run(&Sources { a, b, imm: named.imm, part: n });
        put_part(state, named.to + at, value);
    }
    named.finish(state);
    0
}

/// DPPS (4) and DPPD (8): dot products (size of lanes, what it names).
pub fn dot_product(cpu: &mut Cpu<'_, X86>, [size, named, _]: [u64; 3]) -> Result64 {
    let named = Named::new(named);
    let mut env = env_of(cpu.state.mxcsr);
    let unmasked = !(cpu.state.mxcsr >> 7) & FLAGS;
    let stops = |flags| mxcsr_flags(flags) & unmasked != 0;
    let parts = (0..named.parts).map(|n| {
        let (a, b) = (part(cpu.state, named.a + 16 * n), part(cpu.state, named.b + 16 * n));
        dot::product(&mut env, size as usize, (a, b), named.imm, stops)
    });
    let values: Vec<_> = parts.collect();
    let mut raised = mxcsr_flags(env.flags);
    if raised & unmasked & BEFORE != 0 {
        raised &= BEFORE;
    }
    cpu.state.mxcsr |= raised;
    if raised & unmasked != 0 {
        Named { vex: false, ..named }.finish(cpu.state);
        return Err(Trap::new(Exception::Simd));
    }
    for (n, value) in values.into_iter().enumerate() {
        put_part(cpu.state, named.to + 16 * n, value);
    }
    named.finish(cpu.state);
    Ok(0)
}

/// The environment of SSE operations.
pub(crate) fn env_of(mxcsr: u64) -> Env {
    let rounding = [Rounding::NearestEven, Rounding::Down, Rounding::Up, Rounding::TowardZero];
    let mut env = Env::x86_sse(rounding[(mxcsr >> 13 & 3) as usize]);
    env.denormals_are_zero = mxcsr & 1 << 6 != 0;
    if mxcsr & 0x8800 == 0x8800 {
        env.flush_to_zero = softfloat::FlushToZero::UnderflowInexact;
    }
    env
}

/// Flags as MXCSR and the x87 status word have them.
pub(crate) fn mxcsr_flags(flags: Flags) -> u64 {
    let bits = [
        Flags::INVALID,
        Flags::INPUT_DENORMAL,
        Flags::DIV_BY_ZERO,
        Flags::OVERFLOW,
        Flags::UNDERFLOW,
        Flags::INEXACT,
    ];
    let bits = bits.into_iter().enumerate();
    bits.map(|(bit, flag)| u64::from(flags.contains(flag)) << bit).sum()
}

/// PCMPxSTRx (what it names, lengths of the first and second in rax and rdx's width: 0 for implicit, 4, 8):
/// the index, with the flags above 32 bits; or the mask goes to XMM0.
pub fn compare_strings(state: &mut State, [what, first, second]: [u64; 3]) -> u64 {
    let (named, explicit, to_mask) = (Named::new(what), what >> 48 & 15, what >> 56);
    let (a, b) = (part(state, named.a), part(state, named.b));
    let length = |value: u64| match explicit {
        8 => Some(value.cast_signed()),
        4 => Some(i64::from(value as i32)),
        _ => None,
    };
    let lengths = [length(first), length(second)];
    let found = text::compare(a, b, lengths, named.imm);
    if to_mask != 0 {
        put_part(state, 0, found.mask);
    }
    Named { to: 0, vex: named.vex && to_mask != 0, ..named }.finish(state);
    found.packed()
}

/// VMASKMOV and VPMASKMOV from memory: lanes whose mask is negative (what it names: destination, mask; address;
/// size of lanes).
pub fn masked_move(cpu: &mut Cpu<'_, X86>, [packed, address, size]: [u64; 3]) -> Result64 {
    let named = Named::new(packed);
    let size = (size as usize).clamp(4, 8);
    let set = mmu(cpu.state);
    let mem = if size == 8 { MemOp::U64 } else { MemOp::U32 };
    let mut value = [0; 32];
    for n in 0..16 * named.parts / size {
        if cpu.state.vectors.0[named.a + (n + 1) * size - 1] & 0x80 != 0 {
            let lane = cpu.load(set, mem, address.wrapping_add((n * size) as u64))?;
            value[n * size..(n + 1) * size].copy_from_slice(&lane.to_le_bytes()[..size]);
        }
    }
    let end = named.to + 16 * named.parts;
    cpu.state.vectors.0[named.to..end].copy_from_slice(&value[..16 * named.parts]);
    named.finish(cpu.state);
    Ok(0)
}

/// A lane of the vector registers, zero-extended.
fn lane_at(cpu: &Cpu<'_, X86>, at: usize, size: usize) -> u64 {
    let bytes = &cpu.state.vectors.0[at..at + size];
    bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// MASKMOVQ and MASKMOVDQU: bytes whose mask is negative go to memory (byte of the data in the region,
/// and of the mask 32 bits above; address; bytes).
pub fn masked_bytes(cpu: &mut Cpu<'_, X86>, [places, address, bytes]: [u64; 3]) -> Result64 {
    let (data, mask) = (places as u32 as usize, (places >> 32) as usize);
    let set = mmu(cpu.state);
    let bytes = bytes.min(16) as usize;
    // Processors fault at the first byte, whether that is to be written or not.
    cpu.probe(set, Access::Store, address, 1)?;
    for n in 0..bytes {
        if cpu.state.vectors.0[mask + n] & 0x80 != 0 {
            let byte = cpu.state.vectors.0[data + n];
            cpu.store(set, MemOp::U8, address.wrapping_add(n as u64), byte.into())?;
        }
    }
    Ok(0)
}

/// Gathers (what it names: destination, mask as a, index as b; base; bytes 0 to 2: size of lanes, size of
/// indices, scale; byte 3: bits of an address are 32). A lane that was read is no longer in the mask, so that
/// a fault is followed by what is left.
pub fn gather(cpu: &mut Cpu<'_, X86>, [packed, base, how]: [u64; 3]) -> Result64 {
    let named = Named::new(packed);
    let [size, index_size, scale, narrow, ..] = how.to_le_bytes();
    let (size, index_size) = (usize::from(size), usize::from(index_size));
    let set = mmu(cpu.state);
    let mem = if size == 8 { MemOp::U64 } else { MemOp::U32 };
    let lanes = 16 * named.parts / size.max(index_size);
    for n in 0..lanes {
        let mask = named.a + n * size;
        if cpu.state.vectors.0[mask + size - 1] & 0x80 != 0 {
            let index = lane_at(cpu, named.b + n * index_size, index_size);
            let index = if index_size == 4 { i64::from(index as i32) as u64 } else { index };
            let at = base.wrapping_add(index << scale);
            let at = if narrow != 0 { at & 0xffff_ffff } else { at };
            let lane = cpu.load(set, mem, at)?;
            let to = named.to + n * size;
            cpu.state.vectors.0[to..to + size].copy_from_slice(&lane.to_le_bytes()[..size]);
        }
        cpu.state.vectors.0[mask..mask + size].fill(0);
    }
    let end = ZMM_BYTES;
    let used = lanes * size;
    cpu.state.vectors.0[named.to + used..named.to + end].fill(0);
    cpu.state.vectors.0[named.a..named.a + end].fill(0);
    Ok(0)
}
