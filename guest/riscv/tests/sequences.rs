//! Units of many instructions against the same instructions one by one: what the translator knows
//! of registers must hold wherever control goes.

mod machine;

use interp::{Interpreter, Outcome};
use ir::{Builder, Unit};
use isa::{Cpu, Guest};
use machine::{Code, Memory, PAGE, START, hart};
use riscv::decode::{INSNS, InsnInfo};
use riscv::{Riscv, State, Xlen};

/// A generator of numbers; the seed makes failures repeat.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() >> 11) as usize % n
    }

    /// A register value: small, an address, a float, or anything.
    fn value(&mut self) -> u64 {
        let any = self.next();
        match any >> 60 & 7 {
            0 => any & 0xf,
            1 => PAGE + (any & 0xff8),
            2 => any | 0xffff_ffff << 32,
            3 => 0xffff_ffff_3f80_0000 | any & 0x8000_0000,
            4 => 0x3ff0_0000_0000_0000 | any & 1 << 63,
            5 => (any as i32 as i64).cast_unsigned(),
            _ => any,
        }
    }
}

/// Whether an instruction may be in a sequence: not those that leave for machine mode's business.
fn plain(info: &InsnInfo) -> bool {
    !matches!(info.group, "Zicsr" | "Privileged" | "Zicbo" | "Hypervisor")
}

/// Instructions, with registers from a few so that they meet, and branches that go a little ahead.
fn sequence(
    random: &mut Random,
    candidates: &[&InsnInfo],
    branches: &[&InsnInfo],
    float: bool,
) -> Vec<u8> {
    let mut bytes = Vec::new();
    while bytes.len() < 96 {
        let branch = random.below(6) == 0;
        let from = if branch { branches } else { candidates };
        let info = from[random.below(from.len())];
        // Most addresses fault, and trapping instructions end a sequence.
        let memory = matches!(info.mask & info.value & 0x7f, 0x03 | 0x07 | 0x23 | 0x27 | 0x2f);
        let ends = memory || info.len == 2 || info.name.starts_with('v');
        if ends && random.below(6) != 0 || info.name.starts_with('e') {
            continue;
        }
        let other = float != matches!(info.group, "F" | "D" | "Zfh" | "Zfa");
        if other && !branch && random.below(4) != 0 {
            continue;
        }
        let mut insn = random.next() as u32 & !info.mask | info.value;
        if info.len == 4 {
            // Registers 0 to 3, where their bits are free.
            let few = insn & !(7 << 9 | 7 << 17 | 7 << 22 | 7 << 29);
            let forward = insn & 0x7f == 0x63;
            let few = if forward { few & !0x7e00_0180 | 3 << 9 } else { few };
            // The dynamic rounding mode, for the host.
            let few =
                if info.group == "F" && info.matches(few | 7 << 12) { few | 7 << 12 } else { few };
            insn = if info.matches(few) { few } else { insn };
        }
        bytes.extend(&insn.to_le_bytes()[..usize::from(info.len)]);
    }
    bytes
}

/// Runs code to its end, an exception or a jump out of it, with so many instructions per unit;
/// `None` if it loops, as what lies in the middle of instructions may.
fn run(hart: &Riscv, start: &State, code: &[u8], max_insns: u32) -> Option<(State, Vec<u8>)> {
    let (mut state, mut memory) = (start.clone(), Memory::new());
    let mut code = Code(code.to_vec());
    let within = START..START + code.0.len() as u64;
    let mut interpreter = Interpreter::default();
    let mut units = 0;
    while within.contains(&state.pc) {
        units += 1;
        if units > 200 {
            return None;
        }
        let mut unit = Unit { pc: state.pc, ..Unit::default() };
        let mode = hart.mode(&state);
        hart.translate(&mode, max_insns, &mut code, &mut Builder::new(&mut unit));
        assert_eq!(unit.verify(), Ok(()));
        let mut cpu = Cpu::new(hart, &mut state, &mut memory);
        match interpreter.run(&unit, &mut cpu) {
            Outcome::Exit { pc } | Outcome::Loop(_, pc) => state.pc = pc,
            Outcome::Trapped => break,
        }
    }
    Some((state, memory.0))
}

fn compare(xlen: Xlen, float: bool, seed: u64) {
    let hart = hart(xlen);
    // Few backward jumps, so that most sequences end.
    let available = |i: &&InsnInfo| i.available(hart.config.ext) && !i.pending && plain(i);
    let jumps = |i: &&InsnInfo| {
        matches!(i.name, "jal" | "jalr") || i.name.starts_with("c.j") || i.name.starts_with("c.b")
    };
    let candidates: Vec<_> = INSNS.iter().filter(available).filter(|i| !jumps(i)).collect();
    let conditional = |i: &&&InsnInfo| i.len == 4 && i.value & 0x7f == 0x63;
    let branches: Vec<_> = candidates.iter().filter(conditional).copied().collect();
    let mut random = Random(seed);
    let mut ended = 0;
    for round in 0..2000 {
        let mut state = hart.reset();
        state.mstatus |= (1 + 2 * u64::from(round % 2 == 0)) << 13 | 3 << 9;
        state.frm = random.next() % 5;
        state.vtype = 0xd0;
        state.vl = 3;
        for i in 1..32 {
            state.x[i] = hart.value(random.value());
            state.f[i] = random.value();
        }
        state.pc = START;
        let code = sequence(&mut random, &candidates, &branches, float);
        let (one, many) = (run(&hart, &state, &code, 1), run(&hart, &state, &code, 64));
        if one.is_some() && many.is_some() {
            ended += 1;
            assert!(one == many, "round {round}: {code:02x?}\n{one:?}\n{many:?}");
        }
    }
    assert!(ended > 1500, "only {ended} sequences ended");
}

#[test]
fn integer_sequences_do_what_their_instructions_do() {
    compare(Xlen::Rv64, false, 11);
    compare(Xlen::Rv32, false, 13);
}

#[test]
fn floating_point_sequences_do_what_their_instructions_do() {
    compare(Xlen::Rv64, true, 17);
    compare(Xlen::Rv32, true, 19);
}
