//! What an image can do beyond reading and writing, as the tools and jobs drive it.
//!
//! A [`Node`](crate::Node) that is an image answers [`Node::image`](crate::Node::image) with its
//! [`Image`] facet; abilities that only some formats have are facets of that again.

use std::io;
use std::sync::Arc;

use crypto::{Credentials, Endpoint, Objects};

use crate::throttle::Group;
use crate::{ImageOptions, OpenError};

/// How space for a disk is reserved when it is created or grows (`preallocation=`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Preallocation {
    /// Nothing is.
    #[default]
    Off,
    /// Tables are filled; data clusters have places that take no space yet.
    Metadata,
    /// Likewise, and the host reserves the space.
    Falloc,
    /// Likewise, by writing zeroes.
    Full,
}

impl Preallocation {
    /// Every mode by its name.
    pub const TABLE: &[(&str, Self)] = &[
        ("off", Self::Off),
        ("metadata", Self::Metadata),
        ("falloc", Self::Falloc),
        ("full", Self::Full),
    ];

    /// The mode called `name`.
    pub fn named(name: &str) -> Option<Self> {
        Self::TABLE.iter().find(|(n, _)| *n == name).map(|(_, mode)| *mode)
    }

    /// The name of the mode.
    pub const fn name(self) -> &'static str {
        Self::TABLE[self as usize].0
    }
}

/// The facet of a node that is an image.
pub trait Image: Send + Sync {
    /// Changes the length of the disk. Content behind a smaller length is lost; a longer disk reads
    /// as zeroes in its new part, also where a backing file is longer.
    ///
    /// # Errors
    /// `Unsupported` with the format's reason; else the host's.
    fn resize(&self, size: u64, preallocation: Preallocation) -> io::Result<()>;

    /// The facet of formats that store compressed clusters.
    fn compress(&self) -> Option<&dyn Compress> {
        None
    }

    /// The facet of formats with internal snapshots.
    fn snapshots(&self) -> Option<&dyn Snapshots> {
        None
    }

    /// The facet of formats that keep dirty bitmaps.
    fn bitmaps(&self) -> Option<&dyn Bitmaps> {
        None
    }

    /// The facet of formats whose options can be changed later.
    fn amend(&self) -> Option<&dyn Amend> {
        None
    }

    /// The facet of formats whose files can be made shorter.
    fn compact(&self) -> Option<&dyn Compact> {
        None
    }

    /// The facet of formats that can have a backing file.
    fn overlay(&self) -> Option<&dyn Overlay> {
        None
    }
}

/// Storing clusters compressed.
pub trait Compress: Send + Sync {
    /// Bytes that are compressed together; a power of two.
    fn unit(&self) -> u64;

    /// Whether nothing can be stored but whole units, compressed.
    fn only(&self) -> bool {
        false
    }

    /// Stores one whole unit (or what the disk's end leaves of it) compressed, or plain if that is
    /// no longer. Calls for different units may come from several threads and compress in parallel.
    ///
    /// # Errors
    /// `InvalidInput` for a range that is not one unit; else as for a write.
    fn write_compressed(&self, offset: u64, data: &[u8]) -> io::Result<()>;
}

/// Making an image's file as short as its content.
pub trait Compact: Send + Sync {
    /// Moves what lies far behind to places that are free, and cuts the file. The disk holds the same at any
    /// time, whenever it is cut off. `progress` hears work done and work in all.
    ///
    /// # Errors
    /// As for a write.
    fn compact(&self, progress: &mut dyn FnMut(u64, u64)) -> io::Result<()>;
}

/// Being the upper one of two images.
pub trait Overlay: Send + Sync {
    /// Records another backing file, or none, in the image. The open node keeps the one it has.
    ///
    /// # Errors
    /// `Unsupported` by some formats, `InvalidInput` when the name does not fit; else the host's.
    fn record_backing(&self, name: Option<&str>, format: Option<&str>) -> io::Result<()>;

    /// Gives back everything the image stores, so that all of it shows the backing file again.
    ///
    /// # Errors
    /// `Unsupported` by some formats; else as for a write.
    fn make_empty(&self) -> io::Result<()>;
}

/// What an internal snapshot is, apart from its clusters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// Unique number as text, given by the image.
    pub id: String,
    /// Name given by the user.
    pub name: String,
    /// Bytes of the virtual machine's state; 0 without.
    pub vm_state_size: u64,
    /// When it was taken: seconds since 1970 and nanoseconds.
    pub date_sec: u32,
    /// Nanoseconds of the date.
    pub date_nsec: u32,
    /// Guest time that had run, in nanoseconds.
    pub vm_clock_nsec: u64,
    /// Instructions that had run, if they were counted.
    pub icount: Option<u64>,
    /// Length of the disk then, in bytes.
    pub disk_size: u64,
}

/// Internal snapshots.
pub trait Snapshots: Send + Sync {
    /// All snapshots in the order of the image.
    fn list(&self) -> Vec<SnapshotInfo>;

    /// Takes a snapshot of what the disk holds now, with the virtual machine's state of
    /// `info.vm_state_size` bytes that was written by [`Snapshots::write_vm_state`]. The image gives the `id`
    /// (unless one is set that is free) and the `disk_size`.
    ///
    /// # Errors
    /// As for a write.
    fn create(&self, info: &SnapshotInfo) -> io::Result<()>;

    /// Makes the disk hold what it did when the snapshot was taken.
    ///
    /// # Errors
    /// `NotFound`; else as for a write.
    fn apply(&self, id_or_name: &str) -> io::Result<()>;

    /// Removes a snapshot.
    ///
    /// # Errors
    /// `NotFound`; else as for a write.
    fn delete(&self, id_or_name: &str) -> io::Result<()>;

    /// Opens a snapshot for reading as a disk of its own.
    ///
    /// # Errors
    /// `NotFound`; damage of its tables.
    fn open(&self, id_or_name: &str) -> io::Result<Arc<dyn crate::Node>>;

    /// Stores a part of the virtual machine's state for the next snapshot.
    ///
    /// # Errors
    /// As for a write.
    fn write_vm_state(&self, offset: u64, data: &[u8]) -> io::Result<()>;

    /// Reads the virtual machine's state that the last applied snapshot brought.
    ///
    /// # Errors
    /// As for a read.
    fn read_vm_state(&self, offset: u64, buf: &mut [u8]) -> io::Result<()>;
}

/// What a persistent dirty bitmap is, apart from its bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BitmapInfo {
    /// Its name.
    pub name: String,
    /// Bytes of the disk per bit; a power of two.
    pub granularity: u32,
    /// It was not stored properly and its bits mean nothing; it can only be removed.
    pub in_use: bool,
    /// It notes writes as soon as the image is opened.
    pub auto: bool,
}

/// Persistent dirty bitmaps. While the image is open for writing they are live: writes to the disk
/// set bits of those that are enabled, and closing stores them.
pub trait Bitmaps: Send + Sync {
    /// All bitmaps in the order of the image.
    fn list(&self) -> Vec<BitmapInfo>;

    /// Adds a bitmap without set bits; `granularity` 0 takes the image's default.
    ///
    /// # Errors
    /// `AlreadyExists`, `InvalidInput` for a bad name or granularity.
    fn add(&self, name: &str, granularity: u32, enabled: bool) -> io::Result<()>;

    /// Removes a bitmap.
    ///
    /// # Errors
    /// `NotFound`.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Clears all bits.
    ///
    /// # Errors
    /// `NotFound`; `InvalidData` for a bitmap whose bits mean nothing.
    fn clear(&self, name: &str) -> io::Result<()>;

    /// Starts or stops noting writes.
    ///
    /// # Errors
    /// As [`Bitmaps::clear`].
    fn enable(&self, name: &str, on: bool) -> io::Result<()>;

    /// Sets the bits of a byte range of the disk.
    ///
    /// # Errors
    /// As [`Bitmaps::clear`].
    fn set(&self, name: &str, offset: u64, len: u64) -> io::Result<()>;

    /// The first run of set bits at or behind `from`, as start and length in bytes of the disk.
    ///
    /// # Errors
    /// As [`Bitmaps::clear`].
    fn next_dirty(&self, name: &str, from: u64) -> io::Result<Option<(u64, u64)>>;
}

/// Changing options of an image that exists.
pub trait Amend: Send + Sync {
    /// Applies those options that are set; passphrases that they name come from `secrets`. Where
    /// `force` is set, what may lose data is done. `progress` hears work done and work in all.
    ///
    /// # Errors
    /// `Option` for what cannot be changed, else the host's.
    fn apply(
        &self,
        options: &ImageOptions,
        force: bool,
        secrets: &dyn Secrets,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<(), OpenError>;
}

/// What a check may repair.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fix {
    /// Nothing: the image is only read.
    #[default]
    Nothing,
    /// Lost space, which never changes what the disk holds.
    Leaks,
    /// Everything that can be.
    All,
}

/// What a check found. Formats without a notion of clusters leave those numbers `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Wrong entries and counts that are too low: data is in danger.
    pub corruptions: u64,
    /// Clusters counted but not used: lost space only.
    pub leaks: u64,
    /// Things that could not be checked.
    pub check_errors: u64,
    /// Corruptions that were repaired and are no longer in `corruptions`.
    pub corruptions_fixed: u64,
    /// Leaks that were repaired and are no longer in `leaks`.
    pub leaks_fixed: u64,
    /// Guest clusters with content of their own.
    pub allocated_clusters: u64,
    /// Guest clusters that do not follow the one before them in the file.
    pub fragmented_clusters: u64,
    /// Guest clusters that are compressed.
    pub compressed_clusters: u64,
    /// Guest clusters of the disk.
    pub total_clusters: u64,
    /// End of the last used host cluster in bytes.
    pub image_end: u64,
    /// The first findings in words, one line each.
    pub findings: Vec<String>,
}

/// How large an image file will be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Measured {
    /// Bytes for the content there is.
    pub required: u64,
    /// Bytes when every cluster is allocated.
    pub fully_allocated: u64,
    /// Bytes for the bitmaps of the source, if those can be copied.
    pub bitmaps: Option<u64>,
}

/// A property in `Format specific information`, named as in JSON; people read `-` as a blank.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Property {
    /// A truth value.
    Bool(bool),
    /// A number.
    Number(u64),
    /// A text.
    Text(String),
    /// Several values, shown with their index.
    List(Vec<Property>),
    /// Values with names.
    Group(Vec<(&'static str, Property)>),
}

impl From<bool> for Property {
    fn from(on: bool) -> Self {
        Self::Bool(on)
    }
}

impl From<u64> for Property {
    fn from(n: u64) -> Self {
        Self::Number(n)
    }
}

impl From<&str> for Property {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// Where objects that nodes refer to come from: passphrases and keys (`--object secret`), throttle
/// groups (`--object throttle-group`).
pub trait Secrets: Send + Sync {
    /// The bytes of the secret called `id`.
    ///
    /// # Errors
    /// `Option` when there is none.
    fn secret(&self, id: &str) -> Result<Vec<u8>, OpenError>;

    /// The TLS credentials called `id`, for who connects.
    ///
    /// # Errors
    /// `Option` when there are none, or they are for who is called.
    fn client_credentials(&self, id: &str) -> Result<Arc<Credentials>, OpenError> {
        Err(OpenError::Option(format!("No TLS credentials with id '{id}'")))
    }

    /// The throttle group called `id`, if there is one.
    fn throttle_group(&self, _id: &str) -> Option<Arc<Group>> {
        None
    }
}

impl Secrets for Objects {
    fn secret(&self, id: &str) -> Result<Vec<u8>, OpenError> {
        Objects::secret(self, id).map_err(OpenError::Option)
    }

    fn client_credentials(&self, id: &str) -> Result<Arc<Credentials>, OpenError> {
        self.tls(id, Endpoint::Client).map_err(OpenError::Option)
    }
}

/// The provider that has none.
pub struct NoSecrets;

impl Secrets for NoSecrets {
    fn secret(&self, id: &str) -> Result<Vec<u8>, OpenError> {
        Err(OpenError::Option(format!("No secret with id '{id}'")))
    }
}
