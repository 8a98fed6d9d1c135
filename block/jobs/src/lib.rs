//! Long operations on block nodes: copying, comparing, committing.
//!
//! What the tools do runs on the caller's thread and on workers of its own ([`Copy`]), tells its
//! [`Progress`] how far it is, stops soon after [`Progress::cancelled`] says so, and returns the first
//! error of any worker. What a machine or a daemon does beside its guests are background jobs ([`job`]),
//! each on a thread of its own, in a list ([`Jobs`]). Memory is bounded by the number of workers, whatever
//! the size of the image.

mod concat;
mod copy;
mod engine;
pub mod job;
mod order;
pub mod site;
mod stack;
mod stores;
mod zeroes;

pub use concat::{Concat, Part};
pub use copy::{Copy, CopyError, CopyOptions, MAX_WORKERS, Salvaged, Side};
pub use graph::{Status, backing_of, status_above};
pub use job::{JobOptions, Jobs};
pub use stack::Stack;
pub use stores::{Store, Stores};
pub use zeroes::{Run, runs};

/// How far a job is, and whether it shall go on.
pub trait Progress: Sync {
    /// `done` of `total` units of work are finished; the units are the job's own.
    fn at(&self, done: u64, total: u64);
    /// Everything before this offset has been written to the target (and not flushed). Called by any
    /// worker, with offsets that may be older than those of others; an error ends the job.
    ///
    /// # Errors
    /// Whatever the listener meets when it acts on it.
    fn written(&self, _up_to: u64) -> std::io::Result<()> {
        Ok(())
    }
    /// Whether the job shall end early.
    fn cancelled(&self) -> bool {
        false
    }
}

/// Nobody wants to know.
pub struct Silent;

impl Progress for Silent {
    fn at(&self, _done: u64, _total: u64) {}
}
