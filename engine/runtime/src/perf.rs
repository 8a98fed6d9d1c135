//! What profilers are told of generated code: perf's map of addresses, and its dump of code (Linux,
//! `tools/perf/Documentation/jit-interface.txt` and `jitdump-specification.txt`).
#![expect(unsafe_code, reason = "profilers find a dump by a mapping of it")]

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, FromRawFd};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// A stretch of host code, and the guest instruction that it is for.
#[derive(Clone, Copy, Debug)]
pub struct Stretch<'a> {
    /// Where the code lies.
    pub at: u64,
    /// The code.
    pub code: &'a [u8],
    /// Address of the instruction.
    pub pc: u64,
}

/// Files for profilers.
pub struct Perf {
    map: Option<Mutex<File>>,
    dump: Option<Mutex<Dump>>,
}

/// A dump of code, in the folder of the process.
struct Dump {
    file: File,
    /// Whose it is: children have copies of this value.
    process: u32,
    /// How many records there are.
    count: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Perf {
    /// Opens what is wanted: `/tmp/perf-PID.map`, `jit-PID.dump`.
    ///
    /// # Errors
    /// A file cannot be made.
    pub fn open(map: bool, dump: bool) -> io::Result<Self> {
        let process = std::process::id();
        let open = || File::create(format!("/tmp/perf-{process}.map")).map(away);
        let map = map.then(open).transpose()?;
        let dump = dump.then(Dump::open).transpose()?;
        Ok(Self { map: map.map(Mutex::new), dump: dump.map(Mutex::new) })
    }

    /// Whether anything is to be told.
    pub fn is_wanted(&self) -> bool {
        self.map.is_some() || self.dump.is_some()
    }

    /// Tells of a stretch of code. What does not fit onto the disk is lost.
    pub fn tell(&self, stretch: Stretch<'_>) {
        let Stretch { at, code, pc } = stretch;
        if let Some(map) = &self.map {
            let _ = writeln!(lock(map), "{at:x} {:x} guest-{pc:#x}", code.len());
        }
        if let Some(dump) = &self.dump {
            let _ = lock(dump).tell(stretch);
        }
    }
}

/// Moves a file's number out of the way of programs in user mode.
fn away(file: File) -> File {
    const HIGH: i32 = 910;
    // SAFETY: the call makes another number for the same file.
    let moved = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_DUPFD_CLOEXEC, HIGH) };
    if moved < 0 {
        return file;
    }
    // SAFETY: the number is new, and nobody else has it.
    unsafe { File::from_raw_fd(moved) }
}

/// Nanoseconds of the clock that `perf record -k mono` uses.
fn now() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the structure lives through the call.
    if unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) } != 0 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        return since.as_nanos() as u64;
    }
    time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()
}

impl Dump {
    fn open() -> io::Result<Self> {
        const MAGIC: u32 = 0x4a69_5444;
        const VERSION: u32 = 1;
        const LEN: u32 = 40;
        const X86_64: u32 = 62;
        const AARCH64: u32 = 183;
        let process = std::process::id();
        let name = format!("jit-{process}.dump");
        let mut file =
            File::options().read(true).write(true).create(true).truncate(true).open(name)?;
        let machine = if cfg!(target_arch = "x86_64") { X86_64 } else { AARCH64 };
        let mut header = Vec::new();
        for word in [MAGIC, VERSION, LEN, machine, 0, process] {
            header.extend_from_slice(&word.to_le_bytes());
        }
        header.extend_from_slice(&now().to_le_bytes());
        header.extend_from_slice(&[0; 8]);
        file.write_all(&header)?;
        let file = away(file);
        mark(&file)?;
        Ok(Self { file, process, count: 0 })
    }

    fn tell(&mut self, stretch: Stretch<'_>) -> io::Result<()> {
        const LOAD: u32 = 0;
        /// Bytes of a record before its name.
        const HEAD: usize = 56;
        if std::process::id() != self.process {
            return Ok(());
        }
        let Stretch { at, code, pc } = stretch;
        let name = format!("guest-{pc:#x}\0");
        let len = HEAD + name.len() + code.len();
        let mut record = Vec::with_capacity(len);
        record.extend_from_slice(&LOAD.to_le_bytes());
        record.extend_from_slice(&(len as u32).to_le_bytes());
        record.extend_from_slice(&now().to_le_bytes());
        record.extend_from_slice(&self.process.to_le_bytes());
        // SAFETY: the call cannot fail and touches no memory.
        let thread = unsafe { libc::syscall(libc::SYS_gettid) } as u32;
        record.extend_from_slice(&thread.to_le_bytes());
        for word in [at, at, code.len() as u64, self.count] {
            record.extend_from_slice(&word.to_le_bytes());
        }
        record.extend_from_slice(name.as_bytes());
        record.extend_from_slice(code);
        self.count += 1;
        self.file.write_all(&record)
    }
}

/// Maps a page of the file as code, which is how profilers hear of it.
fn mark(file: &File) -> io::Result<()> {
    const LEN: usize = 4096;
    let rights = libc::PROT_READ | libc::PROT_EXEC;
    let (none, fd) = (std::ptr::null_mut(), file.as_raw_fd());
    // SAFETY: a mapping at an address of the kernel's choice aliases nothing; nobody uses it.
    let at = unsafe { libc::mmap(none, LEN, rights, libc::MAP_PRIVATE, fd, 0) };
    if at == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(()) }
}
