//! Encrypted images: LUKS with its header inside the image, and the older AES-CBC.
//!
//! Guest clusters are encrypted sector by sector, tables and compressed clusters are not. The vector
//! of a LUKS sector comes from its place in the file, that of an AES sector from its place on the disk.

use std::io;
use std::sync::{Arc, Mutex};

use graph::{Node, OpenError, Property};
use zeroize::Zeroizing;

use super::Qcow2;
use super::codec::read_padded;
use super::header::{CRYPT_AES, CRYPT_LUKS, CRYPT_NONE, Header};
use super::meta::Kind;
use crate::format::Purpose;
use crate::luks::{self, Area, Parameters, SECTOR, SectorCipher, Volume};

/// How a new image is encrypted.
#[derive(Clone, Debug)]
pub enum Encryption {
    /// AES-128-CBC with the passphrase as key.
    Aes,
    /// LUKS.
    Luks(Parameters),
}

/// What an encrypted image is encrypted with.
pub(super) struct Crypt {
    /// Without a key only metadata can be shown.
    cipher: Option<SectorCipher>,
    /// Vectors come from guest offsets.
    by_guest: bool,
    /// The LUKS header.
    pub volume: Mutex<Option<luks::Header>>,
    pub passphrase: Option<Zeroizing<Vec<u8>>>,
}

impl Crypt {
    /// What the header of an image asks for; `None` for a plain one.
    pub fn open(
        file: &dyn Node,
        header: &Header,
        path: &str,
        passphrase: Option<&Zeroizing<Vec<u8>>>,
        purpose: Purpose,
    ) -> Result<Option<Arc<Self>>, OpenError> {
        if header.crypt_method == CRYPT_NONE {
            return Ok(None);
        }
        let passphrase = passphrase.filter(|_| purpose == Purpose::Use);
        if passphrase.is_none() && purpose == Purpose::Use {
            let text = "Parameter 'encrypt.key-secret' is required for cipher";
            return Err(OpenError::Option(text.to_owned()));
        }
        let by_guest = header.crypt_method == CRYPT_AES;
        let (cipher, volume) = match (header.crypt_header, passphrase) {
            _ if by_guest => (passphrase.and_then(|p| SectorCipher::of_qcow(p)), None),
            (None, _) => return Err(OpenError::NotThisFormat { format: "luks" }),
            (Some((start, _)), None) => {
                (None, Some(luks::Header::read(&Area { node: file, start, path })?))
            }
            (Some((start, _)), Some(passphrase)) => {
                let volume = Volume::unlock(&Area { node: file, start, path }, passphrase)?;
                (Some(volume.cipher), Some(volume.header))
            }
        };
        let passphrase = passphrase.cloned();
        Ok(Some(Arc::new(Self { cipher, by_guest, volume: Mutex::new(volume), passphrase })))
    }

    /// The properties that the tools show.
    pub fn properties(&self) -> Property {
        match &*super::lock(&self.volume) {
            None => Property::Group(vec![("format", "aes".into())]),
            Some(volume) => {
                let mut shown = volume.properties(false);
                shown.push(("format", "luks".into()));
                Property::Group(shown)
            }
        }
    }

    fn cipher(&self) -> io::Result<&SectorCipher> {
        self.cipher.as_ref().ok_or_else(|| {
            let text = "the image was opened without its key";
            io::Error::new(io::ErrorKind::PermissionDenied, text)
        })
    }

    fn sector(&self, host: u64, guest: u64) -> u64 {
        (if self.by_guest { guest } else { host }) / SECTOR as u64
    }
}

impl Qcow2 {
    /// Reads guest data from its place in `data`.
    pub(super) fn read_data(
        &self,
        data: &dyn Node,
        host: u64,
        guest: u64,
        buf: &mut [u8],
    ) -> io::Result<()> {
        let Some(crypt) = &self.crypt else { return read_padded(data, host, buf) };
        let cipher = crypt.cipher()?;
        let skip = host % SECTOR as u64;
        let sector = crypt.sector(host - skip, guest - skip);
        let len = (skip as usize + buf.len()).next_multiple_of(SECTOR);
        if len == buf.len() {
            read_padded(data, host, buf)?;
            cipher.decrypt(sector, buf);
            return Ok(());
        }
        let mut sectors = vec![0; len];
        read_padded(data, host - skip, &mut sectors)?;
        cipher.decrypt(sector, &mut sectors);
        buf.copy_from_slice(&sectors[skip as usize..skip as usize + buf.len()]);
        Ok(())
    }

    /// Writes guest data to its place, which begins with a sector if the image is encrypted. What
    /// is missing to a whole sector lies behind the disk.
    pub(super) fn store_data(&self, host: u64, guest: u64, buf: &[u8]) -> io::Result<()> {
        self.data.event(graph::Event::WriteAio);
        let plain = graph::WriteFlags::default();
        let Some(crypt) = &self.crypt else { return self.data.write_at(host, buf, plain) };
        let mut sectors = buf.to_vec();
        sectors.resize(buf.len().next_multiple_of(SECTOR), 0);
        crypt.cipher()?.encrypt(crypt.sector(host, guest), &mut sectors);
        self.data.write_at(host, &sectors, plain)
    }

    /// Makes a new image an encrypted one. The header names the volume when that is stable.
    pub(super) fn encrypt_new(&self, how: &Encryption, passphrase: &[u8]) -> Result<(), OpenError> {
        let failed = |e| OpenError::host(&self.path, e);
        let (method, place) = match how {
            Encryption::Aes => (CRYPT_AES, None),
            Encryption::Luks(parameters) => {
                let len = luks::Header::len_of(parameters);
                let start = {
                    let mut meta = self.meta();
                    let clusters = len.div_ceil(self.layout.cluster);
                    let start = meta.allocate_table(&*self.file, clusters).map_err(failed)?;
                    meta.note(start, len, Kind::CryptHeader);
                    start
                };
                let end = start + len.next_multiple_of(self.layout.cluster);
                if self.file.size() < end {
                    self.file.truncate(end).map_err(failed)?;
                }
                let area = Area { node: &*self.file, start, path: &self.path };
                Volume::create(&area, parameters, passphrase, false)?;
                (CRYPT_LUKS, Some((start, len)))
            }
        };
        self.write_back().map_err(failed)?;
        let done = self.update_header(|header| {
            (header.crypt_method, header.crypt_header) = (method, place);
        });
        done.map_err(failed)
    }
}
