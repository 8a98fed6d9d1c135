//! `info qtree`: the board's own devices, with what is plugged into their buses.
//!
//! Texts as QEMU 10.0.2 shows them for its board; properties that only its implementation has are
//! left out.

use super::map::{
    CLINT, FLASH, PCIE_ECAM, PCIE_MMIO, PCIE_PIO, PLATFORM_BUS, PLATFORM_BUS_IRQS, PLIC, RTC,
    SOURCES, TEST, VIRTIO, VIRTIO_SLOTS, high_pcie_mmio,
};
use super::{Aia, VirtConfig};
use crate::Window;
use crate::harts::TIMEBASE_HZ;
use std::fmt::Write;
use virtio::Plugs;

/// Registers that the board maps by itself have no address here.
const NOWHERE: u64 = u64::MAX;

/// Text of `info qtree`; with `brief` without properties.
pub fn qtree(config: &VirtConfig, plugs: &Plugs, brief: bool) -> String {
    let mut text = "bus: main-system-bus\n  type System\n".to_owned();
    let mut out = Tree { text: &mut text, brief };
    for bank in ["virt.flash1", "virt.flash0"] {
        let name = format!("name = \"{bank}\"");
        out.device(
            "cfi.pflash01",
            "",
            &["width = 4 (0x4)".into(), name],
            &[at(NOWHERE, FLASH.len / 2)],
        );
    }
    let irq = |n: u32| format!("gpio-out \"sysbus-irq\" {n}");
    out.device("goldfish_rtc", "", &[irq(1)], &[at(RTC.base, 0x24)]);
    out.device("serial-mm", "", &[irq(1), number("regshift", 0)], &[at(NOWHERE, 8)]);
    let lines = [
        irq(PLATFORM_BUS_IRQS),
        number("num_irqs", PLATFORM_BUS_IRQS.into()),
        number("mmio_size", PLATFORM_BUS.len),
    ];
    let name = "platform-bus-device";
    out.device(name, name, &lines, &[at(NOWHERE, PLATFORM_BUS.len)]);
    out.host_bridge(config);
    out.text.push_str(&plugs.qtree_pci(4, brief));
    for slot in (0..VIRTIO_SLOTS).rev() {
        let base = VIRTIO.base + VIRTIO.len * u64::from(slot);
        let lines = [irq(1), format!("force-legacy = {}", !config.modern_slots)];
        out.device("virtio-mmio", "", &lines, &[at(base, virtio::MMIO_LEN)]);
        out.text.push_str(&plugs.qtree_slot(slot as usize, 4, brief));
    }
    out.device("riscv.sifive.test", "", &[], &[at(TEST.base, TEST.len)]);
    out.controllers(config);
    text
}

struct Tree<'a> {
    text: &'a mut String,
    brief: bool,
}

impl Tree<'_> {
    fn device(&mut self, class: &str, id: &str, lines: &[String], mmio: &[String]) {
        // A string takes every write.
        let _ = writeln!(self.text, "  dev: {class}, id \"{id}\"");
        if self.brief {
            return;
        }
        for line in lines.iter().chain(mmio) {
            let _ = writeln!(self.text, "    {line}");
        }
    }

    fn host_bridge(&mut self, config: &VirtConfig) {
        let mut lines = vec!["gpio-out \"sysbus-irq\" 4".to_owned()];
        let windows = [
            ("x-ecam", PCIE_ECAM),
            ("x-pio", PCIE_PIO),
            ("x-below-4g-mmio", PCIE_MMIO),
            ("x-above-4g-mmio", high_pcie_mmio(config.xlen, config.ram_len)),
        ];
        for (name, Window { base, len }) in windows {
            lines.push(number(&format!("{name}-base"), base));
            lines.push(number(&format!("{name}-size"), len));
        }
        let mmio =
            [at(NOWHERE, PCIE_ECAM.len), at(NOWHERE, NOWHERE), at(PCIE_PIO.base, PCIE_PIO.len)];
        self.device("gpex-pcihost", "", &lines, &mmio);
    }

    /// fw_cfg, interrupt controllers, timers and harts.
    fn controllers(&mut self, config: &VirtConfig) {
        let fw_cfg = super::map::FW_CFG.base;
        let mmio = [at(fw_cfg + 8, 2), at(fw_cfg, 8), at(fw_cfg + 16, 8)];
        self.device("fw_cfg_mem", "", &["dma_enabled = true".into()], &mmio);
        let harts = config.harts.len() as u64;
        match config.aia {
            Aia::None => {
                let contexts = vec!["MS"; config.harts.len()].join(",");
                let lines = [
                    format!("gpio-in \"\" {SOURCES}"),
                    format!("gpio-out \"\" {}", 2 * harts),
                    format!("hart-config = \"{contexts}\""),
                    number("num-sources", SOURCES.into()),
                    number("num-priorities", 7),
                ];
                self.device("riscv.sifive.plic", "", &lines, &[at(PLIC.base, PLIC.len)]);
            }
            Aia::Aplic | Aia::AplicImsic => {
                let len = super::map::aplic_len(harts);
                for base in [super::map::APLIC_S, super::map::APLIC_M] {
                    let lines = [number("num-irqs", SOURCES.into())];
                    self.device("riscv.aplic", "", &lines, &[at(base, len)]);
                }
            }
        }
        let lines = |more: &[String]| {
            let mut lines = vec![format!("gpio-out \"\" {harts}"), number("num-harts", harts)];
            lines.extend_from_slice(more);
            lines
        };
        let frequency = number("timebase-freq", TIMEBASE_HZ.into());
        let timer = CLINT.base + if config.aclint { 0 } else { timer::aclint::SWI_LEN };
        self.device("riscv.aclint.mtimer", "", &lines(&[frequency]), &[at(timer, 0x8000)]);
        if !config.aclint {
            let mmio = [at(CLINT.base, timer::aclint::SWI_LEN)];
            self.device("riscv.aclint.swi", "", &lines(&[]), &mmio);
        }
        self.device("riscv.hart_array", "", &lines(&[number("resetvec", 0x1000)])[1..], &[]);
    }
}

fn at(base: u64, len: u64) -> String {
    format!("mmio {base:016x}/{len:016x}")
}

fn number(name: &str, value: u64) -> String {
    format!("{name} = {value} ({value:#x})")
}
