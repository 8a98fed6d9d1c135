//! Packets on the wire: `$payload#checksum`, escapes, acknowledgements, and the interrupt byte.

/// Longest payload that is taken or sent, in bytes.
pub const MAX_PACKET: usize = 4096;

const ESCAPE: u8 = b'}';
const ESCAPED: u8 = 0x20;

/// What came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A packet whose checksum is right: its payload, without escapes.
    Packet(Vec<u8>),
    /// A packet that is damaged or too long: to be sent again.
    Damaged,
    /// The debugger wants the target to stop.
    Interrupt,
    /// The last packet arrived.
    Ack,
    /// It did not: it is to be sent again.
    Nack,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Outside,
    Payload,
    Escape,
    FirstDigit,
    SecondDigit(u8),
}

/// Finds packets in a stream of bytes.
#[derive(Debug, Default)]
pub struct Decoder {
    state: State,
    payload: Vec<u8>,
    sum: u8,
    /// The payload is longer than any may be: the rest is not kept.
    long: bool,
}

impl Decoder {
    /// Takes a byte; what it completes.
    pub fn push(&mut self, byte: u8) -> Option<Input> {
        match self.state {
            State::Outside => self.outside(byte),
            State::Payload => {
                match byte {
                    b'#' => self.state = State::FirstDigit,
                    // A packet that begins anew: the rest of the last one is lost.
                    b'$' => self.begin(),
                    ESCAPE => {
                        self.sum = self.sum.wrapping_add(byte);
                        self.state = State::Escape;
                    }
                    _ => self.keep(byte, byte),
                }
                None
            }
            State::Escape => {
                self.keep(byte, byte ^ ESCAPED);
                self.state = State::Payload;
                None
            }
            State::FirstDigit => {
                self.state = State::SecondDigit(byte);
                None
            }
            State::SecondDigit(first) => {
                self.state = State::Outside;
                let sum = digit(first).zip(digit(byte)).map(|(high, low)| high << 4 | low);
                let whole = sum == Some(self.sum) && !self.long;
                let payload = std::mem::take(&mut self.payload);
                Some(if whole { Input::Packet(payload) } else { Input::Damaged })
            }
        }
    }

    fn outside(&mut self, byte: u8) -> Option<Input> {
        match byte {
            b'$' => {
                self.begin();
                None
            }
            b'+' => Some(Input::Ack),
            b'-' => Some(Input::Nack),
            3 => Some(Input::Interrupt),
            _ => None,
        }
    }

    fn begin(&mut self) {
        *self = Self { state: State::Payload, ..Self::default() };
    }

    fn keep(&mut self, raw: u8, byte: u8) {
        self.sum = self.sum.wrapping_add(raw);
        if self.payload.len() < MAX_PACKET {
            self.payload.push(byte);
        } else {
            self.long = true;
        }
    }
}

fn digit(byte: u8) -> Option<u8> {
    // A digit is below 16.
    char::from(byte).to_digit(16).map(|digit| digit as u8)
}

/// A packet around a payload, whose bytes are escaped where they must be.
pub fn frame(payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![b'$'];
    let mut sum = 0_u8;
    for &byte in payload {
        if matches!(byte, b'#' | b'$' | b'*' | ESCAPE) {
            packet.extend([ESCAPE, byte ^ ESCAPED]);
            sum = sum.wrapping_add(ESCAPE).wrapping_add(byte ^ ESCAPED);
        } else {
            packet.push(byte);
            sum = sum.wrapping_add(byte);
        }
    }
    packet.extend(format!("#{sum:02x}").bytes());
    packet
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(bytes: &[u8]) -> Vec<Input> {
        let mut decoder = Decoder::default();
        bytes.iter().filter_map(|&byte| decoder.push(byte)).collect()
    }

    #[test]
    fn what_is_framed_is_found_again() {
        let all: Vec<u8> = (0..=255).collect();
        for payload in [&b""[..], b"OK", b"}#$*", &all] {
            assert_eq!(decode(&frame(payload)), [Input::Packet(payload.to_vec())]);
        }
        assert_eq!(frame(b"OK"), b"$OK#9a");
    }

    #[test]
    fn damage_is_noticed_and_what_follows_is_read() {
        assert_eq!(decode(b"$OK#9b$OK#9a"), [Input::Damaged, Input::Packet(b"OK".to_vec())]);
        assert_eq!(decode(b"$O$OK#9a"), [Input::Packet(b"OK".to_vec())]);
        assert_eq!(decode(b"$OK#zz"), [Input::Damaged]);
        assert_eq!(decode(b"+-\x03x"), [Input::Ack, Input::Nack, Input::Interrupt]);
        let long = frame(&vec![b'a'; MAX_PACKET + 1]);
        assert_eq!(decode(&long), [Input::Damaged]);
    }
}
