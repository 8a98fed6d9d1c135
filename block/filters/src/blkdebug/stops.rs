//! Requests that are stopped at events. Who is stopped and who goes on is said on standard output, as QEMU
//! does: test suites read it.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use graph::{Breakpoints, Event};

#[derive(Default)]
struct State {
    /// Breakpoints in the order in which they were set; each stops one request.
    set: Vec<(Event, String)>,
    /// Tags of the requests that are stopped, oldest first, with a number each.
    stopped: Vec<(u64, String)>,
    next: u64,
    /// Nobody is stopped any more.
    over: bool,
}

/// Breakpoints, and who waits at them.
#[derive(Default)]
pub(super) struct Stops {
    state: Mutex<State>,
    changed: Condvar,
}

impl Stops {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sleep<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops here until every breakpoint of the event has been let go, the newest first.
    pub fn reach(&self, event: Event) {
        let mut state = self.state();
        let mut own = Vec::new();
        while let Some(at) = state.set.iter().rposition(|(wanted, _)| *wanted == event) {
            let (_, tag) = state.set.remove(at);
            if state.over {
                continue;
            }
            println!("blkdebug: Suspended request '{tag}'");
            own.push(state.next);
            let number = state.next;
            state.stopped.push((number, tag));
            state.next += 1;
        }
        self.changed.notify_all();
        while state.stopped.iter().any(|(number, _)| own.contains(number)) {
            state = self.sleep(state);
        }
    }

    /// Lets everybody go, for good.
    pub fn let_all_go(&self) {
        let mut state = self.state();
        state.over = true;
        state.stopped.clear();
        self.changed.notify_all();
    }
}

impl Breakpoints for Stops {
    fn set(&self, event: Event, tag: &str) {
        self.state().set.push((event, tag.to_owned()));
    }

    fn remove(&self, tag: &str) -> bool {
        let mut state = self.state();
        let before = state.set.len();
        state.set.retain(|(_, t)| t != tag);
        let found = state.set.len() < before;
        for (_, t) in state.stopped.iter().filter(|(_, t)| t == tag) {
            println!("blkdebug: Resuming request '{t}'");
        }
        state.stopped.retain(|(_, t)| t != tag);
        self.changed.notify_all();
        found
    }

    fn resume(&self, tag: &str) -> bool {
        let mut state = self.state();
        let Some(at) = state.stopped.iter().position(|(_, t)| t == tag) else { return false };
        println!("blkdebug: Resuming request '{tag}'");
        state.stopped.remove(at);
        self.changed.notify_all();
        true
    }

    fn is_stopped(&self, tag: &str) -> bool {
        self.state().stopped.iter().any(|(_, t)| t == tag)
    }

    fn wait(&self, tag: &str) {
        let mut state = self.state();
        while !state.stopped.iter().any(|(_, t)| t == tag) {
            state = self.sleep(state);
        }
    }
}
