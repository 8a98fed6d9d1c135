//! A small driver for tests: split and packed rings in RAM, over any transport.

use crate::core::feature;
use crate::{PciConfig, VirtioDevice, VirtioMmio, VirtioPci, blk};
use device::{RecordedLines, Wire};
use graph::{Disk, DiskOptions, Executor, Memory};
use memory::{AddressSpace, Gpa, IoHandler, Ram};
use pci::{PciDevice, PciHost, Windows};
use std::sync::{Arc, Mutex};

pub const RAM: u64 = 0x8000_0000;
pub const RAM_LEN: u64 = 0x40_0000;
const SLOT: u64 = 0x1000_1000;
/// Each queue has this much room for its parts.
const QUEUE_ROOM: u64 = 0x1_0000;
pub const BUFFERS: u64 = RAM + 0x20_0000;

/// How a driver reaches a device.
pub trait Transport {
    fn features(&self) -> u64;
    fn accept(&self, features: u64);
    fn set_status(&self, status: u8);
    fn status(&self) -> u8;
    fn place(&self, queue: u16, size: u16, desc: u64, driver: u64, device: u64);
    fn notify(&self, queue: u16);
    fn config(&self, offset: u64, size: u32) -> u64;
    /// Whether rings have the legacy layout.
    fn legacy(&self) -> bool {
        false
    }
}

pub struct Machine {
    pub space: Arc<AddressSpace>,
}

impl Machine {
    pub fn new() -> Self {
        let (space, ram) = (AddressSpace::new("memory"), Ram::new("ram", RAM_LEN).unwrap());
        space.map_ram(RAM, &ram);
        Self { space }
    }
    pub fn read(&self, at: u64, len: usize) -> Vec<u8> {
        let mut b = vec![0; len];
        self.space.read(Gpa(at), &mut b).unwrap();
        b
    }
    pub fn write(&self, at: u64, bytes: &[u8]) {
        self.space.write(Gpa(at), bytes).unwrap();
    }
    pub fn load(&self, at: u64, size: u32) -> u64 {
        self.space.load(Gpa(at), size).unwrap()
    }
    pub fn store(&self, at: u64, size: u32, value: u64) {
        self.space.store(Gpa(at), size, value).unwrap();
    }
}

pub struct Mmio {
    pub space: Arc<AddressSpace>,
    pub slot: Arc<VirtioMmio>,
    pub lines: Arc<RecordedLines>,
    legacy: bool,
}

impl Mmio {
    pub fn new(m: &Machine, legacy: bool, device: Box<dyn VirtioDevice>) -> Self {
        let lines = Arc::new(RecordedLines::default());
        let slot = VirtioMmio::new(Wire::to(lines.clone(), 0), Arc::clone(&m.space), legacy);
        assert!(slot.plug(device).is_ok());
        m.space.map_io("virtio", SLOT, crate::MMIO_LEN, slot.clone());
        let t = Self { space: Arc::clone(&m.space), slot, lines, legacy };
        if legacy {
            // As Linux does: once, before the first reset.
            t.set(0x28, 4096);
        }
        t
    }
    pub fn get(&self, offset: u64) -> u32 {
        self.space.load(Gpa(SLOT + offset), 4).unwrap() as u32
    }
    pub fn set(&self, offset: u64, value: u32) {
        self.space.store(Gpa(SLOT + offset), 4, value.into()).unwrap();
    }
}

impl Transport for Mmio {
    fn features(&self) -> u64 {
        self.set(0x14, 1);
        let high = u64::from(self.get(0x10));
        self.set(0x14, 0);
        high << 32 | u64::from(self.get(0x10))
    }
    fn accept(&self, features: u64) {
        self.set(0x24, 1);
        self.set(0x20, (features >> 32) as u32);
        self.set(0x24, 0);
        self.set(0x20, features as u32);
    }
    fn set_status(&self, status: u8) {
        self.set(0x70, status.into());
    }
    fn status(&self) -> u8 {
        self.get(0x70) as u8
    }
    fn place(&self, queue: u16, size: u16, desc: u64, driver: u64, device: u64) {
        self.set(0x30, queue.into());
        assert!(self.get(0x34) >= size.into());
        self.set(0x38, size.into());
        if self.legacy {
            self.set(0x3c, 4096);
            self.set(0x40, (desc / 4096) as u32);
            assert_eq!(u64::from(self.get(0x40)), desc / 4096);
            return;
        }
        for (at, value) in [(0x80, desc), (0x90, driver), (0xa0, device)] {
            self.set(at, value as u32);
            self.set(at + 4, (value >> 32) as u32);
        }
        self.set(0x44, 1);
        assert_eq!(self.get(0x44), 1);
    }
    fn notify(&self, queue: u16) {
        self.set(0x50, queue.into());
    }
    fn config(&self, offset: u64, size: u32) -> u64 {
        self.space.load(Gpa(SLOT + 0x100 + offset), size).unwrap()
    }
    fn legacy(&self) -> bool {
        self.legacy
    }
}

/// Where messages are caught.
pub const MSI: u64 = 0x2400_0000;
const ECAM: u64 = 0x3000_0000;
pub const BAR_PORTS: u64 = 0x1000;
pub const BAR_MSIX: u64 = 0x4010_0000;
pub const BAR_MODERN: u64 = 0x4_0000_0000;
pub const PIO: u64 = 0x300_0000;

/// Records stores.
#[derive(Default)]
pub struct Caught(pub Mutex<Vec<(u64, u64)>>);

impl IoHandler for Caught {
    fn read(&self, _: u64, _: u32) -> u64 {
        0
    }
    fn write(&self, offset: u64, _: u32, value: u64) {
        self.0.lock().unwrap().push((offset, value));
    }
    fn message(&self, offset: u64, data: u32) -> bool {
        self.write(offset, 4, data.into());
        true
    }
}

/// A function in slot 1 of a host bridge, with its BARs mapped.
pub struct Pci {
    pub space: Arc<AddressSpace>,
    pub host: Arc<PciHost>,
    pub device: Arc<VirtioPci>,
    pub lines: Arc<RecordedLines>,
    pub messages: Arc<Caught>,
    legacy: bool,
}

impl Pci {
    pub fn new(m: &Machine, config: PciConfig, device: Box<dyn VirtioDevice>) -> Self {
        let t = Self::unmapped(m, config, device);
        t.set(0x10, 4, BAR_PORTS as u32);
        t.set(0x14, 4, BAR_MSIX as u32);
        t.set(0x20, 4, BAR_MODERN as u32);
        t.set(0x24, 4, (BAR_MODERN >> 32) as u32);
        t.set(4, 2, 7);
        t
    }
    pub fn unmapped(m: &Machine, config: PciConfig, device: Box<dyn VirtioDevice>) -> Self {
        let lines = Arc::new(RecordedLines::default());
        let wire = |n| Wire::to(lines.clone(), n);
        let windows = Windows {
            ecam: (ECAM, 0x1000_0000),
            mmio_low: (0x4000_0000, 0x4000_0000),
            mmio_high: (0x4_0000_0000, 0x4_0000_0000),
            pio: (PIO, 0x1_0000),
        };
        let wires = [wire(0), wire(1), wire(2), wire(3)];
        let host = PciHost::new(Arc::clone(&m.space), windows, wires);
        let messages = Arc::new(Caught::default());
        m.space.map_io("messages", MSI, 0x1000, messages.clone());
        let legacy = !config.modern;
        let device = VirtioPci::new(device, config, Arc::clone(&m.space));
        host.attach(device.clone(), None).unwrap();
        Self { space: Arc::clone(&m.space), host, device, lines, messages, legacy }
    }
    pub fn get(&self, offset: u64, size: u32) -> u32 {
        self.space.load(Gpa(ECAM + 0x8000 + offset), size).unwrap() as u32
    }
    pub fn set(&self, offset: u64, size: u32, value: u32) {
        self.space.store(Gpa(ECAM + 0x8000 + offset), size, value.into()).unwrap();
    }
    pub fn bar(&self, offset: u64, size: u32) -> u64 {
        self.space.load(Gpa(self.base() + offset), size).unwrap()
    }
    pub fn set_bar(&self, offset: u64, size: u32, value: u64) {
        self.space.store(Gpa(self.base() + offset), size, value).unwrap();
    }
    fn base(&self) -> u64 {
        if self.legacy { PIO + BAR_PORTS } else { BAR_MODERN }
    }
    /// Enables MSI-X: vector n sends n + 100 to `MSI` + 4 n.
    pub fn enable_msix(&self) {
        for n in 0..2 {
            let at = BAR_MSIX + 16 * n;
            for (offset, value) in [(0, MSI + 4 * n), (4, 0), (8, n + 100), (12, 0)] {
                self.space.store(Gpa(at + offset), 4, value).unwrap();
            }
        }
        let at = u64::from(self.get(0x34, 1));
        self.set(at + 2, 2, 0x8000);
    }
}

impl Transport for Pci {
    fn features(&self) -> u64 {
        if self.legacy {
            return self.bar(0, 4) & !feature::BAD_FEATURE;
        }
        self.set_bar(0, 4, 1);
        let high = self.bar(4, 4);
        self.set_bar(0, 4, 0);
        high << 32 | self.bar(4, 4)
    }
    fn accept(&self, features: u64) {
        if self.legacy {
            return self.set_bar(4, 4, features);
        }
        for half in 0..2 {
            self.set_bar(8, 4, half);
            self.set_bar(12, 4, features >> (32 * half) & 0xffff_ffff);
        }
    }
    fn set_status(&self, status: u8) {
        self.set_bar(if self.legacy { 18 } else { 0x14 }, 1, status.into());
    }
    fn status(&self) -> u8 {
        self.bar(if self.legacy { 18 } else { 0x14 }, 1) as u8
    }
    fn place(&self, queue: u16, size: u16, desc: u64, driver: u64, device: u64) {
        if self.legacy {
            self.set_bar(14, 2, queue.into());
            assert_eq!(self.bar(12, 2), u64::from(size));
            self.set_bar(8, 4, desc >> 12);
            if self.device.function().msix_enabled() {
                self.set_bar(22, 2, 1);
            }
            return;
        }
        self.set_bar(0x10, 2, 0);
        self.set_bar(0x16, 2, queue.into());
        self.set_bar(0x18, 2, size.into());
        self.set_bar(0x1a, 2, 1);
        for (at, value) in [(0x20, desc), (0x28, driver), (0x30, device)] {
            self.set_bar(at, 8, value);
            assert_eq!(self.bar(at, 8), value);
        }
        self.set_bar(0x1c, 2, 1);
    }
    fn notify(&self, queue: u16) {
        if self.legacy {
            return self.set_bar(16, 2, queue.into());
        }
        self.set_bar(0x16, 2, queue.into());
        let at = 0x3000 + 4 * self.bar(0x1e, 2);
        self.set_bar(at, 2, queue.into());
    }
    fn config(&self, offset: u64, size: u32) -> u64 {
        self.bar(if self.legacy { 20 } else { 0x2000 } + offset, size)
    }
    fn legacy(&self) -> bool {
        self.legacy
    }
}

struct DriverQueue {
    size: u16,
    desc: u64,
    driver: u64,
    device: u64,
    next: u16,
    wrap: bool,
    used: u16,
    used_wrap: bool,
    last_entries: u16,
}

/// One part of a request.
pub enum Part<'a> {
    Out(&'a [u8]),
    In(usize),
}

/// A driver that does one request at a time.
pub struct Driver<'a, T> {
    pub m: &'a Machine,
    pub t: &'a T,
    queues: Vec<DriverQueue>,
    packed: bool,
    event: bool,
    pub indirect: bool,
}

impl<'a, T: Transport> Driver<'a, T> {
    /// Negotiates every offered feature among `want` and starts `queues` queues of `size`.
    pub fn start(m: &'a Machine, t: &'a T, want: u64, queues: u16, size: u16) -> Self {
        t.set_status(0);
        t.set_status(3);
        let accepted = t.features() & want;
        t.accept(accepted);
        if !t.legacy() {
            t.set_status(11);
            assert_eq!(t.status(), 11, "features {accepted:#x} refused");
        }
        let mut made = Vec::new();
        for q in 0..queues {
            let base = RAM + u64::from(q) * QUEUE_ROOM;
            m.write(base, &[0; QUEUE_ROOM as usize]);
            let n = u64::from(size);
            let driver = base + 16 * n;
            let device = (driver + 6 + 2 * n + 4095) & !4095;
            t.place(q, size, base, driver, device);
            made.push(DriverQueue {
                size,
                desc: base,
                driver,
                device,
                next: 0,
                wrap: true,
                used: 0,
                used_wrap: true,
                last_entries: 1,
            });
        }
        t.set_status(if t.legacy() { 7 } else { 15 });
        let has = |bit: u64| accepted & bit != 0;
        Self {
            m,
            t,
            queues: made,
            packed: has(feature::RING_PACKED),
            event: has(feature::EVENT_IDX),
            indirect: has(feature::INDIRECT_DESC),
        }
    }

    /// Puts a request into the ring and notifies; the parts' buffers lie from `at` on.
    pub fn submit(&mut self, queue: u16, at: u64, parts: &[Part<'_>]) -> Vec<u64> {
        let mut at = at;
        let mut list = Vec::new();
        for part in parts {
            let (len, write) = match part {
                Part::Out(bytes) => {
                    self.m.write(at, bytes);
                    (bytes.len(), false)
                }
                Part::In(len) => {
                    self.m.write(at, &vec![0xaa; *len]);
                    (*len, true)
                }
            };
            list.push((at, len as u32, write));
            at += (len as u64 + 63) & !63;
        }
        self.offer(queue, &list, at);
        self.t.notify(queue);
        list.iter().map(|p| p.0).collect()
    }

    fn offer(&mut self, queue: u16, list: &[(u64, u32, bool)], table: u64) {
        let (packed, indirect) = (self.packed, self.indirect && list.len() > 1);
        let q = &mut self.queues[queue as usize];
        let put = |at: u64, (addr, len, write): (u64, u32, bool), flags: u16, extra: u16| {
            let flags = flags | if write { 2 } else { 0 };
            self.m.store(at, 8, addr);
            self.m.store(at + 8, 4, len.into());
            let (a, b) = if packed { (extra, flags) } else { (flags, extra) };
            self.m.store(at + 12, 2, a.into());
            self.m.store(at + 14, 2, b.into());
        };
        let table_entry = (table, list.len() as u32 * 16, false);
        if indirect {
            for (i, part) in list.iter().enumerate() {
                let next = u16::from(!packed && i + 1 < list.len());
                put(table + 16 * i as u64, *part, next, i as u16 + 1);
            }
        }
        let shown: Vec<_> = if indirect { vec![table_entry] } else { list.to_vec() };
        let kind = if indirect { 4 } else { 0 };
        for (i, part) in shown.iter().enumerate().rev() {
            let next = kind | u16::from(i + 1 < shown.len());
            if packed {
                let slot = (q.next + i as u16) % q.size;
                let wrap = q.wrap != (q.next + i as u16 >= q.size);
                let avail = if wrap { 1 << 7 } else { 1 << 15 };
                put(q.desc + 16 * u64::from(slot), *part, next | avail, 7);
            } else {
                put(q.desc + 16 * i as u64, *part, next, i as u16 + 1);
            }
        }
        q.last_entries = shown.len() as u16;
        if packed {
            q.next += shown.len() as u16;
            if q.next >= q.size {
                q.next -= q.size;
                q.wrap = !q.wrap;
            }
        } else {
            if self.event {
                self.m.store(q.driver + 4 + 2 * u64::from(q.size), 2, q.used.into());
            }
            self.m.store(q.driver + 4 + 2 * u64::from(q.next % q.size), 2, 0);
            q.next = q.next.wrapping_add(1);
            self.m.store(q.driver + 2, 2, q.next.into());
        }
    }

    /// Written length of the next used buffer, if there is one.
    pub fn used(&mut self, queue: u16) -> Option<u32> {
        let q = &mut self.queues[queue as usize];
        if self.packed {
            let at = q.desc + 16 * u64::from(q.used);
            let flags = self.m.load(at + 14, 2) as u16;
            if (flags >> 7 & 1 != 0) != q.used_wrap || (flags >> 15 != 0) != q.used_wrap {
                return None;
            }
            assert_eq!(self.m.load(at + 12, 2), 7);
            q.used += q.last_entries;
            if q.used >= q.size {
                q.used -= q.size;
                q.used_wrap = !q.used_wrap;
            }
            return Some(self.m.load(at + 8, 4) as u32);
        }
        if self.m.load(q.device + 2, 2) as u16 == q.used {
            return None;
        }
        let at = q.device + 4 + 8 * u64::from(q.used % q.size);
        q.used = q.used.wrapping_add(1);
        Some(self.m.load(at + 4, 4) as u32)
    }

    /// Does one request and waits for it; returns the written length and what was written.
    pub fn request(&mut self, queue: u16, parts: &[Part<'_>]) -> (u32, Vec<u8>) {
        let places = self.submit(queue, BUFFERS, parts);
        let written = loop {
            if let Some(n) = self.used(queue) {
                break n;
            }
            assert_eq!(self.t.status() & 0x40, 0, "the device needs a reset");
            std::thread::yield_now();
        };
        let mut got = Vec::new();
        for (part, at) in parts.iter().zip(places) {
            if let Part::In(len) = part {
                got.extend(self.m.read(at, *len));
            }
        }
        (written, got)
    }
}

/// A disk in memory.
pub fn disk(len: usize, options: DiskOptions) -> (Arc<Memory>, blk::Config) {
    let node = Arc::new(Memory::new(vec![0; len], false));
    let disk = Arc::new(Disk::new(node.clone(), options));
    (node, blk::Config::new(disk, Executor::new("test", 2)))
}
