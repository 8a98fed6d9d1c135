//! The memory of a process in user mode, shared by its threads' processors.
#![expect(unsafe_code, reason = "guest memory is host memory that the personality maps")]

use crate::cache::{CodeCache, Counters, Options};
use crate::faults;
use crate::pages::{Fault, Pages, Rights};
use codegen::guarded::{self, HostFault};
use isa::{Access, Guest, MemoryFault};
use memory::PAGE;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::sync::Arc;

/// Width of a program's addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// 32 bits: a window of 4 GiB anywhere on the host, in which addresses wrap.
    Bits32,
    /// 64 bits: guest addresses are host addresses.
    Bits64,
}

/// Bytes around a window that are never mapped.
const MARGIN: u64 = 64 << 10;
const WINDOW: u64 = 1 << 32;
/// The end of the addresses that Linux gives to processes on x86-64 hosts.
const LIMIT: u64 = (1 << 47) - 4096;

/// Times that an access is tried again which rights allow and the host does not: another thread may
/// translate code from the page just then.
pub(crate) const TRIES: u32 = 100;

/// The memory of a process, and the code translated from it.
///
/// Whoever plays the operating system maps host memory at [`ProcessMemory::host`] addresses with the
/// rights that [`Rights::host`] says, and tells of each change by [`ProcessMemory::change`]. See the
/// crate's documentation for the whole.
pub struct ProcessMemory {
    pub(crate) pages: Arc<Pages>,
    pub(crate) cache: Arc<CodeCache>,
    /// Host addresses that are reserved for a window.
    reserved: Option<Range<u64>>,
}

/// Which side of a fork this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The process that was there before; also after a fork that failed.
    Parent,
    /// The new one, with this thread only.
    Child,
}

impl ProcessMemory {
    /// Empty memory for programs of an ISA. Sets up the process's handlers of SIGSEGV and SIGBUS.
    ///
    /// # Errors
    /// The host gives no address space or no code memory.
    pub fn new<G: Guest>(width: Width, options: Options) -> io::Result<Arc<Self>> {
        faults::install();
        let reserved = match width {
            Width::Bits32 => Some(reserve(WINDOW + 2 * MARGIN)?),
            Width::Bits64 => None,
        };
        let pages = Arc::new(match &reserved {
            Some(reserved) => Pages::new(reserved.start + MARGIN, WINDOW),
            None => Pages::new(0, LIMIT),
        });
        let cache = CodeCache::for_process(G::registers(), options, Arc::clone(&pages))?;
        Ok(Arc::new(Self { pages, cache, reserved }))
    }

    /// What to add to a guest address for that on the host.
    pub fn base(&self) -> u64 {
        self.pages.base
    }

    /// The first guest address that no program has.
    pub fn limit(&self) -> u64 {
        self.pages.limit
    }

    /// Where a guest address is on the host.
    pub fn host(&self, gva: u64) -> u64 {
        gva.wrapping_add(self.pages.base)
    }

    /// The guest address of what is somewhere on the host, if it has one.
    pub fn guest(&self, host: u64) -> Option<u64> {
        host.checked_sub(self.pages.base).filter(|gva| *gva < self.pages.limit)
    }

    /// What the engine did so far.
    pub fn counters(&self) -> &Counters {
        &self.cache.counters
    }

    /// Bytes of code memory in use, and in all.
    pub fn code_usage(&self) -> (usize, usize) {
        self.cache.usage()
    }

    fn host_range(&self, gva: u64, len: u64) -> Range<u64> {
        let host = self.host(gva);
        host..host.saturating_add(len)
    }

    /// The guest addresses with the same rights around this one; `None` where nothing is mapped.
    pub fn area(&self, gva: u64) -> Option<(Range<u64>, Rights)> {
        self.pages.area(gva)
    }

    /// Changes whole pages by `act`, which makes the host's system calls, and takes note of their
    /// rights from then on, or, with `None`, that they are gone. Code from there is forgotten before.
    /// No other thread translates code meanwhile.
    ///
    /// # Errors
    /// Those of `act`; then nothing has changed.
    pub fn change<T, E>(
        &self,
        gva: u64,
        len: u64,
        rights: Option<Rights>,
        act: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        let range = gva..gva.saturating_add(len);
        self.cache.change_code(&self.host_range(gva, len), || {
            let done = act()?;
            self.pages.set(range, rights);
            Ok(done)
        })
    }

    /// [`ProcessMemory::change`] after the fact.
    pub fn set_rights(&self, gva: u64, len: u64, rights: Option<Rights>) {
        let done = self.change(gva, len, rights, || Ok::<_, std::convert::Infallible>(()));
        let Ok(()) = done;
    }

    /// Maps whole pages of zeros at a guest address where nothing is; with 64-bit addresses, 0 lets
    /// the host choose. Where they are.
    ///
    /// # Errors
    /// The host's: something is there already, or there is no memory.
    pub fn map(&self, gva: u64, len: u64, rights: Rights) -> io::Result<u64> {
        self.map_pages(gva, len, rights, None)
    }

    /// Maps what a file begins with, alike; stores change the file.
    ///
    /// # Errors
    /// The host's.
    pub fn map_file(&self, gva: u64, len: u64, rights: Rights, file: &File) -> io::Result<u64> {
        self.map_pages(gva, len, rights, Some(file))
    }

    fn map_pages(
        &self,
        gva: u64,
        len: u64,
        rights: Rights,
        file: Option<&File>,
    ) -> io::Result<u64> {
        let (at, window) = (self.host(gva), self.reserved.is_some());
        let fixed = match (gva, window) {
            (0, false) => 0,
            (_, false) => libc::MAP_FIXED_NOREPLACE,
            (_, true) if gva.saturating_add(len) > WINDOW || self.area(gva).is_some() => {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            (_, true) => libc::MAP_FIXED,
        };
        let kind = match file {
            Some(_) => libc::MAP_SHARED,
            None => libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
        };
        let fd = file.map_or(-1, AsRawFd::as_raw_fd);
        let (at, len_here, flags) = (at as *mut libc::c_void, len as usize, kind | fixed);
        // SAFETY: at an address where nothing is, or in the window, which is the guest's.
        let at = unsafe { libc::mmap(at, len_here, rights.host(), flags, fd, 0) };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let gva = (at as u64).wrapping_sub(self.pages.base);
        self.set_rights(gva, len, Some(rights));
        Ok(gva)
    }

    /// Gives whole pages other rights.
    ///
    /// # Errors
    /// The host's.
    pub fn protect(&self, gva: u64, len: u64, rights: Rights) -> io::Result<()> {
        self.change(gva, len, Some(rights), || {
            let at = self.host(gva) as *mut libc::c_void;
            // SAFETY: pages of the guest's memory, which only guest accesses reach.
            match unsafe { libc::mprotect(at, len as usize, rights.host()) } {
                0 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            }
        })
    }

    /// Takes whole pages away.
    ///
    /// # Errors
    /// The host's.
    pub fn unmap(&self, gva: u64, len: u64) -> io::Result<()> {
        self.change(gva, len, None, || {
            let at = self.host(gva) as *mut libc::c_void;
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
            let (len, fixed) = (len as usize, flags | libc::MAP_FIXED);
            let failed = match self.reserved {
                // SAFETY: pages of the guest's memory, which only guest accesses reach.
                None => unsafe { libc::munmap(at, len) != 0 },
                // The window stays reserved.
                // SAFETY: as above.
                Some(_) => unsafe {
                    libc::mmap(at, len, libc::PROT_NONE, fixed, -1, 0) == libc::MAP_FAILED
                },
            };
            if failed { Err(io::Error::last_os_error()) } else { Ok(()) }
        })
    }

    /// Checks that `len` bytes may be accessed, as far as rights tell.
    ///
    /// # Errors
    /// The first address that may not.
    pub fn check(&self, gva: u64, len: u64, access: Access) -> Result<(), Fault> {
        match len {
            0 => Ok(()),
            _ => self.pages.check(gva, len, wanted(access)),
        }
    }

    /// Lets somebody beside the program write to a range, such as a system call that fills a buffer:
    /// code from there is forgotten, and its pages can be written until code is translated from them
    /// again. Whether there was any: then a write that fails may be tried again.
    pub fn prepare_write(&self, gva: u64, len: u64) -> bool {
        self.cache.prepare_write(&self.host_range(gva, len))
    }

    /// Forgets the code translated from a range: what was written there in ways that nobody sees is
    /// fetched from now on. Costs nothing for pages whose changes are seen anyhow.
    pub fn forget_code(&self, gva: u64, len: u64) {
        self.cache.forget_unseen(&self.host_range(gva, len));
    }

    /// Reads bytes.
    ///
    /// # Errors
    /// The first address that cannot be read; what is before it has been.
    pub fn read(&self, gva: u64, bytes: &mut [u8]) -> Result<(), Fault> {
        self.check(gva, bytes.len() as u64, Access::Load)?;
        let (to, from) = (bytes.as_mut_ptr() as u64, self.host(gva));
        // SAFETY: the personality keeps guest memory apart from the emulator's own; the bytes are
        // borrowed.
        let copied = unsafe { guarded::copy(to, from, bytes.len() as u64) };
        copied.map_err(|(done, fault)| self.fault(gva.wrapping_add(done), fault))
    }

    /// Writes bytes; code that is written is forgotten.
    ///
    /// # Errors
    /// The first address that cannot be written; what is before it may have been.
    pub fn write(&self, gva: u64, bytes: &[u8]) -> Result<(), Fault> {
        self.check(gva, bytes.len() as u64, Access::Store)?;
        let (mut done, mut tries) = (0, 0);
        loop {
            self.prepare_write(gva, bytes.len() as u64);
            tries += 1;
            let rest = &bytes[done as usize..];
            let (to, from) = (self.host(gva.wrapping_add(done)), rest.as_ptr() as u64);
            // SAFETY: as in `read`.
            match unsafe { guarded::copy(to, from, rest.len() as u64) } {
                Ok(()) => return Ok(()),
                // Somebody translated code meanwhile.
                Err((more, HostFault::Access)) if tries < TRIES => done += more,
                Err((more, fault)) => return Err(self.fault(gva.wrapping_add(done + more), fault)),
            }
        }
    }

    /// Reads bytes for a debugger, whatever the rights are.
    ///
    /// # Errors
    /// The first address where nothing is, or nothing any more.
    pub fn peek(&self, gva: u64, bytes: &mut [u8]) -> Result<(), Fault> {
        self.check_mapped(gva, bytes.len() as u64)?;
        let to = bytes.as_mut_ptr() as u64;
        self.unprotected(gva, bytes.len() as u64, Rights::READ, || {
            // SAFETY: as in `read`.
            unsafe { guarded::copy(to, self.host(gva), bytes.len() as u64) }
        })
    }

    /// Writes bytes for a debugger, whatever the rights are; code that is written is forgotten. What is
    /// shared with a file that may not be written cannot be.
    ///
    /// # Errors
    /// The first address that cannot be written; what is before it may have been.
    pub fn poke(&self, gva: u64, bytes: &[u8]) -> Result<(), Fault> {
        self.check_mapped(gva, bytes.len() as u64)?;
        let from = bytes.as_ptr() as u64;
        self.unprotected(gva, bytes.len() as u64, Rights::READ | Rights::WRITE, || {
            // SAFETY: as in `read`.
            unsafe { guarded::copy(self.host(gva), from, bytes.len() as u64) }
        })
    }

    fn check_mapped(&self, gva: u64, len: u64) -> Result<(), Fault> {
        if len == 0 { Ok(()) } else { self.pages.check(gva, len, Rights::NONE) }
    }

    /// Copies by `act` while the pages of a range have these rights at least, and their code is
    /// forgotten.
    fn unprotected(
        &self,
        gva: u64,
        len: u64,
        rights: Rights,
        act: impl FnOnce() -> Result<(), (u64, HostFault)>,
    ) -> Result<(), Fault> {
        let range = gva & !(PAGE - 1)..gva.saturating_add(len);
        let copied = self.cache.change_code(&self.host_range(gva, len), || {
            self.pages.with_rights(&range, rights, act)
        });
        copied.map_err(|(done, fault)| self.fault(gva.wrapping_add(done), fault))
    }

    fn fault(&self, address: u64, fault: HostFault) -> Fault {
        let kind = match fault {
            HostFault::Bus => MemoryFault::Bus,
            HostFault::Access => MemoryFault::Protected,
        };
        Fault { address, kind }
    }

    /// Forks the process by `fork`, which tells the side it comes back on. In the child, code that was
    /// translated stays and belongs to it; processors of other threads are to be leaked or dropped.
    /// No processor of the calling thread is in `run`.
    pub fn fork<T>(&self, fork: impl FnOnce() -> (Side, T)) -> T {
        self.cache.fork(fork)
    }
}

impl Drop for ProcessMemory {
    fn drop(&mut self) {
        if let Some(range) = &self.reserved {
            // SAFETY: reserved by `new`; with the memory, nothing reaches it any more.
            unsafe {
                libc::munmap(range.start as *mut libc::c_void, (range.end - range.start) as usize)
            };
        }
    }
}

pub(crate) fn wanted(access: Access) -> Rights {
    match access {
        Access::Load => Rights::READ,
        Access::Store => Rights::WRITE,
        Access::Atomic => Rights::READ | Rights::WRITE,
        Access::Fetch => Rights::EXECUTE,
    }
}

/// Reserves host addresses without memory.
fn reserve(len: u64) -> io::Result<Range<u64>> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: a mapping at an address of the kernel's choice aliases nothing.
    let at =
        unsafe { libc::mmap(std::ptr::null_mut(), len as usize, libc::PROT_NONE, flags, -1, 0) };
    match at {
        libc::MAP_FAILED => Err(io::Error::last_os_error()),
        at => Ok(at as u64..at as u64 + len),
    }
}
