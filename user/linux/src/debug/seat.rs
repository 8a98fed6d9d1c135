//! What the threads of a program and the thread of the protocol have in common.

use super::patches::Patches;
use super::watches::Watches;
use crate::core_file::Sets;
use crate::errno::Errno;
use crate::signal::{Info, Waiting};
use gdb::{Caught, Notifier, Order, Stop, ThreadId};
use runtime::Kicker;
use std::collections::BTreeMap;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// What a thread does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    /// It runs.
    Running,
    /// It stands where its registers say.
    Standing,
    /// It is in a system call, with the registers of before; whether signals reach it there.
    Calling(bool),
}

/// How a thread goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// As fast as it can.
    Run,
    /// One instruction after the other: memory is watched.
    Watch,
    /// For one instruction.
    Step,
    /// It does not.
    Stay,
}

/// A thread.
pub(super) struct Seat {
    pub status: Status,
    pub pace: Pace,
    /// Its registers, while it does not run: those of the description one after the other.
    pub registers: Vec<u8>,
    /// The same for a core file.
    pub sets: Sets,
    /// Registers that were set: number and bytes.
    pub changes: Vec<(usize, Vec<u8>)>,
    /// What it got a signal with, if it stands for one.
    pub info: Option<Info>,
    /// The signal that it is to go on with.
    pub signal: Option<u32>,
    /// It was to leave its system call.
    pub broken: bool,
    pub kicker: Kicker,
    pub waiting: Arc<Waiting>,
}

/// How a thread that stood goes on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resumed {
    /// Registers that were set.
    pub changes: Vec<(usize, Vec<u8>)>,
    /// The signal to go on with.
    pub signal: Option<u32>,
    /// What it stood for was told. If not, somebody else's stop was, and it is to be told anew.
    pub told: bool,
}

/// What all share.
pub(super) struct State {
    pub attached: bool,
    /// All threads are to stand.
    pub stopping: bool,
    /// The stop is to be told when all do.
    pub untold: bool,
    pub stop: Stop,
    pub seats: BTreeMap<u32, Seat>,
    pub notifier: Option<Notifier>,
    pub patches: Patches,
    pub watches: Watches,
    pub caught: Caught,
    /// Descriptors of ours, which children close.
    pub descriptors: Vec<RawFd>,
    /// A core file is being written.
    pub dumping: bool,
    /// Nobody will come any more, and all that was to be told was.
    pub over: bool,
}

/// A debugger, or the place where one may come.
pub struct Debugger {
    /// Whether threads have to look.
    active: AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
}

impl Debugger {
    /// Of a program that waits for one before its first instruction, or does not.
    pub fn new(suspend: bool) -> Self {
        let thread = ThreadId(crate::sys::getpid().into());
        let state = State {
            attached: false,
            stopping: suspend,
            untold: false,
            stop: Stop::Signal { thread, signal: TRAP, watched: None },
            seats: BTreeMap::new(),
            notifier: None,
            patches: Patches::default(),
            watches: Watches::default(),
            caught: Caught::None,
            descriptors: Vec::new(),
            dumping: false,
            over: false,
        };
        let (active, changed) = (AtomicBool::new(suspend), Condvar::new());
        Self { active, state: Mutex::new(state), changed }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn notify(&self) {
        self.changed.notify_all();
    }

    /// Whether there is anything to look at: a debugger, or the wait for one.
    pub fn is_active(&self) -> bool {
        self.active.load(Ordering::SeqCst)
    }

    pub(super) fn set_active(&self, active: bool) {
        self.active.store(active, Ordering::SeqCst);
    }

    /// A thread begins.
    pub fn enter(&self, tid: u32, kicker: Kicker, waiting: Arc<Waiting>) {
        let seat = Seat {
            status: Status::Running,
            pace: Pace::Run,
            registers: Vec::new(),
            sets: Sets::new(),
            changes: Vec::new(),
            info: None,
            signal: None,
            broken: false,
            kicker,
            waiting,
        };
        self.lock().seats.insert(tid, seat);
    }

    /// A thread ends.
    pub fn leave(&self, tid: u32) {
        let mut state = self.lock();
        state.seats.remove(&tid);
        state.tell();
        drop(state);
        self.notify();
    }

    /// Whether a thread has to stand now.
    pub fn holds(&self, tid: u32) -> bool {
        let state = self.lock();
        state.stopping || state.seats.get(&tid).is_some_and(|seat| seat.pace == Pace::Stay)
    }

    /// How a thread that does not stand goes on.
    pub fn pace(&self, tid: u32) -> Pace {
        let state = self.lock();
        match state.seats.get(&tid).map(|seat| seat.pace) {
            Some(Pace::Run) if !state.watches.is_empty() => Pace::Watch,
            Some(pace) => pace,
            None => Pace::Run,
        }
    }

    /// A watched address whose memory has changed.
    pub fn watched(&self, space: &crate::space::Space) -> Option<u64> {
        self.lock().watches.changed(space)
    }

    /// A thread stands with these registers until it may go on. If it does because of `stop`, all do.
    pub fn stand(
        &self,
        tid: u32,
        (registers, sets): (Vec<u8>, Sets),
        stop: Option<Stop>,
        info: Option<Info>,
    ) -> Resumed {
        let mut state = self.lock();
        let told = match stop {
            Some(stop) if !state.stopping && state.attached => {
                state.halt(stop);
                true
            }
            _ => false,
        };
        let Some(seat) = state.seats.get_mut(&tid) else { return Resumed::default() };
        (seat.status, seat.registers, seat.sets) = (Status::Standing, registers, sets);
        seat.broken = false;
        seat.info = info.filter(|_| told);
        state.tell();
        self.notify();
        loop {
            let stopping = state.stopping;
            let Some(seat) = state.seats.get_mut(&tid) else { return Resumed::default() };
            if !stopping && seat.pace != Pace::Stay {
                seat.status = Status::Running;
                seat.info = None;
                return Resumed {
                    changes: std::mem::take(&mut seat.changes),
                    signal: seat.signal.take(),
                    told,
                };
            }
            state = self.wait(state);
        }
    }

    /// A thread goes into a system call, with these registers.
    pub fn call(&self, tid: u32, registers: Vec<u8>, breakable: bool) {
        let mut state = self.lock();
        if let Some(seat) = state.seats.get_mut(&tid) {
            (seat.status, seat.registers) = (Status::Calling(breakable), registers);
            seat.broken = false;
        }
        state.tell();
        drop(state);
        self.notify();
    }

    /// A thread is in a system call that no signal interrupts.
    pub fn stay_in_call(&self, tid: u32) {
        if let Some(seat) = self.lock().seats.get_mut(&tid) {
            seat.status = Status::Calling(false);
        }
    }

    /// A thread comes back from a system call: whether a debugger had it leave the call.
    pub fn called(&self, tid: u32) -> bool {
        let mut state = self.lock();
        let Some(seat) = state.seats.get_mut(&tid) else { return false };
        seat.status = Status::Running;
        std::mem::take(&mut seat.broken)
    }

    /// Whether a system call is told.
    pub fn catches(&self, number: u64) -> bool {
        self.lock().caught.has(number)
    }

    /// Whether a breakpoint of the debugger is at an address.
    pub fn has_breakpoint(&self, address: u64) -> bool {
        self.lock().patches.at(address)
    }

    /// A thread with these registers ends the program: returns when the debugger knows.
    pub fn end(&self, tid: u32, registers: Vec<u8>, stop: Stop) {
        self.call(tid, registers, false);
        let mut state = self.lock();
        while state.attached && state.stopping {
            state = self.wait(state);
        }
        if !state.attached {
            return;
        }
        (state.stopping, state.stop) = (true, stop);
        if let Some(notifier) = &state.notifier {
            notifier.stopped(stop);
        }
        while !state.over {
            state = self.wait(state);
        }
    }

    /// All threads stand, because one with these registers ends the program: their numbers and registers, its own
    /// first. Those that do not come out of the kernel are left out. Does not return to a second one.
    pub fn stand_for_core(&self, tid: u32, sets: Sets) -> Vec<(u32, Sets)> {
        let mut state = self.lock();
        if let Some(seat) = state.seats.get_mut(&tid) {
            (seat.status, seat.sets) = (Status::Standing, sets.clone());
        }
        self.notify();
        while state.dumping {
            state = self.wait(state);
        }
        (state.dumping, state.stopping) = (true, true);
        self.set_active(true);
        for (other, seat) in &mut state.seats {
            if matches!(seat.status, Status::Running | Status::Calling(true)) {
                seat.status = Status::Running;
                seat.kicker.kick();
                seat.broken = true;
                crate::signal::break_call(*other, &seat.waiting);
            }
        }
        let mut patience = PATIENCE;
        while !state.all_stand() && patience > 0 {
            let waited = self.changed.wait_timeout(state, TURN);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            patience -= 1;
        }
        let others = state.seats.iter().filter(|(other, _)| **other != tid);
        let others = others.filter(|(_, seat)| seat.status == Status::Standing);
        let others = others.map(|(other, seat)| (*other, seat.sets.clone()));
        [(tid, sets)].into_iter().chain(others).collect()
    }

    /// Calls `act` while neither threads nor the protocol change anything: a fork.
    pub fn frozen<T>(&self, act: impl FnOnce() -> T) -> T {
        let _state = self.lock();
        act()
    }

    /// In a child: it is let go.
    pub fn abandon(&self, space: &crate::space::Space) {
        let mut state = self.lock();
        (state.attached, state.stopping, state.over) = (false, false, true);
        state.patches.forget(space);
        state.seats.clear();
        // Nobody listens to it in this process.
        state.notifier = None;
        for fd in std::mem::take(&mut state.descriptors) {
            let _ = crate::sys::call(libc::SYS_close, [fd as u64, 0, 0, 0, 0, 0]);
        }
        drop(state);
        self.set_active(false);
    }

    /// Calls `act`, which runs a child in this memory, without breakpoints in it.
    pub fn without_breakpoints<T>(
        &self,
        space: &crate::space::Space,
        act: impl FnOnce() -> T,
    ) -> T {
        self.lock().patches.lift(space);
        let done = act();
        self.lock().patches.lower(space);
        done
    }
}

/// How often threads that are to stand are waited for, and how long.
const PATIENCE: u32 = 64;
const TURN: std::time::Duration = std::time::Duration::from_millis(50);

/// SIGTRAP and SIGINT in the protocol.
pub(super) const TRAP: u8 = 5;
pub(super) const INTERRUPT: u8 = 2;

impl State {
    /// Has all threads stand because of `stop`, which is told when they do.
    pub fn halt(&mut self, stop: Stop) {
        (self.stopping, self.untold, self.stop) = (true, true, stop);
        for seat in self.seats.values() {
            seat.kicker.kick();
        }
    }

    /// Whether all threads stand.
    pub fn all_stand(&self) -> bool {
        self.seats.values().all(|seat| seat.status != Status::Running)
    }

    /// Tells of the stop if all threads stand now.
    pub fn tell(&mut self) {
        if !self.untold || !self.all_stand() {
            return;
        }
        self.untold = false;
        // The thread that it was may have ended.
        if let Some(thread) = self.stop.thread()
            && !self.seats.contains_key(&(thread.0 as u32))
            && let Some(first) = self.seats.keys().next()
        {
            let thread = ThreadId((*first).into());
            self.stop = Stop::Signal { thread, signal: TRAP, watched: None };
        }
        if let Some(notifier) = &self.notifier {
            notifier.stopped(self.stop);
        }
    }

    /// Lets the threads go on as ordered.
    pub fn resume(&mut self, orders: &[Order]) {
        for (tid, seat) in &mut self.seats {
            let named = |order: &&Order| order.thread.is_none_or(|id| id.0 == u64::from(*tid));
            let order = orders.iter().find(named);
            seat.pace = match order {
                None => Pace::Stay,
                Some(Order { step: true, .. }) => Pace::Step,
                Some(_) => Pace::Run,
            };
            seat.signal = order.and_then(|order| super::signals::from_protocol(order.signal));
        }
        self.stopping = false;
    }

    /// Lets all go on for good.
    pub fn release(&mut self, space: &crate::space::Space) {
        self.patches.forget(space);
        self.watches.forget();
        self.caught = Caught::None;
        (self.attached, self.stopping, self.untold) = (false, false, false);
        self.notifier = None;
        for seat in self.seats.values_mut() {
            seat.pace = Pace::Run;
        }
    }

    /// The thread of a number.
    pub fn seat(&mut self, thread: ThreadId) -> Result<&mut Seat, Errno> {
        let tid = u32::try_from(thread.0).map_err(|_| Errno::ESRCH)?;
        self.seats.get_mut(&tid).ok_or(Errno::ESRCH)
    }
}
