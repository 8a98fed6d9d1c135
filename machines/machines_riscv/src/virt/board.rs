//! The board itself: which part is at which address, on which line.

use super::map::{
    ACLINT_SSWI, CLINT, DRAM, FLASH, FW_CFG, MROM, PCIE_ECAM, PCIE_IRQ, PCIE_MMIO, PCIE_PIO, RTC,
    RTC_IRQ, TEST, UART0, UART0_HZ, UART0_IRQ, VIRTIO, VIRTIO_IRQ, VIRTIO_SLOTS, high_pcie_mmio,
};
use super::{Aia, FirmwareConfig, VirtConfig, device_tree, interrupts};
use crate::Window;
use crate::assemble;
use crate::clint;
use crate::harts::{self, Harts, TIMEBASE_HZ};
use crate::inputs::{BootFiles, BuildError, add_roms, map_rom};
use chardev::{Port, Sink};
use device::{Shared, Wire};
use machine::{Builder, Events, Machine};
use memory::Ram;
use misc::{FlashConfig, FlashStore, FwCfg, PflashCfi01, SifiveTest};
use pci::{PciHost, Windows};
use riscv::Riscv;
use runtime::CodeCache;
use serial::{Discard, Ns16550a};
use std::sync::Arc;
use time::{Clock, Counter, WallClock};
use timer::GoldfishRtc;
use virtio::{Backends, Plugs, Spec, VirtioMmio};

/// All that the board is made from.
pub struct Inputs<'a> {
    /// Shape of the board.
    pub config: VirtConfig,
    /// What every hart can do.
    pub cpu: riscv::Config,
    /// Virtual time.
    pub clock: Clock,
    /// The calendar.
    pub wall: WallClock,
    /// Where requests of the guest go.
    pub events: Events,
    /// How processors share host threads.
    pub threading: machine::Threading,
    /// How code is translated.
    pub translator: runtime::Options,
    /// Host side of the serial port.
    pub serial: Option<Port>,
    /// Contents of the two flash banks.
    pub flash: [Option<Box<dyn FlashStore>>; 2],
    /// Firmware, kernel and their like.
    pub boot: BootFiles,
    /// Settings for the firmware.
    pub firmware: FirmwareConfig,
    /// Devices to plug in, in the order of the command line.
    pub devices: Vec<DeviceSpec>,
    /// Host resources that they name.
    pub backends: &'a dyn Backends,
}

/// A device of the command line.
#[derive(Clone, Debug, Default)]
pub struct DeviceSpec {
    /// Its class.
    pub driver: String,
    /// Its id, if it has one.
    pub id: Option<String>,
    /// Its other properties, `bus` among them.
    pub properties: Vec<(String, String)>,
    /// The option as written, for messages.
    pub origin: String,
}

/// A finished board.
pub struct Board {
    /// The machine, paused.
    pub machine: Machine,
    /// The serial port.
    pub serial: Shared<Ns16550a>,
    /// Takes the input of the serial port as long as it lives.
    pub serial_input: Option<Arc<dyn Sink>>,
    /// The PCI host bridge.
    pub pci: Arc<PciHost>,
    /// What is plugged where, for `info qtree`.
    pub plugs: Plugs,
    /// The device tree that the firmware gets.
    pub fdt: Vec<u8>,
    /// The code cache, for `info jit`.
    pub cache: Arc<CodeCache>,
}

/// Builds the board.
///
/// # Errors
/// A file does not fit into the machine, a device is wrong, or the host has no memory.
pub fn build(inputs: Inputs<'_>) -> Result<Board, BuildError> {
    let mut b = Builder::new(inputs.clock.clone());
    b.threading = inputs.threading;
    let host = |what| move |error| BuildError::Host(what, error);
    let ram = Ram::new("riscv_virt_board.ram", inputs.config.ram_len)
        .map_err(host("cannot set up guest memory 'riscv_virt_board.ram'"))?;
    b.space.map_ram(DRAM, &ram);
    let mrom = Ram::new("riscv_virt_board.mrom", MROM.len).map_err(host("guest memory"))?;
    map_rom(&b.space, MROM, &mrom);

    let cache = CodeCache::new(<Riscv as isa::Guest>::registers(), inputs.translator)
        .map_err(host("cannot set up memory for translated code"))?;
    let mtime = Counter::new(inputs.clock.clone(), u64::from(TIMEBASE_HZ));
    let files = interrupts::files(&inputs.config);
    let common = harts::Common { config: &inputs.cpu, mtime: &mtime, cache: &cache };
    let harts = harts::add(&mut b, &common, inputs.config.harts.len(), &files);
    add_local(&mut b, &inputs.config, &mtime, &harts);
    let controller = interrupts::add(&mut b, &inputs.config, &harts.lines, files);
    let irq = |n: u32| Wire::to(Arc::clone(&controller), n);

    let uart = serial::Config { clock_hz: u64::from(UART0_HZ), ..serial::Config::default() };
    let serial = Ns16550a::new(uart, irq(UART0_IRQ), &inputs.clock, Box::new(Discard));
    let serial_input = inputs.serial.map(|port| serial::attach(&serial, &port));
    b.space.map_io("serial", UART0.base, UART0.len, Arc::new(serial.clone()));
    b.part("/machine/serial0", serial.clone());

    let rtc = GoldfishRtc::new(irq(RTC_IRQ), inputs.wall);
    b.space.map_io("goldfish_rtc", RTC.base, RTC.len, Arc::new(rtc.clone()));
    b.part("/machine/rtc", rtc);

    let test = Shared::new(SifiveTest::new(Arc::new(inputs.events)));
    b.space.map_io("riscv.sifive.test", TEST.base, TEST.len, Arc::new(test.clone()));
    b.part("/machine/test", test);

    let fw_cfg = Shared::new(FwCfg::new(Arc::clone(&b.space)));
    b.space.map_io("fw_cfg", FW_CFG.base, FW_CFG.len, Arc::new(fw_cfg.clone()));
    b.part("/machine/fw_cfg", fw_cfg.clone());

    let has_flash = inputs.flash[0].is_some();
    add_flash(&mut b, inputs.flash)?;
    let pci = add_pci(&mut b, &inputs.config, irq);
    let legacy = !inputs.config.modern_slots;
    let slots = (0..VIRTIO_SLOTS)
        .map(|n| VirtioMmio::new(irq(VIRTIO_IRQ + n), Arc::clone(&b.space), legacy))
        .collect();
    let plugs = plug_devices(&mut b, &pci, slots, &inputs.devices, inputs.backends)?;

    let order = plugs.boot_order(|slot| VIRTIO.base + VIRTIO.len * slot as u64);
    inputs.firmware.offer(&inputs.config, &order, &mut fw_cfg.lock())?;
    let fdt = load_files(&mut b, &inputs.config, &inputs.boot, has_flash, &fw_cfg)?;
    let machine = b.build().map_err(host("cannot start a thread"))?;
    Ok(Board { machine, serial, serial_input, pci, plugs, fdt, cache })
}

/// Timer and software interrupts: a CLINT or the same as ACLINT; an ACLINT beside IMSICs is only
/// the timer.
fn add_local(b: &mut Builder, config: &VirtConfig, mtime: &Counter, harts: &Harts) {
    if config.aclint && config.aia == Aia::AplicImsic {
        return clint::add_mtimer(b, CLINT.base, mtime, harts);
    }
    clint::add_clint(b, CLINT.base, mtime, harts);
    if config.aclint {
        clint::add_sswi(b, ACLINT_SSWI.base, harts);
    }
}

fn add_flash(b: &mut Builder, stores: [Option<Box<dyn FlashStore>>; 2]) -> Result<(), BuildError> {
    for (bank, store) in stores.into_iter().enumerate() {
        let name = ["virt.flash0", "virt.flash1"][bank];
        let flash = PflashCfi01::open(FlashConfig::virt(name), store)
            .map_err(|error| BuildError::Host(name, error))?;
        flash.lock().map(&b.space, FLASH.base + bank as u64 * (FLASH.len / 2));
        b.part(format!("/machine/{name}"), flash);
    }
    Ok(())
}

/// The PCI Express host bridge.
fn add_pci(b: &mut Builder, config: &VirtConfig, irq: impl Fn(u32) -> Wire) -> Arc<PciHost> {
    let pair = |w: Window| (w.base, w.len);
    let windows = Windows {
        ecam: pair(PCIE_ECAM),
        mmio_low: pair(PCIE_MMIO),
        mmio_high: pair(high_pcie_mmio(config.xlen, config.ram_len)),
        pio: pair(PCIE_PIO),
    };
    let irqs = [0, 1, 2, 3].map(|n| irq(PCIE_IRQ + n));
    PciHost::new(Arc::clone(&b.space), windows, irqs)
}

/// Puts devices where their buses are.
fn plug_devices(
    b: &mut Builder,
    pci: &Arc<PciHost>,
    slots: Vec<Arc<VirtioMmio>>,
    given: &[DeviceSpec],
    backends: &dyn Backends,
) -> Result<Plugs, BuildError> {
    let mut plugs = Plugs::new(Arc::clone(&b.space), Some(Arc::clone(pci)), slots);
    for spec in given {
        let problem = |error: virtio::BuildError| {
            let hint = error.hint.map_or_else(String::new, |hint| format!("\n{hint}"));
            BuildError::Device(spec.origin.clone(), error.message + &hint)
        };
        let id = spec.id.as_deref();
        let device = Spec { driver: &spec.driver, id, properties: &spec.properties };
        plugs.add(device, backends).map_err(problem)?;
    }
    for (n, slot) in plugs.slots().iter().enumerate() {
        let base = VIRTIO.base + VIRTIO.len * n as u64;
        b.space.map_io("virtio-mmio", base, virtio::MMIO_LEN, slot.clone());
        b.parts.push((format!("/machine/virtio-mmio{n}"), slot.clone()));
    }
    for (at, device) in pci.devices() {
        let (slot, function) = (at.slot(), at.function());
        b.parts.push((format!("/machine/pci/{slot:02x}.{function}"), device));
    }
    Ok(plugs)
}

/// Puts firmware, kernel and device tree in their places; the result is the latter.
fn load_files(
    b: &mut Builder,
    config: &VirtConfig,
    files: &BootFiles,
    flash: bool,
    fw_cfg: &Shared<FwCfg>,
) -> Result<Vec<u8>, BuildError> {
    let tree = files.tree(|| device_tree(config))?;
    let board = assemble::Board {
        xlen: config.xlen,
        ram: Window::new(DRAM, config.ram_len),
        flash: flash.then_some(FLASH.base),
    };
    let mut assembly = assemble::assemble(board, files.borrow(), tree).map_err(BuildError::Boot)?;
    add_roms(b, &mut assembly, MROM);
    for (key, bytes) in assembly.fw_cfg {
        fw_cfg.lock().set(key, bytes);
    }
    Ok(assembly.tree.to_blob())
}
