//! Ciphers over sectors of 512 bytes: the modes and initialisation vectors that LUKS names.
//!
//! Sources: "LUKS1 On-Disk Format Specification", version 1.2.3, sections on cipher and mode names;
//! IEEE 1619 (XTS); the ESSIV construction as `dm-crypt` documents it. Not here: CTR, LRW, and
//! ciphers with blocks of 8 bytes.

use aes::{Aes128, Aes192, Aes256};
use cipher::array::Array;
use cipher::consts::U16;
use cipher::{BlockCipherDecrypt, BlockCipherEncrypt, BlockSizeUser, KeyInit};
use serpent::Serpent;
use twofish::Twofish;
use zeroize::Zeroizing;

use super::hash::Hash;

/// Bytes per sector: each has a vector of its own.
pub const SECTOR: usize = 512;

type Block = [u8; 16];

/// A block cipher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// AES.
    Aes,
    /// Serpent.
    Serpent,
    /// Twofish.
    Twofish,
}

/// A cipher with the length of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Algorithm {
    /// Which one.
    pub family: Family,
    /// Bytes of the key of one instance; XTS has two.
    pub key_bytes: usize,
}

impl Algorithm {
    /// Every algorithm by the name that options use, with the name in LUKS headers.
    pub const TABLE: &[(&str, &str, Self)] = &[
        ("aes-128", "aes", Self { family: Family::Aes, key_bytes: 16 }),
        ("aes-192", "aes", Self { family: Family::Aes, key_bytes: 24 }),
        ("aes-256", "aes", Self { family: Family::Aes, key_bytes: 32 }),
        ("serpent-128", "serpent", Self { family: Family::Serpent, key_bytes: 16 }),
        ("serpent-192", "serpent", Self { family: Family::Serpent, key_bytes: 24 }),
        ("serpent-256", "serpent", Self { family: Family::Serpent, key_bytes: 32 }),
        ("twofish-128", "twofish", Self { family: Family::Twofish, key_bytes: 16 }),
        ("twofish-192", "twofish", Self { family: Family::Twofish, key_bytes: 24 }),
        ("twofish-256", "twofish", Self { family: Family::Twofish, key_bytes: 32 }),
    ];

    /// The algorithm that options call `name`.
    pub fn named(name: &str) -> Option<Self> {
        Self::TABLE.iter().find(|(n, ..)| *n == name).map(|(.., algorithm)| *algorithm)
    }

    /// The algorithm of a LUKS header with keys of `key_bytes`.
    pub fn of_luks(name: &str, key_bytes: usize) -> Option<Self> {
        let mut rows = Self::TABLE.iter();
        rows.find(|(_, n, a)| *n == name && a.key_bytes == key_bytes).map(|(.., a)| *a)
    }

    /// The names in options and in LUKS headers.
    pub fn names(self) -> (&'static str, &'static str) {
        let row = Self::TABLE.iter().find(|(.., algorithm)| *algorithm == self);
        row.map_or(("unknown", "unknown"), |(option, luks, _)| (option, luks))
    }
}

/// How blocks of a sector depend on each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Not at all.
    Ecb,
    /// Each on the one before it.
    Cbc,
    /// On their place.
    Xts,
}

impl Mode {
    /// Every mode by its name.
    pub const TABLE: &[(&str, Self)] =
        &[("ecb", Self::Ecb), ("cbc", Self::Cbc), ("xts", Self::Xts)];

    /// Keys that an instance takes.
    pub fn keys(self) -> usize {
        if self == Self::Xts { 2 } else { 1 }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::TABLE.iter().find(|(_, mode)| *mode == self).map_or("unknown", |(name, _)| name)
    }
}

/// Where the initialisation vector of a sector comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IvGen {
    /// The low 32 bits of the sector's number.
    Plain,
    /// The sector's number.
    Plain64,
    /// The sector's number, encrypted with the hash of the key.
    Essiv(Hash),
}

impl IvGen {
    /// Its name without the hash.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Plain64 => "plain64",
            Self::Essiv(_) => "essiv",
        }
    }
}

/// What encrypts and decrypts sectors.
pub struct SectorCipher {
    mode: Mode,
    iv: IvGen,
    data: Box<dyn Blocks>,
    /// For the tweak of XTS, or the vector of ESSIV.
    second: Option<Box<dyn Blocks>>,
}

/// Blocks of 16 bytes in place.
trait Blocks: Send + Sync {
    fn encrypt(&self, blocks: &mut [Block]);
    fn decrypt(&self, blocks: &mut [Block]);
}

impl<C> Blocks for C
where
    C: BlockCipherEncrypt + BlockCipherDecrypt + BlockSizeUser<BlockSize = U16> + Send + Sync,
{
    fn encrypt(&self, blocks: &mut [Block]) {
        self.encrypt_blocks(Array::cast_slice_from_core_mut(blocks));
    }

    fn decrypt(&self, blocks: &mut [Block]) {
        self.decrypt_blocks(Array::cast_slice_from_core_mut(blocks));
    }
}

fn keyed<C: Blocks + KeyInit + 'static>(key: &[u8]) -> Option<Box<dyn Blocks>> {
    C::new_from_slice(key).ok().map(|cipher| Box::new(cipher) as Box<dyn Blocks>)
}

fn blocks_of(family: Family, key: &[u8]) -> Option<Box<dyn Blocks>> {
    match (family, key.len()) {
        (Family::Aes, 16) => keyed::<Aes128>(key),
        (Family::Aes, 24) => keyed::<Aes192>(key),
        (Family::Aes, 32) => keyed::<Aes256>(key),
        (Family::Serpent, 16 | 24 | 32) => keyed::<Serpent>(key),
        (Family::Twofish, 16 | 24 | 32) => keyed::<Twofish>(key),
        _ => None,
    }
}

impl SectorCipher {
    /// A cipher with its key; `None` if they do not fit together.
    pub fn new(algorithm: Algorithm, mode: Mode, iv: IvGen, key: &[u8]) -> Option<Self> {
        if key.len() != algorithm.key_bytes * mode.keys() {
            return None;
        }
        let (first, rest) = key.split_at(algorithm.key_bytes);
        let second = match (mode, iv) {
            (Mode::Xts, IvGen::Essiv(_)) => return None,
            (Mode::Xts, _) => Some(blocks_of(algorithm.family, rest)?),
            (_, IvGen::Essiv(hash)) => {
                let key = Zeroizing::new(hash.digest(&[key]));
                Some(blocks_of(algorithm.family, &key)?)
            }
            _ => None,
        };
        Some(Self { mode, iv, data: blocks_of(algorithm.family, first)?, second })
    }

    /// The cipher of qcow images without LUKS: AES-128-CBC, whose key is the passphrase, cut or filled
    /// with zeroes.
    pub fn of_qcow(passphrase: &[u8]) -> Option<Self> {
        let mut key = Zeroizing::new([0; 16]);
        let len = passphrase.len().min(16);
        key[..len].copy_from_slice(&passphrase[..len]);
        Self::new(Algorithm::named("aes-128")?, Mode::Cbc, IvGen::Plain64, &*key)
    }

    /// Encrypts whole sectors, of which the first has the number `sector`.
    pub fn encrypt(&self, sector: u64, bytes: &mut [u8]) {
        for (n, blocks) in sectors(bytes) {
            let mut vector = self.vector(sector.wrapping_add(n));
            match self.mode {
                Mode::Ecb => self.data.encrypt(blocks),
                Mode::Cbc => {
                    for block in blocks {
                        add(block, &vector);
                        self.data.encrypt(std::slice::from_mut(block));
                        vector = *block;
                    }
                }
                Mode::Xts => {
                    let tweaks = tweaks(vector, blocks.len());
                    add_all(blocks, &tweaks);
                    self.data.encrypt(blocks);
                    add_all(blocks, &tweaks);
                }
            }
        }
    }

    /// Decrypts whole sectors, of which the first has the number `sector`.
    pub fn decrypt(&self, sector: u64, bytes: &mut [u8]) {
        for (n, blocks) in sectors(bytes) {
            let vector = self.vector(sector.wrapping_add(n));
            match self.mode {
                Mode::Ecb => self.data.decrypt(blocks),
                Mode::Cbc => {
                    let mut before = [[0; 16]; SECTOR / 16];
                    before[0] = vector;
                    before[1..].copy_from_slice(&blocks[..SECTOR / 16 - 1]);
                    self.data.decrypt(blocks);
                    add_all(blocks, &before);
                }
                Mode::Xts => {
                    let tweaks = tweaks(vector, blocks.len());
                    add_all(blocks, &tweaks);
                    self.data.decrypt(blocks);
                    add_all(blocks, &tweaks);
                }
            }
        }
    }

    /// The vector of a sector; for XTS encrypted to the first tweak.
    fn vector(&self, sector: u64) -> Block {
        let number = match self.iv {
            IvGen::Plain => u64::from(sector as u32),
            IvGen::Plain64 | IvGen::Essiv(_) => sector,
        };
        let mut block = [0; 16];
        block[..8].copy_from_slice(&number.to_le_bytes());
        if let Some(second) = &self.second {
            second.encrypt(std::slice::from_mut(&mut block));
        }
        block
    }
}

/// Whole sectors as blocks, numbered; a rest that is none stays as it is.
fn sectors(bytes: &mut [u8]) -> impl Iterator<Item = (u64, &mut [Block])> {
    let sectors = bytes.chunks_exact_mut(SECTOR).map(|sector| sector.as_chunks_mut().0);
    (0..).zip(sectors)
}

fn add(block: &mut Block, other: &Block) {
    for (b, o) in block.iter_mut().zip(other) {
        *b ^= o;
    }
}

fn add_all(blocks: &mut [Block], others: &[Block]) {
    for (block, other) in blocks.iter_mut().zip(others) {
        add(block, other);
    }
}

/// The tweaks of a sector's blocks: each is the one before it times α in GF(2^128).
fn tweaks(first: Block, n: usize) -> [Block; SECTOR / 16] {
    let mut all = [[0; 16]; SECTOR / 16];
    let mut tweak = u128::from_le_bytes(first);
    for place in all.iter_mut().take(n) {
        *place = tweak.to_le_bytes();
        let carry = tweak >> 127;
        tweak = (tweak << 1) ^ (carry * 0x87);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xts_is_that_of_ieee_1619_vector_1_and_4() {
        let algorithm = Algorithm::named("aes-128").expect("it is in the table");
        let key = [0; 32];
        let cipher = SectorCipher::new(algorithm, Mode::Xts, IvGen::Plain64, &key);
        let cipher = cipher.expect("the key fits");
        let mut sector = [0; SECTOR];
        cipher.encrypt(0, &mut sector);
        // The vector has two blocks; the first does not depend on the rest.
        let first = u128::from_be_bytes(*sector.first_chunk().expect("a sector is longer"));
        assert_eq!(first, 0x917c_f69e_bd68_b2ec_9b9f_e9a3_eadd_a692);
        cipher.decrypt(0, &mut sector);
        assert_eq!(sector, [0; SECTOR]);
    }

    #[test]
    fn every_cipher_and_mode_undoes_itself() {
        let text: Vec<u8> = (0..3 * SECTOR as u32).map(|i| (i * i / 3) as u8).collect();
        for (name, _, algorithm) in Algorithm::TABLE {
            for (_, mode) in Mode::TABLE {
                let hash = if algorithm.key_bytes == 16 { Hash::Ripemd160 } else { Hash::Sha256 };
                for iv in [IvGen::Plain, IvGen::Plain64, IvGen::Essiv(hash)] {
                    let key: Vec<u8> =
                        (0..algorithm.key_bytes * mode.keys()).map(|i| i as u8).collect();
                    let Some(cipher) = SectorCipher::new(*algorithm, *mode, iv, &key) else {
                        assert!(matches!(iv, IvGen::Essiv(_)), "{name}");
                        continue;
                    };
                    let mut bytes = text.clone();
                    cipher.encrypt(7, &mut bytes);
                    assert_ne!(bytes, text);
                    cipher.decrypt(7, &mut bytes);
                    assert_eq!(bytes, text, "{name} {mode:?} {iv:?}");
                }
            }
        }
    }
}
