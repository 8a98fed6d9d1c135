//! Executable files: ELF (System V ABI, generation 4.1, chapters 4 and 5; little-endian, 32 and 64
//! bits), in [`program`] the headers of user programs of either byte order, and in [`kernel`] the
//! forms that operating system kernels come in.
//!
//! Files come from the user: everything is bounded by the length of the file.

pub mod kernel;
pub mod program;

use std::fmt;

/// ELF machine number of RISC-V.
pub const EM_RISCV: u16 = 243;

const MAGIC: &[u8; 4] = b"\x7fELF";
/// Names are cut at this length.
const MAX_NAME: usize = 4096;
const ET_DYN: u64 = 3;
const PT_LOAD: u32 = 1;
const SHT_SYMTAB: u32 = 2;
const SHT_STRTAB: u32 = 3;

/// A file is no ELF file that we can use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ElfError {
    /// The magic number is missing.
    NotElf,
    /// Big-endian, or neither 32 nor 64 bits.
    Flavour,
    /// The file ends before this part of it.
    Truncated(&'static str),
    /// A segment's memory is smaller than its bytes, or leaves the address space.
    Segment(usize),
}

impl fmt::Display for ElfError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotElf => write!(f, "not an ELF file"),
            Self::Flavour => write!(f, "ELF file is not little-endian with 32 or 64 bits"),
            Self::Truncated(part) => write!(f, "ELF file is cut short: {part} lies outside"),
            Self::Segment(n) => write!(f, "ELF file: program header {n} makes no sense"),
        }
    }
}

impl std::error::Error for ElfError {}

/// Width of a file's addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// 32 bits.
    Elf32,
    /// 64 bits.
    Elf64,
}

/// A segment to load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment<'a> {
    /// Physical address.
    pub physical: u64,
    /// Virtual address.
    pub virtual_address: u64,
    /// What it begins with.
    pub bytes: &'a [u8],
    /// Length in memory; what `bytes` does not cover is zero.
    pub len: u64,
    /// `PF_X` 1, `PF_W` 2, `PF_R` 4.
    pub flags: u32,
}

/// A symbol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Symbol<'a> {
    /// Name.
    pub name: &'a str,
    /// Value: an address, mostly.
    pub value: u64,
    /// Bytes it covers.
    pub len: u64,
    /// Type, the low half of `st_info`: 1 object, 2 function.
    pub kind: u8,
}

/// An ELF file.
#[derive(Clone, Debug)]
pub struct Elf<'a> {
    /// Width of addresses.
    pub class: Class,
    /// Machine number, such as [`EM_RISCV`].
    pub machine: u16,
    /// Whether it can lie anywhere (`ET_DYN`): its addresses count from where it is put.
    pub relocatable: bool,
    /// Virtual address of the first instruction.
    pub entry: u64,
    /// Segments to load, in the order of the file.
    pub segments: Vec<Segment<'a>>,
    file: &'a [u8],
    sections: Table,
}

/// A table of headers in the file.
#[derive(Clone, Copy, Debug)]
struct Table {
    offset: u64,
    entry_len: u64,
    count: u64,
}

/// Reads fields whose place and width depend on the class.
#[derive(Clone, Copy)]
struct Fields<'a> {
    bytes: &'a [u8],
    class: Class,
    big_endian: bool,
}

impl Fields<'_> {
    fn number(&self, at: usize, len: usize) -> Option<u64> {
        let bytes = self.bytes.get(at..at.checked_add(len)?)?;
        let shift_in = |n, b: &u8| n << 8 | u64::from(*b);
        Some(match self.big_endian {
            false => bytes.iter().rev().fold(0, shift_in),
            true => bytes.iter().fold(0, shift_in),
        })
    }

    /// A field of `widths` bytes at the given offset in either class.
    fn field(&self, [at32, len32]: [usize; 2], [at64, len64]: [usize; 2]) -> Option<u64> {
        match self.class {
            Class::Elf32 => self.number(at32, len32),
            Class::Elf64 => self.number(at64, len64),
        }
    }
}

impl<'a> Elf<'a> {
    /// Whether `file` claims to be an ELF file.
    pub fn is_elf(file: &[u8]) -> bool {
        file.starts_with(MAGIC)
    }

    /// Reads the headers.
    ///
    /// # Errors
    /// It is none, or of another kind, or damaged.
    pub fn parse(file: &'a [u8]) -> Result<Self, ElfError> {
        if !Self::is_elf(file) {
            return Err(ElfError::NotElf);
        }
        let class = match (file.get(4), file.get(5)) {
            (Some(1), Some(1)) => Class::Elf32,
            (Some(2), Some(1)) => Class::Elf64,
            _ => return Err(ElfError::Flavour),
        };
        let header = Fields { bytes: file, class, big_endian: false };
        let field = |a32, a64| header.field(a32, a64).ok_or(ElfError::Truncated("the header"));
        let programs = Table {
            offset: field([28, 4], [32, 8])?,
            entry_len: field([42, 2], [54, 2])?,
            count: field([44, 2], [56, 2])?,
        };
        let sections = Table {
            offset: field([32, 4], [40, 8])?,
            entry_len: field([46, 2], [58, 2])?,
            count: field([48, 2], [60, 2])?,
        };
        let mut elf = Self {
            class,
            machine: field([18, 2], [18, 2])? as u16,
            relocatable: field([16, 2], [16, 2])? == ET_DYN,
            entry: field([24, 4], [24, 8])?,
            segments: Vec::new(),
            file,
            sections,
        };
        for n in 0..programs.count {
            elf.segments.extend(elf.segment(programs, n)?);
        }
        Ok(elf)
    }

    /// Program header `n`, if it is to be loaded.
    fn segment(&self, programs: Table, n: u64) -> Result<Option<Segment<'a>>, ElfError> {
        let cut = ElfError::Truncated("a program header");
        let header = self.entry_of(programs, n).ok_or(cut)?;
        let field = |a32, a64| header.field(a32, a64).ok_or(cut);
        let len = field([20, 4], [40, 8])?;
        if field([0, 4], [0, 4])? != u64::from(PT_LOAD) || len == 0 {
            return Ok(None);
        }
        let (offset, file_len) = (field([4, 4], [8, 8])?, field([16, 4], [32, 8])?);
        let bytes = self.slice(offset, file_len).ok_or(ElfError::Truncated("a segment"))?;
        let physical = field([12, 4], [24, 8])?;
        if file_len > len || physical.checked_add(len).is_none() {
            return Err(ElfError::Segment(n as usize));
        }
        let virtual_address = field([8, 4], [16, 8])?;
        let flags = field([24, 4], [4, 4])? as u32;
        Ok(Some(Segment { physical, virtual_address, bytes, len, flags }))
    }

    fn slice(&self, offset: u64, len: u64) -> Option<&'a [u8]> {
        let start = usize::try_from(offset).ok()?;
        self.file.get(start..start.checked_add(usize::try_from(len).ok()?)?)
    }

    fn entry_of(&self, table: Table, n: u64) -> Option<Fields<'a>> {
        let offset = table.offset.checked_add(n.checked_mul(table.entry_len)?)?;
        let bytes = self.slice(offset, table.entry_len)?;
        Some(Fields { bytes, class: self.class, big_endian: false })
    }

    /// The symbols of the first table, without those that have no name.
    pub fn symbols(&self) -> impl Iterator<Item = Symbol<'a>> + '_ {
        let table = (0..self.sections.count).find_map(|n| self.symbol_table(n));
        let count = table.map_or(0, |(table, _)| table.count);
        (0..count).filter_map(move |n| table.and_then(|(table, names)| self.entry(table, n, names)))
    }

    /// The first symbol called `name`.
    pub fn symbol(&self, name: &str) -> Option<Symbol<'a>> {
        self.symbols().find(|s| s.name == name)
    }

    /// Section `n` as a table of symbols, and their names.
    fn symbol_table(&self, n: u64) -> Option<(Table, &'a [u8])> {
        let section = self.entry_of(self.sections, n)?;
        if section.number(4, 4)? != u64::from(SHT_SYMTAB) {
            return None;
        }
        let least = match self.class {
            Class::Elf32 => 16,
            Class::Elf64 => 24,
        };
        let entry_len = section.field([36, 4], [56, 8])?.max(least);
        let (offset, len) = (section.field([16, 4], [24, 8])?, section.field([20, 4], [32, 8])?);
        self.slice(offset, len)?;
        let strings = self.entry_of(self.sections, section.field([24, 4], [40, 4])?)?;
        if strings.number(4, 4)? != u64::from(SHT_STRTAB) {
            return None;
        }
        let names =
            self.slice(strings.field([16, 4], [24, 8])?, strings.field([20, 4], [32, 8])?)?;
        Some((Table { offset, entry_len, count: len / entry_len }, names))
    }

    fn entry(&self, table: Table, n: u64, names: &'a [u8]) -> Option<Symbol<'a>> {
        let symbol = self.entry_of(table, n)?;
        let name = names.get(symbol.number(0, 4)? as usize..)?;
        let name = &name[..name.len().min(MAX_NAME)];
        let name = std::str::from_utf8(name.split(|b| *b == 0).next()?).ok()?;
        let value = symbol.field([4, 4], [8, 8])?;
        let len = symbol.field([8, 4], [16, 8])?;
        let kind = symbol.field([12, 1], [4, 1])? as u8 & 0xf;
        (!name.is_empty()).then_some(Symbol { name, value, len, kind })
    }
}

#[cfg(test)]
mod tests;
