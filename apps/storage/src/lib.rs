//! `qemu-storage-daemon` and `tinamou storage`: images, jobs on them and exports of them in a process
//! of its own, driven through QMP.
//!
//! Each area is a file with a table of commands; options of the command line run the same commands.
//! Command lines, texts and exit codes follow qemu-storage-daemon(1), the "QEMU Storage Daemon QMP
//! Reference Manual" and the behaviour of QEMU 10.0.2's binary.

mod actions;
mod bitmaps;
mod chardevs;
mod daemon;
mod exports;
mod fuse_export;
mod jobs_commands;
mod nbd_server;
mod nodes;
mod objects;
mod options;
mod snapshots;
mod start;
mod vhost_export;
mod views;

pub use start::run;

/// Commands that clients are told of and that fail: none at present.
const WAITING: &[&str] = &[];
