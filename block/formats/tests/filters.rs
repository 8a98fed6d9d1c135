//! Filters opened by their options, on images in files.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{Folder, create_image, must, open_options, read_all, try_open_options};
use formats::{HostFiles, ImageSpec, open_image};
use graph::throttle::Group;
use graph::{ExtentKind, OpenError, Secrets, WriteFlags};
use std::sync::Arc;

#[test]
fn what_is_read_is_kept_down_to_the_bottom() {
    let folder = Folder::new("cor");
    let (base, middle, top) = (folder.path("base"), folder.path("middle"), folder.path("top"));
    create_image("qcow2", &base, "size=1048576");
    must("qemu-io", &["-f", "qcow2", "-c", "write -P 1 0 128k", &base]);
    create_image("qcow2", &middle, &format!("size=1048576,backing_file={base},backing_fmt=qcow2"));
    must("qemu-io", &["-f", "qcow2", "-c", "write -P 2 64k 64k", &middle]);
    for bottomed in [false, true] {
        create_image(
            "qcow2",
            &top,
            &format!("size=1048576,backing_file={middle},backing_fmt=qcow2"),
        );
        let mut options = format!(
            "driver=copy-on-read,file.driver=qcow2,file.file.driver=file,file.file.filename={top},\
             file.backing.driver=qcow2,file.backing.node-name=mid,file.backing.file.driver=file,\
             file.backing.file.filename={middle}"
        );
        if bottomed {
            options.push_str(",bottom=mid");
        }
        let node = open_options(&options, true);
        let mut buf = vec![0; 100 << 10];
        node.read_at(10 << 10, &mut buf).unwrap();
        assert_eq!((buf[0], buf[60 << 10]), (1, 2));
        let kind = |at| node.block_status(at, 4096).unwrap().kind;
        let first = if bottomed { ExtentKind::Unallocated } else { ExtentKind::Data };
        assert_eq!((kind(0), kind(64 << 10)), (first, ExtentKind::Data));
        assert_eq!(kind(512 << 10), ExtentKind::Unallocated, "nobody read it");
        drop(node);
        must("qemu-img", &["check", "-q", "-f", "qcow2", &top]);
        must("qemu-img", &["compare", "-q", &top, &middle]);
    }
    let bad = format!("driver=copy-on-read,bottom=x,file.driver=file,file.filename={base}");
    let said = try_open_options(&bad, true).map(|_| ()).unwrap_err().to_string();
    assert_eq!(said, "Bottom node 'x' not found");
}

#[test]
fn writes_through_compress_are_compressed() {
    let folder = Folder::new("compress");
    let path = folder.path("image");
    create_image("qcow2", &path, "size=1000000");
    let options = format!(
        "driver=compress,file.driver=qcow2,file.file.driver=file,file.file.filename={path}"
    );
    let node = open_options(&options, true);
    let mut content = vec![0; node.size() as usize];
    for (at, len, byte) in [(0, 65536, 1), (70_000, 200_000, 2), (999_000, 1000, 3), (100, 5, 4)] {
        let buf = vec![byte; len];
        node.write_at(at as u64, &buf, WriteFlags::default()).unwrap();
        content[at..at + len].copy_from_slice(&buf);
    }
    node.flush().unwrap();
    assert!(read_all(&*node)[..content.len()] == content);
    for at in [0, 70_000, 999_900] {
        assert_eq!(node.block_status(at, 10).unwrap().kind, ExtentKind::Compressed);
    }
    drop(node);
    must("qemu-img", &["check", "-q", "-f", "qcow2", &path]);
    must("qemu-io", &["-f", "qcow2", "-r", "-c", "read -P 2 70000 200000", &path]);
}

#[test]
fn an_error_in_the_middle_leaves_an_image_that_can_be_repaired() {
    let folder = Folder::new("blkdebug");
    let path = folder.path("image");
    let events = [
        "l1_update",
        "l2_load",
        "l2_update",
        "l2_alloc_write",
        "read_aio",
        "write_aio",
        "refblock_load",
        "refblock_update_part",
        "cluster_alloc",
        "flush_to_os",
        "flush_to_disk",
        "cow_read",
        "cow_write",
        "pwritev",
        "pwritev_zero",
        "pwritev_done",
    ];
    for event in events {
        create_image("qcow2", &path, "size=1048576");
        let options = format!(
            "driver=qcow2,file.driver=blkdebug,file.inject-error.0.event={event},\
             file.inject-error.0.once=on,file.image.driver=file,file.image.filename={path}"
        );
        let node = open_options(&options, true);
        for at in [0, 300_000, 100] {
            // One of these fails, or a flush.
            let _ = node.write_at(at, &[7; 100], WriteFlags::default());
            let _ = node.flush();
        }
        node.write_at(0, &[9; 100], WriteFlags::default()).unwrap();
        node.flush().unwrap_or_else(|e| panic!("{event}: {e}"));
        drop(node);
        must("qemu-img", &["check", "-q", "-r", "leaks", "-f", "qcow2", &path]);
        must("qemu-io", &["-f", "qcow2", "-r", "-c", "read -P 9 0 100", &path]);
    }
}

struct Groups(Arc<Group>);

impl Secrets for Groups {
    fn secret(&self, id: &str) -> Result<Vec<u8>, OpenError> {
        Err(OpenError::Option(id.to_owned()))
    }

    fn throttle_group(&self, id: &str) -> Option<Arc<Group>> {
        (id == self.0.name()).then(|| Arc::clone(&self.0))
    }
}

#[test]
fn a_throttled_image_belongs_to_its_group() {
    let folder = Folder::new("throttle");
    let path = folder.path("image");
    create_image("raw", &path, "size=1048576");
    let limits = [("x-iops-write".to_owned(), "1".to_owned())];
    let group = Groups(Group::parse("g", limits).unwrap());
    let open = |name: &str| {
        let options =
            format!("driver=throttle,throttle-group={name},file.driver=file,file.filename={path}");
        let spec =
            ImageSpec { name: &options, complete: true, writable: true, ..ImageSpec::default() };
        open_image(&spec, &HostFiles, &group)
    };
    let said = open("h").map(|_| ()).unwrap_err().to_string();
    assert_eq!(said, "Throttle group 'h' does not exist");
    let opened = open("g").unwrap();
    let node = opened.node;
    node.write_at(0, &[1], WriteFlags::default()).unwrap();
    let second = {
        let node = Arc::clone(&node);
        std::thread::spawn(move || node.write_at(1, &[2], WriteFlags::default()))
    };
    while group.0.waiting() == 0 {
        std::thread::yield_now();
    }
    group.0.set_limits(graph::throttle::Limits::default());
    second.join().unwrap().unwrap();
    let mut both = [0; 2];
    node.read_at(0, &mut both).unwrap();
    assert_eq!(both, [1, 2]);
}
