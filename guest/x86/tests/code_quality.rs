//! What code the engine makes of small kernels of x86-64 programs: `tests/codegen/x86/*.txt`, which
//! [`irgen::golden`] describes.
//!
//! Each line of the guest's code has the bytes of an instruction; what follows them is for readers. The code runs in
//! user mode, where memory is reached directly.

use codegen::Memory;
use ir::{Builder, Unit};
use irgen::golden;
use isa::{CodeSource, Guest};
use std::fmt::Write;
use std::path::Path;
use x86::{Wiring, X86, model};

/// Where the code begins.
const START: u64 = 0x40_1000;

struct Code(Vec<u8>);

impl CodeSource for Code {
    fn halfword(&mut self, gva: u64) -> Option<u16> {
        let at = usize::try_from(gva.checked_sub(START)?).ok()?;
        let byte = |at: usize| self.0.get(at).copied().unwrap_or(0x90);
        Some(u16::from_le_bytes([byte(at), byte(at + 1)]))
    }
}

/// The bytes of a file's head.
fn bytes(text: &str) -> Vec<u8> {
    let instruction = |line: &str| -> Vec<u8> {
        let digits = line.split_whitespace().next().unwrap_or_default().as_bytes();
        let byte = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok();
        let bytes: Option<_> = digits.chunks(2).map(byte).collect();
        bytes.unwrap_or_else(|| panic!("no bytes: {line}"))
    };
    golden::head(text).flat_map(instruction).collect()
}

/// A whole file, made of its head.
fn render(text: &str) -> String {
    let code = bytes(text);
    let title = text.lines().next().expect("a file has a title");
    let config = model::parse("max").expect("a known model");
    let guest = X86 { config, wiring: Wiring::default(), user: true };
    let mut golden = format!("{title}\n");
    let mut at = 0;
    while at < code.len() {
        let (text, len) = guest.disassemble(START + at as u64, &code[at..]);
        let digits: String = code[at..at + len].iter().map(|byte| format!("{byte:02x}")).collect();
        let _ = writeln!(golden, "{digits:<20}  {text}");
        at += len;
    }
    let mut state = guest.user_state(true);
    X86::set_pc(&mut state, START);
    let mode = guest.mode(&state);
    // As the runtime fills them in.
    let flags = mode.flags | u32::from(mode.mmu) << 29;
    let mut unit = Unit { pc: START, mmu: mode.mmu, flags, ..Unit::default() };
    guest.translate(&mode, 64, &mut Code(code), &mut Builder::new(&mut unit));
    golden + &golden::compiled::<X86>(unit, Memory::Direct)
}

#[test]
fn kernels_give_the_code_of_their_files() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/codegen/x86");
    golden::compare(&folder, 7, render);
}
