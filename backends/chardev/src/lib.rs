//! Character back ends: the host side of serial ports, consoles and monitors.
//!
//! All back ends of a machine live in one [`Chardevs`], served by one thread that polls their
//! descriptors. A front end (a serial port, a monitor) gets a [`Port`]: it writes through it and
//! takes input as a [`Sink`]. Whoever takes no more input is not asked again until it says
//! [`Port::accept_input`]; whoever writes more than the host takes is told when there is room.
//! Several front ends share a back end with `mux`: the escape character switches between them.
//! Not here: the host's parallel ports, TLS, WebSocket.

mod channel;
mod config;
mod hub;
mod mux;
mod open;
mod source;
mod stream;
mod telnet;

pub use channel::{Event, Port, Sink};
pub use config::{Backend, Config, Socket, SocketAddress};
pub use hub::{Chardevs, Request};

#[cfg(test)]
mod tests;
