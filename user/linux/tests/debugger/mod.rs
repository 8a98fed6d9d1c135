//! `-g`, with gdb at the other end.

pub mod core;

use super::{Bench, LIMIT, NARROW, compile_native, folder, holds, same};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdout, Command, Stdio};

/// The debugger.
const GDB: &str = "gdb-multiarch";

/// A part of the program, what gdb is told, what comes of it, and how the program ends.
struct Session {
    part: &'static str,
    commands: &'static [&'static str],
    shown: &'static [&'static str],
    printed: &'static str,
    ends: Ends,
}

#[derive(PartialEq, Debug)]
enum Ends {
    Code(i32),
    Signal(i32),
}

const SESSIONS: &[Session] = &[
    Session {
        part: "calls",
        commands: &[
            "break twice",
            "continue",
            "backtrace",
            "print x",
            "delete",
            "print twice(4)",
            "watch counter",
            "continue",
            "print counter = 100",
            "delete",
            "break marker",
            "continue",
            "print real",
            "print real = 2.25",
            "stepi",
            "continue",
        ],
        shown: &[
            "Breakpoint 1, twice (x=21)",
            "#1  0x",
            " in main (count=2",
            "$1 = 21",
            "Old value = 4",
            "New value = 25",
            "$2 = 8",
            "$3 = 100",
            "$4 = 42",
            "exited with code 03",
        ],
        printed: "100 2.25\n",
        ends: Ends::Code(3),
    },
    Session {
        part: "threads",
        commands: &[
            "break twice",
            "continue",
            "continue",
            "continue",
            "thread apply all backtrace 1",
            "delete",
            "continue",
        ],
        shown: &[
            "hit Breakpoint 1, twice (x=1)",
            "hit Breakpoint 1, twice (x=10)",
            "hit Breakpoint 1, twice (x=100)",
            "Thread 1 (",
            "exited with code 03",
        ],
        printed: "111\n",
        ends: Ends::Code(3),
    },
    Session {
        part: "signals",
        commands: &[
            "break marker",
            "continue",
            "print $_siginfo.si_signo",
            "continue",
            "backtrace",
            "finish",
            "continue",
            "signal 0",
        ],
        shown: &[
            "Program received signal SIGUSR1",
            "$1 = 10",
            "Breakpoint 1, marker ()",
            " in on_signal (signal=10)",
            "<signal handler called>",
            " in raise ()",
            " in main (count=2",
            "Program received signal SIGUSR2",
            "exited with code 03",
        ],
        printed: "10\n",
        ends: Ends::Code(3),
    },
    Session {
        part: "abort",
        commands: &["continue", "backtrace", "continue"],
        shown: &[
            "Program received signal SIGABRT",
            " in abort ()",
            " in main (count=2",
            "Program terminated with signal SIGABRT",
        ],
        printed: "",
        ends: Ends::Signal(6),
    },
    Session {
        part: "fork",
        commands: &["break twice", "continue", "print x", "continue"],
        shown: &["Breakpoint 1, twice (x=1)", "$1 = 1", "exited with code 03"],
        printed: "child 8\nchild 7\n",
        ends: Ends::Code(3),
    },
    Session {
        part: "fault",
        commands: &["continue", "print/x $_siginfo._sifields._sigfault.si_addr", "continue"],
        shown: &[
            "Program received signal SIGSEGV",
            "$1 = 0x10",
            "Program terminated with signal SIGSEGV",
        ],
        printed: "",
        ends: Ends::Signal(11),
    },
    Session {
        part: "calls",
        commands: &["break twice", "continue", "detach"],
        shown: &["Breakpoint 1, twice (x=21)", "detached"],
        printed: "21 42\n",
        ends: Ends::Code(3),
    },
    Session {
        part: "calls",
        commands: &["info auxv", "kill"],
        shown: &["Entry point of program", "killed"],
        printed: "",
        ends: Ends::Code(0),
    },
];

/// gdb 16 knows the numbers of calls of this architecture only.
const CAUGHT: Session = Session {
    part: "calls",
    commands: &["catch syscall write", "continue", "continue", "delete", "continue"],
    shown: &["(call to syscall write)", "(returned from syscall write)", "exited with code 03"],
    printed: "21 42\n",
    ends: Ends::Code(3),
};

type Told<T> = Result<T, String>;

fn told(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// A port that nobody uses.
fn port() -> Told<String> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(told)?;
    Ok(listener.local_addr().map_err(told)?.port().to_string())
}

/// The programs to debug, with their architectures.
fn programs(bench: &Bench) -> Told<Vec<(&'static str, String)>> {
    let source = folder().with_file_name("debugger").join("target.c");
    let program = bench.compile(&source, "target", &["-static", "-g", "-O0"])?;
    let mut programs = vec![("riscv64", program)];
    if std::env::consts::ARCH == "x86_64" {
        compile_native(bench, &source, "target-x86_64", &["-g", "-O0"])?;
        programs.push(("x86_64", "./target-x86_64".to_owned()));
    }
    Ok(programs)
}

/// A program that runs, where a debugger may come.
struct Running {
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Running {
    fn start(bench: &Bench, isa: &str, place: &str, words: &[&str]) -> Told<Self> {
        let mut command = Command::new("timeout");
        command.args(["--foreground", LIMIT]).arg(bench.folder.join(format!("qemu-{isa}")));
        command.args(["-g", place]).args(words).current_dir(&bench.folder).env_clear();
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().map_err(told)?;
        let out = child.stdout.take().ok_or("no pipe")?;
        Ok(Self { child, out: BufReader::new(out) })
    }

    fn line(&mut self) -> Told<String> {
        let mut line = String::new();
        self.out.read_line(&mut line).map_err(told)?;
        Ok(line)
    }

    /// The rest of what it prints, and how it ends.
    fn end(mut self) -> Told<(String, Ends)> {
        let mut text = String::new();
        self.out.read_to_string(&mut text).map_err(told)?;
        let status = self.child.wait().map_err(told)?;
        // `timeout` tells of signals in its code where it does not pass them on.
        let ends = match (status.code(), status.signal()) {
            (Some(code), _) if code > 128 => Ends::Signal(code - 128),
            (Some(code), _) => Ends::Code(code),
            (None, signal) => Ends::Signal(signal.unwrap_or(0)),
        };
        Ok((text, ends))
    }
}

/// gdb, which connects to a place and does as it is told.
fn gdb(bench: &Bench, place: &str, program: &str, commands: &[&str]) -> Told<Child> {
    let mut command = Command::new("timeout");
    command.args(["--foreground", LIMIT, GDB, "-nx", "-batch", "-ex", "set width 0"]);
    command.args(["-ex", "set sysroot /", "-ex", &format!("target remote {place}")]);
    for line in commands {
        command.args(["-ex", line]);
    }
    command.arg(program).current_dir(&bench.folder).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().map_err(|error| format!("{GDB}: {error}"))
}

fn said(gdb: Child) -> Told<String> {
    let done = gdb.wait_with_output().map_err(told)?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(format!("{}{}", text(&done.stdout), text(&done.stderr)))
}

fn debug(bench: &Bench, isa: &str, program: &str, session: &Session) -> Told<()> {
    let port = port()?;
    let running = Running::start(bench, isa, &port, &[program, session.part])?;
    let gdb = gdb(bench, &format!("localhost:{port}"), program, session.commands)?;
    let text = said(gdb)?;
    let (printed, ends) = running.end()?;
    for part in session.shown {
        holds(&text, part)?;
    }
    same(session.printed, &printed).map_err(|problem| format!("{problem}\n{text}"))?;
    same(&format!("{:?}", session.ends), &format!("{ends:?}"))
}

pub fn sessions(bench: &Bench) -> Told<()> {
    for (isa, program) in programs(bench)? {
        let more = if isa == "x86_64" { Some(&CAUGHT) } else { None };
        for session in SESSIONS.iter().chain(more) {
            debug(bench, isa, &program, session)
                .map_err(|problem| format!("{isa}, {}: {problem}", session.part))?;
        }
    }
    Ok(())
}

/// Functions are called while the program waits for input, which it gets afterwards.
pub fn interrupt(bench: &Bench) -> Told<()> {
    const COMMANDS: &[&str] =
        &["continue", "backtrace", "print twice(4)", "print counter", "continue"];
    for (isa, program) in programs(bench)? {
        let port = port()?;
        let mut running = Running::start(bench, isa, &port, &[&program, "read"])?;
        let mut gdb = gdb(bench, &format!("localhost:{port}"), &program, COMMANDS)?;
        same("ready\n", &running.line()?)?;
        // It runs, so gdb waits for it; `timeout` passes the signal on.
        let done = Command::new("kill").args(["-INT", &gdb.id().to_string()]).status();
        done.map_err(told)?;
        let mut out = BufReader::new(gdb.stdout.take().ok_or("no pipe")?);
        let mut text = String::new();
        while !text.contains("Program received signal SIGINT") {
            if out.read_line(&mut text).map_err(told)? == 0 {
                return Err(format!("{isa}: no interruption in:\n{text}"));
            }
        }
        // Only what comes after the interruption tells whether the call goes on.
        let mut input = running.child.stdin.take().ok_or("no pipe")?;
        input.write_all(b"x").map_err(told)?;
        out.read_to_string(&mut text).map_err(told)?;
        gdb.wait().map_err(told)?;
        let (printed, ends) = running.end()?;
        for part in ["$1 = 8", "$2 = 4", "exited with code 03"] {
            holds(&text, part).map_err(|problem| format!("{isa}: {problem}"))?;
        }
        same("got 1\n", &printed)?;
        same("Code(3)", &format!("{ends:?}"))?;
    }
    Ok(())
}

/// A socket with the process's number in its name; the program does not wait.
pub fn late(bench: &Bench) -> Told<()> {
    for (isa, program) in programs(bench)? {
        let place = bench.folder.join("late-%d");
        let place = format!("{},suspend=n", place.display());
        let mut running = Running::start(bench, isa, &place, &[&program, "read"])?;
        same("ready\n", &running.line()?)?;
        let is_late = |name: &String| name.starts_with("late-");
        let names = fs::read_dir(&bench.folder).map_err(told)?;
        let names = names.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let socket = names.into_iter().find(is_late).ok_or("no socket")?;
        for n in 0..2 {
            let commands = ["print counter", "print counter = 7", "backtrace", "detach"];
            let text = said(gdb(bench, &socket, &program, &commands)?)?;
            for part in [["$1 = 0", "$1 = 7"][n], "$2 = 7", "in wait_for_input ()", "detached"] {
                holds(&text, part).map_err(|problem| format!("{isa}: {problem}"))?;
            }
        }
        let mut input = running.child.stdin.take().ok_or("no pipe")?;
        input.write_all(b"x").map_err(told)?;
        same("got 1\n", &running.end()?.0)?;
        fs::remove_file(bench.folder.join(socket)).map_err(told)?;
    }
    Ok(())
}

/// Without a C library.
pub fn narrow(bench: &Bench) -> Told<()> {
    let commands =
        ["break number", "continue", "print name", "info registers", "print $pc", "kill"];
    let source = bench.folder.join("narrow-debugged.c");
    fs::write(&source, NARROW).map_err(told)?;
    #[rustfmt::skip]
    let flags = [
        "-march=rv32imafdc", "-mabi=ilp32d", "-nostdlib", "-static", "-ffreestanding", "-mno-relax", "-g",
    ];
    let program = bench.compile(&source, "narrow-debugged", &flags)?;
    let mut programs = vec![("riscv32", program, "number", "\"arguments\"")];
    if std::env::consts::ARCH == "x86_64" {
        let source = folder().join("i386/small.c");
        #[rustfmt::skip]
        let flags = [
            "-m32", "-nostdlib", "-ffreestanding", "-fno-pic", "-no-pie", "-fno-stack-protector", "-g", "-O0",
        ];
        compile_native(bench, &source, "small-debugged", &flags)?;
        programs.push(("i386", "./small-debugged".to_owned(), "text", "\"hello"));
    }
    for (isa, program, function, text) in programs {
        let port = port()?;
        let running = Running::start(bench, isa, &port, &[&program])?;
        let mut commands = commands.map(str::to_owned);
        commands[0] = format!("break {function}");
        commands[2] = "info args".to_owned();
        let commands: Vec<&str> = commands.iter().map(String::as_str).collect();
        let shown = said(gdb(bench, &format!("localhost:{port}"), &program, &commands)?)?;
        holds(&shown, text).map_err(|problem| format!("{isa}: {problem}"))?;
        holds(&shown, "killed")?;
        same("Code(0)", &format!("{:?}", running.end()?.1))?;
    }
    Ok(())
}
