//! What a server sends, buffered.

use crate::address::Stream;
use std::io::{self, Read};

/// Bytes that are taken from the host at a time, for what is short.
const BUFFER: usize = 64 << 10;
/// Reads from this length on go past the buffer.
const LONG: usize = 32 << 10;

pub(super) struct Incoming {
    stream: Stream,
    buf: Vec<u8>,
    start: usize,
    end: usize,
}

impl Incoming {
    pub fn new(stream: Stream) -> Self {
        Self { stream, buf: vec![0; BUFFER], start: 0, end: 0 }
    }

    /// Whether nothing can be read without asking the host.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Takes what the host has when the buffer is empty; whether that was anything.
    ///
    /// # Errors
    /// Nothing will come any more.
    pub fn fill_now(&mut self) -> io::Result<bool> {
        match self.stream.receive_now(&mut self.buf) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(len) => {
                (self.start, self.end) = (0, len);
                Ok(true)
            }
            Err(failure) => match failure.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(false),
                _ => Err(failure),
            },
        }
    }
}

impl Read for Incoming {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.is_empty() {
            if into.len() >= LONG {
                return self.stream.read(into);
            }
            (self.start, self.end) = (0, 0);
            self.end = self.stream.read(&mut self.buf)?;
        }
        let len = into.len().min(self.end - self.start);
        into[..len].copy_from_slice(&self.buf[self.start..self.start + len]);
        self.start += len;
        Ok(len)
    }
}
