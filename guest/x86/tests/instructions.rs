//! Random instructions of every entry, natively and in the engine: registers, flags, memory, faults.

#[allow(dead_code, reason = "each test uses its part")]
mod native;

use irgen::{Random, integer};
use native::encode::{encode, join};
use native::{Case, DATA, DATA_LEN, Engine, Native, differences, listing, start, with_stack};
use std::collections::BTreeMap;
use x86::decode::{ENTRIES, Entry, Width};
use x86::state::eflags;

/// Entries that are not run at random, and why.
const EXCLUDED: &[(&str, &str)] = &[
    ("call", "goes anywhere: see the tests of control flow"),
    ("jmp", "goes anywhere"),
    ("retf", "changes segments"),
    ("iret", "changes segments"),
    ("int", "calls the host's kernel"),
    ("syscall", "calls the host's kernel"),
    ("sysenter", "calls the host's kernel"),
    ("popf|popfd|popfq", "sets flags that the host's handlers cannot live with"),
    ("pop", "of segment registers takes the host's own away"),
    ("push", "of segment registers shows the host's own"),
    ("int1", "is not told right under a hypervisor"),
    ("lss", "loads segments"),
    ("lfs", "loads segments"),
    ("lgs", "loads segments"),
    ("les", "loads segments"),
    ("lds", "loads segments"),
    ("rdtsc", "tells another time each time"),
    ("rdtscp", "tells another time each time"),
    ("cpuid", "tells of another processor"),
    ("rdrand", "is random"),
    ("rdseed", "is random"),
    ("rdpid", "tells of the host's processor"),
    ("rdpmc", "may be allowed by the host"),
    ("xgetbv", "tells of the host's processor"),
    ("sgdt", "is the host kernel's"),
    ("sidt", "is the host kernel's"),
    ("sldt", "is the host kernel's"),
    ("str", "is the host kernel's"),
    ("smsw", "is the host kernel's"),
    ("lar", "looks at the host's descriptors"),
    ("lsl", "looks at the host's descriptors"),
    ("verr", "looks at the host's descriptors"),
    ("verw", "looks at the host's descriptors"),
    ("rdfsbase", "is the host program's"),
    ("rdgsbase", "is the host program's"),
    ("wrfsbase", "is the host program's"),
    ("wrgsbase", "is the host program's"),
    ("swapgs", "is the host kernel's"),
    ("monitorx", "is not translated"),
    ("clzero", "is not translated"),
    ("prefetch", "of AMD's 0F 0D is tested with others"),
];

/// Files whose entries are run here.
const FILES: [&str; 4] = ["integer.map", "shift.map", "control.map", "system.map"];

fn is_excluded(entry: &Entry) -> bool {
    if !FILES.contains(&entry.file) {
        return true;
    }
    use x86::decode::{Kind, Operand};
    let segment = entry.operands.iter().any(|o| {
        matches!(o, Operand::Typed(Kind::S | Kind::C | Kind::D, _)) || {
            let text = format!("{o:?}");
            ["ES", "CS", "SS", "DS", "FS", "GS"].iter().any(|s| text == format!("Fixed({s})"))
        }
    });
    let named = |(name, _): &(&str, &str)| *name == entry.mnemonic;
    let stack = matches!(entry.mnemonic, "pop" | "push");
    segment || !stack && EXCLUDED.iter().any(named)
}

/// Registers that are mostly addresses in the window.
fn state(random: &mut Random<'_>, base: &x86::State, width: Width) -> x86::State {
    let mut state = base.clone();
    for i in 0..16 {
        let value = match random.below(10) {
            0..4 => DATA + 0x800 + random.below(DATA_LEN as u64 - 0x1000),
            4 => random.below(70),
            _ => integer(random),
        };
        state.gpr[i] = if width == Width::W64 { value } else { value & 0xffff_ffff };
    }
    if width != Width::W64 {
        state.gpr[8..].fill(0);
    }
    if random.percent(90) {
        state.gpr[4] = DATA + 0x1000 + random.below(64) * 8;
    }
    let mut flags = random.number() & eflags::ARITHMETIC | eflags::IF | eflags::ONE;
    if random.percent(10) {
        flags |= eflags::DF;
    }
    state.set_flags(flags);
    state
}

fn runs() -> usize {
    std::env::var("TINAMOU_INSN_RUNS").ok().and_then(|n| n.parse().ok()).unwrap_or(40)
}

/// Cases of one to four instructions, the first of each entry.
fn cases(width: Width, seed: u64) -> Vec<(&'static Entry, Case)> {
    let mut random = Random::new(seed);
    let usable: Vec<&Entry> = ENTRIES.iter().filter(|e| !is_excluded(e)).collect();
    let (mut out, base) = (Vec::new(), start(width));
    for entry in &usable {
        for round in 0..runs() {
            let Some(first) = encode(&mut random, entry, width) else { continue };
            let more = if round % 2 == 0 { 0 } else { random.below(4) };
            let others = (0..more).filter_map(|_| {
                let other = random.pick(&usable);
                encode(&mut random, other, width)
            });
            let parts: Vec<_> = std::iter::once(first).chain(others.collect::<Vec<_>>()).collect();
            let code = join(&mut random, &parts);
            let state = state(&mut random, &base, width);
            let data = (0..DATA_LEN / 8).flat_map(|_| integer(&mut random).to_le_bytes()).collect();
            out.push((*entry, Case { width, state, code, data }));
        }
    }
    out
}

fn compare(width: Width, seed: u64) {
    let cases = cases(width, seed);
    let mode = if width == Width::W64 { 2 } else { 1 };
    for entry in ENTRIES.iter().filter(|e| !is_excluded(e) && e.accepts >> 27 & mode != 0) {
        let is_there = |(other, _): &(&Entry, Case)| std::ptr::eq(*other, entry);
        assert!(cases.iter().any(is_there), "no case of {entry:?}");
    }
    let mut native = Native::start();
    let answers: Vec<_> = cases.iter().map(|(_, case)| native.run(case)).collect();
    let mut failures: BTreeMap<(&str, u8), (usize, String)> = BTreeMap::new();
    for interpret in [true, false] {
        let mut engine = Engine::new(interpret);
        for ((entry, case), expected) in cases.iter().zip(&answers) {
            let found = engine.run(case);
            let different = differences(expected, &found, 0);
            if !different.is_empty() {
                let by = if interpret { "interpreted" } else { "compiled" };
                let gpr = &case.state.gpr;
                let flags = case.state.flags();
                let code = listing(case);
                let text = format!("{by}:\n{code}{different}    from {gpr:x?} {flags:#x}\n");
                let known =
                    failures.entry((entry.mnemonic, entry.opcode)).or_insert((0, text.clone()));
                known.0 += 1;
                if text.len() < known.1.len() {
                    known.1 = text;
                }
            }
        }
    }
    let shown: String = failures
        .iter()
        .map(|((name, opcode), (count, text))| {
            format!("{name} {opcode:02x}: {count} times\n{text}")
        })
        .collect();
    assert!(failures.is_empty(), "{} entries:\n{shown}", failures.len());
}

#[test]
fn code_of_64_bits_does_what_this_processor_does() {
    with_stack(|| compare(Width::W64, 1));
}

#[test]
fn code_of_32_bits_does_what_this_processor_does() {
    with_stack(|| compare(Width::W32, 2));
}
