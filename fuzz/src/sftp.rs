//! Files on other hosts: what an SFTP server sends.

use graph::{Node, WriteFlags};
use ssh::{Options, Ssh};
use std::io::{self, Read, Write};
use std::sync::mpsc::{Receiver, Sender, channel};

/// What the server has still to say, one packet for each that it hears.
struct Server {
    rest: Vec<u8>,
    /// Bytes of the packet that is being said; if there are no more, the server has ended.
    due: usize,
    heard: Receiver<()>,
}

impl Read for Server {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.due == 0 {
            if self.heard.recv().is_err() {
                return Ok(0);
            }
            let len = self.rest.first_chunk().map_or(0, |len| u32::from_be_bytes(*len) as usize);
            self.due = len.saturating_add(4);
        }
        let len = self.due.min(self.rest.len()).min(buf.len());
        buf[..len].copy_from_slice(&self.rest[..len]);
        self.rest.drain(..len);
        self.due -= len;
        Ok(len)
    }
}

/// What the server hears; each packet ends with a flush.
struct Ear(Sender<()>);

impl Write for Ear {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        // A server that has ended hears nothing.
        let _ = self.0.send(());
        Ok(())
    }
}

/// The input is what the server says.
pub fn feed(input: &[u8]) {
    let Ok(options) = Options::parse("ssh://host/file") else { return };
    let options = Options { read_only: input.len() % 2 == 1, ..options };
    let (said, heard) = channel();
    let from = Server { rest: input[..input.len().min(1 << 18)].to_vec(), due: 0, heard };
    let Ok(node) = Ssh::over_streams(from, Ear(said), &options) else { return };
    let mut buf = [0; 4096];
    let read = node.read_at(0, &mut buf);
    let status = node.block_status(0, node.size().max(1));
    if let Ok(extent) = status {
        assert!(extent.len != 0, "an extent has a length");
    }
    let written = node.write_at(0, &buf, WriteFlags { fua: true });
    // What fails, fails without a panic.
    let _ = (read, written, node.flush());
}

fn packet(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = (body.len() as u32 + 1).to_be_bytes().to_vec();
    bytes.push(kind);
    bytes.extend_from_slice(body);
    bytes
}

/// A server that opens a file, reads and writes it.
pub fn seeds() -> Vec<Vec<u8>> {
    let greeting = packet(2, b"\0\0\0\x03\0\0\0\x11fsync@openssh.com\0\0\0\x011");
    let handle = packet(102, b"\0\0\0\0\0\0\0\x04\0\0\0\0");
    let attributes = packet(105, b"\0\0\0\x01\0\0\0\x05\0\0\0\0\0\0\x10\0\0\0\x81\xa4");
    let data = [&[0, 0, 0, 2, 0, 0, 0x10, 0][..], &[7; 4096]].concat();
    let done = |id: u8| packet(101, &[0, 0, 0, id, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let whole =
        [greeting.clone(), handle, attributes, packet(103, &data), done(3), done(4), done(5)];
    let refused = packet(101, b"\0\0\0\0\0\0\0\x03\0\0\0\x02no\0\0\0\0");
    vec![whole.concat(), [greeting, refused].concat()]
}
