//! The program's address space: host mappings at `guest address + base`, and a map of them.
//!
//! A 64-bit program has its addresses as they are (base 0) and gets the part of the address space
//! below everything of ours: the host gives its own mappings places at the top, and the program's
//! places are chosen here. A 32-bit program lives in a window that is reserved as a whole. What may
//! be executed is readable on the host and nothing more: nothing of the program runs as it is.
//!
//! The lock of the map is held while host mappings change, so that the map and they agree.
#![expect(unsafe_code, reason = "host memory is mapped and unmapped for the guest")]

use crate::errno::{Done, Errno};
use crate::map::{Kind, Map, Region};
use crate::sys;
use runtime::{ProcessMemory, Rights};
use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes of a page.
pub const PAGE: u64 = 4096;
/// Below this address no program may map anything.
const LOWEST: u64 = 0x10000;
/// No program runs in fewer addresses.
const SMALLEST: u64 = 16 << 20;
/// Where the addresses of 64-bit programs end, unless something of ours lies below.
const HIGHEST: u64 = 0x4000_0000_0000;

/// Rights as in `mmap`.
pub mod prot {
    /// May be read.
    pub const READ: u32 = libc::PROT_READ as u32;
    /// May be written.
    pub const WRITE: u32 = libc::PROT_WRITE as u32;
    /// May be executed.
    pub const EXEC: u32 = libc::PROT_EXEC as u32;
    /// All of them.
    pub const ALL: u32 = READ | WRITE | EXEC;
}

/// An address space.
pub struct Space {
    /// Host address of guest address 0.
    pub base: u64,
    /// Guest addresses end here.
    pub limit: u64,
    /// Whether the whole of it is kept reserved on the host.
    reserved: bool,
    memory: Arc<ProcessMemory>,
    map: Mutex<Map>,
}

/// Values that are the same in guest and host memory.
///
/// # Safety
/// Every pattern of bits must be a value, and there must be no padding.
pub unsafe trait Plain: Copy {}
// SAFETY: integers.
unsafe impl Plain for u8 {}
// SAFETY: integers.
unsafe impl Plain for u16 {}
// SAFETY: integers.
unsafe impl Plain for u32 {}
// SAFETY: integers.
unsafe impl Plain for i32 {}
// SAFETY: integers.
unsafe impl Plain for u64 {}
// SAFETY: integers.
unsafe impl Plain for i64 {}
// SAFETY: arrays have no padding of their own.
unsafe impl<T: Plain, const N: usize> Plain for [T; N] {}

/// Rounds up to a page; `None` where that leaves the numbers.
pub fn page_up(address: u64) -> Option<u64> {
    Some(address.checked_add(PAGE - 1)? & !(PAGE - 1))
}

/// The page of an address.
pub const fn page_down(address: u64) -> u64 {
    address & !(PAGE - 1)
}

/// Rights as the translator has them.
fn rights_of(region: &Region) -> Rights {
    let table =
        [(prot::READ, Rights::READ), (prot::WRITE, Rights::WRITE), (prot::EXEC, Rights::EXECUTE)];
    let given = table.into_iter().filter(|(bit, _)| region.rights & bit != 0);
    let rights = given.fold(Rights::NONE, |all, (_, right)| all | right);
    if region.shared { rights | Rights::ALIASED } else { rights }
}

/// Rights on the host for those of the guest.
fn host_rights(region: &Region) -> u64 {
    rights_of(region).host() as u64
}

/// The lowest address that this process uses.
fn lowest_of_ours() -> u64 {
    // The kernel lists mappings from the lowest on, each from its start; the others cost time.
    let mut line = [0; 24];
    let read = File::open("/proc/self/maps").and_then(|mut maps| maps.read(&mut line));
    let text = std::str::from_utf8(&line[..read.unwrap_or(0)]).unwrap_or_default();
    let start = text.split_once('-').and_then(|(start, _)| u64::from_str_radix(start, 16).ok());
    let here = page_down(&raw const line as u64).min(lowest_of_ours as *const () as u64);
    start.unwrap_or(u64::MAX).min(here) & !0xffff
}

impl Space {
    /// An empty address space in a process's memory, for addresses below `most` only, if the user
    /// says so.
    ///
    /// # Errors
    /// The host has no room.
    pub fn new(memory: Arc<ProcessMemory>, most: Option<u64>) -> Result<Self, Errno> {
        let base = memory.base();
        let reserved = base != 0;
        let room = if reserved { memory.limit() } else { lowest_of_ours().min(HIGHEST) };
        let limit = room.min(memory.limit()).min(most.unwrap_or(u64::MAX));
        if limit < SMALLEST {
            return Err(Errno::ENOMEM);
        }
        let map = Mutex::new(Map::new(LOWEST, limit));
        Ok(Self { base, limit, reserved, memory, map })
    }

    /// The translator's view of it.
    pub fn memory(&self) -> &Arc<ProcessMemory> {
        &self.memory
    }

    /// The map of what lies where.
    pub fn map(&self) -> MutexGuard<'_, Map> {
        self.map.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Host address of `len` bytes at a guest address, which need not be mapped.
    ///
    /// # Errors
    /// They are no addresses of a program.
    pub fn host(&self, address: u64, len: u64) -> Done {
        match address.checked_add(len) {
            Some(end) if end <= self.limit => Ok(self.base + address),
            _ => Err(Errno::EFAULT),
        }
    }

    /// Host pointer for an argument; null stays null.
    ///
    /// # Errors
    /// As [`Space::host`].
    pub fn pointer(&self, address: u64, len: u64) -> Done {
        if address == 0 { Ok(0) } else { self.host(address, len) }
    }

    /// Guest address of a host address.
    pub fn guest(&self, host: u64) -> u64 {
        host.wrapping_sub(self.base)
    }

    // ---- contents ----

    /// Reads bytes.
    ///
    /// # Errors
    /// Not all of them can be read.
    pub fn read_bytes(&self, address: u64, bytes: &mut [u8]) -> Result<(), Errno> {
        self.host(address, bytes.len() as u64)?;
        self.memory.read(address, bytes).map_err(|_| Errno::EFAULT)
    }

    /// Writes bytes.
    ///
    /// # Errors
    /// Not all of them can be written; some may be.
    pub fn write_bytes(&self, address: u64, bytes: &[u8]) -> Result<(), Errno> {
        self.host(address, bytes.len() as u64)?;
        self.memory.write(address, bytes).map_err(|_| Errno::EFAULT)
    }

    /// Reads a value.
    ///
    /// # Errors
    /// As [`Space::read_bytes`].
    pub fn read<T: Plain>(&self, address: u64) -> Result<T, Errno> {
        // SAFETY: zeroes are a value of every plain type.
        let mut value: T = unsafe { std::mem::zeroed() };
        let (at, len) = ((&raw mut value).cast::<u8>(), size_of::<T>());
        // SAFETY: the value is plain: these are its bytes, and any may be put there.
        self.read_bytes(address, unsafe { std::slice::from_raw_parts_mut(at, len) })?;
        Ok(value)
    }

    /// Writes a value.
    ///
    /// # Errors
    /// As [`Space::write_bytes`].
    pub fn write<T: Plain>(&self, address: u64, value: T) -> Result<(), Errno> {
        let (at, len) = ((&raw const value).cast::<u8>(), size_of::<T>());
        // SAFETY: the value is plain: all of its bytes are initialised.
        self.write_bytes(address, unsafe { std::slice::from_raw_parts(at, len) })
    }

    /// Reads values.
    ///
    /// # Errors
    /// As [`Space::read_bytes`].
    pub fn read_list<T: Plain>(&self, address: u64, count: usize) -> Result<Vec<T>, Errno> {
        let step = size_of::<T>() as u64;
        (0..count as u64).map(|n| self.read(address.wrapping_add(n * step))).collect()
    }

    /// Reads a string that ends with a zero, without it.
    ///
    /// # Errors
    /// It cannot be read, or has `limit` bytes or more.
    pub fn read_string(&self, address: u64, limit: usize) -> Result<Vec<u8>, Errno> {
        let mut text = Vec::new();
        let mut piece = [0; 256];
        let mut at = address;
        loop {
            // Pieces do not cross pages: the next page need not be there.
            let len = (PAGE - at % PAGE).min(piece.len() as u64) as usize;
            self.read_bytes(at, &mut piece[..len])?;
            if let Some(end) = piece[..len].iter().position(|b| *b == 0) {
                text.extend_from_slice(&piece[..end]);
                return if text.len() < limit { Ok(text) } else { Err(Errno::ENAMETOOLONG) };
            }
            text.extend_from_slice(&piece[..len]);
            if text.len() >= limit {
                return Err(Errno::ENAMETOOLONG);
            }
            at += len as u64;
        }
    }

    /// Reads a path.
    ///
    /// # Errors
    /// As [`Space::read_string`].
    pub fn read_path(&self, address: u64) -> Result<Vec<u8>, Errno> {
        self.read_string(address, libc::PATH_MAX as usize)
    }

    /// Takes out of the host kernel's way what the engine has in a range. Whether there was anything.
    pub fn open_for_kernel(&self, address: u64, len: u64) -> bool {
        let end = address.saturating_add(len).min(self.limit);
        address < end && self.memory.prepare_write(address, end - address)
    }

    /// Reads bytes for a debugger, whatever the rights are.
    ///
    /// # Errors
    /// Not all of them are there.
    pub fn peek(&self, address: u64, bytes: &mut [u8]) -> Result<(), Errno> {
        self.host(address, bytes.len() as u64)?;
        self.memory.peek(address, bytes).map_err(|_| Errno::EFAULT)
    }

    /// The same: as many bytes as there are, page by page.
    pub fn peek_some(&self, address: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        let mut done = 0;
        while done < len {
            let Some(at) = address.checked_add(done as u64) else { break };
            let next = ((PAGE - at % PAGE) as usize).min(len - done);
            if self.peek(at, &mut bytes[done..done + next]).is_err() {
                break;
            }
            done += next;
        }
        bytes.truncate(done);
        bytes
    }

    /// Writes bytes for a debugger, whatever the rights are.
    ///
    /// # Errors
    /// Not all of them can be written; some may be.
    pub fn poke(&self, address: u64, bytes: &[u8]) -> Result<(), Errno> {
        self.host(address, bytes.len() as u64)?;
        self.memory.poke(address, bytes).map_err(|_| Errno::EFAULT)
    }

    // ---- mappings ----

    /// Pages of `len` bytes from `address` on.
    fn pages(&self, address: u64, len: u64) -> Result<Range<u64>, Errno> {
        if len == 0 || !address.is_multiple_of(PAGE) {
            return Err(Errno::EINVAL);
        }
        let end = address.checked_add(page_up(len).ok_or(Errno::ENOMEM)?).ok_or(Errno::ENOMEM)?;
        if end > self.limit { Err(Errno::ENOMEM) } else { Ok(address..end) }
    }

    /// `mmap`.
    ///
    /// # Errors
    /// As the call.
    pub fn mmap(&self, request: Request) -> Done {
        let Request { address, len, rights, flags, fd, offset, kind } = request;
        if len == 0 {
            return Err(Errno::EINVAL);
        }
        let len = page_up(len).filter(|len| *len <= self.limit).ok_or(Errno::ENOMEM)?;
        let mut map = self.map();
        let replace = flags & (libc::MAP_FIXED | libc::MAP_FIXED_NOREPLACE) != 0;
        let range = if replace {
            let range = self.pages(address, len)?;
            if range.start < LOWEST {
                return Err(Errno::EPERM);
            }
            if flags & libc::MAP_FIXED_NOREPLACE != 0 && !map.is_free(&range) {
                return Err(Errno::EEXIST);
            }
            range
        } else {
            let huge = flags & libc::MAP_HUGETLB != 0;
            let align = if huge { 2 << 20 } else { PAGE };
            map.place(page_down(address), len, align).ok_or(Errno::ENOMEM)?
        };
        // What the program leaves to the kernel in other ways is done here or has no meaning.
        let dropped = libc::MAP_GROWSDOWN | libc::MAP_FIXED_NOREPLACE | libc::MAP_32BIT;
        let host_flags = flags & !dropped | libc::MAP_FIXED;
        let shared = flags & libc::MAP_TYPE != libc::MAP_PRIVATE;
        let region = Region { rights, shared, kind };
        let (at, fd) = (self.base + range.start, i64::from(fd) as u64);
        let args = [at, len, host_rights(&region), host_flags as u64, fd, offset];
        self.change(&range, Some(&region), || sys::call(libc::SYS_mmap, args))?;
        map.insert(range.clone(), region);
        Ok(range.start)
    }

    /// Memory for ourselves in the program's space: stacks, trampolines.
    ///
    /// # Errors
    /// There is no room.
    pub fn allocate(&self, address: u64, len: u64, rights: u32, kind: Kind) -> Done {
        let fixed = if address == 0 { 0 } else { libc::MAP_FIXED_NOREPLACE };
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | fixed;
        self.mmap(Request { address, len, rights, flags, fd: -1, offset: 0, kind })
    }

    /// Changes what a range is, by `act`, and tells the translator.
    fn change(
        &self,
        range: &Range<u64>,
        region: Option<&Region>,
        act: impl FnOnce() -> Done,
    ) -> Done {
        let len = range.end - range.start;
        self.memory.change(range.start, len, region.map(rights_of), act)
    }

    /// Takes a range out of the host's mappings.
    fn release(&self, range: &Range<u64>) -> Done {
        let (at, len) = (self.base + range.start, range.end - range.start);
        if !self.reserved {
            return sys::call(libc::SYS_munmap, [at, len, 0, 0, 0, 0]);
        }
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED;
        sys::call(libc::SYS_mmap, [at, len, 0, flags as u64, u64::MAX, 0])
    }

    /// `munmap`.
    ///
    /// # Errors
    /// As the call.
    pub fn munmap(&self, address: u64, len: u64) -> Done {
        let range = self.pages(address, len).map_err(|_| Errno::EINVAL)?;
        let mut map = self.map();
        self.change(&range, None, || self.release(&range))?;
        map.remove(range);
        Ok(0)
    }

    /// `mprotect`.
    ///
    /// # Errors
    /// As the call.
    pub fn mprotect(&self, address: u64, len: u64, rights: u64) -> Done {
        let odd = (libc::PROT_GROWSDOWN | libc::PROT_GROWSUP) as u64;
        if !address.is_multiple_of(PAGE) || rights & !(u64::from(prot::ALL) | odd) != 0 {
            return Err(Errno::EINVAL);
        }
        if len == 0 {
            return Ok(0);
        }
        let rights = rights as u32 & prot::ALL;
        let range = self.pages(address, len)?;
        let mut map = self.map();
        let parts = map.parts(&range);
        let whole = parts.iter().map(|(part, _)| part.end - part.start).sum::<u64>();
        for (part, region) in parts {
            let (at, len) = (self.base + part.start, part.end - part.start);
            let region = Region { rights, ..region };
            let args = [at, len, host_rights(&region), 0, 0, 0];
            self.change(&part, Some(&region), || sys::call(libc::SYS_mprotect, args))?;
            map.insert(part, region);
        }
        if whole < range.end - range.start { Err(Errno::ENOMEM) } else { Ok(0) }
    }

    /// `mremap`.
    ///
    /// # Errors
    /// As the call.
    pub fn mremap(&self, args: &[u64; 6]) -> Done {
        let [old, old_len, new_len, flags, wanted, _] = *args;
        let flags = flags as i32;
        let may_move = flags & libc::MREMAP_MAYMOVE != 0;
        let fixed = flags & libc::MREMAP_FIXED != 0;
        let keep = flags & libc::MREMAP_DONTUNMAP != 0;
        let known = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED | libc::MREMAP_DONTUNMAP;
        if flags & !known != 0 || (fixed || keep) && !may_move || new_len == 0 {
            return Err(Errno::EINVAL);
        }
        if !old.is_multiple_of(PAGE) || keep && old_len != new_len {
            return Err(Errno::EINVAL);
        }
        let (old_len, new_len) =
            (page_up(old_len).ok_or(Errno::EINVAL)?, page_up(new_len).ok_or(Errno::EINVAL)?);
        if new_len > self.limit {
            return Err(Errno::ENOMEM);
        }
        let mut map = self.map();
        let source = self.pages(old, old_len.max(PAGE)).map_err(|_| Errno::EINVAL)?;
        let parts = map.parts(&source);
        let covered = parts.iter().map(|(part, _)| part.end - part.start).sum::<u64>();
        let Some(region) = parts.first().map(|(_, region)| region.clone()) else {
            return Err(Errno::EFAULT);
        };
        if covered < source.end - source.start {
            return Err(Errno::EFAULT);
        }
        if !fixed && !keep && new_len <= old_len {
            if new_len < old_len {
                let tail = old + new_len..old + old_len;
                self.change(&tail, None, || self.release(&tail))?;
                map.remove(tail);
            }
            return Ok(old);
        }
        let growth = old.saturating_add(old_len)..old.saturating_add(new_len);
        let in_place = !fixed && !keep && growth.end <= self.limit && map.is_free(&growth);
        if in_place && old_len > 0 {
            self.give_up(&growth)?;
            let args = [self.base + old, old_len, new_len, 0, 0, 0];
            match self.change(&growth, Some(&region), || sys::call(libc::SYS_mremap, args)) {
                Ok(_) => {
                    map.insert(growth, region);
                    return Ok(old);
                }
                Err(error) => {
                    self.take_back(&growth)?;
                    if !may_move {
                        return Err(error);
                    }
                }
            }
        }
        if !may_move {
            return Err(Errno::ENOMEM);
        }
        let target = if fixed {
            let target = self.pages(wanted, new_len).map_err(|_| Errno::EINVAL)?;
            if target.start < source.end && source.start < target.end {
                return Err(Errno::EINVAL);
            }
            target
        } else {
            map.place(page_down(wanted), new_len, PAGE).ok_or(Errno::ENOMEM)?
        };
        let host_flags = flags | libc::MREMAP_FIXED | libc::MREMAP_MAYMOVE;
        let to = self.base + target.start;
        let args = [self.base + old, old_len, new_len, host_flags as u64, to, 0];
        // Pages move with the rights they have on the host: no code may be guarded there.
        self.memory.forget_code(source.start, source.end - source.start);
        self.change(&target, Some(&region), || {
            let done = sys::call(libc::SYS_mremap, args)?;
            let rights = [to, new_len, host_rights(&region), 0, 0, 0];
            sys::call(libc::SYS_mprotect, rights)?;
            Ok(done)
        })?;
        if !keep && old_len > 0 {
            let len = source.end - source.start;
            self.memory.set_rights(source.start, len, None);
        }
        if !keep && old_len > 0 {
            self.take_back(&source)?;
            map.remove(source);
        }
        map.insert(target.clone(), region);
        Ok(target.start)
    }

    /// Takes the reservation away from a range that the kernel is to use.
    fn give_up(&self, range: &Range<u64>) -> Result<(), Errno> {
        if !self.reserved || range.is_empty() {
            return Ok(());
        }
        let (at, len) = (self.base + range.start, range.end - range.start);
        sys::call(libc::SYS_munmap, [at, len, 0, 0, 0, 0]).map(|_| ())
    }

    /// Reserves a range again that the kernel has left.
    fn take_back(&self, range: &Range<u64>) -> Result<(), Errno> {
        if self.reserved && !range.is_empty() { self.release(range).map(|_| ()) } else { Ok(()) }
    }

    /// `brk`: the end of the heap afterwards.
    pub fn brk(&self, wanted: u64) -> u64 {
        let (start, end) = self.map().heap;
        let (Some(from), Some(to)) = (page_up(end), page_up(wanted)) else { return end };
        if wanted < start || to > self.limit {
            return end;
        }
        if to > from {
            if self.allocate(from, to - from, prot::READ | prot::WRITE, Kind::Heap).is_err() {
                return end;
            }
        } else if to < from && self.munmap(to, from - to).is_err() {
            return end;
        }
        self.map().heap.1 = wanted;
        wanted
    }

    /// `shmat`.
    ///
    /// # Errors
    /// As the call.
    pub fn shmat(&self, id: u64, address: u64, flags: u64) -> Done {
        let mut about = std::mem::MaybeUninit::<libc::shmid_ds>::zeroed();
        let args = [id, libc::IPC_STAT as u64, about.as_mut_ptr() as u64, 0, 0, 0];
        sys::call(libc::SYS_shmctl, args)?;
        // SAFETY: the kernel has filled it in.
        let len = unsafe { about.assume_init() }.shm_segsz as u64;
        let len = page_up(len).ok_or(Errno::EINVAL)?;
        let mut map = self.map();
        let range = if address == 0 {
            map.place(0, len, PAGE).ok_or(Errno::ENOMEM)?
        } else {
            let rounded = flags & libc::SHM_RND as u64 != 0;
            let start = if rounded { page_down(address) } else { address };
            let range = self.pages(start, len)?;
            if flags & libc::SHM_REMAP as u64 == 0 && !map.is_free(&range) {
                return Err(Errno::EINVAL);
            }
            range
        };
        let (exec, only_read) = (libc::SHM_EXEC as u64, libc::SHM_RDONLY as u64);
        let write = if flags & only_read != 0 { 0 } else { prot::WRITE };
        let execute = if flags & exec != 0 { prot::EXEC } else { 0 };
        let region =
            Region { rights: prot::READ | write | execute, shared: true, kind: Kind::Other };
        let host_flags = flags & !exec | libc::SHM_REMAP as u64;
        let args = [id, self.base + range.start, host_flags, 0, 0, 0];
        self.change(&range, Some(&region), || sys::call(libc::SYS_shmat, args))?;
        map.insert(range.clone(), region);
        map.attached.insert(range.start, len);
        Ok(range.start)
    }

    /// `shmdt`.
    ///
    /// # Errors
    /// As the call.
    pub fn shmdt(&self, address: u64) -> Done {
        let mut map = self.map();
        let len = map.attached.remove(&address).ok_or(Errno::EINVAL)?;
        let range = address..address + len;
        let args = [self.base + address, 0, 0, 0, 0, 0];
        self.change(&range, None, || sys::call(libc::SYS_shmdt, args))?;
        self.take_back(&range)?;
        map.remove(range);
        Ok(0)
    }
}

/// What `mmap` is to do.
#[derive(Clone, Debug)]
pub struct Request {
    /// Address: a wish, or with `MAP_FIXED` an order.
    pub address: u64,
    /// Bytes.
    pub len: u64,
    /// Rights of the guest.
    pub rights: u32,
    /// Flags with the host's numbers.
    pub flags: i32,
    /// File, or −1.
    pub fd: i32,
    /// Offset in it.
    pub offset: u64,
    /// What it is for.
    pub kind: Kind,
}
