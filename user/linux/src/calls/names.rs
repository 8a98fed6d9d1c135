//! Names of files: what is looked up below the prefix (`-L`) first, and the files in `/proc` that
//! show the program's world instead of ours.

use crate::errno::{Done, Errno};
use crate::proc_files::{self, Shown};
use crate::sys;
use crate::thread::Thread;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;

/// Where a name leads.
pub enum Place {
    /// To a file of the host of this name.
    Host(CString),
    /// To a file that we make up.
    Shown(Shown),
}

/// Where a name of the program leads.
pub fn place(thread: &Thread, path: Vec<u8>) -> Result<Place, Errno> {
    if path.starts_with(b"/proc/")
        && let Some(shown) = proc_files::shown(thread, &path)
    {
        return Ok(Place::Shown(shown));
    }
    let path = with_prefix(thread, &path).unwrap_or(path);
    CString::new(path).map(Place::Host).map_err(|_| Errno::EINVAL)
}

/// The name below the prefix, if something is there.
pub fn with_prefix(thread: &Thread, path: &[u8]) -> Option<Vec<u8>> {
    let prefix = thread.process.options.prefix.as_ref()?.as_bytes();
    below(prefix, path)
}

/// The name below `prefix`, if something is there.
pub fn below(prefix: &[u8], path: &[u8]) -> Option<Vec<u8>> {
    if !path.starts_with(b"/") || path == b"/" || prefix.is_empty() {
        return None;
    }
    let whole = [prefix, path].concat();
    let name = CString::new(whole).ok()?;
    let follow_not = libc::AT_SYMLINK_NOFOLLOW;
    let at = libc::AT_FDCWD;
    let args = [at as u64, name.as_ptr() as u64, 0, follow_not as u64, 0, 0];
    sys::call(libc::SYS_faccessat2, args).ok()?;
    Some(name.into_bytes())
}

/// Makes a call whose path leads somewhere else than it says; `None` if none does.
pub fn redirected(thread: &mut Thread, number: i64, shape: &str, args: &[u64; 6]) -> Option<Done> {
    let n = shape.bytes().position(|kind| kind == b'n')?;
    if args[n] == 0 {
        return None;
    }
    let path = match thread.process.space.read_path(args[n]) {
        Ok(path) => path,
        Err(error) => return Some(Err(error)),
    };
    let wanted = thread.process.options.prefix.is_some() || path.starts_with(b"/proc/");
    if !wanted || path.is_empty() {
        return None;
    }
    let name = match place(thread, path.clone()) {
        Ok(Place::Host(name)) => name,
        Ok(Place::Shown(Shown::Link(name))) => CString::new(name).ok()?,
        // Whether it is there, and its rights, are the same on the host.
        Ok(Place::Shown(Shown::File(_))) => return None,
        Err(error) => return Some(Err(error)),
    };
    if name.as_bytes() == path {
        return None;
    }
    let mut host = match super::host_args(thread, shape, args) {
        Ok(host) => host,
        Err(error) => return Some(Err(error)),
    };
    host[n] = name.as_ptr() as u64;
    Some(thread.host(number, host))
}
