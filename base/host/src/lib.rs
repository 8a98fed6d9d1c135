//! Operating-system calls that the standard library and rustix do not wrap.

pub mod aio;
mod calendar;
pub mod daemon;
pub mod device;
pub mod extended;
pub mod file;
pub mod inherited;
pub mod nbd;
pub mod signals;
pub mod terminal;
pub mod vsock;

pub use calendar::local_time;
