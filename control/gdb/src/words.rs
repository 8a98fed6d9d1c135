//! Numbers in packets: hexadecimal, in big-endian order where they are numbers, by the byte where they are
//! memory.

use crate::target::ThreadId;

/// The rest of a packet, from which words are taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Words<'a>(pub &'a [u8]);

impl<'a> Words<'a> {
    /// Takes a prefix off; whether it was there.
    pub fn take(&mut self, prefix: &str) -> bool {
        match self.0.strip_prefix(prefix.as_bytes()) {
            Some(rest) => {
                self.0 = rest;
                true
            }
            None => false,
        }
    }

    /// Everything up to a byte, which is taken, too; all if there is none.
    pub fn until(&mut self, end: u8) -> &'a [u8] {
        let at = self.0.iter().position(|&byte| byte == end);
        let (word, rest) = match at {
            Some(at) => (&self.0[..at], &self.0[at + 1..]),
            None => (self.0, &[][..]),
        };
        self.0 = rest;
        word
    }

    /// A number in hexadecimal digits.
    pub fn number(&mut self) -> Option<u64> {
        let digits = self.0.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let (word, rest) = self.0.split_at(digits);
        let number = u64::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok()?;
        self.0 = rest;
        Some(number)
    }

    /// Two numbers with a byte between them.
    pub fn pair(&mut self, between: &str) -> Option<(u64, u64)> {
        let first = self.number()?;
        self.take(between).then(|| self.number()).flatten().map(|second| (first, second))
    }

    /// A thread, as `[pPROCESS.]THREAD`.
    pub fn thread(&mut self) -> Option<Named> {
        if self.take("p") {
            let process = self.id()?;
            let thread = if self.take(".") { self.id()? } else { Id::All };
            return Some(if process == Id::All { Named::All } else { thread.named() });
        }
        Some(self.id()?.named())
    }

    fn id(&mut self) -> Option<Id> {
        if self.take("-1") {
            return Some(Id::All);
        }
        self.number().map(|id| if id == 0 { Id::Any } else { Id::One(id) })
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Id {
    All,
    Any,
    One(u64),
}

impl Id {
    fn named(self) -> Named {
        match self {
            Self::All => Named::All,
            Self::Any => Named::Any,
            Self::One(id) => Named::One(ThreadId(id)),
        }
    }
}

/// Which thread a packet means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Named {
    /// All of them.
    All,
    /// Whichever the target likes.
    Any,
    /// This one.
    One(ThreadId),
}

/// Bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // A string takes everything.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Bytes from hexadecimal digits; `None` if they are none, or not in pairs.
pub(crate) fn unhex(digits: &[u8]) -> Option<Vec<u8>> {
    let pair = |pair: &[u8]| {
        let text = std::str::from_utf8(pair).ok().filter(|_| pair.len() == 2)?;
        u8::from_str_radix(text, 16).ok().filter(|_| !text.starts_with('+'))
    };
    digits.chunks(2).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_have_two_forms() {
        let thread = |text: &str| Words(text.as_bytes()).thread();
        assert_eq!(thread("-1"), Some(Named::All));
        assert_eq!(thread("0"), Some(Named::Any));
        assert_eq!(thread("p1.1f"), Some(Named::One(ThreadId(0x1f))));
        assert_eq!(thread("p1.-1"), Some(Named::All));
        assert_eq!(thread("p-1"), Some(Named::All));
        assert_eq!(thread("p0.0"), Some(Named::Any));
        assert_eq!(thread("x"), None);
    }

    #[test]
    fn bytes_are_pairs_of_digits() {
        assert_eq!(unhex(b"00ff7A"), Some(vec![0, 255, 0x7a]));
        assert_eq!(unhex(b""), Some(vec![]));
        for wrong in [&b"0"[..], b"0g", b"+1", b"000"] {
            assert_eq!(unhex(wrong), None);
        }
        assert_eq!(hex(&[0, 0xab]), "00ab");
    }
}
