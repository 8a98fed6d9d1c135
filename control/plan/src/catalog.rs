//! What exists: machines, CPU models, device classes, accelerators and objects, as lists.

use crate::Interface;
use std::borrow::Cow;

/// Text of a list: usually part of a static table.
pub type Name = Cow<'static, str>;

/// A property that can be set on a machine, CPU model, device or object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PropertyInfo {
    /// Its name.
    pub name: Name,
    /// Type as QEMU writes it: `bool`, `str`, `uint32`, `size`, `OnOffAuto`, `link<rng-backend>` …;
    /// or the values there are, separated by `|`.
    pub kind: Name,
    /// What it does; may be empty.
    pub description: Name,
    /// Its default, when there is one to show.
    pub default: Option<Name>,
}

impl PropertyInfo {
    /// A property without default.
    pub fn new(name: impl Into<Name>, kind: impl Into<Name>, description: impl Into<Name>) -> Self {
        let (name, kind, description) = (name.into(), kind.into(), description.into());
        Self { name, kind, description, default: None }
    }
}

/// What a machine does with a drive of some interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DriveSupport {
    /// The board takes it: flash banks, SD slots.
    Board {
        /// How many there are.
        slots: u32,
    },
    /// A device of this class is added for each.
    Device(Name),
}

/// Levels of the CPU topology, beside sockets, cores and threads, that a machine knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TopologyLevels {
    /// Dies in a socket.
    pub dies: bool,
    /// Clusters in a die.
    pub clusters: bool,
    /// Modules in a cluster.
    pub modules: bool,
}

/// A machine type.
#[derive(Clone, Debug)]
pub struct MachineInfo {
    /// Its name.
    pub name: Name,
    /// Other names for it.
    pub aliases: Vec<Name>,
    /// One line about it.
    pub description: Name,
    /// Whether it is meant when no machine is named.
    pub default: bool,
    /// Most CPUs it can have.
    pub max_cpus: u32,
    /// CPU model when none is named; empty when it has no CPU.
    pub default_cpu: Name,
    /// Bytes of RAM when `-m` is not given.
    pub default_ram: u64,
    /// How many serial ports it has.
    pub serial_ports: usize,
    /// Interface of `-hda`, `-drive` without `if=` and a bare image.
    pub default_interface: Interface,
    /// What it does with drives, by interface; others are refused (`if=none` never is).
    pub drives: Vec<(Interface, DriveSupport)>,
    /// Levels of the CPU topology it knows.
    pub topology: TopologyLevels,
    /// Properties of `-machine` beyond those every machine has.
    pub properties: Vec<PropertyInfo>,
}

/// A CPU model.
#[derive(Clone, Debug)]
pub struct CpuInfo {
    /// Its name.
    pub name: Name,
    /// Properties of `-cpu NAME,…`.
    pub properties: Vec<PropertyInfo>,
}

/// A device class.
#[derive(Clone, Debug)]
pub struct DeviceInfo {
    /// Its name.
    pub name: Name,
    /// Another name for it.
    pub alias: Option<Name>,
    /// Heading of `-device help` it stands under: `Storage`, `Network`, `Misc` ….
    pub category: Name,
    /// Names of the classes above it, for `-global`.
    pub ancestors: Vec<Name>,
    /// Bus it plugs into; empty for none.
    pub bus: Name,
    /// One line about it; may be empty.
    pub description: Name,
    /// Its properties.
    pub properties: Vec<PropertyInfo>,
}

/// An accelerator.
#[derive(Clone, Debug)]
pub struct AccelInfo {
    /// Its name.
    pub name: Name,
    /// Its properties.
    pub properties: Vec<PropertyInfo>,
}

/// A type of `-object`.
#[derive(Clone, Debug)]
pub struct ObjectInfo {
    /// Its name.
    pub name: Name,
    /// Its properties, without `id`.
    pub properties: Vec<PropertyInfo>,
}

/// What exists in this binary for one guest. The application implements it.
pub trait Catalog {
    /// Every machine type.
    fn machines(&self) -> Vec<MachineInfo>;
    /// Every CPU model.
    fn cpus(&self) -> Vec<CpuInfo>;
    /// Every device class that `-device` can make.
    fn devices(&self) -> Vec<DeviceInfo>;
    /// Parts that boards have by themselves and `-global` can set properties of.
    fn parts(&self) -> Vec<DeviceInfo> {
        Vec::new()
    }
    /// What the class of a CPU model is called after the model's name: `-riscv-cpu`.
    fn cpu_suffix(&self) -> Name;
    /// Every accelerator, best first.
    fn accels(&self) -> Vec<AccelInfo>;
    /// Every type of `-object`.
    fn objects(&self) -> Vec<ObjectInfo>;
    /// Name and version of the product, for `-version`: `Tinamou 0.1.0`.
    fn product(&self) -> String;
}

impl MachineInfo {
    /// Whether `name` means this machine.
    pub fn answers_to(&self, name: &str) -> bool {
        self.name == name || self.aliases.iter().any(|a| a == name)
    }

    /// What it does with drives of `interface`.
    pub fn drive_support(&self, interface: Interface) -> Option<&DriveSupport> {
        self.drives.iter().find(|(i, _)| *i == interface).map(|(_, support)| support)
    }
}

impl DeviceInfo {
    /// Whether `name` means this class.
    pub fn answers_to(&self, name: &str) -> bool {
        self.name == name || self.alias.as_ref().is_some_and(|a| a == name)
    }
}
