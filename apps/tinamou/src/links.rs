//! `tinamou install-links DIR`

use crate::applets::APPLETS;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// Makes a link to this binary for each applet.
///
/// # Errors
/// What went wrong, with the path.
pub fn install(args: &[&str]) -> Result<Vec<PathBuf>, String> {
    let [dir] = args else {
        return Err("install-links: name the folder: tinamou install-links DIR".into());
    };
    let own = std::env::current_exe().map_err(|e| format!("install-links: {e}"))?;
    let dir = Path::new(dir);
    std::fs::create_dir_all(dir).map_err(|e| format!("install-links: {}: {e}", dir.display()))?;
    APPLETS.iter().map(|applet| link(&own, &dir.join(applet.name))).collect()
}

/// One link; an earlier link is replaced, anything else is left alone.
fn link(own: &Path, path: &Path) -> Result<PathBuf, String> {
    let problem = |e: std::io::Error| format!("install-links: {}: {e}", path.display());
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.is_symlink() => std::fs::remove_file(path).map_err(problem)?,
        Ok(_) => {
            return Err(format!(
                "install-links: {} is not a link: remove it or choose another folder",
                path.display()
            ));
        }
        Err(_) => {}
    }
    symlink(own, path).map_err(problem)?;
    Ok(path.to_owned())
}
