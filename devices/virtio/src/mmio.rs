//! The MMIO transport (VIRTIO 1.3, "Virtio Over MMIO"): version 2, and the legacy version 1.
//!
//! An empty slot reads as device type 0. Left out: shared memory regions.

use crate::core::{Interrupt, Port, VirtioDevice};
use crate::dma::Dma;
use crate::legacy;
use crate::ring::MAX_CHAIN;
use device::{AccessRules, Part, RestoreError, SavedState, Value, Wire, guest_error};
use memory::{AddressSpace, IoHandler};
use regs::{ReadReg, WriteReg};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

mod regs {
    //! "MMIO Device Register Layout" and "Legacy interface".
    device::registers! { u32 {
        0x000 MagicValue        ro;
        0x004 Version           ro;
        0x008 DeviceID          ro;
        0x00c VendorID          ro;
        0x010 DeviceFeatures    ro;
        0x014 DeviceFeaturesSel wo;
        0x020 DriverFeatures    wo;
        0x024 DriverFeaturesSel wo;
        0x028 GuestPageSize     wo;
        0x030 QueueSel          wo;
        0x034 QueueNumMax       ro;
        0x038 QueueNum          wo;
        0x03c QueueAlign        wo;
        0x040 QueuePFN          rw;
        0x044 QueueReady        rw;
        0x050 QueueNotify       wo;
        0x060 InterruptStatus   ro;
        0x064 InterruptACK      wo;
        0x070 Status            rw;
        0x080 QueueDescLow      wo;
        0x084 QueueDescHigh     wo;
        0x090 QueueDriverLow    wo;
        0x094 QueueDriverHigh   wo;
        0x0a0 QueueDeviceLow    wo;
        0x0a4 QueueDeviceHigh   wo;
        0x0b0 SHMLenLow         ro;
        0x0b4 SHMLenHigh        ro;
        0x0b8 SHMBaseLow        ro;
        0x0bc SHMBaseHigh       ro;
        0x0c0 QueueReset        rw;
        0x0fc ConfigGeneration  ro;
    }}
    pub const CONFIG: u64 = 0x100;
    pub const MAGIC: u32 = 0x7472_6976;
    /// "QEMU": drivers do not care, scripts may.
    pub const VENDOR: u32 = 0x554d_4551;
}

/// Bytes of the register block.
pub const MMIO_LEN: u64 = 0x200;

/// Registers of the transport itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, SavedState)]
struct State {
    #[n(1)]
    device_features_sel: u32,
    #[n(2)]
    driver_features_sel: u32,
    #[n(3)]
    queue_sel: u32,
    #[n(4)]
    guest_page_size: u32,
    #[n(5)]
    queue_align: u32,
}

struct Line(Wire);

impl Interrupt for Line {
    fn notify(&self, isr: u8, _vector: u16) {
        self.0.set(isr != 0);
    }
    fn level(&self, isr: u8) {
        self.0.set(isr != 0);
    }
}

/// One MMIO slot, empty until a device is plugged.
pub struct VirtioMmio {
    irq: Wire,
    space: Arc<AddressSpace>,
    legacy: bool,
    port: OnceLock<Port>,
    state: Mutex<State>,
}

impl VirtioMmio {
    /// A slot that interrupts on `irq` and reaches the RAM of `space`. With `legacy` it is
    /// version 1 (`-global virtio-mmio.force-legacy=`, on by default).
    pub fn new(irq: Wire, space: Arc<AddressSpace>, legacy: bool) -> Arc<Self> {
        let (port, state) = (OnceLock::new(), Mutex::default());
        Arc::new(Self { irq, space, legacy, port, state })
    }

    /// Plugs a device; gives it back when the slot is taken.
    ///
    /// # Errors
    /// The slot is taken.
    pub fn plug(&self, device: Box<dyn VirtioDevice>) -> Result<(), Box<dyn VirtioDevice>> {
        if self.port.get().is_some() {
            return Err(device);
        }
        let line = Arc::new(Line(self.irq.clone()));
        let port = Port::new(device, Dma::new(Arc::clone(&self.space)), line);
        // Boards plug from one thread; a lost race would only drop the second device.
        let _ = self.port.set(port);
        Ok(())
    }

    /// The device in the slot.
    pub fn port(&self) -> Option<&Port> {
        self.port.get()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read_register(&self, port: &Port, register: ReadReg) -> u32 {
        let state = self.state();
        let queue = state.queue_sel as usize;
        port.with(|v| match register {
            ReadReg::MagicValue => regs::MAGIC,
            ReadReg::Version => self.version(),
            ReadReg::VendorID => regs::VENDOR,
            ReadReg::DeviceID => v.device.device_id().into(),
            ReadReg::DeviceFeatures if self.legacy => match state.device_features_sel {
                0 => v.offered_legacy(false) as u32,
                _ => 0,
            },
            ReadReg::DeviceFeatures => match state.device_features_sel {
                0 => v.offered() as u32,
                1 => (v.offered() >> 32) as u32,
                _ => 0,
            },
            ReadReg::QueueNumMax if queue < v.core.queue_count() => MAX_CHAIN.into(),
            ReadReg::QueueNumMax => 0,
            ReadReg::QueuePFN if self.legacy => {
                let desc = v.core.ring(queue).map_or(0, |r| r.desc);
                desc.checked_div(u64::from(state.guest_page_size)).unwrap_or(0) as u32
            }
            ReadReg::QueueReady if !self.legacy => {
                v.core.ring(queue).is_some_and(|r| r.ready).into()
            }
            ReadReg::InterruptStatus => v.isr().into(),
            ReadReg::Status => v.status().into(),
            ReadReg::SHMLenLow
            | ReadReg::SHMLenHigh
            | ReadReg::SHMBaseLow
            | ReadReg::SHMBaseHigh => u32::MAX,
            ReadReg::ConfigGeneration => v.generation().into(),
            ReadReg::QueuePFN | ReadReg::QueueReady | ReadReg::QueueReset => 0,
        })
    }

    fn version(&self) -> u32 {
        if self.legacy { 1 } else { 2 }
    }

    fn write_register(&self, port: &Port, register: WriteReg, value: u32) {
        let mut state = self.state();
        match register {
            WriteReg::DeviceFeaturesSel => state.device_features_sel = value,
            WriteReg::DriverFeaturesSel => state.driver_features_sel = value,
            WriteReg::QueueSel => state.queue_sel = value,
            WriteReg::GuestPageSize if self.legacy => state.guest_page_size = value,
            WriteReg::QueueAlign if self.legacy => state.queue_align = value,
            WriteReg::Status if value & 0xff == 0 => {
                // Legacy drivers tell their page size once, before they reset the device.
                *state = State { guest_page_size: state.guest_page_size, ..State::default() };
                port.with(|v| v.set_status(0, !self.legacy));
            }
            _ => {
                let state = state.clone();
                self.write_device(port, &state, register, value);
            }
        }
    }

    fn write_device(&self, port: &Port, state: &State, register: WriteReg, value: u32) {
        let queue = state.queue_sel as usize;
        port.with(|v| match register {
            WriteReg::DriverFeatures if self.legacy => {
                if state.driver_features_sel == 0 {
                    let offered = v.offered_legacy(false);
                    v.set_driver_features(false, value, offered);
                }
            }
            WriteReg::DriverFeatures if state.driver_features_sel < 2 => {
                let offered = v.offered();
                v.set_driver_features(state.driver_features_sel == 1, value, offered);
            }
            WriteReg::QueueNotify => v.notify((value & 0xffff) as usize),
            WriteReg::InterruptACK => v.acknowledge(value as u8),
            WriteReg::Status => v.set_status(value as u8, !self.legacy),
            WriteReg::QueueReset if !self.legacy && value != 0 => v.reset_queue(queue),
            WriteReg::QueuePFN if self.legacy && value == 0 => v.reset(),
            _ => {
                let Some(ring) = v.core.ring_mut(queue) else {
                    return guest_error!("virtio-mmio: there is no queue {queue}");
                };
                let low = |old: u64| old & !0xffff_ffff | u64::from(value);
                let high = |old: u64| old & 0xffff_ffff | u64::from(value) << 32;
                match register {
                    WriteReg::QueueNum => legacy::set_size(ring, value),
                    WriteReg::QueuePFN if self.legacy => {
                        let page = u64::from(state.guest_page_size);
                        legacy::place(
                            ring,
                            u64::from(value).saturating_mul(page),
                            state.queue_align,
                        );
                    }
                    WriteReg::QueueReady if !self.legacy => ring.ready = value & 1 != 0,
                    WriteReg::QueueDescLow if !self.legacy => ring.desc = low(ring.desc),
                    WriteReg::QueueDescHigh if !self.legacy => ring.desc = high(ring.desc),
                    WriteReg::QueueDriverLow if !self.legacy => ring.driver = low(ring.driver),
                    WriteReg::QueueDriverHigh if !self.legacy => ring.driver = high(ring.driver),
                    WriteReg::QueueDeviceLow if !self.legacy => ring.device = low(ring.device),
                    WriteReg::QueueDeviceHigh if !self.legacy => ring.device = high(ring.device),
                    _ => guest_error!("virtio-mmio: write to {register:?} of the other version"),
                }
            }
        });
    }
}

impl IoHandler for VirtioMmio {
    fn rules(&self) -> AccessRules {
        AccessRules { min: 1, max: 4 }
    }

    fn read(&self, offset: u64, size: u32) -> u64 {
        let Some(port) = self.port.get() else {
            return match ReadReg::at(offset) {
                Some(ReadReg::MagicValue) => regs::MAGIC.into(),
                Some(ReadReg::Version) => self.version().into(),
                Some(ReadReg::VendorID) => regs::VENDOR.into(),
                _ => 0,
            };
        };
        if offset >= regs::CONFIG {
            return port.with(|v| v.read_config(offset - regs::CONFIG, size));
        }
        match ReadReg::at(offset) {
            Some(register) if size == 4 => self.read_register(port, register).into(),
            _ => {
                guest_error!("virtio-mmio: read of {size} bytes at {offset:#x}");
                0
            }
        }
    }

    fn write(&self, offset: u64, size: u32, value: u64) {
        let Some(port) = self.port.get() else { return };
        if offset >= regs::CONFIG {
            return port.with(|v| v.write_config(offset - regs::CONFIG, size, value));
        }
        match WriteReg::at(offset) {
            Some((register, _)) if size == 4 => self.write_register(port, register, value as u32),
            _ => guest_error!("virtio-mmio: write of {size} bytes at {offset:#x}"),
        }
    }
}

impl Part for VirtioMmio {
    fn reset(&self) {
        *self.state() = State::default();
        if let Some(port) = self.port.get() {
            port.with(|v| v.reset());
        }
    }

    fn save(&self) -> Value {
        let mut fields = vec![(1, SavedState::save(&*self.state()))];
        fields.extend(self.port.get().map(|port| (2, port.save())));
        Value::Record(fields)
    }

    fn restore(&self, value: &Value) -> Result<(), RestoreError> {
        let fields = value.record()?;
        let find = |n: u16| fields.iter().find(|(m, _)| *m == n).map(|(_, v)| v);
        let mut state = State::default();
        if let Some(own) = find(1) {
            state.restore(own).map_err(|e| e.within("transport"))?;
        }
        match (self.port.get(), find(2)) {
            (Some(port), Some(saved)) => port.with(|v| v.restore(saved))?,
            (None, None) => {}
            _ => return Err(RestoreError::new("another device is in the slot").within("device")),
        }
        *self.state() = state;
        Ok(())
    }

    fn hold(&self) {
        self.port.get().into_iter().for_each(Port::hold);
    }

    fn release(&self) {
        self.port.get().into_iter().for_each(Port::release);
    }
}
