//! Requests and replies over the two pipes of an SFTP server.
//!
//! Callers on any number of threads send requests; one thread reads replies and wakes who waits.

use std::collections::HashMap;
use std::io::{self, BufReader, Read, Write};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::wire::{self, FSYNC, Packet, Reply, kind, status};

/// Who waits for which reply; nobody any more once the connection has ended.
type Waiting = Arc<Mutex<Option<HashMap<u32, Sender<Reply>>>>>;

/// A conversation with an SFTP server.
pub(crate) struct Session {
    to: Mutex<Box<dyn Write + Send>>,
    waiting: Waiting,
    next: AtomicU32,
    /// Files can be flushed.
    pub can_flush: bool,
}

/// A reply on its way.
pub(crate) struct Pending(Receiver<Reply>);

impl Session {
    /// Greets the server at the other end of two pipes.
    ///
    /// # Errors
    /// There is no SFTP server, or it is too old.
    pub fn over(
        from: impl Read + Send + 'static,
        mut to: impl Write + Send + 'static,
    ) -> io::Result<Self> {
        to.write_all(&Packet::new(kind::INIT).number(wire::VERSION).finish())?;
        to.flush()?;
        let mut from = BufReader::with_capacity(64 << 10, from);
        let (answer, body) = wire::read_packet(&mut from)?;
        if answer != kind::VERSION {
            return Err(wire::broken("the other side does not greet"));
        }
        let can_flush = wire::extensions(&body)?.iter().any(|name| name == FSYNC);
        let waiting: Waiting = Arc::new(Mutex::new(Some(HashMap::new())));
        let shared = Arc::clone(&waiting);
        std::thread::Builder::new().name("sftp-reader".to_owned()).spawn(move || {
            while read_reply(&mut from, &shared).is_ok() {}
            // Who waits is woken by the end of its channel.
            *lock(&shared) = None;
        })?;
        Ok(Self { to: Mutex::new(Box::new(to)), waiting, next: AtomicU32::new(0), can_flush })
    }

    /// Sends a request: what follows its identifier is `build`'s.
    pub fn send(&self, kind: u8, build: impl FnOnce(Packet) -> Packet) -> io::Result<Pending> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let packet = build(Packet::new(kind).number(id)).finish();
        let (done, reply) = channel();
        match &mut *lock(&self.waiting) {
            Some(waiting) => waiting.insert(id, done),
            None => return Err(io::ErrorKind::NotConnected.into()),
        };
        let mut to = lock(&self.to);
        to.write_all(&packet)?;
        to.flush()?;
        Ok(Pending(reply))
    }

    /// Sends a request and waits until it is done.
    pub fn call(&self, kind: u8, build: impl FnOnce(Packet) -> Packet) -> io::Result<Reply> {
        self.send(kind, build)?.wait()
    }
}

impl Pending {
    /// The reply, unless it is an error.
    pub fn wait(self) -> io::Result<Reply> {
        match self.0.recv() {
            Ok(Reply::Status(code, text)) if code > status::EOF => Err(error_of(code, &text)),
            Ok(reply) => Ok(reply),
            Err(_) => Err(io::Error::new(io::ErrorKind::NotConnected, "the connection has ended")),
        }
    }
}

fn read_reply(from: &mut impl Read, waiting: &Waiting) -> io::Result<()> {
    let (kind, body) = wire::read_packet(from)?;
    let (id, reply) = wire::parse(kind, body)?;
    let unknown = || wire::broken("a reply to a request that nobody made");
    let done = lock(waiting).as_mut().and_then(|w| w.remove(&id)).ok_or_else(unknown)?;
    // A caller that is gone does not want to know.
    let _ = done.send(reply);
    Ok(())
}

fn error_of(code: u32, text: &str) -> io::Error {
    match code {
        status::NO_SUCH_FILE => {
            io::Error::new(io::ErrorKind::NotFound, "No such file or directory")
        }
        status::PERMISSION_DENIED => {
            io::Error::new(io::ErrorKind::PermissionDenied, "Permission denied")
        }
        status::UNSUPPORTED => io::ErrorKind::Unsupported.into(),
        _ if text.is_empty() => io::Error::other("Input/output error"),
        _ => io::Error::other(text.chars().take(1000).collect::<String>()),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
