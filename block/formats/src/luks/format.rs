//! `luks`: a LUKS volume as an image, and its row in the table of formats.
//!
//! The data follows the header, or is in another file (`header=` beside `file=`, a detached header).

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use graph::{
    Amend, Child, Extent, ExtentKind, Image, ImageOption, ImageOptions, Limits, Measured, Node,
    NodeInfo, OpenError, Preallocation, RangeLocks, Role, Secrets, Sharing, ValueKind, WriteFlags,
    ZeroFlags, check_range,
};
use zeroize::Zeroizing;

use super::{
    Algorithm, Area, CryptAmend, Hash, Header, IvGen, Mode, Parameters, SECTOR, Volume, amend,
    recognises,
};
use crate::format::{CreateRequest, Format, MeasureRequest, OpenRequest, Purpose};

/// Largest piece that is encrypted in memory at once.
const PIECE: usize = 1 << 20;

/// Options of a volume; other formats put `encrypt.` in front of them.
pub const OPTIONS: &[ImageOption] = &[
    ImageOption::new("size", ValueKind::Size, "Virtual disk size"),
    ImageOption::new(
        "key-secret",
        ValueKind::Text,
        "ID of the secret that provides the keyslot passphrase",
    ),
    ImageOption::new("cipher-alg", ValueKind::Text, "Name of encryption cipher algorithm"),
    ImageOption::new("cipher-mode", ValueKind::Text, "Name of encryption cipher mode"),
    ImageOption::new("ivgen-alg", ValueKind::Text, "Name of IV generator algorithm"),
    ImageOption::new("ivgen-hash-alg", ValueKind::Text, "Name of IV generator hash algorithm"),
    ImageOption::new("hash-alg", ValueKind::Text, "Name of encryption hash algorithm"),
    ImageOption::new("iter-time", ValueKind::Number, "Time to spend in PBKDF in milliseconds"),
    ImageOption::new("detached-header", ValueKind::Switch, "Create a detached LUKS header"),
    ImageOption::new(
        "preallocation",
        ValueKind::Text,
        "Preallocation mode (allowed values: off, falloc, full)",
    ),
];

const AMEND_OPTIONS: &[ImageOption] = &[
    ImageOption::new(
        "state",
        ValueKind::Text,
        "Select new state of affected keyslots (active/inactive)",
    ),
    ImageOption::new("keyslot", ValueKind::Number, "Select a single keyslot to modify explicitly"),
    ImageOption::new("old-secret", ValueKind::Text, "Select all keyslots that match this password"),
    ImageOption::new(
        "new-secret",
        ValueKind::Text,
        "New secret to set in the matching keyslots. Empty string to erase",
    ),
    ImageOption::new("iter-time", ValueKind::Number, "Time to spend in PBKDF in milliseconds"),
];

/// The child with a header that lies apart from the data.
const HEADER: Role = Role::Named("header");

/// The row of `luks` in the table of formats.
pub struct LuksFormat;

impl Parameters {
    /// What options whose names begin with `prefix` say.
    ///
    /// # Errors
    /// `Option` for a name that nothing has, or for what does not fit together.
    pub fn parse(options: &ImageOptions, prefix: &str) -> Result<Self, OpenError> {
        let text = |name: &str| options.text(&format!("{prefix}{name}"));
        let refuse = |name: &str, value: &str| {
            OpenError::Option(format!("Parameter '{name}' does not accept value '{value}'"))
        };
        let mut parameters = Self::default();
        if let Some(name) = text("cipher-alg") {
            let found = Algorithm::named(name);
            parameters.algorithm = found.ok_or_else(|| refuse("cipher-alg", name))?;
        }
        if let Some(name) = text("cipher-mode") {
            let found = Mode::TABLE.iter().find(|(n, _)| *n == name);
            parameters.mode = found.ok_or_else(|| refuse("cipher-mode", name))?.1;
        }
        if let Some(name) = text("hash-alg") {
            parameters.hash = Hash::named(name).ok_or_else(|| refuse("hash-alg", name))?;
        }
        let iv_hash = match text("ivgen-hash-alg") {
            None => Hash::Sha256,
            Some(name) => Hash::named(name).ok_or_else(|| refuse("ivgen-hash-alg", name))?,
        };
        parameters.iv = match text("ivgen-alg").unwrap_or("plain64") {
            "plain" => IvGen::Plain,
            "plain64" => IvGen::Plain64,
            "essiv" => IvGen::Essiv(iv_hash),
            other => return Err(refuse("ivgen-alg", other)),
        };
        if let Some(ms) = options.number(&format!("{prefix}iter-time")) {
            if ms == 0 {
                return Err(OpenError::Option("iter-time must be at least 1".to_owned()));
            }
            parameters.time = Duration::from_millis(ms);
        }
        Ok(parameters)
    }
}

impl Format for LuksFormat {
    fn name(&self) -> &'static str {
        "luks"
    }

    fn recognises(&self, start: &[u8], _path: &str) -> bool {
        recognises(start)
    }

    fn open(&self, request: OpenRequest<'_>) -> Result<Arc<dyn Node>, OpenError> {
        let apart = request.child(HEADER);
        let detached = apart.is_some();
        let header_file = apart.unwrap_or_else(|| Arc::clone(&request.file));
        let area = Area { node: &*header_file, start: 0, path: request.path };
        let id = request.options.take("key-secret");
        let passphrase = match (&id, request.purpose) {
            (Some(id), Purpose::Use) => Some(Zeroizing::new(request.secrets.secret(id)?)),
            // Who only looks at metadata needs none.
            (Some(id), Purpose::Info) => request.secrets.secret(id).ok().map(Zeroizing::new),
            (None, Purpose::Info) => None,
            (None, Purpose::Use) => {
                let text = "Parameter 'key-secret' is required for cipher";
                return Err(OpenError::Option(text.to_owned()));
            }
        };
        let (header, volume) = match &passphrase {
            Some(passphrase) if request.purpose == Purpose::Use => {
                let volume = Volume::unlock(&area, passphrase)?;
                (volume.header.clone(), Some(volume))
            }
            _ => (Header::read(&area)?, None),
        };
        let refuse = |text: &str| Err(OpenError::Option(text.to_owned()));
        if header.payload() == 0 && !detached {
            return refuse("LUKS payload is overlapping with the header");
        }
        if header.payload() > request.file.size() {
            return refuse("Could not refresh total sector count: Input/output error");
        }
        let read_only = request.read_only || request.file.read_only();
        Ok(Arc::new(Luks {
            path: request.path.to_owned(),
            file: request.file,
            header_file,
            detached,
            read_only,
            payload: header.payload(),
            header: Mutex::new(header),
            volume,
            passphrase,
            sectors: RangeLocks::default(),
        }))
    }

    fn children(&self) -> &'static [Role] {
        &[HEADER]
    }

    fn create_options(&self) -> &'static [ImageOption] {
        OPTIONS
    }

    fn create(&self, request: &CreateRequest<'_>) -> Result<(), OpenError> {
        let parameters = Parameters::parse(request.options, "")?;
        let passphrase = passphrase(request.options, "key-secret", request.secrets)?;
        let detached = request.options.switch("detached-header");
        let mode = request.options.text("preallocation").unwrap_or("off");
        let preallocation = match Preallocation::named(mode) {
            Some(Preallocation::Metadata) | None => {
                let text = format!("Parameter 'preallocation' does not accept value '{mode}'");
                return Err(OpenError::Option(text));
            }
            Some(how) => how,
        };
        let size = request.options.number("size").unwrap_or(0);
        let size = size.next_multiple_of(SECTOR as u64);
        let len = if detached { 0 } else { size };
        let whole = Header::len_of(&parameters).checked_add(len);
        let whole = whole
            .filter(|len| *len <= i64::MAX as u64)
            .ok_or_else(|| OpenError::Option("The requested file size is too large".to_owned()))?;
        request.with_file(request.path, whole, preallocation, |file| {
            let area = Area { node: &*file, start: 0, path: request.path };
            Volume::create(&area, &parameters, &passphrase, detached).map(|_| ())
        })
    }

    fn amend_options(&self) -> &'static [ImageOption] {
        AMEND_OPTIONS
    }

    fn measure(&self, request: &MeasureRequest<'_>) -> Result<Option<Measured>, OpenError> {
        if request.options.is_set("detached-header") {
            return Err(OpenError::Option("Parameter 'detached-header' is unexpected".to_owned()));
        }
        let header = measured_header(request, "")?;
        let whole = request.size.saturating_add(header);
        Ok(Some(Measured { required: whole, fully_allocated: whole, bitmaps: None }))
    }
}

/// Bytes of the header of a new volume, whose options have names that begin with `prefix`.
///
/// # Errors
/// As for making the volume, of which only the key's derivation is missing.
pub(crate) fn measured_header(
    request: &MeasureRequest<'_>,
    prefix: &str,
) -> Result<u64, OpenError> {
    let parameters = Parameters::parse(request.options, prefix)?;
    passphrase(request.options, &format!("{prefix}key-secret"), request.secrets)?;
    Ok(Header::len_of(&parameters))
}

/// The passphrase that an option names.
pub(crate) fn passphrase(
    options: &ImageOptions,
    name: &str,
    secrets: &dyn Secrets,
) -> Result<Zeroizing<Vec<u8>>, OpenError> {
    match options.text(name) {
        Some(id) => secrets.secret(id).map(Zeroizing::new),
        None => Err(OpenError::Option(format!("Parameter '{name}' is required for cipher"))),
    }
}

/// An open LUKS volume.
struct Luks {
    file: Arc<dyn Node>,
    /// Holds the header: the same, or a file of its own.
    header_file: Arc<dyn Node>,
    detached: bool,
    path: String,
    read_only: bool,
    /// Where the data begins in the file.
    payload: u64,
    header: Mutex<Header>,
    /// Without a key only the header can be shown.
    volume: Option<Volume>,
    passphrase: Option<Zeroizing<Vec<u8>>>,
    /// Sectors that are being changed in part.
    sectors: RangeLocks,
}

impl Luks {
    fn unlocked(&self) -> io::Result<&Volume> {
        let text = "the image was opened without its key";
        let locked = || io::Error::new(io::ErrorKind::PermissionDenied, text);
        self.volume.as_ref().ok_or_else(locked)
    }

    fn read_sectors(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.file.read_at(self.payload + offset, bytes)?;
        self.unlocked()?.cipher.decrypt(offset / SECTOR as u64, bytes);
        Ok(())
    }

    fn write_sectors(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut bytes = bytes.to_vec();
        self.unlocked()?.cipher.encrypt(offset / SECTOR as u64, &mut bytes);
        self.file.write_at(self.payload + offset, &bytes, WriteFlags::default())
    }

    /// The whole sectors around a range.
    fn around(offset: u64, len: u64) -> (u64, u64) {
        let sector = SECTOR as u64;
        (offset - offset % sector, (offset + len).next_multiple_of(sector))
    }
}

impl Node for Luks {
    fn size(&self) -> u64 {
        self.file.size().saturating_sub(self.payload) / SECTOR as u64 * SECTOR as u64
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        check_range(offset, buf.len() as u64, self.size())?;
        let mut at = offset;
        for part in buf.chunks_mut(PIECE) {
            let (from, to) = Self::around(at, part.len() as u64);
            if to - from == part.len() as u64 {
                self.read_sectors(at, part)?;
            } else {
                let mut bytes = vec![0; (to - from) as usize];
                self.read_sectors(from, &mut bytes)?;
                let skip = (at - from) as usize;
                part.copy_from_slice(&bytes[skip..skip + part.len()]);
            }
            at += part.len() as u64;
        }
        Ok(())
    }

    fn write_at(&self, offset: u64, buf: &[u8], flags: WriteFlags) -> io::Result<()> {
        check_range(offset, buf.len() as u64, self.size())?;
        if self.read_only {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        let (from, to) = Self::around(offset, buf.len() as u64);
        let whole = to - from == buf.len() as u64;
        let sharing = if whole { Sharing::Shared } else { Sharing::Exclusive };
        let _sectors = self.sectors.lock(from, to, sharing);
        let mut at = offset;
        for part in buf.chunks(PIECE) {
            let (from, to) = Self::around(at, part.len() as u64);
            if to - from == part.len() as u64 {
                self.write_sectors(at, part)?;
            } else {
                let mut bytes = vec![0; (to - from) as usize];
                self.read_sectors(from, &mut bytes)?;
                let skip = (at - from) as usize;
                bytes[skip..skip + part.len()].copy_from_slice(part);
                self.write_sectors(from, &bytes)?;
            }
            at += part.len() as u64;
        }
        if flags.fua { self.flush() } else { Ok(()) }
    }

    /// Zeroes look like anything else: they are written.
    fn write_zeroes(&self, offset: u64, len: u64, flags: ZeroFlags) -> io::Result<()> {
        check_range(offset, len, self.size())?;
        let zeroes = vec![0; len.min(PIECE as u64) as usize];
        let mut done = 0;
        while done < len {
            let n = (len - done).min(zeroes.len() as u64);
            self.write_at(offset + done, &zeroes[..n as usize], WriteFlags::default())?;
            done += n;
        }
        if flags.fua { self.flush() } else { Ok(()) }
    }

    fn discard(&self, _offset: u64, _len: u64) -> io::Result<()> {
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        if self.read_only {
            return Ok(());
        }
        if self.detached {
            self.header_file.flush()?;
        }
        self.file.flush()
    }

    fn block_status(&self, offset: u64, len: u64) -> io::Result<Extent> {
        check_range(offset, len, self.size())?;
        Ok(Extent { kind: ExtentKind::Data, len, host_offset: None })
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        self.resize(size, Preallocation::Off)
    }

    fn read_only(&self) -> bool {
        self.read_only
    }

    fn limits(&self) -> Limits {
        self.file.limits()
    }

    fn children(&self) -> Vec<Child> {
        let file = Child { role: Role::File, node: Arc::clone(&self.file) };
        let header = Child { role: HEADER, node: Arc::clone(&self.header_file) };
        Some(header).filter(|_| self.detached).into_iter().chain([file]).collect()
    }

    fn info(&self) -> NodeInfo {
        let header = self.header.lock().unwrap_or_else(PoisonError::into_inner);
        let file = self.file.info();
        let apart = self.header_file.info().allocated.filter(|_| self.detached);
        NodeInfo {
            driver: "luks",
            encrypted: true,
            specific: header.properties(self.detached),
            allocated: file.allocated.map(|bytes| bytes + apart.unwrap_or(0)),
            ..file
        }
    }

    fn image(&self) -> Option<&dyn Image> {
        Some(self)
    }
}

impl Image for Luks {
    fn resize(&self, size: u64, preallocation: Preallocation) -> io::Result<()> {
        if preallocation == Preallocation::Metadata {
            let text = "Unsupported preallocation mode: metadata";
            return Err(io::Error::new(io::ErrorKind::Unsupported, text));
        }
        if self.read_only {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        if !size.is_multiple_of(SECTOR as u64) || size > i64::MAX as u64 - self.payload {
            let text = "The new size must be a multiple of 512";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let old = self.size();
        if size <= old {
            return self.file.truncate(self.payload + size);
        }
        self.file.preallocate(self.payload + old, size - old, preallocation)
    }

    fn amend(&self) -> Option<&dyn Amend> {
        Some(self)
    }
}

impl Amend for Luks {
    fn apply(
        &self,
        options: &ImageOptions,
        force: bool,
        secrets: &dyn Secrets,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<(), OpenError> {
        if self.read_only {
            return Err(OpenError::host(&self.path, io::ErrorKind::ReadOnlyFilesystem.into()));
        }
        let change = CryptAmend::parse(options, "", secrets)?;
        let area = Area { node: &*self.header_file, start: 0, path: &self.path };
        let passphrase = self.passphrase.as_ref().map_or(&[][..], |p| p);
        let header = amend(&area, passphrase, &change, force)?;
        *self.header.lock().unwrap_or_else(PoisonError::into_inner) = header;
        progress(1, 1);
        Ok(())
    }
}
