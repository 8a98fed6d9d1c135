//! `-d` and `-dfilter`: what is logged.

use crate::refusal::{Refusal, Result};
use options::parse_number;
use std::fmt::Write;
use std::ops::RangeInclusive;
use trace::Item;

/// Items of the original that are accepted and log nothing here, with the reason.
const SILENT: &[(&str, &str)] = &[
    ("op_ind", "not logged here"),
    ("op_plugin", "not logged here"),
    ("fpu", "include floating-point registers in 'cpu'"),
    ("vpu", "include vector registers in 'cpu'"),
    ("pcall", "x86 only"),
    ("page", "user mode only"),
    ("plugin", "not logged here"),
    ("strace", "user mode only"),
    ("tid", "not logged here"),
    ("invalid_mem", "not logged apart from guest_errors"),
];

/// Reads the items of `-d`.
pub(crate) fn items(text: &str, into: &mut Vec<Item>) -> Result<()> {
    for name in text.split(',') {
        if name == "all" {
            into.extend(Item::TABLE.iter().map(|(item, _, _)| *item));
        } else if let Some((item, _, _)) = Item::TABLE.iter().find(|(_, n, _)| *n == name) {
            into.push(*item);
        } else if !SILENT.iter().any(|(n, _)| *n == name) {
            let known = Item::TABLE.iter().map(|(_, n, _)| *n).chain(SILENT.iter().map(|s| s.0));
            return Err(Refusal::new(format!("unknown log item '{name}'"))
                .suggesting(name, known)
                .hint("'-d help' lists the items."));
        }
    }
    Ok(())
}

/// Text for `-d help`.
pub(crate) fn help() -> String {
    let mut text = "Log items (comma separated):\n".to_owned();
    let shown = Item::TABLE.iter().map(|(_, name, help)| (*name, *help));
    for (name, help) in shown.chain(SILENT.iter().copied()) {
        let _ = writeln!(text, "{name:<15} {help}");
    }
    text
}

/// Reads the name of `-D`, in which one `%d` may stand for the process's number.
pub(crate) fn file(text: &str) -> Result<String> {
    if text.replacen("%d", "", 1).contains('%') {
        return Err(Refusal::new(format!("Bad logfile template: {text}"))
            .hint("Only one %d, the number of the process, may be in it."));
    }
    Ok(text.to_owned())
}

/// Reads the address ranges of `-dfilter`: `START+LEN`, `START-LEN` or `START..END`.
pub(crate) fn ranges(text: &str, into: &mut Vec<RangeInclusive<u64>>) -> Result<()> {
    for range in text.split(',') {
        into.push(one_range(range)?);
    }
    Ok(())
}

fn one_range(text: &str) -> Result<RangeInclusive<u64>> {
    let bad =
        |side: &str, sign: &str| Refusal::new(format!("Invalid number to the {side} of {sign}"));
    let (sign, (left, right)) = ["..", "+", "-"]
        .iter()
        .find_map(|sign| text.split_once(sign).map(|sides| (*sign, sides)))
        .ok_or_else(|| {
            Refusal::new("Bad range specifier")
                .hint("A range is START+LEN, START-LEN or START..END.")
        })?;
    let left = parse_number(left).ok_or_else(|| bad("left", sign))?;
    let right = parse_number(right).ok_or_else(|| bad("right", sign))?;
    let (low, high) = match sign {
        ".." => (Some(left), Some(right)),
        "+" => (Some(left), right.checked_sub(1).and_then(|last| left.checked_add(last))),
        _ => (right.checked_sub(1).and_then(|last| left.checked_sub(last)), Some(left)),
    };
    match (low, high) {
        (Some(low), Some(high)) if low <= high => Ok(low..=high),
        _ => Err(Refusal::new("Invalid range")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_file_may_be_named_by_the_process() {
        assert_eq!(file("log-%d").as_deref(), Ok("log-%d"));
        for bad in ["a%", "a%%", "%d%d", "%x"] {
            assert_eq!(file(bad).unwrap_err().message, format!("Bad logfile template: {bad}"));
        }
    }

    #[test]
    fn ranges_have_three_forms() {
        let mut found = Vec::new();
        ranges("0x1000+0x10,0x20-1,5..5,0..0xffffffffffffffff", &mut found).unwrap();
        assert_eq!(found, [0x1000..=0x100f, 0x20..=0x20, 5..=5, 0..=u64::MAX]);
        for (bad, message) in [
            ("foo", "Bad range specifier"),
            ("0x1000..0x10", "Invalid range"),
            ("0x1000+foo", "Invalid number to the right of +"),
            ("x-1", "Invalid number to the left of -"),
            ("1+0", "Invalid range"),
            ("0xffffffffffffffff+2", "Invalid range"),
        ] {
            assert_eq!(one_range(bad).unwrap_err().message, message, "{bad}");
        }
    }
}
