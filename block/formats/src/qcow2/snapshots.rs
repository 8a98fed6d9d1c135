//! The table of internal snapshots, as far as their clusters must be respected.
//!
//! A snapshot keeps its clusters alive through refcounts; the active image sees them without the
//! COPIED flag and copies before it writes. Taking, applying and deleting snapshots come later.

use graph::{Node, OpenError};

use super::codec::{be32, be64, read_padded};
use super::header::Header;

/// Fixed part of a snapshot table entry.
const FIXED: u64 = 40;
/// Largest table: enough for the most snapshots with long names.
const MAX_TABLE: u64 = 64 << 20;
/// Largest L1 table of a snapshot in bytes.
const MAX_L1: u64 = 32 << 20;

/// Most bytes of all L1 tables of snapshots together.
const MAX_L1_SUM: u64 = 1 << 30;

/// What an internal snapshot occupies.
#[derive(Clone, Debug)]
pub(super) struct Snapshot {
    pub l1_offset: u64,
    pub l1_size: u32,
}

/// Reads the table; returns the snapshots and the table's length in bytes.
pub(super) fn read(
    file: &dyn Node,
    header: &Header,
    path: &str,
) -> Result<(Vec<Snapshot>, u64), OpenError> {
    let bad = |field, value, why| OpenError::Field {
        path: path.to_owned(),
        format: "qcow2",
        field,
        value,
        why,
    };
    let start = header.snapshots_offset;
    let mut snapshots = Vec::new();
    let mut at = 0;
    let mut l1_sum = 0;
    for _ in 0..header.snapshots {
        let place = start
            .checked_add(at)
            .filter(|p| p.saturating_add(FIXED) <= file.size())
            .ok_or_else(|| bad("snapshots_offset", start, "the table ends beyond the file"))?;
        let mut fixed = [0; FIXED as usize];
        read_padded(file, place, &mut fixed).map_err(|e| OpenError::host(path, e))?;
        let (l1_offset, l1_size) = (be64(&fixed, 0), be32(&fixed, 8));
        let id = u64::from(u16::from_be_bytes([fixed[12], fixed[13]]));
        let name = u64::from(u16::from_be_bytes([fixed[14], fixed[15]]));
        let extra = u64::from(be32(&fixed, 36));
        if u64::from(l1_size) * 8 > MAX_L1 {
            return Err(bad("snapshot l1_size", l1_size.into(), "too large"));
        }
        // Each has its own table, so together they are no longer than the file.
        l1_sum += u64::from(l1_size) * 8;
        if l1_sum > MAX_L1_SUM.min(file.size().next_multiple_of(1 << header.cluster_bits)) {
            return Err(bad("snapshot l1_size", l1_size.into(), "the tables exceed the file"));
        }
        let l1_end = l1_offset.saturating_add(u64::from(l1_size) * 8);
        if !l1_offset.is_multiple_of(1 << header.cluster_bits)
            || l1_end > file.size().next_multiple_of(1 << header.cluster_bits)
        {
            return Err(bad("snapshot l1_table_offset", l1_offset, "not a place for a table"));
        }
        at = (at + FIXED + extra + id + name).next_multiple_of(8);
        if at > MAX_TABLE {
            return Err(bad("nb_snapshots", header.snapshots.into(), "the table is too large"));
        }
        snapshots.push(Snapshot { l1_offset, l1_size });
    }
    Ok((snapshots, at))
}
