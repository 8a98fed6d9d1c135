//! Programs in memory: segments, interpreter, heap, and what they lie beside.

use crate::abi::Abi;
use crate::errno::Errno;
use crate::map::Kind;
use crate::space::{PAGE, Request, Space, page_down, page_up, prot};
use elf::program::{Flavour, Load, Program, ProgramError};
use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Why a program cannot be started.
#[derive(Debug)]
pub enum LoadError {
    /// The file cannot be opened or read.
    File(PathBuf, io::Error),
    /// It is no ELF file: what it seems to be.
    NotElf(PathBuf, Option<String>),
    /// It is damaged, or no program.
    Damaged(PathBuf, String),
    /// It is for another architecture.
    Foreign(PathBuf, Flavour),
    /// It has an interpreter that is not there.
    Interpreter {
        /// The interpreter's name.
        name: PathBuf,
        /// What opening it said.
        error: io::Error,
        /// Where it was looked for beside.
        prefix: Option<PathBuf>,
    },
    /// There is no room for it.
    Memory(PathBuf, Errno),
}

impl LoadError {
    /// The exit code, as scripts know it.
    pub fn code(&self) -> u8 {
        match self {
            Self::Foreign(..) | Self::Interpreter { .. } | Self::Memory(..) => 255,
            Self::File(..) | Self::NotElf(..) | Self::Damaged(..) => 1,
        }
    }

    /// Whether the program's name belongs before the message.
    pub fn named(&self) -> bool {
        self.code() == 255
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path, error) => {
                write!(f, "Error while loading {}: {}", path.display(), plain(error))
            }
            Self::NotElf(path, what) => {
                let error = Errno::ENOEXEC;
                write!(f, "Error while loading {}: {error}", path.display())?;
                what.as_ref().map_or(Ok(()), |what| write!(f, "\n{what}"))
            }
            Self::Damaged(path, problem) => {
                let error = Errno::ENOEXEC;
                write!(f, "Error while loading {}: {error} ({problem})", path.display())
            }
            Self::Foreign(path, flavour) => {
                let path = path.display();
                writeln!(f, "{path}: Invalid ELF image for this architecture")?;
                match flavour.architecture() {
                    Some(name) if name == std::env::consts::ARCH => {
                        write!(f, "It is a program for {name}: this host runs it itself.")
                    }
                    Some(name) => {
                        write!(f, "It is a program for {name}: run it with 'qemu-{name} {path}'.")
                    }
                    None => write!(f, "It is for machine {} of ELF.", flavour.machine),
                }
            }
            Self::Interpreter { name, error, prefix } => {
                writeln!(f, "Could not open '{}': {}", name.display(), plain(error))?;
                let beside =
                    prefix.as_ref().map(|prefix| format!(" (nor below '{}')", prefix.display()));
                write!(
                    f,
                    "The program needs this interpreter{}: '-L DIR' or QEMU_LD_PREFIX names the folder \
                     that has it.",
                    beside.unwrap_or_default()
                )
            }
            Self::Memory(path, error) => {
                write!(f, "Unable to find a place for {}: {error}", path.display())
            }
        }
    }
}

/// The text of an error without its number.
fn plain(error: &io::Error) -> String {
    error.raw_os_error().map_or_else(|| error.to_string(), |number| Errno(number).to_string())
}

/// An ELF file that was opened and read.
pub struct Opened {
    file: File,
    path: PathBuf,
    /// Its headers.
    pub program: Program,
}

/// Where a file lies in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    /// What was added to its addresses.
    pub bias: u64,
    /// Its first instruction.
    pub entry: u64,
    /// Its program headers.
    pub headers: u64,
    /// The address after its last byte.
    pub end: u64,
}

impl Opened {
    /// Opens a program and checks whether it is one for this architecture.
    ///
    /// # Errors
    /// It is not.
    pub fn open(path: &Path, abi: &Abi) -> Result<Self, LoadError> {
        let file = File::open(path).map_err(|error| LoadError::File(path.to_owned(), error))?;
        Self::take(file, path, abi)
    }

    /// The same with a file that is open.
    ///
    /// # Errors
    /// It is no program for this architecture.
    pub fn take(file: File, path: &Path, abi: &Abi) -> Result<Self, LoadError> {
        let path = path.to_owned();
        let about = file.metadata().map_err(|error| LoadError::File(path.clone(), error))?;
        if !about.is_file() {
            return Err(LoadError::NotElf(path, None));
        }
        let read = Program::read(&mut |at, bytes| read_at(&file, at, bytes));
        let program = match read {
            Ok(program) => program,
            Err(ProgramError::Read(error)) => return Err(LoadError::File(path, error)),
            Err(ProgramError::Elf(elf::ElfError::NotElf)) => {
                let what = script_of(&file);
                return Err(LoadError::NotElf(path, what));
            }
            Err(ProgramError::Elf(error)) => {
                return Err(LoadError::Damaged(path, error.to_string()));
            }
            Err(ProgramError::Kind(_)) => {
                return Err(LoadError::Damaged(path, "no program, nor a shared object".to_owned()));
            }
        };
        if !abi.runs(&program.flavour) {
            return Err(LoadError::Foreign(path, program.flavour));
        }
        let end = program.loads.iter().map(|load| load.offset + load.file_len).max();
        if end.unwrap_or(0) > about.len() {
            return Err(LoadError::Damaged(path, "the file is cut short".to_owned()));
        }
        Ok(Self { file, path, program })
    }

    /// Puts it into memory; what can lie anywhere goes to `wish`, if that is free.
    ///
    /// # Errors
    /// There is no room.
    pub fn place(&self, space: &Space, wish: u64) -> Result<Placed, LoadError> {
        self.put(space, wish).map_err(|error| LoadError::Memory(self.path.clone(), error))
    }

    fn put(&self, space: &Space, wish: u64) -> Result<Placed, Errno> {
        let program = &self.program;
        let (low, high) = program.span();
        let (start, end) = (page_down(low), page_up(high).ok_or(Errno::ENOMEM)?);
        let bias = match program.relocatable {
            false => 0,
            true => {
                let align = program.alignment(PAGE);
                let found = space.map().place(wish, end - start, align).ok_or(Errno::ENOMEM)?;
                found.start.wrapping_sub(start)
            }
        };
        if !program.relocatable && (end > space.limit || !space.map().is_free(&(start..end))) {
            return Err(Errno::ENOMEM);
        }
        for load in &program.loads {
            self.segment(space, load, bias)?;
        }
        Ok(Placed {
            bias,
            entry: program.entry.wrapping_add(bias),
            headers: program.headers_address.map_or(0, |at| at.wrapping_add(bias)),
            end: high.wrapping_add(bias),
        })
    }

    fn segment(&self, space: &Space, load: &Load, bias: u64) -> Result<(), Errno> {
        const FLAGS: [(u32, u32); 3] = [(4, prot::READ), (2, prot::WRITE), (1, prot::EXEC)];
        let rights = FLAGS.iter().filter(|(flag, _)| load.flags & flag != 0);
        let rights = rights.fold(0, |all, (_, right)| all | right);
        let address = load.address.wrapping_add(bias);
        let before = address % PAGE;
        if load.offset % PAGE != before {
            return Err(Errno::ENOEXEC);
        }
        let start = address - before;
        let end = page_up(address + load.len).ok_or(Errno::ENOMEM)?;
        let mut mapped = start;
        if load.file_len > 0 {
            let file_end = address + load.file_len;
            mapped = page_up(file_end).ok_or(Errno::ENOMEM)?;
            let zeroed = if load.len > load.file_len { mapped.min(end) - file_end } else { 0 };
            // What follows the file's bytes in their last page is zero.
            let at_first = if zeroed > 0 { rights | prot::WRITE } else { rights };
            space.mmap(Request {
                address: start,
                len: mapped - start,
                rights: at_first,
                flags: libc::MAP_PRIVATE | libc::MAP_FIXED,
                fd: self.file.as_raw_fd(),
                offset: load.offset - before,
                kind: Kind::Other,
            })?;
            if zeroed > 0 {
                space.write_bytes(file_end, &vec![0; zeroed as usize])?;
                if at_first != rights {
                    space.mprotect(start, mapped - start, rights.into())?;
                }
            }
        }
        if mapped < end {
            space.mmap(Request {
                address: mapped,
                len: end - mapped,
                rights,
                flags: libc::MAP_PRIVATE | libc::MAP_FIXED | libc::MAP_ANONYMOUS,
                fd: -1,
                offset: 0,
                kind: Kind::Other,
            })?;
        }
        Ok(())
    }
}

fn read_at(file: &File, at: u64, bytes: &mut [u8]) -> io::Result<usize> {
    let mut done = 0;
    while done < bytes.len() {
        match file.read_at(&mut bytes[done..], at + done as u64)? {
            0 => break,
            more => done += more,
        }
    }
    Ok(done)
}

/// What to do with a script, if the file is one.
fn script_of(file: &File) -> Option<String> {
    let mut head = [0; 128];
    let len = read_at(file, 0, &mut head).ok()?;
    let line = head[..len].strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let interpreter = String::from_utf8_lossy(line).trim().to_owned();
    Some(format!("It is a script: run its interpreter '{interpreter}' with it as an argument."))
}

/// Where a program that can lie anywhere goes.
fn base(space: &Space, abi: &Abi) -> u64 {
    let third = space.limit / 3;
    page_down(if abi.wide() { 2 * third } else { third })
}

/// A program and its interpreter in memory.
#[derive(Clone, Copy, Debug)]
pub struct Loaded {
    /// The program.
    pub program: Placed,
    /// Bytes of one of its headers, and how many there are.
    pub headers: [u64; 2],
    /// Where the interpreter lies, if there is one.
    pub interpreter: Option<Placed>,
}

impl Loaded {
    /// The first instruction of all.
    pub fn start(&self) -> u64 {
        self.interpreter.as_ref().unwrap_or(&self.program).entry
    }
}

/// Loads a program, which may be open already, and its interpreter from below one of `prefixes` or from where it says.
///
/// # Errors
/// One of them cannot be.
pub fn load(
    space: &Space,
    abi: &Abi,
    (path, descriptor): (&Path, Option<i32>),
    prefix: Option<&Path>,
) -> Result<Loaded, LoadError> {
    let opened = match descriptor {
        // The file may have no name here, or no right to be opened by it.
        Some(fd) => Opened::take(crate::sys::take_file(fd), path, abi)?,
        None => Opened::open(path, abi)?,
    };
    let interpreter = match &opened.program.interpreter {
        None => None,
        Some(name) => Some(interpreter(name, abi, prefix)?),
    };
    let program = opened.place(space, base(space, abi))?;
    let heap = page_up(program.end).unwrap_or(program.end);
    space.map().heap = (heap, heap);
    let interpreter = match interpreter {
        None => None,
        Some(opened) => Some(opened.place(space, 0)?),
    };
    let headers = [opened.program.header_len, opened.program.header_count];
    Ok(Loaded { program, headers, interpreter })
}

fn interpreter(name: &[u8], abi: &Abi, prefix: Option<&Path>) -> Result<Opened, LoadError> {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let below = prefix.and_then(|prefix| {
        crate::calls::below(prefix.as_os_str().as_bytes(), name).map(std::ffi::OsString::from_vec)
    });
    let name = PathBuf::from(std::ffi::OsStr::from_bytes(name));
    let path = below.map_or_else(|| name.clone(), PathBuf::from);
    match Opened::open(&path, abi) {
        Err(LoadError::File(_, error)) => {
            Err(LoadError::Interpreter { name, error, prefix: prefix.map(Path::to_owned) })
        }
        other => other,
    }
}
