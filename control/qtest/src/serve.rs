//! The protocol on a character back end.

use crate::QtestTarget;
use crate::session::{Outbox, Session};
use chardev::{Event, Port, Sink};
use std::io::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

/// The protocol's server. Dropping it takes it off the back end.
pub struct Server {
    /// Keeps the front end attached.
    _sink: Arc<dyn Sink>,
}

impl Server {
    /// Serves `target` on `port`; `log` takes a log of both directions.
    pub fn attach(
        target: Arc<dyn QtestTarget>,
        port: Port,
        log: Option<Box<dyn Write + Send>>,
    ) -> Self {
        let lines = Arc::new(Lines { port: port.clone(), state: Mutex::new(State::new(log)) });
        let weak: Weak<Lines> = Arc::downgrade(&lines);
        let outbox = Outbox::new(move |line| {
            if let Some(lines) = weak.upgrade() {
                lines.send(line);
            }
        });
        let session = Mutex::new(Session::new(target, outbox));
        let sink: Arc<dyn Sink> = Arc::new(Front { lines, session });
        port.attach(&sink);
        Self { _sink: sink }
    }
}

struct State {
    /// What the back end has not taken yet.
    backlog: Vec<u8>,
    log: Option<Box<dyn Write + Send>>,
    since: Instant,
}

impl State {
    fn new(log: Option<Box<dyn Write + Send>>) -> Self {
        Self { backlog: Vec::new(), log, since: Instant::now() }
    }

    fn note(&mut self, direction: &str, line: &str) {
        let seconds = self.since.elapsed().as_secs_f64();
        if let Some(log) = &mut self.log {
            // A log that cannot be written must not stop the test.
            let _ = writeln!(log, "[{direction} {seconds:+.6}] {line}");
        }
    }
}

/// The output side: replies, and messages from any thread.
struct Lines {
    port: Port,
    state: Mutex<State>,
}

impl Lines {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, line: &str) {
        let mut state = self.lock();
        state.note("S", line.trim_end());
        state.backlog.extend(line.as_bytes());
        self.flush(&mut state);
    }

    fn flush(&self, state: &mut State) {
        let sent = self.port.write(&state.backlog);
        state.backlog.drain(..sent);
    }
}

struct Front {
    lines: Arc<Lines>,
    session: Mutex<Session>,
}

impl Sink for Front {
    fn receive(&self, bytes: &[u8]) -> usize {
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        session.feed(bytes, &mut |line| self.lines.lock().note("R", line));
        bytes.len()
    }

    fn event(&self, event: Event) {
        match event {
            Event::Opened => {
                let mut state = self.lines.lock();
                state.since = Instant::now();
                if let Some(log) = &mut state.log {
                    let _ = writeln!(log, "[I 0.000000] OPENED");
                }
            }
            Event::Closed => {
                let mut state = self.lines.lock();
                state.note("I", "CLOSED");
                state.backlog.clear();
            }
            _ => {}
        }
    }

    fn writable(&self) {
        let mut state = self.lines.lock();
        self.lines.flush(&mut state);
    }
}
