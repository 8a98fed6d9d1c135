//! Images that are a table of blocks: what all of them share.
//!
//! A format parses its header and answers where a block is ([`BlockMap`]); this layer reads,
//! writes, copies on write, reads through to the backing file, zeroes and flushes.
//!
//! Order of an allocating write: a place is reserved in memory, the data (with the copied edges of
//! a partly written block) goes to the file, the entry changes in memory. A commit, at a flush or
//! when much has changed, writes the entries in the steps of [`Step`], flushing the file before
//! each. So after a crash an entry never refers to data or to a table that is not there; what is
//! lost is space.
//!
//! Locks: a range lock on guest blocks over the whole request, shared for reads and writes in place,
//! exclusive for what changes entries; the map's mutex over table accesses only; the mutex of the
//! store over a commit.

pub(crate) mod codec;
mod io_paths;
mod tables;
mod two_level;
mod unpacked;

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use graph::{
    Child, Compress, Event, Extent, ExtentKind, Image, ImageOptions, Limits, Node, NodeInfo,
    OpenError, Overlay, Preallocation, RangeGuard, RangeLocks, Role, SECTOR, Sharing, WriteFlags,
    ZeroFlags, check_range,
};

use crate::format::OpenRequest;

pub(crate) use tables::{Change, InPlace, Step, Store, Tables};
pub(crate) use two_level::{Order, TwoLevel};
use unpacked::Unpacked;
pub(crate) use unpacked::{Pack, Piece, Unpack};

/// Where bytes of the disk are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the file, at this offset.
    Data(u64),
    /// Packed in the file; the number is the offset inside the unpacked piece.
    Packed(Piece, u64),
    /// Nowhere: they are zeroes.
    Zero,
    /// Nowhere: the backing file decides.
    Unallocated,
}

/// A place for a new block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Space {
    /// Offset of the block's data in the file.
    pub host: u64,
    /// End of what the block takes of the file.
    pub end: u64,
}

/// A format's table: from blocks of the disk to places in the file.
///
/// Offsets from the guest are inside the disk. The map of a writable image answers for whole
/// blocks: one that is `Data` at its first byte is `Data` throughout.
pub(crate) trait BlockMap: Send {
    /// The driver's name.
    fn name(&self) -> &'static str;

    /// Length of the disk in bytes.
    fn size(&self) -> u64;

    /// Bytes per block.
    fn block(&self) -> u64;

    /// Where the byte at `guest` is, and for how many bytes (> 0) the answer continues.
    fn lookup(
        &mut self,
        tables: &mut Tables,
        file: &dyn Node,
        guest: u64,
    ) -> io::Result<(Place, u64)>;

    /// Finds a place for a block that has none. The map remembers that the place is taken; the
    /// file is extended to it by the caller. What lies behind the file's present end is zero.
    fn allocate(&mut self, tables: &mut Tables, file: &dyn Node, guest: u64) -> io::Result<Space> {
        let _ = (tables, file, guest);
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    /// Makes the table say that the block at `guest` is at `host`, where its content is now.
    fn link(
        &mut self,
        tables: &mut Tables,
        file: &dyn Node,
        guest: u64,
        host: u64,
    ) -> io::Result<()> {
        let _ = (tables, file, guest, host);
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    /// Finds a place for a packed block of `len` bytes.
    fn allocate_packed(&mut self, file: &dyn Node, len: u64) -> io::Result<u64> {
        let _ = (file, len);
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Makes the table say that the block at `guest` is packed as `piece`.
    fn link_packed(
        &mut self,
        tables: &mut Tables,
        file: &dyn Node,
        guest: u64,
        piece: Piece,
    ) -> io::Result<()> {
        let _ = (tables, file, guest, piece);
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Makes a block that has no place read as zeroes; `false` if the table has no word for it.
    fn set_zero(&mut self, tables: &mut Tables, file: &dyn Node, guest: u64) -> io::Result<bool> {
        let _ = (tables, file, guest);
        Ok(false)
    }

    /// Called once before the first change of an opened image.
    fn begin(&mut self, tables: &mut Tables, file: &dyn Node) -> io::Result<()> {
        let _ = (tables, file);
        Ok(())
    }

    /// Called when an image that was changed is closed, after the last commit.
    fn end(&mut self, file: &dyn Node) -> io::Result<()> {
        let _ = file;
        Ok(())
    }

    /// Whether images of this format can have a backing file and change what they have of it.
    fn is_overlay(&self) -> bool {
        false
    }

    /// Forgets every block, so that all of the disk is unallocated, and gives their space back. No
    /// change of tables is waiting, and none that was made here may be.
    fn make_empty(&mut self, file: &dyn Node) -> io::Result<()> {
        let _ = file;
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Records the name of another backing file, or none.
    fn record_backing(
        &mut self,
        file: &dyn Node,
        name: Option<&str>,
        format: Option<&str>,
    ) -> io::Result<()> {
        let _ = (file, name, format);
        Err(io::Error::new(io::ErrorKind::Unsupported, "Operation not supported"))
    }

    /// Whether [`BlockMap::resize`] can do anything.
    fn resizes(&self) -> bool {
        false
    }

    /// Changes the disk's length.
    fn resize(&mut self, tables: &mut Tables, file: &dyn Node, size: u64) -> io::Result<()> {
        let _ = (tables, file, size);
        Err(no_resize())
    }

    /// Adds what the format tells about an image.
    fn describe(&self, info: &mut NodeInfo);
}

/// What a format says that has no way to change the length of a disk.
pub(crate) fn no_resize() -> io::Error {
    let text = "Image format driver does not support resize";
    io::Error::new(io::ErrorKind::Unsupported, text)
}

/// The disk's length that a new image is to have, rounded up to a sector. Its file begins empty and
/// grows, so that there is nothing to preallocate.
///
/// # Errors
/// `Option` when it is beyond any file, or for a preallocation that files do not have.
pub(crate) fn option_size(options: &ImageOptions) -> Result<u64, OpenError> {
    crate::format::file_preallocation(options)?;
    let size = options.number("size").unwrap_or(0).checked_next_multiple_of(SECTOR);
    let size = size.filter(|size| *size <= i64::MAX as u64);
    size.ok_or_else(|| OpenError::Option("Image size is too large".to_owned()))
}

struct State {
    map: Box<dyn BlockMap>,
    tables: Tables,
    /// Places that were reserved for writes that failed; their content is unknown.
    spare: Vec<Space>,
}

/// An open image that is a table of blocks.
pub struct Blocks {
    file: Arc<dyn Node>,
    backing: Option<Arc<dyn Node>>,
    read_only: bool,
    /// Discards give space of the file back.
    discard: bool,
    block: u64,
    size: AtomicU64,
    state: Mutex<State>,
    store: Mutex<Box<dyn Store>>,
    ranges: RangeLocks,
    unpacked: Unpacked,
    /// The map can say something else of its backing file.
    is_overlay: bool,
    resizes: bool,
    pack: Option<Box<dyn Pack>>,
    begun: AtomicBool,
}

impl Blocks {
    /// The image in `request.file` that `map` describes.
    pub(crate) fn new(request: OpenRequest<'_>, map: impl BlockMap + 'static) -> Self {
        let backing = request.child(Role::Backing);
        Self::of(request.file, backing, request.read_only, request.discard, map)
    }

    /// The image in `file` that `map` describes, in front of `backing`.
    pub(crate) fn of(
        file: Arc<dyn Node>,
        backing: Option<Arc<dyn Node>>,
        read_only: bool,
        discard: bool,
        map: impl BlockMap + 'static,
    ) -> Self {
        Self {
            backing,
            read_only: read_only || file.read_only(),
            discard,
            is_overlay: map.is_overlay(),
            resizes: map.resizes(),
            block: map.block(),
            size: AtomicU64::new(map.size()),
            state: Mutex::new(State {
                map: Box::new(map),
                tables: Tables::default(),
                spare: Vec::new(),
            }),
            store: Mutex::new(Box::new(InPlace)),
            ranges: RangeLocks::default(),
            unpacked: Unpacked::default(),
            pack: None,
            begun: AtomicBool::new(false),
            file,
        }
    }

    /// With another way to write changed tables.
    pub(crate) fn with_store(mut self, store: impl Store + 'static) -> Self {
        self.store = Mutex::new(Box::new(store));
        self
    }

    /// With a way to unpack blocks.
    pub(crate) fn with_unpack(mut self, unpack: impl Unpack + 'static) -> Self {
        self.unpacked = Unpacked::new(Box::new(unpack));
        self
    }

    /// With a way to pack blocks.
    pub(crate) fn with_pack(mut self, pack: impl Pack + 'static) -> Self {
        self.pack = Some(Box::new(pack));
        self
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Holds the blocks of a range.
    fn hold(&self, start: u64, end: u64, sharing: Sharing) -> RangeGuard<'_> {
        let stop = end.checked_next_multiple_of(self.block).unwrap_or(u64::MAX);
        self.ranges.lock(start - start % self.block, stop, sharing)
    }

    fn writable(&self, offset: u64, len: u64) -> io::Result<()> {
        check_range(offset, len, self.size())?;
        if self.read_only {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        if !self.begun.load(Ordering::Acquire) {
            let mut state = self.state();
            if !self.begun.load(Ordering::Acquire) {
                let State { map, tables, .. } = &mut *state;
                map.begin(tables, &*self.file)?;
                self.begun.store(true, Ordering::Release);
            }
        }
        Ok(())
    }

    /// Writes all changes of tables to the file. They are stable after its next flush.
    fn commit(&self) -> io::Result<()> {
        let mut store = lock(&self.store);
        let changes = self.state().tables.take();
        let written = if changes.is_empty() { Ok(()) } else { store.write(&*self.file, &changes) };
        self.state().tables.finish(&changes, written.is_ok());
        written
    }

    fn commit_if_crowded(&self) -> io::Result<()> {
        let crowded = self.state().tables.is_crowded();
        if crowded { self.commit() } else { Ok(()) }
    }

    fn finish(&self, fua: bool) -> io::Result<()> {
        if fua { self.flush() } else { Ok(()) }
    }
}

impl Node for Blocks {
    fn size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        check_range(offset, buf.len() as u64, self.size())?;
        let _range = self.hold(offset, offset + buf.len() as u64, Sharing::Shared);
        self.read_held(offset, buf)
    }

    fn write_at(&self, offset: u64, buf: &[u8], flags: WriteFlags) -> io::Result<()> {
        self.writable(offset, buf.len() as u64)?;
        self.write_data(offset, buf)?;
        self.finish(flags.fua)
    }

    fn write_zeroes(&self, offset: u64, len: u64, flags: ZeroFlags) -> io::Result<()> {
        self.writable(offset, len)?;
        self.zero_range(offset, len, flags)?;
        self.finish(flags.fua)
    }

    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        self.writable(offset, len)?;
        if self.discard { self.discard_range(offset, len) } else { Ok(()) }
    }

    fn flush(&self) -> io::Result<()> {
        if self.read_only {
            return Ok(());
        }
        self.file.event(Event::FlushToOs);
        self.commit()?;
        self.file.event(Event::FlushToDisk);
        self.file.flush()
    }

    fn block_status(&self, offset: u64, len: u64) -> io::Result<Extent> {
        check_range(offset, len, self.size())?;
        let _range = self.hold(offset, offset + len, Sharing::Shared);
        let (place, len) = self.resolve(offset, len)?;
        let (kind, host_offset) = match place {
            Place::Data(host) => (ExtentKind::Data, Some(host)),
            Place::Packed(..) => (ExtentKind::Compressed, None),
            Place::Zero => (ExtentKind::Zero, None),
            Place::Unallocated => (ExtentKind::Unallocated, None),
        };
        Ok(Extent { kind, len, host_offset })
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        self.writable(0, 0)?;
        let _range = self.hold(0, u64::MAX, Sharing::Exclusive);
        {
            let mut state = self.state();
            let State { map, tables, .. } = &mut *state;
            map.resize(tables, &*self.file, size)?;
            self.size.store(map.size(), Ordering::Release);
        }
        self.flush()
    }

    fn read_only(&self) -> bool {
        self.read_only
    }

    fn limits(&self) -> Limits {
        let granularity = u32::try_from(self.block).unwrap_or(1 << 31);
        Limits { discard_granularity: granularity, ..self.file.limits() }
    }

    fn children(&self) -> Vec<Child> {
        let file = Child { role: Role::File, node: Arc::clone(&self.file) };
        let backing = self.backing.as_ref().filter(|backing| backing.present());
        let backing = backing.map(|b| Child { role: Role::Backing, node: Arc::clone(b) });
        std::iter::once(file).chain(backing).collect()
    }

    fn info(&self) -> NodeInfo {
        let file = self.file.info();
        let state = self.state();
        let mut info = NodeInfo {
            driver: state.map.name(),
            filename: file.filename,
            allocated: file.allocated,
            cluster_size: u32::try_from(self.block).ok(),
            ..NodeInfo::default()
        };
        state.map.describe(&mut info);
        info
    }

    fn image(&self) -> Option<&dyn Image> {
        Some(self)
    }
}

impl Image for Blocks {
    fn resize(&self, size: u64, preallocation: Preallocation) -> io::Result<()> {
        if !self.resizes {
            return Err(no_resize());
        }
        if preallocation != Preallocation::Off {
            let text = format!("Unsupported preallocation mode '{}'", preallocation.name());
            return Err(io::Error::new(io::ErrorKind::Unsupported, text));
        }
        self.truncate(size)
    }

    fn compress(&self) -> Option<&dyn Compress> {
        self.pack.as_ref().map(|_| self as &dyn Compress)
    }

    fn overlay(&self) -> Option<&dyn Overlay> {
        self.is_overlay.then_some(self)
    }
}

impl Overlay for Blocks {
    fn record_backing(&self, name: Option<&str>, format: Option<&str>) -> io::Result<()> {
        self.writable(0, 0)?;
        self.flush()?;
        self.state().map.record_backing(&*self.file, name, format)
    }

    fn make_empty(&self) -> io::Result<()> {
        self.writable(0, 0)?;
        let _range = self.hold(0, u64::MAX, Sharing::Exclusive);
        self.commit()?;
        let mut state = self.state();
        state.tables = Tables::default();
        state.spare.clear();
        state.map.make_empty(&*self.file)
    }
}

impl Compress for Blocks {
    fn unit(&self) -> u64 {
        self.block
    }

    fn write_compressed(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let len = data.len() as u64;
        self.writable(offset, len)?;
        self.commit_if_crowded()?;
        let _range = self.hold(offset, offset + len, Sharing::Exclusive);
        self.write_packed(offset, data)
    }
}

impl Drop for Blocks {
    fn drop(&mut self) {
        if !self.begun.load(Ordering::Acquire) {
            return;
        }
        // Failure costs only what nobody flushed; the end mark is not made then.
        if self.commit().is_ok() {
            let _ = self.state().map.end(&*self.file);
        }
    }
}

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
