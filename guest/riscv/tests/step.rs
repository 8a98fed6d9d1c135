//! Single steps.

use cpu::{Exit, VirtualCpu};
use isa::Guest;
use memory::AddressSpace;
use riscv::{Riscv, Wiring, model};
use runtime::{CodeCache, Options, Vcpu};
use std::sync::Arc;
use time::{Clock, Counter};

/// With nothing to execute anywhere, each step is a trap to a handler that traps.
#[test]
fn a_step_that_traps_ends() {
    let config = model::parse("rv64").expect("a known model");
    let counter = Counter::new(Clock::manual(), 10_000_000);
    let hart = Riscv { config, wiring: Wiring::new(0, 0x8000_0000, counter) };
    let cache = CodeCache::new(Riscv::registers(), Options::default()).expect("there is memory");
    let mut vcpu = Vcpu::new(Arc::new(hart), AddressSpace::new("empty"), cache);
    for _ in 0..3 {
        assert_eq!(vcpu.step(), Exit::Debug);
        assert_eq!(vcpu.pc(), 0);
    }
}
