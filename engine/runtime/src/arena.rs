//! Memory for generated code: one memfd mapped twice, writable and executable, never both; in user
//! mode private memory that is both, which a fork copies (decision 16).
#![expect(unsafe_code, reason = "generated code is written through a mapping of its own")]

use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

/// A double mapping of code memory.
pub(crate) struct Arena {
    write: NonNull<u8>,
    execute: NonNull<u8>,
    len: usize,
    /// The bytes before this have memory behind them.
    backed: usize,
}

/// Bytes that get memory at a time: one call costs less than a fault for each page.
const STEP: usize = 128 << 10;

// SAFETY: the mappings belong to the arena until it is dropped. Writes go through `&mut self` or
// are atomic.
unsafe impl Send for Arena {}
// SAFETY: as above.
unsafe impl Sync for Arena {}

impl Arena {
    /// Maps `len` bytes.
    ///
    /// # Errors
    /// The host has no memory file or refuses executable mappings.
    pub(crate) fn new(len: usize) -> io::Result<Self> {
        // SAFETY: the name is a C string; the call touches nothing else.
        let fd = unsafe { libc::memfd_create(c"tinamou-code".as_ptr(), libc::MFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `fd` was just made and belongs to us.
        let sized = unsafe { libc::ftruncate(fd, len as libc::off_t) };
        let failed = if sized == 0 { None } else { Some(io::Error::last_os_error()) };
        let map = |protection| {
            // SAFETY: a mapping of our own file at an address of the kernel's choice.
            let at = unsafe {
                libc::mmap(std::ptr::null_mut(), len, protection, libc::MAP_SHARED, fd, 0)
            };
            match NonNull::new(at.cast::<u8>()) {
                Some(at) if at.as_ptr().cast() != libc::MAP_FAILED => Ok(at),
                _ => Err(io::Error::last_os_error()),
            }
        };
        let write = map(libc::PROT_READ | libc::PROT_WRITE);
        let execute = map(libc::PROT_READ | libc::PROT_EXEC);
        // SAFETY: closing our own descriptor; the mappings stay.
        unsafe { libc::close(fd) };
        if let Some(error) = failed {
            return Err(error);
        }
        Ok(Self { write: write?, execute: execute?, len, backed: 0 })
    }

    /// Maps `len` bytes that belong to this process alone: a fork copies them.
    ///
    /// # Errors
    /// The host refuses memory that is both writable and executable.
    pub(crate) fn private(len: usize) -> io::Result<Self> {
        let rights = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a mapping at an address of the kernel's choice aliases nothing.
        let at = unsafe { libc::mmap(std::ptr::null_mut(), len, rights, flags, -1, 0) };
        match NonNull::new(at.cast::<u8>()) {
            Some(both) if at != libc::MAP_FAILED => {
                Ok(Self { write: both, execute: both, len, backed: 0 })
            }
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// No memory at all, for hosts without generated code.
    pub(crate) fn empty() -> Self {
        Self { write: NonNull::dangling(), execute: NonNull::dangling(), len: 0, backed: 0 }
    }

    /// Bytes in all.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Address at which the byte at `offset` is executed.
    pub(crate) fn address(&self, offset: usize) -> u64 {
        self.execute.as_ptr() as u64 + offset as u64
    }

    /// Writes code that nothing executes yet.
    pub(crate) fn write(&mut self, offset: usize, code: &[u8]) {
        assert!(offset + code.len() <= self.len, "the caller allocated the range");
        if offset + code.len() > self.backed {
            self.back(offset + code.len());
        }
        // SAFETY: inside the mapping, as just checked.
        let to = unsafe { self.write.as_ptr().add(offset) };
        // SAFETY: `to` has room for the code, and nothing else refers to the writable mapping.
        unsafe { std::ptr::copy_nonoverlapping(code.as_ptr(), to, code.len()) };
    }

    /// Gives memory to the bytes before `end`, and to some more. Where the host does not know how to,
    /// each page gets its own when it is written.
    fn back(&mut self, end: usize) {
        let (from, to) = (self.backed, end.next_multiple_of(STEP).min(self.len));
        // SAFETY: inside the mapping.
        let at = unsafe { self.write.as_ptr().add(from) };
        // SAFETY: gives pages to the mapping, and changes none.
        unsafe { libc::madvise(at.cast(), to - from, libc::MADV_POPULATE_WRITE) };
        self.backed = to;
    }

    /// Writes the byte at host address `at`, which others may be reading.
    pub(crate) fn mark(&self, at: u64, value: u8) {
        let offset = (at - self.execute.as_ptr() as u64) as usize;
        assert!(offset < self.len, "marks are in the arena");
        // SAFETY: inside the mapping, as just checked.
        let at = unsafe { self.write.as_ptr().add(offset) };
        // SAFETY: only accessed atomically once it can be read.
        unsafe { AtomicU8::from_ptr(at) }.store(value, Ordering::Release);
    }

    /// Where code is executed. Only its owner may keep it, and not longer than the arena.
    pub(crate) fn window(&self) -> Window {
        Window { base: self.execute.as_ptr() as u64, len: self.len }
    }

    /// The displacement at host address `slot`.
    pub(crate) fn displacement(&self, slot: u64) -> i32 {
        let offset = (slot - self.execute.as_ptr() as u64) as usize;
        assert!(offset + 4 <= self.len && offset.is_multiple_of(4), "slots are in the arena");
        // SAFETY: inside the mapping, as just checked.
        let at = unsafe { self.write.as_ptr().add(offset) };
        // SAFETY: aligned, and only accessed atomically once it is executable.
        unsafe { AtomicU32::from_ptr(at.cast()) }.load(Ordering::Acquire).cast_signed()
    }

    /// Changes the aligned displacement at host address `slot` in one store, so that the jump it
    /// belongs to goes to `target`, while others may be executing it.
    pub(crate) fn patch(&self, slot: u64, target: u64) {
        let offset = (slot - self.execute.as_ptr() as u64) as usize;
        assert!(offset + 4 <= self.len && offset.is_multiple_of(4), "slots are in the arena");
        let disp = target.wrapping_sub(slot + 4) as u32;
        // SAFETY: inside the mapping, as just checked.
        let at = unsafe { self.write.as_ptr().add(offset) };
        // SAFETY: aligned, and only accessed atomically once it is executable.
        unsafe { AtomicU32::from_ptr(at.cast()) }.store(disp, Ordering::Release);
    }
}

/// The executable side of an arena, to be read without its lock.
#[derive(Clone, Copy)]
pub(crate) struct Window {
    base: u64,
    len: usize,
}

impl Window {
    /// Whether the byte at host address `at` is in the arena.
    pub(crate) fn contains(&self, at: u64) -> bool {
        at.wrapping_sub(self.base) < self.len as u64
    }

    /// The byte at host address `at`.
    pub(crate) fn marked(&self, at: u64) -> u8 {
        assert!(at.wrapping_sub(self.base) < self.len as u64, "marks are in the arena");
        // SAFETY: inside the mapping, which the window's owner keeps; marks change atomically.
        unsafe { AtomicU8::from_ptr(at as *mut u8) }.load(Ordering::Acquire)
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        if self.len == 0 {
            return;
        }
        let both = [self.write, self.execute];
        let different = if self.write == self.execute { &both[..1] } else { &both[..] };
        for base in different {
            // SAFETY: made by `new` with this length; nothing refers to it any more.
            unsafe { libc::munmap(base.as_ptr().cast(), self.len) };
        }
    }
}
