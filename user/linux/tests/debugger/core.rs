//! Core files, read by gdb.

use super::{GDB, Told, told};
use crate::{Bench, LIMIT, compile_native, folder, holds, same};
use std::fs;
use std::process::Command;

/// What gdb is told, and what it then shows of a program with two threads.
const COMMANDS: &[&str] = &[
    "info threads",
    "thread apply all backtrace",
    "frame 1",
    "print local",
    "print $_siginfo._sifields._sigfault.si_addr",
    "info auxv",
    "info proc mappings",
];
const SHOWN: &[&str] = &[
    "Program terminated with signal SIGSEGV",
    "fails (number=64)",
    " in waits ()",
    " in work (",
    " in main ()",
    "$1 = 3",
    "$2 = (void *) 0x40",
    "Entry point of program",
    "/core-program",
];

/// Runs a program that fails; its core file's name.
fn run(bench: &Bench, isa: &str, words: &[&str], limit: &str) -> Told<Option<String>> {
    let mut command = Command::new("sh");
    let script = format!("ulimit -c {limit} && exec timeout --foreground {LIMIT} \"$@\"");
    command.args(["-c", &script, "sh"]).arg(bench.folder.join(format!("qemu-{isa}"))).args(words);
    let done = command.current_dir(&bench.folder).output().map_err(told)?;
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    holds(&said, "qemu: uncaught target signal 11 (Segmentation fault) - core dumped\n")?;
    let names = fs::read_dir(&bench.folder).map_err(told)?;
    let mut names = names.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    Ok(names.find(|name| name.ends_with(".core")))
}

/// What gdb shows of a core file, which is gone afterwards.
fn shown(bench: &Bench, program: &str, core: &str, commands: &[&str]) -> Told<String> {
    let mut gdb = Command::new("timeout");
    gdb.args(["--foreground", LIMIT, GDB, "-nx", "-batch", "-ex", "set width 0"]);
    gdb.args(["-ex", &format!("core-file {core}")]);
    for line in commands {
        gdb.args(["-ex", line]);
    }
    let done = gdb.arg(program).current_dir(&bench.folder).output().map_err(told)?;
    fs::remove_file(bench.folder.join(core)).map_err(told)?;
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

pub fn files(bench: &Bench) -> Told<()> {
    let source = folder().with_file_name("debugger").join("core.c");
    let program = bench.compile(&source, "core-program", &["-static", "-g", "-O0"])?;
    let mut programs = vec![("riscv64", program)];
    if std::env::consts::ARCH == "x86_64" {
        compile_native(bench, &source, "core-program-x86_64", &["-g", "-O0"])?;
        programs.push(("x86_64", "./core-program-x86_64".to_owned()));
    }
    for (isa, program) in programs {
        let core = run(bench, isa, &[&program], "unlimited")?.ok_or("no core file")?;
        holds(&core, &format!("qemu_{}_", program.trim_start_matches("./")))?;
        let text = shown(bench, &program, &core, COMMANDS)?;
        for part in SHOWN {
            holds(&text, part).map_err(|problem| format!("{isa}: {problem}"))?;
        }
        same("None", &format!("{:?}", run(bench, isa, &[&program], "0")?))?;
    }
    narrow(bench)
}

/// Programs of 32 bits, without a C library.
fn narrow(bench: &Bench) -> Told<()> {
    const CODE: &str = "void fails(int number) { *(volatile int *)number = 7; }\n\
        void _start(void) { fails(64); for (;;); }\n";
    let source = bench.folder.join("core-narrow.c");
    fs::write(&source, CODE).map_err(told)?;
    #[rustfmt::skip]
    let flags = [
        "-march=rv32imafdc", "-mabi=ilp32d", "-nostdlib", "-static", "-ffreestanding", "-mno-relax", "-g", "-O0",
    ];
    let program = bench.compile(&source, "core-narrow", &flags)?;
    let mut programs = vec![("riscv32", program)];
    if std::env::consts::ARCH == "x86_64" {
        #[rustfmt::skip]
        let flags = ["-m32", "-nostdlib", "-ffreestanding", "-fno-pic", "-no-pie", "-g", "-O0"];
        compile_native(bench, &source, "core-narrow-i386", &flags)?;
        programs.push(("i386", "./core-narrow-i386".to_owned()));
    }
    for (isa, program) in programs {
        let core = run(bench, isa, &[&program], "unlimited")?.ok_or("no core file")?;
        let text = shown(bench, &program, &core, &["backtrace", "info all-registers"])?;
        for part in ["Program terminated with signal SIGSEGV", "fails (number=64)", " in _start ()"]
        {
            holds(&text, part).map_err(|problem| format!("{isa}: {problem}"))?;
        }
    }
    Ok(())
}
