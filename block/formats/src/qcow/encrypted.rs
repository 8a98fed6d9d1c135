//! Encrypted images: the clusters hold what AES-128-CBC makes of the disk, sector by sector, with the
//! number of the guest's sector as vector. Tables and compressed clusters are not encrypted.
//!
//! Below lies the image as a table of blocks, which knows nothing of this: what it fills up itself
//! would be plain, so that a cluster without a place is always written as a whole.

use std::io;

use graph::{
    Child, Extent, ExtentKind, Image, ImageOptions, Limits, Node, NodeInfo, OpenError, Overlay,
    Preallocation, RangeLocks, SECTOR, Sharing, WriteFlags, ZeroFlags, check_range,
};
use zeroize::Zeroizing;

use crate::blocks::Blocks;
use crate::format::{OpenRequest, Purpose};
use crate::luks::SectorCipher;

/// Largest piece that is encrypted in memory at once.
const PIECE: u64 = 1 << 20;

fn refuse<T>(text: impl Into<String>) -> Result<T, OpenError> {
    Err(OpenError::Option(text.into()))
}

/// Whether the options of a new image ask for encryption.
pub(super) fn wanted(options: &ImageOptions) -> Result<bool, OpenError> {
    let old = options.switch("encryption");
    match options.text("encrypt.format") {
        Some(_) if old => {
            refuse("'encrypt.format' and its alias 'encryption' can't be used at the same time")
        }
        Some("aes") => Ok(true),
        Some("luks") => refuse("Unsupported encryption format"),
        Some(other) => refuse(format!("Parameter 'format' does not accept value '{other}'")),
        None if old => Ok(true),
        None if options.is_set("encrypt.key-secret") => {
            refuse("Parameter 'encrypt.format' is missing")
        }
        None => Ok(false),
    }
}

/// The cipher that the options for opening name; none is needed to look at metadata.
pub(super) fn cipher(
    request: &mut OpenRequest<'_>,
    encrypted: bool,
) -> Result<Option<SectorCipher>, OpenError> {
    let wanted = request.options.take("encrypt.format");
    let id = request.options.take("encrypt.key-secret");
    if !encrypted {
        return match (wanted, id) {
            (None, None) => Ok(None),
            (wanted, _) => {
                let wanted = wanted.map_or(String::new(), |wanted| format!(" '{wanted}'"));
                refuse(format!(
                    "No encryption in image header, but options specified format{wanted}"
                ))
            }
        };
    }
    if let Some(wanted) = wanted.filter(|wanted| wanted != "aes") {
        return refuse(format!(
            "Header reported 'aes' encryption format but options specify '{wanted}'"
        ));
    }
    let Some(id) = id else {
        return match request.purpose {
            Purpose::Info => Ok(None),
            Purpose::Use => refuse("Parameter 'encrypt.key-secret' is required for cipher"),
        };
    };
    let key = Zeroizing::new(request.secrets.secret(&id)?);
    Ok(SectorCipher::of_qcow(&key))
}

/// An open image whose clusters are encrypted.
pub(super) struct Encrypted {
    inner: Blocks,
    cluster: u64,
    /// Without a key only metadata can be shown.
    cipher: Option<SectorCipher>,
    clusters: RangeLocks,
}

impl Encrypted {
    pub fn new(inner: Blocks, cluster: u64, cipher: Option<SectorCipher>) -> Self {
        Self { inner, cluster, cipher, clusters: RangeLocks::default() }
    }

    fn cipher(&self) -> io::Result<&SectorCipher> {
        self.cipher.as_ref().ok_or_else(|| {
            let text = "the image was opened without its key";
            io::Error::new(io::ErrorKind::PermissionDenied, text)
        })
    }

    fn down(&self, at: u64) -> u64 {
        at - at % self.cluster
    }

    fn up(&self, at: u64) -> u64 {
        at.next_multiple_of(self.cluster)
    }

    /// Reads clusters that are held.
    fn read_held(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let end = offset + buf.len() as u64;
        let mut at = offset;
        while at < end {
            let extent = self.inner.block_status(at, end - at)?;
            let len = extent.len.min(PIECE);
            let part = &mut buf[(at - offset) as usize..][..len as usize];
            if extent.kind == ExtentKind::Data {
                self.read_data(at, part)?;
            } else {
                self.inner.read_at(at, part)?;
            }
            at += len;
        }
        Ok(())
    }

    /// Reads a range of which all is encrypted.
    fn read_data(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let first = offset - offset % SECTOR;
        let last = (offset + buf.len() as u64).next_multiple_of(SECTOR).min(self.size());
        let mut sectors = vec![0; (last - first) as usize];
        self.inner.read_at(first, &mut sectors)?;
        sectors.resize(sectors.len().next_multiple_of(SECTOR as usize), 0);
        self.cipher()?.decrypt(first / SECTOR, &mut sectors);
        buf.copy_from_slice(&sectors[(offset - first) as usize..][..buf.len()]);
        Ok(())
    }

    /// Writes a piece, with what is missing to whole clusters.
    fn write_piece(&self, offset: u64, buf: &[u8]) -> io::Result<()> {
        let end = offset + buf.len() as u64;
        let (first, last) = (self.down(offset), self.up(end).min(self.size()));
        let _clusters = self.clusters.lock(first, self.up(end), Sharing::Exclusive);
        let mut bytes = vec![0; (last - first) as usize];
        if first < offset {
            self.read_held(first, &mut bytes[..(offset - first) as usize])?;
        }
        if end < last {
            self.read_held(end, &mut bytes[(end - first) as usize..])?;
        }
        bytes[(offset - first) as usize..(end - first) as usize].copy_from_slice(buf);
        self.cipher()?.encrypt(first / SECTOR, &mut bytes);
        self.inner.write_at(first, &bytes, WriteFlags::default())
    }
}

impl Node for Encrypted {
    fn size(&self) -> u64 {
        // Ciphers work on whole sectors.
        self.inner.size() / SECTOR * SECTOR
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let end = offset + buf.len() as u64;
        check_range(offset, buf.len() as u64, self.size())?;
        let _clusters = self.clusters.lock(self.down(offset), self.up(end), Sharing::Shared);
        self.read_held(offset, buf)
    }

    fn write_at(&self, offset: u64, buf: &[u8], flags: WriteFlags) -> io::Result<()> {
        check_range(offset, buf.len() as u64, self.size())?;
        let mut done = 0;
        for part in buf.chunks(PIECE as usize) {
            self.write_piece(offset + done, part)?;
            done += part.len() as u64;
        }
        if flags.fua { self.flush() } else { Ok(()) }
    }

    /// Zeroes look like anything else: they are written.
    fn write_zeroes(&self, offset: u64, len: u64, flags: ZeroFlags) -> io::Result<()> {
        check_range(offset, len, self.size())?;
        let zeroes = vec![0; len.min(PIECE) as usize];
        let mut done = 0;
        while done < len {
            let n = (len - done).min(PIECE);
            self.write_piece(offset + done, &zeroes[..n as usize])?;
            done += n;
        }
        if flags.fua { self.flush() } else { Ok(()) }
    }

    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        check_range(offset, len, self.size())
    }

    fn flush(&self) -> io::Result<()> {
        self.inner.flush()
    }

    fn block_status(&self, offset: u64, len: u64) -> io::Result<Extent> {
        check_range(offset, len, self.size())?;
        let extent = self.inner.block_status(offset, len)?;
        Ok(Extent { host_offset: None, ..extent })
    }

    fn read_only(&self) -> bool {
        self.inner.read_only()
    }

    fn limits(&self) -> Limits {
        self.inner.limits()
    }

    fn children(&self) -> Vec<Child> {
        self.inner.children()
    }

    fn info(&self) -> NodeInfo {
        self.inner.info()
    }

    fn image(&self) -> Option<&dyn Image> {
        Some(self)
    }
}

impl Image for Encrypted {
    fn resize(&self, size: u64, preallocation: Preallocation) -> io::Result<()> {
        self.inner.resize(size, preallocation)
    }

    fn overlay(&self) -> Option<&dyn Overlay> {
        Image::overlay(&self.inner)
    }
}
