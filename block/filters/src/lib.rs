//! Filters: nodes that change what happens between a node and those who use it.
//!
//! Each is a file, and a function that makes the node; the options are parsed by who opens nodes.

pub mod blkdebug;
mod blkverify;
mod compress;
mod copy_before_write;
mod copy_on_read;
mod passing;
mod preallocate;
mod quorum;
mod throttle;

pub use blkdebug::blkdebug;
pub use blkverify::blkverify;
pub use compress::compress;
pub use copy_before_write::{CbwOptions, OnCbwError, copy_before_write, snapshot_access};
pub use copy_on_read::copy_on_read;
pub use preallocate::{Steps, preallocate};
pub use quorum::{QuorumEvent, QuorumListener, QuorumOp, QuorumOptions, ReadPattern, quorum};
pub use throttle::throttle;
