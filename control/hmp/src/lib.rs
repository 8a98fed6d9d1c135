//! The human monitor: commands for people on a terminal.
//!
//! A [`Session`] turns bytes typed into bytes shown, and knows nothing of where they come from; a
//! [`Monitor`] puts one on a character back end. What a command asks of the machine goes through
//! [`MonitorTarget`]. Texts and formats are those of QEMU 10.0 ("QEMU Monitor" in the system
//! emulation manual, and the behaviour of its binary); `$name` in expressions reads registers, which
//! QEMU has for some guests only. Not here: hot plug, snapshots, migration, QMP.

mod commands;
mod cursor;
mod dump;
mod editor;
mod expression;
mod info;
mod serve;
mod session;
mod target;

pub use info::Topic;
pub use serve::Monitor;
pub use session::Session;
pub use target::{Action, InfoRequest, MonitorTarget, Space, Unmapped};

#[cfg(test)]
mod tests;
