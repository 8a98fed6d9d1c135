//! What this process was started with, before the standard library makes itself comfortable: it opens
//! `/dev/null` for standard descriptors that are closed and ignores SIGPIPE, neither of which a program
//! of the guest may find.
#![expect(unsafe_code, reason = "a function that runs before `main`")]

use std::sync::atomic::{AtomicU32, Ordering};

/// Bits 0 to 2: the descriptor was closed; bit 3: SIGPIPE was ignored.
static FOUND: AtomicU32 = AtomicU32::new(0);

const PIPE_IGNORED: u32 = 1 << 3;

/// The C library's start calls what this section lists; there is no other place before the standard
/// library's.
// SAFETY: the function has the type that the section is for, and does only system calls.
#[unsafe(link_section = ".init_array")]
#[used]
static LOOK: extern "C" fn() = look;

extern "C" fn look() {
    let mut found = 0;
    for fd in 0..3 {
        // SAFETY: the call changes nothing.
        if unsafe { libc::fcntl(fd, libc::F_GETFD) } < 0 {
            found |= 1 << fd;
        }
    }
    // SAFETY: all zeros is a valid structure: the default action, no flags.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: the call writes to a structure of ours.
    let told = unsafe { libc::sigaction(libc::SIGPIPE, std::ptr::null(), &raw mut action) };
    if told == 0 && action.sa_sigaction == libc::SIG_IGN {
        found |= PIPE_IGNORED;
    }
    FOUND.store(found, Ordering::Relaxed);
}

/// Closes the standard descriptors that were closed when this process began.
pub fn close_what_was_closed() {
    let found = FOUND.load(Ordering::Relaxed);
    for fd in (0..3).filter(|fd| found & 1 << fd != 0) {
        // SAFETY: the standard library opened it for nobody but the program.
        unsafe { libc::close(fd) };
    }
}

/// Whether SIGPIPE was ignored when this process began.
pub fn pipe_was_ignored() -> bool {
    FOUND.load(Ordering::Relaxed) & PIPE_IGNORED != 0
}
