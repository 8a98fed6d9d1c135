//! What brings the devices' lines to the harts: a PLIC, APLICs, or APLICs and IMSICs.

use super::{Aia, VirtConfig, map};
use crate::harts::{LINE_MEI, LINE_SEI};
use crate::imsic::HartFiles;
use device::{Fan, LineSink, MsiSink, Shared, Tap, Wire};
use intc::{
    Aplic, AplicConfig, Domain, DomainWindow, Imsic, ImsicRouter, InterruptFile, Plic, PlicConfig,
};
use machine::{Builder, Pins, Side};
use std::sync::Arc;

/// Bits of a priority at an APLIC.
const APLIC_PRIORITY_BITS: u32 = 3;
/// Highest priority at the PLIC.
const PLIC_MAX_PRIORITY: u32 = 7;

type Lines = [Arc<dyn LineSink>];

/// The interrupt files of the harts, if the board has IMSICs.
pub(super) fn files(config: &VirtConfig) -> Vec<HartFiles> {
    let count = if config.aia == Aia::AplicImsic { config.harts.len() } else { 0 };
    let file = || InterruptFile::new(map::IMSIC_IDS);
    (0..count).map(|_| HartFiles { machine: file(), supervisor: file() }).collect()
}

/// Adds the controllers; the result takes the lines of the devices.
pub(super) fn add(
    b: &mut Builder,
    config: &VirtConfig,
    harts: &Lines,
    files: Vec<HartFiles>,
) -> Arc<dyn LineSink> {
    let shape = AplicConfig {
        sources: map::SOURCES,
        harts: harts.len() as u32,
        priority_bits: APLIC_PRIORITY_BITS,
    };
    match config.aia {
        Aia::None => add_plic(b, harts),
        Aia::Aplic => add_aplic(
            b,
            Aplic::direct(shape, wires(harts, LINE_MEI), wires(harts, LINE_SEI)),
            harts,
        ),
        Aia::AplicImsic => {
            let router = add_imsics(b, config, harts, &files);
            add_aplic(b, Aplic::with_messages(shape, router), harts)
        }
    }
}

/// A wire to the same line of every hart.
fn wires(harts: &Lines, line: u32) -> Vec<Wire> {
    harts.iter().map(|hart| Wire::to(Arc::clone(hart), line)).collect()
}

/// The PLIC, its contexts machine and supervisor of each hart.
fn add_plic(b: &mut Builder, harts: &Lines) -> Arc<dyn LineSink> {
    // Outputs are numbered as QEMU numbers them: the supervisors' first.
    let fan = [wires(harts, LINE_SEI), wires(harts, LINE_MEI)].concat();
    let outputs = Tap::new(Arc::new(Fan(fan)));
    let (count, tap) = (harts.len() as u32, Arc::clone(&outputs));
    let output = |n| Wire::to(Arc::clone(&tap) as Arc<dyn LineSink>, n);
    let contexts = (0..count).flat_map(|n| [output(count + n), output(n)]).collect();
    let config = PlicConfig { sources: map::SOURCES, max_priority: PLIC_MAX_PRIORITY };
    let plic = Shared::new(Plic::new(config, contexts));
    b.space.map_io("riscv.sifive.plic", map::PLIC.base, map::PLIC.len, Arc::new(plic.clone()));
    b.part("/machine/plic", plic.clone());
    let inputs = Tap::new(Arc::new(plic));
    for (side, tap, count) in
        [(Side::Inputs, &inputs, map::SOURCES), (Side::Outputs, &outputs, 2 * count)]
    {
        let paths = vec!["/machine/plic".to_owned(), "/machine/unattached/device[2]".to_owned()];
        let lines = (0..count).collect();
        b.pins.push(Pins { paths, side, name: "", tap: Arc::clone(tap), lines });
    }
    add_device_pins(b, &inputs);
    inputs
}

/// The interrupt outputs of the devices with a line of their own, by our paths and QEMU's.
fn add_device_pins(b: &mut Builder, inputs: &Arc<Tap>) {
    let mut add = |path: String, index: u32, line: u32| {
        let paths = vec![path, format!("/machine/unattached/device[{index}]")];
        let (tap, lines) = (Arc::clone(inputs), vec![line]);
        b.pins.push(Pins { paths, side: Side::Outputs, name: "sysbus-irq", tap, lines });
    };
    for n in 0..map::VIRTIO_SLOTS {
        add(format!("/machine/virtio-mmio{n}"), 4 + n, map::VIRTIO_IRQ + n);
    }
    add("/machine/serial0".into(), 14, map::UART0_IRQ);
    add("/machine/rtc".into(), 15, map::RTC_IRQ);
}

/// Both domains of the APLIC.
fn add_aplic(b: &mut Builder, aplic: Shared<Aplic>, harts: &Lines) -> Arc<dyn LineSink> {
    let len = map::aplic_len(harts.len() as u64);
    for (domain, base) in [(Domain::Machine, map::APLIC_M), (Domain::Supervisor, map::APLIC_S)] {
        let window = DomainWindow::new(aplic.clone(), domain);
        b.space.map_io("riscv.aplic", base, len, Arc::new(window));
    }
    b.part("/machine/aplic", aplic.clone());
    Arc::new(aplic)
}

/// The pages of the interrupt files; the result brings messages to them. Guest files have pages
/// and no hart that looks at them: there is no hypervisor mode yet.
fn add_imsics(
    b: &mut Builder,
    config: &VirtConfig,
    harts: &Lines,
    files: &[HartFiles],
) -> Arc<dyn MsiSink> {
    let guests = (1usize << config.guest_index_bits()) - 1;
    let (mut machine, mut supervisor) = (Vec::new(), Vec::new());
    for (hart, own) in harts.iter().zip(files) {
        own.machine.connect(Wire::to(Arc::clone(hart), LINE_MEI));
        own.supervisor.connect(Wire::to(Arc::clone(hart), LINE_SEI));
        machine.push(Arc::clone(&own.machine));
        supervisor.push(Arc::clone(&own.supervisor));
        supervisor.extend((0..guests).map(|_| InterruptFile::new(map::IMSIC_IDS)));
    }
    let levels = vec![(map::IMSIC_M.base, machine), (map::IMSIC_S.base, supervisor)];
    for (path, (base, files)) in ["/machine/imsic_m", "/machine/imsic_s"].into_iter().zip(&levels) {
        let imsic = Arc::new(Imsic::new(files.clone()));
        b.space.map_io("riscv.imsic", *base, imsic.len(), imsic.clone());
        b.parts.push((path.into(), imsic));
    }
    ImsicRouter::new(levels)
}
