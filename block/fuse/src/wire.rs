//! The kernel's protocol on `/dev/fuse`, version 7.31, as far as a single file needs it (fuse(4), and the
//! kernel's user-space header `linux/fuse.h`). Numbers have the host's byte order.

/// Length of what begins a request.
pub const IN_HEADER: usize = 40;
/// Length of what begins an answer.
pub const OUT_HEADER: usize = 16;
/// The file itself: the only node there is.
pub const ROOT: u64 = 1;

/// What the kernel asks for.
pub mod opcode {
    #![allow(missing_docs, reason = "the kernel's names")]
    pub const FORGET: u32 = 2;
    pub const GETATTR: u32 = 3;
    pub const SETATTR: u32 = 4;
    pub const OPEN: u32 = 14;
    pub const READ: u32 = 15;
    pub const WRITE: u32 = 16;
    pub const STATFS: u32 = 17;
    pub const RELEASE: u32 = 18;
    pub const FSYNC: u32 = 20;
    pub const FLUSH: u32 = 25;
    pub const INIT: u32 = 26;
    pub const INTERRUPT: u32 = 36;
    pub const DESTROY: u32 = 38;
    pub const BATCH_FORGET: u32 = 42;
    pub const FALLOCATE: u32 = 43;
    pub const LSEEK: u32 = 46;
}

/// Error numbers of Linux.
pub mod errno {
    #![allow(missing_docs, reason = "the system's names")]
    pub const EIO: i32 = 5;
    pub const ENXIO: i32 = 6;
    pub const EACCES: i32 = 13;
    pub const ENOTDIR: i32 = 20;
    pub const EINVAL: i32 = 22;
    pub const EFBIG: i32 = 27;
    pub const ENOSPC: i32 = 28;
    pub const EROFS: i32 = 30;
    pub const ENOSYS: i32 = 38;
    pub const EOPNOTSUPP: i32 = 95;
}

/// What begins a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Bytes of the request with this header.
    pub len: u32,
    /// What is asked for.
    pub opcode: u32,
    /// Number for the answer.
    pub unique: u64,
    /// The file that it is about.
    pub node: u64,
}

/// The arguments of a request, taken from the front.
pub struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*first)
    }

    /// A number of 32 bits.
    pub fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_ne_bytes)
    }

    /// A number of 64 bits.
    pub fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_ne_bytes)
    }

    /// Leaves bytes out.
    pub fn skip(&mut self, len: usize) -> Option<()> {
        self.0 = self.0.get(len..)?;
        Some(())
    }
}

impl Header {
    /// The header of a request, and what follows; `None` if it is cut off.
    pub fn parse(request: &[u8]) -> Option<(Self, Fields<'_>)> {
        let mut fields = Fields(request);
        let (len, opcode) = (fields.u32()?, fields.u32()?);
        let (unique, node) = (fields.u64()?, fields.u64()?);
        fields.skip(IN_HEADER - 24)?;
        let rest = (len as usize).checked_sub(IN_HEADER)?;
        fields.0 = fields.0.get(..rest)?;
        Some((Self { len, opcode, unique, node }, fields))
    }
}

/// An answer as it grows.
#[derive(Default)]
pub struct Answer(pub Vec<u8>);

impl Answer {
    /// Adds numbers of 64 bits.
    #[must_use]
    pub fn u64s(mut self, numbers: &[u64]) -> Self {
        numbers.iter().for_each(|n| self.0.extend(n.to_ne_bytes()));
        self
    }

    /// Adds numbers of 32 bits.
    #[must_use]
    pub fn u32s(mut self, numbers: &[u32]) -> Self {
        numbers.iter().for_each(|n| self.0.extend(n.to_ne_bytes()));
        self
    }

    /// Adds numbers of 16 bits.
    #[must_use]
    pub fn u16s(mut self, numbers: &[u16]) -> Self {
        numbers.iter().for_each(|n| self.0.extend(n.to_ne_bytes()));
        self
    }

    /// The whole message for the request `unique`; the error is a number of the system.
    pub fn message(unique: u64, answer: Result<Self, i32>) -> Vec<u8> {
        let (error, body) = answer.map_or_else(|e| (-e, Vec::new()), |answer| (0, answer.0));
        let mut message = ((OUT_HEADER + body.len()) as u32).to_ne_bytes().to_vec();
        message.extend(error.to_ne_bytes());
        message.extend(unique.to_ne_bytes());
        message.extend(body);
        message
    }
}
