//! Numbers and layouts of the protocol; everything is big-endian.

use std::io::{self, IoSlice, Read, Write};

/// Begins the greeting of a server: "NBDMAGIC".
pub(crate) const GREETING: u64 = 0x4e42_444d_4147_4943;
/// Begins the option phase and each option: "IHAVEOPT".
pub(crate) const OPTION: u64 = 0x4948_4156_454f_5054;
/// What follows it instead from servers of the old style, which negotiate nothing.
pub(crate) const OLD_STYLE: u64 = 0x0000_4202_8186_1253;
/// Bytes at the end of the greeting of such a server that mean nothing.
pub(crate) const OLD_STYLE_ROOM: u32 = 124;
/// Begins each reply to an option.
pub(crate) const OPTION_REPLY: u64 = 0x0003_e889_0455_65a9;
/// Begins a request with a compact header.
pub(crate) const REQUEST: u32 = 0x2560_9513;
/// Begins a request with an extended header.
pub(crate) const EXTENDED_REQUEST: u32 = 0x21e4_1c71;
/// Begins a simple reply.
pub(crate) const SIMPLE_REPLY: u32 = 0x6744_6698;
/// Begins a chunk of a structured reply.
pub(crate) const CHUNK: u32 = 0x668e_33ef;
/// Begins a chunk of an extended reply.
pub(crate) const EXTENDED_CHUNK: u32 = 0x6e8a_278c;

/// Bytes of a compact request without its data.
pub(crate) const HEADER: usize = 28;

/// Longest name of an export or a context.
pub(crate) const MAX_NAME: u32 = 4096;
/// Longest data of an option that is read.
pub(crate) const MAX_OPTION: u32 = 64 << 10;

/// Flags of the greeting and of the client's answer.
pub(crate) mod handshake {
    pub const FIXED_NEWSTYLE: u16 = 1;
    pub const NO_ZEROES: u16 = 2;
}

/// Options that a client can haggle over.
pub(crate) mod option {
    macro_rules! options {
        ($($name:ident = $number:literal, $text:literal;)*) => {
            $(pub const $name: u32 = $number;)*

            /// What messages call an option.
            pub fn name(number: u32) -> &'static str {
                match number {
                    $($number => $text,)*
                    _ => "<unknown>",
                }
            }
        };
    }
    options! {
        EXPORT_NAME = 1, "export name";
        ABORT = 2, "abort";
        LIST = 3, "list";
        STARTTLS = 5, "starttls";
        INFO = 6, "info";
        GO = 7, "go";
        STRUCTURED_REPLY = 8, "structured reply";
        LIST_META_CONTEXT = 9, "list meta context";
        SET_META_CONTEXT = 10, "set meta context";
        EXTENDED_HEADERS = 11, "extended headers";
    }
}

/// Kinds of replies to options; errors have the highest bit.
pub(crate) mod reply {
    pub const ACK: u32 = 1;
    pub const SERVER: u32 = 2;
    pub const INFO: u32 = 3;
    pub const META_CONTEXT: u32 = 4;
    pub const ERROR: u32 = 1 << 31;
    pub const UNSUPPORTED: u32 = ERROR + 1;
    pub const POLICY: u32 = ERROR + 2;
    pub const INVALID: u32 = ERROR + 3;
    pub const TLS_REQUIRED: u32 = ERROR + 5;
    pub const UNKNOWN: u32 = ERROR + 6;
    pub const TOO_BIG: u32 = ERROR + 9;
    pub const EXTENDED_REQUIRED: u32 = ERROR + 10;
}

/// Kinds of information about an export.
pub(crate) mod info {
    pub const EXPORT: u16 = 0;
    pub const NAME: u16 = 1;
    pub const DESCRIPTION: u16 = 2;
    pub const BLOCK_SIZE: u16 = 3;
}

/// What an export can do.
pub(crate) mod ability {
    pub const HAS_FLAGS: u16 = 1;
    pub const READ_ONLY: u16 = 1 << 1;
    pub const FLUSH: u16 = 1 << 2;
    pub const FUA: u16 = 1 << 3;
    pub const TRIM: u16 = 1 << 5;
    pub const WRITE_ZEROES: u16 = 1 << 6;
    pub const DONT_FRAGMENT: u16 = 1 << 7;
    pub const MULTIPLE: u16 = 1 << 8;
    pub const CACHE: u16 = 1 << 10;
}

/// Commands of the transmission phase.
pub(crate) mod command {
    pub const READ: u16 = 0;
    pub const WRITE: u16 = 1;
    pub const DISCONNECT: u16 = 2;
    pub const FLUSH: u16 = 3;
    pub const TRIM: u16 = 4;
    pub const CACHE: u16 = 5;
    pub const WRITE_ZEROES: u16 = 6;
    pub const BLOCK_STATUS: u16 = 7;
}

/// Flags of commands.
pub(crate) mod flag {
    pub const FUA: u16 = 1;
    pub const NO_HOLE: u16 = 1 << 1;
    pub const ONE_EXTENT: u16 = 1 << 3;
    pub const PAYLOAD: u16 = 1 << 5;
}

/// Kinds of chunks of replies; errors have the highest bit.
pub(crate) mod chunk {
    pub const NONE: u16 = 0;
    pub const DATA: u16 = 1;
    pub const HOLE: u16 = 2;
    pub const STATUS: u16 = 5;
    pub const EXTENDED_STATUS: u16 = 6;
    pub const ERROR: u16 = IS_ERROR | 1;
    /// Bit of the kinds that are errors.
    pub const IS_ERROR: u16 = 1 << 15;
    /// The last chunk of a reply.
    pub const DONE: u16 = 1;
}

/// Error numbers of replies: those of Linux, of which the protocol lists a few.
pub(crate) mod error {
    pub const PERMISSION: u32 = 1;
    pub const IO: u32 = 5;
    pub const NO_MEMORY: u32 = 12;
    pub const INVALID: u32 = 22;
    pub const NO_SPACE: u32 = 28;
    pub const OVERFLOW: u32 = 75;
    pub const NOT_SUPPORTED: u32 = 95;
    pub const SHUTDOWN: u32 = 108;
}

/// A number from the other side.
pub(crate) trait Number: Sized {
    /// Reads it.
    fn read(from: &mut (impl Read + ?Sized)) -> io::Result<Self>;
}

macro_rules! numbers {
    ($($kind:ty)*) => { $(
        impl Number for $kind {
            fn read(from: &mut (impl Read + ?Sized)) -> io::Result<Self> {
                let mut bytes = [0; size_of::<$kind>()];
                from.read_exact(&mut bytes)?;
                Ok(<$kind>::from_be_bytes(bytes))
            }
        }
    )* };
}
numbers!(u16 u32 u64);

/// Reads a number.
pub(crate) fn read<N: Number>(from: &mut (impl Read + ?Sized)) -> io::Result<N> {
    N::read(from)
}

/// Reads so many bytes, of which the caller knows that they are few.
pub(crate) fn read_bytes(from: &mut (impl Read + ?Sized), len: u32) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; len as usize];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Longest message that is put together before it is sent; longer ones are sent in parts, uncopied.
const SHORT: usize = 1024;

/// Sends a header and its data, in one call if the host takes it.
pub(crate) fn send(to: &mut impl Write, header: &[u8], data: &[u8]) -> io::Result<()> {
    if header.len() + data.len() <= SHORT {
        return to.write_all(&[header, data].concat());
    }
    let mut slices = [IoSlice::new(header), IoSlice::new(data)];
    let mut rest = &mut slices[..];
    // Drops empty parts, so that nothing left means that all is sent.
    IoSlice::advance_slices(&mut rest, 0);
    while !rest.is_empty() {
        match to.write_vectored(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(sent) => IoSlice::advance_slices(&mut rest, sent),
            Err(failure) if failure.kind() == io::ErrorKind::Interrupted => {}
            Err(failure) => return Err(failure),
        }
    }
    Ok(())
}

/// Reads so many bytes and forgets them.
pub(crate) fn skip(from: &mut (impl Read + ?Sized), len: u64) -> io::Result<()> {
    match io::copy(&mut from.take(len), &mut io::sink())? {
        n if n == len => Ok(()),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// The other side does not keep to the protocol.
pub(crate) fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("NBD: {what}"))
}

/// What bytes in a message say, field by field.
pub(crate) struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    /// The next number, if there are bytes enough.
    pub fn number<N: Number>(&mut self) -> io::Result<N> {
        N::read(&mut self.0).map_err(|_| broken("a message is too short"))
    }

    /// The next `len` bytes.
    pub fn bytes(&mut self, len: u32) -> io::Result<&'a [u8]> {
        let short = || broken("a message is too short");
        let (now, rest) = self.0.split_at_checked(len as usize).ok_or_else(short)?;
        self.0 = rest;
        Ok(now)
    }

    /// The next text, which its length precedes.
    pub fn text(&mut self) -> io::Result<String> {
        let len = self.number::<u32>()?;
        if len > MAX_NAME {
            return Err(broken("a name is too long"));
        }
        let bytes = self.bytes(len)?.to_vec();
        String::from_utf8(bytes).map_err(|_| broken("a name is not UTF-8"))
    }
}

/// Appends a text and, before it, its length.
pub(crate) fn put_text(message: &mut Vec<u8>, text: &str) {
    // Names are bounded where they come in.
    message.extend_from_slice(&(text.len() as u32).to_be_bytes());
    message.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes three bytes at a time, as a socket that is nearly full may.
    struct Narrow(Vec<u8>);

    impl Write for Narrow {
        fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
            let len = buf.len().min(3);
            self.0.extend_from_slice(&buf[..len]);
            Ok(len)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_message_arrives_whole_whatever_the_socket_takes_at_a_time() {
        let data: Vec<u8> = (0..=255).cycle().take(2 * SHORT).collect();
        for len in [0, 1, SHORT - 16, SHORT - 15, data.len()] {
            let mut to = Narrow(Vec::new());
            assert!(send(&mut to, &[7; 16], &data[..len]).is_ok());
            assert_eq!(to.0, [&[7; 16], &data[..len]].concat(), "{len}");
        }
    }
}
