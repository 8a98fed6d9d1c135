//! One connection in the transmission phase, and callers that wait for its answers.
//!
//! One of those who wait reads replies, until its own comes. A short answer that it meets is kept for whose it is;
//! before a long one it lets that caller read instead, into its own memory. Where there is a [`Lane`], that reads for all.

use super::handshake::{self, Agreed};
use super::incoming::Incoming;
use super::lane::Lane;
use super::reply::{FirstExtent, Heading, Reply, Request};
use super::{ExportInfo, Options};
use crate::address::{Location, Stream};
use crate::wire::{self, command};
use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError, Weak};
use std::thread::Thread;

/// Bytes of a payload that its owner reads, because copying them costs more than waking that.
const LONG: u64 = 32 << 10;

/// Replies that a caller with an answer still reads for others, if they are there: one that is woken for the
/// next reply may not be its owner, and would have to wake that.
const COURTESY: usize = 8;

/// A request that waits for its answer.
struct Waiting {
    reply: Reply,
    /// What another caller read for this one.
    data: Option<Vec<u8>>,
    len: usize,
    caller: Thread,
}

/// What became of a request.
enum Fate {
    Waiting(Waiting),
    Done(io::Result<FirstExtent>, Option<Vec<u8>>),
}

/// Requests without an answer, and answers that nobody took yet.
#[derive(Default)]
struct Requests {
    fates: BTreeMap<u64, Fate>,
    /// Somebody reads replies, its own and those of others.
    reading: bool,
    /// Begins what its owner is to read, and go on reading.
    handed: Option<Heading>,
    /// Reads for everybody, once there is one.
    lane: Option<Weak<Lane>>,
}

pub(super) struct Connection {
    agreed: Agreed,
    stream: Stream,
    to: Mutex<Stream>,
    /// The lane could not have `to` and wants to be woken when it is free.
    awaited: AtomicBool,
    from: Mutex<Incoming>,
    requests: Mutex<Requests>,
    /// Nobody reads any more.
    unread: Condvar,
    broken: AtomicBool,
    next: AtomicU64,
}

impl Connection {
    /// Negotiates.
    pub fn over(mut stream: Stream, location: &Location, options: &Options) -> io::Result<Self> {
        let agreed = handshake::choose(&mut stream, location, options)?;
        let to = Mutex::new(stream.duplicate()?);
        let from = Mutex::new(Incoming::new(stream.duplicate()?));
        let (requests, unread, awaited, broken, next) = Default::default();
        Ok(Self { agreed, stream, to, awaited, from, requests, unread, broken, next })
    }

    pub fn info(&self) -> &ExportInfo {
        &self.agreed.info
    }

    pub fn agreed(&self) -> &Agreed {
        &self.agreed
    }

    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Whether a request can be about more than 4 GiB.
    pub fn is_extended(&self) -> bool {
        self.agreed.extended
    }

    /// Whether the server answers about ranges.
    pub fn has_context(&self) -> bool {
        self.agreed.context.is_some()
    }

    /// Whether it can still be used.
    pub fn works(&self) -> bool {
        !self.broken.load(Ordering::Acquire)
    }

    /// Sends a request and waits for its answer; `buf` is as long as what is to be read.
    pub fn call(&self, request: &Request<'_>, buf: &mut [u8]) -> io::Result<FirstExtent> {
        let cookie = self.next.fetch_add(1, Ordering::Relaxed);
        let reply = Reply::new(request.kind, request.offset, buf.len());
        let (data, len, caller) = (None, buf.len(), std::thread::current());
        let waiting = Waiting { reply, data, len, caller };
        self.requests().fates.insert(cookie, Fate::Waiting(waiting));
        if let Err(failure) = self.send(cookie, request) {
            self.give_up(&failure);
        }
        self.wait(cookie, buf)
    }

    /// Waits for an answer, and reads if nobody does.
    fn wait(&self, cookie: u64, buf: &mut [u8]) -> io::Result<FirstExtent> {
        loop {
            let mut requests = self.requests();
            if !self.works()
                && let Some(Fate::Waiting(_)) = requests.fates.get(&cookie)
            {
                requests.fates.remove(&cookie);
                return Err(io::ErrorKind::NotConnected.into());
            }
            if let Some(Fate::Done(..)) = requests.fates.get(&cookie)
                && let Some(Fate::Done(result, data)) = requests.fates.remove(&cookie)
            {
                self.call_a_reader(&requests);
                if let Some(data) = data.filter(|_| result.is_ok()) {
                    buf.copy_from_slice(&data);
                }
                return result;
            }
            let handed = requests.handed.take_if(|heading| heading.cookie == cookie);
            if handed.is_none() && requests.reading {
                drop(requests);
                std::thread::park();
                continue;
            }
            if let Some(lane) = requests.lane.clone() {
                drop(requests);
                match lane.upgrade().is_some_and(Lane::listen) {
                    true => std::thread::park(),
                    // The client is going, or this is the lane itself, which cannot wait.
                    false => self.give_up(&io::ErrorKind::Deadlock.into()),
                }
                continue;
            }
            requests.reading = true;
            drop(requests);
            match self.read_replies(cookie, handed, buf) {
                Ok(Some(for_another)) => {
                    let mut requests = self.requests();
                    if let Some(Fate::Waiting(own)) = requests.fates.get_mut(&cookie)
                        && own.reply.has_begun()
                    {
                        // The rest may be read by others.
                        own.data.get_or_insert_with(|| buf.to_vec());
                    }
                    if let Some(Fate::Waiting(owner)) = requests.fates.get(&for_another.cookie) {
                        owner.caller.unpark();
                    }
                    requests.handed = Some(for_another);
                }
                Ok(None) => self.requests().reading = false,
                Err(failure) => {
                    self.give_up(&failure);
                    self.requests().reading = false;
                }
            }
        }
    }

    /// Reads replies until the one to `cookie` is complete, whose data goes to `buf`, and some that came with it; or
    /// until what follows is for another caller to read.
    fn read_replies(
        &self,
        cookie: u64,
        handed: Option<Heading>,
        buf: &mut [u8],
    ) -> io::Result<Option<Heading>> {
        if !self.works() {
            return Err(io::ErrorKind::NotConnected.into());
        }
        let mut from = self.from.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = handed;
        let mut left = usize::MAX;
        while left > 0 {
            let heading = match next.take() {
                Some(heading) => heading,
                None => Heading::read(&mut from, &self.agreed)?,
            };
            let own = heading.cookie == cookie;
            let into = own.then_some(&mut *buf);
            match self.hear(heading, &mut from, into, !own)? {
                Heard::All if own => left = COURTESY,
                Heard::All | Heard::Part => left -= 1,
                Heard::Long(heading) => return Ok(Some(heading)),
            }
            // With the own answer, what is there already is still given to whose it is.
            if left <= COURTESY && from.is_empty() && !from.fill_now().unwrap_or(false) {
                break;
            }
        }
        Ok(None)
    }

    /// Takes in what follows a heading, for whoever waits for it; their own memory is known only if it is `into`.
    pub fn hear(
        &self,
        heading: Heading,
        from: &mut Incoming,
        into: Option<&mut [u8]>,
        may_hand: bool,
    ) -> io::Result<Heard> {
        let cookie = heading.cookie;
        let mut requests = self.requests();
        let mut waiting = match requests.fates.remove(&cookie) {
            Some(Fate::Waiting(waiting)) => waiting,
            other => {
                requests.fates.extend(other.map(|done| (cookie, done)));
                return Err(wire::broken("a reply to a request that nobody made"));
            }
        };
        let payload = waiting.reply.payload(&heading);
        // What was begun elsewhere is finished there.
        if may_hand && payload > LONG && waiting.data.is_none() {
            requests.fates.insert(cookie, Fate::Waiting(waiting));
            return Ok(Heard::Long(heading));
        }
        drop(requests);
        let len = waiting.len;
        let heard = match (&mut waiting.data, into) {
            (None, Some(into)) => waiting.reply.hear(&heading, from, into, &self.agreed),
            (data, _) => {
                let data = data.get_or_insert_with(|| vec![0; len]);
                waiting.reply.hear(&heading, from, data, &self.agreed)
            }
        };
        let complete = heard.is_ok() && heading.done;
        if complete {
            let caller = waiting.caller;
            let done = Fate::Done(waiting.reply.finish(), waiting.data);
            self.requests().fates.insert(cookie, done);
            caller.unpark();
        } else {
            // Whoever gives up after an error tells all who wait.
            self.requests().fates.insert(cookie, Fate::Waiting(waiting));
        }
        heard.map(|()| if complete { Heard::All } else { Heard::Part })
    }

    fn send(&self, cookie: u64, request: &Request<'_>) -> io::Result<()> {
        let header = request.header(cookie, self.agreed.extended)?;
        let mut to = self.to.lock().unwrap_or_else(PoisonError::into_inner);
        let sent = wire::send(&mut *to, &header, request.data);
        drop(to);
        if self.awaited.swap(false, Ordering::SeqCst)
            && let Some(lane) = self.requests().lane.as_ref().and_then(Weak::upgrade)
        {
            lane.wake();
        }
        sent
    }

    /// Says goodbye.
    pub fn leave(&self) {
        let kind = command::DISCONNECT;
        // Who is gone already needs no goodbye.
        let _ = self.send(u64::MAX, &Request { kind, flags: 0, offset: 0, len: 0, data: &[] });
        self.stream.finish();
        self.stream.shut_down();
    }

    fn requests(&self) -> MutexGuard<'_, Requests> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nobody will be answered any more.
    pub fn give_up(&self, failure: &io::Error) {
        self.broken.store(true, Ordering::Release);
        self.stream.shut_down();
        for fate in self.requests().fates.values_mut() {
            let failure = io::Error::new(failure.kind(), failure.to_string());
            match std::mem::replace(fate, Fate::Done(Err(failure), None)) {
                Fate::Waiting(waiting) => waiting.caller.unpark(),
                done @ Fate::Done(..) => *fate = done,
            }
        }
        self.unread.notify_all();
    }

    /// Wakes the one who waits longest if nobody reads: the next reply is likely its own.
    fn call_a_reader(&self, requests: &Requests) {
        if requests.reading {
            return;
        }
        self.unread.notify_all();
        let waiting = requests.fates.values().find_map(|fate| match fate {
            Fate::Waiting(waiting) => Some(&waiting.caller),
            Fate::Done(..) => None,
        });
        if let Some(caller) = waiting {
            caller.unpark();
        }
    }
}

/// What the lane needs.
impl Connection {
    /// Has a lane read all replies from now on: the one there is, or a new one. `None` while somebody else reads,
    /// who may wait for long.
    pub fn lane(&self, new: impl FnOnce() -> Option<Arc<Lane>>) -> Option<Arc<Lane>> {
        let mut requests = self.requests();
        if let Some(lane) = &requests.lane {
            return lane.upgrade();
        }
        if requests.reading {
            return None;
        }
        let lane = new()?;
        requests.lane = Some(Arc::downgrade(&lane));
        Some(lane)
    }

    /// Reads for everybody until the result is dropped.
    pub fn read_for_all(&self) -> io::Result<Reading<'_>> {
        let mut requests = self.requests();
        while requests.reading && self.works() {
            requests = self.unread.wait(requests).unwrap_or_else(PoisonError::into_inner);
        }
        if !self.works() {
            return Err(io::ErrorKind::NotConnected.into());
        }
        requests.reading = true;
        drop(requests);
        let from = self.from.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Reading { connection: self, from })
    }

    /// The place where requests are sent, if nobody is there. Who finds it taken is woken later.
    pub fn try_to(&self) -> Option<MutexGuard<'_, Stream>> {
        let free = || match self.to.try_lock() {
            Ok(to) => Some(to),
            Err(TryLockError::Poisoned(to)) => Some(to.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        };
        free().or_else(|| {
            self.awaited.store(true, Ordering::SeqCst);
            free()
        })
    }
}

/// What follows a heading was taken in.
pub(super) enum Heard {
    /// The answer is complete.
    All,
    /// More chunks come.
    Part,
    /// Nothing: it is long, and for its owner to read.
    Long(Heading),
}

/// Somebody reads for everybody.
pub(super) struct Reading<'a> {
    connection: &'a Connection,
    pub from: MutexGuard<'a, Incoming>,
}

impl Reading<'_> {
    /// Whether anybody waits; if not, it is not read any more.
    pub fn go_on(&self) -> bool {
        let mut requests = self.connection.requests();
        let waiting = requests.fates.values().any(|fate| matches!(fate, Fate::Waiting(_)));
        requests.reading = waiting;
        waiting
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        let mut requests = self.connection.requests();
        requests.reading = false;
        self.connection.call_a_reader(&requests);
    }
}
