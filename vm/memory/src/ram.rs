//! RAM blocks.
#![expect(unsafe_code, reason = "guest RAM is a host mapping that guests change at any time")]

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering, fence};
use std::sync::{Arc, OnceLock, Weak};

use crate::torn::Guard;

/// Granule of code tracking, in bytes.
pub const PAGE: u64 = 4096;

/// Learns of writes to pages that hold translated code.
pub trait CodeWatcher: Send + Sync {
    /// `len` bytes at host address `host` were written; both are inside one RAM block.
    fn code_written(&self, host: u64, len: u64);
}

/// A block of guest RAM: zero-filled, mapped at a fixed host address as long as it lives.
///
/// Guests and devices change it concurrently. All access is through volatile or atomic
/// operations; no reference to its bytes is ever handed out.
pub struct Ram {
    name: String,
    base: NonNull<u8>,
    len: u64,
    /// Bytes of the mapping, which may end behind the block.
    mapped: usize,
    /// One bit per page: translated code came from it.
    code: Box<[AtomicU64]>,
    watcher: OnceLock<Weak<dyn CodeWatcher>>,
    /// For memory of another process, which may take it away.
    guard: Option<Guard>,
}

// SAFETY: the mapping belongs to the block until it is dropped, and all access through `base` is
// volatile or atomic.
unsafe impl Send for Ram {}
// SAFETY: as above.
unsafe impl Sync for Ram {}

impl Ram {
    /// Maps `len` bytes (rounded up to whole pages) of zeros. Host memory is used page by page as
    /// the guest touches it.
    ///
    /// # Errors
    /// The host has no address space or memory for it.
    pub fn new(name: &str, len: u64) -> io::Result<Arc<Self>> {
        let too_large = || io::Error::from(io::ErrorKind::OutOfMemory);
        let len = len.max(1).checked_next_multiple_of(PAGE).ok_or_else(too_large)?;
        let size = usize::try_from(len).map_err(|_| too_large())?;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: an anonymous mapping at an address of the kernel's choice aliases nothing.
        let base = unsafe { libc::mmap(std::ptr::null_mut(), size, protection, flags, -1, 0) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the range is the mapping just made; the call is advice only.
        unsafe { libc::madvise(base, size, libc::MADV_HUGEPAGE) };
        let base = NonNull::new(base.cast()).ok_or_else(too_large)?;
        let words = (len / PAGE).div_ceil(64) as usize;
        let code = (0..words).map(|_| AtomicU64::new(0)).collect();
        let (name, watcher) = (name.into(), OnceLock::new());
        Ok(Arc::new(Self { name, base, len, mapped: size, code, watcher, guard: None }))
    }

    /// Maps the first `len` bytes of a file, shared with whoever else has it. No code is run from it,
    /// nobody watches it.
    ///
    /// The file may become shorter later: what is lost then reads as zeroes, see [`Ram::is_torn`].
    ///
    /// # Errors
    /// `InvalidInput` for a file that is shorter or has no length, else the host's.
    pub fn shared(name: &str, file: impl AsFd, len: u64) -> io::Result<Arc<Self>> {
        let wrong = || io::Error::from(io::ErrorKind::InvalidInput);
        let file = file.as_fd();
        // SAFETY: an all-zero struct stat is a valid one.
        let mut stat: libc::stat = unsafe { std::mem::zeroed() };
        // SAFETY: the descriptor is open for the borrow, and the kernel writes one struct stat.
        if unsafe { libc::fstat(file.as_raw_fd(), &mut stat) } == -1 {
            return Err(io::Error::last_os_error());
        }
        let there = u64::try_from(stat.st_size).unwrap_or(0);
        if stat.st_mode & libc::S_IFMT != libc::S_IFREG || len == 0 || len > there {
            return Err(wrong());
        }
        // Huge pages are mapped whole.
        let unit = u64::try_from(stat.st_blksize).unwrap_or(0).max(PAGE);
        let size = len.checked_next_multiple_of(unit).ok_or_else(wrong)?;
        let size = usize::try_from(size).map_err(|_| wrong())?;
        let flags = libc::MAP_SHARED | libc::MAP_NORESERVE;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let (nowhere, fd) = (std::ptr::null_mut(), file.as_raw_fd());
        // SAFETY: a mapping at an address of the kernel's choice aliases no memory of this process.
        let base = unsafe { libc::mmap(nowhere, size, protection, flags, fd, 0) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).ok_or_else(wrong)?;
        let guard = Guard::new(base.as_ptr() as usize, size);
        let (name, code, watcher) = (name.into(), Box::default(), OnceLock::new());
        let mut made = Self { name, base, len, mapped: size, code, watcher, guard: None };
        // What could not be guarded is unmapped again.
        made.guard = Some(guard?);
        Ok(Arc::new(made))
    }

    /// Whether memory of another process has been taken away: all of it reads as zeroes then, and
    /// what is written is lost.
    pub fn is_torn(&self) -> bool {
        self.guard.as_ref().is_some_and(Guard::is_torn)
    }

    /// Name of the block, such as `riscv_virt_board.ram`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Length in bytes, a multiple of the page size.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Never: a block has at least a page.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Host address of the first byte. Page-aligned; valid while the block lives.
    pub fn host_address(&self) -> u64 {
        self.base.as_ptr() as u64
    }

    /// Says who learns of writes to translated code; the first call counts.
    pub fn watch_code(&self, watcher: Weak<dyn CodeWatcher>) {
        let _ = self.watcher.set(watcher);
    }

    /// Marks the page at `offset` as one that code was translated from.
    pub fn set_code(&self, offset: u64) {
        let page = offset / PAGE;
        if let Some(word) = self.code.get((page / 64) as usize) {
            word.fetch_or(1 << (page % 64), Ordering::SeqCst);
        }
    }

    /// Forgets that code was translated from the page at `offset`.
    pub fn clear_code(&self, offset: u64) {
        let page = offset / PAGE;
        if let Some(word) = self.code.get((page / 64) as usize) {
            word.fetch_and(!(1 << (page % 64)), Ordering::SeqCst);
        }
    }

    /// Whether code was translated from the page at `offset`.
    pub fn has_code(&self, offset: u64) -> bool {
        let page = offset / PAGE;
        let word = self.code.get((page / 64) as usize);
        word.is_some_and(|w| w.load(Ordering::SeqCst) >> (page % 64) & 1 != 0)
    }

    /// Tells the watcher if a write of `len` bytes at `offset` touched translated code. Called by
    /// every writer but generated code, which never writes to such pages.
    pub fn note_write(&self, offset: u64, len: u64) {
        if len == 0 {
            return;
        }
        // The write is visible before the look: a translator that marks the page after the look
        // reads what was written.
        fence(Ordering::SeqCst);
        let last = offset.saturating_add(len - 1) / PAGE;
        if (offset / PAGE..=last).any(|page| self.has_code(page * PAGE))
            && let Some(watcher) = self.watcher.get().and_then(Weak::upgrade)
        {
            watcher.code_written(self.host_address() + offset, len);
        }
    }

    /// Pointer to `len` bytes at `offset`, if they lie in the block.
    fn at(&self, offset: u64, len: u64) -> Option<*mut u8> {
        let end = offset.checked_add(len)?;
        // SAFETY: the offset was checked against the mapping's length.
        (end <= self.len).then(|| unsafe { self.base.as_ptr().add(offset as usize) })
    }

    /// Copies out of the block. False, and nothing copied, when the range leaves it.
    #[must_use]
    pub fn read(&self, offset: u64, buffer: &mut [u8]) -> bool {
        let Some(from) = self.at(offset, buffer.len() as u64) else { return false };
        let (chunks, rest) = buffer.as_chunks_mut::<8>();
        for (i, chunk) in chunks.iter_mut().enumerate() {
            // SAFETY: inside the range checked by `at`.
            let from = unsafe { from.add(i * 8) };
            // SAFETY: readable memory of the mapping; any alignment and any bytes are allowed.
            *chunk = unsafe { from.cast::<[u8; 8]>().read_volatile() };
        }
        for (i, byte) in rest.iter_mut().enumerate() {
            // SAFETY: inside the range checked by `at`.
            let from = unsafe { from.add(chunks.len() * 8 + i) };
            // SAFETY: readable memory of the mapping.
            *byte = unsafe { from.read_volatile() };
        }
        true
    }

    /// Copies into the block. False, and nothing copied, when the range leaves it.
    #[must_use]
    pub fn write(&self, offset: u64, bytes: &[u8]) -> bool {
        let Some(to) = self.at(offset, bytes.len() as u64) else { return false };
        let (chunks, rest) = bytes.as_chunks::<8>();
        for (i, chunk) in chunks.iter().enumerate() {
            // SAFETY: inside the range checked by `at`.
            let to = unsafe { to.add(i * 8) };
            // SAFETY: writable memory of the mapping; any alignment is allowed.
            unsafe { to.cast::<[u8; 8]>().write_volatile(*chunk) };
        }
        for (i, byte) in rest.iter().enumerate() {
            // SAFETY: inside the range checked by `at`.
            let to = unsafe { to.add(chunks.len() * 8 + i) };
            // SAFETY: writable memory of the mapping.
            unsafe { to.write_volatile(*byte) };
        }
        self.note_write(offset, bytes.len() as u64);
        true
    }
}

impl Ram {
    /// Gives the whole pages in `len` bytes from `offset` on back to the host; they read as zeros.
    /// False, and nothing happens, when the range leaves the block or the host refuses.
    pub fn discard(&self, offset: u64, len: u64) -> bool {
        let Some(start) = offset.checked_next_multiple_of(PAGE) else { return false };
        let end = offset.saturating_add(len) / PAGE * PAGE;
        if self.guard.is_some() {
            // Its pages are not ours to give.
            return false;
        }
        if end <= start {
            return self.at(offset, len).is_some();
        }
        let Some(at) = self.at(start, end - start) else { return false };
        // SAFETY: whole pages inside the private anonymous mapping, to which no reference exists;
        // they stay mapped and read as zeros from now on.
        let failed =
            unsafe { libc::madvise(at.cast(), (end - start) as usize, libc::MADV_DONTNEED) };
        self.note_write(start, end - start);
        failed == 0
    }
}

macro_rules! atomics {
    ($($load:ident $store:ident $exchange:ident $t:ty, $atomic:ty;)*) => { impl Ram { $(
        /// Loads a little-endian value with acquire ordering, in one piece when aligned. `None`
        /// outside the block.
        pub fn $load(&self, offset: u64) -> Option<$t> {
            let at = self.at(offset, size_of::<$t>() as u64)?.cast::<$t>();
            let value = if at.is_aligned() {
                // SAFETY: aligned memory of the mapping, accessed only atomically or volatile.
                unsafe { <$atomic>::from_ptr(at) }.load(Ordering::Acquire)
            } else {
                // SAFETY: readable memory of the mapping; the array type needs no alignment.
                <$t>::from_ne_bytes(unsafe { at.cast::<[u8; size_of::<$t>()]>().read_volatile() })
            };
            Some(<$t>::from_le(value))
        }

        /// Stores a little-endian value with release ordering, in one piece when aligned. False
        /// outside the block.
        #[must_use]
        pub fn $store(&self, offset: u64, value: $t) -> bool {
            let Some(at) = self.at(offset, size_of::<$t>() as u64) else { return false };
            let (at, value) = (at.cast::<$t>(), value.to_le());
            if at.is_aligned() {
                // SAFETY: aligned memory of the mapping, accessed only atomically or volatile.
                unsafe { <$atomic>::from_ptr(at) }.store(value, Ordering::Release);
            } else {
                // SAFETY: writable memory of the mapping; the array type needs no alignment.
                unsafe { at.cast::<[u8; size_of::<$t>()]>().write_volatile(value.to_ne_bytes()) };
            }
            self.note_write(offset, size_of::<$t>() as u64);
            true
        }

        /// Replaces `old` by `new` if that is what is there; returns what was there. `None` when
        /// misaligned or outside the block.
        pub fn $exchange(&self, offset: u64, old: $t, new: $t) -> Option<$t> {
            let at = self.at(offset, size_of::<$t>() as u64)?.cast::<$t>();
            if !at.is_aligned() {
                return None;
            }
            // SAFETY: aligned memory of the mapping, accessed only atomically or volatile.
            let cell = unsafe { <$atomic>::from_ptr(at) };
            let (old, new) = (old.to_le(), new.to_le());
            let was = cell.compare_exchange(old, new, Ordering::SeqCst, Ordering::SeqCst);
            if was.is_ok() {
                self.note_write(offset, size_of::<$t>() as u64);
            }
            Some(<$t>::from_le(was.unwrap_or_else(|w| w)))
        }
    )* } };
}

atomics! {
    load_u8 store_u8 exchange_u8 u8, AtomicU8;
    load_u16 store_u16 exchange_u16 u16, AtomicU16;
    load_u32 store_u32 exchange_u32 u32, AtomicU32;
    load_u64 store_u64 exchange_u64 u64, AtomicU64;
}

impl Drop for Ram {
    fn drop(&mut self) {
        // Before the address can be that of something else.
        self.guard = None;
        // SAFETY: the mapping was made with this length and nothing refers to it any more.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.mapped) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[test]
    fn ranges_that_leave_the_block_are_refused() {
        let ram = Ram::new("ram", 5000).unwrap();
        assert_eq!(ram.len(), 8192);
        assert!(ram.write(8190, &[1, 2]));
        assert!(!ram.write(8191, &[1, 2]));
        assert!(!ram.read(u64::MAX, &mut [0; 2]));
        assert_eq!(ram.load_u16(8190), Some(0x0201));
        assert_eq!(ram.load_u32(8190), None);
        assert_eq!(ram.exchange_u16(8190, 0x0201, 7), Some(0x0201));
        assert_eq!(ram.load_u8(8190), Some(7));
    }

    #[test]
    fn discarded_pages_read_as_zeros() {
        let ram = Ram::new("ram", 4 * PAGE).unwrap();
        assert!(ram.write(0, &[7; 4 * PAGE as usize]));
        assert!(ram.discard(PAGE - 1, PAGE + 2));
        assert_eq!(ram.load_u8(PAGE - 1), Some(7));
        assert_eq!(ram.load_u64(PAGE), Some(0));
        assert_eq!(ram.load_u8(2 * PAGE), Some(7));
        assert!(!ram.discard(3 * PAGE, 2 * PAGE));
        assert!(!ram.discard(u64::MAX - 10, 4));
    }

    fn file(len: u64) -> std::fs::File {
        // SAFETY: the name is a C string; the call makes a descriptor.
        let fd = unsafe { libc::memfd_create(c"ram".as_ptr(), libc::MFD_CLOEXEC) };
        assert!(fd >= 0);
        // SAFETY: the descriptor was just made and nobody else has it.
        let file: std::fs::File = unsafe { std::os::fd::FromRawFd::from_raw_fd(fd) };
        file.set_len(len).unwrap();
        file
    }

    #[test]
    fn a_file_is_shared_memory() {
        let file = file(8192);
        assert!(Ram::shared("ram", &file, 8193).is_err());
        assert!(Ram::shared("ram", &file, 0).is_err());
        let (one, other) = (Ram::shared("one", &file, 8192), Ram::shared("other", &file, 5000));
        let (one, other) = (one.unwrap(), other.unwrap());
        assert!(one.store_u32(4096, 0x0403_0201));
        assert_eq!(other.load_u32(4096), Some(0x0403_0201));
        assert_eq!(other.load_u32(4998), None);
        let mut read = [0; 4];
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut read, 4096).unwrap();
        assert_eq!(read, [1, 2, 3, 4]);
    }

    #[test]
    fn a_file_that_shrinks_ends_nobody() {
        let file = file(8192);
        let ram = Ram::shared("ram", &file, 8192).unwrap();
        assert!(ram.store_u32(4096, 7));
        file.set_len(4096).unwrap();
        assert!(!ram.is_torn());
        assert_eq!(ram.load_u32(4096), Some(0));
        assert!(ram.is_torn());
        assert!(ram.store_u32(0, 7));
        // Others go on.
        let whole = Ram::shared("whole", &file, 4096).unwrap();
        assert!(!whole.is_torn());
    }

    struct Log(Mutex<Vec<(u64, u64)>>);
    impl CodeWatcher for Log {
        fn code_written(&self, host: u64, len: u64) {
            self.0.lock().unwrap().push((host, len));
        }
    }

    #[test]
    fn writes_to_code_pages_are_told() {
        let ram = Ram::new("ram", 4 * PAGE).unwrap();
        let log = Arc::new(Log(Mutex::default()));
        ram.watch_code(Arc::downgrade(&log) as Weak<dyn CodeWatcher>);
        ram.set_code(2 * PAGE);
        assert!(ram.write(PAGE, &[0; 4]));
        assert!(ram.write(2 * PAGE - 2, &[0; 4]));
        ram.clear_code(2 * PAGE);
        assert!(ram.store_u32(2 * PAGE, 1));
        assert_eq!(*log.0.lock().unwrap(), [(ram.host_address() + 2 * PAGE - 2, 4)]);
    }
}
