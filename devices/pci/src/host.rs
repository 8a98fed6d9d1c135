//! Generic ECAM host bridge (`gpex`): configuration space in memory, windows for BARs, four
//! interrupt lines.
//!
//! A message that a device sends into a window or into configuration space is dropped: it could
//! lead back into the device that sends it.

use crate::function::{BarKind, FunctionBuilder, Identity, PciFunction, Place, reg};
use crate::msix::MsiSink;
use device::{AccessRules, OrGate, Part, RestoreError, Value, Wire, guest_error};
use memory::{AddressSpace, Backing, Gpa, IoHandler, Region};
use std::fmt::{self, Write};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, Weak};

/// Device and function number on a bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Devfn(pub u8);

impl Devfn {
    /// Function `function` (0 to 7) of slot `slot` (0 to 31).
    pub fn new(slot: u8, function: u8) -> Self {
        Self(slot << 3 | function & 7)
    }

    /// Slot.
    pub fn slot(self) -> u8 {
        self.0 >> 3
    }

    /// Function in the slot.
    pub fn function(self) -> u8 {
        self.0 & 7
    }

    /// Reads the `addr=` property: a slot in hexadecimal, and a function after a dot.
    pub fn parse(text: &str) -> Option<Self> {
        let (slot, function) = text.split_once('.').unwrap_or((text, "0"));
        let number = |t: &str| {
            let t = t.strip_prefix("0x").unwrap_or(t);
            let hex = !t.is_empty() && t.len() <= 2 && t.bytes().all(|b| b.is_ascii_hexdigit());
            hex.then(|| u8::from_str_radix(t, 16).ok()).flatten()
        };
        let (slot, function) = (number(slot)?, number(function)?);
        (slot < 32 && function < 8).then(|| Self::new(slot, function))
    }
}

impl fmt::Display for Devfn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x}.{:x}", self.slot(), self.function())
    }
}

/// Ranges of the CPU's address space that lead to the bus: base and length in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Windows {
    /// Configuration space, 1 MiB for each bus.
    pub ecam: (u64, u64),
    /// Memory, at the same addresses on the bus.
    pub mmio_low: (u64, u64),
    /// Memory above 4 GiB, at the same addresses on the bus.
    pub mmio_high: (u64, u64),
    /// Ports, from 0 on the bus.
    pub pio: (u64, u64),
}

fn holds((base, len): (u64, u64), at: u64, n: u64) -> bool {
    at >= base && n <= len && at - base <= len - n
}

impl Windows {
    /// Whether the range lies in a memory window.
    pub fn memory(&self, at: u64, len: u64) -> bool {
        holds(self.mmio_low, at, len) || holds(self.mmio_high, at, len)
    }

    /// CPU address of a range of ports.
    pub fn port(&self, at: u64, len: u64) -> Option<u64> {
        holds((0, self.pio.1), at, len).then(|| self.pio.0 + at)
    }
}

/// A function on a bus. Its [`Part`] side covers configuration space and device together.
pub trait PciDevice: Part {
    /// Configuration space, BARs, interrupts.
    fn function(&self) -> &PciFunction;
    /// Name of its class.
    fn class_name(&self) -> &str;
    /// Its `id=`, or nothing.
    fn id(&self) -> &str {
        ""
    }
    /// Reads configuration space.
    fn config_read(&self, offset: usize, size: u32) -> u32 {
        self.function().read(offset, size)
    }
    /// Writes configuration space.
    fn config_write(&self, offset: usize, size: u32, value: u32) {
        self.function().write(offset, size, value);
    }
}

/// Why a device got no place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttachError {
    /// Another device is there.
    Taken {
        /// Where.
        at: Devfn,
        /// Class of the new device.
        class: String,
        /// Class of the one that is there.
        by: String,
        /// Its id.
        id: String,
    },
    /// Every slot is taken.
    Full {
        /// Class of the new device.
        class: String,
    },
    /// The device is on a bus already.
    Connected,
}

impl fmt::Display for AttachError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Taken { at, class, by, id } => {
                let id = if id.is_empty() { "(null)" } else { id };
                let (slot, function) = (at.slot(), at.function());
                write!(f, "PCI: slot {slot} function {function} not available for {class}, ")?;
                write!(f, "in use by {by},id={id}")
            }
            Self::Full { class } => {
                write!(f, "PCI: no slot/function available for {class}, all in use or reserved")
            }
            Self::Connected => f.write_str("PCI: the device is on a bus already"),
        }
    }
}

impl std::error::Error for AttachError {}

/// The host bridge and its bus 0.
pub struct PciHost {
    space: Arc<AddressSpace>,
    windows: Windows,
    lines: Vec<Arc<OrGate>>,
    bus: Arc<FunctionList>,
    own: Weak<Self>,
}

/// The functions on bus 0. Configuration space keeps it alive: who built the bridge may let go of
/// it.
#[derive(Default)]
struct FunctionList(RwLock<Vec<(Devfn, Arc<dyn PciDevice>)>>);

impl FunctionList {
    fn read(&self) -> RwLockReadGuard<'_, Vec<(Devfn, Arc<dyn PciDevice>)>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, devfn: u8) -> Option<Arc<dyn PciDevice>> {
        let devices = self.read();
        let index = devices.binary_search_by_key(&Devfn(devfn), |(d, _)| *d).ok()?;
        Some(Arc::clone(&devices[index].1))
    }
}

impl PciHost {
    /// A bridge in `space`, with itself at 00.0. `irqs` are the four lines that INTA of slot 0,
    /// 1, 2 and 3 lead to.
    pub fn new(space: Arc<AddressSpace>, windows: Windows, irqs: [Wire; 4]) -> Arc<Self> {
        let lines = irqs.into_iter().map(|wire| OrGate::new(256, wire)).collect();
        let host = Arc::new_cyclic(|own| Self {
            space: Arc::clone(&space),
            windows,
            lines,
            bus: Arc::default(),
            own: own.clone(),
        });
        let ranges = [
            ("gpex_mmio_window", windows.mmio_low),
            ("gpex_mmio_window_high", windows.mmio_high),
            ("gpex_ioport_window", windows.pio),
        ];
        for (name, (base, len)) in ranges {
            if len != 0 {
                let backing = Backing::Io(Arc::new(Nothing));
                space.map(Region {
                    name: name.into(),
                    base: Gpa(base),
                    len,
                    priority: -1,
                    backing,
                });
            }
        }
        let ecam = Arc::new(Ecam(Arc::clone(&host.bus)));
        space.map_io("pcie-ecam", windows.ecam.0, windows.ecam.1, ecam);
        let bridge: Arc<dyn PciDevice> = Arc::new(root());
        host.attach(bridge, Some(Devfn(0))).expect("an empty bus has room for its bridge");
        host
    }

    /// The address space it is in.
    pub fn space(&self) -> &Arc<AddressSpace> {
        &self.space
    }

    /// Puts a device on the bus: where `at` says, else into the first free slot.
    ///
    /// # Errors
    /// There is no room.
    pub fn attach(
        &self,
        device: Arc<dyn PciDevice>,
        at: Option<Devfn>,
    ) -> Result<Devfn, AttachError> {
        let mut devices = self.bus.0.write().unwrap_or_else(PoisonError::into_inner);
        let class = || device.class_name().to_owned();
        let taken = |slot: u8| devices.iter().any(|(d, _)| d.slot() == slot);
        let at = match at {
            Some(at) => at,
            None => (0..32)
                .find(|slot| !taken(*slot))
                .map(|slot| Devfn::new(slot, 0))
                .ok_or_else(|| AttachError::Full { class: class() })?,
        };
        if let Some((_, other)) = devices.iter().find(|(d, _)| *d == at) {
            let (by, id) = (other.class_name().to_owned(), other.id().to_owned());
            return Err(AttachError::Taken { at, class: class(), by, id });
        }
        let pin = device.function().read(reg::INTERRUPT_PIN, 1) as u8;
        let wire = match pin.checked_sub(1) {
            Some(pin) => {
                let gate = Arc::clone(&self.lines[usize::from(at.slot() + (pin & 3)) % 4]);
                Wire::to(gate, at.0.into())
            }
            None => Wire::default(),
        };
        let place = Place { space: Arc::clone(&self.space), windows: self.windows };
        let sink = Arc::new(Messages(Arc::clone(&self.space)));
        if !device.function().connect(place, wire, sink) {
            return Err(AttachError::Connected);
        }
        devices.push((at, device));
        devices.sort_by_key(|(d, _)| *d);
        Ok(at)
    }

    /// Takes a device off the bus.
    pub fn detach(&self, at: Devfn) -> Option<Arc<dyn PciDevice>> {
        let mut devices = self.bus.0.write().unwrap_or_else(PoisonError::into_inner);
        let index = devices.iter().position(|(d, _)| *d == at)?;
        let (_, device) = devices.remove(index);
        device.function().disconnect();
        Some(device)
    }

    /// All devices in order of their place.
    pub fn devices(&self) -> Vec<(Devfn, Arc<dyn PciDevice>)> {
        self.bus.read().clone()
    }

    /// A handle that does not keep the bridge alive.
    pub fn downgrade(&self) -> Weak<Self> {
        self.own.clone()
    }

    /// Text of `info pci`.
    pub fn info(&self) -> String {
        let mut out = String::new();
        for (at, device) in self.devices() {
            describe(&mut out, at, device.as_ref());
        }
        out
    }
}

impl PciHost {
    /// What `info qtree` says of the function at `at` beside its properties, each line after
    /// `indent`.
    pub fn qtree(&self, at: Devfn, indent: &str) -> Option<String> {
        let device = self.bus.find(at.0)?;
        let f = device.function();
        let class = f.read(reg::CLASS + 1, 2) as u16;
        let name = CLASS_NAMES.iter().find(|(c, _)| *c == class);
        let name = name.map_or_else(|| format!("Class {class:04x}"), |(_, n)| (*n).to_owned());
        let ids = (f.read(reg::VENDOR_ID, 2), f.read(reg::DEVICE_ID, 2));
        let sub = (f.read(reg::SUBSYSTEM_VENDOR, 2), f.read(reg::SUBSYSTEM, 2));
        let mut out = format!(
            "{indent}class {name}, addr 00:{at}, pci id {:04x}:{:04x} (sub {:04x}:{:04x})\n",
            ids.0, ids.1, sub.0, sub.1
        );
        for (index, bar, address) in f.bars() {
            let kind = if bar.kind == BarKind::Io { "i/o" } else { "mem" };
            let at = address.unwrap_or(u64::MAX);
            let last = at.wrapping_add(bar.len - 1);
            // A string takes every write.
            let _ = writeln!(out, "{indent}bar {index}: {kind} at {at:#x} [{last:#x}]");
        }
        Some(out)
    }
}

fn describe(out: &mut String, at: Devfn, device: &dyn PciDevice) {
    let f = device.function();
    let class = f.read(reg::CLASS + 1, 2) as u16;
    // A string takes every write.
    let _ = writeln!(out, "  Bus  0, device {:3}, function {}:", at.slot(), at.function());
    let name = CLASS_NAMES.iter().find(|(c, _)| *c == class);
    let name = name.map_or_else(|| format!("Class {class:04}"), |(_, n)| (*n).to_owned());
    let ids = (f.read(reg::VENDOR_ID, 2), f.read(reg::DEVICE_ID, 2));
    let _ = writeln!(out, "    {name}: PCI device {:04x}:{:04x}", ids.0, ids.1);
    let sub = (f.read(reg::SUBSYSTEM_VENDOR, 2), f.read(reg::SUBSYSTEM, 2));
    let _ = writeln!(out, "      PCI subsystem {:04x}:{:04x}", sub.0, sub.1);
    let pin = f.read(reg::INTERRUPT_PIN, 1) as u8;
    if let Some(pin) = pin.checked_sub(1) {
        let line = f.read(reg::INTERRUPT_LINE, 1);
        let _ = writeln!(out, "      IRQ {line}, pin {}", char::from(b'A' + (pin & 3)));
    }
    for (index, bar, address) in f.bars() {
        let kind = match bar.kind {
            BarKind::Io => "I/O",
            BarKind::Memory32 => "32 bit memory",
            BarKind::Memory64 => "64 bit prefetchable memory",
        };
        let _ = match address {
            Some(at) => {
                let (last, width) =
                    (at + (bar.len - 1), if bar.kind == BarKind::Io { 4 } else { 8 });
                writeln!(out, "      BAR{index}: {kind} at 0x{at:0width$x} [0x{last:0width$x}].")
            }
            None => writeln!(out, "      BAR{index}: {kind} (not mapped)"),
        };
    }
    let _ = writeln!(out, "      id \"{}\"", device.id());
}

/// Names of classes as `info pci` prints them.
const CLASS_NAMES: &[(u16, &str)] = &[
    (0x0100, "SCSI controller"),
    (0x0101, "IDE controller"),
    (0x0106, "SATA controller"),
    (0x0108, "NVMe controller"),
    (0x0200, "Ethernet controller"),
    (0x0300, "VGA controller"),
    (0x0380, "Display controller"),
    (0x0600, "Host bridge"),
    (0x0604, "PCI bridge"),
    (0x0c03, "USB controller"),
];

/// Messages reach RAM and interrupt controllers, never the registers of a device.
struct Messages(Arc<AddressSpace>);

impl MsiSink for Messages {
    fn send(&self, address: u64, data: u32) {
        // The lowest two bits are reserved, and zero.
        if self.0.send(Gpa(address & !3), data).is_err() {
            guest_error!("pci: nothing takes messages at {address:#x}");
        }
    }
}

/// Unclaimed parts of a window: reads are all ones.
struct Nothing;

impl IoHandler for Nothing {
    fn read(&self, _offset: u64, _size: u32) -> u64 {
        u64::MAX
    }
    fn write(&self, _offset: u64, _size: u32, _value: u64) {}
}

struct Ecam(Arc<FunctionList>);

impl Ecam {
    fn find(&self, offset: u64) -> Option<Arc<dyn PciDevice>> {
        if offset >> 20 == 0 { self.0.find((offset >> 12) as u8) } else { None }
    }
}

impl IoHandler for Ecam {
    fn rules(&self) -> AccessRules {
        AccessRules { min: 1, max: 4 }
    }
    fn read(&self, offset: u64, size: u32) -> u64 {
        match self.find(offset) {
            Some(device) => device.config_read((offset & 0xfff) as usize, size).into(),
            None => u64::MAX,
        }
    }
    fn write(&self, offset: u64, size: u32, value: u64) {
        if let Some(device) = self.find(offset) {
            device.config_write((offset & 0xfff) as usize, size, value as u32);
        }
    }
}

/// A function with nothing behind it, such as the bridge on its own bus; and its class.
struct Bare(PciFunction, &'static str);

/// The bridge as a function of its own bus.
fn root() -> Bare {
    let id = Identity {
        vendor: 0x1b36,
        device: 0x0008,
        class: 0x06_0000,
        subsystem_vendor: 0x1af4,
        subsystem: 0x1100,
        ..Identity::default()
    };
    Bare(FunctionBuilder::new(id).build(), "gpex-root")
}

impl PciDevice for Bare {
    fn function(&self) -> &PciFunction {
        &self.0
    }
    fn class_name(&self) -> &str {
        self.1
    }
}

impl Part for Bare {
    fn reset(&self) {
        self.0.reset();
    }
    fn save(&self) -> Value {
        self.0.save()
    }
    fn restore(&self, value: &Value) -> Result<(), RestoreError> {
        self.0.restore(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Bar, ConfigSpace, Msix};
    use device::RecordedLines;
    use std::sync::Mutex;
    use std::sync::atomic::AtomicBool;

    fn card(pin: u8) -> Arc<Bare> {
        let mut b =
            FunctionBuilder::new(Identity { vendor: 1, device: 2, pin, ..Identity::default() });
        let backing = Backing::Io(Arc::new(Nothing));
        b.bar(0, Bar { name: "regs".into(), kind: BarKind::Memory32, len: 0x100, backing });
        Arc::new(Bare(b.build(), "card"))
    }

    fn host() -> (Arc<PciHost>, Arc<RecordedLines>) {
        let lines = Arc::new(RecordedLines::default());
        let wires = [0, 1, 2, 3].map(|n| Wire::to(lines.clone(), n));
        let windows = Windows {
            ecam: (0x3000_0000, 0x1000_0000),
            mmio_low: (0x4000_0000, 0x4000_0000),
            mmio_high: (0, 0),
            pio: (0x300_0000, 0x1_0000),
        };
        (PciHost::new(AddressSpace::new("memory"), windows, wires), lines)
    }

    #[test]
    fn pins_are_swizzled_shared_and_disabled() {
        let (host, lines) = host();
        let cards = [card(1), card(2), card(1)];
        for (card, slot) in cards.iter().zip([1, 4, 5]) {
            host.attach(card.clone(), Some(Devfn::new(slot, 0))).unwrap();
        }
        // INTA of slot 1, INTB of slot 4 and INTA of slot 5 share line 1.
        cards.iter().for_each(|c| c.0.set_intx(true));
        assert_eq!(lines.take(), [(1, true)]);
        assert_eq!(cards[0].0.read(reg::STATUS, 2) & 8, 8);
        cards[0].0.write(reg::COMMAND, 2, 0x400);
        cards[1].0.set_intx(false);
        assert!(lines.take().is_empty());
        cards[2].0.set_intx(false);
        assert_eq!(lines.take(), [(1, false)]);
        cards[0].0.write(reg::COMMAND, 2, 0);
        assert_eq!(lines.take(), [(1, true)]);
        host.devices().iter().for_each(|(_, device)| device.reset());
        assert_eq!(lines.take(), [(1, false)]);
    }

    #[test]
    fn absent_functions_read_as_ones_and_others_by_bytes() {
        let (host, _) = host();
        let read = |at: u64, size| host.space().load(Gpa(0x3000_0000 + at), size).unwrap();
        assert_eq!(read(0, 4), 0x0008_1b36);
        assert_eq!(read(0xb, 1), 6);
        assert_eq!(read(0x8000, 4), 0xffff_ffff);
        assert_eq!(read(0x10_0000, 2), 0xffff);
        assert!(host.info().starts_with(
            "  Bus  0, device   0, function 0:\n    Host bridge: PCI device 1b36:0008\n      PCI subsystem 1af4:1100\n      id \"\"\n"
        ));
        host.attach(card(1), None).unwrap();
        let text = host.qtree(Devfn::new(1, 0), "  ").unwrap();
        assert!(
            text.contains("class Class 0000, addr 00:01.0, pci id 0001:0002 (sub 0000:0000)"),
            "{text}"
        );
        assert!(text.contains("  bar 0: mem at 0xffffffffffffffff [0xfe]"), "{text}");
    }

    #[test]
    fn configuration_space_outlives_the_handle_on_the_bridge() {
        let (host, _) = host();
        host.attach(card(1), None).unwrap();
        let space = Arc::clone(host.space());
        drop(host);
        assert_eq!(space.load(Gpa(0x3000_8000), 4), Ok(0x0002_0001));
    }

    #[test]
    fn masks_decide_what_software_changes() {
        let mut c = ConfigSpace::new(256);
        c.set(0x40, &[0xff, 0xff, 0x0f]);
        c.set_writable(0x40, &[0xf0, 0x00]);
        c.set_clear(0x42, &[0x03]);
        c.write(0x40, 4, 0x0101_0001);
        assert_eq!(c.read(0x40, 4), 0x000e_ff0f);
        assert_eq!(c.read(0xfe, 4), 0xffff_0000);
        c.write(0xfe, 4, u32::MAX);
        c.write(usize::MAX, 4, 1);
    }

    #[test]
    fn many_vectors_have_room() {
        struct Sent(Mutex<Vec<(u64, u32)>>);
        impl MsiSink for Sent {
            fn send(&self, address: u64, data: u32) {
                self.0.lock().unwrap().push((address, data));
            }
        }
        let msix = Msix::new(2048, Arc::new(AtomicBool::new(true)));
        assert_eq!((msix.pba_offset(), msix.bar_len()), (0x8000, 0x10000));
        let sent = Arc::new(Sent(Mutex::default()));
        msix.connect(sent.clone());
        msix.control(true, true);
        let at = 2047 * 16;
        for (offset, value) in [(0, 0x1000), (4, 1), (8, 42), (12, 0)] {
            msix.write(at + offset, 4, value);
        }
        msix.trigger(2047);
        msix.trigger(2048);
        assert_eq!(msix.read(0x8000 + 252, 4), 1 << 31);
        msix.control(true, false);
        assert_eq!(*sent.0.lock().unwrap(), [(0x1_0000_1000, 42)]);
        msix.write(0x8000, 4, u64::MAX);
        assert_eq!(msix.read(0x8000, 4), 0);
        assert_eq!(msix.read(0xfffc, 4), 0);
    }
}
