//! All back ends of a machine, and the one thread that serves them.

use crate::channel::{Channel, Event, Port};
use crate::config::Config;
use crate::open;
use crate::source::{Input, Source};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Something asked for by keys after the escape character.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// End the emulator.
    Quit,
    /// Write what snapshots hold back to the images.
    SaveDisks,
}

/// Wakes the I/O thread.
pub(crate) struct Waker(OwnedFd);

impl Waker {
    pub fn wake(&self) {
        // The counter cannot overflow in practice; a full one wakes as well.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }

    fn clear(&self) {
        let _ = rustix::io::read(&self.0, &mut [0; 8]);
    }
}

/// A back end as the I/O thread knows it.
pub(crate) struct Entry {
    pub channel: Arc<Channel>,
    pub source: Box<dyn Source>,
    /// Input that the front end has not taken yet.
    pub pending: VecDeque<u8>,
}

struct Shared {
    waker: Arc<Waker>,
    fresh: Mutex<Vec<Entry>>,
    /// Ids of back ends that are to be closed.
    gone: Mutex<Vec<String>>,
    stop: AtomicBool,
    /// Back ends are open and not served yet.
    held: AtomicBool,
}

/// All character back ends of a machine. Dropping it ends the I/O thread and closes them.
pub struct Chardevs {
    shared: Arc<Shared>,
    channels: Mutex<Vec<(Config, Arc<Channel>)>>,
    escape: u8,
    thread: Option<JoinHandle<()>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Chardevs {
    /// Starts the I/O thread. `escape` is the escape character of mux (1 is Ctrl-A); `on_request`
    /// hears, in the I/O thread, of what is asked for with it.
    ///
    /// # Errors
    /// The host has no more descriptors or threads.
    pub fn start(escape: u8, on_request: impl Fn(Request) + Send + 'static) -> io::Result<Self> {
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let shared = Arc::new(Shared {
            waker: Arc::new(Waker(fd)),
            fresh: Mutex::new(Vec::new()),
            gone: Mutex::new(Vec::new()),
            stop: AtomicBool::new(false),
            held: AtomicBool::new(false),
        });
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("chardevs".into())
            .spawn(move || serve(&theirs, &on_request))?;
        Ok(Self { shared, channels: Mutex::new(Vec::new()), escape, thread: Some(thread) })
    }

    /// Leaves back ends that are opened from now on alone until [`Chardevs::release`]: no input
    /// reaches a front end before those that share it are there as well.
    pub fn hold(&self) {
        self.shared.held.store(true, Ordering::Release);
    }

    /// Serves the back ends that [`Chardevs::hold`] left alone.
    pub fn release(&self) {
        self.shared.held.store(false, Ordering::Release);
        self.shared.waker.wake();
    }

    /// Opens a back end. A server that waits for its first client blocks here; `notice` gets the
    /// lines that tell the user so (`info: …`, for standard error) and where a pseudo-terminal is
    /// (for standard output).
    ///
    /// # Errors
    /// The back end cannot be opened; the text says why and names the path or address.
    pub fn open(&self, config: &Config, notice: &dyn Fn(&str)) -> io::Result<()> {
        let entry = open::open(config, self.escape, &self.shared.waker, notice)?;
        lock(&self.channels).push((config.clone(), Arc::clone(&entry.channel)));
        lock(&self.shared.fresh).push(entry);
        self.shared.waker.wake();
        Ok(())
    }

    /// A new front end of the back end `id`; `None` when there is none, or it is taken and has no
    /// mux.
    pub fn port(&self, id: &str) -> Option<Port> {
        let channels = lock(&self.channels);
        let (_, channel) = channels.iter().find(|(config, _)| config.id == id)?;
        channel.is_free().then(|| Port::new(Arc::clone(channel)))
    }

    /// Closes a back end that has no front end; `None` when there is no such back end, else
    /// whether it was closed.
    pub fn close(&self, id: &str) -> Option<bool> {
        let mut channels = lock(&self.channels);
        let at = channels.iter().position(|(config, _)| config.id == id)?;
        if !channels[at].1.is_unused() {
            return Some(false);
        }
        channels.remove(at);
        lock(&self.shared.gone).push(id.to_owned());
        self.shared.waker.wake();
        Some(true)
    }

    /// Whether there is a back end of this id.
    pub fn contains(&self, id: &str) -> bool {
        lock(&self.channels).iter().any(|(config, _)| config.id == id)
    }

    /// Writes to the ring `id`; `None` when there is none.
    pub fn write_ring(&self, id: &str, bytes: &[u8]) -> Option<()> {
        let channels = lock(&self.channels);
        let (_, channel) = channels.iter().find(|(config, _)| config.id == id)?;
        channel.write_ring(bytes)
    }

    /// Every back end, oldest first: id, description, and whether a front end uses it.
    pub fn all(&self) -> Vec<(String, String, bool)> {
        let channels = lock(&self.channels);
        let one = |(config, channel): &(Config, Arc<Channel>)| {
            let what = open::describe(&config.backend, channel.is_open());
            (config.id.clone(), what, !channel.is_unused())
        };
        channels.iter().map(one).collect()
    }

    /// Takes up to `most` bytes that the ring `id` keeps, oldest first.
    pub fn read_ring(&self, id: &str, most: usize) -> Option<Vec<u8>> {
        let channels = lock(&self.channels);
        let (_, channel) = channels.iter().find(|(config, _)| config.id == id)?;
        channel.read_ring(most)
    }

    /// Lets the front ends of `id` see a break on their line; `false` when there is no such back end.
    pub fn send_break(&self, id: &str) -> bool {
        let channels = lock(&self.channels);
        let found = channels.iter().find(|(config, _)| config.id == id);
        let channel = found.map(|(_, channel)| Arc::clone(channel));
        drop(channels);
        channel.inspect(|channel| channel.event(Event::Break)).is_some()
    }

    /// Ids and descriptions, newest first, as `info chardev` shows them.
    pub fn list(&self) -> Vec<(String, String)> {
        let channels = lock(&self.channels);
        let describe = |(config, channel): &(Config, Arc<Channel>)| {
            let what = open::describe(&config.backend, channel.is_open());
            if config.mux {
                vec![(config.id.clone(), "mux".to_owned()), (format!("{}-base", config.id), what)]
            } else {
                vec![(config.id.clone(), what)]
            }
        };
        channels.iter().rev().flat_map(describe).collect()
    }
}

impl Drop for Chardevs {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.shared.waker.wake();
        let Some(thread) = self.thread.take() else { return };
        // A request to quit may drop us in the I/O thread itself, which ends by the flag then.
        if thread.thread().id() != std::thread::current().id() {
            let _ = thread.join();
        }
    }
}

/// Bytes read at once.
const CHUNK: usize = 4096;

fn serve(shared: &Shared, on_request: &dyn Fn(Request)) {
    let mut entries: Vec<Entry> = Vec::new();
    let mut requests = Vec::new();
    while !shared.stop.load(Ordering::Acquire) {
        if !shared.held.load(Ordering::Acquire) {
            entries.append(&mut lock(&shared.fresh));
        }
        for id in std::mem::take(&mut *lock(&shared.gone)) {
            // One that was opened under the same name since then is further behind.
            if let Some(at) = entries.iter().position(|entry| entry.channel.id == id) {
                entries.remove(at);
            }
        }
        for entry in &mut entries {
            entry.advance(&mut requests);
        }
        requests.drain(..).for_each(on_request);
        if shared.stop.load(Ordering::Acquire) {
            return;
        }
        wait(shared, &mut entries);
    }
}

impl Entry {
    /// Hands pending input on, and does what is due by time.
    fn advance(&mut self, requests: &mut Vec<Request>) {
        if self.source.due().is_some_and(|due| due <= Instant::now()) {
            self.source.tick(&self.channel);
        }
        if !self.pending.is_empty() && self.channel.takes_input() {
            self.channel.deliver(&mut self.pending, requests);
        }
        if self.channel.output_stuck() {
            self.channel.output_ready();
        }
    }

    /// Whether its input descriptor is to be polled.
    fn listens(&self) -> bool {
        self.source.always() || self.pending.is_empty() && self.channel.takes_input()
    }

    fn read(&mut self) {
        let mut buffer = [0; CHUNK];
        match self.source.read(&self.channel, &mut buffer) {
            Input::Data(count) => self.pending.extend(&buffer[..count.min(CHUNK)]),
            Input::Break(count) => {
                self.pending.extend(&buffer[..count.min(CHUNK)]);
                self.channel.event(Event::Break);
            }
            Input::Nothing => {}
        }
    }
}

/// Waits until something can be done, and reads what there is.
fn wait(shared: &Shared, entries: &mut [Entry]) {
    let outputs: Vec<_> = entries.iter().map(|entry| entry.channel.wanted_output()).collect();
    let due = entries.iter().filter_map(|entry| entry.source.due()).min();
    let mut fds = vec![PollFd::from_borrowed_fd(shared.waker.0.as_fd(), PollFlags::IN)];
    // For each descriptor after the first: whose, and whether it is the input.
    let mut whose = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        if let Some(fd) = entry.source.descriptor().filter(|_| entry.listens()) {
            fds.push(PollFd::from_borrowed_fd(fd, PollFlags::IN));
            whose.push((index, true));
        }
        if let Some(fd) = &outputs[index] {
            fds.push(PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::OUT));
            whose.push((index, false));
        }
    }
    let timeout = due.map(|due| timespec(due.saturating_duration_since(Instant::now())));
    // An interrupted wait is a short one.
    let _ = poll(&mut fds, timeout.as_ref());
    let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
    drop(fds);
    if ready[0] {
        shared.waker.clear();
    }
    for ((index, input), _) in whose.into_iter().zip(&ready[1..]).filter(|(_, ready)| **ready) {
        if input {
            entries[index].read();
        } else {
            entries[index].channel.output_ready();
        }
    }
}

fn timespec(duration: Duration) -> Timespec {
    // One more millisecond, so that what was waited for is due.
    let duration = duration.saturating_add(Duration::from_millis(1));
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    }
}
