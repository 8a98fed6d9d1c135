//! Units of IR that the bytes choose: compiled code must do what the interpreter does.

use irgen::{Bench, Random, Shape, Start, generate};
use runtime::Options;
use std::cell::RefCell;

thread_local! {
    static BENCH: RefCell<Bench> =
        RefCell::new(Bench::new(Options::default()).expect("the host has memory"));
}

/// Makes a unit and two starts of the bytes, and compares.
pub fn feed(input: &[u8]) {
    let mut random = Random::from_bytes(input);
    let shape = Shape::random(&mut random);
    let unit = generate(&mut random, shape);
    let starts = [Start::random(&mut random), Start::random(&mut random)];
    if let Err(text) = BENCH.with_borrow_mut(|bench| bench.check(&unit, &starts)) {
        panic!("{text}");
    }
}

/// Bytes for each shape: what follows them comes from their sum.
pub fn seeds() -> Vec<Vec<u8>> {
    (0..32u8).map(|i| vec![i, i / 4, i / 2, i, 90, i]).collect()
}
