//! Single steps.

use cpu::{Exit, VirtualCpu};
use isa::Guest;
use memory::AddressSpace;
use riscv::{Riscv, Wiring, model};
use runtime::{CodeCache, Options, Vcpu};
use std::sync::Arc;
use time::{Clock, Counter};

/// A processor with nothing to execute anywhere: each step is a trap to a handler that traps.
fn processor() -> Vcpu<Riscv> {
    let config = model::parse("rv64").expect("a known model");
    let counter = Counter::new(Clock::manual(), 10_000_000);
    let hart = Riscv { config, wiring: Wiring::new(0, 0x8000_0000, counter) };
    let cache = CodeCache::new(Riscv::registers(), Options::default()).expect("there is memory");
    Vcpu::new(Arc::new(hart), AddressSpace::new("empty"), cache)
}

#[test]
fn a_step_that_traps_ends() {
    let mut vcpu = processor();
    for _ in 0..3 {
        assert_eq!(vcpu.step(), Exit::Debug);
        assert_eq!(vcpu.pc(), 0);
    }
}

#[test]
fn a_kick_does_not_keep_a_step_from_being_one_and_is_not_lost() {
    let mut vcpu = processor();
    vcpu.link().kick();
    let before = vcpu.pc();
    assert_eq!(vcpu.step(), Exit::Debug);
    assert_ne!(vcpu.pc(), before);
    assert_eq!(vcpu.step(), Exit::Debug);
    assert_eq!(vcpu.run(), Exit::Kicked);
}
