//! What the binary can be called, and its own face.

use crate::{links, system, user};
use std::process::ExitCode;

/// Something the binary does under a name.
pub struct Applet {
    /// The name of a link to the binary.
    pub name: &'static str,
    /// One line for `tinamou help`.
    pub description: &'static str,
    /// Runs it: the name it was called by, and its arguments.
    pub run: fn(&str, &[String]) -> ExitCode,
}

/// Every name that behaves as QEMU's program of that name.
pub const APPLETS: &[Applet] = &[
    Applet { name: "qemu-system-riscv64", description: "run a riscv64 machine", run: system::run },
    Applet {
        name: "qemu-img",
        description: "make, convert, check and inspect disk images",
        run: img::run,
    },
    Applet {
        name: "qemu-nbd",
        description: "serve a disk image to other processes and hosts",
        run: img::nbd::run,
    },
    Applet {
        name: "qemu-io",
        description: "send single requests to a disk image",
        run: img::io::run,
    },
    Applet {
        name: "qemu-storage-daemon",
        description: "serve images and work on them, driven through QMP",
        run: storage::run,
    },
    Applet { name: "qemu-riscv64", description: "run a riscv64 Linux program", run: user::run },
    Applet { name: "qemu-riscv32", description: "run a riscv32 Linux program", run: user::run },
    Applet { name: "qemu-x86_64", description: "run an x86_64 Linux program", run: user::run },
    Applet { name: "qemu-i386", description: "run an i386 Linux program", run: user::run },
];

/// The applet of this name.
pub fn by_name(name: &str) -> Option<&'static Applet> {
    APPLETS.iter().find(|a| a.name == name)
}

/// `tinamou …`
pub fn own_face(args: &[String]) -> ExitCode {
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        [] | ["help" | "--help" | "-h"] => {
            print!("{}", help());
            ExitCode::SUCCESS
        }
        ["version" | "--version" | "-V"] => {
            println!("tinamou {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        ["system", isa, ..] => match by_name(&format!("qemu-system-{isa}")) {
            Some(applet) => (applet.run)(applet.name, &args[2..]),
            None => refuse(&format!("system: no machines of architecture '{isa}' yet")),
        },
        ["user", "install-binfmt", rest @ ..] => install_binfmt(rest),
        ["user", isa, ..] => match by_name(&format!("qemu-{isa}")) {
            Some(applet) if linux_user::abi::by_name(isa).is_some() => {
                (applet.run)(applet.name, &args[2..])
            }
            _ => refuse(&format!("user: no programs of architecture '{isa}' yet")),
        },
        ["img", ..] => img::run("tinamou img", &args[1..]),
        ["nbd", ..] => img::nbd::run("tinamou nbd", &args[1..]),
        ["io", ..] => img::io::run("tinamou io", &args[1..]),
        ["storage", ..] => storage::run("tinamou storage", &args[1..]),
        ["install-links", rest @ ..] => match links::install(rest) {
            Ok(made) => {
                made.iter().for_each(|path| println!("{}", path.display()));
                ExitCode::SUCCESS
            }
            Err(problem) => refuse(&problem),
        },
        [word @ ("run" | "doctor" | "demo"), ..] => refuse(&format!("not supported yet: {word}")),
        [word, ..] => refuse(&format!("'{word}' is no command: see 'tinamou help'")),
    }
}

/// `tinamou user install-binfmt [--print] [DIR]`.
fn install_binfmt(words: &[&str]) -> ExitCode {
    let print = words.contains(&"--print");
    let folders: Vec<&&str> = words.iter().filter(|word| !word.starts_with("--")).collect();
    let folder = match folders.as_slice() {
        [] => "/usr/local/bin",
        [folder] => folder,
        _ => return refuse("user install-binfmt: one folder, please"),
    };
    match linux_user::binfmt::install(std::path::Path::new(folder), print) {
        Ok(told) => {
            print!("{told}");
            ExitCode::SUCCESS
        }
        Err(problem) => refuse(&problem),
    }
}

fn refuse(problem: &str) -> ExitCode {
    eprintln!("tinamou: {problem}");
    ExitCode::FAILURE
}

fn help() -> String {
    let mut text = String::from(
        "Tinamou runs machines.\n\n\
         usage: tinamou COMMAND [ARGUMENT…]\n\n\
         \x20 system ISA …          run a machine; arguments as of qemu-system-ISA\n\
         \x20 user ISA PROGRAM …    run a Linux program of another architecture; arguments as of qemu-ISA\n\
         \x20 user install-binfmt DIR  have the kernel start such programs by us; DIR has the links\n\
         \x20 img COMMAND …         disk images; commands as of qemu-img\n\
         \x20 nbd …                 serve a disk image; arguments as of qemu-nbd\n\
         \x20 io …                  single requests to a disk image; arguments as of qemu-io\n\
         \x20 storage …             serve images and work on them; arguments as of qemu-storage-daemon\n\
         \x20 install-links DIR     make links by whose names the binary behaves as QEMU's programs\n\
         \x20 version               print the version\n\
         \x20 help                  print this\n\n\
         names for links:\n\n",
    );
    for applet in APPLETS {
        text.push_str(&format!("  {:<22} {}\n", applet.name, applet.description));
    }
    text
}
