//! The device tree, node by node in the order in which QEMU's comes out.

use super::{Aia, VirtConfig, map};
use crate::Window;
use crate::harts::{Phandles, cpus};
use crate::spike::memory;
use fdt::{Node, Tree};

/// Level-sensitive, active high: second cell of an interrupt at an APLIC.
const LEVEL_HIGH: u32 = 4;
/// Lines of a hart.
const SSI: u32 = 1;
const MSI: u32 = 3;
const MTI: u32 = 7;
const SEI: u32 = 9;
const MEI: u32 = 11;

/// Numbers of the nodes that others refer to.
struct Refs {
    harts: Phandles,
    /// Where the devices' lines arrive.
    intc: u32,
    aplic_m: u32,
    imsic_m: u32,
    imsic_s: u32,
    test: u32,
    /// Interrupts have a second cell.
    typed: bool,
}

impl Refs {
    fn new(config: &VirtConfig) -> Self {
        let mut harts = Phandles::new(config.harts.len());
        let (mut imsic_m, mut imsic_s, mut aplic_m) = (0, 0, 0);
        if config.aia == Aia::AplicImsic {
            imsic_m = harts.take();
            imsic_s = harts.take();
        }
        if config.aia != Aia::None {
            aplic_m = harts.take();
        }
        let intc = harts.take();
        let test = harts.take();
        let typed = config.aia != Aia::None;
        Self { harts, intc, aplic_m, imsic_m, imsic_s, test, typed }
    }

    /// Cells of one interrupt.
    fn interrupt(&self, line: u32) -> Vec<u32> {
        if self.typed { vec![line, LEVEL_HIGH] } else { vec![line] }
    }

    /// A device with one line.
    fn device(&self, name: &str, window: Window, line: u32) -> Node {
        Node::new(format!("{name}@{:x}", window.base))
            .with("interrupts", self.interrupt(line).as_slice())
            .with("interrupt-parent", self.intc)
    }
}

/// The board's device tree. Kernel arguments are added with [`Tree::set_bootargs`] and
/// [`Tree::set_initrd`].
pub fn device_tree(config: &VirtConfig) -> Tree {
    let refs = Refs::new(config);
    let root = Node::new("")
        .with("#address-cells", 2u32)
        .with("#size-cells", 2u32)
        .with("compatible", "riscv-virtio")
        .with("model", "riscv-virtio,qemu")
        .child(syscon("poweroff", "syscon-poweroff", 0x5555, &refs))
        .child(syscon("reboot", "syscon-reboot", 0x7777, &refs))
        .child(platform_bus(&refs))
        .child(memory(map::DRAM, config.ram_len))
        .child(cpus(&config.harts, &refs.harts))
        .child(pmu(config.counters))
        .child(fw_cfg())
        .child(flash())
        .child(Node::new("aliases").with("serial0", serial_path().as_str()))
        .child(
            Node::new("chosen")
                .with("stdout-path", serial_path().as_str())
                .with("rng-seed", config.rng_seed.to_vec()),
        )
        .child(soc(config, &refs));
    Tree::new(root)
}

fn serial_path() -> String {
    format!("/soc/serial@{:x}", map::UART0.base)
}

fn syscon(name: &str, compatible: &str, value: u32, refs: &Refs) -> Node {
    Node::new(name)
        .with("value", value)
        .with("offset", 0u32)
        .with("regmap", refs.test)
        .with("compatible", compatible)
}

fn platform_bus(refs: &Refs) -> Node {
    let Window { base, len } = map::PLATFORM_BUS;
    Node::new(format!("platform-bus@{base:x}"))
        .with("interrupt-parent", refs.intc)
        .with("ranges", [0, (base >> 32) as u32, base as u32, len as u32])
        .with("#address-cells", 1u32)
        .with("#size-cells", 1u32)
        .with("compatible", ["qemu,platform", "simple-bus"])
}

/// Which programmable counters count which events of the SBI: cycles and instructions have one
/// of their own, TLB misses of loads, stores and fetches do not.
fn pmu(counters: u32) -> Node {
    let events = [
        (0x0001, counters | 1),
        (0x0002, counters | 4),
        (0x10019, counters),
        (0x1001b, counters),
        (0x10021, counters),
    ];
    let cells: Vec<u32> = events.iter().flat_map(|(event, on)| [*event, *event, *on]).collect();
    Node::new("pmu")
        .with("riscv,event-to-mhpmcounters", cells.as_slice())
        .with("compatible", "riscv,pmu")
}

fn fw_cfg() -> Node {
    Node::new(format!("fw-cfg@{:x}", map::FW_CFG.base))
        .with("dma-coherent", ())
        .with("reg", map::FW_CFG.reg())
        .with("compatible", "qemu,fw-cfg-mmio")
}

fn flash() -> Node {
    let Window { base, len } = map::FLASH;
    let bank = len / 2;
    Node::new(format!("flash@{base:x}"))
        .with("bank-width", 4u32)
        .with("reg", [base, bank, base + bank, bank])
        .with("compatible", "cfi-flash")
}

fn soc(config: &VirtConfig, refs: &Refs) -> Node {
    let rtc = refs
        .device("rtc", map::RTC, map::RTC_IRQ)
        .with("reg", map::RTC.reg())
        .with("compatible", "google,goldfish-rtc");
    let serial = refs
        .device("serial", map::UART0, map::UART0_IRQ)
        .with("clock-frequency", map::UART0_HZ)
        .with("reg", map::UART0.reg())
        .with("compatible", "ns16550a");
    let test = Node::new(format!("test@{:x}", map::TEST.base))
        .with("phandle", refs.test)
        .with("reg", map::TEST.reg())
        .with("compatible", ["sifive,test1", "sifive,test0", "syscon"]);
    Node::new("soc")
        .with("#address-cells", 2u32)
        .with("#size-cells", 2u32)
        .with("compatible", "simple-bus")
        .with("ranges", ())
        .child(rtc)
        .child(serial)
        .child(test)
        .children((0..map::VIRTIO_SLOTS).rev().map(|slot| virtio(slot, refs)))
        .children(controllers(config, refs))
        .children(local_interruptors(config, refs))
        .child(pcie(config, refs))
}

fn virtio(slot: u32, refs: &Refs) -> Node {
    let Window { base, len } = map::VIRTIO;
    let window = Window::new(base + u64::from(slot) * len, len);
    refs.device("virtio_mmio", window, map::VIRTIO_IRQ + slot)
        .with("reg", window.reg())
        .with("compatible", "virtio,mmio")
}

fn controllers(config: &VirtConfig, refs: &Refs) -> Vec<Node> {
    let len = map::aplic_len(config.harts.len() as u64);
    match config.aia {
        Aia::None => vec![plic(refs)],
        Aia::Aplic => {
            let to_s = ("interrupts-extended", refs.harts.lines(&[SEI]));
            let to_m = ("interrupts-extended", refs.harts.lines(&[MEI]));
            vec![aplic_s(refs, len, to_s), aplic_m(refs, len, to_m)]
        }
        Aia::AplicImsic => {
            let to = |imsic: u32| ("msi-parent", imsic.to_be_bytes().to_vec());
            vec![
                aplic_s(refs, len, to(refs.imsic_s)),
                aplic_m(refs, len, to(refs.imsic_m)),
                imsic(config, refs, true),
                imsic(config, refs, false),
            ]
        }
    }
}

fn plic(refs: &Refs) -> Node {
    Node::new(format!("plic@{:x}", map::PLIC.base))
        .with("phandle", refs.intc)
        .with("riscv,ndev", map::SOURCES - 1)
        .with("reg", map::PLIC.reg())
        .with("interrupts-extended", refs.harts.lines(&[MEI, SEI]))
        .with("interrupt-controller", ())
        .with("compatible", ["sifive,plic-1.0.0", "riscv,plic0"])
        .with("#address-cells", 0u32)
        .with("#interrupt-cells", 1u32)
}

/// What an APLIC says after its phandle and delegation; `to` is how it reaches the harts.
fn aplic(node: Node, base: u64, len: u64, to: (&str, Vec<u8>)) -> Node {
    node.with("riscv,num-sources", map::SOURCES)
        .with("reg", Window::new(base, len).reg())
        .with(to.0, to.1)
        .with("interrupt-controller", ())
        .with("#interrupt-cells", 2u32)
        .with("#address-cells", 0u32)
        .with("compatible", ["qemu,aplic", "riscv,aplic"])
}

fn aplic_s(refs: &Refs, len: u64, to: (&str, Vec<u8>)) -> Node {
    let name = format!("interrupt-controller@{:x}", map::APLIC_S);
    aplic(Node::new(name).with("phandle", refs.intc), map::APLIC_S, len, to)
}

fn aplic_m(refs: &Refs, len: u64, to: (&str, Vec<u8>)) -> Node {
    let delegation = [refs.intc, 1, map::SOURCES];
    let node = Node::new(format!("interrupt-controller@{:x}", map::APLIC_M))
        .with("phandle", refs.aplic_m)
        .with("riscv,delegate", delegation)
        .with("riscv,delegation", delegation)
        .with("riscv,children", refs.intc);
    aplic(node, map::APLIC_M, len, to)
}

/// The interrupt files of one level, a page for each hart and, at the supervisor level, its guests.
fn imsic(config: &VirtConfig, refs: &Refs, supervisor: bool) -> Node {
    let bits = if supervisor { config.guest_index_bits() } else { 0 };
    let (base, phandle, line) = match supervisor {
        true => (map::IMSIC_S.base, refs.imsic_s, SEI),
        false => (map::IMSIC_M.base, refs.imsic_m, MEI),
    };
    let len = (config.harts.len() as u64) << (12 + bits);
    Node::new(format!("interrupt-controller@{base:x}"))
        .with("phandle", phandle)
        .with_some("riscv,guest-index-bits", (bits != 0).then_some(bits))
        .with("riscv,num-ids", map::IMSIC_IDS)
        .with("reg", Window::new(base, len).reg())
        .with("interrupts-extended", refs.harts.lines(&[line]))
        .with("msi-controller", ())
        .with("interrupt-controller", ())
        .with("#interrupt-cells", 0u32)
        .with("compatible", ["qemu,imsics", "riscv,imsics"])
}

/// With IMSICs an ACLINT is only the timer.
fn local_interruptors(config: &VirtConfig, refs: &Refs) -> Vec<Node> {
    let Window { base, .. } = map::CLINT;
    let timer_base = if config.aia == Aia::AplicImsic { base } else { base + 0x4000 };
    let swi = |name: &str, base: u64, line, compatible: &str| {
        Node::new(format!("{name}@{base:x}"))
            .with("#interrupt-cells", 0u32)
            .with("interrupt-controller", ())
            .with("interrupts-extended", refs.harts.lines(&[line]))
            .with("reg", Window::new(base, 0x4000).reg())
            .with("compatible", compatible)
    };
    let (mtime, end) = (timer_base + 0x7ff8, base + 0x1_0000);
    let timer = Node::new(format!("mtimer@{timer_base:x}"))
        .with("interrupts-extended", refs.harts.lines(&[MTI]))
        .with("reg", [mtime, mtimer_tail(config, mtime, end), timer_base, 0x7ff8])
        .with("compatible", "riscv,aclint-mtimer");
    match (config.aclint, config.aia) {
        (false, _) => vec![
            Node::new(format!("clint@{base:x}"))
                .with("interrupts-extended", refs.harts.lines(&[MSI, MTI]))
                .with("reg", map::CLINT.reg())
                .with("compatible", ["sifive,clint0", "riscv,clint0"]),
        ],
        (true, Aia::AplicImsic) => vec![timer],
        (true, _) => vec![
            swi("sswi", map::ACLINT_SSWI.base, SSI, "riscv,aclint-sswi"),
            timer,
            swi("mswi", base, MSI, "riscv,aclint-mswi"),
        ],
    }
}

/// Bytes that the tree gives to `mtime`: what remains of the CLINT's window, or of its own device.
fn mtimer_tail(config: &VirtConfig, mtime: u64, end: u64) -> u64 {
    if config.aia == Aia::AplicImsic { 8 } else { end - mtime }
}

fn pcie(config: &VirtConfig, refs: &Refs) -> Node {
    let high = map::high_pcie_mmio(config.xlen, config.ram_len);
    // Cell 0 of a range: port I/O, 32-bit memory, 64-bit memory.
    let range = |kind: u32, pci: u64, window: Window| {
        let cells = [pci, window.base, window.len];
        std::iter::once(kind).chain(cells.into_iter().flat_map(|c| [(c >> 32) as u32, c as u32]))
    };
    let ranges: Vec<u32> = range(0x100_0000, 0, map::PCIE_PIO)
        .chain(range(0x200_0000, map::PCIE_MMIO.base, map::PCIE_MMIO))
        .chain(range(0x300_0000, high.base, high))
        .collect();
    let imsic = (config.aia == Aia::AplicImsic).then_some(refs.imsic_s);
    Node::new(format!("pci@{:x}", map::PCIE_ECAM.base))
        .with("interrupt-map-mask", [0x1800, 0, 0, 7u32])
        .with("interrupt-map", interrupt_map(refs).as_slice())
        .with("ranges", ranges.as_slice())
        .with("reg", map::PCIE_ECAM.reg())
        .with_some("msi-parent", imsic)
        .with("dma-coherent", ())
        .with("bus-range", [0, 0xffu32])
        .with("linux,pci-domain", 0u32)
        .with("device_type", "pci")
        .with("compatible", "pci-host-ecam-generic")
        .with("#size-cells", 2u32)
        .with("#interrupt-cells", 1u32)
        .with("#address-cells", 3u32)
}

/// Four slots with four pins each; the others repeat them.
fn interrupt_map(refs: &Refs) -> Vec<u32> {
    let mut cells = Vec::new();
    for slot in 0..4 {
        for pin in 0..4 {
            cells.extend([slot << 11, 0, 0, pin + 1, refs.intc]);
            cells.extend(refs.interrupt(map::pcie_irq(slot, pin)));
        }
    }
    cells
}
