//! Pieces of work in flight, and the loop that sends them.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use graph::Executor;

use crate::job::{Action, Bell, Control, Failure, OnError, Operation};

/// How long a job waits before it tries again what has failed and is to be ignored.
const RETRY: Duration = Duration::from_millis(100);

/// A piece of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// First byte.
    pub offset: u64,
    /// Bytes.
    pub len: u64,
    /// Bytes that count against the job's speed.
    pub cost: u64,
}

/// A piece that could not be carried.
pub(crate) struct Mishap {
    pub piece: Piece,
    pub operation: Operation,
    pub error: io::Error,
}

/// What is done about errors of either side.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Policies {
    pub source: OnError,
    pub target: OnError,
}

impl Policies {
    pub fn of(self, operation: Operation) -> OnError {
        match operation {
            Operation::Read => self.source,
            Operation::Write => self.target,
        }
    }
}

/// Carries pieces on threads of its own, so many at a time. Dropping it waits for all of them.
pub(crate) struct Pump {
    executor: Arc<Executor>,
    most: usize,
    shared: Arc<Shared>,
}

struct Shared {
    flying: AtomicUsize,
    mishaps: Mutex<Vec<Mishap>>,
    bell: Arc<Bell>,
}

impl Pump {
    pub fn new(job: &Control, most: usize) -> Self {
        let shared = Shared {
            flying: AtomicUsize::new(0),
            mishaps: Mutex::default(),
            bell: Arc::clone(job.bell()),
        };
        Self { executor: Executor::new("job request", most), most, shared: Arc::new(shared) }
    }

    /// Whether anything is in flight.
    pub fn flying(&self) -> usize {
        self.shared.flying.load(Ordering::SeqCst)
    }

    fn wait_below(&self, count: usize) {
        loop {
            let seen = self.shared.bell.rings();
            if self.flying() < count {
                return;
            }
            self.shared.bell.wait(seen, None);
        }
    }

    /// Waits until nothing is in flight.
    pub fn idle(&self) {
        self.wait_below(1);
    }

    fn send(&self, work: impl FnOnce() -> Result<(), Mishap> + Send + 'static) {
        self.wait_below(self.most);
        self.shared.flying.fetch_add(1, Ordering::SeqCst);
        let shared = Arc::clone(&self.shared);
        self.executor.spawn(move || {
            if let Err(mishap) = work() {
                shared.mishaps.lock().unwrap_or_else(PoisonError::into_inner).push(mishap);
            }
            shared.flying.fetch_sub(1, Ordering::SeqCst);
            shared.bell.ring();
        });
    }

    fn mishaps(&self) -> Vec<Mishap> {
        let mut mishaps = self.shared.mishaps.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut mishaps)
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        self.idle();
    }
}

/// Where pieces come from, and what becomes of them.
pub(crate) trait Load {
    /// The next piece that is not in flight yet, or none for now.
    fn next(&mut self) -> Result<Option<Piece>, Mishap>;

    /// Takes back a piece that is to be tried again.
    fn again(&mut self, piece: Piece);

    /// An error of a piece is to be ignored: tries it again, unless the job has something better.
    fn ignore(&mut self, piece: Piece, _error: &io::Error) {
        self.again(piece);
    }

    /// How a piece is carried.
    fn carry(&self, piece: Piece) -> Box<dyn FnOnce() -> Result<(), Mishap> + Send>;
}

/// Carries pieces until there are none left and none is in flight.
pub(crate) fn drive(
    job: &Control,
    pump: &Pump,
    policies: Policies,
    load: &mut dyn Load,
) -> Result<(), Failure> {
    loop {
        let seen = job.bell().rings();
        for mishap in pump.mishaps() {
            complain(job, policies, load, mishap)?;
        }
        if job.wanted() {
            pump.idle();
            if !pump.no_mishaps() {
                continue;
            }
            job.checkpoint()?;
        }
        if let Some(delay) = job.delay() {
            job.sleep(seen, Some(delay));
            continue;
        }
        let piece = match load.next() {
            Ok(Some(piece)) => piece,
            Ok(None) if pump.flying() == 0 && pump.no_mishaps() => return Ok(()),
            Ok(None) => {
                job.sleep(seen, None);
                continue;
            }
            Err(mishap) => {
                complain(job, policies, load, mishap)?;
                continue;
            }
        };
        job.account(piece.cost);
        pump.send(load.carry(piece));
    }
}

/// Does what the policy wants about a mishap.
fn complain(
    job: &Control,
    policies: Policies,
    load: &mut dyn Load,
    mishap: Mishap,
) -> Result<(), Failure> {
    let Mishap { piece, operation, error } = mishap;
    match job.failed(operation, policies.of(operation), &error) {
        Action::Report => return Err(error.into()),
        Action::Stop => load.again(piece),
        Action::Ignore => {
            load.ignore(piece, &error);
            job.sleep(job.bell().rings(), Some(RETRY));
        }
    }
    Ok(())
}

impl Pump {
    fn no_mishaps(&self) -> bool {
        self.shared.mishaps.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }
}
