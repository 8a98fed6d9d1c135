//! The one binary. What it does is decided by the name it is called by.

mod applets;
mod links;
mod system;
mod user;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args_os().map(|a| a.to_string_lossy().into_owned());
    let called = args.next().unwrap_or_default();
    let args: Vec<String> = args.collect();
    let name = called.rsplit('/').next().unwrap_or_default();
    match applets::by_name(name) {
        Some(applet) => (applet.run)(name, &args),
        None => applets::own_face(&args),
    }
}
