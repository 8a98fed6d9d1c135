//! A thread of the program: a processor, its signals, and the loop that runs it.

use crate::abi::Processor;
use crate::calls;
use crate::debug::{Debugger, Late, Pace};
use crate::errno::{Done, Errno};
use crate::process::Process;
use crate::ptrace::tracee::Tracee;
use crate::signal::{self, Alternate, Handlers, Waiting};
use crate::sys::{self, SignalSet};
use isa::Event;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A thread.
pub struct Thread {
    /// What it shares with the others.
    pub process: Arc<Process>,
    /// What runs its instructions.
    pub cpu: Box<dyn Processor>,
    /// Its number.
    pub tid: u32,
    /// Signals that came.
    pub waiting: Arc<Waiting>,
    /// Signals that it holds back.
    pub mask: SignalSet,
    /// Whether the host does not know of the mask yet.
    pub mask_changed: bool,
    /// The alternate stack.
    pub alternate: Alternate,
    /// Address that is zeroed, and whose waiter is woken, at the end; 0: none.
    pub clear_tid: u64,
    /// Its list of robust locks: address and length.
    pub robust: [u64; 2],
    /// Whether others share memory with it, so that its end is to be told.
    pub alone: bool,
    /// Set when it is to end, with its exit code.
    pub ended: Option<i32>,
    /// Who may come to debug it.
    pub debugger: Option<Arc<Debugger>>,
    /// A system call that was made while a debugger took it for one that waits.
    pub late: Option<Late>,
    /// What it keeps if it is traced.
    pub tracee: Option<Box<Tracee>>,
    handlers: Arc<Mutex<Handlers>>,
}

impl Thread {
    /// The first thread of a process.
    pub fn first(process: Arc<Process>, cpu: Box<dyn Processor>) -> Self {
        let mask = signal::block_all();
        Self {
            tid: sys::gettid(),
            waiting: Arc::default(),
            mask,
            mask_changed: true,
            alternate: Alternate::default(),
            clear_tid: 0,
            robust: [0; 2],
            alone: true,
            ended: None,
            debugger: Some(Arc::new(Debugger::new(false))),
            late: None,
            tracee: None,
            handlers: Arc::new(Mutex::new(Handlers::inherited())),
            process,
            cpu,
        }
    }

    /// Another thread with this one's registers; `own_handlers`: it does not share actions.
    pub fn twin(&self, own_handlers: bool) -> Self {
        let handlers = match own_handlers {
            true => Arc::new(Mutex::new(self.handlers().clone())),
            false => Arc::clone(&self.handlers),
        };
        Self {
            process: Arc::clone(&self.process),
            cpu: self.cpu.twin(),
            tid: 0,
            waiting: Arc::default(),
            mask: self.mask,
            mask_changed: true,
            alternate: Alternate::default(),
            clear_tid: 0,
            robust: [0; 2],
            alone: false,
            ended: None,
            debugger: self.debugger.clone(),
            late: None,
            tracee: None,
            handlers,
        }
    }

    /// What is to be done with signals.
    pub fn handlers(&self) -> MutexGuard<'_, Handlers> {
        self.handlers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes over the host thread that calls, whose signals are all held back: from now on they come
    /// to this thread.
    pub fn adopt_host_thread(&mut self) {
        self.tid = sys::gettid();
        self.process.note_thread(self.tid, true);
        signal::adopt(&self.waiting, self.cpu.kicker());
    }

    /// Runs to the end of the thread: its exit code.
    pub fn run(&mut self) -> i32 {
        self.adopt_host_thread();
        self.mask_changed = true;
        self.debug_enter();
        self.trace_begin();
        loop {
            self.settle();
            if let Some(code) = self.ended {
                return code;
            }
            let pace = self.debug_attend();
            let event = if pace == Pace::Run { self.cpu.run() } else { self.cpu.step() };
            match event {
                None => {}
                Some(Event::Syscall { at, .. }) => self.system_call(at),
                Some(Event::Breakpoint) if self.debug_breakpoint() => continue,
                Some(event) => self.fault(&event),
            }
            if pace != Pace::Run {
                self.debug_stepped(pace);
            }
        }
    }

    /// Serves the system call that the registers tell of; its instruction lies `at`.
    fn system_call(&mut self, at: u64) {
        if self.tracee.is_some() {
            return self.traced_call(at);
        }
        self.debug_call(at);
        let call = self.cpu.call();
        let done = calls::dispatch(self, &call);
        match self.debug_called(at, done) {
            Some(done) => self.come_back(at, done),
            None => return,
        }
        self.debug_result(call.number);
    }

    /// Takes over what a system call came back with; its instruction lies `at`.
    pub fn come_back(&mut self, at: u64, done: Done) {
        match done {
            Ok(value) => self.cpu.set_result(value),
            Err(Errno::UNCHANGED) => {}
            Err(Errno::RESTART) => self.cpu.set_pc(at),
            Err(error) => self.cpu.set_result(i64::from(-error.0).cast_unsigned()),
        }
    }

    /// Makes a system call on the host that signals may interrupt.
    ///
    /// # Errors
    /// Those of the call; [`Errno::RESTART`] if a signal came first.
    pub fn host(&self, number: i64, args: [u64; 6]) -> Done {
        sys::interruptible(&self.waiting.flag, number, args)
    }
}
