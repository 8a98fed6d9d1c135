//! The telnet protocol, as far as a server of a terminal needs it (RFC 854, 857, 858).
//!
//! Options are announced and what the client says about them is skipped; a break and an interrupt
//! become a serial break.

/// Sent to a client: we echo, we suppress go-ahead, both directions are binary.
pub(crate) const GREETING: &[u8] = &[255, 251, 1, 255, 251, 3, 255, 251, 0, 255, 253, 0];

const IAC: u8 = 255;

/// Where in a command the input is.
#[derive(Clone, Copy, Debug, Default)]
enum State {
    /// In data.
    #[default]
    Data,
    /// After IAC.
    Command,
    /// After WILL, WONT, DO or DONT.
    Option,
    /// Inside a subnegotiation.
    Sub,
    /// After IAC inside one.
    SubCommand,
}

/// Takes commands out of a client's bytes.
#[derive(Debug, Default)]
pub(crate) struct Telnet {
    state: State,
    /// The last data byte was a carriage return: a NUL after it is padding.
    after_cr: bool,
}

impl Telnet {
    /// Data in `bytes`, in place; returns its length and whether a break came.
    pub fn filter(&mut self, bytes: &mut [u8]) -> (usize, bool) {
        let (mut kept, mut line_break) = (0, false);
        for at in 0..bytes.len() {
            let byte = bytes[at];
            let data = match (self.state, byte) {
                (State::Data, IAC) => {
                    self.state = State::Command;
                    false
                }
                (State::Data, 0) if self.after_cr => false,
                (State::Data, _) => true,
                (State::Command, IAC) => {
                    self.state = State::Data;
                    true
                }
                (State::Command, command) => {
                    line_break |= matches!(command, 243 | 244);
                    self.state = match command {
                        251..=254 => State::Option,
                        250 => State::Sub,
                        _ => State::Data,
                    };
                    false
                }
                (State::Option, _) => {
                    self.state = State::Data;
                    false
                }
                (State::Sub, _) => {
                    self.state = if byte == IAC { State::SubCommand } else { State::Sub };
                    false
                }
                (State::SubCommand, _) => {
                    self.state = if byte == 240 { State::Data } else { State::Sub };
                    false
                }
            };
            if matches!(self.state, State::Data) {
                self.after_cr = data && byte == b'\r';
            }
            if data {
                bytes[kept] = byte;
                kept += 1;
            }
        }
        (kept, line_break)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_taken_out_across_reads() {
        let mut telnet = Telnet::default();
        let mut bytes = *b"a\xff\xfd";
        assert_eq!(telnet.filter(&mut bytes), (1, false));
        let mut bytes = *b"\x01b\xff\xff\r\0c\xff\xf3\xff\xfa\x18x\xff\xf0d";
        assert_eq!(telnet.filter(&mut bytes), (5, true));
        assert_eq!(&bytes[..5], b"b\xff\rcd");
    }
}
