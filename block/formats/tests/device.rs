//! `host_device` and `host_cdrom` on loop devices, side by side with QEMU's tools.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod common;
#[path = "common/device.rs"]
mod device;

use std::fs::File;
use std::os::unix::fs::FileExt;

use common::*;
use device::{Loop, as_root};
use formats::{Gate, HostFiles, NewFile, Raw};
use graph::{WriteFlags, ZeroFlags};

/// Length of the file behind a device: no whole number of large blocks.
const SIZE: u64 = (4 << 20) + 512;

fn on_device(name: &str, block: u32, size: u64) -> (Folder, String, Loop) {
    let folder = Folder::new(name);
    let path = folder.path("file");
    File::create(&path).unwrap().set_len(size).unwrap();
    let device = Loop::on(&path, block);
    (folder, path, device)
}

#[test]
fn a_device_holds_what_was_written_however_it_is_opened() {
    for (block, size) in [(512, SIZE), (4096, 4 << 20)] {
        for how in
            ["", ",cache.direct=on", ",file.aio=io_uring", ",cache.direct=on,file.aio=native"]
        {
            let (_folder, path, device) = on_device("device-content", block, size);
            let name = format!(
                "driver=raw,discard=unmap,file.driver=host_device,file.filename={}{how}",
                device.path
            );
            let node = open_options(&name, true);
            assert_eq!(node.size(), size, "{how}");
            let mut model = vec![0u8; size as usize];
            let mut random = Random(u64::from(block));
            for round in 0..300u32 {
                // The end of the device again and again.
                let at = if round % 8 == 0 { size - 700 } else { random.below(size - 700) };
                let len = (random.below(20_000) + 1).min(size - at);
                let range = at as usize..(at + len) as usize;
                if round % 4 == 0 {
                    model[range].fill(0);
                    let flags = ZeroFlags { unmap: round % 3 == 0, fua: false };
                    node.write_zeroes(at, len, flags).unwrap();
                } else {
                    model[range.clone()].fill(round as u8);
                    node.write_at(at, &model[range], WriteFlags::default()).unwrap();
                }
            }
            node.flush().unwrap();
            assert!(read_all(&*node) == model, "{how} with blocks of {block}");
            drop(node);
            assert!(std::fs::read(&path).unwrap() == model, "{how} with blocks of {block}");
        }
    }
}

#[test]
fn discards_reach_the_device_in_whole_blocks() {
    let (_folder, path, device) = on_device("device-discard", 512, 4 << 20);
    let name =
        format!("driver=raw,discard=unmap,file.driver=host_device,file.filename={}", device.path);
    let node = open_options(&name, true);
    node.write_at(0, &vec![1; 1 << 20], WriteFlags::default()).unwrap();
    node.flush().unwrap();
    node.discard(65536, 65536).unwrap();
    assert!(node.discard(1, 511).is_err(), "a part of a block");
    node.discard(131_072, 65536).unwrap();
    let extents = std::fs::metadata(&path).unwrap();
    use std::os::unix::fs::MetadataExt;
    assert_eq!(extents.blocks() * 512, (1 << 20) - 131_072);
    let mut bytes = vec![9; 131_072];
    node.read_at(65536, &mut bytes).unwrap();
    assert_eq!(bytes, vec![0; 131_072]);
}

#[test]
fn devices_and_files_are_not_taken_for_each_other() {
    let (folder, path, device) = on_device("device-kinds", 512, 1 << 20);
    let device = device.path.as_str();
    for (name, refusal) in [
        (format!("driver=raw,file.driver=file,file.filename={device}"), true),
        (format!("driver=raw,file.driver=host_device,file.filename={path}"), true),
        (format!("driver=raw,file.driver=host_cdrom,file.filename={path}"), true),
        ("driver=raw,file.driver=host_device,file.filename=/tmp".to_owned(), true),
        ("driver=raw,file.driver=host_cdrom,file.filename=/dev/nothing".to_owned(), true),
        ("driver=raw,file.driver=file,file.filename=/dev/null".to_owned(), true),
        (format!("driver=raw,file.driver=host_device,file.filename={device}"), false),
        (format!("driver=raw,file.driver=host_cdrom,file.filename={device}"), false),
    ] {
        let ours = try_open_options(&name, false);
        let theirs = tool("qemu-img", &["info", "--image-opts", &name]);
        let text = String::from_utf8_lossy(&theirs.stderr).into_owned();
        match ours {
            Ok(node) => {
                assert!(!refusal && theirs.status.success(), "{name}: {text}");
                let said = String::from_utf8_lossy(&theirs.stdout).into_owned();
                let driver = node.children()[0].node.info().driver;
                assert!(said.contains(&format!("protocol type: {driver}\n")), "{said}");
            }
            Err(e) => assert_eq!(text, format!("qemu-img: Could not open '{name}': {e}\n")),
        }
    }
    for name in [device.to_owned(), format!("file:{device}"), format!("host_device:{device}")] {
        let spec = formats::ImageSpec { name: &name, format: Some("raw"), ..Default::default() };
        let opened = formats::open_image(&spec, &HostFiles, &graph::NoSecrets).unwrap();
        assert_eq!(opened.node.children()[0].node.info().driver, "host_device", "{name}");
    }
    drop(folder);
}

#[test]
fn a_device_has_the_length_it_has() {
    let (_folder, path, device) = on_device("device-length", 512, 1 << 20);
    std::fs::write(&path, vec![7; 1 << 20]).unwrap();
    let new = |size| NewFile { size, ..NewFile::default() };
    let refused = HostFiles.create(&device.path, &new(2 << 20)).err().unwrap();
    assert_eq!(refused.to_string(), format!("{}: Cannot grow device files", device.path));
    let made = HostFiles.create(&device.path, &new(512 << 10)).unwrap();
    assert_eq!(made.size(), 1 << 20);
    let mut start = [9; 1024];
    made.read_at(0, &mut start).unwrap();
    assert_eq!(start, *[[0; 512], [7; 512]].concat(), "what it was is not to be recognised");
    let image = Raw::new(made);
    for size in [512 << 10, 2 << 20] {
        let refused = graph::Image::resize(&image, size, graph::Preallocation::Off).unwrap_err();
        assert_eq!(refused.to_string(), "Cannot resize device files");
    }
}

#[test]
fn a_device_that_nobody_may_write_is_only_read() {
    let (_folder, path, device) = on_device("device-read-only", 512, 1 << 20);
    File::options().write(true).open(&path).unwrap().write_all_at(b"content", 0).unwrap();
    as_root(&["blockdev", "--setro", &device.path]);
    let name = format!("driver=raw,file.driver=host_device,file.filename={}", device.path);
    let refused = try_open_options(&name, true).err().unwrap().to_string();
    assert_eq!(refused, "The device is not writable: Permission denied");
    let theirs = tool("qemu-io", &["--image-opts", "-c", "write 0 512", &name]);
    let theirs = String::from_utf8_lossy(&theirs.stderr).into_owned();
    assert_eq!(theirs, format!("qemu-io: can't open: {refused}\n"));
    let node = open_options(&format!("{name},file.auto-read-only=on,read-only=on"), false);
    let mut start = [0; 7];
    node.read_at(0, &mut start).unwrap();
    assert_eq!(&start, b"content");
}
