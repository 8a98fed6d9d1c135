//! Debuggers and tracers of the host, emulated, look at programs that are emulated as well.

use crate::{Bench, compile_native, folder, holds, same};
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::process::Command;

fn target(bench: &Bench) -> Result<(), String> {
    let source: PathBuf = folder().join("../tracers/target.c");
    compile_native(bench, &source, "traced", &["-g", "-O0"])
}

/// Lines of strace's log without what differs from run to run (numbers of processes, addresses, times),
/// calls that others interrupt in one piece, in the order of the text, for processes take turns as
/// they like.
fn shape(log: &str) -> Vec<String> {
    let mut begun: HashMap<&str, &str> = HashMap::new();
    let mut lines = Vec::new();
    let pids: HashSet<&str> = log.lines().filter_map(|line| line.split(' ').next()).collect();
    for (pid, text) in log.lines().filter_map(|line| line.split_once(' ')) {
        let text = text.trim();
        if let Some((begin, _)) = text.split_once(" <unfinished") {
            begun.insert(pid, begin);
            continue;
        }
        let text = match text.split_once(" resumed>") {
            Some((_, end)) => format!("{}{end}", begun.remove(pid).unwrap_or_default()),
            None => text.to_owned(),
        };
        let words = text.split_inclusive(|c: char| !c.is_ascii_alphanumeric());
        let plain = words.map(|word| {
            let name = word.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
            let behind = &word[name.len()..];
            match name {
                _ if pids.contains(name) => format!("PID{behind}"),
                _ if name.starts_with("0x") => format!("ADDRESS{behind}"),
                _ => word.to_owned(),
            }
        });
        let plain: String = plain.collect();
        let plain = plain.split(", si_utime").next().unwrap_or_default();
        lines.push(plain.split_whitespace().collect::<Vec<_>>().join(" "));
    }
    lines.sort();
    lines
}

/// strace tells of the same calls and signals as natively.
pub fn strace(bench: &Bench) -> Result<(), String> {
    if std::env::consts::ARCH != "x86_64" {
        return Ok(());
    }
    target(bench)?;
    let words = ["-f", "-o", "log", "-e", "trace=write,exit_group,tgkill,execve,wait4,clone"];
    let mut native = Command::new("timeout");
    native.args(["--foreground", "60", "strace"]).args(words).arg("./traced");
    native.current_dir(&bench.folder).env_clear();
    let expected = native.output().map_err(|error| format!("strace: {error}"))?;
    let log = || std::fs::read_to_string(bench.folder.join("log")).map_err(|e| e.to_string());
    let before = shape(&log()?);
    let mut all = vec!["/usr/bin/strace"];
    all.extend(words);
    all.push("./traced");
    let found = bench.run("x86_64", &all)?;
    same(&String::from_utf8_lossy(&expected.stdout), &found.out)?;
    // The environment's size is in the line of the first execution.
    let keep = |lines: &[String]| {
        let kept = lines.iter().filter(|line| !line.starts_with("execve"));
        kept.cloned().collect::<Vec<_>>().join("\n")
    };
    same(&keep(&before), &keep(&shape(&log()?)))
}

/// gdb stops threads at breakpoints, steps, reads, writes and calls functions.
pub fn gdb(bench: &Bench) -> Result<(), String> {
    if std::env::consts::ARCH != "x86_64" {
        return Ok(());
    }
    target(bench)?;
    let script = [
        "set can-use-hw-watchpoints 0",
        "break hit",
        "ignore 1 24",
        "handle SIGUSR1 nostop noprint pass",
        "run",
        "info breakpoints",
        "delete",
        "p n",
        "p total",
        "finish",
        "call hit(1000)",
        "stepi",
        "set var total = total + 500",
        "continue",
        "continue",
    ];
    let mut words = vec!["/usr/bin/gdb", "-nx", "-batch"];
    script.iter().for_each(|line| words.extend(["-ex", line]));
    words.push("./traced");
    let ended = bench.run("x86_64", &words)?;
    let all = format!("{}\n{}", ended.out, ended.err);
    for part in [
        "hit Breakpoint 1, hit (n=1) at ",
        "breakpoint already hit 25 times",
        "$1 = 1\n",
        "$2 = 34\n",
        " in work (unused=0x0) at ",
        " received signal SIGTERM, Terminated.",
        "Program terminated with signal SIGTERM, Terminated.",
        "total 1540 status 900\n",
    ] {
        holds(&all, part)?;
    }
    Ok(())
}
