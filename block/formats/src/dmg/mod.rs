//! Apple disk images (UDIF; described by Jonathan Levin, "Demystifying the DMG File Format", 2013,
//! and the `koly` and `mish` structures of Apple's open-source headers; integers big-endian). Only
//! read.
//!
//! Layout: runs of packed sectors; a property list whose `blkx` entries are, in base64, tables of
//! these runs; a trailer of 512 bytes that says where the list is.
//! Runs: zeroes, plain, ADC, zlib, bzip2, lzma (an xz stream each). Not supported: lzfse runs, which
//! cannot be read while the rest of their image can, lists in a resource fork, images of several files, encryption.

mod adc;
mod plist;

use std::io;
use std::io::Read;
use std::sync::Arc;

use bzip2::read::BzDecoder;
use flate2::read::ZlibDecoder;
use graph::{Node, NodeInfo, OpenError, SECTOR};
use lzma_rust2::XzReader;

use crate::blocks::codec::{Fields, be32, be64, damaged, read_padded};
use crate::blocks::{BlockMap, Blocks, Piece, Place, Tables, Unpack};
use crate::format::{Format, OpenRequest};

const FORMAT: &str = "dmg";
const TRAILER: usize = 512;

/// Longest property list.
const MOST_LIST: u64 = 64 << 20;

/// Largest packed run, before and after unpacking.
const MOST_RUN: u64 = 64 << 20;

/// Most memory that unpacking an lzma run may take, in KiB: a window of 64 MiB needs little more.
const MOST_WINDOW: u32 = 80 << 10;

mod at {
    //! Offsets in the trailer.
    pub const DATA_FORK: usize = 24;
    pub const LIST_OFFSET: usize = 216;
    pub const LIST_LEN: usize = 224;
}

/// Header of a table of runs, and one run.
const TABLE_HEADER: usize = 204;
const RUN: usize = 40;

/// The row of `dmg` in the table of formats.
pub struct DmgFormat;

impl Format for DmgFormat {
    fn name(&self) -> &'static str {
        FORMAT
    }

    /// What tells is at the end of the file, so only the name does.
    fn recognises(&self, _start: &[u8], path: &str) -> bool {
        path.ends_with(".dmg")
    }

    fn open(&self, request: OpenRequest<'_>) -> Result<Arc<dyn Node>, OpenError> {
        let runs: Arc<[Run]> = read_runs(&*request.file, request.path)?.into();
        let map = Map { runs: Arc::clone(&runs) };
        let disk = Blocks::of(request.file, None, true, false, map);
        Ok(Arc::new(disk.with_unpack(Runs(runs))))
    }
}

/// How a run is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Zero,
    Plain,
    Adc,
    Zlib,
    Bzip2,
    Lzma,
    /// Packed in a way that we have no reader for.
    Foreign(&'static str),
}

/// Sectors that are stored together, in bytes.
#[derive(Clone, Copy, Debug)]
struct Run {
    kind: Kind,
    start: u64,
    len: u64,
    at: u64,
    packed: u64,
}

/// Reads all runs, in the order of the disk.
fn read_runs(file: &dyn Node, path: &str) -> Result<Vec<Run>, OpenError> {
    let fields = Fields { path, format: FORMAT };
    let failed = |e| OpenError::host(path, e);
    let mut trailer = [0; TRAILER];
    let at = file.size().saturating_sub(TRAILER as u64);
    read_padded(file, at, &mut trailer).map_err(failed)?;
    if !trailer.starts_with(b"koly") {
        return Err(OpenError::NotThisFormat { format: FORMAT });
    }
    let (offset, len) = (be64(&trailer, at::LIST_OFFSET), be64(&trailer, at::LIST_LEN));
    if len == 0 {
        let what = "dmg images whose table is in a resource fork".to_owned();
        return Err(OpenError::NotSupported { path: path.to_owned(), what });
    }
    let end = offset.checked_add(len).filter(|end| *end <= file.size() && len <= MOST_LIST);
    fields.want(end.is_some(), "XMLLength", len, "the property list is outside the file")?;
    let mut list = vec![0; len as usize];
    read_padded(file, offset, &mut list).map_err(failed)?;
    let mut runs = Vec::new();
    for table in plist::data(&list) {
        if table.starts_with(b"mish") {
            read_table(&table, be64(&trailer, at::DATA_FORK), &fields, &mut runs)?;
        }
    }
    runs.sort_by_key(|run: &Run| run.start);
    let overlap = runs.windows(2).find(|pair| pair[0].start + pair[0].len > pair[1].start);
    if let Some(pair) = overlap {
        let why = format!("two runs hold sector {}", pair[1].start / SECTOR);
        return Err(fields.refuse(why));
    }
    Ok(runs)
}

fn read_table(
    table: &[u8],
    data_fork: u64,
    fields: &Fields<'_>,
    runs: &mut Vec<Run>,
) -> Result<(), OpenError> {
    let first = be64(table, 8);
    let base = data_fork.checked_add(be64(table, 24));
    for run in table.get(TABLE_HEADER..).unwrap_or(&[]).chunks_exact(RUN) {
        let kind = match be32(run, 0) {
            0 | 2 => Kind::Zero,
            1 => Kind::Plain,
            0x8000_0004 => Kind::Adc,
            0x8000_0005 => Kind::Zlib,
            0x8000_0006 => Kind::Bzip2,
            0x8000_0007 => Kind::Foreign("lzfse"),
            0x8000_0008 => Kind::Lzma,
            // A comment, the end of the table, or what no reader knows.
            _ => continue,
        };
        let sectors = |n: u64| n.checked_mul(SECTOR).filter(|n| *n <= i64::MAX as u64);
        let start = first.checked_add(be64(run, 8)).and_then(sectors);
        let len = sectors(be64(run, 16));
        let at = base.and_then(|base| base.checked_add(be64(run, 24)));
        let packed = be64(run, 32);
        let (Some(start), Some(len), Some(at)) = (start, len, at) else {
            return Err(fields.refuse("a run is beyond all disks"));
        };
        fields.want(start.checked_add(len).is_some(), "SectorNumber", start, "out of range")?;
        let in_memory = !matches!(kind, Kind::Zero | Kind::Plain);
        let fits = !in_memory || len.max(packed) <= MOST_RUN;
        fields.want(fits, "SectorCount", len / SECTOR, "a packed run of more than 64 MiB")?;
        let whole = kind != Kind::Plain || packed >= len;
        fields.want(whole, "CompressedLength", packed, "a plain run is too short")?;
        if len > 0 {
            runs.push(Run { kind, start, len, at, packed });
        }
    }
    Ok(())
}

/// The table of an open image.
struct Map {
    runs: Arc<[Run]>,
}

impl BlockMap for Map {
    fn name(&self) -> &'static str {
        FORMAT
    }

    fn size(&self) -> u64 {
        self.runs.last().map_or(0, |run| run.start + run.len)
    }

    /// Runs have lengths of their own; this one only says what is held together.
    fn block(&self) -> u64 {
        1 << 20
    }

    fn lookup(&mut self, _: &mut Tables, _: &dyn Node, guest: u64) -> io::Result<(Place, u64)> {
        let index = self.runs.partition_point(|run| run.start + run.len <= guest);
        let Some(run) = self.runs.get(index) else { return Ok((Place::Zero, u64::MAX - guest)) };
        if guest < run.start {
            return Ok((Place::Zero, run.start - guest));
        }
        let within = guest - run.start;
        let place = match run.kind {
            Kind::Zero => Place::Zero,
            Kind::Plain => Place::Data(run.at.saturating_add(within)),
            _ => Place::Packed(Piece { at: index as u64, len: run.packed }, within),
        };
        Ok((place, run.len - within))
    }

    fn describe(&self, info: &mut NodeInfo) {
        info.cluster_size = None;
    }
}

/// Unpacks runs by their number.
struct Runs(Arc<[Run]>);

impl Unpack for Runs {
    fn unpack(&self, file: &dyn Node, piece: Piece) -> io::Result<Vec<u8>> {
        let run = self.0.get(piece.at as usize).ok_or_else(|| damaged("dmg: no such run"))?;
        if run.at.checked_add(run.packed).is_none_or(|end| end > file.size()) {
            return Err(damaged(format!("dmg: the run at {:#x} is outside the file", run.at)));
        }
        let mut packed = vec![0; run.packed as usize];
        read_padded(file, run.at, &mut packed)?;
        let len = run.len as usize;
        let mut content = Vec::new();
        let bad = |e| damaged(format!("dmg: the run at {:#x}: {e}", run.at));
        match run.kind {
            Kind::Foreign(method) => {
                let text = format!("not supported yet: dmg runs packed with {method}");
                return Err(io::Error::new(io::ErrorKind::Unsupported, text));
            }
            Kind::Adc => content = adc::unpack(&packed, len).map_err(bad)?,
            Kind::Bzip2 => {
                BzDecoder::new(&packed[..]).take(run.len).read_to_end(&mut content).map_err(bad)?;
            }
            Kind::Lzma => {
                XzReader::new_mem_limit(&packed[..], false, MOST_WINDOW)
                    .take(run.len)
                    .read_to_end(&mut content)
                    .map_err(bad)?;
            }
            _ => {
                ZlibDecoder::new(&packed[..])
                    .take(run.len)
                    .read_to_end(&mut content)
                    .map_err(bad)?;
            }
        }
        if content.len() < len {
            return Err(damaged(format!("dmg: the run at {:#x} is too short", run.at)));
        }
        Ok(content)
    }
}
