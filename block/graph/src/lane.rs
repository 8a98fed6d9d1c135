//! One thread that has the kernel carry out plain requests, any number at a time.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use host::aio::{Done, Interface, Request, Ring};

use crate::inbox::{Inbox, Stay};
use crate::plain::Answer;
use crate::{ALIGN, Plain, aligned_start};

/// Aligned buffers that are kept for the next requests.
const KEPT: usize = 64;

/// A request whose place is known.
struct Errand {
    plain: Plain,
    write: bool,
    buf: Vec<u8>,
    answer: Answer,
}

/// A thread with a ring; it starts with the first request and leaves when there are none for a while.
pub struct Lane {
    shared: Arc<Shared>,
}

struct Shared {
    interface: Interface,
    inbox: Inbox<Errand>,
    name: String,
}

impl Lane {
    /// A lane through one interface of the kernel; its thread is called `name` in debuggers.
    pub fn new(interface: Interface, name: &str) -> Self {
        let (inbox, name) = (Inbox::default(), name.to_owned());
        Self { shared: Arc::new(Shared { interface, inbox, name }) }
    }

    /// Which interface that is.
    pub fn interface(&self) -> Interface {
        self.shared.interface
    }

    /// Takes a request and returns at once. `answer` is called on the lane's thread, once: it must not
    /// wait for the disk.
    pub fn submit(&self, plain: Plain, write: bool, buf: Vec<u8>, answer: Answer) {
        let errand = Errand { plain, write, buf, answer };
        let Shared { inbox, name, .. } = &*self.shared;
        inbox.put(errand, name, (&self.shared, Shared::work));
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.shared.inbox.close();
    }
}

/// A request that the ring has.
struct Flying {
    plain: Plain,
    write: bool,
    answer: Answer,
    /// The caller's buffer, if the transfer needs another one.
    own: Option<Vec<u8>>,
}

/// The state of a lane's thread.
struct Flights {
    flying: Vec<Option<Flying>>,
    free: Vec<usize>,
    /// Aligned memory.
    kept: Vec<Vec<u8>>,
}

impl Shared {
    /// Carries requests out until none came for a while.
    fn work(&self, stay: Stay) {
        // Others may have used up what the kernel has of them.
        let mut ring = Ring::new(self.interface).ok();
        let mut flights = Flights { flying: Vec::new(), free: Vec::new(), kept: Vec::new() };
        let (mut batch, mut done) = (VecDeque::new(), Vec::new());
        loop {
            let busy = ring.as_ref().filter(|ring| ring.in_flight() > 0).map(Ring::wake);
            if !self.inbox.take(&mut batch, busy, stay) {
                return;
            }
            let requests = batch.drain(..).map(|errand| flights.take(errand));
            match &mut ring {
                Some(ring) => requests.for_each(|request| ring.push(request)),
                None => done.extend(requests.map(Request::block)),
            }
            if let Some(Err(error)) = ring.as_mut().map(|ring| ring.wait(&mut done)) {
                // The kernel does not go on with a ring that it made.
                flights.fail_all(&error);
                ring = None;
            }
            // All holds first: what the answers lead to may need those of the others.
            let landed: Vec<_> = done.drain(..).filter_map(|done| flights.land(done)).collect();
            for (answer, result, buf) in landed {
                answer(result, buf);
            }
        }
    }
}

impl Flights {
    /// What the ring is to do for a request.
    fn take(&mut self, errand: Errand) -> Request {
        let Errand { plain, write, buf, answer } = errand;
        let slot = self.free.pop().unwrap_or_else(|| {
            self.flying.push(None);
            self.flying.len() - 1
        });
        let aligned = !plain.is_direct() || buf.as_ptr().align_offset(ALIGN) == 0;
        let (request, own) = if aligned {
            (plain.request(slot as u64, write, buf, 0), None)
        } else {
            let (mut other, at) = self.aligned(buf.len());
            if write {
                other[at..at + buf.len()].copy_from_slice(&buf);
            }
            (plain.request(slot as u64, write, other, at), Some(buf))
        };
        self.flying[slot] = Some(Flying { plain, write, answer, own });
        request
    }

    /// Memory for `len` bytes, and where an aligned part of it begins.
    fn aligned(&mut self, len: usize) -> (Vec<u8>, usize) {
        let enough = |kept: &Vec<u8>| kept.len() >= len + ALIGN;
        let found = self.kept.iter().position(enough).map(|at| self.kept.swap_remove(at));
        let buf = found.unwrap_or_else(|| vec![0; len + ALIGN]);
        let at = aligned_start(&buf);
        (buf, at)
    }

    /// A request that is finished, with nothing held any more.
    fn land(&mut self, done: Done) -> Option<(Answer, io::Result<()>, Vec<u8>)> {
        let slot = done.tag as usize;
        let Flying { plain, write, answer, own } = self.flying.get_mut(slot)?.take()?;
        self.free.push(slot);
        if write {
            plain.written();
        }
        let buf = match own {
            None => done.buf,
            Some(mut own) => {
                let (at, len) = (aligned_start(&done.buf), own.len());
                if !write {
                    own.copy_from_slice(&done.buf[at..at + len]);
                }
                if self.kept.len() < KEPT && done.buf.len() <= 1 << 20 {
                    self.kept.push(done.buf);
                }
                own
            }
        };
        drop(plain);
        Some((answer, done.result, buf))
    }

    /// Answers what a broken ring does not. Its buffers stay with the kernel.
    fn fail_all(&mut self, error: &io::Error) {
        self.free.clear();
        for Flying { plain, answer, own, .. } in self.flying.drain(..).flatten() {
            drop(plain);
            let again = error.raw_os_error().map(io::Error::from_raw_os_error);
            answer(Err(again.unwrap_or_else(|| error.kind().into())), own.unwrap_or_default());
        }
    }
}
