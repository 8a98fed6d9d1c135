//! The daemon as its users meet it, beside the installed peer where that tells what is right.
//!
//! Its own `main`, because the same binary is also the tools: called by the name of one, it is that.
//! `cargo test -p storage --test daemon WORD` runs the tests whose names have that word.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod client;
mod exports;
mod front;
mod jobs;
mod lives;
mod patterns;
mod scripts;
mod sockets;
mod story;
mod tools;
mod vhost_user;

use std::panic::catch_unwind;
use std::process::ExitCode;

/// A test by its name.
type Test = (&'static str, fn());

fn main() -> ExitCode {
    let mut words: Vec<String> = std::env::args().collect();
    let called = words.remove(0);
    let called = called.rsplit('/').next().unwrap_or_default();
    match called {
        "qemu-storage-daemon" => return storage::run(called, &words),
        "qemu-img" => return img::run(called, &words),
        "qemu-nbd" => return img::nbd::run(called, &words),
        "qemu-io" => return img::io::run(called, &words),
        _ => {}
    }
    let listing = words.iter().any(|word| word == "--list");
    let ignored = words.iter().any(|word| word == "--ignored");
    let wanted: Vec<&String> = words.iter().filter(|word| !word.starts_with('-')).collect();
    let mut failed = false;
    let tables = [
        scripts::TESTS,
        sockets::TESTS,
        exports::TESTS,
        jobs::TESTS,
        lives::TESTS,
        story::TESTS,
        vhost_user::TESTS,
        patterns::TESTS,
    ];
    for (name, test) in tables.iter().flat_map(|table| table.iter()) {
        if ignored || !(wanted.is_empty() || wanted.iter().any(|part| name.contains(*part))) {
            continue;
        }
        if listing {
            println!("{name}: test");
            continue;
        }
        let good = catch_unwind(test).is_ok();
        println!("test {name} ... {}", if good { "ok" } else { "FAILED" });
        failed |= !good;
    }
    ExitCode::from(u8::from(failed))
}
