//! Filters by their behaviour, on disks in memory.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::time::Duration;

use filters::{CbwOptions, OnCbwError, QuorumEvent, QuorumOp, QuorumOptions, ReadPattern};
use graph::{Extent, Memory, Node, NodeInfo, Preallocation, WriteFlags, ZeroFlags};

const DISK: usize = 1 << 20;

fn disk(byte: u8) -> Arc<Memory> {
    Arc::new(Memory::new(vec![byte; DISK], false))
}

fn bytes(node: &dyn Node, offset: u64, len: usize) -> Vec<u8> {
    let mut buf = vec![0; len];
    node.read_at(offset, &mut buf).unwrap();
    buf
}

fn write(node: &dyn Node, offset: u64, buf: &[u8]) {
    node.write_at(offset, buf, WriteFlags::default()).unwrap();
}

/// A disk whose requests fail while it is told so.
struct Failing {
    disk: Arc<Memory>,
    fails: AtomicBool,
}

impl Failing {
    fn new(byte: u8) -> Arc<Self> {
        Arc::new(Self { disk: disk(byte), fails: AtomicBool::new(false) })
    }

    fn check(&self) -> io::Result<()> {
        if self.fails.load(Ordering::SeqCst) {
            Err(io::Error::from_raw_os_error(5))
        } else {
            Ok(())
        }
    }
}

impl Node for Failing {
    fn size(&self) -> u64 {
        self.disk.size()
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.check()?;
        self.disk.read_at(offset, buf)
    }
    fn write_at(&self, offset: u64, buf: &[u8], flags: WriteFlags) -> io::Result<()> {
        self.check()?;
        self.disk.write_at(offset, buf, flags)
    }
    fn write_zeroes(&self, offset: u64, len: u64, flags: ZeroFlags) -> io::Result<()> {
        self.check()?;
        self.disk.write_zeroes(offset, len, flags)
    }
    fn discard(&self, _: u64, _: u64) -> io::Result<()> {
        self.check()
    }
    fn flush(&self) -> io::Result<()> {
        self.check()
    }
    fn block_status(&self, offset: u64, len: u64) -> io::Result<Extent> {
        self.disk.block_status(offset, len)
    }
    fn read_only(&self) -> bool {
        false
    }
    fn info(&self) -> NodeInfo {
        self.disk.info()
    }
}

#[test]
fn old_content_is_a_point_in_time_while_a_writer_runs() {
    let source = disk(7);
    let target = disk(0);
    let node = filters::copy_before_write(source, target, &CbwOptions::default()).unwrap();
    let old = filters::snapshot_access(Arc::clone(&node));
    let (over, begun) = (AtomicBool::new(false), Barrier::new(4));
    std::thread::scope(|scope| {
        for seed in 1..4u64 {
            let (node, over, begun) = (&node, &over, &begun);
            scope.spawn(move || {
                let mut n = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
                write(&**node, seed << 16, &[seed as u8]);
                begun.wait();
                while !over.load(Ordering::SeqCst) {
                    n = n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    let len = 1 + (n >> 40) % 100_000;
                    let at = (n >> 13) % (DISK as u64 - len);
                    match n >> 62 {
                        0 => node.write_zeroes(at, len, ZeroFlags::default()).unwrap(),
                        _ => write(&**node, at, &vec![seed as u8; len as usize]),
                    }
                }
            });
        }
        begun.wait();
        for _ in 0..20 {
            let now = bytes(&*old, 0, DISK);
            assert!(now.iter().all(|b| *b == 7), "old content was replaced");
        }
        over.store(true, Ordering::SeqCst);
    });
    assert!(bytes(&*node, 0, DISK).iter().any(|b| *b != 7), "the writers wrote");
    let failed = old.write_at(0, &[0], WriteFlags::default()).unwrap_err();
    assert_eq!(failed.kind(), io::ErrorKind::Unsupported);
}

#[test]
fn what_is_forgotten_cannot_be_read_and_is_not_copied() {
    let target = disk(0);
    let below = Arc::clone(&target) as Arc<dyn Node>;
    let node = filters::copy_before_write(disk(7), below, &CbwOptions::default()).unwrap();
    let old = filters::snapshot_access(Arc::clone(&node));
    old.discard(0, 128 << 10).unwrap();
    assert_eq!(old.read_at(0, &mut [0]).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
    write(&*node, 0, &[1; 200 << 10]);
    let copied = target.snapshot();
    assert!(copied[..128 << 10].iter().all(|b| *b == 0));
    assert!(copied[128 << 10..256 << 10].iter().all(|b| *b == 7));
    assert_eq!(bytes(&*old, 128 << 10, DISK - (128 << 10)), vec![7; DISK - (128 << 10)]);
}

#[test]
fn only_what_a_bitmap_names_is_kept() {
    let only = Some(vec![(64 << 10, 1)]);
    let options = CbwOptions { only, ..CbwOptions::default() };
    let target = disk(0);
    let below = Arc::clone(&target) as Arc<dyn Node>;
    let node = filters::copy_before_write(disk(7), below, &options).unwrap();
    write(&*node, 0, &[1; 256 << 10]);
    assert_eq!(target.snapshot().iter().filter(|b| **b == 7).count(), 64 << 10);
    let old = filters::snapshot_access(node);
    assert_eq!(bytes(&*old, 64 << 10, 10), [7; 10]);
    assert!(old.read_at(0, &mut [0]).is_err());
}

#[test]
fn a_failed_copy_breaks_the_write_or_the_snapshot() {
    for on_error in [OnCbwError::BreakGuestWrite, OnCbwError::BreakSnapshot] {
        for timeout in [Duration::ZERO, Duration::from_secs(3600)] {
            let target = Failing::new(0);
            let below = Arc::clone(&target) as Arc<dyn Node>;
            let options = CbwOptions { on_error, timeout, ..CbwOptions::default() };
            let node = filters::copy_before_write(disk(7), below, &options).unwrap();
            let old = filters::snapshot_access(Arc::clone(&node));
            target.fails.store(true, Ordering::SeqCst);
            let written = node.write_at(0, &[1; 10], WriteFlags::default());
            target.fails.store(false, Ordering::SeqCst);
            if on_error == OnCbwError::BreakGuestWrite {
                assert_eq!(written.unwrap_err().raw_os_error(), Some(5));
                assert_eq!(bytes(&*node, 0, 10), [7; 10]);
                assert_eq!(bytes(&*old, 0, 10), [7; 10]);
            } else {
                written.unwrap();
                assert_eq!(bytes(&*node, 0, 10), [1; 10]);
                assert!(old.read_at(0, &mut [0]).is_err());
                assert!(old.read_at(DISK as u64 - 1, &mut [0]).is_err(), "all of it");
            }
        }
    }
}

#[test]
fn a_slow_copy_ends_at_the_timeout() {
    /// A disk that never finishes a write until it is let go.
    struct Stuck(Arc<Memory>, Mutex<()>);
    impl Node for Stuck {
        fn size(&self) -> u64 {
            self.0.size()
        }
        fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
            self.0.read_at(offset, buf)
        }
        fn write_at(&self, offset: u64, buf: &[u8], flags: WriteFlags) -> io::Result<()> {
            let _held = self.1.lock().unwrap();
            self.0.write_at(offset, buf, flags)
        }
        fn write_zeroes(&self, _: u64, _: u64, _: ZeroFlags) -> io::Result<()> {
            Ok(())
        }
        fn discard(&self, _: u64, _: u64) -> io::Result<()> {
            Ok(())
        }
        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
        fn block_status(&self, offset: u64, len: u64) -> io::Result<Extent> {
            self.0.block_status(offset, len)
        }
        fn read_only(&self) -> bool {
            false
        }
        fn info(&self) -> NodeInfo {
            self.0.info()
        }
    }
    let target = Arc::new(Stuck(disk(0), Mutex::default()));
    let options = CbwOptions { timeout: Duration::from_millis(1), ..CbwOptions::default() };
    let below = Arc::clone(&target) as Arc<dyn Node>;
    let node = filters::copy_before_write(disk(7), below, &options).unwrap();
    let held = target.1.lock().unwrap();
    let failed = node.write_at(0, &[1], WriteFlags::default()).unwrap_err();
    assert_eq!(failed.kind(), io::ErrorKind::TimedOut);
    drop(held);
    assert_eq!(bytes(&*node, 0, 1), [7]);
}

#[test]
fn clusters_are_powers_of_two_and_targets_large_enough() {
    let with = |min_cluster, size| {
        let target = Arc::new(Memory::new(vec![0; size], false));
        let options = CbwOptions { min_cluster, ..CbwOptions::default() };
        filters::copy_before_write(disk(7), target, &options).map(|_| ())
    };
    assert!(with(1 << 20, DISK).is_ok());
    assert!(with(3, DISK).unwrap_err().to_string().contains("needs to be a power of 2"));
    assert!(with(1 << 40, DISK).is_err());
    assert!(with(0, DISK / 2).is_err());
}

fn listening() -> (Arc<Mutex<Vec<QuorumEvent>>>, filters::QuorumListener) {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let list = Arc::clone(&heard);
    (heard, Arc::new(move |event: &QuorumEvent| list.lock().unwrap().push(event.clone())))
}

fn three() -> (Vec<Arc<Memory>>, Vec<Arc<dyn Node>>) {
    let disks = vec![disk(1), disk(1), disk(1)];
    let nodes = disks.iter().map(|d| Arc::clone(d) as Arc<dyn Node>).collect();
    (disks, nodes)
}

#[test]
fn a_majority_decides_and_corrects_the_rest() {
    let (disks, nodes) = three();
    let (heard, listener) = listening();
    let options =
        QuorumOptions { threshold: 2, rewrite_corrupted: true, ..QuorumOptions::default() };
    let node = filters::quorum(nodes, options, Some(listener)).unwrap();
    write(&*disks[1], 512, &[9; 16]);
    assert_eq!(bytes(&*node, 512, 16), [1; 16]);
    let bad = QuorumEvent::Bad { child: 1, op: QuorumOp::Read, offset: 512, len: 16, error: None };
    assert_eq!(std::mem::take(&mut *heard.lock().unwrap()), [bad]);
    assert_eq!(bytes(&*disks[1], 512, 16), [1; 16], "corrected");
    for (n, disk) in disks.iter().enumerate() {
        write(&**disk, 0, &[n as u8; 16]);
    }
    assert_eq!(node.read_at(0, &mut [0; 16]).unwrap_err().raw_os_error(), Some(5));
    let failure = QuorumEvent::Failure { offset: 0, len: 16 };
    assert!(heard.lock().unwrap().contains(&failure));
}

#[test]
fn a_write_needs_the_threshold() {
    let (sick, well) = (Failing::new(1), disk(1));
    sick.fails.store(true, Ordering::SeqCst);
    for threshold in [1, 2] {
        let nodes = vec![Arc::clone(&sick) as Arc<dyn Node>, Arc::clone(&well) as Arc<dyn Node>];
        let (heard, listener) = listening();
        let options = QuorumOptions { threshold, ..QuorumOptions::default() };
        let node = filters::quorum(nodes, options, Some(listener)).unwrap();
        let done = node.write_at(0, &[3], WriteFlags::default()).is_ok();
        assert_eq!((done, node.read_at(0, &mut [0]).is_ok()), (threshold == 1, threshold == 1));
        assert!(!heard.lock().unwrap().is_empty());
        assert_eq!(node.flush().is_ok(), threshold == 1);
    }
    let nodes = vec![sick as Arc<dyn Node>, well as Arc<dyn Node>];
    let pattern = ReadPattern::Fifo;
    let options = QuorumOptions { threshold: 2, pattern, ..QuorumOptions::default() };
    let node = filters::quorum(nodes, options, None).unwrap();
    assert_eq!(bytes(&*node, 0, 1), [3], "the first that can answer");
}

#[test]
fn options_of_a_quorum_must_fit() {
    let said = |options| {
        filters::quorum(three().1, options, None).map_or_else(|e| e.to_string(), |_| String::new())
    };
    let of = |threshold| QuorumOptions { threshold, ..QuorumOptions::default() };
    assert!(said(of(0)).contains(">= 1"));
    assert!(said(of(4)).contains("may not exceed"));
    assert!(said(QuorumOptions { blkverify: true, ..of(2) }).contains("exactly two files"));
    let small = Arc::new(Memory::new(vec![0; 512], false)) as Arc<dyn Node>;
    assert!(filters::quorum(vec![disk(0), small], of(1), None).is_err());
}

#[test]
fn copies_that_differ_are_found() {
    let (raw, test) = (disk(1), disk(1));
    let node =
        filters::blkverify(Arc::clone(&raw) as Arc<dyn Node>, Arc::clone(&test) as Arc<dyn Node>);
    write(&*node, 100, &[2; 50]);
    assert_eq!(raw.snapshot(), test.snapshot());
    assert_eq!(bytes(&*node, 100, 50), [2; 50]);
    write(&*test, 120, &[3]);
    let failed = node.read_at(100, &mut [0; 50]).unwrap_err();
    let text = "blkverify: read offset=100 bytes=50 contents mismatch at offset 120";
    assert_eq!(failed.to_string(), text);
}

/// A file in memory that grows by writes, and counts how often it was reserved.
struct Growing(Mutex<Vec<u8>>, Mutex<Vec<u64>>);

impl Node for Growing {
    fn size(&self) -> u64 {
        self.0.lock().unwrap().len() as u64
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let file = self.0.lock().unwrap();
        buf.copy_from_slice(&file[offset as usize..][..buf.len()]);
        Ok(())
    }
    fn write_at(&self, offset: u64, buf: &[u8], _: WriteFlags) -> io::Result<()> {
        let mut file = self.0.lock().unwrap();
        let end = (offset as usize + buf.len()).max(file.len());
        file.resize(end, 0);
        file[offset as usize..][..buf.len()].copy_from_slice(buf);
        Ok(())
    }
    fn write_zeroes(&self, offset: u64, len: u64, flags: ZeroFlags) -> io::Result<()> {
        self.write_at(offset, &vec![0; len as usize], WriteFlags { fua: flags.fua })
    }
    fn discard(&self, _: u64, _: u64) -> io::Result<()> {
        Ok(())
    }
    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
    fn block_status(&self, _: u64, _: u64) -> io::Result<Extent> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn truncate(&self, size: u64) -> io::Result<()> {
        self.0.lock().unwrap().resize(size as usize, 0);
        Ok(())
    }
    fn preallocate(&self, offset: u64, len: u64, _: Preallocation) -> io::Result<()> {
        self.1.lock().unwrap().push(offset + len);
        self.truncate(self.size().max(offset + len))
    }
    fn read_only(&self) -> bool {
        false
    }
    fn info(&self) -> NodeInfo {
        NodeInfo::default()
    }
}

#[test]
fn a_file_grows_in_steps_and_gives_the_rest_back() {
    let file = Arc::new(Growing(Mutex::default(), Mutex::default()));
    let steps = filters::Steps { align: 4096, size: 10_000 };
    let node = filters::preallocate(Arc::clone(&file) as Arc<dyn Node>, steps).unwrap();
    for at in 0..20 {
        write(&*node, at * 100, &[1; 100]);
        assert_eq!(node.size(), (at + 1) * 100, "those above see the data only");
    }
    assert_eq!(*file.1.lock().unwrap(), [12288]);
    node.write_zeroes(2000, 500, ZeroFlags::default()).unwrap();
    assert_eq!((node.size(), file.size()), (2500, 12288));
    assert_eq!(bytes(&*node, 1900, 600), [vec![1; 100], vec![0; 500]].concat());
    write(&*node, 12_280, &[1; 100]);
    assert_eq!(file.1.lock().unwrap().last(), Some(&24576));
    drop(node);
    assert_eq!(file.size(), 12_380);
    assert!(filters::preallocate(file, filters::Steps { align: 5, size: 0 }).is_err());
}

#[test]
fn a_throttled_node_moves_the_same_bytes() {
    let mut limits = graph::throttle::Limits::default();
    assert!(limits.set("bps-total", 1 << 40));
    let group = graph::throttle::Group::new("g", limits);
    let node = filters::throttle(disk(1), &group);
    write(&*node, 10, &[5; 10]);
    assert_eq!(bytes(&*node, 8, 4), [1, 1, 5, 5]);
    assert!(node.info().filename.starts_with("json:{\"throttle-group\": \"g\""));
}
