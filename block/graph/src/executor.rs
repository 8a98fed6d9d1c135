//! The threads of one I/O thread: a pool that grows with the load and shrinks when idle.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

type Job = Box<dyn FnOnce() + Send>;

/// How long an idle worker stays.
const IDLE: Duration = Duration::from_secs(10);

/// Runs blocking jobs on a bounded number of threads. Workers start on demand, so an idle machine
/// has none; jobs already accepted still run after the executor is dropped.
pub struct Executor {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    wake: Condvar,
    name: String,
    limit: usize,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    workers: usize,
    idle: usize,
    closed: bool,
}

impl Executor {
    /// An executor with at most `limit` threads (at least one), named `name` in debuggers.
    pub fn new(name: &str, limit: usize) -> Arc<Self> {
        let shared = Shared {
            state: Mutex::default(),
            wake: Condvar::new(),
            name: name.to_owned(),
            limit: limit.max(1),
        };
        Arc::new(Self { shared: Arc::new(shared) })
    }

    /// Runs `job` on a worker, soon. If the host refuses to start the first thread, it runs here.
    pub fn spawn(&self, job: impl FnOnce() + Send + 'static) {
        let mut state = lock(&self.shared.state);
        state.jobs.push_back(Box::new(job));
        if state.idle >= state.jobs.len() || state.workers >= self.shared.limit {
            self.shared.wake.notify_one();
            return;
        }
        state.workers += 1;
        drop(state);
        let shared = Arc::clone(&self.shared);
        let thread = std::thread::Builder::new().name(self.shared.name.clone());
        if thread.spawn(move || shared.work()).is_err() {
            let mut state = lock(&self.shared.state);
            state.workers -= 1;
            if state.workers == 0
                && let Some(job) = state.jobs.pop_front()
            {
                drop(state);
                job();
            }
        }
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        lock(&self.shared.state).closed = true;
        self.shared.wake.notify_all();
    }
}

impl Shared {
    fn work(&self) {
        let mut state = lock(&self.state);
        loop {
            if let Some(job) = state.jobs.pop_front() {
                drop(state);
                job();
                state = lock(&self.state);
                continue;
            }
            if state.closed {
                break;
            }
            state.idle += 1;
            let (next, timeout) =
                self.wake.wait_timeout(state, IDLE).unwrap_or_else(PoisonError::into_inner);
            state = next;
            state.idle -= 1;
            if timeout.timed_out() && state.jobs.is_empty() {
                break;
            }
        }
        state.workers -= 1;
    }
}

fn lock(state: &Mutex<State>) -> std::sync::MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
