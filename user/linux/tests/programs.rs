//! Programs in C, compiled for another architecture, run, and compared with what they have to print.
//!
//! Each `programs/NAME.c` has its output, and how it ends, in `programs/NAME.out`; `UPDATE_GOLDEN=1`
//! writes them anew. The outputs were compared with QEMU 10.0.2's; where they differ, it is said in
//! `programs/README.md`. This binary is the emulator as well, under the name of a link to it: programs
//! that execute programs start it again.

mod debugger;
mod tracers;

use std::ffi::OsString;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// A cross compiler and what it is called with.
const COMPILER: &str = "riscv64-linux-gnu-gcc";
/// Where that compiler's C library lies.
const SYSROOT: &str = "/usr/riscv64-linux-gnu";
/// Seconds after which a program counts as hanging.
const LIMIT: &str = "120";

type Check = fn(&Bench) -> Result<(), String>;

/// What is checked beside the programs' own output.
const CHECKS: &[(&str, Check)] = &[
    ("dynamic_programs_find_their_libraries_below_the_prefix", dynamic),
    ("system_calls_are_logged_as_scripts_know_them", strace),
    ("what_cannot_be_run_is_told", refusals),
    ("programs_of_32_bits_run_in_a_window", narrow),
    ("programs_of_x86_64_do_what_they_do_natively", native),
    ("models_of_processors_are_listed", models),
    ("profilers_are_told_of_translated_code", profiles),
    ("frames_of_signal_handlers_are_unwound", unwinding),
    ("debuggers_see_and_steer_programs", debugger::sessions),
    ("a_debugger_interrupts_a_program_in_a_system_call", debugger::interrupt),
    ("a_debugger_comes_to_a_program_that_runs", debugger::late),
    ("programs_of_32_bits_are_debugged", debugger::narrow),
    ("core_files_show_what_a_program_was", debugger::core::files),
    ("programs_of_x86_64_v4_have_vectors_of_512_bits", wide_vectors),
    ("strace_tells_of_a_program_as_natively", tracers::strace),
    ("gdb_stops_steps_and_changes_a_program", tracers::gdb),
    ("programs_of_i386_call_handle_signals_and_have_storage_of_their_own", i386),
];

fn main() -> ExitCode {
    let mut words = std::env::args_os();
    let called = words.next().unwrap_or_default().to_string_lossy().into_owned();
    let name = called.rsplit('/').next().unwrap_or_default();
    let rest: Vec<OsString> = words.collect();
    if let Some(isa) = name.strip_prefix("qemu-") {
        return linux_user::run(name, isa, &rest);
    }
    let wanted: Vec<String> = rest
        .iter()
        .map(|word| word.to_string_lossy().into_owned())
        .filter(|word| !word.starts_with('-'))
        .collect();
    let has = |flag: &str| rest.iter().any(|word| word == flag);
    let mut names = programs();
    names.extend(CHECKS.iter().map(|(name, _)| (*name).to_owned()));
    let exact = has("--exact");
    let chosen = |name: &String| {
        let matches = |word: &String| if exact { name == word } else { name.contains(word) };
        wanted.is_empty() || wanted.iter().any(matches)
    };
    names.retain(chosen);
    if has("--list") {
        // As test runners ask: no test is left out.
        let listed = if has("--ignored") { &[][..] } else { &names };
        listed.iter().for_each(|name| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    run_all(&names)
}

/// Runs tests, and tells as the standard harness does.
fn run_all(names: &[String]) -> ExitCode {
    let bench = Bench::new();
    let mut results = Vec::new();
    for name in names {
        let check = CHECKS.iter().find(|(check, _)| check == name);
        let done = match check {
            Some((_, check)) => check(&bench),
            None => bench.compare(name),
        };
        results.push((name, done));
    }
    println!("running {} tests", results.len());
    for (name, done) in &results {
        println!("test {name} ... {}", if done.is_ok() { "ok" } else { "FAILED" });
    }
    for (name, done) in &results {
        if let Err(problem) = done {
            println!("\n---- {name} ----\n{problem}");
        }
    }
    let failed = results.iter().filter(|(_, done)| done.is_err()).count();
    let verdict = if failed == 0 { "ok" } else { "FAILED" };
    let passed = results.len() - failed;
    println!(
        "\ntest result: {verdict}. {passed} passed; {failed} failed; 0 ignored; 0 measured; 0 filtered out"
    );
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs")
}

/// Names of the programs.
fn programs() -> Vec<String> {
    let files = fs::read_dir(folder()).expect("the folder is there");
    let names = files.filter_map(|file| {
        let name = file.ok()?.file_name().into_string().ok()?;
        name.strip_suffix(".c").map(str::to_owned)
    });
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

/// Where programs are built and run.
struct Bench {
    folder: PathBuf,
}

/// How a program ended.
struct Ended {
    out: String,
    err: String,
    code: Option<i32>,
    signal: Option<i32>,
}

impl Bench {
    fn new() -> Self {
        let folder = std::env::temp_dir().join(format!("tinamou-user-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder for programs");
        let this = std::env::current_exe().expect("this binary has a name");
        for isa in ["riscv64", "riscv32", "x86_64", "i386"] {
            let link = folder.join(format!("qemu-{isa}"));
            std::os::unix::fs::symlink(&this, link).expect("a link to this binary");
        }
        Self { folder }
    }

    /// Compiles a program: its name in the bench's folder.
    fn compile(&self, source: &Path, name: &str, flags: &[&str]) -> Result<String, String> {
        let mut compiler = Command::new(COMPILER);
        compiler.args(["-O1", "-w", "-pthread"]).args(flags).arg(source).arg("-lm").arg("-o");
        compiler.arg(self.folder.join(name));
        let done = compiler.output().map_err(|error| format!("{COMPILER}: {error}"))?;
        match done.status.success() {
            true => Ok(format!("./{name}")),
            false => Err(String::from_utf8_lossy(&done.stderr).into_owned()),
        }
    }

    /// Runs the emulator of an architecture.
    fn run(&self, isa: &str, words: &[&str]) -> Result<Ended, String> {
        let mut command = Command::new("timeout");
        command.args(["--foreground", LIMIT]).arg(self.folder.join(format!("qemu-{isa}")));
        command.args(words).current_dir(&self.folder).env_clear().env("PATH", "/usr/bin:/bin");
        let done = command.output().map_err(|error| error.to_string())?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (out, err) = (text(&done.stdout), text(&done.stderr));
        // `timeout` ends by the signal that its child ended by, or tells by its exit code.
        let signal = done.status.signal();
        let code = done.status.code();
        Ok(Ended { out, err, code, signal })
    }

    /// Runs a program of the folder and compares.
    fn compare(&self, name: &str) -> Result<(), String> {
        let source = folder().join(format!("{name}.c"));
        let program = self.compile(&source, name, &["-static"])?;
        let ended = self.run("riscv64", &[&program])?;
        // Names of folders differ from run to run.
        let here = self.folder.to_string_lossy().into_owned();
        let found = ended.out.replace(&here, "HERE");
        let found = match (ended.code, ended.signal) {
            (Some(code), _) => format!("{found}exit code {code}\n"),
            (None, signal) => format!("{found}signal {}\n", signal.unwrap_or(0)),
        };
        let found = hide_random(&found);
        let golden = folder().join(format!("{name}.out"));
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            return fs::write(&golden, found).map_err(|error| error.to_string());
        }
        let expected = fs::read_to_string(&golden).map_err(|error| error.to_string())?;
        same(&expected, &found).map_err(|problem| format!("{problem}\n{}", ended.err))
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Names of temporary files end in six random characters.
fn hide_random(text: &str) -> String {
    const STEM: &str = "/tmp/tinamou-test-";
    let mut parts = text.split(STEM);
    let mut hidden = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        hidden.push_str(STEM);
        hidden.push_str(part.get(6..).unwrap_or_default());
    }
    hidden
}

fn same(expected: &str, found: &str) -> Result<(), String> {
    if expected == found {
        return Ok(());
    }
    let lines = expected.lines().zip(found.lines()).find(|(a, b)| a != b);
    let first = lines.map_or(String::new(), |(a, b)| format!("expected: {a}\nfound:    {b}\n"));
    Err(format!("{first}--- all that was found:\n{found}"))
}

fn holds(text: &str, part: &str) -> Result<(), String> {
    if text.contains(part) { Ok(()) } else { Err(format!("no '{part}' in:\n{text}")) }
}

fn dynamic(bench: &Bench) -> Result<(), String> {
    let source = bench.folder.join("hello.c");
    let code = "#include <stdio.h>\nint main(int n, char **a) { puts(a[n - 1]); return n; }\n";
    fs::write(&source, code).map_err(|error| error.to_string())?;
    let program = bench.compile(&source, "hello", &[])?;
    let ended = bench.run("riscv64", &["-L", SYSROOT, &program, "one", "two"])?;
    same("two\n", &ended.out)?;
    same("Some(3)", &format!("{:?}", ended.code))?;
    let ended = bench.run("riscv64", &["-L", SYSROOT, "-0", "me", "-E", "A=b", &program])?;
    same("me\n", &ended.out)?;
    let ended = bench.run("riscv64", &["-L", "/nonexistent", &program])?;
    holds(
        &ended.err,
        "qemu-riscv64: Could not open '/lib/ld-linux-riscv64-lp64d.so.1': No such file or directory\n",
    )?;
    holds(&ended.err, "nor below '/nonexistent'")?;
    same("Some(255)", &format!("{:?}", ended.code))
}

/// Compiles for the host's own architecture.
fn compile_native(bench: &Bench, source: &Path, name: &str, flags: &[&str]) -> Result<(), String> {
    let mut compiler = Command::new("cc");
    compiler.args(["-O2", "-w", "-pthread", "-static"]).args(flags).arg(source).arg("-lm");
    let done = compiler.arg("-o").arg(bench.folder.join(name)).output();
    let done = done.map_err(|error| format!("cc: {error}"))?;
    match done.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&done.stderr).into_owned()),
    }
}

/// Programs that are compared with their own native output, where the host is of that architecture.
/// The program of faults knows the registers of RISC-V.
fn native(bench: &Bench) -> Result<(), String> {
    if std::env::consts::ARCH != "x86_64" {
        return Ok(());
    }
    for name in programs().iter().filter(|name| *name != "faults") {
        let program = format!("{name}-x86_64");
        compile_native(bench, &folder().join(format!("{name}.c")), &program, &[])?;
        let path = format!("./{program}");
        let mut command = Command::new("timeout");
        command.args(["--foreground", LIMIT, &path]).current_dir(&bench.folder).env_clear();
        let expected = command.env("PATH", "/usr/bin:/bin").output();
        let expected = expected.map_err(|error| error.to_string())?;
        let found = bench.run("x86_64", &[&path])?;
        let text = String::from_utf8_lossy(&expected.stdout).into_owned();
        same(&hide_random(&text), &hide_random(&found.out))
            .map_err(|problem| format!("{name}: {problem}\n{}", found.err))?;
        let ends = |code: Option<i32>, signal: Option<i32>| format!("{code:?} {signal:?}");
        same(
            &ends(expected.status.code(), expected.status.signal()),
            &ends(found.code, found.signal),
        )
        .map_err(|problem| format!("{name}: {problem}"))?;
    }
    Ok(())
}

/// AVX-512: what a processor that has it printed.
fn wide_vectors(bench: &Bench) -> Result<(), String> {
    if std::env::consts::ARCH != "x86_64" {
        return Ok(());
    }
    let flags =
        ["-O3", "-march=x86-64-v4", "-mprefer-vector-width=512", "-fwrapv", "-fno-math-errno"];
    compile_native(bench, &folder().join("x86_64/avx512.c"), "avx512", &flags)?;
    let expected = fs::read_to_string(folder().join("x86_64/avx512.out"));
    let expected = expected.map_err(|error| error.to_string())?;
    let found = bench.run("x86_64", &["./avx512"])?;
    same(&expected, &found.out).map_err(|problem| format!("{problem}\n{}", found.err))
}

/// `-perfmap` and `-jitdump`: what a profiler finds names the program's instructions.
fn profiles(bench: &Bench) -> Result<(), String> {
    let told = |error: std::io::Error| error.to_string();
    let source = bench.folder.join("profiled.c");
    fs::write(&source, "int main() { return 7; }\n").map_err(told)?;
    let program = bench.compile(&source, "profiled", &["-static"])?;
    let ended = bench.run("riscv64", &["-perfmap", "-jitdump", &program])?;
    same("Some(7)", &format!("{:?}", ended.code))?;
    let whole = fs::read(bench.folder.join("profiled")).map_err(told)?;
    let entry = whole[24..32].iter().rev().fold(0u64, |all, byte| all << 8 | u64::from(*byte));
    let first = format!("guest-{entry:#x}");
    let names = fs::read_dir(&bench.folder).map_err(told)?;
    let mut names = names.filter_map(|name| name.ok()?.file_name().into_string().ok());
    let name = names.find(|name| name.starts_with("jit-")).ok_or("no dump")?;
    let process = name.trim_start_matches("jit-").trim_end_matches(".dump");
    let map = format!("/tmp/perf-{process}.map");
    let text = fs::read_to_string(&map).map_err(told)?;
    fs::remove_file(map).map_err(told)?;
    holds(&text, &format!(" {first}\n"))?;
    let dump = fs::read(bench.folder.join(&name)).map_err(told)?;
    same("[44, 54, 69, 4a]", &format!("{:x?}", &dump[..4]))?;
    let word = |at: usize| u32::from_le_bytes([dump[at], dump[at + 1], dump[at + 2], dump[at + 3]]);
    // Every record leads to the next, and the last to the end.
    let (mut at, mut count) = (word(8) as usize, 0);
    while at < dump.len() {
        let len = word(at + 4) as usize;
        if count == 0 {
            holds(&String::from_utf8_lossy(&dump[at..at + len]), &first)?;
        }
        (at, count) = (at + len, count + 1);
    }
    same(&text.lines().count().to_string(), &count.to_string())
}

/// The system's shared object: found, called, and unwound through; static and dynamic.
fn unwinding(bench: &Bench) -> Result<(), String> {
    const FLAGS: &[&str] = &["-g", "-fexceptions", "-fasynchronous-unwind-tables"];
    const EXPECTED: &str = "clock 1\ncpu 1\nbacktrace 1 1\ncleaned\ncancelled 1\n";
    let source = folder().with_file_name("unwinding.c");
    let check = |isa: &str, words: &[&str], more: &str| {
        let ended = bench.run(isa, words)?;
        same(&[EXPECTED, more].concat(), &ended.out)
            .map_err(|problem| format!("{words:?}: {problem}\n{}", ended.err))
    };
    let program = bench.compile(&source, "unwinding", &[FLAGS, &["-static"]].concat())?;
    check("riscv64", &[&program], "")?;
    let program = bench.compile(&source, "unwinding-dynamic", FLAGS)?;
    check("riscv64", &["-L", SYSROOT, &program], "")?;
    if std::env::consts::ARCH == "x86_64" {
        compile_native(bench, &source, "unwinding-x86_64", FLAGS)?;
        check("x86_64", &["./unwinding-x86_64"], "old page 1 1 1\n")?;
        let flags =
            ["-m32", "-nostdlib", "-ffreestanding", "-fno-pic", "-no-pie", "-fno-stack-protector"];
        compile_native(bench, &folder().join("i386/vdso.c"), "vdso", &flags)?;
        let ended = bench.run("i386", &["./vdso"])?;
        same("hello\nold\nnew\nclock\ntime\n", &ended.out)?;
        same("Some(7)", &format!("{:?}", ended.code))?;
    }
    Ok(())
}

/// Models as scripts look for them.
fn models(bench: &Bench) -> Result<(), String> {
    let ended = bench.run("x86_64", &["-cpu", "help"])?;
    for line in [
        "Available CPUs:\n",
        "  SandyBridge           (alias configured by machine type)\n",
        "  SandyBridge-v1        Intel Xeon E312xx (Sandy Bridge)\n",
        "\n\nRecognized CPUID flags:\n",
    ] {
        holds(&ended.out, line)?;
    }
    same("Some(0)", &format!("{:?}", ended.code))
}

/// Programs without a C library, what they print and their exit codes: system calls by `int $0x80`,
/// handlers with both kinds of frames, storage by `set_thread_area`; structures of 32 bits.
const I386: [(&str, &str, i32); 2] = [
    ("small", "hello\nold 10\nnew 12\nthread 42\nfault 11\n", 9),
    (
        "layouts",
        "sleep 00\nnanosleep 00\nclock 01\nday 01\nticks 01\nlock 00\nunlocked 01\nold lock 00\n\
         wake 00\nrobust 01\nsemaphore 00\nvalue 05\nremoved 00\n",
        0,
    ),
];

fn i386(bench: &Bench) -> Result<(), String> {
    if std::env::consts::ARCH != "x86_64" {
        return Ok(());
    }
    let flags =
        ["-m32", "-nostdlib", "-ffreestanding", "-fno-pic", "-no-pie", "-fno-stack-protector"];
    for (name, expected, code) in I386 {
        compile_native(bench, &folder().join(format!("i386/{name}.c")), name, &flags)?;
        let ended = bench.run("i386", &[&format!("./{name}")])?;
        same(expected, &ended.out)
            .map_err(|problem| format!("{name}: {problem}\n{}", ended.err))?;
        same(&format!("{:?}", Some(code)), &format!("{:?}", ended.code))?;
    }
    Ok(())
}

/// Lines that QEMU 10.0.2 prints for the same program, apart from numbers of processes.
const STRACE: &[&str] = &[
    " openat(AT_FDCWD,\"/tmp/xx\",O_RDWR|O_CREAT|O_TRUNC,0644) = 3\n",
    " unlinkat(AT_FDCWD,\"/tmp/xx\",0) = 0\n",
    " chdir(\"/nonexistent\") = -1 errno=2 (No such file or directory)\n",
    " mmap(NULL,4096,PROT_READ|PROT_WRITE,MAP_PRIVATE|MAP_ANONYMOUS,-1,0) = 0x",
    " close(3) = 0\n",
    " exit_group(5)\n",
];

fn strace(bench: &Bench) -> Result<(), String> {
    let source = bench.folder.join("calls.c");
    let code = "#define _GNU_SOURCE\n#include <fcntl.h>\n#include <sys/mman.h>\n#include <unistd.h>\n\
        int main() { open(\"/tmp/xx\", O_RDWR | O_CREAT | O_TRUNC, 0644); unlink(\"/tmp/xx\");\n\
        chdir(\"/nonexistent\"); mmap(0, 4096, 3, 0x22, -1, 0); close(3); return 5; }\n";
    fs::write(&source, code).map_err(|error| error.to_string())?;
    let program = bench.compile(&source, "calls", &["-static"])?;
    for flags in [&["-strace"][..], &["-d", "strace"]] {
        let ended = bench.run("riscv64", &[flags, &[&program]].concat())?;
        for line in STRACE {
            holds(&ended.err, line)?;
        }
    }
    Ok(())
}

/// Arguments, exit code, and what is said on either channel.
const REFUSALS: &[(&[&str], i32, &str)] = &[
    (&[], 1, "qemu: no user program specified\n"),
    (&["-foo"], 1, "qemu: unknown option 'foo'\n"),
    (&["-s"], 1, "qemu: missing argument for option 's'\n"),
    (&["-s", "abc", "x"], 1, "usage: qemu-riscv64 [options] program [arguments...]\n"),
    (&["-h"], 0, "QEMU_STACK_SIZE = 8388608 byte\n"),
    (
        &["-L", "/foo", "-s", "1M", "-h"],
        0,
        "QEMU_LD_PREFIX  = /foo\nQEMU_STACK_SIZE = 1048576 byte\n",
    ),
    (&["-version"], 0, "qemu-riscv64 version 10.0.2 (Tinamou"),
    (&["-cpu", "help"], 0, "Available CPUs:\n  max\n  rv64\n"),
    (&["-cpu", "rv32", "x"], 1, "qemu-riscv64: unable to find CPU model 'rv32'"),
    (
        &["-cpu", "rv64,foo=1", "x"],
        1,
        "qemu-riscv64: can't apply global rv64-riscv-cpu.foo=1: Property 'rv64-riscv-cpu.foo' not found",
    ),
    (
        &["-seed", "abc", "x"],
        1,
        "qemu-riscv64: cannot initialize crypto: Invalid seed number: abc\n",
    ),
    (
        &["-B", "0x1z", "x"],
        1,
        "Requested guest base 0x1 does not satisfy host minimum alignment (0x1000)\n",
    ),
    (&["-R", "0x1z", "x"], 1, "Unrecognised -R size suffix 'z'\n"),
    (&["-R", "1000", "x"], 1, "Reserved virtual address not aligned mod 4 KiB\n"),
    (&["-E", "a", "x"], 1, "usage: "),
    (&["-U", "a=b", "x"], 1, "usage: "),
    (&["-t", "abc", "x"], 1, "Malformed target signal in QEMU_RTSIG_MAP\n"),
    (&["-d", "foo", "x"], 1, "Log items (comma separated):\n"),
    (
        &["-D", "/nonexistent/x", "x"],
        1,
        "qemu-riscv64: Error opening logfile /nonexistent/x: No such file or directory\n",
    ),
    (&["-dfilter", "x", "x"], 1, "qemu-riscv64: Bad range specifier\n"),
    (&["-g", "/nonexistent/x", "/bin/true"], 255, "It is a program for "),
    (&["-g", "1,suspend=x", "x"], 1, "qemu-riscv64: Parameter 'suspend' expects 'on' or 'off'\n"),
    (
        &["-g", "1,foo=x", "x"],
        1,
        "qemu-riscv64: gdbstub: unknown option \"foo=x\"\nUsage: -g {port|path}[,suspend={y|n}]\n",
    ),
    (&["/nonexistent"], 1, "Error while loading /nonexistent: No such file or directory\n"),
    (&["/etc/passwd"], 1, "Error while loading /etc/passwd: Exec format error\n"),
    (&["/tmp"], 1, "Error while loading /tmp: Exec format error\n"),
];

fn refusals(bench: &Bench) -> Result<(), String> {
    for (words, code, text) in REFUSALS {
        let ended = bench.run("riscv64", words)?;
        let said = [&*ended.out, &*ended.err].concat();
        holds(&said, text).map_err(|problem| format!("{words:?}: {problem}"))?;
        same(&format!("{code:?}"), &format!("{:?}", ended.code.unwrap_or(-1)))
            .map_err(|problem| format!("{words:?}: {problem}"))?;
    }
    // A program of the host's.
    let ended = bench.run("riscv64", &["/bin/true"])?;
    let arch = std::env::consts::ARCH;
    holds(&ended.err, ": Invalid ELF image for this architecture\n")?;
    holds(&ended.err, &format!("It is a program for {arch}: this host runs it itself."))?;
    same("Some(255)", &format!("{:?}", ended.code))?;
    // A program that was cut short, and a script.
    let source = bench.folder.join("cut.c");
    fs::write(&source, "int main() { return 0; }\n").map_err(|error| error.to_string())?;
    let program = bench.compile(&source, "cut", &["-static"])?;
    let whole = fs::read(bench.folder.join("cut")).map_err(|error| error.to_string())?;
    for len in [10, 100, 2000, whole.len() / 2] {
        fs::write(bench.folder.join("cut"), &whole[..len]).map_err(|error| error.to_string())?;
        let ended = bench.run("riscv64", &[&program])?;
        holds(&ended.err, "cut: Exec format error")?;
    }
    fs::write(bench.folder.join("script"), "#!/bin/sh\n").map_err(|error| error.to_string())?;
    let ended = bench.run("riscv64", &["./script"])?;
    holds(&ended.err, "It is a script: run its interpreter '/bin/sh'")
}

/// Without a C library: there is none for 32 bits.
const NARROW: &str = r#"
typedef unsigned int u32;
static long call(long n, long a, long b, long c, long d, long e, long f) {
    register long a0 __asm__("a0") = a, a1 __asm__("a1") = b, a2 __asm__("a2") = c;
    register long a3 __asm__("a3") = d, a4 __asm__("a4") = e, a5 __asm__("a5") = f;
    register long a7 __asm__("a7") = n;
    __asm__ volatile("ecall" : "+r"(a0) : "r"(a1), "r"(a2), "r"(a3), "r"(a4), "r"(a5), "r"(a7) : "memory");
    return a0;
}
static void put(const char *text) {
    int len = 0;
    while (text[len]) len++;
    struct { const char *base; u32 len; } list[1] = {{text, len}};
    call(66, 1, (long)list, 1, 0, 0, 0);
}
static void number(const char *name, u32 value) {
    char text[12];
    int at = 11;
    text[at] = 0;
    do text[--at] = '0' + value % 10; while (value /= 10);
    put(name); put(" "); put(text + at); put("\n");
}
static volatile u32 got, fault;
static void on_signal(int signal, u32 *info, u32 *context) {
    got = signal;
    fault = info[3];
    // The pc, in the context's registers.
    context[160 / 4] += 4;
}
__asm__(".globl _start\n_start: mv a0, sp\nandi sp, sp, -16\ncall start\n");
void start(u32 *stack) {
    number("arguments", stack[0]);
    put((char *)stack[2]);
    put("\n");
    long at = call(222, 0, 8192, 3, 0x22, -1, 0);
    ((char *)at)[8191] = 5;
    number("mapped", at > 0 || (u32)at < 0xfffff000u);
    long long now[2] = {0};
    number("time", call(403, 0, (long)now, 0, 0, 0, 0) == 0 && now[0] > 1000000000);
    u32 action[4] = {(u32)on_signal, 4, 0, 0}; // SA_SIGINFO
    number("sigaction", call(134, 11, (long)action, 0, 8, 0, 0));
    __asm__ volatile(".option push\n.option norvc\nlw a0, 16(zero)\n.option pop" ::: "a0");
    number("signal", got);
    number("address", fault);
    long brk = call(214, 0, 0, 0, 0, 0, 0);
    number("heap", call(214, brk + 10000, 0, 0, 0, 0, 0) == brk + 10000);
    long pid = call(220, 17, 0, 0, 0, 0, 0);
    if (pid == 0) call(94, 7, 0, 0, 0, 0, 0);
    u32 status[32];
    call(95, 1, pid, (long)status, 4, 0, 0);
    number("child", status[5]);
    call(94, 3, 0, 0, 0, 0, 0);
}
"#;

fn narrow(bench: &Bench) -> Result<(), String> {
    let source = bench.folder.join("narrow.c");
    fs::write(&source, NARROW).map_err(|error| error.to_string())?;
    let flags = [
        "-march=rv32imafdc",
        "-mabi=ilp32d",
        "-nostdlib",
        "-static",
        "-ffreestanding",
        "-mno-relax",
    ];
    let program = bench.compile(&source, "narrow", &flags)?;
    let ended = bench.run("riscv32", &[&program, "an argument"])?;
    let expected = "arguments 2\nan argument\nmapped 1\ntime 1\nsigaction 0\nsignal 11\naddress 16\n\
        heap 1\nchild 7\n";
    same(expected, &ended.out)?;
    same("Some(3)", &format!("{:?}", ended.code))?;
    let ended = bench.run("riscv64", &[&program])?;
    holds(&ended.err, "It is a program for riscv32: run it with 'qemu-riscv32 ")
}
