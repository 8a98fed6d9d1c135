//! A monitor on a character back end.

use crate::session::Session;
use chardev::{Event, Port, Sink};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Output kept for a reader that is slow; then input waits.
const MAX_BACKLOG: usize = 64 * 1024;

/// A session on a back end. Dropping it takes the monitor away.
pub struct Monitor {
    /// Keeps the front end attached.
    _sink: Arc<dyn Sink>,
}

impl Monitor {
    /// Puts `session` on `port`. Where others share the back end (mux), attach them before, so that
    /// they have the input first; the greeting then waits until the monitor is looked at.
    pub fn attach(session: Session, port: Port) -> Self {
        let state = State { session, backlog: Vec::new(), greeted: false };
        let sink: Arc<dyn Sink> = Arc::new(Front { port: port.clone(), state: Mutex::new(state) });
        port.attach_behind(&sink);
        Self { _sink: sink }
    }
}

struct State {
    session: Session,
    backlog: Vec<u8>,
    greeted: bool,
}

struct Front {
    port: Port,
    state: Mutex<State>,
}

impl Front {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn flush(&self, state: &mut State) {
        let sent = self.port.write(&state.backlog);
        state.backlog.drain(..sent);
    }

    fn show(&self, state: &mut State, bytes: &[u8]) {
        state.backlog.extend(bytes);
        self.flush(state);
    }
}

impl Sink for Front {
    fn receive(&self, bytes: &[u8]) -> usize {
        let mut state = self.lock();
        for (taken, byte) in bytes.iter().enumerate() {
            if state.backlog.len() > MAX_BACKLOG {
                return taken;
            }
            let out = state.session.feed(&[*byte]);
            self.show(&mut state, &out);
        }
        bytes.len()
    }

    fn event(&self, event: Event) {
        // A command of this very monitor may have sent it.
        if event == Event::Break {
            return;
        }
        let mut state = self.lock();
        let shared = self.port.is_shared();
        let out = match (event, state.greeted) {
            (Event::Opened, _) if !shared => state.session.greeting(),
            (Event::FocusIn, false) => {
                state.greeted = true;
                state.session.greeting()
            }
            (Event::FocusIn, true) => state.session.welcome_back(),
            (Event::FocusOut, true) => b"\r\n".to_vec(),
            (Event::Closed, _) => {
                state.backlog.clear();
                return;
            }
            _ => return,
        };
        self.show(&mut state, &out);
    }

    fn writable(&self) {
        let mut state = self.lock();
        self.flush(&mut state);
        drop(state);
        self.port.accept_input();
    }
}
