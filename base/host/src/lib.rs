//! Operating-system calls that the standard library and rustix do not wrap.

mod calendar;
pub mod daemon;
pub mod file;
pub mod inherited;
pub mod signals;
pub mod terminal;

pub use calendar::local_time;
