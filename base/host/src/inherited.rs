//! Descriptors that whoever started the process handed over by number (`fd=N`).
#![expect(unsafe_code, reason = "a number becomes a descriptor only by fiat")]

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::{Mutex, PoisonError};

/// Descriptors that were open at the start and have no owner yet. They belong to the process, so
/// this does.
static WAITING: Mutex<BTreeSet<RawFd>> = Mutex::new(BTreeSet::new());

/// Notes what is open beyond the standard streams.
///
/// # Safety
/// Nothing in the process owns a descriptor yet: call it first in `main`, once.
pub unsafe fn note_at_start() {
    let open = (3..MAX).filter(|fd| is_open(*fd));
    WAITING.lock().unwrap_or_else(PoisonError::into_inner).extend(open);
}

/// Numbers beyond this are not looked at.
const MAX: RawFd = 1024;

fn is_open(fd: RawFd) -> bool {
    // SAFETY: F_GETFD only asks; a number that is no descriptor is reported.
    unsafe { libc::fcntl(fd, libc::F_GETFD) != -1 }
}

/// Takes over descriptor `number`; works once for each.
///
/// # Errors
/// It was not handed over, or was taken over before.
pub fn adopt(number: RawFd) -> io::Result<OwnedFd> {
    if !WAITING.lock().unwrap_or_else(PoisonError::into_inner).remove(&number) {
        let text = format!("descriptor {number} was not handed over, or is in use already");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    // SAFETY: it was open before anything in this process owned a descriptor, and nobody took it
    // since, so it is ours alone.
    let fd = unsafe { OwnedFd::from_raw_fd(number) };
    // SAFETY: the descriptor is open; only its close-on-exec flag changes.
    unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
    Ok(fd)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::fd::{AsRawFd, IntoRawFd};

    #[test]
    fn a_descriptor_is_taken_over_once() {
        let number = File::open("/dev/null").unwrap().into_raw_fd();
        WAITING.lock().unwrap().insert(number);
        assert!(is_open(number));
        assert_eq!(adopt(number).unwrap().as_raw_fd(), number);
        for wrong in [number, 0, -1, 1_000_000] {
            assert!(adopt(wrong).is_err(), "{wrong}");
        }
    }
}
