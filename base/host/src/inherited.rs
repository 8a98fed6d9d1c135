//! Descriptors that whoever started the process handed over by number (`fd=N`).
//!
//! A descriptor comes through `execve` only if it is not close-on-exec, and everything that this
//! process opens itself is. So one without the flag was handed over, and nobody owns it yet.
//! Source: execve(2), fcntl(2).
#![expect(unsafe_code, reason = "a number becomes a descriptor only by fiat")]

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::{Mutex, PoisonError};

/// Held while a descriptor changes hands, so that two who ask for one number do not both get it.
static TAKING: Mutex<()> = Mutex::new(());

/// Takes over descriptor `number`; works once for each.
///
/// # Errors
/// It was not handed over, or was taken over before.
pub fn adopt(number: RawFd) -> io::Result<OwnedFd> {
    let _one_at_a_time = TAKING.lock().unwrap_or_else(PoisonError::into_inner);
    // SAFETY: F_GETFD only asks; a number that is no descriptor is reported.
    let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
    if number <= libc::STDERR_FILENO || flags == -1 || flags & libc::FD_CLOEXEC != 0 {
        let text = format!("descriptor {number} was not handed over, or is in use already");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    // SAFETY: the descriptor is open; only its close-on-exec flag changes.
    unsafe { libc::fcntl(number, libc::F_SETFD, flags | libc::FD_CLOEXEC) };
    // SAFETY: it lacked the flag that every descriptor with an owner in this process has, and it has
    // the flag from now on, so it is ours alone.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::fd::{AsRawFd, IntoRawFd};

    #[test]
    fn a_descriptor_is_taken_over_once() {
        let number = File::open("/dev/null").unwrap().into_raw_fd();
        assert!(adopt(number).is_err(), "one that the process opened itself");
        // SAFETY: the descriptor is open and nobody else knows it.
        unsafe { libc::fcntl(number, libc::F_SETFD, 0) };
        assert_eq!(adopt(number).unwrap().as_raw_fd(), number);
        for wrong in [number, 0, -1, 1_000_000] {
            assert!(adopt(wrong).is_err(), "{wrong}");
        }
    }
}
