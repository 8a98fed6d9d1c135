//! One thread that sends requests and hears the answers, any number at a time.
//!
//! It sends what came together at once and never waits for room while something can be read: a server that
//! waits for us to read its replies reads no requests. While it is there it reads for those who wait on threads of their own, too.

use super::Core;
use super::connection::{Connection, Reading};
use super::reply::{Heading, Reply, Request};
use crate::address::Stream;
use crate::wire::{self, command};
use graph::{Answer, Inbox, Remote, Stay};
use host::aio::Wake;
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::ThreadId;
use std::time::Instant;

/// Bit of the cookies of its requests; the others are places in [`Flights::flying`].
const OURS: u64 = 1 << 63;
/// Most requests that are sent in one call.
const TOGETHER: usize = 64;

/// A request as it comes.
struct Errand {
    offset: u64,
    write: bool,
    buf: Vec<u8>,
    answer: Answer,
}

/// What the lane is to do.
enum Task {
    Carry(Errand),
    /// Somebody waits for an answer.
    Listen,
}

pub(super) struct Lane {
    connection: Arc<Connection>,
    client: Weak<Core>,
    inbox: Inbox<Task>,
    wake: Arc<Wake>,
    /// Who carries out.
    thread: Mutex<Option<ThreadId>>,
}

impl Lane {
    /// A lane on a connection, which it has for itself alone; `None` if the host has no more descriptors.
    pub fn new(connection: &Arc<Connection>, client: Weak<Core>) -> Option<Arc<Self>> {
        let (connection, wake) = (Arc::clone(connection), Arc::new(Wake::new().ok()?));
        let (inbox, thread) = Default::default();
        Some(Arc::new(Self { connection, client, inbox, wake, thread }))
    }

    /// Looks what there is to do.
    pub fn wake(&self) {
        self.wake.wake();
    }

    /// Reads for somebody who waits; `false` if that is this lane.
    pub fn listen(self: Arc<Self>) -> bool {
        let lane = *self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if lane == Some(std::thread::current().id()) {
            return false;
        }
        self.put(Task::Listen);
        true
    }

    /// The thread leaves when all is answered.
    pub fn close(&self) {
        self.inbox.close();
    }

    fn put(self: &Arc<Self>, task: Task) {
        self.inbox.put(task, "nbd lane", (self, Self::work));
    }

    fn work(&self, stay: Stay) {
        let here = Some(std::thread::current().id());
        *self.thread.lock().unwrap_or_else(PoisonError::into_inner) = here;
        let mut flights = Flights::default();
        let mut batch = VecDeque::new();
        while self.inbox.take(&mut batch, None, stay) {
            if let Err(failure) = self.carry(&mut flights, &mut batch) {
                self.connection.give_up(&failure);
                flights.launch(&mut batch);
                self.recover(std::mem::take(&mut flights), &failure);
            }
        }
        *self.thread.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Carries requests out until all are answered, those of others, too.
    fn carry(&self, flights: &mut Flights, batch: &mut VecDeque<Task>) -> io::Result<()> {
        let mut reading = self.connection.read_for_all()?;
        let mut to = None;
        loop {
            flights.launch(batch);
            let full = flights.send(&self.connection, &mut to)?;
            while !reading.from.is_empty() {
                self.hear(&mut reading, flights)?;
            }
            if !flights.landed.is_empty() {
                for (answer, result, buf) in flights.landed.drain(..) {
                    answer(result, buf);
                }
                self.inbox.attend(batch);
                continue;
            }
            if flights.is_empty() && !reading.go_on() {
                return Ok(());
            }
            if reading.from.fill_now()? {
                continue;
            }
            self.inbox.take(batch, Some(Arc::clone(&self.wake)), Stay::AWhile);
            if batch.is_empty() {
                self.connection.stream().wait(full, &self.wake)?;
                self.inbox.attend(batch);
            }
        }
    }

    /// Hears one reply, or a chunk of one.
    fn hear(&self, reading: &mut Reading<'_>, flights: &mut Flights) -> io::Result<()> {
        let agreed = self.connection.agreed();
        let heading = Heading::read(&mut reading.from, agreed)?;
        if heading.cookie & OURS == 0 {
            return self.connection.hear(heading, &mut reading.from, None, false).map(drop);
        }
        let place = (heading.cookie & !OURS) as usize;
        let flight = flights.flying.get_mut(place).and_then(Option::as_mut);
        let Some(flight) = flight.filter(|flight| flight.sent) else {
            return Err(wire::broken("a reply to a request that nobody made"));
        };
        let into = if flight.errand.write { &mut [][..] } else { &mut flight.errand.buf };
        flight.reply.hear(&heading, &mut reading.from, into, agreed)?;
        if heading.done {
            flights.land(place);
        }
        Ok(())
    }

    /// Does what the connection did not, on a new one if there may be one.
    fn recover(&self, flights: Flights, failure: &io::Error) {
        for (answer, result, buf) in flights.landed {
            answer(result, buf);
        }
        let client = self.client.upgrade().filter(|client| client.is_patient());
        let client = client.map(|client| (client.deadline(), client));
        for Flight { errand, .. } in flights.flying.into_iter().flatten() {
            let Errand { offset, write, mut buf, answer } = errand;
            let result = match &client {
                Some((deadline, client)) => once_more(client, offset, write, &mut buf, *deadline),
                None => Err(io::Error::new(failure.kind(), failure.to_string())),
            };
            answer(result, buf);
        }
    }
}

/// A request whose connection broke, on another one.
fn once_more(
    client: &Core,
    offset: u64,
    write: bool,
    buf: &mut [u8],
    deadline: Instant,
) -> io::Result<()> {
    let len = buf.len() as u64;
    let done = if write {
        let (kind, flags) = (command::WRITE, 0);
        client.call_until(&Request { kind, flags, offset, len, data: buf }, &mut [], deadline)
    } else {
        let (kind, flags) = (command::READ, 0);
        client.call_until(&Request { kind, flags, offset, len, data: &[] }, buf, deadline)
    };
    done.map(drop)
}

impl Remote for Lane {
    fn submit(self: Arc<Self>, offset: u64, write: bool, buf: Vec<u8>, answer: Answer) {
        self.put(Task::Carry(Errand { offset, write, buf, answer }));
    }
}

/// A request in flight.
struct Flight {
    errand: Errand,
    reply: Reply,
    /// The server has all of it.
    sent: bool,
}

/// Requests of the lane.
#[derive(Default)]
struct Flights {
    flying: Vec<Option<Flight>>,
    free: Vec<usize>,
    /// Those that are not sent yet, with their headers.
    leaving: VecDeque<(usize, Vec<u8>)>,
    /// Bytes of the first of them that are.
    gone: usize,
    /// Answers that are to be told.
    landed: Vec<(Answer, io::Result<()>, Vec<u8>)>,
}

impl Flights {
    fn is_empty(&self) -> bool {
        self.free.len() == self.flying.len()
    }

    fn launch(&mut self, batch: &mut VecDeque<Task>) {
        for task in batch.drain(..) {
            let Task::Carry(errand) = task else { continue };
            let (kind, len) = match errand.write {
                true => (command::WRITE, 0),
                false => (command::READ, errand.buf.len()),
            };
            let reply = Reply::new(kind, errand.offset, len);
            let place = self.free.pop().unwrap_or_else(|| {
                self.flying.push(None);
                self.flying.len() - 1
            });
            self.flying[place] = Some(Flight { errand, reply, sent: false });
            self.leaving.push_back((place, Vec::new()));
        }
    }

    /// Sends what there is room for. `true` if more is to be sent when there is room; what is sent in part keeps
    /// others from sending.
    fn send<'a>(
        &mut self,
        connection: &'a Connection,
        to: &mut Option<MutexGuard<'a, Stream>>,
    ) -> io::Result<bool> {
        while !self.leaving.is_empty() {
            if to.is_none() {
                *to = connection.try_to();
            }
            let Some(stream) = to else { return Ok(false) };
            match self.send_some(stream, connection.is_extended()) {
                Ok(()) => {}
                Err(failure) if failure.kind() == io::ErrorKind::Interrupted => {}
                Err(failure) if failure.kind() == io::ErrorKind::WouldBlock => {
                    if self.gone == 0 {
                        *to = None;
                    }
                    return Ok(true);
                }
                Err(failure) => return Err(failure),
            }
        }
        *to = None;
        Ok(false)
    }

    fn send_some(&mut self, to: &Stream, extended: bool) -> io::Result<()> {
        for (place, header) in self.leaving.iter_mut().take(TOGETHER) {
            if header.is_empty()
                && let Some(Flight { errand, reply, .. }) = &self.flying[*place]
            {
                let (kind, len) = (reply.kind(), errand.buf.len() as u64);
                let request = Request { kind, flags: 0, offset: errand.offset, len, data: &[] };
                *header = request.header(OURS | *place as u64, extended)?;
            }
        }
        let mut parts = Vec::with_capacity(2 * self.leaving.len().min(TOGETHER));
        for (place, header) in self.leaving.iter().take(TOGETHER) {
            parts.push(IoSlice::new(header));
            if let Some(Flight { errand: Errand { write: true, buf, .. }, .. }) =
                &self.flying[*place]
            {
                parts.push(IoSlice::new(buf));
            }
        }
        let mut rest = &mut parts[..];
        IoSlice::advance_slices(&mut rest, self.gone);
        self.gone += to.send_now(rest)?;
        while let Some((place, header)) = self.leaving.front() {
            let Some(flight) = &mut self.flying[*place] else { break };
            let data = if flight.errand.write { flight.errand.buf.len() } else { 0 };
            let len = header.len() + data;
            if header.is_empty() || self.gone < len {
                break;
            }
            flight.sent = true;
            self.gone -= len;
            self.leaving.pop_front();
        }
        Ok(())
    }

    /// The answer is complete.
    fn land(&mut self, place: usize) {
        if let Some(Flight { errand, reply, .. }) = self.flying[place].take() {
            self.free.push(place);
            self.landed.push((errand.answer, reply.finish().map(drop), errand.buf));
        }
    }
}
