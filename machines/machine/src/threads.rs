//! One host thread per processor.

use crate::Threading;
use crate::baton::Baton;
use crate::cycle::{Cycle, RunState, Runs, Wakes};
use cpu::{CpuLink, Exit, VirtualCpu};
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use time::{Clock, Timer};

/// How long a processor keeps its turn when they share a thread, in ns.
const TURN_NS: u64 = 10_000_000;

impl Runs for Box<dyn VirtualCpu> {
    fn run(&mut self) -> Exit {
        self.as_mut().run()
    }
}

impl Wakes for Arc<dyn CpuLink> {
    fn kick(&self) {
        self.as_ref().kick();
    }
    fn wait(&self) {
        self.as_ref().wait();
    }
}

struct Inner {
    cycle: Cycle<Box<dyn VirtualCpu>, Arc<dyn CpuLink>>,
    /// The host's numbers of the threads; 0 until they have started.
    thread_ids: Vec<AtomicU32>,
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
        let single = threading == Threading::Single;
        let thread_ids = cpus.iter().map(|_| AtomicU32::new(0)).collect();
        let both = cpus.into_iter().map(|cpu| {
            let link = cpu.link();
            (cpu, link)
        });
        let cycle = Cycle::new(both, single.then(Baton::default));
        let inner = Arc::new(Inner { cycle, thread_ids });
        let turns = single.then(|| take_turns(&inner, clock));
        let threads = Self { inner, handles: Mutex::default(), _turns: turns };
        for index in 0..threads.len() {
            let inner = Arc::clone(&threads.inner);
            let name = format!("CPU {index}/TCG");
            let spawned = std::thread::Builder::new().name(name).spawn(move || {
                inner.thread_ids[index].store(own_thread_id().unwrap_or(0), Ordering::Relaxed);
                inner.cycle.run_thread(index);
            });
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
        self.inner.cycle.len()
    }

    pub(crate) fn link(&self, index: usize) -> Option<Arc<dyn CpuLink>> {
        self.inner.cycle.link(index).cloned()
    }

    pub(crate) fn thread_id(&self, index: usize) -> Option<u32> {
        let id = self.inner.thread_ids.get(index)?.load(Ordering::Relaxed);
        (id != 0).then_some(id)
    }

    pub(crate) fn state(&self) -> RunState {
        self.inner.cycle.state()
    }

    pub(crate) fn resume(&self) {
        self.inner.cycle.resume();
    }

    /// Returns when every processor has stopped.
    pub(crate) fn pause(&self) {
        self.inner.cycle.pause();
    }

    /// Looks at a processor, which must not be running.
    pub(crate) fn with_cpu<T>(
        &self,
        index: usize,
        act: impl FnOnce(&mut dyn VirtualCpu) -> T,
    ) -> Option<T> {
        self.inner.cycle.with_cpu(index, |cpu| act(cpu.as_mut()))
    }

    /// Ends the threads.
    pub(crate) fn end(&self) {
        self.inner.cycle.end();
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

/// Ends turns again and again.
fn take_turns(inner: &Arc<Inner>, clock: &Clock) -> Arc<Mutex<Option<Timer>>> {
    let slot: Arc<Mutex<Option<Timer>>> = Arc::default();
    let (weak, own, now) = (Arc::downgrade(inner), Arc::downgrade(&slot), clock.clone());
    let timer = clock.timer(move || {
        let (Some(inner), Some(own)) = (weak.upgrade(), own.upgrade()) else { return };
        inner.cycle.end_turn();
        if let Some(timer) = lock(&own).as_ref() {
            timer.arm(now.now_ns() + TURN_NS);
        }
    });
    timer.arm(TURN_NS);
    *lock(&slot) = Some(timer);
    slot
}
