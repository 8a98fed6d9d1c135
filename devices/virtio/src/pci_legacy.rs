//! The legacy ports of a PCI function ("Legacy Interfaces: A Note on PCI Device Layout").

use crate::core::feature;
use crate::legacy;
use crate::pci_transport::Shared;
use crate::ring::NO_VECTOR;
use device::{AccessRules, guest_error};
use memory::IoHandler;
use regs::Port;
use std::sync::Arc;

mod regs {
    //! Offset, width in bytes, name.
    macro_rules! ports {
        ($($offset:literal $width:literal $name:ident;)*) => {
            #[derive(Clone, Copy, Debug, PartialEq, Eq)]
            pub enum Port { $($name),* }
            impl Port {
                pub fn at(offset: u64, size: u32) -> Option<Self> {
                    match (offset, size) {
                        $(($offset, $width) => Some(Self::$name),)*
                        _ => None,
                    }
                }
            }
        };
    }
    ports! {
        0 4 DeviceFeatures;
        4 4 DriverFeatures;
        8 4 QueueAddress;
        12 2 QueueSize;
        14 2 QueueSelect;
        16 2 QueueNotify;
        18 1 DeviceStatus;
        19 1 IsrStatus;
        20 2 ConfigMsixVector;
        22 2 QueueVector;
    }
}

const PAGE_SHIFT: u32 = 12;
/// Where the vectors begin, if the driver has enabled MSI-X, or the device's configuration.
const VECTORS: u64 = 20;
const CONFIG_WITH_VECTORS: u64 = 24;

/// BAR 0.
pub(crate) struct LegacyPorts(pub(crate) Arc<Shared>);

impl LegacyPorts {
    /// Where the device's configuration space begins now.
    fn config_at(&self) -> u64 {
        if self.0.function.msix_enabled() { CONFIG_WITH_VECTORS } else { VECTORS }
    }

    fn read_port(&self, port: Port) -> u64 {
        let queue = usize::from(self.0.selectors().queue);
        let transitional = self.0.transitional;
        self.0.port.with(|v| match port {
            Port::DeviceFeatures => v.offered_legacy(transitional) | feature::BAD_FEATURE,
            Port::DriverFeatures => v.core.driver_features() & 0xffff_ffff,
            Port::QueueAddress => v.core.ring(queue).map_or(0, |r| r.desc >> PAGE_SHIFT),
            Port::QueueSize => v.core.ring(queue).map_or(0, |r| r.size.into()),
            Port::QueueSelect => queue as u64,
            Port::DeviceStatus => v.status().into(),
            Port::IsrStatus => {
                let isr = v.isr();
                v.acknowledge(isr);
                isr.into()
            }
            Port::ConfigMsixVector => v.config_vector().into(),
            Port::QueueVector => v.core.ring(queue).map_or(NO_VECTOR, |r| r.vector).into(),
            Port::QueueNotify => 0,
        })
    }

    fn write_port(&self, port: Port, value: u32) {
        let queue = usize::from(self.0.selectors().queue);
        let transitional = self.0.transitional;
        match port {
            Port::QueueSelect => {
                self.0.selectors().queue = value as u16;
                return;
            }
            Port::DeviceStatus if value == 0 => return self.0.reset(),
            Port::QueueAddress if value == 0 => return self.0.reset(),
            _ => {}
        }
        let vector = self.0.vector(value as u16);
        self.0.port.with(|v| match port {
            Port::DriverFeatures => {
                let offered = v.offered_legacy(transitional);
                v.set_driver_features(true, 0, offered);
                v.set_driver_features(false, value, offered);
            }
            Port::QueueAddress => {
                if let Some(ring) = v.core.ring_mut(queue) {
                    legacy::place(ring, u64::from(value) << PAGE_SHIFT, 1 << PAGE_SHIFT);
                }
            }
            Port::QueueNotify => v.notify(value as usize),
            Port::DeviceStatus => v.set_status(value as u8, false),
            Port::ConfigMsixVector => v.set_config_vector(vector),
            Port::QueueVector => {
                if let Some(ring) = v.core.ring_mut(queue) {
                    ring.vector = vector;
                }
            }
            _ => guest_error!("virtio-pci: write of {value:#x} to {port:?}"),
        });
    }
}

impl IoHandler for LegacyPorts {
    fn rules(&self) -> AccessRules {
        AccessRules { min: 1, max: 4 }
    }

    fn read(&self, offset: u64, size: u32) -> u64 {
        let config = self.config_at();
        if offset >= config {
            return self.0.port.with(|v| v.read_config(offset - config, size));
        }
        Port::at(offset, size).map_or(u64::MAX, |port| self.read_port(port))
    }

    fn write(&self, offset: u64, size: u32, value: u64) {
        let config = self.config_at();
        if offset >= config {
            return self.0.port.with(|v| v.write_config(offset - config, size, value));
        }
        match Port::at(offset, size) {
            Some(port) => self.write_port(port, value as u32),
            None => guest_error!("virtio-pci: write of {size} bytes at port {offset}"),
        }
    }
}
