//! Every instruction on vectors and of the x87, natively and in the engine, from registers that hold special
//! values, in every rounding mode, with exceptions masked and not.

#[allow(dead_code, reason = "each test uses its part")]
mod native;

use irgen::{Random, float32, float64, integer};
use native::encode::{encode, join};
use native::{
    Case, DATA, DATA_LEN, Engine, Native, Outcome, differences, listing, start, with_stack,
};
use std::collections::BTreeMap;
use x86::decode::{ENTRIES, Entry, Kind, Operand, Width};
use x86::state::{X87_AT, ZMM_BYTES, eflags};
use x86::{Feature, State};

/// Whether an entry is of the x87.
fn is_x87(entry: &Entry) -> bool {
    entry.map == 0 && (0xd8..=0xdf).contains(&entry.opcode)
}

/// Whether an entry is for here. Saved registers have tests of their own; FYL2XP1 is defined for small
/// operands only.
fn concerns(entry: &Entry) -> bool {
    use Kind as K;
    const KINDS: [Kind; 12] =
        [K::P, K::Q, K::N, K::V, K::H, K::U, K::W, K::L, K::VSIBx, K::VSIBy, K::KG, K::KE];
    const OTHERS: [&str; 7] =
        ["emms", "vzeroupper", "vzeroall", "ldmxcsr", "stmxcsr", "vldmxcsr", "vstmxcsr"];
    const SAVES: [&str; 5] = ["fnstenv", "fldenv", "fnsave", "frstor", "fyl2xp1"];
    let vector = |o: &Operand| matches!(o, Operand::Typed(kind, _) if KINDS.contains(kind));
    match is_x87(entry) {
        true => !SAVES.contains(&entry.mnemonic),
        false => {
            let named = OTHERS.contains(&entry.mnemonic);
            let there = entry.features.iter().all(|feature| is_here(*feature));
            (entry.operands.iter().any(vector) || named) && there
        }
    }
}

/// Whether this processor has a feature of those that few have: it cannot tell about others.
fn is_here(feature: Feature) -> bool {
    use Feature as F;
    use std::arch::is_x86_feature_detected as has;
    match feature {
        F::Avx512f => has!("avx512f") && has!("avx512vl"),
        F::Avx512dq => has!("avx512dq"),
        F::Avx512bw => has!("avx512bw"),
        F::Avx512cd => has!("avx512cd"),
        F::Avx512ifma => has!("avx512ifma"),
        F::Avx512vbmi => has!("avx512vbmi"),
        F::Avx512vbmi2 => has!("avx512vbmi2"),
        F::Avx512vnni => has!("avx512vnni"),
        F::Avx512bitalg => has!("avx512bitalg"),
        F::Avx512Vpopcntdq => has!("avx512vpopcntdq"),
        F::Avx512Bf16 => has!("avx512bf16"),
        F::Avx512Vp2intersect => has!("avx512vp2intersect"),
        F::AvxVnni => has!("avxvnni"),
        F::Avx512Fp16 => has!("avx512fp16"),
        _ => true,
    }
}

/// Instructions whose last digit the processor chooses, and what is compared of their status word.
fn is_estimate(entry: &Entry) -> bool {
    const NAMES: [&str; 7] = ["f2xm1", "fyl2x", "fsin", "fcos", "fsincos", "fptan", "fpatan"];
    let name = entry.mnemonic;
    NAMES.contains(&name)
        || name.contains("rcpp")
        || name.contains("rcps")
        || name.contains("rcp14")
        || name.contains("rsqrt")
}

fn fill(random: &mut Random<'_>, bytes: &mut [u8]) {
    for word in bytes.chunks_exact_mut(16) {
        let kind = random.below(5);
        for half in word.chunks_exact_mut(8) {
            let value = match kind {
                0 => float64(random),
                1 => u64::from(float32(random)) << 32 | u64::from(float32(random)),
                2 => integer(random),
                // Indices of gathers.
                3 => random.below(64) | random.below(64) << 32,
                _ => random.number(),
            };
            half.copy_from_slice(&value.to_le_bytes());
        }
    }
}

/// Ten bytes of an extended real: mostly an ordinary one.
fn extended(random: &mut Random<'_>) -> [u8; 10] {
    let exponent = match random.below(10) {
        0 => 0,
        1 => 0x7fff,
        2 => random.below(3) as u16,
        3 => 0x7ffd + random.below(2) as u16,
        4..8 => 0x3fff - 40 + random.below(80) as u16,
        _ => random.below(0x8000) as u16,
    };
    let significand = match random.below(6) {
        0 => 1 << 63,
        1 => u64::MAX,
        2 => integer(random),
        3 => integer(random) | 1 << 63,
        _ => random.number() | 1 << 63,
    };
    let significand = if exponent == 0 && random.percent(50) { 0 } else { significand };
    let mut bytes = [0; 10];
    bytes[..8].copy_from_slice(&significand.to_le_bytes());
    bytes[8..].copy_from_slice(&(exponent | (random.below(2) as u16) << 15).to_le_bytes());
    bytes
}

fn state(random: &mut Random<'_>, base: &State, x87: bool) -> State {
    let mut state = base.clone();
    for i in 0..16 {
        state.gpr[i] = match random.below(8) {
            0..6 => DATA + 0x800 + random.below(DATA_LEN as u64 - 0x1000) / 16 * 16,
            6 => random.below(70),
            _ => integer(random),
        };
        if !state.is_long() {
            state.gpr[i] &= 0xffff_ffff;
        }
    }
    if !state.is_long() {
        state.gpr[8..].fill(0);
    }
    let registers = if state.is_long() { 32 } else { 8 };
    fill(random, &mut state.vectors.0[..registers * ZMM_BYTES]);
    if random.percent(30) {
        // As programs are that use 256 bits.
        let used = state.vectors.0[..registers * ZMM_BYTES].chunks_exact_mut(ZMM_BYTES);
        used.for_each(|register| register[32..].fill(0));
    }
    state.note_vectors();
    for n in 0..8 {
        state.set_opmask(n, integer(random) ^ integer(random));
    }
    for n in 0..8 {
        let at = X87_AT + 16 * n;
        state.vectors.0[at..at + 10].copy_from_slice(&extended(random));
    }
    // Overflow and underflow of SSE stay masked: unmasked, they say what is inexact otherwise.
    let masks = if random.percent(15) { random.below(64) << 7 | 0xc00 } else { 0x1f80 };
    let flush = random.pick(&[0, 0, 0, 0x40, 0x8000, 0x8040]);
    state.mxcsr = random.below(4) << 13 | flush | masks | random.pick(&[0, 0, 0x3f, 1, 0x20]);
    if x87 {
        let precision = random.pick(&[0, 0x200, 0x300, 0x300]);
        // Overflow and underflow stay masked: unmasked, they scale results.
        let masks = if random.percent(25) { random.below(64) | 0x18 } else { 0x3f };
        state.fcw = 0x40 | random.below(4) << 10 | precision | masks;
        state.fsw = random.below(16) << 8 & 0x700 | random.below(2) << 14;
        state.ftop = random.below(8);
        state.ftw = if random.percent(60) { 0xff } else { random.below(256) };
    }
    state.set_flags(random.number() & eflags::ARITHMETIC | eflags::IF | eflags::ONE);
    state
}

fn data(random: &mut Random<'_>, x87: bool) -> Vec<u8> {
    let mut data = vec![0; DATA_LEN];
    fill(random, &mut data);
    if x87 {
        for at in (0..DATA_LEN).step_by(16) {
            if random.percent(50) {
                data[at..at + 10].copy_from_slice(&extended(random));
            }
        }
    }
    data
}

/// Leaves out what may differ by a digit, and what depends on it.
fn without_estimates(outcome: &Outcome) -> Outcome {
    let mut outcome = outcome.clone();
    outcome.vectors = x86::state::VectorFile::default();
    outcome.float[1] &= 0x3c47;
    outcome
}

/// Cases of each entry.
fn runs() -> usize {
    std::env::var("TINAMOU_INSN_RUNS").ok().and_then(|n| n.parse().ok()).unwrap_or(6)
}

fn compare(width: Width, seed: u64) {
    let runs = runs();
    let mut random = Random::new(seed);
    let base = start(width);
    let mut cases = Vec::new();
    for entry in ENTRIES.iter().filter(|entry| concerns(entry)) {
        for _ in 0..runs {
            let Some(insn) = encode(&mut random, entry, width) else { continue };
            let code = join(&mut random, &[insn]);
            let state = state(&mut random, &base, is_x87(entry));
            let data = data(&mut random, is_x87(entry));
            cases.push((entry, Case { width, state, code, data }));
        }
    }
    assert!(cases.len() > 500 * runs, "{} cases", cases.len());
    let mut native = Native::start();
    let answers: Vec<_> = cases.iter().map(|(_, case)| native.run(case)).collect();
    let mut failures: BTreeMap<&str, (usize, String)> = BTreeMap::new();
    for interpret in [true, false] {
        let mut engine = Engine::new(interpret);
        for ((entry, case), expected) in cases.iter().zip(&answers) {
            let found = engine.run(case);
            let different = match is_estimate(entry) {
                true => differences(&without_estimates(expected), &without_estimates(&found), 0),
                false => differences(expected, &found, 0),
            };
            // AMD's bit that allows misaligned operands is not translated.
            if different.is_empty() || expected.float[3] & 1 << 17 != 0 {
                continue;
            }
            let by = if interpret { "interpreted" } else { "compiled" };
            let (mxcsr, fcw) = (case.state.mxcsr, case.state.fcw);
            let text =
                format!("{by}:\n{}{different}    mxcsr {mxcsr:x} fcw {fcw:x}\n", listing(case));
            failures.entry(entry.mnemonic).or_insert((0, text)).0 += 1;
        }
    }
    let shown: String = failures
        .iter()
        .map(|(name, (count, text))| format!("{name}: {count} times\n{text}"))
        .collect();
    assert!(failures.is_empty(), "{} instructions:\n{shown}", failures.len());
}

#[test]
fn vectors_of_64_bit_code_do_what_this_processor_does() {
    with_stack(|| compare(Width::W64, 11));
}

#[test]
fn vectors_of_32_bit_code_do_what_this_processor_does() {
    with_stack(|| compare(Width::W32, 12));
}

/// Loops keep vectors in registers: a few instructions, three times.
#[test]
fn loops_over_vectors_do_what_this_processor_does() {
    const COUNT: usize = 15;
    // dec r15d
    const DECREMENT: [u8; 3] = [0x41, 0xff, 0xcf];
    let writes_general = |entry: &Entry| {
        let general = |o: &Operand| matches!(o, Operand::Typed(Kind::G | Kind::E, _));
        entry.operands.first().is_some_and(general)
    };
    let usable: Vec<&Entry> = ENTRIES
        .iter()
        .filter(|e| concerns(e) && !is_x87(e) && !is_estimate(e) && !writes_general(e))
        .filter(|e| !e.mnemonic.contains("ldmxcsr") && !e.mnemonic.contains("gather"))
        .collect();
    with_stack(move || {
        let mut random = Random::new(14);
        let base = start(Width::W64);
        let (mut native, mut engine) = (Native::start(), Engine::new(false));
        for _ in 0..1500 {
            // The same few registers, so that turns depend on each other.
            let mut parts = Vec::new();
            while parts.len() < 4 {
                let entry = random.pick(&usable);
                if let Some((bytes, insn)) = encode(&mut random, entry, Width::W64)
                    && insn.memory.is_none()
                    && [insn.reg, insn.rm, insn.vvvv].iter().all(|n| n & 7 < 4)
                {
                    parts.push((bytes, insn));
                }
            }
            let mut code = join(&mut random, &parts);
            code.extend(DECREMENT);
            // jnz to the first
            code.extend([0x75, (code.len() as u8 + 2).wrapping_neg()]);
            let mut state = state(&mut random, &base, false);
            state.mxcsr |= 0x1f80;
            state.gpr[COUNT] = 3;
            let data = data(&mut random, false);
            let case = Case { width: Width::W64, state, code, data };
            let different = differences(&native.run(&case), &engine.run(&case), 0);
            assert!(different.is_empty(), "{}{different}", listing(&case));
        }
    });
}

/// VEX can name a register that the instruction has not: undefined.
#[test]
fn a_register_too_many_is_undefined() {
    with_stack(|| {
        let mut random = Random::new(15);
        let base = start(Width::W64);
        let (mut native, mut engine) = (Native::start(), Engine::new(true));
        let vex = |entry: &&Entry| (4..7).contains(&entry.map) && !entry.has_vvvv();
        for entry in ENTRIES.iter().filter(vex) {
            let Some((mut code, _)) = encode(&mut random, entry, Width::W64) else { continue };
            let at = code.iter().position(|byte| *byte == 0xc4).expect("VEX of three bytes");
            code[at + 2] ^= (1 + random.below(15) as u8) << 3;
            let (state, data) = (state(&mut random, &base, false), data(&mut random, false));
            let case = Case { width: Width::W64, state, code, data };
            let (expected, found) = (native.run(&case), engine.run(&case));
            assert_eq!((expected.trap, found.trap), (6, 6), "{entry:?}");
            assert!(differences(&expected, &found, 0).is_empty(), "{entry:?}");
        }
    });
}

/// Estimates have the precision that the manual promises: each lane within 2⁻¹⁴ of this processor's.
#[test]
fn estimates_of_14_bits_are_close_to_this_processors() {
    with_stack(|| {
        let mut random = Random::new(17);
        let base = start(Width::W64);
        let (mut native, mut engine) = (Native::start(), Engine::new(false));
        let estimates = |entry: &&Entry| {
            let name = entry.mnemonic;
            (name == "vrcp14ps" || name == "vrsqrt14ps") && concerns(entry)
        };
        for entry in ENTRIES.iter().filter(estimates) {
            for _ in 0..20 * runs() {
                let Some(insn) = encode(&mut random, entry, Width::W64) else { continue };
                let code = join(&mut random, &[insn]);
                let (mut state, data) =
                    (state(&mut random, &base, false), data(&mut random, false));
                state.mxcsr = 0x1f80;
                let case = Case { width: Width::W64, state, code, data };
                let (expected, found) = (native.run(&case), engine.run(&case));
                let lanes = |outcome: &Outcome| -> Vec<f32> {
                    let bytes = outcome.vectors.0[..X87_AT].chunks_exact(4);
                    bytes.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
                };
                for (a, b) in lanes(&expected).into_iter().zip(lanes(&found)) {
                    let near = (a - b).abs() <= a.abs() / 8192.0;
                    let same = a.to_bits() == b.to_bits();
                    assert!(same || near, "{}{a:e}, found {b:e}", listing(&case));
                }
            }
        }
    });
}

/// EVEX says much beside the instruction: whatever bits it has, they mean what they mean to this processor, or
/// are undefined.
#[test]
fn any_bits_of_evex_mean_what_they_mean_to_this_processor() {
    with_stack(|| {
        let mut random = Random::new(16);
        let base = start(Width::W64);
        let (mut native, mut engine) = (Native::start(), Engine::new(false));
        let wide = |entry: &&Entry| entry.map >= 7 && concerns(entry) && !is_estimate(entry);
        for entry in ENTRIES.iter().filter(wide) {
            for _ in 0..runs() {
                let Some((mut code, insn)) = encode(&mut random, entry, Width::W64) else {
                    continue;
                };
                let at = code.iter().position(|byte| *byte == 0x62).expect("EVEX");
                match random.below(4) {
                    // R, X, B, R'; vvvv; z, L'L, b, V', aaa.
                    0 => code[at + 1] ^= 0x10 << random.below(4),
                    1 => code[at + 2] ^= 8 << random.below(4),
                    _ => code[at + 3] ^= 1 << random.below(8),
                }
                let (state, data) = (state(&mut random, &base, false), data(&mut random, false));
                // Room for a longer displacement, as of another base register.
                code.extend([0xf4; 8]);
                let case = Case { width: Width::W64, state, code, data };
                let different = differences(&native.run(&case), &engine.run(&case), 0);
                assert!(different.is_empty(), "{}{insn:?}\n{different}", listing(&case));
            }
        }
    });
}

/// Where registers are saved, in the window.
const AREA: usize = 0x800;

/// A case of an instruction on the memory at rcx, with the components that edx:eax asks for.
fn saving(random: &mut Random<'_>, code: &[u8], data: Vec<u8>, parts: u64) -> Case {
    let mut state = state(random, &start(Width::W64), true);
    (state.gpr[0], state.gpr[1], state.gpr[2]) = (parts, DATA + AREA as u64, 0);
    // Control words are as they were after a fault, too.
    (state.fcw, state.fsw) = (state.fcw | 0x3f, state.fsw & !0x80ff);
    Case { width: Width::W64, state, code: code.to_vec(), data }
}

/// Leaves out the last instruction's opcode and addresses, which processors keep as they like, and the
/// mask of MXCSR, which has a bit more on AMD's.
fn without_addresses(mut outcome: Outcome) -> Outcome {
    outcome.data[AREA + 6..AREA + 24].fill(0);
    outcome.data[AREA + 28..AREA + 32].fill(0);
    outcome
}

#[test]
fn registers_are_saved_and_restored_as_this_processor_does() {
    const FXSAVE: [u8; 3] = [0x0f, 0xae, 0x01];
    const FXRSTOR: [u8; 3] = [0x0f, 0xae, 0x09];
    const XSAVE: [u8; 3] = [0x0f, 0xae, 0x21];
    const XSAVEC: [u8; 3] = [0x0f, 0xc7, 0x21];
    const XRSTOR: [u8; 3] = [0x0f, 0xae, 0x29];
    with_stack(|| {
        let mut random = Random::new(13);
        let (mut native, mut engine) = (Native::start(), Engine::new(false));
        let mut check = |case: &Case| {
            let expected = native.run(case);
            let found = engine.run(case);
            let (a, b) = (without_addresses(expected.clone()), without_addresses(found));
            let different = differences(&a, &b, 0);
            assert!(different.is_empty(), "{}{different}", listing(case));
            expected.data
        };
        for _ in 0..60 {
            for (save, restore) in [(FXSAVE, FXRSTOR), (XSAVE, XRSTOR), (XSAVEC, XRSTOR)] {
                // A header of zeros, as programs have it.
                let parts = if save == XSAVEC { 1 + random.below(7) } else { 7 };
                let case = saving(&mut random, &save, vec![0; DATA_LEN], parts);
                let mut image = check(&case);
                if save == XSAVE {
                    // What is not there is initialised.
                    image[AREA + 512] &= random.below(8) as u8;
                }
                let wanted = if save == FXSAVE { 7 } else { random.below(8) };
                check(&saving(&mut random, &restore, image, wanted));
            }
        }
    });
}
