//! What one front end and we agreed on, and the rings that follow from it.
//!
//! A ring runs while it has a place, a size, a descriptor to be kicked by, and is enabled. What a
//! front end gets wrong ends its session, and nothing else.

use crate::account::Account;
use crate::calls::Calls;
use crate::link::Message;
use crate::requests::REQUESTS;
use crate::table::Table;
use crate::wire::{Fields, flag, protocol};
use memory::AddressSpace;
use rustix::io::Errno;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use virtio::dma::Dma;
use virtio::ring::Ring;
use virtio::{Port, VirtioDevice, feature};

/// How a front end broke the protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation(pub String);

impl Violation {
    pub(crate) fn new(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Violation {}

/// What a request is answered with.
#[derive(Debug, Default)]
pub struct Answer {
    /// Behind the header.
    pub payload: Vec<u8>,
    /// Sent along.
    pub fd: Option<OwnedFd>,
}

impl Answer {
    /// A number.
    pub(crate) fn number(value: u64) -> Self {
        Self { payload: value.to_le_bytes().to_vec(), fd: None }
    }
}

/// A ring as the front end describes it.
#[derive(Default)]
pub(crate) struct Side {
    /// Descriptors, used and available ring, where the front end has them.
    pub addresses: Option<[u64; 3]>,
    pub size: u16,
    pub base: u16,
    pub enabled: bool,
    pub kick: Option<OwnedFd>,
}

/// A front end and the device that is lent to it.
pub struct Session {
    pub(crate) port: Port,
    pub(crate) space: Arc<AddressSpace>,
    pub(crate) calls: Arc<Calls>,
    pub(crate) table: Table,
    pub(crate) sides: Vec<Side>,
    /// Features of the device that the front end chose, with the bit for protocol features.
    pub(crate) features: u64,
    pub(crate) protocol: u64,
    pub(crate) account: Option<Account>,
}

impl Session {
    /// A session in which nothing is agreed on yet.
    pub fn new(device: Box<dyn VirtioDevice>) -> Self {
        let space = AddressSpace::new("front end");
        let calls = Arc::new(Calls::default());
        let port = Port::new(device, Dma::new(Arc::clone(&space)), Arc::clone(&calls) as _);
        let queues = port.with(|v| v.core.queue_count());
        Self {
            port,
            space,
            calls,
            table: Table::default(),
            sides: (0..queues).map(|_| Side::default()).collect(),
            features: 0,
            protocol: 0,
            account: None,
        }
    }

    /// The device.
    pub fn port(&self) -> &Port {
        &self.port
    }

    /// Features that are offered.
    pub(crate) fn offered(&self) -> u64 {
        self.port.with(|v| v.offered()) | feature::NOTIFY_ON_EMPTY | protocol::FEATURES
    }

    /// Does what a message asks for. An answer comes if the request has one, or if one is asked for.
    ///
    /// # Errors
    /// The front end broke the protocol: its session is over.
    pub fn serve(
        &mut self,
        request: u32,
        flags: u32,
        payload: &[u8],
        fds: Vec<OwnedFd>,
    ) -> Result<Option<Answer>, Violation> {
        if flags & 3 != flag::VERSION {
            return Err(Violation(format!("request {request} is of another version")));
        }
        let known = REQUESTS.iter().find(|row| row.number == request);
        let known = known.ok_or_else(|| Violation(format!("request {request} is unknown")))?;
        if payload.len() < known.least || fds.len() > known.fds {
            return Err(Violation(format!("{}: it has not the right size", known.name)));
        }
        let wants = flags & flag::NEED_REPLY != 0 && self.protocol & protocol::REPLY_ACK != 0;
        let answer = (known.run)(self, &mut Fields(payload), fds);
        let answer = answer.map_err(|error| Violation(format!("{}: {error}", known.name)))?;
        Ok(answer.or_else(|| wants.then(|| Answer::number(0))))
    }

    pub(crate) fn message(&mut self, message: Message) -> Result<Option<Answer>, Violation> {
        let Message { header, payload, fds } = message;
        self.serve(header.request, header.flags, &payload, fds)
    }

    /// The ring that a request names.
    pub(crate) fn side(&mut self, queue: usize) -> Result<&mut Side, Violation> {
        self.sides.get_mut(queue).ok_or_else(|| Violation(format!("there is no queue {queue}")))
    }

    /// What is listened to, with the number of the queue.
    pub(crate) fn kicks(&self) -> impl Iterator<Item = (usize, BorrowedFd<'_>)> {
        let sides = self.sides.iter().enumerate();
        sides.filter_map(|(queue, side)| side.kick.as_ref().map(|fd| (queue, fd.as_fd())))
    }

    /// A queue's descriptor can be read: takes what is in it, and serves the queue.
    pub(crate) fn kicked(&mut self, queue: usize) {
        let Some(side) = self.sides.get_mut(queue) else { return };
        let Some(fd) = &side.kick else { return };
        match rustix::io::read(fd, &mut [0; 8]) {
            Ok(1..) => self.notify(queue),
            Err(Errno::AGAIN | Errno::INTR) => {}
            // It will never be kicked again.
            _ => side.kick = None,
        }
    }

    /// Serves a queue.
    pub fn notify(&self, queue: usize) {
        self.port.with(|v| v.notify(queue));
    }

    /// Why the session cannot go on, if so.
    pub fn failure(&self) -> Option<Violation> {
        if self.table.is_torn() {
            return Some(Violation::new("the front end took memory away"));
        }
        let broken = self.port.with(|v| v.core.is_broken());
        broken.then(|| Violation::new("the driver broke the rules of a ring"))
    }

    /// Starts a ring that has all it needs.
    pub(crate) fn start(&mut self, queue: usize) -> Result<(), Violation> {
        let Some(Side {
            addresses: Some(addresses),
            size: size @ 1..,
            base,
            enabled: true,
            kick: Some(_),
        }) = self.sides.get(queue)
        else {
            return Ok(());
        };
        let [desc, used, avail] = addresses.map(|user| self.table.guest_address(user));
        let (desc, used, avail) = (desc?, used?, avail?);
        let (size, base) = (*size, *base);
        self.port.with(|v| {
            let at = used.checked_add(2).ok_or_else(|| Violation::new("a ring wraps around"))?;
            let outside = |_| Violation::new("a ring lies outside memory");
            let next_used: u16 = v.core.mem().load(at).map_err(outside)?;
            let mut next_avail = base;
            let mut ledger = None;
            if let Some(account) = &self.account {
                let (book, lost) = account.open(queue, size, next_used)?;
                next_avail = next_used.wrapping_add(lost);
                ledger = Some(Box::new(book) as _);
            }
            v.core.set_ledger(queue, ledger);
            let Some(ring) = v.core.ring_mut(queue) else { return Ok(()) };
            ring.reset(size);
            *ring = Ring {
                ready: true,
                desc,
                driver: avail,
                device: used,
                vector: queue as u16,
                next_avail,
                next_used,
                ..std::mem::take(ring)
            };
            v.notify(queue);
            Ok(())
        })
    }

    /// Ends what a ring has in flight and stops it.
    pub(crate) fn stop(&mut self, queue: usize) {
        let base = self.port.with(|v| {
            if !v.core.ring(queue).is_some_and(|ring| ring.ready) {
                return None;
            }
            v.settle();
            let ring = v.core.ring_mut(queue)?;
            ring.ready = false;
            Some(ring.next_avail)
        });
        if let (Some(base), Some(side)) = (base, self.sides.get_mut(queue)) {
            side.base = base;
        }
    }

    /// Whether a ring runs.
    pub(crate) fn runs(&self, queue: usize) -> bool {
        self.port.with(|v| v.core.ring(queue).is_some_and(|ring| ring.ready))
    }

    /// Changes something on which rings depend: with them stopped.
    pub(crate) fn restart_around(
        &mut self,
        change: impl FnOnce(&mut Self) -> Result<(), Violation>,
    ) -> Result<(), Violation> {
        let running: Vec<usize> = (0..self.sides.len()).filter(|q| self.runs(*q)).collect();
        running.iter().for_each(|queue| self.stop(*queue));
        change(self)?;
        running.into_iter().try_for_each(|queue| self.start(queue))
    }

    /// Ends everything in flight.
    pub fn end(&mut self) {
        self.port.with(|v| v.reset());
        self.space.clear();
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.end();
    }
}
