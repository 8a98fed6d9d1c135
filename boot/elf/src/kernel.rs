//! What `-kernel` and `-bios` accept: ELF files, Linux `Image` files of RISC-V (Linux,
//! `Documentation/arch/riscv/boot-image-header.rst`), legacy U-Boot images, any of these
//! compressed with gzip or in an EFI zboot wrapper (gzip), and raw binaries.

use crate::{Elf, ElfError};
use flate2::read::GzDecoder;
use std::borrow::Cow;
use std::fmt;
use std::io::Read;

/// Contents at an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Physical address.
    pub at: u64,
    /// What it begins with.
    pub bytes: Vec<u8>,
    /// Length in memory; what `bytes` does not cover is zero.
    pub len: u64,
}

/// The form that a file had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// ELF: addresses and entry come from the file.
    Elf,
    /// Linux `Image`.
    LinuxImage,
    /// Legacy U-Boot image: addresses and entry come from the file.
    UImage,
    /// Anything else.
    Raw,
}

/// A kernel or firmware, and where its parts belong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Form of the file.
    pub form: Form,
    /// Contents.
    pub pieces: Vec<Piece>,
    /// Address of the first instruction as the file gives it: virtual, in an ELF file.
    pub entry: u64,
    /// Lowest address that it takes.
    pub low: u64,
    /// Address after the highest that it takes while running.
    pub high: u64,
}

/// Why a file cannot be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoadError {
    /// The file has no bytes.
    Empty,
    /// The ELF file is damaged.
    Elf(ElfError),
    /// The ELF file has nothing to load.
    NoSegments,
    /// The ELF file is for this other machine (an ELF machine number).
    Machine(u16),
    /// The file is larger, unpacked, than the limit in bytes.
    TooLarge(u64),
    /// The compressed data is damaged.
    Compressed(String),
    /// A U-Boot image whose header is wrong: what is wrong.
    UImage(&'static str),
    /// A form that we know and cannot load.
    NotSupportedYet(String),
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(f, "the file is empty"),
            Self::Elf(error) => error.fmt(f),
            Self::NoSegments => write!(f, "ELF file has nothing to load"),
            Self::Machine(n) => write!(f, "ELF file is for another machine (number {n})"),
            Self::TooLarge(limit) => write!(f, "larger than {limit} bytes when unpacked"),
            Self::Compressed(problem) => write!(f, "compressed data is damaged: {problem}"),
            Self::UImage(problem) => write!(f, "U-Boot image: {problem}"),
            Self::NotSupportedYet(what) => write!(f, "not supported yet: {what}"),
        }
    }
}

impl std::error::Error for LoadError {}

/// What the machine takes.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Address for what can lie anywhere: `Image` files and raw binaries.
    pub at: u64,
    /// Largest unpacked length in bytes.
    pub limit: u64,
    /// ELF machine number.
    pub machine: u16,
}

/// Finds out what `file` is and where it belongs.
///
/// # Errors
/// It is damaged, too large or for another machine.
pub fn load(file: &[u8], target: Target) -> Result<Image, LoadError> {
    let file = unpacked(file, target.limit)?;
    if file.is_empty() {
        return Err(LoadError::Empty);
    }
    if file.len() as u64 > target.limit {
        return Err(LoadError::TooLarge(target.limit));
    }
    if Elf::is_elf(&file) {
        return load_elf(&file, target);
    }
    if file.starts_with(&UIMAGE_MAGIC) {
        return load_uimage(&file, target);
    }
    let (form, len) = match linux_image_len(&file) {
        Some(len) => (Form::LinuxImage, len.max(file.len() as u64)),
        None => (Form::Raw, file.len() as u64),
    };
    Ok(flat(form, file.into_owned(), target.at, target.at, len))
}

/// An image that is one piece.
fn flat(form: Form, bytes: Vec<u8>, at: u64, entry: u64, len: u64) -> Image {
    let high = at.saturating_add(len);
    let piece = Piece { at, len: bytes.len() as u64, bytes };
    Image { form, pieces: vec![piece], entry, low: at, high }
}

fn load_elf(file: &[u8], target: Target) -> Result<Image, LoadError> {
    let elf = Elf::parse(file).map_err(LoadError::Elf)?;
    if elf.machine != target.machine {
        return Err(LoadError::Machine(elf.machine));
    }
    // Segments may share bytes of the file: what counts is their sum.
    if elf.segments.iter().map(|s| s.bytes.len() as u64).sum::<u64>() > target.limit {
        return Err(LoadError::TooLarge(target.limit));
    }
    // A firmware that moves itself has addresses from zero on.
    let bias = if elf.relocatable { target.at } else { 0 };
    let mut pieces = Vec::new();
    for (n, s) in elf.segments.iter().enumerate() {
        let end = s.physical.checked_add(bias).and_then(|at| at.checked_add(s.len));
        let end = end.ok_or(LoadError::Elf(ElfError::Segment(n)))?;
        pieces.push(Piece { at: end - s.len, bytes: s.bytes.to_vec(), len: s.len });
    }
    let low = pieces.iter().map(|p| p.at).min().ok_or(LoadError::NoSegments)?;
    let high = pieces.iter().map(|p| p.at + p.len).max().ok_or(LoadError::NoSegments)?;
    Ok(Image { form: Form::Elf, pieces, entry: elf.entry.wrapping_add(bias), low, high })
}

/// `image_size` of a RISC-V Linux `Image`: memory it takes from its start, with zeroed data.
fn linux_image_len(file: &[u8]) -> Option<u64> {
    if file.get(56..60)? != b"RSC\x05" {
        return None;
    }
    Some(u64::from_le_bytes(*file.get(16..)?.first_chunk()?))
}

/// The contents behind gzip and EFI zboot wrappers.
fn unpacked(file: &[u8], limit: u64) -> Result<Cow<'_, [u8]>, LoadError> {
    if let Some((payload, method)) = zboot_payload(file) {
        if method != "gzip" {
            let what = format!("EFI zboot kernel compressed with {method}");
            return Err(LoadError::NotSupportedYet(what));
        }
        return gunzip(payload, limit).map(Cow::Owned);
    }
    if file.starts_with(&[0x1f, 0x8b, 8]) {
        return gunzip(file, limit).map(Cow::Owned);
    }
    Ok(Cow::Borrowed(file))
}

/// Compressed kernel in an EFI zboot file (Linux, `drivers/firmware/efi/libstub`, header of
/// `zboot`) and the name of the method.
fn zboot_payload(file: &[u8]) -> Option<(&[u8], String)> {
    if file.get(..2)? != b"MZ" || file.get(4..8)? != b"zimg" {
        return None;
    }
    let word = |at: usize| Some(u32::from_le_bytes(*file.get(at..)?.first_chunk()?) as usize);
    let (offset, len) = (word(8)?, word(12)?);
    let payload = file.get(offset..offset.checked_add(len)?)?;
    let method = file.get(24..56)?.split(|b| *b == 0).next()?;
    Some((payload, String::from_utf8_lossy(method).into_owned()))
}

fn gunzip(packed: &[u8], limit: u64) -> Result<Vec<u8>, LoadError> {
    let mut bytes = Vec::new();
    let mut decoder = GzDecoder::new(packed).take(limit.saturating_add(1));
    decoder.read_to_end(&mut bytes).map_err(|e| LoadError::Compressed(e.to_string()))?;
    if bytes.len() as u64 > limit { Err(LoadError::TooLarge(limit)) } else { Ok(bytes) }
}

const UIMAGE_MAGIC: [u8; 4] = [0x27, 0x05, 0x19, 0x56];

/// A legacy U-Boot image: a big-endian header of 64 bytes, then the kernel.
fn load_uimage(file: &[u8], target: Target) -> Result<Image, LoadError> {
    let (header, rest) = file.split_at_checked(64).ok_or(LoadError::UImage("cut short"))?;
    let word = |at: usize| {
        u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
    };
    let (len, load, entry) = (word(12) as usize, word(16), word(20));
    let bytes = rest.get(..len).ok_or(LoadError::UImage("the contents are cut short"))?;
    const KERNELS: [u8; 2] = [2, 14];
    if !KERNELS.contains(&header[30]) {
        return Err(LoadError::UImage("not a kernel"));
    }
    let bytes = match header[31] {
        0 => bytes.to_vec(),
        1 => gunzip(bytes, target.limit)?,
        n => return Err(LoadError::NotSupportedYet(format!("U-Boot image compression {n}"))),
    };
    // A kernel of type 14 does not care where it lies.
    let (at, entry) = match header[30] {
        14 => (target.at, target.at.wrapping_add(u64::from(entry.wrapping_sub(load)))),
        _ => (u64::from(load), u64::from(entry)),
    };
    let len = bytes.len() as u64;
    Ok(flat(Form::UImage, bytes, at, entry, len))
}
