//! RISC-V instructions: the decoder and disassembler on any bits, and programs run by the
//! interpreter of IR and as compiled code, a unit at a time.
//!
//! What must hold: texts have no end in themselves, units are well-formed, and both executors
//! leave the same processor and memory.

use crate::bytes::Bytes;
use cpu::{Exit, VirtualCpu};
use ir::{Builder, Unit};
use isa::{CodeSource, Guest, Mode};
use memory::{AddressSpace, Ram};
use riscv::decode::{Ext, ExtSet, INSNS, disassemble, disassemble_plain, lookup};
use riscv::{Config, Riscv, State, Wiring, Xlen, model};
use runtime::{CodeCache, Options, Vcpu};
use state::SavedState;
use std::cell::RefCell;
use std::sync::Arc;
use time::{Clock, Counter};

/// Where memory is, code first.
const BASE: u64 = 0x8000_0000;
/// Its length: a page of code, one of handlers, one of data.
const LEN: usize = 0x3000;
/// Instructions that are run one by one.
const STEPS: usize = 24;
/// What fills memory behind the code, and handlers.
const WFI: u32 = 0x1050_0073;

/// Code of an input.
struct Code<'a>(u64, &'a [u8]);

impl CodeSource for Code<'_> {
    fn halfword(&mut self, gva: u64) -> Option<u16> {
        let at = usize::try_from(gva.checked_sub(self.0)?).ok()?;
        Some(u16::from_le_bytes(*self.1.get(at..)?.first_chunk()?))
    }
}

fn hart(xlen: Xlen, ext: Option<ExtSet>) -> Riscv {
    let (name, other) = if xlen == Xlen::Rv64 { ("rv64", Ext::Rv32) } else { ("rv32", Ext::Rv64) };
    let config = model::parse(name).expect("a known model");
    let ext = ext.unwrap_or(ExtSet::all()).without(other);
    let counter = Counter::new(Clock::manual(), 10_000_000);
    Riscv { config: Config { ext, ..config }, wiring: Wiring::new(0, BASE, counter) }
}

struct Executor {
    vcpu: Vcpu<Riscv>,
    ram: Arc<Ram>,
}

impl Executor {
    fn new(xlen: Xlen, interpret: bool) -> Self {
        let space = AddressSpace::new("memory");
        let ram = Ram::new("ram", LEN as u64).expect("the host has memory");
        space.map_ram(BASE, &ram);
        let options = Options { interpret, code_bytes: 8 << 20, ..Options::default() };
        let cache = CodeCache::new(Riscv::registers(), options).expect("the host has memory");
        Self { vcpu: Vcpu::new(Arc::new(hart(xlen, None)), space, cache), ram }
    }

    /// Steps from a state; what the processor and memory are then.
    fn run(&mut self, state: &State, memory: &[u8]) -> (State, Vec<u8>) {
        self.vcpu.restore(&state.save()).expect("a state fits itself");
        assert!(self.ram.write(0, memory), "memory is as large");
        for _ in 0..STEPS {
            if self.vcpu.step() == Exit::Halted {
                break;
            }
        }
        let (mut after, mut memory) = (State::default(), vec![0; LEN]);
        after.restore(&self.vcpu.save()).expect("a state fits itself");
        assert!(self.ram.read(0, &mut memory), "memory is as large");
        (after, memory)
    }
}

thread_local! {
    /// For each width the interpreter and the compiler; making them takes longer than a run.
    static EXECUTORS: RefCell<[[Executor; 2]; 2]> = RefCell::new(
        [Xlen::Rv64, Xlen::Rv32].map(|xlen| [true, false].map(|how| Executor::new(xlen, how))),
    );
}

/// Feeds code: the first bytes choose the width, the mode and the registers.
pub fn feed(input: &[u8]) {
    let mut bytes = Bytes(input);
    let how = bytes.byte();
    let xlen = if how & 1 == 0 { Xlen::Rv64 } else { Xlen::Rv32 };
    let flags = bytes.number(4) as u32 & 0xf_ffff;
    let seed = bytes.byte();
    let code = &bytes.0[..bytes.0.len().min(256)];
    let some = (how & 2 != 0).then(|| ExtSet(u128::from(flags).wrapping_mul(0x1_0001_0001_0001)));
    let hart = hart(xlen, some);
    for (at, word) in code.windows(4).enumerate().step_by(2) {
        let word = u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
        let found = lookup(word, hart.config.ext);
        let texts = [
            disassemble(word, at as u64, hart.config.ext),
            disassemble_plain(word, at as u64, hart.config.ext),
        ];
        for text in texts {
            assert_eq!(text.is_some(), found.is_some(), "{word:#x}");
            assert!(text.is_none_or(|text| text.len() < 200));
        }
    }
    // Anything can be mapped at the end of the address space, too.
    for pc in [BASE, 0xffe, (code.len() as u64 & !1).wrapping_neg()] {
        let pc = hart.address(pc);
        let mut unit = Unit { pc, ..Unit::default() };
        let mode = Mode { pc, flags, mmu: (flags & 3) as u8 };
        hart.translate(&mode, 64, &mut Code(pc, code), &mut Builder::new(&mut unit));
        assert_eq!(unit.verify(), Ok(()), "{}", unit.listing(Riscv::registers()));
    }
    run(&hart, seed, code, usize::from(how & 1));
}

fn run(hart: &Riscv, seed: u8, code: &[u8], width: usize) {
    let mut random = irgen::Random::new(seed.into());
    let mut state = hart.reset();
    (state.pc, state.mtvec) = (BASE, BASE + 0x1000);
    state.mstatus |= 3 << 13 | 3 << 9;
    for number in 1..32 {
        let value = match random.below(3) {
            0 => irgen::integer(&mut random),
            _ => BASE + 0x2000 + random.below(0xf0) * 16,
        };
        state.x[number] = hart.value(value);
        state.f[number] = irgen::float64(&mut random);
    }
    let mut memory: Vec<u8> = WFI.to_le_bytes().repeat(LEN / 4);
    memory[..code.len()].copy_from_slice(code);
    EXECUTORS.with_borrow_mut(|executors| {
        let [reference, compiled] = &mut executors[width];
        let (expected, found) = (reference.run(&state, &memory), compiled.run(&state, &memory));
        if expected == found {
            return;
        }
        let (expected, found) = (format!("{expected:#x?}"), format!("{found:#x?}"));
        for (line, (expected, found)) in expected.lines().zip(found.lines()).enumerate() {
            assert_eq!(expected, found, "line {line}");
        }
    });
}

/// A few instructions of every kind.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut random = irgen::Random::new(1);
    let mut seeds = Vec::new();
    for group in INSNS.chunks(24) {
        for width in 0..2u8 {
            let mut seed = vec![width, 0xff, 0xff, 0x0f, 0, width];
            for info in group {
                let word = random.number() as u32 & !info.mask | info.value;
                let len = if word & 3 == 3 { 4 } else { 2 };
                seed.extend(&word.to_le_bytes()[..len]);
            }
            seeds.push(seed);
        }
    }
    seeds
}
