//! Packets of SFTP version 3; everything is big-endian.

use std::io::{self, Read};

/// Version that is spoken.
pub(crate) const VERSION: u32 = 3;
/// Longest packet that is read.
pub(crate) const MAX_PACKET: u32 = 256 << 10;
/// Bytes of one read or write: every server takes so many.
pub(crate) const PIECE: usize = 32 << 10;
/// Flushes a file.
pub(crate) const FSYNC: &str = "fsync@openssh.com";

/// Kinds of packets.
pub(crate) mod kind {
    pub const INIT: u8 = 1;
    pub const VERSION: u8 = 2;
    pub const OPEN: u8 = 3;
    pub const READ: u8 = 5;
    pub const WRITE: u8 = 6;
    pub const FSTAT: u8 = 8;
    pub const FSETSTAT: u8 = 10;
    pub const STATUS: u8 = 101;
    pub const HANDLE: u8 = 102;
    pub const DATA: u8 = 103;
    pub const ATTRS: u8 = 105;
    pub const EXTENDED: u8 = 200;
}

/// How a file is opened.
pub(crate) mod open {
    pub const READ: u32 = 1;
    pub const WRITE: u32 = 2;
    pub const CREATE: u32 = 8;
    pub const TRUNCATE: u32 = 16;
}

/// Which attributes are there.
pub(crate) const ATTR_SIZE: u32 = 1;
const ATTR_OWNER: u32 = 2;
const ATTR_MODE: u32 = 4;
/// The file's mode is told.
pub(crate) const ATTR_PERMISSIONS: u32 = ATTR_MODE;

/// Results of operations.
pub(crate) mod status {
    pub const OK: u32 = 0;
    pub const EOF: u32 = 1;
    pub const NO_SUCH_FILE: u32 = 2;
    pub const PERMISSION_DENIED: u32 = 3;
    pub const UNSUPPORTED: u32 = 8;
}

/// A reply to a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// How it went, and words for people.
    Status(u32, String),
    /// A file that was opened.
    Handle(Vec<u8>),
    /// What was read.
    Data(Vec<u8>),
    /// A file's length and mode, where told.
    Attributes { size: Option<u64>, mode: Option<u32> },
}

/// The other side does not keep to the protocol.
pub(crate) fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("SFTP: {what}"))
}

/// Reads a packet: its kind and its body.
pub(crate) fn read_packet(from: &mut impl Read) -> io::Result<(u8, Vec<u8>)> {
    let mut len = [0; 4];
    from.read_exact(&mut len)?;
    let len = u32::from_be_bytes(len);
    // Looked at first: nothing follows an empty packet, and who waits for more waits for good.
    if len == 0 || len > MAX_PACKET {
        return Err(broken("a packet has an impossible length"));
    }
    let mut kind = [0];
    from.read_exact(&mut kind)?;
    let mut body = vec![0; len as usize - 1];
    from.read_exact(&mut body)?;
    Ok((kind[0], body))
}

/// What a packet after the greeting says: to which request, and what.
pub(crate) fn parse(kind: u8, body: Vec<u8>) -> io::Result<(u32, Reply)> {
    let mut fields = Fields(&body);
    let id = fields.number()?;
    let reply = match kind {
        kind::STATUS => {
            let code = fields.number()?;
            // Early servers leave the words out.
            let text = fields.text().unwrap_or_default();
            Reply::Status(code, String::from_utf8_lossy(text).into_owned())
        }
        kind::HANDLE => Reply::Handle(fields.text()?.to_vec()),
        kind::DATA => Reply::Data(fields.text()?.to_vec()),
        kind::ATTRS => {
            let flags = fields.number()?;
            let size = (flags & ATTR_SIZE != 0).then(|| fields.long()).transpose()?;
            if flags & ATTR_OWNER != 0 {
                fields.long()?;
            }
            let mode = (flags & ATTR_MODE != 0).then(|| fields.number()).transpose()?;
            Reply::Attributes { size, mode }
        }
        _ => return Err(broken("a packet of an unknown kind")),
    };
    Ok((id, reply))
}

/// The names of a server's extensions.
pub(crate) fn extensions(body: &[u8]) -> io::Result<Vec<String>> {
    let mut fields = Fields(body);
    if fields.number()? < VERSION {
        return Err(broken("the server is too old"));
    }
    let mut names = Vec::new();
    while !fields.0.is_empty() {
        names.push(String::from_utf8_lossy(fields.text()?).into_owned());
        fields.text()?;
    }
    Ok(names)
}

/// What bytes in a packet say, field by field.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn number(&mut self) -> io::Result<u32> {
        let short = || broken("a packet is too short");
        let (now, rest) = self.0.split_first_chunk().ok_or_else(short)?;
        self.0 = rest;
        Ok(u32::from_be_bytes(*now))
    }

    fn long(&mut self) -> io::Result<u64> {
        Ok(u64::from(self.number()?) << 32 | u64::from(self.number()?))
    }

    fn text(&mut self) -> io::Result<&'a [u8]> {
        let len = self.number()? as usize;
        let short = || broken("a packet is too short");
        let (now, rest) = self.0.split_at_checked(len).ok_or_else(short)?;
        self.0 = rest;
        Ok(now)
    }
}

/// A packet that is being written.
pub(crate) struct Packet(Vec<u8>);

impl Packet {
    pub fn new(kind: u8) -> Self {
        // The length comes last.
        Self(vec![0, 0, 0, 0, kind])
    }

    pub fn number(mut self, value: u32) -> Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    pub fn long(mut self, value: u64) -> Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// Bytes after their length; callers bound them.
    pub fn text(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
        self.0.extend_from_slice(bytes);
        self
    }

    pub fn finish(mut self) -> Vec<u8> {
        let len = self.0.len() as u32 - 4;
        self.0[..4].copy_from_slice(&len.to_be_bytes());
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_read_as_they_are_written() {
        let packet = Packet::new(kind::STATUS).number(7).number(2).text(b"no").text(b"en").finish();
        let (kind, body) = read_packet(&mut packet.as_slice()).expect("it is whole");
        let expected = (7, Reply::Status(2, "no".to_owned()));
        assert_eq!(parse(kind, body).expect("it is one"), expected);
        let packet = Packet::new(kind::ATTRS).number(1).number(7).long(9).long(0).number(0o644);
        let (kind, body) = read_packet(&mut packet.finish().as_slice()).expect("it is whole");
        let attributes = Reply::Attributes { size: Some(9), mode: Some(0o644) };
        assert_eq!(parse(kind, body).expect("it is one"), (1, attributes));
        assert!(read_packet(&mut [0, 0, 0, 0, 1].as_slice()).is_err());
        // A packet without anything in it is refused before more is waited for.
        let refused = read_packet(&mut [0, 0, 0, 0].as_slice()).expect_err("it is empty");
        assert_eq!(refused.kind(), io::ErrorKind::InvalidData);
        assert!(read_packet(&mut [0xff, 0, 0, 0, 1].as_slice()).is_err());
        assert!(parse(kind::DATA, vec![0, 0, 0, 1, 0, 0, 0, 5, 1]).is_err());
    }
}
