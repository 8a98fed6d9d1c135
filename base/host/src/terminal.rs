//! The terminal of the process: raw while the guest has it, and as it was however the process ends.
//!
//! There is one controlling terminal, so what it was like before is the one thing kept for the whole
//! process: signal handlers must reach it. It is put back when [`RawTerminal`] is dropped, at
//! `exit()`, when the process aborts (a panic does), when it is stopped, and by [`restore`], which a
//! handler of a fatal signal may call. After `SIGCONT` the terminal is raw again.
//! Source: termios(3), signal-safety(7).
#![expect(unsafe_code, reason = "termios in signal handlers has no safe wrapper")]

use std::cell::UnsafeCell;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

/// Whether keys such as Ctrl-C are signals for this process or input like others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keys {
    /// Ctrl-C, Ctrl-\ and Ctrl-Z are signals.
    Signals,
    /// They are input.
    Input,
}

/// What the terminal was like, and what it is while raw.
struct Modes {
    /// Before and after, valid while `FD` is not negative.
    modes: UnsafeCell<MaybeUninit<(libc::termios, libc::termios)>>,
}

// SAFETY: the modes are written only while `FD` is negative (nobody reads then) by the one caller who
// won `TAKEN`; afterwards they are only read.
unsafe impl Sync for Modes {}

static MODES: Modes = Modes { modes: UnsafeCell::new(MaybeUninit::uninit()) };
/// The terminal that is raw; negative when none is.
static FD: AtomicI32 = AtomicI32::new(-1);
/// Whether a [`RawTerminal`] exists.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// A terminal in raw mode; dropping it puts the terminal back. It has a descriptor of its own, since
/// a handler may need it when the caller's is closed already.
#[derive(Debug)]
pub struct RawTerminal(OwnedFd);

impl RawTerminal {
    /// Makes the terminal `fd` raw: no echo, no line editing, output processing stays.
    ///
    /// # Errors
    /// `fd` is no terminal, or one is raw already (`ResourceBusy`).
    pub fn enter(fd: BorrowedFd<'_>, keys: Keys) -> io::Result<Self> {
        let owned = fd.try_clone_to_owned()?;
        let fd = owned.as_raw_fd();
        let before = attributes(fd)?;
        let mut raw = before;
        raw.c_iflag &= !(libc::IGNBRK
            | libc::BRKINT
            | libc::PARMRK
            | libc::ISTRIP
            | libc::INLCR
            | libc::IGNCR
            | libc::ICRNL
            | libc::IXON);
        raw.c_oflag |= libc::OPOST;
        raw.c_lflag &= !(libc::ECHO | libc::ECHONL | libc::ICANON | libc::IEXTEN);
        if keys == Keys::Input {
            raw.c_lflag &= !libc::ISIG;
        }
        raw.c_cflag = raw.c_cflag & !(libc::CSIZE | libc::PARENB) | libc::CS8;
        raw.c_cc[libc::VMIN] = 1;
        raw.c_cc[libc::VTIME] = 0;
        if TAKEN.swap(true, Ordering::AcqRel) {
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, "a terminal is raw already"));
        }
        // SAFETY: we hold `TAKEN` and `FD` is negative, so nobody else touches the modes.
        let modes = unsafe { &mut *MODES.modes.get() };
        modes.write((before, raw));
        FD.store(fd, Ordering::Release);
        if let Err(error) = apply(fd, &raw) {
            FD.store(-1, Ordering::Release);
            TAKEN.store(false, Ordering::Release);
            return Err(error);
        }
        watch_exits();
        Ok(Self(owned))
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        debug_assert_eq!(FD.load(Ordering::Acquire), self.0.as_raw_fd());
        restore();
        FD.store(-1, Ordering::Release);
        TAKEN.store(false, Ordering::Release);
    }
}

/// Puts the terminal back as it was. Does nothing when none is raw; safe in a signal handler.
pub fn restore() {
    if let Some((fd, modes)) = current() {
        let _ = apply(fd, &modes.0);
    }
}

/// Makes the terminal raw again after [`restore`]; safe in a signal handler.
pub fn resume() {
    if let Some((fd, modes)) = current() {
        let _ = apply(fd, &modes.1);
    }
}

fn current() -> Option<(RawFd, &'static (libc::termios, libc::termios))> {
    let fd = FD.load(Ordering::Acquire);
    if fd < 0 {
        return None;
    }
    // SAFETY: `FD` is not negative, so the modes were written before it was set and nobody writes
    // them until it is negative again; a handler that races with the drop reads plain old data.
    let modes = unsafe { &*MODES.modes.get() };
    // SAFETY: as above, they were written.
    let modes = unsafe { modes.assume_init_ref() };
    Some((fd, modes))
}

fn attributes(fd: RawFd) -> io::Result<libc::termios> {
    let mut modes = MaybeUninit::<libc::termios>::uninit();
    // SAFETY: the pointer is valid for a termios; a wrong descriptor is reported.
    if unsafe { libc::tcgetattr(fd, modes.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so it filled the structure in.
    Ok(unsafe { modes.assume_init() })
}

fn apply(fd: RawFd, modes: &libc::termios) -> io::Result<()> {
    // SAFETY: the reference is a valid termios; a wrong descriptor is reported.
    match unsafe { libc::tcsetattr(fd, libc::TCSANOW, modes) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Arranges that the ways a process ends or stops pass by here.
fn watch_exits() {
    static WATCHED: AtomicBool = AtomicBool::new(false);
    if WATCHED.swap(true, Ordering::AcqRel) {
        return;
    }
    extern "C" fn at_exit() {
        restore();
    }
    // SAFETY: the function lives as long as the program and calls nothing but tcsetattr.
    unsafe { libc::atexit(at_exit) };
    for (signal, handler) in [
        (libc::SIGABRT, on_abort as extern "C" fn(libc::c_int)),
        (libc::SIGTSTP, on_stop),
        (libc::SIGCONT, on_continue),
    ] {
        handle(signal, handler);
    }
}

fn handle(signal: libc::c_int, handler: extern "C" fn(libc::c_int)) {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: all zeroes is a valid sigaction.
    let action = unsafe { action.assume_init_mut() };
    action.sa_sigaction = handler as *const () as libc::sighandler_t;
    action.sa_flags = libc::SA_RESTART;
    // SAFETY: the action is complete, and the handlers only make async-signal-safe calls.
    unsafe { libc::sigaction(signal, action, std::ptr::null_mut()) };
}

/// `abort()` ends the process when the handler returns.
extern "C" fn on_abort(_: libc::c_int) {
    restore();
}

extern "C" fn on_stop(_: libc::c_int) {
    restore();
    // SAFETY: raise is async-signal-safe; the process stops here until it is continued.
    unsafe { libc::raise(libc::SIGSTOP) };
}

extern "C" fn on_continue(_: libc::c_int) {
    resume();
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::{AsFd, FromRawFd};

    fn pty() -> (OwnedFd, OwnedFd) {
        let (mut master, mut slave) = (-1, -1);
        // SAFETY: the two integers are valid; the other arguments may be null.
        let result = unsafe {
            libc::openpty(
                &mut master,
                &mut slave,
                std::ptr::null_mut(),
                std::ptr::null(),
                std::ptr::null(),
            )
        };
        assert_eq!(result, 0);
        // SAFETY: the call succeeded, so this descriptor is new and ours.
        let master = unsafe { OwnedFd::from_raw_fd(master) };
        // SAFETY: as above.
        let slave = unsafe { OwnedFd::from_raw_fd(slave) };
        (master, slave)
    }

    #[test]
    fn raw_mode_ends_with_the_guard_and_can_pause() {
        let (_master, slave) = pty();
        let fd = slave.as_raw_fd();
        let flags = || attributes(fd).unwrap().c_lflag & (libc::ICANON | libc::ECHO | libc::ISIG);
        let before = flags();
        let raw = RawTerminal::enter(slave.as_fd(), Keys::Input).unwrap();
        assert_eq!(flags(), 0);
        assert!(RawTerminal::enter(slave.as_fd(), Keys::Input).is_err());
        restore();
        assert_eq!(flags(), before);
        resume();
        assert_eq!(flags(), 0);
        drop(raw);
        assert_eq!(flags(), before);
        let raw = RawTerminal::enter(slave.as_fd(), Keys::Signals).unwrap();
        assert_eq!(flags(), libc::ISIG);
        drop(raw);
        let copy = slave.try_clone().unwrap();
        let raw = RawTerminal::enter(copy.as_fd(), Keys::Input).unwrap();
        drop(copy);
        drop(raw);
        assert_eq!(flags(), before);
        let null = std::fs::File::open("/dev/null").unwrap();
        assert!(RawTerminal::enter(null.as_fd(), Keys::Input).is_err());
    }
}
