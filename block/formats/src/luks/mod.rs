//! LUKS version 1: the header, its key slots, and the cipher behind them.
//!
//! Source: "LUKS1 On-Disk Format Specification", version 1.2.3. A random key encrypts the data; eight
//! slots each hold that key, encrypted with what a passphrase gives and spread over stripes.
//! Used by the `luks` format and by qcow2 images with LUKS encryption.

mod cipher;
mod format;
mod hash;
mod slots;

use std::time::Duration;

use graph::{Node, OpenError, Property, WriteFlags};
use zeroize::Zeroizing;

pub use cipher::{Algorithm, Family, IvGen, Mode, SECTOR, SectorCipher};
pub use format::{LuksFormat, OPTIONS};
pub(crate) use format::{measured_header, passphrase};
pub use hash::Hash;
pub use slots::{CryptAmend, amend};

const MAGIC: &[u8; 6] = b"LUKS\xba\xbe";
/// Bytes of the header.
const HEADER: usize = 592;
const SLOT_COUNT: usize = 8;
/// State of a slot that holds the key, and of one that does not.
const SLOT_ACTIVE: u32 = 0x00ac_71f3;
const SLOT_INACTIVE: u32 = 0x0000_dead;
/// The only number of stripes in use.
const STRIPES: u32 = 4000;
/// Key material begins at multiples of this many bytes.
const ALIGNMENT: u64 = 4096;
/// Fewest rounds of key derivation.
const FEWEST_ROUNDS: u64 = 1000;
/// Most rounds that we follow: minutes of work.
const MOST_ROUNDS: u32 = 1 << 28;

/// What a new volume is to be like.
#[derive(Clone, Debug)]
pub struct Parameters {
    /// Cipher.
    pub algorithm: Algorithm,
    /// Its mode.
    pub mode: Mode,
    /// Its vectors.
    pub iv: IvGen,
    /// For deriving keys.
    pub hash: Hash,
    /// How long unlocking is to take on this machine.
    pub time: Duration,
}

impl Default for Parameters {
    fn default() -> Self {
        Self {
            algorithm: Algorithm { family: Family::Aes, key_bytes: 32 },
            mode: Mode::Xts,
            iv: IvGen::Plain64,
            hash: Hash::Sha256,
            time: Duration::from_secs(2),
        }
    }
}

/// A key slot.
#[derive(Clone, Debug)]
struct Slot {
    active: bool,
    rounds: u32,
    salt: [u8; 32],
    /// Where its material is, in bytes from the header's start.
    offset: u64,
    stripes: u32,
}

/// A checked header. Invariant: the cipher fits the key's length, slots lie between the header and
/// the payload.
#[derive(Clone, Debug)]
pub struct Header {
    algorithm: Algorithm,
    mode: Mode,
    iv: IvGen,
    hash: Hash,
    /// Where the data begins, in bytes from the header's start.
    payload: u64,
    digest: [u8; 20],
    digest_salt: [u8; 32],
    digest_rounds: u32,
    uuid: String,
    slots: Vec<Slot>,
}

/// The part of a file where header and key slots are.
#[derive(Clone, Copy)]
pub struct Area<'a> {
    /// The file.
    pub node: &'a dyn Node,
    /// Where the header is in it.
    pub start: u64,
    /// What messages call the image.
    pub path: &'a str,
}

impl Area<'_> {
    fn read(&self, offset: u64, buf: &mut [u8]) -> Result<(), OpenError> {
        let at = self.start.saturating_add(offset);
        let inside = self.node.size().saturating_sub(at).min(buf.len() as u64) as usize;
        buf[inside..].fill(0);
        self.node.read_at(at, &mut buf[..inside]).map_err(|e| OpenError::host(self.path, e))
    }

    fn write(&self, offset: u64, buf: &[u8]) -> Result<(), OpenError> {
        let written = self.node.write_at(self.start + offset, buf, WriteFlags::default());
        written.map_err(|e| OpenError::host(self.path, e))
    }

    fn flush(&self) -> Result<(), OpenError> {
        self.node.flush().map_err(|e| OpenError::host(self.path, e))
    }

    fn bad(&self, field: &'static str, value: u64, why: &'static str) -> OpenError {
        OpenError::Field { path: self.path.to_owned(), format: "luks", field, value, why }
    }

    fn refuse(&self, why: &str) -> OpenError {
        OpenError::Image { path: self.path.to_owned(), why: why.to_owned() }
    }
}

/// An unlocked volume.
pub struct Volume {
    /// Its header.
    pub header: Header,
    key: Zeroizing<Vec<u8>>,
    /// What encrypts the data.
    pub cipher: SectorCipher,
}

/// Whether `start` begins with a LUKS header of a version that we know.
pub fn recognises(start: &[u8]) -> bool {
    start.starts_with(MAGIC) && start.get(6..8) == Some(&[0, 1])
}

impl Header {
    /// Reads and checks the header of a volume.
    ///
    /// # Errors
    /// `Option` for another version, or no volume at all; a bad field by its name.
    pub fn read(area: &Area<'_>) -> Result<Self, OpenError> {
        let mut b = [0; HEADER];
        area.read(0, &mut b)?;
        if !b.starts_with(MAGIC) {
            return Err(OpenError::Option("Volume is not in LUKS format".to_owned()));
        }
        if !recognises(&b) {
            let version = u16::from_be_bytes([b[6], b[7]]);
            return Err(OpenError::Option(format!("LUKS version {version} is not supported")));
        }
        let text = |at: usize, len: usize| {
            let bytes = b[at..at + len].split(|c| *c == 0).next().unwrap_or_default();
            String::from_utf8_lossy(bytes).into_owned()
        };
        let key_bytes = be32(&b, 108) as usize;
        let (mode, iv) = mode_and_iv(&text(40, 32))
            .ok_or_else(|| area.refuse(&format!("luks: unknown cipher mode '{}'", text(40, 32))))?;
        let name = text(8, 32);
        let algorithm = Algorithm::of_luks(&name, key_bytes / mode.keys())
            .filter(|a| a.key_bytes * mode.keys() == key_bytes)
            .ok_or_else(|| {
                let bits = key_bytes * 8;
                area.refuse(&format!("luks: unknown cipher '{name}' with keys of {bits} bits"))
            })?;
        let hash = Hash::named(&text(72, 32))
            .ok_or_else(|| area.refuse(&format!("luks: unknown hash '{}'", text(72, 32))))?;
        let mut header = Self {
            algorithm,
            mode,
            iv,
            hash,
            payload: u64::from(be32(&b, 104)) * SECTOR as u64,
            digest: array(&b, 112),
            digest_salt: array(&b, 132),
            digest_rounds: be32(&b, 164),
            uuid: text(168, 40),
            slots: Vec::new(),
        };
        for i in 0..SLOT_COUNT {
            let at = 208 + 48 * i;
            header.slots.push(header.slot(&b[at..at + 48], area)?);
        }
        if header.digest_rounds == 0 || header.digest_rounds > MOST_ROUNDS {
            return Err(area.bad("mk-digest-iter", header.digest_rounds.into(), "cannot be"));
        }
        Ok(header)
    }

    fn slot(&self, b: &[u8], area: &Area<'_>) -> Result<Slot, OpenError> {
        let (state, rounds, stripes) = (be32(b, 0), be32(b, 4), be32(b, 44));
        let offset = u64::from(be32(b, 40)) * SECTOR as u64;
        let active = match state {
            SLOT_ACTIVE => true,
            SLOT_INACTIVE => false,
            other => return Err(area.bad("key slot state", other.into(), "neither on nor off")),
        };
        if stripes != STRIPES {
            return Err(area.bad("key slot stripes", stripes.into(), "not 4000"));
        }
        if active && (rounds == 0 || rounds > MOST_ROUNDS) {
            return Err(area.bad("key slot iterations", rounds.into(), "cannot be"));
        }
        let end = offset + self.material_len() as u64;
        if offset < HEADER as u64 || (self.payload != 0 && end > self.payload) {
            return Err(area.bad("key slot offset", offset, "not between header and payload"));
        }
        Ok(Slot { active, rounds, salt: array(b, 8), offset, stripes })
    }

    fn to_bytes(&self) -> Vec<u8> {
        let mut b = vec![0; HEADER];
        let mut put = |at: usize, bytes: &[u8]| b[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, MAGIC);
        put(6, &[0, 1]);
        put(8, self.algorithm.names().1.as_bytes());
        put(40, self.mode_text().as_bytes());
        put(72, self.hash.name().as_bytes());
        put(104, &((self.payload / SECTOR as u64) as u32).to_be_bytes());
        put(108, &(self.key_bytes() as u32).to_be_bytes());
        put(112, &self.digest);
        put(132, &self.digest_salt);
        put(164, &self.digest_rounds.to_be_bytes());
        put(168, &self.uuid.as_bytes()[..self.uuid.len().min(39)]);
        for (i, slot) in self.slots.iter().enumerate() {
            let at = 208 + 48 * i;
            let state = if slot.active { SLOT_ACTIVE } else { SLOT_INACTIVE };
            put(at, &state.to_be_bytes());
            put(at + 4, &slot.rounds.to_be_bytes());
            put(at + 8, &slot.salt);
            put(at + 40, &((slot.offset / SECTOR as u64) as u32).to_be_bytes());
            put(at + 44, &slot.stripes.to_be_bytes());
        }
        b
    }

    /// Where the data begins, in bytes from the header's start; 0 if it is elsewhere.
    pub fn payload(&self) -> u64 {
        self.payload
    }

    fn key_bytes(&self) -> usize {
        self.algorithm.key_bytes * self.mode.keys()
    }

    /// Bytes of a slot's material.
    fn stripes_len(&self) -> usize {
        self.key_bytes() * STRIPES as usize
    }

    /// The same in whole sectors, as it is encrypted.
    fn material_len(&self) -> usize {
        self.stripes_len().next_multiple_of(SECTOR)
    }

    fn mode_text(&self) -> String {
        match (self.mode, self.iv) {
            (mode, IvGen::Essiv(hash)) => format!("{}-essiv:{}", mode.name(), hash.name()),
            (mode, iv) => format!("{}-{}", mode.name(), iv.name()),
        }
    }

    /// What the tools show about the volume.
    pub fn properties(&self, detached: bool) -> Vec<(&'static str, Property)> {
        let slot = |slot: &Slot| {
            let mut shown: Vec<(&'static str, Property)> = vec![("active", slot.active.into())];
            if slot.active {
                shown.push(("iters", u64::from(slot.rounds).into()));
            }
            shown.push(("key-offset", slot.offset.into()));
            if slot.active {
                shown.push(("stripes", u64::from(slot.stripes).into()));
            }
            Property::Group(shown)
        };
        let mut shown = vec![("ivgen-alg", self.iv.name().into())];
        if let IvGen::Essiv(hash) = self.iv {
            shown.push(("ivgen-hash-alg", hash.name().into()));
        }
        shown.extend([
            ("detached-header", detached.into()),
            ("hash-alg", self.hash.name().into()),
            ("cipher-alg", self.algorithm.names().0.into()),
            ("uuid", self.uuid.as_str().into()),
            ("cipher-mode", self.mode.name().into()),
            ("slots", Property::List(self.slots.iter().map(slot).collect())),
            ("payload-offset", self.payload.into()),
            ("master-key-iters", u64::from(self.digest_rounds).into()),
        ]);
        shown
    }

    /// Bytes in front of the data of a volume with these parameters.
    pub fn len_of(parameters: &Parameters) -> u64 {
        let key = parameters.algorithm.key_bytes * parameters.mode.keys();
        let slot = (key as u64 * u64::from(STRIPES)).next_multiple_of(ALIGNMENT);
        ALIGNMENT + slot * SLOT_COUNT as u64
    }
}

impl Volume {
    /// Makes a volume with a random key, whose first slot `passphrase` opens.
    ///
    /// The header is written last, after a sync: a crash leaves nothing that looks like a volume.
    ///
    /// # Errors
    /// `Option` for parameters that do not fit together; the host's.
    pub fn create(
        area: &Area<'_>,
        parameters: &Parameters,
        passphrase: &[u8],
        detached: bool,
    ) -> Result<Self, OpenError> {
        let key_bytes = parameters.algorithm.key_bytes * parameters.mode.keys();
        let slot_len = (key_bytes as u64 * u64::from(STRIPES)).next_multiple_of(ALIGNMENT);
        let slot = |i: u64| Slot {
            active: false,
            rounds: 0,
            salt: [0; 32],
            offset: ALIGNMENT + i * slot_len,
            stripes: STRIPES,
        };
        let key = Zeroizing::new(random(key_bytes)?);
        let digest_salt = array(&random(32)?, 0);
        // An eighth of the time: it is spent for every slot that is tried.
        let rounds = parameters.hash.rounds_in(parameters.time / 8, 20);
        let digest_rounds = rounds.clamp(FEWEST_ROUNDS, MOST_ROUNDS.into()) as u32;
        let digest = parameters.hash.derive(&key, &digest_salt, digest_rounds, 20);
        let header = Header {
            algorithm: parameters.algorithm,
            mode: parameters.mode,
            iv: parameters.iv,
            hash: parameters.hash,
            payload: if detached { 0 } else { Header::len_of(parameters) },
            digest: array(&digest, 0),
            digest_salt,
            digest_rounds,
            uuid: uuid()?,
            slots: (0..SLOT_COUNT as u64).map(slot).collect(),
        };
        let mut volume = Self::with_key(header, key, area)?;
        area.write(0, &vec![0; HEADER])?;
        volume.set_slot(area, 0, passphrase, parameters.time)?;
        Ok(volume)
    }

    fn with_key(
        header: Header,
        key: Zeroizing<Vec<u8>>,
        area: &Area<'_>,
    ) -> Result<Self, OpenError> {
        let cipher = SectorCipher::new(header.algorithm, header.mode, header.iv, &key);
        let refuse = || area.refuse("luks: cipher, mode and initialisation vectors do not fit");
        Ok(Self { header, key, cipher: cipher.ok_or_else(refuse)? })
    }

    /// Opens a volume with a passphrase.
    ///
    /// # Errors
    /// As [`Header::read`]; `Image` if no slot takes the passphrase.
    pub fn unlock(area: &Area<'_>, passphrase: &[u8]) -> Result<Self, OpenError> {
        let header = Header::read(area)?;
        for slot in 0..SLOT_COUNT {
            if let Some(key) = header.key_in(area, slot, passphrase)? {
                return Self::with_key(header, key, area);
            }
        }
        Err(OpenError::Option("Invalid password, cannot unlock any keyslot".to_owned()))
    }
}

fn mode_and_iv(text: &str) -> Option<(Mode, IvGen)> {
    let (mode, iv) = text.split_once('-').unwrap_or((text, "plain"));
    let mode = Mode::TABLE.iter().find(|(name, _)| *name == mode)?.1;
    let iv = match iv.split_once(':') {
        None if iv == "plain" => IvGen::Plain,
        None if iv == "plain64" => IvGen::Plain64,
        Some(("essiv", hash)) => IvGen::Essiv(Hash::named(hash)?),
        _ => return None,
    };
    Some((mode, iv))
}

/// Bytes that nobody can guess.
fn random(len: usize) -> Result<Vec<u8>, OpenError> {
    let mut bytes = vec![0; len];
    let mut done = 0;
    while done < len {
        let flags = rustix::rand::GetRandomFlags::empty();
        match rustix::rand::getrandom(&mut bytes[done..], flags) {
            Ok(n) => done += n,
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => {
                let operation = "Could not get random bytes".to_owned();
                return Err(OpenError::Host { operation, source: e.into() });
            }
        }
    }
    Ok(bytes)
}

/// A random UUID (RFC 9562, version 4).
fn uuid() -> Result<String, OpenError> {
    let mut b: [u8; 16] = array(&random(16)?, 0);
    b[6] = (b[6] & 0x0f) | 0x40;
    b[8] = (b[8] & 0x3f) | 0x80;
    let hex: Vec<String> = b.iter().map(|byte| format!("{byte:02x}")).collect();
    let parts = [&hex[..4], &hex[4..6], &hex[6..8], &hex[8..10], &hex[10..]];
    Ok(parts.map(|part| part.concat()).join("-"))
}

fn be32(b: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(*b[at..].first_chunk().expect("the buffer has a fixed length"))
}

fn array<const N: usize>(b: &[u8], at: usize) -> [u8; N] {
    *b[at..].first_chunk().expect("the buffer has a fixed length")
}
