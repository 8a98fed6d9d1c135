//! Signals that ask the process to end, as something to wait for.
//!
//! The first such signal is only noted: whoever holds the [`Endings`] reads it and shuts down in
//! order. A second one while the first is being served ends the process at once, with the terminal
//! put back. Source: signal(7), sigaction(2), signal-safety(7).
#![expect(unsafe_code, reason = "installing signal handlers has no safe wrapper")]

use crate::terminal;
use std::fs::File;
use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

/// Signals that ask the process to end.
const ENDING: [libc::c_int; 4] = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT];

/// Writing end of the pipe; negative until there is one.
static PIPE: AtomicI32 = AtomicI32::new(-1);
/// Whether a signal was noted and not read yet, or is being served.
static NOTED: AtomicBool = AtomicBool::new(false);

/// A signal that asked the process to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ending {
    /// Its number.
    pub signal: i32,
    /// Process that sent it; 0 when the kernel did (a key on the terminal).
    pub sender: i32,
}

/// Reads the signals that ask the process to end.
#[derive(Debug)]
pub struct Endings(File);

impl Endings {
    /// Catches the signals from now on; once in a process.
    ///
    /// # Errors
    /// No pipe can be made, or the signals are caught already (`ResourceBusy`).
    pub fn catch() -> io::Result<Self> {
        let mut ends = [-1; 2];
        // SAFETY: the array has room for two descriptors.
        if unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call succeeded, so this descriptor is new and ours.
        let reader = unsafe { File::from_raw_fd(ends[0]) };
        if PIPE.compare_exchange(-1, ends[1], Ordering::AcqRel, Ordering::Acquire).is_err() {
            // SAFETY: the descriptor is new and ours, and nobody else saw it.
            drop(unsafe { File::from_raw_fd(ends[1]) });
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, "signals are caught already"));
        }
        for signal in ENDING {
            install(signal)?;
        }
        Ok(Self(reader))
    }

    /// Waits for the next signal.
    ///
    /// # Errors
    /// Reading fails.
    pub fn wait(&mut self) -> io::Result<Ending> {
        let mut record = [0; 8];
        self.0.read_exact(&mut record)?;
        let [signal, sender] =
            [0, 4].map(|at| i32::from_ne_bytes([0, 1, 2, 3].map(|i: usize| record[at + i])));
        Ok(Ending { signal, sender })
    }

    /// Says that the last signal was dealt with and the process goes on: the next one is noted again.
    pub fn carry_on(&self) {
        NOTED.store(false, Ordering::Release);
    }
}

impl AsFd for Endings {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Sends a signal to this process.
///
/// # Errors
/// The number is no signal's.
pub fn raise(signal: i32) -> io::Result<()> {
    // SAFETY: raise has no precondition; what the signal does is up to its handler.
    match unsafe { libc::raise(signal) } {
        0 => Ok(()),
        _ => Err(io::Error::from_raw_os_error(libc::EINVAL)),
    }
}

fn install(signal: libc::c_int) -> io::Result<()> {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: all zeroes is a valid sigaction.
    let action = unsafe { action.assume_init_mut() };
    action.sa_sigaction = note as *const () as libc::sighandler_t;
    action.sa_flags = libc::SA_RESTART | libc::SA_SIGINFO;
    // SAFETY: the action is complete, and the handler only makes async-signal-safe calls.
    match unsafe { libc::sigaction(signal, action, std::ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

extern "C" fn note(signal: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    if NOTED.swap(true, Ordering::AcqRel) {
        terminal::restore();
        // SAFETY: _exit is async-signal-safe and does not return.
        unsafe { libc::_exit(128 + signal) };
    }
    // SAFETY: the kernel passes a valid siginfo to a handler with SA_SIGINFO.
    let info = unsafe { &*info };
    let sender = if info.si_code == libc::SI_USER {
        // SAFETY: for a signal sent by a process the field is filled in.
        unsafe { info.si_pid() }
    } else {
        0
    };
    let mut record = [0; 8];
    record[..4].copy_from_slice(&signal.to_ne_bytes());
    record[4..].copy_from_slice(&sender.to_ne_bytes());
    let fd = PIPE.load(Ordering::Acquire);
    // SAFETY: the buffer is valid for its length; the pipe has room for the one record there can be.
    unsafe { libc::write(fd, record.as_ptr().cast(), record.len()) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    #[test]
    fn a_signal_is_noted_with_its_sender() {
        let mut endings = Endings::catch().unwrap();
        assert!(Endings::catch().is_err());
        assert!(endings.as_fd().as_raw_fd() >= 0);
        let me = i32::try_from(std::process::id()).unwrap();
        // SAFETY: the signal is caught above.
        unsafe { libc::kill(me, libc::SIGTERM) };
        let ending = endings.wait().unwrap();
        assert_eq!(ending, Ending { signal: libc::SIGTERM, sender: me });
        endings.carry_on();
    }
}
