//! What an image has to hold.

use std::collections::BTreeMap;

/// What is known of a byte.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Known {
    /// It is this.
    Exactly,
    /// It is this, or zero.
    OrZero,
    /// Nothing.
    Nothing,
}

/// The content as it must be, and the contents of snapshots.
#[derive(Default)]
pub struct Model {
    bytes: Vec<u8>,
    known: Vec<Known>,
    snapshots: BTreeMap<String, (Vec<u8>, Vec<Known>)>,
}

impl Model {
    pub fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// What was found is what is there.
    pub fn accept(&mut self, found: Vec<u8>) {
        self.known = vec![Known::Exactly; found.len()];
        self.bytes = found;
    }

    pub fn fill(&mut self, start: u64, len: u64, byte: u8) {
        let range = start as usize..(start + len) as usize;
        self.bytes[range.clone()].fill(byte);
        self.known[range].fill(Known::Exactly);
    }

    /// A discard: what was there, or zeroes.
    pub fn forget(&mut self, start: u64, len: u64) {
        for known in &mut self.known[start as usize..(start + len) as usize] {
            if *known == Known::Exactly {
                *known = Known::OrZero;
            }
        }
    }

    pub fn resize(&mut self, size: u64, grows_as_zeroes: bool) {
        let known = if grows_as_zeroes { Known::Exactly } else { Known::Nothing };
        self.bytes.resize(size as usize, 0);
        self.known.resize(size as usize, known);
    }

    pub fn has_snapshot(&self, name: &str) -> bool {
        self.snapshots.contains_key(name)
    }

    /// What `qemu-img snapshot` did with this option.
    pub fn snapshot(&mut self, what: &str, name: &str) {
        match what {
            "-c" => {
                let now = (self.bytes.clone(), self.known.clone());
                self.snapshots.insert(name.to_owned(), now);
            }
            "-d" => drop(self.snapshots.remove(name)),
            _ => (self.bytes, self.known) = self.snapshots[name].clone(),
        }
    }

    /// Where `found` is not what has to be there.
    pub fn check(&self, found: &[u8]) -> Result<(), usize> {
        if found.len() != self.bytes.len() {
            return Err(found.len().min(self.bytes.len()));
        }
        let wrong = |at: &usize| match self.known[*at] {
            Known::Exactly => found[*at] != self.bytes[*at],
            Known::OrZero => found[*at] != self.bytes[*at] && found[*at] != 0,
            Known::Nothing => false,
        };
        (0..found.len()).find(wrong).map_or(Ok(()), Err)
    }
}
