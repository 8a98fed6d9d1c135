//! Names in directories: the short one of each entry, and the entries in front of it with the long one.

use std::collections::HashSet;
use std::fmt::Write as _;

/// Name and extension, filled with blanks.
pub(super) type Short = [u8; 11];

/// Marks an entry that holds a part of a long name.
const LONG: u8 = 0x0f;

/// UTF-16 units in such an entry, and where they are.
const PLACES: [usize; 13] = [1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30];

/// Gives every name of a directory a short one of its own.
#[derive(Default)]
pub(super) struct ShortNames(HashSet<Short>);

impl ShortNames {
    /// The short name, and whether it is not all of the name.
    pub fn give(&mut self, name: &str) -> (Short, bool) {
        let (plain, exact) = basis(name);
        if exact && self.0.insert(plain) {
            return (plain, false);
        }
        // A name that differs in case alone keeps its letters.
        let (upper, fits) = basis(&name.to_uppercase());
        if fits && self.0.insert(upper) {
            return (upper, true);
        }
        for number in 1_u32.. {
            let mut tail = String::new();
            let _ = write!(tail, "~{number}");
            let mut short = plain;
            let used = plain[..8].iter().position(|c| *c == b' ').unwrap_or(8);
            let at = used.min(8 - tail.len());
            short[at..at + tail.len()].copy_from_slice(tail.as_bytes());
            if self.0.insert(short) {
                return (short, true);
            }
        }
        (plain, true)
    }
}

/// What of a name fits into a short one, and whether that is all of it.
fn basis(name: &str) -> (Short, bool) {
    let mut exact = true;
    let (stem, extension) = match name.rsplit_once('.') {
        Some((stem, extension)) if !stem.is_empty() => (stem, extension),
        _ => (name, ""),
    };
    let mut short = [b' '; 11];
    for (text, place) in [(stem, 0..8), (extension, 8..11)] {
        let mut at = place.start;
        for c in text.chars() {
            let upper = c.to_ascii_uppercase();
            exact &= upper == c;
            let byte = match upper {
                'A'..='Z' | '0'..='9' => upper as u8,
                '!' | '#' | '$' | '%' | '&' | '\'' | '(' | ')' | '-' | '@' | '^' | '_' | '`'
                | '{' | '}' | '~' => upper as u8,
                '.' | ' ' => {
                    exact = false;
                    continue;
                }
                _ => {
                    exact = false;
                    b'_'
                }
            };
            if at == place.end {
                exact = false;
                break;
            }
            short[at] = byte;
            at += 1;
        }
    }
    if short[0] == b' ' {
        (short[0], exact) = (b'_', false);
    }
    (short, exact && !name.ends_with('.'))
}

/// The entries with a long name, in the order of the directory.
pub(super) fn long_entries(name: &str, short: &Short) -> Vec<[u8; 32]> {
    let allowed = |c: char| if c < ' ' || "\\/:*?\"<>|".contains(c) { '_' } else { c };
    let mut text: String = name.chars().map(allowed).collect();
    if text.ends_with(['.', ' ']) {
        text.pop();
        text.push('_');
    }
    let units: Vec<u16> = text.encode_utf16().take(255).collect();
    let sum = short.iter().fold(0_u8, |sum, c| sum.rotate_right(1).wrapping_add(*c));
    let parts: Vec<&[u16]> = units.chunks(PLACES.len()).collect();
    let entry = |(index, part): (usize, &&[u16])| {
        let mut entry = [0; 32];
        let last = if index + 1 == parts.len() { 0x40 } else { 0 };
        entry[0] = last | (index as u8 + 1);
        entry[11] = LONG;
        entry[13] = sum;
        for (at, place) in PLACES.iter().enumerate() {
            let unit = match part.get(at) {
                Some(unit) => *unit,
                None if at == part.len() => 0,
                None => 0xffff,
            };
            entry[*place..place + 2].copy_from_slice(&unit.to_le_bytes());
        }
        entry
    };
    parts.iter().enumerate().rev().map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_are_unique() {
        let mut names = ShortNames::default();
        for (name, short, long) in [
            ("README", "README     ", false),
            ("a.txt", "A       TXT", true),
            ("A.TXT", "A~1     TXT", true),
            ("A long name here.txt", "ALONGN~1TXT", true),
            ("A long name there.txt", "ALONGN~2TXT", true),
            (".profile", "PROFIL~1   ", true),
            ("x.tar.gz", "XTAR~1  GZ ", true),
            ("ä", "_~1        ", true),
            ("ö", "_~2        ", true),
            ("...", "_~3        ", true),
            ("ABCDEFGH.IJK", "ABCDEFGHIJK", false),
            ("ABCDEFGHI", "ABCDEF~1   ", true),
        ] {
            let (given, is_long) = names.give(name);
            assert_eq!(String::from_utf8_lossy(&given), short, "{name}");
            assert_eq!(is_long, long, "{name}");
        }
        let many: HashSet<Short> =
            (0..2000).map(|n| names.give(&format!("a long name {n}")).0).collect();
        assert_eq!(many.len(), 2000);
    }

    #[test]
    fn a_long_name_lies_backwards_in_front_of_the_short_one() {
        let entries = long_entries("A long name here.txt", b"ALONGN~1TXT");
        assert_eq!(entries.len(), 2);
        assert_eq!((entries[0][0], entries[1][0]), (0x42, 1));
        assert_eq!(entries[1][1..11], *b"A\0 \0l\0o\0n\0");
        assert_eq!(entries[0][13], entries[1][13]);
    }
}
