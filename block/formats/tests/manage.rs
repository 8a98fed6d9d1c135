//! What monitors do with nodes, on files, beside a user that writes all the time.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};

use common::*;
use formats::{HostFiles, Manager, SnapshotSync};
use graph::{Graph, GraphNodeKind, NoSecrets, Node, OpenError, Permissions, User, WriteFlags};

const PLAIN: WriteFlags = WriteFlags { fua: false };

fn pairs(text: &str) -> Vec<(String, String)> {
    let pair = |p: &str| p.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned())).unwrap();
    text.split(',').map(pair).collect()
}

fn refusal<T>(result: Result<T, OpenError>) -> String {
    result.err().map(|e| e.to_string()).expect("it should have been refused")
}

fn sync(node: &str, name: &str, file: &str) -> SnapshotSync {
    SnapshotSync {
        node: node.to_owned(),
        by_node_name: true,
        snapshot_node_name: Some(name.to_owned()).filter(|name| !name.is_empty()),
        snapshot_file: file.to_owned(),
        ..SnapshotSync::default()
    }
}

#[test]
fn snapshots_of_a_disk_that_is_written_hold_what_it_was() {
    let folder = Folder::new("live-snapshots");
    let (raw, size) = (folder.path("base.raw"), 1 << 20);
    std::fs::write(&raw, vec![0; size]).unwrap();
    let graph = Graph::new();
    let manager = Manager { graph: &graph, gate: &HostFiles, secrets: &NoSecrets };
    manager
        .add(pairs(&format!("driver=raw,node-name=n0,file.driver=file,file.filename={raw}")))
        .unwrap();
    let user = User::Device("d".to_owned());
    let disk = graph.attach(&graph.get("n0").unwrap(), user, Permissions::WRITER).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let (told, wait) = mpsc::channel();
    let writer = {
        let (disk, stop) = (Arc::clone(&disk), Arc::clone(&stop));
        std::thread::spawn(move || {
            let (mut model, mut round) = (vec![0; size], 0u64);
            while !stop.load(Ordering::SeqCst) {
                let (at, byte) = ((round * 7919 % 1900 * 512) as usize, (round % 255) as u8 + 1);
                model[at..at + 1024].fill(byte);
                disk.write_at(at as u64, &[byte; 1024], PLAIN).unwrap();
                round += 1;
                if round.is_multiple_of(50) {
                    told.send(()).unwrap();
                }
            }
            model
        })
    };
    let mut before = Vec::new();
    for n in 0..4 {
        wait.recv().unwrap();
        let (from, to) = (format!("n{n}"), format!("n{}", n + 1));
        let file = folder.path(&format!("{to}.qcow2"));
        manager.snapshot_sync(&sync(&from, &to, &file)).unwrap();
        let below = graph.get(&from).unwrap();
        let mut content = vec![0; size];
        below.node().read_at(0, &mut content).unwrap();
        before.push((below, content));
    }
    wait.recv().unwrap();
    stop.store(true, Ordering::SeqCst);
    let model = writer.join().unwrap();
    let mut content = vec![0; size];
    disk.read_at(0, &mut content).unwrap();
    assert!(content == model);
    for (n, (below, before)) in before.iter().enumerate() {
        below.node().read_at(0, &mut content).unwrap();
        assert!(content == *before, "what was below snapshot {n} has changed");
    }
    assert_eq!(graph.facts(&graph.get("n4").unwrap()).backing_depth, 4);
    drop((disk, before));
    graph.remove("n0").unwrap();
    assert!(graph.list().is_empty(), "overlays live as long as they are used");
    let wanted = folder.path("model");
    std::fs::write(&wanted, &model).unwrap();
    must("qemu-img", &["compare", "-f", "qcow2", "-F", "raw", &folder.path("n4.qcow2"), &wanted]);
}

#[test]
fn refusals_are_those_of_the_peer() {
    let folder = Folder::new("manage-refusals");
    let path = |name: &str| folder.path(name);
    for name in ["a.qcow2", "over.qcow2", "used.qcow2"] {
        must("qemu-img", &["create", "-q", "-f", "qcow2", &path(name), "1M"]);
    }
    std::fs::write(path("r.raw"), vec![0; 1 << 20]).unwrap();
    std::fs::write(path("s.raw"), vec![0; 1 << 20]).unwrap();
    let graph = Graph::new();
    let m = Manager { graph: &graph, gate: &HostFiles, secrets: &NoSecrets };
    let file = |driver: &str, node: &str, name: &str| {
        let file = path(name);
        pairs(&format!("driver={driver},node-name={node},file.driver=file,file.filename={file}"))
    };
    m.add(file("qcow2", "o", "a.qcow2")).unwrap();
    m.add(file("raw", "r", "r.raw")).unwrap();
    let mut read_only = file("raw", "ro", "s.raw");
    read_only.extend(pairs("read-only=on"));
    m.add(read_only).unwrap();
    m.add(pairs("driver=null-co,node-name=n1,size=1048576")).unwrap();
    for (name, size, wanted) in [
        ("nope", 1, "Cannot find device='nope' nor node-name='nope'"),
        ("o", -1, "Parameter 'size' expects a >0 size"),
        ("o", 1000, "The new size must be a multiple of 512"),
        ("ro", 2 << 20, "Image is read-only"),
        ("n1", 2 << 20, "Image format driver does not support resize"),
    ] {
        assert_eq!(refusal(m.resize(name, size)), wanted, "{name} {size}");
    }
    m.resize("o", 2 << 20).unwrap();
    m.resize("r", 1 << 19).unwrap();
    assert_eq!(std::fs::metadata(path("r.raw")).unwrap().len(), 1 << 19);
    let text = refusal(m.set_write_threshold("nope", 5, |_, _| {}));
    assert_eq!(text, "Device 'nope' not found");
    m.set_write_threshold("o", 5, |_, _| {}).unwrap();
    assert_eq!(graph.facts(&graph.get("o").unwrap()).write_threshold, 5);
    for (parent, child, node, wanted) in [
        ("nope", None, Some("n1"), "Cannot find device='nope' nor node-name='nope'"),
        ("r", None, Some("n1"), "The node r does not support adding a child"),
        ("r", None, Some("nope"), "Node 'nope' not found"),
        ("r", Some("nope"), None, "Node 'r' does not have child 'nope'"),
        ("r", Some("file"), None, "The node r does not support removing a child"),
        ("r", None, None, "Either child or node must be specified"),
    ] {
        assert_eq!(refusal(m.change_children(parent, child, node)), wanted);
    }
    m.add(file("qcow2", "ov", "over.qcow2")).unwrap();
    m.add(file("qcow2", "ov2", "used.qcow2")).unwrap();
    let device = User::Device(String::new());
    let export = Permissions::WRITER.sharing_writes();
    let _export = graph.attach(&graph.get("ov2").unwrap(), device, export).unwrap();
    let snapshots = |cases: &[(&str, &str, &str)]| {
        for (node, overlay, wanted) in cases {
            assert_eq!(refusal(m.snapshot(node, overlay)), *wanted, "{overlay} on {node}");
        }
    };
    snapshots(&[
        ("o", "nope", "Cannot find device='nope' nor node-name='nope'"),
        ("nope", "ov", "Cannot find device='nope' nor node-name='nope'"),
        ("o", "r", "The overlay does not support backing images"),
        ("o", "n1", "The overlay does not support backing images"),
        ("r", "ov2", "The overlay is already in use"),
    ]);
    m.snapshot("o", "ov").unwrap();
    snapshots(&[
        ("o", "ov", "Node 'o' is busy: node is used as backing hd of 'ov'"),
        ("r", "ov", "The overlay already has a backing image"),
    ]);
    let new = path("new.qcow2");
    let format =
        |format: &str| SnapshotSync { format: Some(format.to_owned()), ..sync("r", "s", &new) };
    let nowhere = path("nodir/n.qcow2");
    for (what, wanted) in [
        (sync("r", "", &new), "New overlay node-name missing".to_owned()),
        (sync("r", "o", &new), "New overlay node-name already in use".to_owned()),
        (sync("zz", "s", &new), "Cannot find device='' nor node-name='zz'".to_owned()),
        (sync("r", "1", &new), "Invalid node-name: '1'".to_owned()),
        (format("zz"), "Unknown file format 'zz'".to_owned()),
        (format("raw"), "Backing file not supported for file format 'raw'".to_owned()),
        (
            sync("r", "s", &nowhere),
            format!("Could not create '{nowhere}': No such file or directory"),
        ),
    ] {
        assert_eq!(refusal(m.snapshot_sync(&what)), wanted);
    }
    let text = "not allowing backing file change on an image without a backing file";
    assert_eq!(refusal(m.change_backing_file("r", "r", "zz")), text);
    m.change_backing_file("ov", "ov", "elsewhere").unwrap();
    let shown = tool("qemu-img", &["info", "-U", &path("over.qcow2")]);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(
        shown.contains("backing file: elsewhere") && shown.contains("backing file format: qcow2")
    );
}

#[test]
fn lists_show_nodes_users_and_permissions() {
    let folder = Folder::new("lists");
    let (base, top) = (folder.path("a.qcow2"), folder.path("o.qcow2"));
    must("qemu-img", &["create", "-q", "-f", "qcow2", &base, "1M"]);
    must("qemu-img", &["create", "-q", "-f", "qcow2", "-b", "a.qcow2", "-F", "qcow2", &top]);
    let graph = Graph::new();
    let m = Manager { graph: &graph, gate: &HostFiles, secrets: &NoSecrets };
    let node = format!("driver=qcow2,node-name=o,file.driver=file,file.filename={top}");
    m.add(pairs(&node)).unwrap();
    let list = graph.list();
    assert_eq!(list.len(), 4);
    let o = list.iter().find(|facts| facts.name == "o").unwrap();
    assert!(o.kept && !o.read_only);
    assert_eq!((o.size, o.info.driver, o.backing_depth), (1 << 20, "qcow2", 1));
    assert_eq!(o.backing.as_ref().unwrap().1, base);
    let below = list.iter().find(|facts| facts.name == o.backing.as_ref().unwrap().0).unwrap();
    assert!(below.read_only && !below.kept && below.name.starts_with("#block"));
    let users = User::Device(String::new());
    let _export = graph
        .attach(&graph.get("o").unwrap(), users, Permissions::WRITER.sharing_writes())
        .unwrap();
    let (nodes, edges) = graph.drawing();
    assert_eq!(nodes.iter().filter(|n| n.kind == GraphNodeKind::Device).count(), 1);
    let lines = edges.iter().map(|e| format!("{} {}", e.name, e.perm.names().join(" ")));
    let mut lines: Vec<_> = lines.collect();
    lines.sort();
    assert_eq!(
        lines,
        [
            "backing consistent-read",
            "file consistent-read",
            "file resize write consistent-read",
            "root write consistent-read",
        ]
    );
}

/// Bytes of `path` that this process has locked: 100 and up what it does, 200 and up what it forbids.
fn locked(path: &str) -> Vec<u64> {
    use std::os::unix::fs::MetadataExt;
    let inode = format!(":{} ", std::fs::metadata(path).unwrap().ino());
    let text = std::fs::read_to_string("/proc/locks").unwrap();
    let lines = text.lines().filter(|line| line.contains("OFDLCK") && line.contains(&inode));
    let mut bytes: Vec<u64> = lines
        .flat_map(|line| {
            let words: Vec<_> = line.split_whitespace().collect();
            let at = |n: usize| words[words.len() - n].parse::<u64>().unwrap();
            at(2)..=at(1)
        })
        .collect();
    bytes.sort_unstable();
    bytes.dedup();
    bytes
}

#[test]
fn locks_and_the_mode_of_a_file_follow_what_users_do() {
    let folder = Folder::new("locks");
    let path = folder.path("image.q");
    must("qemu-img", &["create", "-q", "-f", "qcow2", &path, "1M"]);
    let graph = Graph::new();
    let m = Manager { graph: &graph, gate: &HostFiles, secrets: &NoSecrets };
    let file = m.add(pairs(&format!("driver=file,node-name=f,filename={path}"))).unwrap();
    assert!(locked(&path).is_empty(), "nobody uses it");
    let raw = m.add(pairs("driver=raw,node-name=r,file=f")).unwrap();
    assert!(locked(&path).is_empty());
    let device = || User::Device(String::new());
    let edge = graph.attach(&raw, device(), Permissions::READER).unwrap();
    assert_eq!(locked(&path), [100, 201]);
    graph.require(&edge, Permissions::WRITER).unwrap();
    assert_eq!(locked(&path), [100, 101, 201]);
    graph.detach(edge);
    assert!(locked(&path).is_empty());
    drop((raw, file));
    graph.remove("r").unwrap();
    graph.remove("f").unwrap();
    // An image that is only read, until it is written.
    let text = format!(
        "driver=qcow2,node-name=q,read-only=on,file.driver=file,file.node-name=f,file.filename={path}"
    );
    let image = m.add(pairs(&text)).unwrap();
    assert_eq!(locked(&path), [100, 201, 203]);
    let cannot = "Read-only block node 'q' cannot support read-write users";
    assert_eq!(refusal(graph.attach(&image, device(), Permissions::WRITER)), cannot);
    let edge = graph.attach(&image, device(), Permissions::READER).unwrap();
    assert!(edge.write_at(0, &[1; 512], PLAIN).is_err());
    graph.set_read_only(&image, false).unwrap();
    assert_eq!(locked(&path), [100, 101, 103, 201, 203]);
    graph.require(&edge, Permissions::WRITER).unwrap();
    edge.write_at(0, &[1; 512], PLAIN).unwrap();
    assert_eq!(refusal(graph.set_read_only(&image, true)), cannot);
    edge.write_at(0, &[1; 512], PLAIN).unwrap();
    graph.require(&edge, Permissions::READER).unwrap();
    graph.set_read_only(&image, true).unwrap();
    assert_eq!(locked(&path), [100, 201, 203]);
    assert!(graph.named("f").unwrap().node().read_only());
    let mut now = [0; 512];
    edge.read_at(0, &mut now).unwrap();
    assert_eq!(now, [1; 512]);
    must("qemu-img", &["check", "-q", "-U", &path]);
    // Another process reads it: it lets nobody write.
    let mut peer = std::process::Command::new("qemu-io")
        .args(["-r", "-f", "qcow2", &path])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("install the package qemu-utils");
    let mut input = peer.stdin.take().unwrap();
    std::io::Write::write_all(&mut input, b"length\n").unwrap();
    let mut output = peer.stdout.take().unwrap();
    let mut answer = Vec::new();
    while !answer.windows(5).any(|w| w == b"1 MiB") {
        let mut byte = [0];
        std::io::Read::read_exact(&mut output, &mut byte).unwrap();
        answer.push(byte[0]);
    }
    let text = refusal(graph.set_read_only(&image, false));
    let wanted = format!(
        "Failed to get \"write\" lock\nIs another process using the image [{path}]? It is held by \
         qemu-io (pid {}).",
        peer.id()
    );
    assert_eq!(text, wanted);
    assert_eq!(locked(&path), [100, 201, 203], "as it was, and as the peer has it");
    edge.read_at(0, &mut now).unwrap();
    assert!(edge.write_at(0, &[2; 512], PLAIN).is_err());
    drop(input);
    peer.wait().unwrap();
    graph.set_read_only(&image, false).unwrap();
    edge.write_at(0, &[2; 512], PLAIN).unwrap();
}

#[test]
fn nodes_that_are_opened_again_keep_their_content_or_what_they_were() {
    let folder = Folder::new("reopen");
    let path = |name: &str| folder.path(name);
    must("qemu-img", &["create", "-q", "-f", "qcow2", &path("low.q"), "1M"]);
    must(
        "qemu-img",
        &["create", "-q", "-f", "qcow2", "-b", &path("low.q"), "-F", "qcow2", &path("top.q")],
    );
    std::fs::write(path("other.raw"), vec![5; 1 << 20]).unwrap();
    let graph = Graph::new();
    let m = Manager { graph: &graph, gate: &HostFiles, secrets: &NoSecrets };
    m.add(pairs(&format!("driver=file,node-name=other,filename={}", path("other.raw")))).unwrap();
    m.add(pairs("driver=raw,node-name=five,file=other,read-only=on")).unwrap();
    let text = format!(
        "driver=qcow2,node-name=top,file.driver=file,file.filename={},\
         backing.driver=qcow2,backing.file.driver=file,backing.file.filename={}",
        path("top.q"),
        path("low.q")
    );
    let top = m.add(pairs(&text)).unwrap();
    let device = User::Device("d".to_owned());
    let disk = graph.attach(&top, device, Permissions::WRITER).unwrap();
    disk.write_at(1 << 17, &[1; 512], PLAIN).unwrap();
    let first = |disk: &Arc<graph::Edge>| {
        let mut now = vec![0; 1 << 18];
        disk.read_at(0, &mut now).unwrap();
        (now[0], now[1 << 17])
    };
    assert_eq!(first(&disk), (0, 1));
    // Another backing file, and another manner for the file.
    let file = format!("driver=qcow2,file.driver=file,file.filename={}", path("top.q"));
    let again = |rest: &str| pairs(&format!("node-name=top,{file},{rest}"));
    m.reopen(vec![again("backing=five,cache.direct=on,detect-zeroes=on")]).unwrap();
    assert_eq!(first(&disk), (5, 1));
    assert!(top.options().direct && top.children()[0].target().unwrap().options().direct);
    // One that cannot be: the ones before it are what they were.
    let text = refusal(m.reopen(vec![
        pairs("driver=raw,node-name=five,file=other,read-only=on,offset=512"),
        again("backing=five,l2-cache-entry-size=7"),
    ]));
    assert!(text.starts_with("L2 cache entry size"), "{text}");
    let five = graph.get("five").unwrap();
    assert_eq!((first(&disk), five.node().size()), ((5, 1), 1 << 20));
    assert!(top.options().direct);
    disk.write_at(0, &[0; 512], PLAIN).unwrap();
    assert_eq!(first(&disk), (0, 1));
    // Both lead to each other: neither does.
    let text = refusal(m.reopen(vec![
        again("backing=five"),
        pairs("driver=raw,node-name=five,file=top,read-only=on"),
    ]));
    assert!(text.ends_with("would create a cycle"), "{text}");
    assert_eq!(first(&disk), (0, 1));
    // Whoever uses it meanwhile waits, and loses nothing.
    let stop = Arc::new(AtomicBool::new(false));
    let (told, wait) = mpsc::channel();
    let writer = {
        let (disk, stop) = (Arc::clone(&disk), Arc::clone(&stop));
        std::thread::spawn(move || {
            let mut byte = 0;
            while !stop.load(Ordering::SeqCst) {
                byte = byte % 255 + 1;
                disk.write_at(1 << 19, &[byte; 512], PLAIN).unwrap();
                told.send(()).unwrap();
            }
            byte
        })
    };
    for round in 0..20 {
        wait.recv().unwrap();
        let direct = if round % 2 == 0 { "on" } else { "off" };
        m.reopen(vec![again(&format!(
            "backing=five,lazy-refcounts={direct},cache.direct={direct}"
        ))])
        .unwrap();
    }
    stop.store(true, Ordering::SeqCst);
    let byte = writer.join().unwrap();
    let mut now = [0; 512];
    disk.read_at(1 << 19, &mut now).unwrap();
    assert_eq!(now, [byte; 512]);
    drop((disk, top, five));
    for name in ["top", "five", "other"] {
        graph.remove(name).unwrap();
    }
    must("qemu-img", &["check", "-q", "-f", "qcow2", &path("top.q")]);
}

#[test]
fn what_a_node_does_with_zeroes_and_discards_holds_for_all_its_users() {
    use graph::{ExtentKind, ZeroFlags};
    let folder = Folder::new("blanks");
    let path = folder.path("disk.raw");
    let graph = Graph::new();
    let m = Manager { graph: &graph, gate: &HostFiles, secrets: &NoSecrets };
    let one = 64 << 10;
    let blocks = || std::os::unix::fs::MetadataExt::blocks(&std::fs::metadata(&path).unwrap());
    // Mode of the node; whether zeroes are found, whether their space is given back, whether discards
    // give some back.
    for (mode, found, freed, discarded) in [
        ("", false, false, false),
        ("detect-zeroes=on", true, false, false),
        ("discard=unmap", false, false, true),
        ("discard=unmap,detect-zeroes=on", true, false, true),
        ("discard=unmap,detect-zeroes=unmap", true, true, true),
    ] {
        std::fs::write(&path, vec![7; 4 * one]).unwrap();
        let file = format!("file.driver=file,file.filename={path}");
        m.add(pairs(&format!("driver=raw,node-name=d,{file}"))).unwrap();
        let options = format!("driver=raw,node-name=d,{file},{mode}");
        m.reopen(vec![pairs(options.trim_end_matches(','))]).unwrap();
        let member = graph.get("d").unwrap();
        let user = User::Device(String::new());
        let edge = graph.attach(&member, user, Permissions::WRITER).unwrap();
        let is_zero = |n: usize| {
            let extent = edge.block_status((n * one) as u64, 512).unwrap();
            extent.kind == ExtentKind::Zero
        };
        let frees = |act: &dyn Fn()| {
            let before = blocks();
            act();
            blocks() < before
        };
        let zeroes = vec![0; one];
        let through = || edge.write_at(0, &zeroes, PLAIN).unwrap();
        assert_eq!(frees(&through), freed, "{mode}: through an edge");
        let beside = || member.node().write_at(one as u64, &zeroes, PLAIN).unwrap();
        assert_eq!(frees(&beside), freed, "{mode}: as jobs do");
        assert_eq!((is_zero(0), is_zero(1)), (found, found), "{mode}");
        let discard = || edge.discard(2 * one as u64, one as u64).unwrap();
        assert_eq!(frees(&discard), discarded, "{mode}: discarded");
        let unmap = ZeroFlags { unmap: true, fua: false };
        let zero = || edge.write_zeroes(3 * one as u64, one as u64, unmap).unwrap();
        assert_eq!(frees(&zero), discarded, "{mode}: zeroes that may be unmapped");
        assert_eq!(member.highest_write(), 4 * one as u64);
        drop((edge, member));
        graph.remove("d").unwrap();
    }
}
