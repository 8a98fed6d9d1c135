//! Kernel modules for a small initramfs: which ones, in which order, and the
//! tables that busybox's `modprobe` reads.
//!
//! What a module needs and which devices it serves stands in its `.modinfo`
//! section as `key=value` strings (kernel `include/linux/module.h`).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::tools::{self, At, Result};

/// One module, uncompressed.
pub struct Module {
    /// The file's bytes.
    pub body: Vec<u8>,
    needs: Vec<String>,
    aliases: Vec<String>,
}

/// Modules by name.
#[derive(Default)]
pub struct Modules(pub BTreeMap<String, Module>);

impl Modules {
    /// The wanted modules of a tree and all they need; names the tree does not
    /// have (a kernel may have them built in) are left out.
    ///
    /// # Errors
    /// When a module cannot be read.
    pub fn pick(tree: &Path, wanted: &[&str]) -> Result<Self> {
        let mut paths = BTreeMap::new();
        find(tree, &mut paths)?;
        let mut picked = Self::default();
        let mut todo: Vec<String> = wanted.iter().map(|name| name.to_string()).collect();
        while let Some(name) = todo.pop() {
            let Some(path) = paths.get(&name) else { continue };
            if picked.0.contains_key(&name) {
                continue;
            }
            let body = read(path)?;
            let needs: Vec<String> = values(&body, "depends")
                .iter()
                .flat_map(|list| list.split(','))
                .filter(|need| !need.is_empty())
                .map(normal)
                .collect();
            todo.extend(needs.iter().cloned());
            let aliases = values(&body, "alias");
            picked.0.insert(name, Module { body, needs, aliases });
        }
        Ok(picked)
    }

    /// Everything `name` needs, in an order in which it can be loaded.
    fn order(&self, name: &str, done: &mut Vec<String>) {
        let Some(module) = self.0.get(name) else { return };
        for need in &module.needs {
            if self.0.contains_key(need) && !done.contains(need) {
                self.order(need, done);
                done.push(need.clone());
            }
        }
    }

    /// The text of `modules.dep`: what is needed, last to be loaded first.
    pub fn dependencies(&self) -> String {
        let mut text = String::new();
        for name in self.0.keys() {
            let mut needs = Vec::new();
            self.order(name, &mut needs);
            text.push_str(&format!("{name}.ko:"));
            for need in needs.iter().rev() {
                text.push_str(&format!(" {need}.ko"));
            }
            text.push('\n');
        }
        text
    }

    /// The text of `modules.alias`: which device names which module serves.
    pub fn aliases(&self) -> String {
        let mut text = String::new();
        for (name, module) in &self.0 {
            for alias in &module.aliases {
                text.push_str(&format!("alias {alias} {name}\n"));
            }
        }
        text
    }
}

fn normal(name: &str) -> String {
    name.replace('-', "_")
}

fn find(folder: &Path, found: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).at("listing", folder)? {
        let path = entry.at("listing", folder)?.path();
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && !path.is_symlink() {
            find(&path, found)?;
        } else if let Some((name, rest)) = file.split_once(".ko")
            && matches!(rest, "" | ".xz" | ".zst" | ".gz")
        {
            found.insert(normal(name), path);
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let tool = match path.extension().and_then(|extension| extension.to_str()) {
        Some("xz") => "xz",
        Some("zst") => "zstd",
        Some("gz") => "gzip",
        _ => return fs::read(path).at("reading", path),
    };
    tools::output(Command::new(tool).arg("-dcq").arg(path))
}

/// The values of `key=` among the zero-terminated strings of a module.
fn values(module: &[u8], key: &str) -> Vec<String> {
    let mut found = Vec::new();
    for string in module.split(|&byte| byte == 0) {
        let value = string.strip_prefix(key.as_bytes()).and_then(|rest| rest.strip_prefix(b"="));
        if let Some(text) = value.and_then(|value| std::str::from_utf8(value).ok()) {
            found.push(text.to_string());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(needs: &[&str]) -> Module {
        let needs = needs.iter().map(|need| need.to_string()).collect();
        Module { body: Vec::new(), needs, aliases: vec!["virtio:d2v*".into()] }
    }

    #[test]
    fn what_is_needed_is_listed_last_to_be_loaded_first() {
        let mut modules = Modules::default();
        modules.0.insert("ext4".into(), module(&["jbd2", "mbcache"]));
        modules.0.insert("jbd2".into(), module(&["crc"]));
        modules.0.insert("mbcache".into(), module(&[]));
        modules.0.insert("crc".into(), module(&[]));
        let text = modules.dependencies();
        assert!(text.contains("ext4.ko: mbcache.ko jbd2.ko crc.ko\n"), "{text}");
        assert!(modules.aliases().contains("alias virtio:d2v* jbd2\n"));
    }

    #[test]
    fn module_information_is_found_between_zeros() {
        let body = b"\x7fELF\0depends=a-b,c\0alias=x\0not depends=z\0";
        assert_eq!(values(body, "depends"), ["a-b,c"]);
        assert_eq!(values(body, "alias"), ["x"]);
    }
}
