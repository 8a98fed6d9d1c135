//! The registers as debuggers of RISC-V see them (Linux, `asm/ptrace.h`).

use crate::ptrace::note;
use riscv::{Feature, Riscv, State};

/// Words before the vector registers: vstart, vl, vtype, vcsr, vlenb.
const VECTOR_WORDS: usize = 5;

fn word(guest: &Riscv) -> usize {
    if guest.is_rv32() { 4 } else { 8 }
}

fn put(to: &mut Vec<u8>, value: u64, len: usize) {
    to.extend_from_slice(&value.to_le_bytes()[..len]);
}

fn get(from: &[u8], at: usize, len: usize) -> Option<u64> {
    let bytes = from.get(at..at + len)?;
    Some(bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
}

/// The sets.
pub fn sets(guest: &Riscv, state: &State) -> Vec<(u32, Vec<u8>)> {
    let len = word(guest);
    let mut general = Vec::new();
    put(&mut general, guest.address(state.pc), len);
    state.x[1..].iter().for_each(|value| put(&mut general, *value, len));
    let mut list = vec![(note::PRSTATUS, general)];
    if guest.has(Feature::F) {
        let mut float = Vec::new();
        state.f.iter().for_each(|value| put(&mut float, *value, 8));
        put(&mut float, state.frm << 5 | state.fflags, 8);
        list.push((note::PRFPREG, float));
    }
    if guest.has(Feature::V) {
        let mut vector = Vec::new();
        let vlenb = u64::from(guest.config.vlen / 8);
        let vtype = if len == 8 { state.vtype } else { state.vtype | state.vtype >> 32 };
        let vcsr = state.vxrm << 1 | state.vxsat;
        for value in [state.vstart, state.vl, vtype, vcsr, vlenb] {
            put(&mut vector, value, len);
        }
        vector.extend_from_slice(&state.v.0[..32 * vlenb as usize]);
        list.push((note::RISCV_VECTOR, vector));
    }
    list
}

/// Takes over a set.
pub fn set(guest: &Riscv, state: &mut State, kind: u32, bytes: &[u8]) {
    let len = word(guest);
    match kind {
        note::PRSTATUS => {
            for (n, chunk) in bytes.chunks_exact(len).take(32).enumerate() {
                let value = get(chunk, 0, len).unwrap_or(0);
                match n {
                    0 => state.pc = guest.address(value),
                    n => state.x[n] = guest.value(value),
                }
            }
        }
        note::PRFPREG => {
            for (n, register) in state.f.iter_mut().enumerate() {
                *register = get(bytes, 8 * n, 8).unwrap_or(*register);
            }
            if let Some(fcsr) = get(bytes, 256, 4) {
                (state.fflags, state.frm) = (fcsr & 31, fcsr >> 5 & 7);
            }
        }
        note::RISCV_VECTOR => {
            let vlenb = guest.config.vlen as usize / 8;
            let field = |n: usize| get(bytes, n * len, len).unwrap_or(0);
            let most = 8 * vlenb as u64;
            state.vtype = match field(2) {
                vtype if vtype >> (8 * len - 1) != 0 => 1 << 63,
                vtype => vtype & 0xff,
            };
            (state.vstart, state.vl) = (field(0).min(most), field(1).min(most));
            (state.vxrm, state.vxsat) = (field(3) >> 1 & 3, field(3) & 1);
            let from = VECTOR_WORDS * len;
            if let Some(registers) = bytes.get(from..from + 32 * vlenb) {
                state.v.0[..32 * vlenb].copy_from_slice(registers);
            }
        }
        _ => {}
    }
}
