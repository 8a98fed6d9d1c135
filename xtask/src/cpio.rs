//! Writer of `newc` cpio archives, the format of a Linux initramfs
//! (Linux `Documentation/driver-api/early-userspace/buffer-format.rst`).
//!
//! Everything belongs to root and carries time 0, so equal inputs give equal
//! bytes, and device nodes need no privilege. The kernel accepts archives one
//! after another, so an overlay is simply appended.

use std::collections::BTreeSet;

const FOLDER: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_000;
const CHARACTER_DEVICE: u32 = 0o020_000;

/// An archive that grows.
#[derive(Default)]
pub struct Cpio {
    data: Vec<u8>,
    inodes: usize,
    folders: BTreeSet<String>,
}

impl Cpio {
    fn entry(&mut self, name: &str, mode: u32, body: &[u8], device: (usize, usize)) {
        self.inodes += 1;
        let fields = [
            self.inodes,
            mode as usize,
            0, // owner
            0, // group
            1, // links
            0, // time
            body.len(),
            0, // device the file is on: major, minor
            0,
            device.0,
            device.1,
            name.len() + 1,
            0, // checksum, unused in this format
        ];
        self.data.extend_from_slice(b"070701");
        for field in fields {
            self.data.extend_from_slice(format!("{field:08X}").as_bytes());
        }
        self.data.extend_from_slice(name.as_bytes());
        self.data.push(0);
        self.pad(4);
        self.data.extend_from_slice(body);
        self.pad(4);
    }

    fn pad(&mut self, to: usize) {
        self.data.resize(self.data.len().next_multiple_of(to), 0);
    }

    fn parents(&mut self, name: &str) {
        if let Some((parent, _)) = name.rsplit_once('/') {
            self.folder(parent);
        }
    }

    /// Adds a folder and those above it, once.
    pub fn folder(&mut self, name: &str) {
        if self.folders.insert(name.to_string()) {
            self.parents(name);
            self.entry(name, FOLDER | 0o755, &[], (0, 0));
        }
    }

    /// Adds a file.
    pub fn file(&mut self, name: &str, mode: u32, body: &[u8]) {
        self.parents(name);
        self.entry(name, FILE | mode, body, (0, 0));
    }

    /// Adds a symbolic link.
    pub fn symlink(&mut self, name: &str, to: &str) {
        self.parents(name);
        self.entry(name, SYMLINK | 0o777, to.as_bytes(), (0, 0));
    }

    /// Adds a character device.
    pub fn device(&mut self, name: &str, major: usize, minor: usize) {
        self.parents(name);
        self.entry(name, CHARACTER_DEVICE | 0o600, &[], (major, minor));
    }

    /// Ends the archive and returns its bytes.
    pub fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[], (0, 0));
        self.pad(512);
        self.data
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_aligned_and_parents_come_first() {
        let mut archive = Cpio::default();
        archive.file("a/b/c", 0o644, b"hello");
        let data = archive.finish();
        assert_eq!(data.len() % 512, 0);
        let at = |name: &[u8]| data.windows(name.len()).position(|window| window == name).unwrap();
        let (a, b, c) = (at(b"a\0"), at(b"a/b\0"), at(b"a/b/c\0"));
        assert!(a < b && b < c && c < at(b"TRAILER!!!\0"));
        assert_eq!(at(b"hello") % 4, 0);
        // name size of the third entry, its twelfth field
        let head = c - 110;
        assert_eq!(&data[head..head + 6], b"070701");
        assert_eq!(&data[head + 6 + 11 * 8..head + 6 + 12 * 8], b"00000006");
    }
}
