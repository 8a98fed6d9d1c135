//! The file system: its tables and directories in memory, and which cluster belongs to which file.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use graph::SECTOR;

use super::VvfatOptions;
use super::names::{Short, ShortNames, long_entries};
use super::shape::{ENTRY, FatType, Shape};
use super::tree::{Folder, Item, Kind};

/// Number of the volume and of the disk.
const SERIAL: u32 = 0xfabe_1afd;

/// Attributes of an entry.
const VOLUME: u8 = 0x08;
const FOLDER: u8 = 0x10;
const ARCHIVE: u8 = 0x20;

/// Where bytes of the disk come from.
pub(super) enum Source<'a> {
    /// Nowhere: they are zeroes.
    Zero,
    /// Memory.
    Bytes(&'a [u8]),
    /// A file of the folder.
    File {
        /// Below the folder.
        path: &'a Path,
        /// Where in the file, in bytes.
        offset: u64,
    },
}

/// Clusters that follow one another and hold one thing.
struct Run {
    /// Offset on the disk in bytes.
    start: u64,
    /// Bytes that are not zeroes for sure.
    len: u64,
    content: Content,
}

enum Content {
    Bytes(Vec<u8>),
    File(PathBuf),
}

/// The whole disk.
pub(super) struct Volume {
    shape: Shape,
    /// Ordered by their place.
    runs: Vec<Run>,
}

impl Volume {
    /// Gives everything its place.
    pub fn lay_out(options: &VvfatOptions, folders: Vec<Folder>) -> Result<Self, String> {
        let mut shape = Shape::of(options.floppy, options.fat_type);
        if options.floppy && options.fat_type == Some(FatType::Fat12) {
            shape = shape.single_density();
        }
        let mut plan = Plan::new(shape, &folders)?;
        let mut runs = Vec::new();
        for (number, folder) in folders.iter().enumerate() {
            let bytes = plan.directory(number, folder, &options.label)?;
            let start = plan.place_of(number);
            runs.push(Run { start, len: bytes.len() as u64, content: Content::Bytes(bytes) });
        }
        runs.append(&mut plan.files);
        runs.extend(plan.head(&options.label));
        runs.retain(|run| run.len > 0);
        runs.sort_by_key(|run| run.start);
        Ok(Self { shape, runs })
    }

    pub fn disk_sectors(&self) -> u64 {
        self.shape.disk
    }

    /// What is at an offset of the disk, and for how many bytes (> 0) that holds.
    pub fn at(&self, offset: u64) -> (Source<'_>, u64) {
        let next = self.runs.partition_point(|run| run.start <= offset);
        if let Some(run) = next.checked_sub(1).and_then(|before| self.runs.get(before)) {
            let within = offset - run.start;
            if within < run.len {
                let source = match &run.content {
                    Content::Bytes(bytes) => Source::Bytes(&bytes[within as usize..]),
                    Content::File(path) => Source::File { path, offset: within },
                };
                return (source, run.len - within);
            }
        }
        let end = self.runs.get(next).map_or(self.shape.disk * SECTOR, |run| run.start);
        (Source::Zero, end - offset)
    }
}

/// The layout in the making.
struct Plan {
    shape: Shape,
    /// Entries of the allocation table.
    table: Vec<u32>,
    /// First cluster of each folder; 0 for a root directory in front of the clusters.
    folders: Vec<u32>,
    /// The short names in each folder, in the order of its items.
    names: Vec<Vec<(Short, bool)>>,
    /// First clusters of the files of each folder, in the order of its items.
    firsts: Vec<Vec<u32>>,
    files: Vec<Run>,
}

impl Plan {
    fn new(shape: Shape, folders: &[Folder]) -> Result<Self, String> {
        let mut plan = Self {
            shape,
            table: vec![0x0fff_ff00 | u32::from(media(&shape)), 0x0fff_ffff],
            folders: Vec::new(),
            names: Vec::new(),
            firsts: Vec::new(),
            files: Vec::new(),
        };
        for (number, folder) in folders.iter().enumerate() {
            let mut short = ShortNames::default();
            let names: Vec<_> = folder.items.iter().map(|item| short.give(&item.name)).collect();
            let of_one = |(item, (name, long)): (&Item, &(Short, bool))| {
                1 + if *long { long_entries(&item.name, name).len() as u64 } else { 0 }
            };
            let entries: u64 = folder.items.iter().zip(&names).map(of_one).sum();
            // The label in the root directory, or the ways to itself and up.
            let entries = entries + if number == 0 { 1 } else { 2 };
            plan.names.push(names);
            let first = if number == 0 && shape.root_entries > 0 {
                if entries > shape.root_entries {
                    return Err("Too many files in the root directory".to_owned());
                }
                0
            } else if entries > 65536 {
                return Err("Too many files in a directory".to_owned());
            } else {
                plan.chain(entries * ENTRY)?
            };
            plan.folders.push(first);
        }
        for folder in folders {
            let mut firsts = Vec::new();
            for item in &folder.items {
                let Kind::File(len) = item.kind else {
                    firsts.push(0);
                    continue;
                };
                let first = plan.chain(len)?;
                firsts.push(first);
                let (start, content) = (plan.offset(first), Content::File(item.path.clone()));
                plan.files.push(Run { start, len, content });
            }
            plan.firsts.push(firsts);
        }
        Ok(plan)
    }

    /// Takes clusters for `len` bytes; 0 for none.
    fn chain(&mut self, len: u64) -> Result<u32, String> {
        let clusters = len.div_ceil(self.shape.cluster * SECTOR);
        let first = self.table.len() as u64;
        if first + clusters > self.shape.clusters + 2 {
            return Err("Directory does not fit in FAT: it is too large for the disk".to_owned());
        }
        for next in first + 1..first + clusters {
            self.table.push(next as u32);
        }
        if clusters == 0 {
            return Ok(0);
        }
        self.table.push(0x0fff_ffff);
        Ok(first as u32)
    }

    /// Offset of a cluster on the disk, in bytes.
    fn offset(&self, cluster: u32) -> u64 {
        let number = u64::from(cluster).saturating_sub(2);
        (self.shape.data() + number * self.shape.cluster) * SECTOR
    }

    /// Offset of a folder on the disk.
    fn place_of(&self, folder: usize) -> u64 {
        match self.folders[folder] {
            0 => (self.shape.data() - self.shape.root()) * SECTOR,
            cluster => self.offset(cluster),
        }
    }

    fn directory(&self, number: usize, folder: &Folder, label: &str) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::new();
        if number == 0 {
            bytes.extend(entry(&label_bytes(label), VOLUME, SystemTime::UNIX_EPOCH, 0, 0));
        } else {
            // The root directory is cluster 0 to those below it, wherever it is.
            let up = if folder.parent == 0 { 0 } else { self.folders[folder.parent] };
            for (name, cluster) in [(b".          ", self.folders[number]), (b"..         ", up)] {
                bytes.extend(entry(name, FOLDER, SystemTime::UNIX_EPOCH, cluster, 0));
            }
        }
        let items = folder.items.iter().zip(&self.names[number]).zip(&self.firsts[number]);
        for ((item, (short, long)), first) in items {
            if *long {
                long_entries(&item.name, short).iter().for_each(|entry| bytes.extend(entry));
            }
            let (attributes, cluster, len) = match item.kind {
                Kind::File(len) => (ARCHIVE, *first, len as u32),
                Kind::Folder(number) => (FOLDER, self.folders[number], 0),
            };
            bytes.extend(entry(short, attributes, item.modified, cluster, len));
        }
        Ok(bytes)
    }

    /// The partition table, the boot sectors and the allocation tables.
    fn head(&self, label: &str) -> Vec<Run> {
        let shape = &self.shape;
        let run = |sector: u64, bytes: Vec<u8>| Run {
            start: sector * SECTOR,
            len: bytes.len() as u64,
            content: Content::Bytes(bytes),
        };
        let mut runs = Vec::new();
        if shape.hidden > 0 {
            runs.push(run(0, partition_table(shape)));
        }
        let boot = boot_sector(shape, label);
        if shape.fat == FatType::Fat32 {
            let free = shape.clusters + 2 - self.table.len() as u64;
            let info = info_sector(free as u32, self.table.len() as u32);
            for copy in [0, 6] {
                runs.push(run(shape.hidden + copy, boot.clone()));
                runs.push(run(shape.hidden + copy + 1, info.clone()));
            }
        } else {
            runs.push(run(shape.hidden, boot));
        }
        let table = encoded(&self.table, shape.fat);
        let first = shape.hidden + shape.reserved;
        runs.push(run(first, table.clone()));
        runs.push(run(first + shape.table, table));
        runs
    }
}

fn media(shape: &Shape) -> u8 {
    if shape.floppy { 0xf0 } else { 0xf8 }
}

fn label_bytes(label: &str) -> Short {
    let mut bytes = [b' '; 11];
    for (place, byte) in bytes.iter_mut().zip(label.bytes()) {
        *place = byte;
    }
    bytes
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

/// A directory's entry.
fn entry(name: &Short, attributes: u8, modified: SystemTime, cluster: u32, len: u32) -> [u8; 32] {
    let mut entry = [0; 32];
    put(&mut entry, 0, name);
    entry[11] = attributes;
    let (date, time) = date_and_time(modified);
    for at in [16, 18, 24] {
        put(&mut entry, at, &date.to_le_bytes());
    }
    for at in [14, 22] {
        put(&mut entry, at, &time.to_le_bytes());
    }
    let [low, high] = [cluster as u16, (cluster >> 16) as u16];
    put(&mut entry, 20, &high.to_le_bytes());
    put(&mut entry, 26, &low.to_le_bytes());
    put(&mut entry, 28, &len.to_le_bytes());
    entry
}

/// Date and time of a directory's entry, in UTC; they begin in 1980.
fn date_and_time(time: SystemTime) -> (u16, u16) {
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (days, rest) = (seconds / 86400, seconds % 86400);
    // Days from the first of March of the year 0 ("days_from_civil", H. Hinnant, backwards).
    let z = days + 719_468;
    let (era, of_era) = (z / 146_097, z % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year + era * 400 + u64::from(month <= 2);
    if !(1980..=2107).contains(&year) {
        return (1 << 5 | 1, 0);
    }
    let date = (year - 1980) << 9 | month << 5 | day;
    let (hours, minutes, seconds) = (rest / 3600, rest / 60 % 60, rest % 60);
    let time = hours << 11 | minutes << 5 | (seconds / 2);
    (date as u16, time as u16)
}

/// The allocation table as stored.
fn encoded(table: &[u32], fat: FatType) -> Vec<u8> {
    match fat {
        FatType::Fat32 => table.iter().flat_map(|entry| entry.to_le_bytes()).collect(),
        FatType::Fat16 => table.iter().flat_map(|entry| (*entry as u16).to_le_bytes()).collect(),
        FatType::Fat12 => {
            let pair = |pair: &[u32]| {
                let (a, b) = (pair[0] & 0xfff, pair.get(1).copied().unwrap_or(0) & 0xfff);
                let [low, middle, high, _] = (b << 12 | a).to_le_bytes();
                [low, middle, high]
            };
            table.chunks(2).flat_map(pair).collect()
        }
    }
}

/// The first sector of a disk with one partition.
fn partition_table(shape: &Shape) -> Vec<u8> {
    let kind = match shape.fat {
        FatType::Fat12 => 0x01,
        FatType::Fat16 => 0x06,
        FatType::Fat32 => 0x0c,
    };
    let cylinder = |sector: u64| {
        let per_cylinder = u64::from(shape.heads) * u64::from(shape.track);
        let c = (sector / per_cylinder).min(1023);
        let head = sector / u64::from(shape.track) % u64::from(shape.heads);
        let of_track = sector % u64::from(shape.track) + 1;
        [head as u8, (of_track | c >> 8 << 6) as u8, c as u8]
    };
    let mut b = vec![0; SECTOR as usize];
    put(&mut b, 440, &SERIAL.to_le_bytes());
    b[446] = 0x80;
    put(&mut b, 447, &cylinder(shape.hidden));
    b[450] = kind;
    put(&mut b, 451, &cylinder(shape.disk - 1));
    put(&mut b, 454, &(shape.hidden as u32).to_le_bytes());
    put(&mut b, 458, &(shape.volume() as u32).to_le_bytes());
    put(&mut b, 510, &[0x55, 0xaa]);
    b
}

/// The first sector of the file system.
fn boot_sector(shape: &Shape, label: &str) -> Vec<u8> {
    let wide = shape.fat == FatType::Fat32;
    let mut b = vec![0; SECTOR as usize];
    put(&mut b, 0, &[0xeb, if wide { 0x58 } else { 0x3c }, 0x90]);
    put(&mut b, 3, b"MSWIN4.1");
    put(&mut b, 11, &(SECTOR as u16).to_le_bytes());
    b[13] = shape.cluster as u8;
    put(&mut b, 14, &(shape.reserved as u16).to_le_bytes());
    b[16] = 2;
    put(&mut b, 17, &(shape.root_entries as u16).to_le_bytes());
    match u16::try_from(shape.volume()) {
        Ok(few) if !wide => put(&mut b, 19, &few.to_le_bytes()),
        _ => put(&mut b, 32, &(shape.volume() as u32).to_le_bytes()),
    }
    b[21] = media(shape);
    put(&mut b, 24, &shape.track.to_le_bytes());
    put(&mut b, 26, &shape.heads.to_le_bytes());
    put(&mut b, 28, &(shape.hidden as u32).to_le_bytes());
    let rest = if wide {
        put(&mut b, 36, &(shape.table as u32).to_le_bytes());
        // The root directory's cluster, the information sector and the copy of this one.
        put(&mut b, 44, &2_u32.to_le_bytes());
        put(&mut b, 48, &1_u16.to_le_bytes());
        put(&mut b, 50, &6_u16.to_le_bytes());
        64
    } else {
        put(&mut b, 22, &(shape.table as u16).to_le_bytes());
        36
    };
    b[rest] = if shape.floppy { 0 } else { 0x80 };
    b[rest + 2] = 0x29;
    put(&mut b, rest + 3, &SERIAL.to_le_bytes());
    put(&mut b, rest + 7, &label_bytes(label));
    let kind = match shape.fat {
        FatType::Fat12 => b"FAT12   ",
        FatType::Fat16 => b"FAT16   ",
        FatType::Fat32 => b"FAT32   ",
    };
    put(&mut b, rest + 18, kind);
    put(&mut b, 510, &[0x55, 0xaa]);
    b
}

/// The sector of FAT32 that tells what is free.
fn info_sector(free: u32, next: u32) -> Vec<u8> {
    let mut b = vec![0; SECTOR as usize];
    put(&mut b, 0, b"RRaA");
    put(&mut b, 484, b"rrAa");
    put(&mut b, 488, &free.to_le_bytes());
    put(&mut b, 492, &next.to_le_bytes());
    put(&mut b, 510, &[0x55, 0xaa]);
    b
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn dates_count_from_1980() {
        let at = |seconds| date_and_time(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(0), (33, 0));
        // 2000-02-29 12:34:56
        assert_eq!(at(951_827_696), (20 << 9 | 2 << 5 | 29, 12 << 11 | 34 << 5 | 28));
        // 2026-11-20 13:44:00
        assert_eq!(at(1_795_182_240), (46 << 9 | 11 << 5 | 20, 13 << 11 | 44 << 5));
    }

    #[test]
    fn entries_of_12_bits_lie_in_pairs() {
        assert_eq!(encoded(&[0xff8, 0xfff, 3], FatType::Fat12), [0xf8, 0xff, 0xff, 3, 0, 0]);
    }
}
