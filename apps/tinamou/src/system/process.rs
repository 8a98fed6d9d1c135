//! What other programs see of the process: its number in a file, and its name.

use crate::system::show;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// `-pidfile`: locked while the process lives, and gone with it.
pub struct PidFile {
    path: PathBuf,
    _locked: File,
}

impl PidFile {
    /// Writes the number of this process to `path`.
    ///
    /// # Errors
    /// The file cannot be written, or belongs to another process that lives.
    pub fn create(path: &str) -> Result<Self, String> {
        let failed = |what: &str, e: std::io::Error| {
            format!("cannot create PID file: {what}: {}", show::plain(&e))
        };
        let mut options = OpenOptions::new();
        let options = options.write(true).create(true).truncate(false).mode(0o600);
        let mut file =
            options.open(path).map_err(|e| failed(&format!("Could not create '{path}'"), e))?;
        host::file::lock_exclusive(&file)
            .map_err(|e| failed(&format!("Cannot lock pid file '{path}'"), e))?;
        file.set_len(0)
            .and_then(|()| writeln!(file, "{}", std::process::id()))
            .map_err(|e| failed(&format!("Failed to write '{path}'"), e))?;
        // The folder may be another one when the file goes.
        let path = std::path::absolute(Path::new(path)).unwrap_or_else(|_| path.into());
        Ok(Self { path, _locked: file })
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // Who started us may have removed it.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// `-name process=`.
pub fn set_name(name: Option<&str>) {
    if let Some(name) = name {
        // A host without /proc shows the name of the program.
        let _ = std::fs::write("/proc/self/comm", name);
    }
}
