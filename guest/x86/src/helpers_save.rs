//! Saving and restoring the x87 and the vector registers: FNSTENV, FNSAVE, FXSAVE, XSAVE (Intel SDM volume 1,
//! sections 8.1.10, 10.5, 13.4).

use crate::X86;
use crate::helpers_integer::mmu;
use crate::helpers_simd::MXCSR_MASK;
use crate::helpers_x87::set_words;
use crate::image::{COMPONENTS, pieces, register, set_register, status_word};
use crate::state::{State, ZMM_BYTES};
use crate::trap::Trap;
use ir::MemOp;
use isa::Cpu;

type Result64 = Result<u64, Trap>;

/// Of the last argument: the operand size, 2 or 4; 8 for 64-bit code.
const LONG: u64 = 8;

fn write(cpu: &mut Cpu<'_, X86>, at: u64, bytes: &[u8]) -> Result<(), Trap> {
    let set = mmu(cpu.state);
    for (i, byte) in bytes.iter().enumerate() {
        cpu.store(set, MemOp::U8, at.wrapping_add(i as u64), (*byte).into())?;
    }
    Ok(())
}

fn read(cpu: &mut Cpu<'_, X86>, at: u64, len: usize) -> Result<Vec<u8>, Trap> {
    let set = mmu(cpu.state);
    let mut byte = |i: usize| cpu.load(set, MemOp::U8, at.wrapping_add(i as u64)).map(|b| b as u8);
    (0..len).map(&mut byte).collect()
}

/// A number of `len` bytes.
fn number(bytes: &[u8], at: usize, len: usize) -> u64 {
    bytes[at..at + len].iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

fn environment(state: &State, size: u64) -> Vec<u8> {
    let words = [state.fcw as u16, status_word(state), state.tag_word() as u16, 0, 0, 0, 0];
    let wide = size != 2;
    let mut out = Vec::new();
    for (i, word) in words.into_iter().enumerate() {
        out.extend(word.to_le_bytes());
        if wide {
            // The upper halves of the three words are ones.
            out.extend(if i < 3 { [0xff; 2] } else { [0; 2] });
        }
    }
    out
}

fn set_environment(state: &mut State, bytes: &[u8], size: u64) {
    let step = if size == 2 { 2 } else { 4 };
    let word = |i: usize| number(bytes, i * step, 2);
    state.ftop = word(1) >> 11 & 7;
    state.ftw = State::in_use(word(2));
    set_words(state, word(0), word(1));
}

fn environment_len(size: u64) -> usize {
    if size == 2 { 14 } else { 28 }
}

/// FNSTENV (address, operand size): exceptions are masked afterwards.
pub fn store_environment(cpu: &mut Cpu<'_, X86>, [at, size, _]: [u64; 3]) -> Result64 {
    let bytes = environment(cpu.state, size);
    write(cpu, at, &bytes)?;
    let fsw = cpu.state.fsw;
    set_words(cpu.state, cpu.state.fcw | 0x3f, fsw);
    Ok(0)
}

/// FLDENV, alike.
pub fn load_environment(cpu: &mut Cpu<'_, X86>, [at, size, _]: [u64; 3]) -> Result64 {
    let bytes = read(cpu, at, environment_len(size))?;
    set_environment(cpu.state, &bytes, size);
    Ok(0)
}

/// FNSAVE, alike: the x87 is as after FNINIT.
pub fn save(cpu: &mut Cpu<'_, X86>, [at, size, _]: [u64; 3]) -> Result64 {
    let mut bytes = environment(cpu.state, size);
    (0..8).for_each(|i| bytes.extend(register(cpu.state, i)));
    write(cpu, at, &bytes)?;
    crate::helpers_x87::initialise(cpu, [0; 3])
}

/// FRSTOR, alike.
pub fn restore(cpu: &mut Cpu<'_, X86>, [at, size, _]: [u64; 3]) -> Result64 {
    let len = environment_len(size);
    let bytes = read(cpu, at, len + 80)?;
    set_environment(cpu.state, &bytes, size);
    (0..8).for_each(|i| set_register(cpu.state, i, &bytes[len + 10 * i as usize..]));
    Ok(0)
}

fn aligned(at: u64, to: u64) -> Result<(), Trap> {
    if at.is_multiple_of(to) { Ok(()) } else { Err(Trap::protection(0)) }
}

/// How many registers of vectors code has.
fn vectors(size: u64) -> usize {
    if size == LONG { 16 } else { 8 }
}

/// Writes what FXSAVE and XSAVE have in their first 416 bytes: the parts that the mask says, MXCSR with
/// those of `with_mxcsr`.
fn write_legacy(
    cpu: &mut Cpu<'_, X86>,
    at: u64,
    (parts, with_mxcsr): (u64, u64),
    size: u64,
) -> Result<(), Trap> {
    let state = &*cpu.state;
    let mut head = Vec::new();
    head.extend((state.fcw as u16).to_le_bytes());
    head.extend(status_word(state).to_le_bytes());
    head.extend([state.ftw as u8, 0]);
    head.extend([0; 18]);
    let registers: Vec<u8> =
        (0..8).flat_map(|i| register(state, i).into_iter().chain([0; 6])).collect();
    let control: Vec<u8> = [state.mxcsr as u32, MXCSR_MASK as u32]
        .iter()
        .flat_map(|word| word.to_le_bytes())
        .collect();
    let xmm: Vec<u8> = (0..vectors(size))
        .flat_map(|n| state.vectors.0[n * ZMM_BYTES..n * ZMM_BYTES + 16].to_vec())
        .collect();
    if parts & 1 != 0 {
        write(cpu, at, &head)?;
        write(cpu, at.wrapping_add(32), &registers)?;
    }
    if parts & with_mxcsr != 0 {
        write(cpu, at.wrapping_add(24), &control)?;
    }
    if parts & 2 != 0 {
        write(cpu, at.wrapping_add(160), &xmm)?;
    }
    Ok(())
}

fn set_x87(state: &mut State, bytes: &[u8]) {
    state.ftop = number(bytes, 2, 2) >> 11 & 7;
    state.ftw = number(bytes, 4, 1);
    set_words(state, number(bytes, 0, 2), number(bytes, 2, 2));
    (0..8).for_each(|i| set_register(state, i, &bytes[32 + 16 * i as usize..]));
}

fn set_xmm(state: &mut State, bytes: &[u8], count: usize) {
    for n in 0..count {
        let at = n * ZMM_BYTES;
        state.vectors.0[at..at + 16].copy_from_slice(&bytes[160 + 16 * n..176 + 16 * n]);
    }
}

fn checked_mxcsr(bytes: &[u8]) -> Result<u64, Trap> {
    let value = number(bytes, 24, 4);
    if value & !MXCSR_MASK == 0 { Ok(value) } else { Err(Trap::protection(0)) }
}

/// FXSAVE (address, size).
pub fn fxsave(cpu: &mut Cpu<'_, X86>, [at, size, _]: [u64; 3]) -> Result64 {
    aligned(at, 16)?;
    write_legacy(cpu, at, (3, 2), size)?;
    Ok(0)
}

/// FXRSTOR (address, size).
pub fn fxrstor(cpu: &mut Cpu<'_, X86>, [at, size, _]: [u64; 3]) -> Result64 {
    aligned(at, 16)?;
    let bytes = read(cpu, at, 416)?;
    let mxcsr = checked_mxcsr(&bytes)?;
    set_x87(cpu.state, &bytes);
    set_xmm(cpu.state, &bytes, vectors(size));
    cpu.state.mxcsr = mxcsr;
    Ok(0)
}

const HEADER: u64 = 512;
const COMPACTED: u64 = 1 << 63;

/// The components that are asked for (edx:eax) and enabled.
fn requested(state: &State) -> u64 {
    let asked = state.gpr[0] & 0xffff_ffff | state.gpr[2] << 32;
    asked & state.xcr0
}

/// Where components are: at their places, or, `compacted`, one after the other.
fn places(compacted: Option<u64>) -> Vec<(u32, usize, usize)> {
    let Some(present) = compacted else { return COMPONENTS.to_vec() };
    let mut next = 576;
    let present = COMPONENTS.into_iter().filter(|(bit, ..)| present >> bit & 1 != 0);
    present
        .map(|(bit, _, len)| {
            let at = next;
            next += len;
            (bit, at, len)
        })
        .collect()
}

/// XSAVE and XSAVEC (address, size, whether compacted). All that is enabled counts as in use.
pub fn xsave(cpu: &mut Cpu<'_, X86>, [at, size, compact]: [u64; 3]) -> Result64 {
    aligned(at, 64)?;
    let parts = requested(cpu.state);
    let compacted = (compact != 0).then_some(parts);
    write_legacy(cpu, at, (parts, if compact != 0 { 2 } else { 6 }), size)?;
    for (bit, place, _) in places(compacted) {
        if parts >> bit & 1 != 0 {
            let pieces = pieces(bit, vectors(size)).into_iter();
            let bytes: Vec<u8> = pieces
                .flat_map(|(from, len)| cpu.state.vectors.0[from..from + len].to_vec())
                .collect();
            write(cpu, at.wrapping_add(place as u64), &bytes)?;
        }
    }
    let header = at.wrapping_add(HEADER);
    let set = mmu(cpu.state);
    let old = if compact != 0 { 0 } else { cpu.load(set, MemOp::U64, header)? };
    cpu.store(set, MemOp::U64, header, old & !parts | parts)?;
    if compact != 0 {
        cpu.store(set, MemOp::U64, header.wrapping_add(8), parts | COMPACTED)?;
    }
    Ok(0)
}

/// XRSTOR (address, size).
pub fn xrstor(cpu: &mut Cpu<'_, X86>, [at, size, _]: [u64; 3]) -> Result64 {
    aligned(at, 64)?;
    let header = read(cpu, at.wrapping_add(HEADER), 64)?;
    let (present, compact) = (number(&header, 0, 8), number(&header, 8, 8));
    let xcr0 = cpu.state.xcr0;
    let wrong = match compact & COMPACTED {
        0 => present & !xcr0 != 0 || header[8..24].iter().any(|byte| *byte != 0),
        _ => {
            let listed = compact & !COMPACTED;
            present & !listed != 0 || listed & !xcr0 != 0 || header[16..].iter().any(|b| *b != 0)
        }
    };
    if wrong {
        return Err(Trap::protection(0));
    }
    let parts = requested(cpu.state);
    let legacy = read(cpu, at, 416)?;
    let compacted = (compact & COMPACTED != 0).then_some(compact);
    // MXCSR comes with SSE or AVX; in the compacted format with SSE alone, and then it is set anew.
    let takes_mxcsr = if compacted.is_some() { parts & present & 2 } else { parts & 6 };
    let mxcsr = if takes_mxcsr != 0 { Some(checked_mxcsr(&legacy)?) } else { None };
    let mut contents = Vec::new();
    for (bit, place, len) in places(compacted) {
        if parts >> bit & present >> bit & 1 != 0 {
            contents.push((bit, read(cpu, at.wrapping_add(place as u64), len)?));
        }
    }
    if parts & 1 != 0 {
        if present & 1 != 0 {
            set_x87(cpu.state, &legacy);
        } else {
            crate::helpers_x87::initialise(cpu, [0; 3])?;
            (0..8).for_each(|i| set_register(cpu.state, i, &[0; 10]));
        }
    }
    let count = vectors(size);
    if parts & 2 != 0 {
        let zeros = vec![0; 416];
        set_xmm(cpu.state, if present & 2 != 0 { &legacy } else { &zeros }, count);
    }
    match mxcsr {
        Some(value) => cpu.state.mxcsr = value,
        None if compacted.is_some() && parts & 2 != 0 => cpu.state.mxcsr = 0x1f80,
        None => {}
    }
    for (bit, ..) in COMPONENTS {
        if parts >> bit & 1 == 0 {
            continue;
        }
        let found = contents.iter().find(|(of, _)| *of == bit).map(|(_, bytes)| bytes.as_slice());
        let mut from = 0;
        for (to, len) in pieces(bit, count) {
            let target = &mut cpu.state.vectors.0[to..to + len];
            match found {
                Some(bytes) => target.copy_from_slice(&bytes[from..from + len]),
                None => target.fill(0),
            }
            from += len;
        }
    }
    cpu.state.note_vectors();
    Ok(0)
}
