//! The PCI transport (VIRTIO 1.3, "Virtio Over PCI Bus"): modern, transitional and legacy functions.
//!
//! BAR 4 holds the modern structures, BAR 1 the MSI-X table, BAR 0 the legacy ports. Left out:
//! notifications through ports, shared memory, the PCI Express capability.

use crate::core::{Interrupt, Port, VirtioDevice};
use crate::dma::Dma;
use crate::pci_legacy::LegacyPorts;
use crate::pci_modern::{self, Modern};
use crate::props::{BuildError, Props};
use device::{DeviceClass, Part, RestoreError, SavedState, Value};
use memory::{AddressSpace, Backing, IoHandler};
use pci::{Bar, BarKind, Devfn, FunctionBuilder, Identity, PciDevice, PciFunction};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

const VENDOR: u16 = 0x1af4;
/// Subsystem of functions that are not transitional.
const SUBSYSTEM: u16 = 0x1100;
const MODERN_DEVICE: u16 = 0x1040;
const PORTS_BAR: usize = 0;
const MSIX_BAR: usize = 1;
const MODERN_BAR: usize = 4;
const CAP_VENDOR: u8 = 9;

/// What each device type is as a PCI function: type, transitional device, class, vectors beside
/// those of the queues.
const KINDS: &[(u16, u16, u32)] = &[
    (1, 0x1000, 0x02_0000),
    (2, 0x1001, 0x01_0000),
    (3, 0x1003, 0x07_8000),
    (4, 0x1005, 0x00_ff00),
    (5, 0x1002, 0x00_ff00),
    (8, 0x1004, 0x01_0000),
];

/// What the user chooses of the function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PciConfig {
    /// Name of the class.
    pub class: String,
    /// `id=`.
    pub id: String,
    /// Where on the bus; `None` for the first free slot.
    pub addr: Option<Devfn>,
    /// The legacy interface is there.
    pub legacy: bool,
    /// The modern interface is there.
    pub modern: bool,
    /// MSI-X vectors; `None` for one for each queue and one for configuration changes.
    pub vectors: Option<u16>,
    /// A page for each queue's notifications.
    pub page_per_vq: bool,
    /// The slot has further functions.
    pub multifunction: bool,
    /// Class code, zero for the type's own.
    pub class_code: u32,
}

impl PciConfig {
    /// Everything at its default, for `class`.
    pub fn new(class: &str) -> Self {
        Self {
            class: class.into(),
            id: String::new(),
            addr: None,
            legacy: !class.ends_with("-non-transitional"),
            modern: true,
            vectors: None,
            page_per_vq: false,
            multifunction: false,
            class_code: 0,
        }
    }

    /// From properties of a `virtio-*-pci*` class.
    ///
    /// # Errors
    /// A property is wrong, or neither interface is left.
    pub fn parse(
        class: &'static DeviceClass,
        given: &[(String, String)],
    ) -> Result<Self, BuildError> {
        let props = Props::new(class, given)?;
        let mut c = Self::new(class.name);
        c.addr = match props.text("addr") {
            "-1" | "" => None,
            text => Some(Devfn::parse(text).ok_or_else(|| {
                let name = class.name;
                BuildError::new(format!("Property '{name}.addr' doesn't take value '{text}'"))
                    .with_hint("A slot and function in hexadecimal, such as 06.0.")
            })?),
        };
        if props.on_off_auto("disable-legacy")? == Some(true) {
            c.legacy = false;
        }
        c.modern = !props.bool("disable-modern")?;
        if !c.legacy && !c.modern {
            let text = "device cannot work as neither modern nor legacy mode is enabled";
            return Err(BuildError::new(text)
                .with_hint("Set either disable-modern or disable-legacy to off"));
        }
        c.vectors = match props.number::<u32>("vectors")? {
            u32::MAX => None,
            n if n <= 2048 => Some(n as u16),
            n => return Err(BuildError::new(format!("vectors is {n}, more than 2048"))),
        };
        c.page_per_vq = props.bool("page-per-vq")?;
        c.multifunction = props.bool("multifunction")?;
        if class.properties.iter().any(|p| p.name == "class") {
            c.class_code = props.number("class")?;
        }
        for unsupported in ["ats", "aer", "modern-pio-notify"] {
            if props.bool(unsupported)? {
                return Err(BuildError::new(format!("not supported yet: {unsupported}=on")));
            }
        }
        Ok(c)
    }
}

/// Registers of the transport itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, SavedState)]
pub(crate) struct Selectors {
    #[n(1)]
    pub device_features: u32,
    #[n(2)]
    pub driver_features: u32,
    #[n(3)]
    pub queue: u16,
}

/// What the BARs share.
pub(crate) struct Shared {
    pub function: Arc<PciFunction>,
    pub port: Port,
    pub selectors: Mutex<Selectors>,
    pub transitional: bool,
    pub page_per_vq: bool,
}

impl Shared {
    pub(crate) fn selectors(&self) -> MutexGuard<'_, Selectors> {
        self.selectors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The vector as the driver reads it back: none if the table lacks it.
    pub(crate) fn vector(&self, wanted: u16) -> u16 {
        match self.function.msix() {
            Some(msix) if wanted < msix.vectors() => wanted,
            _ => crate::ring::NO_VECTOR,
        }
    }

    /// Resets the device and the registers that choose.
    pub(crate) fn reset(&self) {
        *self.selectors() = Selectors::default();
        self.port.with(|v| v.reset());
    }
}

/// Interrupts by message when the driver enabled that, else by the pin.
struct Irq(Arc<PciFunction>);

impl Interrupt for Irq {
    fn notify(&self, isr: u8, vector: u16) {
        match self.0.msix() {
            Some(msix) if msix.enabled() => msix.trigger(vector),
            _ => self.0.set_intx(isr != 0),
        }
    }
    fn level(&self, isr: u8) {
        self.0.set_intx(isr != 0 && !self.0.msix_enabled());
    }
}

/// BARs come before the function they belong to; this closes the circle, without holding it.
#[derive(Clone, Default)]
struct Late(Arc<OnceLock<Weak<dyn IoHandler>>>);

impl Late {
    fn get(&self) -> Option<Arc<dyn IoHandler>> {
        self.0.get()?.upgrade()
    }

    /// Registers answer from now on, as long as the result lives.
    fn answer(&self, io: impl IoHandler + 'static) -> Arc<dyn IoHandler> {
        let io: Arc<dyn IoHandler> = Arc::new(io);
        let _once = self.0.set(Arc::downgrade(&io));
        io
    }
}

impl IoHandler for Late {
    fn rules(&self) -> device::AccessRules {
        self.get().map_or(device::AccessRules::ANY, |io| io.rules())
    }
    fn read(&self, offset: u64, size: u32) -> u64 {
        self.get().map_or(u64::MAX, |io| io.read(offset, size))
    }
    fn write(&self, offset: u64, size: u32, value: u64) {
        if let Some(io) = self.get() {
            io.write(offset, size, value);
        }
    }
}

/// A virtio device as a PCI function.
pub struct VirtioPci {
    config: PciConfig,
    shared: Arc<Shared>,
    /// The modern structures, and where the capability that reaches them lies.
    window: Option<(Late, usize)>,
    _registers: [Arc<dyn IoHandler>; 2],
}

impl VirtioPci {
    /// A function for `device` that reaches the RAM of `space`.
    pub fn new(
        device: Box<dyn VirtioDevice>,
        config: PciConfig,
        space: Arc<AddressSpace>,
    ) -> Arc<Self> {
        let mut builder = FunctionBuilder::new(identity(device.as_ref(), &config));
        if config.multifunction {
            builder.multifunction();
        }
        let (modern, ports) = (Late::default(), Late::default());
        let mut window = None;
        if config.modern {
            let at = add_modern(&mut builder, &config, &modern);
            window = Some((modern.clone(), at));
        }
        let own = device.queues().len() as u16;
        let vectors = config.vectors.unwrap_or_else(|| device.vectors().unwrap_or(own + 1));
        if vectors != 0 {
            builder.msix(MSIX_BAR, vectors);
        }
        if config.legacy {
            let header = if vectors != 0 { 24 } else { 20 };
            let len = (header + device.config_len() as u64).next_power_of_two().max(32);
            builder.bar(PORTS_BAR, bar("virtio-pci", BarKind::Io, len, &ports));
        }
        let dma = Dma::switched(space, builder.mastering());
        let function = Arc::new(builder.build());
        let port = Port::new(device, dma, Arc::new(Irq(Arc::clone(&function))));
        let shared = Arc::new(Shared {
            function,
            port,
            selectors: Mutex::default(),
            transitional: config.modern && config.legacy,
            page_per_vq: config.page_per_vq,
        });
        let registers = [
            modern.answer(Modern(Arc::clone(&shared))),
            ports.answer(LegacyPorts(Arc::clone(&shared))),
        ];
        Arc::new(Self { config, shared, window, _registers: registers })
    }

    /// The device.
    pub fn port(&self) -> &Port {
        &self.shared.port
    }

    /// What the user chose.
    pub fn config(&self) -> &PciConfig {
        &self.config
    }

    /// The range in BAR 4 that the configuration access capability points at, if its data
    /// register lies at `offset`.
    fn accessed(&self, offset: usize, size: u32) -> Option<(&Late, u64, u32)> {
        let (late, at) = self.window.as_ref()?;
        if offset != at + 16 {
            return None;
        }
        let f = &self.shared.function;
        let (bar, place, len) = (f.read(at + 4, 1), f.read(at + 8, 4), f.read(at + 12, 4));
        let fits = bar as usize == MODERN_BAR
            && matches!(len, 1 | 2 | 4)
            && size >= len
            && place.is_multiple_of(len)
            && u64::from(place) + u64::from(len) <= pci_modern::bar_len(self.config.page_per_vq);
        fits.then_some((late, place.into(), len))
    }
}

fn bar(name: &str, kind: BarKind, len: u64, io: &Late) -> Bar {
    Bar { name: name.into(), kind, len, backing: Backing::Io(Arc::new(io.clone())) }
}

fn identity(device: &dyn VirtioDevice, config: &PciConfig) -> Identity {
    let id = device.device_id();
    let kind = KINDS.iter().find(|k| k.0 == id);
    let (_, transitional, class) = kind.copied().unwrap_or((id, MODERN_DEVICE + id, 0x00_ff00));
    let class = if config.class_code != 0 { config.class_code << 8 } else { class };
    let common = Identity { vendor: VENDOR, class, pin: 1, ..Identity::default() };
    if config.legacy {
        Identity { device: transitional, subsystem_vendor: VENDOR, subsystem: id, ..common }
    } else {
        Identity {
            device: MODERN_DEVICE + id,
            revision: 1,
            subsystem_vendor: VENDOR,
            subsystem: SUBSYSTEM,
            ..common
        }
    }
}

/// Adds BAR 4 and the capabilities that describe it; returns where the configuration access
/// capability lies.
fn add_modern(builder: &mut FunctionBuilder, config: &PciConfig, io: &Late) -> usize {
    let len = pci_modern::bar_len(config.page_per_vq);
    builder.bar(MODERN_BAR, bar("virtio-pci-modern", BarKind::Memory64, len, io));
    for part in pci_modern::parts(config.page_per_vq) {
        let mut body = vec![16 + part.extra.len() as u8, part.kind, MODERN_BAR as u8, 0, 0, 0];
        body.extend(part.offset.to_le_bytes());
        body.extend(part.len.to_le_bytes());
        body.extend(part.extra);
        builder.capability(CAP_VENDOR, &body);
    }
    let mut body = vec![0; 18];
    (body[0], body[1]) = (20, pci_modern::PCI_CFG);
    let at = builder.capability(CAP_VENDOR, &body);
    builder.writable(at + 4, &[0xff]);
    builder.writable(at + 8, &[0xff; 12]);
    at
}

impl PciDevice for VirtioPci {
    fn function(&self) -> &PciFunction {
        &self.shared.function
    }
    fn class_name(&self) -> &str {
        &self.config.class
    }
    fn id(&self) -> &str {
        &self.config.id
    }
    fn config_read(&self, offset: usize, size: u32) -> u32 {
        match self.accessed(offset, size) {
            Some((io, at, len)) => io.read(at, len) as u32,
            None => self.shared.function.read(offset, size),
        }
    }
    fn config_write(&self, offset: usize, size: u32, value: u32) {
        self.shared.function.write(offset, size, value);
        if let Some((io, at, len)) = self.accessed(offset, size) {
            io.write(at, len, value.into());
        }
    }
}

impl Part for VirtioPci {
    fn reset(&self) {
        self.shared.reset();
        self.shared.function.reset();
    }

    fn save(&self) -> Value {
        let port = self.shared.port.save();
        let function = self.shared.function.save();
        let own = SavedState::save(&*self.shared.selectors());
        Value::Record(vec![(1, own), (2, function), (3, port)])
    }

    fn restore(&self, value: &Value) -> Result<(), RestoreError> {
        let fields = value.record()?;
        let find = |n: u16, name: &str| {
            let found = fields.iter().find(|(m, _)| *m == n).map(|(_, v)| v);
            found.ok_or_else(|| RestoreError::new("is missing").within(name))
        };
        let mut selectors = Selectors::default();
        selectors.restore(find(1, "transport")?).map_err(|e| e.within("transport"))?;
        let (function, port) = (find(2, "function")?, find(3, "device")?);
        let before = self.shared.function.save();
        self.shared.function.restore(function).map_err(|e| e.within("function"))?;
        if let Err(error) = self.shared.port.with(|v| v.restore(port)) {
            self.shared.function.restore(&before).expect("what was saved fits");
            return Err(error);
        }
        // The device drove its pin just now; messages may have been enabled since it did last.
        self.shared.function.restore(function).expect("it fitted a moment ago");
        *self.shared.selectors() = selectors;
        Ok(())
    }

    fn hold(&self) {
        self.shared.port.hold();
    }

    fn release(&self) {
        self.shared.port.release();
    }
}
