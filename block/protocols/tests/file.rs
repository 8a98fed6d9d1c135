//! Files of the host: growth, holes, cache modes, refusals.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use graph::{DiskOptions, ExtentKind, Node, OpenError, WriteFlags, ZeroFlags};
use protocols::{Access, CacheMode, File, FileOptions, Null};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

/// A file that is removed with the value.
struct Temp(String);

impl Temp {
    fn new(name: &str, content: &[u8]) -> Self {
        let name = format!("protocols-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name).display().to_string();
        std::fs::write(&path, content).unwrap();
        Self(path)
    }

    fn options(&self) -> FileOptions {
        FileOptions::new(&self.0)
    }
}

impl Drop for Temp {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

const PLAIN: WriteFlags = WriteFlags { fua: false };

#[test]
fn reads_beyond_the_end_are_zero_and_writes_there_grow_the_file() {
    let temp = Temp::new("grow", &[1; 700]);
    for name in ["writeback", "none"] {
        let cache = CacheMode::named(name).unwrap();
        let file = File::open(&FileOptions { cache, ..temp.options() }).unwrap();
        assert_eq!(file.size(), 700);
        let mut buf = [9; 1000];
        file.read_at(600, &mut buf).unwrap();
        assert!(buf[..100].iter().all(|b| *b == 1) && buf[100..].iter().all(|b| *b == 0));
        file.write_at(10_001, &[2; 99], WriteFlags { fua: true }).unwrap();
        assert_eq!(file.size(), 10_100);
        assert_eq!(std::fs::metadata(&temp.0).unwrap().len(), 10_100, "{name}");
        file.write_zeroes(10_050, 1000, ZeroFlags { unmap: true, fua: false }).unwrap();
        assert_eq!(std::fs::metadata(&temp.0).unwrap().len(), 11_050, "{name}");
        let bytes = std::fs::read(&temp.0).unwrap();
        assert!(bytes[10_001..10_050].iter().all(|b| *b == 2));
        assert!(bytes[10_050..].iter().all(|b| *b == 0));
        file.truncate(700).unwrap();
    }
}

#[test]
fn discarded_and_unmapped_ranges_become_holes() {
    let temp = Temp::new("holes", &vec![3; 1 << 20]);
    let file = File::open(&temp.options()).unwrap();
    let before = std::fs::metadata(&temp.0).unwrap().blocks();
    file.discard(0, 256 << 10).unwrap();
    file.write_zeroes(512 << 10, 256 << 10, ZeroFlags { unmap: true, fua: false }).unwrap();
    assert!(std::fs::metadata(&temp.0).unwrap().blocks() < before);
    let hole = file.block_status(0, 1 << 20).unwrap();
    assert_eq!((hole.kind, hole.len), (ExtentKind::Zero, 256 << 10));
    let data = file.block_status(256 << 10, 1 << 20).unwrap();
    assert_eq!((data.kind, data.len), (ExtentKind::Data, 256 << 10));
}

#[test]
fn zeroes_without_unmap_keep_their_space() {
    let temp = Temp::new("zeroes", &vec![3; 1 << 20]);
    let file = File::open(&temp.options()).unwrap();
    let before = std::fs::metadata(&temp.0).unwrap().blocks();
    file.write_zeroes(4096, 500_000, ZeroFlags::default()).unwrap();
    assert_eq!(std::fs::metadata(&temp.0).unwrap().blocks(), before);
    let bytes = std::fs::read(&temp.0).unwrap();
    assert!(bytes[4096..504_096].iter().all(|b| *b == 0));
    assert!(bytes[504_096..].iter().all(|b| *b == 3) && bytes[..4096].iter().all(|b| *b == 3));
}

#[test]
fn a_read_only_file_refuses_changes() {
    let temp = Temp::new("readonly", &[1; 512]);
    let options = FileOptions { read_only: true, access: Access::RAW_READ, ..temp.options() };
    let file = File::open(&options).unwrap();
    let kind = |r: std::io::Result<()>| r.unwrap_err().kind();
    assert_eq!(kind(file.write_at(0, &[1], PLAIN)), std::io::ErrorKind::ReadOnlyFilesystem);
    assert_eq!(kind(file.discard(0, 512)), std::io::ErrorKind::ReadOnlyFilesystem);
    assert_eq!(kind(file.truncate(0)), std::io::ErrorKind::ReadOnlyFilesystem);
    file.flush().unwrap();
}

#[test]
fn a_file_takes_another_manner_in_its_place() {
    let temp = Temp::new("manner", &[7; 8192]);
    let file = File::open(&temp.options()).unwrap();
    let second = || File::open(&temp.options()).is_err();
    file.write_at(100, &[1; 10], PLAIN).unwrap();
    let usual = DiskOptions::default();
    for direct in [true, false] {
        file.adjust(&DiskOptions { direct, ..usual.clone() }).unwrap();
        file.write_at(4000, &[2; 200], PLAIN).unwrap();
        assert!(second(), "its locks are still there");
    }
    file.adjust(&DiskOptions { read_only: true, ..usual.clone() }).unwrap();
    file.write_at(0, &[3], PLAIN).unwrap_err();
    file.adjust(&usual).unwrap();
    file.write_at(0, &[3], PLAIN).unwrap();
    let mut expected = vec![7; 8192];
    expected[0] = 3;
    expected[100..110].fill(1);
    expected[4000..4200].fill(2);
    assert_eq!(std::fs::read(&temp.0).unwrap(), expected);

    // What has its name by now is another file: it stays with the one it has.
    let kept = format!("{}-kept", temp.0);
    std::fs::rename(&temp.0, &kept).unwrap();
    std::fs::write(&temp.0, [9; 512]).unwrap();
    file.adjust(&DiskOptions { read_only: true, ..usual.clone() }).unwrap_err();
    file.write_at(0, &[4], PLAIN).unwrap();
    assert_eq!(std::fs::read(&kept).unwrap()[0], 4);
    std::fs::remove_file(&kept).unwrap();
}

#[test]
fn two_writers_of_one_file_exclude_each_other_and_readers_share() {
    let temp = Temp::new("locks", &[1; 512]);
    let writer = File::open(&temp.options()).unwrap();
    let second = File::open(&temp.options());
    assert!(matches!(second, Err(OpenError::Locked { permission: "write", shared: false, .. })));
    let reader = FileOptions { read_only: true, access: Access::RAW_READ, ..temp.options() };
    let refused = File::open(&reader);
    assert!(matches!(refused, Err(OpenError::Locked { permission: "write", shared: true, .. })));
    drop(writer);
    let one = File::open(&reader).unwrap();
    let two = File::open(&reader).unwrap();
    drop((one, two));
    File::create(&temp.0, 100).unwrap();
    assert_eq!(std::fs::read(&temp.0).unwrap(), vec![0; 100]);
}

#[test]
fn a_folder_is_no_image_and_a_device_of_characters_an_empty_one() {
    for (auto_read_only, message) in [
        (false, "Could not open '/tmp': Is a directory"),
        (true, "'file' driver requires '/tmp' to be a regular file"),
    ] {
        let options = FileOptions { auto_read_only, ..FileOptions::new("/tmp") };
        assert_eq!(File::open(&options).err().unwrap().to_string(), message);
    }
    let null = File::open(&FileOptions::new("/dev/null")).unwrap();
    assert_eq!((null.size(), null.info().driver), (0, "host_device"));
}

#[test]
fn a_null_disk_has_bounds_and_reads_zeroes_on_request() {
    let null = Null::new(1024, true);
    let mut buf = [1; 512];
    null.read_at(512, &mut buf).unwrap();
    assert_eq!(buf, [0; 512]);
    assert!(null.write_at(1000, &[0; 100], PLAIN).is_err());
}

#[test]
fn a_null_device_takes_its_time() {
    let slow = Null::new(1024, true).with_latency(Duration::from_millis(20));
    let begun = std::time::Instant::now();
    slow.read_at(0, &mut [1; 512]).unwrap();
    slow.flush().unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(40));
    assert!(!slow.read_cached(0, &mut [1; 512]), "nothing is there at once");
}

/// As of a process that was killed: the kernel still ends its requests.
#[test]
fn a_lock_that_no_process_holds_is_waited_for() {
    let temp = Temp::new("orphan", &[1; 512]);
    let file = std::fs::File::open(&temp.0).unwrap();
    let nobody_else_writes = 201;
    host::file::lock_shared(&file, nobody_else_writes, 1).unwrap();
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let on_the_way = [file.as_fd()];
    assert!(control.push(SendAncillaryMessage::ScmRights(&on_the_way)));
    sendmsg(&ours, &[IoSlice::new(&[0])], &mut control, SendFlags::empty()).unwrap();
    drop(file);
    std::thread::scope(|scope| {
        let opened = scope.spawn(|| {
            let access = Access::FORMAT_WRITE;
            File::open(&FileOptions { access, ..temp.options() }).map(|_| ())
        });
        // Longer than what is held for a moment only is waited for.
        std::thread::sleep(Duration::from_millis(200));
        drop((ours, theirs));
        opened.join().unwrap().unwrap();
    });
}
