//! Debuggers: `-g`. The threads of a program that is debugged look at what is wanted of them between
//! instructions and system calls; while they stand, the thread of the protocol works on what they
//! left of their registers.
//!
//! A thread in a system call counts as standing: it stays in the call, with the pc at the instruction
//! that makes it. Only when a debugger sets its registers does it leave the call, which is made again
//! when the registers are as they were. Children of the program are let go.

mod endpoint;
mod listener;
mod patches;
mod registers;
mod seat;
mod signals;
mod target;
mod thread;
mod watches;

pub use endpoint::Endpoint;
pub use listener::Listener;
pub use registers::{Group, describe, register};
pub use seat::{Debugger, Pace};
pub use thread::Late;
