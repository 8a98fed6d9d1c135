//! The little of property lists that is needed: the content of all `<data>` elements.

/// The bytes of each `<data>` element, from base64 (RFC 4648); characters outside the alphabet are
/// skipped, as the lines and tabs between are.
pub(super) fn data(list: &[u8]) -> impl Iterator<Item = Vec<u8>> + '_ {
    let mut rest = list;
    std::iter::from_fn(move || {
        let start = find(rest, b"<data>")? + b"<data>".len();
        let end = start + find(&rest[start..], b"</data>")?;
        let bytes = from_base64(&rest[start..end]);
        rest = &rest[end..];
        Some(bytes)
    })
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}

fn from_base64(text: &[u8]) -> Vec<u8> {
    let value = |c: &u8| match c {
        b'A'..=b'Z' => Some(c - b'A'),
        b'a'..=b'z' => Some(c - b'a' + 26),
        b'0'..=b'9' => Some(c - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let digits: Vec<u8> = text.iter().filter_map(value).collect();
    let mut out = Vec::with_capacity(digits.len() / 4 * 3);
    for group in digits.chunks(4) {
        let digit = |i: usize| u32::from(group.get(i).copied().unwrap_or(0));
        let bits = digit(0) << 18 | digit(1) << 12 | digit(2) << 6 | digit(3);
        let bytes = bits.to_be_bytes();
        out.extend_from_slice(&bytes[1..group.len().max(1)]);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_elements_are_decoded() {
        let list = b"<plist><data>\n\tTWFu\n</data><x/><data>TWE=</data><data>TQ==</data><data>";
        let found: Vec<Vec<u8>> = data(list).collect();
        assert_eq!(found, [b"Man".to_vec(), b"Ma".to_vec(), b"M".to_vec()]);
    }
}
