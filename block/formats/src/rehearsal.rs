//! Trying a repair without changing anything.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use graph::{CheckReport, Extent, ExtentKind, Node, NodeInfo, WriteFlags, ZeroFlags};

/// Bytes that are kept together.
const BLOCK: u64 = 4096;

/// Most changed blocks: a repair that changes more cannot be tried.
const MOST: usize = (256 << 20) / BLOCK as usize;

/// What a repair would do.
#[derive(Clone, Debug, Default)]
pub struct Rehearsal {
    /// The image as it would be afterwards.
    pub report: CheckReport,
    /// Bytes that would differ from what they are now.
    pub bytes: u64,
    /// Places in the file at which they are, in blocks of 4 KiB.
    pub places: u64,
    /// How much longer the file would be.
    pub longer: u64,
}

/// A file whose changes stay in memory.
pub(crate) struct Scratch {
    file: Arc<dyn Node>,
    changed: Mutex<Changed>,
}

struct Changed {
    size: u64,
    /// Blocks by number.
    blocks: BTreeMap<u64, Box<[u8]>>,
}

impl Scratch {
    pub fn new(file: Arc<dyn Node>) -> Self {
        let changed = Changed { size: file.size(), blocks: BTreeMap::new() };
        Self { file, changed: Mutex::new(changed) }
    }

    /// Bytes that differ, the blocks that hold them, and how much longer the file is.
    pub fn differences(&self) -> io::Result<(u64, u64, u64)> {
        let changed = self.changed();
        let (mut bytes, mut places) = (0, 0);
        for (number, block) in &changed.blocks {
            let before = self.original(*number)?;
            let differing = before.iter().zip(block.iter()).filter(|(a, b)| a != b).count();
            bytes += differing as u64;
            places += u64::from(differing > 0);
        }
        Ok((bytes, places, changed.size.saturating_sub(self.file.size())))
    }

    fn changed(&self) -> MutexGuard<'_, Changed> {
        self.changed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn original(&self, number: u64) -> io::Result<Vec<u8>> {
        let mut block = vec![0; BLOCK as usize];
        let inside = self.file.size().saturating_sub(number * BLOCK).min(BLOCK) as usize;
        if inside > 0 {
            self.file.read_at(number * BLOCK, &mut block[..inside])?;
        }
        Ok(block)
    }

    /// Calls `act` with each part of a range: block, offset in it, offset in the range, length.
    fn each(
        offset: u64,
        len: usize,
        mut act: impl FnMut(u64, usize, usize, usize) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut done = 0;
        while done < len {
            let at = offset + done as u64;
            let within = (at % BLOCK) as usize;
            let now = (BLOCK as usize - within).min(len - done);
            act(at / BLOCK, within, done, now)?;
            done += now;
        }
        Ok(())
    }
}

impl Node for Scratch {
    fn size(&self) -> u64 {
        self.changed().size
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let changed = self.changed();
        let inside = self.file.size().saturating_sub(offset).min(buf.len() as u64) as usize;
        let (before, behind) = buf.split_at_mut(inside);
        behind.fill(0);
        if inside > 0 {
            self.file.read_at(offset, before)?;
        }
        Self::each(offset, buf.len(), |number, within, done, len| {
            if let Some(block) = changed.blocks.get(&number) {
                buf[done..done + len].copy_from_slice(&block[within..within + len]);
            }
            Ok(())
        })
    }

    fn write_at(&self, offset: u64, buf: &[u8], _flags: WriteFlags) -> io::Result<()> {
        let mut changed = self.changed();
        let end = offset.checked_add(buf.len() as u64).ok_or(io::ErrorKind::InvalidInput)?;
        Self::each(offset, buf.len(), |number, within, done, len| {
            if !changed.blocks.contains_key(&number) {
                if changed.blocks.len() >= MOST {
                    let text = "the repair changes too much to be tried in memory";
                    return Err(io::Error::new(io::ErrorKind::OutOfMemory, text));
                }
                let block = self.original(number)?;
                changed.blocks.insert(number, block.into());
            }
            if let Some(block) = changed.blocks.get_mut(&number) {
                block[within..within + len].copy_from_slice(&buf[done..done + len]);
            }
            Ok(())
        })?;
        changed.size = changed.size.max(end);
        Ok(())
    }

    fn write_zeroes(&self, offset: u64, len: u64, flags: ZeroFlags) -> io::Result<()> {
        let zeroes = vec![0; BLOCK as usize];
        let end = offset.saturating_add(len);
        let mut at = offset;
        while at < end {
            let now = (end - at).min(BLOCK);
            self.write_at(at, &zeroes[..now as usize], WriteFlags { fua: flags.fua })?;
            at += now;
        }
        Ok(())
    }

    fn discard(&self, _offset: u64, _len: u64) -> io::Result<()> {
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }

    fn block_status(&self, _offset: u64, len: u64) -> io::Result<Extent> {
        Ok(Extent { kind: ExtentKind::Data, len, host_offset: None })
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        self.changed().size = size;
        Ok(())
    }

    fn read_only(&self) -> bool {
        false
    }

    fn info(&self) -> NodeInfo {
        self.file.info()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use graph::Memory;

    #[test]
    fn changes_are_seen_and_counted_and_stay_in_memory() {
        let file = Arc::new(Memory::new(vec![1; 10_000], true));
        let scratch = Scratch::new(Arc::clone(&file) as Arc<dyn Node>);
        scratch
            .write_at(4090, &[1, 1, 2, 2, 2, 2, 2, 2, 2], WriteFlags::default())
            .expect("it fits");
        scratch.write_at(12_000, &[5], WriteFlags::default()).expect("it grows");
        let mut buf = [0; 12];
        scratch.read_at(4089, &mut buf).expect("it is inside");
        assert_eq!(buf, [1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 1, 1]);
        assert_eq!(scratch.differences().expect("it reads"), (8, 3, 2001));
        assert!(file.snapshot().iter().all(|byte| *byte == 1));
    }
}
