//! Where input comes from: descriptors that just are there, and pseudo-terminals.

use crate::channel::{Channel, Output};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a read gave.
pub(crate) enum Input {
    /// So many bytes.
    Data(usize),
    /// So many bytes, and a break.
    Break(usize),
    /// Nothing: it was no data, or there is none.
    Nothing,
}

/// The input side of a back end, driven by the I/O thread.
pub(crate) trait Source: Send {
    /// The descriptor to poll for input now.
    fn descriptor(&self) -> Option<BorrowedFd<'_>>;
    /// Whether to poll it even while the front end takes no input (new clients).
    fn always(&self) -> bool {
        false
    }
    /// Reads what is there; the descriptor was found readable.
    fn read(&mut self, channel: &Channel, buffer: &mut [u8]) -> Input;
    /// When [`tick`](Self::tick) is due.
    fn due(&self) -> Option<Instant> {
        None
    }
    /// Does what is due.
    fn tick(&mut self, _channel: &Channel) {}
}

/// No input ever.
pub(crate) struct Silent;

impl Source for Silent {
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn read(&mut self, _: &Channel, _: &mut [u8]) -> Input {
        Input::Nothing
    }
}

/// A descriptor that is there from start to end: standard input, a file, a pipe.
pub(crate) struct Plain {
    fd: Option<OwnedFd>,
    /// Restores the terminal when the back end goes.
    _terminal: Option<host::terminal::RawTerminal>,
}

impl Plain {
    pub fn new(fd: OwnedFd, terminal: Option<host::terminal::RawTerminal>) -> Self {
        Self { fd: Some(fd), _terminal: terminal }
    }
}

impl Source for Plain {
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.fd.as_ref().map(AsFd::as_fd)
    }

    fn read(&mut self, channel: &Channel, buffer: &mut [u8]) -> Input {
        let Some(fd) = &self.fd else { return Input::Nothing };
        match rustix::io::read(fd, buffer) {
            Ok(0) => {}
            Ok(count) => return Input::Data(count),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return Input::Nothing,
            Err(_) => {}
        }
        self.fd = None;
        channel.set_open(false, None);
        Input::Nothing
    }
}

/// A datagram socket: an empty datagram or an unreachable other side is no end.
pub(crate) struct Datagrams(pub Arc<OwnedFd>);

impl Source for Datagrams {
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.0.as_fd())
    }

    fn read(&mut self, _: &Channel, buffer: &mut [u8]) -> Input {
        match rustix::io::read(&*self.0, buffer) {
            Ok(count) if count > 0 => Input::Data(count),
            _ => Input::Nothing,
        }
    }
}

/// How often a pseudo-terminal without user is looked at.
const PTY_INTERVAL: Duration = Duration::from_millis(250);

/// The master of a pseudo-terminal.
pub(crate) struct Pty {
    master: Arc<OwnedFd>,
    /// When to look for a user; `None` while there is one.
    look_at: Option<Instant>,
    /// Link to remove at the end.
    link: Option<String>,
}

impl Pty {
    pub fn new(master: Arc<OwnedFd>, link: Option<String>) -> Self {
        Self { master, look_at: Some(Instant::now()), link }
    }
}

impl Drop for Pty {
    fn drop(&mut self) {
        if let Some(link) = &self.link {
            let _ = std::fs::remove_file(link);
        }
    }
}

impl Source for Pty {
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.look_at.is_none().then(|| self.master.as_fd())
    }

    fn read(&mut self, channel: &Channel, buffer: &mut [u8]) -> Input {
        match rustix::io::read(&*self.master, buffer) {
            Ok(count) if count > 0 => return Input::Data(count),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return Input::Nothing,
            _ => {}
        }
        self.look_at = Some(Instant::now() + PTY_INTERVAL);
        channel.set_open(false, Some(Output::Nowhere));
        Input::Nothing
    }

    fn due(&self) -> Option<Instant> {
        self.look_at
    }

    fn tick(&mut self, channel: &Channel) {
        let mut fds = [PollFd::from_borrowed_fd(self.master.as_fd(), PollFlags::OUT)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let used = poll(&mut fds, Some(&now)).is_ok() && !fds[0].revents().contains(PollFlags::HUP);
        if used {
            self.look_at = None;
            channel.set_open(true, Some(Output::Descriptor(Arc::clone(&self.master))));
        } else {
            self.look_at = Some(Instant::now() + PTY_INTERVAL);
        }
    }
}
