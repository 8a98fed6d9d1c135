//! Disk images from folders.

use std::path::Path;
use std::process::Command;

use crate::emulator::Emulator;
use crate::tools::{self, Result};

/// What making images needs on the host.
pub const NEEDS: &[&str] = &["e2fsprogs", "fakeroot"];

/// Makes an ext4 file system that holds a folder, after `prepare` (shell text)
/// ran in it as if by root: it may unpack and give files to anybody. The same
/// folder gives the same bytes.
pub fn ext4(folder: &Path, image: &Path, size: &str, prepare: &str) -> Result<()> {
    const ID: &str = "7461696c-6c65-7373-6269-726474696e61";
    let script = format!("set -e\ncd \"$1\"\n{prepare}\nshift\nexec mke2fs \"$@\"\n");
    let mut make = Command::new("fakeroot");
    make.args(["sh", "-c", &script, "sh"]).arg(folder);
    make.args(["-q", "-F", "-t", "ext4", "-L", "tinamou", "-U", ID]);
    make.args(["-E", &format!("hash_seed={ID},lazy_itable_init=0"), "-d"]);
    make.arg(folder).arg(image).arg(size);
    make.env("PATH", search_path()).env("E2FSPROGS_FAKE_TIME", "1700000000");
    tools::output(&mut make).map(drop)
}

/// The search path with the folders of administration tools.
fn search_path() -> String {
    let path = std::env::var("PATH").unwrap_or_default();
    format!("{path}:/usr/local/sbin:/usr/sbin:/sbin")
}

/// Turns a raw image into qcow2, with our own tool.
pub fn qcow2(raw: &Path, image: &Path) -> Result<()> {
    let mut convert = Command::new(Emulator::ours()?.program());
    convert.args(["img", "convert", "-f", "raw", "-O", "qcow2"]).arg(raw).arg(image);
    tools::output(&mut convert).map(drop)
}
