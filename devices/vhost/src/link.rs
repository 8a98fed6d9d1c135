//! The socket to a front end. Nothing here waits: a front end that sends half a message, or does not
//! read its answers, harms only itself.

use crate::wire::{HEADER, Header, MOST, MOST_FDS, flag};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

/// A message with the descriptors that came with it.
pub(crate) struct Message {
    pub header: Header,
    pub payload: Vec<u8>,
    pub fds: Vec<OwnedFd>,
}

/// What receiving came to.
pub(crate) enum Received {
    /// A whole message.
    Message(Message),
    /// Nothing whole yet.
    Nothing,
    /// The front end is gone.
    Gone,
}

/// A connection, with what came of the next message.
pub(crate) struct Link {
    stream: UnixStream,
    bytes: Vec<u8>,
    fds: Vec<OwnedFd>,
}

impl Link {
    pub fn new(stream: UnixStream) -> Self {
        Self { stream, bytes: Vec::new(), fds: Vec::new() }
    }

    /// Bytes that the message lacks, as far as is known.
    fn missing(&self) -> Result<usize, String> {
        let Some(header) = self.bytes.first_chunk() else { return Ok(HEADER - self.bytes.len()) };
        let len = Header::parse(*header).len as usize;
        if len > MOST {
            return Err(format!("a message has {len} bytes"));
        }
        Ok(HEADER + len - self.bytes.len())
    }

    /// Takes what has come of the next message.
    ///
    /// # Errors
    /// The front end broke the protocol.
    pub fn receive(&mut self) -> Result<Received, String> {
        loop {
            let missing = self.missing()?;
            if missing == 0 {
                return Ok(Received::Message(self.finish()));
            }
            match self.read(missing) {
                Ok(0) => return Ok(Received::Gone),
                Ok(_) => {}
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(Received::Nothing),
                Err(_) => return Ok(Received::Gone),
            }
            if self.fds.len() > MOST_FDS {
                return Err(format!("a message has more than {MOST_FDS} descriptors"));
            }
        }
    }

    /// Reads at most `most` bytes, and the descriptors that belong to them.
    fn read(&mut self, most: usize) -> Result<usize, Errno> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FDS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut buf = [0; HEADER + MOST];
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
        let mut parts = [IoSliceMut::new(&mut buf[..most])];
        let n = recvmsg(&self.stream, &mut parts, &mut control, flags)?.bytes;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                self.fds.extend(fds);
            }
        }
        self.bytes.extend_from_slice(&buf[..n]);
        Ok(n)
    }

    fn finish(&mut self) -> Message {
        let bytes = std::mem::take(&mut self.bytes);
        let (header, payload) = bytes.split_first_chunk().expect("missing() saw the header");
        let fds = std::mem::take(&mut self.fds);
        Message { header: Header::parse(*header), payload: payload.to_vec(), fds }
    }

    /// Answers a request.
    ///
    /// # Errors
    /// The front end is gone, or does not read.
    pub fn answer(&self, request: u32, payload: &[u8], fd: Option<&OwnedFd>) -> io::Result<()> {
        send(self.stream.as_fd(), request, flag::VERSION | flag::REPLY, payload, fd)
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// Sends a message whole, or fails.
pub(crate) fn send(
    socket: BorrowedFd<'_>,
    request: u32,
    flags: u32,
    payload: &[u8],
    fd: Option<&OwnedFd>,
) -> io::Result<()> {
    let header = Header { request, flags, len: payload.len() as u32 }.bytes();
    let fds: Vec<BorrowedFd<'_>> = fd.map(AsFd::as_fd).into_iter().collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let parts = [IoSlice::new(&header), IoSlice::new(payload)];
    let sent = loop {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        match sendmsg(socket, &parts, &mut control, flags) {
            Err(Errno::INTR) => {}
            other => break other?,
        }
    };
    if sent == HEADER + payload.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}
