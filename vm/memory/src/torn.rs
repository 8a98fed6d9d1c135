//! Memory of another process that is taken away.
//!
//! A file that is mapped may be made shorter by whoever else has it. Touching what is lost ends the
//! process with SIGBUS; here it gets zeroes instead, and the block's owner can ask whether that
//! happened. Signals belong to the process, and so does this table. Source: mmap(2), sigaction(2).
#![expect(unsafe_code, reason = "signals are handled, and mappings replaced, through C functions")]

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

/// Guarded mappings at a time.
const MOST: usize = 4096;

/// A mapping that is guarded; free if its length is zero, not yet to be looked at if it is one.
struct Place {
    start: AtomicUsize,
    len: AtomicUsize,
    torn: AtomicBool,
}

static PLACES: [Place; MOST] = [const {
    Place { start: AtomicUsize::new(0), len: AtomicUsize::new(0), torn: AtomicBool::new(false) }
}; MOST];

/// Whether the handler is there.
static INSTALLED: Mutex<bool> = Mutex::new(false);

/// What was done about the signal before.
static BEFORE: OnceLock<libc::sigaction> = OnceLock::new();

/// Guards a mapping until it is dropped.
pub(crate) struct Guard(&'static Place);

impl Guard {
    /// Guards `len` bytes of a mapping of the caller's.
    ///
    /// # Errors
    /// Too many are guarded, or the host refuses the handler.
    pub fn new(start: usize, len: usize) -> io::Result<Self> {
        install()?;
        let free =
            |p: &&Place| p.len.compare_exchange(0, 1, Ordering::AcqRel, Ordering::Acquire).is_ok();
        let place = PLACES.iter().find(free).ok_or(io::ErrorKind::OutOfMemory)?;
        place.torn.store(false, Ordering::Relaxed);
        place.start.store(start, Ordering::Relaxed);
        place.len.store(len, Ordering::Release);
        Ok(Self(place))
    }

    /// Whether the mapping was replaced.
    pub fn is_torn(&self) -> bool {
        self.0.torn.load(Ordering::Acquire)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.len.store(0, Ordering::Release);
    }
}

/// Handles the signal from now on.
fn install() -> io::Result<()> {
    let mut done = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
    if *done {
        return Ok(());
    }
    // SAFETY: an all-zero struct sigaction is a valid one.
    let mut before: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: asks only; the kernel writes one struct sigaction.
    if unsafe { libc::sigaction(libc::SIGBUS, std::ptr::null(), &mut before) } == -1 {
        return Err(io::Error::last_os_error());
    }
    // There already after an attempt that failed.
    let _ = BEFORE.set(before);
    // SAFETY: as above.
    let mut ours: libc::sigaction = unsafe { std::mem::zeroed() };
    let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) = handle;
    ours.sa_sigaction = handler as usize;
    ours.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER;
    // SAFETY: the handler calls nothing that a handler must not, and lives as long as the process.
    if unsafe { libc::sigaction(libc::SIGBUS, &ours, std::ptr::null_mut()) } == -1 {
        return Err(io::Error::last_os_error());
    }
    *done = true;
    Ok(())
}

/// Puts zeroes in the place of a guarded mapping; leaves other addresses to who had the signal before.
extern "C" fn handle(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel passes a valid siginfo to a handler with SA_SIGINFO.
    let info_now = unsafe { &*info };
    // SAFETY: the field is there for SIGBUS, whatever its cause.
    let at = unsafe { info_now.si_addr() } as usize;
    for place in &PLACES {
        let len = place.len.load(Ordering::Acquire);
        let start = place.start.load(Ordering::Relaxed);
        if len > 1 && at.wrapping_sub(start) < len {
            place.torn.store(true, Ordering::Release);
            let flags =
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED;
            let protection = libc::PROT_READ | libc::PROT_WRITE;
            let start = start as *mut libc::c_void;
            // SAFETY: exactly the mapping that its owner gave into guard, to which no references
            // exist; it goes on to be readable and writable memory of the same length.
            let new = unsafe { libc::mmap(start, len, protection, flags, -1, 0) };
            if new != libc::MAP_FAILED {
                return;
            }
            break;
        }
    }
    pass_on(signal, info, context);
}

/// Does what would have been done without us.
fn pass_on(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let before = BEFORE.get();
    match before.map_or(libc::SIG_DFL, |b| b.sa_sigaction) {
        libc::SIG_DFL | libc::SIG_IGN => {
            // SAFETY: the default action is always allowed; the access is tried again and ends the
            // process.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
        handler if before.is_some_and(|b| b.sa_flags & libc::SA_SIGINFO != 0) => {
            type Handler = extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);
            // SAFETY: it was installed as a handler of this type.
            let handler: Handler = unsafe { std::mem::transmute(handler) };
            handler(signal, info, context);
        }
        handler => {
            // SAFETY: it was installed as a handler of this type.
            let handler: extern "C" fn(libc::c_int) = unsafe { std::mem::transmute(handler) };
            handler(signal);
        }
    }
}
