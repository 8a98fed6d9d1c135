//! Image locking as QEMU does it, so that either refuses what the other has in use.
//!
//! Observed with QEMU 10.0 in /proc/locks: an opening holds a shared OFD lock on byte 100 + n for
//! each permission n it uses, and on byte 200 + n for each one it does not let others use. It may
//! open if nobody else holds byte 200 + n of its permissions, nor byte 100 + n of those it refuses.
//! Permissions: 0 consistent read, 1 write, 2 write unchanged, 3 resize.

use std::fs::File;
use std::io;
use std::time::Duration;

use graph::{OpenError, Permissions};

const USED: u64 = 100;
const REFUSED: u64 = 200;

/// How often and how long to wait for a lock that may be gone in a moment.
const GRACE_TRIES: u32 = 5;
/// The same for a lock that no process holds that could be found.
const ORPHAN_TRIES: u32 = 200;
const GRACE: Duration = Duration::from_millis(10);

/// Permission numbers with their names in messages.
const PERMISSIONS: &[(u32, &str)] =
    &[(0, "consistent read"), (1, "write"), (2, "write unchanged"), (3, "resize")];

const READ: u32 = 1 << 0;
const WRITE: u32 = 1 << 1;
const RESIZE: u32 = 1 << 3;

/// What an opening does with a file and lets others do; bit n is permission n.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    used: u32,
    refused: u32,
}

impl Access {
    /// Nothing is done yet, and others may do anything.
    pub const NONE: Self = Self { used: 0, refused: 0 };
    /// A device or tool that reads a plain file.
    pub const RAW_READ: Self = Self { used: READ, refused: WRITE };
    /// A device that reads and writes a plain file of fixed length.
    pub const RAW_WRITE: Self = Self { used: READ | WRITE, refused: WRITE };
    /// A format that reads an image, or an overlay that reads its backing file.
    pub const FORMAT_READ: Self = Self { used: READ, refused: WRITE | RESIZE };
    /// A format that writes and grows an image.
    pub const FORMAT_WRITE: Self = Self { used: READ | WRITE | RESIZE, refused: WRITE | RESIZE };
    /// Nothing is refused to others (`share-rw=on`, `-U`).
    pub const fn sharing(self) -> Self {
        Self { used: self.used, refused: 0 }
    }
    /// What users of a node do and allow.
    pub const fn of(users: Permissions) -> Self {
        let all = graph::Access::ALL;
        Self { used: users.taken.bits(), refused: all.without(users.shared).bits() }
    }
    /// Whether others may change the length.
    pub(crate) const fn lets_resize(self) -> bool {
        self.refused & RESIZE == 0
    }
    /// The same without writing.
    pub const fn read_only(self) -> Self {
        Self { used: self.used & READ, refused: self.refused }
    }
}

/// Takes the locks that `to` needs and `from` does not have, then gives up those that only `from`
/// needed. Locks last as long as the open file description. On failure they are as before.
pub(crate) fn change(file: &File, path: &str, from: Access, to: Access) -> Result<(), OpenError> {
    let (used, refused) = (to.used & !from.used, to.refused & !from.refused);
    let taken = take(file, path, used, refused);
    let (used, refused) = match &taken {
        Ok(()) => (from.used & !to.used, from.refused & !to.refused),
        Err(_) => (used, refused),
    };
    for (mask, first) in [(used, USED), (refused, REFUSED)] {
        for (bit, _) in bits(mask) {
            // A lock that is kept too long only refuses others what they could have.
            let _ = host::file::unlock(file, first + bit, 1);
        }
    }
    taken
}

fn take(file: &File, path: &str, used: u32, refused: u32) -> Result<(), OpenError> {
    for (bit, _) in bits(used) {
        lock(file, path, USED + bit)?;
    }
    for (bit, _) in bits(refused) {
        lock(file, path, REFUSED + bit)?;
    }
    for (bit, permission) in bits(used) {
        check(file, path, REFUSED + bit, permission, false)?;
    }
    for (bit, permission) in bits(refused) {
        check(file, path, USED + bit, permission, true)?;
    }
    Ok(())
}

fn bits(mask: u32) -> impl Iterator<Item = (u64, &'static str)> {
    let set = PERMISSIONS.iter().filter(move |(n, _)| mask & (1 << n) != 0);
    set.map(|(n, name)| (u64::from(*n), *name))
}

fn lock(file: &File, path: &str, byte: u64) -> Result<(), OpenError> {
    match host::file::lock_shared(file, byte, 1) {
        Ok(()) => Ok(()),
        Err(e) if not_available(&e) => Ok(()),
        Err(e) => Err(OpenError::Host {
            operation: format!("{path}: Failed to lock byte {byte}"),
            source: e,
        }),
    }
}

fn check(
    file: &File,
    path: &str,
    byte: u64,
    permission: &'static str,
    shared: bool,
) -> Result<(), OpenError> {
    match lock_of_others(file, byte) {
        Ok(None) => Ok(()),
        Ok(Some(holder)) => {
            Err(OpenError::Locked { path: path.to_owned(), permission, shared, holder })
        }
        Err(e) if not_available(&e) => Ok(()),
        Err(e) => Err(OpenError::Host {
            operation: format!("{path}: Failed to check byte {byte}"),
            source: e,
        }),
    }
}

/// Whether somebody else holds a lock on the byte, and who, if that can be told.
///
/// Locks that are held for a moment only do not count: a child of any thread between fork and exec shares
/// descriptors that its parent has closed already, and the kernel ends the requests in flight of a process that
/// was killed, with the locks of their files, some time after the process is gone.
fn lock_of_others(file: &File, byte: u64) -> io::Result<Option<Option<String>>> {
    if is_free_soon(file, byte, GRACE_TRIES)? {
        return Ok(None);
    }
    match host::file::lock_holder(file, byte, 1) {
        None if is_free_soon(file, byte, ORPHAN_TRIES)? => Ok(None),
        holder => Ok(Some(holder)),
    }
}

fn is_free_soon(file: &File, byte: u64, tries: u32) -> io::Result<bool> {
    for _ in 0..tries {
        if !host::file::is_locked_by_others(file, byte, 1)? {
            return Ok(true);
        }
        std::thread::sleep(GRACE);
    }
    Ok(!host::file::is_locked_by_others(file, byte, 1)?)
}

/// Some network file systems have no locks; the image is then opened without, as QEMU does.
fn not_available(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let errno = error.raw_os_error();
    [Errno::INVAL, Errno::NOLCK, Errno::OPNOTSUPP, Errno::NOSYS]
        .iter()
        .any(|e| errno == Some(e.raw_os_error()))
}
