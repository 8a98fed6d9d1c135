//! Background jobs: their states, the list of them, what listeners hear.
//!
//! The states, verbs, events and texts are those of the QMP reference (“Background jobs”, “Block core”)
//! and of an installed QEMU 10.0.2 that was asked.

mod bell;
mod clock;
mod control;
mod errors;
mod events;
mod finish;
mod list;
mod status;
mod work;

pub use bell::Bell;
pub use clock::{Clock, HandClock, HostClock};
pub use control::{Control, Meter};
pub use errors::{Action, Class, Failure, IoStatus, OnError, Operation, Refusal};
pub use events::{Deaf, Event, JobInfo, Listener, Milestone};
pub use list::{Group, JobOptions, Jobs};
pub use status::{Kind, Status, Verb};
pub use work::Work;
