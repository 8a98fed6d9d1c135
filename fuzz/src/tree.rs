//! Device trees given by the user (`-dtb`).

use fdt::{Node, Tree};
use machines_riscv::Xlen;
use machines_riscv::virt::{VirtConfig, device_tree};

/// Parses a blob, changes the tree as booting does, and writes it again.
pub fn feed(input: &[u8]) {
    let Ok(mut tree) = Tree::parse(input) else { return };
    let _text = tree.to_string();
    let again = Tree::parse(&tree.to_blob());
    assert_eq!(again.as_ref(), Ok(&tree), "what is written reads as what was");
    tree.set_bootargs("console=ttyS0");
    tree.set_initrd(0x8800_0000, 0x8900_0000);
    let root = tree.node("/chosen").expect("it was just made");
    assert_eq!(root.get_str("bootargs"), Some("console=ttyS0"));
}

/// The tree of a board, and a small one with everything a blob can have.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut small = Tree::new(
        Node::new("")
            .with("#address-cells", 2u32)
            .with("compatible", ["a,b", "c"])
            .child(Node::new("chosen").with("bootargs", "x"))
            .child(Node::new("memory@80000000").with("empty", ())),
    );
    small.reserved.push((0x8000_0000, 0x1000));
    let board = device_tree(&VirtConfig::new(Xlen::Rv64, Vec::new(), 64 << 20));
    vec![small.to_blob(), Tree::default().to_blob(), board.to_blob()]
}
