//! Random vector code, translated for the vector type it finds, against the helpers that execute one
//! instruction each whatever the type: on the interpreter and compiled, for all lengths of registers.

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
const CODE: (u64, u64) = (0x9123_0000, 0x2000);
const HANDLER: u64 = CODE.0 + 0x1000;
/// Where data is; accesses beyond fault.
const DATA: (u64, u64) = (0x4_0000, 0x3000);
const WFI: u32 = 0x1050_0073;
/// `addi t6, t6, -1`, which counts rounds.
const DECREMENT: u32 = 0xffff_8f93;
const COUNTER: usize = 31;
/// The handler goes on after what trapped: `csrr t5, mepc`, `addi t5, t5, 4`, `csrw mepc, t5`,
/// `mret`.
const SKIP: [u32; 4] = [0x3410_2f73, 0x004f_0f13, 0x341f_1073, 0x3020_0073];
/// Integer registers that hold lengths; those above are addresses.
const LENGTHS: std::ops::Range<usize> = 1..12;

/// `bnez t6` to `distance` bytes before.
fn loop_back(distance: u32) -> u32 {
    let imm = distance.wrapping_neg();
    let (high, low) = (imm >> 5 & 0x3f, imm >> 1 & 0xf);
    1 << 31 | high << 25 | 31 << 15 | 1 << 12 | low << 8 | 1 << 7 | 0x63
}

/// `vsetvli` or `vsetivli`, mostly with a type that there is.
fn configure(random: &mut Random<'_>) -> u32 {
    let sew = random.below(4) as u32;
    let lmul = random.pick(&[0, 0, 0, 1, 1, 2, 3, 7, 7, 6, 5]);
    let mut vtype = (random.below(4) as u32) << 6 | sew << 3 | lmul;
    if random.percent(3) {
        vtype = random.below(0x400) as u32;
    }
    let rd = random.pick(&[0, 0, 5]);
    if random.percent(30) {
        return 3 << 30 | vtype << 20 | (random.below(32) as u32) << 15 | 7 << 12 | rd << 7 | 0x57;
    }
    let rs1 = if random.percent(30) { 0 } else { LENGTHS.start as u32 + random.below(11) as u32 };
    vtype << 20 | rs1 << 15 | 7 << 12 | rd << 7 | 0x57
}

/// An encoding with operands that mostly fit together.
fn encode(random: &mut Random<'_>, info: &InsnInfo) -> u32 {
    let mut bits = random.number() as u32;
    let memory = matches!(info.value & 0x7f, 0x07 | 0x27);
    for at in [7, 15, 20] {
        let mut register = random.below(32) as u32;
        if random.percent(70) {
            register = random.pick(&[0, 2, 4, 8, 8, 12, 16, 16, 24]);
        }
        if at == 15 && memory {
            register = 12 + random.below(16) as u32;
        }
        bits = bits & !(31 << at) | register << at;
    }
    if random.percent(70) {
        bits |= 1 << 25;
    }
    if memory && random.percent(70) {
        // No segments.
        bits &= !(7 << 29);
    }
    bits & !info.mask | info.value
}

/// A unit-stride load or store of all elements below `vl`.
fn plain_access(random: &mut Random<'_>) -> u32 {
    let (opcode, width) = (random.pick(&[0x07, 0x27]), random.pick(&[0, 5, 6, 7]));
    let (base, data) = (12 + random.below(16) as u32, random.pick(&[0, 2, 4, 8, 16, 24]));
    1 << 25 | base << 15 | width << 12 | data << 7 | opcode
}

fn instruction(random: &mut Random<'_>, encodings: &[&InsnInfo]) -> u32 {
    let r = LENGTHS.start as u32 + random.below(11) as u32;
    match random.below(100) {
        0..25 => configure(random),
        // csrr, csrwi vstart, csrwi vxrm, csrwi fflags
        25..27 => random.pick(&[0xc20, 0xc21, 0xc22, 0x008, 0x009]) << 20 | 2 << 12 | r << 7 | 0x73,
        27 => 0x008 << 20 | (random.below(4) as u32) << 15 | 5 << 12 | 0x73,
        28 => 0x00a << 20 | (random.below(4) as u32) << 15 | 5 << 12 | 0x73,
        // addi, beq 8 bytes ahead
        29..31 => (random.below(16) as u32) << 20 | r << 15 | r << 7 | 0x13,
        31..33 => r << 20 | 5 << 15 | 8 << 7 | 0x63,
        33..43 => plain_access(random),
        _ => loop {
            let info = random.pick(encodings);
            let word = encode(random, info);
            if info.matches(word) && word >> 7 & 31 < 30 {
                return word;
            }
        },
    }
}

fn program(random: &mut Random<'_>, encodings: &[&InsnInfo]) -> (Vec<u8>, Vec<u32>) {
    let mut words = Vec::new();
    let looped = random.percent(50);
    if looped {
        words.push(DECREMENT);
    }
    for _ in 0..2 + random.below(8) {
        words.push(instruction(random, encodings));
    }
    if looped {
        words.push(loop_back(4 * words.len() as u32));
    }
    let rest = CODE.1 as usize / 4 - words.len();
    let code = words.iter().copied().chain(std::iter::repeat_n(WFI, rest));
    let mut code: Vec<u8> = code.flat_map(u32::to_le_bytes).collect();
    let handler = (HANDLER - CODE.0) as usize;
    for (place, word) in code[handler..].chunks_exact_mut(4).zip(SKIP) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    (code, words)
}

fn start(random: &mut Random<'_>, hart: &Riscv, vlen: u32) -> State {
    let mut state = hart.reset();
    (state.pc, state.mtvec) = (CODE.0, HANDLER);
    for i in 1..32 {
        let value = match (i, random.below(10)) {
            (1..12, 0) => integer(random),
            (1..12, 1..6) => random.below(10),
            (1..12, _) => random.below(2 * u64::from(vlen)),
            (_, 0) => integer(random),
            // Near the end of a page, or of all.
            (_, 1..4) => DATA.0 + random.below(3) * 0x1000 + 0x1000 - random.below(256),
            _ => DATA.0 + random.below(DATA.1 / 16) * 16,
        };
        state.x[i] = hart.value(value);
        state.f[i] = match random.below(2) {
            0 => float64(random),
            _ => u64::from(float32(random)) | 0xffff_ffff << 32,
        };
    }
    // Code is not for writing, to machine mode either: locked, NAPOT, 8 KiB, read and execute.
    state.pmpcfg[0] = 0x9d;
    state.pmpaddr[0] = CODE.0 >> 2 | 0x3ff;
    state.x[COUNTER] = 1 + random.below(5);
    state.frm = random.pick(&[0, 0, 0, 1, 2, 3, 4, 5]);
    state.mstatus |= random.pick(&[1, 3, 3]) << 13 | random.pick(&[1, 3, 3]) << 9;
    if random.percent(70) {
        state.vtype = random.below(4) << 3 | random.pick(&[0, 1, 7]);
        let most = u64::from(vlen / 16) >> (state.vtype >> 3);
        state.vl = if random.percent(50) { most } else { random.below(most + 1) };
    }
    let mut filler = Random::new(random.number());
    state.v.0.chunks_exact_mut(8).for_each(|lane| {
        let value = match filler.below(3) {
            0 => float64(&mut filler),
            1 => u64::from(float32(&mut filler)) | u64::from(float32(&mut filler)) << 32,
            _ => integer(&mut filler),
        };
        lane.copy_from_slice(&value.to_le_bytes());
    });
    state
}

fn compare(xlen: Xlen, vlen: u32, seeds: std::ops::Range<u64>) {
    let engine = |interpret| Engine::new(hart(xlen, vlen), CODE, DATA, interpret);
    let mut helpers = engine(true);
    let mut others = vec![("interpreted", engine(true))];
    if !Options::default().interpret {
        others.push(("compiled", engine(false)));
    }
    let hart = hart(xlen, vlen);
    let usable = |info: &&InsnInfo| {
        info.available(hart.config.ext) && info.name.starts_with('v') && info.group != "VConfig"
    };
    let encodings: Vec<_> = INSNS.iter().filter(usable).collect();
    let data: Vec<u8> = (0..DATA.1).map(|i| (i * 37 + i / 256 * 11) as u8).collect();
    for seed in seeds {
        let mut random = Random::new(seed);
        let (code, words) = program(&mut random, &encodings);
        let state = start(&mut random, &hart, vlen);
        let result = |engine: &Engine| (State { vknown: 0, ..engine.state() }, engine.data());
        helpers.load(&state, &code, &data);
        helpers.run_by_helpers();
        let expected = result(&helpers);
        for (name, engine) in &mut others {
            engine.load(&state, &code, &data);
            assert_eq!(engine.run(), Exit::Halted);
            let found = result(engine);
            if expected != found {
                let mut text = listing(&hart, &words) + &differences(&expected.0, &found.0);
                for (i, (a, b)) in expected.1.iter().zip(&found.1).enumerate() {
                    if a != b {
                        let at = DATA.0 + i as u64;
                        let _ = writeln!(text, "    [{at:#x}]: expected {a:#x}, found {b:#x}");
                    }
                }
                let _ = writeln!(text, "    vtype {:#x}, vl {}", state.vtype, state.vl);
                for (i, x) in state.x.iter().enumerate() {
                    let _ = writeln!(text, "    x{i} = {x:#x}");
                }
                panic!("{name}, {xlen:?}, VLEN {vlen}, seed {seed}:\n{text}");
            }
        }
    }
}

#[test]
fn translated_vectors_of_rv64_are_what_helpers_make_them() {
    for vlen in [128, 256, 512, 1024] {
        compare(Xlen::Rv64, vlen, 0..count() / 8);
    }
}

#[test]
fn translated_vectors_of_rv32_are_what_helpers_make_them() {
    for vlen in [128, 256, 512, 1024] {
        compare(Xlen::Rv32, vlen, 0..count() / 8);
    }
}
