//! Jobs, with images that either implementation finds right.

use crate::Test;
use crate::client::Daemon;
use crate::tools::{Whose, folder, must};
use serde_json::{Value, json};
use std::path::Path;

pub const TESTS: &[Test] = &[
    ("a_backup_is_a_copy", backup),
    ("a_backup_takes_what_it_has_copied", move_away),
    ("a_mirror_follows_and_takes_over", mirror),
    ("layers_are_committed_and_streamed", layers),
    ("layers_that_are_read_only_are_written_by_jobs", read_only_layers),
    ("a_job_has_a_node_above_its_source", covers),
    ("a_group_of_jobs_fails_together", group),
    ("an_image_is_made_and_copied_by_name", by_name),
];

fn img(within: &Path, args: &[&str]) -> String {
    must(Whose::Peer, "qemu-img", args, within)
}

fn image(within: &Path, name: &str, pattern: &str) {
    img(within, &["create", "-q", "-f", "qcow2", name, "8M"]);
    must(Whose::Peer, "qemu-io", &["-c", pattern, name], within);
}

fn add(client: &mut crate::client::Client, node: &str, file: &str) {
    let file = json!({"driver": "file", "filename": file});
    client.call("blockdev-add", json!({"driver": "qcow2", "node-name": node, "file": file}));
}

fn backup() {
    let within = folder("backup");
    image(&within, "disk", "write -P 3 1M 2M");
    img(&within, &["create", "-q", "-f", "qcow2", "copy", "8M"]);
    let daemon = Daemon::start(Whose::Ours, &[], &within);
    let mut client = daemon.client();
    add(&mut client, "disk", "disk");
    add(&mut client, "copy", "copy");
    let job = json!({"job-id": "j", "device": "disk", "target": "copy", "sync": "full"});
    client.call("blockdev-backup", job);
    let done = client.event("BLOCK_JOB_COMPLETED");
    assert_eq!(
        (&done["device"], &done["type"], done.get("error")),
        (&json!("j"), &json!("backup"), None)
    );
    assert_eq!(client.event("JOB_STATUS_CHANGE"), json!({"id": "j", "status": "concluded"}));
    client.call("quit", json!({}));
    assert!(daemon.ended().success());
    img(&within, &["compare", "disk", "copy"]);
    img(&within, &["check", "-q", "copy"]);
}

fn move_away() {
    let of = |whose: Whose| {
        let within = folder(&format!("move-away-{whose:?}"));
        std::fs::write(within.join("from"), vec![5; 4 << 20]).unwrap();
        std::fs::write(within.join("to"), vec![0; 4 << 20]).unwrap();
        let daemon = Daemon::start(whose, &[], &within);
        let mut client = daemon.client();
        let node = |name: &str, discard: &str| {
            let file = json!({"driver": "file", "filename": name});
            json!({"driver": "raw", "node-name": name, "discard": discard, "file": file})
        };
        client.call("blockdev-add", node("from", "ignore"));
        client.call("blockdev-add", node("to", "ignore"));
        let mut seen = Vec::new();
        for discard in ["ignore", "unmap"] {
            client.call("blockdev-reopen", json!({"options": [node("from", discard)]}));
            client.call(
                "blockdev-backup",
                json!({
                    "job-id": "j", "device": "from", "target": "to", "sync": "full",
                    "discard-source": true, "auto-dismiss": false
                }),
            );
            while client.event("JOB_STATUS_CHANGE") != json!({"id": "j", "status": "concluded"}) {}
            client.call("job-dismiss", json!({"id": "j"}));
            let metadata = std::fs::metadata(within.join("from")).unwrap();
            let content = std::fs::read(within.join("to")).unwrap();
            assert!(content.iter().all(|byte| *byte == 5), "{discard}");
            seen.push(std::os::unix::fs::MetadataExt::blocks(&metadata).to_string());
        }
        let mut read_only = node("from", "unmap");
        read_only["read-only"] = json!(true);
        client.call("blockdev-reopen", json!({"options": [read_only]}));
        seen.push(client.fails("blockdev-backup", json!({
            "job-id": "j", "device": "from", "target": "to", "sync": "full", "discard-source": true
        })));
        client.call("quit", json!({}));
        assert!(daemon.ended().success());
        seen
    };
    assert_eq!(of(Whose::Ours), of(Whose::Peer));
}

fn mirror() {
    let within = folder("mirror");
    image(&within, "disk", "write -P 3 1M 2M");
    img(&within, &["create", "-q", "-f", "qcow2", "copy", "8M"]);
    let daemon =
        Daemon::start(Whose::Ours, &["--nbd-server", "addr.type=unix,addr.path=nbd"], &within);
    let mut client = daemon.client();
    add(&mut client, "disk", "disk");
    add(&mut client, "copy", "copy");
    let export =
        json!({"type": "nbd", "id": "e", "node-name": "disk", "name": "d", "writable": true});
    client.call("block-export-add", export);
    let job = json!({"job-id": "j", "device": "disk", "target": "copy", "sync": "full"});
    client.call("blockdev-mirror", job);
    client.event("BLOCK_JOB_READY");
    // What a client writes now, before and after the target takes over, is all in the target.
    let write = |pattern| {
        let uri = "nbd+unix:///d?socket=nbd";
        must(Whose::Peer, "qemu-io", &["-f", "raw", "-c", pattern, uri], &within);
    };
    write("write -P 5 4M 1M");
    client.call("job-complete", json!({"id": "j"}));
    assert_eq!(client.event("BLOCK_JOB_COMPLETED").get("error"), None);
    write("write -P 6 6M 1M");
    client.call("block-export-del", json!({"id": "e", "mode": "hard"}));
    client.call("quit", json!({}));
    assert!(daemon.ended().success());
    let checks = ["read -P 3 1M 2M", "read -P 5 4M 1M", "read -P 6 6M 1M"];
    for check in checks {
        must(Whose::Peer, "qemu-io", &["-c", check, "copy"], &within);
    }
    img(&within, &["check", "-q", "copy"]);
    must(Whose::Peer, "qemu-io", &["-c", "read -P 0 6M 1M", "disk"], &within);
}

fn layers() {
    for job in ["block-commit", "block-stream"] {
        let within = folder(job);
        image(&within, "base", "write -P 1 0 2M");
        img(&within, &["create", "-q", "-f", "qcow2", "-b", "base", "-F", "qcow2", "mid"]);
        must(Whose::Peer, "qemu-io", &["-c", "write -P 2 1M 2M", "mid"], &within);
        img(&within, &["create", "-q", "-f", "qcow2", "-b", "mid", "-F", "qcow2", "top"]);
        must(Whose::Peer, "qemu-io", &["-c", "write -P 3 2M 2M", "top"], &within);
        let daemon = Daemon::start(Whose::Ours, &[], &within);
        let mut client = daemon.client();
        // The layers below are opened as it names them: read-only, but while they are written.
        add(&mut client, "top", "top");
        let arguments: Value = match job {
            "block-commit" => json!({"job-id": "j", "device": "top", "top": "mid", "base": "base"}),
            _ => json!({"job-id": "j", "device": "top"}),
        };
        client.call(job, arguments);
        assert_eq!(client.event("BLOCK_JOB_COMPLETED").get("error"), None, "{job}");
        let concluded = json!({"id": "j", "status": "concluded"});
        assert_eq!(client.event("JOB_STATUS_CHANGE"), concluded);
        for node in client.call("query-named-block-nodes", json!({})).as_array().unwrap() {
            let top = node["file"] == "top";
            assert_eq!(node["ro"], json!(!top), "{job}: {node}");
        }
        client.call("quit", json!({}));
        assert!(daemon.ended().success());
        let chain = img(&within, &["info", "--output=json", "--backing-chain", "top"]);
        let chain: Value = serde_json::from_str(&chain).unwrap();
        let expected = if job == "block-commit" { 2 } else { 1 };
        assert_eq!(chain.as_array().unwrap().len(), expected, "{job}");
        let content = ["read -P 1 0 1M", "read -P 2 1M 1M", "read -P 3 2M 2M", "read -P 0 4M 4M"];
        for check in content {
            must(Whose::Peer, "qemu-io", &["-c", check, "top"], &within);
        }
        img(&within, &["check", "-q", "top"]);
    }
}

fn read_only_layers() {
    let within = folder("read-only-layers");
    image(&within, "base", "write -P 1 0 2M");
    img(&within, &["create", "-q", "-f", "qcow2", "-b", "base", "-F", "qcow2", "top"]);
    must(Whose::Peer, "qemu-io", &["-c", "write -P 2 1M 2M", "top"], &within);
    for name in ["base", "top"] {
        std::fs::copy(within.join(name), within.join(format!("{name}-before"))).unwrap();
    }
    img(&within, &["convert", "-O", "raw", "top", "content"]);
    let daemon = Daemon::start(Whose::Ours, &[], &within);
    let mut client = daemon.client();
    let is_read_only = |client: &mut crate::client::Client, name: &str| {
        let nodes = client.call("query-named-block-nodes", json!({}));
        let nodes = nodes.as_array().unwrap();
        nodes.iter().find(|node| node["node-name"] == name).unwrap()["ro"].clone()
    };
    let until = |client: &mut crate::client::Client, status: &str| {
        while client.event("JOB_STATUS_CHANGE") != json!({"id": "j", "status": status}) {}
    };
    let file = |name: &str| json!({"driver": "file", "filename": name});
    // A stream writes an overlay that is read-only before and after.
    client.call(
        "blockdev-add",
        json!({
            "driver": "qcow2", "node-name": "top", "read-only": true, "file": file("top")
        }),
    );
    client.call("block-stream", json!({"job-id": "j", "device": "top", "auto-dismiss": false}));
    assert_eq!(client.event("BLOCK_JOB_COMPLETED").get("error"), None);
    until(&mut client, "concluded");
    client.call("job-dismiss", json!({"id": "j"}));
    assert_eq!(is_read_only(&mut client, "top"), true);
    client.call("blockdev-del", json!({"node-name": "top"}));
    img(&within, &["check", "-q", "top"]);
    img(&within, &["compare", "-F", "raw", "top", "content"]);
    assert!(!img(&within, &["info", "top"]).contains("backing"));
    std::fs::copy(within.join("top-before"), within.join("top")).unwrap();

    // A commit of the active layer: given up, done without a turn to the base, and completed.
    client.call(
        "blockdev-add",
        json!({
            "driver": "qcow2", "node-name": "top", "file": file("top"), "backing": {
                "driver": "qcow2", "node-name": "base", "file": file("base")
            }
        }),
    );
    assert_eq!(is_read_only(&mut client, "base"), true);
    let by_device = json!({"device": "j"});
    let ends = [
        ("job-cancel", json!({"id": "j"}), true),
        ("block-job-cancel", by_device, false),
        ("job-complete", json!({"id": "j"}), false),
    ];
    for (end, arguments, read_only) in ends {
        let job = json!({"job-id": "j", "device": "top", "auto-dismiss": false});
        client.call("block-commit", job);
        until(&mut client, "ready");
        assert_eq!(is_read_only(&mut client, "base"), false);
        client.call(end, arguments);
        until(&mut client, "concluded");
        client.call("job-dismiss", json!({"id": "j"}));
        assert_eq!(is_read_only(&mut client, "base"), read_only, "after {end}");
    }
    client.call("quit", json!({}));
    assert!(daemon.ended().success());
    img(&within, &["check", "-q", "base"]);
    img(&within, &["compare", "-F", "raw", "base", "content"]);
}

/// Each job has a node above its source, which has its name as long as the job is there; what others
/// may do with the layers meanwhile.
fn covers() {
    let disk = json!({
        "driver": "qcow2", "node-name": "top", "file": {"driver": "file", "filename": "top"},
        "backing": {
            "driver": "qcow2", "node-name": "mid", "file": {"driver": "file", "filename": "mid"},
            "backing": {
                "driver": "qcow2", "node-name": "base",
                "file": {"driver": "file", "filename": "base"}
            }
        }
    });
    // Command, what it is told besides, the state that it stays in, and the node's driver.
    let copy = json!({"target": "copy", "sync": "full"});
    let held = json!({"auto-finalize": false, "base-node": "base"});
    let jobs = [
        ("blockdev-mirror", copy, "ready", "mirror_top"),
        (
            "blockdev-backup",
            json!({"target": "copy", "sync": "none"}),
            "running",
            "copy-before-write",
        ),
        ("block-stream", held.clone(), "pending", "copy-on-read"),
        ("block-commit", json!({}), "ready", "mirror_top"),
        (
            "block-commit",
            json!({"top-node": "mid", "auto-finalize": false}),
            "pending",
            "commit_top",
        ),
    ];
    let [theirs, ours] = [Whose::Peer, Whose::Ours].map(|whose| {
        let within = folder(&format!("covers-{whose:?}"));
        image(&within, "base", "write -P 1 0 8M");
        for (name, below) in [("mid", "base"), ("top", "mid")] {
            img(&within, &["create", "-q", "-f", "qcow2", "-b", below, "-F", "qcow2", name]);
            must(Whose::Peer, "qemu-io", &["-c", "write -P 2 1M 1M", name], &within);
        }
        img(&within, &["create", "-q", "-f", "qcow2", "copy", "8M"]);
        let daemon = Daemon::start(whose, &[], &within);
        let mut client = daemon.client();
        client.call("blockdev-add", disk.clone());
        add(&mut client, "copy", "copy");
        let mut said = Vec::new();
        for (command, told, state, driver) in &jobs {
            let mut arguments = json!({"job-id": "j", "device": "top"});
            arguments.as_object_mut().unwrap().extend(told.as_object().unwrap().clone());
            for name in ["1st", "mid"] {
                arguments["filter-node-name"] = json!(name);
                said.push(client.fails(command, arguments.clone()));
            }
            arguments["filter-node-name"] = json!("above");
            client.call(command, arguments.clone());
            while client.event("JOB_STATUS_CHANGE") != json!({"id": "j", "status": state}) {}
            let drivers = |client: &mut crate::client::Client| {
                let nodes = client.call("query-named-block-nodes", json!({"flat": true}));
                let nodes = nodes.as_array().unwrap().iter();
                let named = nodes.filter(|node| node["node-name"] == "above");
                named.map(|node| node["drv"].clone()).collect::<Vec<_>>()
            };
            assert_eq!(drivers(&mut client), [json!(driver)], "{whose:?}");
            let taken = json!({"driver": "null-co", "node-name": "above"});
            said.push(client.fails("blockdev-add", taken));
            said.push(client.fails("block-commit", json!({"device": "top"})));
            if *command != "blockdev-backup" {
                said.push(client.fails("blockdev-del", json!({"node-name": "top"})));
            }
            client.call("job-cancel", json!({"id": "j"}));
            while client.event("JOB_STATUS_CHANGE") != json!({"id": "j", "status": "null"}) {}
            assert!(drivers(&mut client).is_empty(), "{whose:?}");
        }
        client.call("quit", json!({}));
        assert!(daemon.ended().success());
        said
    });
    assert_eq!(ours, theirs);
}

fn group() {
    let within = folder("group");
    image(&within, "disk", "write -P 3 1M 2M");
    image(&within, "other", "write -P 4 3M 2M");
    for name in ["copy", "another"] {
        img(&within, &["create", "-q", "-f", "qcow2", name, "8M"]);
    }
    let daemon = Daemon::start(Whose::Ours, &[], &within);
    let mut client = daemon.client();
    for name in ["disk", "other", "copy", "another"] {
        add(&mut client, name, name);
    }
    let job = |id: &str, source: &str, target: &str| {
        let data = json!({"job-id": id, "device": source, "target": target, "sync": "full"});
        json!({"type": "blockdev-backup", "data": data})
    };
    let text = client.fails(
        "transaction",
        json!({"actions": [job("a", "disk", "copy"), {"type": "abort", "data": {}}]}),
    );
    assert_eq!(text, "Transaction aborted using Abort action");
    assert_eq!(client.call("query-jobs", json!({})), json!([]));
    let both = json!({
        "actions": [job("a", "disk", "copy"), job("b", "other", "another")],
        "properties": {"completion-mode": "grouped"}
    });
    client.call("transaction", both);
    for _ in 0..2 {
        assert_eq!(client.event("BLOCK_JOB_COMPLETED").get("error"), None);
    }
    client.call("quit", json!({}));
    assert!(daemon.ended().success());
    img(&within, &["compare", "disk", "copy"]);
    img(&within, &["compare", "other", "another"]);
}

/// Jobs that make their images themselves.
fn by_name() {
    let within = folder("by-name");
    image(&within, "disk", "write -P 3 1M 2M");
    std::fs::write(within.join("made"), "").unwrap();
    let daemon = Daemon::start(Whose::Ours, &[], &within);
    let mut client = daemon.client();
    add(&mut client, "disk", "disk");
    let wait = |client: &mut crate::client::Client, id: &str| loop {
        let data = client.event("JOB_STATUS_CHANGE");
        if data["id"] == id && data["status"] == "concluded" {
            break;
        }
    };
    let file = json!({"driver": "file", "filename": "made"});
    client.call("blockdev-add", json!({"driver": "file", "node-name": "f", "filename": "made"}));
    let options = json!({"driver": "qcow2", "file": "f", "size": 8 << 20});
    client.call("blockdev-create", json!({"job-id": "c", "options": options}));
    wait(&mut client, "c");
    let jobs = client.call("query-jobs", json!({}));
    assert_eq!((&jobs[0]["id"], jobs[0].get("error")), (&json!("c"), None), "{jobs}");
    client.call("job-dismiss", json!({"id": "c"}));
    client.call("blockdev-del", json!({"node-name": "f"}));
    client.call("blockdev-add", json!({"driver": "qcow2", "node-name": "made", "file": file}));
    let copy = json!({"job-id": "b", "device": "disk", "target": "copy", "sync": "full"});
    client.call("drive-backup", copy);
    wait(&mut client, "b");
    client.call("quit", json!({}));
    assert!(daemon.ended().success());
    img(&within, &["compare", "disk", "copy"]);
    img(&within, &["check", "-q", "copy"]);
    img(&within, &["check", "-q", "-f", "qcow2", "made"]);
}
