//! The Network Block Device protocol: a [`Client`] is a node of the block graph whose data is
//! elsewhere; [`serve`] gives others access to a node.
//!
//! Source: "The NBD protocol" (doc/proto.md of the NBD project), the fixed newstyle negotiation with
//! structured replies, extended headers and metadata contexts; for the names of contexts "Network
//! Block Devices" in QEMU's interoperability documents. TLS is
//! that of `crypto`, begun with `NBD_OPT_STARTTLS`; a server that has credentials insists on it.

mod address;
mod client;
mod meta;
mod server;
mod wire;

pub use address::{Address, DEFAULT_PORT, Listener, Location, Stream};
pub use client::{Client, ExportInfo, Options, Tls, list};
pub use server::{Export, Exports, Reception, serve};

/// Most bytes of one request, and of one reply, whatever the other side says.
pub const MAX_PAYLOAD: u32 = 32 << 20;
