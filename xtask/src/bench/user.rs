//! `cargo xtask bench user`: programs run by `qemu-riscv64` and by ours, in turns, beside the host's own
//! build of the same source.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use super::{Kind, Options, PROGRAMS, Peer, VECTOR_CPU, keep, kind_of, measure, table};
use crate::emulator;
use crate::packages;
use crate::tools::{self, Result};

/// The name an emulator of these programs is called by.
const NAME: &str = "qemu-riscv64";
/// Runs that end at once, per round.
const STARTS: usize = 10;
/// Measured beside the groups.
const SYSCALLS: &str = "syscalls";
/// Says nothing: what is measured is that it starts and ends.
const START: &str = "start";

/// Every program: those of the machine but the one that is about its code cache, and system calls.
fn names() -> impl Iterator<Item = &'static str> {
    let programs = PROGRAMS.iter().filter(|(_, kind)| *kind != Kind::Alone);
    programs.map(|(name, _)| *name).chain([SYSCALLS])
}

/// Who runs a program.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Runner<'a> {
    Emulator(&'a Path),
    Host,
}

/// `cargo xtask bench user`.
///
/// # Errors
/// When a peer is missing, fails, or computes something else.
pub fn run(arguments: &[String]) -> Result<()> {
    let known: Vec<_> = names().collect();
    let mut options = Options::parse(arguments, 3, &known)?;
    if options.names.is_empty() {
        options.names = known.iter().map(ToString::to_string).collect();
    }
    packages::need(&["gcc-riscv64-linux-gnu", "libc6-dev-riscv64-cross", "gcc"])?;
    installed()?;
    let (theirs, ours) = (
        PathBuf::from(NAME),
        match &options.with {
            Some(program) => PathBuf::from(program),
            None => emulator::build()?,
        },
    );
    let folder = tools::target().join("bench/user");
    tools::make_folder(&folder)?;
    for name in options.names.iter().map(String::as_str).chain([START]) {
        build(&folder, name)?;
    }
    let runners = [Runner::Emulator(&theirs), Runner::Emulator(&ours), Runner::Host];
    let mut peers: [Peer; 3] = Default::default();
    for round in 1..=options.rounds {
        eprintln!("round {round} of {}", options.rounds);
        for name in &options.names {
            for (runner, peer) in runners.iter().zip(&mut peers) {
                // The host has other vectors.
                if *runner != Runner::Host || kind_of(name) != Kind::Vectors {
                    program(&folder, name, *runner, peer)?;
                }
            }
        }
        for _ in 0..STARTS {
            for (runner, peer) in runners.iter().zip(&mut peers) {
                start(&folder, *runner, peer)?;
            }
        }
    }
    let [their, our, host] = &peers;
    agree(their, our)?;
    let about = format!(
        "`cargo xtask bench user{}`, {} rounds, medians; {}; {} beside Tinamou.\n",
        arguments.iter().map(|word| format!(" {word}")).collect::<String>(),
        options.rounds,
        measure::host(),
        tools::text(command(&theirs).arg("-version"))?.lines().next().unwrap_or_default(),
    );
    let report = format!("{about}\n{}", table::user(their, our, host, options.busy));
    println!("{report}");
    if options.write { keep("Programs in user mode", &report) } else { Ok(()) }
}

/// The distribution's QEMU 10, installed if need be.
fn installed() -> Result<()> {
    let is_recent = || {
        let said = tools::text(command(Path::new(NAME)).arg("-version")).unwrap_or_default();
        let number = said.split_whitespace().skip_while(|word| *word != "version").nth(1);
        let major = number.and_then(|number| number.split('.').next()?.parse().ok());
        major.is_some_and(|major: u32| major >= 10)
    };
    if is_recent() {
        return Ok(());
    }
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    if release.contains("VERSION_CODENAME=bookworm") {
        packages::need_from("bookworm-backports", "qemu-user")?;
    } else {
        packages::need(&["qemu-user"])?;
    }
    if is_recent() { Ok(()) } else { Err(format!("{NAME} of version 10 or later is needed")) }
}

/// An emulator, called by its name.
fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.arg0(NAME);
    command
}

/// Builds a program for the guest and for the host.
fn build(folder: &Path, name: &str) -> Result<()> {
    let source = if name == START {
        let path = folder.join("start.c");
        tools::write_whole(&path, b"int main(void) { return 0; }\n")?;
        path
    } else {
        tools::root().join(format!("tests/bench/{name}.c"))
    };
    for (compiler, program) in
        [("riscv64-linux-gnu-gcc", guest(folder, name)), ("gcc", host(folder, name))]
    {
        let mut compile = Command::new(compiler);
        if kind_of(name) == Kind::Vectors {
            if compiler == "gcc" {
                continue;
            }
            compile.arg("-march=rv64gcv_zba");
        }
        compile.args(["-std=gnu11", "-O2", "-static", "-s", "-o"]);
        tools::output(compile.arg(program).arg(&source).arg("-lm"))?;
    }
    Ok(())
}

fn guest(folder: &Path, name: &str) -> PathBuf {
    folder.join(name)
}

fn host(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.host"))
}

/// What runs a program.
fn runs(folder: &Path, name: &str, runner: Runner<'_>) -> Command {
    match runner {
        Runner::Host => Command::new(host(folder, name)),
        Runner::Emulator(emulator) => {
            let mut command = command(emulator);
            if kind_of(name) == Kind::Vectors {
                command.args(["-cpu", VECTOR_CPU]);
            }
            command.arg(guest(folder, name));
            command
        }
    }
}

/// Runs a program, which says how long it took and what it computed.
fn program(folder: &Path, name: &str, runner: Runner<'_>, peer: &mut Peer) -> Result<()> {
    let before = measure::busy_children()?;
    let said = tools::text(&mut runs(folder, name, runner))?;
    peer.add(&format!("{name} busy"), (measure::busy_children()? - before) * 1e3);
    let mut words = said.split_whitespace().skip_while(|word| *word != "BENCH").skip(2);
    let (Some(time), Some(sum)) = (words.next(), words.next()) else {
        return Err(format!("{name}: said '{}'", said.trim()));
    };
    peer.add(name, time.parse().map_err(|_| format!("{name}: '{time}' is no time"))?);
    peer.sums.insert(name.to_string(), sum.to_string());
    Ok(())
}

/// Starts and ends a program.
fn start(folder: &Path, runner: Runner<'_>, peer: &mut Peer) -> Result<()> {
    let begin = Instant::now();
    tools::output(&mut runs(folder, START, runner))?;
    peer.add(START, begin.elapsed().as_secs_f64() * 1e3);
    Ok(())
}

fn agree(their: &Peer, our: &Peer) -> Result<()> {
    let sums: &BTreeMap<_, _> = &their.sums;
    match sums.iter().find(|(name, sum)| our.sums.get(*name) != Some(sum)) {
        Some((name, _)) => Err(format!("{name}: the emulators do not compute the same")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_program_has_its_source() {
        for name in names() {
            let source = tools::root().join(format!("tests/bench/{name}.c"));
            assert!(std::fs::exists(source).unwrap(), "{name}");
        }
    }

    #[test]
    fn options_name_programs_and_refuse_others() {
        let known: Vec<_> = names().collect();
        let words = |text: &str| text.split(' ').map(String::from).collect::<Vec<_>>();
        let options =
            Options::parse(&words("--cpu-time --rounds 2 fib syscalls"), 3, &known).unwrap();
        assert!(options.busy && options.rounds == 2 && options.names == ["fib", "syscalls"]);
        assert!(Options::parse(&words("cold"), 3, &known).is_err());
        assert!(Options::parse(&words("--rounds 0"), 3, &known).is_err());
    }
}
