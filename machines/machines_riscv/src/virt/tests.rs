//! Device trees against goldens that were compared with `qemu-system-riscv64 -M virt,dumpdtb=`
//! (QEMU 10.0.2, the random seed aside). `BLESS=1 cargo test` writes them anew.

use super::*;
use crate::harts::BlockSizes;
use crate::{Window, spike};
use fdt::Tree;
use std::path::Path;

/// A short ISA: what it says is up to the processor, not to the board.
fn harts(n: usize) -> Vec<HartInfo> {
    let extensions = ["i", "m", "a", "f", "d", "c", "h", "zicbom", "zicsr", "sstc"];
    let hart = HartInfo {
        isa: "rv64imafdch_zicbom_zicsr_sstc".into(),
        isa_base: "rv64i".into(),
        extensions: extensions.map(String::from).to_vec(),
        mmu: Some("riscv,sv57".into()),
        block_sizes: BlockSizes { cbom: Some(64), cboz: Some(64), cbop: Some(64) },
    };
    vec![hart; n]
}

fn config(n: usize) -> VirtConfig {
    VirtConfig::new(Xlen::Rv64, harts(n), 512 << 20)
}

fn check(name: &str, tree: &Tree) {
    assert_eq!(Tree::parse(&tree.to_blob()).as_ref(), Ok(tree));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("goldens/{name}.dts"));
    let text = tree.to_string();
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text, golden, "{name}: BLESS=1 if this is meant");
}

#[test]
fn device_trees_are_those_of_qemu() {
    check("virt", &device_tree(&config(2)));
    check("virt-smp4", &device_tree(&config(4)));
    check("virt-aplic", &device_tree(&VirtConfig { aia: Aia::Aplic, ..config(2) }));
    let imsic = VirtConfig { aia: Aia::AplicImsic, ..config(2) };
    check("virt-imsic", &device_tree(&imsic));
    let guests = VirtConfig { aia: Aia::AplicImsic, aia_guests: 3, ..config(4) };
    check("virt-imsic-guests", &device_tree(&guests));
    check("virt-aclint", &device_tree(&VirtConfig { aclint: true, ..config(2) }));
    check("virt-aclint-imsic", &device_tree(&VirtConfig { aclint: true, ..imsic }));
    check("virt-rv32", &device_tree(&VirtConfig { xlen: Xlen::Rv32, ..config(1) }));
    let mut kernel = device_tree(&config(1));
    kernel.set_initrd(0x9020_0000, 0x9021_9000);
    kernel.set_bootargs("foo");
    check("virt-kernel", &kernel);
    let mut spike_harts = harts(4);
    spike_harts.iter_mut().for_each(|h| h.block_sizes = BlockSizes::default());
    spike_harts.iter_mut().for_each(|h| h.mmu = Some("riscv,sv48".into()));
    check("spike", &spike::device_tree(&spike_harts, 512 << 20, true));
}

#[test]
fn windows_do_not_overlap_and_lie_below_ram() {
    let mut windows: Vec<Window> = map::WINDOWS.iter().map(|(_, w)| *w).collect();
    windows.sort_by_key(|w| w.base);
    for pair in windows.windows(2) {
        assert!(pair[0].end() <= pair[1].base, "{:x?}", pair);
    }
    assert!(windows.iter().all(|w| w.end() <= map::DRAM));
}

#[test]
fn high_pci_memory_lies_behind_ram() {
    let base = |gib: u64| map::high_pcie_mmio(Xlen::Rv64, gib << 30).base;
    assert_eq!(
        [base(1), base(14), base(15), base(17)],
        [0x4_0000_0000, 0x4_0000_0000, 0x8_0000_0000, 0x8_0000_0000]
    );
}

#[test]
fn guest_files_are_numbered_in_few_bits() {
    let bits = |n| VirtConfig { aia_guests: n, ..config(1) }.guest_index_bits();
    assert_eq!([0, 1, 2, 3, 4, 7].map(bits), [0, 1, 2, 2, 3, 3]);
}
