//! What is where, and on which line.

use crate::{Window, Xlen};

/// Debug module (nothing there yet).
pub const DEBUG: Window = Window::new(0x0, 0x100);
/// Mask ROM with the reset vector.
pub const MROM: Window = Window::new(0x1000, 0xf000);
/// SiFive test finisher.
pub const TEST: Window = Window::new(0x10_0000, 0x1000);
/// Goldfish real-time clock.
pub const RTC: Window = Window::new(0x10_1000, 0x1000);
/// Core-local interruptor: software interrupts, then the timer.
pub const CLINT: Window = Window::new(0x200_0000, 0x1_0000);
/// ACLINT supervisor software interrupts.
pub const ACLINT_SSWI: Window = Window::new(0x2f0_0000, 0x4000);
/// Port I/O of PCI.
pub const PCIE_PIO: Window = Window::new(0x300_0000, 0x1_0000);
/// Devices plugged in with `-device` that have registers only.
pub const PLATFORM_BUS: Window = Window::new(0x400_0000, 0x200_0000);
/// PLIC.
pub const PLIC: Window = Window::new(0xc00_0000, 0x60_0000);
/// APLIC of the machine level, in place of the PLIC.
pub const APLIC_M: u64 = 0xc00_0000;
/// APLIC of the supervisor level.
pub const APLIC_S: u64 = 0xd00_0000;
/// NS16550A UART.
pub const UART0: Window = Window::new(0x1000_0000, 0x100);
/// First of the virtio-mmio slots.
pub const VIRTIO: Window = Window::new(0x1000_1000, 0x1000);
/// fw_cfg.
pub const FW_CFG: Window = Window::new(0x1010_0000, 0x18);
/// Two flash banks, one after the other.
pub const FLASH: Window = Window::new(0x2000_0000, 0x400_0000);
/// Machine-level interrupt files of the harts.
pub const IMSIC_M: Window = Window::new(0x2400_0000, 0x400_0000);
/// Supervisor-level interrupt files of the harts.
pub const IMSIC_S: Window = Window::new(0x2800_0000, 0x400_0000);
/// Configuration space of PCI Express.
pub const PCIE_ECAM: Window = Window::new(0x3000_0000, 0x1000_0000);
/// 32-bit memory of PCI.
pub const PCIE_MMIO: Window = Window::new(0x4000_0000, 0x4000_0000);
/// Start of RAM.
pub const DRAM: u64 = 0x8000_0000;

/// Everything at a fixed address, by name.
pub const WINDOWS: &[(&str, Window)] = &[
    ("debug", DEBUG),
    ("mrom", MROM),
    ("test", TEST),
    ("rtc", RTC),
    ("clint", CLINT),
    ("aclint_sswi", ACLINT_SSWI),
    ("pcie_pio", PCIE_PIO),
    ("platform_bus", PLATFORM_BUS),
    ("plic", PLIC),
    ("aplic_s", Window::new(APLIC_S, APLIC_LEN_MAX)),
    ("uart0", UART0),
    ("virtio", Window::new(VIRTIO.base, VIRTIO.len * VIRTIO_SLOTS as u64)),
    ("fw_cfg", FW_CFG),
    ("flash", FLASH),
    ("imsic_m", IMSIC_M),
    ("imsic_s", IMSIC_S),
    ("pcie_ecam", PCIE_ECAM),
    ("pcie_mmio", PCIE_MMIO),
];

/// Number of virtio-mmio slots.
pub const VIRTIO_SLOTS: u32 = 8;
/// Line of the first virtio-mmio slot; the others follow.
pub const VIRTIO_IRQ: u32 = 1;
/// Line of the UART.
pub const UART0_IRQ: u32 = 10;
/// Line of the real-time clock.
pub const RTC_IRQ: u32 = 11;
/// Line of PCI interrupt A of slot 0; the lines of the other three follow.
pub const PCIE_IRQ: u32 = 32;
/// Lines of the PCI interrupts.
pub const PCIE_IRQS: u32 = 4;
/// First line of the platform bus.
pub const PLATFORM_BUS_IRQ: u32 = 64;
/// Lines of the platform bus.
pub const PLATFORM_BUS_IRQS: u32 = 32;
/// Interrupt sources with source 0, which does not exist.
pub const SOURCES: u32 = 96;
/// Interrupt identities of an IMSIC's file.
pub const IMSIC_IDS: u32 = 255;
/// Input clock of the UART in Hz.
pub const UART0_HZ: u32 = 3_686_400;

/// Bytes of an APLIC's registers at most.
const APLIC_LEN_MAX: u64 = 0x8000;
/// Granule of the 64-bit memory of PCI.
const HIGH_PCIE: u64 = 16 << 30;

/// Bytes that an APLIC for `harts` harts takes.
pub fn aplic_len(harts: u64) -> u64 {
    0x4000u64.saturating_add((harts.saturating_mul(32)).next_multiple_of(0x4000))
}

/// 64-bit memory of PCI: behind RAM.
pub fn high_pcie_mmio(xlen: Xlen, ram_len: u64) -> Window {
    match xlen {
        Xlen::Rv32 => Window::new(0x3_0000_0000, 4 << 30),
        Xlen::Rv64 => {
            let ram_end = DRAM.saturating_add(ram_len).min(1 << 55);
            Window::new(ram_end.next_multiple_of(HIGH_PCIE), HIGH_PCIE)
        }
    }
}

/// Line that interrupt `pin` (0 for A) of the device in `slot` of bus 0 arrives at.
pub fn pcie_irq(slot: u32, pin: u32) -> u32 {
    PCIE_IRQ + (slot.wrapping_add(pin)) % PCIE_IRQS
}
