//! What is printed about a request.

use std::time::Duration;

/// A number of bytes, with three decimals where it is no whole number of units.
pub(super) fn bytes(value: f64) -> String {
    const UNITS: [&str; 7] = ["bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let unit = UNITS.len() - 1;
    let unit = (1..=unit).rev().find(|unit| value >= 1024_f64.powi(*unit as i32)).unwrap_or(0);
    let scaled = value / 1024_f64.powi(unit as i32);
    let digits = format!("{scaled:.3}");
    format!("{} {}", digits.strip_suffix(".000").unwrap_or(&digits), UNITS[unit])
}

/// What one command moved.
pub(super) struct Moved {
    /// `read`, `wrote` or `discard`.
    pub verb: &'static str,
    pub offset: u64,
    pub wanted: u64,
    pub done: u64,
    pub requests: u32,
    pub took: Duration,
}

impl Moved {
    /// Two lines for people.
    pub fn human(&self) -> String {
        let seconds = self.took.as_secs_f64().max(1e-9);
        let rate = bytes(self.done as f64 / seconds);
        let requests = f64::from(self.requests) / seconds;
        let time = format!("{:02}.{:02}", self.took.as_secs(), self.took.subsec_millis() / 10);
        format!(
            "{} {}/{} bytes at offset {}\n{}, {} ops; {time} sec ({rate}/sec and {requests:.4} ops/sec)\n",
            self.verb,
            self.done,
            self.wanted,
            self.offset,
            bytes(self.done as f64),
            self.requests,
        )
    }

    /// One line for programs: bytes, requests, time, bytes and requests per second.
    pub fn machine(&self) -> String {
        let seconds = self.took.as_secs_f64().max(1e-9);
        let whole = self.took.as_secs();
        format!(
            "{},{},{}:{:02}:{:02}.{:02},{:.3},{:.3}\n",
            self.done,
            self.requests,
            whole / 3600,
            whole / 60 % 60,
            whole % 60,
            self.took.subsec_millis() / 10,
            self.done as f64 / seconds,
            f64::from(self.requests) / seconds,
        )
    }
}

/// Sixteen bytes a line, as numbers and as letters.
pub(super) fn dump(offset: u64, data: &[u8]) -> String {
    let mut text = String::new();
    for (row, line) in data.chunks(16).enumerate() {
        text.push_str(&format!("{:08x}:  ", offset + row as u64 * 16));
        for byte in line {
            text.push_str(&format!("{byte:02x} "));
        }
        text.push(' ');
        let letter = |b: &u8| if b.is_ascii_graphic() || *b == b' ' { char::from(*b) } else { '.' };
        text.extend(line.iter().map(letter));
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_keep_three_decimals() {
        for (value, text) in
            [(0.0, "0 bytes"), (512.0, "512 bytes"), (1536.0, "1.500 KiB"), (65536.0, "64 KiB")]
        {
            assert_eq!(bytes(value), text);
        }
    }

    #[test]
    fn a_dump_shows_letters() {
        assert_eq!(dump(16, b"ab\n"), "00000010:  61 62 0a  ab.\n");
    }
}
