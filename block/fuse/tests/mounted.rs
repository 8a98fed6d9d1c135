//! Mounts disks for real, which needs root and /dev/fuse, and works on them as files.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use fuse::{AllowOther, Mounted, Options, Rules};
use graph::{Memory, Node};

struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("fuse-{name}-{}", std::process::id()));
        File::create(&path).unwrap();
        Self(path)
    }

    fn text(&self) -> String {
        self.0.display().to_string()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn mounted(
    place: &Place,
    bytes: Vec<u8>,
    writable: bool,
    growable: bool,
) -> (Arc<Memory>, Mounted) {
    let disk = Arc::new(Memory::new(bytes, false));
    let options = Options {
        mountpoint: place.text(),
        rules: Rules { writable, growable },
        allow_other: AllowOther::Auto,
    };
    let node = Arc::clone(&disk) as Arc<dyn Node>;
    (disk, Mounted::new(node, &options).unwrap())
}

fn must(program: &str, args: &[&str]) -> String {
    let out =
        Command::new(program).args(args).output().unwrap_or_else(|e| panic!("{program}: {e}"));
    let errors = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.success(), "{program} {args:?}: {errors}");
    String::from_utf8_lossy(&out.stdout).into_owned()
}

#[test]
fn a_disk_is_a_file_that_others_can_read() {
    let place = Place::new("read");
    let content: Vec<u8> = (0..3_000_000_u32).map(|i| ((i * 7) >> 5) as u8).collect();
    let (_disk, mounted) = mounted(&place, content.clone(), false, false);
    let meta = std::fs::metadata(&place.0).unwrap();
    assert_eq!((meta.len(), meta.mode()), (3_000_000, 0o100_400));
    assert_eq!(std::fs::read(&place.0).unwrap(), content);
    let copy = Place::new("copy");
    must("cp", &[&place.text(), &copy.text()]);
    must("cmp", &[&place.text(), &copy.text()]);
    let write = OpenOptions::new().write(true).open(&place.0);
    let failed = write.and_then(|file| file.write_at(&[1], 0).map(|_| ())).unwrap_err();
    assert_eq!(failed.raw_os_error(), Some(13));
    // The kernel tells of a closed file a little later.
    while mounted.is_used() {
        std::thread::yield_now();
    }
    let held = File::open(&place.0).unwrap();
    assert!(mounted.is_used());
    drop(mounted);
    assert_eq!(std::fs::metadata(&place.0).unwrap().len(), 0, "the file below is there again");
    assert!(held.metadata().is_err(), "nobody answers any more");
}

#[test]
fn writes_and_holes_reach_the_disk() {
    let place = Place::new("write");
    let (disk, mounted) = mounted(&place, vec![7; 1 << 20], true, false);
    let file = OpenOptions::new().read(true).write(true).open(&place.0).unwrap();
    file.write_all_at(&[1; 100_001], 333).unwrap();
    file.sync_all().unwrap();
    must("fallocate", &["-p", "-o", "4096", "-l", "8192", &place.text()]);
    must("fallocate", &["-z", "-o", "500000", "-l", "1000", &place.text()]);
    let mut want = vec![7; 1 << 20];
    want[333..100_334].fill(1);
    want[4096..12288].fill(0);
    want[500_000..501_000].fill(0);
    assert!(disk.snapshot() == want);
    let mut back = vec![0; 1 << 20];
    file.read_exact_at(&mut back, 0).unwrap();
    assert!(back == want);
    let failed = file.write_at(&[1], 1 << 20).unwrap_err();
    assert_eq!(failed.raw_os_error(), Some(28), "a disk that does not grow is full");
    assert_eq!(file.write_at(&[1; 10], (1 << 20) - 4).unwrap(), 4);
    drop(file);
    mounted.close();
    assert!(std::fs::read(&place.0).unwrap().is_empty());
}

#[test]
fn a_disk_that_may_grow_does() {
    let place = Place::new("grow");
    let (disk, _mounted) = mounted(&place, vec![7; 1000], true, true);
    let file = OpenOptions::new().write(true).open(&place.0).unwrap();
    file.write_all_at(&[1; 10], 5000).unwrap();
    assert_eq!((file.metadata().unwrap().len(), disk.size()), (5010, 5010));
    file.set_len(100).unwrap();
    assert_eq!(disk.snapshot(), [7; 100]);
    must("fallocate", &["-o", "0", "-l", "2000", &place.text()]);
    assert_eq!(disk.size(), 2000);
}

#[test]
fn several_programs_write_at_once() {
    let place = Place::new("parallel");
    let (disk, _mounted) = mounted(&place, vec![0; 8 << 20], true, false);
    std::thread::scope(|scope| {
        for n in 0..8_u8 {
            let path = &place.0;
            scope.spawn(move || {
                let file = OpenOptions::new().write(true).open(path).unwrap();
                for at in 0..64_u64 {
                    let offset = (at * 8 + u64::from(n)) * 16384;
                    file.write_all_at(&[n + 1; 16384], offset).unwrap();
                }
            });
        }
    });
    let content = disk.snapshot();
    let good = |(i, b): (usize, &u8)| *b == (i / 16384 % 8) as u8 + 1;
    assert!(content.iter().enumerate().all(good));
}

#[test]
fn a_file_system_lives_on_it() {
    let place = Place::new("ext4");
    let (_disk, _mounted) = mounted(&place, vec![0; 16 << 20], true, false);
    must("mkfs.ext4", &["-q", "-F", &place.text()]);
    must("e2fsck", &["-f", "-n", &place.text()]);
    let folder = std::env::temp_dir().join(format!("fuse-mnt-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    must("mount", &["-o", "loop", &place.text(), &folder.display().to_string()]);
    let content: Vec<u8> = (0..2_000_000_u32).map(|i| ((i * 31) >> 3) as u8).collect();
    let written = std::fs::write(folder.join("x"), &content);
    let back = std::fs::read(folder.join("x"));
    must("umount", &[&folder.display().to_string()]);
    written.unwrap();
    assert!(back.unwrap() == content);
    must("e2fsck", &["-f", "-n", &place.text()]);
    let _ = std::fs::remove_dir(&folder);
}

#[test]
fn mount_points_must_be_regular_files() {
    let said = |name: &str| {
        let disk = Arc::new(Memory::new(vec![0; 512], false));
        let options = Options { mountpoint: name.to_owned(), ..Options::default() };
        Mounted::new(disk, &options).map(|_| ()).unwrap_err().to_string()
    };
    assert_eq!(said("/none"), "Failed to stat '/none': No such file or directory");
    assert_eq!(said("/tmp"), "'/tmp' is not a regular file");
}
