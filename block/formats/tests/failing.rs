//! Host errors: a write that fails is reported, and the image stays whole.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod common;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use common::*;
use formats::qcow2::{CreateOptions, Options, Qcow2, create};
use graph::{Extent, Node, NodeInfo, WriteFlags, ZeroFlags};
use protocols::File;

/// A file whose writes and flushes fail now and then.
struct Failing {
    file: File,
    armed: AtomicBool,
    calls: AtomicU64,
    every: u64,
}

impl Failing {
    fn chance(&self) -> io::Result<()> {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        // A burst: the disk is full for a while.
        if self.armed.load(Ordering::Relaxed) && call % self.every < 3 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }
}

impl Node for Failing {
    fn size(&self) -> u64 {
        self.file.size()
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.file.read_at(offset, buf)
    }
    fn write_at(&self, offset: u64, buf: &[u8], flags: WriteFlags) -> io::Result<()> {
        self.chance()?;
        self.file.write_at(offset, buf, flags)
    }
    fn write_zeroes(&self, offset: u64, len: u64, flags: ZeroFlags) -> io::Result<()> {
        self.chance()?;
        self.file.write_zeroes(offset, len, flags)
    }
    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        self.chance()?;
        self.file.discard(offset, len)
    }
    fn flush(&self) -> io::Result<()> {
        self.chance()?;
        self.file.flush()
    }
    fn block_status(&self, offset: u64, len: u64) -> io::Result<Extent> {
        self.file.block_status(offset, len)
    }
    fn read_only(&self) -> bool {
        false
    }
    fn info(&self) -> NodeInfo {
        self.file.info()
    }
}

#[test]
fn what_succeeded_is_there_after_a_time_of_errors() {
    for (every, cluster_size, extended_l2) in
        [(7, 512, false), (11, 4096, false), (23, 512, false), (17, 16384, true)]
    {
        let file = Arc::new(Failing {
            file: File::temporary(&std::env::temp_dir()).unwrap(),
            armed: AtomicBool::new(false),
            calls: AtomicU64::new(0),
            every,
        });
        let node: Arc<dyn Node> = Arc::clone(&file) as Arc<dyn Node>;
        let size = 3 << 20;
        let options = CreateOptions {
            cluster_size,
            extended_l2,
            refcount_bits: 64,
            ..CreateOptions::new(size)
        };
        create(&node, "image", &options).unwrap();
        let disk = Qcow2::open(Arc::clone(&node), "image", Options::default()).unwrap();
        // Which of two contents a range has after a failed write is not known.
        let mut model = vec![Some(0u8); size as usize];
        let mut random = Random(every);
        let mut failures = 0;
        file.armed.store(true, Ordering::Relaxed);
        for round in 0..1500u32 {
            let at = random.below(size);
            let len = (random.below(9000) + 1).min(size - at);
            let range = at as usize..(at + len) as usize;
            let byte = round as u8;
            let (result, value) = match random.below(8) {
                0 => (disk.flush(), None),
                1 => {
                    let flags = ZeroFlags { unmap: true, fua: false };
                    (disk.write_zeroes(at, len, flags), Some(0))
                }
                _ => {
                    let data = vec![byte; len as usize];
                    (disk.write_at(at, &data, WriteFlags::default()), Some(byte))
                }
            };
            failures += u32::from(result.is_err());
            if value.is_some() {
                model[range].fill(if result.is_ok() { value } else { None });
            }
        }
        assert!(failures > 50, "only {failures} failures");
        file.armed.store(false, Ordering::Relaxed);
        disk.flush().unwrap();
        drop(disk);
        let report = Qcow2::check(&*node, "image").unwrap();
        assert_eq!(report.corruptions, 0, "{cluster_size}: {:?}", report.findings);
        let disk = Qcow2::open(node, "image", Options::default()).unwrap();
        for (at, (now, wanted)) in read_all(&disk).iter().zip(&model).enumerate() {
            assert!(wanted.is_none_or(|w| w == *now), "{cluster_size}: byte {at:#x}");
        }
    }
}
