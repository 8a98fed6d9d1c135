//! TLS: credentials in files as QEMU names them, and connections that several threads use at once.

mod channel;
mod credentials;
mod verify;

pub use channel::{Channel, Socket};
pub use credentials::{Credentials, Endpoint};
