//! Operating-system calls that the standard library and rustix do not wrap.

pub mod daemon;
pub mod file;
pub mod inherited;
pub mod signals;
pub mod terminal;
