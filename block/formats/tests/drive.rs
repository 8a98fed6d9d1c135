//! Drives from their options: formats, policies, refusals in QEMU's words, locks against QEMU.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod common;

use std::io::Write;
use std::process::{Command, Stdio};

use common::*;
use formats::{DriveOptions, HostFiles, Objects, Opened, add_blockdev, open_drive};
use graph::{Graph, NoSecrets, OpenError, WriteFlags};

fn pairs(text: &str) -> Vec<(String, String)> {
    let pair = |p: &str| p.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned())).unwrap();
    text.split(',').filter(|p| !p.is_empty()).map(pair).collect()
}

fn drive(text: &str) -> Result<Opened, OpenError> {
    open_drive(&DriveOptions::parse(pairs(text))?, &HostFiles, &Graph::new(), &NoSecrets)
}

fn refusal<T>(result: Result<T, OpenError>) -> String {
    result.err().map(|e| e.to_string()).expect("it should have been refused")
}

#[test]
fn refusals_are_worded_as_the_peer_words_them() {
    let folder = Folder::new("refusals");
    let raw = folder.path("g.raw");
    std::fs::write(&raw, vec![0; 1 << 20]).unwrap();
    let cases = [
        ("file=nofile", "Could not open 'nofile': No such file or directory"),
        ("file=RAW,format=foo", "Unknown driver 'foo'"),
        ("file=RAW,format=qcow2", "Image is not in qcow2 format"),
        ("file=RAW,format=raw,cache=foo", "invalid cache option"),
        ("file=RAW,format=raw,aio=foo", "invalid aio option"),
        ("file=RAW,format=raw,discard=foo", "Invalid discard option"),
        ("file=RAW,format=raw,detect-zeroes=foo", "invalid parameter value: foo"),
        ("file=RAW,format=raw,readonly=foo", "Parameter 'read-only' expects 'on' or 'off'"),
        ("file=RAW,format=raw,bogus=1", "Block format 'raw' does not support the option 'bogus'"),
        ("format=raw", "A block device must be specified for \"file\""),
        (
            "file=RAW,format=raw,aio=native",
            "aio=native was specified, but it requires cache.direct=on, which was not specified.",
        ),
        ("file=/tmp,format=raw", "'file' driver requires '/tmp' to be a regular file"),
        ("file=foo:bar", "Unknown protocol 'foo'"),
        ("file=rbd:foo", "rbd: not supported yet: this block driver"),
    ];
    for (text, wanted) in cases {
        let text = text.replace("RAW", &raw);
        assert_eq!(refusal(drive(&text)), wanted, "{text}");
    }
    let cases = [
        ("driver=raw,file=RAW", "'node-name' must be specified for the root node"),
        (
            "driver=raw,file=nonode,node-name=a",
            "Cannot find device='nonode' nor node-name='nonode'",
        ),
        ("driver=foo,node-name=a", "Parameter 'driver' does not accept value 'foo'"),
        ("node-name=a", "Parameter 'driver' is missing"),
        ("driver=raw,node-name=a", "Parameter 'file' is missing"),
        ("driver=null-co,node-name=a,size=x", "Parameter 'size' expects integer"),
        ("driver=raw,node-name=1a,file.filename=RAW", "Invalid node-name: '1a'"),
        ("driver=raw,node-name=a,file.filename=RAW,bogus=1", "Parameter 'bogus' is unexpected"),
        (
            "driver=raw,node-name=a,file.driver=file,file.filename=RAW,file.bog=1",
            "Parameter 'file.bog' is unexpected",
        ),
        ("driver=qcow2,node-name=a,file.filename=RAW", "Image is not in qcow2 format"),
    ];
    for (text, wanted) in cases {
        let pairs = pairs(&text.replace("RAW", &raw));
        let result = add_blockdev(pairs, &HostFiles, &Graph::new(), &NoSecrets);
        assert_eq!(refusal(result), wanted, "{text}");
    }
}

#[test]
fn a_guessed_raw_image_cannot_be_given_another_format_by_the_guest() {
    let folder = Folder::new("guess");
    let raw = folder.path("g.raw");
    std::fs::write(&raw, vec![0; 1 << 20]).unwrap();
    let opened = drive(&format!("file={raw}")).unwrap();
    let wanted =
        format!("WARNING: Image format was not specified for '{raw}' and probing guessed raw.");
    assert_eq!(opened.warnings[0], wanted);
    let plain = WriteFlags::default();
    assert!(opened.disk.write_at(0, b"QFI\xfb\0\0\0\x03", plain).is_err());
    opened.disk.write_at(4, &[0, 0, 0, 3], plain).unwrap();
    assert!(opened.disk.write_at(0, b"QFI\xfb", plain).is_err(), "not in two steps either");
    opened.disk.write_at(0, b"\xebboot", plain).unwrap();
    drop(opened);
    let opened = drive(&format!("file={raw},format=raw")).unwrap();
    assert!(opened.warnings.is_empty());
    opened.disk.write_at(0, b"QFI\xfb\0\0\0\x03", plain).unwrap();
}

#[test]
fn snapshot_on_leaves_the_image_alone() {
    let folder = Folder::new("snapshot-on");
    let raw = folder.path("base.raw");
    std::fs::write(&raw, vec![7; 1 << 20]).unwrap();
    let disk = drive(&format!("file={raw},format=raw,snapshot=on")).unwrap().disk;
    disk.write_at(5000, &[1; 9000], WriteFlags { fua: true }).unwrap();
    let mut now = vec![0; 20_000];
    disk.read_at(0, &mut now).unwrap();
    let mut wanted = vec![7; 20_000];
    wanted[5000..14_000].fill(1);
    assert!(now == wanted);
    assert!(std::fs::read(&raw).unwrap().iter().all(|b| *b == 7));
}

#[test]
fn a_chain_of_relative_backing_files_is_opened_from_anywhere() {
    let folder = Folder::new("chain");
    let (raw, mid, top) = (folder.path("base.raw"), folder.path("mid.q"), folder.path("top.q"));
    std::fs::write(&raw, vec![9; 1 << 20]).unwrap();
    must("qemu-img", &["create", "-q", "-f", "qcow2", "-b", "base.raw", "-F", "raw", &mid]);
    must("qemu-img", &["create", "-q", "-f", "qcow2", "-b", "mid.q", "-F", "qcow2", &top]);
    let disk = drive(&format!("file={top}")).unwrap().disk;
    let mut byte = [0];
    disk.read_at(70_000, &mut byte).unwrap();
    assert_eq!(byte, [9]);
    drop(disk);
    std::fs::remove_file(&raw).unwrap();
    let text = refusal(drive(&format!("file={top}")));
    let wanted =
        format!("Could not open backing file: Could not open '{raw}': No such file or directory");
    assert_eq!(text, wanted);
    must("qemu-img", &["rebase", "-u", "-f", "qcow2", "-b", "top.q", "-F", "qcow2", &mid]);
    let text = refusal(drive(&format!("file={top},readonly=on")));
    assert!(text.contains("does the chain loop?"), "{text}");
}

#[test]
fn blockdevs_refer_to_each_other_by_name() {
    let folder = Folder::new("blockdev");
    let path = folder.path("image.q");
    must("qemu-img", &["create", "-q", "-f", "qcow2", &path, "1M"]);
    let graph = Graph::new();
    let file = format!("driver=file,node-name=f,filename={path},discard=unmap");
    add_blockdev(pairs(&file), &HostFiles, &graph, &NoSecrets).unwrap();
    let image = "driver=qcow2,node-name=q,file=f,discard=unmap,detect-zeroes=unmap";
    add_blockdev(pairs(image), &HostFiles, &graph, &NoSecrets).unwrap();
    let disk = graph.disk("q").unwrap();
    assert!(disk.discards());
    disk.write_at(0, &[1; 65536], WriteFlags::default()).unwrap();
    disk.write_at(0, &[0; 65536], WriteFlags::default()).unwrap();
    let status = disk.node().block_status(0, 65536).unwrap();
    assert_ne!(status.kind, graph::ExtentKind::Data);
    let again = add_blockdev(pairs(image), &HostFiles, &graph, &NoSecrets);
    assert_eq!(refusal(again), "Duplicate nodes with node-name='q'");
}

#[test]
fn direct_and_write_through_modes_store_the_same_bytes() {
    let folder = Folder::new("cache");
    for cache in ["writeback", "none", "writethrough", "directsync", "unsafe"] {
        for format in ["raw", "qcow2"] {
            let path = folder.path(&format!("{cache}.{format}"));
            must("qemu-img", &["create", "-q", "-f", format, &path, "1M"]);
            let disk = drive(&format!("file={path},format={format},cache={cache}")).unwrap().disk;
            assert_eq!(disk.write_cache(), !matches!(cache, "writethrough" | "directsync"));
            let mut model = vec![0; 1 << 20];
            let mut random = Random(9);
            for i in 0..40 {
                let at = random.below(1 << 20);
                let len = (random.below(9000) + 1).min((1 << 20) - at);
                let data = vec![i as u8 + 1; len as usize];
                disk.write_at(at, &data, WriteFlags::default()).unwrap();
                model[at as usize..(at + len) as usize].copy_from_slice(&data);
            }
            let mut now = vec![0; 1 << 20];
            disk.read_at(0, &mut now).unwrap();
            assert!(now == model, "{cache} {format}");
            drop(disk);
            let raw = folder.path("model");
            std::fs::write(&raw, &model).unwrap();
            must("qemu-img", &["compare", "-f", format, "-F", "raw", &path, &raw]);
        }
    }
}

#[test]
fn an_image_the_peer_has_open_is_refused_with_its_name() {
    let folder = Folder::new("locked-by-peer");
    let path = folder.path("image.q");
    must("qemu-img", &["create", "-q", "-f", "qcow2", &path, "1M"]);
    let mut peer = Command::new("qemu-io")
        .args(["-f", "qcow2", &path])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("install the package qemu-utils");
    // The answer to a command shows that the image is open.
    let mut input = peer.stdin.take().unwrap();
    let mut output = peer.stdout.take().unwrap();
    input.write_all(b"length\n").unwrap();
    let mut answer = Vec::new();
    while !answer.windows(5).any(|w| w == b"1 MiB") {
        let mut byte = [0];
        std::io::Read::read_exact(&mut output, &mut byte).unwrap();
        answer.push(byte[0]);
    }
    let text = refusal(drive(&format!("file={path},format=qcow2")));
    let wanted = format!(
        "Failed to get \"write\" lock\nIs another process using the image [{path}]? It is held \
         by qemu-io (pid {}).",
        peer.id()
    );
    assert_eq!(text, wanted);
    let text = refusal(drive(&format!("file={path},format=qcow2,readonly=on")));
    assert!(text.starts_with("Failed to get shared \"write\" lock\n"), "{text}");
    let unlocked = format!("file={path},format=qcow2,readonly=on,force-share=on");
    drive(&unlocked).unwrap();
    drop(input);
    peer.wait().unwrap();
    drive(&format!("file={path},format=qcow2")).unwrap();
}

#[test]
fn an_image_we_have_open_is_refused_by_the_peer() {
    let folder = Folder::new("locked-by-us");
    for format in ["qcow2", "raw"] {
        let path = folder.path(&format!("image.{format}"));
        must("qemu-img", &["create", "-q", "-f", format, &path, "1M"]);
        let disk = drive(&format!("file={path},format={format}")).unwrap().disk;
        let out = tool("qemu-io", &["-f", format, "-c", "write 0 512", &path]);
        let text = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(text.contains("Failed to get \"write\" lock"), "{text}");
        if format == "qcow2" {
            let out = tool("qemu-img", &["info", &path]);
            let text = String::from_utf8_lossy(&out.stderr).into_owned();
            assert!(text.contains("Failed to get shared \"write\" lock"), "{text}");
        }
        must("qemu-img", &["info", "-U", &path]);
        drop(disk);
        must("qemu-io", &["-f", format, "-c", "write 0 512", &path]);
    }
}

#[test]
fn json_names_are_options_and_secrets_open_encrypted_images() {
    let folder = Folder::new("json-drive");
    let path = folder.path("secret.q");
    let object = "secret,id=s,data=correct";
    let options = "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10";
    let create = ["create", "-q", "--object", object, "-f", "qcow2", "-o", options, &path, "1M"];
    must("qemu-img", &create);
    let open = |file: String, object: &str| {
        let objects = Objects::parse([object].into_iter()).unwrap();
        let options = DriveOptions { file: Some(file), ..DriveOptions::default() };
        open_drive(&options, &HostFiles, &Graph::new(), &objects)
    };
    let json = format!(
        r#"json:{{"driver": "qcow2", "file": {{"driver": "file", "filename": "{path}"}}, "encrypt.key-secret": "s"}}"#
    );
    let disk = open(json.clone(), object).unwrap().disk;
    disk.write_at(5000, b"hidden", WriteFlags::default()).unwrap();
    disk.flush().unwrap();
    drop(disk);
    let (mut found, disk) = ([0; 6], open(json.clone(), object).unwrap().disk);
    disk.read_at(5000, &mut found).unwrap();
    assert_eq!(&found, b"hidden");
    drop(disk);
    for (file, object, wanted) in [
        (json.as_str(), "secret,id=s,data=wrong", "Invalid password, cannot unlock any keyslot"),
        (&json, "secret,id=t,data=correct", "No secret with id 's'"),
        (&path, object, "Parameter 'encrypt.key-secret' is required for cipher"),
        (
            "json:x",
            object,
            "Could not parse the JSON options: JSON parse error, invalid keyword 'x'",
        ),
        ("json:[1]", object, "Invalid JSON object given"),
        (r#"json:{"driver": "nope"}"#, object, "Unknown driver 'nope'"),
    ] {
        assert_eq!(refusal(open(file.to_owned(), object)), wanted, "{file}");
    }
}

#[test]
fn drives_keep_what_they_read_and_wait_for_their_group() {
    let folder = Folder::new("filtered-drive");
    let (base, top) = (folder.path("base.q"), folder.path("top.q"));
    must("qemu-img", &["create", "-q", "-f", "qcow2", &base, "1M"]);
    must("qemu-io", &["-f", "qcow2", "-c", "write -P 5 0 128k", &base]);
    must("qemu-img", &["create", "-q", "-f", "qcow2", "-b", &base, "-F", "qcow2", &top]);
    let mut limits = graph::throttle::Limits::default();
    assert!(limits.set("iops-total", 1_000_000));
    let group = graph::throttle::Group::new("g", limits);
    let mut options = DriveOptions::parse(pairs(&format!("file={top}"))).unwrap();
    (options.copy_on_read, options.throttle) = (true, Some(group));
    let disk = open_drive(&options, &HostFiles, &Graph::new(), &NoSecrets).unwrap().disk;
    assert_eq!(disk.node().info().driver, "throttle");
    let mut read = vec![0; 4096];
    disk.read_at(65536, &mut read).unwrap();
    assert_eq!(read, [5; 4096]);
    drop(disk);
    let map = must("qemu-img", &["map", "--output=json", &top]);
    assert!(map.contains(r#""start": 65536, "length": 65536, "depth": 0"#), "{map}");
    assert!(map.contains(r#""start": 0, "length": 65536, "depth": 1"#), "{map}");
}
