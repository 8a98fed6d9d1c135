//! What a node of the block graph is.

use std::io;
use std::sync::{Arc, PoisonError, RwLock};

use crate::{
    Aio, Breakpoints, DiskOptions, Event, Image, OpenError, Past, Permissions, Plain,
    Preallocation, Property,
};

/// What nodes say that have a fixed length.
pub const FIXED_LENGTH: &str = "this node cannot be resized";

/// Bytes per sector where a format or a device counts in sectors.
pub const SECTOR: u64 = 512;

/// How a write may be acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteFlags {
    /// Force unit access: stable storage holds the data when the call returns.
    pub fua: bool,
}

/// How zeroes may be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ZeroFlags {
    /// Force unit access, as for a write.
    pub fua: bool,
    /// The space may be given back.
    pub unmap: bool,
}

/// Sizes that requests to a node should respect, all in bytes and powers of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Smallest unit that can be addressed without a read-modify-write cycle.
    pub request_alignment: u32,
    /// What a guest should be told as its logical block size.
    pub logical_block: u32,
    /// What a guest should be told as its physical block size.
    pub physical_block: u32,
    /// Discards smaller than this, or unaligned to it, free nothing.
    pub discard_granularity: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            request_alignment: 1,
            logical_block: 512,
            physical_block: 512,
            discard_granularity: 512,
        }
    }
}

/// Where the contents of a range come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExtentKind {
    /// Stored in this layer.
    Data,
    /// Stored in this layer, compressed.
    Compressed,
    /// Reads as zeroes because this layer says so.
    Zero,
    /// Not in this layer: the backing file decides, or zeroes without one.
    Unallocated,
}

/// A range of a node with one kind of content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// What the range holds.
    pub kind: ExtentKind,
    /// Bytes from the asked offset on that share this answer; never zero.
    pub len: u64,
    /// Where the bytes lie in the `file` child, if they are stored there unchanged.
    pub host_offset: Option<u64>,
}

/// What a child is to its parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Holds the image's bytes.
    File,
    /// Answers for what the image does not hold.
    Backing,
    /// Holds guest data while `File` holds the tables.
    Data,
    /// Holds a part of the guest data: one of the files that a descriptor names, by its number.
    Extent(u32),
    /// What only one filter has, under the name of its option: `image`, `target`, `test`, …
    Named(&'static str),
    /// One of several that hold the same, by its number.
    Member(u32),
}

impl Role {
    /// The name as options and messages spell it.
    pub fn name(self) -> String {
        match self {
            Self::File => "file".to_owned(),
            Self::Backing => "backing".to_owned(),
            Self::Data => "data-file".to_owned(),
            Self::Extent(n) => format!("extents.{n}"),
            Self::Named(name) => name.to_owned(),
            Self::Member(n) => format!("children.{n}"),
        }
    }
}

/// An edge of the graph.
#[derive(Clone)]
pub struct Child {
    /// What the node is used for.
    pub role: Role,
    /// The node.
    pub node: Arc<dyn Node>,
}

/// What monitors and tools show about a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeInfo {
    /// Driver name: `file`, `raw`, `qcow2`, …
    pub driver: &'static str,
    /// File name, if the node has one of its own or inherits its child's.
    pub filename: String,
    /// Bytes that the image takes on the host, where known.
    pub allocated: Option<u64>,
    /// Cluster size in bytes, for formats that have clusters.
    pub cluster_size: Option<u32>,
    /// Offset at which the image keeps the states of virtual machines, in bytes; 0 if it keeps none.
    pub vm_state_offset: u64,
    /// Name of the backing file as the image records it.
    pub backing_filename: Option<String>,
    /// Format of the backing file as the image records it.
    pub backing_format: Option<String>,
    /// The image was not closed properly.
    pub dirty: bool,
    /// The image is known to be damaged.
    pub corrupt: bool,
    /// The content is encrypted.
    pub encrypted: bool,
    /// Properties of the format by name, in the order of QEMU's `Format specific information`.
    pub specific: Vec<(&'static str, Property)>,
}

/// A node of the block graph. All calls may come from any thread at any time.
///
/// Offsets and lengths are in bytes. Callers stay below [`Node::size`]; [`check_range`] is the test
/// for those who take offsets from outside. Requests in flight at the same time have no order
/// unless they are the caller's to order (see [`crate::Queue`]).
pub trait Node: Send + Sync {
    /// Length of the node in bytes.
    fn size(&self) -> u64;

    /// Fills `buf` with what the node holds at `offset`.
    ///
    /// # Errors
    /// Whatever the host reports; `InvalidData` if metadata is damaged.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()>;

    /// Fills `buf` if that is possible at once: from memory, without waiting for a disk or for
    /// another request. `false` means that it is not, and leaves anything in `buf`.
    fn read_cached(&self, _offset: u64, _buf: &mut [u8]) -> bool {
        false
    }

    /// Says where the bytes of a request are, if it comes to plain transfers of files, so that the kernel
    /// can carry it out without a thread: `true` with all of it in `into`. Answers at once: what must wait
    /// for a disk or another request, change metadata, or be computed has no answer, and goes to
    /// [`Node::read_at`] and [`Node::write_at`].
    ///
    /// Callers have not checked the range.
    fn plain(&self, _offset: u64, _len: u64, _write: bool, _into: &mut Plain) -> bool {
        false
    }

    /// How requests that are plain are to be carried out. It may be another one for some of them.
    fn aio(&self) -> Aio {
        Aio::Threads
    }

    /// Stores `buf` at `offset`. Without `fua` it is stable only after [`Node::flush`].
    ///
    /// # Errors
    /// `StorageFull` and the like from the host, `ReadOnlyFilesystem` on a read-only node.
    fn write_at(&self, offset: u64, buf: &[u8], flags: WriteFlags) -> io::Result<()>;

    /// Makes a range read as zeroes.
    ///
    /// # Errors
    /// As for a write.
    fn write_zeroes(&self, offset: u64, len: u64, flags: ZeroFlags) -> io::Result<()>;

    /// Tells that the content of a range is of no interest. It may read as anything afterwards
    /// that the guest wrote there before, or as zeroes.
    ///
    /// # Errors
    /// As for a write; a node that cannot discard does nothing and succeeds.
    fn discard(&self, offset: u64, len: u64) -> io::Result<()>;

    /// Returns when everything written before the call is on stable storage, metadata included.
    ///
    /// # Errors
    /// Whatever the host reports; nothing may then be assumed about unflushed data.
    fn flush(&self) -> io::Result<()>;

    /// Tells where the content from `offset` on comes from; the answer covers at most `len` bytes.
    ///
    /// # Errors
    /// As for a read.
    fn block_status(&self, offset: u64, len: u64) -> io::Result<Extent>;

    /// Changes the length; a longer node reads as zeroes in its new part.
    ///
    /// # Errors
    /// `Unsupported` for nodes whose length is fixed.
    fn truncate(&self, _size: u64) -> io::Result<()> {
        Err(io::Error::new(io::ErrorKind::Unsupported, FIXED_LENGTH))
    }

    /// Makes a range that may lie behind the end read as zeroes and, for `Falloc` and `Full`, have
    /// its space reserved; the node grows to hold it.
    ///
    /// # Errors
    /// As for a write.
    fn preallocate(&self, offset: u64, len: u64, how: Preallocation) -> io::Result<()> {
        match how {
            Preallocation::Off | Preallocation::Metadata => {
                let end = offset.checked_add(len).ok_or(io::ErrorKind::InvalidInput)?;
                if end > self.size() { self.truncate(end) } else { Ok(()) }
            }
            _ => self.write_zeroes(offset, len, ZeroFlags::default()),
        }
    }

    /// Whether writes are refused.
    fn read_only(&self) -> bool;

    /// Alignments and block sizes.
    fn limits(&self) -> Limits {
        Limits::default()
    }

    /// The nodes that this one uses.
    fn children(&self) -> Vec<Child> {
        Vec::new()
    }

    /// What to show about the node.
    fn info(&self) -> NodeInfo;

    /// Whether there is a node at all: an [`crate::Edge`] may lead to nothing.
    fn present(&self) -> bool {
        true
    }

    /// Whether it shows a part of its file, for which that must keep its length.
    fn is_part(&self) -> bool {
        false
    }

    /// Told what its users together do and allow, before they do. A file of the host is locked
    /// accordingly, and opened for writing if it may be and somebody writes.
    ///
    /// # Errors
    /// `Locked` or `Host` when that cannot be; then it is as before.
    fn permit(&self, _users: Permissions) -> Result<(), OpenError> {
        Ok(())
    }

    /// Told of other options, before they hold: a file of the host is opened again in its place.
    ///
    /// # Errors
    /// `Host` when that cannot be; then it is as before.
    fn adjust(&self, _options: &DiskOptions) -> Result<(), OpenError> {
        Ok(())
    }

    /// Begins (`on`) or ends a time in which requests in flight are waited for: a node that holds
    /// requests back on purpose, as a throttle does, lets them go meanwhile. Calls come in pairs and
    /// may nest.
    fn hasten(&self, _on: bool) {}

    /// The facet of nodes that are images with metadata of their own.
    fn image(&self) -> Option<&dyn Image> {
        None
    }

    /// Hears what the node above is about to do with this one. May block: a breakpoint is here.
    fn event(&self, _event: Event) {}

    /// The facet of nodes that keep what writes replace.
    fn past(&self) -> Option<Arc<dyn Past>> {
        None
    }

    /// The facet of nodes whose children may come and go.
    fn siblings(&self) -> Option<&dyn Siblings> {
        None
    }

    /// The facet of nodes that stop requests at events.
    fn breakpoints(&self) -> Option<Arc<dyn Breakpoints>> {
        None
    }
}

/// Children of one node that may come and go, while nothing is in flight in it.
pub trait Siblings: Send + Sync {
    /// The number of the next child.
    ///
    /// # Errors
    /// `Option` for a node that takes no other one.
    fn next(&self) -> Result<u32, OpenError>;

    /// Takes a child.
    fn adopt(&self, number: u32, child: Arc<dyn Node>);

    /// Lets a child go.
    ///
    /// # Errors
    /// `Option` when the node needs all that it has.
    fn release(&self, number: u32) -> Result<(), OpenError>;
}

/// Refuses a range that is not inside `[0, size)`.
///
/// # Errors
/// `InvalidInput` with both numbers.
pub fn check_range(offset: u64, len: u64, size: u64) -> io::Result<()> {
    match offset.checked_add(len) {
        Some(end) if end <= size => Ok(()),
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("request of {len} bytes at {offset} is outside the disk of {size} bytes"),
        )),
    }
}

/// Whether every byte is zero.
pub fn is_zero(buf: &[u8]) -> bool {
    let mut chunks = buf.chunks_exact(64);
    chunks.by_ref().all(|c| c.iter().fold(0, |a, b| a | b) == 0)
        && chunks.remainder().iter().all(|b| *b == 0)
}

/// A node in memory: content for tests and for firmware images that are not written back.
pub struct Memory {
    bytes: RwLock<Vec<u8>>,
    read_only: bool,
}

impl Memory {
    /// A node that holds `bytes`.
    pub fn new(bytes: Vec<u8>, read_only: bool) -> Self {
        Self { bytes: RwLock::new(bytes), read_only }
    }

    /// A copy of the content.
    pub fn snapshot(&self) -> Vec<u8> {
        self.bytes.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn range(&self, offset: u64, len: u64, size: usize) -> io::Result<std::ops::Range<usize>> {
        check_range(offset, len, size as u64)?;
        Ok(offset as usize..(offset + len) as usize)
    }
}

impl Node for Memory {
    fn size(&self) -> u64 {
        self.bytes.read().unwrap_or_else(PoisonError::into_inner).len() as u64
    }

    fn read_cached(&self, offset: u64, buf: &mut [u8]) -> bool {
        self.read_at(offset, buf).is_ok()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let bytes = self.bytes.read().unwrap_or_else(PoisonError::into_inner);
        let range = self.range(offset, buf.len() as u64, bytes.len())?;
        buf.copy_from_slice(&bytes[range]);
        Ok(())
    }

    fn write_at(&self, offset: u64, buf: &[u8], _flags: WriteFlags) -> io::Result<()> {
        if self.read_only {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        let mut bytes = self.bytes.write().unwrap_or_else(PoisonError::into_inner);
        let range = self.range(offset, buf.len() as u64, bytes.len())?;
        bytes[range].copy_from_slice(buf);
        Ok(())
    }

    fn write_zeroes(&self, offset: u64, len: u64, _flags: ZeroFlags) -> io::Result<()> {
        if self.read_only {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        let mut bytes = self.bytes.write().unwrap_or_else(PoisonError::into_inner);
        let range = self.range(offset, len, bytes.len())?;
        bytes[range].fill(0);
        Ok(())
    }

    fn discard(&self, _offset: u64, _len: u64) -> io::Result<()> {
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }

    fn block_status(&self, offset: u64, len: u64) -> io::Result<Extent> {
        check_range(offset, len, self.size())?;
        Ok(Extent { kind: ExtentKind::Data, len, host_offset: None })
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        let size =
            usize::try_from(size).map_err(|_| io::Error::from(io::ErrorKind::StorageFull))?;
        self.bytes.write().unwrap_or_else(PoisonError::into_inner).resize(size, 0);
        Ok(())
    }

    fn read_only(&self) -> bool {
        self.read_only
    }

    fn info(&self) -> NodeInfo {
        NodeInfo { driver: "memory", ..NodeInfo::default() }
    }
}

impl From<OpenError> for io::Error {
    fn from(error: OpenError) -> Self {
        Self::other(error)
    }
}
