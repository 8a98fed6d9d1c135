//! The same input for our daemon and for the installed one: what they answer.
//!
//! Each file `scripts/NAME.txt` is a test. A line `$ …` is run by the shell before, in a folder of the
//! daemon's own; other lines go to a monitor on standard input. Members that name a version, a time or
//! a name made up by the daemon do not count. In `command-lines.txt` each line has the arguments of a
//! daemon that ends by itself, whose output and exit code are compared.

use crate::Test;
use crate::tools::{Whose, folder, tool};
use serde_json::Value;
use std::collections::HashMap;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

pub const TESTS: &[Test] = &[
    ("messages", || script("messages", include_str!("scripts/messages.txt"))),
    ("nodes", || script("nodes", include_str!("scripts/nodes.txt"))),
    ("reopen", || script("reopen", include_str!("scripts/reopen.txt"))),
    ("reopen_options", || script("reopen-options", include_str!("scripts/reopen-options.txt"))),
    ("reopen_drivers", || script("reopen-drivers", include_str!("scripts/reopen-drivers.txt"))),
    ("reopen_users", || script("reopen-users", include_str!("scripts/reopen-users.txt"))),
    ("parts_of_files", || script("parts", include_str!("scripts/parts.txt"))),
    ("inactive_nodes", || script("active", include_str!("scripts/active.txt"))),
    ("facts", || script("facts", include_str!("scripts/facts.txt"))),
    ("quorum", || script("quorum", include_str!("scripts/quorum.txt"))),
    ("snapshots", || script("snapshots", include_str!("scripts/snapshots.txt"))),
    ("bitmaps", || script("bitmaps", include_str!("scripts/bitmaps.txt"))),
    ("job_refusals", || script("jobs", include_str!("scripts/jobs.txt"))),
    ("exported_bitmaps", || script("lent", include_str!("scripts/lent.txt"))),
    ("offers", || script("offers", include_str!("scripts/offers.txt"))),
    ("chardevs", || script("chardevs", include_str!("scripts/chardevs.txt"))),
    ("command_lines", command_lines),
    ("schema", schema),
];

/// What a daemon answers to these lines.
fn talk(whose: Whose, test: &str, text: &str) -> Vec<String> {
    let within = folder(&format!("{test}-{whose:?}"));
    let (setup, input): (Vec<&str>, Vec<&str>) =
        text.lines().filter(|line| !line.starts_with('#')).partition(|l| l.starts_with("$ "));
    for line in setup {
        let status = Command::new("sh").args(["-ec", &line[2..]]).current_dir(&within).status();
        assert!(status.unwrap().success(), "{line}");
    }
    let args = ["--chardev", "stdio,id=m", "--monitor", "m"];
    let mut daemon = tool(whose, "qemu-storage-daemon", &args, &within);
    let mut daemon = daemon.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = daemon.stdin.take().unwrap();
    let input = format!("{}\n{{'execute': 'quit'}}\n", input.join("\n"));
    // Who quits early reads no more.
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()).map(|()| stdin));
    let output = daemon.wait_with_output().unwrap();
    drop(writer.join().unwrap());
    assert!(output.status.success());
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().map(str::trim).filter(|line| line.starts_with('{')).map(normal).collect()
}

/// A message without what differs between any two runs.
fn normal(line: &str) -> String {
    let mut value: Value = serde_json::from_str(line).unwrap();
    simplify(&mut value);
    value.to_string()
}

fn simplify(value: &mut Value) {
    const CHANGING: &[&str] = &[
        "package",
        "micro",
        "timestamp",
        "actual-size",
        "date-sec",
        "date-nsec",
        "vm-clock-sec",
        "vm-clock-nsec",
    ];
    match value {
        Value::Object(members) => {
            members.retain(|key, _| !CHANGING.contains(&key.as_str()));
            if members.get("format").is_some_and(|format| format == "file") {
                // They count in sectors, we in bytes.
                members.remove("virtual-size");
            }
            if members.get("compat").is_some() {
                // We show bitmaps that will be stored, they those that are.
                members.remove("bitmaps");
            }
            members.sort_keys();
            members.values_mut().for_each(simplify);
            for key in ["node-name", "pty", "filename"] {
                if let Some(Value::String(name)) = members.get_mut(key)
                    && (name.starts_with("#block") || name.contains("/dev/pts/"))
                {
                    name.clear();
                }
            }
        }
        Value::Array(elements) => {
            elements.iter_mut().for_each(simplify);
            // Nodes and bitmaps come in no order.
            if elements.iter().all(|e| {
                e.get("drv").is_some() || e.get("recording").is_some() || e.get("stats").is_some()
            }) {
                elements.sort_by_key(Value::to_string);
            }
        }
        _ => {}
    }
}

fn script(name: &str, text: &str) {
    let [theirs, ours] = [Whose::Peer, Whose::Ours].map(|whose| talk(whose, name, text));
    for (at, (theirs, ours)) in theirs.iter().zip(&ours).enumerate() {
        let same = ours.bytes().zip(theirs.bytes()).take_while(|(one, other)| one == other).count();
        let around = |text: &str| text.chars().skip(same.saturating_sub(60)).take(200).collect();
        let (ours, theirs): (String, String) = (around(ours), around(theirs));
        assert_eq!(ours, theirs, "answer {at} of {name}");
    }
    assert_eq!(ours.len(), theirs.len(), "{name}");
}

fn command_lines() {
    for line in include_str!("scripts/command-lines.txt").lines().filter(|l| !l.starts_with('#')) {
        let words: Vec<&str> = line.split(' ').collect();
        let [theirs, ours] = [Whose::Peer, Whose::Ours].map(|whose| {
            let within = folder(&format!("line-{whose:?}"));
            let output = tool(whose, "qemu-storage-daemon", &words, &within).output().unwrap();
            let text =
                [output.stdout, output.stderr].map(|t| String::from_utf8_lossy(&t).into_owned());
            (output.status.code(), text)
        });
        assert_eq!(ours, theirs, "{line}");
    }
}

/// Both tell the same commands, events and types; the numbers of types may differ.
fn schema() {
    let text = "{'execute': 'qmp_capabilities'}\n{'execute': 'query-qmp-schema'}\n\
                {'execute': 'query-commands'}";
    let [theirs, ours] = [Whose::Peer, Whose::Ours].map(|whose| {
        let answers = talk(whose, "schema", text);
        let mut schema: Value = serde_json::from_str(&answers[2]).unwrap();
        let mut numbers = HashMap::new();
        for entry in schema["return"].as_array_mut().unwrap() {
            renumber(entry, &mut numbers);
        }
        (schema, answers[3].clone())
    });
    assert_eq!(ours.1, theirs.1);
    let entries = |schema: &Value| schema["return"].as_array().unwrap().clone();
    let (theirs, ours) = (entries(&theirs.0), entries(&ours.0));
    for (ours, theirs) in ours.iter().zip(&theirs) {
        assert_eq!(ours, theirs);
    }
    assert_eq!(ours.len(), theirs.len());
}

/// Numbers types in the order in which they are met.
fn renumber(value: &mut Value, numbers: &mut HashMap<String, usize>) {
    match value {
        Value::Array(elements) => elements.iter_mut().for_each(|e| renumber(e, numbers)),
        Value::Object(members) => {
            for (key, value) in members.iter_mut() {
                let names = ["name", "type", "arg-type", "ret-type", "element-type"];
                if let (true, Value::String(name)) = (names.contains(&key.as_str()), &mut *value) {
                    let number = name.trim_matches(['[', ']']).to_owned();
                    if number.bytes().all(|b| b.is_ascii_digit()) {
                        let next = numbers.len();
                        let new = *numbers.entry(number.clone()).or_insert(next);
                        *name = name.replace(&number, &format!("type {new}"));
                    }
                }
                renumber(value, numbers);
            }
        }
        _ => {}
    }
}

/// Whether the folder has nothing left that a daemon should have removed.
pub fn is_gone(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_err()
}
