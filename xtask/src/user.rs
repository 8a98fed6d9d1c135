//! Programs of foreign architectures under user mode: each as a line for its shell and what that has
//! to print.

mod foreign;
mod python;
mod stories;

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::emulator;
use crate::guests;
use crate::tools::{self, At, Result, Scratch};
use stories::{STORIES, Story};

/// Seconds after which a program counts as hanging.
const LIMIT: &str = "900";

/// For how many seconds programs go on that could do so for ever, in the short form and in the long one.
const SHORT: &str = "20";
const LONG: &str = "600";

/// A folder of programs of one architecture.
pub struct Root {
    /// Its name in the emulator.
    isa: &'static str,
    /// Its name in Debian; its folder is the guest `NAME-user`.
    debian: &'static str,
    /// Whether Java, JavaScript and Go are there.
    runtimes: bool,
    /// What stands for it in what programs print.
    words: &'static [(&'static str, &'static str)],
}

const ROOTS: &[Root] = &[
    Root {
        isa: "riscv64",
        debian: "riscv64",
        runtimes: true,
        words: &[
            ("{triple}", "riscv64-unknown-linux-gnu"),
            ("{machine}", "riscv64"),
            ("{machine_java}", "riscv64"),
            ("{node}", "riscv64"),
            ("{word}", "8"),
            ("{bits}", "64"),
            ("{file}", "UCB RISC-V"),
            ("{debian}", "riscv64"),
        ],
    },
    Root {
        isa: "x86_64",
        debian: "amd64",
        runtimes: true,
        words: &[
            ("{triple}", "x86_64-pc-linux-gnu"),
            ("{machine}", "x86_64"),
            ("{machine_java}", "amd64"),
            ("{node}", "x64"),
            ("{word}", "8"),
            ("{bits}", "64"),
            ("{file}", "x86-64"),
            ("{debian}", "amd64"),
        ],
    },
    Root {
        isa: "i386",
        debian: "i386",
        runtimes: false,
        words: &[
            ("{triple}", "i686-pc-linux-gnu"),
            ("{machine}", "i686"),
            ("{word}", "4"),
            ("{bits}", "32"),
            ("{file}", "Intel i386"),
            ("{debian}", "i386"),
        ],
    },
];

/// What is run.
#[derive(Clone, Copy)]
pub struct Choice<'a> {
    /// Architectures and stories by name; none: all.
    pub names: &'a [&'a str],
    /// Whether what takes long is run as well.
    pub long: bool,
}

impl Choice<'_> {
    fn has_root(&self, root: &Root) -> bool {
        let of_roots = |name: &&str| ROOTS.iter().any(|root| root.isa == *name);
        !self.names.iter().any(of_roots) || self.names.contains(&root.isa)
    }

    fn has(&self, story: &str) -> bool {
        let others = |name: &&str| ROOTS.iter().all(|root| root.isa != *name);
        !self.names.iter().any(others) || self.names.contains(&story)
    }
}

/// `cargo xtask user [--long] [--with FOLDER] [ISA…] [NAME…]`: the stories, or those named.
///
/// # Errors
/// When one goes wrong.
pub fn run(arguments: &[String]) -> Result<()> {
    let (program, rest) = match arguments {
        [flag, program, rest @ ..] if flag == "--with" => (PathBuf::from(program), rest),
        rest => (emulator::build()?, rest),
    };
    let (flags, names) = tools::flags(rest, &["--long"])?;
    let choice = Choice { names: &names, long: flags.contains(&"--long") };
    let (_, failed) = all(&program, choice)?;
    if failed == 0 { Ok(()) } else { Err(format!("{failed} stories went wrong")) }
}

/// Runs stories with an emulator: how many went well and how many did not.
///
/// # Errors
/// When they cannot be run at all.
pub fn all(program: &Path, choice: Choice<'_>) -> Result<(usize, usize)> {
    let mut ends = Vec::new();
    for root in ROOTS.iter().filter(|root| choice.has_root(root)) {
        let folder = guests::folder(&format!("{}-user", root.debian))?.join("root");
        let seconds = if choice.long { LONG } else { SHORT };
        let bench = Bench { root, folder, program, seconds };
        for story in STORIES.iter().filter(|story| (story.on)(root) && choice.has(story.name)) {
            ends.push(told(root, story.name, &bench.tell(story)));
        }
        if root.isa == "riscv64" && choice.long && choice.has(foreign::NAME) {
            ends.push(told(root, foreign::NAME, &foreign::run(&bench)));
        }
        if choice.has(python::NAME) {
            for (name, done) in python::all(&bench, choice.long) {
                ends.push(told(root, &name, &done));
            }
        }
    }
    let passed = ends.iter().filter(|good| **good).count();
    Ok((passed, ends.len() - passed))
}

/// Says how a story ended: whether well.
fn told(root: &Root, name: &str, done: &Result<()>) -> bool {
    match done {
        Ok(()) => println!("{:8} {name:24} ok", root.isa),
        Err(problem) => println!("{:8} {name:24} FAIL\n{problem}", root.isa),
    }
    done.is_ok()
}

/// An emulator and a folder of programs.
struct Bench<'a> {
    root: &'a Root,
    folder: PathBuf,
    program: &'a Path,
    seconds: &'static str,
}

impl Bench<'_> {
    /// A shell with what stories know, and the folder it works in.
    fn shell(&self, script: &str, limit: &str) -> Result<(Command, Scratch)> {
        let work = Scratch::new(&tools::cache()?, "user")?;
        let link = work.path().join(format!("qemu-{}", self.root.isa));
        let program = if self.program.is_dir() {
            self.program.join(format!("qemu-{}", self.root.isa))
        } else {
            self.program.to_path_buf()
        };
        std::os::unix::fs::symlink(&program, &link).at("linking", &link)?;
        let emulator = format!("{} -L {}", link.display(), self.folder.display());
        let mut shell = Command::new("timeout");
        shell.args([limit, "sh", "-c", script]).env("R", &self.folder).env("Q", emulator);
        shell.env("D", self.root.debian).env("W", work.path());
        shell.env("S", tools::root().join("xtask/guest")).env("T", self.seconds);
        shell.env("LC_ALL", "C").env("HOME", work.path()).env("TMPDIR", work.path());
        Ok((shell, work))
    }

    fn tell(&self, story: &Story) -> Result<()> {
        let (mut shell, _work) = self.shell(story.script, LIMIT)?;
        let done = shell.output().map_err(|error| error.to_string())?;
        let said = String::from_utf8_lossy(&done.stdout);
        let words = self.root.words.iter();
        let expected =
            words.fold(story.expected.to_string(), |text, (name, word)| text.replace(name, word));
        if said == expected {
            return Ok(());
        }
        let complained = String::from_utf8_lossy(&done.stderr);
        Err(format!("--- expected\n{expected}--- said\n{said}{complained}"))
    }
}
