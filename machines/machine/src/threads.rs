//! One host thread per processor.

use crate::Threading;
use crate::baton::Baton;
use cpu::{CpuLink, Exit, VirtualCpu};
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use time::{Clock, Timer};

/// How long a processor keeps its turn when they share a thread, in ns.
const TURN_NS: u64 = 10_000_000;

/// Whether processors run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunState {
    /// They stand still.
    Paused,
    /// They run.
    Running,
    /// Their threads are ending.
    Ended,
}

struct Slot {
    cpu: Mutex<Box<dyn VirtualCpu>>,
    link: Arc<dyn CpuLink>,
    /// The host's number of its thread; 0 until that has started.
    thread_id: AtomicU32,
}

struct Inner {
    slots: Vec<Slot>,
    state: Mutex<RunState>,
    changed: Condvar,
    baton: Option<Baton>,
}

/// The processors and their threads.
pub(crate) struct Threads {
    inner: Arc<Inner>,
    handles: Mutex<Vec<JoinHandle<()>>>,
    _turns: Option<Arc<Mutex<Option<Timer>>>>,
}

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Threads {
    /// Starts the threads; the processors are paused.
    pub(crate) fn start(
        cpus: Vec<Box<dyn VirtualCpu>>,
        threading: Threading,
        clock: &Clock,
    ) -> io::Result<Self> {
        let slot = |cpu: Box<dyn VirtualCpu>| Slot {
            link: cpu.link(),
            cpu: Mutex::new(cpu),
            thread_id: AtomicU32::new(0),
        };
        let inner = Arc::new(Inner {
            slots: cpus.into_iter().map(slot).collect(),
            state: Mutex::new(RunState::Paused),
            changed: Condvar::new(),
            baton: (threading == Threading::Single).then(Baton::default),
        });
        let turns = inner.baton.is_some().then(|| take_turns(&inner, clock));
        let threads = Self { inner, handles: Mutex::default(), _turns: turns };
        for index in 0..threads.inner.slots.len() {
            let inner = Arc::clone(&threads.inner);
            let name = format!("CPU {index}/TCG");
            let spawned =
                std::thread::Builder::new().name(name).spawn(move || inner.run_cpu(index));
            match spawned {
                Ok(handle) => lock(&threads.handles).push(handle),
                Err(error) => {
                    threads.end();
                    return Err(error);
                }
            }
        }
        Ok(threads)
    }

    pub(crate) fn len(&self) -> usize {
        self.inner.slots.len()
    }

    pub(crate) fn link(&self, index: usize) -> Option<Arc<dyn CpuLink>> {
        self.inner.slots.get(index).map(|slot| Arc::clone(&slot.link))
    }

    pub(crate) fn thread_id(&self, index: usize) -> Option<u32> {
        let id = self.inner.slots.get(index)?.thread_id.load(Ordering::Relaxed);
        (id != 0).then_some(id)
    }

    pub(crate) fn state(&self) -> RunState {
        *lock(&self.inner.state)
    }

    pub(crate) fn resume(&self) {
        self.inner.set_state(RunState::Running);
    }

    /// Returns when every processor has stopped.
    pub(crate) fn pause(&self) {
        self.inner.set_state(RunState::Paused);
        self.inner.kick_all();
        self.inner.slots.iter().for_each(|slot| drop(lock(&slot.cpu)));
    }

    /// Looks at a processor, which must not be running.
    pub(crate) fn with_cpu<T>(
        &self,
        index: usize,
        act: impl FnOnce(&mut dyn VirtualCpu) -> T,
    ) -> Option<T> {
        let slot = self.inner.slots.get(index)?;
        Some(act(lock(&slot.cpu).as_mut()))
    }

    /// Ends the threads.
    pub(crate) fn end(&self) {
        self.inner.set_state(RunState::Ended);
        self.inner.kick_all();
        for handle in lock(&self.handles).drain(..) {
            let _panicked = handle.join();
        }
    }
}

/// The host's number of this thread: the last part of where `/proc/thread-self` leads.
fn own_thread_id() -> Option<u32> {
    let path = std::fs::read_link("/proc/thread-self").ok()?;
    path.file_name()?.to_str()?.parse().ok()
}

/// Ends the turn of whoever runs while others wait, again and again.
fn take_turns(inner: &Arc<Inner>, clock: &Clock) -> Arc<Mutex<Option<Timer>>> {
    let slot: Arc<Mutex<Option<Timer>>> = Arc::default();
    let (weak, own, now) = (Arc::downgrade(inner), Arc::downgrade(&slot), clock.clone());
    let timer = clock.timer(move || {
        let (Some(inner), Some(own)) = (weak.upgrade(), own.upgrade()) else { return };
        if let Some(holder) = inner.baton.as_ref().and_then(Baton::contended_holder) {
            inner.slots[holder].link.kick();
        }
        if let Some(timer) = lock(&own).as_ref() {
            timer.arm(now.now_ns() + TURN_NS);
        }
    });
    timer.arm(TURN_NS);
    *lock(&slot) = Some(timer);
    slot
}

impl Inner {
    /// Once ended, the state stays so.
    fn set_state(&self, new: RunState) {
        let mut state = lock(&self.state);
        if *state != RunState::Ended {
            *state = new;
        }
        self.changed.notify_all();
    }

    fn kick_all(&self) {
        self.slots.iter().for_each(|slot| slot.link.kick());
    }

    /// Waits while paused; false when the thread is to end.
    fn may_run(&self) -> bool {
        let mut state = lock(&self.state);
        while *state == RunState::Paused {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        *state == RunState::Running
    }

    fn run_cpu(&self, index: usize) {
        let slot = &self.slots[index];
        slot.thread_id.store(own_thread_id().unwrap_or(0), Ordering::Relaxed);
        while self.may_run() {
            let mut cpu = lock(&slot.cpu);
            while *lock(&self.state) == RunState::Running {
                if let Some(baton) = &self.baton {
                    baton.take(index);
                }
                let exit = cpu.run();
                if let Some(baton) = &self.baton {
                    baton.pass();
                }
                if exit == Exit::Halted {
                    slot.link.wait();
                }
            }
        }
    }
}
