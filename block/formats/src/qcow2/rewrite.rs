//! How a changed header goes over the one in the file.
//!
//! The header, its extensions and the backing file's name share the first cluster, of which only one
//! sector is written as a whole. So what changes is all put into the first sector:
//!
//! 1. a new name goes where the header in the file has nothing; sync;
//! 2. the first sector: fields, extensions, and where the name is; sync.
//!
//! The table of feature names, which only words messages of programs that do not know a feature,
//! is left out where it would push extensions over the sector's end and change what is behind it.
//! Extensions that do not fit even so (long names of data files, some that we do not know) are
//! written from the end to the front: what a cut leaves of them is not known.

use super::codec::{be32, be64};
use super::header::{EXT_END, Header};

const SECTOR: usize = 512;

/// The writes that make `new` the header of an image whose first cluster is `old`, each stable before
/// the next: offsets and bytes. `None` if it does not fit into the cluster.
pub(super) fn rewrite(new: &Header, old: &[u8]) -> Option<Vec<(u64, Vec<u8>)>> {
    for with_names in [true, false] {
        let fields = new.fields_and_extensions(with_names);
        let end = fields.len();
        let same_behind = || old.get(SECTOR..end) == fields.get(SECTOR..);
        if end > SECTOR && !same_behind() {
            continue;
        }
        let Some(name) = new.stored_name() else { return Some(vec![first(fields)]) };
        let Some(at) = place(&name, end, old) else { continue };
        let mut bytes = fields;
        put_name(&mut bytes, at, &name);
        let mut writes = Vec::new();
        if at + name.len() > SECTOR && old.get(at..at + name.len()) != Some(&name[..]) {
            writes.push((at as u64, name));
        }
        writes.push(first(bytes));
        return Some(writes);
    }
    let mut bytes = new.to_bytes();
    if bytes.len() > old.len() {
        return None;
    }
    bytes.resize(bytes.len().next_multiple_of(SECTOR), 0);
    let behind = bytes.split_off(SECTOR);
    let behind = (!behind.is_empty()).then_some((SECTOR as u64, behind));
    Some(behind.into_iter().chain([first(bytes)]).collect())
}

/// Makes the header name the bytes at `at`, and puts there what is in the first sector.
pub(super) fn put_name(bytes: &mut Vec<u8>, at: usize, name: &[u8]) {
    bytes[8..16].copy_from_slice(&(at as u64).to_be_bytes());
    bytes[16..20].copy_from_slice(&(name.len() as u32).to_be_bytes());
    if at < SECTOR {
        bytes.resize(bytes.len().max(at), 0);
        bytes.truncate(at);
        bytes.extend(name);
    }
}

/// The write of the first sector.
fn first(mut bytes: Vec<u8>) -> (u64, Vec<u8>) {
    bytes.resize(SECTOR, 0);
    (0, bytes)
}

/// Where the name goes, behind extensions that end at `end`: into the first sector, where it is
/// already, or where the header in the file has nothing.
fn place(name: &[u8], end: usize, old: &[u8]) -> Option<usize> {
    if end + name.len() <= SECTOR {
        return Some(end);
    }
    let old_name = usize::try_from(be64(old, 8)).unwrap_or(old.len());
    let old_len = be32(old, 16) as usize;
    let stays = old_name >= end && old.get(old_name..old_name + old_len) == Some(name);
    if stays && old_name > 0 {
        return Some(old_name);
    }
    let taken = SECTOR.max(end).max(extensions_end(old));
    let behind = match old_name {
        0 => taken,
        at => taken.max(at.saturating_add(old_len)),
    };
    let fits = |at: &usize, limit: usize| at.saturating_add(name.len()) <= limit;
    Some(behind)
        .filter(|at| fits(at, old.len()))
        .or_else(|| Some(taken).filter(|at| fits(at, old_name)))
}

/// Where the extensions of a header end.
fn extensions_end(header: &[u8]) -> usize {
    let mut at = if be32(header, 4) < 3 { 72 } else { be32(header, 100) as usize };
    while at + 8 <= header.len() && be32(header, at) != EXT_END {
        at = at.saturating_add(8 + (be32(header, at + 4) as usize).next_multiple_of(8));
    }
    at.saturating_add(8)
}
