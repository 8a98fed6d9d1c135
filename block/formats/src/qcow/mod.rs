//! QCOW, the first version ("The QCOW Image Format", Mark McLoughlin, 2008; integers big-endian).
//!
//! Layout: a header, the name of the backing file, an L1 table of L2 tables, clusters: plain, or
//! compressed with raw deflate, which bit 63 of an L2 entry says.
//!
//! Order of writes: data; flush; L2 entries; flush; L1 entries. A crash loses space.
//! Encrypted images: `encrypted.rs`.

mod encrypted;

use std::io;
use std::io::{Read, Write};
use std::sync::Arc;

use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;
use graph::{ImageOption, Node, NodeInfo, OpenError, Preallocation, Role, ValueKind, ZeroFlags};

use crate::blocks::codec::{
    Fields, be32, be64, damaged, grow, put, read_padded, read_start, write,
};
use crate::blocks::{
    BlockMap, Blocks, Order, Pack, Piece, Place, Space, Tables, TwoLevel, Unpack, option_size,
};
use crate::format::{CreateRequest, Format, OpenRequest, Reference};
use crate::luks::passphrase;
use encrypted::Encrypted;

const FORMAT: &str = "qcow";
const MAGIC: &[u8; 8] = b"QFI\xfb\0\0\0\x01";
const HEADER: usize = 48;

/// The flag of compressed clusters.
const COMPRESSED: u64 = 1 << 63;

/// The value of `crypt_method` for AES.
const CRYPT_AES: u32 = 1;

/// Longest L1 table of a new image: what a signed 32-bit number of bytes holds.
const MOST_L1: u64 = i32::MAX as u64;

mod at {
    //! Offsets in the header.
    pub const BACKING_OFFSET: usize = 8;
    pub const BACKING_LEN: usize = 16;
    pub const SIZE: usize = 24;
    pub const CLUSTER_BITS: usize = 32;
    pub const L2_BITS: usize = 33;
    pub const CRYPT_METHOD: usize = 36;
    pub const L1_OFFSET: usize = 40;
}

/// The row of `qcow` in the table of formats.
pub struct QcowFormat;

const CREATE_OPTIONS: &[ImageOption] = &[
    ImageOption::new("size", ValueKind::Size, "Virtual disk size"),
    ImageOption::new("backing_file", ValueKind::Text, "File name of a base image"),
    ImageOption::new("backing_fmt", ValueKind::Text, "Format of the backing image"),
    ImageOption::new(
        "encryption",
        ValueKind::Switch,
        "Encrypt the image with format 'aes'. (Deprecated in favor of encrypt.format=aes)",
    ),
    ImageOption::new("encrypt.format", ValueKind::Text, "Encrypt the image, format choices: 'aes'"),
    ImageOption::new(
        "encrypt.key-secret",
        ValueKind::Text,
        "ID of the secret that provides the AES encryption key",
    ),
];

impl Format for QcowFormat {
    fn name(&self) -> &'static str {
        FORMAT
    }

    fn recognises(&self, start: &[u8], _path: &str) -> bool {
        start.starts_with(MAGIC)
    }

    fn references(&self, file: &dyn Node, path: &str) -> Result<Vec<Reference>, OpenError> {
        let header = Header::read(file, path)?;
        let backing =
            header.backing.map(|name| Reference { role: Role::Backing, name, format: None });
        Ok(backing.into_iter().collect())
    }

    fn open(&self, mut request: OpenRequest<'_>) -> Result<Arc<dyn Node>, OpenError> {
        let header = Header::read(&*request.file, request.path)?;
        let cipher = encrypted::cipher(&mut request, header.encrypted)?;
        let encrypted = header.encrypted;
        let levels = header.levels();
        let cluster = levels.cluster;
        let disk = Blocks::new(request, Map { header, levels });
        let disk = disk.with_unpack(Clusters { cluster }).with_pack(Clusters { cluster });
        Ok(if encrypted { Arc::new(Encrypted::new(disk, cluster, cipher)) } else { Arc::new(disk) })
    }

    fn create_options(&self) -> &'static [ImageOption] {
        CREATE_OPTIONS
    }

    fn create(&self, request: &CreateRequest<'_>) -> Result<(), OpenError> {
        let header = Header::for_options(request)?;
        if header.encrypted {
            passphrase(request.options, "encrypt.key-secret", request.secrets)?;
        }
        request.with_file(request.path, 0, Preallocation::Off, |file| {
            header.create(&*file).map_err(|e| OpenError::host(request.path, e))
        })
    }
}

/// What a header says.
struct Header {
    backing: Option<String>,
    size: u64,
    cluster_bits: u32,
    l2_bits: u32,
    encrypted: bool,
    l1: u64,
}

impl Header {
    fn read(file: &dyn Node, path: &str) -> Result<Self, OpenError> {
        let start = read_start::<HEADER>(file, path)?;
        if !start.starts_with(MAGIC) {
            return Err(OpenError::NotThisFormat { format: FORMAT });
        }
        let fields = Fields { path, format: FORMAT };
        let method = be32(&start, at::CRYPT_METHOD);
        if method > CRYPT_AES {
            return Err(OpenError::Option("invalid encryption method in qcow header".to_owned()));
        }
        let mut header = Self {
            backing: None,
            size: be64(&start, at::SIZE),
            cluster_bits: start[at::CLUSTER_BITS].into(),
            l2_bits: start[at::L2_BITS].into(),
            encrypted: method == CRYPT_AES,
            l1: be64(&start, at::L1_OFFSET),
        };
        header.check(file.size(), &fields)?;
        let (at, len) = (be64(&start, at::BACKING_OFFSET), be32(&start, at::BACKING_LEN));
        if at != 0 && len != 0 {
            fields.want(len <= 1023, "backing_file_size", len.into(), "too long")?;
            let mut name = vec![0; len as usize];
            read_padded(file, at, &mut name).map_err(|e| OpenError::host(path, e))?;
            header.backing = Some(String::from_utf8_lossy(&name).into_owned());
        }
        Ok(header)
    }

    fn check(&self, file_len: u64, fields: &Fields<'_>) -> Result<(), OpenError> {
        let (size, bits, l2) = (self.size, self.cluster_bits, self.l2_bits);
        fields.want(
            size > 1,
            "size",
            size,
            "Image size is too small (must be at least 2 bytes)",
        )?;
        fields.want(size <= i64::MAX as u64, "size", size, "too large")?;
        fields.want((9..=16).contains(&bits), "cluster_bits", bits.into(), "not from 9 to 16")?;
        // A table has from 64 entries (512 bytes) to 8192 (64 KiB).
        fields.want((6..=13).contains(&l2), "l2_bits", l2.into(), "not from 6 to 13")?;
        let end = self.l1_len().checked_add(self.l1).filter(|end| *end <= file_len);
        fields.want(
            end.is_some() && self.l1 >= HEADER as u64,
            "l1_table_offset",
            self.l1,
            "the table is outside the file",
        )
    }

    /// Bytes of the L1 table.
    fn l1_len(&self) -> u64 {
        self.size.div_ceil(1 << (self.cluster_bits + self.l2_bits)) * 8
    }

    fn levels(&self) -> TwoLevel {
        TwoLevel {
            l1: self.l1,
            l2_entries: 1 << self.l2_bits,
            l2_len: 8 << self.l2_bits,
            cluster: 1 << self.cluster_bits,
            order: Order::Big,
            next: 0,
        }
    }

    fn for_options(request: &CreateRequest<'_>) -> Result<Self, OpenError> {
        let refuse = |text: &str| Err(OpenError::Option(text.to_owned()));
        let options = request.options;
        let encrypted = encrypted::wanted(options)?;
        let size = option_size(options)?;
        if size == 0 {
            return refuse("Image size is too small, cannot be zero length");
        }
        let backing = options.text("backing_file").filter(|name| !name.is_empty());
        if backing.is_some_and(|name| name.len() > 1023) {
            return refuse("Backing file name too long");
        }
        // Small clusters in front of a backing file, so that little is copied.
        let (cluster_bits, l2_bits) = if backing.is_some() { (9, 12) } else { (12, 9) };
        let l1 = (HEADER + backing.map_or(0, str::len)).next_multiple_of(8) as u64;
        let header = Self {
            backing: backing.map(str::to_owned),
            size,
            cluster_bits,
            l2_bits,
            encrypted,
            l1,
        };
        if header.l1_len() > MOST_L1 {
            return refuse("Image size too large for the format qcow");
        }
        Ok(header)
    }

    fn create(&self, file: &dyn Node) -> io::Result<()> {
        let mut header = vec![0; HEADER];
        put(&mut header, 0, MAGIC);
        if let Some(name) = &self.backing {
            put(&mut header, at::BACKING_OFFSET, &(HEADER as u64).to_be_bytes());
            put(&mut header, at::BACKING_LEN, &(name.len() as u32).to_be_bytes());
            header.extend_from_slice(name.as_bytes());
        }
        put(&mut header, at::SIZE, &self.size.to_be_bytes());
        put(&mut header, at::CLUSTER_BITS, &[self.cluster_bits as u8, self.l2_bits as u8]);
        let method = if self.encrypted { CRYPT_AES } else { 0 };
        put(&mut header, at::CRYPT_METHOD, &method.to_be_bytes());
        put(&mut header, at::L1_OFFSET, &self.l1.to_be_bytes());
        grow(file, self.l1 + self.l1_len().next_multiple_of(512))?;
        file.flush()?;
        write(file, 0, &header)?;
        file.flush()
    }
}

/// An open image.
struct Map {
    header: Header,
    levels: TwoLevel,
}

impl Map {
    /// Bits of an entry that hold the offset of a compressed cluster; its length is above.
    fn offset_bits(&self) -> u32 {
        63 - self.header.cluster_bits
    }
}

impl BlockMap for Map {
    fn name(&self) -> &'static str {
        FORMAT
    }

    fn size(&self) -> u64 {
        self.header.size
    }

    fn block(&self) -> u64 {
        self.levels.cluster
    }

    fn lookup(
        &mut self,
        tables: &mut Tables,
        file: &dyn Node,
        guest: u64,
    ) -> io::Result<(Place, u64)> {
        let bits = self.offset_bits();
        self.levels.lookup(tables, file, guest, |entry, within| match entry {
            packed if packed & COMPRESSED != 0 => {
                let (at, len) = (packed & ((1 << bits) - 1), (packed & !COMPRESSED) >> bits);
                Ok(Place::Packed(Piece { at, len }, within))
            }
            host if host < 1 << 62 => Ok(Place::Data(host + within)),
            bad => Err(damaged(format!("qcow: L2 entry {bad:#x}"))),
        })
    }

    fn allocate(&mut self, _: &mut Tables, file: &dyn Node, _: u64) -> io::Result<Space> {
        let cluster = self.levels.cluster;
        let host = self.levels.reserve(file, cluster, cluster)?;
        Ok(Space { host, end: host + cluster })
    }

    fn link(
        &mut self,
        tables: &mut Tables,
        file: &dyn Node,
        guest: u64,
        host: u64,
    ) -> io::Result<()> {
        self.levels.set(tables, file, guest, host)
    }

    fn allocate_packed(&mut self, file: &dyn Node, len: u64) -> io::Result<u64> {
        self.levels.reserve(file, len, 1)
    }

    fn link_packed(
        &mut self,
        tables: &mut Tables,
        file: &dyn Node,
        guest: u64,
        piece: Piece,
    ) -> io::Result<()> {
        if piece.at >> self.offset_bits() != 0 {
            return Err(damaged("qcow: the file is too large for compressed clusters"));
        }
        let entry = COMPRESSED | piece.len << self.offset_bits() | piece.at;
        self.levels.set(tables, file, guest, entry)
    }

    fn is_overlay(&self) -> bool {
        true
    }

    /// Once no entry refers to anything, all that follows the first table is lost space.
    fn make_empty(&mut self, file: &dyn Node) -> io::Result<()> {
        let (at, len) = (self.header.l1, self.header.l1_len());
        file.write_zeroes(at, len, ZeroFlags::default())?;
        file.flush()?;
        self.levels.next = 0;
        file.truncate(at + len)
    }

    fn describe(&self, info: &mut NodeInfo) {
        info.backing_filename = self.header.backing.clone();
        info.encrypted = self.header.encrypted;
    }
}

/// Compressed clusters: raw deflate (RFC 1951) with a window of 4 KiB.
struct Clusters {
    cluster: u64,
}

/// The window that readers have. What is packed as a whole in no more bytes needs no larger one.
const WINDOW: u64 = 4096;

impl Unpack for Clusters {
    fn unpack(&self, file: &dyn Node, piece: Piece) -> io::Result<Vec<u8>> {
        // The entry bounds the length by a cluster.
        let mut packed = vec![0; piece.len as usize];
        read_padded(file, piece.at, &mut packed)?;
        let mut content = vec![0; self.cluster as usize];
        let unpacked = DeflateDecoder::new(&packed[..]).read_exact(&mut content);
        unpacked.map_err(|e| damaged(format!("qcow: cluster at {:#x}: {e}", piece.at)))?;
        Ok(content)
    }
}

impl Pack for Clusters {
    fn pack(&self, _: u64, data: &[u8]) -> io::Result<Option<Vec<u8>>> {
        if self.cluster > WINDOW {
            return Ok(None);
        }
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(data)?;
        let packed = encoder.finish()?;
        Ok((packed.len() < data.len()).then_some(packed))
    }
}
