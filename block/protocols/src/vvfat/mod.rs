//! `vvfat`: a folder of the host as a disk with a FAT file system ("Microsoft Extensible Firmware
//! Initiative FAT32 File System Specification", 1.03; integers little-endian).
//!
//! What the folder holds is looked at once, when the disk is opened: tables and directories are in
//! memory, bounded by [`MOST_ENTRIES`]; the content of files is read when it is asked for. A file that
//! has become shorter reads as zeroes behind its end. Symbolic links and special files are left out,
//! and a file that one of them has taken the place of is not read.
//!
//! Not supported: writing (`rw`).

mod names;
mod shape;
mod tree;
mod volume;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use graph::{
    Extent, ExtentKind, Node, NodeInfo, OpenError, SECTOR, WriteFlags, ZeroFlags, check_range,
};
use rustix::fs::{Mode, OFlags, ResolveFlags};

pub use shape::FatType;
use volume::{Source, Volume};

/// Most files and folders.
pub const MOST_ENTRIES: usize = 1 << 16;

/// What the disk is to be like.
#[derive(Clone, Debug)]
pub struct VvfatOptions {
    /// The folder.
    pub dir: PathBuf,
    /// Width of the entries of the allocation table; by the disk's kind without.
    pub fat_type: Option<FatType>,
    /// A floppy disk, without partitions.
    pub floppy: bool,
    /// Name of the volume, at most 11 bytes.
    pub label: String,
}

impl VvfatOptions {
    /// A hard disk of the folder `dir`.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into(), fat_type: None, floppy: false, label: "QEMU VVFAT".to_owned() }
    }
}

/// A folder as a disk.
pub struct Vvfat {
    options: VvfatOptions,
    folder: File,
    volume: Volume,
    /// The file that was read last, by its path.
    last: Mutex<Option<(PathBuf, File)>>,
}

impl Vvfat {
    /// Looks at the folder.
    ///
    /// # Errors
    /// `Option` for a label that is too long or a folder that does not fit; what the host reports.
    pub fn open(options: VvfatOptions) -> Result<Self, OpenError> {
        if options.label.len() > 11 {
            let text = "vvfat label cannot be longer than 11 bytes";
            return Err(OpenError::Option(text.to_owned()));
        }
        let dir = options.dir.display();
        let unreadable = |_| OpenError::Option(format!("Could not read directory {dir}"));
        let folder = File::open(&options.dir).map_err(unreadable)?;
        let tree = tree::walk(&options.dir)?;
        let volume = Volume::lay_out(&options, tree).map_err(OpenError::Option)?;
        Ok(Self { options, folder, volume, last: Mutex::new(None) })
    }

    /// Reads from a file of the folder; what it does not have is zeroes.
    fn read_file(&self, path: &Path, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.as_ref().is_none_or(|(open, _)| open != path) {
            // Nothing on the way may lead out of the folder.
            let opened = rustix::fs::openat2(
                &self.folder,
                path,
                OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK,
                Mode::empty(),
                ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS,
            )?;
            *last = Some((path.to_owned(), File::from(opened)));
        }
        let Some((_, file)) = &*last else { return Ok(()) };
        let mut done = 0;
        while done < buf.len() {
            match file.read_at(&mut buf[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        buf[done..].fill(0);
        Ok(())
    }

    fn refuse<T>() -> io::Result<T> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }
}

impl Node for Vvfat {
    fn size(&self) -> u64 {
        self.volume.disk_sectors() * SECTOR
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        check_range(offset, buf.len() as u64, self.size())?;
        let mut done = 0;
        while done < buf.len() {
            let at = offset + done as u64;
            let (source, len) = self.volume.at(at);
            let len = len.min((buf.len() - done) as u64) as usize;
            let part = &mut buf[done..done + len];
            match source {
                Source::Zero => part.fill(0),
                Source::Bytes(bytes) => part.copy_from_slice(&bytes[..len]),
                Source::File { path, offset } => self.read_file(path, offset, part)?,
            }
            done += len;
        }
        Ok(())
    }

    fn write_at(&self, _: u64, _: &[u8], _: WriteFlags) -> io::Result<()> {
        Self::refuse()
    }

    fn write_zeroes(&self, _: u64, _: u64, _: ZeroFlags) -> io::Result<()> {
        Self::refuse()
    }

    fn discard(&self, _: u64, _: u64) -> io::Result<()> {
        Self::refuse()
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }

    fn block_status(&self, offset: u64, len: u64) -> io::Result<Extent> {
        check_range(offset, len, self.size())?;
        let (source, more) = self.volume.at(offset);
        let kind = match source {
            Source::Zero => ExtentKind::Zero,
            _ => ExtentKind::Data,
        };
        Ok(Extent { kind, len: len.min(more), host_offset: Some(offset) })
    }

    fn read_only(&self) -> bool {
        true
    }

    fn info(&self) -> NodeInfo {
        let VvfatOptions { dir, fat_type, floppy, .. } = &self.options;
        let fat = fat_type.map_or(0, FatType::bits);
        let filename = format!(
            "json:{{\"fat-type\": {fat}, \"dir\": {:?}, \"driver\": \"vvfat\", \"floppy\": {floppy}, \
             \"rw\": false}}",
            dir.display().to_string(),
        );
        NodeInfo { driver: "vvfat", filename, ..NodeInfo::default() }
    }
}
