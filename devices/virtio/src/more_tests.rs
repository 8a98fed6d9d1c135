//! Network card and balloon, and the identities of all functions.

use crate::core::feature;
use crate::harness::{BUFFERS, Driver, Machine, Mmio, Part, Pci, RAM, RAM_LEN, Transport};
use crate::net::{self, Net};
use crate::tests::NoBackends;
use crate::{PciConfig, RingOptions, VirtioDevice, balloon, build, class};
use device::Part as _;
use netdev::{NetBackend, Receiver};
use std::sync::{Arc, Mutex};

#[derive(Default)]
struct Sent {
    frames: Vec<Vec<u8>>,
    receiver: Option<Arc<dyn Receiver>>,
}

#[derive(Clone, Default)]
struct Link(Arc<Mutex<Sent>>);

impl NetBackend for Link {
    fn attach(&mut self, receiver: &Arc<dyn Receiver>) {
        self.0.lock().unwrap().receiver = Some(Arc::clone(receiver));
    }
    fn send(&mut self, frame: &[u8]) {
        self.0.lock().unwrap().frames.push(frame.to_vec());
    }
}

impl Link {
    fn receive(&self, frame: &[u8]) -> bool {
        let receiver = self.0.lock().unwrap().receiver.clone().unwrap();
        receiver.receive(frame)
    }
}

fn card(packed: bool) -> (Link, Box<dyn VirtioDevice>) {
    let link = Link::default();
    let config = net::Config {
        rings: RingOptions { packed, ..RingOptions::default() },
        mac: [0x52, 0x54, 0, 0x12, 0x34, 0x56],
        features: 0xbf_8024,
        rx_queue_size: 256,
        tx_queue_size: 256,
    };
    (link.clone(), Box::new(Net::new(config, Box::new(link))))
}

fn frame(to: [u8; 6], len: usize) -> Vec<u8> {
    let mut f = to.to_vec();
    f.resize(len, 0x5a);
    f
}

#[test]
fn frames_go_out_and_come_in() {
    for packed in [false, true] {
        let (link, device) = card(packed);
        let m = Machine::new();
        let t = Mmio::new(&m, false, device);
        let config: Vec<u8> = (0..9).map(|i| t.config(i, 1) as u8).collect();
        assert_eq!(config, [0x52, 0x54, 0, 0x12, 0x34, 0x56, 1, 0, 0xff]);
        let mut d = Driver::start(&m, &t, u64::MAX, 3, 16);
        let out = frame([0xff; 6], 60);
        assert_eq!(d.request(1, &[Part::Out(&[0; 12]), Part::Out(&out)]).0, 0);
        assert_eq!(link.0.lock().unwrap().frames, [out]);
        // No buffer yet: the frame waits.
        let input = frame([1, 2, 3, 4, 5, 6], 100);
        assert!(link.receive(&input));
        let (n, got) = d.request(0, &[Part::In(256)]);
        assert_eq!(n, 112);
        assert_eq!(got[..12], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
        assert_eq!(got[12..112], input);
    }
}

#[test]
fn large_frames_fill_several_buffers() {
    let (link, device) = card(false);
    let m = Machine::new();
    let t = Mmio::new(&m, false, device);
    let mut d = Driver::start(&m, &t, feature::VERSION_1 | 1 << 15, 2, 16);
    let input = frame([1; 6], 300);
    d.submit(0, BUFFERS, &[Part::In(200)]);
    assert!(link.receive(&input));
    assert_eq!(d.used(0), None, "one buffer is not enough");
    // The test driver uses one descriptor: the second buffer is the same memory.
    d.submit(0, BUFFERS, &[Part::In(200)]);
    assert_eq!((d.used(0), d.used(0)), (Some(200), Some(112)));
    assert!(link.receive(&frame([1; 6], 20)));
}

#[test]
fn the_filter_drops_what_is_for_others() {
    let (link, device) = card(false);
    let m = Machine::new();
    let t = Mmio::new(&m, false, device);
    let mut d = Driver::start(&m, &t, u64::MAX, 3, 16);
    let mut tell = |bytes: &[u8]| d.request(2, &[Part::Out(bytes), Part::In(1)]).1[0];
    assert_eq!(tell(&[0, 0, 0]), 0);
    assert_eq!(tell(&[1, 1, 2, 2, 2, 2, 2, 2]), 0);
    let mut table = vec![1, 0, 0, 0, 0, 0, 1, 0, 0, 0];
    table.extend([1, 0, 0x5e, 0, 0, 1]);
    assert_eq!(tell(&table), 0);
    assert_eq!(tell(&[2, 0, 7, 0]), 0);
    assert_eq!(tell(&[2, 0, 0, 0x10]), 1);
    assert_eq!(tell(&[9, 9]), 1);
    assert_eq!(tell(&[1, 0, 255, 255, 255, 255]), 1);
    let mine = [[2; 6], [0xff; 6], [1, 0, 0x5e, 0, 0, 1]];
    let others = [[4; 6], [1, 0, 0x5e, 0, 0, 2]];
    for to in others.iter().chain(&mine) {
        assert!(link.receive(&frame(*to, 60)));
    }
    for to in mine {
        assert_eq!(d.request(0, &[Part::In(128)]).1[12..18], to);
    }
    let saved = t.slot.save();
    let copy = Machine::new();
    copy.write(RAM, &m.read(RAM, RAM_LEN as usize));
    let other = Mmio::new(&copy, false, card(false).1);
    other.slot.restore(&state::decode(&state::encode(&saved)).unwrap()).unwrap();
    assert_eq!(other.slot.save(), saved);
}

#[test]
fn the_balloon_gives_pages_back_and_asks_for_more() {
    let m = Machine::new();
    let t = Mmio::new(&m, false, build("virtio-balloon-device", &[], &NoBackends).unwrap());
    let mut d = Driver::start(&m, &t, u64::MAX, 3, 16);
    m.write(RAM + 0x30_0000, &[7; 0x3000]);
    let pages: Vec<u8> =
        [0x8_0300u32, 0x8_0301, 0x7_0000, u32::MAX].iter().flat_map(|p| p.to_le_bytes()).collect();
    d.request(0, &[Part::Out(&pages)]);
    assert_eq!(m.read(RAM + 0x30_0000, 0x2000), vec![0; 0x2000]);
    assert_eq!(m.load(RAM + 0x30_2000, 1), 7);
    let port = t.slot.port().unwrap();
    assert!(balloon::set_target(port, 512));
    assert_eq!((t.config(0, 4), t.get(0x60) & 2), (512, 2));
    t.set(0x104, 2);
    assert_eq!(port.with(|v| v.device.as_balloon().unwrap().actual_pages()), 2);
    let mut stats = 4u16.to_le_bytes().to_vec();
    stats.extend(1234u64.to_le_bytes());
    d.submit(2, BUFFERS, &[Part::Out(&stats)]);
    assert_eq!(port.with(|v| v.device.as_balloon().unwrap().stats().to_vec()), [(4, 1234)]);
    let saved = t.slot.save();
    let copy = Machine::new();
    copy.write(RAM, &m.read(RAM, RAM_LEN as usize));
    let fresh = build("virtio-balloon-device", &[], &NoBackends).unwrap();
    let other = Mmio::new(&copy, false, fresh);
    other.slot.restore(&state::decode(&state::encode(&saved)).unwrap()).unwrap();
    assert_eq!(other.slot.save(), saved);
    assert_eq!(d.used(2), None);
    assert!(balloon::request_stats(port));
    assert_eq!(d.used(2), Some(0));
}

#[test]
fn identities_are_those_of_qemu() {
    // Class, device and class code of the configuration space, ports, MSI-X vectors.
    let rows = [
        ("virtio-net-pci", 0x1000_1af4, 0x0200_0000, 0xffff_ffe1, 4),
        ("virtio-scsi-pci", 0x1004_1af4, 0x0100_0000, 0xffff_ffc1, 4),
        ("virtio-serial-pci", 0x1003_1af4, 0x0780_0000, 0xffff_ffc1, 2),
        ("virtio-rng-pci", 0x1005_1af4, 0x00ff_0000, 0xffff_ffe1, 2),
        ("virtio-balloon-pci", 0x1002_1af4, 0x00ff_0000, 0xffff_ffc1, 2),
        ("virtio-net-pci-non-transitional", 0x1041_1af4, 0x0200_0001, 0, 4),
        ("virtio-balloon-pci-non-transitional", 0x1045_1af4, 0x00ff_0001, 0, 2),
    ];
    for (name, id, code, ports, vectors) in rows {
        let device = build(name, &[], &NoBackends).unwrap();
        let config = PciConfig::parse(class(name).unwrap(), &[]).unwrap();
        let t = Pci::unmapped(&Machine::new(), config, device);
        t.set(0x10, 4, u32::MAX);
        assert_eq!([t.get(0, 4), t.get(8, 4), t.get(0x10, 4)], [id, code, ports], "{name}");
        assert_eq!(t.get(0x9a, 2) & 0x7ff, vectors - 1, "{name}");
    }
    let features = [
        ("virtio-net-device", 0x101_30bf_8024u64, 0x39bf_8064u64),
        ("virtio-balloon-device", 0x101_3000_0012, 0x3900_0012),
        ("virtio-serial-device", 0x101_3000_0006, 0x3900_0006),
        ("virtio-rng-device", 0x101_3000_0000, 0x3900_0000),
        ("virtio-scsi-device", 0x101_3000_0006, 0x3900_0006),
    ];
    for (name, modern, legacy) in features {
        for (old, want) in [(false, modern), (true, legacy)] {
            let device = build(name, &[], &NoBackends).unwrap();
            let t = Mmio::new(&Machine::new(), old, device);
            t.set(0x14, 0);
            let got = if old { u64::from(t.get(0x10)) } else { t.features() };
            assert_eq!(got, want, "{name} {old}");
        }
    }
}

/// A source that makes another request available each time it is asked, as a second processor
/// might.
struct Feeder {
    m: Machine,
    left: Mutex<u32>,
}

impl crate::rng::RngBackend for Feeder {
    fn fill(&self, _buffer: &mut [u8]) -> std::io::Result<()> {
        let mut left = self.left.lock().unwrap();
        if let Some(n) = left.checked_sub(1) {
            *left = n;
            let idx = RAM + 16 * 16 + 2;
            self.m.store(idx, 2, (self.m.load(idx, 2) + 1) & 0xffff);
        }
        Ok(())
    }
}

#[test]
fn endless_work_does_not_hold_the_notifying_thread_and_is_not_lost() {
    const REQUESTS: u32 = 30_000;
    let m = Machine::new();
    let other = Machine { space: Arc::clone(&m.space) };
    let source = Arc::new(Feeder { m: other, left: Mutex::new(REQUESTS - 1) });
    let config = crate::rng::Config { rings: RingOptions::default(), source: source.clone() };
    let t = Mmio::new(&m, false, Box::new(crate::rng::Rng::new(config)));
    let mut d = Driver::start(&m, &t, feature::VERSION_1, 1, 16);
    d.submit(0, BUFFERS, &[Part::In(8)]);
    assert!(*source.left.lock().unwrap() > 0, "the notification returned before the end");
    let used = RAM + 4096 + 2;
    while m.load(used, 2) != u64::from(REQUESTS & 0xffff) {
        std::thread::yield_now();
    }
    assert_eq!(*source.left.lock().unwrap(), 0);
    assert_eq!(t.status(), 15);
}
