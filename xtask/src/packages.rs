//! Host packages a task needs, installed through apt-get where they are absent.

use std::process::Command;

use crate::tools::{self, Result};

/// Installs those of `wanted` that are not there, saying so first.
///
/// # Errors
/// When apt-get fails, or this is no Debian and something is missing.
pub fn need(wanted: &[&str]) -> Result<()> {
    let missing: Vec<&str> = wanted.iter().copied().filter(|name| !installed(name)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !tools::has("apt-get") {
        return Err(format!("these Debian packages are needed: {}", missing.join(" ")));
    }
    apt(&["update"])?;
    let mut words = vec!["install", "--yes", "--no-install-recommends"];
    words.extend(&missing);
    apt(&words)
}

/// Installs a package, and what it needs, from another suite of the sources.
///
/// # Errors
/// As [`need`].
pub fn need_from(suite: &str, name: &str) -> Result<()> {
    apt(&["update"])?;
    apt(&["install", "--yes", "--no-install-recommends", "--target-release", suite, name])
}

/// Whether dpkg knows the package as installed.
fn installed(name: &str) -> bool {
    let mut query = Command::new("dpkg-query");
    query.args(["--show", "--showformat=${db:Status-Status}\n", name]);
    tools::text(&mut query).is_ok_and(|text| text.lines().any(|line| line == "installed"))
}

fn apt(words: &[&str]) -> Result<()> {
    let root = tools::text(Command::new("id").arg("-u"))?.trim() == "0";
    let mut command = Command::new(if root { "apt-get" } else { "sudo" });
    if !root {
        command.arg("apt-get");
    }
    command.args(words).env("DEBIAN_FRONTEND", "noninteractive");
    eprintln!("+ {}", tools::shown(&command));
    tools::call(&mut command)
}
