//! One PCI function: header, BARs, capabilities, INTx (PCI Local Bus 3.0, "Configuration Space").

use crate::config::ConfigSpace;
use crate::msix::{MsiSink, Msix};
use device::{Wire, guest_error};
use memory::{AddressSpace, Backing, Gpa, Region, RegionId};
use state::{Blob, RestoreError, Saved, Value};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// Offsets in the header.
#[allow(missing_docs, reason = "names of the specification")]
pub mod reg {
    pub const VENDOR_ID: usize = 0x00;
    pub const DEVICE_ID: usize = 0x02;
    pub const COMMAND: usize = 0x04;
    pub const STATUS: usize = 0x06;
    pub const REVISION: usize = 0x08;
    pub const CLASS: usize = 0x09;
    pub const CACHE_LINE: usize = 0x0c;
    pub const HEADER_TYPE: usize = 0x0e;
    pub const BAR0: usize = 0x10;
    pub const SUBSYSTEM_VENDOR: usize = 0x2c;
    pub const SUBSYSTEM: usize = 0x2e;
    pub const CAPABILITIES: usize = 0x34;
    pub const INTERRUPT_LINE: usize = 0x3c;
    pub const INTERRUPT_PIN: usize = 0x3d;
}

const COMMAND_IO: u16 = 1 << 0;
const COMMAND_MEMORY: u16 = 1 << 1;
const COMMAND_MASTER: u16 = 1 << 2;
const COMMAND_SERR: u16 = 1 << 8;
const COMMAND_INTX_DISABLE: u16 = 1 << 10;
const STATUS_INTERRUPT: u8 = 1 << 3;
const STATUS_CAPABILITIES: u8 = 1 << 4;
const MULTIFUNCTION: u8 = 0x80;
const CAP_MSIX: u8 = 0x11;
const FIRST_CAPABILITY: usize = 0x40;

/// What a function is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Identity {
    /// Vendor.
    pub vendor: u16,
    /// Device.
    pub device: u16,
    /// Class, subclass and programming interface, 24 bits.
    pub class: u32,
    /// Revision.
    pub revision: u8,
    /// Vendor of the card.
    pub subsystem_vendor: u16,
    /// The card.
    pub subsystem: u16,
    /// 1 to 4 for INTA to INTD, 0 for none.
    pub pin: u8,
}

/// Kind of address range a BAR asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BarKind {
    /// Port I/O.
    Io,
    /// Memory below 4 GiB.
    Memory32,
    /// Prefetchable memory anywhere; takes two registers.
    Memory64,
}

/// A base address register and what answers behind it.
#[derive(Clone)]
pub struct Bar {
    /// Name shown by `info mtree`.
    pub name: String,
    /// Kind of range.
    pub kind: BarKind,
    /// Bytes, a power of two.
    pub len: u64,
    /// What answers.
    pub backing: Backing,
}

/// Where BARs of a bus may lie, and whom its functions interrupt.
#[derive(Clone)]
pub(crate) struct Place {
    pub space: Arc<AddressSpace>,
    pub windows: crate::Windows,
}

struct Inner {
    config: ConfigSpace,
    bars: [Option<Bar>; 6],
    mapped: [Option<(u64, RegionId)>; 6],
    place: Option<Place>,
}

struct Intx {
    level: bool,
    disabled: bool,
    wire: Wire,
}

/// A function's configuration space, BARs and interrupts.
pub struct PciFunction {
    inner: Mutex<Inner>,
    fresh: ConfigSpace,
    mastering: Arc<AtomicBool>,
    intx: Mutex<Intx>,
    msix: Option<(usize, Arc<Msix>)>,
    place: OnceLock<()>,
}

/// Puts a function together.
pub struct FunctionBuilder {
    config: ConfigSpace,
    bars: [Option<Bar>; 6],
    next_capability: usize,
    mastering: Arc<AtomicBool>,
    msix: Option<(usize, Arc<Msix>)>,
}

impl FunctionBuilder {
    /// A function without BARs and capabilities.
    pub fn new(id: Identity) -> Self {
        let mut config = ConfigSpace::new(256);
        config.set(reg::VENDOR_ID, &id.vendor.to_le_bytes());
        config.set(reg::DEVICE_ID, &id.device.to_le_bytes());
        config.set(reg::REVISION, &[id.revision]);
        config.set(reg::CLASS, &id.class.to_le_bytes()[..3]);
        config.set(reg::SUBSYSTEM_VENDOR, &id.subsystem_vendor.to_le_bytes());
        config.set(reg::SUBSYSTEM, &id.subsystem.to_le_bytes());
        config.set(reg::INTERRUPT_PIN, &[id.pin]);
        let command =
            COMMAND_IO | COMMAND_MEMORY | COMMAND_MASTER | COMMAND_SERR | COMMAND_INTX_DISABLE;
        config.set_writable(reg::COMMAND, &command.to_le_bytes());
        // Status: the error bits are cleared by writing ones; nothing here sets them.
        config.set_clear(reg::STATUS, &[0, 0xf9]);
        config.set_writable(reg::CACHE_LINE, &[0xff]);
        config.set_writable(reg::INTERRUPT_LINE, &[0xff]);
        let mastering = Arc::new(AtomicBool::new(false));
        let (bars, next_capability) = ([const { None }; 6], FIRST_CAPABILITY);
        Self { config, bars, next_capability, mastering, msix: None }
    }

    /// Says that the slot has further functions.
    pub fn multifunction(&mut self) {
        self.config.set(reg::HEADER_TYPE, &[MULTIFUNCTION]);
    }

    /// The bus-master bit, for the device's memory access.
    pub fn mastering(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.mastering)
    }

    /// Adds a BAR at `index`.
    ///
    /// # Panics
    /// The index is taken or the length no power of two: the device's table is wrong.
    pub fn bar(&mut self, index: usize, bar: Bar) {
        assert!(bar.len.is_power_of_two() && bar.len >= 16, "a BAR's length is a power of two");
        assert!(self.bars[index].is_none(), "a BAR is declared once");
        let at = reg::BAR0 + 4 * index;
        let mask = !(bar.len - 1);
        match bar.kind {
            BarKind::Io => {
                self.config.set(at, &[1]);
                self.config.set_writable(at, &(mask as u32).to_le_bytes());
            }
            BarKind::Memory32 => self.config.set_writable(at, &(mask as u32).to_le_bytes()),
            BarKind::Memory64 => {
                self.config.set(at, &[0x0c]);
                self.config.set_writable(at, &mask.to_le_bytes());
            }
        }
        self.bars[index] = Some(bar);
    }

    /// Adds a capability whose bytes after identity and link are `body`; returns its offset.
    ///
    /// # Panics
    /// The header's 256 bytes are full.
    pub fn capability(&mut self, id: u8, body: &[u8]) -> usize {
        let at = self.next_capability;
        let end = at + 2 + body.len();
        assert!(end <= 256, "capabilities fit the header");
        let head = self.config.read(reg::CAPABILITIES, 1) as u8;
        self.config.set(at, &[id, head]);
        self.config.set(at + 2, body);
        self.config.set(reg::CAPABILITIES, &[at as u8]);
        self.config.set(reg::STATUS, &[STATUS_CAPABILITIES]);
        self.next_capability = end.next_multiple_of(4);
        at
    }

    /// Lets software change bits of a capability.
    pub fn writable(&mut self, offset: usize, mask: &[u8]) {
        self.config.set_writable(offset, mask);
    }

    /// Adds MSI-X with its table in a BAR of its own at `index`.
    pub fn msix(&mut self, index: usize, vectors: u16) -> Arc<Msix> {
        let msix = Msix::new(vectors, self.mastering());
        let mut body = Vec::new();
        body.extend((msix.vectors() - 1).to_le_bytes());
        body.extend((index as u32).to_le_bytes());
        body.extend((msix.pba_offset() | index as u32).to_le_bytes());
        let at = self.capability(CAP_MSIX, &body);
        self.config.set_writable(at + 2, &[0, 0xc0]);
        self.bar(
            index,
            Bar {
                name: "msix".into(),
                kind: BarKind::Memory32,
                len: msix.bar_len(),
                backing: Backing::Io(msix.clone()),
            },
        );
        self.msix = Some((at, Arc::clone(&msix)));
        msix
    }

    /// The function.
    pub fn build(self) -> PciFunction {
        let fresh = self.config.clone();
        let inner = Inner { config: self.config, bars: self.bars, mapped: [None; 6], place: None };
        PciFunction {
            inner: Mutex::new(inner),
            fresh,
            mastering: self.mastering,
            intx: Mutex::new(Intx { level: false, disabled: false, wire: Wire::default() }),
            msix: self.msix,
            place: OnceLock::new(),
        }
    }
}

impl Inner {
    fn command(&self) -> u16 {
        self.config.read(reg::COMMAND, 2) as u16
    }

    /// Address in the CPU's space where `index` should answer now.
    fn target(&self, index: usize) -> Option<u64> {
        let (bar, place) = (self.bars[index].as_ref()?, self.place.as_ref()?);
        let at = reg::BAR0 + 4 * index;
        let low = self.config.read(at, 4);
        let windows = &place.windows;
        let (enabled, address) = match bar.kind {
            BarKind::Io => (COMMAND_IO, u64::from(low & !3)),
            BarKind::Memory32 => (COMMAND_MEMORY, u64::from(low & !0xf)),
            BarKind::Memory64 => {
                let high = self.config.read(at + 4, 4);
                (COMMAND_MEMORY, u64::from(low & !0xf) | u64::from(high) << 32)
            }
        };
        // Ports begin at 0, and firmware uses all of them.
        if self.command() & enabled == 0 {
            return None;
        }
        match bar.kind {
            BarKind::Io => windows.port(address, bar.len),
            _ => windows.memory(address, bar.len).then_some(address),
        }
    }

    /// Makes the address space follow the BARs.
    fn remap(&mut self) {
        for index in 0..self.bars.len() {
            let target = self.target(index);
            if self.mapped[index].map(|(at, _)| at) == target {
                continue;
            }
            let Some(place) = &self.place else { continue };
            if let Some((_, id)) = self.mapped[index].take() {
                place.space.unmap(id);
            }
            if let (Some(base), Some(bar)) = (target, &self.bars[index]) {
                let region = Region {
                    name: bar.name.clone(),
                    base: Gpa(base),
                    len: bar.len,
                    priority: 1,
                    backing: bar.backing.clone(),
                };
                self.mapped[index] = Some((base, place.space.map(region)));
            }
        }
    }
}

impl PciFunction {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn intx(&self) -> MutexGuard<'_, Intx> {
        self.intx.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the function its place on a bus.
    pub(crate) fn connect(&self, place: Place, wire: Wire, sink: Arc<dyn MsiSink>) -> bool {
        if self.place.set(()).is_err() {
            return false;
        }
        self.inner().place = Some(place);
        self.intx().wire = wire;
        if let Some((_, msix)) = &self.msix {
            msix.connect(sink);
        }
        self.settle();
        true
    }

    /// Takes its BARs out of the address space.
    pub(crate) fn disconnect(&self) {
        let mut inner = self.inner();
        inner.config = self.fresh.clone();
        inner.remap();
    }

    /// Reads the configuration space; ones beyond its end.
    pub fn read(&self, offset: usize, size: u32) -> u32 {
        let status = reg::STATUS;
        let value = self.inner().config.read(offset, size);
        let pending = self.intx().level && !self.msix_enabled();
        match status.checked_sub(offset) {
            Some(i) if pending && i < size as usize => {
                value | u32::from(STATUS_INTERRUPT) << (8 * i)
            }
            _ => value,
        }
    }

    /// Software writes the configuration space.
    pub fn write(&self, offset: usize, size: u32, value: u32) {
        let mut inner = self.inner();
        if offset >= inner.config.len() {
            return guest_error!("pci: write at {offset:#x}, beyond configuration space");
        }
        inner.config.write(offset, size, value);
        drop(inner);
        self.settle();
    }

    /// Sets bytes from the device's side.
    pub fn set(&self, offset: usize, bytes: &[u8]) {
        self.inner().config.set(offset, bytes);
    }

    /// Lets everything follow the configuration space.
    fn settle(&self) {
        let mut inner = self.inner();
        let command = inner.command();
        self.mastering.store(command & COMMAND_MASTER != 0, Ordering::Release);
        inner.remap();
        let control = self.msix.as_ref().map(|(at, _)| inner.config.read(at + 3, 1));
        drop(inner);
        if let (Some((_, msix)), Some(control)) = (&self.msix, control) {
            msix.control(control & 0x80 != 0, control & 0x40 != 0);
        }
        let mut intx = self.intx();
        intx.disabled = command & COMMAND_INTX_DISABLE != 0;
        self.drive(&intx);
    }

    fn drive(&self, intx: &Intx) {
        intx.wire.set(intx.level && !intx.disabled && !self.msix_enabled());
    }

    /// Whether the function interrupts by MSI-X.
    pub fn msix_enabled(&self) -> bool {
        self.msix.as_ref().is_some_and(|(_, m)| m.enabled())
    }

    /// The function's MSI-X table.
    pub fn msix(&self) -> Option<&Arc<Msix>> {
        self.msix.as_ref().map(|(_, m)| m)
    }

    /// Drives the interrupt pin.
    pub fn set_intx(&self, level: bool) {
        let mut intx = self.intx();
        intx.level = level;
        self.drive(&intx);
    }

    /// BARs with their index and, when mapped, their address on the bus.
    pub fn bars(&self) -> Vec<(usize, Bar, Option<u64>)> {
        let inner = self.inner();
        let address = |i: usize| {
            inner.mapped[i].map(|(at, _)| match (&inner.bars[i], &inner.place) {
                (Some(bar), Some(place)) if bar.kind == BarKind::Io => at - place.windows.pio.0,
                _ => at,
            })
        };
        (0..6).filter_map(|i| Some((i, inner.bars[i].clone()?, address(i)))).collect()
    }

    /// Back to power-on: BARs unmapped, interrupts off.
    pub fn reset(&self) {
        let mut inner = self.inner();
        inner.config = self.fresh.clone();
        drop(inner);
        self.intx().level = false;
        if let Some((_, msix)) = &self.msix {
            msix.reset();
        }
        self.settle();
    }

    /// Everything software can observe.
    pub fn save(&self) -> Value {
        let config = Blob(self.inner().config.bytes().to_vec()).to_value();
        let mut fields = vec![(1, config), (2, self.intx().level.to_value())];
        fields.extend(self.msix.as_ref().map(|(_, m)| (3, m.save())));
        Value::Record(fields)
    }

    /// Takes over a saved state.
    ///
    /// # Errors
    /// The first field that does not fit.
    pub fn restore(&self, value: &Value) -> Result<(), RestoreError> {
        let record = value.record()?;
        let config: Blob = state::field(record, 1, "config")?;
        let level: bool = state::field(record, 2, "intx")?;
        let mut inner = self.inner();
        let ids = |b: &[u8]| b.get(..4).map(<[u8]>::to_vec);
        if config.0.len() != inner.config.len() || ids(&config.0) != ids(inner.config.bytes()) {
            return Err(RestoreError::new("another function").within("config"));
        }
        if let Some((_, msix)) = &self.msix {
            let saved = record.iter().find(|(n, _)| *n == 3).map(|(_, v)| v);
            let saved = saved.ok_or_else(|| RestoreError::new("is missing").within("msix"))?;
            msix.restore(saved).map_err(|e| e.within("msix"))?;
        }
        inner.config.restore(&config.0);
        drop(inner);
        self.intx().level = level;
        self.settle();
        Ok(())
    }
}
