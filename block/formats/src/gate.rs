//! What stands between an image and the host's files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use graph::{Node, OpenError, Preallocation};
use protocols::{File, FileOptions};

use crate::remote;

/// Why a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The user named it.
    Named,
    /// An image names it as its backing file.
    Backing,
    /// An image names it as the file that holds its guest data, or a part of it.
    Data,
}

/// A file to be made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NewFile {
    /// Its length in bytes.
    pub size: u64,
    /// How its space is reserved.
    pub preallocation: Preallocation,
    /// Copy-on-write is turned off where the file system has it.
    pub nocow: bool,
}

/// A server and an image that it has.
#[derive(Clone, Debug)]
pub enum Place {
    /// An export of an NBD server.
    Nbd(nbd::Location, nbd::Options),
    /// What a web server has; the driver's name is `http` or `https`.
    Web(&'static str, web::Options),
    /// A file that ssh reaches.
    Ssh(ssh::Options),
}

impl Place {
    /// The server's address, for messages.
    pub fn address(&self) -> String {
        match self {
            Self::Nbd(location, _) => location.address.to_string(),
            Self::Web(_, options) => options.url.clone(),
            Self::Ssh(options) => options.uri(),
        }
    }

    /// Connects to it.
    ///
    /// # Errors
    /// When the server or the host refuses.
    pub fn connect(&self) -> Result<Arc<dyn Node>, OpenError> {
        Ok(match self {
            Self::Nbd(location, options) => Arc::new(nbd::Client::open(location, options)?),
            Self::Web(driver, options) => Arc::new(web::Http::open(driver, options)?),
            Self::Ssh(options) => Arc::new(ssh::Ssh::open(options)?),
        })
    }
}

/// Opens and makes files on behalf of images. Images never open anything themselves, so a caller
/// that does not trust them can refuse, or pass descriptors it got from elsewhere.
pub trait Gate {
    /// Opens a file or block device.
    ///
    /// # Errors
    /// When the host or the gate refuses.
    fn open(&self, options: &FileOptions, reason: Reason) -> Result<Arc<dyn Node>, OpenError>;

    /// Connects to a server that has an image. Refused unless the gate says otherwise.
    ///
    /// # Errors
    /// When the server, the host or the gate refuses.
    fn connect(&self, place: &Place, _reason: Reason) -> Result<Arc<dyn Node>, OpenError> {
        let text = format!("connections to '{}' are not allowed here", place.address());
        Err(OpenError::Option(text))
    }

    /// A file without a name for a temporary overlay.
    ///
    /// # Errors
    /// When the host has no room for one.
    fn temporary(&self) -> Result<Arc<dyn Node>, OpenError>;

    /// Makes a file, or empties one that exists unless it is in use.
    ///
    /// # Errors
    /// When the host or the gate refuses.
    fn create(&self, path: &str, new: &NewFile) -> Result<Arc<dyn Node>, OpenError>;

    /// Whether there is a file of that name.
    fn exists(&self, path: &str) -> bool;

    /// Something that the user should know, and that is no error.
    fn note(&self, _text: &str) {}

    /// Removes a file that was made and could not be completed, if possible.
    fn remove(&self, path: &str);
}

/// The gate that lets everything through, as QEMU does.
pub struct HostFiles;

impl Gate for HostFiles {
    fn open(&self, options: &FileOptions, _reason: Reason) -> Result<Arc<dyn Node>, OpenError> {
        Ok(Arc::new(File::open(options)?))
    }

    fn connect(&self, place: &Place, _reason: Reason) -> Result<Arc<dyn Node>, OpenError> {
        place.connect()
    }

    fn temporary(&self) -> Result<Arc<dyn Node>, OpenError> {
        let folder =
            std::env::var_os("TMPDIR").map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from);
        Ok(Arc::new(File::temporary(&folder)?))
    }

    fn create(&self, path: &str, new: &NewFile) -> Result<Arc<dyn Node>, OpenError> {
        if let Some(node) = remote::create(path, new.size)? {
            return Ok(node);
        }
        let file = File::create(path, 0)?;
        if file.is_device() {
            if new.size > file.size() {
                return Err(OpenError::Option(format!("{path}: Cannot grow device files")));
            }
            // Nobody shall take it for what it was.
            let first = file.size().min(graph::SECTOR);
            let zeroed = file.write_zeroes(0, first, graph::ZeroFlags::default());
            zeroed.map_err(|e| OpenError::host(path, e))?;
            return Ok(Arc::new(file));
        }
        if new.nocow {
            file.turn_off_copy_on_write();
        }
        let failed = |e| OpenError::Host {
            operation: format!("{path}: Could not resize '{path}'"),
            source: e,
        };
        file.preallocate(0, new.size, new.preallocation).map_err(failed)?;
        Ok(Arc::new(file))
    }

    fn exists(&self, path: &str) -> bool {
        Path::new(path).exists()
    }

    /// A line on standard error that begins with the name by which the program was called.
    fn note(&self, text: &str) {
        let called = std::env::args_os().next().unwrap_or_default();
        let name = Path::new(&called).file_name().unwrap_or_default();
        eprintln!("{}: {text}", name.display());
    }

    fn remove(&self, path: &str) {
        // The failure that led here is what the user hears of.
        let _ = std::fs::remove_file(path);
    }
}
