//! What exists for `qemu-system-riscv64`: the lists that planning and help texts draw on.

use plan::{
    AccelInfo, Catalog, CpuInfo, DeviceInfo, DriveSupport, Interface, MachineInfo, Name,
    ObjectInfo, PropertyInfo, TopologyLevels,
};
use riscv::model;

/// Bytes of RAM without `-m`.
const DEFAULT_RAM: u64 = 128 << 20;

/// RISC-V machines with 64-bit harts (and 32-bit ones by `-cpu`).
pub struct Riscv64;

impl Catalog for Riscv64 {
    fn machines(&self) -> Vec<MachineInfo> {
        vec![spike(), virt()]
    }

    fn cpus(&self) -> Vec<CpuInfo> {
        let properties: Vec<_> =
            model::properties().map(|(name, kind)| PropertyInfo::new(name, kind, "")).collect();
        model::names()
            .map(|name| CpuInfo { name: name.into(), properties: properties.clone() })
            .collect()
    }

    fn devices(&self) -> Vec<DeviceInfo> {
        virtio::CLASSES.iter().map(|class| device(class)).collect()
    }

    fn parts(&self) -> Vec<DeviceInfo> {
        let legacy =
            PropertyInfo::new("force-legacy", "bool", "Slots speak the old form of the interface");
        vec![DeviceInfo {
            name: "virtio-mmio".into(),
            alias: None,
            category: "Misc".into(),
            ancestors: vec!["sys-bus-device".into(), "device".into()],
            bus: "System".into(),
            description: "".into(),
            properties: vec![legacy],
        }]
    }

    fn cpu_suffix(&self) -> Name {
        "-riscv-cpu".into()
    }

    fn accels(&self) -> Vec<AccelInfo> {
        let property = PropertyInfo::new;
        let tcg = AccelInfo {
            name: "tcg".into(),
            properties: vec![
                property("one-insn-per-tb", "bool", "One guest instruction in each unit"),
                property("split-wx", "bool", "Map generated code writable and executable apart"),
                property("tb-size", "int", "Size of the code cache in MiB"),
                property("thread", "string", "single or multi"),
                property("x-interpret", "bool", "Interpret the IR instead of compiling it"),
            ],
        };
        vec![tcg, AccelInfo { name: "qtest".into(), properties: Vec::new() }]
    }

    fn objects(&self) -> Vec<ObjectInfo> {
        let file = PropertyInfo::new("filename", "string", "File that random numbers come from");
        vec![
            ObjectInfo { name: "iothread".into(), properties: iothread() },
            ObjectInfo { name: "rng-builtin".into(), properties: Vec::new() },
            ObjectInfo { name: "rng-random".into(), properties: vec![file] },
            ObjectInfo { name: "secret".into(), properties: secret() },
            ObjectInfo { name: "throttle-group".into(), properties: throttle_group() },
            ObjectInfo { name: "tls-creds-x509".into(), properties: credentials() },
        ]
    }

    fn product(&self) -> String {
        format!("Tinamou {}", env!("CARGO_PKG_VERSION"))
    }
}

/// A passphrase or key: given, or in a file; encrypted with another one if that is named.
fn secret() -> Vec<PropertyInfo> {
    let property = |name, kind| PropertyInfo::new(name, kind, "");
    vec![
        property("data", "string"),
        property("file", "string"),
        property("format", "QCryptoSecretFormat"),
        property("iv", "string"),
        property("keyid", "string"),
    ]
}

/// Limits that several disks share.
fn throttle_group() -> Vec<PropertyInfo> {
    let limits = graph::throttle::Limits::default().named();
    limits.iter().map(|(name, _)| PropertyInfo::new(format!("x-{name}"), "int", "")).collect()
}

/// Certificates and keys of a TLS connection.
fn credentials() -> Vec<PropertyInfo> {
    let property = |name, kind| PropertyInfo::new(name, kind, "");
    vec![
        property("dir", "string"),
        property("endpoint", "QCryptoTLSCredsEndpoint"),
        property("passwordid", "string"),
        property("priority", "string"),
        property("sanity-check", "bool"),
        property("verify-peer", "bool"),
    ]
}

/// Tuning that QEMU's event loops have; threads here wait for work without polling.
fn iothread() -> Vec<PropertyInfo> {
    let names = [
        "aio-max-batch",
        "poll-grow",
        "poll-max-ns",
        "poll-shrink",
        "thread-pool-max",
        "thread-pool-min",
    ];
    names.map(|name| PropertyInfo::new(name, "int", "")).into()
}

fn virt() -> MachineInfo {
    let property = PropertyInfo::new;
    MachineInfo {
        name: "virt".into(),
        aliases: Vec::new(),
        description: "RISC-V VirtIO board".into(),
        default: false,
        max_cpus: machines_riscv::virt::MAX_HARTS as u32,
        default_cpu: "rv64".into(),
        default_ram: DEFAULT_RAM,
        serial_ports: 1,
        default_interface: Interface::Virtio,
        drives: vec![
            (Interface::Virtio, DriveSupport::Device("virtio-blk-device".into())),
            (Interface::Pflash, DriveSupport::Board { slots: 2 }),
        ],
        topology: TopologyLevels::default(),
        properties: vec![
            property(
                "aclint",
                "bool",
                "(TCG only) Set on/off to enable/disable emulating ACLINT devices",
            ),
            property("acpi", "OnOffAuto", "Enable ACPI"),
            property(
                "aia",
                "none|aplic|aplic-imsic",
                "Set type of AIA interrupt controller. Valid values are none, aplic, and aplic-imsic.",
            ),
            property("aia-guests", "string", "Set number of guest MMIO pages for AIA IMSIC"),
        ],
    }
}

fn spike() -> MachineInfo {
    MachineInfo {
        name: "spike".into(),
        aliases: Vec::new(),
        description: "RISC-V Spike board".into(),
        default: true,
        max_cpus: machines_riscv::spike::MAX_HARTS as u32,
        default_cpu: "rv64".into(),
        default_ram: DEFAULT_RAM,
        serial_ports: 1,
        default_interface: Interface::Ide,
        drives: Vec::new(),
        topology: TopologyLevels::default(),
        properties: vec![
            PropertyInfo::new("signature", "string", "File to write ACT test signature"),
            PropertyInfo::new(
                "signature-granularity",
                "uint8",
                "Size of each line in ACT signature file",
            ),
        ],
    }
}

/// The classes above one, as `-global` knows them. The parts of a virtio device, its transport and
/// what is behind it, are one class here.
fn ancestors(class: &device::DeviceClass) -> Vec<Name> {
    let bare = class.name.strip_prefix("virtio-").and_then(|rest| rest.split('-').next());
    let mut names: Vec<Name> = vec!["device".into()];
    if let Some(bare) = bare {
        names.extend([format!("virtio-{bare}-device").into(), "virtio-device".into()]);
    }
    names.extend(match class.bus {
        device::Bus::Pci => vec!["virtio-pci".into(), "pci-device".into()],
        device::Bus::Scsi => vec!["scsi-disk-base".into(), "scsi-device".into()],
        device::Bus::VirtioSerial => vec!["virtio-serial-port".into()],
        _ => Vec::new(),
    });
    names
}

fn device(class: &device::DeviceClass) -> DeviceInfo {
    let property = |p: &device::Property| PropertyInfo {
        name: p.name.into(),
        kind: p.kind.into(),
        description: p.description.into(),
        default: (!p.default.is_empty()).then(|| p.default.into()),
    };
    DeviceInfo {
        name: class.name.into(),
        alias: class.aliases.first().map(|a| (*a).into()),
        category: format!("{:?}", class.category).into(),
        ancestors: ancestors(class),
        bus: class.bus.name().into(),
        description: class.description.into(),
        properties: class.properties.iter().map(property).collect(),
    }
}
