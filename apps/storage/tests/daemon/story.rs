//! A disk's life as a manager of machines leads it: backups, snapshots, a move and a commit, one after the
//! other, while a client writes. The peer's tools judge what is left.

use crate::Test;
use crate::client::{Client, Daemon};
use crate::tools::{Whose, folder, must};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

pub const TESTS: &[Test] = &[
    ("a_disk_is_backed_up_moved_and_committed_while_it_is_written", life),
    ("older_commands_make_their_targets", drives),
    ("disks_of_a_transaction_are_saved_at_the_same_moment", moment),
];

const URI: &str = "nbd+unix:///d?socket=nbd";
/// Length of the disk, and of each write, in KiB.
const DISK: u64 = 16 << 10;
const WRITE: u64 = 72;

/// A client of the export that writes all the time: one pattern after the other, each at its place.
struct Writer {
    within: PathBuf,
    /// Held while a write is on its way; the number of writes that were acknowledged.
    written: Arc<Mutex<u64>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Where write `n` goes, in KiB.
fn place(n: u64) -> u64 {
    n * 7 * WRITE % (DISK - WRITE)
}

impl Writer {
    fn start(within: &Path) -> Self {
        let (written, stop) = (Arc::new(Mutex::new(0)), Arc::new(AtomicBool::new(false)));
        let (folder, count, end) = (within.to_owned(), Arc::clone(&written), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            while !end.load(Ordering::SeqCst) {
                let mut count = count.lock().unwrap();
                let (at, byte) = (place(*count), *count % 255 + 1);
                let command = format!("write -P {byte} {at}k {WRITE}k");
                must(Whose::Peer, "qemu-io", &["-f", "raw", "-c", &command, URI], &folder);
                *count += 1;
            }
        });
        Self { within: within.to_owned(), written, stop, thread: Some(thread) }
    }

    /// Waits for some more writes.
    fn more(&self) {
        let until = *self.written.lock().unwrap() + 3;
        while *self.written.lock().unwrap() < until {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }

    /// Keeps what the disk holds now as a raw image, and does something before it changes.
    fn still(&self, name: &str, act: impl FnOnce()) {
        let _none = self.written.lock().unwrap();
        let args = ["convert", "-f", "raw", "-O", "raw", URI, name];
        must(Whose::Peer, "qemu-img", &args, &self.within);
        act();
    }

    fn stop(mut self) -> u64 {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.take().unwrap().join().unwrap();
        *self.written.lock().unwrap()
    }
}

/// Waits for a job to come into a state.
fn until(client: &mut Client, id: &str, status: &str) {
    while client.event("JOB_STATUS_CHANGE") != json!({"id": id, "status": status}) {}
}

/// Waits for a job to end well, and dismisses it.
fn well(client: &mut Client, id: &str) {
    until(client, id, "concluded");
    let jobs = client.call("query-jobs", json!({}));
    let job = jobs.as_array().unwrap().iter().find(|job| job["id"] == id).unwrap();
    assert_eq!(job.get("error"), None, "{job}");
    client.call("job-dismiss", json!({"id": id}));
}

/// Makes an image by jobs and opens it; `members` go to the format's options.
fn image(client: &mut Client, name: &str, members: Value) {
    let file = format!("{name}.qcow2");
    let made = json!({"driver": "file", "filename": file, "size": 0});
    client.call("blockdev-create", json!({"job-id": "make", "options": made}));
    well(client, "make");
    let node = format!("{name}-file");
    client.call("blockdev-add", json!({"driver": "file", "node-name": node, "filename": file}));
    let mut format = json!({"driver": "qcow2", "file": node, "size": DISK << 10});
    format.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    client.call("blockdev-create", json!({"job-id": "make", "options": format}));
    well(client, "make");
    let added = json!({
        "driver": "qcow2", "node-name": name, "file": node, "backing": null, "discard": "unmap"
    });
    client.call("blockdev-add", added);
}

fn close(client: &mut Client, name: &str) {
    client.call("blockdev-del", json!({"node-name": name}));
    client.call("blockdev-del", json!({"node-name": format!("{name}-file")}));
}

fn life() {
    let within = folder("life");
    let peer = |args: &[&str]| must(Whose::Peer, "qemu-img", args, &within);
    let server = ["--nbd-server", "addr.type=unix,addr.path=nbd"];
    let daemon = Daemon::start(Whose::Ours, &server, &within);
    let mut monitor = daemon.client();
    let client = &mut monitor;
    image(client, "disk", json!({}));
    let export =
        json!({"type": "nbd", "id": "e", "node-name": "disk", "name": "d", "writable": true});
    client.call("block-export-add", export);
    let writer = Writer::start(&within);
    writer.more();

    // A full backup and a bitmap that begins where it ends.
    image(client, "full", json!({}));
    let bitmap = json!({"node": "disk", "name": "since", "persistent": true});
    let by_hand = |target: &str, sync: &str| {
        json!({
            "job-id": "save", "device": "disk", "target": target, "sync": sync, "auto-dismiss": false
        })
    };
    writer.still("full.raw", || {
        let actions = json!([
            {"type": "block-dirty-bitmap-add", "data": bitmap},
            {"type": "blockdev-backup", "data": by_hand("full", "full")}
        ]);
        client.call("transaction", json!({"actions": actions}));
    });
    well(client, "save");
    close(client, "full");
    for (name, below) in [("inc1", "full"), ("inc2", "inc1")] {
        writer.more();
        let lies_on = json!({"backing-file": format!("{below}.qcow2"), "backing-fmt": "qcow2"});
        image(client, name, lies_on);
        writer.still(&format!("{name}.raw"), || {
            let mut job = by_hand(name, "incremental");
            job["bitmap"] = json!("since");
            client.call("blockdev-backup", job);
        });
        well(client, "save");
        close(client, name);
    }

    // A snapshot, whose overlay moves elsewhere with all that it lies on.
    writer.more();
    image(client, "over", json!({"backing-file": "disk.qcow2", "backing-fmt": "qcow2"}));
    client.call("blockdev-snapshot", json!({"node": "disk", "overlay": "over"}));
    writer.more();
    image(client, "moved", json!({}));
    let mirror = json!({
        "job-id": "move", "device": "over", "target": "moved", "sync": "full", "auto-dismiss": false
    });
    client.call("blockdev-mirror", mirror);
    until(client, "move", "ready");
    writer.more();
    client.call("job-complete", json!({"id": "move"}));
    well(client, "move");
    writer.more();
    close(client, "over");
    close(client, "disk");

    // Another snapshot, which is taken back by a commit of what was written since.
    image(client, "short", json!({"backing-file": "moved.qcow2", "backing-fmt": "qcow2"}));
    client.call("blockdev-snapshot", json!({"node": "moved", "overlay": "short"}));
    writer.more();
    let commit = json!({"job-id": "commit", "device": "short", "auto-dismiss": false});
    client.call("block-commit", commit);
    until(client, "commit", "ready");
    writer.more();
    client.call("job-complete", json!({"id": "commit"}));
    well(client, "commit");
    writer.more();
    close(client, "short");
    let writes = writer.stop();
    must(Whose::Peer, "qemu-img", &["convert", "-f", "raw", "-O", "raw", URI, "end.raw"], &within);
    client.call("quit", json!({}));
    assert!(daemon.ended().success());

    for name in ["full", "inc1", "inc2", "disk", "over", "moved", "short"] {
        peer(&["check", "-q", "-f", "qcow2", &format!("{name}.qcow2")]);
    }
    for (image, moment) in [("full", "full"), ("inc1", "inc1"), ("inc2", "inc2"), ("moved", "end")]
    {
        let (image, moment) = (format!("{image}.qcow2"), format!("{moment}.raw"));
        peer(&["compare", "-f", "qcow2", "-F", "raw", &image, &moment]);
    }
    // Every write that was acknowledged is there, but for what later ones have overwritten.
    let image = std::fs::read(within.join("end.raw")).unwrap();
    let mut expected = vec![0; (DISK << 10) as usize];
    for n in 0..writes {
        let from = (place(n) << 10) as usize;
        expected[from..from + (WRITE << 10) as usize].fill((n % 255 + 1) as u8);
    }
    assert!(image == expected, "after {writes} writes");
}

/// `drive-mirror` and `drive-backup` on an overlay, with every sync mode that makes an image of its own.
fn drives() {
    let within = folder("drives");
    let peer = |args: &[&str]| must(Whose::Peer, "qemu-img", args, &within);
    let io = |file: &str, command: &str| {
        must(Whose::Peer, "qemu-io", &["-c", command, file], &within);
    };
    peer(&["create", "-q", "-f", "qcow2", "base.qcow2", "16M"]);
    io("base.qcow2", "write -P 1 0 6M");
    peer(&["create", "-q", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", "top.qcow2"]);
    io("top.qcow2", "write -P 2 4M 4M");
    let daemon = Daemon::start(Whose::Ours, &[], &within);
    let mut monitor = daemon.client();
    let client = &mut monitor;
    let file = json!({"driver": "file", "filename": "top.qcow2"});
    client.call("blockdev-add", json!({"driver": "qcow2", "node-name": "top", "file": file}));
    let job = |target: &str, sync: &str| {
        json!({
            "job-id": "j", "device": "top", "target": target, "sync": sync, "format": "qcow2",
            "auto-dismiss": false
        })
    };
    for (target, sync) in [("full.qcow2", "full"), ("upper.qcow2", "top")] {
        client.call("drive-mirror", job(target, sync));
        until(client, "j", "ready");
        let change = json!({"id": "j", "type": "mirror", "copy-mode": "write-blocking"});
        client.call("block-job-change", change);
        client.call("block-job-cancel", json!({"device": "j"}));
        well(client, "j");
    }
    for (target, sync) in [("saved.qcow2", "full"), ("layer.qcow2", "top")] {
        client.call("drive-backup", job(target, sync));
        well(client, "j");
    }
    let mut again = job("saved.qcow2", "full");
    again["mode"] = json!("existing");
    client.call("transaction", json!({"actions": [{"type": "drive-backup", "data": again}]}));
    well(client, "j");
    let text = client.fails("drive-backup", job("no/where.qcow2", "full"));
    assert!(
        text.contains("no/where.qcow2") && text.contains("No such file or directory"),
        "{text}"
    );
    client.call("quit", json!({}));
    assert!(daemon.ended().success());
    for (name, below) in [("full", false), ("upper", true), ("saved", false), ("layer", true)] {
        let name = format!("{name}.qcow2");
        peer(&["check", "-q", &name]);
        peer(&["compare", "top.qcow2", &name]);
        let info: Value = serde_json::from_str(&peer(&["info", "--output=json", &name])).unwrap();
        let backing = info["full-backing-filename"].as_str().unwrap_or_default();
        assert_eq!(backing.ends_with("base.qcow2"), below, "{name}");
    }
}

/// A client writes the same number first to one disk, then to the other: at no moment is the second
/// ahead.
fn moment() {
    let within = folder("moment");
    let server = ["--nbd-server", "addr.type=unix,addr.path=nbd"];
    let daemon = Daemon::start(Whose::Ours, &server, &within);
    let mut monitor = daemon.client();
    let client = &mut monitor;
    for name in ["a", "b"] {
        image(client, name, json!({}));
        let export = json!({"type": "nbd", "id": name, "node-name": name, "writable": true});
        client.call("block-export-add", export);
    }
    let stop = Arc::new(AtomicBool::new(false));
    let (end, folder) = (Arc::clone(&stop), within.clone());
    let writer = std::thread::spawn(move || {
        for n in (1_u8..=255).cycle() {
            for name in ["a", "b"] {
                let (command, uri) =
                    (format!("write -P {n} 0 512"), format!("nbd+unix:///{name}?socket=nbd"));
                must(Whose::Peer, "qemu-io", &["-f", "raw", "-c", &command, &uri], &folder);
            }
            if end.load(Ordering::SeqCst) {
                break;
            }
        }
    });
    for round in 0..6 {
        let mut actions = Vec::new();
        for name in ["a", "b"] {
            let copy = format!("{name}{round}");
            image(client, &copy, json!({}));
            let job = json!({
                "job-id": copy, "device": name, "target": copy, "sync": "full", "auto-dismiss": false
            });
            actions.push(json!({"type": "blockdev-backup", "data": job}));
        }
        let grouped = json!({"completion-mode": "grouped"});
        client.call("transaction", json!({"actions": actions, "properties": grouped}));
        for name in [format!("a{round}"), format!("b{round}")] {
            well(client, &name);
            close(client, &name);
        }
    }
    stop.store(true, Ordering::SeqCst);
    writer.join().unwrap();
    client.call("quit", json!({}));
    assert!(daemon.ended().success());
    for round in 0..6 {
        let first = |name: &str| {
            let (image, raw) = (format!("{name}{round}.qcow2"), format!("{name}{round}.raw"));
            must(Whose::Peer, "qemu-img", &["convert", "-O", "raw", &image, &raw], &within);
            std::fs::read(within.join(raw)).unwrap()[0]
        };
        let (a, b) = (first("a"), first("b"));
        assert!(a == b || a == b % 255 + 1, "round {round}: {a} {b}");
    }
}
