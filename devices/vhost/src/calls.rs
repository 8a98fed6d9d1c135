//! Interrupts: descriptors that the front end listens to.

use crate::link::send;
use crate::wire::{CONFIG_CHANGE, flag};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};
use virtio::Interrupt;

#[derive(Default)]
struct Ends {
    /// By queue.
    calls: Vec<Option<OwnedFd>>,
    /// The channel from us to the front end.
    channel: Option<OwnedFd>,
}

/// The ends of all interrupts of a session. The vector of a queue is its number.
#[derive(Default)]
pub(crate) struct Calls(Mutex<Ends>);

impl Calls {
    fn lock(&self) -> MutexGuard<'_, Ends> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Interrupts of `queue` go to this descriptor from now on.
    pub fn set(&self, queue: usize, fd: Option<OwnedFd>) {
        let mut ends = self.lock();
        if ends.calls.len() <= queue {
            ends.calls.resize_with(queue + 1, || None);
        }
        ends.calls[queue] = fd;
    }

    /// Our own requests go here from now on.
    pub fn set_channel(&self, fd: OwnedFd) {
        self.lock().channel = Some(fd);
    }

    /// Interrupts for `queue`.
    pub fn call(&self, queue: usize) {
        if let Some(fd) = self.lock().calls.get(queue).and_then(Option::as_ref) {
            // A counter that is full says all there is to say; who is gone does not listen.
            let _ = rustix::io::write(fd, &1u64.to_ne_bytes());
        }
    }
}

impl Interrupt for Calls {
    fn notify(&self, _isr: u8, vector: u16) {
        if vector != virtio::ring::NO_VECTOR {
            return self.call(vector.into());
        }
        if let Some(channel) = &self.lock().channel {
            // Who does not read it does not want to know.
            let _ = send(channel.as_fd(), CONFIG_CHANGE, flag::VERSION, &[], None);
        }
    }

    fn level(&self, _isr: u8) {}
}
