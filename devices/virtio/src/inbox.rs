//! Results from back ends, waiting for the device's lock.

use crate::core::Doorbell;
use std::sync::{Arc, Mutex, PoisonError};

/// A mailbox whose senders ring the device's doorbell.
pub(crate) struct Inbox<T> {
    letters: Arc<Mutex<Vec<T>>>,
    bell: Doorbell,
}

/// The other end of an [`Inbox`].
pub(crate) struct Sender<T> {
    letters: Arc<Mutex<Vec<T>>>,
    bell: Doorbell,
}

impl<T> Default for Inbox<T> {
    fn default() -> Self {
        Self { letters: Arc::default(), bell: Doorbell::default() }
    }
}

impl<T> Inbox<T> {
    /// Keeps the doorbell for senders made from now on.
    pub(crate) fn attach(&mut self, bell: Doorbell) {
        self.bell = bell;
    }

    /// A way to send.
    pub(crate) fn sender(&self) -> Sender<T> {
        Sender { letters: Arc::clone(&self.letters), bell: self.bell.clone() }
    }

    /// All that has arrived, oldest first.
    pub(crate) fn take(&self) -> Vec<T> {
        std::mem::take(&mut *self.letters.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<T> Sender<T> {
    /// Leaves a letter and makes the device look.
    pub(crate) fn send(&self, letter: T) {
        self.letters.lock().unwrap_or_else(PoisonError::into_inner).push(letter);
        self.bell.ring();
    }
}
