//! The shared object that the system offers to programs (vdso(7)): system calls as functions, returns from
//! signal handlers, and how to unwind through them. It is made here from the tables of each architecture.

mod image;
mod unwind;

pub use image::{Function, Library};
pub use unwind::{Rules, SignalFrame};
