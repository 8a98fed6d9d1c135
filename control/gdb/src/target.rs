//! What is debugged.

use crate::Description;
use crate::serve::Notifier;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// A thread of a process, or a processor of a machine; never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ThreadId(pub u64);

/// Kinds of breakpoints, as the protocol numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BreakpointKind {
    /// Execution; the target may change memory for it.
    Software,
    /// Execution, with memory as it is.
    Hardware,
    /// Stores.
    Write,
    /// Loads.
    Read,
    /// Both.
    Access,
}

impl BreakpointKind {
    /// By the number in `Z` packets.
    pub(crate) const ALL: [Self; 5] =
        [Self::Software, Self::Hardware, Self::Write, Self::Read, Self::Access];
}

/// A place at which to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Breakpoint {
    /// What happens there.
    pub kind: BreakpointKind,
    /// The first address.
    pub address: u64,
    /// Bytes that are watched; for execution, the length of the instruction or what the ISA calls its kind.
    pub len: u64,
}

/// Why a target does not do what it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It never can.
    Unsupported,
    /// It cannot now: the number of an error of Linux.
    Failed(u8),
}

/// How a thread is to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// The thread; `None` means all that no order before this one names.
    pub thread: Option<ThreadId>,
    /// For one instruction.
    pub step: bool,
    /// With this signal, in the protocol's numbers (those of `gdb/signals.h`), 0 for none.
    pub signal: u8,
}

/// What a watched access was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watched {
    /// Kind of the watchpoint.
    pub kind: BreakpointKind,
    /// Address of the access.
    pub address: u64,
}

/// Why a target stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// A thread met a signal (in the protocol's numbers; 5 is a breakpoint or a step, 2 an interrupt).
    Signal {
        /// Which thread.
        thread: ThreadId,
        /// Which signal.
        signal: u8,
        /// The watchpoint that it met.
        watched: Option<Watched>,
    },
    /// A thread is about to make a system call that is to be told.
    Call {
        /// Which thread.
        thread: ThreadId,
        /// The number of the call.
        number: u64,
    },
    /// A thread made a system call that is to be told.
    Called {
        /// Which thread.
        thread: ThreadId,
        /// The number of the call.
        number: u64,
    },
    /// The process ended with a status.
    Exited(u8),
    /// The process was ended by a signal.
    Killed(u8),
}

impl Stop {
    /// The thread that stopped; `None`: there is none any more.
    pub fn thread(&self) -> Option<ThreadId> {
        match *self {
            Self::Signal { thread, .. }
            | Self::Call { thread, .. }
            | Self::Called { thread, .. } => Some(thread),
            Self::Exited(_) | Self::Killed(_) => None,
        }
    }
}

/// Which system calls are told before and after they are made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Caught {
    /// None.
    #[default]
    None,
    /// Every one.
    All,
    /// Those with these numbers.
    Some(Vec<u64>),
}

impl Caught {
    /// Whether the call of a number is told.
    pub fn has(&self, number: u64) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::Some(numbers) => numbers.contains(&number),
        }
    }
}

/// Things that are read in pieces (`qXfer`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Object {
    /// The auxiliary vector of the process.
    Auxv,
    /// The path of its program.
    ExecFile,
    /// What goes with the signal that the thread stopped with.
    Siginfo,
}

/// What a debugger works on. All threads are stopped while anything but [`Target::interrupt`] is called,
/// until [`Target::resume`].
pub trait Target: Send {
    /// Where the target tells of stops after [`Target::resume`].
    fn attached(&mut self, notifier: Notifier);
    /// Number of the process; 1 for a machine.
    fn process(&self) -> u64;
    /// Whether it was started for the debugger, which may end it.
    fn spawned(&self) -> bool;
    /// Its registers.
    fn description(&self) -> &Description;
    /// The threads there are, at least one while it lives.
    fn threads(&self) -> Vec<ThreadId>;
    /// What people call a thread.
    fn thread_name(&self, thread: ThreadId) -> String;
    /// Why it stands now.
    fn stopped(&self) -> Stop;
    /// Bytes of the register with a number of the description, in the target's order.
    fn register(&mut self, thread: ThreadId, number: usize) -> Option<Vec<u8>>;
    /// Sets a register, whose bytes these are; false if it cannot be.
    fn set_register(&mut self, thread: ThreadId, number: usize, bytes: &[u8]) -> bool;
    /// Reads memory, as much as there is from `address` on; `None` if there is none.
    fn read(&mut self, thread: ThreadId, address: u64, len: usize) -> Option<Vec<u8>>;
    /// Writes memory, whatever the rights of programs to it; false if there is none.
    fn write(&mut self, thread: ThreadId, address: u64, bytes: &[u8]) -> bool;
    /// Sets a breakpoint; one that is there already is no error.
    ///
    /// # Errors
    /// See [`Refused`].
    fn set_breakpoint(&mut self, breakpoint: Breakpoint) -> Result<(), Refused>;
    /// Takes a breakpoint away.
    ///
    /// # Errors
    /// See [`Refused`].
    fn clear_breakpoint(&mut self, breakpoint: Breakpoint) -> Result<(), Refused>;
    /// Goes on, all threads as ordered; those that no order names stay.
    fn resume(&mut self, orders: &[Order]);
    /// Asks a running target to stop; it tells when it has.
    fn interrupt(&mut self);
    /// The debugger leaves: no breakpoints any more, and it goes on.
    fn detach(&mut self);
    /// Ends it.
    fn kill(&mut self);
    /// A thing that is read in pieces.
    fn object(&mut self, thread: ThreadId, object: Object) -> Option<Vec<u8>>;
    /// Tells of these system calls from now on; false: there are none.
    fn catch(&mut self, _calls: Caught) -> bool {
        false
    }
    /// Opens a file as the target sees it, for reading.
    ///
    /// # Errors
    /// It cannot be; a target without files refuses all.
    fn open(&mut self, _path: &Path) -> io::Result<File> {
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Where a symbolic link of the target leads.
    ///
    /// # Errors
    /// It is none.
    fn read_link(&mut self, _path: &Path) -> io::Result<PathBuf> {
        Err(io::ErrorKind::Unsupported.into())
    }
    /// What `monitor LINE` says, where there is a monitor.
    fn command(&mut self, _line: &str) -> Option<String> {
        None
    }
}
