//! Network back ends: the host side of network cards.
//!
//! A card sends Ethernet frames through a [`NetBackend`] and takes frames as a [`Receiver`]. There
//! is one back end so far, which discards.

use std::sync::Arc;

/// Longest frame that is exchanged, in bytes: 64 KiB of payload and its headers.
pub const MAX_FRAME: usize = (64 << 10) + 64;

/// A card, seen from its back end. Called from any thread with no lock of the back end held.
pub trait Receiver: Send + Sync {
    /// Takes a frame; false when there is no room for it now.
    fn receive(&self, frame: &[u8]) -> bool;
    /// The link went up or down.
    fn link(&self, up: bool) {
        let _ = up;
    }
}

/// The host side of a card.
pub trait NetBackend: Send {
    /// Says who takes frames. Whoever drops the receiver leaves the back end without one.
    fn attach(&mut self, receiver: &Arc<dyn Receiver>);
    /// Sends a frame; one that cannot be sent is lost.
    fn send(&mut self, frame: &[u8]);
    /// The card has room again after [`Receiver::receive`] said false.
    fn room(&mut self) {}
}

/// A back end at which nobody listens.
pub struct Discard;

impl NetBackend for Discard {
    fn attach(&mut self, _receiver: &Arc<dyn Receiver>) {}
    fn send(&mut self, _frame: &[u8]) {}
}
