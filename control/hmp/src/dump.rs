//! Formats of `x`, `xp` and `print`, and dumps of memory.

use crate::target::Space;
use crate::{MonitorTarget, Unmapped};
use std::fmt::Write;

/// Most units in one dump.
const MAX_COUNT: u64 = 1 << 20;
/// Longest instruction.
const MAX_INSN: usize = 16;

/// How values are shown; the last one used is the next one's default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Format {
    /// `x d u o c i`.
    pub style: char,
    /// Bytes in a unit: 1, 2, 4 or 8.
    pub size: usize,
}

impl Default for Format {
    fn default() -> Self {
        Self { style: 'x', size: 4 }
    }
}

impl Format {
    /// Reads a format such as `4xw`: the count, and the format with defaults from this one.
    ///
    /// # Errors
    /// An unknown letter.
    pub fn read(self, text: Option<&str>) -> Result<(u64, Self), String> {
        let text = text.unwrap_or_default();
        let letters = text.trim_start_matches(|c: char| c.is_ascii_digit());
        let digits = &text[..text.len() - letters.len()];
        let count = if digits.is_empty() { 1 } else { digits.parse().unwrap_or(u64::MAX) };
        let mut format = self;
        for letter in letters.chars() {
            match letter {
                'x' | 'd' | 'u' | 'o' | 'c' | 'i' => format.style = letter,
                'b' => format.size = 1,
                'h' => format.size = 2,
                'w' => format.size = 4,
                'g' | 'L' => format.size = 8,
                _ => return Err(format!("invalid char in format: '{letter}'")),
            }
        }
        Ok((count, format))
    }
}

/// A value as `print` shows it.
pub(crate) fn value(style: char, value: u64) -> String {
    match style {
        'x' if value == 0 => "0".to_owned(),
        'x' => format!("{value:#x}"),
        'u' => value.to_string(),
        'o' if value == 0 => "0".to_owned(),
        'o' => format!("0{value:o}"),
        'c' => character(value),
        _ => value.cast_signed().to_string(),
    }
}

fn character(value: u64) -> String {
    // Shown as a C int.
    let value = u32::try_from(value & 0xffff_ffff).unwrap_or_default();
    match value {
        0x27 => "'\\''".to_owned(),
        0x5c => "'\\\\'".to_owned(),
        0x0a => "'\\n'".to_owned(),
        0x0d => "'\\r'".to_owned(),
        0x20..=0x7e => format!("'{}'", char::from(u8::try_from(value).unwrap_or(b'?'))),
        _ => format!("'\\x{value:02x}'"),
    }
}

/// One unit of a dump, as wide as every other.
fn unit(format: Format, bytes: &[u8]) -> String {
    let mut whole = [0; 8];
    whole[..bytes.len()].copy_from_slice(bytes);
    let number = u64::from_le_bytes(whole);
    let bits = bytes.len() * 8;
    match format.style {
        'x' => format!("0x{number:0width$x}", width = bytes.len() * 2),
        'o' => format!("{:>width$}", value('o', number), width = bits.div_ceil(3)),
        'c' => character(number),
        'u' => format!("{number:>width$}", width = (bits * 10).div_ceil(33)),
        _ => format!("{:>width$}", number.cast_signed(), width = (bits * 10).div_ceil(33)),
    }
}

/// Text of `count` units of memory from `address` on.
pub(crate) fn memory(
    target: &dyn MonitorTarget,
    space: Space,
    mut address: u64,
    count: u64,
    format: Format,
) -> String {
    let mut text = String::new();
    let shown = count.min(MAX_COUNT);
    if format.style == 'i' {
        instructions(target, space, address, shown, &mut text);
        return text;
    }
    let per_line: u64 = if format.size == 1 { 8 } else { 16 };
    let unit_size = if format.style == 'c' { 1 } else { format.size };
    let mut left = shown * format.size as u64;
    while left > 0 {
        let length = left.min(per_line);
        let mut buffer = [0; 16];
        let line = &mut buffer[..usize::try_from(length).unwrap_or(16)];
        let _ = write!(text, "{address:016x}:");
        if target.read_memory(space, address, line) == Err(Unmapped) {
            text.push_str(" Cannot access memory\n");
            return text;
        }
        for bytes in line.chunks(unit_size) {
            let _ = write!(text, " {}", unit(format, bytes));
        }
        text.push('\n');
        left -= length;
        address = address.wrapping_add(length);
    }
    if shown < count {
        let _ = writeln!(text, "(stopped after {shown} units)");
    }
    text
}

fn instructions(
    target: &dyn MonitorTarget,
    space: Space,
    mut address: u64,
    count: u64,
    text: &mut String,
) {
    let cpu = if let Space::Virtual { cpu } = space { cpu } else { 0 };
    for _ in 0..count {
        let mut buffer = [0; MAX_INSN];
        // The last instruction before unmapped memory is short.
        let length = [MAX_INSN, 8, 4, 2, 1]
            .into_iter()
            .find(|length| target.read_memory(space, address, &mut buffer[..*length]).is_ok());
        let found = length.and_then(|length| target.disassemble(cpu, address, &buffer[..length]));
        let Some((length, line)) = found else {
            let _ = writeln!(text, "Address 0x{address:x} is out of bounds.");
            return;
        };
        let _ = writeln!(text, "0x{address:08x}:  {line}");
        address = address.wrapping_add(length.max(1) as u64);
    }
}
