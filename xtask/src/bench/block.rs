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
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

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
    /// Runs while it is timed.
    server: Option<Server>,
}

/// A server of an image at [`SOCKET`].
struct Server {
    image: &'static str,
    /// It is what is compared, and its client is the peer's; otherwise it is the peer's.
    compared: bool,
}

const fn row(name: &'static str, before: &'static [&'static str], timed: &'static str) -> Row {
    Row { name, before, timed, server: None }
}

impl Row {
    /// Servers are compared: each serves the image to the peer's client.
    const fn served(self, image: &'static str) -> Self {
        Self { server: Some(Server { image, compared: true }), ..self }
    }

    /// Clients are compared: each uses the image behind the peer's server.
    const fn behind(self, image: &'static str) -> Self {
        Self { server: Some(Server { image, compared: false }), ..self }
    }
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
    row("NBD server, read", &[], NBD_READ).served("disk.raw"),
    row("NBD server, write", NBD_IMAGE, NBD_WRITE).served("served"),
    row("NBD server, bench, depth 1", &[], NBD_DEPTH_1).served("disk.raw"),
    row("NBD server, bench, depth 32", &[], NBD_DEPTH_32).served("disk.raw"),
    row("NBD server, bench, writes, depth 32", NBD_IMAGE, NBD_WRITES).served("served"),
    row("NBD client, read", &[], NBD_READ).behind("disk.raw"),
    row("NBD client, write", NBD_IMAGE, NBD_WRITE).behind("served"),
    row("NBD client, bench, depth 1", &[], NBD_DEPTH_1).behind("disk.raw"),
    row("NBD client, bench, depth 32", &[], NBD_DEPTH_32).behind("disk.raw"),
    row("NBD client, bench, writes, depth 32", NBD_IMAGE, NBD_WRITES).behind("served"),
];

/// Socket of a row's server.
const SOCKET: &str = "socket";
const NBD_IMAGE: &[&str] = &["cp disk.raw served"];
const NBD_READ: &str = "qemu-img convert -f raw -O raw nbd+unix:///?socket=socket new";
const NBD_WRITE: &str = "qemu-img convert -n -f raw -O raw disk.raw nbd+unix:///?socket=socket";
const NBD_DEPTH_1: &str = "qemu-img bench -q -f raw -d 1 -c 20000 nbd+unix:///?socket=socket";
const NBD_DEPTH_32: &str = "qemu-img bench -q -f raw -d 32 -c 50000 nbd+unix:///?socket=socket";
const NBD_WRITES: &str = "qemu-img bench -q -f raw -w -d 32 -c 20000 nbd+unix:///?socket=socket";

/// Longest that a server takes until it listens.
const PATIENCE: Duration = Duration::from_secs(30);

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

/// `cargo xtask bench block [--write] [--rounds N] [--only TEXT] [--with PROGRAM]`: the rows whose names
/// have the text; another program in place of the one that is built.
pub fn run(arguments: &[String]) -> Result<()> {
    let Options { write, rounds, only, with } = options(arguments)?;
    packages::need(&["qemu-utils", "time"])?;
    let ours = with.map_or_else(emulator::build, Ok)?;
    let folder = Scratch::new(&tools::target(), "bench-block")?;
    let [their_place, our_place] = ["theirs", "ours"].map(|name| folder.path().join(name));
    prepare(&their_place)?;
    tools::call(Command::new("cp").arg("-r").args([&their_place, &our_place]))?;
    let mut text = String::from(
        "| measured (milliseconds) | QEMU | Tinamou | QEMU / Tinamou |\n| --- | ---: | ---: | ---: |\n",
    );
    for row in ROWS.iter().filter(|row| row.name.contains(&only)) {
        eprintln!("{}", row.name);
        let (mut their, mut our) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            their.push(once(row, None, &their_place)?);
            our.push(once(row, Some(&ours), &our_place)?);
        }
        let (their, our) = (median(their), median(our));
        text.push_str(&format!("| {} | {their:.1} | {our:.1} | {:.2} |\n", row.name, their / our));
    }
    let memory: Vec<_> = MEMORY.iter().filter(|row| row.name.contains(&only)).collect();
    if !memory.is_empty() {
        text.push_str("\n| most memory (MiB) | QEMU | Tinamou | QEMU / Tinamou |\n");
        text.push_str("| --- | ---: | ---: | ---: |\n");
    }
    for row in memory {
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

/// What to measure, and what becomes of it.
struct Options {
    /// The document gets the report.
    write: bool,
    rounds: usize,
    /// What the names of rows must have.
    only: String,
    with: Option<PathBuf>,
}

fn options(arguments: &[String]) -> Result<Options> {
    let mut options = Options { write: false, rounds: 5, only: String::new(), with: None };
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--write" => options.write = true,
            "--rounds" => {
                let number = words.next().and_then(|number| number.parse().ok());
                options.rounds = number.filter(|&n| n > 0).ok_or("--rounds: how many?")?;
            }
            "--only" => options.only = words.next().ok_or("--only: which?")?.clone(),
            "--with" => options.with = Some(words.next().ok_or("--with: which?")?.into()),
            other => return Err(format!("unknown word '{other}'")),
        }
    }
    if options.write && !options.only.is_empty() {
        return Err("--write replaces the whole table: not with --only".to_owned());
    }
    Ok(options)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Makes what a row changes. It is on the disk when the row begins: who syncs first would pay for it.
fn ready(row: &Row, place: &Path) -> Result<()> {
    const MADE: [&str; 5] = ["new", "below", "other", "served", SOCKET];
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
    let compared = row.server.as_ref().is_some_and(|server| server.compared);
    let (server, client) = if compared { (ours, None) } else { (None, ours) };
    let _running = row.server.as_ref().map(|it| Running::start(it, server, place)).transpose()?;
    let mut timed = command(row.timed, client, place);
    timed.stdout(Stdio::null());
    let begun = Instant::now();
    let status = timed.status().map_err(|e| format!("{}: {e}", row.timed))?;
    let took = begun.elapsed().as_secs_f64() * 1000.0;
    if status.success() { Ok(took) } else { Err(format!("{}: {status}", row.timed)) }
}

/// A server that ends with its value.
struct Running(Child);

impl Running {
    /// Starts a server and waits until it listens.
    fn start(server: &Server, ours: Option<&PathBuf>, place: &Path) -> Result<Self> {
        let line =
            format!("qemu-nbd -t -f raw -k {} {}", place.join(SOCKET).display(), server.image);
        let child = command(&line, ours, place).spawn().map_err(|e| format!("{line}: {e}"))?;
        let mut running = Self(child);
        let deadline = Instant::now() + PATIENCE;
        // A server that persists does not mind a client that leaves at once.
        while UnixStream::connect(place.join(SOCKET)).is_err() {
            let ended = running.0.try_wait().map_err(|e| format!("{line}: {e}"))?;
            if ended.is_some() || Instant::now() > deadline {
                return Err(format!("{line}: does not listen"));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(running)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // One that has ended needs no end.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
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
