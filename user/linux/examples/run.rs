//! Runs a program without the rest of the product: `run <isa> [options] program [arguments]`.

use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut words = std::env::args_os();
    let called = words.next().unwrap_or_default().to_string_lossy().into_owned();
    let name = called.rsplit('/').next().unwrap_or_default();
    let rest: Vec<OsString> = words.collect();
    match name.strip_prefix("qemu-") {
        Some(isa) => linux_user::run(name, isa, &rest),
        None => match rest.split_first() {
            Some((isa, rest)) => {
                let isa = isa.to_string_lossy();
                linux_user::run(&format!("qemu-{isa}"), &isa, rest)
            }
            None => ExitCode::FAILURE,
        },
    }
}
