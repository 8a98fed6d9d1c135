//! A file with a volatile cache, cut off after every operation, and what a disk on it may hold then.
#![allow(dead_code, reason = "each test uses a part")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io;
use std::sync::{Arc, Mutex};

use super::{Random, read_all};
use graph::{Extent, ExtentKind, Node, NodeInfo, WriteFlags, ZeroFlags};

pub const SECTOR: usize = 512;

pub enum Op {
    Write(u64, Vec<u8>),
    Truncate(u64),
    Flush,
}

/// Longest file: a host whose disk is full behind that.
const MOST: u64 = 64 << 20;

fn reach(end: u64) -> io::Result<()> {
    if end > MOST { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
}

/// A file with a volatile cache and a log of what happened to it.
#[derive(Default)]
pub struct Volatile(pub Mutex<(Vec<u8>, Vec<Op>)>);

impl Volatile {
    pub fn holding(bytes: Vec<u8>) -> Arc<Self> {
        Arc::new(Self(Mutex::new((bytes, Vec::new()))))
    }

    pub fn logged(&self) -> usize {
        self.0.lock().unwrap().1.len()
    }

    pub fn forget_log(&self) -> Vec<u8> {
        let mut state = self.0.lock().unwrap();
        state.1.clear();
        state.0.clone()
    }

    fn put(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        reach(offset.saturating_add(bytes.len() as u64))?;
        let mut state = self.0.lock().unwrap();
        apply(&mut state.0, offset, bytes);
        state.1.push(Op::Write(offset, bytes.to_vec()));
        Ok(())
    }
}

fn apply(image: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
    let end = offset as usize + bytes.len();
    if image.len() < end {
        image.resize(end, 0);
    }
    image[offset as usize..end].copy_from_slice(bytes);
}

impl Node for Volatile {
    fn size(&self) -> u64 {
        self.0.lock().unwrap().0.len() as u64
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let state = self.0.lock().unwrap();
        buf.fill(0);
        let from = offset.min(state.0.len() as u64) as usize;
        let n = (state.0.len() - from).min(buf.len());
        buf[..n].copy_from_slice(&state.0[from..from + n]);
        Ok(())
    }
    fn write_at(&self, offset: u64, buf: &[u8], _flags: WriteFlags) -> io::Result<()> {
        self.put(offset, buf)
    }
    fn write_zeroes(&self, offset: u64, len: u64, _flags: ZeroFlags) -> io::Result<()> {
        reach(offset.saturating_add(len))?;
        self.put(offset, &vec![0; len as usize])
    }
    /// What is discarded turns to rubbish: whoever still needs it will notice.
    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        reach(offset.saturating_add(len))?;
        self.put(offset, &vec![0xee; len as usize])
    }
    fn flush(&self) -> io::Result<()> {
        self.0.lock().unwrap().1.push(Op::Flush);
        Ok(())
    }
    fn block_status(&self, _offset: u64, len: u64) -> io::Result<Extent> {
        Ok(Extent { kind: ExtentKind::Data, len, host_offset: None })
    }
    fn truncate(&self, size: u64) -> io::Result<()> {
        reach(size)?;
        let mut state = self.0.lock().unwrap();
        state.0.resize(size as usize, 0);
        state.1.push(Op::Truncate(size));
        Ok(())
    }
    fn read_only(&self) -> bool {
        false
    }
    fn info(&self) -> NodeInfo {
        NodeInfo::default()
    }
}

/// Which unflushed sectors survive.
#[derive(Clone, Copy, Debug)]
pub enum Survivors {
    None,
    All,
    Half,
    Few,
}

/// What is on the disk after a power cut behind `cut` operations of the log.
pub fn remains(
    start: &[u8],
    log: &[Op],
    cut: usize,
    what: Survivors,
    random: &mut Random,
) -> Vec<u8> {
    let mut image = start.to_vec();
    let stable = log[..cut].iter().rposition(|op| matches!(op, Op::Flush)).unwrap_or(0);
    for (i, op) in log[..cut].iter().enumerate() {
        let (offset, bytes) = match op {
            Op::Write(offset, bytes) => (offset, bytes),
            Op::Truncate(size) if i < stable || !matches!(what, Survivors::None) => {
                image.resize(*size as usize, 0);
                continue;
            }
            _ => continue,
        };
        let mut at = 0;
        while at < bytes.len() {
            let place = *offset as usize + at;
            let n = (SECTOR - place % SECTOR).min(bytes.len() - at);
            let survives = i < stable
                || match what {
                    Survivors::None => false,
                    Survivors::All => true,
                    Survivors::Half => random.below(2) == 0,
                    Survivors::Few => random.below(8) == 0,
                };
            if survives {
                apply(&mut image, place as u64, &bytes[at..at + n]);
            }
            at += n;
        }
    }
    image
}

/// What each sector of the disk may hold: values with the length of the log when they were written.
pub struct History {
    pub values: Vec<Vec<(usize, u64)>>,
    /// Log lengths at which a flush was acknowledged, with the values written before it began.
    pub flushes: Vec<(usize, Vec<usize>)>,
    pub tag: u64,
}

impl History {
    pub fn of(disk: &dyn Node) -> Self {
        let values = tags(&read_all(disk)).into_iter().map(|tag| vec![(0, tag)]);
        Self { values: values.collect(), flushes: Vec::new(), tag: 1 << 32 }
    }

    /// New content for a range of the disk, noted as written at `now`.
    pub fn tagged(&mut self, from: u64, to: u64, now: usize) -> Vec<u8> {
        let mut data = Vec::new();
        for values in &mut self.values[from as usize / SECTOR..to as usize / SECTOR] {
            self.tag += 1;
            values.push((now, self.tag));
            data.extend(self.tag.to_le_bytes().repeat(SECTOR / 8));
        }
        data
    }

    /// The values sector `i` may have after a cut: from the last one flushed on.
    pub fn allows(&self, i: usize, cut: usize, value: u64) -> bool {
        let flushed = self.flushes.iter().rev().find(|(at, _)| *at <= cut);
        let from = flushed.map_or(0, |(_, counts)| counts[i] - 1);
        self.values[i][from..].iter().any(|(at, v)| *at <= cut && *v == value)
    }
}

pub fn tags(bytes: &[u8]) -> Vec<u64> {
    let tag = |s: &[u8]| {
        let tag = u64::from_le_bytes(*s.first_chunk().unwrap());
        // A sector is written whole, so it must read as one tag throughout.
        let whole = s.chunks(8).all(|c| c == &tag.to_le_bytes()[..c.len()]);
        if whole { tag } else { u64::MAX }
    };
    bytes.chunks(SECTOR).map(tag).collect()
}

pub fn workload(
    disk: &dyn Node,
    logged: impl Fn() -> usize,
    history: &mut History,
    rounds: u32,
    seed: u64,
) {
    let sectors = disk.size() / SECTOR as u64;
    let mut random = Random(seed);
    let compress = disk.image().and_then(|image| image.compress());
    for _ in 0..rounds {
        let now = logged();
        let first = random.below(sectors);
        let most = [1, 4, 20, 60][random.below(4) as usize];
        let count = (random.below(most) + 1).min(sectors - first);
        let (at, len) = (first * SECTOR as u64, count * SECTOR as u64);
        let range = first as usize..(first + count) as usize;
        match random.below(10) {
            0 | 1 => {
                let counts = history.values.iter().map(Vec::len).collect();
                disk.flush().unwrap();
                history.flushes.push((logged(), counts));
            }
            2 => {
                history.values[range].iter_mut().for_each(|v| v.push((now, 0)));
                let unmap = random.below(2) == 0;
                disk.write_zeroes(at, len, ZeroFlags { unmap, fua: false }).unwrap();
            }
            3 => {
                disk.discard(at, len).unwrap();
                // Which of the two is up to the disk, also after a crash.
                for values in &mut history.values[range] {
                    let old = values.last().unwrap().1;
                    values.extend([(now, 0), (now, old)]);
                }
                let counts: Vec<usize> = history.values.iter().map(Vec::len).collect();
                for (i, tag) in tags(&read_all(disk)).into_iter().enumerate() {
                    assert!(history.values[i].iter().any(|(_, v)| *v == tag));
                    if history.values[i][counts[i] - 1].1 != tag {
                        history.values[i].push((now, tag));
                    }
                }
            }
            4 if let Some(compress) = compress => {
                let unit = compress.unit();
                let at = at / unit * unit;
                let end = (at + unit).min(disk.size());
                let data = history.tagged(at, end, now);
                compress.write_compressed(at, &data).unwrap();
            }
            _ => {
                let data = history.tagged(at, at + len, now);
                disk.write_at(at, &data, WriteFlags::default()).unwrap();
            }
        }
    }
}
