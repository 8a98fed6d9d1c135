//! Running, standing still, ending: what the threads of processors do, and who tells them.
//!
//! A thread holds its processor's lock as long as it runs, so that whoever has got the lock of a
//! paused machine's processor knows that it stands still. Who changes the state changes it first,
//! then kicks everybody; who was kicked looks at the state. `tests/cycle.rs` compiles this file
//! with the primitives of a model checker.

use crate::baton::Baton;
use crate::primitives::{Condvar, Mutex, MutexGuard};
use cpu::Exit;
use std::sync::PoisonError;

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

/// A processor, as its thread sees it.
pub(crate) trait Runs {
    /// Runs until something needs the thread.
    fn run(&mut self) -> Exit;
}

/// A processor, as other threads see it.
pub(crate) trait Wakes {
    /// See [`cpu::CpuLink::kick`].
    fn kick(&self);
    /// See [`cpu::CpuLink::wait`].
    fn wait(&self);
}

struct Slot<C, L> {
    cpu: Mutex<C>,
    link: L,
}

/// Processors and whether they run.
pub(crate) struct Cycle<C, L> {
    slots: Vec<Slot<C, L>>,
    state: Mutex<RunState>,
    changed: Condvar,
    baton: Option<Baton>,
}

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<C: Runs, L: Wakes> Cycle<C, L> {
    /// Paused processors; with a baton, one runs at a time.
    pub(crate) fn new(cpus: impl IntoIterator<Item = (C, L)>, baton: Option<Baton>) -> Self {
        let slot = |(cpu, link)| Slot { cpu: Mutex::new(cpu), link };
        Self {
            slots: cpus.into_iter().map(slot).collect(),
            state: Mutex::new(RunState::Paused),
            changed: Condvar::new(),
            baton,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn link(&self, index: usize) -> Option<&L> {
        self.slots.get(index).map(|slot| &slot.link)
    }

    pub(crate) fn state(&self) -> RunState {
        *lock(&self.state)
    }

    /// Once ended, the state stays so.
    fn set_state(&self, new: RunState) {
        let mut state = lock(&self.state);
        if *state != RunState::Ended {
            *state = new;
        }
        self.changed.notify_all();
    }

    pub(crate) fn resume(&self) {
        self.set_state(RunState::Running);
    }

    /// Returns when every processor has stopped.
    pub(crate) fn pause(&self) {
        self.stop(RunState::Paused);
        self.slots.iter().for_each(|slot| drop(lock(&slot.cpu)));
    }

    /// Lets the threads end.
    pub(crate) fn end(&self) {
        self.stop(RunState::Ended);
    }

    fn stop(&self, state: RunState) {
        self.set_state(state);
        self.slots.iter().for_each(|slot| slot.link.kick());
    }

    /// Looks at a processor, which must not be running.
    pub(crate) fn with_cpu<T>(&self, index: usize, act: impl FnOnce(&mut C) -> T) -> Option<T> {
        let slot = self.slots.get(index)?;
        Some(act(&mut lock(&slot.cpu)))
    }

    /// Ends the turn of whoever runs while others wait.
    pub(crate) fn end_turn(&self) {
        if let Some(holder) = self.baton.as_ref().and_then(Baton::contended_holder) {
            self.slots[holder].link.kick();
        }
    }

    /// Waits while paused; false when the thread is to end.
    fn may_run(&self) -> bool {
        let mut state = lock(&self.state);
        while *state == RunState::Paused {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        *state == RunState::Running
    }

    /// All that the thread of a processor does.
    pub(crate) fn run_thread(&self, index: usize) {
        let slot = &self.slots[index];
        while self.may_run() {
            let mut cpu = lock(&slot.cpu);
            while self.state() == RunState::Running {
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
