//! Guest memory at host addresses: elements and runs of them.
#![expect(unsafe_code, reason = "guest RAM is reached at host addresses from the software TLB")]

use codegen::guarded::{self, HostFault};

/// Reads guest memory, in one piece when aligned.
pub(crate) fn read_host(at: u64, size: u32) -> Result<u64, HostFault> {
    // SAFETY: inside a RAM block that `Engine::rams` or the address space keeps alive, or in memory
    // of a process, which its personality keeps apart from the emulator's own.
    unsafe { guarded::load(at, size) }
}

/// Writes guest memory, in one piece when aligned.
pub(crate) fn write_host(at: u64, size: u32, value: u64) -> Result<(), HostFault> {
    // SAFETY: as in `read_host`.
    unsafe { guarded::store(at, size, value) }
}

/// Updates guest memory at an aligned address atomically: what was there.
pub(crate) fn update_host(
    at: u64,
    size: u32,
    update: impl Fn(u64) -> Option<u64>,
) -> Result<u64, HostFault> {
    let mask = u64::MAX >> (64 - 8 * size);
    let mut old = read_host(at, size)?;
    loop {
        // Without a new value, memory is written with what it holds: it needs the right to.
        let new = update(old).unwrap_or(old) & mask;
        // SAFETY: as in `read_host`; aligned.
        let found = unsafe { guarded::exchange(at, size, old, new) }?;
        if found == old {
            return Ok(old);
        }
        old = found;
    }
}

/// Replaces 16 bytes of guest memory at an aligned address atomically if they are as expected; what
/// was there.
pub(crate) fn exchange_host(at: u64, expected: u128, new: u128) -> Result<u128, HostFault> {
    // SAFETY: as in `read_host`; aligned.
    unsafe { guarded::exchange_wide(at, expected, new) }
}

/// Bytes before the aligned words of a run, and in them.
fn head_and_words(at: u64, len: usize) -> (usize, usize) {
    let head = (at.wrapping_neg() % 8).min(len as u64) as usize;
    (head, (len - head) / 8 * 8)
}

/// The widest access at an address, of at most `left` bytes, that parts no aligned element of `size`
/// bytes.
fn widest(at: u64, size: usize, left: usize) -> usize {
    let most = size.min(1 << at.trailing_zeros().min(3));
    if most <= left { most } else { 1 << left.ilog2() }
}

/// Reads guest memory: elements of `size` bytes, one after the other.
pub(crate) fn read_run(at: u64, size: usize, bytes: &mut [u8]) -> Result<(), HostFault> {
    let (head, words) = head_and_words(at, bytes.len());
    let narrow = |at: u64, bytes: &mut [u8]| {
        let mut done = 0;
        while done < bytes.len() {
            let from = at + done as u64;
            let len = widest(from, size, bytes.len() - done);
            let value = read_host(from, len as u32)?.to_le_bytes();
            bytes[done..done + len].copy_from_slice(&value[..len]);
            done += len;
        }
        Ok(())
    };
    narrow(at, &mut bytes[..head])?;
    let (chunks, _) = bytes[head..head + words].as_chunks_mut::<8>();
    for (i, chunk) in chunks.iter_mut().enumerate() {
        *chunk = read_host(at + (head + 8 * i) as u64, 8)?.to_le_bytes();
    }
    narrow(at + (head + words) as u64, &mut bytes[head + words..])
}

/// Writes guest memory: elements of `size` bytes, one after the other.
pub(crate) fn write_run(at: u64, size: usize, bytes: &[u8]) -> Result<(), HostFault> {
    let (head, words) = head_and_words(at, bytes.len());
    let narrow = |at: u64, bytes: &[u8]| {
        let mut done = 0;
        while done < bytes.len() {
            let to = at + done as u64;
            let len = widest(to, size, bytes.len() - done);
            let mut value = [0; 8];
            value[..len].copy_from_slice(&bytes[done..done + len]);
            write_host(to, len as u32, u64::from_le_bytes(value))?;
            done += len;
        }
        Ok(())
    };
    narrow(at, &bytes[..head])?;
    let (chunks, _) = bytes[head..head + words].as_chunks::<8>();
    for (i, chunk) in chunks.iter().enumerate() {
        write_host(at + (head + 8 * i) as u64, 8, u64::from_le_bytes(*chunk))?;
    }
    narrow(at + (head + words) as u64, &bytes[head + words..])
}
