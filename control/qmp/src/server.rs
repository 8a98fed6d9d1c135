//! Monitors, and the threads that serve them.
//!
//! The thread of the character back ends reads messages. Commands of all monitors run one after
//! the other on a thread of their own; those that may overtake others run on a second one, which
//! starts with the first of them. A client that does not read its answers, or sends more than is
//! served, is not read from.

use crate::dispatcher::{Dispatcher, Session};
use crate::events::{Events, Listener};
use crate::json::{self, Outcome, Reader};
use chardev::{Event, Port, Sink};
use serde_json::Value;
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Messages of one client that wait, if commands can overtake each other; else one.
const QUEUE: usize = 8;
/// Bytes of output that wait before a client is no longer read from.
const OUTPUT: usize = 64 << 10;
/// Bytes of output that wait before events are lost.
const FULL: usize = 16 << 20;
/// How long a client may take to read the last answers.
const PATIENCE: Duration = Duration::from_secs(3);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A client, or the place for one.
struct Monitor<C: Send + Sync + 'static> {
    port: Port,
    pretty: bool,
    state: Mutex<State>,
    drained: Condvar,
    shared: Arc<Shared<C>>,
    /// To queue itself.
    me: std::sync::Weak<Monitor<C>>,
}

#[derive(Default)]
struct State {
    reader: Reader,
    session: Session,
    /// Counts the clients: answers to one that left are dropped.
    client: u64,
    /// Messages that were read and not answered.
    waiting: usize,
    output: VecDeque<u8>,
}

/// A message that waits.
struct Job<C: Send + Sync + 'static> {
    monitor: Arc<Monitor<C>>,
    client: u64,
    message: Outcome,
}

struct Queue<C: Send + Sync + 'static> {
    jobs: VecDeque<Job<C>>,
    stop: bool,
    /// Whether it has its thread.
    served: bool,
}

/// A thread's work.
struct Lane<C: Send + Sync + 'static> {
    queue: Mutex<Queue<C>>,
    changed: Condvar,
}

impl<C: Send + Sync> Default for Lane<C> {
    fn default() -> Self {
        let queue = Queue { jobs: VecDeque::new(), stop: false, served: false };
        Self { queue: Mutex::new(queue), changed: Condvar::new() }
    }
}

struct Shared<C: Send + Sync + 'static> {
    dispatcher: Arc<Dispatcher<C>>,
    events: Arc<Events>,
    monitors: Mutex<Vec<Arc<Monitor<C>>>>,
    in_order: Lane<C>,
    overtaking: Lane<C>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// All monitors of a program. Dropping it ends its threads after the commands they are in.
pub struct Server<C: Send + Sync + 'static> {
    shared: Arc<Shared<C>>,
}

impl<C: Send + Sync> Server<C> {
    /// Starts the thread that runs commands.
    ///
    /// # Errors
    /// The host has no more threads.
    pub fn start(dispatcher: Arc<Dispatcher<C>>, events: Arc<Events>) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            dispatcher,
            events,
            monitors: Mutex::default(),
            in_order: Lane::default(),
            overtaking: Lane::default(),
            threads: Mutex::default(),
        });
        let listener: Arc<dyn Listener> = Arc::clone(&shared) as Arc<dyn Listener>;
        shared.events.listen(&listener);
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("qmp".into());
        let thread = thread.spawn(move || theirs.serve_in_order())?;
        lock(&shared.threads).push(thread);
        Ok(Self { shared })
    }

    /// Serves whoever is at the other side of a character back end; with `pretty`, members have
    /// lines of their own.
    pub fn attach(&self, port: Port, pretty: bool) {
        let monitor = Arc::new_cyclic(|me| Monitor {
            port,
            pretty,
            state: Mutex::default(),
            drained: Condvar::new(),
            shared: Arc::clone(&self.shared),
            me: me.clone(),
        });
        lock(&self.shared.monitors).push(Arc::clone(&monitor));
        let sink: Arc<dyn Sink> = monitor.clone();
        monitor.port.attach(&sink);
    }

    /// Ends: commands that wait are not run, those that run are finished, and clients have a
    /// moment to read what they were told.
    pub fn finish(&self) {
        self.shared.stop();
        let threads = std::mem::take(&mut *lock(&self.shared.threads));
        for thread in threads {
            // A thread that panicked has nothing to finish.
            let _ = thread.join();
        }
        let deadline = Instant::now() + PATIENCE;
        for monitor in std::mem::take(&mut *lock(&self.shared.monitors)) {
            monitor.drain(deadline);
        }
    }
}

impl<C: Send + Sync> Drop for Server<C> {
    fn drop(&mut self) {
        self.shared.stop();
        // Breaks the circle of monitors and what they share.
        lock(&self.shared.monitors).clear();
    }
}

impl<C: Send + Sync> Shared<C> {
    fn stop(&self) {
        for lane in [&self.in_order, &self.overtaking] {
            let mut queue = lock(&lane.queue);
            queue.stop = true;
            queue.jobs.clear();
            lane.changed.notify_all();
        }
    }

    /// Runs commands as they come, and sends events that were held back.
    fn serve_in_order(&self) {
        let lane = &self.in_order;
        loop {
            let mut queue = lock(&lane.queue);
            let job = loop {
                if queue.stop {
                    return;
                }
                if let Some(job) = queue.jobs.pop_front() {
                    break Some(job);
                }
                let now = Instant::now();
                match self.events.due() {
                    Some(due) if due <= now => break None,
                    Some(due) => {
                        let waited = lane.changed.wait_timeout(queue, due - now);
                        queue = waited.unwrap_or_else(PoisonError::into_inner).0;
                    }
                    None => {
                        queue = lane.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
                    }
                }
            };
            drop(queue);
            match job {
                Some(job) => job.run(),
                None => self.events.flush(Instant::now()),
            }
        }
    }

    /// Runs commands that overtake others.
    fn serve_overtaking(&self) {
        let lane = &self.overtaking;
        let mut queue = lock(&lane.queue);
        while !queue.stop {
            match queue.jobs.pop_front() {
                Some(job) => {
                    drop(queue);
                    job.run();
                    queue = lock(&lane.queue);
                }
                None => queue = lane.changed.wait(queue).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    fn push(self: &Arc<Self>, job: Job<C>, overtakes: bool) {
        let lane = if overtakes { &self.overtaking } else { &self.in_order };
        if overtakes && !self.start_overtaking() {
            // Without a thread of its own it waits its turn.
            return self.push(job, false);
        }
        let mut queue = lock(&lane.queue);
        if !queue.stop {
            queue.jobs.push_back(job);
            lane.changed.notify_all();
        }
    }

    /// Starts the second thread, if it is not there; whether it is.
    fn start_overtaking(self: &Arc<Self>) -> bool {
        let mut queue = lock(&self.overtaking.queue);
        if queue.served {
            return true;
        }
        let theirs = Arc::clone(self);
        let thread = std::thread::Builder::new().name("qmp-oob".into());
        let Ok(thread) = thread.spawn(move || theirs.serve_overtaking()) else { return false };
        queue.served = true;
        drop(queue);
        lock(&self.threads).push(thread);
        true
    }
}

impl<C: Send + Sync> Listener for Shared<C> {
    fn hear(&self, message: &Value) {
        let monitors = lock(&self.monitors).clone();
        for monitor in monitors {
            let mut state = lock(&monitor.state);
            if state.session.negotiated && state.output.len() < FULL {
                monitor.send(&mut state, message);
            }
        }
    }

    fn look_again(&self) {
        let _queue = lock(&self.in_order.queue);
        self.in_order.changed.notify_all();
    }
}

impl<C: Send + Sync> Job<C> {
    fn run(self) {
        let Self { monitor, client, message } = self;
        let session = {
            let state = lock(&monitor.state);
            if state.client != client {
                return;
            }
            state.session
        };
        let mut after = session;
        let answer = monitor.shared.dispatcher.answer(&mut after, message);
        let mut state = lock(&monitor.state);
        if state.client != client {
            return;
        }
        if after != session {
            state.session = after;
        }
        state.waiting -= 1;
        monitor.send(&mut state, &answer);
        drop(state);
        monitor.port.accept_input();
    }
}

impl<C: Send + Sync> Monitor<C> {
    fn send(&self, state: &mut State, message: &Value) {
        let text = if self.pretty { json::pretty(message) } else { json::compact(message) };
        state.output.extend(text.replace('\n', "\r\n").bytes().chain(*b"\r\n"));
        self.pump(state);
    }

    /// Writes as much as the other side takes.
    fn pump(&self, state: &mut State) {
        while !state.output.is_empty() {
            let (bytes, _) = state.output.as_slices();
            match self.port.write(bytes) {
                0 => return,
                taken => drop(state.output.drain(..taken)),
            }
        }
        self.drained.notify_all();
    }

    fn drain(&self, deadline: Instant) {
        let mut state = lock(&self.state);
        while !state.output.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let waited = self.drained.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl State {
    fn takes_messages(&self) -> bool {
        let most = if self.session.oob { QUEUE } else { 1 };
        self.waiting < most && self.output.len() < OUTPUT
    }
}

impl<C: Send + Sync> Sink for Monitor<C> {
    fn receive(&self, bytes: &[u8]) -> usize {
        let mut taken = 0;
        while taken < bytes.len() {
            let mut state = lock(&self.state);
            if !state.takes_messages() {
                return taken;
            }
            let (used, message) = state.reader.feed(&bytes[taken..]);
            taken += used;
            let Some(message) = message else { continue };
            let overtakes = Dispatcher::<C>::overtakes(state.session, &message);
            let client = state.client;
            state.waiting += 1;
            drop(state);
            let Some(monitor) = self.me.upgrade() else { return bytes.len() };
            self.shared.push(Job { monitor, client, message }, overtakes);
        }
        taken
    }

    fn event(&self, event: Event) {
        if !matches!(event, Event::Opened | Event::Closed) {
            return;
        }
        let mut state = lock(&self.state);
        let client = state.client + 1;
        *state = State { client, ..State::default() };
        self.drained.notify_all();
        if event == Event::Opened {
            let greeting = self.shared.dispatcher.greeting();
            self.send(&mut state, &greeting);
        }
    }

    fn writable(&self) {
        self.pump(&mut lock(&self.state));
        self.port.accept_input();
    }
}
