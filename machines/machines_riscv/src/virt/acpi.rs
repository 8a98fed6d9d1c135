//! The board in ACPI's words, for firmware that hands ACPI tables to its kernel.
//!
//! Device ids: `RSCV0001` PLIC, `RSCV0002` APLIC, `RSCV0003` 16550 (RISC-V BRS specification);
//! `LNRO0005` virtio-mmio; `QEMU0002` fw_cfg; the rest are the ACPI specification's.

use super::{Aia, VirtConfig, map};
use crate::Window;
use crate::harts::TIMEBASE_HZ;
use acpi::aml::{self, Term};
use acpi::resource;
use acpi::table::{Harts, SerialConsole, Table, fadt, madt, mcfg, spcr};

/// Number of interrupts that PCI functions share.
const PCI_PINS: u32 = 4;
/// Slots of a PCI bus.
const PCI_SLOTS: u64 = 32;
/// "Present, enabled and working, not shown to users."
const HIDDEN: u64 = 0x0b;
/// What of PCI Express the kernel may control: hot plug of both kinds, power management events,
/// errors, capabilities.
const PCIE_CONTROLS: u64 = 0x1f;

/// The files for fw_cfg.
pub(super) fn files(config: &VirtConfig) -> Vec<(String, Vec<u8>)> {
    let console =
        SerialConsole { base: map::UART0.base, interrupt_kind: 0x10, interrupt: map::UART0_IRQ };
    let others = [
        madt_table(config),
        harts(config).table(),
        spcr(console),
        mcfg(map::PCIE_ECAM.base, 0, 0xff),
    ];
    acpi::files(&dsdt(config), &fadt(b"QEMU\0\0\0\0"), &others)
}

fn harts(config: &VirtConfig) -> Harts<'_> {
    let hart = config.harts.first();
    let mmu = hart.and_then(|hart| hart.mmu.as_deref());
    let widths = ["riscv,sv39", "riscv,sv48", "riscv,sv57"];
    Harts {
        count: config.harts.len() as u32,
        timebase: u64::from(TIMEBASE_HZ),
        isa: hart.map_or("", |hart| &hart.isa),
        blocks: hart.map_or([None; 3], |hart| {
            let sizes = hart.block_sizes;
            [sizes.cbom, sizes.cbop, sizes.cboz]
        }),
        mmu: widths.iter().position(|width| mmu == Some(width)).map(|n| n as u8),
    }
}

/// The interrupt controller of one hart.
fn rintc(config: &VirtConfig, hart: u32) -> madt::Rintc {
    let file_len = 0x1000u32 << config.guest_index_bits();
    madt::Rintc {
        hart: hart.into(),
        uid: hart,
        external: match config.aia {
            // Context 1 of the two that a hart has is the supervisor's.
            Aia::None => 2 * hart + 1,
            Aia::Aplic => hart,
            Aia::AplicImsic => 0,
        },
        imsic: match config.aia {
            Aia::AplicImsic => {
                (map::IMSIC_S.base + u64::from(hart) * u64::from(file_len), file_len)
            }
            _ => (0, 0),
        },
    }
}

fn madt_table(config: &VirtConfig) -> Table {
    let count = config.harts.len() as u32;
    let mut entries: Vec<Vec<u8>> = (0..count).map(|hart| rintc(config, hart).entry()).collect();
    let controller = controller(config);
    match config.aia {
        Aia::None => entries.push(controller.plic(0)),
        Aia::Aplic => entries.push(controller.aplic(count as u16)),
        Aia::AplicImsic => {
            let hart_bits = u32::BITS - count.saturating_sub(1).leading_zeros();
            let imsic = madt::Imsic {
                ids: map::IMSIC_IDS as u16,
                guest_ids: map::IMSIC_IDS as u16,
                index_bits: [config.guest_index_bits() as u8, hart_bits as u8, 0],
                group_shift: 24,
            };
            entries.extend([imsic.entry(), controller.aplic(0)]);
        }
    }
    madt::table(&entries)
}

/// Where the devices' lines arrive, as the supervisor sees it.
fn controller(config: &VirtConfig) -> madt::Controller {
    let (window, sources) = match config.aia {
        Aia::None => (map::PLIC, map::SOURCES - 1),
        _ => {
            let len = map::aplic_len(config.harts.len() as u64);
            (Window::new(map::APLIC_S, len), map::SOURCES)
        }
    };
    madt::Controller { sources: sources as u16, base: window.base, len: window.len as u32 }
}

/// The devices.
fn dsdt(config: &VirtConfig) -> Table {
    let mut terms: Vec<Term> = (0..config.harts.len()).map(|n| processor(config, n)).collect();
    terms.push(fw_cfg());
    terms.push(intc(config));
    terms.push(serial());
    terms.extend((0..map::VIRTIO_SLOTS).map(virtio));
    terms.extend((0..PCI_PINS).map(link));
    terms.push(pci(config));
    Table::new(b"DSDT", 2, &[aml::scope("\\_SB", &terms)])
}

fn hid(text: &str) -> Term {
    aml::name("_HID", aml::string(text))
}

fn uid(number: u32) -> Term {
    aml::name("_UID", aml::integer(number.into()))
}

fn memory(window: Window) -> Vec<u8> {
    resource::memory(window.base as u32, window.len as u32)
}

fn resources(list: &[Vec<u8>]) -> Term {
    aml::name("_CRS", resource::template(list))
}

/// DMA sees what the processors' caches hold.
fn coherent() -> Term {
    aml::name("_CCA", aml::integer(1))
}

fn processor(config: &VirtConfig, index: usize) -> Term {
    let number = index as u32;
    let madt = aml::name("_MAT", aml::buffer(&rintc(config, number).entry()));
    aml::device(&format!("C{index:03X}"), &[hid("ACPI0007"), uid(number), madt])
}

fn fw_cfg() -> Term {
    let state = aml::name("_STA", aml::integer(HIDDEN));
    let parts = [hid("QEMU0002"), state, coherent(), resources(&[memory(map::FW_CFG)])];
    aml::device("FWCF", &parts)
}

fn intc(config: &VirtConfig) -> Term {
    let id = if config.aia == Aia::None { "RSCV0001" } else { "RSCV0002" };
    let controller = controller(config);
    let window = Window::new(controller.base, controller.len.into());
    let base = aml::name("_GSB", aml::integer(0));
    aml::device("IC00", &[hid(id), uid(0), base, resources(&[memory(window)])])
}

fn serial() -> Term {
    /// "Device Properties for _DSD".
    const PROPERTIES: u128 = 0xdaff_d814_6eba_4d8c_8a91_bc9b_bf4a_a301;
    let hertz = aml::integer(map::UART0_HZ.into());
    let clock = aml::package(&[aml::string("clock-frequency"), hertz]);
    let properties = aml::package(&[aml::uuid(PROPERTIES), aml::package(&[clock])]);
    let parts = [
        hid("RSCV0003"),
        uid(0),
        resources(&[memory(map::UART0), resource::interrupt(map::UART0_IRQ)]),
        aml::name("_DSD", properties),
    ];
    aml::device("COM0", &parts)
}

fn virtio(slot: u32) -> Term {
    let Window { base, len } = map::VIRTIO;
    let window = Window::new(base + u64::from(slot) * len, len);
    let resources = resources(&[memory(window), resource::interrupt(map::VIRTIO_IRQ + slot)]);
    aml::device(&format!("VR{slot:02X}"), &[hid("LNRO0005"), uid(slot), coherent(), resources])
}

/// One of the lines that the pins of PCI functions lead to. Kernels take a line named without a link
/// for active low.
fn link(number: u32) -> Term {
    let line = || resource::template(&[resource::interrupt(map::PCIE_IRQ + number)]);
    let parts = [
        hid("PNP0C0F"),
        uid(number),
        aml::name("_PRS", line()),
        aml::name("_CRS", line()),
        // It cannot be routed otherwise.
        aml::method("_SRS", 1, &[]),
    ];
    aml::device(&link_name(number), &parts)
}

fn link_name(number: u32) -> String {
    format!("L{number:03X}")
}

fn pci(config: &VirtConfig) -> Term {
    let zero = |name: &str| aml::name(name, aml::integer(0));
    let high = map::high_pcie_mmio(config.xlen, config.ram_len);
    let ecam = aml::integer(map::PCIE_ECAM.base);
    let windows = [
        resource::buses(0, 0xff),
        resource::window_32(map::PCIE_MMIO.base as u32, map::PCIE_MMIO.len as u32),
        resource::ports(map::PCIE_PIO.base as u32, map::PCIE_PIO.len as u32),
        resource::window_64(high.base, high.len),
    ];
    let reserved = resource::window_64(map::PCIE_ECAM.base, map::PCIE_ECAM.len);
    let parts = [
        hid("PNP0A08"),
        aml::name("_CID", aml::string("PNP0A03")),
        zero("_SEG"),
        zero("_BBN"),
        uid(0),
        coherent(),
        aml::name("_PRT", routing()),
        aml::method("_CBA", 0, &[aml::give(ecam)]),
        resources(&windows),
        osc(),
        // The configuration space belongs to nobody else.
        aml::device("RES0", &[hid("PNP0C02"), resources(&[reserved])]),
    ];
    aml::device("PCI0", &parts)
}

/// Where the pins of each slot lead.
fn routing() -> Term {
    let route = |slot: u64, pin: u32| {
        let line = map::pcie_irq(slot as u32, pin) - map::PCIE_IRQ;
        let every_function = aml::integer(slot << 16 | 0xffff);
        let link = aml::path(&link_name(line));
        aml::package(&[every_function, aml::integer(pin.into()), link, aml::integer(0)])
    };
    let routes = (0..PCI_SLOTS).flat_map(|slot| (0..PCI_PINS).map(move |pin| route(slot, pin)));
    aml::package(&routes.collect::<Vec<_>>())
}

/// What the kernel may control of PCI Express itself (PCI Firmware Specification, "_OSC Interface for
/// PCI Host Bridge Devices").
fn osc() -> Term {
    const HOST_BRIDGE: u128 = 0x33db_4d5b_1ff7_401c_9657_7441_c03d_d766;
    const UNKNOWN_UUID: u64 = 4;
    const UNKNOWN_REVISION: u64 = 8;
    const MASKED: u64 = 0x10;
    let field = |name| move || aml::path(name);
    let (status, control) = (field("CDW1"), field("CDW3"));
    let mark = |bit| aml::or(status(), aml::integer(bit), status());
    let granted = || aml::local(0);
    let negotiate = [
        aml::create_dword_field(aml::arg(3), 8, "CDW3"),
        aml::and(control(), aml::integer(PCIE_CONTROLS), granted()),
        aml::if_then(aml::not(aml::equal(aml::arg(1), aml::integer(1))), &[mark(UNKNOWN_REVISION)]),
        aml::if_then(aml::not(aml::equal(control(), granted())), &[mark(MASKED)]),
        aml::store(granted(), control()),
    ];
    let body = [
        aml::create_dword_field(aml::arg(3), 0, "CDW1"),
        aml::if_then(aml::equal(aml::arg(0), aml::uuid(HOST_BRIDGE)), &negotiate),
        aml::or_else(&[mark(UNKNOWN_UUID)]),
        aml::give(aml::arg(3)),
    ];
    aml::method("_OSC", 4, &body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Xlen;
    use crate::harts::HartInfo;

    fn config(harts: usize, aia: Aia) -> VirtConfig {
        let hart = HartInfo { isa: "rv64imafdc".into(), ..HartInfo::default() };
        VirtConfig { aia, ..VirtConfig::new(Xlen::Rv64, vec![hart; harts], 1 << 30) }
    }

    /// Entries of the MADT by kind, as `qemu-system-riscv64 -M virt` 10.0.2 lists them.
    #[test]
    fn controllers_follow_aia() {
        let kinds = |aia| {
            let body = madt_table(&config(3, aia)).body;
            let mut at = 8;
            let mut kinds = Vec::new();
            while at < body.len() {
                kinds.push(body[at]);
                at += usize::from(body[at + 1]);
            }
            assert_eq!(at, body.len());
            kinds
        };
        assert_eq!(kinds(Aia::None), [0x18, 0x18, 0x18, 0x1b]);
        assert_eq!(kinds(Aia::Aplic), [0x18, 0x18, 0x18, 0x1a]);
        assert_eq!(kinds(Aia::AplicImsic), [0x18, 0x18, 0x18, 0x19, 0x1a]);
        assert_eq!(rintc(&config(3, Aia::None), 2).external, 5);
        assert_eq!(rintc(&config(3, Aia::AplicImsic), 2).imsic, (0x2800_2000, 0x1000));
    }

    #[test]
    fn most_harts_and_most_guests_have_their_tables() {
        let config = VirtConfig { aia_guests: 7, ..config(512, Aia::AplicImsic) };
        let names: Vec<String> = files(&config).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["etc/acpi/rsdp", "etc/acpi/tables", "etc/table-loader"]);
        assert_eq!(rintc(&config, 511).imsic, (0x2800_0000 + 511 * 0x8000, 0x8000));
    }
}
