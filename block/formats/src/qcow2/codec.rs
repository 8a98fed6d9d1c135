//! Big-endian fields and padded reads.

use std::io;

use graph::Node;

/// The big-endian `u32` at `at`; the caller has checked that the buffer reaches that far.
pub(super) fn be32(b: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(*b[at..].first_chunk().expect("caller checked the length"))
}

/// The big-endian `u64` at `at`; the caller has checked that the buffer reaches that far.
pub(super) fn be64(b: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(*b[at..].first_chunk().expect("caller checked the length"))
}

/// Reads from the image file; bytes beyond its end are zero.
pub(super) fn read_padded(file: &dyn Node, offset: u64, buf: &mut [u8]) -> io::Result<()> {
    let inside = file.size().saturating_sub(offset).min(buf.len() as u64) as usize;
    buf[inside..].fill(0);
    if inside == 0 { Ok(()) } else { file.read_at(offset, &mut buf[..inside]) }
}

/// A table of `entries` big-endian `u64`. The caller has bounded `entries` by the file's length.
pub(super) fn read_table(file: &dyn Node, offset: u64, entries: usize) -> io::Result<Vec<u64>> {
    let mut bytes = vec![0; entries * 8];
    read_padded(file, offset, &mut bytes)?;
    Ok(bytes.chunks_exact(8).map(|e| be64(e, 0)).collect())
}

/// The bytes of a table.
pub(super) fn table_bytes(entries: &[u64]) -> Vec<u8> {
    entries.iter().flat_map(|e| e.to_be_bytes()).collect()
}

/// An error for metadata that cannot be right.
pub(super) fn damaged(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}
