//! The task runner: everything a developer or a CI job does with this
//! workspace is `cargo xtask TASK`.

mod bench;
mod boots;
mod cpio;
mod debian;
mod demo;
mod emulator;
mod expect;
mod fuzz;
mod guests;
mod kernel_nbd;
mod kills;
mod kmod;
mod lent;
mod packages;
mod test;
mod tidy;
mod tools;
mod user;

use std::process::ExitCode;

use tools::Result;

/// One task: its name, its arguments, what it does, and the function.
struct Task {
    name: &'static str,
    usage: &'static str,
    about: &'static str,
    run: fn(&[String]) -> Result<()>,
}

const TASKS: &[Task] = &[
    Task {
        name: "demo",
        usage: "[--debian]",
        about: "boot a guest to a shell on this terminal; --debian: all of Debian",
        run: demo::run,
    },
    Task {
        name: "test",
        usage: "[--quick]",
        about: "run everything CI runs; --quick leaves out the guest boots",
        run: test::run,
    },
    Task {
        name: "build",
        usage: "",
        about: "build the binary without shared libraries, and say where it is",
        run: emulator::run,
    },
    Task {
        name: "tidy",
        usage: "",
        about: "check layers, unsafe code, documents and forbidden text",
        run: tidy::run,
    },
    Task {
        name: "guests",
        usage: "[--force] [--list] [NAME…]",
        about: "fill the cache of guest kernels and images",
        run: guests::run,
    },
    Task {
        name: "boots",
        usage: "[--with PROGRAM] [--list] [NAME…]",
        about: "boot guests and check what they say",
        run: boots::run,
    },
    Task {
        name: "user",
        usage: "[--with PROGRAM] [--long] [ISA…] [NAME…]",
        about: "run Debian's programs of foreign architectures and check what they print",
        run: user::run,
    },
    Task {
        name: "bench",
        usage: "[block] [--write] [--cpu-time] [--rounds N] [NAME…]",
        about: "measure beside the installed QEMU; --write: into docs/benchmarks.md",
        run: bench::run,
    },
    Task {
        name: "fuzz",
        usage: "[--seconds N] [NAME…]",
        about: "feed the fuzz targets",
        run: fuzz::run,
    },
    Task {
        name: "kills",
        usage: "[N]",
        about: "kill writers of every kind of disk image N times each, and look at what is left",
        run: kills::run,
    },
    Task {
        name: "kernel-nbd",
        usage: "[PROGRAM]",
        about: "let a guest's kernel use images through our qemu-nbd",
        run: kernel_nbd::run,
    },
    Task {
        name: "patterns",
        usage: "[N]",
        about: "N rounds of random requests by our tools and the installed ones on every kind of image",
        run: kills::patterns,
    },
    Task {
        name: "lent",
        usage: "",
        about: "boot the installed QEMU from disks that our storage daemon lends, and kill that",
        run: lent::run,
    },
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some(name) = arguments.first() else {
        print!("{}", help());
        return ExitCode::SUCCESS;
    };
    if matches!(name.as_str(), "help" | "--help" | "-h") {
        print!("{}", help());
        return ExitCode::SUCCESS;
    }
    let Some(task) = TASKS.iter().find(|task| task.name == name) else {
        eprintln!("xtask: unknown task '{name}'\n\n{}", help());
        return ExitCode::FAILURE;
    };
    match (task.run)(&arguments[1..]) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("xtask {name}: {message}");
            ExitCode::FAILURE
        }
    }
}

fn help() -> String {
    let mut text = String::from("usage: cargo xtask TASK [ARGUMENT…]\n\n");
    for task in TASKS {
        let call = format!("{} {}", task.name, task.usage);
        text.push_str(&format!("  {call:52} {}\n", task.about));
    }
    text
}
