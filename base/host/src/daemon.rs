//! Going to the background: the process that was started ends when the one behind it says so.
//!
//! Source: fork(2), setsid(2), daemon(7).
#![expect(unsafe_code, reason = "fork has no safe wrapper")]

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, FromRawFd};
use std::process::ExitCode;

/// Which process this is after [`split`].
pub enum Side {
    /// The one that was started. It ends with this code.
    Front(ExitCode),
    /// The one in the background.
    Back(Waiting),
}

/// The process in the background, while somebody still waits for it. Its end before [`Waiting::release`] says
/// that it failed. Dropping this says nothing: what it has to say of its failure must be written before.
#[derive(Debug)]
pub struct Waiting(ManuallyDrop<File>);

/// Makes a process without a terminal. The one that was started waits here for what it says.
///
/// # Errors
/// The host gives no process, or this one has more than one thread: they would not be in the other.
pub fn split() -> io::Result<Side> {
    if std::fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(io::Error::other("there are other threads"));
    }
    let mut ends = [-1; 2];
    // SAFETY: the array has room for two descriptors.
    if unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so these descriptors are new and ours.
    let [mut reader, writer] = ends.map(|fd| unsafe { File::from_raw_fd(fd) });
    // SAFETY: there is one thread, so the child has all there is.
    match unsafe { libc::fork() } {
        -1 => return Err(io::Error::last_os_error()),
        0 => {}
        _ => {
            drop(writer);
            let mut said = [0];
            let done = reader.read_exact(&mut said).is_ok();
            return Ok(Side::Front(if done { ExitCode::SUCCESS } else { ExitCode::FAILURE }));
        }
    }
    drop(reader);
    // A child leads no group, so this succeeds.
    // SAFETY: the call has no arguments and changes nothing in memory.
    unsafe { libc::setsid() };
    // Who leads a session can get a terminal again by opening one; its child cannot.
    // SAFETY: there is one thread, so the child has all there is.
    match unsafe { libc::fork() } {
        0 | -1 => Ok(Side::Back(Waiting(ManuallyDrop::new(writer)))),
        // SAFETY: _exit does not return, and nothing here needs to be cleaned up.
        _ => unsafe { libc::_exit(0) },
    }
}

impl Waiting {
    /// Says that all is well: the standard streams are nowhere and the folder is the root from now
    /// on, and the process that was started ends.
    ///
    /// # Errors
    /// The host has no `/dev/null` or no root folder.
    pub fn release(self) -> io::Result<()> {
        std::env::set_current_dir("/")?;
        let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
        for stream in [libc::STDIN_FILENO, libc::STDOUT_FILENO, libc::STDERR_FILENO] {
            // SAFETY: the standard streams belong to the process; what owns them goes on to.
            if unsafe { libc::dup2(null.as_raw_fd(), stream) } == -1 {
                return Err(io::Error::last_os_error());
            }
        }
        ManuallyDrop::into_inner(self.0).write_all(&[0])
    }
}
