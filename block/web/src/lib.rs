//! Images on web servers: a node for reading, over http and https.
//!
//! Sources: RFC 9110 (range requests), and QEMU's manual on the options of its `http` and `https`
//! drivers, whose messages these are. Requests go through `ureq`, which reuses connections, follows
//! redirections and knows proxies; a connection that the server has closed is replaced. Not here: ftp,
//! authentication other than Basic, HTTP/2.

mod ahead;
mod client;
mod node;

pub use client::Options;
pub use node::Http;
