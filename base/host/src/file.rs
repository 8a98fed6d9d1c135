//! Byte-range locks that belong to an open file description (`F_OFD_SETLK`, fcntl_locking(2)).
//!
//! Unlike POSIX locks they are not lost when some other descriptor of the file is closed, and two
//! openings in one process exclude each other as two processes do.
#![expect(unsafe_code, reason = "fcntl with a struct flock has no safe wrapper")]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;

/// Takes a read lock on `len` bytes from `start` on; fails at once if someone holds a write lock.
///
/// # Errors
/// `WouldBlock` when locked; `InvalidInput` where the file system has no such locks.
pub fn lock_shared(file: &File, start: u64, len: u64) -> io::Result<()> {
    set(file, libc::F_RDLCK, start, len)
}

/// Takes a write lock on the whole file; fails at once if someone holds any lock.
///
/// # Errors
/// As [`lock_shared`].
pub fn lock_exclusive(file: &File) -> io::Result<()> {
    set(file, libc::F_WRLCK, 0, 0)
}

/// Gives up the lock on `len` bytes from `start` on.
///
/// # Errors
/// As the host reports.
pub fn unlock(file: &File, start: u64, len: u64) -> io::Result<()> {
    set(file, libc::F_UNLCK, start, len)
}

/// Puts what `other` has open behind the descriptor of `file`, in one step for all threads.
///
/// # Errors
/// As the host reports; then nothing has changed.
pub fn replace(file: &File, other: &File) -> io::Result<()> {
    // SAFETY: both descriptors are open for the borrows; dup3 closes what `file` had open and gives
    // its number, which `file` goes on owning, to the other description, without a moment between.
    let done = unsafe { libc::dup3(other.as_raw_fd(), file.as_raw_fd(), libc::O_CLOEXEC) };
    if done == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Whether another opening of the file holds any lock inside the range.
///
/// # Errors
/// As the host reports.
pub fn is_locked_by_others(file: &File, start: u64, len: u64) -> io::Result<bool> {
    let mut lock = range(libc::F_WRLCK, start, len)?;
    // SAFETY: the descriptor is open for the borrow of `file`; `lock` is a valid struct flock that
    // the kernel reads and writes during the call only.
    let result = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_GETLK, &mut lock) };
    if result == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(i32::from(lock.l_type) != libc::F_UNLCK)
}

/// Names a process that holds such a lock inside the range, as `name (pid N)`, if /proc tells.
pub fn lock_holder(file: &File, start: u64, len: u64) -> Option<String> {
    let metadata = file.metadata().ok()?;
    let (major, minor) = (libc::major(metadata.dev()), libc::minor(metadata.dev()));
    let inode = format!("{major:02x}:{minor:02x}:{}", metadata.ino());
    for process in std::fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|n| n.parse::<u32>().ok()) else {
            continue;
        };
        if pid == std::process::id() && !has_other_opening(file, &inode, start, len) {
            continue;
        }
        let Ok(descriptors) = std::fs::read_dir(process.path().join("fdinfo")) else { continue };
        let holds = descriptors.flatten().any(|d| {
            std::fs::read_to_string(d.path()).is_ok_and(|text| locks(&text, &inode, start, len))
        });
        if holds {
            let name = std::fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            return Some(format!("{} (pid {pid})", name.trim_end()));
        }
    }
    None
}

/// Whether this process holds such a lock through another descriptor than `file`'s.
fn has_other_opening(file: &File, inode: &str, start: u64, len: u64) -> bool {
    let own = file.as_raw_fd().to_string();
    std::fs::read_dir("/proc/self/fdinfo").is_ok_and(|mut descriptors| {
        descriptors.any(|d| {
            d.is_ok_and(|d| {
                d.file_name().to_str() != Some(own.as_str())
                    && std::fs::read_to_string(d.path())
                        .is_ok_and(|text| locks(&text, inode, start, len))
            })
        })
    })
}

/// Whether a /proc/PID/fdinfo text lists a lock of `inode` that meets the range. A line reads
/// `lock: 1: OFDLCK ADVISORY READ -1 fe:00:1234 100 101`.
fn locks(fdinfo: &str, inode: &str, start: u64, len: u64) -> bool {
    fdinfo.lines().filter(|l| l.starts_with("lock:")).any(|line| {
        let mut words = line.split_ascii_whitespace().rev();
        let (last, first, file) = (words.next(), words.next(), words.next());
        let last = match last {
            Some("EOF") => Some(u64::MAX),
            other => other.and_then(|n| n.parse().ok()),
        };
        let first: Option<u64> = first.and_then(|n| n.parse().ok());
        file == Some(inode)
            && first.is_some_and(|f| f < start.saturating_add(len))
            && last.is_some_and(|l| l >= start)
    })
}

fn set(file: &File, kind: i32, start: u64, len: u64) -> io::Result<()> {
    let lock = range(kind, start, len)?;
    // SAFETY: the descriptor is open for the borrow of `file`; `lock` is a valid struct flock that
    // the kernel only reads.
    let result = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &lock) };
    if result == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn range(kind: i32, start: u64, len: u64) -> io::Result<libc::flock> {
    let bad = |_| io::Error::from(io::ErrorKind::InvalidInput);
    Ok(libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: start.try_into().map_err(bad)?,
        l_len: len.try_into().map_err(bad)?,
        l_pid: 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_openings_of_one_process_see_each_other() {
        let path = std::env::temp_dir().join(format!("host-lock-{}", std::process::id()));
        let mut options = std::fs::OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(true);
        let first = options.open(&path).unwrap();
        let second = File::open(&path).unwrap();
        lock_shared(&first, 100, 2).unwrap();
        assert!(is_locked_by_others(&second, 101, 1).unwrap());
        assert!(!is_locked_by_others(&first, 101, 1).unwrap());
        assert!(!is_locked_by_others(&second, 102, 1).unwrap());
        let holder = lock_holder(&second, 100, 1).unwrap();
        assert!(holder.contains(&format!("(pid {})", std::process::id())), "{holder}");
        unlock(&first, 100, 2).unwrap();
        assert!(!is_locked_by_others(&second, 100, 2).unwrap());
        std::fs::remove_file(&path).unwrap();
    }
}
