//! `info qtree` of the board.

use super::CLINT;
use crate::harts::TIMEBASE_HZ;
use std::fmt::Write;

/// The devices, as QEMU lists them; `brief` leaves out their properties.
pub fn qtree(harts: usize, brief: bool) -> String {
    let number = |name: &str, value: u64| format!("{name} = {value} ({value:#x})");
    let mmio = |base: u64, len: u64| format!("mmio {base:016x}/{len:016x}");
    let out = format!("gpio-out \"\" {harts}");
    let count = number("num-harts", harts as u64);
    let swi = timer::aclint::SWI_LEN;
    let devices = [
        (
            "riscv.aclint.mtimer",
            vec![
                out.clone(),
                count.clone(),
                number("timebase-freq", TIMEBASE_HZ.into()),
                mmio(CLINT.base + swi, 0x8000),
            ],
        ),
        ("riscv.aclint.swi", vec![out, count.clone(), mmio(CLINT.base, swi)]),
        ("riscv.hart_array", vec![count, number("resetvec", 0x1000)]),
    ];
    let mut text = "bus: main-system-bus\n  type System\n".to_owned();
    for (class, lines) in devices {
        // A string takes every write.
        let _ = writeln!(text, "  dev: {class}, id \"\"");
        for line in lines.iter().filter(|_| !brief) {
            let _ = writeln!(text, "    {line}");
        }
    }
    text
}
