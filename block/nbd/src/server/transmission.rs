//! Requests and replies.
//!
//! One thread reads requests; workers carry them out and reply, in any order, as the protocol allows.
//! Workers start as requests pile up. Who reads waits while all are busy, so that a client cannot make
//! the server hold more than [`WORKERS`] payloads.

use super::handshake::Agreed;
use crate::MAX_PAYLOAD;
use crate::wire::{self, chunk, command, error, flag, read, read_bytes};
use graph::{WriteFlags, ZeroFlags, check_range};
use std::io::{self, Read, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};

/// Most requests carried out at a time.
const WORKERS: usize = 16;
/// Most extents in one answer about a range.
const MAX_EXTENTS: usize = 4096;

/// A request.
struct Request {
    flags: u16,
    kind: u16,
    cookie: u64,
    offset: u64,
    len: u64,
    data: Vec<u8>,
}

/// One client that chose its export.
struct Connection<'a, T> {
    agreed: &'a Agreed<'a>,
    to: Mutex<T>,
}

/// Serves requests until the client leaves.
pub(super) fn run(
    agreed: &Agreed<'_>,
    mut from: impl Read,
    to: impl Write + Send,
) -> io::Result<()> {
    let connection = Connection { agreed, to: Mutex::new(to) };
    let (sender, receiver) = sync_channel(0);
    let receiver = Mutex::new(receiver);
    std::thread::scope(|scope| {
        let (connection, receiver) = (&connection, &receiver);
        let mut workers = 0;
        let mut hand_over = |request| {
            // A rendezvous succeeds at once only if a worker is waiting.
            match sender.try_send(request) {
                Ok(()) => {}
                Err(refused) if workers < WORKERS => {
                    workers += 1;
                    scope.spawn(move || connection.work(receiver));
                    deliver(&sender, refused.into());
                }
                Err(refused) => deliver(&sender, refused.into()),
            }
        };
        let ended = connection.read_requests(&mut from, &mut hand_over);
        // Workers end when nobody can give them work.
        drop(sender);
        ended
    })
}

/// Waits until a worker takes the request; without workers there is nobody to reply to.
fn deliver(sender: &SyncSender<Request>, request: Undelivered) {
    let _ = sender.send(request.0);
}

struct Undelivered(Request);

impl From<std::sync::mpsc::TrySendError<Request>> for Undelivered {
    fn from(error: std::sync::mpsc::TrySendError<Request>) -> Self {
        match error {
            std::sync::mpsc::TrySendError::Full(request)
            | std::sync::mpsc::TrySendError::Disconnected(request) => Self(request),
        }
    }
}

impl<T: Write + Send> Connection<'_, T> {
    fn read_requests(
        &self,
        from: &mut impl Read,
        hand_over: &mut impl FnMut(Request),
    ) -> io::Result<()> {
        loop {
            let mut request = match self.read_header(from) {
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                other => other?,
            };
            if request.kind == command::DISCONNECT {
                return Ok(());
            }
            let payload = self.payload_of(&request);
            if payload > u64::from(MAX_PAYLOAD) {
                return Err(wire::broken("a request has more data than any may have"));
            }
            request.data = read_bytes(from, payload as u32)?;
            hand_over(request);
        }
    }

    fn read_header(&self, from: &mut impl Read) -> io::Result<Request> {
        let magic: u32 = read(from)?;
        let expected = if self.agreed.extended { wire::EXTENDED_REQUEST } else { wire::REQUEST };
        if magic != expected {
            return Err(wire::broken("a request begins wrongly"));
        }
        let (flags, kind) = (read(from)?, read(from)?);
        let (cookie, offset) = (read(from)?, read(from)?);
        let len = if self.agreed.extended { read(from)? } else { u64::from(read::<u32>(from)?) };
        Ok(Request { flags, kind, cookie, offset, len, data: Vec::new() })
    }

    /// Bytes that follow the header.
    fn payload_of(&self, request: &Request) -> u64 {
        let extended = self.agreed.extended && request.flags & flag::PAYLOAD != 0;
        if request.kind == command::WRITE || extended { request.len } else { 0 }
    }

    fn work(&self, receiver: &Mutex<Receiver<Request>>) {
        loop {
            let next = receiver.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(request) = next else { return };
            // A client that is gone is noticed by who reads.
            let _ = self.carry_out(&request);
        }
    }

    fn carry_out(&self, request: &Request) -> io::Result<()> {
        match request.kind {
            command::READ => self.read(request),
            command::BLOCK_STATUS => self.block_status(request),
            _ => match self.change(request) {
                Ok(()) => self.done(request),
                Err(failure) => self.failed(request, number_of(&failure)),
            },
        }
    }

    /// Requests that are answered by whether they succeeded.
    fn change(&self, request: &Request) -> io::Result<()> {
        let node = &self.agreed.export.node;
        let (offset, len) = (request.offset, request.len);
        let fua = request.flags & flag::FUA != 0;
        let writes = matches!(request.kind, command::WRITE | command::TRIM | command::WRITE_ZEROES);
        if writes && !self.agreed.export.writable {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        if request.kind != command::FLUSH {
            let outside =
                if writes { io::ErrorKind::StorageFull } else { io::ErrorKind::InvalidInput };
            check_range(offset, len, node.size()).map_err(|_| io::Error::from(outside))?;
        }
        match request.kind {
            command::WRITE => node.write_at(offset, &request.data, WriteFlags { fua }),
            command::FLUSH => node.flush(),
            command::TRIM => {
                node.discard(offset, len)?;
                if fua { node.flush() } else { Ok(()) }
            }
            command::WRITE_ZEROES => {
                let unmap = request.flags & flag::NO_HOLE == 0;
                node.write_zeroes(offset, len, ZeroFlags { fua, unmap })
            }
            // A hint, which may be ignored.
            command::CACHE => Ok(()),
            _ => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    fn read(&self, request: &Request) -> io::Result<()> {
        let node = &self.agreed.export.node;
        let (offset, len) = (request.offset, request.len);
        let inside = check_range(offset, len, node.size()).is_ok();
        if !inside || len > u64::from(MAX_PAYLOAD) {
            return self.failed(request, error::INVALID);
        }
        let mut data = vec![0; len as usize];
        if let Err(failure) = node.read_at(offset, &mut data) {
            return self.failed(request, number_of(&failure));
        }
        if !self.agreed.structured {
            return self.simple(request, 0, &data);
        }
        self.chunk(request, chunk::DATA, &[&offset.to_be_bytes(), &data])
    }

    fn block_status(&self, request: &Request) -> io::Result<()> {
        let node = &self.agreed.export.node;
        let (offset, len) = (request.offset, request.len);
        let inside = len != 0 && check_range(offset, len, node.size()).is_ok();
        if self.agreed.contexts.is_empty() || !inside || request.flags & flag::PAYLOAD != 0 {
            return self.failed(request, error::INVALID);
        }
        let mut answers = Vec::new();
        for id in 0..self.agreed.contexts.len() {
            match self.extents(request, id) {
                Ok(answer) => answers.push(answer),
                Err(failure) => return self.failed(request, number_of(&failure)),
            }
        }
        let last = answers.len() - 1;
        let kind = if self.agreed.extended { chunk::EXTENDED_STATUS } else { chunk::STATUS };
        for (row, answer) in answers.iter().enumerate() {
            let done = if row == last { chunk::DONE } else { 0 };
            self.chunk_with(request, done, kind, &[answer])?;
        }
        Ok(())
    }

    /// What a context knows of the range, as the body of a chunk.
    fn extents(&self, request: &Request, id: usize) -> io::Result<Vec<u8>> {
        let context = &self.agreed.contexts[id];
        let most = if request.flags & flag::ONE_EXTENT != 0 { 1 } else { MAX_EXTENTS };
        let mut extents: Vec<(u64, u64)> = Vec::new();
        let end = request.offset + request.len;
        let mut at = request.offset;
        while at < end {
            let (len, flags) = self.agreed.export.extent(context, at, end - at)?;
            at += len;
            let full = extents.len() == most;
            match extents.last_mut() {
                Some(last) if last.1 == flags => last.0 += len,
                _ if full => break,
                _ => extents.push((len, flags)),
            }
        }
        let mut body = (id as u32).to_be_bytes().to_vec();
        if self.agreed.extended {
            body.extend_from_slice(&(extents.len() as u32).to_be_bytes());
        }
        for (len, flags) in extents {
            if self.agreed.extended {
                body.extend_from_slice(&len.to_be_bytes());
                body.extend_from_slice(&flags.to_be_bytes());
            } else {
                // A compact request is shorter than 4 GiB, and so are its extents.
                body.extend_from_slice(&(len as u32).to_be_bytes());
                body.extend_from_slice(&(flags as u32).to_be_bytes());
            }
        }
        Ok(body)
    }

    fn done(&self, request: &Request) -> io::Result<()> {
        if self.agreed.extended {
            self.chunk(request, chunk::NONE, &[])
        } else {
            self.simple(request, 0, &[])
        }
    }

    fn failed(&self, request: &Request, number: u32) -> io::Result<()> {
        if !self.agreed.structured {
            return self.simple(request, number, &[]);
        }
        // The number, and the length of a text that is not there.
        self.chunk(request, chunk::ERROR, &[&number.to_be_bytes(), &[0, 0]])
    }

    fn simple(&self, request: &Request, number: u32, data: &[u8]) -> io::Result<()> {
        let mut header = Vec::with_capacity(16);
        header.extend_from_slice(&wire::SIMPLE_REPLY.to_be_bytes());
        header.extend_from_slice(&number.to_be_bytes());
        header.extend_from_slice(&request.cookie.to_be_bytes());
        self.send(&header, &[data])
    }

    fn chunk(&self, request: &Request, kind: u16, body: &[&[u8]]) -> io::Result<()> {
        self.chunk_with(request, chunk::DONE, kind, body)
    }

    fn chunk_with(
        &self,
        request: &Request,
        flags: u16,
        kind: u16,
        body: &[&[u8]],
    ) -> io::Result<()> {
        let len: usize = body.iter().map(|part| part.len()).sum();
        let mut header = Vec::with_capacity(32);
        let magic = if self.agreed.extended { wire::EXTENDED_CHUNK } else { wire::CHUNK };
        header.extend_from_slice(&magic.to_be_bytes());
        header.extend_from_slice(&flags.to_be_bytes());
        header.extend_from_slice(&kind.to_be_bytes());
        header.extend_from_slice(&request.cookie.to_be_bytes());
        if self.agreed.extended {
            header.extend_from_slice(&request.offset.to_be_bytes());
            header.extend_from_slice(&(len as u64).to_be_bytes());
        } else {
            // Bounded by the payload of a request.
            header.extend_from_slice(&(len as u32).to_be_bytes());
        }
        self.send(&header, body)
    }

    fn send(&self, header: &[u8], body: &[&[u8]]) -> io::Result<()> {
        let mut to = self.to.lock().unwrap_or_else(PoisonError::into_inner);
        match body {
            // One write for what is short.
            [] => to.write_all(header)?,
            [only] if only.len() < 512 => to.write_all(&[header, only].concat())?,
            [first, rest @ ..] => {
                to.write_all(&[header, first].concat())?;
                for part in rest {
                    to.write_all(part)?;
                }
            }
        }
        to.flush()
    }
}

/// The number of the protocol for an error.
fn number_of(failure: &io::Error) -> u32 {
    match failure.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => error::PERMISSION,
        io::ErrorKind::StorageFull => error::NO_SPACE,
        io::ErrorKind::InvalidInput => error::INVALID,
        io::ErrorKind::OutOfMemory => error::NO_MEMORY,
        io::ErrorKind::Unsupported => error::NOT_SUPPORTED,
        _ => error::IO,
    }
}
