//! Runs the built binary as `qemu-img` and `qemu-io`: transcripts of command lines with all that they print.
//!
//! A transcript in `tests/img/` has lines `$ command`, then standard output and error, then the exit
//! code in brackets. Sizes on the host, dates and times are written as `…`. The transcripts were
//! compared with QEMU 10.0.2's programs; `UPDATE_GOLDEN=1` writes them anew.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fmt::Write as _;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A folder of this test's own.
fn folder(test: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("img-{test}"));
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).unwrap();
    path
}

/// Runs one line of a transcript: what it printed, and its exit code.
fn run(line: &str, within: &Path) -> (String, i32) {
    let words: Vec<String> = split(line);
    let (program, rest) = words.split_first().unwrap();
    if program == "fill" {
        return (fill(rest, within), 0);
    }
    assert!(["qemu-img", "qemu-io"].contains(&program.as_str()), "a transcript knows no {program}");
    let mut command = Command::new(env!("CARGO_BIN_EXE_tinamou"));
    command.arg0(program).args(rest).current_dir(within).env("TZ", "UTC");
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace('\r', "\\r\n");
    let printed = text(&output.stdout) + &text(&output.stderr);
    (steady(&printed), output.status.code().unwrap())
}

/// `fill FILE OFFSET LENGTH BYTE`: writes to a file by other means.
fn fill(words: &[String], within: &Path) -> String {
    use std::os::unix::fs::FileExt;
    let [file, offset, len, byte] = words else { panic!("fill FILE OFFSET LENGTH BYTE") };
    let file = std::fs::OpenOptions::new().write(true).open(within.join(file)).unwrap();
    let bytes = vec![byte.parse().unwrap(); len.parse().unwrap()];
    file.write_all_at(&bytes, offset.parse().unwrap()).unwrap();
    String::new()
}

/// Words as a shell splits them; quotes are single.
fn split(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (row, piece) in line.split('\'').enumerate() {
        if row % 2 == 1 {
            words.push(piece.to_owned());
        } else {
            words.extend(piece.split_whitespace().map(str::to_owned));
        }
    }
    words
}

/// Takes out what differs from run to run and from host to host.
fn steady(text: &str) -> String {
    let mut lines = String::new();
    for line in text.lines() {
        let cut = |start: &str| line.find(start).map(|at| &line[..at + start.len()]);
        let known = [
            "disk size: ",
            "\"actual-size\": ",
            "\"date-sec\": ",
            "\"date-nsec\": ",
            "completed in ",
            " ops; ",
        ];
        let line = match known.iter().find_map(|start| cut(start)) {
            Some(kept) => format!("{kept}…"),
            None => line.to_owned(),
        };
        writeln!(lines, "{}", without_date(&line)).unwrap();
    }
    lines
}

/// A line without dates, times and process numbers.
fn without_date(line: &str) -> String {
    let made_of = |word: &str, len, mark| {
        word.len() == len && word.bytes().all(|b| b.is_ascii_digit() || b == mark)
    };
    let differs = |word: &str| made_of(word, 10, b'-') || made_of(word, 8, b':');
    let blank = |word: &str| if differs(word) { "…".to_owned() } else { word.to_owned() };
    let line = line.split(' ').map(blank).collect::<Vec<_>>().join(" ");
    match line.split_once("(pid ") {
        Some((before, _)) => format!("{before}(pid …)."),
        None => line,
    }
}

/// Runs every command of a transcript and compares what it prints.
fn replay(name: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/img/{name}.txt"));
    let golden = std::fs::read_to_string(&path).unwrap();
    let within = folder(name);
    let mut replayed = String::new();
    for line in golden.lines().filter_map(|line| line.strip_prefix("$ ")) {
        let (printed, code) = run(line, &within);
        write!(replayed, "$ {line}\n{printed}[{code}]\n").unwrap();
    }
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &replayed).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap();
    for (row, (was, is)) in golden.lines().zip(replayed.lines()).enumerate() {
        assert_eq!(was, is, "{name}.txt, line {}", row + 1);
    }
    assert_eq!(golden.lines().count(), replayed.lines().count(), "{name}.txt");
}

#[test]
fn command_lines() {
    replay("usage");
}

#[test]
fn creating_and_showing() {
    replay("create");
}

#[test]
fn copying_and_comparing() {
    replay("copy");
}

#[test]
fn single_requests() {
    replay("io");
}

#[test]
fn filters() {
    replay("filters");
}

#[test]
fn snapshots() {
    replay("snapshot");
}

#[test]
fn chains() {
    replay("chain");
}

#[test]
fn a_failed_convert_leaves_nothing() {
    let within = folder("left");
    assert_eq!(run("qemu-img create -q -f raw in 1M", &within).1, 0);
    assert_eq!(run("qemu-img convert -O raw -c in out", &within).1, 1);
    assert!(!within.join("out").exists());
}
