//! Error numbers of Linux, and what a system call comes back with.
#![expect(unsafe_code, reason = "the C library's texts of errors")]

use std::ffi::CStr;
use std::fmt;

/// An error number of the host's kernel.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Errno(pub i32);

macro_rules! numbers {
    ($($name:ident = $text:literal),* $(,)?) => {
        impl Errno {
            $(#[doc = $text]
            pub const $name: Self = Self(libc::$name);)*
        }
    };
}

numbers! {
    EPERM = "Operation not permitted",
    ENOENT = "No such file or directory",
    ESRCH = "No such process",
    ECHILD = "No child processes",
    EIO = "Input/output error",
    EINTR = "Interrupted system call",
    E2BIG = "Argument list too long",
    ENOEXEC = "Exec format error",
    EBADF = "Bad file descriptor",
    EAGAIN = "Resource temporarily unavailable",
    ENOMEM = "Cannot allocate memory",
    EACCES = "Permission denied",
    EFAULT = "Bad address",
    EBUSY = "Device or resource busy",
    EEXIST = "File exists",
    EINVAL = "Invalid argument",
    ENOTTY = "Inappropriate ioctl for device",
    ENAMETOOLONG = "File name too long",
    ENOSYS = "Function not implemented",
    ELOOP = "Too many levels of symbolic links",
    ENOTSUP = "Operation not supported",
    EOVERFLOW = "Value too large for defined data type",
}

impl Errno {
    /// A signal came before the call did anything: it is to be made again after the handler.
    pub const RESTART: Self = Self(512);
    /// The registers are as the call left them: there is no result.
    pub const UNCHANGED: Self = Self(513);

    /// The error that the C library noted.
    pub fn last() -> Self {
        Self(std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO))
    }

    /// From an error of the standard library.
    pub fn of(error: &std::io::Error) -> Self {
        Self(error.raw_os_error().unwrap_or(libc::EIO))
    }

    /// What a call returned in its register.
    pub fn check(value: i64) -> Done {
        match value {
            -4095..=-1 => Err(Self(-(value as i32))),
            _ => Ok(value.cast_unsigned()),
        }
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&strerror(self.0))
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Errno({}: {self})", self.0)
    }
}

fn strerror(number: i32) -> String {
    // SAFETY: the text is the C library's and stays until the thread asks for the next.
    let text = unsafe { libc::strerror(number) };
    // SAFETY: as above; it ends with a zero.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

/// What a system call comes back with: a value, or an error number.
pub type Done = Result<u64, Errno>;
