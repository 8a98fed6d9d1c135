//! A hostile guest: accesses to any register of a board, and virtio rings right, wrong and wild.
//!
//! What must hold: no panic, no hang, and the machine that comes out saves, restores and saves the
//! same. Each operation is a byte, and what it takes from the bytes behind it.

use crate::bytes::Bytes;
use crate::rig::{Port, RAM_LEN, Rig};

/// Most operations of one input.
const MOST: usize = 400;
/// Start of RAM; rings begin here, one every [`RING_ROOM`] bytes.
const RAM: u64 = 0x8000_0000;
const RING_ROOM: u64 = 0x1_0000;
/// Where buffers are.
const BUFFERS: u64 = RAM + 0x10_0000;
/// Entries of each ring.
const ENTRIES: u64 = 16;
/// Queues that a driver starts.
const QUEUES: u64 = 4;

/// Feeds what a guest does: the first byte chooses the board.
pub fn feed(input: &[u8]) {
    let mut bytes = Bytes(input);
    let rig = Rig::new(bytes.byte());
    let mut guest = Guest {
        rig: &rig,
        port: rig.ports[0],
        packed: false,
        entries: ENTRIES,
        rings: Default::default(),
    };
    for _ in 0..MOST {
        if bytes.is_empty() {
            break;
        }
        guest.act(&mut bytes);
    }
    save_and_restore(&rig);
    rig.board.machine.reset();
    rig.settle();
}

/// Stops the machine as it is; what is saved then comes out again once it is restored.
fn save_and_restore(rig: &Rig) {
    let machine = &rig.board.machine;
    machine.hold();
    let saved = machine.save();
    machine.restore(&saved).expect("what was saved fits");
    for (before, after) in saved.iter().zip(machine.save()) {
        assert_eq!(*before, after, "save, restore, save");
    }
}

/// What a driver knows of a queue.
#[derive(Clone, Copy, Default)]
struct Ring {
    /// Entries offered so far.
    next: u64,
}

struct Guest<'a> {
    rig: &'a Rig,
    port: Port,
    packed: bool,
    /// Entries of a queue: of legacy PCI devices, the device's choice.
    entries: u64,
    rings: [Ring; QUEUES as usize],
}

impl Guest<'_> {
    fn act(&mut self, bytes: &mut Bytes<'_>) {
        match bytes.byte() % 16 {
            0..=3 => self.access(bytes, true),
            4 | 5 => self.access(bytes, false),
            6 => self.start(bytes),
            7..=9 => self.request(bytes),
            10 => self.notify(bytes.below(QUEUES + 2)),
            // Wild values in rings and buffers.
            11 | 12 => {
                let place = [RAM, BUFFERS][bytes.below(2) as usize];
                let (at, size) = (place + bytes.number(2), 1 << bytes.below(4));
                self.rig.store(at, size, bytes.value(BUFFERS));
            }
            13 => self.rig.clock.advance(bytes.number(3) << (bytes.byte() % 24)),
            14 => self.rig.set_line(bytes.below(16) as u32, bytes.byte() & 1 != 0),
            _ => self.special(bytes),
        }
    }

    /// An access to a register.
    fn access(&self, bytes: &mut Bytes<'_>, write: bool) {
        let regions = self.rig.registers();
        let region = &regions[bytes.below(regions.len() as u64) as usize];
        let (how, number) = (bytes.byte(), bytes.number(2));
        let offset = match how >> 2 & 3 {
            0 => number & 0xff,
            1 => number,
            2 => (number & 0xff) | number >> 8 << 12,
            _ => number.wrapping_mul(region.len / 0x1_0000 + 1),
        };
        let at = region.base.0 + offset % region.len;
        let size = 1 << (how & 3);
        if write {
            self.rig.store(at, size, bytes.value(BUFFERS));
        } else {
            self.rig.load(at, size);
        }
    }

    /// Brings up a device: features, queues, ready.
    fn start(&mut self, bytes: &mut Bytes<'_>) {
        let ports = &self.rig.ports;
        self.port = ports[bytes.below(ports.len() as u64) as usize];
        let wanted = if bytes.byte() & 1 == 0 { u64::MAX } else { !(bytes.number(8)) };
        let rig = self.rig;
        rig.space()
            .write(memory::Gpa(RAM), &[0; (RING_ROOM * QUEUES) as usize])
            .expect("it is RAM");
        self.rings = Default::default();
        let ring = |queue: u64| {
            let desc = RAM + RING_ROOM * queue;
            (desc, desc + 16 * ENTRIES, desc + 0x1000)
        };
        (self.packed, self.entries) = (false, ENTRIES);
        match self.port {
            Port::Mmio(base) => {
                rig.store(base + 0x28, 4, 4096);
                for status in [0, 1, 3] {
                    rig.store(base + 0x70, 4, status);
                }
                rig.store(base + 0x20, 4, rig.load(base + 0x10, 4) & wanted);
                for queue in 0..QUEUES {
                    rig.store(base + 0x30, 4, queue);
                    rig.store(base + 0x38, 4, ENTRIES);
                    rig.store(base + 0x3c, 4, 4096);
                    rig.store(base + 0x40, 4, ring(queue).0 >> 12);
                }
                rig.store(base + 0x70, 4, 7);
            }
            Port::Legacy(base) => {
                rig.store(base + 18, 1, 0);
                rig.store(base + 18, 1, 3);
                rig.store(base + 4, 4, rig.load(base, 4) & wanted);
                for queue in 0..QUEUES {
                    rig.store(base + 14, 2, queue);
                    self.entries = rig.load(base + 12, 2).clamp(1, 256);
                    rig.store(base + 8, 4, ring(queue).0 >> 12);
                }
                rig.store(base + 18, 1, 7);
            }
            Port::Modern(base) => {
                for status in [0, 1, 3] {
                    rig.store(base + 0x14, 1, status);
                }
                for half in 0..2 {
                    rig.store(base, 4, half);
                    let offered = rig.load(base + 4, 4) & wanted >> (32 * half);
                    self.packed |= half == 1 && offered & 4 != 0;
                    rig.store(base + 8, 4, half);
                    rig.store(base + 12, 4, offered | half);
                }
                rig.store(base + 0x14, 1, 11);
                for queue in 0..QUEUES {
                    rig.store(base + 0x16, 2, queue);
                    rig.store(base + 0x18, 2, ENTRIES);
                    rig.store(base + 0x1a, 2, 1);
                    let (desc, driver, device) = ring(queue);
                    rig.store(base + 0x20, 8, desc);
                    rig.store(base + 0x28, 8, driver);
                    rig.store(base + 0x30, 8, device);
                    rig.store(base + 0x1c, 2, 1);
                }
                rig.store(base + 0x14, 1, 15);
            }
        }
    }

    fn notify(&self, queue: u64) {
        match self.port {
            Port::Mmio(base) => self.rig.store(base + 0x50, 4, queue),
            Port::Legacy(base) => self.rig.store(base + 16, 2, queue),
            Port::Modern(base) => self.rig.store(base + 0x3000 + 4 * queue, 2, queue),
        }
    }

    /// Offers a chain of buffers: some to read with bytes of the input in them, some to write.
    fn request(&mut self, bytes: &mut Bytes<'_>) {
        let (how, queue) = (bytes.byte(), bytes.below(QUEUES));
        let (readable, writable) = (u64::from(how & 3), u64::from(how >> 2 & 3));
        let base = RAM + RING_ROOM * queue;
        let ring = &mut self.rings[queue as usize];
        let count = readable + writable;
        let entries = self.entries;
        let head = ring.next % entries;
        for n in 0..count {
            let slot = (ring.next + n) % entries;
            let buffer = BUFFERS + 0x1000 * (slot % ENTRIES);
            let writes = n >= readable;
            let len = if writes {
                [1, 16, 512, 4096][bytes.below(4) as usize]
            } else {
                let len = [16, 8, 64, 19][bytes.below(4) as usize];
                let content = bytes.take(len);
                self.rig.space().write(memory::Gpa(buffer), content).expect("it is RAM");
                len as u64
            };
            let more = n + 1 < count;
            let mut flags = u64::from(more) | u64::from(writes) << 1;
            let mut last = (slot + 1) % entries;
            if self.packed {
                let wrapped = (ring.next + n) / entries % 2;
                flags |= if wrapped == 0 { 0x80 } else { 0x8000 };
                last = flags << 16 | slot;
                self.rig.store(base + 16 * slot + 12, 4, last);
            } else {
                self.rig.store(base + 16 * slot + 12, 4, last << 16 | flags);
            }
            self.rig.store(base + 16 * slot, 8, buffer);
            self.rig.store(base + 16 * slot + 8, 4, len);
        }
        ring.next += count;
        if !self.packed {
            let available = base + 16 * entries;
            let index = self.rig.load(available + 2, 2);
            self.rig.store(available + 4 + 2 * (index % entries), 2, head);
            self.rig.store(available + 2, 2, index + 1);
        }
        if how & 0x80 == 0 {
            self.notify(queue);
        }
    }

    /// Resets and saved states in between, direct memory access of fw_cfg.
    fn special(&self, bytes: &mut Bytes<'_>) {
        let machine = &self.rig.board.machine;
        match bytes.byte() % 4 {
            0 => machine.reset(),
            1 => {
                save_and_restore(self.rig);
                machine.release();
            }
            2 => {
                let (control, len) = (bytes.number(4), bytes.number(2));
                let address = [BUFFERS, 0, RAM + RAM_LEN - 8][bytes.below(3) as usize];
                let big_endian = |value: u64, size: u32| value.swap_bytes() >> (64 - 8 * size);
                self.rig.store(BUFFERS, 4, big_endian(control, 4));
                self.rig.store(BUFFERS + 4, 4, big_endian(len, 4));
                self.rig.store(BUFFERS + 8, 8, big_endian(address, 8));
                self.rig.store(0x1010_0010, 8, big_endian(BUFFERS, 8));
            }
            _ => self.rig.settle(),
        }
    }
}

/// For each board: every device brought up, with requests; then accesses all over.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for kind in 0..16u8 {
        let mut seed = vec![kind];
        for port in 0..if kind & 3 == 2 { 12 } else { 6 } {
            seed.extend([6, port, 0]);
            for (n, queue) in [(0, 0u8), (1, 1), (2, 2), (3, 0), (8, 2)] {
                // A read of a disk; the same bytes mean something else to others.
                seed.extend([7, 2 << 2 | 1, queue, 0, n, 0, 0, 0, 0, 0, 0, 0, n]);
                seed.extend([0; 7]);
                seed.extend([2, 0]);
            }
            // SCSI commands: of the transport a LUN, a tag and three bytes, then these.
            for command in [
                [0, 0],
                [0x12, 0],
                [0xa0, 0],
                [0x25, 0],
                [0x28, 0],
                [0x2a, 0],
                [0x5a, 63],
                [0x43, 0],
            ] {
                seed.extend([7, 2 << 2 | 1, 2, 2, 1, 0, 0x40, 0, 0, 0, 0, 0]);
                seed.extend([1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, command[0], 0, command[1], 0, 0]);
                seed.extend([0, 0, 0, 1]);
                seed.resize(seed.len() + 64 - 31, 0);
                seed.extend([2, 3]);
            }
        }
        seeds.push(seed);
        // Registers: region, how, offset, value.
        let mut seed = vec![kind];
        for region in 0..40u8 {
            for offset in [0, 4, 8, 0x10, 0x18, 0x70] {
                seed.extend([0, region, 2, offset, 0, 0, offset | 1]);
                seed.extend([4, region, 2, offset, 0]);
            }
        }
        seed.extend([13, 0xff, 0xff, 0xff, 8, 15, 1, 15, 2, 8, 0, 0, 0, 8, 0, 1]);
        seeds.push(seed);
    }
    seeds
}
