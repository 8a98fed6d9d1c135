//! Replies: how they begin, and what they bring.

use super::handshake::Agreed;
use super::incoming::Incoming;
use crate::MAX_PAYLOAD;
use crate::wire::{self, Fields, chunk, command, error, read, read_bytes};
use std::io::{self, Read};

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

/// Longest header of a request, in bytes.
const HEADER: usize = 32;

impl Request<'_> {
    /// What precedes the data.
    pub fn header(&self, cookie: u64, extended: bool) -> io::Result<Vec<u8>> {
        let magic = if extended { wire::EXTENDED_REQUEST } else { wire::REQUEST };
        let payload = if extended && self.kind == command::WRITE { wire::flag::PAYLOAD } else { 0 };
        let mut header = Vec::with_capacity(HEADER);
        header.extend_from_slice(&magic.to_be_bytes());
        header.extend_from_slice(&(self.flags | payload).to_be_bytes());
        header.extend_from_slice(&self.kind.to_be_bytes());
        header.extend_from_slice(&cookie.to_be_bytes());
        header.extend_from_slice(&self.offset.to_be_bytes());
        if extended {
            header.extend_from_slice(&self.len.to_be_bytes());
        } else {
            let len = u32::try_from(self.len).map_err(|_| io::ErrorKind::InvalidInput)?;
            header.extend_from_slice(&len.to_be_bytes());
        }
        Ok(header)
    }
}

/// The first of the extents that a server tells of: length and flags.
pub(super) type FirstExtent = Option<(u64, u64)>;

/// How a reply, or a chunk of one, begins.
pub(super) struct Heading {
    pub cookie: u64,
    kind: Kind,
    /// Bytes that follow, of a chunk.
    len: u32,
    /// Nothing more comes after it.
    pub done: bool,
}

enum Kind {
    /// With the number of an error, or 0.
    Simple(u32),
    Chunk(u16),
}

impl Heading {
    /// Reads the next one.
    pub fn read(from: &mut Incoming, agreed: &Agreed) -> io::Result<Self> {
        let (flags, kind, cookie, len) = match read::<u32>(from)? {
            wire::SIMPLE_REPLY => {
                let (number, cookie) = (read(from)?, read(from)?);
                return Ok(Self { cookie, kind: Kind::Simple(number), len: 0, done: true });
            }
            wire::CHUNK if agreed.structured && !agreed.extended => {
                let (flags, kind, cookie) = (read(from)?, read(from)?, read(from)?);
                (flags, kind, cookie, u64::from(read::<u32>(from)?))
            }
            wire::EXTENDED_CHUNK if agreed.extended => {
                let (flags, kind, cookie) = (read(from)?, read(from)?, read(from)?);
                let _offset: u64 = read(from)?;
                (flags, kind, cookie, read::<u64>(from)?)
            }
            _ => return Err(wire::broken("a reply begins wrongly")),
        };
        let flags: u16 = flags;
        match u32::try_from(len) {
            Ok(len) if len <= MAX_PAYLOAD + 8 => {
                let (kind, done) = (Kind::Chunk(kind), flags & chunk::DONE != 0);
                Ok(Self { cookie, kind, len, done })
            }
            _ => Err(wire::broken("a chunk is too long")),
        }
    }
}

/// What has come of a reply.
pub(super) struct Reply {
    kind: u16,
    offset: u64,
    /// Bytes that are to be read.
    len: u64,
    /// Bytes of them that came.
    came: u64,
    failure: Option<io::Error>,
    extent: FirstExtent,
}

impl Reply {
    /// Nothing yet of the reply to a request which reads `len` bytes.
    pub fn new(kind: u16, offset: u64, len: usize) -> Self {
        Self { kind, offset, len: len as u64, came: 0, failure: None, extent: None }
    }

    /// The request's kind.
    pub fn kind(&self) -> u16 {
        self.kind
    }

    /// Whether any data came.
    pub fn has_begun(&self) -> bool {
        self.came != 0
    }

    /// Bytes of the export that come after a heading, at most.
    pub fn payload(&self, heading: &Heading) -> u64 {
        match heading.kind {
            _ if self.kind != command::READ => 0,
            Kind::Simple(0) => self.len,
            Kind::Chunk(chunk::DATA) => u64::from(heading.len),
            Kind::Simple(_) | Kind::Chunk(_) => 0,
        }
    }

    /// Takes in what comes after a heading; what is read goes `into` a buffer as long as the request.
    pub fn hear(
        &mut self,
        heading: &Heading,
        from: &mut Incoming,
        into: &mut [u8],
        agreed: &Agreed,
    ) -> io::Result<()> {
        let len = heading.len;
        match heading.kind {
            Kind::Simple(0) => from.read_exact(self.place(self.offset, self.len, into)?),
            Kind::Simple(number) => {
                self.failure = Some(error_of(number));
                Ok(())
            }
            Kind::Chunk(chunk::NONE) if len == 0 => Ok(()),
            Kind::Chunk(chunk::DATA) if self.kind == command::READ && len > 8 => {
                let offset = read(from)?;
                from.read_exact(self.place(offset, u64::from(len - 8), into)?)
            }
            Kind::Chunk(chunk::HOLE) if self.kind == command::READ && len == 12 => {
                let (offset, hole): (u64, u32) = (read(from)?, read(from)?);
                self.place(offset, u64::from(hole), into)?.fill(0);
                Ok(())
            }
            Kind::Chunk(kind @ (chunk::STATUS | chunk::EXTENDED_STATUS))
                if self.kind == command::BLOCK_STATUS =>
            {
                let body = read_bytes(from, len)?;
                self.extent(&mut Fields(&body), kind == chunk::EXTENDED_STATUS, agreed)
            }
            Kind::Chunk(kind) if kind & chunk::IS_ERROR != 0 && len >= 4 => {
                let body = read_bytes(from, len)?;
                let number = Fields(&body).number()?;
                self.failure.get_or_insert_with(|| error_of(number));
                Ok(())
            }
            Kind::Chunk(_) => Err(wire::broken("a chunk that does not belong there")),
        }
    }

    /// Where bytes of the export go.
    fn place<'a>(&mut self, offset: u64, len: u64, into: &'a mut [u8]) -> io::Result<&'a mut [u8]> {
        let outside = || wire::broken("data that nobody asked for");
        let start = offset.checked_sub(self.offset).ok_or_else(outside)?;
        let start = usize::try_from(start).map_err(|_| outside())?;
        let end = start.checked_add(len as usize).ok_or_else(outside)?;
        self.came += len;
        into.get_mut(start..end).filter(|_| self.came <= self.len).ok_or_else(outside)
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
        self.extent = Some(first);
        Ok(())
    }

    /// The answer, when nothing more comes.
    pub fn finish(self) -> io::Result<FirstExtent> {
        let missing = self.came != self.len;
        match self.failure {
            Some(failure) => Err(failure),
            None if missing => Err(wire::broken("a part of the data is missing")),
            None => Ok(self.extent),
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
