//! The vector programs of `tests/vector/programs.txt` leave what another implementation left, however
//! they are executed.

#[allow(dead_code, reason = "not all of it is needed here")]
mod engine;

use cpu::Exit;
use engine::{Engine, named};
use isa::Guest;
use riscv::{Riscv, State};
use runtime::Options;
use std::path::Path;

/// Where code is, and traps go.
const CODE: (u64, u64) = (0x9123_0000, 0x2000);
const HANDLER: u64 = CODE.0 + 0x1000;
/// Where data is.
const DATA: (u64, u64) = (0x8000_8000, 0x8000);
const WFI: u32 = 0x1050_0073;
/// The handler goes on after what trapped: `csrr t5, mepc`, `addi t5, t5, 4`, `csrw mepc, t5`,
/// `mret`.
const SKIP: [u32; 4] = [0x3410_2f73, 0x004f_0f13, 0x341f_1073, 0x3020_0073];
/// Words that are interesting as numbers.
const WORDS: [u64; 14] = [
    0x3ff0_0000_0000_0000,
    0xbff8_0000_0000_0000,
    0,
    0x8000_0000_0000_0000,
    0x7ff0_0000_0000_0000,
    0x7ff8_0000_0000_0000,
    0x7ff0_0000_0000_0001,
    1,
    0x3f80_0000_3f80_0000,
    0xc020_0000_bfc0_0000,
    0x7fc0_0000_7f80_0000,
    0x4f00_0000_cf00_0001,
    0x3e80_0000_3eaa_aaab,
    0x4004_0000_0000_0000,
];

/// What memory holds: interesting words and others (Marsaglia, "Xorshift RNGs", 2003).
fn data() -> Vec<u8> {
    let mut x = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x
    };
    let word = |_| {
        let choice = next();
        if choice % 100 < 45 { WORDS[(choice >> 32) as usize % WORDS.len()] } else { next() }
    };
    (0..DATA.1 / 8).map(word).flat_map(u64::to_le_bytes).collect()
}

fn code(words: &[u32]) -> Vec<u8> {
    let rest = CODE.1 as usize / 4 - words.len();
    let code = words.iter().copied().chain(std::iter::repeat_n(WFI, rest));
    let mut code: Vec<u8> = code.flat_map(u32::to_le_bytes).collect();
    let handler = (HANDLER - CODE.0) as usize;
    for (place, word) in code[handler..].chunks_exact_mut(4).zip(SKIP) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    code
}

/// All units on; the vector registers hold what memory begins with, `fa0` and its neighbours what
/// follows at byte 64, `a2` to `a5` point into it.
fn start(hart: &Riscv, data: &[u8], [x16, x17]: [u64; 2]) -> State {
    let mut state = hart.reset();
    (state.pc, state.mtvec) = (CODE.0, HANDLER);
    state.mstatus |= 3 << 13 | 3 << 9;
    (state.x[16], state.x[17]) = (x16, x17);
    for i in 0..4 {
        state.x[12 + i] = DATA.0 + 0x1000 + i as u64 * 0x808;
    }
    let (words, _) = data[64..].as_chunks::<8>();
    for (f, word) in state.f[8..16].iter_mut().zip(words) {
        *f = u64::from_le_bytes(*word);
    }
    // The last instruction before was `vsetvli t0, zero, e8, m8`.
    let bytes = hart.config.vlen as usize * 4;
    (state.vtype, state.vl) = (3, u64::from(hart.config.vlen));
    state.x[5] = state.vl;
    state.v.0[..bytes].copy_from_slice(&data[..bytes]);
    state
}

/// A hash of the vector registers, the data, `t1`, `ft7`, `vl`, `fflags` and `vxsat`, by words.
fn hash(state: &State, data: &[u8], vlen: usize) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut add = |word: u64| hash = (hash ^ word).wrapping_mul(0x100_0000_01b3);
    for bytes in [&state.v.0[..4 * vlen], data] {
        let (words, _) = bytes.as_chunks::<8>();
        words.iter().for_each(|word| add(u64::from_le_bytes(*word)));
    }
    [state.x[6], state.f[7], state.vl, state.fflags, state.vxsat].into_iter().for_each(add);
    hash
}

/// A line: VLEN, two registers, the instructions, the hash.
fn parse(line: &str) -> Option<(u32, [u64; 2], Vec<u32>, u64)> {
    let (before, after) = line.split_once(" => ")?;
    let mut parts = before.split(' ');
    let vlen = parts.next()?.parse().ok()?;
    let mut register = || u64::from_str_radix(parts.next()?, 16).ok();
    let registers = [register()?, register()?];
    let words = parts.next()?.split(',').map(|word| u32::from_str_radix(word, 16).ok());
    Some((vlen, registers, words.collect::<Option<_>>()?, u64::from_str_radix(after, 16).ok()?))
}

#[test]
fn programs_leave_what_another_implementation_left() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vector/programs.txt");
    let text = std::fs::read_to_string(path).expect("the programs are there");
    let (data, mut count, mut wrong) = (data(), 0, Vec::new());
    for vlen in [128, 256, 512, 1024] {
        let engine = |interpret| {
            Engine::new(named(&format!("rv64,v=true,vlen={vlen}")), CODE, DATA, interpret)
        };
        let (mut helpers, mut interpreted) = (engine(true), engine(true));
        let mut compiled = (!Options::default().interpret).then(|| engine(false));
        let hart = named(&format!("rv64,v=true,vlen={vlen}"));
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (of, registers, words, expected) = parse(line).expect("a program");
            if of != vlen {
                continue;
            }
            count += 1;
            let (state, code) = (start(&hart, &data, registers), code(&words));
            let mut check = |how: &str, engine: &mut Engine, run: fn(&mut Engine)| {
                engine.load(&state, &code, &data);
                run(engine);
                if hash(&engine.state(), &engine.data(), vlen as usize) != expected {
                    wrong.push(format!("{how}: {line}"));
                }
            };
            check("helpers", &mut helpers, Engine::run_by_helpers);
            let run = |engine: &mut Engine| assert_eq!(engine.run(), Exit::Halted);
            check("interpreted", &mut interpreted, run);
            if let Some(compiled) = &mut compiled {
                check("compiled", compiled, run);
            }
        }
    }
    assert!(count > 200, "{count} programs");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
