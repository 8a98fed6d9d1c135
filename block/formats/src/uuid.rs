//! Identifiers that new images get.

use std::io;

/// Random bytes from the host.
///
/// # Errors
/// When the host has none.
pub(crate) fn random_bytes<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    let mut done = 0;
    while done < N {
        done += rustix::rand::getrandom(&mut bytes[done..], rustix::rand::GetRandomFlags::empty())?;
    }
    Ok(bytes)
}

/// A random UUID (RFC 9562, version 4), in the order of its text.
///
/// # Errors
/// As [`random_bytes`].
pub(crate) fn random() -> io::Result<[u8; 16]> {
    let mut uuid = random_bytes::<16>()?;
    uuid[6] = uuid[6] & 0x0f | 0x40;
    uuid[8] = uuid[8] & 0x3f | 0x80;
    Ok(uuid)
}
