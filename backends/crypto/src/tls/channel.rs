//! A TLS connection that one thread reads while others write.
//!
//! The session is locked only while records are made or taken apart, never while the socket waits.
//! Records leave in the order they were made, because who makes them holds `sending` until they are
//! gone. What the session has to say while somebody reads (an answer to a change of keys) leaves with
//! the next write, as the protocol allows: a reader never waits for the other side to read.

use std::io::{self, Read, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustls::{CertificateError, Connection, Error};

use super::Credentials;
use super::verify;

/// Bytes asked of the socket at a time: a record and its header.
const RECEIVE: usize = (16 << 10) + 512;

/// What carries the records. Both calls may come at the same time, from different threads.
pub trait Socket: Send + Sync {
    /// Waits for bytes; 0 at the end.
    ///
    /// # Errors
    /// What the host reports.
    fn receive(&self, buf: &mut [u8]) -> io::Result<usize>;

    /// Sends all of `buf`.
    ///
    /// # Errors
    /// What the host reports.
    fn send(&self, buf: &[u8]) -> io::Result<()>;
}

/// A TLS connection.
pub struct Channel<S> {
    session: Mutex<Connection>,
    /// Records that are on their way out; empty between two calls.
    sending: Mutex<Vec<u8>>,
    receiving: Mutex<Received>,
    socket: S,
}

/// Bytes of the socket that the session has not taken.
struct Received {
    bytes: Box<[u8]>,
    from: usize,
    to: usize,
}

impl<S: Socket> Channel<S> {
    /// Shakes hands with a server, whose certificate must be for `hostname`.
    ///
    /// # Errors
    /// The certificate is not to be trusted, the server refuses, or the connection breaks.
    pub fn connect(socket: S, own: &Credentials, hostname: Option<&str>) -> io::Result<Self> {
        Self::shake(socket, own.client(hostname)?, hostname)
    }

    /// Shakes hands with a client.
    ///
    /// # Errors
    /// As for [`Channel::connect`].
    pub fn accept(socket: S, own: &Credentials) -> io::Result<Self> {
        Self::shake(socket, own.server()?, None)
    }

    fn shake(socket: S, session: Connection, hostname: Option<&str>) -> io::Result<Self> {
        let receiving = Received { bytes: vec![0; RECEIVE].into(), from: 0, to: 0 };
        let (sending, receiving) = (Mutex::default(), Mutex::new(receiving));
        let channel = Self { session: Mutex::new(session), sending, receiving, socket };
        loop {
            channel.send_records(&mut lock(&channel.sending))?;
            if !lock(&channel.session).is_handshaking() {
                return Ok(channel);
            }
            let mut receiving = lock(&channel.receiving);
            if receiving.fill(&channel.socket)? == 0 {
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "the other side hung up during the TLS handshake",
                ));
            }
            let fed = channel.feed(&mut receiving);
            if let Err(why) = fed {
                // The other side is told why, if it still listens.
                let _ = channel.send_records(&mut lock(&channel.sending));
                return Err(failure(&why, hostname));
            }
        }
    }

    /// Gives the session what was received.
    fn feed(&self, receiving: &mut Received) -> Result<(), Error> {
        let mut session = lock(&self.session);
        let mut bytes = &receiving.bytes[receiving.from..receiving.to];
        // Bytes in memory; the session refuses them only while it is full of what nobody read.
        let _ = session.read_tls(&mut bytes);
        receiving.from = receiving.to - bytes.len();
        session.process_new_packets().map(|_| ())
    }

    /// Sends the records that the session has made.
    fn send_records(&self, out: &mut Vec<u8>) -> io::Result<()> {
        out.clear();
        let mut session = lock(&self.session);
        while session.wants_write() {
            session.write_tls(out)?;
        }
        drop(session);
        if out.is_empty() { Ok(()) } else { self.socket.send(out) }
    }

    /// Reads what the other side sent; 0 at its end.
    ///
    /// # Errors
    /// What the host reports; `InvalidData` for records that are not what they should be;
    /// `UnexpectedEof` for a connection that was cut.
    pub fn read(&self, buf: &mut [u8]) -> io::Result<usize> {
        let mut receiving = lock(&self.receiving);
        loop {
            match lock(&self.session).reader().read(buf) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                other => return other,
            }
            if receiving.from == receiving.to && receiving.fill(&self.socket)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.feed(&mut receiving).map_err(|e| failure(&e, None))?;
        }
    }

    /// Sends some of `buf`: how much of it.
    ///
    /// # Errors
    /// What the host reports.
    pub fn write(&self, buf: &[u8]) -> io::Result<usize> {
        let mut sending = lock(&self.sending);
        let taken = lock(&self.session).writer().write(buf)?;
        self.send_records(&mut sending)?;
        Ok(taken)
    }

    /// Tells the other side that nothing more comes.
    ///
    /// # Errors
    /// What the host reports.
    pub fn finish(&self) -> io::Result<()> {
        let mut sending = lock(&self.sending);
        lock(&self.session).send_close_notify();
        self.send_records(&mut sending)
    }

    /// What carries the records.
    pub fn socket(&self) -> &S {
        &self.socket
    }
}

impl<S: Socket> Write for &Channel<S> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        Channel::write(self, buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Received {
    fn fill(&mut self, socket: &impl Socket) -> io::Result<usize> {
        let came = loop {
            match socket.receive(&mut self.bytes) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        (self.from, self.to) = (0, came);
        Ok(came)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An error of the session, in words that scripts know.
fn failure(error: &Error, hostname: Option<&str>) -> io::Error {
    let text = match (error, hostname) {
        (
            Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            ),
            Some(name),
        ) => format!("Certificate does not match the hostname {name}"),
        (Error::NoCertificatesPresented, _) => {
            "Verify failed: No certificate was found.".to_owned()
        }
        _ => verify::reason(error),
    };
    io::Error::new(io::ErrorKind::InvalidData, text)
}
