//! Registers as text, in the form of QEMU's `info registers`.

use crate::csr;
use crate::hart::Riscv;
use crate::model::Feature;
use crate::state::{F_NAMES, State, X_NAMES};
use crate::trap;
use std::fmt::{self, Write};

/// Text of `info registers`, with these levels of the input lines.
pub(crate) fn dump(hart: &Riscv, state: &State, lines: u64) -> String {
    let mut text = String::new();
    // Writing to a string succeeds.
    let _ = write_all(&mut text, hart, state, lines);
    text
}

fn write_all(out: &mut String, hart: &Riscv, s: &State, lines: u64) -> fmt::Result {
    let supervisor = hart.has(Feature::S);
    let status = csr::mstatus_value(hart, s);
    let (cause, mode) = (csr::shown_cause, hart.is_rv32());
    let rows = [
        ("pc", true, s.pc),
        ("mhartid", true, hart.wiring.hart_id),
        ("mstatus", true, hart.value(status)),
        ("mstatush", mode, status >> 32),
        ("mip", true, trap::pending_with(hart, s, lines)),
        ("mie", true, s.mie),
        ("mideleg", supervisor, s.mideleg),
        ("medeleg", supervisor, s.medeleg),
        ("mtvec", true, s.mtvec),
        ("stvec", supervisor, s.stvec),
        ("mepc", true, s.mepc),
        ("sepc", supervisor, s.sepc),
        ("mcause", true, cause(hart, s.mcause)),
        ("scause", supervisor, cause(hart, s.scause)),
        ("mtval", true, s.mtval),
        ("stval", supervisor, s.stval),
        ("mscratch", true, s.mscratch),
        ("sscratch", supervisor, s.sscratch),
        ("satp", supervisor, s.satp),
    ];
    for (name, _, value) in rows.iter().filter(|(_, shown, _)| *shown) {
        writeln!(out, " {name:<8} {:016x}", hart.address(*value))?;
    }
    write_file(out, hart, 'x', &X_NAMES, &s.x)?;
    if hart.has(Feature::F) {
        writeln!(out, " {:<8} {:016x}", "fcsr", s.fflags & 31 | (s.frm & 7) << 5)?;
        for (i, row) in s.f.chunks(4).enumerate() {
            write_row(out, 'f', &F_NAMES, i, row.iter().copied())?;
        }
    }
    Ok(())
}

fn write_file(
    out: &mut String,
    hart: &Riscv,
    letter: char,
    names: &[&str; 32],
    values: &[u64; 32],
) -> fmt::Result {
    values.chunks(4).enumerate().try_for_each(|(i, row)| {
        write_row(out, letter, names, i, row.iter().map(|v| hart.address(*v)))
    })
}

/// Four registers, from 4 · `row` on.
fn write_row(
    out: &mut String,
    letter: char,
    names: &[&str; 32],
    row: usize,
    values: impl Iterator<Item = u64>,
) -> fmt::Result {
    for (i, value) in (4 * row..).zip(values) {
        let name = format!("{letter}{i}/{}", names.get(i).copied().unwrap_or_default());
        write!(out, " {name:<8} {value:016x}")?;
    }
    out.write_char('\n')
}

#[cfg(test)]
mod tests {
    use crate::bench::Bench;
    use isa::Guest;

    #[test]
    fn registers_are_listed_as_the_monitor_shows_them() {
        let mut b = Bench::new("rv64");
        b.state.x[10] = 0x1234;
        let text = b.hart.dump(&b.state, 0);
        assert!(text.starts_with(" pc       0000000000001000\n mhartid  0000000000000000\n"));
        assert!(text.contains("\n mstatus  0000000a00000000\n mip      0000000000000000\n"));
        let row = " x8/s0    0000000000000000 x9/s1    0000000000000000 x10/a0   0000000000001234 ";
        assert!(text.contains(row), "{text}");
        assert!(text.ends_with(" f31/ft11 0000000000000000\n"));
        b.state.mip = 2;
        let text = b.hart.dump(&b.state, 1 << 7 | 1 << 9 | 1 << 40);
        assert!(text.contains("\n mip      0000000000000282\n"), "{text}");
        let b = Bench::new("rv32i");
        let text = b.hart.dump(&b.state, 0);
        assert!(text.contains(" mstatush ") && !text.contains("satp") && !text.contains("fcsr"));
    }
}
