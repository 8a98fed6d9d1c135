//! The modern structures of a PCI function, all in one BAR ("Virtio Structure PCI Capabilities").

use crate::legacy;
use crate::pci_transport::{Selectors, Shared};
use crate::ring::Ring;
use device::{AccessRules, guest_error};
use memory::IoHandler;
use std::sync::Arc;

const COMMON_CFG: u8 = 1;
const NOTIFY_CFG: u8 = 2;
const ISR_CFG: u8 = 3;
const DEVICE_CFG: u8 = 4;
/// Access to the BAR through configuration space.
pub(crate) const PCI_CFG: u8 = 5;

const ISR: u64 = 0x1000;
const DEVICE: u64 = 0x2000;
const NOTIFY: u64 = 0x3000;
const MAX_QUEUES: u32 = 1024;

/// One structure in the BAR.
pub(crate) struct Structure {
    pub kind: u8,
    pub offset: u32,
    pub len: u32,
    /// What follows in the capability.
    pub extra: Vec<u8>,
}

fn multiplier(page_per_vq: bool) -> u32 {
    if page_per_vq { 0x1000 } else { 4 }
}

/// Bytes of the BAR.
pub(crate) fn bar_len(page_per_vq: bool) -> u64 {
    (NOTIFY + u64::from(MAX_QUEUES * multiplier(page_per_vq))).next_power_of_two()
}

/// The structures in the order of their capabilities.
pub(crate) fn parts(page_per_vq: bool) -> Vec<Structure> {
    let part =
        |kind, offset: u64, len| Structure { kind, offset: offset as u32, len, extra: Vec::new() };
    let by = multiplier(page_per_vq);
    let notify = part(NOTIFY_CFG, NOTIFY, MAX_QUEUES * by);
    vec![
        part(COMMON_CFG, 0, 0x1000),
        part(ISR_CFG, ISR, 0x1000),
        part(DEVICE_CFG, DEVICE, 0x1000),
        Structure { extra: by.to_le_bytes().to_vec(), ..notify },
    ]
}

mod common {
    //! "Common configuration structure layout": offset, width in bytes, name.
    macro_rules! fields {
        ($($offset:literal $width:literal $name:ident;)*) => {
            #[derive(Clone, Copy, Debug, PartialEq, Eq)]
            pub enum Field { $($name),* }
            impl Field {
                /// The field that an access of `size` bytes at `offset` means.
                pub fn at(offset: u64, size: u32) -> Option<Self> {
                    match (offset, size) {
                        $(($offset, $width) => Some(Self::$name),)*
                        _ => None,
                    }
                }
            }
        };
    }
    fields! {
        0x00 4 DeviceFeatureSelect;
        0x04 4 DeviceFeature;
        0x08 4 DriverFeatureSelect;
        0x0c 4 DriverFeature;
        0x10 2 ConfigMsixVector;
        0x12 2 NumQueues;
        0x14 1 DeviceStatus;
        0x15 1 ConfigGeneration;
        0x16 2 QueueSelect;
        0x18 2 QueueSize;
        0x1a 2 QueueMsixVector;
        0x1c 2 QueueEnable;
        0x1e 2 QueueNotifyOff;
        0x20 4 QueueDescLow;
        0x24 4 QueueDescHigh;
        0x28 4 QueueDriverLow;
        0x2c 4 QueueDriverHigh;
        0x30 4 QueueDeviceLow;
        0x34 4 QueueDeviceHigh;
        0x38 2 QueueNotifyData;
        0x3a 2 QueueReset;
    }
}
use common::Field;

/// BAR 4.
pub(crate) struct Modern(pub(crate) Arc<Shared>);

impl IoHandler for Modern {
    fn rules(&self) -> AccessRules {
        AccessRules { min: 1, max: 4 }
    }

    fn read(&self, offset: u64, size: u32) -> u64 {
        match offset & !0xfff {
            0 => match Field::at(offset, size) {
                Some(field) => self.read_common(field).into(),
                None => 0,
            },
            ISR => self.0.port.with(|v| {
                let isr = v.isr();
                v.acknowledge(isr);
                isr.into()
            }),
            DEVICE => self.0.port.with(|v| v.read_config(offset - DEVICE, size)),
            _ => 0,
        }
    }

    fn write(&self, offset: u64, size: u32, value: u64) {
        match offset & !0xfff {
            0 => match Field::at(offset, size) {
                Some(field) => self.write_common(field, value as u32),
                None => guest_error!("virtio-pci: write of {size} bytes at {offset:#x}"),
            },
            ISR => guest_error!("virtio-pci: write to the interrupt status"),
            DEVICE => self.0.port.with(|v| v.write_config(offset - DEVICE, size, value)),
            _ => {
                let queue = (offset - NOTIFY) / u64::from(multiplier(self.0.page_per_vq));
                self.0.port.with(|v| v.notify(queue as usize));
            }
        }
    }
}

impl Modern {
    fn read_common(&self, field: Field) -> u32 {
        let s = self.0.selectors().clone();
        self.0.port.with(|v| {
            let ring = v.core.ring(s.queue.into());
            let of = |get: fn(&Ring) -> u64| ring.map_or(0, get);
            match field {
                Field::DeviceFeatureSelect => s.device_features,
                Field::DeviceFeature => half(v.offered(), s.device_features),
                Field::DriverFeatureSelect => s.driver_features,
                Field::DriverFeature => half(v.core.driver_features(), s.driver_features),
                Field::ConfigMsixVector => v.config_vector().into(),
                Field::NumQueues => v.core.queue_count() as u32,
                Field::DeviceStatus => v.status().into(),
                Field::ConfigGeneration => v.generation().into(),
                Field::QueueSelect => s.queue.into(),
                Field::QueueSize => of(|r| r.size.into()) as u32,
                Field::QueueMsixVector => ring.map_or(0xffff, |r| r.vector.into()),
                Field::QueueEnable => of(|r| r.ready.into()) as u32,
                Field::QueueNotifyOff | Field::QueueNotifyData => s.queue.into(),
                Field::QueueDescLow => of(|r| r.desc) as u32,
                Field::QueueDescHigh => (of(|r| r.desc) >> 32) as u32,
                Field::QueueDriverLow => of(|r| r.driver) as u32,
                Field::QueueDriverHigh => (of(|r| r.driver) >> 32) as u32,
                Field::QueueDeviceLow => of(|r| r.device) as u32,
                Field::QueueDeviceHigh => (of(|r| r.device) >> 32) as u32,
                Field::QueueReset => 0,
            }
        })
    }

    fn write_common(&self, field: Field, value: u32) {
        let mut selectors = self.0.selectors();
        match field {
            Field::DeviceFeatureSelect => selectors.device_features = value,
            Field::DriverFeatureSelect => selectors.driver_features = value,
            Field::QueueSelect => selectors.queue = value as u16,
            Field::DeviceStatus if value & 0xff == 0 => {
                drop(selectors);
                self.0.reset();
            }
            _ => {
                let s = selectors.clone();
                drop(selectors);
                self.write_device(&s, field, value);
            }
        }
    }

    fn write_device(&self, s: &Selectors, field: Field, value: u32) {
        let (vector, queue) = (self.0.vector(value as u16), usize::from(s.queue));
        self.0.port.with(|v| match field {
            Field::DriverFeature if s.driver_features < 2 => {
                let offered = v.offered();
                v.set_driver_features(s.driver_features == 1, value, offered);
            }
            Field::ConfigMsixVector => v.set_config_vector(vector),
            Field::DeviceStatus => v.set_status(value as u8, true),
            Field::QueueReset if value == 1 => v.reset_queue(queue),
            _ => {
                let Some(ring) = v.core.ring_mut(queue) else {
                    return guest_error!("virtio-pci: there is no queue {queue}");
                };
                let low = |old: u64| old & !0xffff_ffff | u64::from(value);
                let high = |old: u64| old & 0xffff_ffff | u64::from(value) << 32;
                match field {
                    Field::QueueSize => legacy::set_size(ring, value),
                    Field::QueueMsixVector => ring.vector = vector,
                    Field::QueueEnable if value == 1 => ring.ready = true,
                    Field::QueueDescLow => ring.desc = low(ring.desc),
                    Field::QueueDescHigh => ring.desc = high(ring.desc),
                    Field::QueueDriverLow => ring.driver = low(ring.driver),
                    Field::QueueDriverHigh => ring.driver = high(ring.driver),
                    Field::QueueDeviceLow => ring.device = low(ring.device),
                    Field::QueueDeviceHigh => ring.device = high(ring.device),
                    _ => guest_error!("virtio-pci: write of {value:#x} to {field:?}"),
                }
            }
        });
    }
}

/// 32 of 64 feature bits.
fn half(features: u64, select: u32) -> u32 {
    match select {
        0 => features as u32,
        1 => (features >> 32) as u32,
        _ => 0,
    }
}
