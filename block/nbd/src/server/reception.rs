//! Clients of a server: how many at a time, each on a thread of its own, and how they are sent away.

use crate::{Listener, Stream};
use std::collections::BTreeMap;
use std::io;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Who is there.
#[derive(Default)]
struct Present {
    streams: BTreeMap<u64, Stream>,
    /// Clients that came so far.
    came: u64,
    stop: bool,
}

/// Lets clients in and sends them away.
pub struct Reception {
    listener: Listener,
    /// Clients at a time; 0 for any number.
    most: u64,
    present: Mutex<Present>,
    changed: Condvar,
}

impl Reception {
    /// Where at most `most` clients are served at a time, any number if it is 0.
    pub fn new(listener: Listener, most: u64) -> Self {
        Self { listener, most, present: Mutex::default(), changed: Condvar::new() }
    }

    fn present(&self) -> MutexGuard<'_, Present> {
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, present: MutexGuard<'a, Present>) -> MutexGuard<'a, Present> {
        self.changed.wait(present).unwrap_or_else(PoisonError::into_inner)
    }

    /// Has clients served until [`Reception::stop`]; returns when the last one is gone.
    pub fn run(&self, serve: &(dyn Fn(Stream) + Sync)) {
        std::thread::scope(|scope| {
            loop {
                let mut present = self.present();
                while self.most != 0 && present.streams.len() as u64 >= self.most && !present.stop {
                    present = self.wait(present);
                }
                if present.stop {
                    return;
                }
                drop(present);
                let accepted = self.listener.accept();
                let mut present = self.present();
                if present.stop {
                    return;
                }
                // One who is gone again is no reason to end.
                let Ok(stream) = accepted else { continue };
                let Ok(ours) = stream.duplicate() else { continue };
                let number = present.came;
                present.came += 1;
                present.streams.insert(number, ours);
                drop(present);
                let thread = std::thread::Builder::new().name("nbd-client".into());
                let served = thread.spawn_scoped(scope, move || {
                    serve(stream);
                    self.leave(number);
                });
                if served.is_err() {
                    self.leave(number);
                }
            }
        });
    }

    fn leave(&self, number: u64) {
        self.present().streams.remove(&number);
        self.changed.notify_all();
    }

    /// Waits until it is stopped or, unless `persistent`, all who came have left again.
    pub fn wait_for_end(&self, persistent: bool) {
        let mut present = self.present();
        while !present.stop && (persistent || present.came == 0 || !present.streams.is_empty()) {
            present = self.wait(present);
        }
    }

    /// Sends all clients away and lets nobody in any more.
    ///
    /// # Errors
    /// The host has no more descriptors: [`Reception::run`] may then wait for one more client.
    pub fn stop(&self) -> io::Result<()> {
        let mut present = self.present();
        present.stop = true;
        present.streams.values().for_each(Stream::shut_down);
        drop(present);
        self.changed.notify_all();
        self.listener.close()
    }
}
