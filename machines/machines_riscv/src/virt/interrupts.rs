//! What brings the devices' lines to the harts: a PLIC, APLICs, or APLICs and IMSICs.

use super::{Aia, VirtConfig, map};
use crate::harts::{LINE_MEI, LINE_SEI};
use crate::imsic::HartFiles;
use device::{LineSink, MsiSink, Shared, Tap, Wire};
use intc::{
    Aplic, AplicConfig, Domain, DomainWindow, Imsic, ImsicRouter, InterruptFile, Plic, PlicConfig,
};
use machine::{Builder, Pins, Side};
use std::sync::Arc;

/// Bits of a priority at an APLIC.
const APLIC_PRIORITY_BITS: u32 = 3;
/// Highest priority at the PLIC.
const PLIC_MAX_PRIORITY: u32 = 7;

/// Number of the first controller among the devices that QEMU numbers; before it is the CLINT.
const FIRST_DEVICE: u32 = 2;

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
        Aia::Aplic => {
            let outputs = [LINE_MEI, LINE_SEI].map(|line| Tap::fan(wires(harts, line)));
            let level = |tap| Tap::wires(tap, harts.len() as u32);
            let [machine, supervisor] = outputs.each_ref().map(level);
            let aplic = Aplic::direct(shape, machine, supervisor);
            add_aplic(b, aplic, harts, outputs.to_vec(), FIRST_DEVICE)
        }
        Aia::AplicImsic => {
            let router = add_imsics(b, config, harts, &files);
            let before = FIRST_DEVICE + 2 * harts.len() as u32;
            add_aplic(b, Aplic::with_messages(shape, router), harts, Vec::new(), before)
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
    let outputs = Tap::fan(fan);
    let count = harts.len() as u32;
    let wires = Tap::wires(&outputs, 2 * count);
    let (supervisors, machines) = wires.split_at(harts.len());
    let contexts = machines.iter().zip(supervisors).flat_map(|(m, s)| [m.clone(), s.clone()]);
    let contexts = contexts.collect();
    let config = PlicConfig { sources: map::SOURCES, max_priority: PLIC_MAX_PRIORITY };
    let plic = Shared::new(Plic::new(config, contexts));
    b.space.map_io("riscv.sifive.plic", map::PLIC.base, map::PLIC.len, Arc::new(plic.clone()));
    b.part("/machine/plic", plic.clone());
    let inputs = Tap::new(Arc::new(plic));
    let paths = paths("plic", FIRST_DEVICE);
    add_pins(b, &paths, Side::Inputs, &inputs, map::SOURCES);
    add_pins(b, &paths, Side::Outputs, &outputs, 2 * count);
    add_device_pins(b, &inputs, FIRST_DEVICE + 1);
    inputs
}

/// Our path of a device, and QEMU's: unattached devices have numbers.
fn paths(name: &str, number: u32) -> Vec<String> {
    vec![format!("/machine/{name}"), format!("/machine/unattached/device[{number}]")]
}

/// All the pins of one side of a controller.
fn add_pins(b: &mut Builder, paths: &[String], side: Side, tap: &Arc<Tap>, count: u32) {
    let (paths, tap, lines) = (paths.to_vec(), Arc::clone(tap), (0..count).collect());
    b.pins.push(Pins { paths, side, name: "", tap, lines });
}

/// The interrupt outputs of the devices with lines of their own; `test` is the number of the first
/// device behind the controllers.
fn add_device_pins(b: &mut Builder, inputs: &Arc<Tap>, test: u32) {
    let mut add = |name: &str, number: u32, lines: Vec<u32>| {
        let (paths, tap) = (paths(name, number), Arc::clone(inputs));
        b.pins.push(Pins { paths, side: Side::Outputs, name: "sysbus-irq", tap, lines });
    };
    let mut next = test + 1;
    for n in 0..map::VIRTIO_SLOTS {
        add(&format!("virtio-mmio{n}"), next + n, vec![map::VIRTIO_IRQ + n]);
    }
    next += map::VIRTIO_SLOTS;
    add("pcie", next, (map::PCIE_IRQ..map::PCIE_IRQ + map::PCIE_IRQS).collect());
    // Between them is the platform bus.
    add("serial0", next + 2, vec![map::UART0_IRQ]);
    add("rtc", next + 3, vec![map::RTC_IRQ]);
}

/// Both domains of the APLIC, with what the harts' lines of each can be heard at if it drives them,
/// and the number of the first.
fn add_aplic(
    b: &mut Builder,
    aplic: Shared<Aplic>,
    harts: &Lines,
    outputs: Vec<Arc<Tap>>,
    number: u32,
) -> Arc<dyn LineSink> {
    let count = harts.len() as u32;
    let len = map::aplic_len(count.into());
    for (domain, base) in [(Domain::Machine, map::APLIC_M), (Domain::Supervisor, map::APLIC_S)] {
        let window = DomainWindow::new(aplic.clone(), domain);
        b.space.map_io("riscv.aplic", base, len, Arc::new(window));
    }
    b.part("/machine/aplic", aplic.clone());
    let inputs = Tap::new(Arc::new(aplic));
    add_pins(b, &paths("aplic_m", number), Side::Inputs, &inputs, map::SOURCES);
    for (n, tap) in outputs.iter().enumerate() {
        let name = ["aplic_m", "aplic_s"][n.min(1)];
        add_pins(b, &paths(name, number + n as u32), Side::Outputs, tap, count);
    }
    add_device_pins(b, &inputs, number + 2);
    inputs
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
    for (n, (hart, own)) in harts.iter().zip(files).enumerate() {
        let (n, count) = (n as u32, harts.len() as u32);
        for (file, line, name, number) in [
            (&own.machine, LINE_MEI, "imsic_m", FIRST_DEVICE + n),
            (&own.supervisor, LINE_SEI, "imsic_s", FIRST_DEVICE + count + n),
        ] {
            let tap = Tap::fan(vec![Wire::to(Arc::clone(hart), line)]);
            Tap::wires(&tap, 1).into_iter().for_each(|wire| file.connect(wire));
            add_pins(b, &paths(&format!("{name}{n}"), number), Side::Outputs, &tap, 1);
        }
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
