//! The PCI transport, and what depends on configuration space.

use crate::blk::Blk;
use crate::core::feature;
use crate::harness::{
    BAR_MODERN, BAR_MSIX, BUFFERS, Driver, MSI, Machine, PIO, Part, Pci, RAM, RAM_LEN, Transport,
    disk,
};
use crate::tests::{blk, exercise_blk, header};
use crate::{PciConfig, build, class};
use device::Part as _;
use graph::DiskOptions;
use memory::Gpa;
use pci::{AttachError, Devfn};
use std::sync::Arc;

const LEN: usize = 1 << 20;

fn config(legacy: bool, modern: bool) -> PciConfig {
    PciConfig { legacy, modern, ..PciConfig::new("virtio-blk-pci") }
}

#[test]
fn a_disk_works_over_pci_with_pins_and_messages() {
    for (legacy, modern) in [(true, true), (false, true), (true, false)] {
        for messages in [false, true] {
            let (node, device) = blk(LEN, modern);
            let m = Machine::new();
            let t = Pci::new(&m, config(legacy, modern), device);
            if messages {
                t.enable_msix();
            }
            // A legacy driver takes the ring's size as it is.
            let size = if modern { 16 } else { 256 };
            exercise_blk(&mut Driver::start(&m, &t, u64::MAX, 1, size), &node, (LEN / 512) as u64);
            let (sent, lines) = (t.messages.0.lock().unwrap().len(), t.lines.take());
            assert_eq!(sent > 0, messages);
            // INTA of slot 1 leads to line 1.
            assert_eq!(lines.first(), (!messages).then_some(&(1, true)));
            assert!(t.messages.0.lock().unwrap().iter().all(|s| *s == (4, 101)));
            let isr = if modern { 0x1000 } else { 19 };
            assert_eq!(t.bar(isr, 1) & 1, 1);
            assert_eq!(t.bar(isr, 1), 0);
        }
    }
}

#[test]
fn configuration_space_is_the_one_qemu_shows() {
    let (_, blk_config) = disk(10 << 20, DiskOptions::default());
    let t = Pci::unmapped(&Machine::new(), config(true, true), Box::new(Blk::new(blk_config)));
    let rows = [
        "f41a011000001000 0000000100000000 0100000000000000 0000000000000000",
        "0c00000000000000 00000000f41a0200 0000000098000000 0000000000010000",
        "0900100104000000 0000000000100000 0940100304000000 0010000000100000",
        "0950100404000000 0020000000100000 0960140204000000 0030000000100000",
        "0400000009701405 0000000000000000 0000000000000000 1184010001000000",
        "0108000000000000 0000000000000000 0000000000000000 0000000000000000",
    ];
    let bytes: String = (0..0xc0).map(|i| format!("{:02x}", t.get(i, 1))).collect();
    assert_eq!(bytes, rows.concat().replace(' ', ""));
    for at in (0x10..0x28).step_by(4) {
        t.set(at, 4, u32::MAX);
    }
    let bars: Vec<u32> = (0x10..0x28).step_by(4).map(|at| t.get(at, 4)).collect();
    assert_eq!(bars, [0xffff_ff81, 0xffff_f000, 0, 0, 0xffff_c00c, u32::MAX]);
    t.set(4, 4, u32::MAX);
    t.set(0xc, 4, u32::MAX);
    t.set(0x3c, 1, 0xff);
    assert_eq!([t.get(4, 4), t.get(0xc, 4), t.get(0x3c, 4)], [0x10_0507, 0xff, 0x1ff]);
    assert_eq!(t.get(0x100, 4), u32::MAX);
    let (_, blk_config) = disk(10 << 20, DiskOptions::default());
    let t = Pci::unmapped(&Machine::new(), config(false, true), Box::new(Blk::new(blk_config)));
    assert_eq!([t.get(0, 4), t.get(8, 4), t.get(0x2c, 4)], [0x1042_1af4, 0x0100_0001, 0x1100_1af4]);
}

#[test]
fn bars_answer_where_and_when_the_guest_says() {
    let m = Machine::new();
    let t = Pci::new(&m, config(true, true), blk(LEN, false).1);
    let modern = |at: u64| m.load(at + 0x12, 2);
    assert_eq!(modern(BAR_MODERN), 1);
    assert_eq!(m.load(0x5000_0000, 4), 0xffff_ffff);
    t.set(0x24, 4, 0);
    t.set(0x20, 4, 0x5000_0000);
    assert_eq!((modern(0x5000_0000), modern(BAR_MODERN)), (1, 0xffff));
    // Over RAM, outside every window, the BAR does not answer.
    t.set(0x20, 4, RAM as u32);
    assert_eq!(modern(RAM), 0);
    t.set(4, 2, 0);
    assert_eq!(m.load(BAR_MSIX + 12, 4), 0xffff_ffff);
    assert!(t.host.info().contains("BAR4: 64 bit prefetchable memory (not mapped)"));
    t.set(4, 2, 3);
    let info = t.host.info();
    assert!(info.contains("    SCSI controller: PCI device 1af4:1001\n"), "{info}");
    assert!(info.contains("      BAR0: I/O at 0x1000 [0x107f].\n"), "{info}");
    assert!(info.contains("BAR1: 32 bit memory at 0x40100000 [0x40100fff].\n"), "{info}");
    assert!(m.load(PIO + 0x1000, 4) & 0x4000_0000 != 0);
    // Firmware hands out ports from 0 on.
    t.set(0x10, 4, 0);
    assert!(m.load(PIO, 4) & 0x4000_0000 != 0);
}

#[test]
fn without_bus_mastering_nothing_moves() {
    let m = Machine::new();
    let t = Pci::new(&m, config(true, true), blk(LEN, false).1);
    t.enable_msix();
    let mut d = Driver::start(&m, &t, feature::VERSION_1, 1, 16);
    t.set(4, 2, 3);
    d.submit(0, BUFFERS, &[Part::Out(&header(4, 0)), Part::In(1)]);
    t.device.save();
    assert_eq!(d.used(0), None);
    assert!(t.messages.0.lock().unwrap().is_empty());
    t.set(4, 2, 7);
    t.notify(0);
    t.device.save();
    assert_eq!(d.used(0), Some(1));
    assert_eq!(*t.messages.0.lock().unwrap(), [(4, 101)]);
}

#[test]
fn masked_messages_wait_and_messages_to_the_bus_are_dropped() {
    let m = Machine::new();
    let t = Pci::new(&m, config(true, true), blk(LEN, false).1);
    t.enable_msix();
    m.store(BAR_MSIX + 16 + 12, 4, 1);
    let mut d = Driver::start(&m, &t, feature::VERSION_1, 1, 16);
    let flush = [Part::Out(&header(4, 0)), Part::In(1)];
    assert_eq!(d.request(0, &flush).0, 1);
    t.device.save();
    assert!(t.messages.0.lock().unwrap().is_empty());
    assert_eq!(m.load(BAR_MSIX + 0x800, 4), 2);
    m.store(BAR_MSIX + 16 + 12, 4, 0);
    assert_eq!(*t.messages.0.lock().unwrap(), [(4, 101)]);
    // Into the device's own notification register: must neither hang nor recurse.
    for target in [BAR_MODERN + 0x3000, 0x3000_8004, BAR_MSIX + 12] {
        m.store(BAR_MSIX + 16, 4, target & 0xffff_ffff);
        m.store(BAR_MSIX + 20, 4, target >> 32);
        assert_eq!(d.request(0, &flush).0, 1);
    }
    t.device.save();
    assert_eq!(t.messages.0.lock().unwrap().len(), 1);
    m.store(BAR_MSIX + 16, 4, MSI + 8);
    m.store(BAR_MSIX + 20, 4, 0);
    assert_eq!(d.request(0, &flush).0, 1);
    t.device.save();
    assert_eq!(t.messages.0.lock().unwrap()[1], (8, 101));
}

#[test]
fn configuration_space_reaches_the_bar() {
    let t = Pci::unmapped(&Machine::new(), config(true, true), blk(LEN, false).1);
    let select = |offset: u32, len: u32| {
        t.set(0x84 + 4, 1, 4);
        t.set(0x84 + 8, 4, offset);
        t.set(0x84 + 12, 4, len);
    };
    select(0x12, 2);
    assert_eq!(t.get(0x84 + 16, 2), 1);
    select(0x14, 1);
    t.set(0x84 + 16, 1, 3);
    assert_eq!(t.get(0x84 + 16, 1), 3);
    select(0x3fff, 4);
    t.set(0x84 + 16, 4, 3);
    t.get(0x84 + 16, 4);
}

#[test]
fn a_function_saves_and_restores_with_its_device() {
    for packed in [false, true] {
        let m = Machine::new();
        let t = Pci::new(&m, config(true, true), blk(LEN, packed).1);
        t.enable_msix();
        let mut d = Driver::start(&m, &t, u64::MAX, 1, 16);
        d.submit(0, BUFFERS, &[Part::Out(&header(1, 0)), Part::Out(&[5; 4096]), Part::In(1)]);
        let saved = t.device.save();
        let copy = Machine::new();
        copy.write(RAM, &m.read(RAM, RAM_LEN as usize));
        let other = Pci::unmapped(&copy, config(true, true), blk(LEN, packed).1);
        other.device.restore(&state::decode(&state::encode(&saved)).unwrap()).unwrap();
        assert_eq!(other.device.save(), saved);
        assert_eq!(other.status(), 15);
        assert!(other.space.load(Gpa(BAR_MODERN + 0x12), 2) == Ok(1));
        other.device.reset();
        assert_eq!((other.get(4, 2), other.get(0x20, 4)), (0, 0xc));
        let wrong = Pci::unmapped(&Machine::new(), config(false, true), blk(LEN, packed).1);
        assert!(wrong.device.restore(&saved).is_err());
    }
}

#[test]
fn places_are_given_and_refused() {
    let t = Pci::unmapped(&Machine::new(), config(true, true), blk(LEN, false).1);
    let more = |at| {
        let space = Arc::clone(&t.space);
        let device = crate::VirtioPci::new(blk(LEN, false).1, config(true, true), space);
        t.host.attach(device, at)
    };
    let taken = more(Some(Devfn(0))).unwrap_err();
    assert_eq!(
        taken.to_string(),
        "PCI: slot 0 function 0 not available for virtio-blk-pci, in use by gpex-root,id=(null)"
    );
    assert_eq!(more(None), Ok(Devfn::new(2, 0)));
    assert_eq!(more(Devfn::parse("1f.7")), Ok(Devfn::new(31, 7)));
    assert_eq!(t.host.attach(t.device.clone(), None), Err(AttachError::Connected));
    for bad in ["zz", "20", "1.8", "", "1.", "+1"] {
        assert_eq!(Devfn::parse(bad), None, "{bad}");
    }
    assert!(t.host.detach(Devfn::new(2, 0)).is_some());
    assert_eq!(more(None), Ok(Devfn::new(2, 0)));
}

#[test]
fn properties_choose_the_interfaces() {
    let parse = |name: &str, given: &[(&str, &str)]| {
        let given: Vec<_> = given.iter().map(|(a, b)| (a.to_string(), b.to_string())).collect();
        PciConfig::parse(class(name).unwrap(), &given)
    };
    let c = parse("virtio-blk-pci", &[("disable-legacy", "on"), ("addr", "06.1")]).unwrap();
    assert_eq!((c.legacy, c.modern, c.addr), (false, true, Some(Devfn::new(6, 1))));
    assert!(!parse("virtio-rng-pci-non-transitional", &[]).unwrap().legacy);
    let error = |given: &[(&str, &str)]| parse("virtio-blk-pci", given).unwrap_err().message;
    assert_eq!(error(&[("addr", "zz")]), "Property 'virtio-blk-pci.addr' doesn't take value 'zz'");
    assert!(
        error(&[("disable-legacy", "on"), ("disable-modern", "on")])
            .starts_with("device cannot work")
    );
    assert!(parse("virtio-blk-pci-transitional", &[("disable-modern", "on")]).is_err());
    let _ = build;
}

#[test]
fn a_state_whose_device_does_not_fit_changes_nothing() {
    let m = Machine::new();
    let t = Pci::new(&m, PciConfig::new("virtio-blk-pci"), blk(1 << 16, false).1);
    let device::Value::Record(mut fields) = t.device.save() else { panic!("it is a record") };
    fields.iter_mut().filter(|(n, _)| *n == 3).for_each(|f| f.1 = device::Value::Unsigned(0));
    t.set(4, 2, 0);
    let now = t.device.save();
    assert!(t.device.restore(&device::Value::Record(fields)).is_err());
    assert_eq!(t.device.save(), now);
}

#[test]
fn a_device_is_freed_with_its_machine() {
    let m = Machine::new();
    let t = Pci::new(&m, PciConfig::new("virtio-blk-pci"), blk(1 << 16, false).1);
    let space = Arc::downgrade(&m.space);
    m.space.clear();
    drop((t, m));
    assert!(space.upgrade().is_none());
}

#[test]
fn a_pin_that_was_high_when_messages_were_enabled_stays_so_over_a_restore() {
    let m = Machine::new();
    let t = Pci::new(&m, PciConfig::new("virtio-blk-pci"), blk(1 << 16, false).1);
    let mut d = Driver::start(&m, &t, u64::MAX, 1, 16);
    d.request(0, &[Part::Out(&header(4, 0)), Part::In(1)]);
    t.enable_msix();
    let saved = t.device.save();
    t.device.restore(&saved).unwrap();
    assert_eq!(t.device.save(), saved);
}
