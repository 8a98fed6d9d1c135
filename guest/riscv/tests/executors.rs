//! Random instructions on the interpreter and on compiled code: every encoding of the specification,
//! a few at a time, from interesting registers.
//!
//! Code goes forwards, but for one loop that counts, and everything around it waits for an interrupt:
//! all ends.

mod engine;

use cpu::Exit;
use engine::{Engine, count, differences, hart, listing};
use irgen::{Random, float32, float64, integer};
use isa::Guest;
use riscv::decode::{INSNS, InsnInfo};
use riscv::{Riscv, State, Xlen};
use runtime::Options;
use std::fmt::Write;

/// Where code is, and traps go.
const CODE: (u64, u64) = (0x9123_0000, 0x3000);
const HANDLER: u64 = CODE.0 + 0x2000;
/// Where data is.
const DATA: (u64, u64) = (0x4_0000, 0x2000);
const WFI: u32 = 0x1050_0073;
/// Counts the rounds of the loop.
const COUNTER: usize = 31;
/// `addi t6, t6, -1`
const DECREMENT: u32 = 0xffff_8f93;
/// CSRs that tell the same time after time: floating-point and vector ones, and scratch.
const CSRS: [u32; 11] =
    [0x001, 0x002, 0x003, 0x008, 0x009, 0x00a, 0x00f, 0xc20, 0xc21, 0xc22, 0x340];
/// What goes backwards, or where registers say.
const NOT_FORWARDS: [&str; 8] =
    ["jalr", "c.jr", "c.jalr", "cm.jt", "cm.jalt", "mret", "sret", "mnret"];

/// Random operands for an encoding.
fn encode(random: &mut Random<'_>, info: &InsnInfo) -> u32 {
    let mut bits = random.number() as u32;
    if random.percent(50) {
        // Few registers, so that one instruction meets another's results.
        bits &= !(0x18 << 7 | 0x18 << 15 | 0x18 << 20);
        bits |= 8 << 7 | 8 << 15 | 8 << 20;
    }
    if random.percent(60) {
        // A dynamic rounding mode.
        bits |= 7 << 12;
    }
    let mut insn = bits & !info.mask | info.value;
    if info.name.starts_with("csr") {
        insn = insn & 0x000f_ffff | random.pick(&CSRS) << 20;
    }
    match (insn & 3, insn & 0x7f, insn >> 13 & 7) {
        // Branches and jumps go forwards, by 4 bytes at least.
        (3, 0x63, _) => insn = insn & !(1 << 31 | 1 << 30) | 1 << 9,
        (3, 0x6f, _) => insn = insn & !(1 << 31 | 1 << 30) | 1 << 22,
        (1, _, 1 | 5..=7) => insn = insn & !(1 << 12) | 1 << 4,
        _ => {}
    }
    insn
}

/// Where the one jump to a register's value begins; the register holds its address always.
const HERE: usize = 30;
/// `auipc t5, 0; jalr t5, 8(t5)` or `jalr zero, 8(t5)`: a jump to what follows.
const JUMP: [[u32; 2]; 2] = [[0x0000_0f17, 0x008f_0f67], [0x0000_0f17, 0x008f_0067]];

/// `bnez t6` to `distance` bytes before; less than 2 KiB.
fn loop_back(distance: u32) -> u32 {
    let imm = distance.wrapping_neg();
    let (high, low) = (imm >> 5 & 0x3f, imm >> 1 & 0xf);
    1 << 31 | high << 25 | 31 << 15 | 1 << 12 | low << 8 | 1 << 7 | 0x63
}

/// Whether an instruction may write registers 30 and 31, in pairs too.
fn meddles(word: u32) -> bool {
    word >> 8 & 0xf == 0xf
}

/// A few instructions in a page that is full of waits, with a handler of waits. Half of the
/// programs are loops; some jump indirectly, once a round.
fn program(random: &mut Random<'_>, encodings: &[Vec<&InsnInfo>; 2]) -> (Vec<u8>, Vec<u32>, u64) {
    let mut code: Vec<u8> = (0..CODE.1 / 4).flat_map(|_| WFI.to_le_bytes()).collect();
    let (mut at, mut words) = (0, Vec::new());
    let looped = random.percent(50);
    if looped {
        // First, so that whoever comes back from the end counts.
        code[..4].copy_from_slice(&DECREMENT.to_le_bytes());
        (at, words) = (4, vec![DECREMENT]);
    }
    for _ in 0..1 + random.below(8) {
        let all = &encodings[usize::from(random.percent(15))];
        let info = all[random.below(all.len() as u64) as usize];
        let word = encode(random, info);
        if !info.matches(word) || meddles(word) {
            continue;
        }
        let len = if word & 3 == 3 { 4 } else { 2 };
        code[at..at + len].copy_from_slice(&word.to_le_bytes()[..len]);
        words.push(word);
        at += len;
    }
    // Whatever is jumped into begins an instruction.
    while at % 4 != 0 {
        code[at..at + 2].copy_from_slice(&[0x01, 0x00]);
        at += 2;
    }
    let here = CODE.0 + at as u64;
    if random.percent(50) {
        for word in random.pick(&JUMP) {
            code[at..at + 4].copy_from_slice(&word.to_le_bytes());
            words.push(word);
            at += 4;
        }
    }
    if looped {
        let back = loop_back(at as u32);
        code[at..at + 4].copy_from_slice(&back.to_le_bytes());
        words.push(back);
    }
    (code, words, here)
}

fn start(random: &mut Random<'_>, hart: &Riscv) -> State {
    let mut state = hart.reset();
    (state.pc, state.mtvec) = (CODE.0, HANDLER);
    for i in 1..32 {
        let value = match random.below(10) {
            0..5 => DATA.0 + random.below(DATA.1 / 16) * 16,
            5 => DATA.0 + random.below(DATA.1),
            _ => integer(random),
        };
        state.x[i] = hart.value(value);
        state.f[i] = match random.below(10) {
            0..5 => float64(random),
            5..9 => u64::from(float32(random)) | 0xffff_ffff << 32,
            _ => random.number(),
        };
    }
    // Code is not for writing, to machine mode either: locked, NAPOT, 16 KiB, read and execute.
    state.pmpcfg[0] = 0x9d;
    state.pmpaddr[0] = CODE.0 >> 2 | 0x7ff;
    state.x[COUNTER] = 1 + random.below(6);
    state.frm = random.pick(&[0, 0, 1, 2, 3, 4, 5]);
    state.fflags = random.below(32);
    let units = [1, 2, 3, 3, 3, 0];
    state.mstatus |= random.pick(&units) << 13 | random.pick(&units) << 9;
    if random.percent(80) {
        let (sew, lmul) = (random.below(4), random.pick(&[0, 0, 1, 2, 7]));
        state.vtype = random.below(4) << 6 | sew << 3 | lmul;
        state.vl = random.below(5);
    }
    let mut filler = Random::new(random.number());
    state.v.0.chunks_exact_mut(8).for_each(|lane| {
        lane.copy_from_slice(&integer(&mut filler).to_le_bytes());
    });
    state
}

fn compare(xlen: Xlen, seeds: std::ops::Range<u64>) {
    if Options::default().interpret {
        // The host has no code generator.
        return;
    }
    let [mut reference, mut compiled] =
        [true, false].map(|interpret| Engine::new(hart(xlen, 128), CODE, DATA, interpret));
    let hart = hart(xlen, 128);
    let usable =
        |info: &&InsnInfo| info.available(hart.config.ext) && !NOT_FORWARDS.contains(&info.name);
    // Vector instructions are many, and helpers all.
    let encodings = INSNS.iter().filter(usable).partition(|info| !info.name.starts_with('v'));
    let encodings = <[Vec<_>; 2]>::from(encodings);
    let data: Vec<u8> = (0..DATA.1).map(|i| (i * 37 + 11) as u8).collect();
    for seed in seeds {
        let mut random = Random::new(seed);
        let (code, words, here) = program(&mut random, &encodings);
        let mut state = start(&mut random, &hart);
        state.x[HERE] = hart.value(here);
        let [expected, found] = [&mut reference, &mut compiled].map(|engine| {
            engine.load(&state, &code, &data);
            assert_eq!(engine.run(), Exit::Halted);
            (engine.state(), engine.data())
        });
        if expected != found {
            let mut text = listing(&hart, &words) + &differences(&expected.0, &found.0);
            for (i, (a, b)) in
                expected.1.iter().zip(&found.1).enumerate().filter(|(_, (a, b))| a != b)
            {
                let at = DATA.0 + i as u64;
                let _ = writeln!(text, "    [{at:#x}]: expected {a:#x}, found {b:#x}");
            }
            for i in 0..32 {
                let _ = writeln!(text, "    x{i} = {:#x}, f{i} = {:#x}", state.x[i], state.f[i]);
            }
            panic!("{xlen:?}, seed {seed}:\n{text}");
        }
    }
}

#[test]
fn rv64_instructions_do_the_same_compiled_and_interpreted() {
    compare(Xlen::Rv64, 0..count());
}

#[test]
fn rv32_instructions_do_the_same_compiled_and_interpreted() {
    compare(Xlen::Rv32, 0..count());
}
