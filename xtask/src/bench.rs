//! `cargo xtask bench`: Tinamou beside the installed QEMU, on the same command
//! lines, in turns, so that a busy host slows both.
//!
//! The programs of `tests/bench/` run inside the guest and tell their own time.
//! Only ratios of one run mean anything.

mod block;
mod measure;
mod table;
mod user;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::cpio::Cpio;
use crate::emulator::Emulator;
use crate::expect::Session;
use crate::guests;
use crate::packages;
use crate::tools::{self, At, Result};

/// What a program is about; the goals differ.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Integer,
    Calls,
    Float,
    /// Compiled for vectors and run on a machine that has them.
    Vectors,
    /// Copies of memory, strings.
    Memory,
    /// What has units of its own in some processors.
    Units,
    /// Not part of a mean.
    Alone,
}

const PROGRAMS: &[(&str, Kind)] = &[
    ("sha256", Kind::Integer),
    ("sort", Kind::Integer),
    ("matrix", Kind::Integer),
    ("strings", Kind::Integer),
    ("chase", Kind::Integer),
    ("bytecode", Kind::Integer),
    ("fib", Kind::Calls),
    ("callback", Kind::Calls),
    ("objects", Kind::Calls),
    ("nbody", Kind::Float),
    ("mandelbrot", Kind::Float),
    ("matmul", Kind::Float),
    ("fourier", Kind::Float),
    ("vcopy", Kind::Vectors),
    ("vsaxpy", Kind::Vectors),
    ("vdot", Kind::Vectors),
    ("vchacha", Kind::Vectors),
    ("vstrlen", Kind::Vectors),
    ("vmatmul", Kind::Vectors),
    ("cold", Kind::Alone),
];

/// The processor that programs for vectors run on.
const VECTOR_CPU: &str = "rv64,v=true,vlen=256";

fn kind_of(name: &str) -> Kind {
    PROGRAMS.iter().find(|(known, _)| *known == name).map_or(Kind::Alone, |(_, kind)| *kind)
}

/// How many instructions `cold` runs, once each.
const COLD_INSTRUCTIONS: f64 = 1e6;

/// Starts per round of the machine that ends at once.
const STARTS: usize = 5;

/// The longest that a program may take.
const PATIENCE: Duration = Duration::from_secs(600);

/// Measured values by name, one for each round.
type Values = BTreeMap<String, Vec<f64>>;

/// What one emulator achieved.
#[derive(Default)]
struct Peer {
    values: Values,
    /// What each program computed.
    sums: BTreeMap<String, String>,
}

impl Peer {
    fn add(&mut self, name: &str, value: f64) {
        self.values.entry(name.to_string()).or_default().push(value);
    }

    fn median(&self, name: &str) -> Option<f64> {
        let mut values = self.values.get(name)?.clone();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied()
    }
}

struct Options {
    write: bool,
    rounds: usize,
    with: Option<String>,
    /// Compare CPU time of the emulator instead of time in the guest's program.
    busy: bool,
    names: Vec<String>,
}

impl Options {
    /// `rounds` unless the user says how many; programs must be among those that are `known`.
    fn parse(arguments: &[String], rounds: usize, known: &[&str]) -> Result<Self> {
        let mut options = Self { write: false, rounds, with: None, busy: false, names: Vec::new() };
        let mut words = arguments.iter();
        while let Some(word) = words.next() {
            match word.as_str() {
                "--write" => options.write = true,
                "--cpu-time" => options.busy = true,
                "--rounds" => {
                    let number = words.next().and_then(|number| number.parse().ok());
                    options.rounds = number.filter(|&n| n > 0).ok_or("--rounds: how many?")?;
                }
                "--with" => options.with = Some(words.next().ok_or("--with: which?")?.clone()),
                name if known.contains(&name) => options.names.push(name.to_owned()),
                name => return Err(format!("unknown program '{name}'")),
            }
        }
        Ok(options)
    }
}

/// `cargo xtask bench`.
///
/// # Errors
/// When a peer is missing, fails, or computes something else.
pub fn run(arguments: &[String]) -> Result<()> {
    if let Some(("block", rest)) = arguments.split_first().map(|(word, rest)| (word.as_str(), rest))
    {
        return block::run(rest);
    }
    if let Some(("user", rest)) = arguments.split_first().map(|(word, rest)| (word.as_str(), rest))
    {
        return user::run(rest);
    }
    let known: Vec<_> = PROGRAMS.iter().map(|(name, _)| *name).collect();
    let options = Options::parse(arguments, 5, &known)?;
    let theirs = Emulator::installed()?;
    let ours = match &options.with {
        Some(program) => Emulator::other(program),
        None => Emulator::ours()?,
    };
    let stage = Stage::prepare(&options.names)?;
    let emulators = [&theirs, &ours];
    let mut peers = [Peer::default(), Peer::default()];
    for round in 1..=options.rounds {
        eprintln!("round {round} of {}", options.rounds);
        for (emulator, peer) in emulators.into_iter().zip(&mut peers) {
            stage.programs(emulator, peer)?;
            stage.vectors(emulator, peer)?;
        }
        for (emulator, peer) in emulators.into_iter().zip(&mut peers) {
            stage.parallel(emulator, peer)?;
        }
        for _ in 0..STARTS {
            for (emulator, peer) in emulators.into_iter().zip(&mut peers) {
                stage.start(emulator, peer)?;
            }
        }
    }
    let [their, our] = &peers;
    for (name, sum) in &their.sums {
        if our.sums.get(name) != Some(sum) {
            return Err(format!("{name}: the emulators do not compute the same"));
        }
    }
    let about = format!(
        "`cargo xtask bench{}`, {} rounds, medians; {}; {} beside {}.\n",
        arguments.iter().map(|word| format!(" {word}")).collect::<String>(),
        options.rounds,
        measure::host(),
        theirs.version()?,
        ours.version().unwrap_or_else(|_| "Tinamou".into()),
    );
    let report = format!("{about}\n{}", table::report(their, our, options.busy));
    println!("{report}");
    if options.write { keep("The last run", &report) } else { Ok(()) }
}

/// Puts a report under its title into the document, in place of the last one.
fn keep(title: &str, report: &str) -> Result<()> {
    let path = tools::root().join("docs/benchmarks.md");
    let old = fs::read_to_string(&path).at("reading", &path)?;
    tools::write_whole(&path, with_section(&old, title, report).as_bytes())
}

/// The document with this section, at its old place or at the end.
fn with_section(document: &str, title: &str, report: &str) -> String {
    let section = format!("{title}\n\n{}\n", report.trim_end());
    let mut parts: Vec<String> =
        document.split("\n## ").map(|part| format!("{}\n", part.trim_end())).collect();
    match parts.iter_mut().skip(1).find(|part| part.lines().next() == Some(title)) {
        Some(part) => *part = section,
        None => parts.push(section),
    }
    parts.join("\n## ")
}

/// The files that every run uses.
struct Stage {
    kernel: PathBuf,
    initrd: PathBuf,
    /// A program for the bare machine that ends it.
    end: PathBuf,
    names: Vec<String>,
    /// Those for vectors.
    vectors: Vec<String>,
}

impl Stage {
    fn prepare(names: &[String]) -> Result<Self> {
        packages::need(&["gcc-riscv64-linux-gnu", "libc6-dev-riscv64-cross", "opensbi"])?;
        let guest = guests::folder("riscv64")?;
        let folder = tools::target().join("bench");
        tools::make_folder(&folder)?;
        let initrd = folder.join("initrd.gz");
        let base = guest.join("initrd.gz");
        let mut data = fs::read(&base).at("reading", &base)?;
        data.resize(data.len().next_multiple_of(4), 0);
        data.extend(tools::filter(Command::new("gzip").arg("-1n"), overlay(&folder)?)?);
        tools::write_whole(&initrd, &data)?;
        let all = || PROGRAMS.iter().map(|(name, _)| name.to_string()).collect();
        let names = if names.is_empty() { all() } else { names.to_vec() };
        let (vectors, names) = names.into_iter().partition(|name| kind_of(name) == Kind::Vectors);
        let end = folder.join("end.bin");
        tools::write_whole(&end, &end_program())?;
        Ok(Self { kernel: guest.join("kernel"), initrd, end, names, vectors })
    }

    fn boot(&self, emulator: &Emulator, cpus: &str, append: &str) -> Command {
        let mut command = emulator.command();
        command.args(["-M", "virt", "-m", "512", "-smp", cpus, "-nographic", "-no-reboot"]);
        command.arg("-kernel").arg(&self.kernel).arg("-initrd").arg(&self.initrd);
        command.arg("-append").arg(format!("console=ttyS0 {append}"));
        command
    }

    /// A boot to user space, then every program.
    fn programs(&self, emulator: &Emulator, peer: &mut Peer) -> Result<()> {
        let args = self.names.join(",");
        let mut command =
            self.boot(emulator, "1", &format!("guest.run=/bench/all guest.args={args}"));
        let start = Instant::now();
        let mut session = Session::start(&mut command)?;
        session.wait_for("GUEST-READY", PATIENCE)?;
        peer.add("ready wall", start.elapsed().as_secs_f64());
        let seen = measure::process(session.id())?;
        peer.add("ready user", seen.user);
        peer.add("ready resident", seen.resident);
        peer.add("ready beyond", seen.resident - seen.guest_ram);
        self.each(&self.names, &mut session, peer)?;
        finish(&mut session, peer)
    }

    /// The programs for vectors, if any are wanted.
    fn vectors(&self, emulator: &Emulator, peer: &mut Peer) -> Result<()> {
        if self.vectors.is_empty() {
            return Ok(());
        }
        let args = self.vectors.join(",");
        let mut command =
            self.boot(emulator, "1", &format!("guest.run=/bench/all guest.args={args}"));
        let mut session = Session::start(command.args(["-cpu", VECTOR_CPU]))?;
        self.each(&self.vectors, &mut session, peer)?;
        finish(&mut session, peer)
    }

    /// Waits for programs one after the other.
    fn each(&self, names: &[String], session: &mut Session, peer: &mut Peer) -> Result<()> {
        for name in names {
            session.wait_for(&format!("BEGIN {name}"), PATIENCE)?;
            let begin = measure::busy(session.id())?;
            session.wait_for(&format!("BENCH {name} "), PATIENCE)?;
            peer.add(&format!("{name} busy"), (measure::busy(session.id())? - begin) * 1e3);
        }
        Ok(())
    }

    /// The same work once, then twice at a time, on two virtual CPUs.
    fn parallel(&self, emulator: &Emulator, peer: &mut Peer) -> Result<()> {
        let mut session =
            Session::start(&mut self.boot(emulator, "2", "guest.run=/bench/parallel"))?;
        finish(&mut session, peer)
    }

    /// From the start of the process to its end, which the guest's first
    /// instructions bring about.
    fn start(&self, emulator: &Emulator, peer: &mut Peer) -> Result<()> {
        let mut command = emulator.command();
        command.args(["-M", "virt", "-m", "512", "-display", "none", "-serial", "none"]);
        command.args(["-monitor", "none", "-bios"]).arg(&self.end);
        let start = Instant::now();
        tools::output(&mut command)?;
        peer.add("start", start.elapsed().as_secs_f64() * 1e3);
        Ok(())
    }
}

/// Waits for the end and collects what the programs told.
fn finish(session: &mut Session, peer: &mut Peer) -> Result<()> {
    session.wait_for("GUEST-DONE 0", PATIENCE)?;
    session.wait_for_end(PATIENCE)?;
    for line in session.output().lines() {
        let mut words = line.trim().split(' ').skip_while(|word| *word != "BENCH").skip(1);
        if let (Some(name), Some(time), Some(sum)) = (words.next(), words.next(), words.next()) {
            let time = time.parse().map_err(|_| format!("{name}: '{time}' is no time"))?;
            peer.add(name, time);
            peer.sums.insert(name.to_string(), sum.to_string());
        }
    }
    Ok(())
}

/// The programs, built for the guest, in an archive to append to its own.
fn overlay(folder: &Path) -> Result<Vec<u8>> {
    let source = tools::root().join("tests/bench");
    let mut archive = Cpio::default();
    let script = "#!/bin/sh\nfor name; do echo BEGIN $name; /bench/$name || exit 1; done\n";
    archive.file("bench/all", 0o755, script.as_bytes());
    for name in PROGRAMS.iter().map(|(name, _)| *name).chain(["parallel"]) {
        let program = folder.join(name);
        let mut compile = Command::new("riscv64-linux-gnu-gcc");
        if kind_of(name) == Kind::Vectors {
            compile.arg("-march=rv64gcv_zba");
        }
        compile.args(["-std=gnu11", "-O2", "-Wall", "-Wextra", "-static", "-s", "-o"]);
        compile.arg(&program).arg(source.join(format!("{name}.c"))).arg("-lm");
        tools::output(&mut compile)?;
        archive.file(&format!("bench/{name}"), 0o755, &fs::read(&program).at("reading", &program)?);
    }
    Ok(archive.finish())
}

/// RISC-V code that writes 0x5555, “end well”, to the test finisher at 0x100000
/// (SiFive test device, as in the board's device tree).
fn end_program() -> Vec<u8> {
    let code: [u32; 5] = [
        0x0010_02b7, // lui t0, 0x100
        0x0000_5337, // lui t1, 0x5
        0x5553_0313, // addi t1, t1, 0x555
        0x0062_a023, // sw t1, 0(t0)
        0x0000_006f, // j .
    ];
    code.into_iter().flat_map(u32::to_le_bytes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_replaces_the_one_with_its_title() {
        let old = "# B\n\nText.\n\n## One\n\nold\n\n## Two\n\nkept\n";
        let new = with_section(old, "One", "new\n");
        assert_eq!(new, "# B\n\nText.\n\n## One\n\nnew\n\n## Two\n\nkept\n");
        let more = with_section(&new, "Three", "x");
        assert!(more.starts_with(new.trim_end()) && more.ends_with("\n\n## Three\n\nx\n"));
    }
}
