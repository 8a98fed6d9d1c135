//! `cargo xtask bench block`: the image tools beside the installed ones.
//!
//! Each row is a command line that both run on files of their own, in turns; what a row changes is made
//! anew before each run, by the peer. Files are in the page cache: what is compared is the tools.

use super::measure;
use crate::emulator;
use crate::packages;
use crate::tools::{self, At, Result, Scratch};
use std::fs;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// Bytes of the disk that is copied: a third each of random bytes, text and zeroes.
const DISK: usize = 384 << 20;
/// Writes that are scattered over the sparse image.
const SCATTERED: u64 = 4000;

/// One measurement.
struct Row {
    name: &'static str,
    /// Made before each run, by the peer.
    before: &'static [&'static str],
    /// What is timed: the tool and its arguments.
    timed: &'static str,
}

const fn row(name: &'static str, before: &'static [&'static str], timed: &'static str) -> Row {
    Row { name, before, timed }
}

const ROWS: &[Row] = &[
    row("create, 1 TiB", &[], "qemu-img create -q -f qcow2 new 1T"),
    row(
        "create, 64 GiB, metadata",
        &[],
        "qemu-img create -q -f qcow2 -o preallocation=metadata new 64G",
    ),
    row("convert raw to qcow2", &[], "qemu-img convert -f raw -O qcow2 disk.raw new"),
    row("convert qcow2 to raw", &[], "qemu-img convert -f qcow2 -O raw disk.qcow2 new"),
    row("convert raw to vmdk", &[], "qemu-img convert -f raw -O vmdk disk.raw new"),
    row("convert vmdk to raw", &[], "qemu-img convert -f vmdk -O raw disk.vmdk new"),
    row("convert raw to vdi", &[], "qemu-img convert -f raw -O vdi disk.raw new"),
    row("convert vdi to raw", &[], "qemu-img convert -f vdi -O raw disk.vdi new"),
    row("convert raw to vpc", &[], "qemu-img convert -f raw -O vpc disk.raw new"),
    row("convert vpc to raw", &[], "qemu-img convert -f vpc -O raw disk.vpc new"),
    row("convert raw to vhdx", &[], "qemu-img convert -f raw -O vhdx disk.raw new"),
    row("convert vhdx to raw", &[], "qemu-img convert -f vhdx -O raw disk.vhdx new"),
    row("convert -c, zlib", &[], "qemu-img convert -c -f raw -O qcow2 disk.raw new"),
    row(
        "convert -c, zstd",
        &[],
        "qemu-img convert -c -f raw -O qcow2 -o compression_type=zstd disk.raw new",
    ),
    row("convert zlib to raw", &[], "qemu-img convert -f qcow2 -O raw zlib.qcow2 new"),
    row("convert zstd to raw", &[], "qemu-img convert -f qcow2 -O raw zstd.qcow2 new"),
    row("check", &[], "qemu-img check -q -f qcow2 disk.qcow2"),
    row("check, 1 TiB, scattered", &[], "qemu-img check -q -f qcow2 sparse.qcow2"),
    row("compare raw and qcow2", &[], "qemu-img compare -q -f raw -F qcow2 disk.raw disk.qcow2"),
    row(
        "compare, 1 TiB, scattered",
        &["cp sparse.qcow2 new"],
        "qemu-img compare -q -f qcow2 -F qcow2 sparse.qcow2 new",
    ),
    row("map, 1 TiB, scattered", &[], "qemu-img map --output=json -f qcow2 sparse.qcow2"),
    row("measure, 1 TiB, scattered", &[], "qemu-img measure -O qcow2 -f qcow2 sparse.qcow2"),
    row("convert, 1 TiB, scattered", &[], "qemu-img convert -f qcow2 -O qcow2 sparse.qcow2 new"),
    row("snapshot -c", &["cp disk.qcow2 new"], "qemu-img snapshot -c one new"),
    row("snapshot -c, 1 TiB", &["cp sparse.qcow2 new"], "qemu-img snapshot -c one new"),
    row(
        "snapshot -a",
        &["cp disk.qcow2 new", "qemu-img snapshot -c one new"],
        "qemu-img snapshot -a one new",
    ),
    row(
        "snapshot -a, 1 TiB",
        &["cp sparse.qcow2 new", "qemu-img snapshot -c one new"],
        "qemu-img snapshot -a one new",
    ),
    row(
        "snapshot -d, 1 TiB",
        &["cp sparse.qcow2 new", "qemu-img snapshot -c one new"],
        "qemu-img snapshot -d one new",
    ),
    row(
        "commit",
        &[
            "cp disk.qcow2 below",
            "qemu-img create -q -f qcow2 -b below -F qcow2 new",
            "qemu-io -f qcow2 -c 'write -q 16M 128M' new",
        ],
        "qemu-img commit -q -f qcow2 new",
    ),
    row(
        "commit, 1 TiB, scattered",
        &[
            "qemu-img create -q -f qcow2 below 1T",
            "cp sparse.qcow2 new",
            "qemu-img rebase -u -b below -F qcow2 new",
        ],
        "qemu-img commit -q -f qcow2 new",
    ),
    row(
        "rebase, the same content",
        &[
            "cp disk.qcow2 below",
            "cp disk.qcow2 other",
            "qemu-img create -q -f qcow2 -b below -F qcow2 new",
        ],
        "qemu-img rebase -f qcow2 -b other -F qcow2 new",
    ),
    row(
        "rebase, other content",
        &[
            "cp disk.qcow2 below",
            "cp disk.qcow2 other",
            "qemu-io -f qcow2 -c 'write -q 16M 128M' other",
            "qemu-img create -q -f qcow2 -b below -F qcow2 new",
        ],
        "qemu-img rebase -f qcow2 -b other -F qcow2 new",
    ),
    row("bench, reads, depth 1", &[], "qemu-img bench -q -f qcow2 -d 1 -c 50000 disk.qcow2"),
    row("bench, reads, depth 32", &[], "qemu-img bench -q -f qcow2 -d 32 -c 50000 disk.qcow2"),
    row(
        "bench, writes, depth 1",
        &["cp disk.qcow2 new"],
        "qemu-img bench -q -f qcow2 -w -d 1 -c 20000 new",
    ),
    row(
        "bench, writes, depth 32",
        &["cp disk.qcow2 new"],
        "qemu-img bench -q -f qcow2 -w -d 32 -c 20000 new",
    ),
];

/// Rows whose memory is of interest: whatever the image's length, a tool takes less than 64 MiB.
const MEMORY: &[Row] = &[
    row("convert raw to qcow2", &[], "qemu-img convert -f raw -O qcow2 disk.raw new"),
    row(
        "convert -c, zstd",
        &[],
        "qemu-img convert -c -f raw -O qcow2 -o compression_type=zstd disk.raw new",
    ),
    row("convert, 1 TiB, scattered", &[], "qemu-img convert -f qcow2 -O qcow2 sparse.qcow2 new"),
    row("convert, 256 GiB, metadata", &[], "qemu-img convert -f qcow2 -O qcow2 full.qcow2 new"),
];

/// `cargo xtask bench block [--write] [--rounds N]`.
pub fn run(arguments: &[String]) -> Result<()> {
    let (write, rounds) = options(arguments)?;
    packages::need(&["qemu-utils", "time"])?;
    let ours = emulator::build()?;
    let folder = Scratch::new(&tools::target(), "bench-block")?;
    let [their_place, our_place] = ["theirs", "ours"].map(|name| folder.path().join(name));
    prepare(&their_place)?;
    tools::call(Command::new("cp").arg("-r").args([&their_place, &our_place]))?;
    let mut text = String::from(
        "| measured (milliseconds) | QEMU | Tinamou | QEMU / Tinamou |\n| --- | ---: | ---: | ---: |\n",
    );
    for row in ROWS {
        eprintln!("{}", row.name);
        let (mut their, mut our) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            their.push(once(row, None, &their_place)?);
            our.push(once(row, Some(&ours), &our_place)?);
        }
        let (their, our) = (median(their), median(our));
        text.push_str(&format!("| {} | {their:.1} | {our:.1} | {:.2} |\n", row.name, their / our));
    }
    text.push_str(
        "\n| most memory (MiB) | QEMU | Tinamou | QEMU / Tinamou |\n| --- | ---: | ---: | ---: |\n",
    );
    for row in MEMORY {
        eprintln!("{}, memory", row.name);
        let (their, our) = (peak(row, None, &their_place)?, peak(row, Some(&ours), &our_place)?);
        text.push_str(&format!("| {} | {their:.1} | {our:.1} | {:.2} |\n", row.name, their / our));
    }
    let version = tools::text(Command::new("qemu-img").arg("--version"))?;
    let version = version.lines().next().unwrap_or_default().to_owned();
    let report = format!(
        "`cargo xtask bench block{}`, {rounds} rounds, medians; {}; {version} beside Tinamou. Files are in \
         the page cache.\n\n{text}",
        arguments.iter().map(|word| format!(" {word}")).collect::<String>(),
        measure::host(),
    );
    println!("{report}");
    if write { super::keep("Disk images", &report) } else { Ok(()) }
}

fn options(arguments: &[String]) -> Result<(bool, usize)> {
    let (mut write, mut rounds) = (false, 5);
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--write" => write = true,
            "--rounds" => {
                let number = words.next().and_then(|number| number.parse().ok());
                rounds = number.filter(|&n| n > 0).ok_or("--rounds: how many?")?;
            }
            other => return Err(format!("unknown word '{other}'")),
        }
    }
    Ok((write, rounds))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Makes what a row changes. It is on the disk when the row begins: who syncs first would pay for it.
fn ready(row: &Row, place: &Path) -> Result<()> {
    const MADE: [&str; 3] = ["new", "below", "other"];
    for name in MADE {
        // Most rows make only one of them.
        let _ = fs::remove_file(place.join(name));
    }
    for line in row.before {
        tools::call(&mut command(line, None, place))?;
    }
    for path in MADE.map(|name| place.join(name)) {
        if let Ok(file) = fs::File::open(&path) {
            file.sync_all().at("syncing", &path)?;
        }
    }
    Ok(())
}

/// The most memory that one run took, in MiB.
fn peak(row: &Row, ours: Option<&PathBuf>, place: &Path) -> Result<f64> {
    ready(row, place)?;
    let link = place.join("qemu-img");
    if let Some(ours) = ours
        && !link.exists()
    {
        std::os::unix::fs::symlink(ours, &link).at("linking", &link)?;
    }
    let mut measured = Command::new("/usr/bin/time");
    measured.args(["-f", "%M", "-o", "peak"]).current_dir(place);
    let tool = if ours.is_some() { "./qemu-img" } else { "qemu-img" };
    measured.arg(tool).args(&words(row.timed)[1..]).stdout(Stdio::null());
    tools::call(&mut measured)?;
    let path = place.join("peak");
    let text = fs::read_to_string(&path).at("reading", &path)?;
    let kib: f64 = text.trim().parse().map_err(|_| format!("time says '{text}'"))?;
    Ok(kib / 1024.0)
}

/// Milliseconds of one run.
fn once(row: &Row, ours: Option<&PathBuf>, place: &Path) -> Result<f64> {
    ready(row, place)?;
    let mut timed = command(row.timed, ours, place);
    timed.stdout(Stdio::null());
    let begun = Instant::now();
    let status = timed.status().map_err(|e| format!("{}: {e}", row.timed))?;
    let took = begun.elapsed().as_secs_f64() * 1000.0;
    if status.success() { Ok(took) } else { Err(format!("{}: {status}", row.timed)) }
}

/// A command line of words and single quotes.
fn words(line: &str) -> Vec<&str> {
    let mut words = Vec::new();
    for (at, piece) in line.split('\'').enumerate() {
        if at % 2 == 1 {
            words.push(piece);
        } else {
            words.extend(piece.split_whitespace());
        }
    }
    words
}

/// A command; `ours` runs it in place of the tool it names.
fn command(line: &str, ours: Option<&PathBuf>, place: &Path) -> Command {
    let words = words(line);
    let mut command = Command::new(ours.map_or(Path::new(words[0]), PathBuf::as_path));
    command.arg0(words[0]).args(&words[1..]).current_dir(place);
    command
}

/// Makes the images that rows read.
fn prepare(place: &Path) -> Result<()> {
    tools::make_folder(place)?;
    tools::write_whole(&place.join("disk.raw"), &content())?;
    for line in [
        "qemu-img convert -f raw -O qcow2 disk.raw disk.qcow2",
        "qemu-img convert -f raw -O vmdk disk.raw disk.vmdk",
        "qemu-img convert -f raw -O vdi disk.raw disk.vdi",
        "qemu-img convert -f raw -O vpc disk.raw disk.vpc",
        "qemu-img convert -f raw -O vhdx disk.raw disk.vhdx",
        "qemu-img convert -c -f raw -O qcow2 disk.raw zlib.qcow2",
        "qemu-img convert -c -f raw -O qcow2 -o compression_type=zstd disk.raw zstd.qcow2",
        "qemu-img create -q -f qcow2 -o preallocation=metadata full.qcow2 256G",
        "qemu-img create -q -f qcow2 sparse.qcow2 1T",
    ] {
        tools::call(&mut command(line, None, place))?;
    }
    let mut scatter = Command::new("qemu-io");
    scatter.args(["-f", "qcow2", "sparse.qcow2"]).current_dir(place);
    let mut child = scatter
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .map_err(|e| format!("qemu-io: {e}"))?;
    let mut input = child.stdin.take().ok_or("qemu-io takes no input")?;
    let step = (1_u64 << 40) / SCATTERED;
    for number in 0..SCATTERED {
        let offset = number * step / 512 * 512;
        writeln!(input, "write -q {offset} 64k").map_err(|e| format!("qemu-io: {e}"))?;
    }
    drop(input);
    let status = child.wait().map_err(|e| format!("qemu-io: {e}"))?;
    if status.success() { Ok(()) } else { Err(format!("qemu-io: {status}")) }
}

/// Random bytes, words, and zeroes, in turns of a megabyte.
fn content() -> Vec<u8> {
    const TURN: usize = 1 << 20;
    let words = b"the quick brown fox jumps over the lazy dog and runs into the forest again ";
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut bytes = Vec::with_capacity(DISK);
    for turn in 0..DISK / TURN {
        match turn % 3 {
            0 => (0..TURN / 8).for_each(|_| bytes.extend_from_slice(&next().to_le_bytes())),
            1 => {
                while bytes.len() < (turn + 1) * TURN {
                    let at = (next() % 60) as usize;
                    bytes.extend_from_slice(&words[at..at + 12]);
                }
                bytes.truncate((turn + 1) * TURN);
            }
            _ => bytes.resize((turn + 1) * TURN, 0),
        }
    }
    bytes
}
