//! Random units on the interpreter and on compiled code.

use ir::Unit;
use irgen::{Bench, Random, Shape, Start, TestGuest, generate};
use isa::Guest;
use runtime::{HostFeatures, Options};

fn compare(seeds: std::ops::Range<u64>, options: Options) {
    if !options.interpret && Options::default().interpret {
        // The host has no code generator.
        return;
    }
    let mut bench = Bench::new(options).expect("the host has memory");
    for seed in seeds {
        let mut random = Random::new(seed);
        let shape = Shape::random(&mut random);
        let unit = generate(&mut random, shape);
        assert_eq!(unit.verify(), Ok(()), "seed {seed}");
        let starts: Vec<_> = (0..3).map(|_| Start::random(&mut random)).collect();
        if let Err(text) = bench.check(&unit, &starts) {
            panic!("seed {seed}:\n{text}");
        }
    }
}

#[test]
fn compiled_code_does_what_the_interpreter_does() {
    let count = std::env::var("TINAMOU_IR_UNITS").ok().and_then(|n| n.parse().ok());
    compare(0..count.unwrap_or(3000), Options { interpret: false, ..Options::default() });
}

#[test]
fn so_does_code_that_was_not_optimised() {
    compare(0..500, Options { interpret: false, optimise: false, ..Options::default() });
}

#[test]
fn so_does_code_for_hosts_without_what_only_some_have() {
    let plain = Options { interpret: false, host: HostFeatures::default(), ..Options::default() };
    compare(20_000..21_000, plain);
}

#[test]
fn a_processor_that_interprets_does_the_same() {
    compare(0..300, Options { interpret: true, ..Options::default() });
}

#[test]
fn units_come_back_from_their_listings() {
    let regs = TestGuest::registers();
    for seed in 0..500 {
        let mut random = Random::new(seed);
        let shape = Shape::random(&mut random);
        let unit = generate(&mut random, shape);
        let text = unit.listing(regs);
        let back = Unit::parse(&text, regs).unwrap_or_else(|e| panic!("seed {seed}: {e}\n{text}"));
        assert_eq!(back.listing(regs), text, "seed {seed}");
        let about = |u: &Unit| (u.verify(), u.pc, u.len, u.insns, u.labels);
        assert_eq!(about(&back), about(&unit), "seed {seed}");
    }
}

#[test]
fn a_full_code_cache_is_emptied_in_between() {
    let small = Options { interpret: false, code_bytes: 64 << 10, ..Options::default() };
    compare(10_000..10_200, small);
}
