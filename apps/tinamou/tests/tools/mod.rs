//! Running the tools, ours and the peer's, in a folder of the test's own.
#![allow(dead_code, reason = "each test uses a part")]

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A folder of this test's own.
pub fn folder(test: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("nbd-{test}"));
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).unwrap();
    path
}

/// Whose tool is run.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    Ours,
    Peer,
}

/// A tool by its name.
pub fn tool(whose: Whose, name: &str, args: &[&str], within: &Path) -> Command {
    let mut command = match whose {
        Whose::Ours => {
            let mut command = Command::new(env!("CARGO_BIN_EXE_tinamou"));
            command.arg0(name);
            command
        }
        Whose::Peer => Command::new(name),
    };
    command.args(args).current_dir(within).stdin(Stdio::null());
    command
}

/// Runs a tool that must succeed: what it printed.
pub fn must(whose: Whose, name: &str, args: &[&str], within: &Path) -> String {
    let Output { status, stdout, stderr } = tool(whose, name, args, within).output().unwrap();
    let text = String::from_utf8_lossy(&stdout).into_owned();
    assert!(status.success(), "{name} {args:?}: {text}{}", String::from_utf8_lossy(&stderr));
    text
}

/// A server that ends with the test.
pub struct Server(pub Child);

impl Server {
    /// Starts one, and waits until its socket is there.
    pub fn start(whose: Whose, args: &[&str], within: &Path) -> Self {
        // The peer takes nothing but a whole path.
        let socket = within.join("socket").display().to_string();
        let args = [&["-k", &socket], args].concat();
        let child = tool(whose, "qemu-nbd", &args, within).spawn().unwrap();
        let begun = Instant::now();
        while !within.join("socket").exists() {
            assert!(begun.elapsed() < Duration::from_secs(60), "no socket appeared");
            std::thread::sleep(Duration::from_millis(5));
        }
        Self(child)
    }

    /// Waits for it to end by itself.
    pub fn ended(mut self) {
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
