//! Virtio devices lent to a virtual machine in another process (vhost-user protocol specification of
//! QEMU 10, back-end side).
//!
//! A [`Server`] listens on a socket and serves one front end at a time. A [`Session`] is what one front
//! end and we agreed on: it is the transport of a [`virtio::Port`], as MMIO and PCI are others. The
//! front end's memory is mapped as an address space of its own, the rings are those of `virtio`.
//!
//! Nothing that a front end sends is believed: see [`Session::serve`]. Left out: packed rings, the
//! log of changes for migration, memory behind an IOMMU, post-copy, rings without a kick descriptor,
//! the device status.

mod account;
mod calls;
mod link;
mod requests;
mod server;
mod session;
mod table;
mod wire;

pub use server::{MakeDevice, Server, Teller};
pub use session::{Answer, Session, Violation};
pub use wire::{Header, flag, protocol, request};
