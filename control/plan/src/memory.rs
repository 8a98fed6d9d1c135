//! `-m`: how much RAM.

use crate::Memory;
use crate::catalog::MachineInfo;
use crate::refusal::{Refusal, Result};
use options::{List, OptionGroup, OptionValue, option_group, size_of};

/// RAM is a whole number of these.
const GRANULE: u64 = 8192;

/// A size in MiB unless a suffix says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mebibytes(u64);

impl OptionValue for Mebibytes {
    const KIND: &'static str = "size";

    fn parse(item: &options::Item) -> std::result::Result<Self, options::OptionError> {
        size_of(item, b'M').map(Self)
    }
}

option_group! {
    /// `-m`.
    pub(crate) struct MemoryOptions in "memory" {
        /// RAM at start, in MiB unless a suffix says otherwise.
        "size" => size: Option<Mebibytes>,
        /// Slots for hot plugging.
        "slots" => slots: Option<u64>,
        /// RAM with all slots filled.
        "maxmem" => max: Option<Mebibytes>,
    }
}

/// Checks `-m` against the machine's default.
pub(crate) fn plan(list: &List, backend: Option<String>, machine: &MachineInfo) -> Result<Memory> {
    let given = MemoryOptions::from_list(list)?;
    let round =
        |m: Mebibytes| m.0.checked_next_multiple_of(GRANULE).unwrap_or(u64::MAX - GRANULE + 1);
    let size = given.size.map(round).filter(|size| *size != 0).unwrap_or(machine.default_ram);
    let slots = given.slots.unwrap_or(0);
    let Some(max) = given.max.map(round) else {
        if slots > 0 {
            return Err(Refusal::new("slots specified but no max-size")
                .hint("Give the most memory there can be: -m size=…,slots=…,maxmem=…"));
        }
        return Ok(Memory { size, slots, max: size, backend });
    };
    if max < size {
        return Err(Refusal::new(format!(
            "invalid value of maxmem: maximum memory size ({max:#x}) must be at least the initial \
             memory size ({size:#x})"
        )));
    }
    Ok(Memory { size, slots, max, backend })
}
