//! What the tests of every device share.

use crate::{Cause, Device, MachineControl, MmioDevice};
use std::sync::{Mutex, PoisonError};

/// Checks that `device` saves, restores and saves the same: every device's tests call it with the
/// device in an interesting state and a fresh one.
///
/// # Panics
/// The second save differs, or the first does not restore.
pub fn assert_saves_and_restores(device: &dyn Device, fresh: &mut dyn Device) {
    let saved = device.save();
    let bytes = state::encode(&saved);
    let decoded = state::decode(&bytes).expect("an encoded state decodes");
    fresh.restore(&decoded).expect("a saved state restores");
    assert_eq!(fresh.save(), saved, "save, restore, save differs");
}

/// A small seeded generator, so that random tests replay.
#[derive(Clone, Debug)]
pub struct SeededRandom(seeded::Random);

impl SeededRandom {
    /// A generator whose sequence `seed` decides.
    pub fn new(seed: u64) -> Self {
        Self(seeded::Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1))
    }

    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.0.next()
    }

    /// A number below `limit`; 0 for an empty range.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.next_u64().checked_rem(limit).unwrap_or(0)
    }
}

/// Reads and writes at random within `len` bytes of registers, as a hostile guest does: any
/// offset, any width the device's rules allow, values random or all ones or small.
pub fn hammer_registers(device: &mut dyn MmioDevice, len: u64, seed: u64, accesses: u32) {
    let mut random = SeededRandom::new(seed);
    let rules = device.rules();
    for _ in 0..accesses {
        let choice = random.next_u64();
        let size = (1 << (choice & 3)).min(rules.max);
        let within = if choice & 4 == 0 { len } else { len.min(0x80) };
        let offset = random.below(within) & !u64::from(size - 1);
        let value = match choice >> 3 & 3 {
            0 => random.next_u64(),
            1 => u64::MAX,
            2 => 1 << random.below(64),
            _ => random.below(16),
        };
        if choice & 32 == 0 {
            let size = size.max(rules.min);
            device.read(offset & !u64::from(size - 1), size);
        } else {
            device.write(offset, size, value & u64::MAX >> (64 - 8 * size));
        }
    }
}

/// A machine for tests: remembers what devices asked of it.
#[derive(Default)]
pub struct RecordedControl(Mutex<Vec<(Cause, Option<u32>)>>);

impl RecordedControl {
    /// Requests since the last call: the cause, and the exit code of a shutdown.
    pub fn take(&self) -> Vec<(Cause, Option<u32>)> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn push(&self, cause: Cause, code: Option<u32>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((cause, code));
    }
}

impl MachineControl for RecordedControl {
    fn shutdown(&self, cause: Cause, code: u32) {
        self.push(cause, Some(code));
    }
    fn reset(&self, cause: Cause) {
        self.push(cause, None);
    }
}
