//! Requests and replies.
//!
//! One thread reads requests. What it can read from memory it answers itself, several at a time when several
//! came; the rest is carried out by workers that reply in any order, as the protocol allows. Workers start
//! as requests pile up. Who reads waits while all are busy, so that a client cannot make the server hold
//! more than [`WORKERS`] payloads.

use super::handshake::Agreed;
use crate::MAX_PAYLOAD;
use crate::wire::{self, chunk, command, error, flag, read};
use graph::{WriteFlags, ZeroFlags, check_range};
use std::io::{self, BufReader, Read, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};

/// Most requests carried out at a time.
const WORKERS: usize = 16;
/// Longest read that is answered by who reads requests; longer ones are worth a thread of their own.
const MAX_PROMPT: u64 = 64 << 10;
/// Bytes of such answers that are sent at the latest, whatever else came.
const MAX_HELD: usize = 256 << 10;
/// Buffers that are kept for the next payloads: fresh memory costs as much as the transfer.
const KEPT: usize = 8;
/// Longest of them, in bytes.
const MAX_KEPT: usize = 4 << 20;
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
    kept: Mutex<Vec<Vec<u8>>>,
}

/// Serves requests until the client leaves.
pub(super) fn run(
    agreed: &Agreed<'_>,
    mut from: BufReader<impl Read>,
    to: impl Write + Send,
) -> io::Result<()> {
    let connection = Connection { agreed, to: Mutex::new(to), kept: Mutex::default() };
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
        from: &mut BufReader<impl Read>,
        hand_over: &mut impl FnMut(Request),
    ) -> io::Result<()> {
        let mut held = Vec::new();
        loop {
            // Whoever waits for an answer may send nothing more before it has it.
            if from.buffer().len() < wire::HEADER || held.len() > MAX_HELD {
                self.send_held(&mut held)?;
            }
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
            if payload == 0
                && let Some(answer) = self.prompt_answer(&request)
            {
                held.extend_from_slice(&answer);
                continue;
            }
            self.send_held(&mut held)?;
            if payload != 0 {
                request.data = self.buffer(payload as usize);
                from.read_exact(&mut request.data)?;
            }
            hand_over(request);
        }
    }

    fn send_held(&self, held: &mut Vec<u8>) -> io::Result<()> {
        match std::mem::take(held) {
            none if none.is_empty() => Ok(()),
            some => self.send(some, &[]),
        }
    }

    /// The whole reply to a short read of what is in memory.
    fn prompt_answer(&self, request: &Request) -> Option<Vec<u8>> {
        let node = &self.agreed.export.node;
        let (offset, len) = (request.offset, request.len);
        let short = request.kind == command::READ && (1..=MAX_PROMPT).contains(&len);
        if !short || check_range(offset, len, node.size()).is_err() {
            return None;
        }
        let mut answer = self.data_header(request);
        let start = answer.len();
        answer.resize(start + len as usize, 0);
        node.read_cached(offset, &mut answer[start..]).then_some(answer)
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
            self.keep(request.data);
        }
    }

    /// Memory for `len` bytes, with anything in it.
    fn buffer(&self, len: usize) -> Vec<u8> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut buf = kept.unwrap_or_default();
        buf.resize(len, 0);
        buf
    }

    fn keep(&self, buf: Vec<u8>) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < KEPT && (1..=MAX_KEPT).contains(&buf.capacity()) {
            kept.push(buf);
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
        let mut data = self.buffer(len as usize);
        let done = match node.read_at(offset, &mut data) {
            Ok(()) => self.send(self.data_header(request), &[&data]),
            Err(failure) => self.failed(request, number_of(&failure)),
        };
        self.keep(data);
        done
    }

    /// What precedes the data of a read in its reply, which is in one piece.
    fn data_header(&self, request: &Request) -> Vec<u8> {
        if !self.agreed.structured {
            return simple_header(request, 0);
        }
        let len = request.len as usize + size_of_val(&request.offset);
        let mut header = self.chunk_header(request, chunk::DONE, chunk::DATA, len);
        header.extend_from_slice(&request.offset.to_be_bytes());
        header
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
            self.chunk(request, done, kind, &[answer])?;
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
            self.chunk(request, chunk::DONE, chunk::NONE, &[])
        } else {
            self.send(simple_header(request, 0), &[])
        }
    }

    fn failed(&self, request: &Request, number: u32) -> io::Result<()> {
        if !self.agreed.structured {
            return self.send(simple_header(request, number), &[]);
        }
        // The number, and the length of a text that is not there.
        self.chunk(request, chunk::DONE, chunk::ERROR, &[&number.to_be_bytes(), &[0, 0]])
    }

    fn chunk(&self, request: &Request, flags: u16, kind: u16, body: &[&[u8]]) -> io::Result<()> {
        let len = body.iter().map(|part| part.len()).sum();
        self.send(self.chunk_header(request, flags, kind, len), body)
    }

    fn chunk_header(&self, request: &Request, flags: u16, kind: u16, len: usize) -> Vec<u8> {
        let mut header = Vec::with_capacity(48);
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
        header
    }

    fn send(&self, mut header: Vec<u8>, body: &[&[u8]]) -> io::Result<()> {
        let data = match body {
            [] => &[][..],
            // What precedes data is as short as the header.
            [first @ .., data] => {
                first.iter().for_each(|part| header.extend_from_slice(part));
                data
            }
        };
        let mut to = self.to.lock().unwrap_or_else(PoisonError::into_inner);
        wire::send(&mut *to, &header, data)?;
        to.flush()
    }
}

/// A reply without chunks, but for the data.
fn simple_header(request: &Request, number: u32) -> Vec<u8> {
    let mut header = Vec::with_capacity(16);
    header.extend_from_slice(&wire::SIMPLE_REPLY.to_be_bytes());
    header.extend_from_slice(&number.to_be_bytes());
    header.extend_from_slice(&request.cookie.to_be_bytes());
    header
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
