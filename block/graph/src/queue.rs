//! The asynchronous front of a disk: submit, be called back, drain.

use std::io;
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use host::aio::Interface;

use crate::{Disk, Executor, Lane, WriteFlags, ZeroFlags};

/// What to do. Buffers are owned, travel with the request and come back with the completion.
#[derive(Debug)]
pub enum Op {
    /// Fill the buffer.
    Read(Vec<u8>),
    /// Store the buffer.
    Write(Vec<u8>, WriteFlags),
    /// Make `len` bytes read as zeroes.
    WriteZeroes(u64, ZeroFlags),
    /// Forget `len` bytes.
    Discard(u64),
    /// Make everything completed so far stable.
    Flush,
}

/// One request.
#[derive(Debug)]
pub struct Request {
    /// Byte offset; ignored for a flush.
    pub offset: u64,
    /// What to do there.
    pub op: Op,
}

/// The answer to a request.
#[derive(Debug)]
pub struct Completion {
    /// How it went.
    pub result: io::Result<()>,
    /// The request's buffer: filled for a read, as it was for a write, empty otherwise.
    pub buf: Vec<u8>,
}

type Callback = Box<dyn FnOnce(Completion) + Send>;

/// Requests of one device to one disk.
///
/// Order: a request waits for earlier ones whose range overlaps if either of the two changes
/// content; everything else runs in parallel and completes in any order. A flush covers the
/// writes whose completion was reported before the flush was submitted, as virtio and SCSI have it.
/// Callbacks run on the executor's threads or on that of a lane, once per request; they may submit again,
/// and must not wait for requests.
pub struct Queue {
    shared: Arc<Shared>,
    executor: Arc<Executor>,
}

struct Shared {
    disk: Arc<Disk>,
    /// For requests that need no node, by the kernel's interface; made when there are some.
    lanes: [OnceLock<Lane>; 2],
    state: Mutex<State>,
    idle: Condvar,
}

#[derive(Default)]
struct State {
    next: u64,
    /// Accepted and not yet answered, oldest first.
    pending: Vec<Pending>,
    /// Callbacks that are running: the queue is drained only when they have returned.
    answering: usize,
}

struct Pending {
    ticket: u64,
    start: u64,
    end: u64,
    changes: bool,
    /// Not started yet because of an overlap.
    parked: Option<(Request, Callback)>,
}

impl Queue {
    /// A queue to `disk` served by `executor`.
    pub fn new(disk: Arc<Disk>, executor: Arc<Executor>) -> Self {
        let (lanes, state) = Default::default();
        let shared = Shared { disk, lanes, state, idle: Condvar::new() };
        Self { shared: Arc::new(shared), executor }
    }

    /// The disk behind the queue.
    pub fn disk(&self) -> &Arc<Disk> {
        &self.shared.disk
    }

    /// Accepts a request and returns at once; `done` is called when it is finished.
    pub fn submit(&self, request: Request, done: impl FnOnce(Completion) + Send + 'static) {
        let (len, changes) = match &request.op {
            Op::Read(buf) => (buf.len() as u64, false),
            Op::Write(buf, _) => (buf.len() as u64, true),
            Op::WriteZeroes(len, _) | Op::Discard(len) => (*len, true),
            Op::Flush => (0, false),
        };
        let (start, end) = (request.offset, request.offset.saturating_add(len));
        let mut state = self.shared.lock();
        let ticket = state.next;
        state.next += 1;
        let mut entry = Pending { ticket, start, end, changes, parked: None };
        let callback: Callback = Box::new(done);
        if state.pending.iter().any(|p| p.precedes(&entry)) {
            entry.parked = Some((request, callback));
            state.pending.push(entry);
            return;
        }
        state.pending.push(entry);
        drop(state);
        run(&self.shared, &self.executor, ticket, request, callback);
    }

    /// Reads on the calling thread, if the bytes can be had without waiting and no pending request
    /// changes them; `false` means: [`Queue::submit`] it. Saves two thread switches, which is most of
    /// the time of a small read that the host has cached.
    pub fn try_read(&self, offset: u64, buf: &mut [u8]) -> bool {
        let entry = Pending {
            ticket: u64::MAX,
            start: offset,
            end: offset.saturating_add(buf.len() as u64),
            changes: false,
            parked: None,
        };
        let busy = self.shared.lock().pending.iter().any(|p| p.precedes(&entry));
        !busy && self.shared.disk.read_cached(offset, buf)
    }

    /// Number of requests accepted and not yet answered.
    pub fn in_flight(&self) -> usize {
        self.shared.lock().pending.len()
    }

    /// Waits until every accepted request is answered and its callback has returned. Not to be
    /// called from a callback.
    pub fn drain(&self) {
        let mut state = self.shared.lock();
        while !state.pending.is_empty() || state.answering > 0 {
            state = self.shared.idle.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Pending {
    /// Whether `later` has to wait for this one.
    fn precedes(&self, later: &Self) -> bool {
        self.ticket < later.ticket
            && (self.changes || later.changes)
            && self.start < later.end
            && later.start < self.end
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes a finished request and returns those that were waiting for it alone.
    fn finish(&self, ticket: u64) -> Vec<(u64, Request, Callback)> {
        let mut state = self.lock();
        state.pending.retain(|p| p.ticket != ticket);
        state.answering += 1;
        let ready: Vec<usize> = (0..state.pending.len())
            .filter(|i| {
                let p = &state.pending[*i];
                p.parked.is_some() && !state.pending[..*i].iter().any(|e| e.precedes(p))
            })
            .collect();
        ready
            .into_iter()
            .filter_map(|i| {
                let p = &mut state.pending[i];
                let ticket = p.ticket;
                p.parked.take().map(|(request, callback)| (ticket, request, callback))
            })
            .collect()
    }

    /// Has the kernel or a remote carry out a request if it is a plain one; gives it back otherwise.
    fn fly(
        self: &Arc<Self>,
        executor: &Arc<Executor>,
        ticket: u64,
        request: Request,
        done: Callback,
    ) -> Option<(Request, Callback)> {
        let Request { offset, op } = request;
        let plain = match &op {
            Op::Read(buf) => self.disk.plain_read(offset, buf.len() as u64),
            Op::Write(buf, flags) => self.disk.plain_write(offset, buf.len() as u64, *flags),
            _ => None,
        };
        let Some(plain) = plain else { return Some((Request { offset, op }, done)) };
        let (write, buf) = match op {
            Op::Write(buf, _) => (true, buf),
            Op::Read(buf) => (false, buf),
            other => return Some((Request { offset, op: other }, done)),
        };
        let (queue, pool) = (Arc::clone(self), Arc::clone(executor));
        let (start, len) = (Instant::now(), buf.len() as u64);
        let answer = Box::new(move |result: io::Result<()>, buf| {
            let statistics = queue.disk.statistics();
            let counters = if write { &statistics.writes } else { &statistics.reads };
            if result.is_ok() {
                counters.add(len, start);
            }
            queue.answer(&pool, ticket, Completion { result, buf }, done);
        });
        let Some(interface) = plain.interface() else {
            plain.send(write, buf, answer);
            return None;
        };
        let [native, uring] = &self.lanes;
        let lane = if interface == Interface::Native { native } else { uring };
        let lane = lane.get_or_init(|| Lane::new(interface, "block lane"));
        lane.submit(plain, write, buf, answer);
        None
    }

    /// Starts what waited for a finished request, and reports that.
    fn answer(
        self: &Arc<Self>,
        executor: &Arc<Executor>,
        ticket: u64,
        completion: Completion,
        done: Callback,
    ) {
        for (ticket, request, callback) in self.finish(ticket) {
            run(self, executor, ticket, request, callback);
        }
        done(completion);
        self.answered();
    }

    fn answered(&self) {
        let mut state = self.lock();
        state.answering -= 1;
        if state.pending.is_empty() && state.answering == 0 {
            self.idle.notify_all();
        }
    }
}

fn run(
    shared: &Arc<Shared>,
    executor: &Arc<Executor>,
    ticket: u64,
    request: Request,
    done: Callback,
) {
    let Some((request, done)) = shared.fly(executor, ticket, request, done) else { return };
    let (queue, pool) = (Arc::clone(shared), Arc::clone(executor));
    executor.spawn(move || {
        let completion = perform(&queue.disk, request);
        queue.answer(&pool, ticket, completion, done);
    });
}

fn perform(disk: &Disk, request: Request) -> Completion {
    let offset = request.offset;
    match request.op {
        Op::Read(mut buf) => Completion { result: disk.read_at(offset, &mut buf), buf },
        Op::Write(buf, flags) => Completion { result: disk.write_at(offset, &buf, flags), buf },
        Op::WriteZeroes(len, flags) => {
            Completion { result: disk.write_zeroes(offset, len, flags), buf: Vec::new() }
        }
        Op::Discard(len) => Completion { result: disk.discard(offset, len), buf: Vec::new() },
        Op::Flush => Completion { result: disk.flush(), buf: Vec::new() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DiskOptions, Memory};
    use std::sync::mpsc;

    fn queue(bytes: usize) -> Queue {
        let node = Arc::new(Memory::new(vec![0; bytes], false));
        let disk = Disk::new(node, DiskOptions::default());
        Queue::new(Arc::new(disk), Executor::new("test", 4))
    }

    fn write(q: &Queue, offset: u64, byte: u8, len: usize) {
        let op = Op::Write(vec![byte; len], WriteFlags::default());
        q.submit(Request { offset, op }, |c| c.result.unwrap());
    }

    #[test]
    fn overlapping_writes_land_in_submission_order() {
        let q = queue(4096);
        for round in 0..200u32 {
            write(&q, u64::from(round % 7) * 16, round as u8, 512);
            write(&q, 0, (round + 1) as u8, 1024);
        }
        let (tx, rx) = mpsc::channel();
        q.submit(Request { offset: 0, op: Op::Read(vec![0; 1024]) }, move |c| {
            tx.send(c.buf).unwrap();
        });
        assert_eq!(rx.recv().unwrap(), vec![200u8; 1024]);
    }

    #[test]
    fn drain_waits_for_callbacks_too() {
        let q = queue(4096);
        let (tx, rx) = mpsc::channel();
        for i in 0..50 {
            let tx = tx.clone();
            let op = Op::Read(vec![0; 512]);
            q.submit(Request { offset: (i % 8) * 512, op }, move |_| tx.send(()).unwrap());
        }
        q.drain();
        assert_eq!(rx.try_iter().count(), 50);
        assert_eq!(q.in_flight(), 0);
    }

    #[test]
    fn a_request_beyond_the_end_fails_and_returns_its_buffer() {
        let q = queue(1024);
        let (tx, rx) = mpsc::channel();
        let op = Op::Read(vec![7; 512]);
        q.submit(Request { offset: u64::MAX - 3, op }, move |c| tx.send(c).unwrap());
        let c = rx.recv().unwrap();
        assert_eq!(c.result.unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(c.buf.len(), 512);
    }
}
