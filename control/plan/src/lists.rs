//! Lists for people: `-help`, `-version`, `-machine help` and their like.

use crate::catalog::{Catalog, DeviceInfo, PropertyInfo};
use crate::refusal::{Refusal, Result};
use crate::table::{OPTIONS, Support};
use crate::{QEMU_VERSION, chardevs, machine};
use std::fmt::Write;

/// Text for `-version`. The first line has the form that scripts read a version from.
pub(crate) fn version(catalog: &dyn Catalog) -> String {
    format!("QEMU emulator version {QEMU_VERSION} ({})\n", catalog.product())
}

/// Text for `-help`.
pub(crate) fn help(program: &str, catalog: &dyn Catalog) -> String {
    let mut text = version(catalog);
    let _ = write!(
        text,
        "usage: {program} [options] [disk_image]\n\n\
         'disk_image' is a raw hard disk image for the first disk\n\n"
    );
    for row in OPTIONS.iter().filter(|row| !matches!(row.support, Support::NotYet(_))) {
        let left = format!("-{} {}", row.name, row.argument);
        let left = left.trim_end();
        if left.len() < 16 {
            let _ = writeln!(text, "{left:<16}{}", row.help);
        } else {
            let _ = writeln!(text, "{left}\n{:16}{}", "", row.help);
        }
    }
    let _ = write!(text, "\nNot supported yet:");
    for row in OPTIONS.iter().filter(|row| matches!(row.support, Support::NotYet(_))) {
        let _ = write!(text, " -{}", row.name);
    }
    text.push_str("\n\nWith -nographic, press Ctrl-A h for the keys of the terminal.\n");
    text
}

/// Text for `-machine help`.
pub(crate) fn machines(catalog: &dyn Catalog) -> String {
    let mut text = "Supported machines are:\n".to_owned();
    let mut machines = catalog.machines();
    machines.sort_by(|a, b| a.name.cmp(&b.name));
    for machine in machines {
        for alias in &machine.aliases {
            let _ =
                writeln!(text, "{alias:<20} {} (alias of {})", machine.description, machine.name);
        }
        let default = if machine.default { " (default)" } else { "" };
        let _ = writeln!(text, "{:<20} {}{default}", machine.name, machine.description);
    }
    text
}

/// Text for `-machine NAME,help`.
pub(crate) fn machine_options(name: Option<&str>, catalog: &dyn Catalog) -> Result<String> {
    let machine = machine::find(name, catalog.machines())?;
    let common = COMMON.iter().map(|(name, kind, what)| PropertyInfo::new(*name, *kind, *what));
    let all: Vec<PropertyInfo> = machine.properties.into_iter().chain(common).collect();
    Ok(property_list(&format!("{}-machine", machine.name), &all))
}

/// Properties that every machine has.
const COMMON: &[(&str, &str, &str)] = &[
    ("append", "string", "Kernel command line"),
    ("boot", "BootConfiguration", "Boot order, as -boot"),
    ("dtb", "string", "Device tree file"),
    ("dumpdtb", "string", "Write the device tree to a file and end"),
    ("firmware", "string", "Firmware image, as -bios"),
    ("initrd", "string", "Initial RAM disk"),
    ("kernel", "string", "Kernel image"),
    ("memory", "MemorySizeConfiguration", "RAM, as -m"),
    ("memory-backend", "string", "Object that provides the RAM"),
    ("smp", "SMPConfiguration", "CPUs, as -smp"),
];

/// Text for `-cpu help`.
pub(crate) fn cpus(catalog: &dyn Catalog) -> String {
    let mut names: Vec<_> = catalog.cpus().into_iter().map(|c| c.name).collect();
    names.sort();
    names.iter().fold("Available CPUs:\n".to_owned(), |text, name| text + "  " + name + "\n")
}

/// Text for `-cpu MODEL,help`.
pub(crate) fn cpu_options(model: &str, catalog: &dyn Catalog) -> Result<String> {
    let models = catalog.cpus();
    machine::cpu(model, &models)?;
    let found = models.into_iter().find(|m| m.name == model);
    Ok(found.map_or(String::new(), |m| property_list(model, &m.properties)))
}

/// Text for `-accel help`.
pub(crate) fn accels(catalog: &dyn Catalog) -> String {
    let names = catalog.accels().into_iter().map(|a| a.name).filter(|name| name != "qtest");
    let head = "Accelerators supported in QEMU binary:\n".to_owned();
    names.fold(head, |text, name| text + &name + "\n")
}

/// Text for `-device help`.
pub(crate) fn devices(catalog: &dyn Catalog) -> String {
    let mut devices = catalog.devices();
    devices.sort_by(|a, b| a.name.cmp(&b.name));
    let mut text = String::new();
    let rank =
        |category: &str| CATEGORIES.iter().position(|c| *c == category).unwrap_or(CATEGORIES.len());
    let mut categories: Vec<&str> = devices.iter().map(|d| d.category.as_ref()).collect();
    categories.sort_by_key(|category| (rank(category), *category));
    categories.dedup();
    for (number, category) in categories.iter().enumerate() {
        let gap = if number > 0 { "\n" } else { "" };
        let _ = writeln!(text, "{gap}{category} devices:");
        for device in devices.iter().filter(|d| d.category == *category) {
            device_line(&mut text, device);
        }
    }
    text
}

/// Order of the headings of `-device help`.
const CATEGORIES: &[&str] = &[
    "Controller/Bridge/Hub",
    "USB",
    "Storage",
    "Network",
    "Input",
    "Display",
    "Sound",
    "Misc",
    "CPU",
    "Watchdog",
    "Uncategorized",
];

fn device_line(text: &mut String, device: &DeviceInfo) {
    let _ = write!(text, "name \"{}\"", device.name);
    if !device.bus.is_empty() {
        let _ = write!(text, ", bus {}", device.bus);
    }
    if let Some(alias) = &device.alias {
        let _ = write!(text, ", alias \"{alias}\"");
    }
    if !device.description.is_empty() {
        let _ = write!(text, ", desc \"{}\"", device.description);
    }
    text.push('\n');
}

/// Text for `-device DRIVER,help`.
pub(crate) fn device_options(driver: &str, catalog: &dyn Catalog) -> Result<String> {
    let devices = catalog.devices();
    match devices.iter().find(|d| d.answers_to(driver)) {
        Some(device) => Ok(property_list(&device.name, &device.properties)),
        None => Err(Refusal::new(format!("Device '{driver}' not found"))
            .suggesting(driver, devices.iter().map(|d| d.name.as_ref()))
            .hint("'-device help' lists them.")),
    }
}

/// Text for `-object help`.
pub(crate) fn objects(catalog: &dyn Catalog) -> String {
    let mut names: Vec<_> = catalog.objects().into_iter().map(|o| o.name).collect();
    names.sort();
    let head = "List of user creatable objects:\n".to_owned();
    names.iter().fold(head, |text, name| text + "  " + name + "\n")
}

/// Text for `-object TYPE,help`.
pub(crate) fn object_options(kind: &str, catalog: &dyn Catalog) -> Result<String> {
    let types = catalog.objects();
    match types.iter().find(|t| t.name == kind) {
        Some(info) => Ok(property_list(kind, &info.properties)),
        None => Err(Refusal::new(format!("Parameter 'qom-type' does not accept value '{kind}'"))
            .suggesting(kind, types.iter().map(|t| t.name.as_ref()))),
    }
}

/// Text for `-chardev help` and `-chardev KIND,help`.
pub(crate) fn chardevs(kind: bool) -> String {
    if kind { chardevs::options_help() } else { chardevs::help() }
}

/// Properties of something, sorted, in the form of `-device X,help`.
fn property_list(owner: &str, properties: &[PropertyInfo]) -> String {
    if properties.is_empty() {
        return format!("There are no options for {owner}.\n");
    }
    let mut sorted: Vec<&PropertyInfo> = properties.iter().collect();
    sorted.sort_by(|a, b| a.name.cmp(&b.name));
    let mut text = format!("{owner} options:\n");
    for property in sorted {
        let left = format!("  {}=<{}>", property.name, property.kind);
        let what = if property.description.is_empty() && property.kind == "bool" {
            "on/off"
        } else if property.description.is_empty() && property.kind == "OnOffAuto" {
            "on/off/auto"
        } else {
            &property.description
        };
        match &property.default {
            Some(default) => {
                let _ = writeln!(text, "{left:<24} - {what} (default: {default})");
            }
            None if what.is_empty() => {
                let _ = writeln!(text, "{left}");
            }
            None => {
                let _ = writeln!(text, "{left:<24} - {what}");
            }
        }
    }
    text
}
