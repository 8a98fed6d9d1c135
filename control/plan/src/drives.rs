//! Drives and block nodes: `-drive` and its short forms, `-blockdev`.

use crate::catalog::{DriveSupport, MachineInfo};
use crate::refusal::{Refusal, Result};
use crate::{
    Aio, Blockdev, Cache, DetectZeroes, Device, Drive, ErrorPolicy, Interface, Media, Property,
};
use options::{Grammar, Item, List, OptionValue};

/// A `-drive` as read, before its place is known.
#[derive(Clone, Debug)]
pub(crate) struct DriveOption {
    /// The option as written.
    pub place: String,
    /// Its keys.
    pub list: List,
    /// Where it plugs in when it does not say.
    pub interface: Option<Interface>,
}

impl DriveOption {
    /// A drive with the given keys.
    pub fn new(place: &str, pairs: &[(&str, &str)], interface: Option<Interface>) -> Self {
        let items = pairs.iter().map(|(key, value)| Item::new(key, value)).collect();
        let list = List { source: place.to_owned(), items };
        Self { place: place.to_owned(), list, interface }
    }
}

/// Keys that older releases spelled differently.
const OLD_KEYS: &[(&str, &str)] = &[
    ("readonly", "read-only"),
    ("bps", "throttling.bps-total"),
    ("bps_rd", "throttling.bps-read"),
    ("bps_wr", "throttling.bps-write"),
    ("bps_max", "throttling.bps-total-max"),
    ("bps_rd_max", "throttling.bps-read-max"),
    ("bps_wr_max", "throttling.bps-write-max"),
    ("iops", "throttling.iops-total"),
    ("iops_rd", "throttling.iops-read"),
    ("iops_wr", "throttling.iops-write"),
    ("iops_max", "throttling.iops-total-max"),
    ("iops_rd_max", "throttling.iops-read-max"),
    ("iops_wr_max", "throttling.iops-write-max"),
    ("iops_size", "throttling.iops-size"),
    ("group", "throttling.group"),
];

/// Keys of statistics, which are not there yet.
const LATER: &[&str] = &["stats-"];

/// Plans all drives: places, ids, and the devices they imply.
pub(crate) fn plan(
    options: &[DriveOption],
    snapshot: bool,
    machine: &MachineInfo,
) -> Result<(Vec<Drive>, Vec<Device>)> {
    let (mut drives, mut devices): (Vec<Drive>, Vec<Device>) = (Vec::new(), Vec::new());
    for option in options {
        let (drive, device) =
            one(option, snapshot, machine, &drives).map_err(|r| r.at(&option.place))?;
        drives.push(drive);
        devices.extend(device);
    }
    Ok((drives, devices))
}

fn one(
    option: &DriveOption,
    snapshot: bool,
    machine: &MachineInfo,
    others: &[Drive],
) -> Result<(Drive, Option<Device>)> {
    let mut list = option.list.clone();
    for item in &mut list.items {
        if let Some((old, new)) = OLD_KEYS.iter().find(|(old, _)| *old == item.key) {
            if option.list.get(new).is_some() {
                let text = format!("'{new}' and its alias '{old}' can't be used at the same time");
                return Err(Refusal::new(text));
            }
            (*new).clone_into(&mut item.key);
        }
        if LATER.iter().any(|later| item.key.starts_with(later)) {
            return Err(Refusal::new(format!("not supported yet: {}=", item.key)));
        }
    }
    let given_id = list.take_id()?;
    let interface = interface(&mut list, option, machine)?;
    let (bus, unit) = place(&mut list, interface, others)?;
    let support = machine.drive_support(interface);
    check_place(interface, support, bus, unit)?;
    let media = word(&mut list, "media", Media::from_name, "invalid media")?;
    let media = media.unwrap_or(Media::Disk);
    let id = given_id.unwrap_or_else(|| automatic_id(interface, media, bus, unit));
    if others.iter().any(|d| d.id == id) {
        return Err(Refusal::new(format!("Duplicate ID '{id}' for drive")));
    }
    let drive = details(
        list,
        option,
        snapshot,
        Drive {
            id,
            interface,
            bus,
            unit,
            file: None,
            format: None,
            media,
            readonly: false,
            snapshot,
            cache: Cache { writeback: true, direct: false, no_flush: false },
            aio: Aio::Threads,
            discard: false,
            detect_zeroes: DetectZeroes::Off,
            copy_on_read: false,
            rerror: ErrorPolicy::Report,
            werror: ErrorPolicy::Enospc,
            driver_options: List::default(),
            origin: option.place.clone(),
        },
    )?;
    let device = match support {
        Some(DriveSupport::Device(driver)) => Some(Device {
            driver: driver.to_string(),
            id: None,
            bus: None,
            properties: vec![Property { name: "drive".into(), value: drive.id.clone() }],
            origin: option.place.clone(),
        }),
        _ => None,
    };
    Ok((drive, device))
}

fn interface(list: &mut List, option: &DriveOption, machine: &MachineInfo) -> Result<Interface> {
    match list.take("if") {
        None => Ok(option.interface.unwrap_or(machine.default_interface)),
        Some(item) => Interface::from_name(&item.value).ok_or_else(|| {
            Refusal::new(format!("unsupported bus type '{}'", item.value))
                .suggesting(&item.value, Interface::NAMES.iter().map(|(_, name)| *name))
        }),
    }
}

/// Units on a bus of some kind; 0 where there is one endless bus.
fn units_per_bus(interface: Interface) -> u32 {
    match interface {
        Interface::Ide => 2,
        Interface::Scsi => 7,
        _ => 0,
    }
}

fn place(list: &mut List, interface: Interface, others: &[Drive]) -> Result<(u32, u32)> {
    let mut number = |key: &str| list.take(key).map(|item| u32::parse(&item)).transpose();
    let (index, bus, unit) = (number("index")?, number("bus")?, number("unit")?);
    let most = units_per_bus(interface);
    let taken = |bus: u32, unit: u32| {
        others.iter().any(|d| d.interface == interface && (d.bus, d.unit) == (bus, unit))
    };
    let (bus, unit) = match (index, bus, unit) {
        (Some(_), Some(_), _) | (Some(_), _, Some(_)) => {
            return Err(Refusal::new("index cannot be used with bus and unit"));
        }
        (Some(index), None, None) if most > 0 => (index / most, index % most),
        (Some(index), None, None) => (0, index),
        (None, bus, Some(unit)) => (bus.unwrap_or(0), unit),
        (None, bus, None) => next_free(bus.unwrap_or(0), most, &taken),
    };
    if most > 0 && unit >= most {
        return Err(Refusal::new(format!("unit {unit} too big (max is {})", most - 1)));
    }
    if taken(bus, unit) {
        let index = bus.saturating_mul(most).saturating_add(unit);
        return Err(Refusal::new(format!(
            "drive with bus={bus}, unit={unit} (index={index}) exists"
        )));
    }
    Ok((bus, unit))
}

fn next_free(first: u32, most: u32, taken: &dyn Fn(u32, u32) -> bool) -> (u32, u32) {
    let (mut bus, mut unit) = (first, 0);
    while taken(bus, unit) && bus < u32::MAX {
        unit += 1;
        if most > 0 && unit >= most {
            (bus, unit) = (bus.saturating_add(1), 0);
        }
    }
    (bus, unit)
}

fn check_place(
    interface: Interface,
    support: Option<&DriveSupport>,
    bus: u32,
    unit: u32,
) -> Result<()> {
    let fits = match support {
        _ if interface == Interface::None => true,
        Some(DriveSupport::Device(_)) => true,
        Some(DriveSupport::Board { slots }) => bus == 0 && unit < *slots,
        None => false,
    };
    if fits {
        return Ok(());
    }
    Err(Refusal::new(format!(
        "machine type does not support if={},bus={bus},unit={unit}",
        interface.name()
    )))
}

/// As the original names drives that have no id.
fn automatic_id(interface: Interface, media: Media, bus: u32, unit: u32) -> String {
    let kind = match (interface, media) {
        (Interface::Ide | Interface::Scsi, Media::Cdrom) => "-cd",
        (Interface::Ide | Interface::Scsi, Media::Disk) => "-hd",
        _ => "",
    };
    if units_per_bus(interface) > 0 {
        format!("{}{bus}{kind}{unit}", interface.name())
    } else {
        format!("{}{kind}{unit}", interface.name())
    }
}

/// Takes `key` out and looks its value up; `problem` ends the message about an unknown one.
fn word<T>(
    list: &mut List,
    key: &str,
    lookup: impl Fn(&str) -> Option<T>,
    problem: &str,
) -> Result<Option<T>> {
    let Some(item) = list.take(key) else { return Ok(None) };
    match lookup(&item.value) {
        Some(value) => Ok(Some(value)),
        None => Err(Refusal::new(format!("'{}' {problem}", item.value))),
    }
}

fn details(
    mut list: List,
    option: &DriveOption,
    snapshot: bool,
    mut drive: Drive,
) -> Result<Drive> {
    drive.file = list.take("file").map(|item| item.value).filter(|file| !file.is_empty());
    drive.format = list.take("format").map(|item| item.value);
    if let Some(item) = list.take("driver") {
        if drive.format.is_some() {
            return Err(Refusal::new("Cannot specify both 'driver' and 'format'"));
        }
        drive.format = Some(item.value);
    }
    drive.cache = cache(&mut list)?;
    drive.snapshot = list.take_bool("snapshot")?.unwrap_or(snapshot);
    if drive.snapshot && !drive.cache.direct {
        drive.cache = Cache { writeback: true, direct: false, no_flush: true };
    }
    drive.readonly = list.take_bool("read-only")?.unwrap_or(false) || drive.media == Media::Cdrom;
    drive.copy_on_read = list.take_bool("copy-on-read")?.unwrap_or(false);
    if drive.copy_on_read && drive.readonly {
        return Err(Refusal::new("copy-on-read is incompatible with read-only drives"));
    }
    drive.aio = list
        .take("aio")
        .map_or(Some(Aio::Threads), |item| Aio::from_name(&item.value))
        .ok_or_else(|| {
            Refusal::new("invalid aio option").hint("aio is threads, native or io_uring.")
        })?;
    drive.discard = match list.take("discard").map(|item| item.value).as_deref() {
        None | Some("ignore" | "off") => false,
        Some("unmap" | "on") => true,
        Some(_) => {
            return Err(Refusal::new("Invalid discard option").hint("discard is ignore or unmap."));
        }
    };
    if let Some(item) = list.take("detect-zeroes") {
        drive.detect_zeroes = DetectZeroes::parse(&item)?;
    }
    let policy = |name: &str| ErrorPolicy::from_name(name);
    let reading = |name: &str| policy(name).filter(|p| *p != ErrorPolicy::Enospc);
    if let Some(p) = word(&mut list, "werror", policy, "invalid write error action")? {
        drive.werror = p;
    }
    if let Some(p) = word(&mut list, "rerror", reading, "invalid read error action")? {
        drive.rerror = p;
    }
    let stray: Vec<&Item> = list.items.iter().filter(|i| !i.key.contains('.')).collect();
    if drive.file.is_none() && drive.format.is_none() && !stray.is_empty() {
        return Err(misspelled(stray[0]));
    }
    let removable = drive.interface == Interface::None || drive.media == Media::Cdrom;
    if drive.file.is_none() && list.items.is_empty() && drive.format.is_some() {
        return Err(Refusal::new("A block device must be specified for \"file\"")
            .hint("Give the image: file=PATH."));
    }
    if drive.file.is_none() && list.items.is_empty() && !removable {
        return Err(
            Refusal::new("Must specify either driver or file").hint("Give the image: file=PATH.")
        );
    }
    drive.driver_options = List { source: option.list.source.clone(), items: list.items };
    Ok(drive)
}

/// Keys that a drive itself understands, for suggestions.
const KEYS: &[&str] = &[
    "file",
    "format",
    "driver",
    "if",
    "bus",
    "unit",
    "index",
    "media",
    "id",
    "cache",
    "aio",
    "discard",
    "detect-zeroes",
    "read-only",
    "readonly",
    "snapshot",
    "copy-on-read",
    "werror",
    "rerror",
    "serial",
];

fn misspelled(item: &Item) -> Refusal {
    Refusal::new(format!("Must specify either driver or file (unknown key '{}')", item.key))
        .suggesting(&item.key, KEYS.iter().copied())
}

fn cache(list: &mut List) -> Result<Cache> {
    let cache = |writeback, direct, no_flush| Cache { writeback, direct, no_flush };
    let mut chosen = match list.take("cache").map(|item| item.value).as_deref() {
        None | Some("writeback") => cache(true, false, false),
        Some("writethrough") => cache(false, false, false),
        Some("none" | "off") => cache(true, true, false),
        Some("directsync") => cache(false, true, false),
        Some("unsafe") => cache(true, false, true),
        Some(_) => {
            return Err(Refusal::new("invalid cache option")
                .hint("cache is writeback, writethrough, none, directsync or unsafe."));
        }
    };
    chosen.writeback = list.take_bool("cache.writeback")?.unwrap_or(chosen.writeback);
    chosen.direct = list.take_bool("cache.direct")?.unwrap_or(chosen.direct);
    chosen.no_flush = list.take_bool("cache.no-flush")?.unwrap_or(chosen.no_flush);
    Ok(chosen)
}

/// Reads `-blockdev`.
pub(crate) fn blockdev(place: &str, text: &str) -> Result<Blockdev> {
    let mut list = List::parse(text, Grammar::strict("driver"))?;
    if list.wants_help() {
        return Err(Refusal::new("Help is not available for this option"));
    }
    let driver = list
        .take("driver")
        .ok_or_else(|| Refusal::new("Parameter 'driver' is missing").hint("Give driver=NAME."))?;
    let node_name = list.take("node-name").ok_or_else(|| {
        Refusal::new("'node-name' must be specified for the root node")
            .hint("Give it a name: node-name=NAME.")
    })?;
    if !options::identifier(&node_name.value) || node_name.value.len() > 31 {
        return Err(Refusal::new(format!("Invalid node-name: '{}'", node_name.value)));
    }
    let origin = place.to_owned();
    Ok(Blockdev { node_name: node_name.value, driver: driver.value, options: list, origin })
}
