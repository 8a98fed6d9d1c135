//! What the fuzz targets feed: one module for each kind of outsider, with `feed` (what is done with
//! the bytes, and what must hold) and `seeds` (good inputs to begin with, made here).
//!
//! The targets in `fuzz_targets/` are glue. `cargo xtask fuzz` builds and runs them; how, and why
//! without another compiler, is in `docs/decisions/`.

pub mod bytes;
pub mod command;
pub mod debugger;
pub mod disks;
pub mod filters;
pub mod guest;
pub mod image;
pub mod instructions;
pub mod kernel;
pub mod lent;
pub mod luks;
pub mod monitor;
pub mod network;
pub mod peer;
pub mod program;
pub mod protocol;
pub mod qmp;
pub mod rig;
pub mod saved;
pub mod seccomp;
pub mod sftp;
pub mod tree;
pub mod units;
pub mod x86;

pub use libfuzzer_sys;

/// Names the folder that a target fills with its seeds before it starts.
pub const SEEDS: &str = "FUZZ_SEEDS";

/// Writes seeds into the folder that [`SEEDS`] names, if it does.
pub fn plant(seeds: impl FnOnce() -> Vec<Vec<u8>>) {
    let Some(folder) = std::env::var_os(SEEDS) else { return };
    for (number, seed) in seeds().into_iter().enumerate() {
        let path = std::path::Path::new(&folder).join(format!("seed-{number:03}"));
        std::fs::write(&path, seed).expect("the folder for seeds can be written to");
    }
}

/// Defines a target that feeds a module of this crate.
#[macro_export]
macro_rules! target {
    ($module:ident) => {
        $crate::libfuzzer_sys::fuzz_target!(
            init: $crate::plant($crate::$module::seeds),
            |bytes: &[u8]| $crate::$module::feed(bytes)
        );
    };
}
