//! Fields of headers and tables.

use std::io;

use graph::{CheckReport, Node, OpenError, WriteFlags};

/// `N` bytes at `at`; zeroes where the buffer ends, so that a short header has empty fields.
pub(crate) fn bytes<const N: usize>(b: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    let from = b.get(at..).unwrap_or(&[]);
    let n = from.len().min(N);
    out[..n].copy_from_slice(&from[..n]);
    out
}

/// Reads fields of a header by their offset.
macro_rules! readers {
    ($($name:ident $type:ident $from:ident;)*) => { $(
        pub(crate) fn $name(b: &[u8], at: usize) -> $type {
            $type::$from(bytes(b, at))
        }
    )* };
}

readers! {
    le16 u16 from_le_bytes;
    le32 u32 from_le_bytes;
    le64 u64 from_le_bytes;
    be32 u32 from_be_bytes;
    be64 u64 from_be_bytes;
}

/// Puts a field into a header that is being made.
pub(crate) fn put(b: &mut [u8], at: usize, field: &[u8]) {
    b[at..at + field.len()].copy_from_slice(field);
}

/// Reads from the image file; bytes beyond its end are zero.
pub(crate) fn read_padded(file: &dyn Node, offset: u64, buf: &mut [u8]) -> io::Result<()> {
    let inside = file.size().saturating_sub(offset).min(buf.len() as u64) as usize;
    buf[inside..].fill(0);
    if inside == 0 { Ok(()) } else { file.read_at(offset, &mut buf[..inside]) }
}

/// The first bytes of the image file, zeroes beyond its end.
pub(crate) fn read_start<const N: usize>(
    file: &dyn Node,
    path: &str,
) -> Result<[u8; N], OpenError> {
    let mut start = [0; N];
    read_padded(file, 0, &mut start).map_err(|e| OpenError::host(path, e))?;
    Ok(start)
}

/// Writes without waiting for stable storage.
pub(crate) fn write(file: &dyn Node, offset: u64, buf: &[u8]) -> io::Result<()> {
    file.write_at(offset, buf, WriteFlags::default())
}

/// Makes the file at least `len` bytes long.
pub(crate) fn grow(file: &dyn Node, len: u64) -> io::Result<()> {
    if file.size() < len { file.truncate(len) } else { Ok(()) }
}

/// An error for metadata that cannot be right.
pub(crate) fn damaged(text: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text.into())
}

/// Checks of a header's fields, with what an error has to say about the image.
pub(crate) struct Fields<'a> {
    /// The image, for messages.
    pub path: &'a str,
    /// The format, for messages.
    pub format: &'static str,
}

impl Fields<'_> {
    /// Refuses the image unless `right`.
    pub fn want(
        &self,
        right: bool,
        field: &'static str,
        value: u64,
        why: &'static str,
    ) -> Result<(), OpenError> {
        if right {
            return Ok(());
        }
        Err(OpenError::Field { path: self.path.to_owned(), format: self.format, field, value, why })
    }

    /// Refuses the image as a whole.
    pub fn refuse(&self, why: impl Into<String>) -> OpenError {
        OpenError::Image { path: self.path.to_owned(), why: why.into() }
    }
}

/// Findings of a check that are listed one by one; the rest is only counted.
const LISTED: usize = 100;

/// Adds a line to a report.
pub(crate) fn note(report: &mut CheckReport, text: String) {
    if report.findings.len() < LISTED {
        report.findings.push(text);
    }
}

/// Adds damage to a report.
pub(crate) fn damage(report: &mut CheckReport, text: String) {
    report.corruptions += 1;
    note(report, text);
}
