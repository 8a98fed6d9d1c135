//! Numbers and lists for people.

use crate::Failure;
use options::{SizeProblem, parse_size};

/// A number of bytes with three significant digits and a binary unit: `196 KiB`, `1.5 GiB`.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut unit = 0;
    let mut scaled = bytes as f64;
    // 999.5 and more would show as 1000.
    while scaled >= 999.5 && unit + 1 < UNITS.len() {
        scaled /= 1024.0;
        unit += 1;
    }
    format!("{} {}", three_digits(scaled), UNITS[unit])
}

/// Three significant digits, without zeros at the end (`%.3g`).
fn three_digits(value: f64) -> String {
    let before_point = if value < 1.0 { 0 } else { value.log10() as usize + 1 };
    let text = format!("{value:.*}", 3_usize.saturating_sub(before_point));
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

/// A size from the command line: bytes, or with a suffix `b k K M G T P E`.
pub(crate) fn parse_bytes(what: &str, text: &str) -> Result<u64, Failure> {
    let refuse = || Failure::new(format!("Invalid {what} specified: '{text}'."));
    match parse_size(text, b'B') {
        Ok(bytes) if bytes <= i64::MAX as u64 => Ok(bytes),
        Ok(_) | Err(SizeProblem::OutOfRange) => Err(Failure::new(format!(
            "Invalid {what} specified. Must be between 0 and {}.",
            i64::MAX
        ))),
        Err(SizeProblem::NotASize) => Err(refuse()),
    }
}

/// Words in lines of at most `width` columns, two spaces before each line.
pub(crate) fn wrapped(words: &[&str], width: usize) -> String {
    let (mut text, mut line) = (String::new(), String::new());
    for word in words {
        if !line.is_empty() && line.len() + 1 + word.len() > width - 2 {
            text.push_str(&format!("  {line}\n"));
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    text + &format!("  {line}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits() {
        let cases = [
            (0, "0 B"),
            (512, "512 B"),
            (999, "999 B"),
            (1000, "0.977 KiB"),
            (1024, "1 KiB"),
            (197_120, "192 KiB"),
            (10_485_760, "10 MiB"),
            (1_610_612_736, "1.5 GiB"),
            (u64::MAX, "16 EiB"),
        ];
        for (bytes, text) in cases {
            assert_eq!(size(bytes), text, "{bytes}");
        }
    }
}
