//! The monitor protocol for programs (QMP): what a client sends is read, checked, run and answered.
//!
//! The protocol knows nothing of what it serves: a program has a [`Schema`] that says what can be
//! said, tables of [`Command`]s that do it, and [`Events`] that it reports to. A [`Dispatcher`] makes
//! answers of messages; a [`Server`] puts it behind character back ends. Options of a command line
//! that say what a command says go through [`Dispatcher::call`].
//!
//! Source: "QEMU Machine Protocol Specification", "QEMU Storage Daemon QMP Reference Manual" and the
//! answers of QEMU 10.0's programs.

mod arguments;
mod dispatcher;
mod error;
mod events;
pub mod json;
mod schema;
mod server;
mod words;

pub use arguments::Arguments;
pub use dispatcher::{Command, Dispatcher, Session, Version};
pub use error::{Class, Error};
pub use events::Events;
pub use schema::{Schema, Source};
pub use server::Server;
pub use words::nested;
