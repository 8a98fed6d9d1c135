//! Runs the built binary as `qemu-system-riscv64`.
#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// The name it is called by.
pub const NAME: &str = "qemu-system-riscv64";

/// The binary under its name.
pub fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tinamou"));
    command.arg0(NAME).args(args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// What a run said.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

/// Runs it to its end with this input.
pub fn run(args: &[&str], input: &[u8]) -> Ended {
    let mut child = command(args).spawn().unwrap();
    // It may end before it read everything.
    let _ = child.stdin.take().unwrap().write_all(input);
    let output = child.wait_with_output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ended { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
}

/// A folder of this test's own.
pub fn folder(test: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(test);
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).unwrap();
    path
}

/// One that runs, spoken to through its standard streams.
pub struct Emulator {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Emulator {
    pub fn start(args: &[&str]) -> Self {
        let mut child = command(args).stderr(Stdio::inherit()).spawn().unwrap();
        let stdin = child.stdin.take().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Self { child, stdin, stdout }
    }

    /// One with a monitor on its standard streams, and no other back end.
    pub fn monitor(args: &[&str]) -> Self {
        let fixed = ["-M", "virt", "-display", "none", "-serial", "null", "-monitor", "stdio"];
        let mut emulator = Self::start(&[&fixed, args].concat());
        emulator.until("(qemu) ");
        emulator
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stdin.write_all(bytes).unwrap();
        self.stdin.flush().unwrap();
    }

    /// Output up to and with `end`.
    pub fn until(&mut self, end: &str) -> String {
        let mut text = Vec::new();
        while !text.ends_with(end.as_bytes()) {
            let mut byte = [0];
            let n = self.stdout.read(&mut byte).unwrap();
            assert_eq!(n, 1, "it ended after {:?}", String::from_utf8_lossy(&text));
            text.push(byte[0]);
        }
        String::from_utf8_lossy(&text).into_owned()
    }

    /// A line of output without its end.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// What a command on the monitor says.
    pub fn says(&mut self, command: &str) -> String {
        self.send(format!("{command}\n").as_bytes());
        let text = self.until("(qemu) ").replace('\r', "");
        let (_echo, answer) = text.split_once('\n').unwrap();
        answer.strip_suffix("(qemu) ").unwrap().to_owned()
    }

    /// Its exit code.
    pub fn wait(mut self) -> Option<i32> {
        let _ = std::io::copy(&mut self.stdout, &mut std::io::sink());
        self.child.wait().unwrap().code()
    }
}

impl Drop for Emulator {
    /// A test that failed leaves none behind.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A flat firmware of these instructions, with `data` at these offsets.
pub fn firmware(code: &[u32], data: &[(usize, u64)]) -> Vec<u8> {
    let mut image = vec![0; 0x8000];
    for (at, word) in code.iter().enumerate() {
        image[4 * at..4 * at + 4].copy_from_slice(&word.to_le_bytes());
    }
    for (at, value) in data {
        image[*at..*at + 8].copy_from_slice(&value.to_le_bytes());
    }
    image
}
