//! The escape character of a shared back end: what is typed after it.

use crate::hub::Request;
use std::fmt::Write;
use std::time::Instant;

/// What a byte of input leads to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reaction {
    /// Nothing.
    Swallow,
    /// It is input (the escape character typed twice).
    Pass(u8),
    /// A text for the terminal.
    Print(String),
    /// A break on the line.
    Break,
    /// The next front end has the input.
    NextFront,
    /// Something for the machine.
    Request(Request),
}

/// State of the escape character, and of time stamps.
#[derive(Debug)]
pub(crate) struct Mux {
    escape: u8,
    escaped: bool,
    /// A doubled escape character is due as plain input.
    passing: bool,
    stamps: Option<Stamps>,
}

#[derive(Debug)]
struct Stamps {
    since: Instant,
    line_start: bool,
}

impl Mux {
    pub fn new(escape: u8) -> Self {
        Self { escape, escaped: false, passing: false, stamps: None }
    }

    /// How many bytes at the start of `bytes` are input like any other.
    pub fn plain(&self, bytes: &[u8]) -> usize {
        if self.escaped || bytes.is_empty() {
            return 0;
        }
        if self.passing {
            return 1;
        }
        bytes.iter().position(|b| *b == self.escape).unwrap_or(bytes.len())
    }

    /// Plain input was taken.
    pub fn passed(&mut self) {
        self.passing = false;
    }

    /// Takes one byte: the escape character, or the one after it.
    pub fn feed(&mut self, byte: u8) -> Reaction {
        if !self.escaped {
            self.escaped = true;
            return Reaction::Swallow;
        }
        self.escaped = false;
        match byte {
            b'?' | b'h' => Reaction::Print(self.help()),
            b'x' => Reaction::Request(Request::Quit),
            b's' => Reaction::Request(Request::SaveDisks),
            b'b' => Reaction::Break,
            b'c' => Reaction::NextFront,
            b't' => {
                let stamps = Stamps { since: Instant::now(), line_start: true };
                self.stamps = if self.stamps.is_some() { None } else { Some(stamps) };
                Reaction::Swallow
            }
            _ if byte == self.escape => {
                self.passing = true;
                Reaction::Pass(byte)
            }
            _ => Reaction::Swallow,
        }
    }

    fn help(&self) -> String {
        let key = match self.escape {
            control @ 1..=26 => format!("C-{}", char::from(control + b'a' - 1)),
            other => format!("{other:#04x}"),
        };
        let lines = [
            ("h   ", "print this help"),
            ("x   ", "exit emulator"),
            ("s   ", "save disk data back to file (if -snapshot)"),
            ("t   ", "toggle console timestamps"),
            ("b   ", "send break (magic sysrq)"),
            ("c   ", "switch between console and monitor"),
        ];
        let mut text = "\n\r".to_owned();
        for (letter, what) in lines {
            let _ = write!(text, "{key} {letter} {what}\n\r");
        }
        let _ = write!(text, "{key} {key}  sends {key}\n\r");
        text
    }

    /// The bytes with the time at the start of each line, when time stamps are on.
    pub fn stamp(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        let stamps = self.stamps.as_mut()?;
        let mut text = Vec::with_capacity(bytes.len() + 16);
        for byte in bytes {
            if std::mem::replace(&mut stamps.line_start, *byte == b'\n') {
                let ms = stamps.since.elapsed().as_millis();
                let (hours, minutes) = (ms / 3_600_000, ms / 60_000 % 60);
                let (seconds, ms) = (ms / 1000 % 60, ms % 1000);
                text.extend(
                    format!("[{hours:02}:{minutes:02}:{seconds:02}.{ms:03}] ").into_bytes(),
                );
            }
            text.push(*byte);
        }
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_escape_character_announces_a_command() {
        let mut mux = Mux::new(1);
        assert_eq!(mux.plain(b"ab\x01x"), 2);
        assert_eq!(mux.plain(b"\x01x"), 0);
        assert_eq!(mux.feed(1), Reaction::Swallow);
        assert_eq!(mux.plain(b"x"), 0);
        assert_eq!(mux.feed(b'x'), Reaction::Request(Request::Quit));
        for (key, reaction) in [
            (b'c', Reaction::NextFront),
            (b'b', Reaction::Break),
            (b's', Reaction::Request(Request::SaveDisks)),
            (b'z', Reaction::Swallow),
        ] {
            mux.feed(1);
            assert_eq!(mux.feed(key), reaction);
        }
        mux.feed(1);
        assert_eq!(mux.feed(1), Reaction::Pass(1));
        assert_eq!(mux.plain(b"\x01abc"), 1);
        mux.passed();
        assert_eq!(mux.plain(b"abc"), 3);
    }

    #[test]
    fn help_names_the_escape_character() {
        let text = Mux::new(1).help();
        assert!(text.starts_with("\n\rC-a h    print this help\n\rC-a x    exit emulator\n\r"));
        assert!(text.ends_with("C-a C-a  sends C-a\n\r"));
        assert!(Mux::new(0x14).help().contains("C-t x    exit"));
    }

    #[test]
    fn time_stamps_stand_at_the_start_of_lines() {
        let mut mux = Mux::new(1);
        assert_eq!(mux.stamp(b"x"), None);
        mux.feed(1);
        mux.feed(b't');
        let text = String::from_utf8(mux.stamp(b"a\nb").unwrap()).unwrap();
        assert_eq!(text.matches("] ").count(), 2, "{text}");
        assert!(text.starts_with("[00:00:"), "{text}");
    }
}
