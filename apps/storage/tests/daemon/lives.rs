//! How a daemon begins and ends: well, and by force.

use crate::Test;
use crate::client::{Client, Daemon};
use crate::exports::exporting;
use crate::scripts::is_gone;
use crate::tools::{Whose, folder, must, tool};
use serde_json::json;
use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

pub const TESTS: &[Test] = &[
    ("signals_and_quit_write_everything", ends),
    ("a_killed_daemon_leaves_sound_images", killed),
    ("a_daemon_goes_to_the_background", background),
    ("two_monitors_are_served", two_monitors),
    ("a_client_that_breaks_off_harms_nobody", broken_clients),
];

fn made(test: &str) -> std::path::PathBuf {
    let within = folder(test);
    must(Whose::Peer, "qemu-img", &["create", "-q", "-f", "qcow2", "disk.qcow2", "64M"], &within);
    within
}

const URI: &str = "nbd+unix:///disk?socket=nbd";

/// Unflushed writes of a client are in the image after any orderly end.
fn ends() {
    for way in ["quit", "TERM", "INT", "HUP"] {
        let within = made("ends");
        let daemon = exporting(&within);
        let mut client = daemon.client();
        must(Whose::Ours, "qemu-io", &["-f", "raw", "-c", "write -P 9 3M 1M", URI], &within);
        if way == "quit" {
            client.call("quit", json!({}));
        } else {
            daemon.signal(way);
        }
        assert_eq!(daemon.ended().code(), Some(0), "{way}");
        must(Whose::Peer, "qemu-img", &["check", "-q", "disk.qcow2"], &within);
        must(Whose::Peer, "qemu-io", &["-c", "read -P 9 3M 1M", "disk.qcow2"], &within);
        assert!(is_gone(&within.join("nbd")) && is_gone(&within.join("qmp")), "{way}");
    }
}

/// Kills the daemon while a client writes: what was flushed is there, and no image is damaged.
fn killed() {
    for round in 1..=8u64 {
        let within = made("killed");
        let daemon = exporting(&within);
        drop(daemon.client());
        let mut user = tool(Whose::Ours, "qemu-io", &["-f", "raw", URI], &within)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut stdin = user.stdin.take().unwrap();
        let mut lines = BufReader::new(user.stdout.take().unwrap()).lines();
        // Rounds of writes, each flushed before the next; in the last one it is killed.
        let mut flushed = Vec::new();
        for step in 0..round * 3 {
            let (pattern, at) = (step % 250 + 1, step * 1_300_000 % (60 << 20));
            let commands =
                format!("write -P {pattern} {at} 70000\nflush\nread -P {pattern} {at} 70000\n");
            if stdin.write_all(commands.as_bytes()).is_err() {
                break;
            }
            // The read is answered after the flush.
            let read =
                lines.by_ref().map_while(Result::ok).find(|line| line.contains("read 70000"));
            assert!(read.is_some(), "step {step}");
            flushed.push((pattern, at));
        }
        let more: String =
            (0..200).map(|n| format!("write -P 255 {} 200000\n", n * 300_000)).collect();
        let writer = std::thread::spawn(move || {
            let _ = stdin.write_all(more.as_bytes());
        });
        for _ in 0..round {
            let _ = lines.next();
        }
        daemon.signal("KILL");
        assert_eq!(daemon.ended().code(), None);
        let _ = user.kill();
        let _ = user.wait();
        writer.join().unwrap();
        for whose in [Whose::Peer, Whose::Ours] {
            let check =
                tool(whose, "qemu-img", &["check", "disk.qcow2"], &within).output().unwrap();
            // Leaks may be left, damage may not.
            let code = check.status.code();
            assert!(matches!(code, Some(0 | 3)), "round {round}: {check:?}");
        }
        must(Whose::Peer, "qemu-img", &["convert", "-O", "raw", "disk.qcow2", "raw"], &within);
        let content = std::fs::read(within.join("raw")).unwrap();
        for (pattern, at) in flushed {
            let range = &content[at as usize..at as usize + 70_000];
            let fits = |byte: &u8| u64::from(*byte) == pattern || *byte == 255;
            assert!(range.iter().all(fits), "round {round}: {pattern} at {at}");
        }
    }
}

fn background() {
    let within = folder("background");
    let pidfile = within.join("pid").display().to_string();
    let socket = "socket,id=m,path=qmp,server=on,wait=off";
    let args = ["--chardev", socket, "--monitor", "m", "--pidfile", &pidfile, "--daemonize"];
    // The folder is another one afterwards; sockets and files are opened before.
    must(Whose::Ours, "qemu-storage-daemon", &args, &within);
    let number: u32 = std::fs::read_to_string(&pidfile).unwrap().trim().parse().unwrap();
    let mut client = Client::connect(&within.join("qmp"));
    assert_eq!(client.call("query-block-exports", json!({})), json!([]));
    let line = std::fs::read_to_string(format!("/proc/{number}/status")).unwrap();
    assert!(line.contains("Name:"));
    client.call("quit", json!({}));
    while !is_gone(&within.join("pid")) {
        std::thread::yield_now();
    }
    let failed = ["--daemonize", "--blockdev", "driver=nope"];
    let failed = tool(Whose::Ours, "qemu-storage-daemon", &failed, &within).output().unwrap();
    assert_eq!(failed.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&failed.stderr).contains("does not accept value 'nope'"));
}

fn two_monitors() {
    let within = folder("monitors");
    let other = "socket,id=other,path=second,server=on,wait=off";
    let args = ["--chardev", other, "--monitor", "other,pretty=off"];
    let daemon = Daemon::start(Whose::Ours, &args, &within);
    let (mut first, mut second) = (daemon.client(), Client::connect(&within.join("second")));
    first.call("blockdev-add", json!({"driver": "null-co", "node-name": "n"}));
    let nodes = second.call("query-named-block-nodes", json!({}));
    assert_eq!(nodes[0]["node-name"], "n");
    second.call("nbd-server-start", json!({"addr": {"type": "unix", "data": {"path": "nbd"}}}));
    second.call("nbd-server-add", json!({"device": "n"}));
    first.call("nbd-server-remove", json!({"name": "n"}));
    // Both hear of what happens.
    for client in [&mut first, &mut second] {
        assert_eq!(client.event("BLOCK_EXPORT_DELETED"), json!({"id": "n"}));
    }
}

fn broken_clients() {
    let within = folder("broken");
    let daemon = Daemon::start(Whose::Ours, &[], &within);
    drop(daemon.client());
    for text in ["{\"execute\": ", "\u{1}\u{2}[[[[", "{'execute': 'query-qmp-schema'}"] {
        let mut stream = {
            let path = within.join("qmp");
            std::os::unix::net::UnixStream::connect(path).unwrap()
        };
        stream.write_all(text.as_bytes()).unwrap();
    }
    let mut client = daemon.client();
    client.call("quit", json!({}));
    assert!(daemon.ended().success());
}
