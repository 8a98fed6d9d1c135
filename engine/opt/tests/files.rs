//! Units before and after the passes: `tests/ir/*.ir`.
//!
//! A test is `test NAME`, the lines of a listing, `to`, the lines of the listing that the passes
//! make of it. `UPDATE_GOLDEN=1` writes what follows `to` anew. That both mean the same is for
//! `irgen`'s random units to show.

use ir::{RegClass, RegInfo, Unit};
use opt::Optimiser;
use std::path::Path;

/// `p0` to `p3` are pinned, `x0` to `x7` are not; `f0` to `f3` hold floating-point values.
fn registers() -> Vec<RegInfo> {
    const NAMES: [&str; 16] = [
        "p0", "p1", "p2", "p3", "x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7", "f0", "f1", "f2",
        "f3",
    ];
    let info = |(row, name): (usize, &&'static str)| RegInfo {
        name,
        class: if row < 12 { RegClass::Int } else { RegClass::Float },
        offset: 8 * row as u32,
        pin: if row < 4 { row as u8 + 1 } else { 0 },
    };
    NAMES.iter().enumerate().map(info).collect()
}

/// One test as the passes make it.
fn render(optimiser: &mut Optimiser, test: &str) -> String {
    let (head, _) = test.split_once("\nto\n").expect("test NAME, a listing, to, a listing");
    let (name, listing) = head.split_once('\n').expect("a name in a line of its own");
    let regs = registers();
    let mut unit = Unit::parse(listing, &regs).unwrap_or_else(|e| panic!("{name}: {e}"));
    assert_eq!(unit.verify(), Ok(()), "{name}: before");
    optimiser.run(&mut unit, &regs);
    assert_eq!(unit.verify(), Ok(()), "{name}: after\n{}", unit.listing(&regs));
    let after: String =
        unit.listing(&regs).lines().map(|line| format!("  {}\n", line.trim())).collect();
    format!("{head}\nto\n{after}\n")
}

#[test]
fn passes_make_of_units_what_the_files_say() {
    let bless = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut optimiser = Optimiser::default();
    let mut count = 0;
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ir");
    for entry in std::fs::read_dir(dir).expect("the folder of tests exists") {
        let path = entry.expect("the folder can be read").path();
        let text = std::fs::read_to_string(&path).expect("a file of tests");
        let mut tests = text.split("\ntest ");
        let mut golden = tests.next().expect("a file has a title").to_owned() + "\n";
        for test in tests {
            count += 1;
            golden.push_str(&format!("test {}", render(&mut optimiser, test)));
        }
        let golden = golden.trim_end().to_owned() + "\n";
        if bless {
            std::fs::write(&path, golden).expect("a golden can be written");
        } else {
            assert_eq!(golden, text, "{}", path.display());
        }
    }
    assert!(count >= 15, "{count} tests");
}
