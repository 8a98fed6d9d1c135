//! Which format an image has, by its first bytes and, where those say nothing, its name.

use crate::format::FORMATS;

/// How much of an image is looked at.
pub const PROBE_BYTES: usize = 2048;

/// The name of the format that `start` (up to [`PROBE_BYTES`] of the image) and the file's name
/// suggest; `raw` if nothing does.
pub fn format_of(start: &[u8], filename: &str) -> &'static str {
    let found = FORMATS.iter().find(|format| format.recognises(start, filename));
    found.map_or("raw", |format| format.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_formats_by_signature_and_short_files_are_raw() {
        assert_eq!(format_of(b"QFI\xfb\x00\x00\x00\x03....", "x"), "qcow2");
        assert_eq!(format_of(b"QFI\xfb\x00\x00\x00\x07....", "x"), "raw");
        assert_eq!(format_of(b"", "x.qcow2"), "raw");
        let mut vdi = [0; 80];
        vdi[64..68].copy_from_slice(b"\x7f\x10\xda\xbe");
        assert_eq!(format_of(&vdi, "x"), "vdi");
    }
}
