//! Persistent dirty bitmaps.
//!
//! An image that is opened for writing marks its bitmaps as in use, keeps them in memory, notes
//! writes in those that are enabled, and stores them when it is closed. A crash in between leaves the
//! mark, and whoever opens the image next knows that the bits mean nothing.
//!
//! Order of storing: bits and tables, then a new directory; sync; then the header, in one write of
//! its first sector, names the directory; then what the old one referred to is freed.

use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};

use graph::{BitmapInfo, Bitmaps, DirtyBits, Node, Property, WriteFlags};

use super::Qcow2;
use super::codec::{be32, be64, damaged, read_padded, read_table, table_bytes};
use super::header::{AUTOCLEAR_BITMAPS, BitmapsExtension, Header};
use super::layout::{Layout, OFFSET};
use super::meta::Kind;

/// Fixed part of a directory entry.
const FIXED: usize = 24;
/// Most bitmaps of an image.
const MOST: u32 = 65535;
/// Largest directory in bytes.
const MAX_DIRECTORY: u64 = 64 << 20;
/// Most entries of a bitmap table.
const MAX_TABLE: u32 = 0x800_0000;
/// Longest name in bytes.
pub(super) const MAX_NAME: usize = 1023;

/// The bits were not stored by whoever changed the disk last.
const FLAG_IN_USE: u32 = 1 << 0;
/// Notes writes from the opening on.
const FLAG_AUTO: u32 = 1 << 1;
/// Extra data may be ignored.
const FLAG_EXTRA_IS_HARMLESS: u32 = 1 << 2;
/// The only kind there is: dirty tracking.
const DIRTY_TRACKING: u8 = 1;
/// Entry of a bitmap table for a cluster of set bits.
const ALL_ONES: u64 = 1;

/// A bitmap as the directory has it.
#[derive(Clone, Debug, Default)]
pub(super) struct StoredBitmap {
    pub table_offset: u64,
    /// Entries of its table.
    pub table_len: u32,
    pub flags: u32,
    pub kind: u8,
    pub granularity_bits: u8,
    pub name: String,
    pub extra: Vec<u8>,
}

/// Whether an entry of a bitmap table can be.
pub(super) fn is_entry(entry: u64) -> bool {
    entry & !(OFFSET | ALL_ONES) == 0 && (entry & OFFSET == 0 || entry & ALL_ONES == 0)
}

/// Where the directory is, if it counts: without the autoclear bit somebody has written the image
/// who knew nothing of bitmaps.
pub(super) fn in_use(header: &Header) -> Option<BitmapsExtension> {
    header.bitmaps.filter(|_| header.autoclear & AUTOCLEAR_BITMAPS != 0)
}

/// Reads the directory.
pub(super) fn read_directory(
    file: &dyn Node,
    layout: &Layout,
    ext: &BitmapsExtension,
) -> io::Result<Vec<StoredBitmap>> {
    let bad = |text: &str| Err(damaged(text.to_owned()));
    if ext.count == 0 || ext.count > MOST {
        return bad("bitmaps_ext: the number of bitmaps cannot be");
    }
    let end = ext.directory_offset.saturating_add(ext.directory_size);
    if !ext.directory_offset.is_multiple_of(layout.cluster)
        || ext.directory_size > MAX_DIRECTORY
        || end > file.size().next_multiple_of(layout.cluster)
    {
        return bad("bitmaps_ext: invalid bitmap directory offset");
    }
    let mut directory = vec![0; ext.directory_size as usize];
    read_padded(file, ext.directory_offset, &mut directory)?;
    let mut bitmaps = Vec::new();
    let mut at = 0;
    for _ in 0..ext.count {
        let Some(fixed) = directory.get(at..at + FIXED) else {
            return bad("Broken bitmap directory");
        };
        let extra = be32(fixed, 20) as usize;
        let name = usize::from(u16::from_be_bytes([fixed[18], fixed[19]]));
        let rest = directory.get(at + FIXED..).and_then(|rest| rest.get(..extra + name));
        let Some(rest) = rest else { return bad("Broken bitmap directory") };
        let bitmap = StoredBitmap {
            table_offset: be64(fixed, 0),
            table_len: be32(fixed, 8),
            flags: be32(fixed, 12),
            kind: fixed[16],
            granularity_bits: fixed[17],
            extra: rest[..extra].to_vec(),
            name: String::from_utf8_lossy(&rest[extra..]).into_owned(),
        };
        let table_end = bitmap.table_offset.saturating_add(u64::from(bitmap.table_len) * 8);
        if bitmap.table_len == 0
            || bitmap.table_len > MAX_TABLE
            || bitmap.table_offset == 0
            || !bitmap.table_offset.is_multiple_of(layout.cluster)
            || table_end > file.size().next_multiple_of(layout.cluster)
            || !(9..=31).contains(&bitmap.granularity_bits)
            || bitmap.flags & !(FLAG_IN_USE | FLAG_AUTO | FLAG_EXTRA_IS_HARMLESS) != 0
            || bitmap.kind != DIRTY_TRACKING
            || name == 0
            || name > MAX_NAME
        {
            let name = &bitmap.name;
            return bad(&format!("Bitmap '{name}' doesn't satisfy the constraints"));
        }
        bitmaps.push(bitmap);
        at += (FIXED + rest.len()).next_multiple_of(8);
    }
    Ok(bitmaps)
}

fn directory_bytes(bitmaps: &[StoredBitmap]) -> Vec<u8> {
    let mut b = Vec::new();
    for bitmap in bitmaps {
        b.extend(bitmap.table_offset.to_be_bytes());
        b.extend(bitmap.table_len.to_be_bytes());
        b.extend(bitmap.flags.to_be_bytes());
        b.extend([bitmap.kind, bitmap.granularity_bits]);
        b.extend((bitmap.name.len() as u16).to_be_bytes());
        b.extend((bitmap.extra.len() as u32).to_be_bytes());
        b.extend(&bitmap.extra);
        b.extend(bitmap.name.as_bytes());
        b.resize(b.len().next_multiple_of(8), 0);
    }
    b
}

/// A bitmap of an open image.
#[derive(Clone, Debug)]
struct Live {
    stored: StoredBitmap,
    /// What the bits say; `None` if they mean nothing, or are of a kind we do not know.
    bits: Option<DirtyBits>,
    /// The file does not have these bits.
    changed: bool,
}

impl Live {
    fn info(&self) -> BitmapInfo {
        BitmapInfo {
            name: self.stored.name.clone(),
            granularity: 1 << self.stored.granularity_bits,
            in_use: self.bits.is_none(),
            auto: self.stored.flags & FLAG_AUTO != 0,
        }
    }

    /// What the bits belong to, if the bitmap notes writes.
    fn noting(&mut self) -> Option<&mut DirtyBits> {
        self.bits.as_mut().filter(|_| self.stored.flags & FLAG_AUTO != 0)
    }
}

/// The bitmaps of an open image.
#[derive(Default)]
pub(super) struct LiveBitmaps {
    list: Mutex<Vec<Live>>,
    /// Some are enabled: writes have to look.
    noting: AtomicBool,
    /// They are marked as in use in the file, and must be stored.
    marked: AtomicBool,
    /// Storing would change something beside the mark.
    changed: AtomicBool,
}

impl LiveBitmaps {
    fn lock(&self) -> MutexGuard<'_, Vec<Live>> {
        super::lock(&self.list)
    }

    /// Notes a change of the disk.
    pub fn note(&self, offset: u64, len: u64) {
        if len == 0 || !self.noting.load(Ordering::Acquire) {
            return;
        }
        for live in self.lock().iter_mut() {
            if let Some(bits) = live.noting() {
                bits.set(offset, len);
                live.changed = true;
            }
        }
    }

    fn refresh(&self, list: &mut [Live]) {
        let noting = list.iter_mut().any(|live| live.noting().is_some());
        self.noting.store(noting, Ordering::Release);
    }

    /// The list as `Format specific information` has it.
    pub fn properties(&self) -> Option<Property> {
        let list = self.lock();
        let shown = list.iter().map(|live| {
            let info = live.info();
            let flags = [(info.in_use, "in-use"), (info.auto, "auto")];
            let flags = flags.iter().filter(|(set, _)| *set).map(|(_, name)| (*name).into());
            Property::Group(vec![
                ("flags", Property::List(flags.collect())),
                ("name", info.name.as_str().into()),
                ("granularity", u64::from(info.granularity).into()),
            ])
        });
        (!list.is_empty()).then(|| Property::List(shown.collect()))
    }
}

impl Bitmaps for Qcow2 {
    fn list(&self) -> Vec<BitmapInfo> {
        self.bitmaps.lock().iter().map(Live::info).collect()
    }

    fn add(&self, name: &str, granularity: u32, enabled: bool) -> io::Result<()> {
        self.writable(0, 0)?;
        let refuse = |text: String| Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        let granularity = match granularity {
            0 => (self.layout.cluster as u32).clamp(4096, 65536),
            given => given,
        };
        if !granularity.is_power_of_two() || granularity < 512 {
            return refuse("Granularity must be power of 2 and at least 512".to_owned());
        }
        if name.is_empty() || name.len() > MAX_NAME {
            return refuse(format!("Bitmap name must have 1 to {MAX_NAME} bytes"));
        }
        let granularity_bits = granularity.trailing_zeros() as u8;
        if self.table_len(granularity_bits) > u64::from(MAX_TABLE) {
            return refuse("Too much space will be occupied by the bitmap".to_owned());
        }
        let mut list = self.bitmaps.lock();
        if list.iter().any(|live| live.stored.name == name) {
            let text = format!("Bitmap already exists: {name}");
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
        }
        if list.len() >= MOST as usize {
            return refuse("Maximum number of persistent bitmaps is already reached".to_owned());
        }
        let stored = StoredBitmap {
            flags: if enabled { FLAG_AUTO } else { 0 },
            kind: DIRTY_TRACKING,
            granularity_bits,
            name: name.to_owned(),
            ..StoredBitmap::default()
        };
        let bits = Some(DirtyBits::new(granularity_bits.into()));
        list.push(Live { stored, bits, changed: true });
        self.bitmaps.changed.store(true, Ordering::Release);
        self.bitmaps.refresh(&mut list);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.writable(0, 0)?;
        let mut list = self.bitmaps.lock();
        let at = list.iter().position(|live| live.stored.name == name);
        list.remove(at.ok_or_else(|| missing(name))?);
        self.bitmaps.changed.store(true, Ordering::Release);
        self.bitmaps.refresh(&mut list);
        Ok(())
    }

    fn clear(&self, name: &str) -> io::Result<()> {
        self.change(name, |live, bits| {
            *bits = DirtyBits::new(live.granularity_bits.into());
        })
    }

    fn enable(&self, name: &str, on: bool) -> io::Result<()> {
        self.change(name, |stored, _| {
            stored.flags = (stored.flags & !FLAG_AUTO) | if on { FLAG_AUTO } else { 0 };
        })
    }

    fn set(&self, name: &str, offset: u64, len: u64) -> io::Result<()> {
        graph::check_range(offset, len, self.disk_size())?;
        self.change(name, |_, bits| bits.set(offset, len))
    }

    fn next_dirty(&self, name: &str, from: u64) -> io::Result<Option<(u64, u64)>> {
        let size = self.disk_size();
        let list = self.bitmaps.lock();
        let live = list.iter().find(|live| live.stored.name == name);
        let bits = live.ok_or_else(|| missing(name))?.bits.as_ref();
        let run = bits.ok_or_else(|| inconsistent(name))?.next_run(from);
        Ok(run
            .filter(|(start, _)| *start < size)
            .map(|(start, len)| (start, len.min(size - start))))
    }
}

fn missing(name: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("Dirty bitmap '{name}' not found"))
}

fn inconsistent(name: &str) -> io::Error {
    let text = format!("Bitmap '{name}' is inconsistent and cannot be used");
    io::Error::new(io::ErrorKind::InvalidData, text)
}

impl Qcow2 {
    fn change(
        &self,
        name: &str,
        change: impl FnOnce(&mut StoredBitmap, &mut DirtyBits),
    ) -> io::Result<()> {
        self.writable(0, 0)?;
        let mut list = self.bitmaps.lock();
        let live = list.iter_mut().find(|live| live.stored.name == name);
        let live = live.ok_or_else(|| missing(name))?;
        let bits = live.bits.as_mut().ok_or_else(|| inconsistent(name))?;
        change(&mut live.stored, bits);
        live.changed = true;
        self.bitmaps.refresh(&mut list);
        Ok(())
    }

    /// Entries of the table of a bitmap of the disk as it is.
    fn table_len(&self, granularity_bits: u8) -> u64 {
        let bits = self.disk_size().div_ceil(1 << granularity_bits);
        bits.div_ceil(8).div_ceil(self.layout.cluster)
    }

    /// Loads all bitmaps, and marks them as in use if the image will be written.
    pub(super) fn load_bitmaps(&self) -> io::Result<()> {
        let Some(ext) = in_use(&self.header()) else { return Ok(()) };
        let (mut directory, mut list) = match self.read_bitmaps(&ext) {
            Ok(read) => read,
            // Who only reads does without; who writes would make lies of them.
            Err(_) if self.read_only => return Ok(()),
            Err(e) => {
                let text = format!("{e}; `check -r all` removes the bitmaps");
                return Err(damaged(text));
            }
        };
        if !self.read_only {
            let len = ext.directory_size;
            for (stored, live) in directory.iter_mut().zip(&list) {
                stored.flags |= if live.bits.is_some() { FLAG_IN_USE } else { 0 };
            }
            let bytes = directory_bytes(&directory);
            if bytes.len() as u64 > len {
                return Err(damaged("qcow2: bitmaps: the directory is too short".to_owned()));
            }
            self.file.write_at(ext.directory_offset, &bytes, WriteFlags::default())?;
            self.file.flush()?;
            self.bitmaps.marked.store(true, Ordering::Release);
        }
        self.bitmaps.refresh(&mut list);
        *self.bitmaps.lock() = list;
        Ok(())
    }

    fn read_bitmaps(&self, ext: &BitmapsExtension) -> io::Result<(Vec<StoredBitmap>, Vec<Live>)> {
        let directory = read_directory(&*self.file, &self.layout, ext)?;
        let mut list = Vec::new();
        for stored in &directory {
            let known = stored.kind == DIRTY_TRACKING && stored.extra.is_empty();
            let bits = match stored.flags & FLAG_IN_USE == 0 && known {
                true => Some(self.load_bits(stored)?),
                false => None,
            };
            list.push(Live { stored: stored.clone(), bits, changed: false });
        }
        Ok((directory, list))
    }

    /// Gives up bitmaps that cannot be read; their clusters are leaked.
    pub(super) fn drop_damaged_bitmaps(&self) -> io::Result<bool> {
        let Some(ext) = in_use(&self.header()) else { return Ok(false) };
        if self.read_bitmaps(&ext).is_ok() {
            return Ok(false);
        }
        self.update_header(|header| {
            header.bitmaps = None;
            header.autoclear &= !AUTOCLEAR_BITMAPS;
        })?;
        Ok(true)
    }

    fn load_bits(&self, stored: &StoredBitmap) -> io::Result<DirtyBits> {
        let mut bits = DirtyBits::new(stored.granularity_bits.into());
        let len = self.table_len(stored.granularity_bits);
        if len != u64::from(stored.table_len) {
            let text = format!("qcow2: bitmaps: the table of '{}' has a wrong length", stored.name);
            return Err(damaged(text));
        }
        let table = read_table(&*self.file, stored.table_offset, len as usize)?;
        let mut bytes = vec![0; self.layout.cluster as usize];
        let per_cluster = self.layout.cluster * 8;
        for (i, entry) in table.into_iter().enumerate() {
            let offset = entry & OFFSET;
            if !is_entry(entry) || offset >= self.file.size() {
                let name = &stored.name;
                let text =
                    format!("Could not read bitmap_table table from image for bitmap '{name}'");
                return Err(damaged(text));
            }
            if offset == 0 && entry & ALL_ONES == 0 {
                continue;
            }
            match offset {
                0 => bytes.fill(0xff),
                offset => read_padded(&*self.file, offset, &mut bytes)?,
            }
            for (n, word) in bytes.chunks_exact(8).enumerate() {
                let word = u64::from_le_bytes(*word.first_chunk().expect("chunks of eight"));
                bits.set_word(i as u64 * per_cluster + n as u64 * 64, word);
            }
        }
        // Bits behind the disk mean nothing.
        let end = self.disk_size().next_multiple_of(1 << stored.granularity_bits);
        bits.clear(end, u64::MAX - end);
        Ok(bits)
    }

    /// Stores all bitmaps and takes the marks back, if there are any marks or changes.
    pub(super) fn store_bitmaps(&self) -> io::Result<()> {
        let mut list = self.bitmaps.lock();
        let old = in_use(&self.header());
        let marked = self.bitmaps.marked.swap(false, Ordering::AcqRel);
        if !marked && !self.bitmaps.changed.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        let before = match &old {
            Some(ext) => self.clusters_of(ext)?,
            None => BTreeSet::new(),
        };
        let mut kept = BTreeSet::new();
        for live in list.iter_mut() {
            if let Some(bits) = live.bits.as_ref().filter(|_| live.changed) {
                self.store_bits(&mut live.stored, bits)?;
                live.changed = false;
            } else {
                kept.extend(self.clusters_of_bitmap(&live.stored)?);
            }
        }
        let directory: Vec<StoredBitmap> = list.iter().map(|live| live.stored.clone()).collect();
        let bytes = directory_bytes(&directory);
        let new = match directory.is_empty() {
            true => None,
            false => Some(BitmapsExtension {
                count: directory.len() as u32,
                directory_size: bytes.len() as u64,
                directory_offset: self.store_table(&bytes, Kind::Bitmaps)?,
            }),
        };
        self.write_back()?;
        self.update_header(|header| {
            header.bitmaps = new;
            header.autoclear &= !AUTOCLEAR_BITMAPS;
            header.autoclear |= if new.is_some() { AUTOCLEAR_BITMAPS } else { 0 };
        })?;
        let mut meta = self.meta();
        for cluster in before.difference(&kept) {
            meta.kinds.remove(cluster);
            meta.frees.push(*cluster);
        }
        drop(meta);
        self.write_back()
    }

    /// Writes bits to new clusters, and a table for them.
    fn store_bits(&self, stored: &mut StoredBitmap, bits: &DirtyBits) -> io::Result<()> {
        let len = self.table_len(stored.granularity_bits);
        let per_cluster = self.layout.cluster * 8;
        let mut table = vec![0; len as usize];
        let mut at = 0;
        while let Some(bit) = bits.next_chunk(at) {
            let index = bit / per_cluster;
            at = (index + 1) * per_cluster;
            let Some(entry) = table.get_mut(index as usize) else { break };
            let words = (0..per_cluster / 64).map(|n| bits.word(index * per_cluster + n * 64));
            let bytes: Vec<u8> = words.flat_map(u64::to_le_bytes).collect();
            if !graph::is_zero(&bytes) {
                let run = self.meta().allocate(&*self.file, 1)?;
                self.file.write_at(run.host, &bytes, WriteFlags::default())?;
                *entry = run.host;
            }
        }
        let bytes = table_bytes(&table);
        let clusters = (bytes.len() as u64).div_ceil(self.layout.cluster).max(1);
        stored.table_offset = self.meta().allocate_table(&*self.file, clusters)?;
        stored.table_len = len as u32;
        self.file.write_at(stored.table_offset, &bytes, WriteFlags::default())
    }

    /// The host clusters of a directory and all that it refers to.
    fn clusters_of(&self, ext: &BitmapsExtension) -> io::Result<BTreeSet<u64>> {
        let mut clusters = self.clusters_in(ext.directory_offset, ext.directory_size);
        for stored in read_directory(&*self.file, &self.layout, ext)? {
            clusters.extend(self.clusters_of_bitmap(&stored)?);
        }
        Ok(clusters)
    }

    fn clusters_of_bitmap(&self, stored: &StoredBitmap) -> io::Result<BTreeSet<u64>> {
        let mut clusters = self.clusters_in(stored.table_offset, u64::from(stored.table_len) * 8);
        let table = read_table(&*self.file, stored.table_offset, stored.table_len as usize)?;
        let data = table.iter().map(|entry| entry & OFFSET).filter(|offset| *offset != 0);
        clusters.extend(data.map(|offset| offset >> self.layout.cluster_bits));
        Ok(clusters)
    }

    fn clusters_in(&self, offset: u64, len: u64) -> BTreeSet<u64> {
        let bits = self.layout.cluster_bits;
        (offset >> bits..(offset + len).div_ceil(self.layout.cluster)).collect()
    }

    /// The disk has another length: tables of bitmaps must have, too.
    pub(super) fn resize_bitmaps(&self) {
        let end = self.disk_size();
        for live in self.bitmaps.lock().iter_mut() {
            if let Some(bits) = &mut live.bits {
                let end = end.next_multiple_of(1 << live.stored.granularity_bits);
                bits.clear(end, u64::MAX - end);
                live.changed = true;
            }
        }
    }
}
