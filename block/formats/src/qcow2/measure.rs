//! How large a new image would be, without making it.
//!
//! As `qemu-img measure` tells it: the tables are those of an image whose every cluster is
//! allocated, the data is what there is, rounded to clusters. What the image is to be is less strictly
//! checked than when one is made: only what the sizes depend on.

use graph::{BitmapInfo, Measured, OpenError, Preallocation};

use super::create::{CreateOptions, check_cluster, check_l1, check_refcounts};
use super::layout::{Layout, refcount_clusters};
use crate::format::MeasureRequest;
use crate::luks::measured_header;

/// Measures the image that the request describes.
///
/// # Errors
/// `Option` for impossible options; an I/O error of the content.
pub(super) fn measure(request: &MeasureRequest<'_>) -> Result<Measured, OpenError> {
    let plan = Plan::parse(request)?;
    let cluster = plan.layout.cluster;
    let too_large = || refuse("The image size is too large (try using a larger cluster size)");
    let disk = request.size.checked_next_multiple_of(cluster).ok_or_else(too_large)?;
    let tables = tables(&plan.layout, disk).ok_or_else(too_large)?;
    let header = match plan.luks {
        true => measured_header(request, "encrypt.")?.next_multiple_of(cluster),
        false => 0,
    };
    let fixed = tables + header;
    let all = plan.preallocated || (plan.backing && request.content.is_some());
    let stored = match request.content {
        _ if all => disk,
        None => 0,
        Some(content) => stored(content.data, request.size, cluster)?,
    };
    let bitmaps = request.content.and_then(|content| content.bitmaps.as_deref());
    let bitmaps = bitmaps.filter(|_| plan.version >= 3);
    Ok(Measured {
        required: fixed + stored,
        fully_allocated: fixed + disk,
        bitmaps: bitmaps.map(|list| self::bitmaps(list, request.size, cluster)),
    })
}

fn refuse(text: &str) -> OpenError {
    OpenError::Option(text.to_owned())
}

/// What sizes depend on.
struct Plan {
    layout: Layout,
    version: u32,
    /// Every cluster gets its place at once.
    preallocated: bool,
    backing: bool,
    luks: bool,
}

impl Plan {
    fn parse(request: &MeasureRequest<'_>) -> Result<Self, OpenError> {
        let options = request.options;
        let base = CreateOptions::new(request.size);
        let cluster = options.number("cluster_size").unwrap_or(base.cluster_size);
        let extended = options.switch("extended_l2");
        check_cluster(cluster, extended)?;
        let version = match options.text("compat").unwrap_or("1.1") {
            "0.10" => 2,
            "1.1" => 3,
            other => return Err(refuse(&format!("Invalid compatibility level: '{other}'"))),
        };
        let bits = options.number("refcount_bits").unwrap_or(u64::from(base.refcount_bits));
        let bits = u32::try_from(bits).unwrap_or(u32::MAX);
        check_refcounts(bits, version, "compat=1.1")?;
        let mode = options.text("preallocation").unwrap_or("off");
        let Some(mode) = Preallocation::named(mode) else {
            return Err(refuse(&format!("invalid parameter value: {mode}")));
        };
        Ok(Self {
            layout: Layout::new(cluster, extended, bits.trailing_zeros(), version),
            version,
            preallocated: matches!(mode, Preallocation::Falloc | Preallocation::Full),
            backing: options.text("backing_file").is_some_and(|name| !name.is_empty()),
            luks: options.text("encrypt.format") == Some("luks"),
        })
    }
}

/// Bytes of header and tables for a disk of `disk` bytes in whole clusters, all of them allocated;
/// `None` if it is too large for the format.
fn tables(layout: &Layout, disk: u64) -> Option<u64> {
    let clusters = disk / layout.cluster;
    let tables = clusters.div_ceil(layout.l2_entries);
    check_l1(tables).ok()?;
    let used = 1 + tables + (tables * 8).div_ceil(layout.cluster);
    let (table, blocks) = refcount_clusters(layout, used + clusters);
    Some((used + table + blocks) * layout.cluster)
}

/// Bytes of the clusters that hold any data.
fn stored(
    data: &dyn Fn(u64) -> std::io::Result<(bool, u64)>,
    size: u64,
    cluster: u64,
) -> Result<u64, OpenError> {
    let failed =
        |source| OpenError::Host { operation: "Unable to get block status".to_owned(), source };
    let (mut at, mut stored) = (0, 0);
    while at < size {
        let (holds, len) = data(at).map_err(failed)?;
        let end = at.saturating_add(len).min(size);
        if holds {
            let whole = end.next_multiple_of(cluster);
            stored += whole - (at - at % cluster);
            at = whole;
        } else {
            at = end;
        }
    }
    Ok(stored)
}

/// Bytes of the directory of bitmaps, their tables and their bits.
fn bitmaps(list: &[BitmapInfo], size: u64, cluster: u64) -> u64 {
    let whole = |bytes: u64| bytes.next_multiple_of(cluster);
    let of_one = |bitmap: &BitmapInfo| {
        let bits = size.div_ceil(u64::from(bitmap.granularity));
        let data = whole(bits.div_ceil(8));
        data + whole(data / cluster * 8)
    };
    let entry = |bitmap: &BitmapInfo| (24 + bitmap.name.len() as u64).next_multiple_of(8);
    list.iter().map(of_one).sum::<u64>() + whole(list.iter().map(entry).sum())
}
