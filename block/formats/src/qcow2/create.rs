//! Making a new image: header, refcount table and block, L1 table, as QEMU lays them out.
//!
//! Order: tables; sync; the header; sync. Without a header the file is no image, so a crash in
//! between leaves nothing that looks like one.

use std::sync::Arc;

use graph::{Node, OpenError, WriteFlags};

use super::header::{
    AUTOCLEAR_RAW_DATA, COMPATIBLE_LAZY, CRYPT_NONE, Compression, Header, INCOMPATIBLE_DATA_FILE,
    INCOMPATIBLE_EXTENDED_L2, Reach, Unknown, first_cluster,
};
use super::layout::{Layout, refcount_clusters};
use super::meta::put_refcount;

/// What a new image is to be like.
#[derive(Clone, Debug)]
pub struct CreateOptions {
    /// Length of the disk in bytes, rounded up to a sector.
    pub size: u64,
    /// Format version: 2 (`compat=0.10`) or 3 (`compat=1.1`).
    pub version: u32,
    /// Cluster size in bytes: a power of two from 512 to 2 MiB.
    pub cluster_size: u64,
    /// Width of a refcount: a power of two from 1 to 64.
    pub refcount_bits: u32,
    /// Allows refcounts to be brought up to date late.
    pub lazy_refcounts: bool,
    /// L2 entries with 32 subclusters.
    pub extended_l2: bool,
    /// Method for compressed clusters.
    pub compression: Compression,
    /// Name of the backing file, stored as given.
    pub backing_file: Option<String>,
    /// Format of the backing file.
    pub backing_format: Option<String>,
    /// Name of an external data file, stored as given.
    pub data_file: Option<String>,
    /// The external data file is a raw image of the disk.
    pub data_file_raw: bool,
}

impl CreateOptions {
    /// The defaults of `qemu-img create` for a disk of `size` bytes.
    pub fn new(size: u64) -> Self {
        Self {
            size,
            version: 3,
            cluster_size: 65536,
            refcount_bits: 16,
            lazy_refcounts: false,
            extended_l2: false,
            compression: Compression::Zlib,
            backing_file: None,
            backing_format: None,
            data_file: None,
            data_file_raw: false,
        }
    }
}

/// Writes a new image into `file`, which is empty.
///
/// # Errors
/// `Option` for impossible options, else what the host reports.
pub fn create(file: &Arc<dyn Node>, path: &str, options: &CreateOptions) -> Result<(), OpenError> {
    let mut header = header_for(options)?;
    let layout = Layout::of(&header);
    let plan = Plan::new(&layout, header.size);
    header.l1_size = plan.l1_entries as u32;
    check_l1(plan.l1_entries)?;
    header.reftable_offset = layout.cluster;
    header.reftable_clusters = plan.table_clusters as u32;
    header.l1_offset = (1 + plan.table_clusters + plan.blocks) * layout.cluster;
    let first = header.to_bytes();
    if first.len() as u64 > layout.cluster {
        return Err(refuse("Backing file name too long"));
    }
    let written = plan.write(&**file, &layout).and_then(|()| {
        file.write_at(0, &first, WriteFlags::default())?;
        file.flush()
    });
    written.map_err(|e| OpenError::Host {
        operation: format!("{path}: Could not write the image"),
        source: e,
    })?;
    // What was written must be an image to us, too.
    let check =
        first_cluster(&**file, layout.cluster_bits).map_err(|e| OpenError::host(path, e))?;
    Header::parse(&check, file.size(), path, Reach::File).map(|_| ())
}

fn refuse(text: &str) -> OpenError {
    OpenError::Option(text.to_owned())
}

/// Refuses a first table of more entries than the format allows.
pub(super) fn check_l1(entries: u64) -> Result<(), OpenError> {
    if entries > (32 << 20) / 8 {
        return Err(refuse(
            "The image size is too large for file format 'qcow2' (try using a larger cluster size)",
        ));
    }
    Ok(())
}

/// Refuses a cluster size that cannot be.
pub(super) fn check_cluster(cluster: u64, extended_l2: bool) -> Result<(), OpenError> {
    if !cluster.is_power_of_two() || !(512..=2 << 20).contains(&cluster) {
        return Err(refuse("Cluster size must be a power of two between 512 and 2048k"));
    }
    if extended_l2 && cluster < 16384 {
        return Err(refuse(
            "Extended L2 entries are only supported with cluster sizes of at least 16384 bytes",
        ));
    }
    Ok(())
}

/// Refuses a width of refcounts that cannot be; `newer` is how the user asks for a version that has it.
pub(super) fn check_refcounts(bits: u32, version: u32, newer: &str) -> Result<(), OpenError> {
    if !bits.is_power_of_two() || bits > 64 {
        return Err(refuse("Refcount width must be a power of two and may not exceed 64 bits"));
    }
    if version < 3 && bits != 16 {
        return Err(refuse(&format!(
            "Different refcount widths than 16 bits require compatibility level 1.1 or above \
             (use {newer} or greater)",
        )));
    }
    Ok(())
}

fn header_for(options: &CreateOptions) -> Result<Header, OpenError> {
    let cluster = options.cluster_size;
    check_cluster(cluster, false)?;
    check_refcounts(options.refcount_bits, options.version, "version=v3")?;
    let v3 = options.version >= 3;
    if !v3 && options.lazy_refcounts {
        return Err(refuse(
            "Lazy refcounts only supported with compatibility level 1.1 and above (use version=v3 \
             or greater)",
        ));
    }
    if !v3 && options.extended_l2 {
        return Err(refuse(
            "Extended L2 entries are only supported with compatibility level 1.1 and above (use \
             version=v3 or greater)",
        ));
    }
    check_cluster(cluster, options.extended_l2)?;
    if !v3 && options.compression != Compression::Zlib {
        return Err(refuse(
            "Non-zlib compression type is only supported with compatibility level 1.1 and above \
             (use version=v3 or greater)",
        ));
    }
    if !v3 && options.data_file.is_some() {
        return Err(refuse(
            "External data files are only supported with compatibility level 1.1 and above (use \
             version=v3 or greater)",
        ));
    }
    if options.data_file_raw && options.data_file.is_none() {
        return Err(refuse("data-file-raw requires data-file"));
    }
    if options.data_file_raw && options.backing_file.is_some() {
        return Err(refuse("Backing file and data-file-raw cannot be used at the same time"));
    }
    if options.backing_file.as_ref().is_some_and(|name| name.len() > 1023) {
        return Err(refuse("Backing file name too long"));
    }
    let size = options.size.checked_next_multiple_of(512).filter(|s| *s <= i64::MAX as u64);
    let compressed = u64::from(options.compression != Compression::Zlib) << 3;
    let external = if options.data_file.is_some() { INCOMPATIBLE_DATA_FILE } else { 0 };
    let extended = if options.extended_l2 { INCOMPATIBLE_EXTENDED_L2 } else { 0 };
    Ok(Header {
        version: if v3 { 3 } else { 2 },
        cluster_bits: cluster.trailing_zeros(),
        size: size.ok_or_else(|| refuse("Image size is too large"))?,
        l1_size: 0,
        l1_offset: 0,
        reftable_offset: 0,
        reftable_clusters: 0,
        snapshots: 0,
        snapshots_offset: 0,
        incompatible: compressed | extended | external,
        compatible: if options.lazy_refcounts { COMPATIBLE_LAZY } else { 0 },
        autoclear: if options.data_file_raw { AUTOCLEAR_RAW_DATA } else { 0 },
        refcount_order: options.refcount_bits.trailing_zeros(),
        compression: options.compression,
        bitmaps: None,
        crypt_method: CRYPT_NONE,
        crypt_header: None,
        backing_file: options.backing_file.clone(),
        backing_format: options.backing_format.clone(),
        data_file: options.data_file.clone(),
        unknown: Unknown::default(),
    })
}

/// Sizes of the initial tables in clusters: header, refcount table, refcount blocks, L1 table.
struct Plan {
    l1_entries: u64,
    l1_clusters: u64,
    table_clusters: u64,
    blocks: u64,
}

impl Plan {
    fn new(layout: &Layout, size: u64) -> Self {
        let l1_entries = size.div_ceil(layout.cluster).div_ceil(layout.l2_entries).max(1);
        let l1_clusters = (l1_entries * 8).div_ceil(layout.cluster);
        let (table_clusters, blocks) = refcount_clusters(layout, 1 + l1_clusters);
        Self { l1_entries, l1_clusters, table_clusters, blocks }
    }

    fn write(&self, file: &dyn Node, layout: &Layout) -> std::io::Result<()> {
        let cluster = layout.cluster;
        let first_block = (1 + self.table_clusters) * cluster;
        let mut table = vec![0; (self.table_clusters * cluster) as usize];
        for i in 0..self.blocks {
            let at = i as usize * 8;
            table[at..at + 8].copy_from_slice(&(first_block + i * cluster).to_be_bytes());
        }
        let mut counts = vec![0; (self.blocks * cluster) as usize];
        for i in 0..1 + self.table_clusters + self.blocks + self.l1_clusters {
            let bits = i << layout.refcount_order;
            let (at, shift) = ((bits / 8) as usize, (bits % 8) as u32);
            put_refcount(&mut counts, at, shift, layout.refcount_order, 1);
        }
        // The rest of the last cluster lies behind the end of the file.
        let l1 = vec![0; (self.l1_entries * 8) as usize];
        let plain = WriteFlags::default();
        file.write_at(cluster, &table, plain)?;
        file.write_at(first_block, &counts, plain)?;
        file.write_at(first_block + self.blocks * cluster, &l1, plain)?;
        file.flush()
    }
}
