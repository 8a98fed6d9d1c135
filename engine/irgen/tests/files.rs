//! The units of `tests/ir/*.ir`, on the interpreter and on compiled code.
//!
//! A test is `test NAME`, `from ASSIGNMENTS`, the lines of a listing, `to ASSIGNMENTS`. Registers
//! and memory are zero to begin with. `[A]` is a byte of memory, `v[N]` the eight bytes of vector
//! registers from byte N on.

use ir::Unit;
use irgen::{Bench, Machine, Start, TestGuest, TestState};
use isa::Guest;
use runtime::Options;
use std::path::Path;
use std::sync::Arc;

/// Where memory is.
const WINDOW: u64 = 0x1_0000;
const START: u64 = 0x1000;

fn number(text: &str) -> u64 {
    let value = match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse::<i64>().ok().map(i64::cast_unsigned),
    };
    value.unwrap_or_else(|| panic!("`{text}` is no number"))
}

fn assign(state: &mut TestState, memory: &mut [u8], text: &str) {
    for item in text.split_whitespace() {
        let (name, value) = item.split_once('=').expect("name=value");
        let value = number(value);
        if let Some(at) = name.strip_prefix('[').and_then(|n| n.strip_suffix(']')) {
            memory[(number(at) - WINDOW) as usize] = value as u8;
            continue;
        }
        if let Some(at) = name.strip_prefix("v[").and_then(|n| n.strip_suffix(']')) {
            let at = number(at) as usize;
            state.v.0[at..at + 8].copy_from_slice(&value.to_le_bytes());
            continue;
        }
        let place = match name {
            "pc" => &mut state.pc,
            "epc" => &mut state.epc,
            "cause" => &mut state.cause,
            "tval" => &mut state.tval,
            "fflags" => &mut state.fflags,
            "rounding" => &mut state.rounding,
            _ => {
                let row = TestGuest::registers().iter().position(|r| r.name == name);
                let row = row.unwrap_or_else(|| panic!("no register is called {name}"));
                TestGuest::set_reg(state, ir::GuestReg(row as u8), value);
                continue;
            }
        };
        *place = value;
    }
}

fn check(bench: &mut Bench, test: &str) {
    let (name, rest) = test.split_once("\nfrom").expect("test NAME, from …");
    let (from, rest) = rest.split_once('\n').expect("a listing");
    let (listing, to) = rest.rsplit_once("\nto").expect("to …");
    let unit = Unit::parse(listing, TestGuest::registers());
    let mut unit = unit.unwrap_or_else(|e| panic!("{name}: {e}"));
    assert_eq!(unit.verify(), Ok(()), "{name}");
    unit.pc = START;
    let state = TestState { pc: START, ..TestState::default() };
    let mut start = Start { state, memory: vec![0; 0x3000] };
    assign(&mut start.state, &mut start.memory, from);
    let Start { state, memory } = start.clone();
    let mut wanted = Machine { state, memory, halted: false };
    let to = to.split("\n\n").next().unwrap_or_default();
    assign(&mut wanted.state, &mut wanted.memory, to);
    let expected = bench.reference(&unit, &start);
    let difference = irgen::Difference { expected: wanted.clone(), found: expected.clone() };
    assert!(expected == wanted, "{name}: interpreted:\n{difference}");
    if let Err((_, difference)) = bench.compare(&Arc::new(unit), &[start]) {
        panic!("{name}: compiled:\n{difference}");
    }
}

#[test]
fn units_of_files_do_what_the_files_say() {
    let mut bench = Bench::new(Options::default()).expect("the host has memory");
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ir");
    let mut count = 0;
    for entry in std::fs::read_dir(dir).expect("the folder of tests exists") {
        let path = entry.expect("the folder can be read").path();
        let text = std::fs::read_to_string(&path).expect("a file of tests");
        for test in text.split("\ntest ").skip(1) {
            check(&mut bench, test);
            count += 1;
        }
    }
    assert!(count >= 15, "{count} tests");
}
