//! Everything on the board but harts, virtio and PCI: devices at their addresses, tied to their
//! lines.

use super::{Aia, VirtConfig, map};
use crate::Window;
use crate::assemble::Assembly;
use crate::boot::RESET_ADDRESS;
use crate::harts::TIMEBASE_HZ;
use crate::imsic::HartFiles;
use device::{LineSink, MachineControl, MsiSink, Part, Shared, Wire};
use intc::{
    Aplic, AplicConfig, Domain, DomainWindow, Imsic, ImsicRouter, InterruptFile, Plic, PlicConfig,
};
use memory::{AddressSpace, Backing, Gpa, IoHandler, Ram, Region};
use misc::fw_cfg::{FwCfg, keys};
use misc::{FlashConfig, FlashError, FlashStore, PflashCfi01, SifiveTest};
use serial::{Config as SerialConfig, Ns16550a, SerialBackend};
use std::io;
use std::sync::Arc;
use time::{Clock, Counter, WallClock};
use timer::{GoldfishRtc, Mswi, Mtimer, MtimerLayout, Sswi};

/// Bits of a priority at an APLIC.
const APLIC_PRIORITY_BITS: u32 = 3;
/// Highest priority at the PLIC.
const PLIC_MAX_PRIORITY: u32 = 7;

/// Input lines of a hart.
mod line {
    pub const SSI: u32 = 1;
    pub const MSI: u32 = 3;
    pub const MTI: u32 = 7;
    pub const SEI: u32 = 9;
    pub const MEI: u32 = 11;
}

/// What the board is tied to.
pub struct Inputs {
    /// Where everything is mapped.
    pub space: Arc<AddressSpace>,
    /// Virtual time.
    pub clock: Clock,
    /// The guest's calendar.
    pub wall: WallClock,
    /// The machine: takes requests to stop and reset.
    pub control: Arc<dyn MachineControl>,
    /// Input lines of the harts, in order.
    pub harts: Vec<Arc<dyn LineSink>>,
    /// Host side of the UART.
    pub serial: Box<dyn SerialBackend>,
    /// Contents of the flash banks, for those that the user gave any.
    pub flash: [Option<Box<dyn FlashStore>>; 2],
}

/// Why the board cannot be built.
#[derive(Debug)]
pub enum BuildError {
    /// The host has no memory for this block.
    Memory(&'static str, io::Error),
    /// Flash bank number and what is wrong with it.
    Flash(usize, FlashError),
}

impl std::fmt::Display for BuildError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Memory(name, error) => {
                write!(f, "cannot set up guest memory '{name}': {error}")
            }
            Self::Flash(n, error) => {
                write!(f, "cfi.pflash01 device '/machine/virt.flash{n}' (pflash{n}): {error}")
            }
        }
    }
}

impl std::error::Error for BuildError {}

/// The board but for harts, virtio and PCI.
pub struct Platform {
    /// RAM.
    pub ram: Arc<Ram>,
    /// Mask ROM.
    pub mrom: Arc<Ram>,
    /// The harts' `time`.
    pub mtime: Counter,
    /// UART.
    pub uart: Shared<Ns16550a>,
    /// Firmware configuration.
    pub fw_cfg: Shared<FwCfg>,
    /// Flash banks; their contents are RAM blocks to be saved with the others.
    pub flash: [Shared<PflashCfi01>; 2],
    /// Interrupt files of the harts, with `aia=aplic-imsic`.
    pub imsic: Vec<HartFiles>,
    /// Where messages from devices go, with `aia=aplic-imsic`.
    pub messages: Option<Arc<dyn MsiSink>>,
    /// All devices by name, for reset, save and restore: controllers first.
    pub parts: Vec<(&'static str, Arc<dyn Part>)>,
    /// Takes the devices' lines.
    controller: Arc<dyn LineSink>,
}

impl Platform {
    /// Makes the devices of the board and maps them.
    ///
    /// # Errors
    /// The host has no memory, or a flash bank's contents do not fit.
    pub fn build(config: &VirtConfig, inputs: Inputs) -> Result<Self, BuildError> {
        let Inputs { space, clock, wall, control, harts, serial, flash } = inputs;
        let memory = |name, len| Ram::new(name, len).map_err(|e| BuildError::Memory(name, e));
        let ram = memory("riscv_virt_board.ram", config.ram_len)?;
        space.map_ram(map::DRAM, &ram);
        let mrom = memory("riscv_virt_board.mrom", map::MROM.len)?;
        map_rom(&space, map::MROM, &mrom);

        let mut board = Wiring { space, harts, parts: Vec::new() };
        let mtime = Counter::new(clock.clone(), TIMEBASE_HZ.into());
        let (controller, imsic, messages) = board.controllers(config);
        board.local_interruptors(config, &mtime);
        let irq = |n| Wire::to(Arc::clone(&controller), n);

        board.device("riscv.sifive.test", map::TEST, Shared::new(SifiveTest::new(control)));
        let rtc_window = Window::new(map::RTC.base, GoldfishRtc::LEN);
        board.device("goldfish_rtc", rtc_window, GoldfishRtc::new(irq(map::RTC_IRQ), wall));
        let uart_config =
            SerialConfig { clock_hz: map::UART0_HZ.into(), ..SerialConfig::default() };
        let uart = Ns16550a::new(uart_config, irq(map::UART0_IRQ), &clock, serial);
        let uart_window = Window::new(map::UART0.base, uart.lock().len());
        board.device("serial", uart_window, uart.clone());
        let fw_cfg = Shared::new(fw_cfg(config, &board.space));
        board.device("fw_cfg", map::FW_CFG, fw_cfg.clone());
        let [bank0, bank1] = flash;
        let flash = [board.flash(0, bank0)?, board.flash(1, bank1)?];
        let parts = board.parts;
        Ok(Self { ram, mrom, mtime, uart, fw_cfg, flash, imsic, messages, parts, controller })
    }

    /// A wire to line `n` of the board's interrupt controller.
    pub fn irq(&self, n: u32) -> Wire {
        Wire::to(Arc::clone(&self.controller), n)
    }

    /// Puts firmware, kernel and all into place; again after every reset.
    pub fn load(&self, assembly: &Assembly) {
        let _fits = self.mrom.write(RESET_ADDRESS - map::MROM.base, &assembly.rom);
        for loaded in &assembly.ram {
            let piece = &loaded.piece;
            let at = piece.at.wrapping_sub(map::DRAM);
            let _was_checked = self.ram.write(at, &piece.bytes);
            self.zero(at + piece.bytes.len() as u64, piece.len - piece.bytes.len() as u64);
        }
        let mut fw_cfg = self.fw_cfg.lock();
        assembly.fw_cfg.iter().for_each(|(key, bytes)| fw_cfg.set(*key, bytes.clone()));
    }

    /// Zeroes RAM, leaving alone what is zero already so that it costs no host memory.
    fn zero(&self, at: u64, len: u64) {
        const CHUNK: u64 = 1 << 16;
        let mut buffer = vec![0; CHUNK.min(len) as usize];
        for start in (at..at.saturating_add(len)).step_by(CHUNK as usize) {
            let chunk = &mut buffer[..(at + len - start).min(CHUNK) as usize];
            if self.ram.read(start, chunk) && chunk.iter().any(|b| *b != 0) {
                chunk.fill(0);
                let _was_read = self.ram.write(start, chunk);
            }
        }
    }
}

/// Maps all of `rom` read-only.
fn map_rom(space: &AddressSpace, window: Window, rom: &Arc<Ram>) {
    space.map(Region {
        name: rom.name().into(),
        base: Gpa(window.base),
        len: window.len,
        priority: 0,
        backing: Backing::Rom { ram: Arc::clone(rom), offset: 0, writes: None },
    });
}

/// A device with the blobs that every machine has.
fn fw_cfg(config: &VirtConfig, space: &Arc<AddressSpace>) -> FwCfg {
    let mut device = FwCfg::new(Arc::clone(space));
    device.set(keys::NB_CPUS, (config.harts.len() as u16).to_le_bytes().to_vec());
    device
}

/// The board while it is built.
struct Wiring {
    space: Arc<AddressSpace>,
    harts: Vec<Arc<dyn LineSink>>,
    parts: Vec<(&'static str, Arc<dyn Part>)>,
}

impl Wiring {
    /// Maps a device and takes note of it.
    fn device<D>(&mut self, name: &'static str, window: Window, device: Shared<D>)
    where
        D: device::MmioDevice + 'static,
    {
        self.map(name, window, Arc::new(device.clone()));
        self.parts.push((name, Arc::new(device)));
    }

    fn map(&self, name: &str, window: Window, io: Arc<dyn IoHandler>) {
        self.space.map_io(name, window.base, window.len, io);
    }

    /// A wire to the same line of every hart.
    fn lines(&self, line: u32) -> Vec<Wire> {
        self.harts.iter().map(|hart| Wire::to(Arc::clone(hart), line)).collect()
    }

    /// What takes the devices' lines, the harts' interrupt files and the way to them.
    #[expect(clippy::type_complexity, reason = "three results that one caller takes apart")]
    fn controllers(
        &mut self,
        config: &VirtConfig,
    ) -> (Arc<dyn LineSink>, Vec<HartFiles>, Option<Arc<dyn MsiSink>>) {
        let shape = AplicConfig {
            sources: map::SOURCES,
            harts: self.harts.len() as u32,
            priority_bits: APLIC_PRIORITY_BITS,
        };
        match config.aia {
            Aia::None => (self.plic(), Vec::new(), None),
            Aia::Aplic => {
                let aplic = Aplic::direct(shape, self.lines(line::MEI), self.lines(line::SEI));
                (self.aplic(aplic), Vec::new(), None)
            }
            Aia::AplicImsic => {
                let (files, router) = self.imsics(config);
                let aplic = Aplic::with_messages(shape, Arc::clone(&router));
                (self.aplic(aplic), files, Some(router))
            }
        }
    }

    fn plic(&mut self) -> Arc<dyn LineSink> {
        let contexts = self.lines(line::MEI).into_iter().zip(self.lines(line::SEI));
        let outputs = contexts.flat_map(|(machine, supervisor)| [machine, supervisor]).collect();
        let config = PlicConfig { sources: map::SOURCES, max_priority: PLIC_MAX_PRIORITY };
        let plic = Shared::new(Plic::new(config, outputs));
        self.device("riscv.sifive.plic", map::PLIC, plic.clone());
        Arc::new(plic)
    }

    fn aplic(&mut self, aplic: Shared<Aplic>) -> Arc<dyn LineSink> {
        let len = map::aplic_len(self.harts.len() as u64);
        for (domain, base) in [(Domain::Machine, map::APLIC_M), (Domain::Supervisor, map::APLIC_S)]
        {
            let window = Arc::new(DomainWindow::new(aplic.clone(), domain));
            self.map("riscv.aplic", Window::new(base, len), window);
        }
        self.parts.push(("riscv.aplic", Arc::new(aplic.clone())));
        Arc::new(aplic)
    }

    /// The interrupt files: one per hart at the machine level; one and its guests' at the other.
    fn imsics(&mut self, config: &VirtConfig) -> (Vec<HartFiles>, Arc<dyn MsiSink>) {
        let files = |wires: Vec<Wire>| -> Vec<Arc<InterruptFile>> {
            wires.into_iter().map(|wire| InterruptFile::new(map::IMSIC_IDS, wire)).collect()
        };
        let machine = files(self.lines(line::MEI));
        let supervisor = files(self.lines(line::SEI));
        // Guest files have pages and no hart that looks at them: there is no hypervisor mode yet.
        let guests = (1usize << config.guest_index_bits()) - 1;
        let pages: Vec<Arc<InterruptFile>> = supervisor
            .iter()
            .flat_map(|own| {
                std::iter::once(Arc::clone(own)).chain(files(vec![Wire::default(); guests]))
            })
            .collect();
        let levels = vec![(map::IMSIC_M.base, machine.clone()), (map::IMSIC_S.base, pages)];
        for (name, (base, files)) in ["riscv.imsic.m", "riscv.imsic.s"].into_iter().zip(&levels) {
            let imsic = Arc::new(Imsic::new(files.clone()));
            self.map("riscv.imsic", Window::new(*base, imsic.len()), imsic.clone());
            self.parts.push((name, imsic));
        }
        let pairs = machine.into_iter().zip(supervisor);
        let harts = pairs.map(|(machine, supervisor)| HartFiles { machine, supervisor }).collect();
        (harts, ImsicRouter::new(levels))
    }

    /// CLINT or ACLINT; with IMSICs an ACLINT is only the timer.
    fn local_interruptors(&mut self, config: &VirtConfig, mtime: &Counter) {
        let base = map::CLINT.base;
        let only_timer = config.aclint && config.aia == Aia::AplicImsic;
        if !only_timer {
            let mswi = Shared::new(Mswi::new(self.lines(line::MSI)));
            self.device("riscv.aclint.swi", Window::new(base, timer::aclint::SWI_LEN), mswi);
        }
        if config.aclint && !only_timer {
            let sswi = Shared::new(Sswi::new(self.lines(line::SSI)));
            self.device("riscv.aclint.sswi", map::ACLINT_SSWI, sswi);
        }
        let layout = MtimerLayout::CLINT;
        let at = if only_timer { base } else { base + timer::aclint::SWI_LEN };
        let mtimer = Mtimer::new(layout, mtime.clone(), self.lines(line::MTI));
        self.device("riscv.aclint.mtimer", Window::new(at, layout.len), mtimer);
    }

    fn flash(
        &mut self,
        n: usize,
        store: Option<Box<dyn FlashStore>>,
    ) -> Result<Shared<PflashCfi01>, BuildError> {
        const NAMES: [&str; 2] = ["virt.flash0", "virt.flash1"];
        let config = FlashConfig::virt(NAMES[n]);
        let bank = PflashCfi01::open(config, store).map_err(|e| BuildError::Flash(n, e))?;
        bank.lock().map(&self.space, map::FLASH.base + n as u64 * config.len);
        self.parts.push((NAMES[n], Arc::new(bank.clone())));
        Ok(bank)
    }
}

#[cfg(test)]
#[path = "platform_tests.rs"]
mod tests;
