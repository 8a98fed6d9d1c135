//! Watched memory: what is compared after each instruction. Loads are not seen.

use crate::errno::Errno;
use crate::space::Space;

/// Most ranges at a time, and bytes of each.
const MOST: usize = 64;
const LONGEST: u64 = 4096;

/// A range, and what it held last.
struct Watch {
    address: u64,
    bytes: Vec<u8>,
    count: u32,
}

/// Ranges whose changes stop the program.
#[derive(Default)]
pub struct Watches(Vec<Watch>);

impl Watches {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn find(&self, address: u64, len: u64) -> Option<usize> {
        self.0.iter().position(|watch| watch.address == address && watch.bytes.len() as u64 == len)
    }

    /// Watches a range.
    ///
    /// # Errors
    /// It is not there or too long, or there are too many.
    pub fn set(&mut self, space: &Space, address: u64, len: u64) -> Result<(), Errno> {
        if let Some(at) = self.find(address, len) {
            self.0[at].count += 1;
            return Ok(());
        }
        if len == 0 || len > LONGEST || self.0.len() >= MOST {
            return Err(Errno::EINVAL);
        }
        let mut bytes = vec![0; len as usize];
        space.peek(address, &mut bytes)?;
        self.0.push(Watch { address, bytes, count: 1 });
        Ok(())
    }

    /// Watches it no more.
    pub fn clear(&mut self, address: u64, len: u64) {
        if let Some(at) = self.find(address, len) {
            self.0[at].count -= 1;
            self.0.retain(|watch| watch.count > 0);
        }
    }

    /// Watches nothing any more.
    pub fn forget(&mut self) {
        self.0.clear();
    }

    /// The first address of a range that has changed since it was looked at.
    pub fn changed(&mut self, space: &Space) -> Option<u64> {
        let mut found = None;
        for watch in &mut self.0 {
            let mut now = vec![0; watch.bytes.len()];
            // What is gone has not changed.
            if space.peek(watch.address, &mut now).is_ok() && now != watch.bytes {
                found = found.or(Some(watch.address));
                watch.bytes = now;
            }
        }
        found
    }
}
