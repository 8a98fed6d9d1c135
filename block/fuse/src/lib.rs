//! A node as a file: mounted over a regular file of the host, through the kernel's FUSE.
//!
//! The mount is made by this process itself, which needs the right to (CAP_SYS_ADMIN); the set-user-id
//! helper `fusermount3` is not used. Requests are read by several threads from one descriptor.

mod file;
mod wire;

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use graph::{Node, OpenError};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

pub use file::{File, Rules};

/// Threads that serve one file.
const THREADS: usize = 4;

/// Who else may use the file (`allow-other`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AllowOther {
    /// Nobody but the user of this process.
    Off,
    /// Everybody, as far as the file's mode lets them.
    On,
    /// Everybody if the system allows it.
    #[default]
    Auto,
}

impl AllowOther {
    /// Every mode by its name.
    pub const TABLE: &[(&str, Self)] =
        &[("off", Self::Off), ("on", Self::On), ("auto", Self::Auto)];
}

/// How a node is exported.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The regular file over which the node is mounted.
    pub mountpoint: String,
    /// What others may do.
    pub rules: Rules,
    /// Who they are.
    pub allow_other: AllowOther,
}

/// A node that is mounted; dropping it unmounts.
pub struct Mounted {
    file: Arc<File>,
    mountpoint: PathBuf,
    /// The other end of what the threads wait for.
    stop: Mutex<Option<OwnedFd>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Mounted {
    /// Mounts `node`.
    ///
    /// # Errors
    /// `Option` with QEMU's text for a mount point that cannot be; the host's if it does not let us.
    pub fn new(node: Arc<dyn Node>, options: &Options) -> Result<Self, OpenError> {
        let name = &options.mountpoint;
        let place = std::fs::metadata(name).map_err(|e| {
            let why = graph::host_text(&e);
            OpenError::Option(format!("Failed to stat '{name}': {why}"))
        })?;
        if !place.is_file() {
            return Err(OpenError::Option(format!("'{name}' is not a regular file")));
        }
        let mountpoint = Path::new(name).canonicalize().map_err(|e| OpenError::host(name, e))?;
        let failed = |e: io::Error| OpenError::Host {
            operation: "Failed to mount FUSE session to export".to_owned(),
            source: e,
        };
        let device = std::fs::OpenOptions::new().read(true).write(true).open("/dev/fuse");
        let device = device.map_err(failed)?;
        rustix::fs::fcntl_setfl(&device, rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NONBLOCK)
            .map_err(|e| failed(e.into()))?;
        let owner = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
        attach(&device, &mountpoint, owner, options.allow_other).map_err(failed)?;
        let file = Arc::new(File::new(node, options.rules, owner));
        let (waiting, stop) = rustix::pipe::pipe().map_err(|e| failed(e.into()))?;
        let mounted =
            Self { file, mountpoint, stop: Mutex::new(Some(stop)), threads: Mutex::default() };
        let (device, waiting) = (Arc::new(device), Arc::new(waiting));
        for _ in 0..THREADS {
            let (file, device) = (Arc::clone(&mounted.file), Arc::clone(&device));
            let waiting = Arc::clone(&waiting);
            let thread = std::thread::Builder::new().name("fuse".to_owned());
            let thread = thread.spawn(move || serve(&file, &device, &waiting)).map_err(failed)?;
            mounted.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
        }
        Ok(mounted)
    }

    /// Where the node is mounted.
    pub fn mountpoint(&self) -> &Path {
        &self.mountpoint
    }

    /// Whether somebody has it open.
    pub fn is_used(&self) -> bool {
        self.file.opened() > 0
    }

    /// Ends it: requests that came are answered, those who have the file open are left without.
    pub fn close(&self) {
        let Some(stop) = self.stop.lock().unwrap_or_else(PoisonError::into_inner).take() else {
            return;
        };
        // While the threads serve: unmounting may ask for something.
        let _ = unmount(&self.mountpoint, UnmountFlags::DETACH);
        drop(stop);
        let threads =
            std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            // A thread that panicked said so itself.
            let _ = thread.join();
        }
        // Nobody is left to tell.
        let _ = self.file.flush();
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        self.close();
    }
}

/// Mounts the file system that `device` serves.
fn attach(
    device: &std::fs::File,
    mountpoint: &Path,
    (uid, gid): (u32, u32),
    allow_other: AllowOther,
) -> io::Result<()> {
    let options = |others: bool| {
        let others = if others { ",allow_other" } else { "" };
        let fd = device.as_raw_fd();
        format!(
            "fd={fd},rootmode=100000,user_id={uid},group_id={gid},default_permissions{others},\
             max_read={}\0",
            file::MOST
        )
    };
    let attempt = |others| {
        let data = options(others);
        let data = std::ffi::CStr::from_bytes_with_nul(data.as_bytes());
        let data = data.map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        mount("/dev/fuse", mountpoint, "fuse", flags, data).map_err(io::Error::from)
    };
    match allow_other {
        AllowOther::Off => attempt(false),
        AllowOther::On => attempt(true),
        AllowOther::Auto => attempt(true).or_else(|_| attempt(false)),
    }
}

/// Serves requests until the file is unmounted or the other end of `waiting` is closed.
fn serve(file: &File, device: &std::fs::File, waiting: &OwnedFd) {
    let mut buf = vec![0; file::MESSAGE];
    loop {
        let mut ready = [
            PollFd::from_borrowed_fd(device.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(waiting.as_fd(), PollFlags::IN),
        ];
        match poll(&mut ready, None) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(_) => return,
        }
        if !ready[1].revents().is_empty() {
            return;
        }
        let mut device = device;
        match device.read(&mut buf) {
            Ok(len) => {
                if let Some(message) = file.serve(&buf[..len]) {
                    // The kernel may have given up the request.
                    let _ = device.write(&message);
                }
            }
            Err(e)
                if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            // A request that was withdrawn before it was read.
            Err(e) if e.raw_os_error() == Some(2) => {}
            Err(_) => return,
        }
    }
}
