//! Putting devices where they belong: PCI functions on the bus, `virtio-*-device` into MMIO slots,
//! units and ports onto the adapters that carry them.

use crate::core::{Port, VirtioDevice};
use crate::props::{BuildError, Props};
use crate::{Backends, PciConfig, VirtioMmio, VirtioPci, build, build_child, class};
use device::{Bus, DeviceClass, Property};
use memory::AddressSpace;
use options::parse_bool;
use pci::{Devfn, PciHost};
use std::fmt::Write;
use std::sync::Arc;

/// A `-device` with its properties; `bus` may be among them.
#[derive(Clone, Copy, Debug)]
pub struct Spec<'a> {
    /// Its class.
    pub driver: &'a str,
    /// Its id, if it has one.
    pub id: Option<&'a str>,
    /// Its other properties.
    pub properties: &'a [(String, String)],
}

/// Where a device is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Function(Devfn),
    Slot(usize),
    /// On the bus with this index.
    Child(usize),
}

/// A bus that a device brought with it.
pub(crate) struct ChildBus {
    name: String,
    kind: Bus,
    port: Port,
    /// Index of its device.
    pub(crate) owner: usize,
}

pub(crate) struct Plugged {
    pub(crate) class: &'static DeviceClass,
    id: String,
    pub(crate) given: Vec<(String, String)>,
    pub(crate) place: Place,
    /// Target and logical unit, on a SCSI bus.
    pub(crate) unit: Option<(u8, u16)>,
}

/// The places for devices of one machine, and what is in them.
pub struct Plugs {
    space: Arc<AddressSpace>,
    pci: Option<Arc<PciHost>>,
    slots: Vec<Arc<VirtioMmio>>,
    pub(crate) buses: Vec<ChildBus>,
    pub(crate) plugged: Vec<Plugged>,
}

/// Name of the PCI bus.
const PCI_BUS: &str = "pcie.0";

impl Plugs {
    /// Places on `pci` and in `slots`, which fill from the last one down as QEMU fills them.
    pub fn new(
        space: Arc<AddressSpace>,
        pci: Option<Arc<PciHost>>,
        slots: Vec<Arc<VirtioMmio>>,
    ) -> Self {
        Self { space, pci, slots, buses: Vec::new(), plugged: Vec::new() }
    }

    /// The slots, the first one first.
    pub fn slots(&self) -> &[Arc<VirtioMmio>] {
        &self.slots
    }

    /// Builds a device and plugs it.
    ///
    /// # Errors
    /// The class is unknown, a property is wrong, or there is no place for it.
    pub fn add(&mut self, spec: Spec<'_>, backends: &dyn Backends) -> Result<(), BuildError> {
        let mut given = spec.properties.to_vec();
        let bus = given.iter().rev().find(|(n, _)| n == "bus").map(|(_, v)| v.clone());
        given.retain(|(n, _)| n != "bus");
        let id = spec.id.unwrap_or_default().to_owned();
        if !id.is_empty() && self.plugged.iter().any(|p| p.id == id) {
            return Err(BuildError::new(format!("Duplicate device ID '{id}'")));
        }
        let Some(class) = class(spec.driver) else {
            // The error names what is near.
            return build(spec.driver, &given, backends).map(|_| ());
        };
        self.check_boot_index(&given)?;
        let index = self.plugged.len();
        let mut unit = None;
        let place = match class.bus {
            Bus::Scsi | Bus::VirtioSerial => {
                let at = self.child_bus(class, bus.as_deref())?;
                unit = self.buses[at].port.with(|v| {
                    build_child(class.name, &given, backends, v.device.as_mut())?;
                    Ok(v.device.as_scsi().and_then(|host| host.last_unit()))
                })?;
                Place::Child(at)
            }
            Bus::Pci => {
                let host = self.pci.clone().ok_or_else(|| no_bus(class))?;
                if let Some(name) = bus.filter(|name| name != PCI_BUS) {
                    return Err(not_found(&name, [PCI_BUS]));
                }
                let config = PciConfig { id: id.clone(), ..PciConfig::parse(class, &given)? };
                let device = build(class.name, &given, backends)?;
                let (kind, at) = (child_kind(device.as_ref()), config.addr);
                let function = VirtioPci::new(device, config, Arc::clone(&self.space));
                let port = function.port().clone();
                let at = host.attach(function, at).map_err(|e| BuildError::new(e.to_string()))?;
                self.add_bus(kind, &id, port, index);
                Place::Function(at)
            }
            _ => {
                let n = self.free_slot(class, bus.as_deref())?;
                let device = build(class.name, &given, backends)?;
                let kind = child_kind(device.as_ref());
                let slot = Arc::clone(&self.slots[n]);
                slot.plug(device).map_err(|_| BuildError::new("the slot is taken"))?;
                if let Some(port) = slot.port() {
                    self.add_bus(kind, &id, port.clone(), index);
                }
                Place::Slot(n)
            }
        };
        self.plugged.push(Plugged { class, id, given, place, unit });
        Ok(())
    }

    fn add_bus(&mut self, kind: Option<Bus>, id: &str, port: Port, owner: usize) {
        let Some(kind) = kind else { return };
        let of_kind = self.buses.iter().filter(|b| b.kind == kind).count();
        let name = match (id, kind) {
            ("", Bus::Scsi) => format!("scsi.{of_kind}"),
            ("", _) => format!("virtio-serial-bus.{of_kind}"),
            (id, _) => format!("{id}.0"),
        };
        self.buses.push(ChildBus { name, kind, port, owner });
    }

    /// The bus that a child asks for, or the first of its kind.
    fn child_bus(&self, class: &DeviceClass, name: Option<&str>) -> Result<usize, BuildError> {
        let fits = |b: &ChildBus| b.kind == class.bus && name.is_none_or(|n| n == b.name);
        match (self.buses.iter().position(fits), name) {
            (Some(at), _) => Ok(at),
            (None, None) => Err(no_bus(class)),
            (None, Some(name)) => Err(not_found(name, self.buses.iter().map(|b| b.name.as_str()))),
        }
    }

    fn free_slot(&self, class: &DeviceClass, name: Option<&str>) -> Result<usize, BuildError> {
        let free = |n: &usize| self.slots[*n].port().is_none();
        let Some(name) = name else {
            return (0..self.slots.len()).rev().find(free).ok_or_else(|| no_bus(class));
        };
        let n = name.strip_prefix("virtio-mmio-bus.").and_then(|n| n.parse().ok());
        match n.filter(|n: &usize| *n < self.slots.len()) {
            Some(n) if free(&n) => Ok(n),
            Some(_) => Err(BuildError::new(format!("Bus '{name}' is full"))),
            None => Err(not_found(name, [])),
        }
    }

    /// Text of `info qtree` for the PCI bus, indented by `indent` spaces; with `brief` without
    /// properties.
    pub fn qtree_pci(&self, indent: usize, brief: bool) -> String {
        let Some(host) = &self.pci else { return String::new() };
        let mut out = String::new();
        line(&mut out, indent, "bus: pcie.0");
        line(&mut out, indent + 2, "type PCIE");
        for (at, device) in host.devices().into_iter().rev() {
            let head = format!("dev: {}, id \"{}\"", device.class_name(), device.id());
            line(&mut out, indent + 2, &head);
            let own = self.plugged.iter().position(|p| p.place == Place::Function(at));
            if !brief {
                if let Some(own) = own {
                    self.properties(&mut out, indent + 4, own, true);
                    line(&mut out, indent + 4, &format!("addr = {at}"));
                }
                let pad = " ".repeat(indent + 4);
                out += &host.qtree(at, &pad).unwrap_or_default();
            }
            if let Some(own) = own {
                line(&mut out, indent + 4, "bus: virtio-bus");
                line(&mut out, indent + 6, "type virtio-pci-bus");
                self.bare(&mut out, indent + 6, own, brief);
            }
        }
        out
    }

    /// Text of `info qtree` for the bus of MMIO slot `n`.
    pub fn qtree_slot(&self, n: usize, indent: usize, brief: bool) -> String {
        let mut out = String::new();
        line(&mut out, indent, &format!("bus: virtio-mmio-bus.{n}"));
        line(&mut out, indent + 2, "type virtio-mmio-bus");
        if let Some(own) = self.plugged.iter().position(|p| p.place == Place::Slot(n)) {
            self.bare(&mut out, indent + 2, own, brief);
        }
        out
    }

    /// The device below its transport, and what is on its bus.
    fn bare(&self, out: &mut String, indent: usize, own: usize, brief: bool) {
        let p = &self.plugged[own];
        let kind = p.class.name.split('-').nth(1).unwrap_or_default();
        let id = if matches!(p.place, Place::Slot(_)) { p.id.as_str() } else { "" };
        line(out, indent, &format!("dev: virtio-{kind}-device, id \"{id}\""));
        if !brief {
            self.properties(out, indent + 2, own, false);
        }
        for (at, bus) in self.buses.iter().enumerate().filter(|(_, b)| b.owner == own) {
            line(out, indent + 2, &format!("bus: {}", bus.name));
            line(out, indent + 4, &format!("type {}", bus.kind.name()));
            for child in self.plugged.iter().rev().filter(|c| c.place == Place::Child(at)) {
                let head = format!("dev: {}, id \"{}\"", child.class.name, child.id);
                line(out, indent + 4, &head);
                if !brief {
                    child.lines(out, indent + 6, |_| true);
                }
            }
        }
    }

    /// Properties of a device: the transport's, or the ones of the device behind it.
    fn properties(&self, out: &mut String, indent: usize, own: usize, transport: bool) {
        let p = &self.plugged[own];
        let bare = p.class.name.split('-').nth(1).unwrap_or_default();
        let bare = class(&format!("virtio-{bare}-device"));
        let of_device =
            |name: &str| bare.is_some_and(|c| c.properties.iter().any(|q| q.name == name));
        p.lines(out, indent, |name| name != "addr" && of_device(name) != transport);
    }
}

impl Plugged {
    fn lines(&self, out: &mut String, indent: usize, show: impl Fn(&str) -> bool) {
        let Ok(props) = Props::new(self.class, &self.given) else { return };
        for p in self.class.properties.iter().filter(|p| show(p.name)) {
            line(out, indent, &format!("{} = {}", p.name, shown(p, props.text(p.name))));
        }
    }
}

fn line(out: &mut String, indent: usize, text: &str) {
    // A string takes every write.
    let _ = writeln!(out, "{:indent$}{text}", "");
}

/// A property's value as `info qtree` shows it.
fn shown(property: &Property, value: &str) -> String {
    match property.kind {
        "bool" => parse_bool(value).unwrap_or(false).to_string(),
        "size" => match options::parse_size(value, b'b') {
            Ok(n) => format!("{n} ({})", human(n)),
            Err(_) => format!("\"{value}\""),
        },
        kind if kind.contains("int") => match options::parse_number(value) {
            Some(n) => format!("{n} ({n:#x})"),
            None => value.to_owned(),
        },
        _ => format!("\"{value}\""),
    }
}

/// A size in the largest unit that leaves three digits or fewer before the point.
fn human(bytes: u64) -> String {
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= 1000.0 && unit < 6 {
        (value, unit) = (value / 1024.0, unit + 1);
    }
    let text = format!("{value:.3}");
    let text = if value >= 100.0 {
        format!("{value:.0}")
    } else {
        text[..4.min(text.len())].trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    format!("{text} {}", ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"][unit])
}

fn child_kind(device: &dyn VirtioDevice) -> Option<Bus> {
    match device.device_id() {
        3 => Some(Bus::VirtioSerial),
        8 => Some(Bus::Scsi),
        _ => None,
    }
}

fn no_bus(class: &DeviceClass) -> BuildError {
    let (bus, class) = (class.bus.name(), class.name);
    BuildError::new(format!("No '{bus}' bus found for device '{class}'"))
}

fn not_found<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> BuildError {
    let error = BuildError::new(format!("Bus '{name}' not found"));
    match options::nearest(name, known) {
        Some(near) => error.with_hint(format!("Did you mean '{near}'?")),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::NoBackends;
    use device::Wire;
    use pci::Windows;

    fn plugs() -> Plugs {
        let space = AddressSpace::new("memory");
        let windows = Windows {
            ecam: (0x3000_0000, 0x1000_0000),
            mmio_low: (0x4000_0000, 0x4000_0000),
            mmio_high: (0, 0),
            pio: (0x300_0000, 0x1_0000),
        };
        let host = PciHost::new(Arc::clone(&space), windows, Default::default());
        let slot = |_| VirtioMmio::new(Wire::default(), Arc::clone(&space), true);
        Plugs::new(Arc::clone(&space), Some(host), (0..2).map(slot).collect())
    }

    fn add(p: &mut Plugs, driver: &str, id: &str, props: &[(&str, &str)]) -> String {
        let props: Vec<_> = props.iter().map(|(a, b)| (a.to_string(), b.to_string())).collect();
        let id = (!id.is_empty()).then_some(id);
        let added = p.add(Spec { driver, id, properties: &props }, &NoBackends);
        added.err().map_or(String::new(), |e| e.message)
    }

    /// As `qemu-system-riscv64 -M virt` 10.0.2 lists them.
    #[test]
    fn firmware_tries_devices_in_the_order_of_their_indices() {
        let mut p = plugs();
        let p = &mut p;
        for (driver, props) in [
            ("virtio-blk-pci", &[("drive", "d"), ("bootindex", "3")][..]),
            ("virtio-blk-device", &[("drive", "d"), ("bootindex", "1")]),
            ("virtio-scsi-pci", &[("addr", "7")]),
            ("scsi-hd", &[("drive", "d"), ("bootindex", "2"), ("scsi-id", "4"), ("lun", "1")]),
            ("virtio-net-pci", &[("bootindex", "5"), ("addr", "9.1")]),
            ("virtio-blk-pci", &[("drive", "d"), ("bootindex", "-1")]),
        ] {
            assert_eq!(add(p, driver, "", props), "", "{driver}");
        }
        let again = add(p, "virtio-blk-pci", "", &[("drive", "d"), ("bootindex", "3")]);
        assert_eq!(again, "The bootindex 3 has already been used");
        let want = [
            "/virtio-mmio@0000000010002000/disk@0,0",
            "/pci@ffffffffffffffff/scsi@7/channel@0/disk@4,1",
            "/pci@ffffffffffffffff/scsi@1/disk@0,0",
            "/pci@ffffffffffffffff/ethernet@9,1/ethernet-phy@0",
        ];
        assert_eq!(p.boot_order(|slot| 0x1000_1000 + 0x1000 * slot as u64), want);
    }

    #[test]
    fn devices_find_their_places() {
        let mut p = plugs();
        let p = &mut p;
        assert_eq!(
            add(p, "scsi-hd", "", &[("drive", "d")]),
            "No 'SCSI' bus found for device 'scsi-hd'"
        );
        assert_eq!(add(p, "virtio-scsi-device", "s", &[]), "");
        assert_eq!(add(p, "virtio-scsi-pci", "", &[("addr", "3")]), "");
        assert_eq!(add(p, "scsi-cd", "", &[("drive", "d")]), "");
        assert_eq!(add(p, "scsi-hd", "", &[("drive", "d"), ("bus", "scsi.1")]), "");
        assert_eq!(add(p, "scsi-hd", "", &[("drive", "d"), ("bus", "x.0")]), "Bus 'x.0' not found");
        assert_eq!(add(p, "virtio-rng-device", "s", &[]), "Duplicate device ID 's'");
        assert_eq!(add(p, "virtio-rng-device", "", &[("bus", "virtio-mmio-bus.0")]), "");
        assert_eq!(
            add(p, "virtio-rng-device", "", &[]),
            "No 'virtio-bus' bus found for device 'virtio-rng-device'"
        );
        assert!(add(p, "virtio-blk-pci", "", &[("drive", "d"), ("addr", "3")]).contains("slot 3"));
        assert_eq!(add(p, "virtio-blk", "b", &[("drive", "d"), ("bus", "pcie.0")]), "");
        let text = p.qtree_pci(4, false);
        for part in [
            "    bus: pcie.0\n      type PCIE\n      dev: virtio-scsi-pci, id \"\"\n",
            "        addr = 03.0\n        class SCSI controller, addr 00:03.0, pci id 1af4:1004",
            "              dev: scsi-hd, id \"\"\n",
            "      dev: virtio-blk-pci, id \"b\"\n",
            "            drive = \"d\"\n",
            "            queue-size = 256 (0x100)\n",
            "            discard_granularity = 4294967295 (4 GiB)\n",
            "            indirect_desc = true\n",
            "      dev: gpex-root, id \"\"\n",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        let text = p.qtree_slot(1, 4, true);
        let want = "    bus: virtio-mmio-bus.1\n      type virtio-mmio-bus\n      dev: virtio-scsi-device, id \"s\"\n        bus: s.0\n          type SCSI\n          dev: scsi-cd, id \"\"\n";
        assert_eq!(text, want);
    }
}
