//! Exports, used by clients of either kind.

use crate::Test;
use crate::client::Daemon;
use crate::tools::{Whose, folder, must, tool};
use serde_json::{Value, json};
use std::path::Path;

pub const TESTS: &[Test] = &[
    ("peers_read_and_write_an_export", peers_read_and_write),
    ("an_export_in_use_stays", in_use),
    ("a_bitmap_is_told", bitmap),
    ("exports_come_by_options", by_options),
    ("a_node_is_a_file", mounted),
    ("what_a_bitmap_marks_is_kept_as_it_was", kept_by_bitmap),
    ("two_daemons_have_an_image_in_turn", in_turn),
    ("a_quorum_tells_and_gets_other_children", quorum),
    ("clients_feel_what_a_node_does_with_zeroes_and_discards", blanks),
];

const URI: &str = "nbd+unix:///disk?socket=nbd";

/// A daemon that exports `disk.qcow2` as `disk`, for writing.
pub fn exporting(within: &Path) -> Daemon {
    let node = "qcow2,node-name=disk,file.driver=file,file.filename=disk.qcow2";
    let server = "addr.type=unix,addr.path=nbd";
    let export = "nbd,id=e,node-name=disk,writable=on";
    let args = ["--blockdev", node, "--nbd-server", server, "--export", export];
    Daemon::start(Whose::Ours, &args, within)
}

fn made(test: &str) -> std::path::PathBuf {
    let within = folder(test);
    must(Whose::Peer, "qemu-img", &["create", "-q", "-f", "qcow2", "disk.qcow2", "8M"], &within);
    within
}

fn peers_read_and_write() {
    for whose in [Whose::Peer, Whose::Ours] {
        let within = made("rw");
        let daemon = exporting(&within);
        let mut client = daemon.client();
        let write = ["-f", "raw", "-c", "write -P 7 1M 100k", "-c", "write -z 2M 64k", URI];
        must(whose, "qemu-io", &write, &within);
        must(whose, "qemu-img", &["convert", "-f", "raw", "-O", "qcow2", URI, "copy"], &within);
        client.call("quit", json!({}));
        assert!(daemon.ended().success());
        must(Whose::Peer, "qemu-img", &["check", "-q", "disk.qcow2"], &within);
        must(Whose::Peer, "qemu-img", &["compare", "disk.qcow2", "copy"], &within);
        must(Whose::Peer, "qemu-io", &["-c", "read -P 7 1M 100k", "disk.qcow2"], &within);
    }
}

/// What `copy-before-write` with a bitmap gives and what it refuses, and what it is told of bitmaps.
fn kept_by_bitmap() {
    let [theirs, ours] = [Whose::Peer, Whose::Ours].map(|whose| {
        let within = made(&format!("kept-{whose:?}"));
        must(Whose::Peer, "qemu-io", &["-c", "write -P 1 0 8M", "disk.qcow2"], &within);
        must(Whose::Peer, "qemu-img", &["create", "-q", "-f", "qcow2", "copy", "8M"], &within);
        let daemon = Daemon::start(whose, &["--nbd-server", "addr.type=unix,addr.path=nbd"], &within);
        let mut client = daemon.client();
        for (node, name) in [("disk", "disk.qcow2"), ("copy", "copy")] {
            let file = json!({"driver": "file", "filename": name});
            let node = json!({"driver": "qcow2", "node-name": node, "file": file});
            client.call("blockdev-add", node);
        }
        let io = |export: &str, command: &str| {
            let uri = format!("nbd+unix:///{export}?socket=nbd");
            let mode = if command.starts_with("read") { "-r" } else { "-n" };
            let args = [mode, "-f", "raw", "-c", command, &uri];
            tool(Whose::Peer, "qemu-io", &args, &within).output().unwrap().status.success()
        };
        let export = |node: &str, writable: bool| {
            json!({"type": "nbd", "id": node, "node-name": node, "writable": writable})
        };
        client.call("block-dirty-bitmap-add", json!({"node": "disk", "name": "b"}));
        client.call("block-export-add", export("disk", true));
        assert!(io("disk", "write -P 2 1M 1M"));
        client.call("block-export-del", json!({"id": "disk"}));
        let above = |node: &str, name: &str| {
            json!({
                "driver": "copy-before-write", "node-name": "above", "file": "disk",
                "target": "copy", "bitmap": {"node": node, "name": name}
            })
        };
        let said = [("disk", "x"), ("nobody", "b")].map(|(node, name)| {
            client.fails("blockdev-add", above(node, name))
        });
        client.call("blockdev-add", above("disk", "b"));
        let before = json!({"driver": "snapshot-access", "node-name": "before", "file": "above"});
        client.call("blockdev-add", before);
        client.call("block-export-add", export("above", true));
        client.call("block-export-add", export("before", false));
        assert!(io("above", "write -P 3 0 4M"));
        let done = [
            io("before", "read -P 2 1M 1M"),
            io("before", "read 0 1M"),
            io("before", "read 2M 64k"),
            io("above", "read -P 3 0 4M"),
        ];
        client.call("quit", json!({}));
        assert!(daemon.ended().success());
        (said, done)
    });
    assert_eq!(ours, theirs);
    assert!(ours.1[0] && !ours.1[1]);
}

/// One image, two daemons, each of which writes it while the other has its node inactive; each reads what
/// the other has written, and an inactive export can be read and not written.
fn in_turn() {
    for pair in [[Whose::Ours, Whose::Ours], [Whose::Ours, Whose::Peer], [Whose::Peer, Whose::Ours]]
    {
        let within = made("in-turn");
        let start = |whose: Whose, n: usize| {
            let own = within.join(n.to_string());
            std::fs::create_dir_all(&own).unwrap();
            let daemon = Daemon::start(whose, &[], &own);
            let mut client = daemon.client();
            let address = json!({"type": "unix", "data": {"path": format!("../nbd{n}")}});
            client.call("nbd-server-start", json!({"addr": address}));
            let active = n == 0;
            let file = json!({"driver": "file", "filename": "../disk.qcow2", "active": active});
            let node =
                json!({"driver": "qcow2", "node-name": "disk", "active": active, "file": file});
            client.call("blockdev-add", node);
            let export = json!({
                "type": "nbd", "id": "e", "node-name": "disk", "writable": true,
                "allow-inactive": true
            });
            client.call("block-export-add", export);
            (daemon, client)
        };
        let mut daemons = [start(pair[0], 0), start(pair[1], 1)];
        let io = |n: usize, command: &str| {
            let uri = format!("nbd+unix:///disk?socket=nbd{n}");
            let args = ["-f", "raw", "-c", command, &uri];
            tool(Whose::Peer, "qemu-io", &args, &within).output().unwrap().status.success()
        };
        for round in 0..4 {
            let (active, other) = (round % 2, 1 - round % 2);
            // The second one began as inactive.
            let taken = json!({"node-name": "disk", "active": true});
            daemons[active].1.call("blockdev-set-active", taken.clone());
            if round > 0 {
                assert!(io(active, &format!("read -P {round} {round}M 1M")), "{pair:?} {round}");
            }
            let next = round + 1;
            assert!(io(active, &format!("write -P {next} {next}M 1M")), "{pair:?} {round}");
            let locked = daemons[other].1.fails("blockdev-set-active", taken);
            assert!(locked.contains("lock"), "{locked}");
            assert!(io(other, "read 0 64k"), "{pair:?} {round}");
            assert!(!io(other, "write 0 64k"), "{pair:?} {round}");
            let given = json!({"node-name": "disk", "active": false});
            daemons[active].1.call("blockdev-set-active", given);
            must(Whose::Peer, "qemu-img", &["check", "-q", "disk.qcow2"], &within);
        }
        for (daemon, mut client) in daemons {
            client.call("quit", json!({}));
            assert!(daemon.ended().success());
        }
        must(Whose::Peer, "qemu-io", &["-c", "read -P 4 4M 1M", "disk.qcow2"], &within);
    }
}

/// What a daemon makes of the same requests under one mode of the node after the other.
fn under_modes(whose: Whose) -> Vec<Value> {
    let within = folder(&format!("modes-{whose:?}"));
    std::fs::write(within.join("disk.raw"), vec![7; 4 << 20]).unwrap();
    let file = json!({"driver": "file", "node-name": "f", "filename": "disk.raw"});
    let server = ["--nbd-server", "addr.type=unix,addr.path=nbd"];
    let daemon = Daemon::start(whose, &server, &within);
    let mut client = daemon.client();
    client.call("blockdev-add", json!({"driver": "raw", "node-name": "disk", "file": file}));
    let export = json!({"type": "nbd", "id": "e", "node-name": "disk", "writable": true});
    client.call("block-export-add", export);
    client.call("block-dirty-bitmap-add", json!({"node": "disk", "name": "b"}));
    let modes = [
        json!({}),
        json!({"detect-zeroes": "on"}),
        json!({"discard": "unmap"}),
        json!({"discard": "unmap", "detect-zeroes": "unmap", "cache": {"direct": true}}),
        json!({}),
    ];
    let mut seen = Vec::new();
    for (n, mode) in modes.iter().enumerate() {
        let mut again = json!({"driver": "raw", "node-name": "disk", "file": file});
        again.as_object_mut().unwrap().extend(mode.as_object().unwrap().clone());
        client.call("blockdev-reopen", json!({"options": [again]}));
        for command in ["write -P 0", "discard", "write -z", "write -zu"] {
            let at = n * 512 + 128 * seen.len() % 512;
            let command = format!("{command} {at}k 64k");
            must(Whose::Peer, "qemu-io", &["-f", "raw", "-c", &command, URI], &within);
            let blocks = std::os::unix::fs::MetadataExt::blocks(
                &std::fs::metadata(within.join("disk.raw")).unwrap(),
            );
            let bitmap = json!({"node": "disk", "name": "b"});
            let digest = client.call("x-debug-block-dirty-bitmap-sha256", bitmap);
            let all = client.call("query-blockstats", json!({"query-nodes": true}));
            let node = |name: &str| {
                let all = all.as_array().unwrap();
                let one = all.iter().find(|one| one["node-name"] == name).unwrap();
                json!([one["stats"]["wr_highest_offset"], one["driver-specific"]])
            };
            seen.push(json!([mode, command, blocks, digest, node("disk"), node("f")]));
        }
    }
    client.call("quit", json!({}));
    assert!(daemon.ended().success());
    seen
}

fn blanks() {
    let [theirs, ours] = [Whose::Peer, Whose::Ours].map(under_modes);
    for (ours, theirs) in ours.iter().zip(&theirs) {
        assert_eq!(ours, theirs);
    }
}

/// What a daemon tells of a quorum with a child that fails, and what is in the files at the end.
fn of_quorum(whose: Whose) -> Vec<Value> {
    let within = folder(&format!("quorum-{whose:?}"));
    for name in ["a", "b", "c"] {
        std::fs::write(within.join(name), vec![0; 1 << 20]).unwrap();
    }
    let server = ["--nbd-server", "addr.type=unix,addr.path=nbd"];
    let daemon = Daemon::start(whose, &server, &within);
    let mut client = daemon.client();
    let file = |name: &str| json!({"driver": "file", "filename": name});
    let raw = |name: &str| json!({"driver": "raw", "node-name": format!("{name}-raw"), "file": file(name)});
    let errors = json!([{"event": "none", "errno": 5, "iotype": "write", "once": false}]);
    let bad = json!({
        "driver": "blkdebug", "node-name": "bad", "image": file("a"), "inject-error": errors
    });
    for node in [bad, raw("b"), raw("c")] {
        client.call("blockdev-add", node);
    }
    let children = json!(["bad", "b-raw"]);
    let node = json!({
        "driver": "quorum", "node-name": "disk", "vote-threshold": 1, "children": children
    });
    client.call("blockdev-add", node);
    let export = json!({"type": "nbd", "id": "e", "node-name": "disk", "writable": true});
    client.call("block-export-add", export);
    let io = |command: &str| {
        tool(Whose::Peer, "qemu-io", &["-f", "raw", "-c", command, URI], &within).output().unwrap()
    };
    assert!(io("write -P 1 1000 300").status.success());
    let mut told = vec![client.event("QUORUM_REPORT_BAD")];
    // A third one comes while the disk is in use, and the bad one goes.
    client.call("x-blockdev-change", json!({"parent": "disk", "node": "c-raw"}));
    client.call("x-blockdev-change", json!({"parent": "disk", "child": "children.0"}));
    assert!(io("write -P 2 64k 64k").status.success());
    client.call("block-export-del", json!({"id": "e", "mode": "hard"}));
    client.call("blockdev-del", json!({"node-name": "disk"}));
    // Too few are good.
    let node = json!({
        "driver": "quorum", "node-name": "disk", "vote-threshold": 2, "children": children
    });
    client.call("blockdev-add", node);
    let export = json!({"type": "nbd", "id": "e", "node-name": "disk", "writable": true});
    client.call("block-export-add", export);
    assert!(!io("write -P 3 4k 4k").status.success());
    told.push(client.event("QUORUM_FAILURE"));
    client.call("quit", json!({}));
    assert!(daemon.ended().success());
    let content = |name: &str| {
        let bytes = std::fs::read(within.join(name)).unwrap();
        json!([bytes[1000], bytes[4 << 10], bytes[64 << 10]])
    };
    told.extend(["a", "b", "c"].map(content));
    told
}

fn quorum() {
    let [theirs, ours] = [Whose::Peer, Whose::Ours].map(of_quorum);
    assert_eq!(ours, theirs);
    assert_eq!(ours[3..], [json!([1, 3, 2]), json!([0, 0, 2])]);
}

fn in_use() {
    let within = made("in-use");
    let daemon = exporting(&within);
    let mut client = daemon.client();
    // A client that stays until it is sent away.
    let other = within.join("other");
    std::fs::create_dir(&other).unwrap();
    let socket = within.join("nbd").display().to_string();
    let user = Daemon::start(Whose::Peer, &[], &other);
    let server = json!({"type": "unix", "path": socket});
    let node = json!({"driver": "nbd", "node-name": "n", "server": server, "export": "disk"});
    user.client().call("blockdev-add", node);
    let text = client.fails("block-export-del", json!({"id": "e"}));
    assert_eq!(text, "export 'e' still in use");
    assert_eq!(client.fails("blockdev-del", json!({"node-name": "disk"})), "Node disk is in use");
    client.call("block-export-del", json!({"id": "e", "mode": "hard"}));
    assert_eq!(client.event("BLOCK_EXPORT_DELETED"), json!({"id": "e"}));
    client.call("blockdev-del", json!({"node-name": "disk"}));
    // Another one finds nothing any more.
    let gone = tool(Whose::Peer, "qemu-img", &["info", URI], &within).output().unwrap();
    assert!(!gone.status.success());
}

fn bitmap() {
    let within = made("bitmap");
    must(Whose::Peer, "qemu-img", &["bitmap", "--add", "disk.qcow2", "b"], &within);
    let daemon = exporting(&within);
    let mut client = daemon.client();
    must(Whose::Peer, "qemu-io", &["-f", "raw", "-c", "write 1M 64k", URI], &within);
    let told = json!({
        "type": "nbd", "id": "f", "name": "told", "node-name": "disk", "bitmaps": ["b"], "writable": true
    });
    client.call("block-export-add", told);
    let options = "driver=nbd,server.type=unix,server.path=nbd,export=told,\
                   x-dirty-bitmap=qemu:dirty-bitmap:b";
    let args = ["map", "--output=json", "--image-opts", options];
    let map = must(Whose::Peer, "qemu-img", &args, &within);
    // With the bitmap for a map, what is dirty is shown as no data.
    assert!(map.contains("\"start\": 1048576, \"length\": 65536"), "{map}");
}

fn by_options() {
    let within = made("options");
    let daemon = exporting(&within);
    let mut client = daemon.client();
    let expected = json!([{"id": "e", "type": "nbd", "node-name": "disk", "shutting-down": false}]);
    assert_eq!(client.call("query-block-exports", json!({})), expected);
    let socket = within.join("nbd").display().to_string();
    let listed = must(Whose::Peer, "qemu-nbd", &["-L", "-k", &socket], &within);
    assert!(listed.contains("export: 'disk'"), "{listed}");
    client.call("nbd-server-stop", json!({}));
    assert!(crate::scripts::is_gone(&within.join("nbd")));
    assert_eq!(client.call("query-block-exports", json!({})), json!([]));
}

/// Who runs the tests may mount, or the host says that nobody may.
fn mounted() {
    let within = made("mounted");
    must(Whose::Peer, "qemu-io", &["-c", "write -P 5 1M 4k", "disk.qcow2"], &within);
    std::fs::write(within.join("file"), "before").unwrap();
    let daemon = exporting(&within);
    let mut client = daemon.client();
    let place = within.join("file").display().to_string();
    let fuse =
        |place: &str| json!({"type": "fuse", "id": "m", "node-name": "disk", "mountpoint": place});
    let text = client.fails("block-export-add", fuse("/nonexistent"));
    assert_eq!(text, "Failed to stat '/nonexistent': No such file or directory");
    client.call("block-export-add", fuse(&place));
    let content = std::fs::read(&place).unwrap();
    assert_eq!(content.len(), 8 << 20);
    assert!(content[1 << 20..(1 << 20) + 4096].iter().all(|byte| *byte == 5));
    // The kernel tells a moment later that the file was closed.
    client.until_unused("block-export-del", json!({"id": "m"}));
    assert_eq!(client.event("BLOCK_EXPORT_DELETED"), json!({"id": "m"}));
    assert_eq!(std::fs::read(&place).unwrap(), b"before");
}
