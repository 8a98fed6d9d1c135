//! Devices driven through their transports.

use crate::blk::{Blk, Config};
use crate::core::{RingOptions, feature};
use crate::harness::{BUFFERS, Driver, Machine, Mmio, Part, RAM, RAM_LEN, Transport, disk};
use crate::rng::{self, BuiltinRng, Rng};
use crate::{Backends, Drive, VirtioDevice, build};
use device::Part as _;
use graph::DiskOptions;
use std::sync::Arc;

const SECTOR: usize = 512;

pub(crate) fn header(kind: u32, sector: u64) -> Vec<u8> {
    let mut h = kind.to_le_bytes().to_vec();
    h.extend([0; 4]);
    h.extend(sector.to_le_bytes());
    h
}

/// Writes, reads, flushes, discards, zeroes, identifies and errs.
pub(crate) fn exercise_blk<T: Transport>(
    d: &mut Driver<'_, T>,
    node: &graph::Memory,
    sectors: u64,
) {
    let data: Vec<u8> = (0..3 * SECTOR).map(|i| (i * 7) as u8).collect();
    for round in 0..40u64 {
        let sector = round % 8 * 3;
        let parts = [Part::Out(&header(1, sector)), Part::Out(&data), Part::In(1)];
        assert_eq!(d.request(0, &parts), (1, vec![0]));
        let parts = [Part::Out(&header(0, sector)), Part::In(3 * SECTOR), Part::In(1)];
        let (n, got) = d.request(0, &parts);
        assert_eq!(n as usize, 3 * SECTOR + 1);
        assert_eq!(got[..3 * SECTOR], data);
        assert_eq!(got[3 * SECTOR], 0);
    }
    assert_eq!(node.snapshot()[..3 * SECTOR], data);
    assert_eq!(d.request(0, &[Part::Out(&header(4, 0)), Part::In(1)]), (1, vec![0]));
    let (n, id) = d.request(0, &[Part::Out(&header(8, 0)), Part::In(20), Part::In(1)]);
    assert_eq!((n, &id[..6], id[20]), (21, &b"serial"[..], 0));
    for (kind, flags) in [(13u32, 1u32), (11, 0)] {
        let mut segment = 0u64.to_le_bytes().to_vec();
        segment.extend(2u32.to_le_bytes());
        segment.extend(flags.to_le_bytes());
        let parts = [Part::Out(&header(kind, 0)), Part::Out(&segment), Part::In(1)];
        assert_eq!(d.request(0, &parts), (1, vec![0]));
        assert!(node.snapshot()[..2 * SECTOR].iter().all(|b| *b == 0));
    }
    assert_eq!(node.snapshot()[2 * SECTOR..3 * SECTOR], data[2 * SECTOR..]);
    let beyond = [Part::Out(&header(0, sectors - 1)), Part::In(2 * SECTOR), Part::In(1)];
    assert_eq!(d.request(0, &beyond).1[2 * SECTOR], 1);
    let odd = [Part::Out(&header(0, 0)), Part::In(100), Part::In(1)];
    assert_eq!(d.request(0, &odd).1[100], 1);
    assert_eq!(d.request(0, &[Part::Out(&header(77, 0)), Part::In(1)]), (1, vec![2]));
}

pub(crate) fn blk(len: usize, packed: bool) -> (Arc<graph::Memory>, Box<dyn VirtioDevice>) {
    let (node, config) = disk(len, DiskOptions { discard: true, ..DiskOptions::default() });
    let rings = RingOptions { packed, ..RingOptions::default() };
    (node, Box::new(Blk::new(Config { rings, serial: "serial".into(), ..config })))
}

#[test]
fn a_disk_works_over_mmio_with_every_kind_of_ring() {
    const MEGA: usize = 1 << 20;
    let plain = feature::VERSION_1;
    let wants = [
        (false, plain),
        (false, plain | feature::INDIRECT_DESC),
        (false, plain | feature::INDIRECT_DESC | feature::EVENT_IDX),
        (true, plain | feature::RING_PACKED),
        (true, plain | feature::RING_PACKED | feature::INDIRECT_DESC),
        (true, u64::MAX),
    ];
    for (packed, want) in wants {
        let (node, device) = blk(MEGA, packed);
        let m = Machine::new();
        let t = Mmio::new(&m, false, device);
        exercise_blk(&mut Driver::start(&m, &t, want, 1, 16), &node, (MEGA / SECTOR) as u64);
        assert!(t.lines.take().contains(&(0, true)));
        t.set(0x64, 3);
        assert_eq!(t.lines.take(), [(0, false)]);
    }
    for want in [0, 0xffff_ffff] {
        let (node, device) = blk(MEGA, false);
        let m = Machine::new();
        let t = Mmio::new(&m, true, device);
        exercise_blk(&mut Driver::start(&m, &t, want, 1, 64), &node, (MEGA / SECTOR) as u64);
    }
}

#[test]
fn registers_and_configuration_read_as_qemu_shows_them() {
    let (_, config) = disk(10 << 20, DiskOptions::default());
    let m = Machine::new();
    let t = Mmio::new(&m, false, Box::new(Blk::new(config)));
    assert_eq!([t.get(0), t.get(4), t.get(8), t.get(12)], [0x7472_6976, 2, 2, 0x554d_4551]);
    assert_eq!(t.features(), 0x101_3000_6e54);
    t.set(0x30, 0);
    assert_eq!(t.get(0x34), 1024);
    t.set(0x30, 1);
    assert_eq!(t.get(0x34), 0);
    let bytes: Vec<u8> = (0..0x40).map(|i| t.config(i, 1) as u8).collect();
    let want = "0050000000000000 00000000fe000000 1400103f00020000 0000000000000000 \
        01000100ffff3f00 0100000001000000 ffff3f0001000000 01ffffffffffffff";
    let text: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(text, want.replace(' ', ""));
    let (_, config) = disk(10 << 20, DiskOptions::default());
    let t = Mmio::new(&Machine::new(), true, Box::new(Blk::new(config)));
    t.set(0x14, 0);
    assert_eq!((t.get(4), t.get(0x10)), (1, 0x3100_6ed4));
}

#[test]
fn large_transfers_are_cut_into_pieces() {
    let (node, device) = blk(8 << 20, false);
    let m = Machine::new();
    let t = Mmio::new(&m, false, device);
    let mut d = Driver::start(&m, &t, u64::MAX, 1, 16);
    let data: Vec<u8> =
        (0..1_500_000 / 512 * 512).map(|i: usize| (i / 512) as u8 ^ i as u8).collect();
    let parts = [Part::Out(&header(1, 8)), Part::Out(&data), Part::In(1)];
    assert_eq!(d.request(0, &parts), (1, vec![0]));
    assert_eq!(node.snapshot()[8 * SECTOR..8 * SECTOR + data.len()], data);
    let (n, got) = d.request(0, &[Part::Out(&header(0, 8)), Part::In(data.len()), Part::In(1)]);
    assert_eq!(n as usize, data.len() + 1);
    assert_eq!(got[..data.len()], data);
}

#[test]
fn rng_fills_buffers() {
    let m = Machine::new();
    let config = rng::Config { rings: RingOptions::default(), source: Arc::new(BuiltinRng) };
    let t = Mmio::new(&m, false, Box::new(Rng::new(config)));
    let mut d = Driver::start(&m, &t, u64::MAX, 1, 8);
    let (n, got) = d.request(0, &[Part::In(64)]);
    assert_eq!(n, 64);
    assert_ne!(got, vec![0xaa; 64]);
}

#[test]
fn a_broken_ring_asks_for_a_reset_and_recovers() {
    let m = Machine::new();
    let (node, device) = blk(1 << 20, false);
    let t = Mmio::new(&m, false, device);
    let mut d = Driver::start(&m, &t, feature::VERSION_1, 1, 16);
    // A request without room for its status.
    d.submit(0, BUFFERS, &[Part::Out(&header(0, 0))]);
    assert_eq!(t.status() & 0x40, 0x40);
    let mut d = Driver::start(&m, &t, feature::VERSION_1, 1, 16);
    exercise_blk(&mut d, &node, 2048);
}

#[test]
fn state_survives_saving_in_the_middle_of_work() {
    for packed in [false, true] {
        let m = Machine::new();
        let (_, device) = blk(1 << 20, packed);
        let t = Mmio::new(&m, false, device);
        let mut d = Driver::start(&m, &t, u64::MAX, 1, 16);
        let data = [5; 4096];
        d.submit(0, BUFFERS, &[Part::Out(&header(1, 0)), Part::Out(&data), Part::In(1)]);
        let saved = t.slot.save();
        assert_eq!(d.used(0), Some(1));
        let copy = Machine::new();
        copy.write(RAM, &m.read(RAM, RAM_LEN as usize));
        let other = Mmio::new(&copy, false, blk(1 << 20, packed).1);
        other.slot.restore(&state::decode(&state::encode(&saved)).unwrap()).unwrap();
        assert_eq!(other.slot.save(), saved);
        assert_eq!(other.status(), 15);
    }
}

pub(crate) struct NoBackends;
impl Backends for NoBackends {
    fn drive(&self, id: &str) -> Option<Drive> {
        let (_, config) = disk(1 << 20, DiskOptions::default());
        (id == "d").then_some(Drive { disk: config.disk, executor: config.executor })
    }
}

fn error(name: &str, props: &[(&str, &str)]) -> String {
    let props: Vec<_> = props.iter().map(|(a, b)| (a.to_string(), b.to_string())).collect();
    build(name, &props, &NoBackends).err().map_or(String::new(), |e| e.message)
}

#[test]
fn wrong_properties_are_refused_by_name() {
    let blk = |more: &[(&str, &str)]| {
        let mut all = vec![("drive", "d")];
        all.extend(more);
        error("virtio-blk-pci", &all)
    };
    assert_eq!(blk(&[]), "");
    assert_eq!(error("virtio-blk", &[]), "drive property not set");
    assert_eq!(
        error("virtio-blk-pci", &[("drive", "x")]),
        "Property 'virtio-blk-device.drive' can't find value 'x'"
    );
    assert_eq!(blk(&[("foo", "1")]), "Property 'virtio-blk-pci.foo' not found");
    assert_eq!(
        blk(&[("queue-size", "3")]),
        "invalid queue-size property (3), must be a power of 2 (max 1024)"
    );
    assert_eq!(blk(&[("num-queues", "0")]), "num-queues property must be larger than 0");
    assert_eq!(blk(&[("packed", "maybe")]), "Parameter 'packed' expects 'on' or 'off'");
    assert_eq!(error("virtio-rng-device", &[]), "");
    assert!(error("virtio-rgn-device", &[]).contains("is not a valid device model name"));
}
