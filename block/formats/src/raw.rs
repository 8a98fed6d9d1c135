//! `raw`: the image is the disk, or a window of it (`offset=`, `size=`).
//!
//! A file whose length is no multiple of 512 ends in zeroes up to the next sector.

use std::io;
use std::sync::Arc;

use graph::{
    Aio, Child, Event, Extent, Image, ImageOption, Limits, Measured, Node, NodeInfo, OpenError,
    Plain, Preallocation, Role, SECTOR, ValueKind, WriteFlags, ZeroFlags, check_range,
};

use crate::format::{CreateRequest, Format, MeasureRequest, OpenRequest, file_preallocation};

/// The row of `raw` in the table of formats.
pub struct RawFormat;

/// How space is reserved is an option of every file.
const OPTIONS: &[ImageOption] = &[ImageOption::new("size", ValueKind::Size, "Virtual disk size")];

impl Format for RawFormat {
    fn name(&self) -> &'static str {
        "raw"
    }

    fn recognises(&self, _start: &[u8], _path: &str) -> bool {
        false
    }

    fn open(&self, request: OpenRequest<'_>) -> Result<Arc<dyn Node>, OpenError> {
        let offset = request.options.take_size("offset")?;
        let size = request.options.take_size("size")?;
        Ok(match (offset, size) {
            (None, None) => Arc::new(Raw::new(request.file)),
            _ => Arc::new(Raw::window(request.file, offset.unwrap_or(0), size)?),
        })
    }

    fn create_options(&self) -> &'static [ImageOption] {
        OPTIONS
    }

    fn create(&self, request: &CreateRequest<'_>) -> Result<(), OpenError> {
        let size = request.options.number("size").unwrap_or(0);
        let size = size.checked_next_multiple_of(SECTOR).filter(|s| *s <= i64::MAX as u64);
        let size = size.ok_or_else(|| OpenError::Option("Image size is too large".to_owned()))?;
        let preallocation = file_preallocation(request.options)?;
        request.with_file(request.path, size, preallocation, |_| Ok(()))
    }

    fn measure(&self, request: &MeasureRequest<'_>) -> Result<Option<Measured>, OpenError> {
        let size = request.size.next_multiple_of(SECTOR);
        Ok(Some(Measured { required: size, fully_allocated: size, bitmaps: None }))
    }
}

/// A raw image.
pub struct Raw {
    file: Arc<dyn Node>,
    offset: u64,
    /// Length if the user fixed it; else the file's.
    size: Option<u64>,
    /// The format was guessed: the guest must not be able to make the image look like another.
    guard_first_sector: bool,
}

impl Raw {
    /// The whole of `file`.
    pub fn new(file: Arc<dyn Node>) -> Self {
        Self { file, offset: 0, size: None, guard_first_sector: false }
    }

    /// The whole of `file`, whose format was guessed: writes that would give its first sector the
    /// signature of another format are refused.
    pub fn guessed(file: Arc<dyn Node>) -> Self {
        Self { guard_first_sector: true, ..Self::new(file) }
    }

    /// The part of `file` from `offset` on, `size` bytes of it.
    ///
    /// # Errors
    /// `Option` when the part is not inside the file.
    pub fn window(file: Arc<dyn Node>, offset: u64, size: Option<u64>) -> Result<Self, OpenError> {
        let whole = file.size();
        if offset > whole {
            return Err(OpenError::Option(format!(
                "Offset ({offset}) cannot be greater than size of the containing file ({whole})"
            )));
        }
        if let Some(size) = size {
            if size % SECTOR != 0 {
                return Err(OpenError::Option(format!(
                    "Specified size is not multiple of {SECTOR}"
                )));
            }
            if size > whole - offset {
                return Err(OpenError::Option(format!(
                    "The sum of offset ({offset}) and size ({size}) has to be smaller or equal \
                     to the  actual size of the containing file ({whole})"
                )));
            }
        }
        Ok(Self { file, offset, size, guard_first_sector: false })
    }

    fn place(&self, offset: u64, len: u64) -> io::Result<u64> {
        check_range(offset, len, self.size())?;
        Ok(self.offset + offset)
    }

    /// Refuses content that a prober would take for another format.
    fn guard(&self, offset: u64, buf: &[u8]) -> io::Result<()> {
        if !self.guard_first_sector || offset >= SECTOR {
            return Ok(());
        }
        let mut sector = vec![0; SECTOR as usize];
        self.read_at(0, &mut sector[..SECTOR.min(self.size()) as usize])?;
        let room = &mut sector[offset as usize..];
        let n = room.len().min(buf.len());
        room[..n].copy_from_slice(&buf[..n]);
        match crate::probe::format_of(&sector, "") {
            "raw" => Ok(()),
            other => Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!("the first sector would look like a {other} image; specify format=raw"),
            )),
        }
    }
}

impl Node for Raw {
    fn size(&self) -> u64 {
        self.size.unwrap_or_else(|| {
            let rest = self.file.size().saturating_sub(self.offset);
            rest.checked_next_multiple_of(SECTOR).unwrap_or(rest)
        })
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let at = self.place(offset, buf.len() as u64)?;
        // Only the last sector may be partly beyond the end.
        let inside = self.file.size().saturating_sub(at).min(buf.len() as u64) as usize;
        buf[inside..].fill(0);
        self.file.event(Event::ReadAio);
        self.file.read_at(at, &mut buf[..inside])
    }

    fn read_cached(&self, offset: u64, buf: &mut [u8]) -> bool {
        let place = self.place(offset, buf.len() as u64);
        place.is_ok_and(|at| self.file.read_cached(at, buf))
    }

    /// The last sector, which may be partly beyond the end of the file, is not plain.
    fn plain(&self, offset: u64, len: u64, write: bool, into: &mut Plain) -> bool {
        let guarded = write && self.guard_first_sector && offset < SECTOR;
        let Ok(at) = self.place(offset, len) else { return false };
        !guarded && at + len <= self.file.size() && self.file.plain(at, len, write, into)
    }

    fn aio(&self) -> Aio {
        self.file.aio()
    }

    fn write_at(&self, offset: u64, buf: &[u8], flags: WriteFlags) -> io::Result<()> {
        let at = self.place(offset, buf.len() as u64)?;
        self.guard(offset, buf)?;
        self.file.event(Event::WriteAio);
        self.file.write_at(at, buf, flags)
    }

    fn write_zeroes(&self, offset: u64, len: u64, flags: ZeroFlags) -> io::Result<()> {
        self.file.write_zeroes(self.place(offset, len)?, len, flags)
    }

    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        self.file.discard(self.place(offset, len)?, len)
    }

    fn flush(&self) -> io::Result<()> {
        self.file.event(Event::FlushToOs);
        self.file.event(Event::FlushToDisk);
        self.file.flush()
    }

    fn block_status(&self, offset: u64, len: u64) -> io::Result<Extent> {
        let at = self.place(offset, len)?;
        let extent = self.file.block_status(at, len)?;
        Ok(Extent { host_offset: Some(at), ..extent })
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        if self.size.is_some() {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "Cannot resize fixed-size raw disks",
            ));
        }
        self.file.truncate(size.checked_add(self.offset).ok_or(io::ErrorKind::InvalidInput)?)
    }

    fn is_part(&self) -> bool {
        self.offset != 0 || self.size.is_some()
    }

    fn read_only(&self) -> bool {
        self.file.read_only()
    }

    fn limits(&self) -> Limits {
        self.file.limits()
    }

    fn children(&self) -> Vec<Child> {
        vec![Child { role: Role::File, node: Arc::clone(&self.file) }]
    }

    fn info(&self) -> NodeInfo {
        NodeInfo { driver: "raw", ..self.file.info() }
    }

    fn image(&self) -> Option<&dyn Image> {
        Some(self)
    }
}

impl Image for Raw {
    fn resize(&self, size: u64, preallocation: Preallocation) -> io::Result<()> {
        if preallocation == Preallocation::Metadata {
            let text = "Unsupported preallocation mode: metadata";
            return Err(io::Error::new(io::ErrorKind::Unsupported, text));
        }
        let old = self.size();
        if size != old && matches!(self.file.info().driver, "host_device" | "host_cdrom") {
            let text = "Cannot resize device files";
            return Err(io::Error::new(io::ErrorKind::Unsupported, text));
        }
        if size <= old || self.size.is_some() {
            return self.truncate(size);
        }
        self.file.preallocate(self.offset + old, size - old, preallocation)
    }
}
