//! Harts of the engine beside memory of their own, and what tells two of them apart.

use cpu::{Exit, VirtualCpu};
use isa::Guest;
use memory::{AddressSpace, Ram};
use riscv::decode::{Ext, ExtSet, disassemble_plain};
use riscv::{Config, Riscv, State, Wiring, Xlen};
use runtime::{CodeCache, Options, Vcpu};
use state::SavedState;
use std::fmt::Write;
use std::sync::Arc;
use time::{Clock, Counter};

/// Where harts begin.
const RESET: u64 = 0x9123_0000;

/// A hart and what it runs.
pub struct Engine {
    vcpu: Vcpu<Riscv>,
    code: Arc<Ram>,
    data: Arc<Ram>,
}

/// A block of RAM: where and how long.
pub type Block = (u64, u64);

impl Engine {
    /// A hart with code and data there.
    pub fn new(hart: Riscv, code: Block, data: Block, interpret: bool) -> Self {
        let space = AddressSpace::new("test");
        let block = |name, (base, len)| {
            let ram = Ram::new(name, len).expect("the host has memory");
            space.map_ram(base, &ram);
            ram
        };
        let (code, data) = (block("code", code), block("data", data));
        let options = Options { interpret, code_bytes: 8 << 20, ..Options::default() };
        let cache = CodeCache::new(Riscv::registers(), options).expect("the host has memory");
        Self { vcpu: Vcpu::new(Arc::new(hart), space, cache), code, data }
    }

    /// Puts the hart into a state, its code and its data into memory.
    pub fn load(&mut self, state: &State, code: &[u8], data: &[u8]) {
        self.vcpu.restore(&state.save()).expect("a state fits itself");
        assert!(self.code.write(0, code) && self.data.write(0, data), "there is room");
    }

    /// Runs until the hart waits for an interrupt.
    pub fn run(&mut self) -> Exit {
        self.vcpu.run()
    }

    /// The same, one instruction after the other, each as if nothing were known of vectors: helpers
    /// execute the vector instructions.
    #[allow(dead_code, reason = "for vectors alone")]
    pub fn run_by_helpers(&mut self) {
        loop {
            assert!(self.vcpu.set_register("vknown", 0), "there is such a register");
            if self.vcpu.step() == Exit::Halted {
                return;
            }
        }
    }

    /// The state it is in.
    pub fn state(&self) -> State {
        let mut state = State::default();
        state.restore(&self.vcpu.save()).expect("a state fits itself");
        state
    }

    /// The data.
    pub fn data(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.data.len() as usize];
        assert!(self.data.read(0, &mut bytes), "as much as there is");
        bytes
    }
}

/// A hart with every extension.
pub fn hart(xlen: Xlen, vlen: u32) -> Riscv {
    let (model, other) = match xlen {
        Xlen::Rv64 => ("rv64", &[Ext::Rv32, Ext::Zcf][..]),
        Xlen::Rv32 => ("rv32", &[Ext::Rv64][..]),
    };
    let ext = other.iter().fold(ExtSet::all(), |set, e| set.without(*e));
    let config = Config { ext, vlen, ..riscv::model::parse(model).expect("a known model") };
    Riscv { config, wiring: Wiring::new(0, RESET, Counter::new(Clock::manual(), 10_000_000)) }
}

/// A hart as `-cpu` names it.
#[allow(dead_code, reason = "for programs whose results others gave")]
pub fn named(cpu: &str) -> Riscv {
    let config = riscv::model::parse(cpu).expect("a known model");
    Riscv { config, wiring: Wiring::new(0, RESET, Counter::new(Clock::manual(), 10_000_000)) }
}

/// The instructions as text.
pub fn listing(hart: &Riscv, words: &[u32]) -> String {
    let mut text = String::new();
    for word in words {
        let shown = disassemble_plain(*word, 0, hart.config.ext);
        let _ = writeln!(text, "    {word:08x}  {}", shown.unwrap_or_default());
    }
    text
}

/// What differs between the states.
pub fn differences(expected: &State, found: &State) -> String {
    let mut text = String::new();
    let (expected, found) = (format!("{expected:#x?}"), format!("{found:#x?}"));
    for (number, (a, b)) in expected.lines().zip(found.lines()).enumerate() {
        if a != b {
            let _ = writeln!(text, "    line {number}: expected {}, found {}", a.trim(), b.trim());
        }
    }
    text
}

/// How many programs to run.
pub fn count() -> u64 {
    std::env::var("TINAMOU_INSN_RUNS").ok().and_then(|n| n.parse().ok()).unwrap_or(4000)
}
