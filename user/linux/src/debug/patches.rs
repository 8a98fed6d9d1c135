//! Breakpoints: instructions put into the program's code, which debuggers see as it was.

use crate::errno::Errno;
use crate::space::Space;
use std::collections::BTreeMap;

/// Most breakpoints at a time.
const MOST: usize = 4096;

/// A breakpoint.
struct Patch {
    /// What is in its place.
    code: &'static [u8],
    /// What was there.
    original: Vec<u8>,
    /// How often it was set: one of each kind.
    count: u32,
}

/// The breakpoints of a program, by address.
#[derive(Default)]
pub struct Patches(BTreeMap<u64, Patch>);

impl Patches {
    /// Whether there is one.
    pub fn at(&self, address: u64) -> bool {
        self.0.contains_key(&address)
    }

    /// Sets one.
    ///
    /// # Errors
    /// There is no memory that can be written, or there are too many.
    pub fn set(&mut self, space: &Space, address: u64, code: &'static [u8]) -> Result<(), Errno> {
        if let Some(patch) = self.0.get_mut(&address) {
            patch.count += 1;
            return Ok(());
        }
        if self.0.len() >= MOST {
            return Err(Errno::ENOMEM);
        }
        let mut original = vec![0; code.len()];
        space.peek(address, &mut original)?;
        space.poke(address, code)?;
        self.0.insert(address, Patch { code, original, count: 1 });
        Ok(())
    }

    /// Takes one away; one that is not there is no error.
    pub fn clear(&mut self, space: &Space, address: u64) {
        let Some(patch) = self.0.get_mut(&address) else { return };
        patch.count -= 1;
        if patch.count == 0 {
            // Memory that is gone has no breakpoint any more.
            let _ = space.poke(address, &patch.original);
            self.0.remove(&address);
        }
    }

    /// Takes all away, from a program that is let go.
    pub fn forget(&mut self, space: &Space) {
        self.lift(space);
        self.0.clear();
    }

    /// Puts the program's code back for a while.
    pub fn lift(&self, space: &Space) {
        for (address, patch) in &self.0 {
            // As above.
            let _ = space.poke(*address, &patch.original);
        }
    }

    /// After [`Patches::lift`].
    pub fn lower(&self, space: &Space) {
        for (address, patch) in &self.0 {
            // As above.
            let _ = space.poke(*address, patch.code);
        }
    }

    /// The bytes of breakpoints in a range of memory: where they are in it, and which they are there.
    fn overlap(&mut self, address: u64, len: usize) -> impl Iterator<Item = (usize, &mut u8)> {
        // No instruction for breakpoints is longer.
        let end = address.saturating_add(len as u64);
        self.0.range_mut(address.saturating_sub(8)..end).flat_map(move |(at, patch)| {
            let at = *at;
            patch.original.iter_mut().enumerate().filter_map(move |(n, byte)| {
                let within = (at + n as u64).checked_sub(address)?;
                (within < len as u64).then_some((within as usize, byte))
            })
        })
    }

    /// Reads the program's memory without them: as much as there is.
    pub fn read(&mut self, space: &Space, address: u64, len: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; len];
        if space.peek(address, &mut bytes).is_err() {
            bytes = space.peek_some(address, len);
        }
        let len = bytes.len();
        for (at, byte) in self.overlap(address, len) {
            bytes[at] = *byte;
        }
        (len > 0).then_some(bytes)
    }

    /// Writes the program's memory below them.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&mut self, space: &Space, address: u64, bytes: &[u8]) -> Result<(), Errno> {
        space.poke(address, bytes)?;
        for (at, byte) in self.overlap(address, bytes.len()) {
            *byte = bytes[at];
        }
        self.lower(space);
        Ok(())
    }
}
