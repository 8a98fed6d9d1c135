//! A processor of the engine beside some RAM, for programs of a few instructions.
#![allow(dead_code, reason = "each test uses its part")]

use cpu::{Exit, VirtualCpu};
use isa::Guest;
use memory::{AddressSpace, Ram};
use riscv::{Riscv, State, Wiring, model};
use runtime::{CodeCache, Options, Vcpu};
use state::SavedState;
use std::sync::Arc;
use time::{Clock, Counter};

/// Where RAM begins.
pub const RAM: u64 = 0x8000_0000;
const RAM_LEN: u64 = 256 << 10;
/// Where exceptions go: the processor disables interrupts and halts there.
pub const HANDLER: u64 = RAM;
/// Where programs begin.
pub const CODE: u64 = RAM + 0x1000;
/// `ecall`.
pub const ECALL: u32 = 0x73;
/// `wfi`.
pub const WFI: u32 = 0x1050_0073;

/// RAM and what else several processors share.
pub struct Board {
    pub space: Arc<AddressSpace>,
    pub ram: Arc<Ram>,
    pub clock: Clock,
    cache: Arc<CodeCache>,
}

impl Board {
    /// A board whose processors interpret or, where the host can, compile.
    pub fn new(interpret: bool) -> Self {
        let ram = Ram::new("ram", RAM_LEN).expect("the host has memory");
        let space = AddressSpace::new("test");
        space.map_ram(RAM, &ram);
        let default = Options::default();
        let interpret = interpret || default.interpret;
        let options = Options { code_bytes: 4 << 20, interpret, ..default };
        let cache = CodeCache::new(Riscv::registers(), options).expect("the host has memory");
        let board = Self { space, ram, clock: Clock::manual(), cache };
        board.put(HANDLER, &[0x3040_1073, WFI]);
        board
    }

    /// A processor of this model after its reset, about to execute from [`CODE`] on.
    pub fn processor(&self, cpu: &str, hart_id: u64) -> Vcpu<Riscv> {
        let config = model::parse(cpu).expect("a known model");
        let counter = Counter::new(self.clock.clone(), 10_000_000);
        let hart = Riscv { config, wiring: Wiring::new(hart_id, CODE, counter) };
        Vcpu::new(Arc::new(hart), Arc::clone(&self.space), Arc::clone(&self.cache))
    }

    /// Puts instructions at an address.
    pub fn put(&self, at: u64, code: &[u32]) {
        let bytes: Vec<u8> = code.iter().flat_map(|word| word.to_le_bytes()).collect();
        assert!(self.ram.write(at - RAM, &bytes), "RAM holds the code");
    }

    /// Puts a doubleword at an address.
    pub fn put_u64(&self, at: u64, value: u64) {
        assert!(self.ram.write(at - RAM, &value.to_le_bytes()), "RAM holds the value");
    }

    /// The doubleword at an address.
    pub fn get_u64(&self, at: u64) -> u64 {
        let mut bytes = [0; 8];
        assert!(self.ram.read(at - RAM, &mut bytes), "RAM holds the value");
        u64::from_le_bytes(bytes)
    }
}

/// The state of a processor.
pub fn state_of(vcpu: &Vcpu<Riscv>) -> State {
    let mut state = State::default();
    state.restore(&vcpu.save()).expect("a state fits itself");
    state
}

/// Changes the state of a processor.
pub fn change(vcpu: &mut Vcpu<Riscv>, change: impl FnOnce(&mut State)) {
    let mut state = state_of(vcpu);
    change(&mut state);
    vcpu.restore(&state.save()).expect("a state fits itself");
}

/// Runs a processor until it halts: its state then.
pub fn run(vcpu: &mut Vcpu<Riscv>) -> State {
    loop {
        match vcpu.run() {
            Exit::Halted => return state_of(vcpu),
            Exit::Kicked => {}
            other => panic!("{other:?}"),
        }
    }
}
