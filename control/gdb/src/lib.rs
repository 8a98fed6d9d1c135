//! The remote protocol of debuggers: what `-g` and `-gdb` offer to gdb and lldb.
//!
//! A [`Target`] is what is debugged: a machine whose processors are threads, or a process in user mode. A
//! [`Session`] turns packets into calls of it and replies; [`serve`] puts one on a connection. All threads
//! of a target stop and go on together. Source: "Debugging with GDB", appendix "GDB Remote Serial Protocol", and
//! replies of QEMU 10.0.2.

mod description;
mod files;
mod packet;
mod serve;
mod session;
mod target;
mod words;

pub use description::{Description, Feature, Kind, Register};
pub use packet::{Decoder, Input, MAX_PACKET, frame};
pub use serve::{Ended, Notifier, serve};
pub use session::{Reply, Session};
pub use target::{
    Breakpoint, BreakpointKind, Caught, Object, Order, Refused, Stop, Target, ThreadId, Watched,
};
