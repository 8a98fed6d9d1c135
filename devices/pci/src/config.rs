//! Configuration space as bytes with masks.

/// Configuration space: what is there, what software may change, what it clears by writing ones.
#[derive(Clone)]
pub struct ConfigSpace {
    bytes: Vec<u8>,
    writable: Vec<u8>,
    clear: Vec<u8>,
}

impl ConfigSpace {
    /// `len` (256 or 4096) read-only zeros.
    pub fn new(len: usize) -> Self {
        Self { bytes: vec![0; len], writable: vec![0; len], clear: vec![0; len] }
    }

    /// Bytes in it.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Never: it has a header.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// All bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Sets bytes from the device's side; those beyond the end are dropped.
    pub fn set(&mut self, offset: usize, bytes: &[u8]) {
        for (i, b) in bytes.iter().enumerate() {
            if let Some(at) = self.bytes.get_mut(offset + i) {
                *at = *b;
            }
        }
    }

    /// Lets software change these bits.
    pub fn set_writable(&mut self, offset: usize, mask: &[u8]) {
        for (i, b) in mask.iter().enumerate() {
            if let Some(at) = self.writable.get_mut(offset + i) {
                *at = *b;
            }
        }
    }

    /// Lets software clear these bits by writing ones.
    pub fn set_clear(&mut self, offset: usize, mask: &[u8]) {
        for (i, b) in mask.iter().enumerate() {
            if let Some(at) = self.clear.get_mut(offset + i) {
                *at = *b;
            }
        }
    }

    /// Reads `size` (at most 4) bytes; ones beyond the end.
    pub fn read(&self, offset: usize, size: u32) -> u32 {
        (0..size.min(4)).fold(0, |value, i| {
            let byte = self.bytes.get(offset.saturating_add(i as usize)).copied().unwrap_or(0xff);
            value | u32::from(byte) << (8 * i)
        })
    }

    /// Software writes `size` (at most 4) bytes.
    pub fn write(&mut self, offset: usize, size: u32, value: u32) {
        for i in 0..size.min(4) {
            let at = offset.saturating_add(i as usize);
            let new = (value >> (8 * i)) as u8;
            if let Some(byte) = self.bytes.get_mut(at) {
                let keep = *byte & !self.writable[at];
                *byte = (keep | new & self.writable[at]) & !(new & self.clear[at]);
            }
        }
    }

    /// Takes over what software can change from a saved space.
    pub fn restore(&mut self, saved: &[u8]) {
        for (at, new) in saved.iter().enumerate().take(self.bytes.len()) {
            let own = self.writable[at] | self.clear[at];
            self.bytes[at] = self.bytes[at] & !own | new & own;
        }
    }
}
