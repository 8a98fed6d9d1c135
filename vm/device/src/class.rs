//! The rows of the device tables: what `-device help`, introspection and the manual show.

/// The bus a device plugs into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bus {
    /// Part of the board; not made with `-device`.
    System,
    /// PCI or PCI Express.
    Pci,
    /// A virtio transport (a `virtio-*-device` behind MMIO slots).
    Virtio,
    /// SCSI.
    Scsi,
    /// A virtio-serial port.
    VirtioSerial,
}

impl Bus {
    /// Name as `-device help` prints it.
    pub fn name(self) -> &'static str {
        match self {
            Self::System => "System",
            Self::Pci => "PCI",
            Self::Virtio => "virtio-bus",
            Self::Scsi => "SCSI",
            Self::VirtioSerial => "virtio-serial-bus",
        }
    }
}

/// Heading under which `-device help` lists a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Category {
    /// Controllers, bridges and hubs.
    Bridge,
    /// Disks and their controllers.
    Storage,
    /// Network cards.
    Network,
    /// Serial ports and input devices.
    Input,
    /// Graphics.
    Display,
    /// All else.
    Misc,
}

/// A property of a device class (`-device CLASS,help`).
#[derive(Clone, Copy, Debug)]
pub struct Property {
    /// Name on the command line.
    pub name: &'static str,
    /// Type as the help shows it: `bool`, `uint32`, `str`, `size`.
    pub kind: &'static str,
    /// Value when it is not given; empty for none.
    pub default: &'static str,
    /// What it does.
    pub description: &'static str,
}

/// A device class: documentation, properties, bus and version of its saved state.
#[derive(Clone, Copy, Debug)]
pub struct DeviceClass {
    /// Name on the command line.
    pub name: &'static str,
    /// Other names it answers to.
    pub aliases: &'static [&'static str],
    /// Bus it plugs into.
    pub bus: Bus,
    /// Heading in the list.
    pub category: Category,
    /// One line.
    pub description: &'static str,
    /// Properties beside the bus's own.
    pub properties: &'static [Property],
    /// Version of the saved state.
    pub saved_version: u32,
}
