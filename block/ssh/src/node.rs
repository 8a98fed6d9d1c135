//! The node: a file that an SFTP server has open for us.

use std::io::{self, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use graph::{
    Extent, ExtentKind, Node, NodeInfo, OpenError, WriteFlags, ZeroFlags, check_range, host_text,
};

use crate::command::Options;
use crate::session::{Pending, Session};
use crate::wire::{self, ATTR_PERMISSIONS, ATTR_SIZE, FSYNC, PIECE, Reply, kind, open, status};

/// Requests of one call that are in flight at a time.
const WINDOW: usize = 32;
/// Most bytes of what the client complains that are kept.
const MAX_COMPLAINT: usize = 2048;
/// Mode of files that are made.
const MODE: u32 = 0o644;

/// A file on another host.
pub struct Ssh {
    session: Session,
    handle: Vec<u8>,
    uri: String,
    size: AtomicU64,
    read_only: bool,
    _client: Option<Client>,
}

/// The user's ssh client, ended with the node.
struct Client(Child);

/// What the client complains of.
struct Complaint {
    kept: Arc<Mutex<Vec<u8>>>,
    complete: Receiver<()>,
}

impl Ssh {
    /// Opens a file on another host.
    ///
    /// # Errors
    /// With QEMU's words where scripts know them, and what the ssh client says.
    pub fn open(options: &Options) -> Result<Self, OpenError> {
        Self::through(options.command().map_err(OpenError::Option)?, options, 0)
    }

    /// Makes a file on another host, or empties one that exists.
    ///
    /// # Errors
    /// As for [`Ssh::open`].
    pub fn create(options: &Options) -> Result<Self, OpenError> {
        let command = options.command().map_err(OpenError::Option)?;
        Self::through(command, options, open::CREATE | open::TRUNCATE)
    }

    /// Opens a file of the SFTP server that `command` reaches on its standard input and output.
    ///
    /// # Errors
    /// As for [`Ssh::open`].
    pub fn over(command: Command, options: &Options, create: bool) -> Result<Self, OpenError> {
        let making = if create { open::CREATE | open::TRUNCATE } else { 0 };
        Self::through(command, options, making)
    }

    fn through(mut command: Command, options: &Options, making: u32) -> Result<Self, OpenError> {
        let program = command.get_program().to_string_lossy().into_owned();
        let spawned = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|source| OpenError::Host {
                operation: format!("Could not run '{program}'"),
                source,
            })?;
        let (client, from, to, complaint) = Client::listening(spawned)?;
        let session = Session::over(from, to).map_err(|e| {
            let said = complaint.text();
            let why = if said.is_empty() { host_text(&e) } else { said };
            OpenError::Option(format!("failed to initialize sftp handle: {why}"))
        })?;
        Self::file(session, options, making, Some(client))
    }

    /// Opens a file of the SFTP server at the other end of two streams.
    ///
    /// # Errors
    /// As for [`Ssh::open`].
    pub fn over_streams(
        from: impl Read + Send + 'static,
        to: impl Write + Send + 'static,
        options: &Options,
    ) -> Result<Self, OpenError> {
        let session = Session::over(from, to);
        let session = session.map_err(|e| {
            OpenError::Option(format!("failed to initialize sftp handle: {}", host_text(&e)))
        })?;
        Self::file(session, options, 0, None)
    }

    fn file(
        session: Session,
        options: &Options,
        making: u32,
        client: Option<Client>,
    ) -> Result<Self, OpenError> {
        let failed = |e: &io::Error| {
            let path = &options.path;
            OpenError::Option(format!("failed to open remote file '{path}': {}", host_text(e)))
        };
        let open = |flags: u32| {
            session.call(kind::OPEN, |packet| {
                let packet = packet.text(options.path.as_bytes()).number(flags);
                packet.number(ATTR_PERMISSIONS).number(MODE)
            })
        };
        let writing = open::READ | open::WRITE | making;
        let (reply, read_only) = if options.read_only {
            (open(open::READ), true)
        } else {
            match open(writing) {
                Err(e) if options.auto_read_only && e.kind() == io::ErrorKind::PermissionDenied => {
                    (open(open::READ), true)
                }
                other => (other, false),
            }
        };
        let handle = match reply.map_err(|e| failed(&e))? {
            // No server has longer ones.
            Reply::Handle(handle) if handle.len() <= 256 => handle,
            _ => return Err(failed(&wire::broken("no handle"))),
        };
        let told = session.call(kind::FSTAT, |packet| packet.text(&handle));
        let size = match told.map_err(|e| failed(&e))? {
            Reply::Attributes { size: Some(size), mode } if i64::try_from(size).is_ok() => {
                // What is no regular file has no length that means anything.
                if mode.is_some_and(|mode| mode & 0o170_000 != 0o100_000) {
                    let why = io::Error::other("it is no regular file");
                    return Err(failed(&why));
                }
                size
            }
            _ => return Err(failed(&wire::broken("no length of the file"))),
        };
        let (uri, size) = (options.uri(), AtomicU64::new(size));
        Ok(Self { session, handle, uri, size, read_only, _client: client })
    }

    fn writable(&self) -> io::Result<()> {
        if self.read_only { Err(io::ErrorKind::ReadOnlyFilesystem.into()) } else { Ok(()) }
    }

    fn ask(&self, offset: u64, len: usize) -> io::Result<Pending> {
        // A piece is short.
        self.session
            .send(kind::READ, |packet| packet.text(&self.handle).long(offset).number(len as u32))
    }

    /// Fills `buf` with a reply and, if that was less than asked for, with more.
    fn take(&self, mut pending: Pending, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let mut done = 0;
        loop {
            match pending.wait()? {
                Reply::Data(data) if !data.is_empty() && data.len() <= buf.len() - done => {
                    buf[done..done + data.len()].copy_from_slice(&data);
                    done += data.len();
                }
                Reply::Status(status::EOF, _) => {
                    buf[done..].fill(0);
                    return Ok(());
                }
                _ => return Err(wire::broken("an answer to something else")),
            }
            if done == buf.len() {
                return Ok(());
            }
            pending = self.ask(offset + done as u64, buf.len() - done)?;
        }
    }

    fn done(reply: Reply) -> io::Result<()> {
        match reply {
            Reply::Status(status::OK, _) => Ok(()),
            _ => Err(wire::broken("an answer to something else")),
        }
    }
}

impl Node for Ssh {
    fn size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    /// Bytes beyond the end of the file read as zeroes.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        offset.checked_add(buf.len() as u64).ok_or(io::ErrorKind::InvalidInput)?;
        let mut at = offset;
        for window in buf.chunks_mut(PIECE * WINDOW) {
            let mut asked = Vec::with_capacity(WINDOW);
            for piece in window.chunks_mut(PIECE) {
                let pending = self.ask(at, piece.len())?;
                let here = at;
                at += piece.len() as u64;
                asked.push((pending, here, piece));
            }
            for (pending, here, piece) in asked {
                self.take(pending, here, piece)?;
            }
        }
        Ok(())
    }

    /// A write beyond the end makes the file longer.
    fn write_at(&self, offset: u64, buf: &[u8], flags: WriteFlags) -> io::Result<()> {
        self.writable()?;
        let end = offset.checked_add(buf.len() as u64).ok_or(io::ErrorKind::InvalidInput)?;
        let mut at = offset;
        for window in buf.chunks(PIECE * WINDOW) {
            let mut sent = Vec::with_capacity(WINDOW);
            for piece in window.chunks(PIECE) {
                sent.push(
                    self.session.send(kind::WRITE, |packet| {
                        packet.text(&self.handle).long(at).text(piece)
                    })?,
                );
                at += piece.len() as u64;
            }
            for pending in sent {
                Self::done(pending.wait()?)?;
            }
        }
        self.size.fetch_max(end, Ordering::AcqRel);
        if flags.fua { self.flush() } else { Ok(()) }
    }

    fn write_zeroes(&self, offset: u64, len: u64, flags: ZeroFlags) -> io::Result<()> {
        let end = offset.checked_add(len).ok_or(io::ErrorKind::InvalidInput)?;
        let zeroes = vec![0; len.min((PIECE * WINDOW) as u64) as usize];
        let mut at = offset;
        while at < end {
            let piece = (end - at).min(zeroes.len() as u64);
            self.write_at(at, &zeroes[..piece as usize], WriteFlags::default())?;
            at += piece;
        }
        if flags.fua { self.flush() } else { self.writable() }
    }

    fn discard(&self, _offset: u64, _len: u64) -> io::Result<()> {
        self.writable()
    }

    /// A server that cannot flush is trusted, as QEMU does.
    fn flush(&self) -> io::Result<()> {
        if self.read_only || !self.session.can_flush {
            return Ok(());
        }
        let reply = self
            .session
            .call(kind::EXTENDED, |packet| packet.text(FSYNC.as_bytes()).text(&self.handle))?;
        Self::done(reply)
    }

    fn block_status(&self, offset: u64, len: u64) -> io::Result<Extent> {
        let size = self.size();
        if offset >= size {
            return Ok(Extent { kind: ExtentKind::Zero, len, host_offset: Some(offset) });
        }
        let len = len.min(size - offset);
        check_range(offset, len, size)?;
        Ok(Extent { kind: ExtentKind::Data, len, host_offset: Some(offset) })
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        self.writable()?;
        let reply = self.session.call(kind::FSETSTAT, |packet| {
            packet.text(&self.handle).number(ATTR_SIZE).long(size)
        })?;
        Self::done(reply)?;
        self.size.store(size, Ordering::Release);
        Ok(())
    }

    fn read_only(&self) -> bool {
        self.read_only
    }

    fn info(&self) -> NodeInfo {
        NodeInfo { driver: "ssh", filename: self.uri.clone(), ..NodeInfo::default() }
    }
}

impl Client {
    /// Takes the pipes of a client that was started.
    fn listening(mut child: Child) -> Result<(Self, impl Read, impl Write, Complaint), OpenError> {
        let pipes = (child.stdout.take(), child.stdin.take(), child.stderr.take());
        let (Some(from), Some(to), Some(errors)) = pipes else {
            return Err(OpenError::Option("the ssh client has no pipes".to_owned()));
        };
        Ok((Self(child), from, to, Complaint::of(errors)))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // It ends by itself when its pipes close; one that does not is not waited for.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Complaint {
    /// Reads all, so that the client never waits, and keeps the beginning.
    fn of(mut errors: impl Read + Send + 'static) -> Self {
        let kept = Arc::new(Mutex::new(Vec::new()));
        let (place, (done, complete)) = (Arc::clone(&kept), channel());
        std::thread::spawn(move || {
            let mut buf = [0; 512];
            while let Ok(n) = errors.read(&mut buf)
                && n > 0
            {
                let mut kept = place.lock().unwrap_or_else(PoisonError::into_inner);
                let room = MAX_COMPLAINT - kept.len();
                kept.extend_from_slice(&buf[..n.min(room)]);
            }
            // Nobody may wait any more.
            let _ = done.send(());
        });
        Self { kept, complete }
    }

    /// What a client that has ended complained of.
    fn text(&self) -> String {
        // What it left running (a connection to share) may keep the pipe open for good.
        let _ = self.complete.recv_timeout(Duration::from_secs(2));
        let bytes = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&bytes).trim().replace('\r', "")
    }
}
