//! `-machine`, `-cpu` and `-accel`.

use crate::catalog::{AccelInfo, Catalog, CpuInfo, MachineInfo};
use crate::devices::check_property;
use crate::refusal::{Refusal, Result};
use crate::{Accel, Boot, Property, Threading};
use options::{Grammar, Item, List};

/// Properties of every machine that are accepted and change nothing.
const IDLE: &[&str] = &[
    "dump-guest-core",
    "mem-merge",
    "suppress-vmdesc",
    "aux-ram-share",
    "graphics",
    "usb",
    "hmat",
    "dt-compatible",
    "phandle-start",
    "vmport",
    "nvdimm",
];

/// Properties of every machine that are not there yet.
const LATER: &[&str] =
    &["memory-encryption", "confidential-guest-support", "shim", "smp-cache", "firmware-log"];

/// Finds the machine type that `name` means, or the default one.
pub(crate) fn find(name: Option<&str>, machines: Vec<MachineInfo>) -> Result<MachineInfo> {
    let Some(name) = name else {
        let default = machines.iter().find(|m| m.default).cloned();
        return default.ok_or_else(|| {
            let names: Vec<&str> = machines.iter().map(|m| m.name.as_ref()).collect();
            Refusal::new("No machine specified, and there is no default")
                .hint(format!("Name one with -machine: {}.", names.join(", ")))
        });
    };
    match machines.iter().position(|m| m.answers_to(name)) {
        Some(at) => Ok(machines.into_iter().nth(at).expect("position is in range")),
        None => Err(Refusal::new(format!("unsupported machine type: \"{name}\""))
            .suggesting(name, machines.iter().map(|m| m.name.as_ref()))
            .hint("Use -machine help to list supported machines")),
    }
}

/// What `-machine` can say that has an option of its own.
#[derive(Debug, Default)]
pub(crate) struct Routed {
    /// `accel=`.
    pub accel: Option<String>,
    /// `memory-backend=`.
    pub memory_backend: Option<String>,
    /// `memory=` and `memory.*=`.
    pub memory: Vec<Item>,
    /// `smp.*=`.
    pub smp: Vec<Item>,
    /// `boot.*=`.
    pub boot: Vec<Item>,
}

/// Checks the properties of `-machine`, and routes those that have options of their own.
pub(crate) fn properties(
    list: &List,
    machine: &MachineInfo,
    boot: &mut Boot,
) -> Result<(Vec<Property>, Routed)> {
    let mut routed = Routed::default();
    let mut own: Vec<Property> = Vec::new();
    for item in &list.items {
        let value = || Some(item.value.clone());
        let renamed = |key: &str| Item { key: key.to_owned(), ..item.clone() };
        match item.key.split_once('.').unwrap_or((&item.key, "")) {
            ("type", "") => {}
            ("accel", "") => routed.accel = value(),
            ("kernel", "") => boot.kernel = value(),
            ("initrd", "") => boot.initrd = value(),
            ("append", "") => boot.append = value(),
            ("firmware", "") => boot.bios = value(),
            ("dtb", "") => boot.dtb = value(),
            ("dumpdtb", "") => boot.dumpdtb = value(),
            ("memory-backend", "") => routed.memory_backend = value(),
            ("memory", "") => routed.memory.push(renamed("size")),
            ("memory", "max-size") => routed.memory.push(renamed("maxmem")),
            ("memory", key) => routed.memory.push(renamed(key)),
            ("smp", "") => routed.smp.push(renamed("cpus")),
            ("smp", key) => routed.smp.push(renamed(key)),
            ("boot", "") => routed.boot.push(renamed("order")),
            ("boot", key) => routed.boot.push(renamed(key)),
            _ if IDLE.contains(&item.key.as_str()) => idle(item)?,
            _ if LATER.contains(&item.key.as_str()) => {
                return Err(Refusal::new(format!("-machine {}=: not supported yet", item.key)));
            }
            _ => {
                check_property(&format!("{}-machine", machine.name), item, &machine.properties)?;
                own.retain(|p| p.name != item.key);
                own.push(Property { name: item.key.clone(), value: item.value.clone() });
            }
        }
    }
    Ok((own, routed))
}

fn idle(item: &Item) -> Result<()> {
    let switch = !matches!(item.key.as_str(), "dt-compatible" | "phandle-start" | "vmport");
    if switch && options::parse_bool(&item.value).is_none() {
        return Err(Refusal::new(format!("Parameter '{}' expects 'on' or 'off'", item.key)));
    }
    Ok(())
}

/// Checks `-cpu MODEL,PROP=VALUE…`.
pub(crate) fn cpu(text: &str, models: &[CpuInfo]) -> Result<(String, Vec<Property>)> {
    let (name, rest) = text.split_once(',').unwrap_or((text, ""));
    let model = models.iter().find(|m| m.name == name).ok_or_else(|| {
        Refusal::new(format!("unable to find CPU model '{name}'"))
            .suggesting(name, models.iter().map(|m| m.name.as_ref()))
            .hint("'-cpu help' lists them.")
    })?;
    let mut properties: Vec<Property> = Vec::new();
    for piece in rest.split(',').filter(|piece| !piece.is_empty()) {
        let Some((key, value)) = piece.split_once('=') else {
            let name = piece.trim_start_matches(['+', '-']);
            let value = if piece.starts_with('-') { "false" } else { "true" };
            return Err(Refusal::new(format!("Expected key=value format, found {piece}."))
                .hint(format!("Did you mean '{name}={value}'?")));
        };
        let item = Item::new(key, value);
        check_property(name, &item, &model.properties)
            .map_err(|r| r.at(&format!("-cpu {text}")))?;
        properties.push(Property { name: key.to_owned(), value: value.to_owned() });
    }
    Ok((name.to_owned(), properties))
}

/// An `-accel`, or one name of `-machine accel=`.
#[derive(Clone, Debug)]
pub(crate) struct AccelOption {
    /// The option as written; empty for `-machine accel=`.
    pub place: String,
    /// Its keys.
    pub list: List,
}

impl AccelOption {
    /// Reads `-accel`.
    pub fn parse(place: &str, text: &str) -> Result<Self> {
        let list = List::parse(text, Grammar::loose("accel"))?;
        Ok(Self { place: place.to_owned(), list })
    }
}

/// Chooses the first accelerator that exists, and checks the properties of all that do.
pub(crate) fn accel(
    options: &[AccelOption],
    catalog: &dyn Catalog,
    warnings: &mut Vec<String>,
) -> Result<Accel> {
    let known = catalog.accels();
    let mut chosen: Option<Accel> = None;
    let mut refused: Vec<Refusal> = Vec::new();
    for option in options {
        let at = |r: Refusal| if option.place.is_empty() { r } else { r.at(&option.place) };
        let name = option.list.get("accel").unwrap_or_default();
        match known.iter().find(|a| a.name == name) {
            Some(info) => {
                let accel = one_accel(info, &option.list).map_err(at)?;
                chosen = chosen.or(Some(accel));
            }
            None => refused.push(at(Refusal::new(format!("invalid accelerator {name}"))
                .suggesting(name, known.iter().map(|a| a.name.as_ref())))),
        }
    }
    match (chosen, refused.into_iter().next()) {
        (Some(accel), refused) => {
            if let Some(refusal) = refused {
                warnings.push(refusal.message);
                warnings.push(format!("falling back to {}", accel.name));
            }
            Ok(accel)
        }
        (None, Some(refusal)) => Err(refusal.hint("'-accel help' lists them.")),
        (None, None) => {
            let info = known.first().ok_or_else(|| Refusal::new("no accelerator"))?;
            one_accel(info, &List::default())
        }
    }
}

fn one_accel(info: &AccelInfo, list: &List) -> Result<Accel> {
    let mut accel = Accel {
        name: info.name.to_string(),
        threading: None,
        one_insn_per_tb: false,
        tb_size: None,
        interpret: None,
        properties: Vec::new(),
    };
    for item in list.items.iter().filter(|item| item.key != "accel") {
        check_property(&format!("{}-accel", info.name), item, &info.properties)?;
        match item.key.as_str() {
            "thread" => {
                accel.threading = Some(Threading::from_name(&item.value).ok_or_else(|| {
                    Refusal::new(format!("Invalid 'thread' setting {}", item.value))
                        .hint("thread is single or multi.")
                })?);
            }
            "one-insn-per-tb" => {
                accel.one_insn_per_tb = options::parse_bool(&item.value).unwrap_or(false);
            }
            "tb-size" => accel.tb_size = options::parse_number(&item.value),
            "x-interpret" => accel.interpret = options::parse_bool(&item.value),
            _ => accel
                .properties
                .push(Property { name: item.key.clone(), value: item.value.clone() }),
        }
    }
    Ok(accel)
}
