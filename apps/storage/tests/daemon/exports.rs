//! Exports, used by clients of either kind.

use crate::Test;
use crate::client::Daemon;
use crate::tools::{Whose, folder, must, tool};
use serde_json::json;
use std::path::Path;

pub const TESTS: &[Test] = &[
    ("peers_read_and_write_an_export", peers_read_and_write),
    ("an_export_in_use_stays", in_use),
    ("a_bitmap_is_told", bitmap),
    ("exports_come_by_options", by_options),
    ("a_node_is_a_file", mounted),
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
    client.call("block-export-del", json!({"id": "m"}));
    assert_eq!(client.event("BLOCK_EXPORT_DELETED"), json!({"id": "m"}));
    assert_eq!(std::fs::read(&place).unwrap(), b"before");
}
