//! Requests that come to plain reads and writes of files of the host, or of what is elsewhere.
//!
//! Nodes block (decision 3). What many requests in flight need no node for is the transfer itself:
//! a node can say at once where the bytes of a request are ([`Node::plain`]), and the
//! front has the kernel carry out many of those together (decision 18).

use std::fs;
use std::io;
use std::sync::Arc;

use host::aio::{self, Interface};

use crate::edge::Flight;
use crate::{Node, RangeHold};

/// How a file's requests are carried out (`aio=`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Aio {
    /// By blocking calls on threads.
    #[default]
    Threads,
    /// By the kernel through Linux AIO, for files that are opened for direct I/O.
    Native,
    /// By the kernel through io_uring.
    IoUring,
    /// By whoever is at the other end of a connection. Nobody chooses that: the node is of that kind.
    Remote,
}

impl Aio {
    /// Every way that users choose, by its name.
    pub const TABLE: &[(&str, Self)] =
        &[("threads", Self::Threads), ("native", Self::Native), ("io_uring", Self::IoUring)];

    /// The way called `name`.
    pub fn named(name: &str) -> Option<Self> {
        Self::TABLE.iter().find(|(n, _)| *n == name).map(|(_, aio)| *aio)
    }

    /// What the kernel has for it.
    pub fn interface(self) -> Option<Interface> {
        match self {
            Self::Threads | Self::Remote => None,
            Self::Native => Some(Interface::Native),
            Self::IoUring => Some(Interface::IoUring),
        }
    }

    /// Whether the kernel lets this process have it.
    ///
    /// # Errors
    /// Why not, in QEMU's words; threads do the work then.
    pub fn check(self) -> Result<(), String> {
        let Some(interface) = self.interface() else { return Ok(()) };
        interface.check().map_err(|e| {
            let (name, what) = match interface {
                Interface::Native => ("Linux AIO", "create linux AIO context"),
                Interface::IoUring => ("linux io_uring", "init linux io_uring ring"),
            };
            let why = crate::host_text(&e);
            format!("Unable to use {name}, falling back to thread pool: failed to {what}: {why}")
        })
    }
}

/// A file that learns of transfers made behind its back.
pub trait PlainFile: Send + Sync {
    /// Bytes up to `end` may have changed.
    fn written(&self, end: u64);
}

/// What happens with the answer to a request, whose buffer comes back. Runs on a thread that carries requests,
/// and must not wait for any.
pub type Answer = Box<dyn FnOnce(io::Result<()>, Vec<u8>) + Send>;

/// A node at the other end of a connection, to which many requests go before the first is answered.
pub trait Remote: Send + Sync {
    /// Sends a request about `buf.len()` bytes at `offset`: a write of `buf`, or a read into it. Returns without
    /// having waited for any answer or for room on the connection.
    fn submit(self: Arc<Self>, offset: u64, write: bool, buf: Vec<u8>, answer: Answer);
}

/// Bytes of a request that are together in a file.
struct Piece {
    file: Arc<fs::File>,
    offset: u64,
    len: u64,
    direct: bool,
    written: Option<Arc<dyn PlainFile>>,
}

/// A stretch of a request.
enum Stretch {
    In(Piece),
    /// Reads as zeroes.
    Zero(u64),
}

/// What must not be given up while a transfer is in flight.
pub(crate) enum Hold {
    Range { _held: RangeHold },
    Flight { _of: Flight },
}

/// What a request comes to: pieces of files, in the order of its bytes. Nothing of it changes its
/// place until this is dropped.
#[derive(Default)]
pub struct Plain {
    stretches: Vec<Stretch>,
    holds: Vec<Hold>,
    interface: Option<Interface>,
    direct: bool,
    /// Bytes whose place is known.
    len: u64,
    /// Where all of it is, if that is elsewhere: the node, and the offset there.
    remote: Option<(Arc<dyn Remote>, u64)>,
}

impl Plain {
    /// The node's answer for a request, if it has one.
    pub fn find(node: &dyn Node, offset: u64, len: u64, write: bool) -> Option<Self> {
        let mut plain = Self::default();
        if !node.plain(offset, len, write, &mut plain) {
            return None;
        }
        let one_way = match &plain.remote {
            Some(_) => plain.stretches.is_empty(),
            None => plain.interface.is_some(),
        };
        one_way.then_some(plain)
    }

    /// All of the request is elsewhere, from `offset` on. `false` if a part of it was found already.
    pub fn away(&mut self, remote: Arc<dyn Remote>, offset: u64) -> bool {
        let first = self.remote.is_none() && self.stretches.is_empty();
        self.remote = Some((remote, offset));
        first
    }

    /// Sends the request to where all of it is ([`Plain::interface`] has nothing to say about it).
    pub fn send(mut self, write: bool, buf: Vec<u8>, answer: Answer) {
        let Some((remote, offset)) = self.remote.take() else {
            return answer(Err(io::ErrorKind::InvalidInput.into()), buf);
        };
        let answer = Box::new(move |result, buf| {
            // Nothing is held any more when the answer is told.
            drop(self);
            answer(result, buf);
        });
        remote.submit(offset, write, buf, answer);
    }

    /// The next `len` bytes are in `file` at `offset`. `false` if one request would need two interfaces
    /// of the kernel, or memory that is not aligned.
    pub fn piece(
        &mut self,
        file: &Arc<fs::File>,
        offset: u64,
        len: u64,
        how: (Interface, bool),
        written: Option<Arc<dyn PlainFile>>,
    ) -> bool {
        let (interface, direct) = how;
        // Memory is aligned where the request begins.
        let askew = direct && !self.len.is_multiple_of(ALIGN as u64);
        if askew || self.remote.is_some() || self.interface.is_some_and(|other| other != interface)
        {
            return false;
        }
        self.len += len;
        self.interface = Some(interface);
        self.direct |= direct;
        let file = Arc::clone(file);
        self.stretches.push(Stretch::In(Piece { file, offset, len, direct, written }));
        true
    }

    /// The next `len` bytes read as zeroes.
    pub fn zeroes(&mut self, len: u64) {
        self.len += len;
        self.stretches.push(Stretch::Zero(len));
    }

    /// Keeps a range in use.
    pub fn hold(&mut self, held: RangeHold) {
        self.holds.push(Hold::Range { _held: held });
    }

    pub(crate) fn count_in(&mut self, flight: Flight) {
        self.holds.push(Hold::Flight { _of: flight });
    }

    /// Which interface of the kernel is meant for it; none for what is sent away.
    pub fn interface(&self) -> Option<Interface> {
        self.interface
    }

    /// Whether memory must be aligned as [`ALIGN`] says.
    pub fn is_direct(&self) -> bool {
        self.direct
    }

    /// The transfer of `buf[at..]`, as a ring takes it. Zeroes are put into the buffer already.
    pub fn request(&self, tag: u64, write: bool, mut buf: Vec<u8>, at: usize) -> aio::Request {
        let mut pieces = Vec::with_capacity(self.stretches.len());
        let mut start = at;
        for stretch in &self.stretches {
            match stretch {
                Stretch::In(piece) => {
                    let end = start.saturating_add(piece.len as usize);
                    let (file, offset) = (Arc::clone(&piece.file), piece.offset);
                    pieces.push(aio::Piece {
                        file,
                        offset,
                        range: start..end,
                        direct: piece.direct,
                    });
                    start = end;
                }
                Stretch::Zero(len) => {
                    let end = start.saturating_add(*len as usize);
                    if let Some(zero) = buf.get_mut(start..end) {
                        zero.fill(0);
                    }
                    start = end;
                }
            }
        }
        aio::Request { tag, write, buf, pieces }
    }

    /// Tells the files that a write was made, or tried.
    pub fn written(&self) {
        for stretch in &self.stretches {
            if let Stretch::In(Piece { offset, len, written: Some(file), .. }) = stretch {
                file.written(offset + len);
            }
        }
    }
}

/// Alignment in memory that every direct transfer is content with, in bytes.
pub const ALIGN: usize = 4096;

/// Where an aligned part of `buf` begins.
pub fn aligned_start(buf: &[u8]) -> usize {
    buf.as_ptr().align_offset(ALIGN).min(buf.len())
}
