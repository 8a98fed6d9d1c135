//! The host's kernel, called by numbers: the C library's wrappers keep state of their own (thread
//! ids, signal masks, user ids of all threads) that is not the guest's.
#![expect(unsafe_code, reason = "system calls without wrappers")]

pub mod birth;
mod interruptible;

pub use interruptible::{interrupted_exit, interruptible};

use crate::errno::{Done, Errno};
use std::ffi::CStr;
use std::fs::File;
use std::os::fd::FromRawFd;

/// Makes a system call.
pub fn call(number: i64, args: [u64; 6]) -> Done {
    let [a, b, c, d, e, f] = args;
    // SAFETY: what pointers a call gets is its caller's to check: see the callers of this module.
    let value = unsafe { libc::syscall(number, a, b, c, d, e, f) };
    if value == -1 { Err(Errno::last()) } else { Ok(value.cast_unsigned()) }
}

/// A system call of up to six arguments.
#[macro_export]
macro_rules! host {
    ($name:ident $(, $arg:expr)* $(,)?) => {{
        #[allow(unused_mut, unused_assignments, clippy::allow_attributes)]
        let args = {
            let given: &[u64] = &[$($arg as u64),*];
            let mut args = [0u64; 6];
            args[..given.len()].copy_from_slice(given);
            args
        };
        $crate::sys::call(libc::$name, args)
    }};
}

/// A file that the kernel has opened for us.
pub fn take_file(fd: i32) -> File {
    // SAFETY: the kernel handed the descriptor to this program, and nobody else uses it.
    unsafe { File::from_raw_fd(fd) }
}

/// An entry of our own auxiliary vector; 0 if there is none.
pub fn auxiliary(kind: u64) -> u64 {
    // SAFETY: the call reads what the kernel handed to this program.
    unsafe { libc::getauxval(kind) }
}

/// The name that we were executed by, as the kernel has it.
pub fn own_name() -> String {
    let name = auxiliary(libc::AT_EXECFN) as *const libc::c_char;
    if name.is_null() {
        return String::new();
    }
    // SAFETY: the kernel's string lies on our first stack as long as we run.
    unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned()
}

/// Whether programs that are executed lose a descriptor.
///
/// # Errors
/// There is none of this number.
pub fn set_close_on_exec(fd: i32, closes: bool) -> Done {
    let flags = if closes { libc::FD_CLOEXEC as u64 } else { 0 };
    call(libc::SYS_fcntl, [fd as u64, libc::F_SETFD as u64, flags, 0, 0, 0])
}

/// The time here and now.
pub fn local_time() -> libc::tm {
    // SAFETY: the call only writes where it is told to, which is nowhere.
    let now = unsafe { libc::time(std::ptr::null_mut()) };
    // SAFETY: numbers and a pointer that nobody follows: zeroes are values.
    let mut time: libc::tm = unsafe { std::mem::zeroed() };
    // SAFETY: both live through the call.
    unsafe { libc::localtime_r(&raw const now, &raw mut time) };
    time
}

/// This thread's number.
pub fn gettid() -> u32 {
    // SAFETY: the call cannot fail and touches no memory.
    unsafe { libc::syscall(libc::SYS_gettid) as u32 }
}

/// This process's number.
pub fn getpid() -> u32 {
    // SAFETY: the call cannot fail and touches no memory.
    unsafe { libc::syscall(libc::SYS_getpid) as u32 }
}

/// Ends the process.
pub fn exit_group(code: i32) -> ! {
    loop {
        // SAFETY: the call does not return.
        unsafe { libc::syscall(libc::SYS_exit_group, code) };
    }
}

/// A set of signals as the kernel has it: signal n is bit n−1.
pub type SignalSet = u64;

/// Replaces the signals that this thread holds back: those before.
pub fn set_signal_mask(set: SignalSet) -> SignalSet {
    let mut old: SignalSet = 0;
    let (new, len) = (&raw const set, size_of::<SignalSet>());
    // SAFETY: both sets are valid for eight bytes, and the operation cannot fail.
    unsafe { libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, new, &raw mut old, len) };
    old
}
