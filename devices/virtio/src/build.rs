//! Devices from their class's name and properties.

use crate::core::VirtioDevice;
use crate::net::Mac;
use crate::props::{BuildError, Props};
use crate::rng::RngBackend;
use crate::scsi::{self, Kind, LunConfig};
use crate::{balloon, blk, class, console, net, rng};
use device::{Bus, DeviceClass};
use graph::{Disk, Executor};
use netdev::NetBackend;
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
    /// A `-chardev`.
    fn chardev(&self, id: &str) -> Option<chardev::Port> {
        let _ = id;
        None
    }
    /// A `-netdev`, for one card.
    fn netdev(&self, id: &str) -> Option<Box<dyn NetBackend>> {
        let _ = id;
        None
    }
    /// The address of the next card that has none.
    fn mac(&self) -> Mac {
        [0x52, 0x54, 0x00, 0x12, 0x34, 0x56]
    }
    /// The threads of an `-object iothread`.
    fn iothread(&self, id: &str) -> Option<Arc<Executor>> {
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
    let queues = if class.bus == Bus::Pci { backends.cpus() } else { 1 };
    Ok(match kind(class) {
        "blk" => {
            let drive = drive(&props, backends)?;
            let executor = iothread(&props, backends)?.unwrap_or(drive.executor);
            let config = blk::Config::parse(&props, drive.disk, executor, queues)?;
            Box::new(blk::Blk::new(config))
        }
        "scsi" => {
            let executor = iothread(&props, backends)?;
            let config = scsi::Config { executor, ..scsi::Config::parse(&props, queues)? };
            Box::new(scsi::ScsiHost::new(config))
        }
        "rng" => Box::new(rng::Rng::new(rng::Config::parse(&props, |id| backends.rng(id))?)),
        "serial" => Box::new(console::Console::new(console::Config::parse(&props)?)),
        "balloon" => Box::new(balloon::Balloon::new(balloon::Config::parse(&props)?)),
        "net" => {
            let config = net::Config::parse(&props, backends.mac())?;
            Box::new(net::Net::new(config, netdev(&props, backends)?))
        }
        _ => {
            let (bus, class) = (class.bus.name(), class.name);
            return Err(BuildError::new(format!("No '{bus}' bus found for device '{class}'")));
        }
    })
}

/// Makes a child (`scsi-hd`, `scsi-cd`, `virtconsole`, `virtserialport`) on the bus of `parent`.
///
/// # Errors
/// The class is unknown, `parent` has no such bus, or a property is wrong.
pub fn build_child(
    name: &str,
    given: &[(String, String)],
    backends: &dyn Backends,
    parent: &mut dyn VirtioDevice,
) -> Result<(), BuildError> {
    let class = class(name).ok_or_else(|| unknown(name))?;
    let props = Props::new(class, given)?;
    let no_bus = || {
        let (bus, class) = (class.bus.name(), class.name);
        BuildError::new(format!("No '{bus}' bus found for device '{class}'"))
    };
    match class.bus {
        Bus::Scsi => {
            let host = parent.as_scsi().ok_or_else(no_bus)?;
            host.add_unit(unit(&props, backends)?)
        }
        Bus::VirtioSerial => {
            let console = parent.as_console().ok_or_else(no_bus)?;
            port(&props, backends, console)
        }
        _ => Err(no_bus()),
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

fn missing(props: &Props<'_>, property: &str, id: &str) -> BuildError {
    let class = props.class();
    let bare = match class.name.strip_prefix("virtio-") {
        Some(_) => format!("virtio-{}-device", kind(class)),
        None => class.name.to_owned(),
    };
    BuildError::new(format!("Property '{bare}.{property}' can't find value '{id}'"))
}

fn drive(props: &Props<'_>, backends: &dyn Backends) -> Result<Drive, BuildError> {
    match props.text("drive") {
        "" => Err(BuildError::new("drive property not set")),
        id => backends.drive(id).ok_or_else(|| missing(props, "drive", id)),
    }
}

/// The threads that `iothread=` names, if it does.
fn iothread(
    props: &Props<'_>,
    backends: &dyn Backends,
) -> Result<Option<Arc<Executor>>, BuildError> {
    if !props.text("iothread-vq-mapping").is_empty() {
        return Err(BuildError::new("not supported yet: iothread-vq-mapping"));
    }
    match props.text("iothread") {
        "" => Ok(None),
        id => match backends.iothread(id) {
            Some(executor) => Ok(Some(executor)),
            None => Err(BuildError::new(format!("Device '{id}' is no iothread"))),
        },
    }
}

fn netdev(props: &Props<'_>, backends: &dyn Backends) -> Result<Box<dyn NetBackend>, BuildError> {
    match props.text("netdev") {
        "" => Ok(Box::new(netdev::Discard)),
        id => backends.netdev(id).ok_or_else(|| missing(props, "netdev", id)),
    }
}

fn port(
    props: &Props<'_>,
    backends: &dyn Backends,
    console: &mut console::Console,
) -> Result<(), BuildError> {
    let chardev = match props.text("chardev") {
        "" => None,
        id => Some(backends.chardev(id).ok_or_else(|| missing(props, "chardev", id))?),
    };
    let nr = match props.number::<u32>("nr")? {
        u32::MAX => None,
        nr => Some(nr),
    };
    let console_port = props.class().name == "virtconsole";
    let name = props.text("name").to_owned();
    let config = console::PortConfig { nr, name, console: console_port };
    console.add_port(config, |input| chardev.map(|c| console::over_chardev(c, input)))
}

fn unit(props: &Props<'_>, backends: &dyn Backends) -> Result<LunConfig, BuildError> {
    let cd = props.class().name == "scsi-cd";
    let Drive { disk, executor } = drive(props, backends)?;
    let limits = disk.limits();
    let native = if cd { 2048 } else { limits.logical_block.max(512) };
    let block = blk::block_size(props, "logical_block_size", native)?;
    let physical = blk::block_size(props, "physical_block_size", limits.physical_block)?;
    let place = |name: &str, last: u32| match props.number::<u32>(name)? {
        u32::MAX => Ok(None),
        n if n <= last => Ok(Some(n as u16)),
        n => Err(BuildError::new(format!("bad scsi device {name}: {n}"))),
    };
    if props.number::<u32>("channel")? != 0 {
        return Err(BuildError::new("bad scsi channel: there is only channel 0"));
    }
    for policy in ["werror", "rerror"] {
        blk::check_policy(props, policy)?;
    }
    if let Some(on) = props.on_off_auto("write-cache")? {
        disk.set_write_cache(on);
    }
    let or = |name: &str, default: &str| match props.text(name) {
        "" => default.to_owned(),
        text => text.to_owned(),
    };
    let serial = or("serial", "");
    let device_id = if serial.is_empty() { props.text("drive").to_owned() } else { serial.clone() };
    let hd_only = |name: &str, otherwise: u64| {
        if cd { Ok(otherwise) } else { props.number::<u64>(name) }
    };
    let geometry = match (hd_only("cyls", 0)?, hd_only("heads", 0)?, hd_only("secs", 0)?) {
        (0, 0, 0) => blk::guess_geometry(disk.size()),
        (c, h, s) => (c.min(65535) as u16, h.min(255) as u8, s.min(255) as u8),
    };
    Ok(LunConfig {
        kind: if cd { Kind::Cd } else { Kind::Disk },
        target: place("scsi-id", 255)?.map(|t| t as u8),
        lun: place("lun", 16383)?,
        device_id: or("device_id", &device_id),
        serial,
        vendor: or("vendor", "QEMU"),
        product: or("product", if cd { "QEMU CD-ROM" } else { "QEMU HARDDISK" }),
        version: or("ver", "2.5+"),
        wwn: props.number("wwn")?,
        removable: !cd && props.bool("removable")?,
        block,
        physical_block: physical.max(block),
        min_io: blk::size32(props, "min_io_size")?,
        opt_io: blk::size32(props, "opt_io_size")?,
        discard_granularity: match blk::size32(props, "discard_granularity")? {
            u32::MAX => 4096,
            n => n,
        },
        max_io: props.number("max_io_size")?,
        max_unmap: hd_only("max_unmap_size", 1 << 30)?,
        rotation_rate: hd_only("rotation_rate", 0)?.min(65535) as u16,
        scsi_version: props.number::<u8>("scsi_version")?,
        geometry,
        dpofua: !cd && props.bool("dpofua")?,
        disk,
        executor,
    })
}
