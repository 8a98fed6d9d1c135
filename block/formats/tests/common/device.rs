//! Loop devices: files that the kernel shows as block devices.

use std::process::Command;

/// A loop device, until dropped.
pub struct Loop {
    /// Its path.
    pub path: String,
}

impl Loop {
    /// Shows `file` as a device with blocks of `block` bytes.
    pub fn on(file: &str, block: u32) -> Self {
        let block = block.to_string();
        let words = ["losetup", "--show", "--find", "--sector-size", &block, file];
        let path = as_root(&words).trim().to_owned();
        // What somebody else made of the device before stays with it.
        as_root(&["blockdev", "--setrw", &path]);
        if !is_root() {
            let me = format!("{}", rustix::process::getuid().as_raw());
            as_root(&["chown", &me, &path]);
        }
        Self { path }
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        as_root(&["losetup", "--detach", &self.path]);
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Runs what only root may; returns its standard output.
pub fn as_root(words: &[&str]) -> String {
    let sudo: &[&str] = if is_root() { &[] } else { &["sudo", "-n"] };
    let all = [sudo, words].concat();
    let run = Command::new(all[0]).args(&all[1..]).output();
    let output = run.unwrap_or_else(|e| panic!("{}: {e}", all[0]));
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.success(),
        "{all:?}: {errors}; this test needs loop devices: root or sudo without a password, /dev/loop-control, \
         and the kernel's module loop"
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}
