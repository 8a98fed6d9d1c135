//! What the work of a job sees of its job.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::job::clock::Limiter;
use crate::job::list::{Entry, Live, Shared, lock};
use crate::job::{Action, Bell, Event, Failure, IoStatus, OnError, Operation, Status};

/// A job, as its own work sees it.
pub struct Control {
    shared: Arc<Shared>,
    key: u64,
    live: Arc<Live>,
    limiter: Mutex<(u64, Limiter)>,
}

impl Control {
    pub(super) fn new(shared: Arc<Shared>, key: u64, live: Arc<Live>) -> Self {
        live.busy.store(true, Ordering::Relaxed);
        Self { shared, key, live, limiter: Mutex::default() }
    }

    /// Whether [`Control::checkpoint`] should be called as soon as nothing is in flight.
    pub fn wanted(&self) -> bool {
        self.live.attention.load(Ordering::SeqCst)
    }

    /// Stays here while the job is paused. To be called when none of its requests is in flight.
    ///
    /// # Errors
    /// `Cancelled` when the job shall end where it stands.
    pub fn checkpoint(&self) -> Result<(), Failure> {
        loop {
            let seen = self.live.bell.rings();
            {
                let mut state = self.shared.lock();
                let Some(job) = state.by_key(self.key) else { return Err(Failure::Cancelled) };
                if job.pauses == 0 || job.force {
                    let back = match job.status {
                        Status::Paused => Status::Running,
                        Status::Standby => Status::Ready,
                        status => status,
                    };
                    self.shared.turn(job, back);
                    return if job.force { Err(Failure::Cancelled) } else { Ok(()) };
                }
                let aside = match job.status {
                    Status::Running => Status::Paused,
                    Status::Ready => Status::Standby,
                    status => status,
                };
                self.shared.turn(job, aside);
            }
            self.sleep(seen, None);
        }
    }

    /// Whether the job shall end well although it has not been told to complete: it is ready, and
    /// was cancelled without force.
    pub fn leave(&self) -> bool {
        self.asked(|job| job.cancelled && !job.force)
    }

    /// Whether the job was told to complete.
    pub fn complete(&self) -> bool {
        self.asked(|job| job.complete)
    }

    fn asked(&self, what: impl Fn(&Entry) -> bool) -> bool {
        self.shared.lock().by_key(self.key).is_some_and(|job| what(job))
    }

    /// Source and target are in step: tells so, once.
    pub fn ready(&self) {
        let mut state = self.shared.lock();
        if let Some(job) = state.by_key(self.key)
            && job.status == Status::Running
        {
            self.shared.turn(job, Status::Ready);
            self.shared.tell(Event::Ready(job.milestone()));
        }
    }

    /// Rings when the user wants something, the time has moved, or [`Bell::ring`] was called.
    pub fn bell(&self) -> &Arc<Bell> {
        &self.live.bell
    }

    /// Sleeps until the bell has rung more often than `seen` times, or `most` has passed.
    pub fn sleep(&self, seen: u64, most: Option<Duration>) {
        let most = most.filter(|_| self.shared.clock.runs());
        self.live.busy.store(false, Ordering::Relaxed);
        self.live.bell.wait(seen, most);
        self.live.busy.store(true, Ordering::Relaxed);
    }

    /// How long the job's speed wants it to wait before its next request; forever when the job's
    /// clock stands.
    pub fn delay(&self) -> Option<Duration> {
        let speed = self.live.speed.load(Ordering::SeqCst);
        let mut limiter = lock(&self.limiter);
        if limiter.0 != speed {
            limiter.0 = speed;
            limiter.1.restart();
        }
        if speed == 0 { None } else { limiter.1.delay(self.shared.clock.now()) }
    }

    /// Counts a request of so many bytes against the job's speed.
    pub fn account(&self, bytes: u64) {
        let speed = self.live.speed.load(Ordering::SeqCst);
        if speed != 0 {
            lock(&self.limiter).1.account(self.shared.clock.now(), bytes, speed);
        }
    }

    /// Work in all.
    pub fn set_total(&self, total: u64) {
        self.live.total.store(total, Ordering::Relaxed);
    }

    /// What counts the work done; for other threads.
    pub fn meter(&self) -> Meter {
        Meter(Arc::clone(&self.live))
    }

    /// Whether the job has been declared ready.
    pub fn is_ready(&self) -> bool {
        self.asked(Entry::ready)
    }

    /// Tells that a request failed, and what `policy` wants done. To stop is to be paused: the next
    /// [`Control::checkpoint`] waits for the user, after which the request is to be tried again.
    pub fn failed(&self, operation: Operation, policy: OnError, error: &io::Error) -> Action {
        let action = policy.action(error);
        let mut state = self.shared.lock();
        let Some(job) = state.by_key(self.key) else { return Action::Report };
        if action == Action::Stop {
            if !job.user_paused {
                job.user_paused = true;
                job.pauses += 1;
            }
            job.io_status = match error.kind() {
                io::ErrorKind::StorageFull => IoStatus::Nospace,
                _ => IoStatus::Failed,
            };
            job.nudge();
        }
        let device = job.options.id.clone();
        self.shared.tell(Event::Error { device, operation, action });
        action
    }
}

/// Counts the work that a job has done.
#[derive(Clone)]
pub struct Meter(Arc<Live>);

impl Meter {
    /// More work is done. There is never less work in all than is done.
    pub fn add_done(&self, more: u64) {
        let done = self.0.current.fetch_add(more, Ordering::Relaxed) + more;
        self.0.total.fetch_max(done, Ordering::Relaxed);
    }

    /// Work done so far.
    pub fn done(&self) -> u64 {
        self.0.current.load(Ordering::Relaxed)
    }
}
