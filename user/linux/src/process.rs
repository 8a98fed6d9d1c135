//! What the threads of a program share: memory, options, names.

use crate::abi::{Abi, Machine};
use crate::calls::{Contexts, Numbers};
use crate::errno::Errno;
use crate::options::Options;
use crate::ptrace::tracer::Tracees;
use crate::seccomp::Filters;
use crate::space::Space;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::File;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A program that runs.
pub struct Process {
    /// Its architecture.
    pub abi: &'static Abi,
    /// System calls by number.
    pub calls: Numbers,
    /// What makes processors.
    pub machine: Box<dyn Machine>,
    /// Its memory.
    pub space: Space,
    /// What the user asked for.
    pub options: Options,
    /// Our own program, to start it again for programs that this one executes.
    pub emulator: Option<File>,
    /// Name that we were called by.
    pub called: OsString,
    /// Where the return from signal handlers lies.
    pub trampoline: u64,
    /// Where the system's shared object lies.
    pub vdso: u64,
    /// Where its entry to the system lies, if it has one.
    pub sysinfo: u64,
    /// What the program was started with.
    pub started: Started,
    /// Asynchronous input and output.
    pub contexts: Contexts,
    /// What holds back its calls.
    pub filters: Filters,
    /// Numbers of its threads.
    numbers: Mutex<BTreeSet<u32>>,
    /// Programs that it traces.
    pub tracees: Tracees,
    /// Whether it has opened the memory of a process as a file.
    pub memory_opened: AtomicBool,
    /// Threads that run.
    pub threads: AtomicU32,
    /// Held while threads are made and ended, so that a fork finds none half done.
    births: Mutex<()>,
}

/// What a program was started with, for `/proc/self`.
#[derive(Clone, Debug, Default)]
pub struct Started {
    /// Its absolute name.
    pub executable: Vec<u8>,
    /// Its arguments, each with a zero.
    pub command_line: Vec<u8>,
    /// The auxiliary vector.
    pub auxiliary: Vec<u8>,
    /// Its first stack pointer.
    pub stack: u64,
}

impl Process {
    /// Puts the parts together.
    pub fn new(
        abi: &'static Abi,
        machine: Box<dyn Machine>,
        options: Options,
    ) -> Result<Self, Errno> {
        let space = Space::new(machine.memory().clone(), options.reserved)?;
        Ok(Self {
            abi,
            calls: Numbers::new(abi),
            machine,
            space,
            options,
            emulator: None,
            called: OsString::new(),
            trampoline: 0,
            vdso: 0,
            sysinfo: 0,
            started: Started::default(),
            contexts: Contexts::default(),
            filters: Filters::default(),
            numbers: Mutex::default(),
            tracees: Tracees::default(),
            memory_opened: AtomicBool::new(false),
            threads: AtomicU32::new(1),
            births: Mutex::new(()),
        })
    }

    fn numbers(&self) -> MutexGuard<'_, BTreeSet<u32>> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Numbers of the threads that run.
    pub fn thread_numbers(&self) -> Vec<u32> {
        self.numbers().iter().copied().collect()
    }

    /// A thread runs, or does not any more.
    pub fn note_thread(&self, tid: u32, runs: bool) {
        let mut numbers = self.numbers();
        if runs {
            numbers.insert(tid);
        } else {
            numbers.remove(&tid);
            self.filters.forget(tid);
        }
    }

    /// In the child of a fork there is this thread only.
    pub fn keep_only(&self, tid: u32) {
        self.numbers().clear();
        self.note_thread(tid, true);
        self.filters.keep_only(tid);
    }

    /// Keeps threads from being made and ended.
    pub fn births(&self) -> MutexGuard<'_, ()> {
        self.births.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is one thread only.
    pub fn has_one_thread(&self) -> bool {
        self.threads.load(Ordering::SeqCst) == 1
    }
}
