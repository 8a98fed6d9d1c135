//! Device classes with their properties and defaults, as `-device CLASS,help` of QEMU 10.0 shows them.

use device::{Bus, Category, DeviceClass, Property};

const fn p(
    name: &'static str,
    kind: &'static str,
    default: &'static str,
    description: &'static str,
) -> Property {
    Property { name, kind, default, description }
}

/// Properties of every virtio device.
const RINGS: &[Property] = &[
    p("any_layout", "bool", "on", "on/off"),
    p("event_idx", "bool", "on", "on/off"),
    p("in_order", "bool", "off", "on/off"),
    p("indirect_desc", "bool", "on", "on/off"),
    p("iommu_platform", "bool", "off", "on/off"),
    p("notify_on_empty", "bool", "on", "on/off"),
    p("packed", "bool", "off", "on/off"),
    p("queue_reset", "bool", "on", "on/off"),
    p("use-disabled-flag", "bool", "on", "on/off"),
    p("use-started", "bool", "on", "on/off"),
];
/// Properties of every virtio PCI function.
const PCI: &[Property] = &[
    p("acpi-index", "uint32", "0", ""),
    p("addr", "str", "-1", "Slot and optional function number, example: 06.0 or 06"),
    p("aer", "bool", "off", "on/off"),
    p("ats", "bool", "off", "on/off"),
    p("busnr", "busnr", "", ""),
    p("failover_pair_id", "str", "", ""),
    p("ioeventfd", "bool", "on", "on/off"),
    p("migrate-extra", "bool", "on", "on/off"),
    p("modern-pio-notify", "bool", "off", "on/off"),
    p("multifunction", "bool", "off", "on/off"),
    p("page-per-vq", "bool", "off", "on/off"),
    p("rombar", "int32", "-1", ""),
    p("romfile", "str", "", ""),
    p("romsize", "uint32", "4294967295", ""),
    p("virtio-pci-bus-master-bug-migration", "bool", "off", "on/off"),
];
/// Which interfaces a virtio PCI function has.
const VARIANT: &[Property] = &[
    p("disable-legacy", "OnOffAuto", "auto", "on/off/auto"),
    p("disable-modern", "bool", "off", "on/off"),
];
/// MSI-X vectors, chosen by the device.
const VECTORS: &[Property] = &[p("vectors", "uint32", "4294967295", "")];
/// Properties of everything on a disk.
const DRIVE: &[Property] = &[
    p("account-failed", "OnOffAuto", "auto", "on/off/auto"),
    p("account-invalid", "OnOffAuto", "auto", "on/off/auto"),
    p("backend_defaults", "OnOffAuto", "auto", "on/off/auto"),
    p("bootindex", "int32", "", ""),
    p("discard_granularity", "size", "4294967295", ""),
    p("drive", "str", "", "Node name or ID of a block device to use as a backend"),
    p("logical_block_size", "size", "0", "A power of two between 512 B and 2 MiB"),
    p("min_io_size", "size", "0", ""),
    p("opt_io_size", "size", "0", ""),
    p("physical_block_size", "size", "0", "A power of two between 512 B and 2 MiB"),
    p(
        "rerror",
        "BlockdevOnError",
        "auto",
        "Error handling policy (report/ignore/enospc/stop/auto)",
    ),
    p("serial", "str", "", ""),
    p("share-rw", "bool", "off", "on/off"),
    p(
        "werror",
        "BlockdevOnError",
        "auto",
        "Error handling policy (report/ignore/enospc/stop/auto)",
    ),
    p("write-cache", "OnOffAuto", "auto", "on/off/auto"),
];
/// virtio-blk.
const BLK: &[Property] = &[
    p("config-wce", "bool", "on", "on/off"),
    p("cyls", "uint32", "0", ""),
    p("discard", "bool", "on", "on/off"),
    p("heads", "uint32", "0", ""),
    p("iothread", "link<iothread>", "", ""),
    p(
        "iothread-vq-mapping",
        "IOThreadVirtQueueMappingList",
        "",
        "IOThread virtqueue mapping list [{\"iothread\":\"<id>\", \"vqs\":[1,2,3,...]},...]",
    ),
    p("lcyls", "uint32", "0", ""),
    p("lheads", "uint32", "0", ""),
    p("lsecs", "uint32", "0", ""),
    p("max-discard-sectors", "uint32", "4194303", ""),
    p("max-write-zeroes-sectors", "uint32", "4194303", ""),
    p("num-queues", "uint16", "65535", ""),
    p("queue-size", "uint16", "256", ""),
    p("report-discard-granularity", "bool", "on", "on/off"),
    p("request-merging", "bool", "on", "on/off"),
    p("secs", "uint32", "0", ""),
    p("seg-max-adjust", "bool", "on", "on/off"),
    p("write-zeroes", "bool", "on", "on/off"),
];
/// A chosen PCI class code.
const CLASS_CODE: &[Property] = &[p("class", "uint32", "0", "")];
/// virtio-scsi.
const SCSI_HOST: &[Property] = &[
    p("cmd_per_lun", "uint32", "128", ""),
    p("hotplug", "bool", "on", "on/off"),
    p("iothread", "link<iothread>", "", ""),
    p(
        "iothread-vq-mapping",
        "IOThreadVirtQueueMappingList",
        "",
        "IOThread virtqueue mapping list [{\"iothread\":\"<id>\", \"vqs\":[1,2,3,...]},...]",
    ),
    p("max_sectors", "uint32", "65535", ""),
    p("num_queues", "uint32", "4294967295", ""),
    p("param_change", "bool", "on", "on/off"),
    p("seg_max_adjust", "bool", "on", "on/off"),
    p("virtqueue_size", "uint32", "256", ""),
];
/// Properties of every SCSI device.
const SCSI_DEVICE: &[Property] = &[
    p("channel", "uint32", "0", ""),
    p("device_id", "str", "", ""),
    p("lun", "uint32", "4294967295", ""),
    p("max_io_size", "uint64", "2147483647", ""),
    p("migrate-emulated-scsi-request", "bool", "on", "on/off"),
    p("port_index", "uint16", "0", ""),
    p("port_wwn", "uint64", "0", ""),
    p("product", "str", "", ""),
    p("quirk_mode_page_vendor_specific_apple", "bool", "off", "on/off"),
    p("scsi-id", "uint32", "4294967295", ""),
    p("scsi_version", "int32", "5", ""),
    p("vendor", "str", "", ""),
    p("ver", "str", "", ""),
    p("wwn", "uint64", "0", ""),
];
/// scsi-hd.
const SCSI_HD: &[Property] = &[
    p("cyls", "uint32", "0", ""),
    p("dpofua", "bool", "off", "on/off"),
    p("heads", "uint32", "0", ""),
    p("lcyls", "uint32", "0", ""),
    p("lheads", "uint32", "0", ""),
    p("lsecs", "uint32", "0", ""),
    p("max_unmap_size", "uint64", "1073741824", ""),
    p("removable", "bool", "off", "on/off"),
    p("rotation_rate", "uint16", "0", ""),
    p("secs", "uint32", "0", ""),
];
/// scsi-cd.
const SCSI_CD: &[Property] = &[
    p("quirk_mode_page_apple_vendor", "bool", "off", "on/off"),
    p("quirk_mode_page_truncated", "bool", "off", "on/off"),
    p("quirk_mode_sense_rom_use_dbd", "bool", "off", "on/off"),
];
/// virtio-rng.
const RNG: &[Property] = &[
    p("max-bytes", "uint64", "9223372036854775807", ""),
    p("period", "uint32", "65536", ""),
    p("rng", "link<rng-backend>", "", ""),
];
/// virtio-serial.
const SERIAL: &[Property] =
    &[p("emergency-write", "bool", "on", "on/off"), p("max_ports", "uint32", "31", "")];
/// MSI-X vectors of virtio-serial.
const SERIAL_VECTORS: &[Property] = &[p("vectors", "uint32", "2", "")];
/// Ports of virtio-serial.
const PORT: &[Property] = &[
    p("chardev", "str", "", "ID of a chardev to use as a backend"),
    p("name", "str", "", ""),
    p("nr", "uint32", "4294967295", ""),
];
/// virtio-balloon.
const BALLOON: &[Property] = &[
    p("deflate-on-oom", "bool", "off", "on/off"),
    p("free-page-hint", "bool", "off", "on/off"),
    p("free-page-reporting", "bool", "off", "on/off"),
    p("guest-stats", "guest statistics", "", ""),
    p("guest-stats-polling-interval", "int", "", ""),
    p("iothread", "link<iothread>", "", ""),
    p("page-poison", "bool", "on", "on/off"),
    p("qemu-4-0-config-size", "bool", "off", "on/off"),
];
/// virtio-net.
const NET: &[Property] = &[
    p("bootindex", "int32", "", ""),
    p("csum", "bool", "on", "on/off"),
    p("ctrl_guest_offloads", "bool", "on", "on/off"),
    p("ctrl_mac_addr", "bool", "on", "on/off"),
    p("ctrl_rx", "bool", "on", "on/off"),
    p("ctrl_rx_extra", "bool", "on", "on/off"),
    p("ctrl_vlan", "bool", "on", "on/off"),
    p("ctrl_vq", "bool", "on", "on/off"),
    p("duplex", "str", "", ""),
    p("ebpf-rss-fds", "list", "[]", ""),
    p("failover", "bool", "off", "on/off"),
    p("gso", "bool", "on", "on/off"),
    p("guest_announce", "bool", "on", "on/off"),
    p("guest_csum", "bool", "on", "on/off"),
    p("guest_ecn", "bool", "on", "on/off"),
    p("guest_rsc_ext", "bool", "off", "on/off"),
    p("guest_tso4", "bool", "on", "on/off"),
    p("guest_tso6", "bool", "on", "on/off"),
    p("guest_ufo", "bool", "on", "on/off"),
    p("guest_uso4", "bool", "on", "on/off"),
    p("guest_uso6", "bool", "on", "on/off"),
    p("hash", "bool", "off", "on/off"),
    p("host_ecn", "bool", "on", "on/off"),
    p("host_mtu", "uint16", "0", ""),
    p("host_tso4", "bool", "on", "on/off"),
    p("host_tso6", "bool", "on", "on/off"),
    p("host_ufo", "bool", "on", "on/off"),
    p("host_uso", "bool", "on", "on/off"),
    p("mac", "str", "", "Ethernet 6-byte MAC Address, example: 52:54:00:12:34:56"),
    p("mq", "bool", "off", "on/off"),
    p("mrg_rxbuf", "bool", "on", "on/off"),
    p("netdev", "str", "", "ID of a netdev to use as a backend"),
    p("rsc_interval", "uint32", "300000", ""),
    p("rss", "bool", "off", "on/off"),
    p("rx_queue_size", "uint16", "256", ""),
    p("speed", "int32", "-1", ""),
    p("status", "bool", "on", "on/off"),
    p("tx", "str", "", ""),
    p("tx_queue_size", "uint16", "256", ""),
];

const fn count(parts: &[&[Property]]) -> usize {
    let (mut n, mut i) = (0, 0);
    while i < parts.len() {
        n += parts[i].len();
        i += 1;
    }
    n
}

const fn join<const N: usize>(parts: &[&[Property]]) -> [Property; N] {
    let mut all = [p("", "", "", ""); N];
    let (mut n, mut i) = (0, 0);
    while i < parts.len() {
        let mut j = 0;
        while j < parts[i].len() {
            all[n] = parts[i][j];
            (n, j) = (n + 1, j + 1);
        }
        i += 1;
    }
    all
}

/// One list of properties made of several.
macro_rules! joined {
    ($($part:expr),+) => {{
        const PARTS: &[&[Property]] = &[$($part),+];
        const ALL: [Property; count(PARTS)] = join(PARTS);
        &ALL
    }};
}

const fn row(
    name: &'static str,
    aliases: &'static [&'static str],
    bus: Bus,
    category: Category,
    description: &'static str,
    properties: &'static [Property],
) -> DeviceClass {
    DeviceClass { name, aliases, bus, category, description, properties, saved_version: 1 }
}

/// The four classes of one device type: without a bus, and the three kinds of PCI function.
macro_rules! family {
    ($category:ident, $text:literal, $device:literal, $pci:literal, $alias:literal,
     $transitional:literal, $modern:literal, [$($own:expr),*], [$($bus:expr),*]) => {
        [
            row($device, &[], Bus::Virtio, Category::$category, $text, joined!($($own,)* RINGS)),
            row($pci, &[$alias], Bus::Pci, Category::$category, $text,
                joined!($($own,)* RINGS, $($bus,)* PCI, VARIANT)),
            row($transitional, &[], Bus::Pci, Category::$category, $text,
                joined!($($own,)* RINGS, $($bus,)* PCI)),
            row($modern, &[], Bus::Pci, Category::$category, $text,
                joined!($($own,)* RINGS, $($bus,)* PCI)),
        ]
    };
}

static BLK_FAMILY: [DeviceClass; 4] = family!(
    Storage,
    "Virtio disk",
    "virtio-blk-device",
    "virtio-blk-pci",
    "virtio-blk",
    "virtio-blk-pci-transitional",
    "virtio-blk-pci-non-transitional",
    [DRIVE, BLK],
    [VECTORS, CLASS_CODE]
);
static SCSI_FAMILY: [DeviceClass; 4] = family!(
    Storage,
    "Virtio SCSI host adapter",
    "virtio-scsi-device",
    "virtio-scsi-pci",
    "virtio-scsi",
    "virtio-scsi-pci-transitional",
    "virtio-scsi-pci-non-transitional",
    [SCSI_HOST],
    [VECTORS]
);
static RNG_FAMILY: [DeviceClass; 4] = family!(
    Misc,
    "Virtio entropy source",
    "virtio-rng-device",
    "virtio-rng-pci",
    "virtio-rng",
    "virtio-rng-pci-transitional",
    "virtio-rng-pci-non-transitional",
    [RNG],
    [VECTORS]
);
static SERIAL_FAMILY: [DeviceClass; 4] = family!(
    Input,
    "Virtio console and serial ports",
    "virtio-serial-device",
    "virtio-serial-pci",
    "virtio-serial",
    "virtio-serial-pci-transitional",
    "virtio-serial-pci-non-transitional",
    [SERIAL],
    [SERIAL_VECTORS, CLASS_CODE]
);
static BALLOON_FAMILY: [DeviceClass; 4] = family!(
    Misc,
    "Virtio memory balloon",
    "virtio-balloon-device",
    "virtio-balloon-pci",
    "virtio-balloon",
    "virtio-balloon-pci-transitional",
    "virtio-balloon-pci-non-transitional",
    [BALLOON],
    [VECTORS]
);
static NET_FAMILY: [DeviceClass; 4] = family!(
    Network,
    "Virtio network card",
    "virtio-net-device",
    "virtio-net-pci",
    "virtio-net",
    "virtio-net-pci-transitional",
    "virtio-net-pci-non-transitional",
    [NET],
    [VECTORS]
);
static HD: DeviceClass = row(
    "scsi-hd",
    &[],
    Bus::Scsi,
    Category::Storage,
    "virtual SCSI disk",
    joined!(DRIVE, SCSI_DEVICE, SCSI_HD),
);
static CD: DeviceClass = row(
    "scsi-cd",
    &[],
    Bus::Scsi,
    Category::Storage,
    "virtual SCSI CD-ROM",
    joined!(DRIVE, SCSI_DEVICE, SCSI_CD),
);
static CONSOLE: DeviceClass =
    row("virtconsole", &[], Bus::VirtioSerial, Category::Input, "Virtio console port", PORT);
static SERIAL_PORT: DeviceClass =
    row("virtserialport", &[], Bus::VirtioSerial, Category::Input, "Virtio serial port", PORT);

/// Every class of this crate.
pub static CLASSES: &[&DeviceClass] = &[
    &BLK_FAMILY[0],
    &BLK_FAMILY[1],
    &BLK_FAMILY[2],
    &BLK_FAMILY[3],
    &SCSI_FAMILY[0],
    &SCSI_FAMILY[1],
    &SCSI_FAMILY[2],
    &SCSI_FAMILY[3],
    &RNG_FAMILY[0],
    &RNG_FAMILY[1],
    &RNG_FAMILY[2],
    &RNG_FAMILY[3],
    &SERIAL_FAMILY[0],
    &SERIAL_FAMILY[1],
    &SERIAL_FAMILY[2],
    &SERIAL_FAMILY[3],
    &BALLOON_FAMILY[0],
    &BALLOON_FAMILY[1],
    &BALLOON_FAMILY[2],
    &BALLOON_FAMILY[3],
    &NET_FAMILY[0],
    &NET_FAMILY[1],
    &NET_FAMILY[2],
    &NET_FAMILY[3],
    &HD,
    &CD,
    &CONSOLE,
    &SERIAL_PORT,
];

/// The class with this name or alias.
pub fn class(name: &str) -> Option<&'static DeviceClass> {
    CLASSES.iter().find(|c| c.name == name || c.aliases.contains(&name)).copied()
}
