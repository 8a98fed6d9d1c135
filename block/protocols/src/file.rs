//! `file`, `host_device`, `host_cdrom`: a file or device of the host, through positioned reads and writes.
//!
//! Not modelled: persistent reservations; ejection of discs, and locking the tray.

use std::fs;
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use graph::{
    Aio, DiskOptions, Extent, ExtentKind, Limits, Node, NodeInfo, OpenError, Permissions, Plain,
    PlainFile, Preallocation, RangeLocks, Sharing, WriteFlags, ZeroFlags,
};
use rustix::fs::{FallocateFlags, OFlags};
use rustix::io::{Errno, ReadWriteFlags};

use crate::{Access, direct, lock};

/// How the host's and the guest's caches are used (`cache=`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheMode {
    /// The guest sees a volatile write cache; without it every write is stable when it completes.
    pub writeback: bool,
    /// The host's page cache is bypassed (`O_DIRECT`).
    pub direct: bool,
    /// Flushes do nothing: fast, and everything is lost with the host.
    pub no_flush: bool,
}

impl Default for CacheMode {
    fn default() -> Self {
        Self { writeback: true, direct: false, no_flush: false }
    }
}

impl CacheMode {
    /// Every mode by its name.
    pub const TABLE: &[(&str, Self)] = &[
        ("writeback", Self { writeback: true, direct: false, no_flush: false }),
        ("none", Self { writeback: true, direct: true, no_flush: false }),
        ("off", Self { writeback: true, direct: true, no_flush: false }),
        ("writethrough", Self { writeback: false, direct: false, no_flush: false }),
        ("directsync", Self { writeback: false, direct: true, no_flush: false }),
        ("unsafe", Self { writeback: true, direct: false, no_flush: true }),
    ];

    /// The mode called `name`.
    pub fn named(name: &str) -> Option<Self> {
        Self::TABLE.iter().find(|(n, _)| *n == name).map(|(_, mode)| *mode)
    }
}

/// Whether to lock the file against other processes (`locking=`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Locking {
    /// Where the file system can.
    #[default]
    Auto,
    /// Never.
    Off,
}

/// What a file of the host is taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// A regular file.
    File,
    /// A block or character device.
    HostDevice,
    /// A drive for discs that come and go.
    HostCdrom,
}

impl Driver {
    /// Every driver by its name.
    pub const TABLE: &[(&str, Self)] =
        &[("file", Self::File), ("host_device", Self::HostDevice), ("host_cdrom", Self::HostCdrom)];

    /// The driver called `name`.
    pub fn named(name: &str) -> Option<Self> {
        Self::TABLE.iter().find(|(n, _)| *n == name).map(|(_, driver)| *driver)
    }

    fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::HostDevice => "host_device",
            Self::HostCdrom => "host_cdrom",
        }
    }

    fn is_device(self) -> bool {
        self != Self::File
    }

    fn wants(self, path: &str) -> OpenError {
        let what = match self {
            Self::File => "a regular file",
            _ => "either a character or block device",
        };
        OpenError::Option(format!("'{}' driver requires '{path}' to be {what}", self.name()))
    }
}

/// How to open a file.
#[derive(Clone, Debug)]
pub struct FileOptions {
    /// Path on the host.
    pub filename: String,
    /// What it must be; found out without.
    pub driver: Option<Driver>,
    /// Only read.
    pub read_only: bool,
    /// Only read if writing is not allowed, or with `read_only` as long as nobody writes.
    pub auto_read_only: bool,
    /// Cache mode; `writeback` is the business of the disk above.
    pub cache: CacheMode,
    /// How requests are carried out that the front lets the kernel have; `Native` needs a cache mode
    /// that is `direct`.
    pub aio: Aio,
    /// Whether to lock.
    pub locking: Locking,
    /// What is done with the file at first, for the locks.
    pub access: Access,
    /// Others may do anything meanwhile, whatever users ask for (`force-share=on`).
    pub share: bool,
}

impl FileOptions {
    /// Opens `filename` for a device that reads and writes it.
    pub fn new(filename: &str) -> Self {
        Self {
            filename: filename.to_owned(),
            driver: None,
            read_only: false,
            auto_read_only: false,
            cache: CacheMode::default(),
            aio: Aio::default(),
            locking: Locking::Auto,
            access: Access::RAW_WRITE,
            share: false,
        }
    }

    /// The same for a name that may begin with a driver's: `host_device:/dev/sdz`.
    pub fn named(name: &str) -> Self {
        match name.split_once(':').and_then(|(driver, path)| Some((Driver::named(driver)?, path))) {
            // That one says nothing: `file:/dev/sdz` is a device.
            Some((Driver::File, path)) => Self::new(path),
            Some((driver, path)) => Self { driver: Some(driver), ..Self::new(path) },
            None => Self::new(name),
        }
    }
}

/// The locks on a file. They belong to the first opening of it.
struct Locks {
    /// That opening, once another one is in use.
    first: Option<fs::File>,
    held: Access,
}

/// What transfers change of a file.
struct Marks {
    /// Length; kept here because every request asks for it.
    size: AtomicU64,
    /// Changes so far, and how many of them are stable: what changed nothing need not sync.
    changed: AtomicU64,
    stable: AtomicU64,
}

impl Marks {
    fn new(size: u64) -> Arc<Self> {
        let (changed, stable) = Default::default();
        Arc::new(Self { size: AtomicU64::new(size), changed, stable })
    }
}

impl PlainFile for Marks {
    fn written(&self, end: u64) {
        self.size.fetch_max(end, Ordering::AcqRel);
        self.changed.fetch_add(1, Ordering::AcqRel);
    }
}

/// An open file or block device.
pub struct File {
    file: Arc<fs::File>,
    filename: String,
    driver: Driver,
    read_only: AtomicBool,
    /// How it was asked for; none if it has no name by which it could be opened again.
    manner: Option<Mutex<FileOptions>>,
    /// Others may do anything meanwhile.
    share: bool,
    locks: Option<Mutex<Locks>>,
    direct: AtomicBool,
    no_flush: AtomicBool,
    aio: Aio,
    marks: Arc<Marks>,
    limits: Limits,
    /// What direct transfers are made of, in bytes.
    block: u64,
    /// The host can punch holes, zero ranges. Cleared by the first refusal.
    can_punch: AtomicBool,
    can_zero: AtomicBool,
    /// A failed flush may have dropped dirty pages: nothing is stable any more.
    flush_failed: AtomicBool,
    /// Blocks in a read-modify-write cycle (direct mode only).
    blocks: Arc<RangeLocks>,
}

impl File {
    /// Opens what `options` names.
    ///
    /// # Errors
    /// `Host` when it cannot be opened, `Locked` when another process excludes it.
    pub fn open(options: &FileOptions) -> Result<Self, OpenError> {
        let path = options.filename.as_str();
        let (file, read_only) = open_file(options)?;
        let metadata = file.metadata().map_err(|e| OpenError::host(path, e))?;
        let kind = metadata.file_type();
        // A character device, such as /dev/null, has no length.
        let stream = kind.is_char_device();
        let device = kind.is_block_device() || stream;
        let driver = options.driver.unwrap_or(match device {
            true if host::device::is_cdrom(&file) => Driver::HostCdrom,
            true => Driver::HostDevice,
            false => Driver::File,
        });
        if driver.is_device() != device || !(device || kind.is_file()) {
            return Err(driver.wants(path));
        }
        let locks = if options.locking != Locking::Off && !stream {
            let held = if read_only { options.access.read_only() } else { options.access };
            lock::change(&file, path, Access::NONE, held)?;
            Some(Mutex::new(Locks { first: None, held }))
        } else {
            None
        };
        let mut limits = Limits::default();
        let mut size = metadata.len();
        if kind.is_block_device() {
            size = rustix::fs::seek(&file, rustix::fs::SeekFrom::End(0))
                .map_err(|e| OpenError::host(path, e.into()))?;
            limits = device_limits(&file);
        }
        Ok(Self {
            file: Arc::new(file),
            filename: path.to_owned(),
            driver,
            block: block_of(driver, &limits),
            read_only: AtomicBool::new(read_only),
            manner: Some(Mutex::new(options.clone())),
            share: options.share,
            locks,
            direct: AtomicBool::new(options.cache.direct),
            no_flush: AtomicBool::new(options.cache.no_flush),
            aio: options.aio,
            marks: Marks::new(size),
            limits,
            can_punch: AtomicBool::new(true),
            can_zero: AtomicBool::new(true),
            flush_failed: AtomicBool::new(false),
            blocks: Arc::default(),
        })
    }

    /// Creates a regular file of `size` bytes, emptying one that exists unless it is locked.
    ///
    /// # Errors
    /// As [`File::open`].
    pub fn create(path: &str, size: u64) -> Result<Self, OpenError> {
        if Path::new(path).is_dir() {
            return Err(create_error(path, io::ErrorKind::IsADirectory.into()));
        }
        if !Path::new(path).exists() {
            let made = fs::OpenOptions::new().write(true).create(true).truncate(false).open(path);
            made.map_err(|e| create_error(path, e))?;
        }
        let options = FileOptions { access: Access::FORMAT_WRITE, ..FileOptions::new(path) };
        let file = Self::open(&options)?;
        file.truncate(0).map_err(|e| create_error(path, e))?;
        file.truncate(size).map_err(|e| create_error(path, e))?;
        Ok(file)
    }

    /// A file without a name, gone when it is closed: the overlay of `snapshot=on`.
    ///
    /// # Errors
    /// `Host` when the folder for temporary files cannot hold one.
    pub fn temporary(folder: &Path) -> Result<Self, OpenError> {
        let name = folder.display().to_string();
        let flags = OFlags::TMPFILE.bits() as i32;
        let opened = fs::OpenOptions::new().read(true).write(true).custom_flags(flags).open(folder);
        let file = match opened {
            Ok(file) => file,
            Err(_) => unlinked(folder).map_err(|e| OpenError::host(&name, e))?,
        };
        Ok(Self {
            file: Arc::new(file),
            filename: format!("{name}/(deleted)"),
            driver: Driver::File,
            block: FILE_BLOCK,
            read_only: AtomicBool::new(false),
            manner: None,
            share: false,
            locks: None,
            direct: AtomicBool::new(false),
            no_flush: AtomicBool::new(true),
            aio: Aio::Threads,
            marks: Marks::new(0),
            limits: Limits::default(),
            can_punch: AtomicBool::new(true),
            can_zero: AtomicBool::new(true),
            flush_failed: AtomicBool::new(false),
            blocks: Arc::default(),
        })
    }

    /// Learns of another length. If others may still change it, or write, it is only found to be longer.
    fn measure(&self, for_good: bool) {
        // A file that the host can tell nothing of is as long as it was.
        let Ok(metadata) = self.file.metadata() else { return };
        match for_good {
            _ if !metadata.is_file() => {}
            true => self.marks.size.store(metadata.len(), Ordering::Release),
            false => drop(self.marks.size.fetch_max(metadata.len(), Ordering::AcqRel)),
        }
    }

    /// Whether it is a device, of which nobody can change the length.
    pub fn is_device(&self) -> bool {
        self.driver.is_device()
    }

    /// Asks a copy-on-write file system to change this file in place; it may decline.
    pub fn turn_off_copy_on_write(&self) {
        use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};
        if let Ok(flags) = ioctl_getflags(&self.file) {
            let _ = ioctl_setflags(&self.file, flags | IFlags::NOCOW);
        }
    }

    fn is_direct(&self) -> bool {
        self.direct.load(Ordering::Relaxed)
    }

    /// Puts another opening of the same file behind the descriptor. The first opening is kept in `first`,
    /// for its locks.
    fn open_again(
        &self,
        options: &FileOptions,
        first: Option<&mut Option<fs::File>>,
    ) -> Result<(), OpenError> {
        let path = options.filename.as_str();
        let (file, read_only) = open_file(options)?;
        let failed = |e| OpenError::host(path, e);
        let (now, then) = (file.metadata().map_err(failed)?, self.file.metadata().map_err(failed)?);
        if (now.dev(), now.ino()) != (then.dev(), then.ino()) {
            let why = "another file has this name now, it cannot be opened again".to_owned();
            return Err(OpenError::Image { path: path.to_owned(), why });
        }
        if let Some(first @ None) = first {
            *first = Some(self.file.try_clone().map_err(failed)?);
        }
        host::file::replace(&self.file, &file).map_err(failed)?;
        self.read_only.store(read_only, Ordering::Release);
        Ok(())
    }

    fn locks(&self) -> Option<MutexGuard<'_, Locks>> {
        self.locks.as_ref().map(|locks| locks.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn manner(&self) -> Option<MutexGuard<'_, FileOptions>> {
        self.manner.as_ref().map(|manner| manner.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn writable(&self) -> io::Result<()> {
        if self.read_only() { Err(io::ErrorKind::ReadOnlyFilesystem.into()) } else { Ok(()) }
    }

    /// Changes the file: the next flush has something to do, even if only a part succeeded.
    fn change<T>(&self, change: impl FnOnce() -> T) -> T {
        let done = change();
        self.marks.changed.fetch_add(1, Ordering::AcqRel);
        done
    }

    fn fallocate(&self, flags: FallocateFlags, offset: u64, len: u64) -> Result<(), Errno> {
        self.change(|| rustix::fs::fallocate(&self.file, flags, offset, len))
    }

    /// Grows the file so that `end` is inside. A write, not a truncation: that could cut off what
    /// somebody else appends at the same time.
    fn reach(&self, end: u64) -> io::Result<()> {
        if end > self.size() { self.store(end - 1, &[0]) } else { Ok(()) }
    }

    /// Asks the host to zero a range; `false` if it cannot.
    fn zero_by_host(&self, offset: u64, len: u64, unmap: bool) -> io::Result<bool> {
        let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        let zero = FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE;
        for (wanted, can, flags) in [(unmap, &self.can_punch, hole), (true, &self.can_zero, zero)] {
            if !wanted || !can.load(Ordering::Relaxed) {
                continue;
            }
            match self.fallocate(flags, offset, len) {
                Ok(()) => return Ok(true),
                Err(e) if unsupported(e) => can.store(false, Ordering::Relaxed),
                Err(e) => return Err(e.into()),
            }
        }
        Ok(false)
    }

    /// Writes zeroes byte by byte.
    fn store_zeroes(&self, from: u64, to: u64) -> io::Result<()> {
        let zeroes = vec![0; (to - from).min(1 << 20) as usize];
        let mut at = from;
        while at < to {
            let n = (to - at).min(zeroes.len() as u64);
            self.store(at, &zeroes[..n as usize])?;
            at += n;
        }
        Ok(())
    }

    fn store(&self, offset: u64, buf: &[u8]) -> io::Result<()> {
        let end = offset.checked_add(buf.len() as u64).ok_or(io::ErrorKind::InvalidInput)?;
        self.change(|| {
            if self.is_direct() {
                self.store_direct(offset, buf, end)
            } else {
                self.file.write_all_at(buf, offset)
            }
        })?;
        self.marks.size.fetch_max(end, Ordering::AcqRel);
        Ok(())
    }

    /// Unaligned writes exclude others of the same blocks; those that grow the file exclude all,
    /// because they may have to cut it back.
    fn store_direct(&self, offset: u64, buf: &[u8], end: u64) -> io::Result<()> {
        let aligned = direct::is_aligned(offset, buf.len(), self.block);
        let grows = end > self.size();
        let sharing = if aligned && !grows { Sharing::Shared } else { Sharing::Exclusive };
        let blocks =
            if grows { (0, u64::MAX) } else { direct::blocks(offset, buf.len(), self.block) };
        let _guard = self.blocks.lock(blocks.0, blocks.1, sharing);
        direct::write(&self.file, self.block, offset, buf)?;
        self.marks.size.fetch_max(end, Ordering::AcqRel);
        Ok(())
    }
}

impl Node for File {
    fn size(&self) -> u64 {
        if self.driver == Driver::HostCdrom {
            // Another disc has another length.
            let end = rustix::fs::seek(&*self.file, rustix::fs::SeekFrom::End(0)).unwrap_or(0);
            self.marks.size.store(end, Ordering::Release);
        }
        self.marks.size.load(Ordering::Acquire)
    }

    /// Bytes beyond the end of the file read as zeroes.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        if self.is_direct() {
            return direct::read(&self.file, self.block, offset, buf);
        }
        let mut done = 0;
        while done < buf.len() {
            match self.file.read_at(&mut buf[done..], offset.saturating_add(done as u64)) {
                Ok(0) => {
                    buf[done..].fill(0);
                    break;
                }
                Ok(n) => done += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    fn aio(&self) -> Aio {
        self.aio
    }

    /// What would need another transfer around it, or makes a file longer that is written past the page
    /// cache, is not plain.
    fn plain(&self, offset: u64, len: u64, write: bool, into: &mut Plain) -> bool {
        let Some(interface) = self.aio.interface() else { return false };
        let Ok(whole) = usize::try_from(len) else { return false };
        let Some(end) = offset.checked_add(len).filter(|end| *end <= i64::MAX as u64) else {
            return false;
        };
        if self.is_direct() && !direct::is_aligned(offset, whole, FILE_BLOCK)
            || write && self.read_only()
        {
            return false;
        }
        if write && self.is_direct() {
            if end > self.size() {
                return false;
            }
            match self.blocks.try_hold(offset, end, Sharing::Shared) {
                Some(held) => into.hold(held),
                None => return false,
            }
        }
        let marks = write.then(|| Arc::clone(&self.marks) as Arc<dyn PlainFile>);
        into.piece(&self.file, offset, len, (interface, self.is_direct()), marks)
    }

    /// Succeeds if the page cache has all of it.
    fn read_cached(&self, offset: u64, buf: &mut [u8]) -> bool {
        let len = buf.len();
        let mut parts = [io::IoSliceMut::new(buf)];
        let flags = ReadWriteFlags::NOWAIT;
        !self.is_direct() && rustix::io::preadv2(&self.file, &mut parts, offset, flags) == Ok(len)
    }

    /// A write beyond the end makes the file longer.
    fn write_at(&self, offset: u64, buf: &[u8], flags: WriteFlags) -> io::Result<()> {
        self.writable()?;
        self.store(offset, buf)?;
        if flags.fua { self.flush() } else { Ok(()) }
    }

    fn write_zeroes(&self, offset: u64, len: u64, flags: ZeroFlags) -> io::Result<()> {
        self.writable()?;
        let end = offset.checked_add(len).ok_or(io::ErrorKind::InvalidInput)?;
        self.reach(end)?;
        // A device zeroes whole blocks.
        let block = if self.driver.is_device() { self.block } else { 1 };
        let first = offset.next_multiple_of(block).min(end);
        let last = (end - end % block).max(first);
        self.store_zeroes(offset, first)?;
        if first < last && !self.zero_by_host(first, last - first, flags.unmap)? {
            self.store_zeroes(first, last)?;
        }
        self.store_zeroes(last, end)?;
        if flags.fua { self.flush() } else { Ok(()) }
    }

    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        self.writable()?;
        if len == 0 || !self.can_punch.load(Ordering::Relaxed) {
            return Ok(());
        }
        let (done, refusal): (io::Result<()>, fn(Errno) -> bool) = if self.driver.is_device() {
            (self.change(|| host::device::discard(&self.file, offset, len)), unsupported_by_device)
        } else {
            let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            (self.fallocate(flags, offset, len).map_err(io::Error::from), unsupported)
        };
        match done {
            Err(e) if Errno::from_io_error(&e).is_some_and(refusal) => {
                self.can_punch.store(false, Ordering::Relaxed);
                Ok(())
            }
            other => other,
        }
    }

    fn flush(&self) -> io::Result<()> {
        if self.no_flush.load(Ordering::Relaxed) || self.read_only() {
            return Ok(());
        }
        if self.flush_failed.load(Ordering::Acquire) {
            return Err(io::Error::other("an earlier flush failed, written data may be lost"));
        }
        let changed = self.marks.changed.load(Ordering::Acquire);
        if self.marks.stable.load(Ordering::Acquire) == changed {
            return Ok(());
        }
        self.file.sync_data().inspect_err(|_| {
            if !self.is_direct() {
                self.flush_failed.store(true, Ordering::Release);
            }
        })?;
        self.marks.stable.fetch_max(changed, Ordering::AcqRel);
        Ok(())
    }

    fn block_status(&self, offset: u64, len: u64) -> io::Result<Extent> {
        use rustix::fs::SeekFrom::{Data, Hole};
        let answer = |kind, len| Ok(Extent { kind, len, host_offset: Some(offset) });
        let size = self.size();
        if offset >= size {
            return answer(ExtentKind::Zero, len);
        }
        let len = len.min(size - offset);
        // The file position is shared and otherwise unused: all transfers are positioned.
        match rustix::fs::seek(&self.file, Data(offset)) {
            Err(Errno::NXIO) => answer(ExtentKind::Zero, len),
            Ok(data) if data > offset => answer(ExtentKind::Zero, len.min(data - offset)),
            Ok(_) => match rustix::fs::seek(&self.file, Hole(offset)) {
                Ok(hole) if hole > offset => answer(ExtentKind::Data, len.min(hole - offset)),
                _ => answer(ExtentKind::Data, len),
            },
            Err(_) => answer(ExtentKind::Data, len),
        }
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        self.writable()?;
        if self.driver.is_device() {
            return if size <= self.size() {
                Ok(())
            } else {
                Err(io::Error::new(io::ErrorKind::Unsupported, "Cannot grow device files"))
            };
        }
        self.change(|| self.file.set_len(size))?;
        self.marks.size.store(size, Ordering::Release);
        Ok(())
    }

    fn preallocate(&self, offset: u64, len: u64, how: Preallocation) -> io::Result<()> {
        self.writable()?;
        let end = offset.checked_add(len).ok_or(io::ErrorKind::InvalidInput)?;
        match how {
            Preallocation::Off | Preallocation::Metadata if end > self.size() => self.truncate(end),
            Preallocation::Off | Preallocation::Metadata => Ok(()),
            _ if len == 0 => Ok(()),
            Preallocation::Falloc => {
                self.fallocate(FallocateFlags::empty(), offset, len)?;
                self.marks.size.fetch_max(end, Ordering::AcqRel);
                Ok(())
            }
            Preallocation::Full => self.store_zeroes(offset, end),
        }
    }

    fn read_only(&self) -> bool {
        self.read_only.load(Ordering::Acquire)
    }

    fn permit(&self, users: Permissions) -> Result<(), OpenError> {
        let writes = users.taken.has(graph::Access::WRITE);
        let mut locks = self.locks();
        let manner = self.manner();
        // May change with its users.
        let changes = manner.filter(|manner| manner.read_only && manner.auto_read_only);
        let upgrade = writes && self.read_only() && changes.is_some();
        let wanted = Access::of(if self.share { users.sharing_all() } else { users });
        let wanted = if self.read_only() && !upgrade { wanted.read_only() } else { wanted };
        let before = locks.as_ref().map(|locks| locks.held);
        let relock = |locks: &mut Locks, to| {
            let file = locks.first.as_ref().unwrap_or(&self.file);
            lock::change(file, &self.filename, locks.held, to)?;
            locks.held = to;
            Ok(())
        };
        if let Some(locks) = &mut locks {
            relock(locks, wanted)?;
        }
        // Locks first: nobody else writes when this opening can.
        let first = locks.as_mut().map(|locks| &mut locks.first);
        let changed = match changes {
            Some(options) if upgrade || (!writes && !self.read_only()) => {
                let (read_only, auto_read_only) = (!writes, false);
                self.open_again(
                    &FileOptions { read_only, auto_read_only, ..options.clone() },
                    first,
                )
            }
            _ => Ok(()),
        };
        if let (Err(_), Some(locks), Some(before)) = (&changed, &mut locks, before) {
            // Only what was held before is taken: nothing can refuse it.
            let _: Result<(), OpenError> = relock(locks, before);
        }
        changed?;
        // Who had it meanwhile may have made it longer or shorter, and cannot any more.
        if before.is_none_or(|before| before.lets_resize() && !wanted.lets_resize()) {
            self.measure(before.is_some());
        }
        Ok(())
    }

    fn adjust(&self, options: &DiskOptions) -> Result<(), OpenError> {
        let mut locks = self.locks();
        let Some(mut manner) = self.manner() else { return Ok(()) };
        let cache =
            CacheMode { direct: options.direct, no_flush: options.no_flush, ..manner.cache };
        let (read_only, auto_read_only) = (options.read_only, options.auto_read_only);
        let new = FileOptions { read_only, auto_read_only, cache, ..manner.clone() };
        // What its users have turned into a file that is written stays one, as long as they do.
        let writes = !read_only || (auto_read_only && !self.read_only());
        if writes == self.read_only() || cache.direct != self.is_direct() {
            let auto_read_only = auto_read_only && !read_only;
            let options = FileOptions { read_only: !writes, auto_read_only, ..new.clone() };
            self.open_again(&options, locks.as_mut().map(|locks| &mut locks.first))?;
        }
        self.direct.store(cache.direct, Ordering::Relaxed);
        self.no_flush.store(cache.no_flush, Ordering::Relaxed);
        *manner = new;
        Ok(())
    }

    fn limits(&self) -> Limits {
        self.limits
    }

    fn info(&self) -> NodeInfo {
        let allocated = self.file.metadata().ok().map(|m| m.blocks() * 512);
        NodeInfo {
            driver: self.driver.name(),
            filename: self.filename.clone(),
            allocated,
            ..NodeInfo::default()
        }
    }
}

fn open_file(options: &FileOptions) -> Result<(fs::File, bool), OpenError> {
    let path = options.filename.as_str();
    let mut flags = OFlags::empty();
    flags.set(OFlags::DIRECT, options.cache.direct);
    // A drive is open without a disc, too.
    flags.set(OFlags::NONBLOCK, options.driver == Some(Driver::HostCdrom));
    let open = |write: bool| {
        let flags = flags.bits() as i32;
        let file = fs::OpenOptions::new().read(true).write(write).custom_flags(flags).open(path)?;
        // Some devices are opened for writing and then refuse it.
        if write && host::device::is_read_only(&file).unwrap_or(false) {
            return Err(io::Error::new(io::ErrorKind::ReadOnlyFilesystem, ReadOnlyDevice));
        }
        Ok(file)
    };
    match open(!options.read_only) {
        Ok(file) => Ok((file, options.read_only)),
        Err(e) if !options.read_only && options.auto_read_only && refused(&e) => {
            open(false).map(|f| (f, true)).map_err(|e| OpenError::host(path, e))
        }
        Err(e) if options.auto_read_only && e.kind() == io::ErrorKind::IsADirectory => {
            Err(options.driver.unwrap_or(Driver::File).wants(path))
        }
        Err(e) if e.get_ref().is_some_and(|e| e.is::<ReadOnlyDevice>()) => Err(OpenError::Host {
            operation: "The device is not writable".to_owned(),
            source: Errno::ACCESS.into(),
        }),
        Err(e) if options.cache.direct && e.kind() == io::ErrorKind::InvalidInput => {
            Err(OpenError::Option(format!(
                "Could not open '{path}': filesystem does not support O_DIRECT"
            )))
        }
        Err(e) => Err(OpenError::host(path, e)),
    }
}

/// A device that the kernel lets nobody write.
#[derive(Debug)]
struct ReadOnlyDevice;

impl std::fmt::Display for ReadOnlyDevice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the device is read-only")
    }
}

impl std::error::Error for ReadOnlyDevice {}

/// Blocks of direct transfers of regular files, whatever disk they are on.
const FILE_BLOCK: u64 = 4096;

/// Blocks of direct transfers; those of a device may be smaller, and its end need not be a whole larger one.
fn block_of(driver: Driver, limits: &Limits) -> u64 {
    if driver.is_device() { u64::from(limits.logical_block).min(FILE_BLOCK) } else { FILE_BLOCK }
}

/// Whether the host refuses writing in particular.
fn refused(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
}

fn create_error(path: &str, source: io::Error) -> OpenError {
    OpenError::Host { operation: format!("{path}: Could not create '{path}'"), source }
}

/// A file created under a name nobody else uses, which is removed at once.
fn unlinked(folder: &Path) -> io::Result<fs::File> {
    let mut last = io::Error::from(io::ErrorKind::AlreadyExists);
    for n in 0..100 {
        let path = folder.join(format!("tinamou-{}-{n}.overlay", std::process::id()));
        match fs::OpenOptions::new().read(true).write(true).create_new(true).open(&path) {
            Ok(file) => return fs::remove_file(&path).map(|()| file),
            Err(e) => last = e,
        }
    }
    Err(last)
}

fn device_limits(file: &fs::File) -> Limits {
    let logical = rustix::fs::ioctl_blksszget(file).unwrap_or(512).max(512);
    let physical = rustix::fs::ioctl_blkpbszget(file).unwrap_or(logical).max(logical);
    Limits {
        request_alignment: 1,
        logical_block: logical,
        physical_block: physical,
        discard_granularity: physical,
    }
}

fn unsupported(error: Errno) -> bool {
    matches!(error, Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::NODEV)
}

/// The same for a device's discard, which says `EINVAL` of parts of blocks.
fn unsupported_by_device(error: Errno) -> bool {
    error != Errno::INVAL && unsupported(error)
}
