//! One connection in the transmission phase.

use super::handshake::{self, Agreed};
use super::{ExportInfo, Options};
use crate::MAX_PAYLOAD;
use crate::address::{Location, Stream};
use crate::wire::{self, Fields, chunk, command, error, read, read_bytes};
use std::collections::HashMap;
use std::io::{self, BufReader, Read, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

/// A request.
#[derive(Clone, Copy)]
pub(super) struct Request<'a> {
    pub kind: u16,
    pub flags: u16,
    pub offset: u64,
    pub len: u64,
    /// What is written.
    pub data: &'a [u8],
}

/// What the server answered.
#[derive(Debug, Default)]
pub(super) struct Answer {
    /// What was read.
    pub data: Vec<u8>,
    /// The first extent: length and flags.
    pub extent: Option<(u64, u64)>,
}

/// A request that waits for its answer.
struct Waiting {
    kind: u16,
    offset: u64,
    answer: Answer,
    /// Bytes of the answer that came.
    came: u64,
    failure: Option<io::Error>,
    done: Sender<io::Result<Answer>>,
}

/// What callers and the reading thread share.
struct Shared {
    agreed: Agreed,
    waiting: Mutex<HashMap<u64, Waiting>>,
    broken: AtomicBool,
}

pub(super) struct Connection {
    shared: Arc<Shared>,
    stream: Stream,
    to: Mutex<Stream>,
    next: AtomicU64,
}

impl Connection {
    /// Negotiates.
    pub fn over(mut stream: Stream, location: &Location, options: &Options) -> io::Result<Self> {
        let agreed = handshake::choose(&mut stream, location, options)?;
        let (waiting, broken) = (Mutex::default(), AtomicBool::new(false));
        let shared = Arc::new(Shared { agreed, waiting, broken });
        let (to, from) = (Mutex::new(stream.duplicate()?), stream.duplicate()?);
        let reader = Arc::clone(&shared);
        std::thread::Builder::new().name("nbd-reader".to_owned()).spawn(move || {
            let failure = reader.read_replies(from);
            reader.give_up(&failure);
        })?;
        Ok(Self { shared, stream, to, next: AtomicU64::new(0) })
    }

    pub fn info(&self) -> &ExportInfo {
        &self.shared.agreed.info
    }

    /// Whether the server answers about ranges.
    pub fn has_context(&self) -> bool {
        self.shared.agreed.context.is_some()
    }

    /// Whether it can still be used.
    pub fn works(&self) -> bool {
        !self.shared.broken.load(Ordering::Acquire)
    }

    /// Sends a request and waits for its answer.
    pub fn call(&self, request: &Request<'_>) -> io::Result<Answer> {
        let cookie = self.next.fetch_add(1, Ordering::Relaxed);
        let (done, answer) = channel();
        let data = if request.kind == command::READ {
            // Requests with data are no longer than a payload.
            vec![0; request.len as usize]
        } else {
            Vec::new()
        };
        let waiting = Waiting {
            kind: request.kind,
            offset: request.offset,
            answer: Answer { data, extent: None },
            came: 0,
            failure: None,
            done,
        };
        self.shared.waiting().insert(cookie, waiting);
        if let Err(failure) = self.send(cookie, request) {
            self.stream.shut_down();
            self.shared.give_up(&failure);
        } else if !self.works() {
            // The reader may have given up before this request was among those that wait.
            self.shared.give_up(&io::ErrorKind::NotConnected.into());
        }
        answer.recv().unwrap_or_else(|_| Err(io::ErrorKind::NotConnected.into()))
    }

    fn send(&self, cookie: u64, request: &Request<'_>) -> io::Result<()> {
        let extended = self.shared.agreed.extended;
        let magic = if extended { wire::EXTENDED_REQUEST } else { wire::REQUEST };
        let payload =
            if extended && request.kind == command::WRITE { wire::flag::PAYLOAD } else { 0 };
        let mut header = magic.to_be_bytes().to_vec();
        header.extend_from_slice(&(request.flags | payload).to_be_bytes());
        header.extend_from_slice(&request.kind.to_be_bytes());
        header.extend_from_slice(&cookie.to_be_bytes());
        header.extend_from_slice(&request.offset.to_be_bytes());
        if extended {
            header.extend_from_slice(&request.len.to_be_bytes());
        } else {
            let len = u32::try_from(request.len).map_err(|_| io::ErrorKind::InvalidInput)?;
            header.extend_from_slice(&len.to_be_bytes());
        }
        let mut to = self.to.lock().unwrap_or_else(PoisonError::into_inner);
        to.write_all(&header)?;
        to.write_all(request.data)
    }

    /// Says goodbye.
    pub fn leave(&self) {
        let kind = command::DISCONNECT;
        // Who is gone already needs no goodbye.
        let _ = self.send(u64::MAX, &Request { kind, flags: 0, offset: 0, len: 0, data: &[] });
        self.stream.finish();
        self.stream.shut_down();
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.stream.shut_down();
    }
}

impl Shared {
    fn waiting(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nobody will be answered any more.
    fn give_up(&self, failure: &io::Error) {
        self.broken.store(true, Ordering::Release);
        for (_, waiting) in self.waiting().drain() {
            let failure = io::Error::new(failure.kind(), failure.to_string());
            // A caller that is gone does not want to know.
            let _ = waiting.done.send(Err(failure));
        }
    }

    /// Reads replies until the connection ends: why it did.
    fn read_replies(&self, stream: Stream) -> io::Error {
        let mut from = BufReader::with_capacity(64 << 10, stream);
        loop {
            if let Err(failure) = self.read_reply(&mut from) {
                return failure;
            }
        }
    }

    fn read_reply(&self, from: &mut impl Read) -> io::Result<()> {
        match read::<u32>(from)? {
            wire::SIMPLE_REPLY => self.simple(from),
            wire::CHUNK if self.agreed.structured && !self.agreed.extended => {
                let (flags, kind, cookie) = (read(from)?, read(from)?, read(from)?);
                let len: u32 = read(from)?;
                self.chunk(from, (flags, kind, cookie), u64::from(len))
            }
            wire::EXTENDED_CHUNK if self.agreed.extended => {
                let (flags, kind, cookie) = (read(from)?, read(from)?, read(from)?);
                let _offset: u64 = read(from)?;
                let len: u64 = read(from)?;
                self.chunk(from, (flags, kind, cookie), len)
            }
            _ => Err(wire::broken("a reply begins wrongly")),
        }
    }

    fn take(&self, cookie: u64) -> io::Result<Waiting> {
        let unknown = || wire::broken("a reply to a request that nobody made");
        self.waiting().remove(&cookie).ok_or_else(unknown)
    }

    fn simple(&self, from: &mut impl Read) -> io::Result<()> {
        let (number, cookie): (u32, u64) = (read(from)?, read(from)?);
        let mut waiting = self.take(cookie)?;
        if number != 0 {
            waiting.failure = Some(error_of(number));
        } else if let Err(failure) = from.read_exact(&mut waiting.answer.data) {
            self.waiting().insert(cookie, waiting);
            return Err(failure);
        } else {
            waiting.came = waiting.answer.data.len() as u64;
        }
        waiting.finish();
        Ok(())
    }

    fn chunk(
        &self,
        from: &mut impl Read,
        (flags, kind, cookie): (u16, u16, u64),
        len: u64,
    ) -> io::Result<()> {
        if len > u64::from(MAX_PAYLOAD) + 8 {
            return Err(wire::broken("a chunk is too long"));
        }
        let mut waiting = self.take(cookie)?;
        let heard = waiting.hear(from, kind, len as u32, &self.agreed);
        if heard.is_ok() && flags & chunk::DONE != 0 {
            waiting.finish();
        } else {
            // Whoever gives up wakes all who wait.
            self.waiting().insert(cookie, waiting);
        }
        heard
    }
}

impl Waiting {
    /// Takes a chunk in.
    fn hear(
        &mut self,
        from: &mut impl Read,
        kind: u16,
        len: u32,
        agreed: &Agreed,
    ) -> io::Result<()> {
        match kind {
            chunk::NONE if len == 0 => Ok(()),
            chunk::DATA if self.kind == command::READ && len > 8 => {
                let place = self.place(read(from)?, u64::from(len - 8))?;
                from.read_exact(place)
            }
            chunk::HOLE if self.kind == command::READ && len == 12 => {
                let (offset, hole): (u64, u32) = (read(from)?, read(from)?);
                self.place(offset, u64::from(hole))?.fill(0);
                Ok(())
            }
            chunk::STATUS | chunk::EXTENDED_STATUS if self.kind == command::BLOCK_STATUS => {
                let body = read_bytes(from, len)?;
                self.extent(&mut Fields(&body), kind == chunk::EXTENDED_STATUS, agreed)
            }
            kind if kind & chunk::IS_ERROR != 0 && len >= 4 => {
                let body = read_bytes(from, len)?;
                let number = Fields(&body).number()?;
                self.failure.get_or_insert_with(|| error_of(number));
                Ok(())
            }
            _ => Err(wire::broken("a chunk that does not belong there")),
        }
    }

    /// The part of the answer's data for bytes of the export.
    fn place(&mut self, offset: u64, len: u64) -> io::Result<&mut [u8]> {
        let outside = || wire::broken("data that nobody asked for");
        let start = offset.checked_sub(self.offset).ok_or_else(outside)?;
        let start = usize::try_from(start).map_err(|_| outside())?;
        let end = start.checked_add(len as usize).ok_or_else(outside)?;
        self.came += len;
        self.answer.data.get_mut(start..end).ok_or_else(outside)
    }

    fn extent(&mut self, body: &mut Fields<'_>, extended: bool, agreed: &Agreed) -> io::Result<()> {
        if Some(body.number::<u32>()?) != agreed.context {
            return Err(wire::broken("an answer about a context that nobody chose"));
        }
        let first = if extended {
            let _count: u32 = body.number()?;
            (body.number()?, body.number()?)
        } else {
            (u64::from(body.number::<u32>()?), u64::from(body.number::<u32>()?))
        };
        self.answer.extent = Some(first);
        Ok(())
    }

    fn finish(self) {
        let missing = self.came != self.answer.data.len() as u64;
        let result = match self.failure {
            Some(failure) => Err(failure),
            None if missing => Err(wire::broken("a part of the data is missing")),
            None => Ok(self.answer),
        };
        // A caller that is gone does not want to know.
        let _ = self.done.send(result);
    }
}

/// An error by its number in the protocol.
fn error_of(number: u32) -> io::Error {
    match number {
        error::PERMISSION => io::ErrorKind::PermissionDenied.into(),
        error::NO_MEMORY => io::ErrorKind::OutOfMemory.into(),
        error::INVALID | error::OVERFLOW => io::ErrorKind::InvalidInput.into(),
        error::NO_SPACE => io::ErrorKind::StorageFull.into(),
        error::NOT_SUPPORTED => io::ErrorKind::Unsupported.into(),
        error::SHUTDOWN => io::ErrorKind::NotConnected.into(),
        _ => io::Error::other("Input/output error"),
    }
}
