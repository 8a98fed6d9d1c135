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

    /// Puts something in. `true` if the caller has to start the thread.
    #[must_use]
    pub fn put(&self, item: T) -> bool {
        let mut state = self.lock();
        state.items.push_back(item);
        match std::mem::replace(&mut state.driver, Driver::Busy) {
            Driver::Busy => false,
            Driver::Idle => {
                self.came.notify_one();
                false
            }
            Driver::Waiting(wake) => {
                drop(state);
                wake.wake();
                false
            }
            Driver::Gone => true,
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
