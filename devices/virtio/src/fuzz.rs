//! Seeded random accesses to registers and rings: nothing panics, hangs or leaves guest RAM.

use crate::core::feature;
use crate::harness::{BUFFERS, Driver, Machine, Mmio, Pci, RAM, Transport};
use crate::tests::{NoBackends, blk};
use crate::{PciConfig, VirtioDevice};
use device::Part as _;
use memory::Gpa;

/// What drivers do, by a seed.
pub struct Random(seeded::Random);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seeded::Random(seed))
    }

    pub fn next(&mut self) -> u64 {
        self.0.next()
    }
    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
    /// A value as drivers write them: small, an address, or anything.
    fn value(&mut self) -> u64 {
        match self.below(6) {
            0 => self.below(4),
            1 => self.below(0x400),
            2 => RAM + self.below(0x4000),
            3 => u64::MAX >> self.below(64),
            4 => 1 << self.below(64),
            _ => self.next(),
        }
    }
}

pub type Make = fn(packed: bool) -> Box<dyn VirtioDevice>;

/// Every device of the crate.
pub const DEVICES: &[Make] = &[
    |packed| blk(1 << 16, packed).1,
    |packed| crate::scsi::tests::adapter_with(crate::scsi::tests::RingPacked(packed)).1,
    |packed| named("virtio-rng-device", packed),
    |packed| named("virtio-balloon-device", packed),
    |packed| named("virtio-net-device", packed),
    |packed| {
        let mut console = named("virtio-serial-device", packed);
        crate::build_child("virtconsole", &[], &NoBackends, console.as_mut()).unwrap();
        console
    },
];

fn named(name: &str, packed: bool) -> Box<dyn VirtioDevice> {
    let packed = ("packed".to_owned(), if packed { "on" } else { "off" }.to_owned());
    crate::build(name, &[packed], &NoBackends).unwrap()
}

fn scribble(m: &Machine, r: &mut Random, len: u64) {
    for _ in 0..r.below(20) {
        let at = (RAM + r.below(len)) & !1;
        let size = [1, 2, 4, 8][r.below(4) as usize];
        m.store(at, size, r.value());
    }
}

#[test]
fn random_register_accesses_do_no_harm() {
    let mut r = Random::new(0x5eed);
    for make in DEVICES {
        for round in 0..12 {
            let m = Machine::new();
            let device = make(round % 2 == 1);
            let (base, len) = if round % 3 == 0 {
                let t = Mmio::new(&m, round % 2 == 0, device);
                fuzz_range(&m, &mut r, 0x1000_1000, 0x200);
                t.slot.save();
                continue;
            } else if round % 3 == 1 {
                (crate::harness::BAR_MODERN, 0x3040)
            } else {
                (crate::harness::PIO + crate::harness::BAR_PORTS, 0x20)
            };
            let t = Pci::new(&m, PciConfig::new("virtio-blk-pci"), device);
            t.enable_msix();
            fuzz_range(&m, &mut r, base, len);
            fuzz_range(&m, &mut r, crate::harness::BAR_MSIX, 0x1000);
            fuzz_range(&m, &mut r, 0x3000_8000, 0x100);
            t.device.save();
            t.device.reset();
        }
    }
}

fn fuzz_range(m: &Machine, r: &mut Random, base: u64, len: u64) {
    for _ in 0..300 {
        let size = [1, 2, 4, 4, 8][r.below(5) as usize];
        let at = (base + r.below(len)) & !(u64::from(size) - 1);
        scribble(m, r, 0x3000);
        if r.below(3) == 0 {
            let _ = m.space.load(Gpa(at), size);
        } else {
            let value = r.value();
            let _ = m.space.store(Gpa(at), size, value);
        }
    }
}

/// Rings in order at first, then with random descriptors and indexes.
#[test]
fn random_rings_do_no_harm() {
    let mut r = Random::new(0xfeed);
    for make in DEVICES {
        for round in 0..18 {
            let m = Machine::new();
            let t = Mmio::new(&m, false, make(round % 2 == 1));
            let want = if round % 3 == 0 { feature::VERSION_1 } else { u64::MAX };
            let queues = t.slot.port().unwrap().with(|v| v.core.queue_count()).min(4) as u16;
            let d = Driver::start(&m, &t, want, queues, 16);
            for _ in 0..40 {
                let queue = r.below(queues.into()) as u16;
                random_ring(&m, &mut r, RAM + u64::from(queue) * 0x1_0000);
                d.t.notify(queue);
                if r.below(8) == 0 || t.status() & 0x40 != 0 {
                    t.slot.save();
                    Driver::start(&m, &t, want, queues, 16);
                }
            }
            t.slot.reset();
        }
    }
}

fn random_ring(m: &Machine, r: &mut Random, desc: u64) {
    for i in 0..16 {
        let at = desc + 16 * i;
        let addr = if r.below(8) == 0 { r.value() } else { BUFFERS + r.below(0x1000) };
        m.store(at, 8, addr);
        let len = if r.below(8) == 0 { r.value() } else { r.below(64) * 8 };
        m.store(at + 8, 4, len);
        let wild = r.below(4) == 0;
        m.store(at + 12, 2, if wild { r.value() } else { r.below(4) });
        m.store(at + 14, 2, if wild { r.value() } else { r.below(16) | 0x80 });
    }
    let driver = desc + 256;
    m.store(driver + 2, 2, if r.below(4) == 0 { r.value() } else { r.below(16) });
    for i in 0..16 {
        m.store(driver + 4 + 2 * i, 2, r.below(18));
    }
    // Plausible request headers, and indirect tables, among the buffers.
    for _ in 0..16 {
        let at = (BUFFERS + r.below(0x1000)) & !7;
        m.store(at, 4, r.below(16));
        m.store(at + 8, 4, r.below(200));
    }
}
