//! The signature of a test program: what it left between two symbols, as text, when it ends
//! (RISC-V Architectural Certification Tests, "Test Format Specification").

use crate::inputs::{BootFiles, BuildError};
use elf::Elf;
use memory::{AddressSpace, Gpa};
use std::fmt::Write as _;
use std::io::Write;
use std::sync::Arc;

/// Largest signature in bytes.
const MAX_LEN: u64 = 1 << 30;

/// `signature=` and `signature-granularity=`.
pub struct Signature {
    /// Where the text goes.
    pub file: Box<dyn Write + Send>,
    /// Bytes on each line.
    pub granularity: u8,
}

impl Signature {
    /// What writes the signature of the program, once.
    ///
    /// # Errors
    /// The program says not where it is.
    pub(super) fn of_program(
        mut self,
        boot: &BootFiles,
        space: &Arc<AddressSpace>,
    ) -> Result<Box<dyn FnOnce() + Send>, BuildError> {
        let (begin, end) = find(boot).ok_or_else(|| {
            let text = "the program needs the symbols begin_signature and end_signature";
            BuildError::Device("-machine signature=".into(), text.into())
        })?;
        let (space, granularity) = (Arc::clone(space), usize::from(self.granularity.max(1)));
        Ok(Box::new(move || {
            let mut bytes = vec![0; (end - begin) as usize];
            // What lies outside of memory reads as zeroes.
            let _outside = space.read(Gpa(begin), &mut bytes);
            if let Err(error) = self.file.write_all(text(&bytes, granularity).as_bytes()) {
                device::guest_error!("htif: the signature cannot be written: {error}");
            }
        }))
    }
}

/// The two symbols, of the kernel or else the firmware.
fn find(boot: &BootFiles) -> Option<(u64, u64)> {
    [&boot.kernel, &boot.firmware].into_iter().flatten().find_map(|file| {
        let elf = Elf::parse(&file.bytes).ok()?;
        let (begin, end) =
            (elf.symbol("begin_signature")?.value, elf.symbol("end_signature")?.value);
        (begin <= end && end - begin <= MAX_LEN).then_some((begin, end))
    })
}

/// Lines of hexadecimal digits, the last byte of each line first; the last line is filled up with
/// zeroes.
fn text(bytes: &[u8], granularity: usize) -> String {
    let mut text = String::new();
    for line in bytes.chunks(granularity) {
        for at in (0..granularity).rev() {
            // A string takes every write.
            let _ = write!(text, "{:02x}", line.get(at).copied().unwrap_or(0));
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_numbers_of_that_width() {
        assert_eq!(text(&[1, 2, 3, 4, 5, 6], 4), "04030201\n00000605\n");
        assert_eq!(text(&[], 16), "");
    }
}
