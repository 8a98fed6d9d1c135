//! The `spike` board: what RISC-V's own test programs expect. RAM, a CLINT and the host-target
//! interface; no other device.

mod board;
mod qtree;
mod signature;

pub use board::{Board, Inputs, build};
pub use qtree::qtree;
pub use signature::Signature;

use crate::Window;
use crate::harts::{HartInfo, Phandles, cpus};
use fdt::{Node, Tree};

/// Most harts that the board has.
pub const MAX_HARTS: usize = 8;
/// Mask ROM with the reset vector.
pub const MROM: Window = Window::new(0x1000, 0xf000);
/// Host-target interface, for programs without the symbols `tohost` and `fromhost`.
pub const HTIF: Window = Window::new(0x0100_0000, 0x1000);
/// Core-local interruptor.
pub const CLINT: Window = Window::new(0x0200_0000, 0x1_0000);
/// Start of RAM.
pub const DRAM: u64 = 0x8000_0000;

/// The board's device tree. `htif_reg` says whether the interface is at [`HTIF`] (rather than
/// where the program's symbols say).
pub fn device_tree(harts: &[HartInfo], ram_len: u64, htif_reg: bool) -> Tree {
    let phandles = Phandles::new(harts.len());
    let clint = Node::new(format!("clint@{:x}", CLINT.base))
        .with("interrupts-extended", phandles.lines(&[3, 7]))
        .with("reg", CLINT.reg())
        .with("compatible", ["sifive,clint0", "riscv,clint0"]);
    let soc = Node::new("soc")
        .with("#address-cells", 2u32)
        .with("#size-cells", 2u32)
        .with("compatible", "simple-bus")
        .with("ranges", ())
        .child(clint);
    let root = Node::new("")
        .with("#address-cells", 2u32)
        .with("#size-cells", 2u32)
        .with("compatible", "ucbbar,spike-bare-dev")
        .with("model", "ucbbar,spike-bare,qemu")
        .child(Node::new("chosen").with("stdout-path", "/htif"))
        .child(memory(DRAM, ram_len))
        .child(cpus(harts, &phandles))
        .child(soc)
        .child(
            Node::new("htif")
                .with_some("reg", htif_reg.then(|| HTIF.reg()))
                .with("compatible", "ucb,htif0"),
        );
    Tree::new(root)
}

/// The node of a range of RAM.
pub(crate) fn memory(base: u64, len: u64) -> Node {
    Node::new(format!("memory@{base:x}"))
        .with("device_type", "memory")
        .with("reg", Window::new(base, len).reg())
}
