//! A back end as its front ends and the I/O thread share it.

use crate::hub::{Request, Waker};
use crate::mux::{Mux, Reaction};
use std::collections::VecDeque;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// What happens to a back end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Someone is at the other side.
    Opened,
    /// Nobody is any more.
    Closed,
    /// The line was held (a serial break).
    Break,
    /// With mux: this front end has the input now.
    FocusIn,
    /// With mux: another one has it.
    FocusOut,
}

/// A front end: who takes the input. Called by the I/O thread, which holds no lock then that
/// [`Port`]'s methods take.
pub trait Sink: Send + Sync {
    /// Takes input and returns how many bytes it took. With bytes left over it is not called again
    /// before [`Port::accept_input`].
    fn receive(&self, bytes: &[u8]) -> usize;
    /// Something happened.
    fn event(&self, _event: Event) {}
    /// There is room for output again, after a write that took less than it was given.
    fn writable(&self) {}
}

/// A front end's handle of its back end. Cheap to clone; all clones are the same front end.
#[derive(Clone)]
pub struct Port {
    channel: Arc<Channel>,
    front: Arc<Front>,
}

impl Port {
    pub(crate) fn new(channel: Arc<Channel>) -> Self {
        let front = Arc::default();
        channel.fronts().list.push(Arc::clone(&front));
        Self { channel, front }
    }

    /// Sends output and returns how many bytes were taken; after fewer than all,
    /// [`Sink::writable`] says when to try again. Never blocks for longer than the host's buffers do.
    pub fn write(&self, bytes: &[u8]) -> usize {
        self.channel.write(bytes, &self.front)
    }

    /// Says that input is taken again. Callable from anywhere, with any lock held.
    pub fn accept_input(&self) {
        self.channel.accept_input();
    }

    /// Makes `sink` the taker of the input; with mux, it gets the focus. Whoever drops the sink
    /// leaves the back end without one.
    pub fn attach(&self, sink: &Arc<dyn Sink>) {
        self.set_sink(sink, true);
    }

    /// As [`attach`](Self::attach), but leaves the focus to a front end that was there before.
    pub fn attach_behind(&self, sink: &Arc<dyn Sink>) {
        self.set_sink(sink, false);
    }

    fn set_sink(&self, sink: &Arc<dyn Sink>, take_focus: bool) {
        *lock(&self.front.sink) = Some(Arc::downgrade(sink));
        let (previous, focused) = {
            let mut fronts = self.channel.fronts();
            let at = fronts.list.iter().position(|f| Arc::ptr_eq(f, &self.front)).unwrap_or(0);
            let previous = fronts.focus;
            if take_focus {
                fronts.focus = at;
            }
            let loser = (previous != fronts.focus).then(|| fronts.list.get(previous).cloned());
            (loser.flatten(), fronts.focus == at)
        };
        let shared = self.is_shared();
        if let Some(previous) = previous.and_then(|front| front.sink()).filter(|_| shared) {
            previous.event(Event::FocusOut);
        }
        if self.channel.is_open() {
            sink.event(Event::Opened);
        }
        if shared && focused {
            sink.event(Event::FocusIn);
        }
        self.channel.accept_input();
        self.channel.waker.wake();
    }

    /// Whether the back end has mux, so that several front ends can share it.
    pub fn is_shared(&self) -> bool {
        self.channel.has_mux()
    }

    /// Whether someone is at the other side.
    pub fn is_open(&self) -> bool {
        self.channel.is_open()
    }

    /// The id of the back end.
    pub fn id(&self) -> &str {
        &self.channel.id
    }
}

/// One front end.
#[derive(Default)]
pub(crate) struct Front {
    sink: Mutex<Option<Weak<dyn Sink>>>,
    /// Whether a write of it was cut short.
    waits: AtomicBool,
}

impl Front {
    fn sink(&self) -> Option<Arc<dyn Sink>> {
        lock(&self.sink).as_ref().and_then(Weak::upgrade)
    }
}

pub(crate) struct Fronts {
    list: Vec<Arc<Front>>,
    focus: usize,
    mux: Option<Mux>,
}

/// Where output goes.
pub(crate) enum Output {
    /// Nowhere; it is swallowed.
    Nowhere,
    /// A descriptor of ours that does not block.
    Descriptor(Arc<OwnedFd>),
    /// A descriptor that others share (standard output): it is polled before each write.
    Shared(Arc<OwnedFd>),
    /// Memory that keeps the last bytes.
    Ring {
        /// What it keeps.
        bytes: VecDeque<u8>,
        /// How much that can be.
        size: usize,
    },
}

struct Out {
    output: Output,
    log: Option<File>,
}

/// Input flows, or there is none.
const FLOWING: u8 = 0;
/// The front end took less than there was, and the I/O thread waits.
const BLOCKED: u8 = 1;
/// It takes input again.
const READY: u8 = 2;

/// Most bytes written at once to a descriptor that may block.
const SHARED_CHUNK: usize = 256;

/// A back end.
pub(crate) struct Channel {
    /// Its id.
    pub id: String,
    out: Mutex<Out>,
    fronts: Mutex<Fronts>,
    flow: AtomicU8,
    wants_out: AtomicBool,
    open: AtomicBool,
    waker: Arc<Waker>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Channel {
    pub fn new(
        id: &str,
        output: Output,
        log: Option<File>,
        mux: Option<Mux>,
        waker: Arc<Waker>,
    ) -> Self {
        Self {
            id: id.to_owned(),
            out: Mutex::new(Out { output, log }),
            fronts: Mutex::new(Fronts { list: Vec::new(), focus: 0, mux }),
            flow: AtomicU8::new(FLOWING),
            wants_out: AtomicBool::new(false),
            open: AtomicBool::new(false),
            waker,
        }
    }

    fn fronts(&self) -> MutexGuard<'_, Fronts> {
        lock(&self.fronts)
    }

    pub fn has_mux(&self) -> bool {
        self.fronts().mux.is_some()
    }

    pub fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    /// Whether no front end was ever given out.
    pub fn is_unused(&self) -> bool {
        self.fronts().list.is_empty()
    }

    /// Whether nobody uses it who cannot share it.
    pub fn is_free(&self) -> bool {
        let fronts = self.fronts();
        fronts.mux.is_some() || fronts.list.is_empty()
    }

    fn write(&self, bytes: &[u8], front: &Front) -> usize {
        let stamped = self.fronts().mux.as_mut().and_then(|mux| mux.stamp(bytes));
        let mut out = lock(&self.out);
        let taken = match stamped {
            // A stamped line goes out whole or not at all.
            Some(text) => match out.send(&text) {
                0 if !text.is_empty() => 0,
                _ => bytes.len(),
            },
            None => out.send(bytes),
        };
        out.note(&bytes[..taken]);
        drop(out);
        if taken < bytes.len() {
            front.waits.store(true, Ordering::Release);
            self.wants_out.store(true, Ordering::Release);
            self.waker.wake();
        }
        taken
    }

    fn accept_input(&self) {
        if self.flow.swap(READY, Ordering::AcqRel) == BLOCKED {
            self.waker.wake();
        }
    }

    /// Whether the I/O thread should read more input.
    pub fn takes_input(&self) -> bool {
        self.flow.load(Ordering::Acquire) != BLOCKED
            && self.fronts().list.iter().any(|front| front.sink().is_some())
    }

    /// The descriptor to wait for room on, when somebody does.
    pub fn wanted_output(&self) -> Option<Arc<OwnedFd>> {
        if !self.wants_out.load(Ordering::Acquire) {
            return None;
        }
        match &lock(&self.out).output {
            Output::Descriptor(fd) | Output::Shared(fd) => Some(Arc::clone(fd)),
            _ => None,
        }
    }

    /// There is room: tells those who wait. For the I/O thread.
    pub fn output_ready(&self) {
        self.wants_out.store(false, Ordering::Release);
        let fronts: Vec<_> = self.fronts().list.clone();
        for front in fronts {
            if front.waits.swap(false, Ordering::AcqRel)
                && let Some(sink) = front.sink()
            {
                sink.writable();
            }
        }
    }

    /// Whether a writer waits although nothing takes output any more.
    pub fn output_stuck(&self) -> bool {
        self.wants_out.load(Ordering::Acquire)
            && matches!(lock(&self.out).output, Output::Nowhere | Output::Ring { .. })
    }

    /// Hands input on; what is not taken stays in `pending`. For the I/O thread.
    pub fn deliver(&self, pending: &mut VecDeque<u8>, requests: &mut Vec<Request>) {
        while !pending.is_empty() {
            self.flow.store(FLOWING, Ordering::Release);
            let moved = if self.has_mux() {
                self.deliver_mux(pending, requests)
            } else {
                let sink = self.fronts().list.first().and_then(|front| front.sink());
                give(sink.as_deref(), pending, usize::MAX)
            };
            let stalled = moved == 0
                && self
                    .flow
                    .compare_exchange(FLOWING, BLOCKED, Ordering::AcqRel, Ordering::Acquire)
                    .is_ok();
            if stalled {
                return;
            }
        }
    }

    /// One step of input through the mux; returns how many bytes it used up.
    fn deliver_mux(&self, pending: &mut VecDeque<u8>, requests: &mut Vec<Request>) -> usize {
        let (plain, reaction, sink) = {
            let mut fronts = self.fronts();
            let Some(mux) = fronts.mux.as_mut() else { return 0 };
            let plain = mux.plain(pending.make_contiguous());
            let reaction = if plain == 0 { pending.pop_front().map(|b| mux.feed(b)) } else { None };
            let focus = fronts.focus;
            (plain, reaction, fronts.list.get(focus).and_then(|front| front.sink()))
        };
        let Some(reaction) = reaction else {
            let taken = give(sink.as_deref(), pending, plain);
            if taken > 0
                && let Some(mux) = self.fronts().mux.as_mut()
            {
                mux.passed();
            }
            return taken;
        };
        match reaction {
            Reaction::Swallow => {}
            Reaction::Pass(byte) => pending.push_front(byte),
            Reaction::Print(text) => self.print(&text),
            Reaction::Break => {
                if let Some(sink) = sink {
                    sink.event(Event::Break);
                }
            }
            Reaction::NextFront => self.next_front(),
            Reaction::Request(request) => {
                if request == Request::Quit {
                    self.print("QEMU: Terminated\n\r");
                }
                requests.push(request);
            }
        }
        1
    }

    fn next_front(&self) {
        let (from, to) = {
            let mut fronts = self.fronts();
            let (from, count) = (fronts.focus, fronts.list.len());
            let sink = |at: usize| fronts.list.get(at).and_then(|front| front.sink());
            // Those that nobody is at are passed over.
            let next = (1..count).map(|step| (from + step) % count);
            let Some(to) = next.into_iter().find(|at| sink(*at).is_some()) else { return };
            let both = (sink(from), sink(to));
            fronts.focus = to;
            both
        };
        if let Some(from) = from {
            from.event(Event::FocusOut);
        }
        if let Some(to) = to {
            to.event(Event::FocusIn);
        }
    }

    fn print(&self, text: &str) {
        lock(&self.out).send(text.as_bytes());
    }

    /// Someone came or went at the other side, with a place for output. For the I/O thread.
    pub fn set_open(&self, open: bool, output: Option<Output>) {
        if let Some(output) = output {
            lock(&self.out).output = output;
        }
        if self.open.swap(open, Ordering::AcqRel) != open {
            self.event(if open { Event::Opened } else { Event::Closed });
        }
        if !open || self.output_stuck() {
            self.output_ready();
        }
    }

    /// Tells all front ends. For the I/O thread.
    pub fn event(&self, event: Event) {
        let fronts: Vec<_> = self.fronts().list.clone();
        for sink in fronts.iter().filter_map(|front| front.sink()) {
            sink.event(event);
        }
    }

    /// Adds to what a ring keeps; `None` when it is no ring.
    pub fn write_ring(&self, bytes: &[u8]) -> Option<()> {
        let mut out = lock(&self.out);
        let is_ring = matches!(out.output, Output::Ring { .. });
        is_ring.then(|| {
            out.send(bytes);
        })
    }

    /// Takes what a ring keeps, oldest first, at most `most` bytes; `None` when it is no ring.
    pub fn read_ring(&self, most: usize) -> Option<Vec<u8>> {
        match &mut lock(&self.out).output {
            Output::Ring { bytes, .. } => {
                let count = bytes.len().min(most);
                Some(bytes.drain(..count).collect())
            }
            _ => None,
        }
    }
}

/// Offers up to `most` pending bytes to a sink; returns how many it took. Nobody takes all.
fn give(sink: Option<&dyn Sink>, pending: &mut VecDeque<u8>, most: usize) -> usize {
    let bytes = pending.make_contiguous();
    let bytes = &bytes[..bytes.len().min(most)];
    let taken = sink.map_or(bytes.len(), |sink| sink.receive(bytes)).min(bytes.len());
    pending.drain(..taken);
    taken
}

impl Out {
    /// Sends bytes; returns how many were taken. A broken descriptor swallows everything.
    fn send(&mut self, bytes: &[u8]) -> usize {
        match &mut self.output {
            Output::Nowhere => bytes.len(),
            Output::Ring { bytes: ring, size } => {
                let kept = &bytes[bytes.len().saturating_sub(*size)..];
                let excess = (ring.len() + kept.len()).saturating_sub(*size);
                ring.drain(..excess);
                ring.extend(kept);
                bytes.len()
            }
            Output::Descriptor(fd) => {
                send_all(bytes, bytes.len(), |part| rustix::io::write(&**fd, part))
            }
            Output::Shared(fd) => send_all(bytes, SHARED_CHUNK, |part| {
                if has_room(fd) {
                    rustix::io::write(&**fd, part)
                } else {
                    Err(rustix::io::Errno::AGAIN)
                }
            }),
        }
    }

    fn note(&mut self, bytes: &[u8]) {
        if let Some(log) = &mut self.log {
            // A log that cannot be written must not stop the guest.
            let _ = log.write_all(bytes);
        }
    }
}

fn send_all(
    bytes: &[u8],
    chunk: usize,
    mut write: impl FnMut(&[u8]) -> rustix::io::Result<usize>,
) -> usize {
    let mut sent = 0;
    while sent < bytes.len() {
        let end = bytes.len().min(sent + chunk);
        match write(&bytes[sent..end]) {
            Ok(0) | Err(rustix::io::Errno::AGAIN) => break,
            Ok(count) => sent += count,
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return bytes.len(),
        }
    }
    sent
}

fn has_room(fd: &OwnedFd) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut fds = [PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::OUT)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    // An error (a closed pipe) counts as room: the write reports it.
    poll(&mut fds, Some(&now)).is_ok_and(|ready| ready > 0)
}
