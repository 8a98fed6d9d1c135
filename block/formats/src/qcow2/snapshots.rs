//! The table of internal snapshots.
//!
//! A snapshot is an L1 table of its own that shares L2 tables and data with others through
//! refcounts; the active image sees shared clusters without the COPIED flag and copies before it
//! writes. `snapshotting.rs` takes, applies and deletes them.

use graph::{Node, OpenError, SnapshotInfo};

use super::codec::{be32, be64, read_padded};
use super::header::{Header, Reach};

/// Fixed part of a snapshot table entry.
const FIXED: u64 = 40;
/// Extra data that we write: size of the VM's state, length of the disk, instruction count.
const EXTRA: usize = 24;
/// Largest extra data of an entry.
const MAX_EXTRA: u64 = 1024;
/// Largest table: enough for the most snapshots with long names.
pub(super) const MAX_TABLE: u64 = 64 << 20;
/// Largest L1 table of a snapshot in bytes.
const MAX_L1: u64 = 32 << 20;
/// Most bytes of all L1 tables of snapshots together.
const MAX_L1_SUM: u64 = 1 << 30;

/// An internal snapshot.
#[derive(Clone, Debug)]
pub(super) struct Snapshot {
    pub l1_offset: u64,
    pub l1_size: u32,
    pub info: SnapshotInfo,
    /// Extra data behind what we know.
    pub unknown: Vec<u8>,
    /// The entry has all that version 3 wants.
    pub complete: bool,
}

impl Snapshot {
    /// Why there can be no L1 table where the entry says. Such a snapshot is listed, no more.
    pub fn fault(&self, cluster: u64) -> Option<String> {
        let entry = format!("snapshot {} ({})", self.info.id, self.info.name);
        let fault = if u64::from(self.l1_size) * 8 > MAX_L1 {
            format!("l1_size={:#x}: L1 table is too large", self.l1_size)
        } else if !self.l1_offset.is_multiple_of(cluster) {
            format!("l1_offset={:#x}: L1 table is not cluster aligned", self.l1_offset)
        } else {
            return None;
        };
        Some(format!("{entry} {fault}; snapshot table entry corrupted"))
    }

    /// Whether its L1 table can be read from a file of that length.
    pub fn usable(&self, cluster: u64, file_size: u64) -> bool {
        let end = self.l1_offset.saturating_add(u64::from(self.l1_size) * 8);
        self.fault(cluster).is_none() && end <= file_size.next_multiple_of(cluster)
    }
}

/// Reads the table; returns the snapshots and the table's length in bytes.
pub(super) fn read(
    file: &dyn Node,
    header: &Header,
    path: &str,
    reach: Reach,
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
            .filter(|p| reach == Reach::Beyond || p.saturating_add(FIXED) <= file.size())
            .ok_or_else(|| bad("snapshots_offset", start, "the table ends beyond the file"))?;
        let mut fixed = [0; FIXED as usize];
        read_padded(file, place, &mut fixed).map_err(|e| OpenError::host(path, e))?;
        let (l1_offset, l1_size) = (be64(&fixed, 0), be32(&fixed, 8));
        let extra = u64::from(be32(&fixed, 36));
        if extra > MAX_EXTRA {
            let why =
                format!("Too much extra metadata in snapshot table entry {}", snapshots.len());
            return Err(OpenError::Image { path: path.to_owned(), why });
        }
        let lengths = (be16(&fixed, 12), be16(&fixed, 14));
        let mut rest = vec![0; extra as usize + lengths.0 + lengths.1];
        read_padded(file, place + FIXED, &mut rest).map_err(|e| OpenError::host(path, e))?;
        at = (at + FIXED + rest.len() as u64).next_multiple_of(8);
        if at > MAX_TABLE {
            return Err(bad("nb_snapshots", header.snapshots.into(), "the table is too large"));
        }
        let (extra, names) = rest.split_at(extra as usize);
        let snapshot = Snapshot {
            l1_offset,
            l1_size,
            info: info(&fixed, extra, names.split_at(lengths.0), header.size),
            unknown: extra.get(EXTRA..).unwrap_or_default().to_vec(),
            complete: extra.len() >= 16,
        };
        // Each has its own table, so together they are no longer than the file.
        if snapshot.usable(1 << header.cluster_bits, file.size()) {
            l1_sum += u64::from(l1_size) * 8;
        }
        if l1_sum > MAX_L1_SUM.min(file.size().next_multiple_of(1 << header.cluster_bits)) {
            return Err(bad("snapshot l1_size", l1_size.into(), "the tables exceed the file"));
        }
        snapshots.push(snapshot);
    }
    Ok((snapshots, at))
}

fn be16(b: &[u8], at: usize) -> usize {
    usize::from(u16::from_be_bytes([b[at], b[at + 1]]))
}

fn info(fixed: &[u8], extra: &[u8], names: (&[u8], &[u8]), size: u64) -> SnapshotInfo {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let extra_field = |at: usize| (extra.len() >= at + 8).then(|| be64(extra, at));
    SnapshotInfo {
        id: text(names.0),
        name: text(names.1),
        date_sec: be32(fixed, 16),
        date_nsec: be32(fixed, 20),
        vm_clock_nsec: be64(fixed, 24),
        vm_state_size: extra_field(0).unwrap_or_else(|| be32(fixed, 32).into()),
        disk_size: extra_field(8).unwrap_or(size),
        icount: extra_field(16).filter(|n| *n != u64::MAX),
    }
}

/// The table as stored. The caller keeps names below 64 KiB.
pub(super) fn to_bytes(snapshots: &[Snapshot]) -> Vec<u8> {
    let mut b = Vec::new();
    for snapshot in snapshots {
        let info = &snapshot.info;
        b.extend(snapshot.l1_offset.to_be_bytes());
        b.extend(snapshot.l1_size.to_be_bytes());
        b.extend((info.id.len() as u16).to_be_bytes());
        b.extend((info.name.len() as u16).to_be_bytes());
        b.extend(info.date_sec.to_be_bytes());
        b.extend(info.date_nsec.to_be_bytes());
        b.extend(info.vm_clock_nsec.to_be_bytes());
        // What does not fit is in the extra data only.
        b.extend(u32::try_from(info.vm_state_size).unwrap_or(0).to_be_bytes());
        b.extend(((EXTRA + snapshot.unknown.len()) as u32).to_be_bytes());
        b.extend(info.vm_state_size.to_be_bytes());
        b.extend(info.disk_size.to_be_bytes());
        b.extend(info.icount.unwrap_or(u64::MAX).to_be_bytes());
        b.extend(&snapshot.unknown);
        b.extend(info.id.as_bytes());
        b.extend(info.name.as_bytes());
        b.resize(b.len().next_multiple_of(8), 0);
    }
    b
}
