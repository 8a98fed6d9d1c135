//! Apple Data Compression: literal runs and copies of earlier output.

use std::io;

/// Unpacks at most `len` bytes.
///
/// # Errors
/// `InvalidData` when a copy reaches in front of the output; `UnexpectedEof` when the input ends
/// inside a code.
pub(super) fn unpack(mut packed: &[u8], len: usize) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    while let (Some(&code), true) = (packed.first(), out.len() < len) {
        if code & 0x80 != 0 {
            let n = usize::from(code & 0x7f) + 1;
            let literal = packed.get(1..1 + n).ok_or(io::ErrorKind::UnexpectedEof)?;
            out.extend_from_slice(literal);
            packed = &packed[1 + n..];
            continue;
        }
        let byte = |i: usize| packed.get(i).copied().map(usize::from);
        let missing = io::ErrorKind::UnexpectedEof;
        let (n, back, used) = if code & 0x40 != 0 {
            let back = byte(1).ok_or(missing)? << 8 | byte(2).ok_or(missing)?;
            (usize::from(code & 0x3f) + 4, back, 3)
        } else {
            let back = usize::from(code & 3) << 8 | byte(1).ok_or(missing)?;
            (usize::from(code >> 2) + 3, back, 2)
        };
        // The copy may run into what it makes: a distance of 0 repeats the last byte.
        for _ in 0..n {
            let from = out.len().checked_sub(back + 1).ok_or(io::ErrorKind::InvalidData)?;
            out.push(out[from]);
        }
        packed = &packed[used..];
    }
    out.truncate(len);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_and_both_kinds_of_copies() {
        // "abc", 5 bytes from 3 back, 6 times the last byte.
        let packed = [0x82, b'a', b'b', b'c', 0x08, 0x02, 0x42, 0x00, 0x00];
        assert_eq!(unpack(&packed, 100).expect("it is good"), b"abcabcabbbbbbb");
        assert_eq!(unpack(&packed, 4).expect("it is good"), b"abca");
        assert!(unpack(&[0x08, 0x02], 100).is_err() && unpack(&[0x85, 1], 100).is_err());
    }
}
