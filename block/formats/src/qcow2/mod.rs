//! qcow2, versions 2 and 3 ("Qcow2 Image File Format", QEMU 10.0 documentation; integers
//! big-endian).
//!
//! Layout: a header with extensions in the first cluster; a two-level table (L1, L2) from guest to
//! host clusters; a two-level table of refcounts of host clusters; data, plain or compressed.
//! Supported: every cluster size and refcount width, zero clusters, zlib and zstd clusters, backing
//! files, extended L2 entries, external data files, resizing, internal snapshots. Lazy refcounts are
//! kept up to date like any others, so the dirty bit is never set; an image that has it set is
//! repaired when opened for writing.
//! Persistent dirty bitmaps, encryption with LUKS or AES-CBC.
//!
//! `commit.rs` states the order of writes to the file.

mod amend;
mod aside;
mod bitmaps;
mod check;
mod codec;
mod commit;
mod compact;
mod compressed;
mod create;
mod crypt;
mod format;
mod header;
mod layout;
mod measure;
mod meta;
mod overlay;
mod plain;
mod preallocate;
mod read;
mod repair;
mod resize;
mod rewrite;
mod slices;
mod snapshots;
mod snapshotting;
mod write;

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use graph::{
    Aio, Child, Event, Extent, Fix, Image, Limits, Node, NodeInfo, OpenError, Plain, Preallocation,
    Property, RangeGuard, RangeLocks, Role, Sharing, WriteFlags, ZeroFlags, check_range,
};

pub use create::{CreateOptions, create};
pub use crypt::Encryption;
pub use format::Qcow2Format;
pub use header::{Compression, Header};

use zeroize::Zeroizing;

use crate::format::Purpose;

use bitmaps::LiveBitmaps;
use compressed::{Packer, Unpacker};
use crypt::Crypt;
use layout::Layout;
use meta::{Kind, Meta, Overlap};
use snapshots::Snapshot;

/// How to open an image.
#[derive(Clone, Default)]
pub struct Options {
    /// Only read.
    pub read_only: bool,
    /// What answers for unallocated clusters, opened by the caller.
    pub backing: Option<Arc<dyn Node>>,
    /// The external data file, for images that have one; without, only metadata can be read.
    pub data_file: Option<Arc<dyn Node>>,
    /// What opens an encrypted image.
    pub passphrase: Option<Zeroizing<Vec<u8>>>,
    /// What for: without its key or its data file only metadata can be shown.
    pub purpose: Purpose,
    /// Freed clusters are discarded in the file.
    pub pass_discards: bool,
    /// Opened to be repaired: as damaged as it is, and without its data file.
    pub repairing: bool,
}

/// An open qcow2 image.
pub struct Qcow2 {
    file: Arc<dyn Node>,
    /// Where guest data is: `file`, or an external data file.
    data: Arc<dyn Node>,
    /// The external data file is open.
    has_data: bool,
    crypt: Option<Arc<Crypt>>,
    backing: Option<Arc<dyn Node>>,
    path: String,
    /// As the file has it, apart from the fields of tables that a commit is about to move.
    header: Mutex<Header>,
    layout: Layout,
    size: AtomicU64,
    read_only: bool,
    discard: bool,
    meta: Mutex<Meta>,
    committing: Mutex<()>,
    /// One change of the image's structure at a time.
    changing: Mutex<()>,
    snapshots: Mutex<Vec<Snapshot>>,
    /// Bytes of the snapshot table.
    list_len: AtomicU64,
    ranges: Arc<RangeLocks>,
    unpacker: Unpacker,
    packer: Packer,
    bitmaps: LiveBitmaps,
    /// The image was amended to another layout: this node only reads any more.
    outdated: AtomicBool,
    /// Damage was found: nothing is written any more.
    corrupt: AtomicBool,
}

impl Qcow2 {
    /// Opens the image in `file`, which messages call `path`.
    ///
    /// # Errors
    /// A bad field by its name; an image that is marked corrupt cannot be opened for writing.
    pub fn open(file: Arc<dyn Node>, path: &str, options: Options) -> Result<Self, OpenError> {
        Self::open_at(file, path, options, None)
    }

    /// Opens the disk as it was when the snapshot with the ID `at` was taken; for reading.
    fn open_at(
        file: Arc<dyn Node>,
        path: &str,
        options: Options,
        at: Option<(&str, Option<Arc<Crypt>>)>,
    ) -> Result<Self, OpenError> {
        let (at, shared) = at.map_or((None, None), |(id, crypt)| (Some(id), crypt));
        let mut header = Header::read(&*file, path)?;
        let (list, list_len) = snapshots::read(&*file, &header, path, header::Reach::File)?;
        if let Some(snapshot) = at.and_then(|id| list.iter().find(|s| s.info.id == id)) {
            header.l1_offset = snapshot.l1_offset;
            header.l1_size = snapshot.l1_size;
            header.size = snapshot.info.disk_size;
        }
        let read_only = options.read_only || file.read_only();
        if header.incompatible & header::INCOMPATIBLE_CORRUPT != 0
            && !read_only
            && !options.repairing
        {
            let why = "qcow2: Image is corrupt; cannot be opened read/write".to_owned();
            return Err(OpenError::Image { path: path.to_owned(), why });
        }
        let header_external = header.external();
        let data = match (&options.data_file, header_external) {
            (Some(data), true) => Arc::clone(data),
            (None, true) if options.repairing || options.purpose == Purpose::Info => {
                Arc::new(NoData)
            }
            (None, true) => {
                let why = "'data-file' is required for this image".to_owned();
                return Err(OpenError::Image { path: path.to_owned(), why });
            }
            (Some(_), false) => {
                let why = "'data-file' can only be set for images with an external data file";
                return Err(OpenError::Image { path: path.to_owned(), why: why.to_owned() });
            }
            (None, false) => Arc::clone(&file),
        };
        let purpose = if options.repairing { Purpose::Info } else { options.purpose };
        let crypt = match shared {
            Some(crypt) => Some(crypt),
            None => Crypt::open(&*file, &header, path, options.passphrase.as_ref(), purpose)?,
        };
        let known = if at.is_none() { &list[..] } else { &[] };
        let meta = Self::load_meta(&*file, &header, path, known, list_len)?;
        let layout = Layout::of(&header);
        let image = Self {
            size: AtomicU64::new(header.size),
            unpacker: Unpacker::new(header.compression, layout.cluster),
            packer: Packer::new(header.compression),
            file,
            has_data: header_external && options.data_file.is_some(),
            data,
            crypt,
            backing: options.backing,
            path: path.to_owned(),
            header: Mutex::new(header),
            layout,
            read_only,
            discard: options.pass_discards,
            meta: Mutex::new(meta),
            committing: Mutex::default(),
            changing: Mutex::default(),
            snapshots: Mutex::new(list),
            list_len: AtomicU64::new(list_len),
            ranges: Arc::default(),
            bitmaps: LiveBitmaps::default(),
            outdated: AtomicBool::new(false),
            corrupt: AtomicBool::new(false),
        };
        if options.repairing || at.is_some() {
            return Ok(image);
        }
        if !read_only {
            image.prepare_for_writing().map_err(|e| OpenError::host(path, e))?;
        }
        image.load_bitmaps().map_err(|e| OpenError::host(path, e))?;
        Ok(image)
    }

    /// Loads the tables of an image with these snapshots.
    fn load_meta(
        file: &dyn Node,
        header: &Header,
        path: &str,
        list: &[Snapshot],
        list_len: u64,
    ) -> Result<Meta, OpenError> {
        let mut meta = Meta::load(file, header, path)?;
        if let Some((offset, len)) = header.crypt_header {
            meta.note(offset, len, Kind::CryptHeader);
        }
        if !list.is_empty() {
            meta.note(header.snapshots_offset, list_len, Kind::Snapshots);
        }
        let usable = |snapshot: &&Snapshot| snapshot.usable(meta.layout.cluster, file.size());
        let usable: Vec<&Snapshot> = list.iter().filter(usable).collect();
        for snapshot in usable {
            meta.note(snapshot.l1_offset, u64::from(snapshot.l1_size) * 8, Kind::InactiveL1);
        }
        // One that cannot be may say that it fills the world.
        if let Some(ext) = bitmaps::in_use(header)
            && bitmaps::read_directory(file, &meta.layout, &ext).is_ok()
        {
            meta.note(ext.directory_offset, ext.directory_size, Kind::Bitmaps);
        }
        Ok(meta)
    }

    /// Repairs an image that was not closed, and marks stale what we do not know.
    fn prepare_for_writing(&self) -> io::Result<()> {
        let (dirty, stale) = {
            let header = self.header();
            let dirty = header.incompatible & header::INCOMPATIBLE_DIRTY != 0;
            (dirty, header.autoclear & !header::AUTOCLEAR_KNOWN != 0)
        };
        if dirty {
            self.repair(Fix::All)?;
        }
        if dirty || stale {
            self.update_header(|header| {
                header.incompatible &= !header::INCOMPATIBLE_DIRTY;
                header.autoclear &= header::AUTOCLEAR_KNOWN;
            })?;
        }
        Ok(())
    }

    /// Changes the header, in the file first; stable on return. The change is there as a whole or
    /// not at all (`rewrite.rs`).
    fn update_header(&self, change: impl FnOnce(&mut Header)) -> io::Result<()> {
        let mut header = self.header();
        let mut changed = header.clone();
        change(&mut changed);
        let old = header::first_cluster(&*self.file, self.layout.cluster_bits)?;
        let Some(writes) = rewrite::rewrite(&changed, &old) else {
            let text = "the names and extensions do not fit into the header's cluster";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        };
        self.file.flush()?;
        for (at, bytes) in writes {
            self.file.write_at(at, &bytes, WriteFlags::default())?;
            self.file.flush()?;
        }
        *header = changed;
        Ok(())
    }

    fn header(&self) -> MutexGuard<'_, Header> {
        lock(&self.header)
    }

    /// Length of the disk in bytes.
    fn disk_size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    fn meta(&self) -> MutexGuard<'_, Meta> {
        lock(&self.meta)
    }

    /// Holds the guest clusters of a range.
    fn hold(&self, start: u64, end: u64, sharing: Sharing) -> RangeGuard<'_> {
        let cluster = self.layout.cluster;
        self.ranges.lock(start - start % cluster, end.next_multiple_of(cluster), sharing)
    }

    /// Holds the guest clusters of a range together with other readers, if possible at once.
    fn try_hold(&self, start: u64, end: u64) -> Option<RangeGuard<'_>> {
        let cluster = self.layout.cluster;
        let (start, end) = (start - start % cluster, end.next_multiple_of(cluster));
        self.ranges.try_lock(start, end, Sharing::Shared)
    }

    fn commit_if_crowded(&self) -> io::Result<()> {
        let crowded = self.meta().is_crowded();
        if crowded { self.commit() } else { Ok(()) }
    }

    /// If the error is about damage that writing would spread, marks the image corrupt, as QEMU
    /// does, and refuses all further writes.
    fn note_damage(&self, error: io::Error) -> io::Error {
        let overlap = error.get_ref().is_some_and(|e| e.is::<Overlap>());
        if overlap && !self.corrupt.swap(true, Ordering::AcqRel) && self.layout.zero_flag {
            let mut header = self.header();
            header.incompatible |= header::INCOMPATIBLE_CORRUPT;
            header.incompatible &= !header::INCOMPATIBLE_DIRTY;
            let features = header.incompatible.to_be_bytes();
            // The write is refused whether or not the mark can be made.
            let at = header::AT_INCOMPATIBLE;
            let marked = self.file.write_at(at, &features, WriteFlags::default());
            let _ = marked.and_then(|()| self.file.flush());
        }
        if overlap {
            let text = format!("{}: qcow2: Marking image as corrupt: {error}", self.path);
            return io::Error::new(io::ErrorKind::InvalidData, text);
        }
        error
    }

    fn writable(&self, offset: u64, len: u64) -> io::Result<()> {
        check_range(offset, len, self.disk_size())?;
        if self.read_only {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        if self.outdated.load(Ordering::Acquire) {
            let text = "the image was amended and has to be opened again to be written";
            return Err(io::Error::new(io::ErrorKind::ReadOnlyFilesystem, text));
        }
        if self.corrupt.load(Ordering::Acquire) {
            let text = format!("{}: the image is corrupt and not written any more", self.path);
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        Ok(())
    }

    fn finish(&self, fua: bool) -> io::Result<()> {
        if fua { self.flush() } else { Ok(()) }
    }
}

impl Node for Qcow2 {
    fn size(&self) -> u64 {
        self.disk_size()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        check_range(offset, buf.len() as u64, self.disk_size())?;
        let _range = self.hold(offset, offset + buf.len() as u64, Sharing::Shared);
        self.read_held(offset, buf)
    }

    fn read_cached(&self, offset: u64, buf: &mut [u8]) -> bool {
        check_range(offset, buf.len() as u64, self.disk_size()).is_ok()
            && self.read_now(offset, buf).is_ok()
    }

    fn plain(&self, offset: u64, len: u64, write: bool, into: &mut Plain) -> bool {
        let allowed = match write {
            true => self.writable(offset, len),
            false => check_range(offset, len, self.disk_size()),
        };
        if allowed.is_err() || len == 0 || !self.find_plain(offset, len, write, into) {
            return false;
        }
        if write {
            self.bitmaps.note(offset, len);
        }
        true
    }

    fn aio(&self) -> Aio {
        self.data.aio()
    }

    fn write_at(&self, offset: u64, buf: &[u8], flags: WriteFlags) -> io::Result<()> {
        self.writable(offset, buf.len() as u64)?;
        self.bitmaps.note(offset, buf.len() as u64);
        self.write_data(offset, buf)?;
        self.finish(flags.fua)
    }

    fn write_zeroes(&self, offset: u64, len: u64, flags: ZeroFlags) -> io::Result<()> {
        self.writable(offset, len)?;
        self.bitmaps.note(offset, len);
        self.zero_range(offset, len, flags)?;
        self.finish(flags.fua)
    }

    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        self.writable(offset, len)?;
        self.bitmaps.note(offset, len);
        self.discard_range(offset, len)
    }

    fn flush(&self) -> io::Result<()> {
        if self.read_only {
            return Ok(());
        }
        if self.outdated.load(Ordering::Acquire) {
            return self.file.flush();
        }
        self.file.event(Event::FlushToOs);
        if self.layout.external {
            self.data.flush()?;
        }
        self.commit()?;
        self.file.event(Event::FlushToDisk);
        self.file.flush()
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        self.resize(size, Preallocation::Off)
    }

    fn block_status(&self, offset: u64, len: u64) -> io::Result<Extent> {
        check_range(offset, len, self.disk_size())?;
        let _range = self.hold(offset, offset + len, Sharing::Shared);
        self.status(offset, len)
    }

    fn read_only(&self) -> bool {
        self.read_only
    }

    fn limits(&self) -> Limits {
        let granularity = self.layout.cluster as u32;
        Limits { discard_granularity: granularity, ..self.file.limits() }
    }

    fn children(&self) -> Vec<Child> {
        let child = |role, node: &Arc<dyn Node>| Child { role, node: Arc::clone(node) };
        let mut children = vec![child(Role::File, &self.file)];
        if self.has_data {
            children.push(child(Role::Data, &self.data));
        }
        let backing = self.backing.as_ref().filter(|backing| backing.present());
        children.extend(backing.map(|backing| child(Role::Backing, backing)));
        children
    }

    fn info(&self) -> NodeInfo {
        let file = self.file.info();
        let header = self.header();
        let lazy = header.compatible & header::COMPATIBLE_LAZY != 0;
        let corrupt = self.corrupt.load(Ordering::Acquire)
            || header.incompatible & header::INCOMPATIBLE_CORRUPT != 0;
        let compression = match header.compression {
            Compression::Zlib => "zlib",
            Compression::Zstd => "zstd",
        };
        let compat = if header.version == 2 { "0.10" } else { "1.1" };
        let mut specific: Vec<(&'static str, Property)> =
            vec![("compat", compat.into()), ("compression-type", compression.into())];
        if header.version >= 3 {
            specific.push(("lazy-refcounts", lazy.into()));
        }
        specific.extend(self.bitmaps.properties().map(|list| ("bitmaps", list)));
        specific.push(("refcount-bits", (1u64 << header.refcount_order).into()));
        if let Some(crypt) = &self.crypt {
            specific.push(("encrypt", crypt.properties()));
        }
        if let Some(name) = &header.data_file {
            specific.push(("data-file", name.as_str().into()));
            let raw = header.autoclear & header::AUTOCLEAR_RAW_DATA != 0;
            specific.push(("data-file-raw", raw.into()));
        }
        if header.version >= 3 {
            specific.push(("corrupt", corrupt.into()));
            specific.push(("extended-l2", header.extended_l2().into()));
        }
        NodeInfo {
            driver: "qcow2",
            filename: file.filename,
            allocated: file.allocated,
            cluster_size: Some(self.layout.cluster as u32),
            vm_state_offset: self.vm_state_at(0),
            backing_filename: header.backing_file.clone(),
            backing_format: header.backing_format.clone(),
            dirty: self.read_only && header.incompatible & header::INCOMPATIBLE_DIRTY != 0,
            corrupt,
            encrypted: self.crypt.is_some(),
            specific,
        }
    }

    fn image(&self) -> Option<&dyn Image> {
        Some(self)
    }
}

/// Stands for an external data file that was not opened.
struct NoData;

impl NoData {
    fn refuse<T>(&self) -> io::Result<T> {
        let text = "the image was opened without its data file";
        Err(io::Error::new(io::ErrorKind::PermissionDenied, text))
    }
}

impl Node for NoData {
    fn size(&self) -> u64 {
        u64::MAX
    }
    fn read_at(&self, _offset: u64, _buf: &mut [u8]) -> io::Result<()> {
        self.refuse()
    }
    fn write_at(&self, _offset: u64, _buf: &[u8], _flags: WriteFlags) -> io::Result<()> {
        self.refuse()
    }
    fn write_zeroes(&self, _offset: u64, _len: u64, _flags: ZeroFlags) -> io::Result<()> {
        self.refuse()
    }
    fn discard(&self, _offset: u64, _len: u64) -> io::Result<()> {
        self.refuse()
    }
    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
    fn block_status(&self, _offset: u64, _len: u64) -> io::Result<Extent> {
        self.refuse()
    }
    fn read_only(&self) -> bool {
        true
    }
    fn info(&self) -> NodeInfo {
        NodeInfo::default()
    }
}

impl Drop for Qcow2 {
    fn drop(&mut self) {
        if self.read_only || self.corrupt.load(Ordering::Acquire) {
            return;
        }
        if self.outdated.load(Ordering::Acquire) {
            return;
        }
        // Without success they stay marked as in use, and nobody believes them.
        let _ = self.store_bitmaps();
        // Lowered counts of the first commit are written by the second. Failure costs only what
        // nobody flushed.
        for _ in 0..3 {
            if !self.meta().is_dirty() || self.commit().is_err() {
                break;
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
