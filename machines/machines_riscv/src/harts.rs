//! Harts, and the `/cpus` node, the same on every board.

use crate::Xlen;
use crate::boot::RESET_ADDRESS;
use crate::imsic::HartFiles;
use cpu::VirtualCpu;
use device::{LineSink, Wire};
use fdt::Node;
use machine::Builder;
use riscv::model::{Config, Feature, SatpMode};
use riscv::{Imsic, Riscv, SoftwareEdge, Wiring};
use runtime::{CodeCache, Vcpu};
use std::sync::Arc;
use time::Counter;

/// Rate of the `time` counter of every board, in Hz.
pub const TIMEBASE_HZ: u32 = 10_000_000;

/// Interrupt inputs of a hart: the bits of `mip`.
pub const LINE_MSI: u32 = 3;
/// Supervisor software.
pub const LINE_SSI: u32 = 1;
/// Machine timer.
pub const LINE_MTI: u32 = 7;
/// Supervisor external.
pub const LINE_SEI: u32 = 9;
/// Machine external.
pub const LINE_MEI: u32 = 11;

/// What all harts of a board share.
pub(crate) struct Common<'a> {
    /// What they can do.
    pub config: &'a Config,
    /// Their `time`.
    pub mtime: &'a Counter,
    /// Their translated code.
    pub cache: &'a Arc<CodeCache>,
}

/// Where interrupts for the harts of a board go.
#[derive(Default)]
pub(crate) struct Harts {
    /// The inputs of each.
    pub lines: Vec<Arc<dyn LineSink>>,
    /// What takes supervisor software interrupts for each.
    pub software: Vec<Arc<SoftwareEdge>>,
}

impl Harts {
    /// A wire to input `line` of each.
    pub(crate) fn wires(&self, line: u32) -> Vec<Wire> {
        self.lines.iter().map(|hart| Wire::to(Arc::clone(hart), line)).collect()
    }
}

/// Adds `count` harts, each with its interrupt files if there are any.
pub(crate) fn add(
    b: &mut Builder,
    common: &Common<'_>,
    count: usize,
    files: &[HartFiles],
) -> Harts {
    let mut harts = Harts::default();
    for index in 0..count {
        let reset_pc = common.config.reset_pc.unwrap_or(RESET_ADDRESS);
        let mut wiring = Wiring::new(index as u64, reset_pc, common.mtime.clone());
        wiring.imsic = files.get(index).map(|files| Arc::new(files.clone()) as Arc<dyn Imsic>);
        let hart = Arc::new(Riscv { config: common.config.clone(), wiring });
        let cpu = Vcpu::new(Arc::clone(&hart), Arc::clone(&b.space), Arc::clone(common.cache));
        let link: Arc<dyn LineSink> = cpu.link();
        hart.wiring.timer.connect(Arc::clone(&link));
        hart.wiring.software.connect(Arc::clone(&link));
        harts.software.push(Arc::clone(&hart.wiring.software));
        harts.lines.push(link);
        b.cpus.push(Box::new(cpu));
    }
    harts
}

/// Width of a CPU model's registers.
pub fn xlen(config: &Config) -> Xlen {
    match config.xlen {
        riscv::Xlen::Rv32 => Xlen::Rv32,
        riscv::Xlen::Rv64 => Xlen::Rv64,
    }
}

/// What the device tree says about a hart of this model.
pub fn info(config: &Config) -> HartInfo {
    let block = |feature, size: u16| config.has(feature).then_some(u32::from(size));
    HartInfo {
        isa: config.isa_string(),
        isa_base: config.isa_base().to_owned(),
        extensions: config.isa_extensions().into_iter().map(str::to_owned).collect(),
        mmu: (config.satp != SatpMode::Bare).then(|| config.mmu_type()),
        block_sizes: BlockSizes {
            cbom: block(Feature::Zicbom, config.cbom_block),
            cboz: block(Feature::Zicboz, config.cboz_block),
            cbop: block(Feature::Zicbop, config.cbop_block),
        },
    }
}

/// What the device tree says about one hart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HartInfo {
    /// `riscv,isa`, such as `rv64imafdc_zicsr`.
    pub isa: String,
    /// `riscv,isa-base`, such as `rv64i`.
    pub isa_base: String,
    /// `riscv,isa-extensions`, in order.
    pub extensions: Vec<String>,
    /// `mmu-type`, such as `riscv,sv57`; `None` without address translation.
    pub mmu: Option<String>,
    /// Block sizes of Zicbom, Zicboz and Zicbop, in bytes, for those that it has.
    pub block_sizes: BlockSizes,
}

/// Sizes of the blocks that cache instructions work on, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BlockSizes {
    /// Zicbom: management.
    pub cbom: Option<u32>,
    /// Zicboz: zeroing.
    pub cboz: Option<u32>,
    /// Zicbop: prefetching.
    pub cbop: Option<u32>,
}

/// Numbers by which nodes refer to each other, handed out in the order QEMU does: the harts
/// come first, from the last to the first, two each.
pub(crate) struct Phandles {
    harts: u32,
    next: u32,
}

impl Phandles {
    pub fn new(harts: usize) -> Self {
        let harts = harts as u32;
        Self { harts, next: 2 * harts + 1 }
    }

    /// The next free number.
    pub fn take(&mut self) -> u32 {
        self.next += 1;
        self.next - 1
    }

    pub fn hart(&self, hart: u32) -> u32 {
        2 * (self.harts - 1 - hart) + 1
    }

    /// The interrupt controller in the hart.
    pub fn intc(&self, hart: u32) -> u32 {
        self.hart(hart) + 1
    }

    /// `interrupts-extended`: these lines of every hart, hart by hart.
    pub fn lines(&self, lines: &[u32]) -> Vec<u8> {
        let cells = (0..self.harts)
            .flat_map(|hart| lines.iter().flat_map(move |line| [self.intc(hart), *line]));
        cells.flat_map(u32::to_be_bytes).collect()
    }
}

/// The `/cpus` node: harts in one cluster.
pub(crate) fn cpus(harts: &[HartInfo], phandles: &Phandles) -> Node {
    let numbered = || (0u32..).zip(harts);
    let cores =
        numbered().map(|(n, _)| Node::new(format!("core{n}")).with("cpu", phandles.hart(n)));
    Node::new("cpus")
        .with("#address-cells", 1u32)
        .with("#size-cells", 0u32)
        .with("timebase-frequency", TIMEBASE_HZ)
        .children(numbered().map(|(n, hart)| cpu(n, hart, phandles)))
        .child(Node::new("cpu-map").child(Node::new("cluster0").children(cores)))
}

fn cpu(n: u32, hart: &HartInfo, phandles: &Phandles) -> Node {
    let extensions: Vec<&str> = hart.extensions.iter().map(String::as_str).collect();
    let controller = Node::new("interrupt-controller")
        .with("#interrupt-cells", 1u32)
        .with("interrupt-controller", ())
        .with("compatible", "riscv,cpu-intc")
        .with("phandle", phandles.intc(n));
    Node::new(format!("cpu@{n:x}"))
        .with("phandle", phandles.hart(n))
        .with("device_type", "cpu")
        .with("reg", n)
        .with("status", "okay")
        .with("compatible", "riscv")
        .with_some("riscv,cbop-block-size", hart.block_sizes.cbop)
        .with_some("riscv,cboz-block-size", hart.block_sizes.cboz)
        .with_some("riscv,cbom-block-size", hart.block_sizes.cbom)
        .with("riscv,isa-extensions", extensions.as_slice())
        .with("riscv,isa-base", hart.isa_base.as_str())
        .with("riscv,isa", hart.isa.as_str())
        .with_some("mmu-type", hart.mmu.as_deref())
        .child(controller)
}
