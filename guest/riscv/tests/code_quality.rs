//! What code the engine makes of small guest kernels: `tests/codegen/*.txt`, which [`irgen::golden`] describes.
//!
//! The guest's code is words; what follows a word on its line is for readers. A title that has `vtype=` and `vl=`
//! asks for vectors of that type.

#[allow(dead_code, reason = "no memory is needed here")]
mod machine;

use codegen::Memory;
use ir::{Builder, Unit};
use irgen::golden;
use isa::Guest;
use machine::{Code, START, hart};
use riscv::decode::disassemble_plain;
use riscv::{Riscv, Xlen};
use std::fmt::Write;
use std::path::Path;

/// Words of a file's head.
fn words(text: &str) -> Vec<u32> {
    let word = |line: &str| {
        let word = line.split_whitespace().next()?;
        Some(u32::from_str_radix(word, 16).unwrap_or_else(|e| panic!("{line}: {e}")))
    };
    golden::head(text).filter_map(word).collect()
}

/// The number that a file's title gives to a name.
fn setting(title: &str, name: &str) -> Option<u64> {
    let words = title.split([' ', ',', ';', '.']);
    let value = words.filter_map(|word| word.split_once('=')).find(|(key, _)| *key == name)?.1;
    Some(value.parse().unwrap_or_else(|e| panic!("{title}: {value}: {e}")))
}

fn translate(title: &str, words: &[u32]) -> Unit {
    let hart = hart(Xlen::Rv64);
    let mut state = hart.reset();
    // The unit is on and its registers are dirty.
    state.mstatus |= 3 << 13;
    if let (Some(vtype), Some(vl)) = (setting(title, "vtype"), setting(title, "vl")) {
        // So is the other, and its type is known.
        state.mstatus |= 3 << 9;
        (state.vtype, state.vl, state.vknown) = (vtype, vl, 1);
    }
    state.pc = START;
    let mode = hart.mode(&state);
    // As the runtime fills them in.
    let flags = mode.flags | u32::from(mode.mmu) << 29;
    let mut unit = Unit { pc: START, mmu: mode.mmu, flags, ..Unit::default() };
    let mut code = Code(words.iter().flat_map(|word| word.to_le_bytes()).collect());
    hart.translate(&mode, 64, &mut code, &mut Builder::new(&mut unit));
    unit
}

/// A whole file, made of its head.
fn render(text: &str) -> String {
    let words = words(text);
    let title = text.lines().next().expect("a file has a title");
    let mut golden = format!("{title}\n");
    let ext = hart(Xlen::Rv64).config.ext;
    for (pc, word) in (START..).step_by(4).zip(&words) {
        let shown = disassemble_plain(*word, pc, ext).expect("an instruction");
        let _ = writeln!(golden, "{word:08x}  {shown}");
    }
    golden + &golden::compiled::<Riscv>(translate(title, &words), Memory::Tlb)
}

#[test]
fn kernels_give_the_code_of_their_files() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/codegen");
    golden::compare(&folder, 12, render);
}
