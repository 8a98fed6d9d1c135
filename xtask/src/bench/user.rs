//! `cargo xtask bench user`: programs run by the installed user-mode QEMU and by ours, in turns, beside the
//! host's own build of the same source.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use super::{Kind, Options, PROGRAMS, Peer, VECTOR_CPU, keep, measure, table};
use crate::emulator;
use crate::packages;
use crate::tools::{self, Result};

/// Runs that end at once, per round.
const STARTS: usize = 10;
/// Says nothing: what is measured is that it starts and ends.
const START: &str = "start";
/// Programs that run without a machine only, for every guest. System calls are measured beside the groups.
const EVERYWHERE: [(&str, Kind); 3] =
    [("crc", Kind::Integer), ("moves", Kind::Memory), ("syscalls", Kind::Alone)];
/// Programs for x86.
const X86: [(&str, Kind); 5] = [
    ("xdot", Kind::Vectors),
    ("xshuffle", Kind::Vectors),
    ("xmatmul", Kind::Vectors),
    ("x87", Kind::Units),
    ("xsha", Kind::Units),
];

/// An architecture whose programs are measured.
struct Guest {
    /// As options name it.
    name: &'static str,
    title: &'static str,
    /// The name an emulator of these programs is called by.
    emulator: &'static str,
    compiler: &'static str,
    /// Programs that nobody else has.
    own: &'static [(&'static str, Kind)],
    /// What compiles programs for vectors, and the processor that they run on.
    vectors: (&'static [&'static str], &'static str),
}

const GUESTS: [Guest; 2] = [
    Guest {
        name: "riscv64",
        title: "RISC-V",
        emulator: "qemu-riscv64",
        compiler: "riscv64-linux-gnu-gcc",
        own: &[],
        vectors: (&["-march=rv64gcv_zba"], VECTOR_CPU),
    },
    Guest {
        name: "x86_64",
        title: "x86-64",
        emulator: "qemu-x86_64",
        compiler: "gcc",
        own: &X86,
        vectors: (&["-march=x86-64-v3", "-msha"], "max"),
    },
];

impl Guest {
    /// Its programs: those of the machine but the one that is about its code cache and vectors of others.
    fn programs(&self) -> Vec<(&'static str, Kind)> {
        let shared = PROGRAMS.iter().filter(|(_, kind)| match kind {
            Kind::Alone => false,
            Kind::Vectors => self.own.is_empty(),
            _ => true,
        });
        shared.chain(&EVERYWHERE).chain(self.own).copied().collect()
    }

    fn kind_of(&self, name: &str) -> Kind {
        let programs = self.programs();
        programs.iter().find(|(known, _)| *known == name).map_or(Kind::Alone, |(_, kind)| *kind)
    }

    /// Whether a program is compiled for, and run by, a processor with more than all have.
    fn is_special(&self, name: &str) -> bool {
        matches!(self.kind_of(name), Kind::Vectors | Kind::Units)
    }

    /// Whether the host runs the same source.
    fn is_native(&self, name: &str) -> bool {
        self.compiler == "gcc" || self.kind_of(name) != Kind::Vectors
    }

    /// An emulator, called by its name.
    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.arg0(self.emulator);
        command
    }

    /// Builds a program for the guest and for the host.
    fn build(&self, folder: &Path, name: &str) -> Result<()> {
        let source = if name == START {
            let path = folder.join("start.c");
            tools::write_whole(&path, b"int main(void) { return 0; }\n")?;
            path
        } else {
            tools::root().join(format!("tests/bench/{name}.c"))
        };
        for (compiler, program) in
            [(self.compiler, folder.join(name)), ("gcc", folder.join(format!("{name}.host")))]
        {
            let mut compile = Command::new(compiler);
            if self.is_special(name) {
                if compiler != self.compiler {
                    continue;
                }
                compile.args(self.vectors.0);
            }
            compile.args(["-std=gnu11", "-O2", "-static", "-s", "-o"]);
            tools::output(compile.arg(program).arg(&source).arg("-lm"))?;
        }
        Ok(())
    }
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
    let mut known: Vec<_> = GUESTS.iter().map(|guest| guest.name).collect();
    known.extend(GUESTS.iter().flat_map(Guest::programs).map(|(name, _)| name));
    let options = Options::parse(arguments, 3, &known)?;
    packages::need(&["gcc-riscv64-linux-gnu", "libc6-dev-riscv64-cross", "gcc"])?;
    installed()?;
    let ours = match &options.with {
        Some(program) => PathBuf::from(program),
        None => emulator::build()?,
    };
    let mut report = format!(
        "`cargo xtask bench user{}`, {} rounds, medians; {}; {} beside Tinamou.\n",
        arguments.iter().map(|word| format!(" {word}")).collect::<String>(),
        options.rounds,
        measure::host(),
        version()?,
    );
    let wanted = |name: &str| options.names.iter().any(|word| word == name);
    let all = !GUESTS.iter().any(|guest| wanted(guest.name));
    for guest in GUESTS.iter().filter(|guest| all || wanted(guest.name)) {
        let mut programs = guest.programs();
        if options.names.iter().any(|name| guest.programs().iter().any(|(known, _)| known == name))
        {
            programs.retain(|(name, _)| wanted(name));
        } else if options.names.iter().any(|name| GUESTS.iter().all(|guest| guest.name != name)) {
            continue;
        }
        let [their, our, host] = &measure(guest, &programs, &ours, options.rounds)?;
        agree(their, our)?;
        report.push('\n');
        report.push_str(&table::user(guest.title, &programs, [their, our, host], options.busy));
    }
    println!("{report}");
    if options.write { keep("Programs in user mode", &report) } else { Ok(()) }
}

/// Runs programs of a guest by the installed peer, ours, and the host.
fn measure(
    guest: &Guest,
    programs: &[(&'static str, Kind)],
    ours: &Path,
    rounds: usize,
) -> Result<[Peer; 3]> {
    let theirs = PathBuf::from(guest.emulator);
    let folder = tools::target().join("bench/user").join(guest.name);
    tools::make_folder(&folder)?;
    for name in programs.iter().map(|(name, _)| *name).chain([START]) {
        guest.build(&folder, name)?;
    }
    let stage = Stage { guest, folder };
    let runners = [Runner::Emulator(&theirs), Runner::Emulator(ours), Runner::Host];
    let mut peers: [Peer; 3] = Default::default();
    for round in 1..=rounds {
        eprintln!("{}: round {round} of {rounds}", guest.title);
        for (name, _) in programs {
            for (runner, peer) in runners.iter().zip(&mut peers) {
                if *runner != Runner::Host || guest.is_native(name) {
                    stage.program(name, *runner, peer)?;
                }
            }
        }
        for _ in 0..STARTS {
            for (runner, peer) in runners.iter().zip(&mut peers) {
                stage.start(*runner, peer)?;
            }
        }
    }
    Ok(peers)
}

/// What the installed peer says of itself.
fn version() -> Result<String> {
    let said = tools::text(Command::new(GUESTS[0].emulator).arg("-version"))?;
    let first = said.lines().next().unwrap_or_default();
    Ok(first.replacen(GUESTS[0].emulator, "QEMU", 1))
}

/// The distribution's QEMU 10, installed if need be.
fn installed() -> Result<()> {
    let is_recent = || {
        let said = version().unwrap_or_default();
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
    if is_recent() { Ok(()) } else { Err("qemu-user of version 10 or later is needed".into()) }
}

/// A guest and where its programs are.
struct Stage<'a> {
    guest: &'a Guest,
    folder: PathBuf,
}

impl Stage<'_> {
    /// What runs a program.
    fn runs(&self, name: &str, runner: Runner<'_>) -> Command {
        match runner {
            Runner::Host if self.guest.is_special(name) => Command::new(self.folder.join(name)),
            Runner::Host => Command::new(self.folder.join(format!("{name}.host"))),
            Runner::Emulator(emulator) => {
                let mut command = self.guest.command(emulator);
                if self.guest.is_special(name) {
                    command.args(["-cpu", self.guest.vectors.1]);
                }
                command.arg(self.folder.join(name));
                command
            }
        }
    }

    /// Runs a program, which says how long it took and what it computed.
    fn program(&self, name: &str, runner: Runner<'_>, peer: &mut Peer) -> Result<()> {
        let before = measure::busy_children()?;
        let said = tools::text(&mut self.runs(name, runner))?;
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
    fn start(&self, runner: Runner<'_>, peer: &mut Peer) -> Result<()> {
        let begin = Instant::now();
        tools::output(&mut self.runs(START, runner))?;
        peer.add(START, begin.elapsed().as_secs_f64() * 1e3);
        Ok(())
    }
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
        for name in GUESTS.iter().flat_map(Guest::programs).map(|(name, _)| name) {
            let source = tools::root().join(format!("tests/bench/{name}.c"));
            assert!(std::fs::exists(source).unwrap(), "{name}");
        }
    }

    #[test]
    fn options_name_programs_and_refuse_others() {
        let mut known: Vec<_> = GUESTS.iter().flat_map(Guest::programs).map(|p| p.0).collect();
        known.push("x86_64");
        let words = |text: &str| text.split(' ').map(String::from).collect::<Vec<_>>();
        let options =
            Options::parse(&words("--cpu-time --rounds 2 x86_64 fib syscalls"), 3, &known).unwrap();
        let names = ["x86_64", "fib", "syscalls"];
        assert!(options.busy && options.rounds == 2 && options.names == names);
        assert!(Options::parse(&words("cold"), 3, &known).is_err());
        assert!(Options::parse(&words("--rounds 0"), 3, &known).is_err());
    }
}
