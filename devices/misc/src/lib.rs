//! Small devices that boards need.

pub mod fw_cfg;
mod htif;
mod pflash_cfi01;
mod sifive_test;

pub use fw_cfg::FwCfg;
pub use htif::{Htif, HtifLayout, Output};
pub use pflash_cfi01::{FlashConfig, FlashStore, PflashCfi01};
pub use sifive_test::SifiveTest;

use device::DeviceClass;
use memory::{AddressSpace, Gpa};

/// The devices there are.
pub static CLASSES: &[&DeviceClass] =
    &[&fw_cfg::CLASS, &htif::CLASS, &pflash_cfi01::CLASS, &sifive_test::CLASS];

/// Bytes that a device copies from or to guest memory at a time.
const CHUNK: usize = 4096;

/// Reads guest RAM or ROM. A device's own access never reaches registers: they might be its own.
fn read_ram(space: &AddressSpace, at: u64, buffer: &mut [u8]) -> bool {
    let mut done = 0;
    while done < buffer.len() {
        let Some(here) = at.checked_add(done as u64) else { return false };
        let len = piece(here, buffer.len() - done);
        let Some((ram, offset)) = space.ram_at(Gpa(here), len as u64, false) else { return false };
        if !ram.read(offset, &mut buffer[done..done + len]) {
            return false;
        }
        done += len;
    }
    true
}

/// Writes guest RAM, under the same rule.
fn write_ram(space: &AddressSpace, at: u64, bytes: &[u8]) -> bool {
    let mut done = 0;
    while done < bytes.len() {
        let Some(here) = at.checked_add(done as u64) else { return false };
        let len = piece(here, bytes.len() - done);
        let Some((ram, offset)) = space.ram_at(Gpa(here), len as u64, true) else { return false };
        if !ram.write(offset, &bytes[done..done + len]) {
            return false;
        }
        done += len;
    }
    true
}

/// Length of the next transfer: up to a multiple of [`CHUNK`], since regions begin at pages.
fn piece(at: u64, left: usize) -> usize {
    (CHUNK - at as usize % CHUNK).min(left)
}
