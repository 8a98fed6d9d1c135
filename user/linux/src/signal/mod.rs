//! Signals: the program's handlers, and how signals of the host reach them.
//!
//! A signal that the program handles has a handler on the host, too, which only notes it, holds
//! back all others and kicks the thread; the thread then delivers it between two instructions or
//! system calls. Signals that are held back, ignored or left alone are so on the host as well: the
//! kernel queues them, ends and stops the process, and counts them. The signals that faults raise
//! stay open on the host, for the translator needs them.

mod action;
mod deliver;
mod host;
mod info;

pub use action::{Action, FATAL, Handlers, flags};
pub use deliver::Alternate;
pub use host::{Waiting, adopt, block_all, break_call, install_faults};
pub use info::{INFO_LEN, Info, fault_info};

use crate::sys::SignalSet;

/// The highest signal.
pub const LAST: u32 = 64;

/// The bit of a signal in a set.
pub const fn bit(signal: u32) -> SignalSet {
    1 << (signal - 1)
}

/// Signals that nobody can hold back or handle.
pub const UNBLOCKABLE: SignalSet = bit(libc::SIGKILL as u32) | bit(libc::SIGSTOP as u32);

/// Signals that stay open on the host: faults of translated code and of ourselves.
pub const FAULTS: SignalSet = bit(libc::SIGSEGV as u32) | bit(libc::SIGBUS as u32);
