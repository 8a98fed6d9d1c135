//! Requests on their way to the one thread that carries them out.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use host::aio::Wake;

/// How long an idle thread stays.
const IDLE: Duration = Duration::from_secs(10);

/// Until when a thread waits for requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stay {
    /// Until none came for a while.
    AWhile,
    /// No longer than there are any.
    WhileBusy,
}

/// What any number of threads put in and one thread takes out, which begins when there is something and ends
/// when nothing came for a while.
pub struct Inbox<T> {
    state: Mutex<State<T>>,
    came: Condvar,
}

struct State<T> {
    items: VecDeque<T>,
    driver: Driver,
    closed: bool,
}

/// What the one thread does.
enum Driver {
    /// There is none.
    Gone,
    /// It will look into the inbox.
    Busy,
    /// It waits for requests.
    Idle,
    /// It waits for something else, and looks when it is woken.
    Waiting(Arc<Wake>),
}

impl<T> Default for Inbox<T> {
    fn default() -> Self {
        let state = State { items: VecDeque::new(), driver: Driver::Gone, closed: false };
        Self { state: Mutex::new(state), came: Condvar::new() }
    }
}

impl<T> Inbox<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts something in. If nobody is there to take it out, starts a thread, called `name` in debuggers, in
    /// which `worker` does its `work`.
    pub fn put<W: Send + Sync + 'static>(
        &self,
        item: T,
        name: &str,
        (worker, work): (&Arc<W>, fn(&W, Stay)),
    ) {
        let mut state = self.lock();
        state.items.push_back(item);
        let driver = std::mem::replace(&mut state.driver, Driver::Busy);
        drop(state);
        match driver {
            Driver::Busy => {}
            Driver::Idle => self.came.notify_one(),
            Driver::Waiting(wake) => wake.wake(),
            Driver::Gone => {
                let theirs = Arc::clone(worker);
                let thread = std::thread::Builder::new().name(name.to_owned());
                if thread.spawn(move || work(&theirs, Stay::AWhile)).is_err() {
                    // Without a thread, this one does it.
                    work(worker, Stay::WhileBusy);
                }
            }
        }
    }

    /// Moves what is there to `batch`, which is empty. If that is nothing, returns at once with `busy`, which is
    /// then woken when something comes, and waits without. `false` when the thread is to leave.
    pub fn take(&self, batch: &mut VecDeque<T>, busy: Option<Arc<Wake>>, stay: Stay) -> bool {
        let mut state = self.lock();
        loop {
            std::mem::swap(&mut state.items, batch);
            if !batch.is_empty() {
                state.driver = Driver::Busy;
                return true;
            }
            if let Some(wake) = busy {
                state.driver = Driver::Waiting(wake);
                return true;
            }
            if state.closed || stay == Stay::WhileBusy {
                state.driver = Driver::Gone;
                return false;
            }
            state.driver = Driver::Idle;
            let (next, timeout) =
                self.came.wait_timeout(state, IDLE).unwrap_or_else(PoisonError::into_inner);
            state = next;
            if timeout.timed_out() && state.items.is_empty() {
                state.driver = Driver::Gone;
                return false;
            }
        }
    }

    /// The thread waits no longer: it looks again before it does. Moves what is there to `batch`, which is empty.
    pub fn attend(&self, batch: &mut VecDeque<T>) {
        let mut state = self.lock();
        std::mem::swap(&mut state.items, batch);
        state.driver = Driver::Busy;
    }

    /// The thread leaves once nothing is left.
    pub fn close(&self) {
        self.lock().closed = true;
        self.came.notify_all();
    }
}
