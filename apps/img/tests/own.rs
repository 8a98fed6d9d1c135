//! What `tinamou img` has beyond QEMU's tool: conversions that are killed again and again, at any point, and
//! gone on with; shrinking; repairs that are explained.
//!
//! Its own `main`, because the same binary is also the tool. For each kind of target: the tool is killed
//! (SIGKILL) after a time that differs from run to run, and started again with the same command line, until
//! it has reached its end; then the target must hold what the source does, pass its check, and stand alone.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output, Stdio};
use std::time::Duration;

/// Bytes of the source.
const SIZE: usize = 24 << 20;
/// Runs that are killed, at most, before one is let to its end.
const KILLS: u32 = 12;

/// Options of a target, and whether its format can be checked.
const TARGETS: &[(&str, &[&str], bool)] = &[
    ("raw", &["-O", "raw"], false),
    ("qcow2", &["-O", "qcow2"], true),
    ("small-clusters", &["-O", "qcow2", "-o", "cluster_size=4k"], true),
    ("any-order", &["-O", "qcow2", "-W", "-m", "16"], true),
    ("packed", &["-c", "-O", "qcow2"], true),
    ("zstd", &["-c", "-O", "qcow2", "-o", "compression_type=zstd"], true),
    ("vdi", &["-O", "vdi"], true),
    ("vmdk", &["-O", "vmdk"], true),
];

fn main() -> ExitCode {
    let mut words: Vec<String> = std::env::args().collect();
    if words.remove(0) == "tinamou img" {
        return img::run("tinamou img", &words);
    }
    if words.iter().any(|word| word == "--list") {
        println!("own: test");
        return ExitCode::SUCCESS;
    }
    if words.iter().any(|word| word == "--ignored") {
        return ExitCode::SUCCESS;
    }
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("own");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("source"), content()).unwrap();
    let mut dice = Dice(0x9e37_79b9);
    let resumed: u32 =
        TARGETS.iter().map(|target| killed_again_and_again(&folder, target, &mut dice)).sum();
    assert!(resumed > 0, "no conversion was gone on with: all were killed too early or not at all");
    a_changed_source_is_refused(&folder);
    what_is_in_the_way_stays(&folder);
    println!("own: {resumed} conversions were gone on with");
    shrinking_gives_back_what_is_zero(&folder);
    a_repair_is_explained_before_it_is_made(&folder);
    a_secret_is_read_once(&folder);
    ExitCode::SUCCESS
}

/// What can be read once is enough for a secret.
fn a_secret_is_read_once(folder: &Path) {
    use std::io::Write;
    let given = "secret,id=s,data=abc";
    let options = "key-secret=s,iter-time=10";
    let made = ["create", "-q", "-f", "luks", "--object", given, "-o", options, "volume", "1M"];
    let mut tool = Command::new(std::env::current_exe().unwrap());
    tool.arg0("tinamou img").args(made).current_dir(folder);
    assert!(tool.status().unwrap().success());
    let piped = "secret,id=s,file=/dev/stdin";
    let image = "driver=luks,key-secret=s,file.filename=volume";
    let args = ["convert", "--object", piped, "--image-opts", image, "-O", "raw", "plain"];
    let mut tool = Command::new(std::env::current_exe().unwrap());
    tool.arg0("tinamou img").args(args).current_dir(folder).stdin(Stdio::piped());
    let mut child = tool.spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"abc").unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(std::fs::metadata(folder.join("plain")).unwrap().len(), 1 << 20);
}

struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// Noise, text and zeroes in turns.
fn content() -> Vec<u8> {
    let mut dice = Dice(7);
    let turn = |row: usize| move |at: usize| (row, at);
    let mut bytes = Vec::with_capacity(SIZE);
    for (row, at) in (0..SIZE / 65536).flat_map(|row| (0..65536).map(turn(row))) {
        bytes.push(match row % 3 {
            0 => dice.below(256) as u8,
            1 => (at / 7 % 50) as u8,
            _ => 0,
        });
    }
    bytes
}

fn tool(folder: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg0("tinamou img").args(words).current_dir(folder).stdin(Stdio::null());
    command
}

fn run(folder: &Path, words: &[&str]) -> Output {
    tool(folder, words).output().unwrap()
}

/// How often the conversion was gone on with.
fn killed_again_and_again(
    folder: &Path,
    (name, options, checked): &(&str, &[&str], bool),
    dice: &mut Dice,
) -> u32 {
    let mut words = vec!["convert", "-f", "raw", "--checkpoint", "1M"];
    words.extend(*options);
    let mut resumed = 0;
    for _ in 0..KILLS {
        let mut slow = words.clone();
        slow.extend(["-r", "48M", "source", name]);
        let mut child = tool(folder, &slow).stderr(Stdio::piped()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(dice.below(400)));
        // It may have reached its end.
        let _ = child.kill();
        let output = child.wait_with_output().unwrap();
        resumed += u32::from(String::from_utf8_lossy(&output.stderr).contains("going on at"));
        if output.status.success() {
            break;
        }
        assert_eq!(
            output.status.code(),
            None,
            "{name}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        if folder.join(name).exists() {
            // Killed behind the last step but one: what has the name is whole, as is seen below.
            let _ = std::fs::remove_file(folder.join(format!("{name}.partial.json")));
            break;
        }
    }
    if !folder.join(name).exists() {
        words.extend(["source", name]);
        let output = run(folder, &words);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{name}: {said}");
        resumed += u32::from(said.contains("going on at"));
    }
    for left in ["partial", "partial.json", "partial.json.new"] {
        assert!(!folder.join(format!("{name}.{left}")).exists(), "{name}.{left} is left");
    }
    let format = options[options.iter().position(|word| *word == "-O").unwrap() + 1];
    let same = run(folder, &["compare", "-f", "raw", "-F", format, "source", name]);
    assert!(same.status.success(), "{name}: {}", String::from_utf8_lossy(&same.stdout));
    if *checked {
        let sound = run(folder, &["check", "-f", format, name]);
        assert!(sound.status.success(), "{name}: {}", String::from_utf8_lossy(&sound.stderr));
    }
    println!("resume {name}: gone on with {resumed} times");
    resumed
}

/// Starts a conversion and kills it when it has a point to go on from.
fn interrupted(folder: &Path, source: &str, target: &str) {
    let options = ["convert", "-f", "raw", "-O", "qcow2", "--checkpoint", "1M", "-r", "4M"];
    let mut child = tool(folder, &options)
        .args(["--progress=json", source, target])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let state = folder.join(format!("{target}.partial.json"));
    let begun = |text: String| text.contains("\"done\":") && !text.contains("\"done\":0");
    for line in BufReader::new(child.stderr.take().unwrap()).lines() {
        let said: serde_json::Value = serde_json::from_str(&line.unwrap()).unwrap();
        assert_eq!(said["finished"], false, "it ended too early");
        if std::fs::read_to_string(&state).is_ok_and(begun) {
            break;
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

fn a_changed_source_is_refused(folder: &Path) {
    std::fs::copy(folder.join("source"), folder.join("changing")).unwrap();
    interrupted(folder, "changing", "changed");
    let mut bytes = content();
    bytes.truncate(SIZE - 512);
    std::fs::write(folder.join("changing"), &bytes).unwrap();
    let words = ["convert", "-f", "raw", "-O", "qcow2", "changing", "changed"];
    let refused = run(folder, &words);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("--restart"), "{said}");
    let mut anew = words.to_vec();
    anew.push("--restart");
    assert!(run(folder, &anew).status.success());
    let same = run(folder, &["compare", "-f", "raw", "-F", "qcow2", "changing", "changed"]);
    assert!(same.status.success());
}

fn what_is_in_the_way_stays(folder: &Path) {
    std::fs::write(folder.join("new.partial"), b"mine").unwrap();
    let refused = run(folder, &["convert", "-f", "raw", "-O", "raw", "source", "new"]);
    assert!(!refused.status.success());
    assert_eq!(std::fs::read(folder.join("new.partial")).unwrap(), b"mine");
    // What has the name of the target stays until there is something better.
    std::fs::write(folder.join("old"), b"old").unwrap();
    let failed = run(folder, &["convert", "-f", "raw", "-O", "raw", "-c", "source", "old"]);
    assert!(!failed.status.success());
    assert_eq!(std::fs::read(folder.join("old")).unwrap(), b"old");
    assert!(!folder.join("old.partial").exists() && !folder.join("old.partial.json").exists());
}

/// Runs the tool, which has to succeed with this exit code; what it printed.
fn says(folder: &Path, words: &[&str], code: i32) -> String {
    let output = run(folder, words);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let said = text(&output.stdout) + &text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{words:?}: {said}");
    said
}

fn shrinking_gives_back_what_is_zero(folder: &Path) {
    // With -S 0 zeroes are stored.
    for (format, cuts) in [("raw", false), ("qcow2", true), ("vdi", false)] {
        let name = format!("full.{format}");
        says(folder, &["convert", "-S", "0", "-f", "raw", "-O", format, "source", &name], 0);
        let taken = || {
            let meta = std::fs::metadata(folder.join(&name)).unwrap();
            (meta.len(), std::os::unix::fs::MetadataExt::blocks(&meta) * 512)
        };
        let before = taken();
        let said = says(folder, &["shrink", "-f", format, &name], 0);
        assert!(said.contains("on the host"), "{said}");
        let after = taken();
        assert!(format == "vdi" || after.1 < before.1 * 3 / 4, "{format}: {before:?} {after:?}");
        assert!(!cuts || after.0 < before.0 * 3 / 4, "{format}: {before:?} {after:?}");
        says(folder, &["compare", "-f", "raw", "-F", format, "source", &name], 0);
        if cuts {
            says(folder, &["check", "-f", format, &name], 0);
        }
    }
}

fn a_repair_is_explained_before_it_is_made(folder: &Path) {
    says(folder, &["create", "-q", "-f", "qcow2", "damaged", "1M"], 0);
    let path = folder.join("damaged");
    let mut bytes = std::fs::read(&path).unwrap();
    let be64 =
        |bytes: &[u8], at: usize| u64::from_be_bytes(*bytes[at..].first_chunk().unwrap()) as usize;
    let block = be64(&bytes, be64(&bytes, 48));
    // The cluster of the L1 table is counted twice: a leak; the header's not at all.
    let l1 = be64(&bytes, 40) >> 16;
    bytes[block + 2 * l1 + 1] = 2;
    bytes[block + 1] = 0;
    std::fs::write(&path, &bytes).unwrap();
    let said = says(folder, &["repair", "-f", "qcow2", "damaged"], 2);
    for words in [
        "1 damaged entry, 1 lost cluster",
        "counted as used",
        "more users than are counted",
        "would change 2 bytes in 1 blocks",
        "Then: sound.",
        "Nothing was changed.",
    ] {
        assert!(said.contains(words), "'{words}' is not in: {said}");
    }
    let said = says(folder, &["repair", "--explain", "-f", "qcow2", "damaged"], 2);
    assert!(said.contains("cluster 0 refcount=0 reference=1"), "{said}");
    assert_eq!(std::fs::read(&path).unwrap(), bytes, "nothing was to be changed");
    let said = says(folder, &["repair", "--apply", "-f", "qcow2", "damaged"], 0);
    assert!(said.contains("Now: sound."), "{said}");
    assert!(says(folder, &["repair", "damaged"], 0).contains("sound"));
    assert!(says(folder, &["repair", "-f", "raw", "damaged"], 63).contains("no tables"));
}
