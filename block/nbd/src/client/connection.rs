//! One connection in the transmission phase.

use super::handshake::{self, Agreed};
use super::{ExportInfo, Options};
use crate::MAX_PAYLOAD;
use crate::address::{Location, Stream};
use crate::wire::{self, Fields, chunk, command, error, read, read_bytes};
use std::collections::BTreeMap;
use std::io::{self, BufReader, Read};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::Thread;

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

/// What the server answered, beside what was read.
#[derive(Debug, Default)]
pub(super) struct Answer {
    /// The first extent: length and flags.
    pub extent: Option<(u64, u64)>,
    /// What another caller read for this one.
    data: Option<Vec<u8>>,
}

/// A request that waits for its answer.
struct Waiting {
    kind: u16,
    offset: u64,
    /// Bytes that are to be read.
    len: usize,
    answer: Answer,
    /// Bytes of them that came.
    came: u64,
    failure: Option<io::Error>,
    caller: Thread,
}

/// What became of a request.
enum Fate {
    Waiting(Waiting),
    Done(io::Result<Answer>),
}

/// Requests without an answer, and answers that nobody took yet.
#[derive(Default)]
struct Requests {
    fates: BTreeMap<u64, Fate>,
    /// A caller reads replies, its own and those of others.
    reading: bool,
}

pub(super) struct Connection {
    agreed: Agreed,
    stream: Stream,
    to: Mutex<Stream>,
    from: Mutex<BufReader<Stream>>,
    requests: Mutex<Requests>,
    broken: AtomicBool,
    next: AtomicU64,
}

impl Connection {
    /// Negotiates.
    pub fn over(mut stream: Stream, location: &Location, options: &Options) -> io::Result<Self> {
        let agreed = handshake::choose(&mut stream, location, options)?;
        let to = Mutex::new(stream.duplicate()?);
        let from = Mutex::new(BufReader::with_capacity(64 << 10, stream.duplicate()?));
        let (requests, broken, next) = Default::default();
        Ok(Self { agreed, stream, to, from, requests, broken, next })
    }

    pub fn info(&self) -> &ExportInfo {
        &self.agreed.info
    }

    /// Whether a request can be about more than 4 GiB.
    pub fn is_extended(&self) -> bool {
        self.agreed.extended
    }

    /// Whether the server answers about ranges.
    pub fn has_context(&self) -> bool {
        self.agreed.context.is_some()
    }

    /// Whether it can still be used.
    pub fn works(&self) -> bool {
        !self.broken.load(Ordering::Acquire)
    }

    /// Sends a request and waits for its answer; `buf` is as long as what is to be read.
    pub fn call(&self, request: &Request<'_>, buf: &mut [u8]) -> io::Result<Answer> {
        let cookie = self.next.fetch_add(1, Ordering::Relaxed);
        let waiting = Waiting {
            kind: request.kind,
            offset: request.offset,
            len: buf.len(),
            answer: Answer::default(),
            came: 0,
            failure: None,
            caller: std::thread::current(),
        };
        self.requests().fates.insert(cookie, Fate::Waiting(waiting));
        if let Err(failure) = self.send(cookie, request) {
            self.give_up(&failure);
        }
        let answer = self.wait(cookie, buf)?;
        if let Some(data) = &answer.data {
            buf.copy_from_slice(data);
        }
        Ok(answer)
    }

    /// Waits for an answer. One of those who wait reads what comes, until it has its own.
    fn wait(&self, cookie: u64, buf: &mut [u8]) -> io::Result<Answer> {
        loop {
            let mut requests = self.requests();
            if let Some(Fate::Done(_)) = requests.fates.get(&cookie)
                && let Some(Fate::Done(result)) = requests.fates.remove(&cookie)
            {
                requests.call_a_reader();
                return result;
            }
            if requests.reading {
                drop(requests);
                std::thread::park();
                continue;
            }
            requests.reading = true;
            drop(requests);
            if let Err(failure) = self.read_replies(cookie, buf) {
                self.give_up(&failure);
            }
            self.requests().reading = false;
        }
    }

    /// Reads replies until the one to `cookie` is complete, whose data goes to `buf`.
    fn read_replies(&self, cookie: u64, buf: &mut [u8]) -> io::Result<()> {
        if !self.works() {
            return Err(io::ErrorKind::NotConnected.into());
        }
        let mut from = self.from.lock().unwrap_or_else(PoisonError::into_inner);
        let mut reader = Reader { from: &mut from, cookie, buf };
        while self.read_reply(&mut reader)? != Some(cookie) {}
        Ok(())
    }

    fn send(&self, cookie: u64, request: &Request<'_>) -> io::Result<()> {
        let extended = self.agreed.extended;
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
        wire::send(&mut *to, &header, request.data)
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

/// Replies.
impl Connection {
    fn requests(&self) -> MutexGuard<'_, Requests> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nobody will be answered any more.
    fn give_up(&self, failure: &io::Error) {
        self.broken.store(true, Ordering::Release);
        self.stream.shut_down();
        for fate in self.requests().fates.values_mut() {
            let failure = io::Error::new(failure.kind(), failure.to_string());
            let before = std::mem::replace(fate, Fate::Done(Err(failure)));
            match before {
                Fate::Waiting(waiting) => waiting.caller.unpark(),
                done => *fate = done,
            }
        }
    }

    /// Reads a reply or a part of one; the request if its answer is complete.
    fn read_reply(&self, reader: &mut Reader<'_>) -> io::Result<Option<u64>> {
        let from = &mut *reader.from;
        match read::<u32>(from)? {
            wire::SIMPLE_REPLY => self.simple(reader),
            wire::CHUNK if self.agreed.structured && !self.agreed.extended => {
                let (flags, kind, cookie) = (read(from)?, read(from)?, read(from)?);
                let len: u32 = read(from)?;
                self.chunk(reader, (flags, kind, cookie), u64::from(len))
            }
            wire::EXTENDED_CHUNK if self.agreed.extended => {
                let (flags, kind, cookie) = (read(from)?, read(from)?, read(from)?);
                let _offset: u64 = read(from)?;
                let len: u64 = read(from)?;
                self.chunk(reader, (flags, kind, cookie), len)
            }
            _ => Err(wire::broken("a reply begins wrongly")),
        }
    }

    /// Takes a request out, for what is read into its answer without the lock.
    fn take(&self, cookie: u64) -> io::Result<Waiting> {
        let mut requests = self.requests();
        match requests.fates.remove(&cookie) {
            Some(Fate::Waiting(waiting)) => Ok(waiting),
            other => {
                requests.fates.extend(other.map(|done| (cookie, done)));
                Err(wire::broken("a reply to a request that nobody made"))
            }
        }
    }

    /// Puts a request back: with its answer if that is complete, which is the result.
    fn put(&self, cookie: u64, waiting: Waiting, complete: bool) -> Option<u64> {
        let caller = complete.then(|| waiting.caller.clone());
        let fate = if complete { Fate::Done(waiting.finish()) } else { Fate::Waiting(waiting) };
        self.requests().fates.insert(cookie, fate);
        caller?.unpark();
        Some(cookie)
    }

    fn simple(&self, reader: &mut Reader<'_>) -> io::Result<Option<u64>> {
        let (number, cookie): (u32, u64) = (read(reader.from)?, read(reader.from)?);
        let mut waiting = self.take(cookie)?;
        let mut heard = Ok(());
        if number != 0 {
            waiting.failure = Some(error_of(number));
        } else {
            heard = waiting.read(reader, cookie, waiting.offset, waiting.len as u64);
        }
        let complete = self.put(cookie, waiting, heard.is_ok());
        heard.map(|()| complete)
    }

    fn chunk(
        &self,
        reader: &mut Reader<'_>,
        (flags, kind, cookie): (u16, u16, u64),
        len: u64,
    ) -> io::Result<Option<u64>> {
        if len > u64::from(MAX_PAYLOAD) + 8 {
            return Err(wire::broken("a chunk is too long"));
        }
        let mut waiting = self.take(cookie)?;
        let heard = waiting.hear(reader, (cookie, kind), len as u32, &self.agreed);
        // Whoever gives up after an error tells all who wait.
        let complete = self.put(cookie, waiting, heard.is_ok() && flags & chunk::DONE != 0);
        heard.map(|()| complete)
    }
}

/// Who reads replies.
struct Reader<'a> {
    from: &'a mut BufReader<Stream>,
    /// Its own request, and where the data of that goes.
    cookie: u64,
    buf: &'a mut [u8],
}

impl Requests {
    /// Wakes the one who waits longest if nobody reads: the next reply is likely its own.
    fn call_a_reader(&self) {
        let waiting = self.fates.values().find_map(|fate| match fate {
            Fate::Waiting(waiting) => Some(&waiting.caller),
            Fate::Done(_) => None,
        });
        if let Some(caller) = waiting.filter(|_| !self.reading) {
            caller.unpark();
        }
    }
}

impl Waiting {
    /// Takes a chunk in.
    fn hear(
        &mut self,
        reader: &mut Reader<'_>,
        (cookie, kind): (u64, u16),
        len: u32,
        agreed: &Agreed,
    ) -> io::Result<()> {
        let from = &mut *reader.from;
        match kind {
            chunk::NONE if len == 0 => Ok(()),
            chunk::DATA if self.kind == command::READ && len > 8 => {
                let offset = read(from)?;
                self.read(reader, cookie, offset, u64::from(len - 8))
            }
            chunk::HOLE if self.kind == command::READ && len == 12 => {
                let (offset, hole): (u64, u32) = (read(from)?, read(from)?);
                let (place, _) = self.place(reader, cookie, offset, u64::from(hole))?;
                place.fill(0);
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

    /// Reads bytes of the export.
    fn read(
        &mut self,
        reader: &mut Reader<'_>,
        cookie: u64,
        offset: u64,
        len: u64,
    ) -> io::Result<()> {
        let (place, from) = self.place(reader, cookie, offset, len)?;
        from.read_exact(place)
    }

    /// Where bytes of the export go, and where they come from.
    fn place<'a>(
        &'a mut self,
        reader: &'a mut Reader<'_>,
        cookie: u64,
        offset: u64,
        len: u64,
    ) -> io::Result<(&'a mut [u8], &'a mut BufReader<Stream>)> {
        let outside = || wire::broken("data that nobody asked for");
        let start = offset.checked_sub(self.offset).ok_or_else(outside)?;
        let start = usize::try_from(start).map_err(|_| outside())?;
        let end = start.checked_add(len as usize).ok_or_else(outside)?;
        self.came += len;
        let place = match &mut self.answer.data {
            None if reader.cookie == cookie => &mut *reader.buf,
            data => data.get_or_insert_with(|| vec![0; self.len]),
        };
        Ok((place.get_mut(start..end).ok_or_else(outside)?, reader.from))
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

    fn finish(self) -> io::Result<Answer> {
        let missing = self.came != self.len as u64;
        match self.failure {
            Some(failure) => Err(failure),
            None if missing => Err(wire::broken("a part of the data is missing")),
            None => Ok(self.answer),
        }
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
