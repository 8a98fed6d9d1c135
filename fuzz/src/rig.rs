//! A whole board without running processors, for targets that play the guest or restore its state.

use graph::{Disk, DiskOptions, Executor, Memory};
use machine::{Event, Events};
use machines_riscv::harts;
use machines_riscv::virt::map::{PCIE_ECAM, PCIE_MMIO, PCIE_PIO};
use machines_riscv::virt::{
    Aia, Board, BootFiles, DeviceSpec, FirmwareConfig, Inputs, VirtConfig, build,
};
use memory::{AddressSpace, Backing, Gpa, Region};
use pci::BarKind;
use riscv::{Feature, model};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, OnceLock};
use time::{Clock, WallClock};

/// Bytes of guest memory.
pub const RAM_LEN: u64 = 8 << 20;
/// Bytes of the disk behind all block devices.
const DISK_LEN: usize = 64 << 10;
/// Where 64-bit BARs go.
const HIGH: u64 = 0x4_0000_0000;

/// A board with one device of every kind.
pub struct Rig {
    /// The board.
    pub board: Board,
    /// Its clock, which stands still unless it is moved.
    pub clock: Clock,
    /// Bases of the virtio devices' registers.
    pub ports: Vec<Port>,
    _events: Receiver<Event>,
}

/// How a virtio device's registers are reached.
#[derive(Clone, Copy, Debug)]
pub enum Port {
    /// An MMIO slot with legacy registers.
    Mmio(u64),
    /// A PCI BAR with the modern structures.
    Modern(u64),
    /// A PCI BAR with legacy registers.
    Legacy(u64),
}

/// Threads that serve the disks: one, so that requests end in order.
fn executor() -> &'static Arc<Executor> {
    static EXECUTOR: OnceLock<Arc<Executor>> = OnceLock::new();
    EXECUTOR.get_or_init(|| Executor::new("block", 1))
}

/// Lends the same small disk to everybody.
struct Lent(Arc<Disk>);

impl virtio::Backends for Lent {
    fn drive(&self, _: &str) -> Option<virtio::Drive> {
        Some(virtio::Drive { disk: Arc::clone(&self.0), executor: Arc::clone(executor()) })
    }
}

fn spec(driver: &str, properties: &[(&str, &str)]) -> DeviceSpec {
    let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let properties = properties.iter().map(pair).collect();
    DeviceSpec { driver: driver.into(), properties, ..DeviceSpec::default() }
}

/// The devices, on the bus and with the rings that `kind` says.
fn devices(kind: u8) -> Vec<DeviceSpec> {
    let bus = ["device", "pci", "pci-transitional", "pci-non-transitional"][usize::from(kind & 3)];
    let packed = ("packed", if kind & 4 == 0 { "off" } else { "on" });
    let named = |name: &str, more: &[(&str, &str)]| {
        spec(&format!("virtio-{name}-{bus}"), &[&[packed], more].concat())
    };
    vec![
        named("blk", &[("drive", "d"), ("share-rw", "on")]),
        named("scsi", &[]),
        spec("scsi-hd", &[("drive", "d"), ("share-rw", "on")]),
        spec("scsi-cd", &[("drive", "d")]),
        named("serial", &[]),
        spec("virtconsole", &[]),
        named("rng", &[]),
        named("balloon", &[]),
        named("net", &[]),
    ]
}

impl Rig {
    /// The board whose interrupt controllers, buses and rings the bits of `kind` choose.
    ///
    /// # Panics
    /// The board cannot be made.
    pub fn new(kind: u8) -> Self {
        let clock = Clock::manual();
        let mut cpu = model::parse("rv64").expect("a known model");
        let aia = [Aia::None, Aia::Aplic, Aia::AplicImsic][usize::from(kind >> 3 & 3).min(2)];
        if aia == Aia::AplicImsic {
            cpu.features = cpu.features.set(Feature::Smaia, true).set(Feature::Ssaia, true);
        }
        let harts = vec![harts::info(&cpu)];
        let config = VirtConfig { aia, ..VirtConfig::new(harts::xlen(&cpu), harts, RAM_LEN) };
        let options = DiskOptions { discard: true, ..DiskOptions::default() };
        let disk = Disk::new(Arc::new(Memory::new(vec![0; DISK_LEN], false)), options);
        let (events, requests) = Events::channel();
        let inputs = Inputs {
            config,
            cpu,
            clock: clock.clone(),
            wall: WallClock::starting_at(clock.clone(), 1_000_000_000),
            events,
            threading: machine::Threading::Multi,
            translator: runtime::Options {
                interpret: true,
                code_bytes: 1 << 20,
                ..runtime::Options::default()
            },
            serial: None,
            flash: [None, None],
            boot: BootFiles::default(),
            firmware: FirmwareConfig::default(),
            devices: devices(kind),
            backends: &Lent(Arc::new(disk)),
        };
        let board = build(inputs).unwrap_or_else(|error| panic!("{error}"));
        let mut rig = Self { board, clock, ports: Vec::new(), _events: requests };
        rig.ports = rig.place();
        rig
    }

    /// The processors' address space.
    pub fn space(&self) -> &Arc<AddressSpace> {
        self.board.machine.space()
    }

    /// Loads from anywhere; zero where nothing answers.
    pub fn load(&self, at: u64, size: u32) -> u64 {
        self.space().load(Gpa(at), size).unwrap_or(0)
    }

    /// Stores to anywhere; nothing happens where nothing answers.
    pub fn store(&self, at: u64, size: u32, value: u64) {
        let _nothing_there = self.space().store(Gpa(at), size, value);
    }

    /// Gives the BARs their addresses, as firmware does.
    fn place(&self) -> Vec<Port> {
        // A slot without a device has no device id.
        let slots = (0..8).map(|n| 0x1000_1000 + 0x1000 * n);
        let taken = slots.filter(|base| self.load(base + 8, 4) != 0);
        let mut ports: Vec<Port> = taken.map(Port::Mmio).collect();
        let mut next = [0x1000, PCIE_MMIO.base, HIGH];
        for (at, device) in self.board.pci.devices() {
            let config = PCIE_ECAM.base + (u64::from(at.0) << 12);
            for (index, bar, _) in device.function().bars() {
                let kind = bar.kind as usize;
                let base = next[kind].next_multiple_of(bar.len.max(0x1000));
                next[kind] = base + bar.len.max(0x1000);
                let register = config + 0x10 + 4 * index as u64;
                self.store(register, 4, base & 0xffff_ffff);
                match bar.kind {
                    BarKind::Io => ports.push(Port::Legacy(PCIE_PIO.base + base)),
                    BarKind::Memory32 => {}
                    BarKind::Memory64 => {
                        self.store(register + 4, 4, base >> 32);
                        ports.push(Port::Modern(base));
                    }
                }
            }
            self.store(config + 4, 2, 7);
        }
        ports
    }

    /// Regions that have registers behind them.
    pub fn registers(&self) -> Vec<Arc<Region>> {
        let mut regions = self.space().regions();
        regions.retain(|region| match &region.backing {
            Backing::Io(_) => true,
            Backing::Rom { writes, .. } => writes.is_some(),
            Backing::Ram { .. } => false,
        });
        regions
    }

    /// Waits for the requests that are under way.
    pub fn settle(&self) {
        let (done, wait) = channel();
        executor().spawn(move || {
            let _nobody_waits = done.send(());
        });
        wait.recv().expect("the executor runs every job");
    }

    /// Pulls an interrupt input of the processor.
    pub fn set_line(&self, line: u32, level: bool) {
        if let Some(link) = self.board.machine.link(0) {
            link.set_line(line, level);
        }
    }
}
