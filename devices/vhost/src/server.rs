//! The socket on which front ends are waited for, and the thread that serves them.

use crate::link::{Link, Received};
use crate::session::{Session, Violation};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use virtio::VirtioDevice;

/// Makes the device anew for each front end.
pub type MakeDevice = Box<dyn Fn() -> Box<dyn VirtioDevice> + Send + Sync>;

/// Messages of one front end before its queues get their turn.
const IN_A_ROW: u32 = 16;

/// Lends a device to front ends, one after the other. Dropping it ends that.
pub struct Server {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    listener: UnixListener,
    /// Readable when the thread is to look at the two below.
    bell: OwnedFd,
    stopped: AtomicBool,
    /// The configuration space changed.
    changed: AtomicBool,
    device: MakeDevice,
    complain: Box<dyn Fn(&str) + Send + Sync>,
}

/// Why a session ended.
enum End {
    /// All is to end.
    Stopped,
    /// The front end left.
    Left,
}

impl Server {
    /// Serves whoever comes to `listener`; `complain` hears of front ends that break the protocol.
    ///
    /// # Errors
    /// The host has no more descriptors or threads.
    pub fn start(
        listener: UnixListener,
        device: MakeDevice,
        complain: Box<dyn Fn(&str) + Send + Sync>,
    ) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let (stopped, changed) = (AtomicBool::new(false), AtomicBool::new(false));
        let shared = Arc::new(Shared { listener, bell, stopped, changed, device, complain });
        let served = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("vhost-user".to_owned());
        let thread = thread.spawn(move || served.listen())?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// A way to tell the front end that the configuration space changed.
    pub fn teller(&self) -> Teller {
        Teller(Arc::downgrade(&self.shared))
    }

    /// Sends the front end away, when its last requests are done, and waits for no other.
    pub fn close(&mut self) {
        self.shared.ring(&self.shared.stopped);
        if let Some(thread) = self.thread.take() {
            // A thread that panicked said so itself.
            let _ = thread.join();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.close();
    }
}

/// Tells a server's front end that the configuration space changed.
pub struct Teller(Weak<Shared>);

impl Teller {
    /// Does it, soon and on another thread.
    pub fn config_changed(&self) {
        if let Some(shared) = self.0.upgrade() {
            shared.ring(&shared.changed);
        }
    }
}

/// Waits until one of these can be read: which.
fn wait(fds: &[BorrowedFd<'_>]) -> io::Result<Vec<bool>> {
    let mut polled: Vec<PollFd<'_>> =
        fds.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
    loop {
        match poll(&mut polled, None) {
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
            Ok(_) => return Ok(polled.iter().map(|p| !p.revents().is_empty()).collect()),
        }
    }
}

impl Shared {
    fn ring(&self, what: &AtomicBool) {
        what.store(true, Ordering::SeqCst);
        // A counter that is full has been heard.
        let _ = rustix::io::write(&self.bell, &1u64.to_ne_bytes());
    }

    /// Whether all is to end, after the bell was rung.
    fn is_stopped(&self) -> bool {
        let _ = rustix::io::read(&self.bell, &mut [0; 8]);
        self.stopped.load(Ordering::SeqCst)
    }

    fn listen(&self) {
        while let Ok(ready) = wait(&[self.bell.as_fd(), self.listener.as_fd()]) {
            if ready[0] && self.is_stopped() {
                return;
            }
            // One who is gone again is no reason to end.
            let Ok((stream, _)) = self.listener.accept() else { continue };
            let mut session = Session::new((self.device)());
            let end = self.serve(&mut session, Link::new(stream));
            session.end();
            match end {
                Ok(End::Left) => {}
                Ok(End::Stopped) => return,
                Err(violation) => (self.complain)(&violation.0),
            }
        }
    }

    fn serve(&self, session: &mut Session, mut link: Link) -> Result<End, Violation> {
        loop {
            let (queues, mut fds): (Vec<usize>, Vec<BorrowedFd<'_>>) = session.kicks().unzip();
            fds.extend([link.as_fd(), self.bell.as_fd()]);
            let failed = |error: io::Error| Violation(format!("cannot wait: {error}"));
            let ready = wait(&fds).map_err(failed)?;
            if ready[queues.len() + 1] {
                if self.is_stopped() {
                    return Ok(End::Stopped);
                }
                if self.changed.swap(false, Ordering::SeqCst) {
                    session.port().with(|v| v.core.config_changed());
                }
            }
            let kicked = queues.iter().zip(&ready).filter(|(_, ready)| **ready);
            kicked.for_each(|(queue, _)| session.kicked(*queue));
            if ready[queues.len()] && !self.receive(session, &mut link)? {
                return Ok(End::Left);
            }
            if let Some(failure) = session.failure() {
                return Err(failure);
            }
        }
    }

    /// Serves what has come; whether the front end is still there.
    fn receive(&self, session: &mut Session, link: &mut Link) -> Result<bool, Violation> {
        for _ in 0..IN_A_ROW {
            let message = match link.receive().map_err(Violation)? {
                Received::Message(message) => message,
                Received::Nothing => return Ok(true),
                Received::Gone => return Ok(false),
            };
            let request = message.header.request;
            if let Some(answer) = session.message(message)?
                && link.answer(request, &answer.payload, answer.fd.as_ref()).is_err()
            {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
