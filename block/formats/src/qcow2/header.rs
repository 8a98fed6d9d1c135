//! The header of a qcow2 image, its extensions and the limits we set on it.

use graph::{Node, OpenError};

use super::codec::{be32, be64, read_padded};
use super::rewrite::put_name;

const MAGIC: u32 = 0x5146_49fb;
/// Length of a version 2 header.
const V2_LENGTH: u32 = 72;
/// Length of the version 3 header before any optional field.
const V3_LENGTH: u32 = 104;
/// Largest L1 table, in bytes.
const MAX_L1: u64 = 32 << 20;
/// Largest refcount table, in bytes.
const MAX_REFTABLE: u64 = 8 << 20;
/// Most internal snapshots.
pub(super) const MAX_SNAPSHOTS: u32 = 65536;
/// Longest name of a backing file, in bytes.
pub(super) const MAX_BACKING_NAME: u32 = 1023;

/// The image was in use and its refcounts may be wrong.
pub(super) const INCOMPATIBLE_DIRTY: u64 = 1 << 0;
/// The image is damaged and must not be written.
pub(super) const INCOMPATIBLE_CORRUPT: u64 = 1 << 1;
/// Guest data is in a file of its own.
pub(super) const INCOMPATIBLE_DATA_FILE: u64 = 1 << 2;
/// Clusters are compressed by another method than zlib.
pub(super) const INCOMPATIBLE_COMPRESSION: u64 = 1 << 3;
/// L2 entries have a bitmap of 32 subclusters.
pub(super) const INCOMPATIBLE_EXTENDED_L2: u64 = 1 << 4;
const INCOMPATIBLE_KNOWN: u64 = 0x1f;
/// Refcounts may be brought up to date late.
pub(super) const COMPATIBLE_LAZY: u64 = 1 << 0;
/// The bitmaps extension is consistent.
pub(super) const AUTOCLEAR_BITMAPS: u64 = 1 << 0;
/// Those that we keep true.
pub(super) const AUTOCLEAR_KNOWN: u64 = AUTOCLEAR_BITMAPS | AUTOCLEAR_RAW_DATA;
/// The external data file is a valid raw image of the disk.
pub(super) const AUTOCLEAR_RAW_DATA: u64 = 1 << 1;

/// Byte offset of the features that must be understood; they are written alone.
pub(super) const AT_INCOMPATIBLE: u64 = 72;
/// Byte offset of the L1 table's two fields: length, then offset.
pub(super) const AT_L1: u64 = 36;
/// Byte offset of the refcount table's two fields: offset, then length.
pub(super) const AT_REFTABLE: u64 = 48;

/// `crypt_method`: guest data is plain.
pub(super) const CRYPT_NONE: u32 = 0;
/// `crypt_method`: AES-128-CBC with the passphrase as key.
pub(super) const CRYPT_AES: u32 = 1;
/// `crypt_method`: LUKS, with its header where an extension says.
pub(super) const CRYPT_LUKS: u32 = 2;

pub(super) const EXT_END: u32 = 0;
const EXT_BACKING_FORMAT: u32 = 0xe279_2aca;
const EXT_FEATURES: u32 = 0x6803_f857;
const EXT_BITMAPS: u32 = 0x2385_2875;
const EXT_CRYPT: u32 = 0x0537_be77;
const EXT_DATA_FILE: u32 = 0x4441_5441;

/// Features with type (0 incompatible, 1 compatible, 2 autoclear), bit and name.
pub(super) const FEATURES: &[(u8, u8, &str)] = &[
    (0, 0, "dirty bit"),
    (0, 1, "corrupt bit"),
    (0, 2, "external data file"),
    (0, 3, "compression type"),
    (0, 4, "extended L2 entries"),
    (1, 0, "lazy refcounts"),
    (2, 0, "bitmaps"),
    (2, 1, "raw external data"),
];

/// How compressed clusters are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// Raw deflate.
    #[default]
    Zlib,
    /// Zstandard frames.
    Zstd,
}

/// A checked header. Invariant: tables have the lengths that `size` needs and lie inside the file,
/// shifts by `cluster_bits` and `refcount_order` are in range.
#[derive(Clone, Debug)]
pub struct Header {
    pub(super) version: u32,
    pub(super) cluster_bits: u32,
    pub(super) size: u64,
    pub(super) l1_size: u32,
    pub(super) l1_offset: u64,
    pub(super) reftable_offset: u64,
    pub(super) reftable_clusters: u32,
    pub(super) snapshots: u32,
    pub(super) snapshots_offset: u64,
    pub(super) incompatible: u64,
    pub(super) compatible: u64,
    pub(super) autoclear: u64,
    pub(super) refcount_order: u32,
    pub(super) compression: Compression,
    pub(super) bitmaps: Option<BitmapsExtension>,
    pub(super) crypt_method: u32,
    /// Offset and length of the LUKS header in the file.
    pub(super) crypt_header: Option<(u64, u64)>,
    /// Name of the backing file as stored in the image.
    pub backing_file: Option<String>,
    /// Format of the backing file as stored in the image.
    pub backing_format: Option<String>,
    /// Name of the external data file as stored in the image.
    pub data_file: Option<String>,
    /// Header fields behind those we know, and extensions likewise: kept as they are.
    pub(super) unknown: Unknown,
}

/// Bytes of the header that must survive when it is written again.
#[derive(Clone, Debug, Default)]
pub(super) struct Unknown {
    fields: Vec<u8>,
    extensions: Vec<(u32, Vec<u8>)>,
    /// The backing file's name, if it is not the text that [`Header::backing_file`] shows.
    backing_name: Option<(String, Vec<u8>)>,
}

/// Where the directory of persistent bitmaps is.
#[derive(Clone, Copy, Debug)]
pub(super) struct BitmapsExtension {
    pub count: u32,
    pub directory_size: u64,
    pub directory_offset: u64,
}

/// Collects what is needed to name a bad field.
struct Checker<'a> {
    path: &'a str,
}

impl Checker<'_> {
    fn bad(&self, field: &'static str, value: u64, why: &'static str) -> OpenError {
        OpenError::Field { path: self.path.to_owned(), format: "qcow2", field, value, why }
    }

    fn bounded(
        &self,
        field: &'static str,
        value: u64,
        min: u64,
        max: u64,
    ) -> Result<u64, OpenError> {
        if value < min {
            return Err(self.bad(field, value, "too small"));
        }
        if value > max {
            return Err(self.bad(field, value, "too large"));
        }
        Ok(value)
    }
}

/// Where tables may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// In the file.
    File,
    /// The L1 table and the list of snapshots may lie beyond the file, as a check is to tell. They read
    /// as zeroes there.
    Beyond,
}

impl Header {
    /// Reads and checks the header of the image in `file`, which messages call `path`.
    ///
    /// # Errors
    /// `NotThisFormat`, a bad field by its name, or what is not supported yet.
    pub fn read(file: &dyn Node, path: &str) -> Result<Self, OpenError> {
        Self::read_within(file, path, Reach::File)
    }

    /// The same, for whoever can do with tables that are not in the file.
    pub(super) fn read_within(
        file: &dyn Node,
        path: &str,
        reach: Reach,
    ) -> Result<Self, OpenError> {
        let mut bytes = vec![0; file.size().min(2 << 20) as usize];
        file.read_at(0, &mut bytes).map_err(|e| OpenError::host(path, e))?;
        Self::parse(&bytes, file.size(), path, reach)
    }

    /// Checks a header; `start` holds the first cluster or all of a shorter file.
    pub(super) fn parse(
        start: &[u8],
        file_size: u64,
        path: &str,
        reach: Reach,
    ) -> Result<Self, OpenError> {
        let check = Checker { path };
        if start.len() < V2_LENGTH as usize || be32(start, 0) != MAGIC {
            return Err(OpenError::NotThisFormat { format: "qcow2" });
        }
        let version = be32(start, 4);
        if version != 2 && version != 3 {
            let why = format!("Unsupported qcow2 version {version}");
            return Err(OpenError::Image { path: path.to_owned(), why });
        }
        let cluster_bits = check.bounded("cluster_bits", be32(start, 20).into(), 9, 21)? as u32;
        let mut padded = start[..start.len().min(1 << cluster_bits)].to_vec();
        padded.resize(padded.len().max(V3_LENGTH as usize + 8), 0);
        let mut header = Self {
            version,
            cluster_bits,
            size: be64(&padded, 24),
            l1_size: be32(&padded, 36),
            l1_offset: be64(&padded, 40),
            reftable_offset: be64(&padded, 48),
            reftable_clusters: be32(&padded, 56),
            snapshots: be32(&padded, 60),
            snapshots_offset: be64(&padded, 64),
            incompatible: 0,
            compatible: 0,
            autoclear: 0,
            refcount_order: 4,
            compression: Compression::Zlib,
            bitmaps: None,
            crypt_method: be32(&padded, 32),
            crypt_header: None,
            backing_file: None,
            backing_format: None,
            data_file: None,
            unknown: Unknown::default(),
        };
        let mut length = V2_LENGTH;
        if version == 3 {
            length = header.parse_v3(&padded, &check)?;
        }
        let names = header.parse_extensions(&padded, length, &check)?;
        header.check_features(&names, path)?;
        header.check_crypt(&check)?;
        header.check_tables(file_size, reach, &check)?;
        header.parse_backing(&padded, &check)?;
        Ok(header)
    }

    fn parse_v3(&mut self, b: &[u8], check: &Checker<'_>) -> Result<u32, OpenError> {
        self.incompatible = be64(b, 72);
        self.compatible = be64(b, 80);
        self.autoclear = be64(b, 88);
        self.refcount_order = check.bounded("refcount_order", be32(b, 96).into(), 0, 6)? as u32;
        let most = (1 << self.cluster_bits).min(b.len() as u64);
        let length =
            check.bounded("header_length", be32(b, 100).into(), V3_LENGTH.into(), most)? as u32;
        if length > V3_LENGTH + 8 {
            self.unknown.fields = b[V3_LENGTH as usize + 8..length as usize].to_vec();
        }
        if length > V3_LENGTH {
            self.compression = match b[104] {
                0 => Compression::Zlib,
                1 => Compression::Zstd,
                other => {
                    return Err(check.bad("compression_type", other.into(), "unknown method"));
                }
            };
        }
        let flagged = self.incompatible & INCOMPATIBLE_COMPRESSION != 0;
        if flagged != (self.compression != Compression::Zlib) {
            let value = self.incompatible;
            return Err(check.bad(
                "incompatible_features",
                value,
                "compression type bit does not match the compression type",
            ));
        }
        Ok(length)
    }

    /// Reads header extensions; returns the feature name table.
    fn parse_extensions(
        &mut self,
        b: &[u8],
        length: u32,
        check: &Checker<'_>,
    ) -> Result<Vec<(u8, u8, String)>, OpenError> {
        let mut names = Vec::new();
        let mut at = length as usize;
        let backing = be64(b, 8);
        let end = match backing {
            0 => b.len(),
            offset => usize::try_from(offset).unwrap_or(b.len()).min(b.len()),
        };
        while at + 8 <= end {
            let (kind, len) = (be32(b, at), be32(b, at + 4) as usize);
            if kind == EXT_END {
                break;
            }
            let Some(data) = b.get(at + 8..).and_then(|rest| rest.get(..len)) else {
                return Err(check.bad("header extension length", len as u64, "too large"));
            };
            match kind {
                EXT_BACKING_FORMAT => self.backing_format = Some(text(data)),
                EXT_FEATURES => {
                    names = data
                        .chunks_exact(48)
                        .map(|row| {
                            (
                                row[0],
                                row[1],
                                text(row[2..].split(|c| *c == 0).next().unwrap_or(&[])),
                            )
                        })
                        .collect();
                }
                EXT_BITMAPS if len >= 24 => {
                    // Nobody knows what it is; without it the bitmaps mean nothing.
                    let unknown = be32(data, 4) != 0;
                    if unknown {
                        let why = "bitmaps_ext: Reserved field is not zero".to_owned();
                        return Err(OpenError::Image { path: check.path.to_owned(), why });
                    }
                    self.bitmaps = Some(BitmapsExtension {
                        count: be32(data, 0),
                        directory_size: be64(data, 8),
                        directory_offset: be64(data, 16),
                    });
                }
                EXT_CRYPT if len >= 16 => self.crypt_header = Some((be64(data, 0), be64(data, 8))),
                EXT_DATA_FILE => self.data_file = Some(text(data)),
                _ => self.unknown.extensions.push((kind, data.to_vec())),
            }
            at += 8 + len.next_multiple_of(8);
        }
        Ok(names)
    }

    fn check_features(&self, names: &[(u8, u8, String)], path: &str) -> Result<(), OpenError> {
        let unknown = self.incompatible & !INCOMPATIBLE_KNOWN;
        if unknown != 0 {
            let listed: Vec<String> = (0..64u8)
                .filter(|bit| unknown & (1 << bit) != 0)
                .map(|bit| {
                    let name = names.iter().find(|(kind, b, _)| *kind == 0 && *b == bit);
                    match name {
                        Some((.., name)) => name.clone(),
                        None => format!("Unknown incompatible feature: {:x}", 1u64 << bit),
                    }
                })
                .collect();
            let why = format!("Unsupported qcow2 feature(s): {}", listed.join(", "));
            return Err(OpenError::Image { path: path.to_owned(), why });
        }
        Ok(())
    }

    fn check_crypt(&self, check: &Checker<'_>) -> Result<(), OpenError> {
        let method = self.crypt_method;
        if method > CRYPT_LUKS {
            return Err(check.bad("crypt_method", method.into(), "unknown method"));
        }
        match self.crypt_header {
            None if method == CRYPT_LUKS => {
                Err(check.bad("crypt_method", method.into(), "there is no LUKS header"))
            }
            Some((offset, _)) if !offset.is_multiple_of(1 << self.cluster_bits) => {
                Err(check.bad("encryption header offset", offset, "not aligned to a cluster"))
            }
            Some((_, length)) if !(1024..=1 << 30).contains(&length) => {
                Err(check.bad("encryption header length", length, "not a LUKS header's"))
            }
            _ => Ok(()),
        }
    }

    fn check_tables(
        &self,
        file_size: u64,
        reach: Reach,
        check: &Checker<'_>,
    ) -> Result<(), OpenError> {
        let cluster = 1u64 << self.cluster_bits;
        if self.extended_l2() && self.cluster_bits < 14 {
            return Err(check.bad(
                "cluster_bits",
                self.cluster_bits.into(),
                "too small for extended L2 entries",
            ));
        }
        let table = |field, offset: u64, bytes: u64, reach: Reach| {
            if !offset.is_multiple_of(cluster) {
                return Err(check.bad(field, offset, "not aligned to a cluster"));
            }
            match offset.checked_add(bytes) {
                Some(_) if reach == Reach::Beyond => Ok(()),
                Some(end) if end <= file_size.next_multiple_of(cluster) => Ok(()),
                _ => Err(check.bad(field, offset, "the table ends beyond the file")),
            }
        };
        let l1_bytes = check.bounded("l1_size", u64::from(self.l1_size) * 8, 0, MAX_L1)?;
        let covered = self.size.div_ceil(cluster).div_ceil(cluster / self.entry_size());
        if u64::from(self.l1_size) < covered {
            return Err(check.bad("l1_size", self.l1_size.into(), "too small for the disk's size"));
        }
        table("l1_table_offset", self.l1_offset, l1_bytes, reach)?;
        check.bounded("refcount_table_clusters", self.reftable_clusters.into(), 1, MAX_REFTABLE)?;
        let bytes = u64::from(self.reftable_clusters) * cluster;
        check.bounded("refcount_table_clusters", bytes, 1, MAX_REFTABLE.max(cluster))?;
        if self.reftable_offset == 0 {
            return Err(check.bad("refcount_table_offset", 0, "must not be the header"));
        }
        table("refcount_table_offset", self.reftable_offset, bytes, Reach::File)?;
        check.bounded("nb_snapshots", self.snapshots.into(), 0, MAX_SNAPSHOTS.into())?;
        if self.snapshots > 0 {
            table("snapshots_offset", self.snapshots_offset, 0, reach)?;
        }
        if self.size > i64::MAX as u64 {
            return Err(check.bad("size", self.size, "too large"));
        }
        Ok(())
    }

    fn parse_backing(&mut self, b: &[u8], check: &Checker<'_>) -> Result<(), OpenError> {
        let (offset, len) = (be64(b, 8), be32(b, 16));
        if offset > 1 << self.cluster_bits {
            let why = "Invalid backing file offset".to_owned();
            return Err(OpenError::Image { path: check.path.to_owned(), why });
        }
        if offset == 0 || len == 0 {
            return Ok(());
        }
        check.bounded("backing_file_size", len.into(), 1, MAX_BACKING_NAME.into())?;
        let name = usize::try_from(offset)
            .ok()
            .and_then(|at| b.get(at..))
            .and_then(|rest| rest.get(..len as usize))
            .ok_or_else(|| check.bad("backing_file_offset", offset, "not in the first cluster"))?;
        let shown = text(name);
        if shown.as_bytes() != name {
            self.unknown.backing_name = Some((shown.clone(), name.to_vec()));
        }
        self.backing_file = Some(shown);
        Ok(())
    }

    /// Whether L2 entries are 16 bytes with a subcluster bitmap.
    pub(super) fn extended_l2(&self) -> bool {
        self.incompatible & INCOMPATIBLE_EXTENDED_L2 != 0
    }

    /// Bytes of an L2 entry.
    pub(super) fn entry_size(&self) -> u64 {
        if self.extended_l2() { 16 } else { 8 }
    }

    /// Whether guest data is in an external file.
    pub(super) fn external(&self) -> bool {
        self.incompatible & INCOMPATIBLE_DATA_FILE != 0
    }

    /// The first cluster of a new image, without trailing zeroes.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut b = self.fields_and_extensions(true);
        if let Some(name) = self.stored_name() {
            let at = b.len();
            put_name(&mut b, at, &name);
            b.truncate(at);
            b.extend(name);
        }
        b
    }

    /// The bytes of the backing file's name.
    pub(super) fn stored_name(&self) -> Option<Vec<u8>> {
        let name = self.backing_file.as_ref()?;
        Some(match &self.unknown.backing_name {
            Some((shown, stored)) if shown == name => stored.clone(),
            _ => name.as_bytes().to_vec(),
        })
    }

    /// The header and its extensions, with or without the table of feature names.
    pub(super) fn fields_and_extensions(&self, with_names: bool) -> Vec<u8> {
        let mut b = Vec::new();
        let put32 = |b: &mut Vec<u8>, v: u32| b.extend(v.to_be_bytes());
        let put64 = |b: &mut Vec<u8>, v: u64| b.extend(v.to_be_bytes());
        put32(&mut b, MAGIC);
        put32(&mut b, self.version);
        put64(&mut b, 0);
        put32(&mut b, 0);
        put32(&mut b, self.cluster_bits);
        put64(&mut b, self.size);
        put32(&mut b, self.crypt_method);
        put32(&mut b, self.l1_size);
        put64(&mut b, self.l1_offset);
        put64(&mut b, self.reftable_offset);
        put32(&mut b, self.reftable_clusters);
        put32(&mut b, self.snapshots);
        put64(&mut b, self.snapshots_offset);
        if self.version == 3 {
            put64(&mut b, self.incompatible);
            put64(&mut b, self.compatible);
            put64(&mut b, self.autoclear);
            put32(&mut b, self.refcount_order);
            put32(&mut b, V3_LENGTH + 8 + self.unknown.fields.len() as u32);
            put64(&mut b, u64::from(self.compression == Compression::Zstd) << 56);
            b.extend(&self.unknown.fields);
        }
        self.put_extensions(&mut b, with_names);
        b
    }

    /// Those that change come first: as long as names are short they share the first sector with
    /// the fields, so that both change in one write.
    fn put_extensions(&self, b: &mut Vec<u8>, with_names: bool) {
        let mut extension = |kind: u32, data: &[u8]| {
            b.extend(kind.to_be_bytes());
            b.extend((data.len() as u32).to_be_bytes());
            b.extend(data);
            b.resize(b.len().next_multiple_of(8), 0);
        };
        if let Some(format) = &self.backing_format {
            extension(EXT_BACKING_FORMAT, format.as_bytes());
        }
        if let Some(name) = &self.data_file {
            extension(EXT_DATA_FILE, name.as_bytes());
        }
        if let Some((offset, length)) = self.crypt_header {
            extension(EXT_CRYPT, &[offset.to_be_bytes(), length.to_be_bytes()].concat());
        }
        if let Some(bitmaps) = &self.bitmaps {
            let mut data = bitmaps.count.to_be_bytes().to_vec();
            data.extend([0; 4]);
            data.extend(bitmaps.directory_size.to_be_bytes());
            data.extend(bitmaps.directory_offset.to_be_bytes());
            extension(EXT_BITMAPS, &data);
        }
        if self.version == 3 && self.cluster_bits > 9 && with_names {
            extension(EXT_FEATURES, &feature_table());
        }
        for (kind, data) in &self.unknown.extensions {
            extension(*kind, data);
        }
        extension(EXT_END, &[]);
    }
}

/// Re-reads the header of a file that we write ourselves.
pub(super) fn first_cluster(file: &dyn Node, cluster_bits: u32) -> std::io::Result<Vec<u8>> {
    let mut bytes = vec![0; 1 << cluster_bits];
    read_padded(file, 0, &mut bytes)?;
    Ok(bytes)
}

fn feature_table() -> Vec<u8> {
    let row = |(kind, bit, name): &(u8, u8, &str)| {
        let mut row = [0; 48];
        row[0] = *kind;
        row[1] = *bit;
        row[2..2 + name.len()].copy_from_slice(name.as_bytes());
        row
    };
    FEATURES.iter().flat_map(row).collect()
}

/// Text from an image for messages: control characters are escaped.
fn text(bytes: &[u8]) -> String {
    let lossy = String::from_utf8_lossy(bytes);
    lossy.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
