//! What `-d`, `-D`, `-dfilter`, `-perfmap`, `-jitdump` and one instruction per unit show of a small program,
//! through the binary.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

/// Counts to three, makes a system call whose handler returns, and powers off.
const PROGRAM: [u32; 16] = [
    0x0000_0397, // 00: auipc t2, 0
    0x0303_8393, // 04: addi t2, t2, 0x30
    0x3053_9073, // 08: csrw mtvec, t2
    0x0030_0513, // 0c: li a0, 3
    0xfff5_0513, // 10: addi a0, a0, -1
    0xfe05_1ee3, // 14: bnez a0, -4
    0x0000_0073, // 18: ecall
    0x0010_02b7, // 1c: lui t0, 0x100
    0x0000_5337, // 20: lui t1, 0x5
    0x5553_0313, // 24: addi t1, t1, 0x555
    0x0062_a023, // 28: sw t1, 0(t0)
    0x0000_006f, // 2c: j .
    0x3410_2e73, // 30: csrr t3, mepc
    0x004e_0e13, // 34: addi t3, t3, 4
    0x341e_1073, // 38: csrw mepc, t3
    0x3020_0073, // 3c: mret
];
const RAM: u64 = 0x8000_0000;

/// A file of a test's own, gone with it.
struct Scratch(PathBuf);

impl Scratch {
    fn new(test: &str, name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("tinamou-{}-{test}-{name}", std::process::id())))
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }

    fn text(&self) -> String {
        std::fs::read_to_string(&self.0).unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _never_made = std::fs::remove_file(&self.0);
    }
}

/// Runs the program with these options: the process's number and what it printed.
fn run(test: &str, options: &[&str]) -> (u32, Output) {
    let bytes: Vec<u8> = PROGRAM.iter().flat_map(|word| word.to_le_bytes()).collect();
    run_program(&bytes, test, options)
}

fn run_program(bytes: &[u8], test: &str, options: &[&str]) -> (u32, Output) {
    let kernel = Scratch::new(test, "kernel");
    std::fs::write(&kernel.0, bytes).unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_tinamou"))
        .args(["system", "riscv64", "-M", "virt", "-bios", "none", "-kernel", kernel.path()])
        .args(["-m", "32M", "-display", "none", "-serial", "none", "-monitor", "none"])
        .args(options)
        .current_dir(std::env::temp_dir())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let number = child.id();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    (number, output)
}

/// The log of a run.
fn log(test: &str, options: &[&str]) -> String {
    let file = Scratch::new(test, "log");
    let (_, output) = run(test, &[options, &["-D", file.path()]].concat());
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "the log goes to its file alone");
    file.text()
}

/// Offsets into the program of the units that a log says were executed.
fn executed(log: &str) -> Vec<u64> {
    let traced = log.lines().filter_map(|line| line.strip_prefix("Trace 0: 0x"));
    let pc = |rest: &str| u64::from_str_radix(rest.split('/').nth(1).unwrap(), 16).unwrap();
    traced.map(pc).filter(|pc| *pc >= RAM).map(|pc| pc - RAM).collect()
}

/// Numbers of guest instructions of the units that a log shows.
fn sizes(log: &str) -> Vec<usize> {
    let blocks = log.split("IN: \n").skip(1);
    blocks.map(|b| b.lines().take_while(|line| line.starts_with("0x")).count()).collect()
}

#[test]
fn the_log_shows_guest_code_ir_host_code_traps_and_every_unit_executed() {
    let log = log("items", &["-d", "in_asm,op,out_asm,int,exec,nochain"]);
    assert!(log.contains("0x80000018:  00000073          ecall\n"), "guest code:\n{log}");
    assert!(log.contains(" = call_csr."), "helpers by name:\n{log}");
    let (guest, ir) = (log.find("IN: \n").unwrap(), log.find("OP:\n").unwrap());
    let (host, exec) = (log.find("OUT: [size=").unwrap(), log.find("Trace 0: 0x").unwrap());
    assert!(guest < ir && ir < host && host < exec, "a unit is shown on its way:\n{log}");
    assert!(log.contains("cause:000000000000000b, epc:0x0000000080000018"), "traps:\n{log}");
    let entered = executed(&log);
    assert_eq!(entered.iter().filter(|pc| **pc == 0x10).count(), 2, "the loop: {entered:x?}");
    assert!(entered.contains(&0x1c), "after the trap: {entered:x?}");
}

#[test]
fn an_instruction_that_lies_across_two_pages_is_shown_whole() {
    // A jump to the last halfword of the page, and the end of the program from there.
    let mut program = vec![0; 0xffe];
    program[..4].copy_from_slice(&0x7ff0_006f_u32.to_le_bytes());
    program.extend(PROGRAM[7..12].iter().flat_map(|word| word.to_le_bytes()));
    let file = Scratch::new("across", "log");
    run_program(&program, "across", &["-d", "in_asm", "-D", file.path()]);
    let log = file.text();
    assert!(
        log.contains("0x80000ffe:  001002b7          lui                     t0,0x100\n"),
        "{log}"
    );
}

#[test]
fn host_code_is_disassembled_at_the_addresses_it_runs_at_below_its_guest_instructions() {
    let log = log("out", &["-d", "out_asm,exec,nochain", "-dfilter", "0x80000010+1"]);
    let (code, entered) = log.split_once("Trace 0: ").expect("the unit is entered");
    let mut lines = code.lines();
    let size = lines.next().and_then(|line| line.strip_prefix("OUT: [size=")).unwrap();
    assert!(size.strip_suffix(']').unwrap().parse::<u32>().is_ok(), "{size}");
    assert_eq!(lines.next(), Some("  -- guest addr 0x0000000080000010 + tb prologue"));
    assert!(code.contains("  -- guest addr 0x0000000080000014\n"), "{code}");
    assert!(code.contains("  -- tb slow paths + alignment\n"), "{code}");
    let (code, data) = code.split_once("  data: [size=").expect("records lie behind the code");
    assert!(data.contains(":  .quad  0x"), "{data}");
    let mut next = None;
    for line in code.lines().filter(|line| line.starts_with("0x")) {
        let (address, rest) = line.split_once(":  ").unwrap();
        let is_byte = |word: &&str| word.len() == 2 && u8::from_str_radix(word, 16).is_ok();
        let bytes = rest.split_whitespace().take_while(is_byte).count() as u64;
        let text = rest.get(25.max(3 * bytes as usize)..).unwrap_or("");
        assert!(text.starts_with(|c: char| c.is_ascii_lowercase()), "{line}");
        let address = u64::from_str_radix(&address[2..], 16).unwrap();
        assert!(next.is_none_or(|next| next == address), "{line}");
        next = Some(address + bytes);
    }
    let first = code.lines().find_map(|line| line.split_once(":  ")).unwrap().0;
    assert!(entered.starts_with(first), "the trace names the code: {first}: {entered}");
}

#[test]
fn a_filter_limits_what_is_logged_of_units_to_those_that_begin_in_it() {
    let items = "in_asm,op,out_asm,int,exec,cpu,nochain";
    let log = log("filter", &["-d", items, "-dfilter", "0x80000010+4,0x80000030..0x80000033"]);
    assert_eq!(executed(&log), [0x10, 0x10, 0x30]);
    for (section, count) in [("IN: \n", 2), ("OP:\n", 2), ("OUT: [", 2), (" pc  ", 3)] {
        assert_eq!(log.matches(section).count(), count, "{section}:\n{log}");
    }
    assert!(log.contains("cause:000000000000000b"), "traps are not filtered:\n{log}");
}

#[test]
fn units_hold_one_instruction_on_request() {
    let logs = [["-singlestep"].as_slice(), &["-accel", "tcg,one-insn-per-tb=on"]]
        .map(|how| log("one", &[&["-d", "in_asm,exec"], how].concat()));
    let loops = [0x10, 0x14].repeat(3);
    let wanted = [&[0, 4, 8, 0xc], &loops[..], &[0x18, 0x30, 0x34, 0x38, 0x3c], &[0x1c, 0x20]];
    for log in logs {
        assert!(sizes(&log).iter().all(|n| *n == 1), "{log}");
        assert!(executed(&log).starts_with(&wanted.concat()), "{:x?}", executed(&log));
    }
}

#[test]
fn a_map_for_perf_names_host_code_by_guest_address() {
    let (number, _) = run("perf", &["-perfmap"]);
    let map = Scratch(PathBuf::from(format!("/tmp/perf-{number}.map")));
    let text = map.text();
    let range = |name: &str| {
        let line = text.lines().find(|line| line.ends_with(name)).expect("the program");
        let numbers = line.split(' ').take(2).map(|n| u64::from_str_radix(n, 16).unwrap());
        numbers.collect::<Vec<_>>()
    };
    // Each instruction has its part of the unit's code.
    let [first, second] = [" guest-0x80000000", " guest-0x80000004"].map(range);
    assert!(first[0] > 0xffff && first[1] > 0 && first[0] + first[1] == second[0], "{text}");
}

#[test]
fn a_dump_for_perf_has_host_code_by_guest_address() {
    /// Bytes of a record before its name.
    const HEAD: usize = 56;
    let (number, _) = run("dump", &["-jitdump"]);
    let dump = Scratch(std::env::temp_dir().join(format!("jit-{number}.dump")));
    let bytes = std::fs::read(&dump.0).unwrap();
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    assert_eq!(word(0), 0x4a69_5444, "the number that dumps begin with");
    // Each record tells its length; behind its head are a name and the code.
    let after = |at: &usize| Some(at + word(at + 4)).filter(|next| *next < bytes.len());
    let mut records = std::iter::successors(Some(word(8)), after);
    let name = b"guest-0x80000000\0";
    let found = records.find(|at| bytes[at + HEAD..].starts_with(name)).expect("the program");
    assert!(word(found + 4) > HEAD + name.len(), "no code");
}
