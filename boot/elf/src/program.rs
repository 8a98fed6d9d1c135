//! Programs as an operating system starts them: the headers alone, of either byte order, read
//! piece by piece from a file of any length (System V ABI, chapter 5; Linux, elf(5)).

use crate::{Class, ElfError, Fields, MAGIC, PT_LOAD, Table};
use std::io;

/// Bytes that program headers may take together, as Linux allows.
const MAX_HEADERS: u64 = 65536;
/// Longest name of an interpreter, as Linux allows.
const MAX_INTERPRETER: u64 = 4096;
/// Bytes of the largest file header.
const FILE_HEADER: usize = 64;

const ET_EXEC: u64 = 2;
const ET_DYN: u64 = 3;
const PT_INTERP: u32 = 3;
const PT_PHDR: u32 = 6;
const PT_GNU_STACK: u32 = 0x6474_e551;
const PF_X: u32 = 1;

/// What a program was made for. Enough to tell who can run it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flavour {
    /// Width of addresses.
    pub class: Class,
    /// Whether numbers have their most significant byte first.
    pub big_endian: bool,
    /// Machine number.
    pub machine: u16,
}

impl Flavour {
    /// Reads it from the beginning of a file. `None` if it is no ELF file.
    pub fn of(head: &[u8]) -> Option<Self> {
        if !head.starts_with(MAGIC) {
            return None;
        }
        let class = match head.get(4)? {
            1 => Class::Elf32,
            2 => Class::Elf64,
            _ => return None,
        };
        let big_endian = match head.get(5)? {
            1 => false,
            2 => true,
            _ => return None,
        };
        let machine = Fields { bytes: head, class, big_endian }.number(18, 2)? as u16;
        Some(Self { class, big_endian, machine })
    }
}

/// A part of the file that belongs into memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Where it lies in the file.
    pub offset: u64,
    /// Bytes of the file that belong there.
    pub file_len: u64,
    /// Address, from where the program is put.
    pub address: u64,
    /// Bytes in memory, at least as many.
    pub len: u64,
    /// Alignment of the address; 0 or a power of two, if the file is right.
    pub align: u64,
    /// `PF_X` 1, `PF_W` 2, `PF_R` 4.
    pub flags: u32,
}

/// The headers of a program or shared object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// What it was made for.
    pub flavour: Flavour,
    /// Whether it can lie anywhere: its addresses count from where it is put.
    pub relocatable: bool,
    /// `e_flags`.
    pub flags: u32,
    /// Address of the first instruction.
    pub entry: u64,
    /// What to load; ascending addresses, at least one.
    pub loads: Vec<Load>,
    /// Address of the program headers in memory, if they are loaded.
    pub headers_address: Option<u64>,
    /// Bytes of a program header.
    pub header_len: u64,
    /// Program headers that there are.
    pub header_count: u64,
    /// Name of the interpreter that has to be started instead.
    pub interpreter: Option<Vec<u8>>,
    /// Whether the stack may be executed; `None` where the file does not say.
    pub executable_stack: Option<bool>,
}

/// Why a program cannot be read.
#[derive(Debug)]
pub enum ProgramError {
    /// Its contents are wrong.
    Elf(ElfError),
    /// An ELF file, but neither a program nor a shared object: its `e_type`.
    Kind(u16),
    /// Reading fails.
    Read(io::Error),
}

impl From<ElfError> for ProgramError {
    fn from(error: ElfError) -> Self {
        Self::Elf(error)
    }
}

/// Reads bytes of the file: an offset, and where they go. How many there were, less only at its end.
pub type ReadAt<'a> = &'a mut dyn FnMut(u64, &mut [u8]) -> io::Result<usize>;

impl Program {
    /// Reads the headers.
    ///
    /// # Errors
    /// It is no program, or damaged, or reading fails.
    pub fn read(file: ReadAt<'_>) -> Result<Self, ProgramError> {
        let mut head = vec![0; FILE_HEADER];
        let len = file(0, &mut head).map_err(ProgramError::Read)?;
        head.truncate(len);
        if !head.starts_with(MAGIC) {
            return Err(ElfError::NotElf.into());
        }
        let flavour = Flavour::of(&head).ok_or(ElfError::Flavour)?;
        let Flavour { class, big_endian, .. } = flavour;
        let header = Fields { bytes: &head, class, big_endian };
        let field = |a32, a64| header.field(a32, a64).ok_or(ElfError::Truncated("the header"));
        let kind = field([16, 2], [16, 2])?;
        if kind != ET_EXEC && kind != ET_DYN {
            return Err(ProgramError::Kind(kind as u16));
        }
        let table = Table {
            offset: field([28, 4], [32, 8])?,
            entry_len: field([42, 2], [54, 2])?,
            count: field([44, 2], [56, 2])?,
        };
        let least = if class == Class::Elf32 { 32 } else { 56 };
        let cut = ElfError::Truncated("a program header");
        if table.entry_len != least || table.count * least > MAX_HEADERS {
            return Err(cut.into());
        }
        let headers = exactly(file, table.offset, table.count * least, cut)?;
        let mut program = Self {
            flavour,
            relocatable: kind == ET_DYN,
            flags: field([36, 4], [48, 4])? as u32,
            entry: field([24, 4], [24, 8])?,
            loads: Vec::new(),
            headers_address: None,
            header_len: table.entry_len,
            header_count: table.count,
            interpreter: None,
            executable_stack: None,
        };
        for (n, bytes) in headers.chunks_exact(least as usize).enumerate() {
            program.header(n, Fields { bytes, class, big_endian }, file)?;
        }
        program.finish(table.offset)?;
        Ok(program)
    }

    /// Takes note of program header `n`.
    fn header(&mut self, n: usize, at: Fields<'_>, file: ReadAt<'_>) -> Result<(), ProgramError> {
        let cut = ElfError::Truncated("a program header");
        let field = |a32, a64| at.field(a32, a64).ok_or(cut);
        let load = Load {
            offset: field([4, 4], [8, 8])?,
            file_len: field([16, 4], [32, 8])?,
            address: field([8, 4], [16, 8])?,
            len: field([20, 4], [40, 8])?,
            align: field([28, 4], [48, 8])?,
            flags: field([24, 4], [4, 4])? as u32,
        };
        match field([0, 4], [0, 4])? as u32 {
            PT_LOAD if load.len > 0 => {
                let limit = if self.flavour.class == Class::Elf32 { 1 << 32 } else { u64::MAX };
                let end = load.address.checked_add(load.len).filter(|end| *end <= limit);
                let file_end = load.offset.checked_add(load.file_len);
                if load.file_len > load.len || end.is_none() || file_end.is_none() {
                    return Err(ElfError::Segment(n).into());
                }
                self.loads.push(load);
            }
            PT_INTERP => {
                let part = ElfError::Truncated("the interpreter's name");
                if load.file_len == 0 || load.file_len > MAX_INTERPRETER {
                    return Err(part.into());
                }
                let mut name = exactly(file, load.offset, load.file_len, part)?;
                let end = name.iter().position(|b| *b == 0).ok_or(part)?;
                name.truncate(end);
                self.interpreter = Some(name);
            }
            PT_PHDR => self.headers_address = Some(load.address),
            PT_GNU_STACK => self.executable_stack = Some(load.flags & PF_X != 0),
            _ => {}
        }
        Ok(())
    }

    /// Checks what all headers say together.
    fn finish(&mut self, headers_offset: u64) -> Result<(), ElfError> {
        if self.loads.is_empty() {
            return Err(ElfError::Truncated("every segment"));
        }
        let ordered = self.loads.windows(2).all(|w| w[0].address + w[0].len <= w[1].address);
        if !ordered {
            return Err(ElfError::Segment(0));
        }
        if self.headers_address.is_none() {
            let holder = self
                .loads
                .iter()
                .find(|l| l.offset <= headers_offset && headers_offset - l.offset < l.file_len);
            self.headers_address = holder.map(|l| l.address + (headers_offset - l.offset));
        }
        Ok(())
    }

    /// Lowest address, and the address after the highest.
    pub fn span(&self) -> (u64, u64) {
        let ends = self.loads.first().zip(self.loads.last());
        ends.map_or((0, 0), |(first, last)| (first.address, last.address + last.len))
    }

    /// The largest alignment that a segment asks for and that makes sense, at least `page`.
    pub fn alignment(&self, page: u64) -> u64 {
        let sensible = self.loads.iter().map(|l| l.align).filter(|a| a.is_power_of_two());
        sensible.filter(|align| *align <= 1 << 30).fold(page, u64::max)
    }
}

/// `len` bytes of the file, bounded by the caller.
fn exactly(
    file: ReadAt<'_>,
    offset: u64,
    len: u64,
    part: ElfError,
) -> Result<Vec<u8>, ProgramError> {
    let mut bytes = vec![0; len as usize];
    if offset > i64::MAX as u64 - len {
        return Err(part.into());
    }
    let found = file(offset, &mut bytes).map_err(ProgramError::Read)?;
    if found < bytes.len() { Err(part.into()) } else { Ok(bytes) }
}

/// Architectures by their ELF machine number, as programs that run them are called.
const MACHINES: &[(u16, Option<Class>, Option<bool>, &str)] = &[
    (2, None, None, "sparc"),
    (3, None, None, "i386"),
    (4, None, None, "m68k"),
    (8, Some(Class::Elf64), Some(true), "mips64"),
    (8, Some(Class::Elf64), Some(false), "mips64el"),
    (8, Some(Class::Elf32), Some(true), "mips"),
    (8, Some(Class::Elf32), Some(false), "mipsel"),
    (15, None, None, "hppa"),
    (18, None, None, "sparc32plus"),
    (20, None, None, "ppc"),
    (21, None, Some(true), "ppc64"),
    (21, None, Some(false), "ppc64le"),
    (22, None, None, "s390x"),
    (40, None, Some(false), "arm"),
    (40, None, Some(true), "armeb"),
    (42, None, Some(false), "sh4"),
    (42, None, Some(true), "sh4eb"),
    (43, None, None, "sparc64"),
    (62, None, None, "x86_64"),
    (92, None, None, "or1k"),
    (94, None, None, "xtensa"),
    (164, None, None, "hexagon"),
    (183, None, Some(false), "aarch64"),
    (183, None, Some(true), "aarch64_be"),
    (189, None, None, "microblaze"),
    (243, Some(Class::Elf64), None, "riscv64"),
    (243, Some(Class::Elf32), None, "riscv32"),
    (258, None, None, "loongarch64"),
    (0x9026, None, None, "alpha"),
];

impl Flavour {
    /// Name of the architecture, as in `qemu-<name>`.
    pub fn architecture(&self) -> Option<&'static str> {
        let row = MACHINES.iter().find(|(machine, class, big, _)| {
            *machine == self.machine
                && class.is_none_or(|c| c == self.class)
                && big.is_none_or(|b| b == self.big_endian)
        });
        row.map(|(.., name)| *name)
    }
}
