//! What a folder holds: regular files and folders, and nothing that leads out of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use graph::OpenError;

use super::MOST_ENTRIES;

/// Deepest nesting of folders.
const MOST_LEVELS: usize = 64;

/// Longest file: what a directory's entry can tell.
const LONGEST: u64 = u32::MAX as u64;

/// A file or folder.
pub(super) struct Item {
    pub name: String,
    /// Below the folder that is the disk.
    pub path: PathBuf,
    pub modified: SystemTime,
    pub kind: Kind,
}

pub(super) enum Kind {
    /// With its length in bytes.
    File(u64),
    /// With its number in the tree.
    Folder(usize),
}

/// A folder's content.
pub(super) struct Folder {
    /// Number of the folder that holds it; its own for the first one.
    pub parent: usize,
    pub items: Vec<Item>,
}

/// All folders below `root`, which is the first.
pub(super) fn walk(root: &Path) -> Result<Vec<Folder>, OpenError> {
    let mut folders = vec![Folder { parent: 0, items: Vec::new() }];
    let mut paths = vec![(PathBuf::new(), 0)];
    let (mut next, mut entries) = (0, 0);
    while next < paths.len() {
        let (below, level) = paths[next].clone();
        let path = root.join(&below);
        let failed = |_| OpenError::Option(format!("Could not read directory {}", path.display()));
        let mut found: Vec<fs::DirEntry> = Vec::new();
        for entry in fs::read_dir(&path).map_err(failed)? {
            entries += 1;
            if entries > MOST_ENTRIES {
                let text = format!("More than {MOST_ENTRIES} files in {}", root.display());
                return Err(OpenError::Option(text));
            }
            found.push(entry.map_err(failed)?);
        }
        found.sort_by_key(fs::DirEntry::file_name);
        for entry in found {
            // What has gone meanwhile is not there.
            let Ok(metadata) = entry.metadata() else { continue };
            let path = below.join(entry.file_name());
            let kind = if metadata.is_dir() {
                if level == MOST_LEVELS {
                    let text = format!("Folders are nested too deeply: {}", path.display());
                    return Err(OpenError::Option(text));
                }
                paths.push((path.clone(), level + 1));
                folders.push(Folder { parent: next, items: Vec::new() });
                Kind::Folder(folders.len() - 1)
            } else if metadata.is_file() {
                if metadata.len() > LONGEST {
                    let text = format!("File {} is larger than 4 GiB", path.display());
                    return Err(OpenError::Option(text));
                }
                Kind::File(metadata.len())
            } else {
                continue;
            };
            let name = entry.file_name().to_string_lossy().into_owned();
            let modified = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            folders[next].items.push(Item { name, path, modified, kind });
        }
        next += 1;
    }
    Ok(folders)
}
