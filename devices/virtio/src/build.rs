//! Devices from their class's name and properties.

use crate::core::VirtioDevice;
use crate::props::{BuildError, Props};
use crate::rng::RngBackend;
use crate::{blk, class, rng};
use device::{Bus, DeviceClass};
use graph::{Disk, Executor};
use options::nearest;
use std::sync::Arc;

/// A disk and the threads that serve it.
#[derive(Clone)]
pub struct Drive {
    /// The disk.
    pub disk: Arc<Disk>,
    /// Threads that serve it.
    pub executor: Arc<Executor>,
}

/// What the machine lends to devices, found by id.
pub trait Backends {
    /// A disk by `-drive` id or node name.
    fn drive(&self, id: &str) -> Option<Drive>;
    /// An `-object rng-*`.
    fn rng(&self, id: &str) -> Option<Arc<dyn RngBackend>> {
        let _ = id;
        None
    }
    /// Processors of the machine: how many queues are worth having.
    fn cpus(&self) -> u16 {
        1
    }
}

/// Makes a device without its transport, by the name of any class of its type.
///
/// # Errors
/// The class is unknown or needs another bus, or a property is wrong.
pub fn build(
    name: &str,
    given: &[(String, String)],
    backends: &dyn Backends,
) -> Result<Box<dyn VirtioDevice>, BuildError> {
    let class = class(name).ok_or_else(|| unknown(name))?;
    let props = Props::new(class, given)?;
    match kind(class) {
        "blk" => {
            let drive = drive(&props, backends)?;
            let queues = if class.bus == Bus::Pci { backends.cpus() } else { 1 };
            let config = blk::Config::parse(&props, drive.disk, drive.executor, queues)?;
            Ok(Box::new(blk::Blk::new(config)))
        }
        "rng" => {
            let config = rng::Config::parse(&props, |id| backends.rng(id))?;
            Ok(Box::new(rng::Rng::new(config)))
        }
        _ => Err(BuildError::new(format!("not supported yet: {}", class.name))),
    }
}

/// The device type in a class's name: `blk` of `virtio-blk-pci-transitional`.
fn kind(class: &DeviceClass) -> &'static str {
    class.name.strip_prefix("virtio-").and_then(|n| n.split('-').next()).unwrap_or(class.name)
}

fn unknown(name: &str) -> BuildError {
    let error = BuildError::new(format!("'{name}' is not a valid device model name"));
    match nearest(name, crate::CLASSES.iter().map(|c| c.name)) {
        Some(near) => error.with_hint(format!("Did you mean '{near}'?")),
        None => error,
    }
}

pub(crate) fn drive(props: &Props<'_>, backends: &dyn Backends) -> Result<Drive, BuildError> {
    match props.text("drive") {
        "" => Err(BuildError::new("drive property not set")),
        id => backends.drive(id).ok_or_else(|| {
            let bare = match kind(props.class()) {
                "blk" => "virtio-blk-device",
                other => other,
            };
            BuildError::new(format!("Property '{bare}.drive' can't find value '{id}'"))
        }),
    }
}
