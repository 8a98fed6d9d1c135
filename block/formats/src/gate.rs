//! What stands between an image and the host's files.

use std::path::PathBuf;
use std::sync::Arc;

use graph::{Node, OpenError};
use protocols::{File, FileOptions};

/// Why a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The user named it.
    Named,
    /// An image names it as its backing file.
    Backing,
}

/// Opens files on behalf of images. Images never open anything themselves, so a caller that does
/// not trust them can refuse, or pass descriptors it got from elsewhere.
pub trait Gate {
    /// Opens a file or block device.
    ///
    /// # Errors
    /// When the host or the gate refuses.
    fn open(&self, options: &FileOptions, reason: Reason) -> Result<Arc<dyn Node>, OpenError>;

    /// A file without a name for a temporary overlay.
    ///
    /// # Errors
    /// When the host has no room for one.
    fn temporary(&self) -> Result<Arc<dyn Node>, OpenError>;
}

/// The gate that lets everything through, as QEMU does.
pub struct HostFiles;

impl Gate for HostFiles {
    fn open(&self, options: &FileOptions, _reason: Reason) -> Result<Arc<dyn Node>, OpenError> {
        Ok(Arc::new(File::open(options)?))
    }

    fn temporary(&self) -> Result<Arc<dyn Node>, OpenError> {
        let folder =
            std::env::var_os("TMPDIR").map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from);
        Ok(Arc::new(File::temporary(&folder)?))
    }
}
