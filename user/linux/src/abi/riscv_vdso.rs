//! The system's shared object of RISC-V (vdso(7); DWARF register numbers: RISC-V ELF psABI).

use crate::vdso::{Function, Library, Rules, SignalFrame};

/// `li a7, 139; ecall`: the return from handlers, as unwinders look for it.
const SIGRETURN: u64 = 139;
/// The column of the pc that a handler interrupted.
const ALTERNATE: u8 = 64;
/// Functions that make the call of a number, of 64 bits.
const CALLS_64: &[(&str, u64)] = &[
    ("__vdso_gettimeofday", 169),
    ("__vdso_clock_gettime", 113),
    ("__vdso_clock_getres", 114),
    ("__vdso_getcpu", 168),
    ("__vdso_flush_icache", 259),
    ("__vdso_riscv_hwprobe", 258),
];
/// The same of 32 bits, where the others have times of 64 bits and other names.
const CALLS_32: &[(&str, u64)] =
    &[("__vdso_getcpu", 168), ("__vdso_flush_icache", 259), ("__vdso_riscv_hwprobe", 258)];

/// `li a7, NUMBER; ecall`.
fn call(number: u64) -> Vec<u8> {
    let load = (number as u32) << 20 | 17 << 7 | 0x13;
    [load.to_le_bytes(), 0x73_u32.to_le_bytes()].concat()
}

/// Where the frame of a handler has registers: the pc, those of integers, those of floats.
fn places(word: i64) -> Vec<(u8, i64)> {
    let context = 128 + (5 * word + 128 + 15) / 16 * 16;
    let float = context + 32 * word;
    let integers = (1..32).map(|n: u8| (n, context + word * i64::from(n)));
    let floats = (0..32).map(|n: u8| (32 + n, float + 8 * i64::from(n)));
    [(ALTERNATE, context)].into_iter().chain(integers).chain(floats).collect()
}

fn library(wide: bool, calls: &[(&'static str, u64)]) -> Library {
    const SP: u8 = 2;
    const RA: u8 = 1;
    let word = if wide { 8 } else { 4 };
    let rules = |signal, column| Rules { signal, column, unit: -(word as i8), program: Vec::new() };
    let frame = SignalFrame { stack: SP, registers: &places(word) };
    let function =
        |name, code, rules| Function { name: Some(name), alias: None, version: 0, code, rules };
    let back = rules(true, ALTERNATE).signal_frame(&frame);
    let mut functions = vec![function("__vdso_rt_sigreturn", call(SIGRETURN), back)];
    functions.extend(calls.iter().map(|(name, number)| {
        let code = [&call(*number)[..], &0x8067_u32.to_le_bytes()].concat();
        function(name, code, rules(false, RA).def_cfa(SP, 0))
    }));
    Library {
        machine: elf::EM_RISCV,
        // Compressed instructions, floats of 64 bits in registers.
        flags: 5,
        wide,
        name: "linux-vdso.so.1",
        versions: &["LINUX_4.15"],
        filler: &[0x13, 0, 0, 0],
        functions,
    }
}

/// Of `riscv64`.
pub fn wide() -> Library {
    library(true, CALLS_64)
}

/// Of `riscv32`.
pub fn narrow() -> Library {
    library(false, CALLS_32)
}
