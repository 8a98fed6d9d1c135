//! Values of options: numbers, sizes, switches and text.

use crate::{Item, OptionError};

/// A type an option's value can have.
pub trait OptionValue: Sized {
    /// Name of the type in help texts.
    const KIND: &'static str;

    /// Reads the value of `item`.
    ///
    /// # Errors
    /// When the text is not such a value.
    fn parse(item: &Item) -> Result<Self, OptionError>;
}

/// A number of bytes: `128M`, `1.5G`, `0x1000`, `4k`; without suffix, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

/// Reads a switch: `on`, `yes`, `true`, `y`, or `off`, `no`, `false`, `n`.
pub fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "on" | "yes" | "true" | "y" => Some(true),
        "off" | "no" | "false" | "n" => Some(false),
        _ => None,
    }
}

/// Reads a decimal, `0x` hexadecimal or `0` octal number without sign.
pub fn parse_number(text: &str) -> Option<u64> {
    let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None if text.len() > 1 && text.starts_with('0') => (&text[1..], 8),
        None => (text, 10),
    };
    if digits.starts_with('+') {
        return None;
    }
    u64::from_str_radix(digits, radix).ok()
}

/// Why a size was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SizeProblem {
    /// The text is no size at all.
    NotASize,
    /// It is one, but negative or not below 2^64.
    OutOfRange,
}

/// Reads a size; `unit` is the suffix that applies when the text has none (`b'b'` for bytes).
///
/// # Errors
/// When the text is not a number with an optional suffix, or does not fit.
pub fn parse_size(text: &str, unit: u8) -> Result<u64, SizeProblem> {
    let hex = text.starts_with("0x") || text.starts_with("0X");
    let (digits, suffix) = match text.as_bytes().last() {
        Some(last) if last.is_ascii_alphabetic() && !hex => (&text[..text.len() - 1], *last),
        _ => (text, unit),
    };
    let shift = match suffix.to_ascii_lowercase() {
        b'b' => 0,
        b'k' => 10,
        b'm' => 20,
        b'g' => 30,
        b't' => 40,
        b'p' => 50,
        b'e' => 60,
        _ => return Err(SizeProblem::NotASize),
    };
    if hex {
        let number = u64::from_str_radix(&digits[2..], 16).map_err(|_| SizeProblem::NotASize)?;
        return number.checked_mul(1 << shift).ok_or(SizeProblem::OutOfRange);
    }
    let (negative, digits) = match digits.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, digits),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let decimal = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    if !decimal(whole) || !decimal(fraction) {
        return Err(SizeProblem::NotASize);
    }
    let whole: u64 = whole.parse().map_err(|_| SizeProblem::OutOfRange)?;
    let bytes = whole.checked_mul(1 << shift).ok_or(SizeProblem::OutOfRange)?;
    if shift == 0 && fraction.bytes().any(|b| b != b'0') {
        return Err(SizeProblem::NotASize);
    }
    let part = fraction_of(fraction, shift);
    let bytes = bytes.checked_add(part).ok_or(SizeProblem::OutOfRange)?;
    if negative && bytes != 0 { Err(SizeProblem::OutOfRange) } else { Ok(bytes) }
}

/// `0.digits × 2^shift`, rounded down; digits beyond the eighteenth do not matter.
fn fraction_of(digits: &str, shift: u32) -> u64 {
    let digits = &digits[..digits.len().min(18)];
    let scale = 10u128.pow(u32::try_from(digits.len()).unwrap_or(18));
    let number: u128 = digits.parse().unwrap_or(0);
    // Below 10^18 × 2^60 / 1, which fits 128 bits; the quotient is below 2^60.
    u64::try_from((number << shift) / scale).unwrap_or(0)
}

/// Reads the size of `item`; `unit` as in [`parse_size`].
///
/// # Errors
/// When the text is no size.
pub fn size_of(item: &Item, unit: u8) -> Result<u64, OptionError> {
    parse_size(&item.value, unit).map_err(|problem| match problem {
        SizeProblem::NotASize => item
            .error(format!("Parameter '{}' expects a non-negative number below 2^64", item.key))
            .with_hint("An optional suffix k, M, G, T, P or E means kilo- to exabytes."),
        SizeProblem::OutOfRange => item
            .error(format!("Value '{}' is out of range for parameter '{}'", item.value, item.key)),
    })
}

impl OptionValue for String {
    const KIND: &'static str = "str";

    fn parse(item: &Item) -> Result<Self, OptionError> {
        Ok(item.value.clone())
    }
}

impl OptionValue for bool {
    const KIND: &'static str = "bool (on/off)";

    fn parse(item: &Item) -> Result<Self, OptionError> {
        parse_bool(&item.value)
            .ok_or_else(|| item.error(format!("Parameter '{}' expects 'on' or 'off'", item.key)))
    }
}

impl OptionValue for Bytes {
    const KIND: &'static str = "size";

    fn parse(item: &Item) -> Result<Self, OptionError> {
        size_of(item, b'b').map(Self)
    }
}

macro_rules! number_values {
    ($($number:ty),*) => { $(
        impl OptionValue for $number {
            const KIND: &'static str = "num";

            fn parse(item: &Item) -> Result<Self, OptionError> {
                let number = parse_number(&item.value)
                    .ok_or_else(|| item.error(format!("Parameter '{}' expects a number", item.key)))?;
                Self::try_from(number).map_err(|_| {
                    item.error(format!(
                        "Value '{}' is out of range for parameter '{}'", item.value, item.key
                    ))
                })
            }
        }
    )* };
}
number_values!(u8, u16, u32, u64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_take_suffixes_and_fractions() {
        for (text, size) in [
            ("128", Ok(128 << 20)),
            ("128M", Ok(128 << 20)),
            ("1.5G", Ok(3 << 29)),
            ("0x10", Ok(16 << 20)),
            ("64k", Ok(64 << 10)),
            ("7b", Ok(7)),
            ("15E", Ok(15 << 60)),
            ("16E", Err(SizeProblem::OutOfRange)),
            ("99999999999999999999", Err(SizeProblem::OutOfRange)),
            ("-1", Err(SizeProblem::OutOfRange)),
            ("-0", Ok(0)),
            ("1X", Err(SizeProblem::NotASize)),
            ("", Err(SizeProblem::NotASize)),
            ("G", Err(SizeProblem::NotASize)),
            ("1.b", Err(SizeProblem::NotASize)),
            ("1.2b", Err(SizeProblem::NotASize)),
            ("+1", Err(SizeProblem::NotASize)),
            ("0x", Err(SizeProblem::NotASize)),
        ] {
            assert_eq!(parse_size(text, b'M'), size, "{text}");
        }
    }

    #[test]
    fn numbers_have_three_bases_and_no_sign() {
        assert_eq!(parse_number("10"), Some(10));
        assert_eq!(parse_number("0x10"), Some(16));
        assert_eq!(parse_number("010"), Some(8));
        assert_eq!(parse_number("0"), Some(0));
        for bad in ["", "-1", "+1", "0x", "0x+1", "9x", "18446744073709551616"] {
            assert_eq!(parse_number(bad), None, "{bad}");
        }
    }
}
