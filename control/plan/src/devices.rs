//! Devices, network back ends and objects, and what they refer to.

use crate::catalog::{DeviceInfo, ObjectInfo, PropertyInfo};
use crate::refusal::{Refusal, Result};
use crate::{Device, Global, Interface, Netdev, Object, Plan, Property};
use options::{Grammar, Item, List, SizeProblem, parse_bool, parse_number, parse_size};

/// Keys of `-device` that are no properties of the class.
const COMMON: &[&str] = &["driver", "id", "bus"];

/// The given properties of a list, in order.
pub(crate) fn properties(list: &List) -> Vec<Property> {
    list.items
        .iter()
        .map(|item| Property { name: item.key.clone(), value: item.value.clone() })
        .collect()
}

/// Reads `-device`.
pub(crate) fn device(place: &str, list: &List, classes: &[DeviceInfo]) -> Result<Device> {
    let mut list = list.clone();
    let driver = list.take("driver").filter(|item| !item.value.is_empty()).ok_or_else(|| {
        Refusal::new("Parameter 'driver' is missing").hint("'-device help' lists them.")
    })?;
    let class = classes.iter().find(|c| c.answers_to(&driver.value)).ok_or_else(|| {
        Refusal::new(format!("'{}' is not a valid device model name", driver.value))
            .suggesting(&driver.value, classes.iter().map(|c| c.name.as_ref()))
            .hint("'-device help' lists them.")
    })?;
    let id = list.take_id()?;
    let bus = list.take("bus").map(|item| item.value);
    for item in &list.items {
        check_property(&class.name, item, &class.properties)?;
    }
    let driver = class.name.to_string();
    let properties = properties(&list);
    Ok(Device { driver, id, bus, properties, origin: place.to_owned() })
}

/// Checks name and value of one property of `owner`.
pub(crate) fn check_property(owner: &str, item: &Item, known: &[PropertyInfo]) -> Result<()> {
    let indexed = |name: &str| {
        let stem = |s: &str| s.trim_end_matches(|c: char| c.is_ascii_digit()).to_owned();
        name.ends_with("[0]") || (name.ends_with('0') && stem(name) == stem(&item.key))
    };
    let property = known
        .iter()
        .find(|p| p.name == item.key.as_str())
        .or_else(|| known.iter().find(|p| p.name.contains(".0") && indexed(&p.name)))
        .ok_or_else(|| {
            Refusal::new(format!("Property '{owner}.{}' not found", item.key)).suggesting(
                &item.key,
                known.iter().map(|p| p.name.as_ref()).chain(COMMON.iter().copied()),
            )
        })?;
    check_value(item, &property.kind)
}

/// Checks a value against the type of its property, where the type says enough.
fn check_value(item: &Item, kind: &str) -> Result<()> {
    let (key, text) = (&item.key, item.value.as_str());
    let number = |bits: u32| {
        let limit = u64::MAX >> (64 - bits);
        match parse_number(text.strip_prefix('-').unwrap_or(text)) {
            Some(n) if n <= limit => Ok(()),
            Some(_) => Err(format!("Value '{text}' is out of range for parameter '{key}'")),
            None => Err(format!("Parameter '{key}' expects integer")),
        }
    };
    let checked = match kind {
        "bool" if parse_bool(text).is_none() => {
            Err(format!("Parameter '{key}' expects 'on' or 'off'"))
        }
        "OnOffAuto" if text != "auto" && parse_bool(text).is_none() => {
            Err(format!("Parameter '{key}' does not accept value '{text}'"))
        }
        "uint8" | "int8" => number(8),
        "uint16" | "int16" => number(16),
        "uint32" | "int32" => number(32),
        "uint64" | "int64" | "int" => number(64),
        "size" => match parse_size(text, b'b') {
            Ok(_) => Ok(()),
            Err(SizeProblem::NotASize) => {
                Err(format!("Parameter '{key}' expects a size such as 64k, 128M or 1G"))
            }
            Err(SizeProblem::OutOfRange) => {
                Err(format!("Value '{text}' is out of range for parameter '{key}'"))
            }
        },
        _ if kind.contains('|') && !kind.split('|').any(|value| value == text) => {
            return Err(Refusal::new(format!("Parameter '{key}' does not accept value '{text}'"))
                .hint(format!("Known values: {}.", kind.replace('|', ", "))));
        }
        _ => Ok(()),
    };
    checked.map_err(Refusal::new)
}

/// Reads `-netdev`.
pub(crate) fn netdev(place: &str, text: &str) -> Result<Netdev> {
    let mut list = List::parse(text, Grammar::strict("type"))?;
    let kind = list.take("type").ok_or_else(|| {
        Refusal::new("Parameter 'type' is missing").hint("'-netdev help' lists them.")
    })?;
    if !NETDEVS.contains(&kind.value.as_str()) {
        return Err(Refusal::new(format!(
            "Parameter 'type' does not accept value '{}'",
            kind.value
        ))
        .suggesting(&kind.value, NETDEVS.iter().copied())
        .hint("'-netdev help' lists them."));
    }
    let id = list.take_id()?.ok_or_else(|| {
        Refusal::new("Parameter 'id' is missing").hint("Give it a name: id=NAME.")
    })?;
    Ok(Netdev { kind: kind.value, id, options: list, origin: place.to_owned() })
}

/// Kinds of network back ends; which of them work, the one who builds the machine says.
pub(crate) const NETDEVS: &[&str] = &[
    "user",
    "socket",
    "stream",
    "dgram",
    "hubport",
    "tap",
    "l2tpv3",
    "vde",
    "bridge",
    "vhost-user",
    "vhost-vdpa",
];

/// Reads `-object`.
pub(crate) fn object(place: &str, list: &List, types: &[ObjectInfo]) -> Result<Object> {
    let mut list = list.clone();
    let kind = list.take("qom-type").ok_or_else(|| {
        Refusal::new("Parameter 'qom-type' is missing").hint("'-object help' lists them.")
    })?;
    let info = types.iter().find(|t| t.name == kind.value.as_str()).ok_or_else(|| {
        Refusal::new(format!("Parameter 'qom-type' does not accept value '{}'", kind.value))
            .suggesting(&kind.value, types.iter().map(|t| t.name.as_ref()))
            .hint("'-object help' lists them.")
    })?;
    let id = list.take_id()?.ok_or_else(|| {
        Refusal::new("Parameter 'id' is missing").hint("Give it a name: id=NAME.")
    })?;
    for item in &list.items {
        if !info.properties.iter().any(|p| p.name == item.key.as_str()) {
            return Err(Refusal::new(format!("Invalid parameter '{}'", item.key))
                .suggesting(&item.key, info.properties.iter().map(|p| p.name.as_ref())));
        }
        check_property(&info.name, item, &info.properties)?;
    }
    Ok(Object { kind: kind.value, id, properties: properties(&list), origin: place.to_owned() })
}

/// Reads `-global`: `DRIVER.PROP=VALUE` or `driver=…,property=…,value=…`.
pub(crate) fn global(text: &str) -> Result<Global> {
    let short =
        text.split_once('=').filter(|(name, _)| !matches!(*name, "driver" | "property" | "value"));
    if let Some((name, value)) = short
        && let Some((driver, property)) = name.rsplit_once('.')
    {
        let (driver, property) = (driver.to_owned(), property.to_owned());
        return Ok(Global { driver, property, value: value.to_owned() });
    }
    let mut list = List::parse(text, Grammar::BARE)?;
    let (driver, property, value) =
        (list.take("driver"), list.take("property"), list.take("value"));
    if let Some(item) = list.items.first() {
        return Err(Refusal::new(format!("Invalid parameter '{}'", item.key))
            .hint("Its form is -global DRIVER.PROPERTY=VALUE."));
    }
    match (driver, property, value) {
        (Some(driver), Some(property), Some(value)) => {
            Ok(Global { driver: driver.value, property: property.value, value: value.value })
        }
        _ => Err(Refusal::new("options 'driver', 'property' and 'value' are required")
            .hint("Its form is -global DRIVER.PROPERTY=VALUE.")),
    }
}

/// Checks everything that names something else, over the whole plan.
pub(crate) fn check_references(plan: &Plan, classes: &[DeviceInfo]) -> Result<()> {
    unique(plan)?;
    let mut used: Vec<&str> = Vec::new();
    for device in &plan.devices {
        let class = classes.iter().find(|c| c.name == device.driver.as_str());
        for property in &device.properties {
            let kind = class
                .and_then(|c| c.properties.iter().find(|p| p.name == property.name.as_str()))
                .map_or("", |p| p.kind.as_ref());
            reference(plan, device, property, kind).map_err(|r| r.at(&device.origin))?;
            if property.name == "drive" {
                shared(plan, device, &property.value, &used).map_err(|r| r.at(&device.origin))?;
                used.push(&property.value);
            }
        }
    }
    backends(plan)
}

fn unique(plan: &Plan) -> Result<()> {
    let mut seen: Vec<(&str, &str)> = Vec::new();
    let devices = plan.devices.iter().filter_map(|d| Some(("device", d.id.as_deref()?, &d.origin)));
    let netdevs = plan.netdevs.iter().map(|n| ("netdev", n.id.as_str(), &n.origin));
    let objects = plan.objects.iter().map(|o| ("object", o.id.as_str(), &o.origin));
    let nodes = plan.blockdevs.iter().map(|b| ("node", b.node_name.as_str(), &b.origin));
    for (group, id, origin) in devices.chain(netdevs).chain(objects).chain(nodes) {
        if seen.contains(&(group, id)) {
            return Err(Refusal::new(format!("Duplicate ID '{id}' for {group}")).at(origin));
        }
        seen.push((group, id));
    }
    Ok(())
}

fn reference(plan: &Plan, device: &Device, property: &Property, kind: &str) -> Result<()> {
    let value = property.value.as_str();
    let known: Vec<&str> = match (property.name.as_str(), kind) {
        ("drive", _) => {
            let drives = plan.drives.iter().map(|d| d.id.as_str());
            drives.chain(plan.blockdevs.iter().map(|b| b.node_name.as_str())).collect()
        }
        ("netdev", _) => plan.netdevs.iter().map(|n| n.id.as_str()).collect(),
        ("chardev", _) => plan.chardevs.iter().map(|c| c.id.as_str()).collect(),
        (_, kind) if kind.starts_with("link<") => {
            let objects = plan.objects.iter().map(|o| o.id.as_str());
            objects.chain(plan.devices.iter().filter_map(|d| d.id.as_deref())).collect()
        }
        _ => return Ok(()),
    };
    let found = known.contains(&value) || (value.is_empty() && property.name != "netdev");
    if found {
        return Ok(());
    }
    let refusal = if kind.starts_with("link<") {
        Refusal::new(format!("Device '{value}' not found"))
    } else {
        let name = &property.name;
        Refusal::new(format!("Property '{}.{name}' can't find value '{value}'", device.driver))
    };
    let refusal = refusal.suggesting(value, known.iter().copied());
    Err(match (property.name.as_str(), known.as_slice()) {
        ("drive", []) => refusal.hint(format!("Add it: -drive if=none,id={value},file=IMAGE")),
        ("netdev", []) => refusal.hint(format!("Add it: -netdev user,id={value}")),
        (_, []) => refusal.hint("Nothing with such an id was given."),
        (_, ids) if refusal.hints.is_empty() => {
            refusal.hint(format!("There are: {}.", ids.join(", ")))
        }
        _ => refusal,
    })
}

fn shared(plan: &Plan, device: &Device, id: &str, used: &[&str]) -> Result<()> {
    let Some(drive) = plan.drives.iter().find(|d| d.id == id) else { return Ok(()) };
    let implied = device.origin == drive.origin;
    let automatic = drive.interface != Interface::None && !implied;
    if automatic {
        return Err(Refusal::new(format!(
            "Drive '{id}' is already in use because it has been automatically connected to another \
             device (did you need 'if=none' in the drive options?)"
        )));
    }
    if used.contains(&id) {
        return Err(Refusal::new(format!("Drive '{id}' is already in use by another device")));
    }
    Ok(())
}

/// Checks what ports, monitors and RAM refer to, and that nobody shares what cannot be shared.
fn backends(plan: &Plan) -> Result<()> {
    let ids = || plan.chardevs.iter().map(|c| c.id.as_str());
    for (option, ports) in [("-serial", &plan.serials), ("-parallel", &plan.parallels)] {
        let unknown = ports.iter().flatten().find(|id| !ids().any(|known| known == *id));
        if let Some(id) = unknown {
            return Err(missing_chardev(id, ids()).at(&format!("{option} chardev:{id}")));
        }
    }
    let devices = plan.devices.iter().flat_map(|d| &d.properties);
    let devices = devices.filter(|p| p.name == "chardev").map(|p| p.value.as_str());
    let ports = plan.serials.iter().chain(&plan.parallels).flatten().map(String::as_str);
    let monitors = plan.monitors.iter().map(|m| m.chardev.as_str());
    let users: Vec<&str> = ports.chain(monitors).chain(devices).collect();
    for chardev in plan.chardevs.iter().filter(|c| !c.mux) {
        if users.iter().filter(|user| **user == chardev.id).count() > 1 {
            return Err(Refusal::new(format!("chardev '{}' is in use more than once", chardev.id))
                .hint(format!(
                    "mux=on lets several share it: -chardev …,id={},mux=on",
                    chardev.id
                )));
        }
    }
    if let Some(id) = &plan.memory.backend
        && !plan.objects.iter().any(|o| &o.id == id)
    {
        return Err(Refusal::new(format!("Memory backend '{id}' not found"))
            .hint(format!("Add it: -object memory-backend-ram,id={id},size=…")));
    }
    Ok(())
}

/// The refusal of a back end that does not exist.
pub(crate) fn missing_chardev<'a>(id: &str, known: impl Iterator<Item = &'a str>) -> Refusal {
    Refusal::new(format!("chardev \"{id}\" not found"))
        .suggesting(id, known)
        .hint(format!("Add it: -chardev stdio,id={id}"))
}

/// Warnings about what was given and is not used.
pub(crate) fn unused(plan: &Plan) -> Vec<String> {
    let refers = |id: &str| {
        plan.devices
            .iter()
            .any(|d| d.properties.iter().any(|p| p.name == "netdev" && p.value == id))
    };
    plan.netdevs
        .iter()
        .filter(|n| !refers(&n.id))
        .map(|n| format!("warning: netdev {} has no peer", n.id))
        .collect()
}
