//! The same command lines for our tools and for the installed ones: what they print, and whether
//! either can use what the other made.
//!
//! Its own `main`, because the same binary is also the tool: called by the name of one, it is that.
//! Each file `tests/peer/NAME.txt` is a test. Its lines:
//!
//! ```text
//! # a comment
//! each NAME = one | two        the lines up to `end` for each value; $NAME stands for it
//! qemu-img …                   run by both in folders of their own; all that is printed is compared
//! ! qemu-img …                 likewise, but only the exit code is compared
//! ~ qemu-img …                 likewise, and both have to succeed; nothing is compared
//! only qemu-img …              run by ours alone, and has to succeed
//! copy FROM TO                 copies a file within each folder
//! fill FILE OFFSET LENGTH BYTE writes to a file by other means; makes it
//! same FILE OTHER              in each folder both hold the same: nothing was written
//! theirs FILE                  our folder gets the file that the installed tools made
//! ours FILE                    theirs gets ours
//! swap FORMAT FILE             each checks the other's image and finds the same content in both
//! ```
//!
//! `PEER=word cargo test -p img --test peer` shows every difference of the files whose name has that word.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt::Write as _;
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

fn main() -> ExitCode {
    let mut words: Vec<String> = std::env::args().collect();
    let called = words.remove(0);
    match called.as_str() {
        "qemu-img" => return img::run(&called, &words),
        "qemu-io" => return img::io::run(&called, &words),
        _ => {}
    }
    let listing = words.iter().any(|word| word == "--list");
    let ignored = words.iter().any(|word| word == "--ignored");
    let wanted: Vec<&String> = words.iter().filter(|word| !word.starts_with('-')).collect();
    let mut bad = 0;
    for (name, text) in scripts() {
        if ignored || !(wanted.is_empty() || wanted.iter().any(|part| name.contains(*part))) {
            continue;
        }
        if listing {
            println!("{name}: test");
            continue;
        }
        let (ran, differences) = compare(&name, &text);
        println!("{name}: {ran} command lines, {} differences", differences.len());
        differences.iter().for_each(|text| println!("{text}"));
        bad += differences.len();
    }
    ExitCode::from(u8::from(bad > 0))
}

/// The scripts by name.
fn scripts() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peer");
    let mut scripts: Vec<(String, String)> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            (name, std::fs::read_to_string(&path).unwrap())
        })
        .collect();
    scripts.sort();
    scripts
}

/// Lines of a script, with every `each` written out.
fn unrolled(lines: &[&str]) -> Vec<String> {
    let mut all = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        let line = lines[at].trim();
        at += 1;
        let Some(each) = line.strip_prefix("each ") else {
            if !line.is_empty() && !line.starts_with('#') {
                all.push(line.to_owned());
            }
            continue;
        };
        let mut depth = 1;
        let body = at;
        while depth > 0 {
            let line = lines.get(at).expect("every 'each' has an 'end'").trim();
            depth += i32::from(line.starts_with("each ")) - i32::from(line == "end");
            at += 1;
        }
        let inner = unrolled(&lines[body..at - 1]);
        let (name, values) = each.split_once('=').expect("each NAME = values");
        for value in values.split('|').map(str::trim) {
            let name = format!("${}", name.trim());
            all.extend(inner.iter().map(|line| line.replace(&name, value)));
        }
    }
    all
}

/// What one run printed, and its exit code.
#[derive(PartialEq, Eq)]
struct Said {
    text: String,
    code: Option<i32>,
}

/// One of the two implementations and its folder.
struct Side {
    ours: bool,
    folder: PathBuf,
}

impl Side {
    fn run(&self, line: &str) -> Said {
        let words = split(line);
        let mut command = if self.ours {
            Command::new(std::env::current_exe().unwrap())
        } else {
            Command::new(&words[0])
        };
        command.arg0(&words[0]).args(&words[1..]).current_dir(&self.folder).env("TZ", "UTC");
        let output = command.stdin(Stdio::null()).output().expect("qemu-utils is installed");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace('\r', "\\r\n");
        let printed = text(&output.stdout) + &text(&output.stderr);
        Said { text: steady(&printed), code: output.status.code() }
    }
}

/// How a line is compared.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Strictness {
    All,
    Code,
    Success,
}

/// Runs a script on both sides: the number of commands, and what differed.
fn compare(name: &str, text: &str) -> (usize, Vec<String>) {
    let root = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("peer-{name}"));
    let _ = std::fs::remove_dir_all(&root);
    let [ours, theirs] = ["ours", "theirs"].map(|side| root.join(side));
    for folder in [&ours, &theirs] {
        std::fs::create_dir_all(folder).unwrap();
    }
    let ours = Side { ours: true, folder: ours };
    let theirs = Side { ours: false, folder: theirs };
    let lines: Vec<&str> = text.lines().collect();
    let (mut ran, mut differences) = (0, Vec::new());
    for line in unrolled(&lines) {
        let words = split(&line);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match words.as_slice() {
            ["copy", from, to] => {
                for side in [&ours, &theirs] {
                    std::fs::copy(side.folder.join(from), side.folder.join(to)).unwrap();
                }
            }
            ["fill", file, offset, len, byte] => {
                for side in [&ours, &theirs] {
                    let file = side.folder.join(file);
                    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
                    let file = std::fs::OpenOptions::new()
                        .write(true)
                        .create(true)
                        .truncate(false)
                        .open(file)
                        .unwrap();
                    let bytes = vec![byte.parse().unwrap(); len.parse().unwrap()];
                    file.write_all_at(&bytes, offset.parse().unwrap()).unwrap();
                }
            }
            ["same", file, other] => {
                for side in [&ours, &theirs] {
                    let [file, other] = [file, other]
                        .map(|name| std::fs::read(side.folder.join(name)).unwrap_or_default());
                    if file != other {
                        let who = if side.ours { "we" } else { "they" };
                        differences.push(format!("{line}: {who} wrote"));
                    }
                }
            }
            ["theirs", file] => {
                std::fs::copy(theirs.folder.join(file), ours.folder.join(file)).unwrap();
            }
            ["ours", file] => {
                std::fs::copy(ours.folder.join(file), theirs.folder.join(file)).unwrap();
            }
            ["only", ..] => {
                let said = ours.run(line.trim_start_matches("only"));
                assert_eq!(said.code, Some(0), "{line}: {}", said.text);
            }
            ["swap", format, file] => {
                ran += 4;
                differences.extend(swap(&ours, &theirs, format, file));
            }
            _ => {
                ran += 2;
                differences.extend(both(&ours, &theirs, &line));
            }
        }
    }
    (ran, differences)
}

/// Runs one line on both sides at the same time.
fn both(ours: &Side, theirs: &Side, line: &str) -> Option<String> {
    let (strictness, line) = match line.split_at(1) {
        ("!", rest) => (Strictness::Code, rest.trim()),
        ("~", rest) => (Strictness::Success, rest.trim()),
        _ => (Strictness::All, line),
    };
    let (our, their) = std::thread::scope(|scope| {
        let our = scope.spawn(|| ours.run(line));
        let their = theirs.run(line);
        (our.join().unwrap(), their)
    });
    let same = match strictness {
        Strictness::All => our == their,
        Strictness::Code => our.code == their.code,
        Strictness::Success => our.code == Some(0) && their.code == Some(0),
    };
    if same {
        return None;
    }
    let mut text = format!("$ {line}\n");
    for (who, said) in [("theirs", &their), ("ours", &our)] {
        writeln!(text, "--- {who} [{}]\n{}", said.code.unwrap_or(-1), said.text).unwrap();
    }
    Some(text)
}

/// Lets each side check and read what the other made.
fn swap(ours: &Side, theirs: &Side, format: &str, file: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let [our_file, their_file] =
        [ours, theirs].map(|side| side.folder.join(file).display().to_string());
    for (side, file) in [(ours, &their_file), (theirs, &our_file)] {
        let who = if side.ours { "we say of theirs" } else { "they say of ours" };
        let check = side.run(&format!("qemu-img check -f {format} {file}"));
        // 63: the format has no checks.
        if !matches!(check.code, Some(0 | 63)) {
            wrong.push(format!("swap {format} {file}: {who}: {}", check.text));
        }
        let compared =
            side.run(&format!("qemu-img compare -f {format} -F {format} {our_file} {their_file}"));
        if compared.code != Some(0) {
            wrong.push(format!("swap {format} {file}: {who}: {}", compared.text));
        }
    }
    wrong
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
        let known = ["disk size: ", "\"actual-size\": ", "date-sec\": ", "date-nsec\": "];
        let random = ["uuid", "iters", "cid", "parent cid", "parent-cid"];
        let word = line.trim().trim_start_matches('"');
        let line = match known.iter().find(|start| line.contains(*start)) {
            Some(start) => line.split(*start).next().unwrap_or_default(),
            None if random.iter().any(|name| word.starts_with(name)) => {
                line.split(':').next().unwrap_or_default()
            }
            None => line,
        };
        writeln!(lines, "{line}").unwrap();
    }
    lines
}
