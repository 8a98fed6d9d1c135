//! Messages as they are sent ("Message Specification").

/// Numbers of the front end's requests.
#[allow(missing_docs, reason = "the names are the specification's")]
pub mod request {
    pub const GET_FEATURES: u32 = 1;
    pub const SET_FEATURES: u32 = 2;
    pub const SET_OWNER: u32 = 3;
    pub const RESET_OWNER: u32 = 4;
    pub const SET_MEM_TABLE: u32 = 5;
    pub const SET_VRING_NUM: u32 = 8;
    pub const SET_VRING_ADDR: u32 = 9;
    pub const SET_VRING_BASE: u32 = 10;
    pub const GET_VRING_BASE: u32 = 11;
    pub const SET_VRING_KICK: u32 = 12;
    pub const SET_VRING_CALL: u32 = 13;
    pub const SET_VRING_ERR: u32 = 14;
    pub const GET_PROTOCOL_FEATURES: u32 = 15;
    pub const SET_PROTOCOL_FEATURES: u32 = 16;
    pub const GET_QUEUE_NUM: u32 = 17;
    pub const SET_VRING_ENABLE: u32 = 18;
    pub const SET_BACKEND_REQ_FD: u32 = 21;
    pub const GET_CONFIG: u32 = 24;
    pub const SET_CONFIG: u32 = 25;
    pub const GET_INFLIGHT_FD: u32 = 31;
    pub const SET_INFLIGHT_FD: u32 = 32;
    pub const RESET_DEVICE: u32 = 34;
    pub const GET_MAX_MEM_SLOTS: u32 = 36;
    pub const ADD_MEM_REG: u32 = 37;
    pub const REM_MEM_REG: u32 = 38;
}

/// "The configuration space changed", from us to the front end.
pub(crate) const CONFIG_CHANGE: u32 = 2;

/// Protocol features, and the bit that says that there are any.
pub mod protocol {
    /// `VHOST_USER_F_PROTOCOL_FEATURES`, among the device's features.
    pub const FEATURES: u64 = 1 << 30;
    /// More than one queue.
    pub const MQ: u64 = 1 << 0;
    /// Requests can ask for an answer.
    pub const REPLY_ACK: u64 = 1 << 3;
    /// A channel in the other direction.
    pub const BACKEND_REQ: u64 = 1 << 5;
    /// The configuration space.
    pub const CONFIG: u64 = 1 << 9;
    /// Requests in flight are accounted for in memory that outlives us.
    pub const INFLIGHT_SHMFD: u64 = 1 << 12;
    /// The device can be reset.
    pub const RESET_DEVICE: u64 = 1 << 13;
    /// Memory comes and goes in pieces.
    pub const CONFIGURE_MEM_SLOTS: u64 = 1 << 15;
    /// All that we offer.
    pub const OFFERED: u64 =
        MQ | REPLY_ACK | BACKEND_REQ | CONFIG | INFLIGHT_SHMFD | RESET_DEVICE | CONFIGURE_MEM_SLOTS;
}

/// Flags of a message.
pub mod flag {
    /// The version, in the lowest two bits.
    pub const VERSION: u32 = 1;
    /// It is an answer.
    pub const REPLY: u32 = 1 << 2;
    /// An answer is asked for.
    pub const NEED_REPLY: u32 = 1 << 3;
}

/// Bytes of a header.
pub(crate) const HEADER: usize = 12;
/// Most bytes behind a header; the largest message has 8 regions of memory, or 256 bytes of
/// configuration.
pub(crate) const MOST: usize = 512;
/// Most descriptors with a message.
pub(crate) const MOST_FDS: usize = 8;

/// What every message begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What is asked, or answered.
    pub request: u32,
    /// See [`flag`].
    pub flags: u32,
    /// Bytes that follow.
    pub len: u32,
}

impl Header {
    /// Reads one.
    pub fn parse(bytes: [u8; HEADER]) -> Self {
        let mut fields = Fields(&bytes);
        let [request, flags, len] = [fields.u32(), fields.u32(), fields.u32()];
        Self { request, flags, len }
    }

    /// Its bytes.
    pub fn bytes(self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        for (at, word) in bytes.chunks_exact_mut(4).zip([self.request, self.flags, self.len]) {
            at.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }
}

/// What is left of a payload, little-endian. Its length has been checked: behind its end there are
/// zeroes.
pub(crate) struct Fields<'a>(pub &'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let mut taken = [0; N];
        let n = N.min(self.0.len());
        taken[..n].copy_from_slice(&self.0[..n]);
        self.0 = &self.0[n..];
        taken
    }

    pub fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.take())
    }

    pub fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }

    pub fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_what_was_written() {
        let header = Header { request: 5, flags: 9, len: 0x0102_0304 };
        assert_eq!(header.bytes(), [5, 0, 0, 0, 9, 0, 0, 0, 4, 3, 2, 1]);
        assert_eq!(Header::parse(header.bytes()), header);
    }
}
