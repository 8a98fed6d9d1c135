//! `bootindex=`: the order in which firmware tries devices, by their Open Firmware paths (IEEE 1275).

use crate::plug::{Place, Plugged, Plugs};
use crate::props::BuildError;

impl Plugs {
    /// Paths of the devices with a `bootindex`, the first to try first; `slot` tells where an MMIO
    /// slot is.
    pub fn boot_order(&self, slot: impl Fn(usize) -> u64) -> Vec<String> {
        let indexed = |p: &Plugged| Some((boot_index(&p.given).ok()??, self.path(p, &slot)?));
        let mut all: Vec<(u32, String)> = self.plugged.iter().filter_map(indexed).collect();
        all.sort();
        all.into_iter().map(|(_, path)| path).collect()
    }

    /// Refuses an index that another device has.
    pub(crate) fn check_boot_index(&self, given: &[(String, String)]) -> Result<(), BuildError> {
        let Some(index) = boot_index(given)? else { return Ok(()) };
        let same = |p: &Plugged| boot_index(&p.given) == Ok(Some(index));
        if self.plugged.iter().any(same) {
            let text = format!("The bootindex {index} has already been used");
            return Err(BuildError::new(text));
        }
        Ok(())
    }

    fn path(&self, p: &Plugged, slot: &impl Fn(usize) -> u64) -> Option<String> {
        let own = match p.class.name.split('-').nth(1) {
            Some("net") => "ethernet-phy@0",
            _ => "disk@0,0",
        };
        Some(match &p.place {
            Place::Child(bus) => {
                let (target, lun) = p.unit?;
                let owner = self.plugged.get(self.buses.get(*bus)?.owner)?;
                let adapter = self.place(owner, slot)?;
                format!("{adapter}/channel@0/disk@{target:x},{lun:x}")
            }
            _ => format!("{}/{own}", self.place(p, slot)?),
        })
    }

    /// The path of what is on the board itself or on the PCI bus.
    fn place(&self, p: &Plugged, slot: &impl Fn(usize) -> u64) -> Option<String> {
        match p.place {
            Place::Function(at) => {
                let kind = if p.class.name.contains("-net") { "ethernet" } else { "scsi" };
                let function = match at.function() {
                    0 => String::new(),
                    n => format!(",{n:x}"),
                };
                // The bridge has no address of its own.
                Some(format!("/pci@{:016x}/{kind}@{:x}{function}", u64::MAX, at.slot()))
            }
            Place::Slot(n) => Some(format!("/virtio-mmio@{:016x}", slot(n))),
            Place::Child(_) => None,
        }
    }
}

/// The index that was given; a negative one is none.
fn boot_index(given: &[(String, String)]) -> Result<Option<u32>, BuildError> {
    match given.iter().rev().find(|(name, _)| name == "bootindex") {
        None => Ok(None),
        Some((_, text)) if text.starts_with('-') => Ok(None),
        Some((_, text)) => {
            let number = options::parse_number(text).and_then(|n| u32::try_from(n).ok());
            let wrong = || BuildError::new("Parameter 'bootindex' expects int32");
            number.map(Some).ok_or_else(wrong)
        }
    }
}
